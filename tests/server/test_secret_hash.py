"""Secrets: hashes that are written and read back, and nothing of them in what is shown."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from naught_server import secret_hash
from naught_server.secret_hash import HashedSecret, PlainSecret, Secret, hash_of, hashes_in, matching, read_secret

SECRET = b"correct horse"
SALT = b"0123456789abcdef"
WRITTEN = hash_of(SECRET, SALT)


def test_a_hash_is_that_of_scrypt() -> None:
    found = hashlib.scrypt(SECRET, salt=SALT, n=1 << 14, r=8, p=1, dklen=32, maxmem=1 << 27)
    encoded = [base64.b64encode(each).decode().rstrip("=") for each in (SALT, found)]
    assert f"$scrypt$ln=14,r=8,p=1${encoded[0]}${encoded[1]}" == WRITTEN


def test_a_hash_matches_its_secret_only() -> None:
    hashed = HashedSecret(WRITTEN)
    assert hashed.matches(SECRET)
    assert not hashed.matches(SECRET + b"\0")
    assert hashed == HashedSecret(WRITTEN)
    assert hashed != HashedSecret(WRITTEN.replace("ln=14", "ln=13"))


def test_each_hash_has_its_salt() -> None:
    assert hash_of(SECRET) != hash_of(SECRET)


def test_a_secret_that_is_said_matches_itself_only() -> None:
    plain = PlainSecret(SECRET)
    assert plain.matches(SECRET)
    assert not plain.matches(SECRET + b"\0")
    assert plain == PlainSecret(SECRET)
    assert plain != PlainSecret(SECRET + b"!")
    assert SECRET not in b"".join(vars_of(plain)), "the secret itself is not kept"


def vars_of(kept: PlainSecret) -> list[bytes]:
    return [getattr(kept, name) for name in kept.__slots__]


def test_what_stands_for_a_secret_belongs_to_its_user() -> None:
    digests = {secret_hash.digest_of(SECRET, user) for user in ("", "a", "ab")}
    assert len(digests) == 3
    assert secret_hash.digest_of(b"bc", "a") != secret_hash.digest_of(b"c", "ab")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$scrypt$", "a hash is what"),
        (WRITTEN + "x" * 80, "a hash is what"),
        (f"$scrypt$ln=14,r=8,p=1${'A' * 13}${'A' * 43}", "a hash is what"),  # no base64 has this length
        (WRITTEN.replace("$scrypt$", "$scrypt2$"), None),
        (WRITTEN.replace("r=8", "r=0"), "out of range"),
        (WRITTEN.replace("p=1", "p=5"), "out of range"),
        (WRITTEN.replace("ln=14", "ln=0"), "out of range"),
        (WRITTEN.replace("p=1", "p=0"), "out of range"),
        (WRITTEN.replace("ln=14", "ln=21"), "out of range"),
        (WRITTEN.replace("ln=14,r=8", "ln=20,r=1"), "at most 64 MiB"),
        (WRITTEN.replace("ln=14", "ln=17"), "at most 64 MiB"),
        ("short", "8 to 4096 bytes, not 5"),
        ("a zero \0 in it", "no zero bytes"),
        ("s" * 4_097, "8 to 4096 bytes, not 4097"),
    ],
)
def test_what_is_no_secret(text: str, message: str | None) -> None:
    if message is None:
        assert isinstance(read_secret(text), PlainSecret)
        return
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        read_secret(text)
    assert text not in str(refused.value)


@pytest.mark.parametrize("cost", ["ln=1,r=1,p=1", "ln=19,r=1,p=4", "ln=16,r=8,p=1"])
def test_the_least_and_the_most_that_a_hash_may_cost(cost: str) -> None:
    written = WRITTEN.replace("ln=14,r=8,p=1", cost)
    assert isinstance(read_secret(written), HashedSecret)


def test_too_short_a_secret_has_no_hash() -> None:
    with pytest.raises(ValueError, match="8 to 4096 bytes, not 7"):
        hash_of(b"1234567")


def test_nothing_shows_a_secret() -> None:
    for each in (HashedSecret(WRITTEN), PlainSecret(SECRET)):
        assert re.fullmatch(r"<a (hashed )?secret>", repr(each))
        assert re.fullmatch(r"<a (hashed )?secret>", f"{each}")


def test_all_are_compared_and_as_many_hashes_computed_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    scrypt = hashlib.scrypt

    def counting(*args: object, **words: object) -> bytes:
        computed.append(words["n"])
        return scrypt(*args, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(secret_hash.hashlib, "scrypt", counting)
    monkeypatch.setattr(secret_hash, "_NOBODYS", HashedSecret(WRITTEN.replace("ln=14", "ln=4")))
    monkeypatch.setattr(secret_hash, "LOG2_N", 4)
    other = hash_of(b"another one", SALT)
    computed.clear()
    cheap = [HashedSecret(each.replace("ln=14", "ln=4")) for each in (WRITTEN, other)]
    for secrets in ([], [PlainSecret(SECRET)], cheap[:1], cheap):
        computed.clear()
        matching(secrets, SECRET, 2)
        assert len(computed) == 2, "as many for a user that there is not"
    both = [cheap[0], PlainSecret(b"another one")]
    real = [HashedSecret(WRITTEN), both[1]]
    assert matching(real, SECRET, 1) is real[0]
    assert matching(both, b"another one", 1) is both[1]
    assert matching(both, b"a third one", 1) is None


@pytest.mark.patches
def test_hashes_of_other_parameters_count_by_what_they_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time of a refusal would say whether there is a user, where its hash costs more or less than others."""
    spent: list[int] = []

    def scrypt(secret: bytes, *, n: int, r: int, p: int, dklen: int, **words: object) -> bytes:
        spent.append(n * r * p)
        return bytes(dklen)

    monkeypatch.setattr(secret_hash.hashlib, "scrypt", scrypt)
    costs = ("ln=14,r=8,p=1", "ln=16,r=8,p=1", "ln=10,r=8,p=1", "ln=15,r=16,p=1", "ln=13,r=8,p=4")
    users: list[list[Secret]] = [[HashedSecret(WRITTEN.replace(costs[0], each))] for each in costs]
    users += [[], [PlainSecret(SECRET)], [*users[0], *users[1], *users[2]]]
    most = max(hashes_in(each) for each in users)
    one = secret_hash.R * secret_hash.P << secret_hash.LOG2_N
    for secrets in users:
        spent.clear()
        assert matching(secrets, b"a wrong one", most) is None
        assert abs(sum(spent) - most * one) <= one / 2, secrets


