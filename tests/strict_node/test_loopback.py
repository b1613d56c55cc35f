"""Whole nodes on loopback sockets: in this process, and one as the program that tests start."""

import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from endpoint import Endpoint, from_sockaddr, parse_endpoint
from node import Node, Options
from packet import ALL_NODES, ANY_NODE, DATA, GOODBYE, HELLO, PING, Packet, emit, parse
from strict_node import MAX_LINE, Lines, Sockets, step

FOLDER = os.path.dirname(os.path.abspath(__file__))
DEADLINE_SECONDS = 5.0


class Member:
    """A node on a free loopback port, run by `Line.until`."""

    def __init__(self, netid, *hosts, peers=(), **options):
        self.sockets = Sockets([Endpoint(host, 0) for host in hosts])
        self.endpoint = from_sockaddr(self.sockets.all()[0].getsockname())
        self.events = []
        habits = Options(loopback_informs=True, **options)
        self.node = Node(netid, peers, habits, self.sockets.send, self.events.append)

    def of(self, event):
        return [each for each in self.events if each["event"] == event]


class Loopback(unittest.TestCase):
    host = "127.0.0.1"

    def line(self, **options):
        """Three nodes 1 - 2 - 3, connected."""
        middle = Member(2, self.host, **options)
        ends = [Member(netid, self.host, peers=[middle.endpoint], **options) for netid in (1, 3)]
        self.members = [ends[0], middle, ends[1]]
        for member in self.members:
            self.addCleanup(member.sockets.close)
        self.until(lambda: [len(each.node.neighbors) for each in self.members] == [1, 2, 1])
        return self.members

    def until(self, condition):
        end = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            self.assertLess(time.monotonic(), end, "the nodes did not get there")
            for member in self.members:
                step(member.node, member.sockets, 0)

    def settle(self):
        """Runs until nothing is left in any socket."""
        def idle():
            for member in self.members:
                step(member.node, member.sockets, 0)
            sockets = [sock for member in self.members for sock in member.sockets.all()]
            return not select.select(sockets, [], [], 0.01)[0]

        self.until(idle)

    def test_data_crosses_the_middle_unaltered_and_the_echo_comes_back(self):
        left, middle, right = self.line(echo=True)
        left.node.originate(DATA, 3, b"hi")
        self.until(lambda: left.of("data"))
        self.settle()
        self.assertEqual([each["payload"] for each in right.of("data")], [b"hi".hex()])
        self.assertEqual([each["payload"] for each in left.of("data")], [b"echo:hi".hex()])
        self.assertEqual(middle.of("data"), [])
        received = next(each for each in middle.of("rx") if each["action"] == "forward")
        forwarded = [each for each in middle.of("tx") if each["hex"] == received["hex"]]
        self.assertEqual([each["to"] for each in forwarded], [str(left.endpoint), str(right.endpoint)])
        self.assertEqual({each["why"] for each in forwarded}, {"forward"})

    def test_data_for_all_is_delivered_once_by_each_other_node(self):
        left, middle, right = self.line()
        left.node.originate(DATA, ALL_NODES, b"hi")
        self.settle()
        self.assertEqual([len(each.of("data")) for each in (left, middle, right)], [0, 1, 1])

    def test_a_ping_across_the_middle_brings_one_pong(self):
        left, _, right = self.line()
        left.node.originate(PING, 3)
        self.settle()
        self.assertEqual([each["src"] for each in left.of("pong")], ["00000003"])
        self.assertEqual(right.of("pong"), [])

    def test_goodbye_leaves_the_others_connected(self):
        left, middle, right = self.line()
        right.node.goodbye()
        self.settle()
        self.assertEqual((list(middle.node.neighbors), list(left.node.neighbors)), ([1], [2]))

    def test_informs_make_the_ends_neighbors(self):
        self.line(inform=True)
        self.until(lambda: all(len(each.node.neighbors) == 2 for each in self.members))


