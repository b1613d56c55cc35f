"""The second implementation as a program: a member that joins by a token, over UDP on IPv4.

Commands are JSON objects on standard input, events JSON objects in the log; see README.md here.
"""

import argparse
import json
import os
import select
import signal
import socket
import struct
import sys
import time

import authority
import sealed
from endtoend import ALL_NODES
from handshake import AES, CHACHA, Local
from member import Member, name
from packet import echo_request

TICK_SECONDS = 0.05


def endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A member of a sealed mesh, from wire/SEALED.md alone.")
    add = parser.add_argument
    add("--token", required=True, metavar="FILE", help="an invitation")
    add("--netid", type=lambda text: int(text, 16), required=True, metavar="HEX")
    add("--listen", type=endpoint, required=True, metavar="ADDR:PORT")
    add("--peer", type=endpoint, default=[], action="append", metavar="ADDR:PORT", help="dialed; repeatable")
    add("--identity", metavar="FILE", help="its private keys; drawn anew without")
    add("--authority", default="", metavar="TEXT", help="ma1-...: nobody comes up without a certificate by this key")
    add("--certificate", metavar="FILE", help="its own, as text")
    add("--revocations", metavar="FILE", help="a revocation list, as text")
    add("--aes", action="store_true", help="offer AES-256-GCM first, as whoever has instructions for it")
    add("--log", required=True, metavar="FILE")
    add("--duration", type=float, default=60.0, metavar="SECONDS")
    return parser.parse_args(argv)


def command(member: Member, line: bytes) -> None:
    """Carries out one line. Errors: ValueError, KeyError."""
    asked = json.loads(line)
    dst = int(asked["dst"], 16)
    if asked["send"] == "data":
        member.send_data(dst, bytes.fromhex(asked["payload"]))
    elif asked["send"] == "echo":
        # To everybody on the link where it is for all nodes, else to the address that holds the netid (R65).
        prefix = bytes.fromhex(asked["prefix"])
        source, target = (prefix + struct.pack(">4xI", at) for at in (member.local.netid, dst))
        everybody = bytes.fromhex("ff02") + bytes(13) + b"\1"
        member.send_data(dst, echo_request(source, everybody if dst == ALL_NODES else target))
    elif asked["send"] == "ping":
        member.send_ping(dst)
    elif asked["send"] == "rekey":
        for at, netid in member.live().items():
            if netid == dst:
                member.links[at].rekey(member.clock())
    else:
        raise ValueError(asked["send"])


def text_in(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def member_of(options) -> Local:
    """The node that the options describe. Errors: OSError, ValueError."""
    token = sealed.token(text_in(options.token).strip())
    mesh = sealed.Mesh(token["secret"], token["mesh_id"], token["epoch"])
    keys = sealed.keys_of(text_in(options.identity)) if options.identity else (os.urandom(32), os.urandom(32))
    boot = struct.pack(">I4s", int(time.time()), os.urandom(4))
    local = Local(mesh, options.netid, *keys, boot, (AES, CHACHA) if options.aes else (CHACHA,))
    if options.authority:
        local.authority = authority.unarmored(options.authority, "ma1-")
    if options.certificate:
        local.certificate = authority.unarmored(text_in(options.certificate).strip(), "mc1-")
    if options.revocations:
        list_ = authority.unarmored(text_in(options.revocations).strip(), "mr1-")
        local.revocations = authority.revocations(list_, mesh.mesh_id, local.authority)
    return local


def main() -> int:
    options = arguments()
    log = open(options.log, "w", encoding="utf-8")
    start = time.monotonic()

    def report(event: dict) -> None:
        log.write(json.dumps({**event, "time": round(time.monotonic() - start, 6)}) + "\n")
        log.flush()

    local = member_of(options)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(options.listen)

    def transmit(to, datagram: bytes) -> None:
        try:
            sock.sendto(datagram, to)
        except OSError as error:
            report({"event": "tx_failed", "to": str(to), "reason": str(error)})

    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append("signal"))
    member = Member(local, options.peer, transmit, report, time.monotonic)
    report({"event": "start", "netid": name(options.netid), "pid": os.getpid()})
    waited, commands = [sock, 0], b""
    while not stopping and time.monotonic() - start < options.duration:
        member.tick()
        ready, _, _ = select.select(waited, [], [], TICK_SECONDS)
        if sock in ready:
            try:
                datagram, source = sock.recvfrom(65_535)
            except OSError:
                continue
            member.receive(source, datagram)
        if 0 in ready:
            chunk = os.read(0, 65_536)
            if not chunk:
                waited.remove(0)
            *lines, commands = (commands + chunk).split(b"\n")
            for line in lines:
                try:
                    command(member, line)
                except (ValueError, KeyError) as error:
                    report({"event": "error", "reason": f"{type(error).__name__}: {error}"})
    report({"event": "stop"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