def test_the_costs_by_number() -> None:
    assert (secret_hash.LOG2_N, secret_hash.R, secret_hash.P) == (14, 8, 1)
    assert (secret_hash.SECRET_BYTES_MIN, secret_hash.MEMORY_BYTES_MAX, secret_hash.LANES_MAX) == (8, 64 << 20, 4)


@pytest.mark.parametrize("change", ["ln=1", "ln=16", "r=1", "p=4"])
def test_parameters_at_their_bounds_are_taken(change: str) -> None:
    name = change.partition("=")[0]
    hashed = HashedSecret(re.sub(rf"\b{name}=\d+", change, WRITTEN))
    assert not hashed.matches(SECRET), "it is another hash, which can be computed"


@pytest.mark.parametrize("change", ["ln=0", "r=0", "p=0"])
def test_parameters_of_nothing_are_refused(change: str) -> None:
    name = change.partition("=")[0]
    with pytest.raises(ValueError, match="out of range"):
        HashedSecret(re.sub(rf"\b{name}=\d+", change, WRITTEN))


def test_secrets_at_their_bounds_are_taken() -> None:
    assert PlainSecret(b"8 bytes!").matches(b"8 bytes!")
    assert PlainSecret(b"s" * 4_096).matches(b"s" * 4_096)


def test_a_new_hash_has_a_salt_of_16_bytes_and_a_hash_of_32() -> None:
    *_, salt, found = hash_of(SECRET).split("$")
    sizes = [len(base64.b64decode(each + "=" * (-len(each) % 4))) for each in (salt, found)]
    assert sizes == [16, 32]
    assert len(secret_hash.digest_of(SECRET)) == len(secret_hash._KEY) == 32


def test_secrets_are_told_apart_in_a_set() -> None:
    hashed, plain = HashedSecret(WRITTEN), PlainSecret(SECRET)
    assert {hashed, HashedSecret(WRITTEN), plain, PlainSecret(SECRET)} == {hashed, plain}
    assert hashed != plain
    assert plain != hashed
    assert hashed != WRITTEN
    assert plain != SECRET
