"""The rules, without sockets: bytes in at a set time, bytes and events out."""

import json
import unittest

import node as node_module
from commands import Quit, run_command
from endpoint import Endpoint
from node import Node, Options, judge
from packet import (
    ALL_NODES, ANY_NODE, DATA, GOODBYE, HELLO, INFORM, NO_FORWARD, PING, PONG, Packet, emit, emit_inform, parse,
)

ME, LEFT, RIGHT, FAR = 0x2A, 0x11, 0x12, 0x99
AT_LEFT, AT_RIGHT = Endpoint("192.0.2.1", 1001), Endpoint("192.0.2.2", 1002)
STRANGER = Endpoint("192.0.2.3", 1003)


class Bench:
    """A node with the neighbors LEFT and RIGHT, its clock, and all that it sent and reported since."""

    def __init__(self, peers=(), neighbors=True, **options):
        self.now, self.nonces = 1000.0, 0
        self.sent, self.events = [], []
        self.node = Node(ME, peers, Options(**options), self.send, self.events.append, lambda: self.now, self.nonce)
        if neighbors:
            self.node.neighbors = {LEFT: AT_LEFT, RIGHT: AT_RIGHT}

    def nonce(self):
        self.nonces += 1
        return self.nonces

    def send(self, to, datagram):
        self.sent.append((to, datagram))

    def receive(self, kind, dst, flags=0, src=FAR, source=AT_LEFT, body=b"", nonce=0xABCD):
        """Hands over one packet; returns its bytes and what was sent because of it."""
        datagram = emit(Packet(kind, flags, nonce, src, dst, body))
        before = len(self.sent)
        self.node.receive(source, datagram)
        return datagram, self.sent[before:]

    def packets(self):
        return [(to, parse(datagram)) for to, datagram in self.sent]

    def of(self, event):
        return [each for each in self.events if each["event"] == event]

    def command(self, **command):
        run_command(self.node, json.dumps(command).encode())


class Forwarding(unittest.TestCase):
    def test_every_destination_with_and_without_no_forward(self):
        table = [
            # dst, flags, (deliver, forward)
            (ME, 0, (True, False)),
            (ME, NO_FORWARD, (True, False)),
            (ANY_NODE, 0, (True, False)),
            (ANY_NODE, NO_FORWARD, (True, False)),
            (ALL_NODES, 0, (True, True)),
            (ALL_NODES, NO_FORWARD, (True, False)),
            (FAR, 0, (False, True)),
            (FAR, NO_FORWARD, (False, False)),
            (FAR, 0x7F, (False, True)),
        ]
        for dst, flags, expected in table:
            with self.subTest(dst=dst, flags=flags):
                self.assertEqual(judge(Packet(DATA, flags, 0, LEFT, dst), ME), expected)
                bench = Bench()
                datagram, sent = bench.receive(DATA, dst, flags, body=b"hi")
                self.assertEqual(len(bench.of("data")), int(expected[0]))
                self.assertEqual(sent, [(AT_LEFT, datagram), (AT_RIGHT, datagram)] if expected[1] else [])

    def test_each_judgement_is_reported(self):
        bench = Bench()
        for nonce, (dst, flags) in enumerate([(ME, 0), (FAR, 0), (ALL_NODES, 0), (FAR, NO_FORWARD)]):
            bench.receive(DATA, dst, flags, nonce=nonce)
        bench.receive(DATA, ME, nonce=0)
        actions = [each["action"] for each in bench.of("rx")]
        self.assertEqual(actions, ["deliver", "forward", "deliver+forward", "drop", "duplicate"])

    def test_the_sender_is_spared_on_request(self):
        bench = Bench(echo_to_sender=False)
        datagram, sent = bench.receive(DATA, FAR, source=AT_LEFT)
        self.assertEqual(sent, [(AT_RIGHT, datagram)])

    def test_an_unknown_type_is_forwarded_with_every_byte_but_not_delivered(self):
        bench = Bench()
        datagram, sent = bench.receive(0x77, ALL_NODES, 0x55, body=b"\x00later")
        self.assertEqual([each for _, each in sent], [datagram, datagram])
        self.assertEqual(bench.of("rx")[0]["action"], "forward")
        bench.receive(0x77, ME)
        self.assertEqual(bench.of("rx")[1]["reason"], "unknown type")

    def test_a_malformed_datagram_is_dropped_without_an_answer(self):
        bench = Bench()
        bench.node.receive(STRANGER, bytes.fromhex("ac020300 00000001 00000099 0000002a"))
        self.assertEqual((bench.sent, bench.of("rx")[0]["reason"]), ([], "version is not 1"))

    def test_two_netids_at_one_endpoint_get_one_copy(self):
        bench = Bench()
        bench.node.neighbors[FAR + 1] = AT_RIGHT
        _, sent = bench.receive(DATA, FAR)
        self.assertEqual([to for to, _ in sent], [AT_LEFT, AT_RIGHT])


