"""A second implementation of wire/SEALED.md: keys, handshakes, sessions and tokens, from the document alone.

Pure: bytes in, bytes out. With the fixed keys of tests/vectors/sealed/ it must arrive at the same bytes; see
README.md here.
"""

import hashlib
import hmac
import struct

import aes
from authority import armor, unarmored
from primitives import blake3, mac, open_, public, seal, sign, verifying, x25519

# Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s (revision 34)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.blake2s).digest()


def _hkdf(chain: bytes, data: bytes, outputs: int) -> list[bytes]:
    key, last, out = _hmac(chain, data), b"", []
    for number in range(1, outputs + 1):
        last = _hmac(key, last + bytes([number]))
        out.append(last)
    return out


class Noise:
    """The symmetric state, and one side's keys."""

    def __init__(self, psk: bytes, prologue: bytes, static: bytes, ephemeral: bytes, initiator: bool):
        name = b"Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s"
        self.h = self.chain = hashlib.blake2s(name).digest()
        self.key, self.n = b"", 0
        self.s, self.e, self.initiator = static, ephemeral, initiator
        self.rs = self.re = b""
        self._mix_hash(prologue)
        self.psk = psk

    def _mix_hash(self, data):
        self.h = hashlib.blake2s(self.h + data).digest()

    def _mix_key(self, data):
        self.chain, self.key = _hkdf(self.chain, data, 2)
        self.n = 0

    def _mix_psk(self):
        self.chain, mixed, self.key = _hkdf(self.chain, self.psk, 3)
        self._mix_hash(mixed)
        self.n = 0

    def _seal(self, text):
        sealed = seal(self.key, self.n, self.h, text)
        self.n += 1
        self._mix_hash(sealed)
        return sealed

    def _open(self, sealed):
        text = open_(self.key, self.n, self.h, sealed)
        self.n += 1
        self._mix_hash(sealed)
        return text

    def _agree(self, token):
        """The first letter is the initiator's key, the second the responder's."""
        mine, other = token if self.initiator else token[::-1]
        ours = self.e if mine == "e" else self.s
        theirs = self.re if other == "e" else self.rs
        self._mix_key(x25519(ours, theirs))

    def write(self, tokens, payload):
        out = b""
        for token in tokens:
            if token == "psk":
                self._mix_psk()
            elif token == "e":
                out += public(self.e)
                self._mix_hash(public(self.e))
                self._mix_key(public(self.e))
            elif token == "s":
                out += self._seal(public(self.s))
            else:
                self._agree(token)
        return out + self._seal(payload)

    def read(self, tokens, message):
        for token in tokens:
            if token == "psk":
                self._mix_psk()
            elif token == "e":
                self.re, message = message[:32], message[32:]
                self._mix_hash(self.re)
                self._mix_key(self.re)
            elif token == "s":
                self.rs, message = self._open(message[:48]), message[48:]
            else:
                self._agree(token)
        return self._open(message)

    def split(self):
        return _hkdf(self.chain, b"", 2)


FIRST, SECOND, THIRD = ("psk", "e"), ("e", "ee", "s", "es"), ("s", "se")

# SEALED.md


