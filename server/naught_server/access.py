"""Who may come in, and what a user may do. Pure: the time is an argument, and hashing is done by the owner.

    user   = User("orders", role="write", prefixes=("seats:",), ...)   what the configuration says
    rights = Rights(user)                                              what follows from it for requests
    login  = Login(rights, credential)                                 one connection, or session, is this user's

What a request needs is a `Rule` in the table of commands: a role, and which counters the request names.
`Rights.check` is the only place that compares the two. A server without users has no `Rights`, and nothing is
checked. For a user that is bound to no prefixes the hot path is as free as without users: role and cache are decided
once, when the connection is logged in or takes a cache (`serves_hot`). The requests of all others take the careful
path, where each is checked.

`Access` is the list of all users of a server. A log-in by a secret is an `Attempt`: known at once where the secret
has been right before in this process, and else checked by a hash, which the owner computes in a thread (`watch`).
Attempts that need a hash are bounded in all and by address, and those of an address that was refused are slowed
(`LoginPace`). One that is slowed is given up where one that is not slowed finds no place, and does not slow others
with the same secret: an address that waits less takes over its hash. A Unix socket has no address: the user of the
system stands for it there. A secret that has been right before needs no hash, so a flood of wrong ones does not keep
a fleet of clients from coming back.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal, NamedTuple

from naught.errors import Busy, CommandError, Denied, Unauthenticated
from naught.wire.limits import KEY_BYTES_MAX
from naught_server.secret_hash import HashedSecret, Secret, digest_of, hashes_in, matching

Role = Literal["read", "write", "admin"]

ROLES: Final[tuple[Role, ...]] = ("read", "write", "admin")
"""From the least to the most: each may do all that those before it may."""

USERS_MAX: Final = 1_024
"""A user is a service or a person, not a customer of a service."""

PREFIXES_MAX: Final = 64
"""Prefixes of one user: each request compares its keys with all of them."""

PREFIXES_PER_ENTRY: Final = 32
"""Prefixes that a key is compared with for an entry of work: 12 ns each."""

SECRETS_MAX: Final = 4
"""Secrets of one user: a new one beside the old one while clients change, and some more."""

ATTEMPTS_MAX: Final = 256
"""Log-ins that wait for a hash, of all addresses. At 40 ms a hash the last one waits ten seconds."""

ATTEMPTS_OF_ADDRESS_MAX: Final = 4
"""Log-ins of one address that wait for a hash. One more is answered `busy`."""

PENALTY_MS: Final = 100
"""How long the next log-in from an address waits after one was refused. It doubles with each that is refused."""

PENALTY_MS_MAX: Final = 10_000
"""The most it grows to: 8 640 guesses a day from an address, for each of its places."""

FORGET_MS: Final = 60_000
"""An address without a refused log-in for so long begins anew."""

ADDRESSES_MAX: Final = 4_096
"""Addresses with refused log-ins that are remembered; beyond it the one that was refused longest ago goes."""


# ------------------------------------------------------------------------------------------- what a request needs


class Names(Enum):
    """Which counters a request names or shows, by its parameters."""

    OWN = "none but what its own session holds or waits for"
    KEY = "one key: the first parameter"
    KEYS = "keys: the first parameter, all or none"
    EACH = "keys: the first parameter, each for itself; one that is not allowed fails alone"
    ITEMS = "keys: the first items of the arrays that are the first parameter"
    ITEMS_OF_HOLD = "keys of a hold of its own: the first items of the arrays that are the second parameter"
    PREFIX = "all that begin with a prefix"
    CACHE = "all of the cache"
    SERVER = "what concerns all caches, or other clients"


class Rule(NamedTuple):
    """What a command needs."""

    role: Role
    names: Names
    at: int = 0
    """With `PREFIX`: the index of the parameter."""
    before_login: bool = False
    """Whether a peer that is no user yet may ask it."""


class Rights:
    """What one user may do."""

    __slots__ = ("_rank", "caches", "prefixes", "role", "user")

    def __init__(self, user: str, role: Role, caches: Iterable[str] | None, prefixes: Sequence[bytes]) -> None:
        self.user: Final = user
        self.role: Final[Role] = role
        self.caches: Final = None if caches is None else frozenset(caches)  # None for all
        self.prefixes: Final = tuple(prefixes)  # empty for all keys
        self._rank: Final = ROLES.index(role)

    def serves_hot(self, cache: str) -> bool:
        """Whether every request of the hot path is allowed on this cache, so that none has to be looked at."""
        return self._rank >= _WRITE and not self.prefixes and (self.caches is None or cache in self.caches)

    def may_use(self, cache: str) -> bool:
        """Whether the user may name this cache in `hello`."""
        return self.caches is None or cache in self.caches

    def refuse_cache(self, cache: str) -> Denied:
        """The error for a cache that the user may not use. It does not say whether there is such a cache."""
        return Denied(f"the user {self.user} may not use the cache {cache!r}")

    def check(self, method: str, rule: Rule, params: Sequence[Any], cache: str) -> None:
        """Raise Denied unless the user may do this. Parameters of a wrong type are left to the command, which refuses
        them. O(the keys that are named)."""
        if self._rank < ROLES.index(rule.role):
            raise Denied(f"the user {self.user} has the role {self.role}, and {method} takes {rule.role}")
        names = rule.names
        if names is Names.OWN:
            return
        if self.caches is not None:
            if cache not in self.caches:
                raise self.refuse_cache(cache)
            if names is Names.SERVER:
                raise Denied(f"the user {self.user} is bound to caches, and {method} concerns all")
        if self.prefixes:
            self._check_keys(method, rule, params)

    def _check_keys(self, method: str, rule: Rule, params: Sequence[Any]) -> None:
        names, prefixes = rule.names, self.prefixes
        if names is Names.CACHE or names is Names.SERVER:
            raise Denied(f"the user {self.user} is bound to prefixes, and {method} concerns all keys")
        if names is Names.PREFIX:
            asked = params[rule.at] if len(params) > rule.at else b""
            if asked.__class__ is bytes and not asked.startswith(prefixes):
                raise Denied(f"the user {self.user} is bound to prefixes: {method} must name one of them")
        elif names is not Names.EACH:
            for key in _keys_of(names, params):
                if key.__class__ is bytes and not key.startswith(prefixes):
                    raise self.refuse_key()

    def may_name(self, key: object) -> bool:
        """Whether the user may name this key. What is no key is for the command to refuse."""
        return not self.prefixes or key.__class__ is not bytes or key.startswith(self.prefixes)

    def refuse_key(self) -> Denied:
        """The error for a key outside of the prefixes."""
        return Denied(f"the user {self.user} is bound to prefixes, and a key begins with none of them")

    @staticmethod
    def refuse_item() -> Denied:
        """The same for an item of a batch, in so few words that the reply fits where all items are refused."""
        return Denied("the key begins with no prefix of the user")

    def covers(self, other: Rights) -> bool:
        """Whether everything that `other` allows is allowed here."""
        caches = self.caches is None or (other.caches is not None and other.caches <= self.caches)
        prefixes = not self.prefixes or (
            bool(other.prefixes) and all(each.startswith(self.prefixes) for each in other.prefixes)
        )
        return self.user == other.user and self._rank >= other._rank and caches and prefixes


_WRITE: Final = ROLES.index("write")


def _keys_of(names: Names, params: Sequence[Any]) -> Iterable[Any]:
    if names is Names.KEY:
        return params[:1]
    at = 1 if names is Names.ITEMS_OF_HOLD else 0
    array = params[at] if len(params) > at else ()
    if array.__class__ is not tuple:
        return ()
    if names is Names.KEYS:
        return array
    return (item[0] for item in array if item.__class__ is tuple and item)


def refuse_unknown(rule: Rule | None) -> None:
    """Raise Unauthenticated unless a peer that is no user yet may ask this. None: there is no such
    method."""
    if rule is None or not rule.before_login:
        raise Unauthenticated("log in first: hello takes the words user and secret")


# ------------------------------------------------------------------------------------------- users


@dataclass(frozen=True)
class User:
    """A user of a configuration, checked. Raises ValueError, which names the field that is at fault."""

    name: str
    role: Role
    secrets: tuple[Secret, ...] = field(default=(), repr=False)
    """Each lets it in. Several while they are changed."""
    caches: tuple[str, ...] | None = None
    """The caches it may use; None for all."""
    prefixes: tuple[str, ...] = ()
    """What all keys that it names begin with; none for all keys."""
    certificates: tuple[str, ...] = ()
    """Names in client certificates that let it in."""
    uids: tuple[int, ...] = ()
    """User ids of the system whose processes are let in by a Unix socket."""
    secret_file: str | None = None
    """The file in which its secret was read, for `--print-config`."""
    secret_env: str | None = None
    """The variable of the environment in which its secret was read, for `--print-config`."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role must be {', '.join(ROLES[:-1])} or {ROLES[-1]}")
        if not (self.secrets or self.certificates or self.uids):
            raise ValueError("a user needs a secret, secret_file, secret_env, certificates or uids")
        if len(self.secrets) > SECRETS_MAX:
            raise ValueError(f"a user has at most {SECRETS_MAX} secrets")
        if len(self.prefixes) > PREFIXES_MAX:
            raise ValueError(f"a user has at most {PREFIXES_MAX} prefixes")
        for prefix in self.prefixes:
            if not 1 <= len(prefix.encode("utf-8", "surrogateescape")) <= KEY_BYTES_MAX:
                raise ValueError(f"a prefix has 1 to {KEY_BYTES_MAX} bytes")
        if self.caches is not None and not self.caches:
            raise ValueError("caches names at least one cache; left out, the user may use all")

    @property
    def rights(self) -> Rights:
        """What it may do."""
        prefixes = [prefix.encode("utf-8", "surrogateescape") for prefix in self.prefixes]
        return Rights(self.name, self.role, self.caches, prefixes)


