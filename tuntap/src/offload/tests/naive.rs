//! Cutting and merging as the RFCs read, byte by byte, without a thought for speed. It shares no
//! line with the code that it is held against: not the constants, not the reader of virtio headers.
//!
//! - IPv4 and fragments: RFC 791, RFC 6864 (what the identification means); IPv6 and its extension
//!   headers: RFC 8200; TCP: RFC 9293; ECN: RFC 3168; UDP: RFC 768; checksums: RFC 1071.
//! - What a virtio header means: virtio 1.2, section 5.1.6.

/// The Internet checksum: the complement of the one's complement sum.
pub(super) fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Where the headers of a packet lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The IP header.
    pub(super) ip: usize,
    /// What follows IP and its options or extension headers.
    pub(super) upper: usize,
    /// The protocol there, as IP numbers it.
    pub(super) protocol: u8,
    /// The packet is a fragment.
    pub(super) fragment: bool,
}

/// Walks the headers; `None` when they are cut off or of something else than IP.
pub(super) fn layout(is_tap: bool, packet: &[u8]) -> Option<Layout> {
    let mut ip = 0;
    let mut kind = None;
    if is_tap {
        let mut at = 12;
        while [0x8100, 0x88A8].contains(&word(packet.get(..at + 2)?, at)) {
            at += 4;
        }
        kind = Some(word(packet, at));
        ip = at + 2;
    }
    match (kind, packet.get(ip)? >> 4) {
        (None | Some(0x0800), 4) => {
            let header = packet.get(ip..ip + 20)?;
            let len = usize::from(header[0] & 15) * 4;
            (len >= 20 && packet.len() >= ip + len).then_some(Layout {
                ip,
                upper: ip + len,
                protocol: header[9],
                fragment: word(header, 6) & 0x3FFF != 0,
            })
        }
        (None | Some(0x86DD), 6) => {
            let mut protocol = *packet.get(ip + 6)?;
            let mut upper = ip + 40;
            let mut fragment = false;
            // Hop-by-hop, routing, fragment, destination options.
            while [0, 43, 44, 60].contains(&protocol) {
                let header = packet.get(upper..upper + 8)?;
                let words = match protocol {
                    44 => 0,
                    _ => usize::from(header[1]),
                };
                fragment |= protocol == 44;
                protocol = header[0];
                upper += 8 + words * 8;
            }
            (packet.len() >= upper).then_some(Layout {
                ip,
                upper,
                protocol,
                fragment,
            })
        }
        _ => None,
    }
}

/// The pseudo-header of a packet's TCP or UDP, for `len` bytes of it.
fn pseudo_header(packet: &[u8], layout: Layout, len: usize) -> Vec<u8> {
    let ip = &packet[layout.ip..];
    let addresses = if ip[0] >> 4 == 4 { 12..20 } else { 8..40 };
    let mut pseudo = ip[addresses].to_vec();
    pseudo.extend([0, layout.protocol]);
    pseudo.extend((len as u16).to_be_bytes());
    pseudo
}

/// Sets all lengths and checksums of a packet as its host would have.
pub(super) fn finish(packet: &mut [u8], layout: Layout) {
    let Layout { ip, upper, .. } = layout;
    let len = packet.len();
    if packet[ip] >> 4 == 4 {
        put(packet, ip + 2, (len - ip) as u16);
        put(packet, ip + 10, 0);
        let sum = checksum(&packet[ip..ip + usize::from(packet[ip] & 15) * 4]);
        put(packet, ip + 10, sum);
    } else {
        put(packet, ip + 4, (len - ip - 40) as u16);
    }
    let field = match layout.protocol {
        6 => upper + 16,
        17 => {
            put(packet, upper + 4, (len - upper) as u16);
            upper + 6
        }
        _ => return,
    };
    put(packet, field, 0);
    let whole = [
        &pseudo_header(packet, layout, len - upper),
        &packet[upper..],
    ]
    .concat();
    let sum = match checksum(&whole) {
        0 if layout.protocol == 17 => 0xFFFF,
        sum => sum,
    };
    put(packet, field, sum);
}

