"""What is measured, by name: each row of one kind of setup, for some or all contenders."""

import json
from dataclasses import dataclass
from typing import Callable

import measures
import relay
from machine import Failure, run

# Contenders of rows that only tell of floodmesh itself.
OURS = ("floodmesh", "naive")


@dataclass
class Row:
    """One measurement of many contenders."""

    # As chosen on the command line.
    name: str
    # What it tells, for people.
    what: str
    # How many seats its setups have; 0 for one that makes its own.
    shape: int
    # Seconds for one contender.
    seconds: float
    # Takes a setup and returns figures by name; for a shape of 0, takes the machine and the binary,
    # and returns such figures by contender.
    measure: Callable
    # The names of its contenders; `None` for all.
    contenders: tuple = None
    # Rows without which this one means nothing.
    after: tuple = ()
    # Measured in the first round alone.
    once: bool = False
    # Programs without which it is left out.
    needs: tuple = ()

    def takes(self, contender):
        mine = self.contenders is None or contender.name in self.contenders
        return mine and (contender.rows is None or self.name in contender.rows)


def _without_segmentation(setup):
    """TCP over wires that cannot cut datagrams themselves, as with many network cards."""
    ends = [(seat.node, wire) for seat in setup.seats for wire in seat.node.wires]
    try:
        for node, wire in ends:
            node.run("ethtool", "--features", wire, "tx-udp-segmentation", "off")
        return measures.tcp(setup)
    finally:
        for node, wire in ends:
            node.run("ethtool", "--features", wire, "tx-udp-segmentation", "on")


def _diamond(_machine, binary):
    """A diamond of four nodes under a stream of 1,000 packets a second: a link on its way dies
    without a word and comes back, then the node on the other way is killed."""
    try:
        said = run([binary, "lab", "--topology", "diamond", "--json"], timeout=90)
    except Failure as failure:
        # It ends with an error when a packet was lost; then it has printed its report all the same.
        if not failure.printed:
            raise
        said = failure.printed
    report = json.loads(said)
    return {"floodmesh": {name: report[name] for name in ("sent", "lost", "longest_gap_ms")}}


# In the order in which they are measured. Memory comes before and after the load that fills it.
ROWS = [
    Row("memory-idle", "memory before any load", 2, 0.1, measures.memory),
    Row("ping", "round trips, idle", 2, 2.2, measures.pings),
    Row("tcp", "TCP, 1 stream", 2, 3.2, measures.tcp),
    Row("tcp4", "TCP, 4 streams", 2, 3.2, lambda setup: measures.tcp(setup, streams=4)),
    Row("ping-loaded", "round trips while a TCP stream runs", 2, 3.5, measures.loaded_pings),
    Row("no-uso", "TCP over wires without UDP segmentation", 2, 4, _without_segmentation, OURS,
        needs=("ethtool",)),
    Row("memory-tcp", "memory after TCP", 2, 0.1, measures.memory, after=("tcp",)),
    Row("small", "UDP packets of 64 bytes", 2, 6.5, measures.small_packets),
    Row("memory-small", "memory after small packets too", 2, 0.1, measures.memory,
        after=("tcp", "small")),
    Row("line", "TCP through a relay", 3, 3.2, measures.tcp,
        ("floodmesh", "naive", "wireguard-go", "wireguard-go-2", "tinc", "tinc-none", "fastd",
         "fastd-null", "nebula")),
    Row("line-ping", "round trips through a relay", 3, 2.2, measures.pings, OURS),
    Row("line-small", "UDP packets of 64 bytes through a relay", 3, 6.5, measures.small_packets, OURS),
    Row("relay", "a relay on one core", 0, 20, relay.measure, needs=("rustc",)),
    Row("diamond", "a mesh that loses links and a relay", 0, 32, _diamond, once=True),
]


def chosen(names):
    """The rows of these names and what they need, in order; all of them without names."""
    known = {row.name: row for row in ROWS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Failure(f"no such row: {', '.join(unknown)} (there are {', '.join(known)})")
    wanted = set(names or known)
    for name in names:
        wanted.update(known[name].after)
    return [row for row in ROWS if row.name in wanted]
