"""Verdicts, rules and their facts in words that need no manual. Pure."""

from __future__ import annotations

from gate.core.verdict import Word

VERDICTS: dict[Word, str] = {
    "allowed": "no rule denies it",
    "sender-unknown": "the sender is not registered, and this App requires that",
    "sender-deactivated": "the sender is deactivated",
    "sender-banned": "the sender is banned",
    "sender-muted": "the sender is muted",
    "recipient-unknown": "the recipient is not registered, and this App requires that",
    "recipient-deactivated": "the recipient is deactivated",
    "not-whitelisted": "the recipient's Whitelist is on, and the sender is not on it",
    "blacklisted": "the sender is on the recipient's Blacklist",
}
"""What each word says of a pair."""

RULES: dict[str, str] = {
    "sender-unknown": "Where the App requires registration, the sender must be registered",
    "sender-deactivated": "The sender must not be deactivated",
    "sender-banned": "The sender must not be banned",
    "sender-muted": "The sender must not be muted",
    "recipient-unknown": "Where the App requires registration, the recipient must be registered",
    "recipient-deactivated": "The recipient must not be deactivated",
    "not-whitelisted": "If the recipient's Whitelist is on, the sender must be on it",
    "blacklisted": "The sender must not be on the recipient's Blacklist",
}
"""What each rule asks, in the order in which they are asked."""
