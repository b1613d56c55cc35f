//! IPv6 packets of TCP and UDP as a kernel makes them: finished, or as super-packets behind a virtio
//! header.

use std::net::Ipv6Addr;

/// TCP's number in IP.
pub const TCP: u8 = 6;
/// UDP's.
pub const UDP: u8 = 17;
/// Bytes of an IPv6 header.
const IPV6_LEN: usize = 40;

/// Bytes of headers in front of the payload.
pub const fn headers_len(protocol: u8) -> usize {
    IPV6_LEN + if protocol == TCP { 20 } else { 8 }
}

/// Where the checksum's field is in the header of TCP or UDP.
const fn checksum_at(protocol: u8) -> usize {
    if protocol == TCP { 16 } else { 6 }
}

/// A finished packet from one end to the other. `number` is its place in a stream of TCP whose
/// segments have this length.
pub fn packet(protocol: u8, ends: (Ipv6Addr, Ipv6Addr), number: usize, payload: &[u8]) -> Vec<u8> {
    let mut upper = upper(protocol, number, payload);
    let field = checksum_at(protocol);
    let sum = !sum(&[&pseudo_header(protocol, ends, upper.len()), &upper]);
    upper[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    wrap(protocol, ends, &upper)
}

/// A super-packet of `count` segments of `size` bytes of payload, behind its virtio header of 10
/// bytes: its checksum is the pseudo-header's.
pub fn super_packet(
    protocol: u8,
    ends: (Ipv6Addr, Ipv6Addr),
    size: usize,
    count: usize,
) -> Vec<u8> {
    let mut upper = upper(protocol, 0, &vec![0x5A; size * count]);
    let sum = sum(&[&pseudo_header(protocol, ends, upper.len())]);
    let field = checksum_at(protocol);
    upper[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    let kind = if protocol == TCP { 4 } else { 5 };
    let virtio = virtio(kind, size, field);
    [&virtio[..], &wrap(protocol, ends, &upper)].concat()
}

/// A single packet behind its virtio header, its checksum finished or not.
pub fn single_packet(packet: &[u8], is_finished: bool) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if is_finished {
        return [&[0; 10][..], &packet].concat();
    }
    let protocol = packet[6];
    let pseudo = [&packet[8..40], &[0, protocol], &packet[4..6]].concat();
    let field = checksum_at(protocol);
    let at = IPV6_LEN + field;
    packet[at..at + 2].copy_from_slice(&sum(&[&pseudo]).to_be_bytes());
    [&virtio(0, 0, field)[..], &packet].concat()
}

/// Bytes of the header of [`in_frame`].
pub const ETHERNET_LEN: usize = 14;

/// An Ethernet header for IPv6 in front of a packet, from one end to the other.
pub fn in_frame((from, to): ([u8; 6], [u8; 6]), packet: &[u8]) -> Vec<u8> {
    [&to[..], &from, &[0x86, 0xDD], packet].concat()
}

/// What [`super_packet`] gives, with an Ethernet header between its virtio header and the packet.
pub fn super_frame(ends: ([u8; 6], [u8; 6]), whole: &[u8]) -> Vec<u8> {
    let (virtio, packet) = whole.split_at(10);
    let mut virtio = virtio.to_vec();
    // Where the checksum counts from.
    virtio[6..8].copy_from_slice(&((IPV6_LEN + ETHERNET_LEN) as u16).to_ne_bytes());
    [virtio, in_frame(ends, packet)].concat()
}

/// `struct virtio_net_hdr` with a checksum to be made.
fn virtio(kind: u8, size: usize, field: usize) -> [u8; 10] {
    let mut bytes = [1, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    for (at, number) in [(4, size), (6, IPV6_LEN), (8, field)] {
        bytes[at..at + 2].copy_from_slice(&(number as u16).to_ne_bytes());
    }
    bytes
}

fn upper(protocol: u8, number: usize, payload: &[u8]) -> Vec<u8> {
    let mut upper = vec![0x12, 0x34, 0x12, 0x35];
    if protocol == TCP {
        let sequence = (number * payload.len()) as u32;
        upper.extend(sequence.to_be_bytes());
        upper.extend([0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    } else {
        upper.extend((8 + payload.len() as u16).to_be_bytes());
        upper.extend([0, 0]);
    }
    upper.extend(payload);
    upper
}

fn wrap(protocol: u8, (from, to): (Ipv6Addr, Ipv6Addr), upper: &[u8]) -> Vec<u8> {
    let len = (upper.len() as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, len[0], len[1], protocol, 64];
    [&head[..], &from.octets(), &to.octets(), upper].concat()
}

fn pseudo_header(protocol: u8, (from, to): (Ipv6Addr, Ipv6Addr), len: usize) -> Vec<u8> {
    let tail = [0, protocol, (len >> 8) as u8, len as u8];
    [&from.octets()[..], &to.octets(), &tail].concat()
}

/// The Internet checksum's sum (RFC 1071) of parts of even length, the last excepted.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}