class Login(NamedTuple):
    """Which user a connection or a session belongs to, and what has let it in."""

    rights: Rights
    credential: bytes
    """What has let it in: the tag of a secret, or the name of a certificate or the id of a user of the system."""


# ------------------------------------------------------------------------------------------- log-ins


_WRONG: Final = "the user or the secret is wrong"
_TOO_MANY: Final = "too many log-ins wait to be checked; try again later"


class LoginPace:
    """How soon an address may try again."""

    def __init__(self) -> None:
        # By address, the one that was refused longest ago first: how often it was refused, and when last.
        self._refused: dict[str | None, tuple[int, int]] = {}
        self._waiting: dict[str | None, int] = {}  # attempts by address; those that wait for a hash
        self._all = 0  # of all addresses

    def admit(self, address: str | None, now_ms: int) -> int:
        """One more attempt needs a hash. Returns for how many milliseconds it has to wait first. Raises Busy where
        too many wait."""
        waiting = self._waiting.get(address, 0)
        if waiting >= ATTEMPTS_OF_ADDRESS_MAX or self._all >= ATTEMPTS_MAX:
            raise Busy(_TOO_MANY)
        self._waiting[address] = waiting + 1
        self._all += 1
        return self._delay_ms(address, now_ms)

    def _delay_ms(self, address: str | None, now_ms: int) -> int:
        refused, last_ms = self._refused.get(address, (0, 0))
        if not refused or now_ms - last_ms >= FORGET_MS:
            return 0
        return max(0, last_ms + penalty_ms(refused) - now_ms)

    def _has_own_place(self, address: str | None) -> bool:
        return self._waiting.get(address, 0) < ATTEMPTS_OF_ADDRESS_MAX

    def lacks_place(self, address: str | None, now_ms: int) -> bool:
        """Whether all places are taken, and an attempt of this address would not be slowed if it had one."""
        return self._all >= ATTEMPTS_MAX and self._has_own_place(address) and not self._delay_ms(address, now_ms)

    def is_sooner(self, address: str | None, due_ms: int, now_ms: int) -> bool:
        """Whether an attempt of this address may begin before another one that is due then."""
        return now_ms + self._delay_ms(address, now_ms) < due_ms and self._has_own_place(address)

    def leave(self, address: str | None) -> None:
        """An attempt that was admitted is over."""
        self._all -= 1
        self._waiting[address] -= 1
        if not self._waiting[address]:
            del self._waiting[address]

    def refuse(self, address: str | None, now_ms: int) -> None:
        """An attempt of this address was wrong."""
        refused, last_ms = self._refused.pop(address, (0, now_ms))
        if now_ms - last_ms >= FORGET_MS:
            refused = 0
        self._refused[address] = (refused + 1, now_ms)
        while len(self._refused) > ADDRESSES_MAX:
            del self._refused[next(iter(self._refused))]


