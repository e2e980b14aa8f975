"""The one table of pages: where each is, who may see it, who may act on it, and its place in the navigation.

A new page needs a file here, a template in `templates/`, its texts in `translations/zh.po`, and a line below. The router, the
navigation, and the tests of roles and of accessibility follow from the line.
"""

from __future__ import annotations

from gate.console import static_files
from gate.console.languages import N_
from gate.console.page_table import Page, by_path
from gate.console.views import (
    app_keys,
    apps,
    audit,
    check,
    deactivated,
    gateways,
    kick,
    new_app,
    nodes,
    operators,
    overview,
    password,
    sessions,
    settings,
    sign_in,
    user,
    user_acts,
    user_list,
    webhooks,
)
from gate.console.views.penalties import bans, mutes

OPEN = by_path(
    Page("sign-in", sign_in.show, sign_in.enter, acts="viewer"),
    Page("sign-out", None, sign_in.leave, acts="viewer"),
)
"""Pages without a sign-in."""

STATIC = by_path(*(Page(name, static_files.show) for name in static_files.FILES))
"""Files, which are the same for everybody."""

OF_ALL = by_path(
    Page("", apps.begin),
    Page("overview", overview.show, title=N_("Overview")),
    Page("overview/live", overview.live, renewed=True),
    Page("apps", apps.show, title=N_("Apps")),
    Page("nodes", nodes.show, title=N_("Nodes"), of_all_apps=True),
    Page("nodes/live", nodes.live, of_all_apps=True, renewed=True),
    Page("new-app", new_app.show, new_app.create, reads="admin", acts="admin", of_all_apps=True),
    Page("operators", operators.show, title=N_("Operators"), reads="admin", of_all_apps=True),
    Page("operators/one", operators.show_one, reads="admin", of_all_apps=True),
    Page("operators/add", None, operators.add, acts="admin", of_all_apps=True),
    Page("operators/change", None, operators.change, acts="admin", of_all_apps=True),
    Page("operators/reset", None, operators.reset, acts="admin", of_all_apps=True),
    Page("operators/remove", None, operators.remove, acts="admin", of_all_apps=True),
    Page("audit", audit.show_deployment, title=N_("Audit"), of_all_apps=True),
    Page("audit/export", audit.export_deployment, of_all_apps=True),
    Page("sessions", sessions.show, sessions.end, title=N_("Sessions"), acts="viewer"),
    Page("password", password.show, password.change, title=N_("Password"), acts="viewer"),
)
"""Pages of the deployment, below `/console/`, in the order of the navigation."""

OF_APP = by_path(
    Page("", overview.begin),
    Page("online", overview.begin),
    Page("overview", overview.show, title=N_("Overview")),
    Page("overview/live", overview.live, renewed=True),
    Page("user", user.show, title=N_("Users")),
    Page("user/list", user_list.show, user_list.change),
    Page("user/dossier", user.dossier),
    Page("user/kick", None, kick.kick),
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
"""Pages of an App, below `/console/APP/`, in the order of the navigation."""
