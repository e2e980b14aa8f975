"""The one table of pages: where each is, what shows it, who may see it, who may act on it, and its place in the navigation.

A new page needs a file here, a template in `templates/`, its texts in `translations/zh.po`, and a line below. The router, the
navigation, and the tests of roles and of accessibility follow from the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gate.console.languages import N_
from gate.console.pages import FILES, static_file
from gate.console.request_context import Link, Section, View
from gate.console.views import (
    account,
    app_keys,
    apps,
    audit,
    check,
    gateways,
    operators,
    overview,
    settings,
    sign_in,
    user,
    user_acts,
    user_list,
    webhooks,
)
from gate.console.views.user_tables import bans, deactivated, mutes
from gate.core.operators import Operator, OperatorRole, may


class Page(NamedTuple):
    """One path below `/console/` or below `/console/APP/`."""

    path: str
    show: View | None = None
    """Answers GET."""
    act: View | None = None
    """Answers POST: a form, whose token the view checks by `ConsoleContext.sent`."""
    title: str = ""
    """In the navigation, in English; "" for a page that is reached from others only."""
    reads: OperatorRole = "viewer"
    """The least role that may GET."""
    acts: OperatorRole = "operator"
    """The least role that may POST."""
    of_all_apps: bool = False
    """Whether only an operator who is not limited to Apps may use it."""
    renewed: bool = False
    """Whether an open page loads it by itself, which is no sign that a person is there."""

    @property
    def methods(self) -> dict[str, View]:
        """The views by HTTP method."""
        return {name: view for name, view in (("GET", self.show), ("POST", self.act)) if view is not None}

    def needed(self, method: str) -> OperatorRole:
        """The least role for a request by this method."""
        return self.acts if method == "POST" else self.reads

    def reached_by(self, operator: Operator, method: str = "GET") -> bool:
        """Whether this operator may make such a request."""
        return may(operator.role, self.needed(method)) and not (self.of_all_apps and operator.apps is not None)


def by_path(*pages: Page) -> dict[str, Page]:
    """A table of pages."""
    return {page.path: page for page in pages}


def section(
    name: str, place: str, pages: Iterable[Page], operator: Operator, here: str, text: Callable[[str], str]
) -> Section:
    """The links to those pages that this operator may see. `here` is the path of the page that is shown, "-" for none."""
    begin = here.partition("/")[0]
    links = [
        Link(text(page.title), f"{place}{page.path}", page.path.partition("/")[0] == begin)
        for page in pages
        if page.title and page.reached_by(operator)
    ]
    return Section(text(name), links)


# Pages without a sign-in.
OPEN = by_path(
    Page("sign-in", sign_in.show, sign_in.enter, acts="viewer"),
    Page("sign-out", None, sign_in.leave, acts="viewer"),
)

# Files, which are the same for everybody.
STATIC = by_path(*(Page(name, static_file) for name in FILES))

# Pages of the deployment, below `/console/`, in the order of the navigation.
OF_ALL = by_path(
    Page("", apps.begin),
    Page("overview", overview.show, title=N_("Overview")),
    Page("overview/live", overview.live, renewed=True),
    Page("apps", apps.show, title=N_("Apps")),
    Page("nodes", overview.show_nodes, title=N_("Nodes"), of_all_apps=True),
    Page("nodes/live", overview.nodes_live, of_all_apps=True, renewed=True),
    Page("new-app", apps.show_new, apps.create, reads="admin", acts="admin", of_all_apps=True),
    Page("operators", operators.show, title=N_("Operators"), reads="admin", of_all_apps=True),
    Page("operators/one", operators.show_one, reads="admin", of_all_apps=True),
    Page("operators/add", None, operators.add, acts="admin", of_all_apps=True),
    Page("operators/change", None, operators.change, acts="admin", of_all_apps=True),
    Page("operators/reset", None, operators.reset, acts="admin", of_all_apps=True),
    Page("operators/remove", None, operators.remove, acts="admin", of_all_apps=True),
    Page("audit", audit.show_deployment, title=N_("Audit"), of_all_apps=True),
    Page("audit/export", audit.export_deployment, of_all_apps=True),
    Page("sessions", account.show_sessions, account.end_session, title=N_("Sessions"), acts="viewer"),
    Page("password", account.show_password, account.change_password, title=N_("Password"), acts="viewer"),
)

# Pages of an App, below `/console/APP/`, in the order of the navigation.
OF_APP = by_path(
    Page("", overview.begin),
    Page("online", overview.begin),
    Page("overview", overview.show, title=N_("Overview")),
    Page("overview/live", overview.live, renewed=True),
    Page("user", user.show, title=N_("Users")),
    Page("user/list", user_list.show, user_list.change),
    Page("user/dossier", user.dossier),
    Page("user/kick", None, user_acts.kick),
    Page("user/ban", None, user_acts.ban),
    Page("user/unban", None, user_acts.unban),
    Page("user/mute", None, user_acts.mute),
    Page("user/unmute", None, user_acts.unmute),
    Page("user/switch", None, user_acts.switch),
    Page("user/register", None, user_acts.register),
    Page("user/profile", None, user_acts.profile),
    Page("user/token", None, user_acts.token, acts="admin"),
    Page("user/revoke", None, user_acts.revoke),
    Page("user/deactivate", None, user_acts.deactivate),
    Page("user/reactivate", None, user_acts.reactivate),
    Page("user/delete", None, user_acts.delete, acts="admin"),
    Page("bans", bans.show, bans.act, title=N_("Bans")),
    Page("mutes", mutes.show, mutes.act, title=N_("Mutes")),
    Page("deactivated", deactivated.show, deactivated.act, title=N_("Deactivated")),
    Page("check", check.show, title=N_("May A message B?")),
    Page("gateways", gateways.show, title=N_("Gateways")),
    Page("gateways/live", gateways.live, renewed=True),
    Page("audit", audit.show, title=N_("Audit")),
    Page("audit/export", audit.export),
    Page("webhooks", webhooks.show, title=N_("Webhooks")),
    Page("webhooks/replay", None, webhooks.replay),
    Page("webhooks/drop", None, webhooks.drop),
    Page("webhooks/try", None, webhooks.try_out),
    Page("settings", settings.show, settings.save, title=N_("Settings")),
    Page("keys", app_keys.show, title=N_("Keys")),
    Page("keys/add", None, app_keys.add, acts="admin"),
    Page("keys/rotate", None, app_keys.rotate, acts="admin"),
    Page("keys/finish", None, app_keys.finish, acts="admin"),
    Page("keys/remove", None, app_keys.remove, acts="admin"),
    Page("keys/rotate-secret", None, app_keys.rotate_secret, acts="admin"),
    Page("keys/drop-secret", None, app_keys.drop_secret, acts="admin"),
)