def penalty_ms(refused: int) -> int:
    """How long an address waits after this number of its log-ins in a row was refused."""
    return min(PENALTY_MS_MAX, PENALTY_MS << min(refused - 1, 16))


class Attempt:
    """One log-in by a secret. Owned by the connection that tries it."""

    __slots__ = ("_on_settled", "address", "fault", "login", "settled")

    def __init__(self, address: str | None, on_settled: Callable[[], None] | None) -> None:
        self.address: Final = address
        self._on_settled = on_settled  # called when it is known, which may be before `Access.attempt` returns
        self.settled = False
        self.login: Login | None = None  # who it is, once settled
        self.fault: CommandError | None = None  # why not, once settled

    def settle(self, login: Login | None, fault: CommandError | None) -> None:
        """It is known now."""
        self.settled = True
        self.login = login
        self.fault = fault
        if self._on_settled is not None:
            self._on_settled()

    def renew(self, access: Access) -> None:
        """The users may have been changed since it was settled."""
        if self.login is not None:
            self.login = access.anew(self.login)
            if self.login is None:
                self.fault = Unauthenticated(_WRONG)

    def drop(self) -> None:
        """Its connection is gone."""
        self._on_settled = None


class Check:
    """A hash to compute for one or more attempts with the same user and secret. Its owner calls `run` in any thread,
    and then `Access.finish` in its own."""

    __slots__ = (
        "_hashes",
        "_secret",
        "_secrets",
        "attempts",
        "delay_ms",
        "digest",
        "dropped",
        "due_ms",
        "found",
        "user",
    )

    def __init__(
        self,
        user: str,
        secret: bytes,
        digest: bytes,
        *,
        secrets: Sequence[Secret],
        hashes: float,
        delay_ms: int,
        now_ms: int = 0,
    ) -> None:
        self.user: Final = user
        self.digest: Final = digest
        self.delay_ms: Final = delay_ms  # how long to wait before `run`
        self.due_ms: Final = now_ms + delay_ms  # until when
        self.dropped = False  # it need not be run any more
        self.attempts: Final[list[Attempt]] = []  # the place and the penalty are those of the first one's address
        self.found: Secret | None = None  # the secret that it is, after `run`
        self._secret: bytes | None = secret  # None after `run`
        self._secrets: Final = secrets
        self._hashes: Final = hashes  # what `run` costs at least: so many new hashes

    def run(self) -> None:
        """Compute. Tens of milliseconds."""
        secret, self._secret = self._secret, None
        assert secret is not None, "once"
        self.found = matching(self._secrets, secret, self._hashes)

    def drop(self) -> None:
        """It need not be run any more."""
        self.dropped = True

    def __repr__(self) -> str:
        return "<a check of a secret>"


