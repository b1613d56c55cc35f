"""A relay alone on one core, with more load than it can take, to one neighbor and to four."""

import json
import os
import sys
from pathlib import Path

from floodmesh import READY_SECONDS, is_ready
from machine import TICKS_PER_SECOND, Failure, run, say, wait_until

HERE = Path(__file__).resolve().parent
SECONDS = 2.5
PORT = 44204
GENERATOR_PORT = 40000
FAR_ENDS = (1, 4)
# Below this share of its core the relay was not what was measured, but who else used the core.
LEAST_BUSY = 0.85


def measure(machine, binary):
    """Thousands of messages per second sent, by contender: floodmesh, and the plainest relay.

    Load and far ends have another core than the relay, whose core also does the kernel's work of
    delivering what it sends.
    """
    if os.cpu_count() < 2:
        raise Failure("a relay alone on its core needs a second core for its load")
    plain = machine.directory / "sendto_relay"
    source = HERE / "sendto_relay.rs"
    run(["rustc", "--edition", "2021", "-O", "-o", plain, source], timeout=60)
    core = os.cpu_count() - 1
    figures = {"floodmesh": {}, "sendto": {}}
    for far_ends in FAR_ENDS:
        for index, (name, taken) in enumerate(figures.items()):
            network = f"198.18.{200 + 2 * far_ends + index}"
            place = _Place(machine, f"{name}-{far_ends}", network, far_ends)
            command = place.floodmesh(binary) if name == "floodmesh" else place.sendto(plain)
            process = place.relay.start(*command, core=core)
            if name == "floodmesh" and not wait_until(lambda: is_ready(process), READY_SECONDS):
                raise Failure("the relay is not ready", process.said())
            used = -process.cpu_seconds() - _interrupted_seconds(core)
            came = place.load()
            used += process.cpu_seconds() + _interrupted_seconds(core)
            process.end()
            taken[f"k{far_ends}_kpps"] = came["delivered"] / 1e3
            # Both show whether the relay was the limit: more came than it took, and it never slept.
            taken[f"k{far_ends}_offered_kpps"] = came["offered"] / 1e3
            taken[f"k{far_ends}_busy"] = busy = used / came["loaded_seconds"]
            if busy < LEAST_BUSY:
                say(f"relay, {name} to {far_ends}: its core was its own for {busy:.0%} alone")
    return figures


def _interrupted_seconds(core):
    """What a core has done in interrupts so far: a sender's core also delivers what it sent, which
    many kernels count to no process."""
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{core}":
            return (int(words[6]) + int(words[7])) / TICKS_PER_SECOND
    raise Failure(f"there is no core {core}")


class _Place:
    """A relay and, in another namespace, its load and its far ends."""

    def __init__(self, machine, name, network, far_ends):
        self.relay = machine.add_node(f"relay-{name}")
        self.other = machine.add_node(f"load-{name}")
        machine.add_wire(self.relay, self.other, network)
        self.address, self.far = f"{network}.1", f"{network}.2"
        self.far_ends = far_ends
        self.directory = machine.directory / f"relay-{name}"
        self.directory.mkdir()

    def ends(self):
        return [f"{self.far}:{GENERATOR_PORT + number}" for number in range(self.far_ends + 1)]

    def floodmesh(self, binary):
        """All ends are trusted, so that they need not answer Pings."""
        return [binary, "up", "--plain", "--mode", "none", "--netid", "1", "--name", "relay",
                "--listen", f"{self.address}:{PORT}", "--log", "warn",
                "--state-dir", self.directory, "--control", self.directory / "control",
                *(word for end in self.ends() for word in ("--trust-unproved", end))]

    def sendto(self, plain):
        return [sys.executable, HERE / "bound.py", f"{self.address}:{PORT}", plain,
                *self.ends()[1:]]

    def load(self):
        load = self.other.start(sys.executable, HERE / "load.py", self.far,
                                f"{self.address}:{PORT}", self.far_ends, SECONDS, core=0)
        try:
            if load.popen.wait(SECONDS + 10) != 0:
                raise Failure("the load of the relay failed", load.said())
        finally:
            load.end()
        return json.loads(load.log.read_text())
