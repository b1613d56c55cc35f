//! Merging packets of a flow that follow each other into one super-packet, the reverse of cutting.
//!
//! 1. A packet that may be merged joins the open group of its flow, if it continues it.
//! 2. One that does not continue it ends that group and opens another.
//! 3. One that may not be merged ends the group of its flow, so that nothing overtakes, and goes
//!    alone. One whose flow cannot be told ends all groups.
//! 4. At the end of the batch all groups end. Nothing waits for more.
//!
//! Payloads are not copied: a group is written with one `writev` of a new header and the payloads
//! where they lie.

use std::io::IoSlice;

use super::checksum::Sum;
use super::packet::{ETHERNET_LEN, FlowPacket, IPV4_LEN, IPV6_LEN, Mergeable, PSH, Upper, Version};
use super::virtio::{Segments, VirtioHeader};
use crate::device::Mode;

/// Packets of a group: what older kernels take (`UDP_MAX_SEGMENTS`).
pub(super) const MOST: usize = 64;
/// Groups open at the same time; with more flows in one batch the oldest ends early.
const GROUPS: usize = 8;
/// An IP packet's length is a 16-bit number.
const IP_MOST: usize = 65_535;
/// Ethernet, IPv6, TCP with all options.
const HEADERS_MOST: usize = ETHERNET_LEN + IPV6_LEN + 60;

