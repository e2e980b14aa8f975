"""Seals App secrets and Token keys, so that Redis, its backups and the Replica hold them encrypted (AES-256-GCM).

A sealed value is the text `enc:1:KEY-ID:BASE64`, where the base64 has a nonce of 12 bytes and the ciphertext. The App's key is
its associated data, so that no value can be moved to another App. The keys are those of the process's key file: the first one
seals, each one opens. Without a key file values stay as they are.

Called by `gate.store.apps` for what is read from and written to Redis, and by the Replica's readers.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Callable, Sequence
from hashlib import sha256

from msgspec.structs import replace

from gate.core.file_text import read_text
from gate.core.model import SEALED_PREFIX, AppFacts
from gate.errors import InvalidConfig, SecretsSealed

KEY_BYTES = 32
NONCE_BYTES = 12
KEY_ID_CHARS = 8
MAX_FILE_KEYS = 16
"""One is in use, others are for reading during a rotation."""
MAX_FILE_BYTES = 16_384
_FORM = (
    f"write keys of {KEY_BYTES} bytes in base64, one a line, the current one first (openssl rand -base64 {KEY_BYTES})"
)


class SecretKeys:
    """The keys of one file."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # late: only where secrets are sealed

        self._ciphers = {sha256(key).hexdigest()[:KEY_ID_CHARS]: AESGCM(key) for key in keys}
        self.current = next(iter(self._ciphers))
        """The id of the key that seals."""

    def seal(self, app_key: str, value: str) -> str:
        """Encrypt a value with the current key."""
        nonce = os.urandom(NONCE_BYTES)
        hidden = self._ciphers[self.current].encrypt(nonce, value.encode("utf-8", "surrogateescape"), app_key.encode())
        return f"{SEALED_PREFIX}{self.current}:{base64.b64encode(nonce + hidden).decode()}"

    def open(self, app_key: str, value: str) -> str:
        """Decrypt a value; one that is not sealed is returned as it is. Raises `SecretsSealed`."""
        from cryptography.exceptions import InvalidTag  # late, as above

        if not is_sealed(value):
            return value
        key_id, _, packed = value.removeprefix(SEALED_PREFIX).partition(":")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SecretsSealed(
                f"the secrets of App {app_key!r} are sealed with the key {key_id}, which is not in the file"
            )
        try:
            raw = base64.b64decode(packed, validate=True)
            shown: bytes = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], app_key.encode())
        except (InvalidTag, ValueError, binascii.Error):
            raise SecretsSealed(f"a sealed secret of App {app_key!r} is damaged, or belongs to another App") from None
        return shown.decode("utf-8", "surrogateescape")

    def is_current(self, value: str) -> bool:
        """Whether the current key sealed it."""
        return value.startswith(f"{SEALED_PREFIX}{self.current}:")


_keys: SecretKeys | None = None


def use_key_file(path: str | None) -> None:
    """Use the keys of this file in this process; None for none. Raises `InvalidConfig`."""
    global _keys
    _keys = None if path is None else read_key_file(path)


def keys_in_use() -> SecretKeys | None:
    """The keys of this process."""
    return _keys


def read_key_file(path: str) -> SecretKeys:
    """Read a key file. Raises `InvalidConfig`, which shows nothing of it."""
    try:
        with open(path, "rb") as file:
            lines = [line.strip() for line in read_text(file.read(MAX_FILE_BYTES)).splitlines()]
        keys = [base64.b64decode(line, validate=True) for line in lines if line and not line.startswith("#")]
    except OSError as fault:
        raise InvalidConfig([f"--secret-key-file: {path} can't be read: {fault.strerror}"]) from None
    except ValueError:
        raise InvalidConfig([f"--secret-key-file: {path}: {_FORM}"]) from None
    if not keys or len(keys) > MAX_FILE_KEYS or any(len(key) != KEY_BYTES for key in keys):
        raise InvalidConfig([f"--secret-key-file: {path}: {_FORM}; 1 to {MAX_FILE_KEYS} of them"])
    return SecretKeys(keys)


def open_to_others(path: str) -> bool:
    """Whether other users of the machine may read the file."""
    return bool(stat.S_IMODE(os.stat(path).st_mode) & 0o077)


def is_sealed(value: str) -> bool:
    """Whether it is a sealed value."""
    return value.startswith(SEALED_PREFIX)


def sealing_of(facts: AppFacts) -> str:
    """The id of the key that sealed all secrets of the App; "" if any of them is not sealed, "several" for several keys."""
    ids = {value.removeprefix(SEALED_PREFIX).partition(":")[0] if is_sealed(value) else "" for value in _values(facts)}
    return "" if "" in ids or not ids else ids.pop() if len(ids) == 1 else "several"


def has_sealed(facts: AppFacts) -> bool:
    """Whether any secret of the App is sealed."""
    return any(map(is_sealed, _values(facts)))


def opened(facts: AppFacts) -> AppFacts:
    """The App with its secrets as they are. Raises `SecretsSealed` if they can't be opened here."""
    if not has_sealed(facts):
        return facts
    if _keys is None:
        raise SecretsSealed(
            f"the secrets of App {facts.key!r} are sealed: give --secret-key-file, or GATE_SECRET_KEY_FILE"
        )
    keys = _keys
    return _with(facts, lambda value: keys.open(facts.key, value))


def opened_if_possible(facts: AppFacts) -> AppFacts:
    """The App with its secrets as they are, or as they are stored: who has no key may still change other settings."""
    try:
        return opened(facts)
    except SecretsSealed:
        return facts


def opened_or_without(facts: AppFacts) -> AppFacts:
    """The App with its secrets as they are, or without any: then nothing can sign in, not even with a sealed value."""
    try:
        return opened(facts)
    except SecretsSealed:
        return replace(facts, secrets=(), token_keys=())


def sealed(facts: AppFacts, stored: AppFacts | None = None) -> AppFacts:
    """The App as it is to be stored. Values that `stored` has sealed with the current key stay as they are there."""
    if _keys is None:
        return facts
    keys = _keys
    kept = (
        {keys.open(stored.key, value): value for value in _values(stored) if keys.is_current(value)} if stored else {}
    )
    return _with(facts, lambda value: value if is_sealed(value) else kept.get(value) or keys.seal(facts.key, value))


def _values(facts: AppFacts) -> tuple[str, ...]:
    return (*facts.secrets, *facts.token_keys)


def _with(facts: AppFacts, change: Callable[[str], str]) -> AppFacts:
    return replace(facts, secrets=tuple(map(change, facts.secrets)), token_keys=tuple(map(change, facts.token_keys)))
