"""A member of a sealed mesh, without sockets: datagrams, ticks and commands in; datagrams and events out.

```text
datagram -> link's channel -> frames -> message -> judge -> end's channel -> payload
                                            \\-> all other links
```
"""

import hashlib
import secrets
import struct

import endtoend
import packet
import sealed
from channel import END_RETRY, Channel, Indices
from endtoend import ALL_NODES
from handshake import EndScope, LinkScope, Local, Refused

ANY_NODE, NO_FORWARD = 0, 0x80
HELLO, GOODBYE, PING, PONG, INFORM, DATA = 1, 2, 3, 4, 5, 0x10
KEEPALIVE = b"\x80\1\0\0"
PATH_CHALLENGE, PATH_RESPONSE, SIZE_PROBE, SIZE_SEEN, CLOSE = 2, 3, 4, 5, 6
KEEPALIVE_SECONDS, REMEMBER_SECONDS, SEEN = 10, 300, 100_000
END_LIFETIME = 7_200


def name(netid: int) -> str:
    return f"{netid:08x}"


def control(kind: int, body: bytes) -> bytes:
    return struct.pack(">HH", 0x8000 | kind, len(body)) + body


class Seen:
    """Hashes of messages, each for 300 s (R16 to R18)."""

    def __init__(self):
        self.times: dict[bytes, float] = {}

    def add(self, message: bytes, now: float) -> bool:
        digest = hashlib.blake2b(message, digest_size=16).digest()
        while self.times:
            oldest = next(iter(self.times))
            if now - self.times[oldest] < REMEMBER_SECONDS and len(self.times) < SEEN:
                break
            del self.times[oldest]
        is_new = digest not in self.times
        self.times.setdefault(digest, now)
        return is_new


