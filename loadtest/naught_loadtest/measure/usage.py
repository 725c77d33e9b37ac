"""What a process has used, as the system reports it: processor time, waiting for a processor, and resident memory.

Linux answers from /proc. Elsewhere `ps` and `getrusage` answer some of the questions, and the others have no answer.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The state of a listening socket in /proc/net/tcp, and the flags of one in /proc/net/unix.
LISTENING = "0A"
ACCEPTING = "00010000"
# Programs that listen for a server that is elsewhere: their processor time is not the server's.
FORWARDERS = ("docker-proxy", "rootlessport", "ssh", "kubectl", "socat")


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor time of a process since it started, and the time in which it wanted a processor and had none."""

    # Seconds of all threads together; None where the system does not report them.
    cpu_s: float | None
    wait_s: float | None

    @classmethod
    def now(cls, pid: int) -> Usage:
        """What the system reports at this moment."""
        return cls(cpu_s(pid), waited_s(pid))

    def __sub__(self, before: Usage) -> Usage:
        return Usage(_difference(self.cpu_s, before.cpu_s), _difference(self.wait_s, before.wait_s))


def _difference(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else max(0.0, now - before)


def waited_s(pid: int) -> float | None:
    """Seconds that threads of a process spent ready to run while others had the processor. None if unknown.

    Time in which a limit of its control group stopped the process counts too.
    """
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return None
    waits_ns = []
    for thread in threads:
        # A thread that has ended since does not wait.
        with contextlib.suppress(OSError, IndexError, ValueError):
            waits_ns.append(int((thread / "schedstat").read_text().split()[1]))
    return sum(waits_ns) / 1e9 if waits_ns else None


def steal_s() -> float | None:
    """Seconds that the machine below this virtual one gave to others, of all processors together. None if unknown."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
        return int(fields[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None


def listening_pid(host: str, port: int, path: str | None = None) -> int | None:
    """The process on this machine that listens on a loopback port or a Unix socket. None where none is found."""
    if path is None and host not in LOOPBACK:
        return None
    inodes = _listening_inodes(port) if path is None else _unix_inodes(path)
    wanted = {f"socket:[{inode}]" for inode in inodes}
    if not wanted:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        if process_name(int(process.name)) in FORWARDERS:
            continue
        with contextlib.suppress(OSError):
            for entry in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(entry) in wanted:
                        return int(process.name)
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes


def _unix_inodes(path: str) -> set[str]:
    with contextlib.suppress(OSError):
        lines = Path("/proc/net/unix").read_text().splitlines()[1:]
        return {line.split()[6] for line in lines if line.endswith(f" {path}") and line.split()[3] == ACCEPTING}
    return set()


def cpu_s(pid: int) -> float | None:
    """Processor time of all threads of a process, in seconds. None where the system does not report it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def process_name(pid: int) -> str:
    """The name of a process on this machine; empty where there is none or the system does not report it."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def resident_bytes(pid: int) -> int:
    """Resident memory of a process now. RuntimeError where the system does not report it."""
    resident = _status_bytes(pid, "VmRSS")
    if resident is None:
        done = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=False)
        resident = int(done.stdout.strip() or 0) * 1024
    if not resident:
        raise RuntimeError(f"the resident memory of process {pid} cannot be read")
    return resident


def own_peak_bytes() -> int:
    """The largest resident memory that this process ever had."""
    peak = _status_bytes(os.getpid(), "VmHWM")
    if peak is not None:
        return peak
    # Only the second choice: on Linux this figure starts at the parent's memory when it started this process.
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _status_bytes(pid: int, name: str) -> int | None:
    """One figure of /proc/PID/status, which has it in KiB. None where there is no such file or no such line."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