def derive(key: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-SHA256 with an empty salt; at most 32 bytes."""
    extracted = hmac.new(bytes(32), key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\1", hashlib.sha256).digest()[:length]


class Mesh:
    """What follows from a mesh secret (S2); from a later one, with the mesh id of the first (S91)."""

    def __init__(self, secret: bytes, mesh_id: bytes = b"", epoch: int = 0):
        self.mesh_id = mesh_id or derive(secret, b"mesh-id v1", 16)
        self.epoch = epoch
        self.link_psk = derive(secret, b"link-psk v1")
        self.mac1 = derive(secret, b"mac1 v1")
        self.cookie = derive(self.mac1, b"cookie v1")
        self.e2e_psk = derive(secret, b"e2e-psk v1")
        self.e2e_mac1 = derive(secret, b"e2e-mac1 v1")
        self.broadcast = derive(secret, b"bcast v1" + struct.pack(">I", epoch))


def binding_text(mesh_id: bytes, netid: int, s: bytes) -> bytes:
    return b"mesh-binding v1" + mesh_id + struct.pack(">I", netid) + s


def binding(secret: bytes, mesh_id: bytes, netid: int, s: bytes) -> bytes:
    """Record 13 (S32)."""
    return verifying(secret) + sign(secret, binding_text(mesh_id, netid, s))


def token(text: str) -> dict:
    """An invitation (S64). Errors: ValueError."""
    data = unarmored(text, "mi1-")
    secret, not_after, mtu = struct.unpack(">32sQH", data[:42])
    rest, texts = data[42:], []

    def string():
        nonlocal rest
        length, value = rest[0], rest[1 : 1 + rest[0]]
        if not 1 <= length == len(value):
            raise ValueError("length")
        rest = rest[1 + length :]
        return value.decode()

    mesh, count, rest = string(), rest[0], rest[1:]
    texts = [string() for _ in range(count)]
    mesh_id, epoch = lineage(rest) if rest else (b"", 0)
    if count > 16:
        raise ValueError("addresses")
    return {
        "secret": secret, "mesh_id": mesh_id, "epoch": epoch,
        "not_after": not_after, "mtu": mtu, "mesh": mesh, "addresses": texts,
    }


def lineage(data: bytes) -> tuple[bytes, int]:
    """Mesh id and epoch (S91). Errors: ValueError."""
    if len(data) != 20 or not any(data[16:]):
        raise ValueError("lineage")
    return data[:16], int.from_bytes(data[16:], "big")


def text_of(secret: bytes, mesh_id: bytes = b"", epoch: int = 0) -> str:
    """A mesh secret as text: `mk1-` the first one, `mk2-` those that followed."""
    if epoch:
        return armor("mk2-", secret + mesh_id + struct.pack(">I", epoch))
    return armor("mk1-", secret)


def secret_of(text: str) -> tuple[bytes, bytes, int]:
    """Secret, mesh id (empty for the first one) and epoch of a text. Errors: ValueError."""
    if text[:4].lower() == "mk2-":
        data = unarmored(text, "mk2-")
        return data[:32], *lineage(data[32:])
    data = unarmored(text, "mk1-")
    if len(data) != 32:
        raise ValueError("length")
    return data, b"", 0


def identity(x25519_secret: bytes, ed25519_secret: bytes) -> str:
    """The file with a node's private keys (S62)."""
    body = f"x25519 {x25519_secret.hex()}\ned25519 {ed25519_secret.hex()}\n"
    return f"floodmesh identity 1 {blake3(body.encode()).hex()[:16]}\n{body}"


def keys_of(text: str) -> tuple[bytes, bytes]:
    """Both private keys of such a file. Errors: ValueError, it is damaged."""
    lines = text.splitlines()
    if len(lines) != 3:
        raise ValueError("lines")
    keys = tuple(bytes.fromhex(line.rpartition(" ")[2]) for line in lines[1:])
    if identity(*keys) != text:
        raise ValueError("damaged")
    return keys


def netid_of(mesh_id: bytes, s: bytes) -> int:
    for salt in range(256):
        hashed = hashlib.blake2s(b"netid v1" + mesh_id + s + bytes([salt])).digest()
        netid = int.from_bytes(hashed[:4], "big")
        if netid not in (0, 0xFFFFFFFF):
            return netid
    raise ValueError("no netid")


def record(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


def records(payload: bytes) -> dict[int, bytes]:
    found = {}
    while payload:
        kind, length = struct.unpack(">BH", payload[:3])
        value, payload = payload[3 : 3 + length], payload[3 + length :]
        if kind in found or len(value) != length:
            raise ValueError("records")
        found[kind] = value
    return found


# Bodies of the controls that are known (S24): least and most bytes.
CONTROLS = {
    1: (0, 0), 2: (8, 8), 3: (8, 8), 4: (0, 65_535), 5: (2, 2), 6: (1, 1), 7: (24, 24), 8: (8, 8),
    9: (12, 12), 10: (17, 1_040),
}


def frames(text: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    """Messages as (0, message) and controls as (kind, body), up to the first fault; whether there was none."""
    found = []
    while text:
        word, text = int.from_bytes(text[:2], "big"), text[2:] if len(text) >= 2 else None
        if text is None:
            return found, False
        if word == 0:
            return found, True
        kind, length = word & 0x7FFF, word
        if word & 0x8000:
            if len(text) < 2:
                return found, False
            length, text = int.from_bytes(text[:2], "big"), text[2:]
            least, most = CONTROLS.get(kind, (0, 65_535))
            if not least <= length <= most:
                return found, False
        else:
            kind = 0
        if len(text) < length:
            return found, False
        found.append((kind, text[:length]))
        text = text[length:]
    return found, True


def prologue(mesh_id: bytes, sender: int) -> bytes:
    return b"mesh-link v1" + mesh_id + b"\1\1" + struct.pack(">I", sender)


def init(mac1_key: bytes, sender: int, message: bytes) -> bytes:
    head = struct.pack(">BBBBIH", 0xAE, 1, 1, 1, sender, len(message)) + message
    return (head + mac(mac1_key, head)).ljust(1200, b"\0")


def answer(mac1_key: bytes, kind: int, sender: int, receiver: int, message: bytes) -> bytes:
    suite = 1 if kind == 2 else 0
    head = struct.pack(">BBBBIIH", 0xAE, kind, suite, suite, sender, receiver, len(message)) + message
    return head + mac(mac1_key, head) + bytes(16)


def session_key(split: bytes, aead: int, initiator: int, responder: int) -> bytes:
    return derive(split, b"link-aead v1" + struct.pack(">BII", aead, initiator, responder))


def aead(number: int):
    """What seals and what opens under an AEAD of S19: (key, counter, associated data, bytes)."""
    return {1: (seal, open_), 2: (aes.seal, aes.open_)}[number]


def link(number: int, key: bytes, receiver: int, counter: int, frames: bytes) -> bytes:
    header = struct.pack(">BBBBIQ", 0xAE, 5, 0, 0, receiver, counter)
    return header + aead(number)[0](key, counter, header, frames)
