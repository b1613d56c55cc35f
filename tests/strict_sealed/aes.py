"""AES-256-GCM (NIST SP 800-38D), slow and plain, for tests: its tables alone would give keys away."""

import hmac
import struct


def _double(x: int) -> int:
    return x << 1 ^ (0x11B if x & 0x80 else 0)


def _boxes() -> list[int]:
    """FIPS 197, 5.1.1: powers of 3, their inverses, and the affine map."""
    powers, logs, x = [0] * 255, {}, 1
    for n in range(255):
        powers[n], logs[x] = x, n
        x ^= _double(x)
    box = []
    for value in range(256):
        inverse = powers[-logs[value] % 255] if value else 0
        spread = inverse | inverse << 8
        mixed = inverse
        for turn in range(1, 5):
            mixed ^= spread >> 8 - turn & 0xFF
        box.append(mixed ^ 0x63)
    return box


BOX = _boxes()
# SubBytes, ShiftRows and MixColumns of one byte: a column each (FIPS 197, 5.1).
COLUMNS = [_double(s) << 24 | s << 16 | s << 8 | (_double(s) ^ s) for s in BOX]
TABLES = [[column >> turn | column << 32 - turn & 0xFFFFFFFF for column in COLUMNS] for turn in (0, 8, 16, 24)]


def _word(x: int) -> int:
    return BOX[x >> 24] << 24 | BOX[x >> 16 & 255] << 16 | BOX[x >> 8 & 255] << 8 | BOX[x & 255]


def expand(key: bytes) -> list[int]:
    """The 60 words of the rounds' keys."""
    words, constant = list(struct.unpack(">8I", key)), 1
    for n in range(8, 60):
        last = words[-1]
        if n % 8 == 0:
            last = _word((last << 8 | last >> 24) & 0xFFFFFFFF) ^ constant << 24
            constant = _double(constant)
        elif n % 8 == 4:
            last = _word(last)
        words.append(words[-8] ^ last)
    return words


def block(words: list[int], data: bytes) -> bytes:
    s = [a ^ b for a, b in zip(struct.unpack(">4I", data), words)]
    t0, t1, t2, t3 = TABLES
    for at in range(4, 56, 4):
        s = [
            t0[s[n] >> 24] ^ t1[s[(n + 1) % 4] >> 16 & 255] ^ t2[s[(n + 2) % 4] >> 8 & 255] ^ t3[s[(n + 3) % 4] & 255]
            ^ words[at + n]
            for n in range(4)
        ]
    last = [
        _word(s[n] & 0xFF000000 | s[(n + 1) % 4] & 0xFF0000 | s[(n + 2) % 4] & 0xFF00 | s[(n + 3) % 4] & 0xFF)
        ^ words[56 + n]
        for n in range(4)
    ]
    return struct.pack(">4I", *last)


def _multiply(x: int, y: int) -> int:
    """In the field of GHASH, whose bits are written the other way round."""
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return product


def _tag(words: list[int], nonce: bytes, ad: bytes, sealed: bytes) -> bytes:
    key, total = int.from_bytes(block(words, bytes(16)), "big"), 0
    padded = ad + bytes(-len(ad) % 16) + sealed + bytes(-len(sealed) % 16)
    padded += struct.pack(">QQ", 8 * len(ad), 8 * len(sealed))
    for at in range(0, len(padded), 16):
        total = _multiply(total ^ int.from_bytes(padded[at : at + 16], "big"), key)
    first = int.from_bytes(block(words, nonce + b"\0\0\0\1"), "big")
    return (total ^ first).to_bytes(16, "big")


def _stream(words: list[int], nonce: bytes, text: bytes) -> bytes:
    out = b""
    for number, at in enumerate(range(0, len(text), 16), 2):
        out += bytes(a ^ b for a, b in zip(text[at : at + 16], block(words, nonce + struct.pack(">I", number))))
    return out


def seal(key: bytes, counter: int, ad: bytes, text: bytes) -> bytes:
    """With the nonce of S21."""
    words, nonce = expand(key), bytes(4) + struct.pack(">Q", counter)
    sealed = _stream(words, nonce, text)
    return sealed + _tag(words, nonce, ad, sealed)


def open_(key: bytes, counter: int, ad: bytes, sealed: bytes) -> bytes:
    """Errors: ValueError."""
    words, nonce = expand(key), bytes(4) + struct.pack(">Q", counter)
    if len(sealed) < 16 or not hmac.compare_digest(_tag(words, nonce, ad, sealed[:-16]), sealed[-16:]):
        raise ValueError("forged")
    return _stream(words, nonce, sealed[:-16])
