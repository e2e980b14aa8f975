"""Keys, secrets and passwords that nobody can guess, for who names none."""

from __future__ import annotations

import secrets

APP_KEY_CHARS = 12
SECRET_BYTES, PASSWORD_BYTES = 24, 18

_KEY_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without the letters that are mistaken for one another when a key is read out."""


def new_app_key() -> str:
    """The key of a new App."""
    return "".join(secrets.choice(_KEY_ALPHABET) for _ in range(APP_KEY_CHARS))


def new_app_secret() -> str:
    """A new secret of an App."""
    return secrets.token_urlsafe(SECRET_BYTES)


def new_operator_password() -> str:
    """A new password of an operator."""
    return secrets.token_urlsafe(PASSWORD_BYTES)
