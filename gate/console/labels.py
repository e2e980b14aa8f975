"""Verdicts, rules and their facts in words that need no manual. Pure."""

from __future__ import annotations

from gate.console.languages import N_
from gate.core.verdict import Word
from gate.store.writer import OriginKind

# What each word says of a pair.
VERDICTS: dict[Word, str] = {
    "allowed": N_("no rule denies it"),
    "sender-unknown": N_("the sender is not registered, and this App requires that"),
    "sender-deactivated": N_("the sender is deactivated"),
    "sender-banned": N_("the sender is banned"),
    "sender-muted": N_("the sender is muted"),
    "recipient-unknown": N_("the recipient is not registered, and this App requires that"),
    "recipient-deactivated": N_("the recipient is deactivated"),
    "not-whitelisted": N_("the recipient's Whitelist is on, and the sender is not on it"),
    "blacklisted": N_("the sender is on the recipient's Blacklist"),
}

# What each rule asks, in the order in which they are asked.
RULES: dict[str, str] = {
    "sender-unknown": N_("Where the App requires registration, the sender must be registered"),
    "sender-deactivated": N_("The sender must not be deactivated"),
    "sender-banned": N_("The sender must not be banned"),
    "sender-muted": N_("The sender must not be muted"),
    "recipient-unknown": N_("Where the App requires registration, the recipient must be registered"),
    "recipient-deactivated": N_("The recipient must not be deactivated"),
    "not-whitelisted": N_("If the recipient's Whitelist is on, the sender must be on it"),
    "blacklisted": N_("The sender must not be on the recipient's Blacklist"),
}

# What the rules look at, as `Language.facts` names it.
FACT_NAMES = (
    N_("registered"), N_("require registered"), N_("deactivated"), N_("banned until"), N_("muted until"),
    N_("whitelist on"), N_("app whitelists"), N_("list policy"), N_("size"), N_("entry until"),
)  # fmt: skip

ROLE_NAMES = (N_("viewer"), N_("operator"), N_("admin"))
ENVIRONMENT_NAMES = (N_("development"), N_("production"))
SIGNED_IN_BY = (N_("password"), N_("proxy"))

# What a node's Replica does.
NODE_STATES = {
    "none": N_("no Replica yet"),
    "loading": N_("loading"),
    "catching-up": N_("catching up"),
    "current": N_("current"),
    "cut-off": N_("cut off from Redis"),
    "reloading": N_("reloading"),
    "stopped": N_("stopped"),
}

# What was done to a User, for the list of the latest acts.
RECENT = {
    "ban-imposed": N_("banned"),
    "mute-imposed": N_("muted"),
    "kicked": N_("kicked"),
    "user-deactivated": N_("deactivated"),
}

# What an entry of the audit says was done.
AUDIT_KINDS: dict[str, str] = {
    "app-set": N_("App changed"),
    "app-removed": N_("App removed"),
    "user-registered": N_("registered"),
    "user-deactivated": N_("deactivated"),
    "user-reactivated": N_("reactivated"),
    "user-erased": N_("erased"),
    "ban-imposed": N_("Ban imposed"),
    "ban-lifted": N_("Ban lifted"),
    "mute-imposed": N_("Mute imposed"),
    "mute-lifted": N_("Mute lifted"),
    "tokens-revoked": N_("Tokens revoked"),
    "blocked": N_("put on its Blacklist"),
    "unblocked": N_("taken off its Blacklist"),
    "admitted": N_("put on its Whitelist"),
    "unadmitted": N_("taken off its Whitelist"),
    "whitelist-switched": N_("Whitelist switched"),
    "kick-ordered": N_("kick ordered"),
    "kicked": N_("kicked"),
    "facts-lost": N_("facts lost"),
    "webhooks-replayed": N_("dead letters sent again"),
    "webhooks-dropped": N_("dead letters dropped"),
    "webhook-tested": N_("webhook tested"),
    "profile-changed": N_("profile changed"),
    "token-minted": N_("Token minted"),
}

# What an entry of the deployment's audit says was done.
DEPLOYMENT_KINDS: dict[str, str] = {
    "app-created": N_("App created"),
    "app-changed": N_("App changed"),
    "app-removed": N_("App removed"),
    "operator-added": N_("operator added"),
    "operator-changed": N_("operator changed"),
    "operator-removed": N_("operator removed"),
    "operator-signed-in": N_("signed in"),
    "operator-refused": N_("sign-in refused"),
    "console-sessions-ended": N_("sessions ended"),
    "facts-lost": N_("facts lost"),
}

# Who did it, as Gate authenticated it.
ORIGIN_KINDS: dict[OriginKind, str] = {
    "app": N_("the App %(name)s"),
    "key": N_("the key %(name)s"),
    "operator": N_("operator %(name)s"),
    "user": N_("the User %(name)s"),
    "cli": N_("command line, %(name)s"),
    "node": N_("node %(name)s"),
    "unknown": N_("not known %(name)s"),
}