class Member:
    """State: `links` by endpoint, `ends` by netid; indices of each lead to the channel at once.

    `transmit(endpoint, datagram)` sends, `report(event)` takes a dict, `clock()` gives seconds.
    """

    def __init__(self, local: Local, peers, transmit, report, clock):
        self.local, self.transmit, self.report, self.clock = local, transmit, report, clock
        self.links: dict[object, Channel] = {}
        self.ends: dict[int, Channel] = {}
        # How the E-INIT came that is being answered: by a neighbor's link, or flooded.
        self.ways: dict[int, object] = {}
        self.link_indices, self.end_indices = Indices(), Indices()
        self.seen = Seen()
        self.sequence = 0
        self.said_at: dict[object, float] = {}
        for peer in peers:
            self._link(peer).dial(clock())

    def tick(self) -> None:
        now = self.clock()
        for endpoint, channel in list(self.links.items()):
            channel.tick(now)
            if channel.current is not None and now - self.said_at.get(endpoint, now) >= KEEPALIVE_SECONDS:
                channel.say(KEEPALIVE, now)
        for channel in list(self.ends.values()):
            channel.tick(now)

    def live(self) -> dict[object, int]:
        """Endpoints of links that can seal, with the netid at the far end."""
        up = {endpoint: channel.current for endpoint, channel in self.links.items()}
        return {endpoint: session.remote.netid for endpoint, session in up.items() if session is not None}

    # Links

    def _link(self, endpoint) -> Channel:
        if endpoint not in self.links:
            scope = LinkScope(self.local.mesh)

            def send(datagram):
                self.said_at[endpoint] = self.clock()
                self.transmit(endpoint, datagram)

            self.links[endpoint] = Channel(
                self.local, self.link_indices, lambda _ours: scope, send,
                lambda channel: self._link_up(endpoint, channel), greeting=KEEPALIVE,
            )
        return self.links[endpoint]

    def _link_up(self, endpoint, channel: Channel) -> None:
        netid = channel.current.remote.netid
        aead = channel.current.aead
        event = {"event": "link", "netid": name(netid), "endpoint": str(endpoint), "aead": aead}
        certificate = channel.current.remote.certificate
        self.report({**event, "name": certificate.name, "serial": certificate.serial} if certificate else event)
        self.say_on(endpoint, self.message(HELLO, netid, flags=NO_FORWARD))
        # Neighbors complete a handshake between ends at once (S68).
        self._end(netid).dial(self.clock())

    def receive(self, endpoint, datagram: bytes) -> None:
        try:
            text, source = self._open(endpoint, datagram)
        except (Refused, IndexError) as error:
            self.report({"event": "refused", "from": str(endpoint), "reason": str(error), "hex": datagram[:8].hex()})
            return
        for kind, body in sealed.frames(text)[0]:
            if kind == 0:
                self._on_message(source, body)
            elif kind == PATH_CHALLENGE and len(body) == 8:
                self._say_control(source, PATH_RESPONSE, body)
            elif kind == SIZE_PROBE:
                self._say_control(source, SIZE_SEEN, struct.pack(">H", len(datagram)))
            elif kind == CLOSE:
                self.report({"event": "close", "from": str(source)})

    def _open(self, endpoint, datagram: bytes):
        """What a datagram holds, and the endpoint of its link. Errors: Refused."""
        now = self.clock()
        if len(datagram) < 16 or datagram[0] != 0xAE:
            raise Refused("not sealed")
        kind = datagram[1]
        if kind == 1:
            self._link(endpoint).on_init(datagram, now)
            return b"", endpoint
        at = {2: 8, 3: 8, 5: 4}.get(kind)
        if at is None:
            raise Refused("kind")
        channel = self.link_indices.get(int.from_bytes(datagram[at : at + 4], "big"))
        if channel is None:
            raise Refused("unknown index")
        source = next(at for at, one in self.links.items() if one is channel)
        if kind == 2:
            channel.on_resp(datagram, now)
        elif kind == 3:
            channel.on_fin(datagram, now)
        else:
            return channel.on_sealed(datagram, now), source
        return b"", source

    def _say_control(self, endpoint, kind: int, body: bytes) -> None:
        if endpoint in self.live():
            self.links[endpoint].say(control(kind, body), self.clock())

    # Messages (PROTOCOL.md)

    def message(self, kind: int, dst: int, payload: bytes = b"", flags: int = 0) -> bytes:
        """A new message of ours, remembered, so that its echo is known."""
        head = struct.pack(">BBBBIII", 0xAC, 1, kind, flags, secrets.randbits(32), self.local.netid, dst)
        self.seen.add(head + payload, self.clock())
        return head + payload

    def say_on(self, endpoint, message: bytes) -> None:
        self.links[endpoint].say(struct.pack(">H", len(message)) + message, self.clock())

    def flood(self, message: bytes, except_netid: int | None = None) -> None:
        for endpoint, netid in self.live().items():
            if netid != except_netid:
                self.say_on(endpoint, message)

    def _on_message(self, source, message: bytes) -> None:
        neighbor = self.live().get(source)
        if len(message) < 16 or message[:2] != b"\xac\1" or neighbor is None:
            return
        kind, flags = message[2], message[3]
        _, src, dst = struct.unpack(">III", message[4:16])
        is_ours, stays = dst in (ANY_NODE, ALL_NODES, self.local.netid), flags & NO_FORWARD
        if src in (0, ALL_NODES, self.local.netid) or (stays and not is_ours):
            return
        if not self.seen.add(message, self.clock()):
            return
        forwards = not stays and dst not in (ANY_NODE, self.local.netid)
        if kind == DATA:
            self.report({
                "event": "rx", "by": name(neighbor), "src": name(src), "dst": name(dst),
                "flags": f"{flags:02x}", "payload": message[16:].hex(), "forwarded": forwards,
            })
        if is_ours:
            self._deliver(source, neighbor, (kind, flags, src, dst), message[16:])
        if forwards:
            self.flood(message, neighbor)

    def _deliver(self, source, neighbor: int, header, payload: bytes) -> None:
        kind, flags, src, dst = header
        if kind == PING and (flags & NO_FORWARD or dst == ANY_NODE):
            self.say_on(source, self.message(PONG, src, flags=flags & NO_FORWARD))
        elif kind == PING and dst == self.local.netid:
            self.flood(self.message(PONG, src))
        elif kind == PONG:
            self.report({"event": "pong", "src": name(src)})
        elif kind == HELLO and src == neighbor:
            self.report({"event": "hello", "src": name(src)})
        elif kind == DATA and payload[:1] == b"\xc8":
            try:
                self._on_end(source, src, dst, flags & NO_FORWARD, payload)
            except (Refused, ValueError, IndexError) as error:
                self.report({"event": "refused", "from": name(src), "reason": str(error), "hex": payload[:8].hex()})
        elif kind == DATA and flags & NO_FORWARD and src == neighbor:
            # The link's seal proves who sent it, and that nobody else carried it (S70).
            self._take(src, dst, payload, "link")

    # Ends (S54 to S73)

    def _end(self, netid: int) -> Channel:
        if netid not in self.ends:
            mesh, us = self.local.mesh, self.local.netid

            def scope(is_ours):
                return EndScope(mesh, *((us, netid) if is_ours else (netid, us)), us)

            self.ends[netid] = Channel(
                self.local, self.end_indices, scope, lambda payload: self._send_to(netid, payload),
                lambda channel: self._end_up(netid, channel),
                called=netid, retry=END_RETRY, lifetime=END_LIFETIME,
            )
        return self.ends[netid]

    def _end_up(self, netid: int, channel: Channel) -> None:
        self.ways.pop(netid, None)
        self.report({"event": "end", "netid": name(netid), "aead": channel.current.aead})

    def _send_to(self, netid: int, payload: bytes) -> None:
        """Over the neighbor's link alone, or the way that its E-INIT came; else to all links."""
        way = self.ways.get(netid)
        near = [endpoint for endpoint, far in self.live().items() if far == netid]
        if near and way in (None, *near):
            self.say_on(near[0], self.message(DATA, netid, payload, NO_FORWARD))
        else:
            self.flood(self.message(DATA, netid, payload))

    def _on_end(self, source, src: int, dst: int, stays: int, payload: bytes) -> None:
        """Errors: Refused, ValueError."""
        now, kind = self.clock(), payload[1]
        if kind == 5 and dst == ALL_NODES:
            end = self.ends.get(src)
            v = end.current.remote.v if end and end.current else None
            mesh = self.local.mesh
            if endtoend.epoch_of(payload) != mesh.epoch:
                raise Refused("epoch")
            self._take(src, dst, endtoend.open_broadcast(mesh.broadcast, mesh.mesh_id, src, payload, v), "broadcast")
            return
        if dst != self.local.netid:
            raise Refused("not for us")
        channel = self._end(src)
        if kind == 1:
            self.ways[src] = source if stays else "flood"
            channel.on_init(payload, now)
        elif kind == 2:
            channel.on_resp(payload, now)
        elif kind == 3:
            channel.on_fin(payload, now)
        elif kind == 4:
            if self.end_indices.get(int.from_bytes(payload[4:8], "big")) is not channel:
                # One of the two has started anew (S66).
                channel.dial(now)
                raise Refused("no session")
            text = channel.on_sealed(payload, now)
            if text:
                self._take(src, dst, text, "end")
        else:
            raise Refused("kind")

    def send_data(self, dst: int, payload: bytes) -> None:
        """Seals a payload as S69 and S71 ask for, and sends it."""
        far = set(self.live().values())
        if dst == ALL_NODES:
            mesh = self.local.mesh
            whole = endtoend.broadcast(
                mesh.broadcast, mesh.mesh_id, self.local.netid, self.local.boot, self.sequence, payload,
                epoch=mesh.epoch,
            )
            self.sequence += 1
            self.flood(self.message(DATA, ALL_NODES, whole))
        elif far == {dst}:
            endpoint = next(iter(self.live()))
            self.say_on(endpoint, self.message(DATA, dst, payload, NO_FORWARD))
        else:
            self._end(dst).say(payload, self.clock())

    def send_ping(self, dst: int) -> None:
        self.flood(self.message(PING, dst))

    def _take(self, src: int, dst: int, payload: bytes, by: str) -> None:
        """`by`: whose seal proves it; link, end or broadcast."""
        if not payload or payload[:1] == b"\xc8":
            return
        self.report({"event": "data", "src": name(src), "dst": name(dst), "by": by, "payload": payload.hex()})
        answer = packet.echo_reply(payload)
        if answer is not None and dst == self.local.netid:
            self.send_data(src, answer)