class Deduplication(unittest.TestCase):
    def test_a_copy_is_neither_delivered_nor_forwarded_again(self):
        bench = Bench()
        bench.receive(DATA, ALL_NODES, source=AT_LEFT)
        _, sent = bench.receive(DATA, ALL_NODES, source=AT_RIGHT)
        self.assertEqual((sent, len(bench.of("data"))), ([], 1))

    def test_one_differing_byte_makes_another_packet(self):
        bench = Bench()
        for change in [{}, {"body": b"x"}, {"flags": 1}, {"nonce": 2}, {"src": FAR + 1}]:
            bench.receive(DATA, ALL_NODES, **change)
        self.assertEqual(len(bench.of("data")), 5)

    def test_a_packet_is_remembered_for_exactly_five_minutes(self):
        bench = Bench()
        bench.receive(DATA, FAR)
        bench.now += 299.999
        self.assertEqual(bench.receive(DATA, FAR)[1], [])
        bench.now += 0.001
        self.assertEqual(len(bench.receive(DATA, FAR)[1]), 2)

    def test_the_table_drops_the_oldest_when_full(self):
        bench = Bench()
        for nonce in range(node_module.MAX_SEEN + 1):
            bench.node.seen.add(nonce.to_bytes(4, "big"), bench.now)
        self.assertEqual(len(bench.node.seen), node_module.MAX_SEEN)
        self.assertFalse(bench.node.seen.add((1).to_bytes(4, "big"), bench.now))
        self.assertTrue(bench.node.seen.add((0).to_bytes(4, "big"), bench.now))

    def test_our_own_packet_that_comes_back_is_a_duplicate(self):
        bench = Bench()
        bench.node.originate(DATA, ALL_NODES, b"hi")
        datagram = bench.sent[0][1]
        bench.node.receive(AT_RIGHT, datagram)
        self.assertEqual((len(bench.sent), bench.of("rx")[0]["action"]), (2, "duplicate"))

    def test_a_packet_in_our_name_that_we_did_not_send_is_dropped(self):
        bench = Bench()
        _, sent = bench.receive(DATA, ALL_NODES, src=ME)
        self.assertEqual((sent, bench.of("rx")[0]["reason"]), ([], "src is our own netid"))


