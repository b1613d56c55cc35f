//! Reading Ethernet frames, with VLAN tags. Total: any bytes, no panic.
//!
//! Source: IEEE 802.3 clause 3.2, IEEE 802.1Q clause 9.

use crate::route::address::Mac;
use crate::route::cache::FlowKey;

/// Bytes of the header without tags.
pub const HEADER_LEN: usize = 14;
/// Bytes of one VLAN tag.
pub const TAG_LEN: usize = 4;
/// Bytes of the shortest frame on a wire, without checksum; shorter ones are padded with zeros.
pub const MIN_LEN: usize = 60;

const TAG_CUSTOMER: u16 = 0x8100;
const TAG_SERVICE: u16 = 0x88A8;
/// How many tags are looked through: 802.1ad has two.
const MAX_TAGS: usize = 2;
const BROADCAST: Mac = [0xFF; 6];

/// A hardware address within a VLAN: what a switch learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Station(u64);

impl Station {
    /// Shape: `vlan` 12 bits, 0 for none.
    pub fn new(mac: Mac, vlan: u16) -> Self {
        let [a, b, c, d, e, f] = mac;
        let mac = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Self(mac << 12 | u64::from(vlan & 0xFFF))
    }

    /// The hardware address.
    pub fn mac(self) -> Mac {
        let [_, _, a, b, c, d, e, f] = (self.0 >> 12).to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// The VLAN, 0 for none.
    pub fn vlan(self) -> u16 {
        (self.0 & 0xFFF) as u16
    }

    /// Whether this is a group of stations: multicast or broadcast.
    pub fn is_group(self) -> bool {
        self.mac()[0] & 1 == 1
    }

    /// Whether this is all stations.
    pub fn is_broadcast(self) -> bool {
        self.mac() == BROADCAST
    }

    /// Whether a frame can come from here: one station, and not the zero address.
    pub fn is_source(self) -> bool {
        !self.is_group() && self.mac() != [0; 6]
    }
}

impl FlowKey for Station {
    fn fold(&self) -> u64 {
        self.0
    }
}

/// The start of one frame, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'f> {
    /// Where it goes, in its outermost VLAN.
    pub destination: Station,
    /// Where it comes from, in its outermost VLAN.
    pub source: Station,
    /// What it carries, behind the tags; a third tag, where there is one.
    pub ethertype: u16,
    /// What it carries, to the end of the frame, padding included.
    pub payload: &'f [u8],
}

impl<'f> Frame<'f> {
    /// Reads a whole frame, without preamble and checksum; `None` when it ends within its header.
    pub fn read(bytes: &'f [u8]) -> Option<Self> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let mac = |at: usize| {
            let mut mac = [0; 6];
            mac.copy_from_slice(&header[at..at + 6]);
            mac
        };
        let mut ethertype = u16::from_be_bytes([header[12], header[13]]);
        let mut payload = &bytes[HEADER_LEN..];
        let mut vlan = None;
        for _ in 0..MAX_TAGS {
            if !is_tag(ethertype) {
                break;
            }
            let (tag, rest) = payload.split_first_chunk::<TAG_LEN>()?;
            // A tag of VLAN 0 carries a priority only, and the frame is in no VLAN.
            let number = u16::from_be_bytes([tag[0], tag[1]]) & 0xFFF;
            vlan = vlan.or(Some(number));
            ethertype = u16::from_be_bytes([tag[2], tag[3]]);
            payload = rest;
        }
        let vlan = vlan.unwrap_or(0);
        Some(Self {
            destination: Station::new(mac(0), vlan),
            source: Station::new(mac(6), vlan),
            ethertype,
            payload,
        })
    }
}

/// Whether a VLAN tag stands here, of which more follow than [`Frame::read`] looks through if it gives one.
pub const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, TAG_CUSTOMER | TAG_SERVICE)
}

#[cfg(test)]
pub(crate) mod build {
    //! Frames for tests of this module's neighbors.

    use super::*;

    /// An untagged frame.
    pub(crate) fn frame(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = [destination, source].concat();
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// A frame in a VLAN.
    pub(crate) fn tagged(destination: Mac, source: Mac, vlan: u16, payload: &[u8]) -> Vec<u8> {
        let mut tag = vlan.to_be_bytes().to_vec();
        tag.extend([0x08, 0x00]);
        tag.extend(payload);
        frame(destination, source, TAG_CUSTOMER, &tag)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Mac = [0x02, 0, 0, 0, 0, 0xA];
    const B: Mac = [0x02, 0, 0, 0, 0, 0xB];

    #[test]
    fn addresses_vlan_and_type_are_read() {
        let bytes = build::frame(A, B, 0x0800, &[1, 2]);
        let frame = Frame::read(&bytes).unwrap();
        assert_eq!(frame.destination, Station::new(A, 0));
        assert_eq!(frame.source, Station::new(B, 0));
        assert_eq!((frame.ethertype, frame.payload), (0x0800, &[1, 2][..]));

        // Priority 5 in VLAN 7.
        let bytes = build::tagged(A, B, 0xA007, &[1, 2]);
        let frame = Frame::read(&bytes).unwrap();
        assert_eq!((frame.source.mac(), frame.source.vlan()), (B, 7));
        assert_eq!((frame.ethertype, frame.payload), (0x0800, &[1, 2][..]));

        // A service tag of VLAN 9 around a customer tag of VLAN 7.
        let inner = [0, 9, 0x81, 0, 0, 7, 0x86, 0xDD, 3];
        let bytes = build::frame(A, B, TAG_SERVICE, &inner);
        let frame = Frame::read(&bytes).unwrap();
        assert_eq!(frame.source.vlan(), 9);
        assert_eq!((frame.ethertype, frame.payload), (0x86DD, &[3][..]));
    }

    #[test]
    fn what_ends_within_header_or_tag_is_no_frame() {
        let bytes = build::tagged(A, B, 7, &[]);
        for end in 0..bytes.len() {
            assert_eq!(Frame::read(&bytes[..end]), None, "{end}");
        }
        assert!(Frame::read(&bytes).is_some());
    }

    #[test]
    fn groups_and_zero_are_no_sources() {
        for mac in [
            [0; 6],
            BROADCAST,
            [1, 0, 0x5E, 0, 0, 1],
            [0x33, 0x33, 0, 0, 0, 1],
        ] {
            assert!(!Station::new(mac, 5).is_source());
        }
        assert!(Station::new(A, 5).is_source());
        assert!(Station::new(BROADCAST, 5).is_broadcast());
        assert!(!Station::new([1, 0, 0x5E, 0, 0, 1], 0).is_broadcast());
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Frame::read(&bytes);
            let mut tagged = vec![0; 12];
            tagged.extend([0x81, 0]);
            tagged.extend(&bytes);
            let _ = Frame::read(&tagged);
        }
    }
}
