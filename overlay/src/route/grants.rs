//! What certificates let nodes do inside the mesh: originate Data at all, and from which addresses
//! (SEALED.md S38, S97, S103).
//!
//! Only nodes that are held to less than everything are in here; where no certificate says anything
//! of the kind, it is empty, and asking it costs a comparison.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use wire::NetId;
use wire::sealed::right::ORIGINATE;
use wire::sealed::{Certificate, Prefix};

use crate::pump::count::DropReason;
use crate::route::address::{Derived, Mesh};
use crate::route::frame::{Frame, is_tag};
use crate::route::packet::{IPV6_HEADER_LEN, Packet, protocol};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86DD;

/// Messages of Neighbor Discovery (RFC 4861 sections 4.2 to 4.5).
const ROUTER: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

/// The nodes that may not do everything. Immutable once workers have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Vec<(NetId, Grant)>);

/// What one node may do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    originates: bool,
    /// Addresses that it may speak from, besides those that follow from its netid; empty for any.
    prefixes: Box<[IpNet]>,
}

impl Grants {
    /// Notes what a node's certificate says, or that it has none; whether anything changed.
    pub fn note(&mut self, netid: NetId, certificate: Option<&[u8]>) -> bool {
        let grant = certificate.and_then(Grant::of);
        let place = self.0.binary_search_by_key(&netid, |(netid, _)| *netid);
        match (place, grant) {
            (Err(_), None) => return false,
            (Ok(at), Some(grant)) if self.0[at].1 == grant => return false,
            (Ok(at), Some(grant)) => self.0[at].1 = grant,
            (Ok(at), None) => drop(self.0.remove(at)),
            (Err(at), Some(grant)) => self.0.insert(at, (netid, grant)),
        }
        true
    }

    /// Whether everybody may do everything.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The nodes that may not.
    pub fn netids(&self) -> impl Iterator<Item = NetId> {
        self.0.iter().map(|(netid, _)| *netid)
    }

    /// Whether a node may originate Data.
    pub fn may_originate(&self, netid: NetId) -> bool {
        self.find(netid).is_none_or(|grant| grant.originates)
    }

    /// Whether a node may say that it has these addresses.
    pub fn may_claim(&self, netid: NetId, prefix: &IpNet) -> bool {
        self.find(netid).is_none_or(|grant| {
            grant.prefixes.is_empty() || grant.prefixes.iter().any(|own| own.contains(prefix))
        })
    }

    /// Judges an IP packet that `from` originated, by its source.
    ///
    /// Cost: a binary search over the nodes in here, and a look at 8 prefixes at most.
    ///
    /// # Errors
    /// `NoRight`, `SourcePrefix`.
    pub fn judge_packet(&self, mesh: Mesh, from: NetId, packet: &[u8]) -> Result<(), DropReason> {
        let Some(grant) = self.find(from) else {
            return Ok(());
        };
        grant.judge(mesh, from, Ok(source_of(packet)), false)
    }

    /// The same for an Ethernet frame: by what it carries, ARP by its sender, and Neighbor Discovery also by
    /// the address that it says is taken, where it does not say how to reach others. What cannot be read and
    /// yet may be taken for one of these is refused; other frames are not judged by addresses. Stations on a bridged network have link-local addresses of their own, which
    /// lead nowhere else; they may use them.
    ///
    /// # Errors
    /// As [`Self::judge_packet`].
    pub fn judge_frame(&self, mesh: Mesh, from: NetId, frame: &[u8]) -> Result<(), DropReason> {
        let Some(grant) = self.find(from) else {
            return Ok(());
        };
        let unjudged = DropReason::SourcePrefix;
        let frame = Frame::read(frame);
        let source = frame.map_or(Ok(None), |frame| match frame.ethertype {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Ok(source_of(frame.payload)),
            ETHERTYPE_ARP => arp_sender(frame.payload).map(Some).ok_or(unjudged),
            // A kernel looks through more tags than we do.
            ethertype if is_tag(ethertype) => Err(unjudged),
            _ => Ok(None),
        });
        grant.judge(mesh, from, source, true)?;
        let carried = frame.filter(|frame| frame.ethertype == ETHERTYPE_IPV6);
        let taken = carried.map_or(Ok(None), |frame| taken(frame.payload));
        grant.judge(mesh, from, taken, true)
    }