/// Makes of a finished packet what a host hands to a device that finishes checksums: the field holds
/// the pseudo-header's sum. Returns where the sum begins, and from there where the field is.
pub(super) fn unfinish(packet: &mut [u8], layout: Layout) -> (u16, u16) {
    let upper = layout.upper;
    let offset = if layout.protocol == 6 { 16 } else { 6 };
    let sum = sum(&pseudo_header(packet, layout, packet.len() - upper));
    put(packet, upper + usize::from(offset), sum);
    (upper as u16, offset)
}

/// The packets that a written packet stands for, by the virtio header in front of it.
///
/// # Panics
/// When header and packet do not fit together: what we write must.
pub(super) fn segment(is_tap: bool, virtio: [u8; 10], packet: &[u8]) -> Vec<Vec<u8>> {
    let number = |at: usize| usize::from(u16::from_ne_bytes([virtio[at], virtio[at + 1]]));
    if virtio[1] == 0 {
        assert_eq!(virtio, [0; 10], "a single packet is written as it is");
        return vec![packet.to_vec()];
    }
    let layout = layout(is_tap, packet).expect("a merged packet is IP");
    let Layout { ip, upper, .. } = layout;
    let version = packet[ip] >> 4;
    let is_tcp = match virtio[1] {
        1 => (version, layout.protocol) == (4, 6),
        4 => (version, layout.protocol) == (6, 6),
        5 => layout.protocol != 17,
        other => panic!("unknown type {other}"),
    };
    assert_eq!(is_tcp, layout.protocol == 6, "type and protocol");
    let headers = upper
        + if is_tcp {
            usize::from(packet[upper + 12] >> 4) * 4
        } else {
            8
        };
    let field = if is_tcp { 16 } else { 6 };
    let (size, ip_len) = (number(4), packet.len() - ip);
    assert_eq!(virtio[0], 1, "the checksum is to be made");
    assert_eq!((number(2), number(6), number(8)), (headers, upper, field));
    assert!(size > 0 && size < packet.len() - headers, "two or more");
    // The packet as it is must be sound but for its checksum, which holds the pseudo-header's sum.
    let mut expected = packet.to_vec();
    finish(&mut expected, layout);
    unfinish(&mut expected, layout);
    assert!(expected == packet && ip_len <= 65_535, "lengths, checksums");

    let payloads: Vec<&[u8]> = packet[headers..].chunks(size).collect();
    let mut parts = Vec::new();
    for (number, payload) in payloads.iter().enumerate() {
        let mut part = [&packet[..headers], payload].concat();
        if version == 4 {
            let id = word(&part, ip + 4).wrapping_add(number as u16);
            put(&mut part, ip + 4, id);
        }
        if is_tcp {
            let sequence = sequence(packet, upper).wrapping_add((number * size) as u32);
            part[upper + 4..upper + 8].copy_from_slice(&sequence.to_be_bytes());
            if number + 1 < payloads.len() {
                part[upper + 13] &= !0x09; // FIN, PSH
            }
            if number > 0 {
                part[upper + 13] &= !0x80; // CWR
            }
        }
        finish(&mut part, layout);
        parts.push(part);
    }
    parts
}

fn sequence(packet: &[u8], upper: usize) -> u32 {
    u32::from(word(packet, upper + 4)) << 16 | u32::from(word(packet, upper + 6))
}

/// Bytes that tell flows apart: version, protocol, addresses, ports. `None` for what is not TCP or
/// UDP right behind a bare IP header without tags, or a fragment.
pub(super) fn flow(is_tap: bool, packet: &[u8]) -> Option<Vec<u8>> {
    let at = layout(is_tap, packet)?;
    let version = packet[at.ip] >> 4;
    let is_bare = at.ip == if is_tap { 14 } else { 0 }
        && at.upper - at.ip == if version == 4 { 20 } else { 40 };
    if !is_bare || at.fragment || ![6, 17].contains(&at.protocol) || packet.len() < at.upper + 8 {
        return None;
    }
    let pseudo = pseudo_header(packet, at, 0);
    Some([&[version], &pseudo[..], &packet[at.upper..at.upper + 4]].concat())
}

/// Whether a packet of a flow is whole, right, has payload, and means nothing but that payload.
pub(super) fn is_plain(is_tap: bool, packet: &[u8]) -> bool {
    let Some(at) = layout(is_tap, packet) else {
        return false;
    };
    if at.protocol == 6 {
        let Some(headers) = packet
            .get(at.upper + 12)
            .map(|byte| usize::from(byte >> 4) * 4)
        else {
            return false;
        };
        // Only ACK, perhaps PSH; no reserved bit.
        let says_more = || word(packet, at.upper + 12) & 0x0FF7 != 0x0010;
        if headers < 20 || packet.len() <= at.upper + headers || says_more() {
            return false;
        }
    } else if packet.len() <= at.upper + 8 || word(packet, at.upper + 6) == 0 {
        return false;
    }
    is_sound(is_tap, packet)
}

