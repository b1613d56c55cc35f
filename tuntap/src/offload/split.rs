//! Cutting a super-packet into the packets that it stands for, as the kernel would.
//!
//! ```text
//!   | headers | payload ................................ |      read, up to 64 KiB
//!   | headers'| size | headers'| size | ... | headers'| rest |  packets of the device's MTU
//! ```
//!
//! What differs from packet to packet: the lengths; the IPv4 identification, counted up; the TCP
//! sequence number; FIN and PSH, which only the last one has, and CWR, which only the first has;
//! the checksums. A packet that is no super-packet may still lack its checksum; it gets it here.
//!
//! Source: the kernel's `tcp_gso_segment`, `__udp_gso_segment`, `inet_gso_segment`; RFC 9293, RFC
//! 3168 section 6.1.2 (CWR).

use super::checksum::Sum;
use super::packet::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, PSH, TCP_LEN, UDP_LEN, Upper};
use super::virtio::{Segments, VirtioHeader};
use crate::device::Mode;

const VLAN_LEN: usize = 4;
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
const ETHERTYPE_SERVICE_VLAN: [u8; 2] = [0x88, 0xA8];
const FIN: u8 = 0x01;
const CWR: u8 = 0x80;

/// What the kernel handed over and nobody can read: its header contradicts its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One packet as read, on its way to become one or many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Splitter {
    /// Where the IP header starts.
    ip: usize,
    /// Where the unfinished checksum counts from (the TCP or UDP header), and where its field is.
    checksum: Option<(usize, usize)>,
    /// How to cut; `None` for a single packet.
    cut: Option<Cut>,
    /// Bytes of the packet as read.
    len: usize,
    /// Bytes of it that were given out.
    done: usize,
    /// Packets that were given out.
    count: u16,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    segments: Segments,
    /// Payload of each packet but the last.
    size: usize,
    /// Bytes of all headers.
    headers: usize,
}

impl Splitter {
    /// Judges a packet as read.
    ///
    /// Shape: `packet` without the virtio header.
    pub(super) fn new(mode: Mode, header: VirtioHeader, packet: &[u8]) -> Result<Self, Malformed> {
        let ip = ip_at(mode, packet).ok_or(Malformed)?;
        let checksum = match header.checksum {
            None => None,
            Some((start, offset)) => {
                let start = usize::from(start);
                let field = start + usize::from(offset);
                if field + 2 > packet.len() {
                    return Err(Malformed);
                }
                Some((start, field))
            }
        };
        let cut = match header.segments {
            None => None,
            Some((segments, size)) => {
                Some(Cut::new(ip, segments, size, checksum, packet).ok_or(Malformed)?)
            }
        };
        Ok(Self {
            ip,
            checksum,
            cut,
            len: packet.len(),
            done: 0,
            count: 0,
        })
    }

    /// Bytes of the packet as read.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether all packets were given out.
    pub(super) fn is_done(&self) -> bool {
        self.done >= self.len
    }

    /// Writes the next packet into `out`, and returns its length; `None` when none is left, and
    /// when it does not fit, in which case it is skipped.
    ///
    /// Shape: `packet` is the one of [`Self::new`].
    pub(super) fn next(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        if self.is_done() {
            return None;
        }
        match self.cut {
            Some(cut) => self.next_segment(cut, packet, out),
            None => {
                self.done = self.len;
                let out = out.get_mut(..packet.len())?;
                out.copy_from_slice(packet);
                if let Some((start, field)) = self.checksum {
                    // The field holds the pseudo-header's sum, which so counts itself.
                    let sum = Sum::of(&out[start..]);
                    out[field..field + 2].copy_from_slice(&finished(sum, field - start));
                }
                Some(packet.len())
            }
        }
    }

