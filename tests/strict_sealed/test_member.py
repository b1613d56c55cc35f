"""Members among themselves, in memory and with a clock of the test's own."""

import struct
import unittest

import authority
import packet
import sealed
from handshake import AES, CHACHA, LinkScope, Local
from member import DATA, Member
from primitives import sign, verifying

MESH = sealed.Mesh(bytes(range(32)))


def local(netid: int) -> Local:
    """Those with an even netid have AES instructions, say."""
    aeads = (AES, CHACHA) if netid % 2 == 0 else (CHACHA,)
    return Local(MESH, netid, bytes([netid]) * 32, bytes([netid + 100]) * 32, struct.pack(">II", 1, netid), aeads)


class Net:
    """Members at endpoints that are their own numbers; a datagram arrives at once, in order."""

    def __init__(self, wires):
        self.now, self.queue, self.wires, self.carried = 0.0, [], wires, []
        self.events = {}
        self.members = {}
        for netid in sorted({end for wire in wires for end in wire}):
            peers = [b for a, b in wires if a == netid]
            self.events[netid] = []
            self.members[netid] = Member(
                local(netid), peers, lambda to, datagram, at=netid: self.queue.append((at, to, datagram)),
                self.events[netid].append, lambda: self.now,
            )

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            for member in self.members.values():
                member.tick()
            while self.queue:
                at, to, datagram = self.queue.pop(0)
                if (at, to) in self.wires or (to, at) in self.wires:
                    self.carried.append(datagram)
                    self.members[to].receive(at, datagram)
            self.now += 0.1

    def data(self, netid: int) -> list[tuple[str, str, str]]:
        events = self.events[netid]
        return [(e["src"], e["by"], e["payload"]) for e in events if e["event"] == "data"]

    def refused(self) -> list[dict]:
        return [e for events in self.events.values() for e in events if e["event"] == "refused"]


class Members(unittest.TestCase):
    def test_neighbors_come_up_and_say_what_is_for_one_over_their_link(self):
        net = Net([(1, 2)])
        net.run(1)
        self.assertEqual(net.members[1].live(), {2: 2})
        self.assertEqual(net.members[2].live(), {1: 1})
        net.members[1].send_data(2, b"\xcfhi")
        net.run(0.2)
        self.assertEqual(net.data(2), [("00000001", "link", "cf6869")])
        # Each began a handshake between ends when the link came up: one of the two goes first.
        self.assertLessEqual({e["reason"] for e in net.refused()}, {"ours goes first"})
        self.assertTrue(all(datagram[0] == 0xAE for datagram in net.carried))

    def test_both_at_once_come_up_too(self):
        net = Net([(1, 2), (2, 1)])
        net.run(5)
        for near, far in ((1, 2), (2, 1)):
            net.members[near].send_data(far, b"\xcfhi")
        net.run(1)
        self.assertEqual(len(net.data(1)), 1)
        self.assertEqual(len(net.data(2)), 1)

    def test_two_that_have_instructions_for_aes_seal_with_it_and_others_do_not(self):
        net = Net([(2, 4), (4, 5)])
        net.run(1)
        for near, far in ((2, 4), (4, 2), (5, 4), (4, 5)):
            net.members[near].send_data(far, b"\xcfhi")
        net.run(1)
        aeads = {
            (e["event"], near, int(e["netid"], 16)): e["aead"]
            for near, events in net.events.items() for e in events if e["event"] in ("link", "end")
        }
        for kind in ("link", "end"):
            self.assertEqual((aeads[kind, 2, 4], aeads[kind, 4, 2]), (AES, AES))
            self.assertEqual((aeads[kind, 5, 4], aeads[kind, 4, 5]), (CHACHA, CHACHA))
        self.assertEqual((len(net.data(2)), len(net.data(4)), len(net.data(5))), (1, 2, 1))

    def test_ends_of_a_line_speak_over_a_relay_that_sees_only_c8(self):
        net = Net([(1, 2), (2, 3)])
        net.run(1)
        net.members[1].send_data(3, b"\xcfthere")
        net.run(1)
        net.members[3].send_data(1, b"\xcfback")
        net.members[3].send_data(0xFFFFFFFF, b"\xcfall")
        net.run(1)
        self.assertEqual(net.data(3), [("00000001", "end", b"\xcfthere".hex())])
        back = ("00000003", "end", b"\xcfback".hex())
        to_all = ("00000003", "broadcast", b"\xcfall".hex())
        self.assertEqual(net.data(1), [back, to_all])
        self.assertEqual(net.data(2), [to_all])
        passed = [e for e in net.events[2] if e["event"] == "rx"]
        self.assertTrue(passed)
        self.assertTrue(all(e["payload"].startswith("c8") for e in passed))

    def test_a_rekey_loses_nothing_and_an_old_datagram_opens_once(self):
        net = Net([(1, 2)])
        net.run(1)
        for _ in range(3):
            net.members[1].links[2].rekey(net.now)
            net.members[1].send_data(2, b"\xcf1")
            net.run(0.5)
            net.members[2].send_data(1, b"\xcf2")
            net.run(0.5)
        self.assertEqual((len(net.data(1)), len(net.data(2))), (3, 3))
        for datagram in net.carried[-2:]:
            net.members[2].receive(1, datagram)
        self.assertEqual(len(net.data(2)), 3)

    def test_who_holds_another_secret_hears_nothing(self):
        net = Net([(1, 2)])
        other = sealed.Mesh(bytes(32))
        net.members[1].local.mesh = other
        net.members[1].links[2].scope = lambda _ours: LinkScope(other)
        net.run(3)
        self.assertEqual(net.members[2].live(), {})
        self.assertTrue(all(e["reason"] == "form or mac1" for e in net.refused()))
        self.assertTrue(all(datagram[1] == 1 for datagram in net.carried))

    def test_what_is_not_sealed_is_taken_from_nobody(self):
        net = Net([(1, 2), (2, 3)])
        net.run(1)
        clear = net.members[1].message(DATA, 3, b"\xcfclear")
        net.members[1].flood(clear)
        net.members[2].receive(1, clear)
        net.run(1)
        self.assertEqual(net.data(3), [])