/// Whether lengths and checksums of a packet are those that its host would have given it.
pub(super) fn is_sound(is_tap: bool, packet: &[u8]) -> bool {
    let Some(at) = layout(is_tap, packet) else {
        return false;
    };
    let mut finished = packet.to_vec();
    finish(&mut finished, at);
    finished == packet
}

/// What must be equal in packets that become one: all of the headers but lengths, checksums, the
/// sequence number, PSH, and the identification, whose order [`follows`] looks at.
fn template(is_tap: bool, packet: &[u8]) -> (Vec<u8>, usize) {
    let at = layout(is_tap, packet).expect("it was plain");
    let headers = at.upper
        + match at.protocol {
            6 => usize::from(packet[at.upper + 12] >> 4) * 4,
            _ => 8,
        };
    let mut bytes = packet[..headers].to_vec();
    if bytes[at.ip] >> 4 == 4 {
        for offset in [2, 4, 10] {
            put(&mut bytes, at.ip + offset, 0);
        }
    } else {
        put(&mut bytes, at.ip + 4, 0);
    }
    let zeros = if at.protocol == 6 {
        [4, 6, 16]
    } else {
        [4, 6, 6]
    };
    for offset in zeros {
        put(&mut bytes, at.upper + offset, 0);
    }
    if at.protocol == 6 {
        bytes[at.upper + 13] &= !0x08;
    }
    (bytes, packet.len() - headers)
}

/// Whether `packet` may follow `group` in one merged packet, so that cutting gives them all back.
fn follows(is_tap: bool, group: &[&[u8]], packet: &[u8]) -> bool {
    let at = layout(is_tap, packet).expect("it was plain");
    let (first, last) = (group[0], group[group.len() - 1]);
    let ((like, size), (this, len)) = (template(is_tap, first), template(is_tap, packet));
    let (_, last_len) = template(is_tap, last);
    let pushed = at.protocol == 6 && last[at.upper + 13] & 0x08 != 0;
    let bytes: usize = group.iter().map(|member| template(is_tap, member).1).sum();
    let may_be_cut = packet[at.ip] >> 4 == 4 && packet[at.ip + 6] & 0x40 == 0;
    let id = |packet: &[u8]| word(packet, at.ip + 4);
    like == this
        && last_len == size
        && len <= size
        && !pushed
        && group.len() < 64
        && (first.len() - size - at.ip) + bytes + len <= 65_535
        && (!may_be_cut || id(packet) == id(first).wrapping_add(group.len() as u16))
        && (at.protocol != 6
            || sequence(packet, at.upper) == sequence(first, at.upper).wrapping_add(bytes as u32))
}

/// Goes through packets and says which are written together, and in which order the writes come.
/// At most eight groups are open; nothing overtakes within a flow.
pub(super) fn merge(is_tap: bool, tcp: bool, udp: bool, packets: &[Vec<u8>]) -> Vec<Vec<usize>> {
    let mut open: Vec<(Vec<u8>, Vec<usize>)> = Vec::new();
    let mut written = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        let Some(flow) = flow(is_tap, packet) else {
            written.extend(open.drain(..).map(|(_, group)| group));
            written.push(vec![number]);
            continue;
        };
        let is_taken = if flow[flow.len() - 7] == 6 { tcp } else { udp };
        let is_plain = is_taken && is_plain(is_tap, packet);
        if let Some(place) = open.iter().position(|(other, _)| *other == flow) {
            let group = &mut open[place].1;
            let members: Vec<&[u8]> = group.iter().map(|n| &packets[*n][..]).collect();
            if is_plain && follows(is_tap, &members, packet) {
                group.push(number);
                continue;
            }
            written.push(open.remove(place).1);
        }
        if !is_plain {
            written.push(vec![number]);
            continue;
        }
        if open.len() == 8 {
            written.push(open.remove(0).1);
        }
        open.push((flow, vec![number]));
    }
    written.extend(open.into_iter().map(|(_, group)| group));
    written
}
