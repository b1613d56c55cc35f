"""Handshakes and sessions of links and of ends, with everything that a receiver has to refuse.

A *scope* is what differs between the two: where the bytes stand, and what they hang on.
"""

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import authority
import endtoend
import sealed
from primitives import mac, public, verify

CHACHA, AES = 1, 2
COUNTER_LIMIT = 2**44
WINDOW, LEAP = 8_192, 2**24
# Keys that agree on nothing (S13), as little-endian numbers without their top bit.
DEGENERATE = {
    0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18,
    int.from_bytes(bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "little"),
    int.from_bytes(bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "little"),
}
# Type: in which messages it may stand, its lengths (S14).
RECORDS = {
    1: ((1,), 1, 8), 3: ((2,), 1, 1), 5: ((1, 2), 1, 1), 7: ((1,), 4, 4), 9: ((2, 3), 4, 4),
    11: ((2, 3), 178, 354), 13: ((2, 3), 96, 96), 2: ((1, 2), 4, 4), 4: ((2, 3), 8, 8),
    6: ((2, 3), 18, 18), 8: ((2, 3), 2, 2), 10: ((2, 3), 8, 8), 12: ((2, 3), 12, 12),
}
MUST = {1: {1, 5}, 2: {3, 5, 9, 10}, 3: {9, 10}}


class Refused(ValueError):
    """What came is dropped, silently, and nothing has changed."""


@dataclass
class Local:
    """A node's keys; `boot` is the counter of its starts and four random bytes."""

    mesh: "sealed.Mesh"
    netid: int
    x25519: bytes
    ed25519: bytes
    boot: bytes
    # What it offers to seal with, best first (S19).
    aeads: tuple[int, ...] = (CHACHA,)
    # What the authority gave it, and the authority's key: with that, nobody comes up without a certificate.
    certificate: bytes = b""
    authority: bytes = b""
    revocations: "authority.Revocations | None" = None
    wall: Callable[[], float] = time.time

    def __post_init__(self):
        self.s = public(self.x25519)
        self.binding = sealed.binding(self.ed25519, self.mesh.mesh_id, self.netid, self.s)

    def credential(self) -> bytes:
        """Record 11 or 13."""
        return sealed.record(11, self.certificate) if self.certificate else sealed.record(13, self.binding)

    def certified(self, data: bytes, netid: int, s: bytes) -> "authority.Certificate":
        """The certificate, if it is good for this netid and S. Errors: Refused."""
        if not self.authority:
            raise Refused("no authority")
        try:
            read = authority.certificate(data, self.mesh.mesh_id, self.authority)
        except ValueError as error:
            raise Refused(f"certificate: {error}") from error
        if (read.netid, read.s) != (netid, s):
            raise Refused("certificate: another's")
        return read

    def admit(self, remote: "Remote") -> None:
        """Whether a node may come up (S34, S75, S76). Errors: Refused."""
        certificate = remote.certificate
        if self.revocations and self.revocations.revokes(remote.s, certificate and certificate.serial):
            raise Refused("revoked")
        if certificate and not certificate.is_in_time(self.wall()):
            raise Refused("certificate: expired or early")
        if self.authority and not certificate:
            raise Refused("no certificate")


@dataclass
class Remote:
    """Who the other side is, as its records say and its signature proves."""

    netid: int
    s: bytes
    v: bytes
    boot: bytes
    certificate: "authority.Certificate | None" = None


class LinkScope:
    """Between neighbors (S6 to S12)."""

    first, info = 0xAE, b"link-aead v1"

    def __init__(self, mesh):
        self.psk, self.mesh = mesh.link_psk, mesh

    def prologue(self, sender):
        return sealed.prologue(self.mesh.mesh_id, sender)

    def init(self, sender, noise):
        return sealed.init(self.mesh.mac1, sender, noise)

    def answer(self, kind, sender, receiver, noise):
        return sealed.answer(self.mesh.mac1, kind, sender, receiver, noise)

    def form(self, kind, before, rest):
        if kind == 1:
            is_right = len(before) + len(rest) == 1200 and len(rest) >= 32 and not any(rest[32:])
        else:
            is_right = rest[16:] == bytes(16)
        if not is_right:
            raise Refused("form or mac1")

    def check(self, kind, before, rest):
        self.form(kind, before, rest)
        if rest[:16] != mac(self.mesh.mac1, before):
            raise Refused("form or mac1")

    def associated(self, header, _sending):
        return header


