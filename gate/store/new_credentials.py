"""Generation of unguessable keys, secrets and passwords, for callers that specify none."""

from __future__ import annotations

import secrets

APP_KEY_CHARS = 12
SECRET_BYTES, PASSWORD_BYTES = 24, 18

# Without letters that are confused when a key is read aloud.
_KEY_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def new_app_key() -> str:
    """Return a key for a new App."""
    return "".join(secrets.choice(_KEY_ALPHABET) for _ in range(APP_KEY_CHARS))


def new_app_secret() -> str:
    """Return a new secret for an App."""
    # 192 random bits.
    return secrets.token_urlsafe(SECRET_BYTES)


def new_operator_password() -> str:
    """Return a new password for an operator."""
    return secrets.token_urlsafe(PASSWORD_BYTES)
