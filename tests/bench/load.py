"""Load for a relay, and the far ends that count what it sends: a program that `relay` runs.

    load.py OWN RELAY:PORT FAR_ENDS SECONDS

Sends messages of 1,416 bytes to the relay in trains of 45, each message new, and between trains
empties the sockets of the far ends. One loop does both, so that load never starves the counting;
what came is counted without being copied. Prints what was offered and delivered per second.
"""

import json
import socket
import struct
import sys
import time

MESSAGE = 1416
# What fits a UDP train.
TRAIN = 45
GENERATOR_PORT = 40000
UDP_SEGMENT, UDP_GRO = 103, 104
SO_RCVBUFFORCE = 33
SOCKET_BUFFER = 16 << 20
# Until the relay knows all ends, and then until it is at full speed.
HELLO_SECONDS, WARM_UP_SECONDS = 1.0, 0.5
MOST_RECEIVES = 256

# wire/PROTOCOL.md, Header: magic, version, kind, flags, nonce, src, dst.
HEADER = struct.Struct(">BBBBIII")
HELLO, DATA, NO_FORWARD = 0x01, 0x10, 0x80
NETID = 0x100
# Whom the messages are for: a node that the relay floods them toward.
DESTINATION = 0xBEEF


def open_end(address, port):
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER)
    end.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    end.setblocking(False)
    end.bind((address, port))
    return end


def greet(ends, relay):
    """Tells the relay of each end until it has certainly heard of all."""
    stop = time.monotonic() + HELLO_SECONDS
    while time.monotonic() < stop:
        for number, end in enumerate(ends):
            try:
                end.sendto(HEADER.pack(0xAC, 1, HELLO, NO_FORWARD, time.monotonic_ns() & 0xFFFFFFFF,
                                       NETID + number, 0), relay)
            except ConnectionRefusedError:
                pass
        time.sleep(0.2)


class Trains:
    """Trains of messages that differ in their nonces: number of the train, place in the train."""

    def __init__(self):
        self.number = 0
        payload = b"\xc0" + bytes(MESSAGE - HEADER.size - 1)
        headers = (HEADER.pack(0xAC, 1, DATA, 0, place, NETID, DESTINATION)
                   for place in range(TRAIN))
        self.bytes = bytearray().join(header + payload for header in headers)

    def next(self):
        self.number += 1
        for column, byte in enumerate(self.number.to_bytes(3, "big"), start=4):
            # The same byte of all messages at once.
            self.bytes[column::MESSAGE] = bytes([byte]) * TRAIN
        return self.bytes


def drain(ends, room):
    """Takes what the far ends have got; how many messages."""
    messages = 0
    for end in ends:
        for _ in range(MOST_RECEIVES):
            try:
                # The true length comes back though nothing is copied.
                length = end.recv_into(room, 1, socket.MSG_TRUNC)
            except BlockingIOError:
                break
            messages += length // MESSAGE
    return messages


def main():
    own, relay, far_ends, seconds = sys.argv[1:]
    host, port = relay.split(":")
    relay = (host, int(port))
    ends = [open_end(own, GENERATOR_PORT + number) for number in range(int(far_ends) + 1)]
    generator, far = ends[0], ends[1:]
    greet(ends, relay)
    generator.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, MESSAGE)
    generator.connect(relay)
    trains, room = Trains(), bytearray(1)
    drain(ends, room)
    offered = delivered = 0
    began = time.monotonic()
    start, stop = began + WARM_UP_SECONDS, began + WARM_UP_SECONDS + float(seconds)
    warm = False
    while (now := time.monotonic()) < stop:
        if not warm and now >= start:
            warm, offered, delivered, start = True, 0, 0, now
        for _ in range(4):
            try:
                generator.send(trains.next())
                offered += TRAIN
            except (BlockingIOError, ConnectionRefusedError):
                pass
            delivered += drain(far, room)
    lasted = time.monotonic() - start
    print(json.dumps({"offered": offered / lasted, "delivered": delivered / lasted,
                      "loaded_seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main()