class EndScope:
    """Between two ends (S54 to S57): of an attempt that `initiator` began."""

    first, info = 0xC8, endtoend.INFO

    def __init__(self, mesh, initiator, responder, us):
        self.psk, self.mesh = mesh.e2e_psk, mesh
        self.ends = initiator, responder
        self.us, self.them = us, responder if us == initiator else initiator

    def prologue(self, sender):
        return endtoend.prologue(self.mesh.mesh_id, *self.ends, sender)

    def init(self, sender, noise):
        return endtoend.init(self.mesh.e2e_mac1, self.us, self.them, sender, noise)

    def answer(self, kind, sender, receiver, noise):
        return endtoend.answer(self.mesh.e2e_mac1, self.us, self.them, kind, sender, receiver, noise)

    def check(self, _kind, before, rest):
        if rest != endtoend.mac1(self.mesh.e2e_mac1, self.them, self.us, before):
            raise Refused("form or mac1")

    def associated(self, header, sending):
        src, dst = (self.us, self.them) if sending else (self.them, self.us)
        return endtoend.associated(src, dst, header)


def parse(scope, kind: int, datagram: bytes) -> tuple[int, int, bytes]:
    """Sender index, receiver index, Noise message. Errors: Refused."""
    at = 10 if kind == 1 else 14
    suite = b"\1\1" if kind <= 2 else b"\0\0"
    if len(datagram) < at or len(datagram) > 1200 or datagram[:4] != bytes([scope.first, kind]) + suite:
        raise Refused("form")
    length = int.from_bytes(datagram[at - 2 : at], "big")
    before, rest = datagram[: at + length], datagram[at + length :]
    # Nothing that version 1 knows makes a longer one.
    if length < {1: 56, 2: 112, 3: 80}[kind] or length > 900 or len(rest) < 16:
        raise Refused("length")
    scope.check(kind, before, rest)
    sender, receiver = (int.from_bytes(datagram[n : n + 4], "big") for n in (4, 8))
    return sender, receiver, before[at:]


