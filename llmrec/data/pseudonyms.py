"""Pseudonyms of users: keyed hashes of their ids."""

from __future__ import annotations

import hmac
import os
import re
from pathlib import Path

import pyarrow as pa

from llmrec.config.data import PseudonymConfig
from llmrec.errors import ConfigError

# A pseudonym is `p-` and the first 128 bits of HMAC-SHA256 (RFC 2104) of the id, under a key that is itself
# HMAC-SHA256(key, purpose and salt), as in HKDF (RFC 5869). With the key, the pseudonym of an id can be computed;
# without it, ids cannot be tried out. This is not anonymity: the events of a pseudonym remain, and may identify a user.
PSEUDONYM = re.compile(r"p-[0-9a-f]{32}")
MIN_KEY_LENGTH = 32  # characters


class Pseudonymizer:
    """Converter of user ids into the names that a log uses: pseudonyms, or the ids themselves.

    A pseudonym is returned unchanged. The key is read when it is first needed, and is not part of `repr`.

    Args:
        config: Source of the key and salt; None if names are ids.
        check: `key_check` of the key that made existing pseudonyms; None if there are none.
    """

    __slots__ = ("_key", "config", "known_check")

    def __init__(self, config: PseudonymConfig | None = None, check: str | None = None) -> None:
        self.config, self.known_check = config, check
        self._key: bytes | None = None

    @property
    def hides_ids(self) -> bool:
        """True if ids must not appear in files, messages and logs."""
        return self.config is not None

    def pseudonym(self, user: str) -> str:
        """Return the name of a user.

        Args:
            user: Id or pseudonym.

        Returns:
            The pseudonym, or the id if there are no pseudonyms.

        Raises:
            ConfigError: If the key is missing, or is not the one that made existing pseudonyms.
        """
        return user if self.config is None or PSEUDONYM.fullmatch(user) else self._compute_digest(f"user\0{user}")

    def pseudonyms(self, ids: pa.LargeStringArray) -> pa.LargeStringArray:
        """Return the names of distinct user ids.

        Args:
            ids: User ids, (n,).

        Returns:
            Names, (n,).

        Raises:
            ConfigError: If the key is missing, or is not the one that made existing pseudonyms.
        """
        if self.config is None:
            return ids
        return pa.array([self.pseudonym(user) for user in ids.to_pylist()], pa.large_string())

    def event_key(self, user: str, key: str | None) -> str | None:
        """Return the name of the key with which a client may send an event again, since it may contain an id.

        Args:
            user: Id or pseudonym of the user.
            key: Key of the event; None if it has none.

        Returns:
            Hash of the key, or the key itself if there are no pseudonyms.
        """
        return (
            key if key is None or self.config is None else self._compute_digest(f"event\0{self.pseudonym(user)}\0{key}")
        )

    def require_key(self) -> Pseudonymizer:
        """Read the key now if one is needed.

        Returns:
            This object.

        Raises:
            ConfigError: If the key is missing, or is not the one that made existing pseudonyms.
        """
        self._load_secret()
        return self

    @property
    def key_check(self) -> str | None:
        """Digest that distinguishes keys and reveals nothing else about them; None without pseudonyms."""
        return None if self.config is None else _compute_hmac(self._load_secret(), b"check").hex()[:16]

    def _compute_digest(self, message: str) -> str:
        return f"p-{_compute_hmac(self._load_secret(), message.encode(errors='surrogatepass')).hex()[:32]}"

    def _load_secret(self) -> bytes:
        if self._key is None and self.config is not None:
            key = _compute_hmac(_read_key(self.config), b"llmrec pseudonyms\0" + self.config.salt.encode())
            if self.known_check is not None and _compute_hmac(key, b"check").hex()[:16] != self.known_check:
                raise ConfigError(
                    f"data.pseudonyms: the key in {_key_location(self.config)} is not the one that the pseudonyms were "
                    "made with. Give that key and its salt."
                )
            self._key = key
        return self._key or b""

    def __repr__(self) -> str:
        return f"UserNames({self.config!r})"


PLAIN_IDS = Pseudonymizer()


def _compute_hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _key_location(config: PseudonymConfig) -> str:
    return str(config.key_file or f"the variable {config.key_env}")


def _read_key(config: PseudonymConfig) -> bytes:
    """Read the key; raise ConfigError if it is missing or could be guessed."""
    if config.key_file:
        try:
            key = Path(config.key_file).read_bytes().strip()
        except OSError as error:
            raise ConfigError(
                f"data.pseudonyms.key_file={config.key_file}: cannot be read ({error.strerror}). Give the key "
                "that made the pseudonyms of users, or give pseudonyms instead of ids."
            ) from error
    else:
        key = os.environ.get(config.key_env or "", "").strip().encode()
        if not key:
            raise ConfigError(
                f"data.pseudonyms.key_env: the variable {config.key_env} is not set. Set it to the key that made "
                "the pseudonyms of users, or give pseudonyms instead of ids."
            )
    if len(key) < MIN_KEY_LENGTH:
        raise ConfigError(
            f"data.pseudonyms: the key in {_key_location(config)} has fewer than {MIN_KEY_LENGTH} characters and could "
            'be guessed. Make one with python -c "import secrets; print(secrets.token_hex(32))".'
        )
    return key
