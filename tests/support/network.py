"""Two machines with a cable between them, in one: network namespaces, and a relay that breaks what passes.

    with network() as net:
        net.run_here(function)        # the clients' machine: a thread is moved there
        net.prefix                    # begins a command that is to run on the other machine, at net.address
        net.cut("to the server")      # its packets go nowhere, and nobody is told
        net.disturb(seed)             # packets are delayed, doubled, lost and reordered

A namespace lasts as long as a process in it, so nothing is left behind when the test is killed. The cable is two
pairs of virtual interfaces that end in a third namespace, where the relay passes every frame on by hand. So a
direction can be cut without either end noticing, and the kernel need not be able to break packets (not every one has
netem).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

Result = TypeVar("Result")

SERVER_ADDRESS: Final = "192.0.2.1"
CLIENT_ADDRESS: Final = "192.0.2.2"
"""Of the range for documentation: nothing else has them, and they exist in the namespaces only."""

_CLONE_NEWNET: Final = 0x40000000
_ETH_P_ALL: Final = 3
_SIOCETHTOOL: Final = 0x8946
_OFFLOADS: Final = (0x17, 0x1F, 0x22, 0x24, 0x2C)
"""ETHTOOL_STXCSUM, STSO, SUFO, SGSO, SGRO: the relay needs frames as they would be on a cable."""


def _set_namespace(path: str) -> None:
    """Move this thread into a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class _Machine:
    """A namespace, and the process that keeps it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready; exec sleep 600"], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    @property
    def path(self) -> str:
        return f"/proc/{self.process.pid}/ns/net"

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", f"--net={self.path}"]

    def ip(self, *arguments: str) -> None:
        subprocess.run([*self.prefix, "ip", *arguments], check=True, capture_output=True, text=True)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def why_not() -> str | None:
    """Why there can be no namespaces here; None where there can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    for program in ("ip", "unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"{program} is missing"
    tried = subprocess.run(
        ["unshare", "--net", "sh", "-c", "ip link add veth-a type veth peer name veth-b"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    return None if tried.returncode == 0 else f"no network namespace: {tried.stderr.strip() or tried.returncode}"


class _Relay(threading.Thread):
    """Passes frames between the two ends of the cable, and does to them what it is told."""

    def __init__(self, path: str) -> None:
        super().__init__(name="relay")
        self._path = path
        self.cut: set[str] = set()  # directions in which nothing passes
        self.random: random.Random | None = None  # where frames are disturbed: by what
        self.counts = dict.fromkeys(("passed", "cut", "lost", "doubled", "delayed"), 0)
        self._over = threading.Event()
        self._ready = threading.Event()
        self._failed: BaseException | None = None

    def begin(self) -> None:
        self.start()
        self._ready.wait()
        if self._failed is not None:
            raise self._failed

    def end(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        try:
            _set_namespace(self._path)
            with _packets("s1") as to_server, _packets("c1") as to_client:
                self._ready.set()
                self._pass_on(to_server, to_client)
        except BaseException as fault:
            self._failed = fault
            self._ready.set()

    def _pass_on(self, to_server: socket.socket, to_client: socket.socket) -> None:
        late: list[tuple[float, int, socket.socket, bytes]] = []
        number = 0
        while not self._over.is_set():
            timeout = 0.02 if not late else max(0.0, min(0.02, late[0][0] - time.monotonic()))
            readable, _, _ = select.select([to_server, to_client], [], [], timeout)
            for source in readable:
                frame, (_, _, kind, *_) = source.recvfrom(1 << 16)
                if kind == socket.PACKET_OUTGOING:  # what the relay has sent
                    continue
                way, out = ("to the server", to_server) if source is to_client else ("to the client", to_client)
                for delay_s in self._fate(way):
                    number += 1
                    heapq.heappush(late, (time.monotonic() + delay_s, number, out, frame))
            while late and late[0][0] <= time.monotonic():
                _, _, out, frame = heapq.heappop(late)
                with contextlib.suppress(OSError):
                    out.send(frame)
                    self.counts["passed"] += 1

    def _fate(self, way: str) -> list[float]:
        """When copies of a frame are passed on, in seconds from now."""
        draw = self.random
        if way in self.cut:
            self.counts["cut"] += 1
            return []
        if draw is None:
            return [0.0]
        chance = draw.random()
        if chance < 0.03:
            self.counts["lost"] += 1
            return []
        if chance < 0.10:
            self.counts["doubled"] += 1
            return [0.0, draw.uniform(0, 0.02)]
        if chance < 0.30:  # later ones overtake it
            self.counts["delayed"] += 1
            return [draw.uniform(0.001, 0.03)]
        return [0.0]


def _packets(interface: str) -> socket.socket:
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    found.bind((interface, 0))
    return found


def _without_offloads(path: str, interface: str) -> None:
    """Have an interface send frames that are whole: with checksums, and no longer than a cable takes."""

    def turn_off() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            for command in _OFFLOADS:
                value = ctypes.create_string_buffer(struct.pack("II", command, 0))
                request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
                with contextlib.suppress(OSError):  # there is no UDP fragmentation in newer kernels
                    fcntl.ioctl(asking, _SIOCETHTOOL, request)

    _run_in(path, turn_off)


def _run_in(path: str, function: Callable[[], Result]) -> Result:
    """Run a function in a namespace: in a thread of its own, as only threads can move."""
    results: list[Result] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            _set_namespace(path)
            results.append(function())
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if faults:
        raise faults[0]
    return results[0]


class Network:
    """The two machines and their cable."""

    def __init__(self, here: _Machine, there: _Machine, relay: _Relay) -> None:
        self._here = here
        self._there = there
        self._relay = relay
        self.prefix = there.prefix
        self.address = SERVER_ADDRESS
        self.counts = relay.counts

    def run_here(self, function: Callable[[], Result]) -> Result:
        """Run a function on the clients' machine. What it raises is raised."""
        return _run_in(self._here.path, function)

    def run_there(self, function: Callable[[], Result]) -> Result:
        """Run a function on the server's machine, whose cable nobody needs to reach it."""
        return _run_in(self._there.path, function)

    def cut(self, *ways: str) -> None:
        """Let nothing pass "to the server", "to the client"."""
        self._relay.cut.update(ways)

    def mend(self) -> None:
        """Let everything pass as it came."""
        self._relay.cut.clear()
        self._relay.random = None

    def disturb(self, seed: int) -> None:
        """Lose, double, delay and reorder packets."""
        self._relay.random = random.Random(seed)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Two machines for a test."""
    with contextlib.ExitStack() as ending:
        here, there, cable = (_Machine() for _ in range(3))
        for each in (here, there, cable):
            ending.callback(each.end)
        for machine, name, address in ((there, "s", SERVER_ADDRESS), (here, "c", CLIENT_ADDRESS)):
            cable.ip("link", "add", f"{name}1", "type", "veth", "peer", "name", f"{name}0",
                     "netns", str(machine.process.pid))  # fmt: skip
            cable.ip("link", "set", f"{name}1", "up")
            machine.ip("addr", "add", f"{address}/24", "dev", f"{name}0")
            machine.ip("link", "set", f"{name}0", "up")
            machine.ip("link", "set", "lo", "up")
            _without_offloads(machine.path, f"{name}0")
        relay = _Relay(cable.path)
        relay.begin()
        ending.callback(relay.end)
        yield Network(here, there, relay)