    fn find(&self, netid: NetId) -> Option<&Grant> {
        if self.0.is_empty() {
            return None;
        }
        let place = self.0.binary_search_by_key(&netid, |(netid, _)| *netid);
        place
            .ok()
            .and_then(|at| self.0.get(at))
            .map(|(_, grant)| grant)
    }
}

impl Grant {
    /// `None` where the certificate leaves a node everything.
    fn of(certificate: &[u8]) -> Option<Self> {
        let certificate = Certificate::parse(certificate).ok()?;
        let prefixes: Box<[IpNet]> = certificate.prefixes().filter_map(network).collect();
        let originates = certificate.rights & ORIGINATE != 0;
        (!originates || !prefixes.is_empty()).then_some(Self {
            originates,
            prefixes,
        })
    }

    fn judge(
        &self,
        mesh: Mesh,
        from: NetId,
        source: Result<Option<IpAddr>, DropReason>,
        is_frame: bool,
    ) -> Result<(), DropReason> {
        if !self.originates {
            return Err(DropReason::NoRight);
        }
        let Some(source) = source? else {
            return Ok(());
        };
        let is_own = match source {
            // A host without an address asks for one, or whether one is free.
            source if source.is_unspecified() => true,
            IpAddr::V6(v6) if is_frame && v6.is_unicast_link_local() => true,
            IpAddr::V6(v6) => mesh.owner(v6) == Derived::Node(from),
            IpAddr::V4(_) => false,
        };
        let may = self.prefixes.is_empty()
            || is_own
            || self.prefixes.iter().any(|prefix| prefix.contains(&source));
        if may {
            Ok(())
        } else {
            Err(DropReason::SourcePrefix)
        }
    }
}

fn network(prefix: Prefix) -> Option<IpNet> {
    match prefix {
        Prefix::V4(address, len) => Ipv4Net::new(address.into(), len).ok().map(IpNet::V4),
        Prefix::V6(address, len) => Ipv6Net::new(address.into(), len).ok().map(IpNet::V6),
    }
}

