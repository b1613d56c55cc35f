"""As much of IP as it takes to send and to answer a ping."""

import struct


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(source: bytes, target: bytes) -> bytes:
    """An ICMPv6 echo request with nothing in it."""
    body = bytes.fromhex("8000000000070001")
    sum_ = checksum(source + target + struct.pack(">II", len(body), 58) + body)
    header = struct.pack(">IHBB", 6 << 28, len(body), 58, 64)
    return header + source + target + body[:2] + struct.pack(">H", sum_) + body[4:]


def echo_reply(packet: bytes) -> bytes | None:
    """The answer to an ICMP or ICMPv6 echo request; None for everything else."""
    if len(packet) >= 28 and packet[0] == 0x45 and packet[9] == 1 and packet[20:22] == b"\x08\0":
        body = b"\0\0\0\0" + packet[24:]
        body = body[:2] + struct.pack(">H", checksum(body)) + body[4:]
        # Source and destination change places, so the header's checksum stays right.
        return packet[:12] + packet[16:20] + packet[12:16] + body
    if len(packet) >= 48 and packet[0] >> 4 == 6 and packet[6] == 58 and packet[40:42] == b"\x80\0":
        addresses = packet[24:40] + packet[8:24]
        body = b"\x81\0\0\0" + packet[44:]
        pseudo = addresses + struct.pack(">II", len(body), 58)
        body = body[:2] + struct.pack(">H", checksum(pseudo + body)) + body[4:]
        return packet[:8] + addresses + body
    return None
