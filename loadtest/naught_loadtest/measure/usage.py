"""What a process has used, as the system reports it: processor time and resident memory.

Linux answers from /proc. Elsewhere `ps` and `getrusage` answer some of the questions, and the others have no answer.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path


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