class Neighbors(unittest.TestCase):
    def test_peers_are_greeted_at_start_and_every_five_seconds_until_they_answer(self):
        bench = Bench(peers=[STRANGER], neighbors=False)
        for _ in range(2):
            bench.node.tick()
        bench.now += 4.999
        bench.node.tick()
        self.assertEqual(len(bench.sent), 1)
        bench.now += 0.001
        bench.node.tick()
        self.assertEqual(bench.packets()[1], (STRANGER, Packet(HELLO, 0, 2, ME, ANY_NODE)))
        bench.receive(HELLO, ME, src=FAR, source=STRANGER)
        count = len(bench.sent)
        bench.now += 5
        bench.node.tick()
        self.assertEqual(len(bench.sent), count)

    def test_a_new_binding_is_answered_once(self):
        bench = Bench()
        _, first = bench.receive(HELLO, ANY_NODE, source=STRANGER, nonce=1)
        _, second = bench.receive(HELLO, ANY_NODE, source=STRANGER, nonce=2)
        self.assertEqual([(to, parse(each)) for to, each in first], [(STRANGER, Packet(HELLO, 0, 1, ME, FAR))])
        self.assertEqual((second, bench.node.neighbors[FAR]), ([], STRANGER))

    def test_an_endpoint_is_answered_once_in_ten_seconds(self):
        bench = Bench()

        def move(source):
            return len(bench.receive(HELLO, ANY_NODE, src=LEFT, source=source, nonce=bench.nonce())[1])

        self.assertEqual([move(STRANGER), move(AT_LEFT), move(STRANGER), move(AT_LEFT)], [1, 1, 0, 0])
        bench.now += 9.999
        self.assertEqual(move(STRANGER), 0)
        bench.now += 0.001
        self.assertEqual(move(AT_LEFT), 1)

    def test_a_peer_that_said_goodbye_is_greeted_again(self):
        bench = Bench(peers=[AT_LEFT, AT_RIGHT])
        bench.receive(HELLO, ANY_NODE, src=LEFT, source=AT_LEFT, nonce=1)
        bench.receive(HELLO, ANY_NODE, src=RIGHT, source=AT_RIGHT, nonce=2)
        bench.node.tick()
        self.assertEqual(bench.sent, [])
        bench.receive(GOODBYE, ALL_NODES, NO_FORWARD, src=LEFT, source=AT_LEFT, nonce=3)
        bench.now += 5
        bench.node.tick()
        self.assertEqual(bench.packets(), [(AT_LEFT, Packet(HELLO, 0, 1, ME, ANY_NODE))])

    def test_a_silent_node_binds_without_an_answer(self):
        bench = Bench(answer_hello=False)
        self.assertEqual(bench.receive(HELLO, ANY_NODE, source=STRANGER)[1], [])
        self.assertEqual(bench.node.neighbors[FAR], STRANGER)

    def test_a_netid_moves_to_its_new_endpoint(self):
        bench = Bench()
        bench.receive(HELLO, ME, src=LEFT, source=STRANGER)
        self.assertEqual(bench.node.neighbors, {RIGHT: AT_RIGHT, LEFT: STRANGER})
        self.assertEqual(bench.of("neighbor_removed")[0]["reason"], "netid has a new endpoint")

    def test_a_direct_hello_replaces_the_netid_of_its_endpoint_and_a_relayed_one_joins_it(self):
        direct, relayed = Bench(), Bench()
        direct.receive(HELLO, ANY_NODE, source=AT_LEFT)
        self.assertEqual(direct.node.neighbors, {RIGHT: AT_RIGHT, FAR: AT_LEFT})
        relayed.receive(HELLO, ALL_NODES, source=AT_LEFT)
        self.assertEqual(relayed.node.neighbors, {LEFT: AT_LEFT, RIGHT: AT_RIGHT, FAR: AT_LEFT})

    def test_nothing_but_hello_makes_a_neighbor(self):
        for kind in (PING, PONG, DATA, GOODBYE, 0x77):
            bench = Bench()
            bench.receive(kind, ALL_NODES, source=STRANGER)
            self.assertEqual(bench.node.neighbors, {LEFT: AT_LEFT, RIGHT: AT_RIGHT})

    def test_goodbye_removes_only_from_the_bound_endpoint(self):
        bench = Bench()
        bench.receive(GOODBYE, ALL_NODES, src=LEFT, source=AT_RIGHT, nonce=1)
        self.assertIn(LEFT, bench.node.neighbors)
        datagram, sent = bench.receive(GOODBYE, ALL_NODES, src=LEFT, source=AT_LEFT, nonce=2)
        self.assertEqual((bench.node.neighbors, sent), ({RIGHT: AT_RIGHT}, [(AT_RIGHT, datagram)]))

    def test_the_neighbor_table_is_bounded(self):
        bench = Bench(neighbors=False)
        for netid in range(1000, 1000 + node_module.MAX_NEIGHBORS + 1):
            bench.receive(HELLO, ANY_NODE, src=netid, source=Endpoint("192.0.2.9", netid))
        self.assertEqual(len(bench.node.neighbors), node_module.MAX_NEIGHBORS)
        self.assertEqual(len(bench.of("neighbor_refused")), 1)

    def test_our_goodbye_goes_to_all_nodes(self):
        bench = Bench()
        bench.node.goodbye()
        packet = Packet(GOODBYE, 0, 1, ME, ALL_NODES)
        self.assertEqual(bench.packets(), [(AT_LEFT, packet), (AT_RIGHT, packet)])


