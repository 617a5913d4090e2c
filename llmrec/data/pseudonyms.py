"""What users are called: by their ids, or by keyed hashes of them.

A pseudonym is `p-` and the first 128 bits of HMAC-SHA256 (RFC 2104) of the id, under a key that is itself
HMAC-SHA256(key, purpose and salt), as in HKDF (RFC 5869). Whoever has the key can tell which pseudonym an id has, and
nobody else can try ids out. It is no anonymity: what a pseudonym did is still there, and may tell who it is.
"""

from __future__ import annotations

import hmac
import os
import re
from pathlib import Path

import pyarrow as pa

from llmrec.config.data import PseudonymConfig
from llmrec.errors import ConfigError

PSEUDONYM = re.compile(r"p-[0-9a-f]{32}")
SHORTEST_KEY = 32  # characters


class Pseudonymizer:
    """From a user's id to the name that a log, and all that is made of it, has for them; a pseudonym stays what it is.

    config: None where that is the id. check: of the key that the pseudonyms at hand were made with, see `key_check`.
    The key is read when it is first needed, and is in no `repr`.
    """

    __slots__ = ("_key", "config", "known_check")

    def __init__(self, config: PseudonymConfig | None = None, check: str | None = None) -> None:
        self.config, self.known_check = config, check
        self._key: bytes | None = None

    @property
    def hides_ids(self) -> bool:
        """Whether ids are nobody's to see: in no file, message or log."""
        return self.config is not None

    def pseudonym(self, user: str) -> str:
        """
        Raises:
            ConfigError: there are pseudonyms, and no key, or another one than they were made with.
        """
        return user if self.config is None or PSEUDONYM.fullmatch(user) else self._compute_digest(f"user\0{user}")

    def pseudonyms(self, ids: pa.LargeStringArray) -> pa.LargeStringArray:
        """(n,) names of distinct ids; raises as `pseudonym` does."""
        if self.config is None:
            return ids
        return pa.array([self.pseudonym(user) for user in ids.to_pylist()], pa.large_string())

    def event_key(self, user: str, key: str | None) -> str | None:
        """What stands for a key by which a client may send a user's event again, in which an id may be written."""
        return (
            key if key is None or self.config is None else self._compute_digest(f"event\0{self.pseudonym(user)}\0{key}")
        )

    def require_key(self) -> Pseudonymizer:
        """With the key at hand, where one is needed; raises as `pseudonym` does."""
        self._load_secret()
        return self

    @property
    def key_check(self) -> str | None:
        """Tells one key from another, and nothing else of it; None without pseudonyms."""
        return None if self.config is None else _compute_hmac(self._load_secret(), b"check").hex()[:16]

    def _compute_digest(self, message: str) -> str:
        return f"p-{_compute_hmac(self._load_secret(), message.encode(errors='surrogatepass')).hex()[:32]}"

    def _load_secret(self) -> bytes:
        if self._key is None and self.config is not None:
            key = _compute_hmac(_read_key(self.config), b"llmrec pseudonyms\0" + self.config.salt.encode())
            if self.known_check is not None and _compute_hmac(key, b"check").hex()[:16] != self.known_check:
                raise ConfigError(
                    f"data.pseudonyms: the key in {_key_location(self.config)} is not the one that the pseudonyms were "
                    "made with; give that one, and its salt"
                )
            self._key = key
        return self._key or b""

    def __repr__(self) -> str:
        return f"UserNames({self.config!r})"


IDS = Pseudonymizer()


def _compute_hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _key_location(config: PseudonymConfig) -> str:
    return str(config.key_file or f"the variable {config.key_env}")


def _read_key(config: PseudonymConfig) -> bytes:
    """
    Raises:
        ConfigError: no key there, or one that could be guessed.
    """
    if config.key_file:
        try:
            key = Path(config.key_file).read_bytes().strip()
        except OSError as error:
            raise ConfigError(
                f"data.pseudonyms.key_file={config.key_file}: cannot be read ({error.strerror}); users are known by "
                "pseudonyms here, so give the key that makes them, or ask by pseudonym"
            ) from error
    else:
        key = os.environ.get(config.key_env or "", "").strip().encode()
        if not key:
            raise ConfigError(
                f"data.pseudonyms.key_env: the variable {config.key_env} is not set; users are known by pseudonyms "
                "here, so give the key that makes them, or ask by pseudonym"
            )
    if len(key) < SHORTEST_KEY:
        raise ConfigError(
            f"data.pseudonyms: the key in {_key_location(config)} has fewer than {SHORTEST_KEY} characters and could "
            'be guessed; make one with python -c "import secrets; print(secrets.token_hex(32))"'
        )
    return key