/// The source of an IP packet; `None` where there is none, which others refuse.
fn source_of(packet: &[u8]) -> Option<IpAddr> {
    let octets = |at: usize| packet.get(at..);
    match packet.first()? >> 4 {
        4 => Some(Ipv4Addr::from(*octets(12)?.first_chunk::<4>()?).into()),
        6 => Some(Ipv6Addr::from(*octets(8)?.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// The sender's IPv4 address in ARP (RFC 826), of whatever hardware: kernels take Ethernet's frames also
/// where they say IEEE 802. `None` for all other ARP.
fn arp_sender(arp: &[u8]) -> Option<IpAddr> {
    /// IPv4 by MACs.
    const FORM: [u8; 4] = [0x08, 0x00, 6, 4];
    let rest = arp.get(2..)?.strip_prefix(&FORM)?;
    // Behind it: operation (2), sender's MAC (6).
    Some(Ipv4Addr::from(*rest.get(8..)?.first_chunk::<4>()?).into())
}

/// The address that Neighbor Discovery says is taken, or is about to be, whoever the packet's source is: an
/// advertisement's target, and that of a solicitation without a source (RFC 4861 section 4, RFC 4862 section
/// 5.4.3). It is what ARP's sender is to IPv4.
///
/// Shape: `padded` what a frame carries as IPv6; what kernels do not take for a packet either is `None`.
///
/// # Errors
/// More extension headers than are looked through: one could stand behind them. And whoever says where
/// others send what is for another: who may not speak for all addresses is no router.
fn taken(padded: &[u8]) -> Result<Option<IpAddr>, DropReason> {
    /// Type, code and checksum; flags.
    const BEFORE_TARGET: usize = 8;
    let len = |padded: &[u8]| {
        let word = padded.get(4..)?.first_chunk::<2>()?;
        Some(IPV6_HEADER_LEN + usize::from(u16::from_be_bytes(*word)))
    };
    let packet = len(padded).and_then(|len| Packet::read(padded.get(..len)?));
    let Some(packet) = packet.filter(|packet| packet.source.is_ipv6()) else {
        return Ok(None);
    };
    let upper = packet.upper().ok_or(DropReason::SourcePrefix)?;
    if !upper.is_first || upper.protocol != protocol::ICMPV6 {
        return Ok(None);
    }
    let is_taken = match upper.payload.first() {
        Some(&ADVERTISEMENT) => true,
        Some(&SOLICITATION) => packet.source.is_unspecified(),
        Some(&(ROUTER | REDIRECT)) => return Err(DropReason::SourcePrefix),
        _ => false,
    };
    let target = || upper.payload.get(BEFORE_TARGET..)?.first_chunk::<16>();
    let target = target().filter(|_| is_taken);
    Ok(target.map(|octets| Ipv6Addr::from(*octets).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::frame::build::{frame, tagged};
    use crate::seal::authority::Authority;
    use crate::seal::keys::Key;

    const A: NetId = NetId(0xa);
    const B: NetId = NetId(0xb);

    fn certificate(netid: NetId, rights: u16, prefixes: &[Prefix]) -> Vec<u8> {
        let authority = Authority::new([7; 16], &Key::new([9; 32]));
        let mut static_key = [0x42; 32];
        static_key[31] = 1;
        let signing = crate::seal::identity::Identity::new(Key::new([3; 32]), &Key::new([4; 32]));
        let mut fields = Certificate::of([7; 16], netid, static_key, signing.signing_public());
        fields.rights = rights;
        authority.sign(&fields, prefixes).unwrap()
    }

    fn grants() -> Grants {
        let mut v6 = [0; 16];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        let prefixes = [Prefix::V4([10, 0, 7, 0], 24), Prefix::V6(v6, 32)];
        let mut grants = Grants::default();
        assert!(grants.note(A, Some(&certificate(A, 0b111, &prefixes))));
        grants
    }

    fn packet(source: IpAddr) -> Vec<u8> {
        match source {
            IpAddr::V4(v4) => [&[0x45; 12][..], &v4.octets(), &[10, 0, 0, 1]].concat(),
            IpAddr::V6(v6) => [&[0x60; 8][..], &v6.octets(), &[0xfd; 16]].concat(),
        }
    }

    fn arp(sender: [u8; 4]) -> Vec<u8> {
        let head = [0, 1, 8, 0, 6, 4, 0, 1];
        [&head[..], &[2; 6], &sender, &[0; 6], &[10, 0, 0, 1]].concat()
    }

    #[test]
    fn a_node_speaks_from_its_prefixes_and_its_own_mesh_addresses_alone() {
        let (grants, mesh) = (grants(), Mesh::new("field"));
        let outside = Err(DropReason::SourcePrefix);
        for (source, expected) in [
            ("10.0.7.1", Ok(())),
            ("10.0.7.255", Ok(())),
            ("10.0.8.1", outside),
            ("192.0.2.1", outside),
            ("0.0.0.0", Ok(())),
            ("224.0.0.1", outside),
            ("2001:db8::1", Ok(())),
            ("2001:db9::1", outside),
            ("::", Ok(())),
            ("ff02::1", outside),
            ("fe80::a", Ok(())),
            ("fe80::b", outside),
        ] {
            let bytes = packet(source.parse().unwrap());
            assert_eq!(grants.judge_packet(mesh, A, &bytes), expected, "{source}");
            // Who has no such certificate is held to nothing here.
            assert_eq!(grants.judge_packet(mesh, B, &bytes), Ok(()), "{source}");
        }
        let own = |netid| packet(mesh.address(netid).into());
        assert_eq!(grants.judge_packet(mesh, A, &own(A)), Ok(()));
        assert_eq!(grants.judge_packet(mesh, A, &own(B)), outside);
        let foreign = packet(Mesh::new("sea").address(A).into());
        assert_eq!(grants.judge_packet(mesh, A, &foreign), outside);
    }

    #[test]
    fn what_stands_behind_the_addresses_changes_nothing() {
        // Extension headers and fragments: the source stands before all of them.
        let (grants, mesh) = (grants(), Mesh::default());
        for (source, may) in [("2001:db8::7", true), ("2001:dead::7", false)] {
            for next in [0, 43, 44, 60, 6, 17, 58, 59] {
                let mut bytes = packet(source.parse().unwrap());
                bytes[6] = next;
                bytes.extend([0; 16]);
                assert_eq!(grants.judge_packet(mesh, A, &bytes).is_ok(), may, "{next}");
            }
        }
        for source in [[10, 0, 7, 9], [10, 0, 9, 9]] {
            let mut bytes = packet(IpAddr::from(source));
            // A later fragment.
            bytes[6..8].copy_from_slice(&[0x20, 0x10]);
            let judged = grants.judge_packet(mesh, A, &bytes);
            assert_eq!(judged.is_ok(), source[2] == 7);
        }
    }

    #[test]
    fn a_frame_is_judged_by_the_packet_or_the_arp_in_it() {
        let (grants, mesh) = (grants(), Mesh::default());
        let judge = |bytes: &[u8]| grants.judge_frame(mesh, A, bytes);
        let outside = Err(DropReason::SourcePrefix);
        let (to, from) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        for (last, expected) in [(7, Ok(())), (8, outside)] {
            let ip = packet(IpAddr::from([10, 0, last, 1]));
            assert_eq!(judge(&frame(to, from, 0x0800, &ip)), expected);
            assert_eq!(judge(&tagged(to, from, 5, &ip)), expected);
            let arp = arp([10, 0, last, 1]);
            assert_eq!(judge(&frame(to, from, 0x0806, &arp)), expected);
        }
        // A probe, a host's link-local address, and what is neither.
        assert_eq!(judge(&frame(to, from, 0x0806, &arp([0; 4]))), Ok(()));
        let link_local = packet("fe80::1234".parse().unwrap());
        assert_eq!(judge(&frame(to, from, 0x86DD, &link_local)), Ok(()));
        assert_eq!(judge(&frame(to, from, 0x88CC, &[1; 40])), Ok(()));
    }

    /// S103: who may speak from an address of its own must not say that it has another's.
    #[test]
    fn neighbor_discovery_is_judged_by_the_address_that_it_says_is_taken() {
        let (grants, mesh) = (grants(), Mesh::default());
        let (to, from) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let outside = Err(DropReason::SourcePrefix);
        let discovery = |source: &str, headers: &[u8], kind: u8, target: &str| {
            let mut bytes = packet(source.parse().unwrap());
            bytes.truncate(40);
            let target: Ipv6Addr = target.parse().unwrap();
            let message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
            bytes[6] = headers.first().map_or(protocol::ICMPV6, |_| headers[0]);
            bytes.extend(headers.get(1..).unwrap_or_default());
            bytes.extend(message);
            let len = bytes.len() as u16 - 40;
            bytes[4..6].copy_from_slice(&len.to_be_bytes());
            frame(to, from, 0x86DD, &bytes)
        };
        // What leads to the first header, then headers, each with what follows it in front.
        let options = [0, protocol::ICMPV6, 0, 1, 4, 0, 0, 0, 0];
        let two = [
            60,
            51,
            1,
            1,
            4,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            protocol::ICMPV6,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        let first = [44, protocol::ICMPV6, 0, 0, 1, 0, 0, 0, 7];
        for headers in [&[][..], &options, &two, &first] {
            for (source, kind, target, expected) in [
                ("2001:db8::7", ADVERTISEMENT, "2001:db8::7", Ok(())),
                ("2001:db8::7", ADVERTISEMENT, "2001:dead::7", outside),
                ("fe80::a", ADVERTISEMENT, "2001:dead::7", outside),
                ("fe80::a", ADVERTISEMENT, "fe80::7", Ok(())),
                ("::", SOLICITATION, "2001:db8::7", Ok(())),
                ("::", SOLICITATION, "2001:dead::7", outside),
                // Who asks for another's address takes nothing.
                ("2001:db8::7", SOLICITATION, "2001:dead::7", Ok(())),
                ("2001:db8::7", 129, "2001:dead::7", Ok(())),
                // Who leads what is for others elsewhere takes it, whatever the target.
                ("fe80::a", REDIRECT, "2001:db8::7", outside),
                ("fe80::a", ROUTER, "2001:db8::7", outside),
                ("2001:db8::7", ROUTER, "fe80::a", outside),
                ("fe80::a", 133, "2001:dead::7", Ok(())),
            ] {
                let bytes = discovery(source, headers, kind, target);
                let judged = grants.judge_frame(mesh, A, &bytes);
                assert_eq!(judged, expected, "{source} {kind} {target} {headers:?}");
                assert_eq!(grants.judge_frame(mesh, B, &bytes), Ok(()));
                // Cut anywhere: nobody's word, and no panic.
                for len in 0..bytes.len() {
                    let _ = grants.judge_frame(mesh, A, &bytes[..len]);
                }
            }
        }
    }

    #[test]
    fn arp_is_judged_by_its_sender_whatever_the_hardware_and_refused_in_other_forms() {
        let (grants, mesh) = (grants(), Mesh::default());
        let (to, from) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let judge = |arp: &[u8]| grants.judge_frame(mesh, A, &frame(to, from, 0x0806, arp));
        let outside = Err(DropReason::SourcePrefix);
        for hardware in [1, 6, 24, 0xffff_u16] {
            for (last, expected) in [(7, Ok(())), (8, outside)] {
                let mut arp = arp([10, 0, last, 1]);
                arp[..2].copy_from_slice(&hardware.to_be_bytes());
                assert_eq!(judge(&arp), expected, "{hardware}");
            }
        }
        // Another protocol, other lengths, or an end within it.
        let whole = arp([10, 0, 7, 1]);
        for at in 2..6 {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_eq!(judge(&other), outside, "{at}");
        }
        for len in 0..18 {
            assert_eq!(judge(&whole[..len]), outside, "{len}");
        }
        assert_eq!(
            grants.judge_frame(mesh, B, &frame(to, from, 0x0806, &[])),
            Ok(())
        );
    }

    #[test]
    fn more_tags_than_are_looked_through_hide_nothing() {
        let (grants, mesh) = (grants(), Mesh::default());
        let (to, from) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        for tag in [[0x81, 0x00], [0x88, 0xA8]] {
            let ip = packet(IpAddr::from([10, 0, 7, 1]));
            let mut payload = [&[0, 5, 0x08, 0x00][..], &ip].concat();
            for tags in 1..6 {
                let tagged = frame(to, from, u16::from_be_bytes(tag), &payload);
                let judged = grants.judge_frame(mesh, A, &tagged);
                assert_eq!(judged.is_ok(), tags <= 2, "{tags}: {judged:?}");
                assert_eq!(grants.judge_frame(mesh, B, &tagged), Ok(()));
                payload = [&[0, 5][..], &tag, &payload].concat();
            }
        }
    }

    #[test]
    fn who_may_not_originate_delivers_nothing_whatever_its_source() {
        let mut grants = Grants::default();
        grants.note(A, Some(&certificate(A, 0b110, &[])));
        assert!(!grants.may_originate(A) && grants.may_originate(B));
        let bytes = packet(Mesh::default().address(A).into());
        let judged = grants.judge_packet(Mesh::default(), A, &bytes);
        assert_eq!(judged, Err(DropReason::NoRight));
        let judged = grants.judge_frame(Mesh::default(), A, &[]);
        assert_eq!(judged, Err(DropReason::NoRight));
    }

    #[test]
    fn claims_lie_within_the_prefixes_and_another_certificate_replaces_the_first() {
        let mut grants = grants();
        let claims = |grants: &Grants, text: &str| grants.may_claim(A, &text.parse().unwrap());
        assert!(claims(&grants, "10.0.7.1/32") && claims(&grants, "10.0.7.0/25"));
        assert!(!claims(&grants, "10.0.0.0/16") && !claims(&grants, "10.0.8.1/32"));
        assert_eq!(grants.netids().collect::<Vec<_>>(), [A]);
        // The same again is no change; one that says nothing leaves everything.
        let one = certificate(B, 0b111, &[Prefix::V4([10, 0, 0, 0], 8)]);
        assert!(grants.note(B, Some(&one)) && !grants.note(B, Some(&one)));
        assert!(grants.note(B, Some(&certificate(B, 0b111, &[]))));
        assert!(grants.note(A, None) && !grants.note(A, None));
        assert!(grants.is_empty() && claims(&grants, "10.0.8.1/32"));
    }
}
