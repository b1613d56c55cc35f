"""What is sealed end to end: Data payloads that begin with `c8` (S54 to S61), bytes in, bytes out."""

import hashlib
import struct

from primitives import mac, open_extended, seal_extended, sign, verify
from sealed import aead

ALL_NODES = 0xFFFFFFFF
DATA = 0x10
INFO = b"e2e-aead v1"


def prologue(mesh_id: bytes, src: int, dst: int, sender: int) -> bytes:
    return b"mesh-e2e v1" + mesh_id + struct.pack(">II", src, dst) + b"\1\1" + struct.pack(">I", sender)


def mac1(key: bytes, src: int, dst: int, before: bytes) -> bytes:
    """Covers src and dst of the message that carries it."""
    return mac(key, struct.pack(">II", src, dst) + before)


def init(key: bytes, src: int, dst: int, sender: int, message: bytes) -> bytes:
    head = struct.pack(">BBBBIH", 0xC8, 1, 1, 1, sender, len(message)) + message
    return head + mac1(key, src, dst, head)


def answer(key: bytes, src: int, dst: int, kind: int, sender: int, receiver: int, message: bytes) -> bytes:
    suite = 1 if kind == 2 else 0
    head = struct.pack(">BBBBIIH", 0xC8, kind, suite, suite, sender, receiver, len(message)) + message
    return head + mac1(key, src, dst, head)


def associated(src: int, dst: int, header: bytes) -> bytes:
    return struct.pack(">IIB", src, dst, DATA) + header


def data(number: int, key: bytes, src: int, dst: int, receiver: int, counter: int, payload: bytes) -> bytes:
    """E-DATA under an AEAD of S19."""
    header = struct.pack(">BBBBIQ", 0xC8, 4, 0, 0, receiver, counter)
    return header + aead(number)[0](key, counter, associated(src, dst, header), payload)


def _nonce(src: int, boot: bytes, sequence: int) -> bytes:
    return hashlib.blake2s(struct.pack(">I8sQ", src, boot, sequence)).digest()[:24]


def _signed(mesh_id: bytes, src: int, header: bytes, body: bytes) -> bytes:
    hashed = hashlib.blake2s(body).digest()
    return b"mesh-bcast v1" + mesh_id + struct.pack(">II", src, ALL_NODES) + header + hashed


def broadcast(
    key: bytes, mesh_id: bytes, src: int, boot: bytes, sequence: int, payload: bytes, secret=None, epoch=0
) -> bytes:
    """E-BCAST under the key of an epoch; `secret` signs it."""
    header = struct.pack(">BBBBI8sQ", 0xC8, 5, secret is not None, 0, epoch, boot, sequence)
    nonce = _nonce(src, boot, sequence)
    body = seal_extended(key, nonce, associated(src, ALL_NODES, header), payload)
    return header + body + (sign(secret, _signed(mesh_id, src, header, body)) if secret else b"")


def epoch_of(bytes_: bytes) -> int:
    """Which secret an E-BCAST is under."""
    return int.from_bytes(bytes_[4:8], "big")


def open_broadcast(key: bytes, mesh_id: bytes, src: int, bytes_: bytes, v=None) -> bytes:
    """What is in it. A signature is verified where V of its src is known. Errors: ValueError."""
    if len(bytes_) < 40 or bytes_[:2] != b"\xc8\5" or bytes_[2] & ~1 or bytes_[3]:
        raise ValueError("no E-BCAST")
    header, body, signature = bytes_[:24], bytes_[24:], b""
    _, boot, sequence = struct.unpack(">I8sQ", header[4:])
    if sequence >= 2**44:
        raise ValueError("sequence")
    if header[2]:
        body, signature = body[:-64], body[-64:]
        if v and not verify(v, _signed(mesh_id, src, header, body), signature):
            raise ValueError("forged signature")
    return open_extended(key, _nonce(src, boot, sequence), associated(src, ALL_NODES, header), body)