def scan(message: int, payload: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """The known records of Noise message 1, 2 or 3, up to the first fault; and whether there was none."""
    found, seen = [], set()
    while payload:
        if len(payload) < 3:
            return found, False
        kind, length = struct.unpack(">BH", payload[:3])
        value, payload = payload[3 : 3 + length], payload[3 + length :]
        if len(value) != length or kind in seen:
            return found, False
        seen.add(kind)
        if kind in RECORDS:
            within, least, most = RECORDS[kind]
            if message not in within or not least <= length <= most:
                return found, False
            found.append((kind, value))
        elif kind % 2:
            return found, False
    return found, True


def records(message: int, payload: bytes) -> dict[int, bytes]:
    """Errors: Refused."""
    found, is_whole = scan(message, payload)
    if not is_whole or MUST[message] - {kind for kind, _ in found}:
        raise Refused("records")
    return dict(found)


class Half:
    """One side's part of one handshake: the keys, and what both have in common."""

    def __init__(self, local: Local, scope, index: int, sender: int, is_initiator: bool):
        self.local, self.scope, self.index = local, scope, index
        self.noise = sealed.Noise(
            scope.psk, scope.prologue(sender), local.x25519, os.urandom(32), is_initiator
        )
        self.is_initiator = is_initiator

    def read(self, number: int, message: bytes) -> dict[int, bytes]:
        """Errors: Refused, and the handshake stays as it was (S16)."""
        before = dict(self.noise.__dict__)
        try:
            payload = self.noise.read((sealed.FIRST, sealed.SECOND, sealed.THIRD)[number - 1], message)
            for key in (self.noise.re, self.noise.rs):
                if key and int.from_bytes(key, "little") & (1 << 255) - 1 in DEGENERATE:
                    raise Refused("degenerate key")
            if self.noise.rs == self.local.s:
                raise Refused("reflection")
            return records(number, payload)
        except ValueError as error:
            self.noise.__dict__ = before
            raise Refused(str(error)) from error

    def own(self) -> bytes:
        local = self.local
        netid = struct.pack(">I", local.netid)
        own = sealed.record(9, netid) + local.credential() + sealed.record(10, local.boot)
        # The number of the newest list that it has (S79).
        if local.revocations:
            own += sealed.record(4, struct.pack(">Q", local.revocations.number))
        return own

    def remote(self, found: dict[int, bytes]) -> Remote:
        """Errors: Refused."""
        if (11 in found) == (13 in found):
            raise Refused("records")
        netid, s = int.from_bytes(found[9], "big"), self.noise.rs
        if netid in (0, 0xFFFFFFFF, self.local.netid):
            raise Refused("netid")
        if isinstance(self.scope, EndScope) and netid != self.scope.them:
            raise Refused("another's netid")
        if 11 in found:
            certificate = self.local.certified(found[11], netid, s)
            remote = Remote(netid, s, certificate.v, found[10], certificate)
        else:
            v, signature = found[13][:32], found[13][32:]
            if not verify(v, sealed.binding_text(self.local.mesh.mesh_id, netid, s), signature):
                raise Refused("binding")
            remote = Remote(netid, s, v, found[10])
        self.local.admit(remote)
        return remote

    def session(self, receiver: int, aead: int, remote: Remote) -> "Session":
        ours, theirs = (self.index, receiver) if self.is_initiator else (receiver, self.index)
        keys = [
            sealed.derive(key, self.scope.info + struct.pack(">BII", aead, ours, theirs))
            for key in self.noise.split()
        ]
        if not self.is_initiator:
            keys.reverse()
        return Session(self.scope, aead, (self.index, receiver), *keys, remote)


class Initiator(Half):
    """Sent `datagram`; waits for the RESP."""

    def __init__(self, local: Local, scope, index: int, called: int):
        super().__init__(local, scope, index, index, True)
        payload = sealed.record(1, bytes(local.aeads)) + sealed.record(5, b"\1")
        payload += sealed.record(7, struct.pack(">I", called))
        self.datagram = scope.init(index, self.noise.write(sealed.FIRST, payload))

    @property
    def ephemeral(self) -> bytes:
        return public(self.noise.e)

    def complete(self, datagram: bytes) -> tuple[bytes, "Session"]:
        """The FIN and the session. Errors: Refused."""
        sender, receiver, message = parse(self.scope, 2, datagram)
        if receiver != self.index:
            raise Refused("index")
        found = self.read(2, message)
        aead = found[3][0]
        if aead not in self.local.aeads:
            raise Refused("an AEAD that was not offered")
        remote = self.remote(found)
        fin = self.scope.answer(3, self.index, sender, self.noise.write(sealed.THIRD, self.own()))
        return fin, self.session(sender, aead, remote)


class Responder(Half):
    """Answered an INIT by `datagram`; waits for the FIN."""

    def __init__(self, local: Local, scope, index: int, datagram: bytes):
        sender, _, message = parse(scope, 1, datagram)
        super().__init__(local, scope, index, sender, False)
        self.receiver, self.fin = sender, b""
        found = self.read(1, message)
        called = int.from_bytes(found.get(7, b""), "big")
        if called not in (0, local.netid):
            raise Refused("another is called")
        common = [aead for aead in found[1] if aead in local.aeads]
        if not common:
            raise Refused("no common AEAD")
        self.aead = common[0]
        payload = sealed.record(3, bytes([self.aead])) + sealed.record(5, b"\1") + self.own()
        self.ephemeral = self.noise.re
        self.datagram = scope.answer(2, index, sender, self.noise.write(sealed.SECOND, payload))

    def finish(self, datagram: bytes) -> "Session":
        """Errors: Refused."""
        sender, receiver, message = parse(self.scope, 3, datagram)
        if (sender, receiver) != (self.receiver, self.index):
            raise Refused("index")
        found = self.read(3, message)
        session = self.session(sender, self.aead, self.remote(found))
        self.fin = datagram
        return session


def link_form(datagram: bytes, flags: int = 1) -> None:
    """The form of a LINK, or without flags of an E-DATA. Errors: Refused."""
    counter = int.from_bytes(datagram[8:16], "big")
    if len(datagram) < 32 or datagram[2] & ~flags or datagram[3] or counter >= COUNTER_LIMIT:
        raise Refused("form")


class Session:
    """Two keys, two indices, two counters (S20 to S23)."""

    def __init__(self, scope, aead: int, indices: tuple[int, int], sends: bytes, receives: bytes, remote: Remote):
        self.scope, self.aead, self.remote = scope, aead, remote
        self.local, self.index = indices
        self._seal, self._open = sealed.aead(aead)
        self.sends, self.receives = sends, receives
        self.counter, self.highest, self.opened = 0, -1, set()

    def seal(self, text: bytes, flags: int = 0) -> bytes:
        kind = 5 if self.scope.first == 0xAE else 4
        header = struct.pack(">BBBBIQ", self.scope.first, kind, flags, 0, self.index, self.counter)
        sealed_ = self._seal(self.sends, self.counter, self.scope.associated(header, True), text)
        self.counter += 1
        return header + sealed_

    def open(self, datagram: bytes) -> bytes:
        """Errors: Refused; nothing changed."""
        header = datagram[:16]
        counter = int.from_bytes(header[8:], "big")
        link_form(datagram, flags=1 if self.scope.first == 0xAE else 0)
        if counter in self.opened or counter <= self.highest - WINDOW:
            raise Refused("replayed")
        try:
            text = self._open(self.receives, counter, self.scope.associated(header, False), datagram[16:])
        except ValueError as error:
            raise Refused("forged") from error
        if counter > self.highest + LEAP:
            raise Refused("leap")
        self.opened.add(counter)
        if counter > self.highest:
            self.highest = counter
            if len(self.opened) > 2 * WINDOW:
                self.opened = {one for one in self.opened if one > counter - WINDOW}
        return text
