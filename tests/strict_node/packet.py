"""The datagrams of the 0xAC netid protocol: the 16-byte header and the Inform payload."""

import ipaddress
import struct
from typing import NamedTuple

from endpoint import Endpoint, from_address

MAGIC = 0xAC
VERSION = 0x01
NO_FORWARD = 0x80

HELLO, GOODBYE, PING, PONG, INFORM, DATA = 0x01, 0x02, 0x03, 0x04, 0x05, 0x10
KIND_NAMES = {HELLO: "hello", GOODBYE: "goodbye", PING: "ping", PONG: "pong", INFORM: "inform", DATA: "data"}

ANY_NODE = 0x00000000
ALL_NODES = 0xFFFFFFFF

# The diagrams draw each 32-bit word over two lines of text; the text gives no byte order, network order is used.
HEADER = struct.Struct(">BBBBIII")
INFORM_BODY = struct.Struct(">I16sH")


class Malformed(ValueError):
    """A datagram that cannot be read as a packet; its text is the reason."""


class Packet(NamedTuple):
    """One packet. `body` is whatever follows the header, also where the type has no payload."""

    kind: int
    flags: int
    nonce: int
    src: int
    dst: int
    body: bytes = b""

    @property
    def kind_name(self) -> str:
        return KIND_NAMES.get(self.kind, f"0x{self.kind:02x}")

    @property
    def no_forward(self) -> bool:
        return bool(self.flags & NO_FORWARD)


def parse(datagram: bytes) -> Packet:
    if len(datagram) < HEADER.size:
        raise Malformed("shorter than the header")
    magic, version, kind, flags, nonce, src, dst = HEADER.unpack_from(datagram)
    if magic != MAGIC:
        raise Malformed("magic is not 0xac")
    if version != VERSION:
        raise Malformed("version is not 1")
    if src in (ANY_NODE, ALL_NODES):
        raise Malformed("src is a special netid")
    body = datagram[HEADER.size :]
    if kind == INFORM and len(body) < INFORM_BODY.size:
        raise Malformed("inform shorter than its payload")
    return Packet(kind, flags, nonce, src, dst, body)


def emit(packet: Packet) -> bytes:
    header = HEADER.pack(MAGIC, VERSION, packet.kind, packet.flags, packet.nonce, packet.src, packet.dst)
    return header + packet.body


def parse_inform(body: bytes) -> tuple[int, Endpoint]:
    """The subject's netid and endpoint. Shape: `body` holds at least 22 bytes, as `parse` checked."""
    netid, address, port = INFORM_BODY.unpack_from(body)
    return netid, from_address(ipaddress.IPv6Address(address), port)


def emit_inform(netid: int, subject: Endpoint) -> bytes:
    packed = subject.address.packed
    if len(packed) == 4:
        packed = bytes(10) + b"\xff\xff" + packed
    return INFORM_BODY.pack(netid, packed, subject.port)
