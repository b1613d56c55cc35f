"""The format: golden bytes, round trips and what is refused."""

import socket
import unittest

from endpoint import Endpoint, from_sockaddr, parse_endpoint, to_sockaddr
from packet import (
    ALL_NODES, ANY_NODE, DATA, HELLO, INFORM, NO_FORWARD, PING, Malformed, Packet, emit, emit_inform, parse,
    parse_inform,
)

SUBJECT = Endpoint("192.0.2.5", 4242)
GOLDEN = [
    (Packet(HELLO, NO_FORWARD, 0x01020304, 0x2A, ANY_NODE), "ac010180 01020304 0000002a 00000000"),
    (Packet(PING, 0, 0x0A0B0C0D, 0x2A, 0x07), "ac010300 0a0b0c0d 0000002a 00000007"),
    (
        Packet(INFORM, NO_FORWARD, 0xDEADBEEF, 0x2A, 0x07, emit_inform(0x11, SUBJECT)),
        "ac010580 deadbeef 0000002a 00000007 00000011 00000000000000000000ffffc0000205 1092",
    ),
    (Packet(DATA, 0, 1, 0x2A, ALL_NODES, b"hi"), "ac011000 00000001 0000002a ffffffff 6869"),
]
HELLO_BYTES = bytes.fromhex("ac010100 01020304 0000002a 00000000")


class Format(unittest.TestCase):
    def test_golden_packets_are_emitted_byte_for_byte(self):
        for packet, text in GOLDEN:
            self.assertEqual(emit(packet).hex(), text.replace(" ", ""))

    def test_golden_bytes_are_parsed(self):
        for packet, text in GOLDEN:
            self.assertEqual(parse(bytes.fromhex(text)), packet)

    def test_an_inform_names_its_subject(self):
        body = parse(bytes.fromhex(GOLDEN[2][1])).body
        self.assertEqual(parse_inform(body), (0x11, SUBJECT))

    def test_an_inform_about_an_ipv6_subject_round_trips(self):
        subject = Endpoint("2001:db8::1", 65535)
        body = emit_inform(0xFFFFFFFE, subject)
        self.assertEqual(body.hex(), "fffffffe20010db8000000000000000000000001ffff")
        self.assertEqual(parse_inform(body), (0xFFFFFFFE, subject))

    def test_reserved_flags_unknown_types_and_extra_bytes_survive(self):
        datagram = bytes.fromhex("ac01777f 01020304 0000002a 00000007 00ff")
        packet = parse(datagram)
        self.assertFalse(packet.no_forward)
        self.assertEqual((packet.kind, packet.flags, packet.body), (0x77, 0x7F, b"\x00\xff"))
        self.assertEqual(emit(packet), datagram)

    def test_what_cannot_be_read_is_refused(self):
        inform = bytes.fromhex(GOLDEN[2][1])
        cases = {
            b"": "shorter than the header",
            HELLO_BYTES[:15]: "shorter than the header",
            b"\xab" + HELLO_BYTES[1:]: "magic is not 0xac",
            b"\xac\x02" + HELLO_BYTES[2:]: "version is not 1",
            b"\xac\x00" + HELLO_BYTES[2:]: "version is not 1",
            HELLO_BYTES[:8] + bytes(4) + HELLO_BYTES[12:]: "src is a special netid",
            HELLO_BYTES[:8] + b"\xff" * 4 + HELLO_BYTES[12:]: "src is a special netid",
            inform[:37]: "inform shorter than its payload",
        }
        for datagram, reason in cases.items():
            with self.subTest(reason, length=len(datagram)), self.assertRaisesRegex(Malformed, reason):
                parse(datagram)


class Endpoints(unittest.TestCase):
    def test_text_round_trips(self):
        for text in ["192.0.2.1:4242", "[2001:db8::1]:1", "[fe80::1%3]:65535"]:
            self.assertEqual(str(parse_endpoint(text)), text)

    def test_a_mapped_address_is_its_ipv4_address(self):
        self.assertEqual(parse_endpoint("[::ffff:192.0.2.1]:7"), Endpoint("192.0.2.1", 7))
        self.assertEqual(from_sockaddr(("::ffff:192.0.2.1", 7, 0, 0)), Endpoint("192.0.2.1", 7))
        self.assertEqual(to_sockaddr(Endpoint("192.0.2.1", 7), socket.AF_INET6), ("::ffff:192.0.2.1", 7, 0, 0))

    def test_bad_text_is_refused(self):
        for text in ["192.0.2.1", "192.0.2.1:65536", "192.0.2.1:-1", "::1:4242", "[::1:4242", "host:1", "[fe80::1%lo]:1"]:
            with self.subTest(text), self.assertRaises(ValueError):
                parse_endpoint(text)


if __name__ == "__main__":
    unittest.main()
