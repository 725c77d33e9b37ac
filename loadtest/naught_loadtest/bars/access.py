"""The bars of access: the load of a server without users, on one whose clients have logged in, and on one with TLS.

Who a client is gets decided when it logs in, so a request of a user that is bound to no prefixes should cost what it
costs without users: the bar allows 5 %. TLS encrypts and decrypts each chunk, which has its price; it is measured and
shown, and nothing is asked of it.

The three servers are measured in interleaved rounds at each pipeline depth. The certificate is made for the
measurement by the program `openssl`; where there is none, TLS is left out and the report says so.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from naught.credentials import SECRET_VARIABLE
from naught_loadtest.bars.bar import INVALID, REPORTED, Bar, Bench, at_least, skipped
from naught_loadtest.drivers.servers import MissingProgramError, configured, naught_server
from naught_loadtest.measure.rounds import Contender, Setting, Table, base_plan, microseconds, run_rounds

GROUP = "access"
SETTINGS = [Setting("depth 1", 1), Setting("depth 16", 16), Setting("depth 100", 100)]
OFF, USERS, TLS = "naught", "naught, users", "naught, TLS"
# The least part of the throughput without users that a server with users has.
LEAST_WITH_USERS = 0.95
USER = "load"


def measure(bench: Bench) -> list[Bar]:
    """Two bars for each pipeline depth: with users, and with TLS."""
    base = base_plan(bench.cores, duration_s=1.0 if bench.quick else 3.0, warmup_s=0.3, seed=bench.seed)

    with contextlib.ExitStack() as stack:
        contenders = [stack.enter_context(each(bench.cores.server)) for each in (_without, _with_users)]
        missing = ""
        try:
            contenders.append(stack.enter_context(_with_tls(bench.cores.server)))
        except MissingProgramError as error:
            missing = str(error)
        table = run_rounds(contenders, SETTINGS, bench.rounds, base, bench.say_result)
    bars = [bar(table, setting.name, USERS) for setting in SETTINGS]
    if missing:
        return [*bars, skipped(GROUP, "TLS against none", missing)]
    return [*bars, *(bar(table, setting.name, TLS) for setting in SETTINGS)]


@contextlib.contextmanager
def _without(cores: list[int]) -> Iterator[Contender]:
    with naught_server(cores) as server:
        yield Contender(OFF, server.url, server.pid, server.version)


@contextlib.contextmanager
def _with_users(cores: list[int]) -> Iterator[Contender]:
    """A server with one user, who may change all counters. Its secret is in the environment while the block runs."""
    secret = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory(prefix="naught-loadtest-") as folder, _environment(SECRET_VARIABLE, secret):
        file = Path(folder) / "secret"
        file.touch(mode=0o600)
        file.write_text(secret)
        with (
            configured(f'[users.{USER}]\nrole = "write"\nsecret_file = "{file}"\n') as arguments,
            naught_server(cores, arguments, user=USER) as server,
        ):
            yield Contender(USERS, server.url, server.pid, server.version)


@contextlib.contextmanager
def _with_tls(cores: list[int]) -> Iterator[Contender]:
    """A server with TLS and without users. MissingProgramError where no certificate can be made."""
    with tempfile.TemporaryDirectory(prefix="naught-loadtest-") as folder:
        certificate, key = make_certificate(Path(folder))
        arguments = ("--tls-certificate", str(certificate), "--tls-key", str(key))
        with naught_server(cores, arguments, authority=certificate) as server:
            yield Contender(TLS, server.url, server.pid, server.version)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key. MissingProgramError without `openssl`."""
    program = shutil.which("openssl")
    if program is None:
        raise MissingProgramError("openssl is not installed, which makes the certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode:
        raise MissingProgramError(f"openssl makes no certificate: {made.stderr.strip()[-200:]}")
    return certificate, key


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """A variable of this process, and of those it starts, while the block runs."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def bar(table: Table, setting: str, contender: str) -> Bar:
    """The bar of one depth, with users or with TLS, against neither."""
    mine, its = (setting, contender), (setting, OFF)
    ratio = table.ratio(mine, its)
    core = table.core_ratio(mine, its)
    limited = [name for _, name in (mine, its) if table.limited(setting, name)]
    failures = table.failures()
    notes = [
        f"{name:<14} {table.throughput(setting, name):>11,.0f}/s,"
        f" CPU {microseconds(table.cpu_us(setting, name))} an operation"
        for name in (contender, OFF)
    ]
    if core is not None:
        notes.append(f"ratio per core-second of the server {core}")
    if limited:
        notes.append(f"the generator was the limit of {' and of '.join(limited)}")
    asked = LEAST_WITH_USERS if contender == USERS else None
    judged = REPORTED if asked is None else at_least(ratio.median, asked)
    return Bar(
        GROUP,
        f"{setting}, {contender.partition(', ')[2]} against neither",
        "" if asked is None else f"at least {asked:g}x",
        str(ratio),
        INVALID if failures or limited else judged,
        {
            "ratio": ratio.to_json(),
            "core_ratio": core.to_json() if core else None,
            "per_s": round(table.throughput(*mine), 1),
            "without_per_s": round(table.throughput(*its), 1),
            "cpu_us": table.cpu_us(*mine),
            "without_cpu_us": table.cpu_us(*its),
        },
        notes + failures,
        failures,
    )
