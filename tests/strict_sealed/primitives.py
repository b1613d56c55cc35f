"""The primitives that wire/SEALED.md names, slow and plain: X25519, Ed25519, ChaCha20-Poly1305, BLAKE3.

Standard library only, and for tests: no side-channel care whatever.
"""

import hashlib
import hmac
import struct

# X25519 (RFC 7748)

P = 2**255 - 19


def x25519(secret: bytes, point: bytes) -> bytes:
    k = int.from_bytes(secret, "little") & ~7 & (1 << 254) - 1 | 1 << 254
    u = int.from_bytes(point, "little") & (1 << 255) - 1
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % P, b * b % P, d * a % P, c * b % P
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def public(secret: bytes) -> bytes:
    return x25519(secret, (9).to_bytes(32, "little"))


# Ed25519 (RFC 8032)

ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
BASE_Y = 4 * pow(5, P - 2, P) % P


def _x_of(y: int) -> int:
    """The even square root. Errors: ValueError, there is none."""
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P:
        raise ValueError("no point")
    return P - x if x & 1 else x


# A point is x, y, 1, x*y, all times a common factor: adding needs no division (RFC 8032, 5.1.4).
ZERO = (0, 1, 1, 0)


def _point(x: int, y: int):
    return x, y, 1, x * y % P


def _add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _multiple(k: int, power):
    total = ZERO
    while k:
        if k & 1:
            total = _add(total, power)
        power, k = _add(power, power), k >> 1
    return total