class OnRefused(NamedTuple):
    """A log-in that was refused, for the log."""

    user: str | None
    """The user, if there is one of this name. Else None: the name may be a secret in the wrong place."""
    address: str | None
    """Where it came from; `uid 1000` for a process of this user of the system at a Unix socket; None if not known."""
    why: str
    times: int = 1
    """How many from there, with the same secret at the same time."""


class Access:
    """All users of one server, and the log-ins under way. Owned by the engine."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users: Mapping[str, User] = {}
        self._rights: dict[str, Rights] = {}  # by user
        self._of_certificate: dict[str, str] = {}  # the user, by a name in a certificate
        self._of_uid: dict[int, str] = {}  # the user, by the id of a user of the system
        self._hashes = 1.0  # what each check costs at least: so many new hashes
        # By user: digests of secrets that were right, each with the tag of what it matched.
        self._known: dict[str, dict[bytes, bytes]] = {}
        self._checks: dict[bytes, Check] = {}  # under way, by digest
        self._pace: Final = LoginPace()
        self._start_check: Callable[[Check], None] | None = None  # see `watch`
        self._on_refused: Callable[[OnRefused], None] | None = None  # the same
        # Log-ins since the start: of a user, with what is wrong, and while too many waited.
        self.accepted = 0
        self.refused = 0
        self.busy = 0
        self.take(users)

    @property
    def required(self) -> bool:
        """Whether there are users: then a client must be one of them."""
        return bool(self._users)

    @property
    def users(self) -> Mapping[str, User]:
        """By name."""
        return self._users

    def watch(
        self,
        *,
        start_check: Callable[[Check], None] | None = None,
        on_refused: Callable[[OnRefused], None] | None = None,
    ) -> None:
        """Have the owner called: `start_check` for each hash to compute; unless it is given, hashes are computed at
        once. `on_refused` for each log-in that was refused."""
        if start_check is not None:
            self._start_check = start_check
        if on_refused is not None:
            self._on_refused = on_refused

    # -- the users

    def take(self, users: Mapping[str, User]) -> None:
        """These are the users from now on. Log-ins of before are looked at by `renewed`."""
        self._users = dict(users)
        self._rights = {name: user.rights for name, user in users.items()}
        self._of_certificate = {each: name for name, user in users.items() for each in user.certificates}
        self._of_uid = {each: name for name, user in users.items() for each in user.uids}
        self._hashes = max((1, *(hashes_in(user.secrets) for user in users.values())))
        self._known = {
            name: {digest: tag for digest, tag in known.items() if self._has_secret(name, tag)}
            for name, known in self._known.items()
            if name in users
        }

    def _has_secret(self, user: str, tag: bytes) -> bool:
        known = self._users.get(user)
        return known is not None and any(hmac.compare_digest(each.tag, tag) for each in known.secrets)

    def renewed(self, login: Login | None) -> Login | None:
        """What this login is now that the users were changed; None where it is over: its user is gone or may do less,
        or what has let it in is not the user's any more, or there were no users when it began."""
        if login is None:
            return None
        found = self.anew(login)
        return found if found is not None and found.rights.covers(login.rights) else None

    def anew(self, login: Login) -> Login | None:
        """The same log-in with what its user may do now; None where its user is gone, or what has let it in is not
        the user's any more."""
        name = login.rights.user
        rights = self._rights.get(name)
        if rights is None:
            return None
        credential = login.credential
        kind, _, value = credential.partition(b":")
        if kind == _CERTIFICATE:
            still = self._of_certificate.get(value.decode("utf-8", "surrogateescape")) == name
        elif kind == _UID:
            still = self._of_uid.get(int(value)) == name
        else:
            still = self._has_secret(name, credential.removeprefix(_SECRET + b":"))
        return Login(rights, credential) if still else None

    def differences(self, users: Mapping[str, User]) -> list[str]:
        """The names of users that `take` would add, remove or change, each with what."""
        names = sorted({*self._users, *users})
        said = []
        for name in names:
            before, after = self._users.get(name), users.get(name)
            if before != after:
                said.append(f"{name}: {'added' if before is None else 'removed' if after is None else 'changed'}")
        return said

    # -- log-ins

    def login_of_certificate(self, names: Iterable[str]) -> Login | None:
        """Who has a client certificate with these names; None for nobody."""
        for each in names:
            name = self._of_certificate.get(each)
            if name is not None:
                self.accepted += 1
                written = each.encode("utf-8", "surrogateescape")
                return Login(self._rights[name], _CERTIFICATE + b":" + written)
        return None

    def login_of_uid(self, uid: int) -> Login | None:
        """Who has processes of this user of the system; None for nobody."""
        name = self._of_uid.get(uid)
        if name is None:
            return None
        self.accepted += 1
        return Login(self._rights[name], _UID + b":%d" % uid)

    def attempt(
        self,
        user: str,
        secret: bytes,
        address: str | None,
        now_ms: int,
        on_settled: Callable[[], None] | None = None,
    ) -> Attempt:
        """Begin a log-in. `on_settled` is called when it is known, perhaps before this returns."""
        attempt = Attempt(address, on_settled)
        digest = digest_of(secret, user)
        tag = self._known_tag(user, digest, secret)
        if tag is not None:
            self._accept(attempt, user, tag)
            return attempt
        check = self._checks.get(digest)
        if check is not None and not self._pace.is_sooner(address, check.due_ms, now_ms):
            check.attempts.append(attempt)
            return attempt
        waiting: Sequence[Attempt] = ()
        if check is not None:  # it waits out the penalty of another address, and this one has none
            waiting = check.attempts
            self._drop(check)
        elif self._pace.lacks_place(address, now_ms):
            self._drop_slowed(now_ms)
        try:
            delay_ms = self._pace.admit(address, now_ms)
        except Busy as fault:
            self.busy += 1
            attempt.settle(None, fault)
            return attempt
        known = self._users.get(user)
        secrets = known.secrets if known is not None else ()
        check = self._checks[digest] = Check(
            user, secret, digest, secrets=secrets, hashes=self._hashes, delay_ms=delay_ms, now_ms=now_ms
        )
        check.attempts.extend((attempt, *waiting))
        if self._start_check is None:
            check.run()
            self.finish(check, now_ms)
        else:
            self._start_check(check)
        return attempt

    def _drop(self, check: Check) -> None:
        check.drop()
        del self._checks[check.digest]
        self._pace.leave(check.attempts[0].address)

    def _drop_slowed(self, now_ms: int) -> None:
        """Give up the check that would begin last, if it is slowed: an address that guesses nothing has its place."""
        last = max(self._checks.values(), key=lambda check: check.due_ms)
        if last.due_ms <= now_ms:
            return
        self._drop(last)
        self.busy += len(last.attempts)
        for attempt in last.attempts:
            attempt.settle(None, Busy(_TOO_MANY))

    def finish(self, check: Check, now_ms: int) -> None:
        """The hash of this check was computed: its log-ins are known."""
        if check.dropped:  # as it began
            return
        del self._checks[check.digest]
        first = check.attempts[0]
        self._pace.leave(first.address)
        found = check.found
        # Asked again: the users may have been changed meanwhile.
        if found is not None and self._has_secret(check.user, found.tag):
            # No more than the user has secrets: `take` forgets those that it has no more.
            self._known.setdefault(check.user, {})[check.digest] = found.tag
            for attempt in check.attempts:
                self._accept(attempt, check.user, found.tag)
            return
        self._pace.refuse(first.address, now_ms)
        self.refused += len(check.attempts)
        if self._on_refused is not None:
            name = check.user if check.user in self._users else None
            for address, count in Counter(attempt.address for attempt in check.attempts).items():
                self._on_refused(OnRefused(name, address, "wrong user or secret", count))
        for attempt in check.attempts:
            attempt.settle(None, Unauthenticated(_WRONG))

    def note_refused_token(self) -> None:
        """A request of HTTP has said a wrong token."""
        self.refused += 1
        if self._on_refused is not None:
            self._on_refused(OnRefused(None, None, "wrong token of HTTP"))

    def _known_tag(self, user: str, digest: bytes, secret: bytes) -> bytes | None:
        """The tag of the user's secret that this one is, if that is known without a hash."""
        found = None
        for each, tag in self._known.get(user, {}).items():
            if hmac.compare_digest(each, digest):
                found = tag
        known = self._users.get(user)
        for secret_of in known.secrets if known is not None else ():
            if not isinstance(secret_of, HashedSecret) and secret_of.matches(secret):
                found = secret_of.tag
        return found

    def _accept(self, attempt: Attempt, user: str, tag: bytes) -> None:
        self.accepted += 1
        attempt.settle(Login(self._rights[user], _SECRET + b":" + tag), None)

    def as_dict(self) -> dict[str, int]:
        """For `info`."""
        return {"accepted": self.accepted, "refused": self.refused, "busy": self.busy}


_SECRET: Final = b"secret"
_CERTIFICATE: Final = b"certificate"
_UID: Final = b"uid"