@unittest.skipUnless(socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"), "needs IPv6")
class LoopbackIpv6(Loopback):
    host = "::1"


@unittest.skipUnless(socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"), "needs IPv6")
class TwoRoads(unittest.TestCase):
    def test_a_lone_ipv6_socket_serves_ipv4(self):
        far, near = Member(1, "::"), Member(2, "127.0.0.1")
        self.addCleanup(far.sockets.close)
        self.addCleanup(near.sockets.close)
        self.assertIsNone(far.sockets.send(near.endpoint, b"hi"))
        step(near.node, near.sockets, DEADLINE_SECONDS)
        self.assertEqual(near.of("rx")[0]["from"], f"127.0.0.1:{far.endpoint.port}")

    def test_a_lone_ipv4_socket_refuses_ipv6(self):
        near = Member(2, "127.0.0.1")
        self.addCleanup(near.sockets.close)
        self.assertEqual(near.sockets.send(Endpoint("::1", 9), b"hi"), "no socket of this address family")

    def test_both_families_may_share_a_port(self):
        first = Member(1, "0.0.0.0")
        port = first.endpoint.port
        first.sockets.close()
        both = Sockets([Endpoint("0.0.0.0", port), Endpoint("::", port)])
        self.addCleanup(both.close)
        self.assertEqual([sock.getsockname()[1] for sock in both.all()], [port, port])

    def test_nodes_that_reach_each_other_by_ipv4_and_ipv6_do_not_greet_for_ever(self):
        far = Member(1, "::")
        peers = [Endpoint(host, far.endpoint.port) for host in ("127.0.0.1", "::1")]
        near = Member(2, "127.0.0.1", "::1", peers=peers)
        for member in (far, near):
            self.addCleanup(member.sockets.close)
        for _ in range(50):
            for member in (far, near):
                step(member.node, member.sockets, 0.001)
        self.assertEqual((list(far.node.neighbors), list(near.node.neighbors)), ([2], [1]))
        self.assertLessEqual(len(far.of("tx")) + len(near.of("tx")), 6)


class Input(unittest.TestCase):
    def setUp(self):
        self.reader, self.writer = os.pipe()
        self.addCleanup(os.close, self.reader)
        self.lines = Lines(self.reader)

    def test_lines_may_arrive_in_parts_and_their_end_stops_the_reading(self):
        os.write(self.writer, b"one\n\ntw")
        self.assertEqual(self.lines.read(), [b"one"])
        os.write(self.writer, b"o\n")
        self.assertEqual((self.lines.read(), self.lines.fds), ([b"two"], (self.reader,)))
        os.close(self.writer)
        self.assertEqual((self.lines.read(), self.lines.fds), ([], ()))

    def test_a_line_without_end_is_not_kept(self):
        for _ in range(MAX_LINE // 32768 + 2):
            os.write(self.writer, bytes(32768))
            self.lines.read()
        os.close(self.writer)
        self.assertLess(len(self.lines.buffer), MAX_LINE)


class Program(unittest.TestCase):
    """The program, with this test as its only peer."""

    def setUp(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.sock.close)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(DEADLINE_SECONDS)

    def start(self, *extra):
        command = [sys.executable, os.path.join(FOLDER, "strict_node.py"), "--netid", "2a", "--listen", "127.0.0.1:0"]
        self.child = subprocess.Popen([*command, *extra], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(self.end)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=lambda: [self.lines.put(json.loads(each)) for each in self.child.stdout])
        self.reader.start()
        self.endpoint = parse_endpoint(self.event("start")["listen"][0])

    def end(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.reader.join()
        self.child.stdin.close()
        self.child.stdout.close()

    def event(self, wanted):
        while True:
            event = self.lines.get(timeout=DEADLINE_SECONDS)
            if event["event"] == wanted:
                return event

    def send(self, packet):
        self.sock.sendto(emit(packet), self.endpoint[:2])

    def received(self):
        return parse(self.sock.recv(65535))

    def command(self, **command):
        self.child.stdin.write(json.dumps(command).encode() + b"\n")
        self.child.stdin.flush()

    def test_it_takes_commands_reports_events_and_says_goodbye(self):
        self.start("--peer", str(from_sockaddr(self.sock.getsockname())), "--echo")
        self.assertEqual(self.received()[3:], (0x2A, ANY_NODE, b""))
        self.send(Packet(HELLO, 0, 1, 7, ANY_NODE))
        self.assertEqual(self.event("neighbor_added")["netid"], "00000007")
        self.assertEqual((self.received().kind, self.event("tx")["dst"]), (HELLO, "00000007"))
        self.send(Packet(DATA, 0, 2, 7, 0x2A, b"hi"))
        self.assertEqual(self.received()[3:], (0x2A, 7, b"echo:hi"))
        self.command(send="data", dst="7", payload="00ff", nonce="5")
        self.assertEqual(self.received(), Packet(DATA, 0, 5, 0x2A, 7, b"\x00\xff"))
        self.child.send_signal(signal.SIGTERM)
        self.assertEqual((self.received().kind, self.child.wait(DEADLINE_SECONDS)), (GOODBYE, 0))
        self.assertEqual(self.event("stop")["reason"], "SIGTERM")

    def test_it_outlives_its_input_and_ends_by_itself(self):
        with tempfile.NamedTemporaryFile("r") as log:
            self.start("--duration", "0.3", "--log", log.name)
            self.child.stdin.close()
            self.assertEqual(self.child.wait(DEADLINE_SECONDS), 0)
            self.assertEqual(self.event("stop")["reason"], "duration")
            self.assertEqual([json.loads(each)["event"] for each in log], ["start", "stop"])

    def test_a_silent_quit_says_no_goodbye(self):
        self.start()
        self.send(Packet(HELLO, 0, 1, 7, ANY_NODE))
        self.assertEqual(self.received().kind, HELLO)
        self.command(quit=True, silent=True)
        self.assertEqual(self.child.wait(DEADLINE_SECONDS), 0)
        self.sock.settimeout(0.05)
        with self.assertRaises(TimeoutError):
            self.received()

    def test_a_special_netid_is_refused(self):
        for netid in ("0", "ffffffff", "100000000", "x"):
            command = [sys.executable, os.path.join(FOLDER, "strict_node.py"), "--listen", "127.0.0.1:0", "--netid", netid]
            done = subprocess.run(command, capture_output=True, timeout=DEADLINE_SECONDS)
            self.assertEqual((done.returncode, done.stdout), (2, b""))


if __name__ == "__main__":
    unittest.main()
