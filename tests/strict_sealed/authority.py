"""What an authority signs: certificates and revocation lists (S35 to S40, S77, S78), and who may come up by them."""

import base64
import hashlib
import struct
from dataclasses import dataclass

from primitives import sign, verify

GRACE_SECONDS = 86_400
RIGHTS = 0x1F
ENTRIES = 512


@dataclass
class Certificate:
    """Of one node; `prefixes` as (family, bits, address)."""

    netid: int
    s: bytes
    v: bytes
    not_before: int
    not_after: int
    serial: int
    rights: int
    rate_class: int
    name: str
    prefixes: list[tuple[int, int, bytes]]

    def is_in_time(self, now: float) -> bool:
        """By a clock that is not known to be right (S37)."""
        return self.not_before - GRACE_SECONDS <= now <= self.not_after + GRACE_SECONDS


class Reader:
    """Bytes from the first on. Errors of all: ValueError, there are no more."""

    def __init__(self, data: bytes):
        self.rest = data

    def take(self, count: int) -> bytes:
        taken, self.rest = self.rest[:count], self.rest[count:]
        if len(taken) != count:
            raise ValueError("it ends too soon")
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")


def certificate(data: bytes, mesh_id: bytes, authority: bytes) -> Certificate:
    """Errors: ValueError, it has another form than the canonical one, or is not of this authority and mesh."""
    reader = Reader(data)
    if reader.number(1) != 1:
        raise ValueError("version")
    if reader.take(16) != mesh_id:
        raise ValueError("another mesh")
    netid, s, v = reader.number(4), reader.take(32), reader.take(32)
    not_before, not_after, serial = (reader.number(8) for _ in range(3))
    rights, rate_class = reader.number(2), reader.number(1)
    name = reader.take(reader.number(1))
    prefixes = [prefix(reader.take(18)) for _ in range(reader.number(1))]
    signature = reader.take(64)
    is_canonical = (
        not reader.rest
        and netid not in (0, 0xFFFFFFFF)
        and not_before <= not_after
        and not rights & ~RIGHTS
        and len(name) <= 32
        and all(0x20 <= byte <= 0x7E for byte in name)
        and len(prefixes) <= 8
        and all(first < second for first, second in zip(prefixes, prefixes[1:]))
    )
    if not is_canonical:
        raise ValueError("not canonical")
    if not verify(authority, b"mesh-cert v1" + data[:-64], signature):
        raise ValueError("not the authority's")
    return Certificate(
        netid, s, v, not_before, not_after, serial, rights, rate_class, name.decode("ascii"), prefixes
    )


def prefix(data: bytes) -> tuple[int, int, bytes]:
    """Errors: ValueError."""
    family, bits, address = data[0], data[1], data[2:]
    used = {4: 32, 6: 128}.get(family)
    if used is None or bits > used or int.from_bytes(address, "big") & (1 << 128 - bits) - 1:
        raise ValueError("prefix")
    return family, bits, address


@dataclass
class Revocations:
    """A list's number, and whom it shuts out."""

    number: int
    serials: set[int]
    keys: set[bytes]

    def revokes(self, s: bytes, serial: int | None) -> bool:
        return s in self.keys or serial in self.serials


def revocations(data: bytes, mesh_id: bytes, authority: bytes) -> Revocations:
    """Errors: ValueError, as with certificates."""
    reader = Reader(data)
    if reader.number(1) != 1:
        raise ValueError("version")
    if reader.take(16) != mesh_id:
        raise ValueError("another mesh")
    number, count = reader.number(8), reader.number(2)
    entries = [struct.unpack(">Q32sQ", reader.take(48)) for _ in range(min(count, ENTRIES))]
    signature = reader.take(64)
    are_entries = all(serial or any(s) for serial, s, _ in entries)
    rises = all(first < second for first, second in zip(entries, entries[1:]))
    if reader.rest or not number or count > ENTRIES or not are_entries or not rises:
        raise ValueError("not canonical")
    if not verify(authority, b"mesh-revocation v1" + data[:-64], signature):
        raise ValueError("not the authority's")
    serials = {serial for serial, _, _ in entries if serial}
    return Revocations(number, serials, {s for _, s, _ in entries if any(s)})


def signed_revocations(secret: bytes, mesh_id: bytes, number: int, entries) -> bytes:
    """A revocation list (S78); an entry is serial, S, not after."""
    body = b"\1" + mesh_id + struct.pack(">QH", number, len(entries))
    for serial, s, not_after in sorted(entries):
        body += struct.pack(">Q32sQ", serial, s, not_after)
    return body + sign(secret, b"mesh-revocation v1" + body)


LABELS = {
    "ma1-": b"mesh-authority v1", "mc1-": b"mesh-certificate v1", "mr1-": b"mesh-revocations v1",
    "mi1-": b"mesh-invitation v1", "mk1-": b"mesh-secret v1", "mk2-": b"mesh-secret v2",
}


def armor(prefix_: str, data: bytes) -> str:
    """Bytes as text: what an authority gives out (S77), secrets (S1, S91)."""
    checksum = hashlib.sha256(LABELS[prefix_] + data).digest()[:4]
    return prefix_ + base64.b32encode(data + checksum).decode().rstrip("=").lower()


def unarmored(text: str, prefix_: str) -> bytes:
    """Errors: ValueError."""
    if not text.lower().startswith(prefix_):
        raise ValueError("another text")
    digits = text[len(prefix_) :].upper()
    whole = base64.b32decode(digits + "=" * (-len(digits) % 8))
    data, checksum = whole[:-4], whole[-4:]
    is_canonical = base64.b32encode(whole).decode().rstrip("=") == digits
    if not is_canonical or checksum != hashlib.sha256(LABELS[prefix_] + data).digest()[:4]:
        raise ValueError("damaged")
    return data
