"""The node itself, without sockets: datagrams, ticks and commands in; datagrams and events out.

It does what the text of the protocol says and as little else as possible. There is no liveness check, no
learning from anything but Hello, no special road for a known destination and no hop limit.
"""

import secrets
import time
from dataclasses import dataclass

from endpoint import Endpoint
from memory import Recent, Seen
from packet import (
    ALL_NODES, ANY_NODE, DATA, GOODBYE, HELLO, INFORM, KIND_NAMES, NO_FORWARD, PING, PONG,
    Malformed, Packet, emit, emit_inform, parse, parse_inform,
)

REMEMBER_SECONDS = 300.0
HELLO_SECONDS = 5.0
ANSWER_SECONDS = 10.0
PROBE_SECONDS = 60.0
MAX_SEEN = 200_000
MAX_NEIGHBORS = 256
MAX_ANSWERED = 256
MAX_PROBED = 256
MAX_INFORMS = 8
ECHO_PREFIX = b"echo:"


@dataclass
class Options:
    """What the text leaves to the implementer. `link_flags` are the flags of Hello and Inform."""

    echo: bool = False
    echo_to_sender: bool = True
    inform: bool = False
    answer_hello: bool = True
    link_flags: int = 0
    loopback_informs: bool = False


def judge(packet: Packet, netid: int) -> tuple[bool, bool]:
    """(deliver here, forward) of a packet that is seen for the first time."""
    mine = packet.dst in (netid, ANY_NODE, ALL_NODES)
    onward = packet.dst not in (netid, ANY_NODE) and not packet.no_forward
    return mine, onward


