"""What is measured against each other: the bare wire, floodmesh in several manners, its peers.

A contender runs one daemon on each seat. Seats sit in a row, each wired to the next; the first is
where load comes from, the last where it goes to. In a pair there are two; in a line of three the
one in the middle relays.
"""

import os
import shutil
from dataclasses import dataclass, field

from machine import Failure, Node, run, wait_until

# Bytes of the largest packet of every device, so that all cut a stream into the same packets.
MTU = 1400
# Seconds that a tunnel may take until the first ping comes through.
PATIENCE = 15.0


@dataclass
class Seat:
    """Where one daemon runs."""

    node: Node
    # Counted from 1.
    number: int
    # Its address in the tunnel, and the tunnel's network in front of that address's last number.
    address: str
    network: str
    # Its address on the wire to the seat before and to the seat behind it.
    toward: dict = field(default_factory=dict)

    def device(self):
        """A name for its device that no other seat has: some daemons name files by it."""
        return f"b{os.getpid()}-{self.network.split('.')[2]}-{self.number}"

    def file(self, name):
        """A file of this seat's daemon."""
        return self.directory() / name

    def directory(self):
        directory = self.node.machine.directory / self.node.name
        directory.mkdir(exist_ok=True)
        return directory


class Contender:
    """One way to get packets from the first seat to the last."""

    # As chosen on the command line.
    name = ""
    # As shown in tables.
    title = ""
    # Programs without which it cannot run, and how to get them.
    needs = ()
    install = ""
    # The command whose first line tells the version.
    version = ()
    # Whether it is another project's daemon.
    is_peer = False
    # The rows that it is measured in; `None` for all that take it.
    rows = None

    def missing(self):
        """The programs that it lacks here."""
        return [program for program in self.needs if not shutil.which(program)]

    def version_line(self):
        """What it says of its version; nothing for what has none of its own."""
        try:
            return run(self.version).strip().splitlines()[0] if self.version else ""
        except Failure:
            return f"{self.name}, version unknown"

    def start(self, seats):
        """Starts its daemons, one for each seat, and returns their processes in that order."""
        raise NotImplementedError

    def address(self, seats):
        """The address by which the first seat reaches the last."""
        return seats[-1].address


class Raw(Contender):
    """The veth itself: what the kernel can do here."""

    name = "raw"
    title = "raw veth"

    def start(self, seats):
        return []

    def address(self, seats):
        return seats[-1].toward[len(seats) - 1]


class Setup:
    """A contender that runs."""

    def __init__(self, machine, contender, shape, index):
        """`shape` is how many seats there are; `index` tells its networks from those of others."""
        self.contender = contender
        self.seats = _seats(machine, contender, shape, index)
        self.processes = contender.start(self.seats)
        self.client = self.seats[0].node
        self.server = self.seats[-1].node
        self.address = contender.address(self.seats)
        self.iperf = None

    def await_path(self):
        """Waits for the first answer, then serves iperf3 at the far end."""
        if not wait_until(self._answers, PATIENCE, interval=0.1):
            said = "\n".join(process.said() for process in self.processes)
            raise Failure(f"{self.contender.name}: no way through after {PATIENCE:.0f} s", said)
        self.serve()

    def serve(self):
        """Serves iperf3 at the far end, anew if it is served already."""
        if self.iperf:
            self.iperf.end()
        self.iperf = self.server.start("iperf3", "--server", "--bind", self.address)

    def _answers(self):
        self.check()
        try:
            self.client.run("ping", "-c", 1, "-W", 1, "-q", self.address)
        except Failure:
            return False
        return True

    def check(self):
        """Fails when a daemon has ended."""
        for process in self.processes:
            if not process.is_running():
                raise Failure(f"{self.contender.name}: {process.name} has ended", process.said())

    def cpu_seconds(self):
        """CPU that its daemons have used so far."""
        return sum(process.cpu_seconds() for process in self.processes)

    def resident_mib(self):
        """Memory of its largest daemon; none without a daemon."""
        return max((process.resident_mib() for process in self.processes), default=None)


def _seats(machine, contender, shape, index):
    # 198.18.0.0/15 is set aside for benchmarks (RFC 2544): below for wires, above for tunnels.
    network = f"198.19.{index}"
    seats = []
    for number in range(1, shape + 1):
        node = machine.add_node(f"{contender.name}-{number}")
        seats.append(Seat(node, number, f"{network}.{number}", network))
    for place, (one, other) in enumerate(zip(seats, seats[1:])):
        wire = f"198.18.{index * 4 + place}"
        machine.add_wire(one.node, other.node, wire)
        one.toward[other.number] = f"{wire}.1"
        other.toward[one.number] = f"{wire}.2"
    return seats