AUTHORITY = bytes(range(0x70, 0x90))
WALL = 1_700_000_000


def certificate(of: Local, *, mesh_id=b"", netid=0, start=0, end=WALL, secret=AUTHORITY, serial=0) -> bytes:
    """One that is good, but for what is said of it."""
    body = b"\1" + (mesh_id or MESH.mesh_id) + struct.pack(">I", netid or of.netid) + of.s + verifying(of.ed25519)
    body += struct.pack(">QQQHBB", start, end, serial or of.netid, 3, 0, 4) + b"van " + b"\0"
    return body + sign(secret, b"mesh-cert v1" + body)


class Certified(unittest.TestCase):
    """Two neighbors with an authority, the second with another certificate than it should have."""

    def net(self, second=None, revoked=(), **how) -> Net:
        net = Net([(1, 2)])
        for netid, member in net.members.items():
            local_ = member.local
            local_.authority, local_.wall = verifying(AUTHORITY), lambda: WALL
            local_.certificate = certificate(local_, **(how if netid == 2 else {}))
        if second is not None:
            net.members[2].local.certificate = second(net.members[2].local)
        if revoked:
            list_ = authority.signed_revocations(AUTHORITY, MESH.mesh_id, 1, revoked)
            read = authority.revocations(list_, MESH.mesh_id, verifying(AUTHORITY))
            net.members[1].local.revocations = read
        net.run(2)
        return net

    def refuses(self, reason: str, net: Net) -> None:
        self.assertIn(reason, {event["reason"] for event in net.events[1] if event["event"] == "refused"})
        # It decides before it sends the FIN, so that nobody came up (S76).
        self.assertEqual((net.members[1].live(), net.members[2].live()), ({}, {}))

    def test_both_come_up_and_know_each_others_names(self):
        net = self.net()
        self.assertEqual((net.members[1].live(), net.members[2].live()), ({2: 2}, {1: 1}))
        names = [event["name"] for events in net.events.values() for event in events if event["event"] == "link"]
        self.assertEqual(names, ["van ", "van "])

    def test_a_day_of_grace_is_given_and_no_more(self):
        grace = authority.GRACE_SECONDS
        self.assertEqual(self.net(end=WALL - grace).members[1].live(), {2: 2})
        self.assertEqual(self.net(start=WALL + grace, end=2**64 - 1).members[1].live(), {2: 2})
        self.refuses("certificate: expired or early", self.net(end=WALL - grace - 1))
        self.refuses("certificate: expired or early", self.net(start=WALL + grace + 1, end=2**64 - 1))

    def test_anothers_certificate_and_none_are_refused(self):
        self.refuses("certificate: another mesh", self.net(mesh_id=bytes(16)))
        self.refuses("certificate: not the authority's", self.net(secret=bytes(32)))
        self.refuses("certificate: another's", self.net(netid=3))
        self.refuses("certificate: another's", self.net(lambda _: certificate(local(4), netid=2)))
        self.refuses("no certificate", self.net(lambda _: b""))
        self.refuses("certificate: not canonical", self.net(lambda of: certificate(of) + b"\0"))

    def test_who_is_revoked_by_serial_or_key_is_refused(self):
        self.refuses("revoked", self.net(revoked=[(2, bytes(32), WALL)]))
        self.refuses("revoked", self.net(revoked=[(0, local(2).s, WALL)]))
        self.assertEqual(self.net(revoked=[(3, bytes(32), WALL), (0, local(3).s, WALL)]).members[1].live(), {2: 2})


class Ping(unittest.TestCase):
    def test_an_echo_request_is_answered_with_right_checksums(self):
        header = bytes.fromhex("4500001c00004000400126ce0a4d00010a4d0013")
        body = bytes.fromhex("0800") + struct.pack(">H", packet.checksum(bytes.fromhex("0800000000010001"))) + b"\0\1\0\1"
        answer = packet.echo_reply(header + body)
        self.assertEqual(answer[12:22], bytes.fromhex("0a4d00130a4d00010000"))
        self.assertEqual(packet.checksum(answer[20:]), 0)
        self.assertIsNone(packet.echo_reply(answer))
        self.assertIsNone(packet.echo_reply(b"\xcf"))
        request = packet.echo_request(bytes(15) + b"\1", bytes(15) + b"\2")
        answer = packet.echo_reply(request)
        self.assertEqual(answer[8:40], request[24:40] + request[8:24])
        pseudo = answer[8:40] + struct.pack(">II", 8, 58)
        self.assertEqual(packet.checksum(pseudo + answer[40:]), 0)


if __name__ == "__main__":
    unittest.main()