    fn next_segment(&mut self, cut: Cut, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        let Cut {
            segments,
            size,
            headers,
        } = cut;
        let number = self.count;
        self.done = self.done.max(headers);
        let start = self.done;
        let end = (start + size).min(self.len);
        self.done = end;
        self.count += 1;

        let len = headers + (end - start);
        let out = out.get_mut(..len)?;
        out[..headers].copy_from_slice(&packet[..headers]);
        out[headers..].copy_from_slice(&packet[start..end]);

        let (l4, field) = self.checksum?;
        patch_ip(&mut out[self.ip..], number);
        let upper = &mut out[l4..];
        match segments {
            Segments::Tcp4 | Segments::Tcp6 => {
                let before = u32::from_be_bytes([upper[4], upper[5], upper[6], upper[7]]);
                let sequence = before.wrapping_add((start - headers) as u32);
                upper[4..8].copy_from_slice(&sequence.to_be_bytes());
                if end < self.len {
                    upper[13] &= !(FIN | PSH);
                }
                if number > 0 {
                    upper[13] &= !CWR;
                }
            }
            Segments::Udp => {
                let len = upper.len() as u16;
                upper[4..6].copy_from_slice(&len.to_be_bytes());
            }
        }
        // The field of the super-packet holds the pseudo-header's sum with its whole length.
        let pseudo = Sum::of(&packet[field..field + 2])
            .without_word((packet.len() - l4) as u16)
            .word(upper.len() as u16);
        let field = field - l4;
        upper[field..field + 2].fill(0);
        let sum = pseudo.plus(Sum::of(upper));
        upper[field..field + 2].copy_from_slice(&finished(sum, field));
        Some(len)
    }
}

impl Cut {
    fn new(
        ip: usize,
        segments: Segments,
        size: u16,
        checksum: Option<(usize, usize)>,
        packet: &[u8],
    ) -> Option<Self> {
        // Nothing that is to be cut has a checksum already.
        let (l4, field) = checksum?;
        let version = packet.get(ip)? >> 4;
        let headers = match segments {
            Segments::Tcp4 | Segments::Tcp6 => {
                let words = packet.get(l4 + 12)? >> 4;
                l4 + (usize::from(words) * 4).max(TCP_LEN)
            }
            Segments::Udp => l4 + UDP_LEN,
        };
        let ip_len = match (segments, version) {
            (Segments::Tcp4 | Segments::Udp, 4) => IPV4_LEN,
            (Segments::Tcp6 | Segments::Udp, 6) => IPV6_LEN,
            _ => return None,
        };
        let fits = ip + ip_len <= l4 && field + 2 <= headers && headers < packet.len();
        fits.then_some(Self {
            segments,
            size: usize::from(size),
            headers,
        })
    }
}

/// Where the IP header starts: behind the Ethernet header and its VLAN tags in tap mode.
fn ip_at(mode: Mode, packet: &[u8]) -> Option<usize> {
    if mode == Mode::Tun {
        return Some(0);
    }
    let mut at = ETHERNET_LEN;
    while let Some(kind) = packet.get(at - 2..at)
        && (kind == ETHERTYPE_VLAN || kind == ETHERTYPE_SERVICE_VLAN)
    {
        at += VLAN_LEN;
    }
    (at <= packet.len()).then_some(at)
}

/// Sets the lengths of an IP packet that fills `packet`; the IPv4 identification counts up.
fn patch_ip(packet: &mut [u8], number: u16) {
    let len = packet.len();
    if packet[0] >> 4 == 6 {
        let payload = (len - IPV6_LEN) as u16;
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        return;
    }
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    let id = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(number);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    let header = (usize::from(packet[0] & 0x0F) * 4).clamp(IPV4_LEN, len);
    packet[10..12].fill(0);
    let sum = Sum::of(&packet[..header]).checksum();
    packet[10..12].copy_from_slice(&sum);
}

/// A finished checksum; in UDP, whose field stands at 6, none is ever zero, which means "none".
fn finished(sum: Sum, field: usize) -> [u8; 2] {
    match sum.checksum() {
        [0, 0] if field == Upper::Udp.checksum_at() => [0xFF, 0xFF],
        checksum => checksum,
    }
}
