#!/usr/bin/env python3
"""A strict, literal and minimal node of the 0xAC netid protocol; see README.md."""

import argparse
import json
import os
import select
import signal
import socket
import sys
import time

from commands import Quit, run_command
from endpoint import Endpoint, from_sockaddr, parse_endpoint, to_sockaddr
from node import Node, Options, name
from packet import ALL_NODES, ANY_NODE

MAX_DATAGRAM = 65_535
MAX_LINE = 256 * 1024
BATCH = 64
TICK_SECONDS = 0.1


class Sockets:
    """One UDP socket per address family at most. Errors: OSError when an address cannot be bound."""

    def __init__(self, listen: list[Endpoint]) -> None:
        self.by_family: dict[int, socket.socket] = {}
        families = [socket.AF_INET6 if ":" in at.host else socket.AF_INET for at in listen]
        if len(set(families)) != len(families):
            raise OSError("listen on one address per family only")
        for family, at in zip(families, listen):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            self.by_family[family] = sock
            sock.setblocking(False)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, socket.AF_INET in families)
            sock.bind(to_sockaddr(at, family))

    def all(self) -> list[socket.socket]:
        return list(self.by_family.values())

    def send(self, to: Endpoint, datagram: bytes) -> str | None:
        wanted = socket.AF_INET6 if ":" in to.host else socket.AF_INET
        # A lone IPv6 socket reaches IPv4 by mapped addresses; there is no such way back.
        family = wanted if wanted in self.by_family else socket.AF_INET6
        if family not in self.by_family:
            return "no socket of this address family"
        try:
            self.by_family[family].sendto(datagram, to_sockaddr(to, family))
        except OSError as error:
            return str(error)
        return None

    def close(self) -> None:
        for sock in self.all():
            sock.close()


def receive_batch(sock: socket.socket, node: Node) -> None:
    for _ in range(BATCH):
        try:
            datagram, source = sock.recvfrom(MAX_DATAGRAM)
        except OSError:
            return
        node.receive(from_sockaddr(source), datagram)


def step(node: Node, sockets: Sockets, timeout: float, extra: tuple[int, ...] = ()) -> bool:
    """One round of the loop. True if one of the extra descriptors can be read."""
    node.tick()
    ready, _, _ = select.select([*sockets.all(), *extra], [], [], timeout)
    for sock in sockets.all():
        if sock in ready:
            receive_batch(sock, node)
    return any(fd in ready for fd in extra)


class Lines:
    """Splits what arrives on a descriptor into lines; one longer than MAX_LINE is dropped."""

    def __init__(self, fd: int) -> None:
        self.fds: tuple[int, ...] = (fd,)
        self.buffer = b""

    def read(self) -> list[bytes]:
        try:
            chunk = os.read(self.fds[0], 65_536)
        except OSError:
            chunk = b""
        if not chunk:
            self.fds = ()  # The end of the commands does not end the node.
        *lines, self.buffer = (self.buffer + chunk).split(b"\n")
        if len(self.buffer) > MAX_LINE:
            self.buffer = b""
        return [line for line in lines if line.strip()]


class Reporter:
    """Writes events as JSON lines to standard output, and to the log file if there is one."""

    def __init__(self, netid: int, log: str | None) -> None:
        self.node, self.start = name(netid), time.monotonic()
        self.files = [sys.stdout] + ([open(log, "w", encoding="utf-8")] if log else [])

    def __call__(self, event: dict) -> None:
        stamp = {"time": round(time.monotonic() - self.start, 6), "node": self.node}
        line = json.dumps({**event, **stamp})
        for file in self.files:
            file.write(line + "\n")
            file.flush()


def run(node: Node, sockets: Sockets, duration: float) -> None:
    stopping = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: stopping.append(signal.Signals(got).name))
    bound = [str(from_sockaddr(sock.getsockname())) for sock in sockets.all()]
    node.report({"event": "start", "netid": name(node.netid), "listen": bound, "pid": os.getpid()})
    end = node.clock() + duration
    lines = Lines(0)
    silent = False
    try:
        while not stopping and node.clock() < end:
            if step(node, sockets, TICK_SECONDS, lines.fds):
                for line in lines.read():
                    run_command(node, line)
    except Quit as quit_:
        stopping.append("quit")
        silent = quit_.silent
    if not silent:
        node.goodbye()
    node.report({"event": "stop", "reason": stopping[0] if stopping else "duration"})


def hex_within(low: int, high: int):
    def convert(text: str) -> int:
        value = int(text, 16)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    convert.__name__ = f"hex number {low:x}..{high:x}"
    return convert


def arguments(argv: list[str] | None) -> argparse.Namespace:
    switch = argparse.BooleanOptionalAction
    parser = argparse.ArgumentParser(description="A strict literal node of the 0xAC netid protocol.")
    add = parser.add_argument
    add("--netid", type=hex_within(ANY_NODE + 1, ALL_NODES - 1), required=True, metavar="HEX")
    add("--listen", type=parse_endpoint, required=True, action="append", metavar="ADDR:PORT",
        help="may be given once for IPv4 and once for IPv6; port 0 takes a free one")
    add("--peer", type=parse_endpoint, default=[], action="append", metavar="ADDR:PORT")
    add("--log", metavar="FILE", help="write the events there, too")
    add("--duration", type=float, default=60.0, metavar="SECONDS")
    add("--echo", action="store_true", help="answer Data with Data")
    add("--echo-to-sender", action=switch, default=True, help="forward also to where a packet came from")
    add("--inform", action=switch, default=False, help="tell neighbors about each other")
    add("--answer-hello", action=switch, default=True, help="answer the Hello of a new neighbor")
    add("--link-flags", type=hex_within(0, 0xFF), default=0, metavar="HEX", help="flags of Hello and Inform")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    try:
        sockets = Sockets(options.listen)
        report = Reporter(options.netid, options.log)
    except OSError as error:
        print(f"strict_node: {error}", file=sys.stderr)
        return 1
    loopback = any(at.address.is_loopback for at in options.listen)
    habits = Options(options.echo, options.echo_to_sender, options.inform, options.answer_hello,
                     options.link_flags, loopback)
    try:
        run(Node(options.netid, options.peer, habits, sockets.send, report), sockets, options.duration)
    except BrokenPipeError:
        # Nobody reads the events any more. Standard output must not complain a second time at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