class Answers(unittest.TestCase):
    def test_a_direct_ping_is_answered_to_where_it_came_from(self):
        for dst, flags in [(ME, NO_FORWARD), (ANY_NODE, 0), (ALL_NODES, NO_FORWARD), (ANY_NODE, NO_FORWARD)]:
            with self.subTest(dst=dst, flags=flags):
                bench = Bench()
                _, sent = bench.receive(PING, dst, flags, source=STRANGER)
                pong = Packet(PONG, flags, 1, ME, FAR)
                self.assertEqual([(to, parse(each)) for to, each in sent], [(STRANGER, pong)])

    def test_any_other_ping_for_us_is_answered_to_all_neighbors(self):
        bench = Bench()
        bench.receive(PING, ME, source=STRANGER)
        pong = Packet(PONG, 0, 1, ME, FAR)
        self.assertEqual(bench.packets(), [(AT_LEFT, pong), (AT_RIGHT, pong)])

    def test_a_ping_for_another_node_is_not_answered(self):
        bench = Bench()
        datagram, sent = bench.receive(PING, FAR + 1)
        self.assertEqual({each for _, each in sent}, {datagram})

    def test_a_pong_is_reported(self):
        bench = Bench()
        bench.receive(PONG, ME)
        self.assertEqual(bench.of("pong"), [{"event": "pong", "from": str(AT_LEFT), "src": "00000099"}])

    def test_data_is_echoed_to_its_source_through_all_neighbors(self):
        bench = Bench(echo=True)
        bench.receive(DATA, ME, body=b"hi")
        echo = Packet(DATA, 0, 1, ME, FAR, b"echo:hi")
        self.assertEqual(bench.packets(), [(AT_LEFT, echo), (AT_RIGHT, echo)])

    def test_an_echo_is_delivered_but_not_echoed(self):
        bench = Bench(echo=True)
        _, sent = bench.receive(DATA, ME, body=b"echo:hi")
        self.assertEqual((sent, bench.of("data")[0]["payload"]), ([], b"echo:hi".hex()))

    def test_without_the_option_data_is_only_delivered(self):
        self.assertEqual(Bench().receive(DATA, ME, body=b"hi")[1], [])


class Informs(unittest.TestCase):
    def inform(self, bench, netid=0x55, subject=STRANGER, nonce=1):
        return bench.receive(INFORM, ME, NO_FORWARD, src=LEFT, body=emit_inform(netid, subject), nonce=nonce)[1]

    def test_a_subject_is_greeted_but_is_no_neighbor_yet(self):
        bench = Bench()
        sent = self.inform(bench)
        self.assertEqual([(to, parse(each)) for to, each in sent], [(STRANGER, Packet(HELLO, 0, 1, ME, ANY_NODE))])
        self.assertNotIn(0x55, bench.node.neighbors)
        self.assertEqual(bench.of("informed")[0]["netid"], "00000055")

    def test_an_endpoint_is_greeted_once_a_minute(self):
        bench = Bench()
        self.inform(bench)
        bench.now += 59.999
        self.assertEqual(self.inform(bench, nonce=2), [])
        bench.now += 0.001
        self.assertEqual(len(self.inform(bench, nonce=3)), 1)

    def test_bad_subjects_are_left_alone(self):
        cases = [(ME, STRANGER), (0, STRANGER), (ALL_NODES, STRANGER), (LEFT, AT_LEFT), (0x55, Endpoint("192.0.2.9", 0))]
        hosts = ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "127.0.0.1", "::1"]
        for netid, subject in cases + [(0x55, Endpoint(host, 9)) for host in hosts]:
            with self.subTest(netid=netid, subject=subject):
                bench = Bench()
                self.assertEqual(self.inform(bench, netid, subject), [])
                self.assertFalse(bench.of("informed")[0]["acted"])

    def test_a_loopback_subject_is_greeted_from_loopback(self):
        self.assertEqual(len(self.inform(Bench(loopback_informs=True), subject=Endpoint("127.0.0.1", 9))), 1)

    def test_the_table_of_greeted_subjects_is_bounded(self):
        bench = Bench()
        for port in range(1, node_module.MAX_PROBED + 2):
            self.inform(bench, subject=Endpoint("192.0.2.9", port), nonce=port)
        self.assertEqual(len(bench.sent), node_module.MAX_PROBED)

    def test_a_new_neighbor_and_the_others_are_told_of_each_other(self):
        bench = Bench(inform=True, link_flags=NO_FORWARD)
        del bench.node.neighbors[RIGHT]
        bench.receive(HELLO, ANY_NODE, source=STRANGER)
        self.assertEqual(
            bench.packets(),
            [
                (STRANGER, Packet(HELLO, NO_FORWARD, 1, ME, FAR)),
                (STRANGER, Packet(INFORM, NO_FORWARD, 2, ME, FAR, emit_inform(LEFT, AT_LEFT))),
                (AT_LEFT, Packet(INFORM, NO_FORWARD, 3, ME, LEFT, emit_inform(FAR, STRANGER))),
            ],
        )