class Node:
    """State: `neighbors` maps netid to endpoint as observed; `unanswered` are the peers that are greeted.

    `send(endpoint, datagram)` returns None or the text of an error; `report(event)` takes a dict.
    """

    def __init__(self, netid, peers, options, send, report, clock=time.monotonic, nonce=lambda: secrets.randbits(32)):
        self.netid, self.peers, self.options = netid, tuple(dict.fromkeys(peers)), options
        self.send, self.report, self.clock, self.nonce = send, report, clock, nonce
        self.neighbors: dict[int, Endpoint] = {}
        self.unanswered = set(self.peers)
        self.seen = Seen(REMEMBER_SECONDS, MAX_SEEN)
        self.answered = Recent(ANSWER_SECONDS, MAX_ANSWERED)
        self.probed = Recent(PROBE_SECONDS, MAX_PROBED)
        self.next_hello = clock()

    # In

    def tick(self) -> None:
        """Greets the peers that have not answered, every five seconds. Call it at any pace."""
        now = self.clock()
        if now < self.next_hello:
            return
        self.next_hello = now + HELLO_SECONDS
        for peer in self.peers:
            if peer in self.unanswered:
                self.originate(HELLO, ANY_NODE, flags=self.options.link_flags, to=peer)

    def receive(self, source: Endpoint, datagram: bytes) -> None:
        event = {"event": "rx", "from": str(source), "hex": datagram.hex()}
        try:
            packet = parse(datagram)
        except Malformed as error:
            self.report({**event, "action": "drop", "reason": str(error)})
            return
        event |= describe(packet)
        if not self.seen.add(datagram, self.clock()):
            self.report({**event, "action": "duplicate"})
            return
        if packet.src == self.netid:
            self.report({**event, "action": "drop", "reason": "src is our own netid"})
            return
        mine, onward = judge(packet, self.netid)
        known = packet.kind in KIND_NAMES
        action = "+".join(["deliver"] * (mine and known) + ["forward"] * onward)
        reason = "unknown type" if mine else "not for us and NO_FORWARD"
        self.report({**event, "action": action} if action else {**event, "action": "drop", "reason": reason})
        if mine and known:
            self.deliver(packet, source)
        if onward:
            self.flood(datagram, "forward", source)

    # Delivery

    def deliver(self, packet: Packet, source: Endpoint) -> None:
        if packet.kind == HELLO:
            self.on_hello(packet, source)
        elif packet.kind == GOODBYE and self.neighbors.get(packet.src) == source:
            # Only from where the neighbor lives: a Goodbye that came by way of others cuts no link.
            self.remove_neighbor(packet.src, "goodbye")
            self.unanswered |= {source} & set(self.peers)
        elif packet.kind == PING:
            self.on_ping(packet, source)
        elif packet.kind == PONG:
            self.report({"event": "pong", "from": str(source), "src": name(packet.src)})
        elif packet.kind == INFORM:
            self.on_inform(packet)
        elif packet.kind == DATA:
            self.on_data(packet)

    def on_hello(self, packet: Packet, source: Endpoint) -> None:
        self.unanswered.discard(source)
        if self.neighbors.get(packet.src) == source:
            return
        if packet.dst == ANY_NODE or packet.no_forward:
            # Nobody relays such a Hello, so whoever was known at this endpoint goes by a new netid now.
            for other in [netid for netid, endpoint in self.neighbors.items() if endpoint == source]:
                self.remove_neighbor(other, "endpoint has a new netid")
        if packet.src in self.neighbors:
            self.remove_neighbor(packet.src, "netid has a new endpoint")
        if len(self.neighbors) >= MAX_NEIGHBORS:
            self.report({"event": "neighbor_refused", "netid": name(packet.src), "endpoint": str(source)})
            return
        self.neighbors[packet.src] = source
        self.report({"event": "neighbor_added", "netid": name(packet.src), "endpoint": str(source)})
        # Not without pause: two nodes that reach each other by two endpoints each would rebind and answer for ever.
        if self.options.answer_hello and self.answered.add(source, self.clock()):
            self.originate(HELLO, packet.src, flags=self.options.link_flags, to=source)
        if self.options.inform:
            self.inform_about(packet.src, source)

    def inform_about(self, newcomer: int, endpoint: Endpoint) -> None:
        others = [item for item in self.neighbors.items() if item[0] != newcomer][:MAX_INFORMS]
        flags = self.options.link_flags
        for other, other_endpoint in others:
            self.originate(INFORM, newcomer, emit_inform(other, other_endpoint), flags, endpoint)
            self.originate(INFORM, other, emit_inform(newcomer, endpoint), flags, other_endpoint)

    def on_ping(self, packet: Packet, source: Endpoint) -> None:
        direct = packet.dst == ANY_NODE or packet.no_forward
        self.originate(PONG, packet.src, flags=packet.flags & NO_FORWARD, to=source if direct else None)

    def on_inform(self, packet: Packet) -> None:
        netid, subject = parse_inform(packet.body)
        refusal = self.refusal(netid, subject)
        event = {"event": "informed", "by": name(packet.src), "netid": name(netid), "endpoint": str(subject)}
        self.report({**event, "acted": refusal is None} | ({"reason": refusal} if refusal else {}))
        if refusal is None:
            self.originate(HELLO, ANY_NODE, flags=self.options.link_flags, to=subject)

    def refusal(self, netid: int, subject: Endpoint) -> str | None:
        """Why an Inform is not acted on, else takes note of its subject: without these checks a forged one turns its readers on a victim."""
        address = subject.address
        if netid in (self.netid, ANY_NODE, ALL_NODES):
            return "subject netid is ours or special"
        if subject.port == 0 or address.is_unspecified or address.is_multicast or subject.host == "255.255.255.255":
            return "subject is no unicast endpoint"
        if address.is_loopback and not self.options.loopback_informs:
            return "subject is loopback"
        if self.neighbors.get(netid) == subject:
            return "already a neighbor"
        if not self.probed.add(subject, self.clock()):
            return "greeted less than a minute ago, or too many subjects in this minute"
        return None

    def on_data(self, packet: Packet) -> None:
        event = {"event": "data", "src": name(packet.src), "dst": name(packet.dst)}
        self.report({**event, "payload": packet.body.hex()})
        # An echo is not echoed, or two echoing nodes would never stop.
        if self.options.echo and not packet.body.startswith(ECHO_PREFIX):
            self.originate(DATA, packet.src, ECHO_PREFIX + packet.body)

    def remove_neighbor(self, netid: int, reason: str) -> None:
        endpoint = self.neighbors.pop(netid)
        self.report({"event": "neighbor_removed", "netid": name(netid), "endpoint": str(endpoint), "reason": reason})

    # Out

    def originate(self, kind, dst, body=b"", flags=0, to: Endpoint | None = None, nonce=None) -> None:
        """Sends a packet of our own to one endpoint, or to all neighbors when `to` is None."""
        nonce = self.nonce() if nonce is None else nonce
        datagram = emit(Packet(kind, flags, nonce, self.netid, dst, body))
        self.seen.add(datagram, self.clock())
        if to is None:
            self.flood(datagram, "originate", None)
        else:
            self.transmit(to, datagram, "originate")

    def flood(self, datagram: bytes, why: str, arrived_from: Endpoint | None) -> None:
        targets = dict.fromkeys(self.neighbors.values())
        if not self.options.echo_to_sender:
            targets.pop(arrived_from, None)
        for target in targets:
            self.transmit(target, datagram, why)

    def transmit(self, to: Endpoint, datagram: bytes, why: str) -> None:
        event = {"event": "tx", "to": str(to), "hex": datagram.hex(), "why": why}
        try:
            event |= describe(parse(datagram))
        except Malformed:
            pass  # A raw command may send anything.
        error = self.send(to, datagram)
        self.report(event if error is None else {**event, "event": "tx_failed", "reason": error})

    def goodbye(self) -> None:
        self.originate(GOODBYE, ALL_NODES)


def name(netid: int) -> str:
    return f"{netid:08x}"


def describe(packet: Packet) -> dict:
    return {
        "type": packet.kind_name, "flags": f"{packet.flags:02x}", "nonce": name(packet.nonce),
        "src": name(packet.src), "dst": name(packet.dst),
    }