def _written(point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, P - 2, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _read(data: bytes):
    """Errors: ValueError, it is no point, or not written in the one way."""
    number = int.from_bytes(data, "little")
    y, odd = number & (1 << 255) - 1, number >> 255
    if y >= P:
        raise ValueError("no point")
    x = _x_of(y)
    if odd and not x:
        raise ValueError("no point")
    return _point(P - x if odd else x, y)


BASE = _point(_x_of(BASE_Y), BASE_Y)


def _times(k: int) -> bytes:
    """That multiple of the base point, written down."""
    return _written(_multiple(k, BASE))


def _scalars(secret: bytes) -> tuple[int, bytes]:
    hashed = hashlib.sha512(secret).digest()
    return int.from_bytes(hashed[:32], "little") & ~7 & (1 << 254) - 1 | 1 << 254, hashed[32:]


def verifying(secret: bytes) -> bytes:
    return _times(_scalars(secret)[0])


def sign(secret: bytes, message: bytes) -> bytes:
    def number(*parts):
        return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % ORDER

    a, prefix = _scalars(secret)
    r = number(prefix, message)
    point = _times(r)
    s = (r + number(point, verifying(secret), message) * a) % ORDER
    return point + s.to_bytes(32, "little")


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Strictly (S40): canonical S and R, no key of small order, no cofactor."""
    s = int.from_bytes(signature[32:], "little")
    try:
        point = _read(key)
    except ValueError:
        return False
    if s >= ORDER or _written(_multiple(8, point)) == _written(ZERO):
        return False
    hashed = hashlib.sha512(signature[:32] + key + message).digest()
    k = int.from_bytes(hashed, "little") % ORDER
    x, y, z, t = _multiple(k, point)
    # R = S * B - k * A, whose bytes must be those of the signature.
    return _written(_add(_multiple(s, BASE), (-x % P, y, z, -t % P))) == signature[:32]


# ChaCha20-Poly1305 (RFC 8439)


def _quarter(s, a, b, c, d):
    for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = s[x] + s[y] & 0xFFFFFFFF
        v = s[z] ^ s[x]
        s[z] = (v << n | v >> 32 - n) & 0xFFFFFFFF


def _rounds(start: list[int]) -> list[int]:
    s = start[:]
    for _ in range(10):
        for column in range(4):
            _quarter(s, column, column + 4, column + 8, column + 12)
        for column in range(4):
            _quarter(s, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
    return s


def _block(key: bytes, counter: int, nonce: bytes) -> bytes:
    start = list(struct.unpack("<16I", b"expand 32-byte k" + key + struct.pack("<I", counter) + nonce))
    return struct.pack("<16I", *(a + b & 0xFFFFFFFF for a, b in zip(_rounds(start), start)))


def _poly1305(key: bytes, message: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(message), 16):
        total = (total + int.from_bytes(message[at : at + 16] + b"\1", "little")) * r % (2**130 - 5)
    return (total + int.from_bytes(key[16:], "little") & 2**128 - 1).to_bytes(16, "little")


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def _stream(key: bytes, nonce: bytes, text: bytes) -> bytes:
    out = b""
    for number, at in enumerate(range(0, len(text), 64), 1):
        out += bytes(a ^ b for a, b in zip(text[at : at + 64], _block(key, number, nonce)))
    return out


def _tag(key: bytes, nonce: bytes, ad: bytes, sealed: bytes) -> bytes:
    lengths = struct.pack("<QQ", len(ad), len(sealed))
    return _poly1305(_block(key, 0, nonce)[:32], _pad(ad) + _pad(sealed) + lengths)


def seal_with(key: bytes, nonce: bytes, ad: bytes, text: bytes) -> bytes:
    sealed = _stream(key, nonce, text)
    return sealed + _tag(key, nonce, ad, sealed)


def open_with(key: bytes, nonce: bytes, ad: bytes, sealed: bytes) -> bytes:
    """Errors: ValueError."""
    if len(sealed) < 16 or not hmac.compare_digest(_tag(key, nonce, ad, sealed[:-16]), sealed[-16:]):
        raise ValueError("forged")
    return _stream(key, nonce, sealed[:-16])


def counted(counter: int) -> bytes:
    """The nonce of S21."""
    return bytes(4) + struct.pack("<Q", counter)


def seal(key: bytes, counter: int, ad: bytes, text: bytes) -> bytes:
    return seal_with(key, counted(counter), ad, text)


def open_(key: bytes, counter: int, ad: bytes, sealed: bytes) -> bytes:
    return open_with(key, counted(counter), ad, sealed)


# XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03)


def extended(key: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    """Key and nonce for ChaCha20-Poly1305, of a nonce of 24 bytes: HChaCha20 of its first 16."""
    s = _rounds(list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce[:16])))
    return struct.pack("<8I", *s[:4], *s[12:]), bytes(4) + nonce[16:]


def seal_extended(key: bytes, nonce: bytes, ad: bytes, text: bytes) -> bytes:
    return seal_with(*extended(key, nonce), ad, text)


def open_extended(key: bytes, nonce: bytes, ad: bytes, sealed: bytes) -> bytes:
    return open_with(*extended(key, nonce), ad, sealed)


# BLAKE3, of at most one chunk (1,024 bytes), which is all that a mac covers

_IV = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)


def _mix(s, a, b, c, d, x, y):
    for m, n, o in ((x, 16, 12), (y, 8, 7)):
        s[a] = s[a] + s[b] + m & 0xFFFFFFFF
        v = s[d] ^ s[a]
        s[d] = (v >> n | v << 32 - n) & 0xFFFFFFFF
        s[c] = s[c] + s[d] & 0xFFFFFFFF
        v = s[b] ^ s[c]
        s[b] = (v >> o | v << 32 - o) & 0xFFFFFFFF


def _blake3(chain: tuple, message: bytes, mode: int) -> bytes:
    """Of one chunk, which is the root. Errors: ValueError."""
    if len(message) > 1024:
        raise ValueError("more than a chunk")
    blocks = [message[at : at + 64] for at in range(0, len(message), 64)] or [b""]
    for number, block in enumerate(blocks):
        # CHUNK_START; and at the end CHUNK_END, ROOT
        flags = mode | (number == 0) | (2 | 8) * (number == len(blocks) - 1)
        words = list(struct.unpack("<16I", block + bytes(64 - len(block))))
        s = [*chain, *_IV[:4], 0, 0, len(block), flags]
        for _ in range(7):
            for at in range(4):
                _mix(s, at, at + 4, at + 8, at + 12, words[2 * at], words[2 * at + 1])
            for at in range(4):
                b, c, d = 4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4
                _mix(s, at, b, c, d, words[8 + 2 * at], words[9 + 2 * at])
            words = [words[at] for at in _PERMUTATION]
        chain = tuple(s[at] ^ s[at + 8] for at in range(8))
    return struct.pack("<8I", *chain)


def blake3(message: bytes) -> bytes:
    return _blake3(_IV, message, 0)


def mac(key: bytes, message: bytes) -> bytes:
    """Keyed, and its first 16 bytes."""
    return _blake3(struct.unpack("<8I", key), message, 16)[:16]