class Commands(unittest.TestCase):
    def test_each_kind_is_sent_as_told(self):
        to = str(STRANGER)
        bench = Bench(neighbors=False)
        bench.command(send="data", dst="99", payload="6869", to=to, flags="80", nonce="ff")
        bench.command(send="ping", dst="0", to=to)
        bench.command(send="hello", to=to)
        bench.command(send="inform", to=to, dst="99", netid="55", endpoint="[2001:db8::1]:7")
        bench.command(send="goodbye", to=to)
        self.assertEqual(
            [packet for _, packet in bench.packets()],
            [
                Packet(DATA, NO_FORWARD, 0xFF, ME, 0x99, b"hi"),
                Packet(PING, 0, 1, ME, ANY_NODE),
                Packet(HELLO, 0, 2, ME, ANY_NODE),
                Packet(INFORM, 0, 3, ME, 0x99, emit_inform(0x55, Endpoint("2001:db8::1", 7))),
                Packet(GOODBYE, 0, 4, ME, ALL_NODES),
            ],
        )

    def test_hello_and_inform_carry_the_link_flags(self):
        bench = Bench(link_flags=NO_FORWARD)
        bench.command(send="hello", to=str(STRANGER))
        bench.command(send="inform", to=str(STRANGER), dst="99", netid="55", endpoint="192.0.2.9:7")
        bench.command(send="ping", to=str(STRANGER), dst="99")
        self.assertEqual([packet.flags for _, packet in bench.packets()], [NO_FORWARD, NO_FORWARD, 0])

    def test_raw_bytes_are_sent_as_they_are(self):
        bench = Bench()
        bench.command(send="raw", to=str(STRANGER), hex="ff00")
        self.assertEqual(bench.sent, [(STRANGER, b"\xff\x00")])

    def test_without_to_data_goes_to_all_neighbors(self):
        bench = Bench()
        bench.command(send="data", dst="ffffffff", payload="")
        self.assertEqual([to for to, _ in bench.sent], [AT_LEFT, AT_RIGHT])

    def test_the_state_is_shown(self):
        bench = Bench()
        bench.command(show=True)
        neighbors = {"00000011": "192.0.2.1:1001", "00000012": "192.0.2.2:1002"}
        self.assertEqual(bench.events, [{"event": "state", "neighbors": neighbors, "seen": 0}])

    def test_quit_may_be_silent(self):
        for silent in (False, True):
            with self.assertRaises(Quit) as caught:
                Bench().command(quit=True, silent=silent)
            self.assertEqual(caught.exception.silent, silent)

    def test_a_bad_command_is_an_error_event_and_nothing_else(self):
        bench = Bench()
        lines = [b"{", b"[]", b"{}", b'{"send":"fly","dst":"1"}', b'{"send":"data","payload":"00"}', b'{"send":"hello"}',
                 b'{"send":"data","dst":"100000000"}', b'{"send":"data","dst":7}', b'{"send":"raw","hex":"00"}',
                 b'{"send":"ping","dst":"1","to":"nowhere"}', b'{"send":"inform","dst":"1","netid":"2"}']
        for line in lines:
            run_command(bench.node, line)
        self.assertEqual((len(bench.of("error")), bench.sent), (len(lines), []))


if __name__ == "__main__":
    unittest.main()
