"""Secrets of users: how they are hashed, written and compared. Pure, but for the system's random source.

A configuration has a secret in one of two forms, and keeps neither of them as it was given:

    HashedSecret    `$scrypt$ln=14,r=8,p=1$SALT$HASH`, as `naught-server hash-secret` prints it. Comparing one takes
                    tens of milliseconds and 16 MiB on purpose: who has read the file must try each guess so.
    PlainSecret     what a file or a variable of the environment said. Of it a digest is kept, with a key that this
                    process has drawn, so that it is not in the memory as it was.

All comparisons take the same time whatever is compared. Neither form is ever shown: `repr` says only that there is
one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from typing import Final

from naught.wire.limits import SECRET_BYTES_MAX

SECRET_BYTES_MIN: Final = 8
"""Shorter secrets are guessed, whatever the hash."""

LOG2_N: Final = 14
R: Final = 8
P: Final = 1
"""The cost of a new hash: 16 MiB and about 40 ms on a present-day core, the least that is recommended for log-ins."""

MEMORY_BYTES_MAX: Final = 64 << 20
"""A hash that takes more is refused when the configuration is read: it would be a way to stop the server."""

LANES_MAX: Final = 4
"""A hash whose parameter `p`, which multiplies the time, is larger is refused too."""

SALT_BYTES: Final = 16
HASH_BYTES: Final = 32

PREFIX: Final = "$scrypt$"
"""How every hash begins. A secret that begins so is a hash."""

_WRITTEN: Final = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})"
)

_KEY: Final = os.urandom(32)  # of this process: a digest is of no use in another one, or after it


def digest_of(secret: bytes, user: str = "") -> bytes:
    """What stands for a secret in the memory of this process. It takes a microsecond."""
    keyed = hashlib.blake2b(key=_KEY, digest_size=32)
    keyed.update(len(user).to_bytes(2, "big") + user.encode("utf-8", "surrogatepass"))
    keyed.update(secret)
    return keyed.digest()


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


class HashedSecret:
    """A secret of which only its scrypt hash is known."""

    __slots__ = ("_hash", "_log2_n", "_p", "_r", "_salt", "tag")

    def __init__(self, written: str) -> None:
        """Raises ValueError, which says what is wrong and not what was written."""
        found = _WRITTEN.fullmatch(written)
        if found is None:
            raise ValueError("a hash is what `naught-server hash-secret` prints")
        self._log2_n, self._r, self._p = (int(found[index]) for index in (1, 2, 3))
        if not (1 <= self._log2_n <= 20 and self._r >= 1 and 1 <= self._p <= LANES_MAX):
            raise ValueError("the parameters of a hash are out of range")
        if self._memory_bytes > MEMORY_BYTES_MAX:
            raise ValueError(f"a hash takes at most {MEMORY_BYTES_MAX >> 20} MiB to compute")
        try:
            self._salt, self._hash = _decoded(found[4]), _decoded(found[5])
        except binascii.Error:
            raise ValueError("a hash is what `naught-server hash-secret` prints") from None
        self.tag: Final = digest_of(written.encode())  # tells it from others, in this process

    @property
    def _memory_bytes(self) -> int:
        return 128 * self._r << self._log2_n

    @property
    def hashes(self) -> float:
        """How many new hashes cost as much as this one."""
        return (self._r * self._p << self._log2_n) / (R * P << LOG2_N)

    def matches(self, secret: bytes) -> bool:
        """Whether this is the secret. Takes tens of milliseconds, without the interpreter's lock."""
        found = hashlib.scrypt(
            secret,
            salt=self._salt,
            n=1 << self._log2_n,
            r=self._r,
            p=self._p,
            maxmem=2 * MEMORY_BYTES_MAX,
            dklen=len(self._hash),
        )
        # scrypt pads a short secret with zeros, so that one with a zero behind it has the same hash.
        return hmac.compare_digest(found, self._hash) and b"\0" not in secret

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HashedSecret) and hmac.compare_digest(self.tag, other.tag)

    def __hash__(self) -> int:
        return hash(self.tag)

    def __repr__(self) -> str:
        return "<a hashed secret>"


class PlainSecret:
    """A secret that a file or the environment has said."""

    __slots__ = ("tag",)

    def __init__(self, secret: bytes) -> None:
        """Raises ValueError, which says what is wrong and not what was given."""
        if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
            raise ValueError(f"a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, not {len(secret)}")
        if b"\0" in secret:
            raise ValueError("a secret has no zero bytes")
        self.tag: Final = digest_of(secret)

    def matches(self, secret: bytes) -> bool:
        """Whether this is the secret. Takes a microsecond."""
        return hmac.compare_digest(digest_of(secret), self.tag)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlainSecret) and hmac.compare_digest(self.tag, other.tag)

    def __hash__(self) -> int:
        return hash(self.tag)

    def __repr__(self) -> str:
        return "<a secret>"


Secret = HashedSecret | PlainSecret


def read_secret(text: str) -> Secret:
    """What a file or the environment says: a secret, or its hash. Raises ValueError."""
    if text.startswith(PREFIX):
        return HashedSecret(text)
    return PlainSecret(text.encode("utf-8", "surrogateescape"))


def hash_of(secret: bytes, salt: bytes | None = None) -> str:
    """The hash of a secret, as a configuration has it. Raises ValueError for one that is too short or too long."""
    PlainSecret(secret)
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    found = hashlib.scrypt(secret, salt=salt, n=1 << LOG2_N, r=R, p=P, maxmem=2 * MEMORY_BYTES_MAX, dklen=HASH_BYTES)
    return f"{PREFIX}ln={LOG2_N},r={R},p={P}${_encoded(salt)}${_encoded(found)}"


_NOBODYS: Final = HashedSecret(f"{PREFIX}ln={LOG2_N},r={R},p={P}${'A' * 22}${'A' * 43}")
"""The hash that is computed where there is none, so that the time of a refusal does not say which users there are."""


def hashes_in(secrets: Sequence[Secret]) -> float:
    """How many new hashes cost as much as comparing these."""
    return sum(each.hashes for each in secrets if isinstance(each, HashedSecret))


def matching(secrets: Sequence[Secret], secret: bytes, hashes: float) -> Secret | None:
    """Which of these it is. All are compared, and it costs as much as `hashes` new hashes at least: the time tells
    neither which one it is nor how many there are, nor what they cost."""
    found: Secret | None = None
    for each in secrets:
        if each.matches(secret):
            found = each
    for _ in range(round(hashes - hashes_in(secrets))):
        _NOBODYS.matches(secret)
    return found