/// Packets to be written together, in order.
#[derive(Debug)]
pub(super) struct Group<'p> {
    first: Mergeable<'p>,
    /// The packets with their numbers in the batch.
    members: [(usize, &'p [u8]); MOST],
    count: usize,
    /// Payload of each but the last.
    size: usize,
    /// Bytes of IP when merged.
    ip_len: usize,
    /// TCP: the sequence number that continues it.
    next: u32,
    /// Nothing may follow: the last packet was short or has PSH.
    is_closed: bool,
    pushes: bool,
}

/// The headers of a merged packet.
#[derive(Debug)]
pub(super) struct MergedHeader {
    pub(super) virtio: VirtioHeader,
    bytes: [u8; HEADERS_MOST],
    len: usize,
}

impl MergedHeader {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<'p> Group<'p> {
    #[inline(always)]
    fn new(number: usize, packet: Mergeable<'p>) -> Self {
        let mut members = [(0, &[][..]); MOST];
        members[0] = (number, packet.flow.bytes);
        Self {
            first: packet,
            members,
            count: 1,
            size: packet.payload_len(),
            ip_len: packet.flow.bytes.len() - packet.flow.ip,
            next: next_sequence(&packet),
            is_closed: packet.pushes(),
            pushes: packet.pushes(),
        }
    }

    /// The packets with their numbers in the batch.
    pub(super) fn members(&self) -> &[(usize, &'p [u8])] {
        &self.members[..self.count]
    }

    /// The protocol of its flow.
    pub(super) fn upper(&self) -> Upper {
        self.first.flow.upper
    }

    /// Adds `packet` if it continues the group.
    fn join(&mut self, number: usize, packet: &Mergeable<'p>) -> bool {
        let len = packet.payload_len();
        let first = &self.first;
        let fits = !self.is_closed
            && self.count < MOST
            && len <= self.size
            && self.ip_len + len <= IP_MOST
            && packet.payload == first.payload
            && packet.flow.has_same_wrapping(&first.flow)
            && self.follows_by_identification(packet);
        let continues = match packet.flow.upper {
            Upper::Tcp => packet.sequence() == self.next && packet.has_same_tcp(first),
            Upper::Udp => true,
        };
        if !fits || !continues {
            return false;
        }
        self.members[self.count] = (number, packet.flow.bytes);
        self.count += 1;
        self.ip_len += len;
        self.next = next_sequence(packet);
        self.pushes = packet.pushes();
        self.is_closed = len < self.size || self.pushes;
        true
    }

    fn follows_by_identification(&self, packet: &Mergeable<'p>) -> bool {
        match (self.first.identification(), packet.identification()) {
            (Some(first), Some(this)) => this == first.wrapping_add(self.count as u16),
            _ => true,
        }
    }

    /// The headers of the merged packet: those of the first, with lengths and checksums of all.
    pub(super) fn header(&self) -> MergedHeader {
        let Mergeable { flow, payload } = self.first;
        let mut bytes = [0; HEADERS_MOST];
        bytes[..payload].copy_from_slice(&flow.bytes[..payload]);
        let ip = &mut bytes[flow.ip..];
        match flow.version {
            Version::V4 => {
                ip[2..4].copy_from_slice(&(self.ip_len as u16).to_be_bytes());
                ip[10..12].fill(0);
                let sum = Sum::of(&ip[..IPV4_LEN]).checksum();
                ip[10..12].copy_from_slice(&sum);
            }
            Version::V6 => {
                ip[4..6].copy_from_slice(&((self.ip_len - IPV6_LEN) as u16).to_be_bytes());
            }
        }
        let upper_len = self.ip_len - (flow.l4 - flow.ip);
        let upper = &mut bytes[flow.l4..];
        match flow.upper {
            Upper::Tcp if self.pushes => upper[13] |= PSH,
            Upper::Tcp => {}
            Upper::Udp => upper[4..6].copy_from_slice(&(upper_len as u16).to_be_bytes()),
        }
        let field = flow.upper.checksum_at();
        upper[field..field + 2].copy_from_slice(&flow.pseudo_sum(upper_len).folded());
        let segments = match (flow.upper, flow.version) {
            (Upper::Tcp, Version::V4) => Segments::Tcp4,
            (Upper::Tcp, Version::V6) => Segments::Tcp6,
            (Upper::Udp, _) => Segments::Udp,
        };
        MergedHeader {
            virtio: VirtioHeader {
                checksum: Some((flow.l4 as u16, field as u16)),
                segments: Some((segments, self.size as u16)),
                headers_len: payload as u16,
            },
            bytes,
            len: payload,
        }
    }

    /// The slices to write behind the header: the payloads where they lie.
    pub(super) fn payloads(&self) -> impl Iterator<Item = IoSlice<'p>> {
        let payload = self.first.payload;
        self.members()
            .iter()
            .map(move |(_, packet)| IoSlice::new(&packet[payload..]))
    }
}

fn next_sequence(packet: &Mergeable<'_>) -> u32 {
    match packet.flow.upper {
        Upper::Tcp => packet.sequence().wrapping_add(packet.payload_len() as u32),
        Upper::Udp => 0,
    }
}

/// What is to be written now.
pub(super) enum Ready<'g, 'p> {
    /// One packet, as it is.
    Single(usize, &'p [u8]),
    /// A group of two or more.
    Merged(&'g Group<'p>),
}

/// Which super-packets the kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merges {
    pub(super) tcp: bool,
    pub(super) udp: bool,
}

/// Goes through `packets` and hands each to `write`, merged where that is possible.
///
/// Order: within a flow as given; packets of different flows may change places.
/// Cost:  no allocation; some ns a packet and the verification of its checksum.
pub(super) fn coalesce<'p>(
    mode: Mode,
    merges: Merges,
    packets: &mut dyn Iterator<Item = &'p [u8]>,
    write: &mut dyn FnMut(Ready<'_, 'p>),
) {
    // Not a constant, which would be written out whole: 13 KB for each call.
    let mut groups: [Option<Group<'p>>; GROUPS] = std::array::from_fn(|_| None);
    // Groups in the order of their opening; `open[..count]` are places in `groups`.
    let mut open = Open::default();
    for (number, packet) in packets.enumerate() {
        let Some(flow) = FlowPacket::read(mode, packet) else {
            open.end_all(&mut groups, write);
            write(Ready::Single(number, packet));
            continue;
        };
        let may_merge = match flow.upper {
            Upper::Tcp => merges.tcp,
            Upper::Udp => merges.udp,
        };
        let mergeable = if may_merge { flow.mergeable() } else { None };
        let of_flow = open.find(&groups, &flow);
        if let (Some(place), Some(packet)) = (of_flow, &mergeable)
            && let Some(group) = &mut groups[place]
            && group.join(number, packet)
        {
            continue;
        }
        if let Some(place) = of_flow {
            open.end(place, &mut groups, write);
        }
        match mergeable {
            Some(packet) => {
                if let Some(place) = open.begin(&mut groups, write) {
                    groups[place] = Some(Group::new(number, packet));
                }
            }
            None => write(Ready::Single(number, packet)),
        }
    }
    open.end_all(&mut groups, write);
}

/// The places of open groups, oldest first.
#[derive(Default)]
struct Open {
    places: [usize; GROUPS],
    count: usize,
}

impl Open {
    /// The open group of a flow, looked for from the newest on.
    fn find(&self, groups: &[Option<Group<'_>>], flow: &FlowPacket<'_>) -> Option<usize> {
        let is_of_flow = |place: &&usize| {
            groups[**place]
                .as_ref()
                .is_some_and(|group| group.first.flow.is_same_flow(flow))
        };
        self.places[..self.count]
            .iter()
            .rev()
            .find(is_of_flow)
            .copied()
    }

    /// The place of another group, which is the newest from now on.
    fn begin<'p>(
        &mut self,
        groups: &mut [Option<Group<'p>>; GROUPS],
        write: &mut dyn FnMut(Ready<'_, 'p>),
    ) -> Option<usize> {
        if self.count == GROUPS {
            self.end(self.places[0], groups, write);
        }
        let place = groups.iter().position(Option::is_none)?;
        self.places[self.count] = place;
        self.count += 1;
        Some(place)
    }

    fn end<'p>(
        &mut self,
        place: usize,
        groups: &mut [Option<Group<'p>>; GROUPS],
        write: &mut dyn FnMut(Ready<'_, 'p>),
    ) {
        if let Some(at) = self.places[..self.count].iter().position(|p| *p == place) {
            self.places.copy_within(at + 1..self.count, at);
            self.count -= 1;
        }
        // Written where it lies: a group is 1.7 KB.
        if let Some(group) = &groups[place] {
            match group.members() {
                [(number, packet)] => write(Ready::Single(*number, packet)),
                _ => write(Ready::Merged(group)),
            }
        }
        groups[place] = None;
    }

    fn end_all<'p>(
        &mut self,
        groups: &mut [Option<Group<'p>>; GROUPS],
        write: &mut dyn FnMut(Ready<'_, 'p>),
    ) {
        while self.count > 0 {
            self.end(self.places[0], groups, write);
        }
    }
}
