//! TUN mode: to whom a packet of the device goes, and whether a packet of the mesh may be delivered.
//!
//! How a worker uses it:
//!
//! ```text
//! device readable   for each packet:  tun.outgoing(now, &routes, &underlay, packet, largest)
//!                     To(netid)       originate Data with that dst
//!                     All             originate Data with dst ffffffff
//!                     Hold            tun.hold(now, packet); a drop reason back is counted
//!                     Answer(answer)  count answer.reason(); tun.answer(now, .., &mut buffer)
//!                                     gives an ICMP packet to write to the device
//!                     Drop(reason)    count it
//! new snapshot, or tun.next_timeout() reached:
//!                     tun.release(now, &routes, |packet, released| ..) as above: Found(netid) is
//!                     To(netid), Expired counts HoldExpired and is answered
//! Data for us       tun.incoming(now, &routes, from, payload): deliver, or count the reason
//! ```
//!
//! A super-packet (TSO, USO) is judged once: its segments share both addresses. `largest` is then
//! the length of its largest segment. To hold it, split it first.

use std::net::IpAddr;
use std::sync::Arc;

use crate::id::NetId;
use crate::pump::count::DropReason;
use crate::route::cache::{FlowCache, FlowKey, fold};
use crate::route::hold::{Hold, Released};
use crate::route::icmp::{self, Answer};
use crate::route::learned::Learned;
use crate::route::packet::{Packet, is_no_source};
use crate::route::routes::Routes;
use crate::route::storm::{Bucket, Rate};
use crate::route::underlay::Underlay;
use crate::time::Instant;

/// ICMP answers of one worker: enough to be told, too few to amplify anything.
pub const ANSWERS: Rate = Rate {
    per_second: 10,
    burst: 10,
};

/// What becomes of a packet from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// To this node.
    To(NetId),
    /// To every node: multicast or broadcast.
    All,
    /// Nobody has claimed the destination yet: hold it.
    Hold,
    /// Dropped, and the sender is to be told.
    Answer(Answer),
    /// Dropped.
    Drop(DropReason),
}

/// One worker's view of a TUN device.
#[derive(Debug)]
pub struct Tun {
    mtu: u16,
    learned: Arc<Learned>,
    held: Hold,
    answers: Bucket,
    /// Where packets of this source and destination go.
    outgoing: FlowCache<Pair, NetId>,
    /// Sources that this netid may use.
    incoming: FlowCache<Speaker, ()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair(IpAddr, IpAddr);

impl FlowKey for Pair {
    fn fold(&self) -> u64 {
        fold(self.0).rotate_left(32) ^ fold(self.1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Speaker(NetId, IpAddr);

impl FlowKey for Speaker {
    fn fold(&self) -> u64 {
        u64::from(self.0.0).rotate_left(32) ^ fold(self.1)
    }
}

impl Tun {
    /// Units: `mtu` the device's, in bytes.
    pub fn new(mtu: u16, learned: Arc<Learned>) -> Self {
        Self {
            mtu,
            learned,
            held: Hold::new(usize::from(mtu)),
            answers: Bucket::default(),
            outgoing: FlowCache::new(),
            incoming: FlowCache::new(),
        }
    }

    /// Decides about a packet read from the device.
    ///
    /// Shape: `packet` one whole IP packet or super-packet; `largest` the bytes of the largest
    /// packet that leaves: `packet.len()`, or the segment's length with headers.
    /// Cost: for a flow seen this second one cache slot; else look-ups without allocation.
    pub fn outgoing(
        &mut self,
        now: Instant,
        routes: &Routes,
        underlay: &Underlay,
        packet: &[u8],
        largest: usize,
    ) -> Outgoing {
        let Some(packet) = Packet::read(packet) else {
            return Outgoing::Drop(DropReason::BadDevicePacket);
        };
        if underlay.carries(&packet) {
            return Outgoing::Drop(DropReason::OverlayLoop);
        }
        if largest > usize::from(self.mtu) {
            return Outgoing::Answer(Answer::TooBig { mtu: self.mtu });
        }
        self.outgoing.renew(routes.epoch(), now);
        let pair = Pair(packet.source, packet.destination);
        if let Some(netid) = self.outgoing.find(&pair) {
            return Outgoing::To(netid);
        }
        if let Some(reason) = judge_own_source(routes, &packet) {
            return Outgoing::Drop(reason);
        }
        if routes.is_for_all(packet.destination) {
            return Outgoing::All;
        }
        let destination = packet.destination;
        match find(now, routes, &self.learned, destination) {
            Some(netid) if netid == routes.me() => Outgoing::Drop(DropReason::OwnDestination),
            Some(netid) => {
                self.outgoing.put(pair, netid);
                Outgoing::To(netid)
            }
            None if !routes.may_appear(destination) || self.held.has_given_up(now, destination) => {
                Outgoing::Answer(Answer::Unreachable)
            }
            None => Outgoing::Hold,
        }
    }

    /// Keeps a copy of `packet` until its destination is claimed; the reason when it cannot.
    pub fn hold(&mut self, now: Instant, packet: &[u8]) -> Result<(), DropReason> {
        let packet = Packet::read(packet).ok_or(DropReason::BadDevicePacket)?;
        let kept = self.held.push(now, packet.destination, packet.bytes());
        if kept {
            Ok(())
        } else {
            Err(DropReason::HoldFull)
        }
    }

    /// Hands out packets whose destination is known by now, and those that waited in vain.
    pub fn release(
        &mut self,
        now: Instant,
        routes: &Routes,
        each: impl FnMut(&[u8], Released<NetId>),
    ) {
        let learned = &self.learned;
        self.held
            .release(now, |address| find(now, routes, learned, address), each);
    }

    /// When [`Self::release`] has something to do though no snapshot came.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.held.next_timeout()
    }

    /// Builds an ICMP packet for the device that answers `packet`; returns its length, or `None`
    /// when there must be no answer or there were too many.
    ///
    /// Shape: `out` at least [`icmp::MAX_ANSWER_LEN`] bytes.
    pub fn answer(
        &mut self,
        now: Instant,
        routes: &Routes,
        answer: Answer,
        packet: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let len = icmp::build(answer, routes, packet, out)?;
        self.answers.take(now, ANSWERS).then_some(len)
    }

    /// Decides whether a packet that `from` originated may be written to the device.
    ///
    /// # Errors
    /// Why not: [`DropReason::BadPacket`], [`DropReason::TooBigForDevice`],
    /// [`DropReason::SourceClaimed`].
    pub fn incoming(
        &mut self,
        now: Instant,
        routes: &Routes,
        from: NetId,
        packet: &[u8],
    ) -> Result<(), DropReason> {
        let packet = Packet::read(packet).ok_or(DropReason::BadPacket)?;
        if packet.bytes().len() > usize::from(self.mtu) {
            return Err(DropReason::TooBigForDevice);
        }
        self.incoming.renew(routes.epoch(), now);
        let speaker = Speaker(from, packet.source);
        if packet.destination.is_loopback() {
            return Err(DropReason::BadPacket);
        }
        if self.incoming.find(&speaker).is_some() {
            return Ok(());
        }
        if packet.source.is_unspecified() {
            // A host without an address asks for one, or whether one is free (RFC 4862, 5.4.2).
            let asks = routes.is_for_all(packet.destination);
            return if asks {
                Ok(())
            } else {
                Err(DropReason::BadPacket)
            };
        }
        if is_no_source(packet.source) {
            return Err(DropReason::BadPacket);
        }
        self.judge_source(now, routes, speaker)?;
        self.incoming.put(speaker, ());
        Ok(())
    }

    /// Refuses a source only on contradiction: another node holds the address.
    fn judge_source(
        &self,
        now: Instant,
        routes: &Routes,
        Speaker(from, source): Speaker,
    ) -> Result<(), DropReason> {
        let contradicted = match routes.find(source) {
            Some(holder) => holder != from,
            None if !routes.may_appear(source) => false,
            None if routes.claims(from) => self.learned.contradicts(now, source, from),
            None => self.learned.note(now, source, from),
        };
        if contradicted {
            return Err(DropReason::SourceClaimed);
        }
        Ok(())
    }
}

/// By arithmetic, by claim, else as learned, unless who was learned with it has begun to claim.
fn find(now: Instant, routes: &Routes, learned: &Learned, address: IpAddr) -> Option<NetId> {
    routes.find(address).or_else(|| {
        learned
            .find(now, address)
            .filter(|&netid| !routes.claims(netid))
    })
}

/// Why the kernel must not send with this source into the mesh.
fn judge_own_source(routes: &Routes, packet: &Packet<'_>) -> Option<DropReason> {
    if packet.source.is_unspecified() {
        let asks = routes.is_for_all(packet.destination);
        return (!asks).then_some(DropReason::BadDevicePacket);
    }
    if is_no_source(packet.source) {
        return Some(DropReason::BadDevicePacket);
    }
    let holder = routes.find(packet.source);
    holder
        .is_some_and(|holder| holder != routes.me())
        .then_some(DropReason::SourceNotOurs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::address::Mesh;
    use crate::route::owners::KeyedHasher;
    use crate::route::packet::build::udp;
    use crate::time::Duration;

    const ME: NetId = NetId(1);
    const A: NetId = NetId(0xA);
    const B: NetId = NetId(0xB);
    const MTU: u16 = 1400;

    fn routes_of(prefixes: &[(&str, NetId)], epoch: u64) -> Routes {
        let addresses = ["10.0.0.1/24".parse().unwrap()];
        let prefixes: Vec<_> = prefixes
            .iter()
            .map(|(text, netid)| (text.parse().unwrap(), *netid))
            .collect();
        let claimants: Vec<_> = prefixes.iter().map(|(_, netid)| *netid).collect();
        Routes::new(
            ME,
            Mesh::new("field"),
            &addresses,
            prefixes,
            claimants,
            epoch,
        )
    }

    fn routes() -> Routes {
        routes_of(&[("10.0.0.10/32", A)], 1)
    }

    fn tun() -> Tun {
        Tun::new(MTU, Arc::new(Learned::new(KeyedHasher(1, 2))))
    }

    fn underlay() -> Underlay {
        Underlay::new([44204], ["192.0.2.5:4242".parse().unwrap()])
    }

    fn out(tun: &mut Tun, routes: &Routes, packet: &[u8]) -> Outgoing {
        tun.outgoing(Instant::ZERO, routes, &underlay(), packet, packet.len())
    }

    fn derived(netid: u32) -> String {
        Mesh::new("field").address(NetId(netid)).to_string()
    }

    #[test]
    fn packets_go_to_who_holds_their_destination() {
        let (mut tun, routes) = (tun(), routes());
        let mine = derived(1);
        for (from, to, expected) in [
            ("10.0.0.1", "10.0.0.10", Outgoing::To(A)),
            (&mine[..], &derived(0x77)[..], Outgoing::To(NetId(0x77))),
            ("fe80::1", "fe80::77", Outgoing::To(NetId(0x77))),
            ("10.0.0.1", "224.0.0.251", Outgoing::All),
            ("10.0.0.1", "10.0.0.255", Outgoing::All),
            ("0.0.0.0", "255.255.255.255", Outgoing::All),
            ("::", "ff02::1:ff00:1", Outgoing::All),
            ("10.0.0.1", "10.0.0.99", Outgoing::Hold),
            (
                "10.0.0.1",
                "10.0.0.1",
                Outgoing::Drop(DropReason::OwnDestination),
            ),
            (
                "0.0.0.0",
                "10.0.0.10",
                Outgoing::Drop(DropReason::BadDevicePacket),
            ),
            (
                "127.0.0.1",
                "10.0.0.10",
                Outgoing::Drop(DropReason::BadDevicePacket),
            ),
            (
                "10.0.0.10",
                "10.0.0.99",
                Outgoing::Drop(DropReason::SourceNotOurs),
            ),
            (
                &derived(7)[..],
                &derived(8)[..],
                Outgoing::Drop(DropReason::SourceNotOurs),
            ),
            (
                "10.0.0.1",
                "240.0.0.1",
                Outgoing::Answer(Answer::Unreachable),
            ),
        ] {
            // Twice: decided, then out of the cache.
            for _ in 0..2 {
                assert_eq!(
                    out(&mut tun, &routes, &udp(from, to, 1, 2)),
                    expected,
                    "{to}"
                );
            }
        }
        let nobody = "10.0.0.1";
        assert_eq!(
            out(&mut tun, &routes, &udp(nobody, "10.0.0.10", 1, 2)[..10]),
            Outgoing::Drop(DropReason::BadDevicePacket)
        );
    }

    #[test]
    fn an_address_of_the_prefix_that_names_no_node_is_unreachable_at_once() {
        let (mut tun, routes) = (tun(), routes());
        let nobody = routes.mesh().network().addr().to_string();
        let packet = udp(&derived(1), &nobody, 1, 2);
        assert_eq!(
            out(&mut tun, &routes, &packet),
            Outgoing::Answer(Answer::Unreachable)
        );
    }

    #[test]
    fn our_own_link_traffic_never_enters_the_mesh() {
        let (mut tun, routes) = (tun(), routes_of(&[("192.0.2.5/32", A)], 1));
        let loops = udp("10.0.0.1", "192.0.2.5", 44204, 4242);
        // Also when the flow is in the cache because of another port.
        let other = udp("10.0.0.1", "192.0.2.5", 5, 4242);
        assert_eq!(out(&mut tun, &routes, &other), Outgoing::To(A));
        assert_eq!(
            out(&mut tun, &routes, &loops),
            Outgoing::Drop(DropReason::OverlayLoop)
        );
    }

    #[test]
    fn what_is_above_the_mtu_is_answered_and_super_packets_are_judged_by_segment() {
        let (mut tun, routes) = (tun(), routes());
        let mut packet = udp("10.0.0.1", "10.0.0.10", 1, 2);
        packet.resize(1401, 0);
        packet[2..4].copy_from_slice(&1401_u16.to_be_bytes());
        assert_eq!(
            out(&mut tun, &routes, &packet),
            Outgoing::Answer(Answer::TooBig { mtu: MTU })
        );
        let decided = tun.outgoing(Instant::ZERO, &routes, &underlay(), &packet, 1400);
        assert_eq!(decided, Outgoing::To(A));
    }

    #[test]
    fn a_new_snapshot_is_heeded_at_once() {
        let mut tun = tun();
        let packet = udp("10.0.0.1", "10.0.0.10", 1, 2);
        assert_eq!(
            out(&mut tun, &routes_of(&[("10.0.0.10/32", A)], 1), &packet),
            Outgoing::To(A)
        );
        assert_eq!(
            out(&mut tun, &routes_of(&[("10.0.0.10/32", B)], 2), &packet),
            Outgoing::To(B)
        );
    }

    #[test]
    fn a_held_packet_leaves_with_the_claim_or_is_answered_after_a_second() {
        let mut tun = tun();
        let first = udp("10.0.0.1", "10.0.0.20", 1, 2);
        let second = udp("10.0.0.1", "10.0.0.30", 1, 2);
        tun.hold(Instant::ZERO, &first).unwrap();
        tun.hold(Instant::ZERO, &second).unwrap();
        let routes = routes_of(&[("10.0.0.20/32", A)], 2);
        let mut released = Vec::new();
        tun.release(Instant(1), &routes, |packet, what| {
            released.push((packet.to_vec(), what));
        });
        assert_eq!(released, [(first, Released::Found(A))]);
        let due = tun.next_timeout().unwrap();
        assert_eq!(due, Instant::from_secs(1));
        released.clear();
        tun.release(due, &routes, |packet, what| {
            released.push((packet.to_vec(), what));
        });
        assert_eq!(released, [(second.clone(), Released::Expired)]);
        // For a while it is answered at once.
        let next = tun.outgoing(due, &routes, &underlay(), &second, second.len());
        assert_eq!(next, Outgoing::Answer(Answer::Unreachable));
    }

    #[test]
    fn ten_answers_a_second_and_no_more() {
        let (mut tun, routes) = (tun(), routes());
        let packet = udp("10.0.0.1", "10.0.0.20", 1, 2);
        let mut buffer = [0; icmp::MAX_ANSWER_LEN];
        let mut answered = |now| {
            tun.answer(now, &routes, Answer::Unreachable, &packet, &mut buffer)
                .is_some()
        };
        let start = Instant::from_secs(9);
        assert_eq!((0..50).filter(|_| answered(start)).count(), 10);
        assert!(!answered(start + Duration::from_millis(99)));
        assert!(answered(start + Duration::from_millis(100)));
    }

    #[test]
    fn sources_are_refused_on_contradiction_only() {
        let (mut tun, routes) = (tun(), routes());
        let random = "fe80::1234:5678:9abc:def0";
        for (from, source, to, expected) in [
            (A, "10.0.0.10", "10.0.0.1", Ok(())),
            (A, &derived(0xA)[..], &derived(1)[..], Ok(())),
            (A, "fe80::a", "ff02::1", Ok(())),
            (A, random, "ff02::1", Ok(())),
            (A, "10.0.0.77", "10.0.0.1", Ok(())),
            (A, "::", "ff02::1:ff00:a", Ok(())),
            (A, "0.0.0.0", "255.255.255.255", Ok(())),
            (B, "10.0.0.10", "10.0.0.1", Err(DropReason::SourceClaimed)),
            (B, "10.0.0.1", "10.0.0.1", Err(DropReason::SourceClaimed)),
            (
                B,
                &derived(0xA)[..],
                &derived(1)[..],
                Err(DropReason::SourceClaimed),
            ),
            (B, "fe80::a", "ff02::1", Err(DropReason::SourceClaimed)),
            (
                B,
                &derived(1)[..],
                &derived(1)[..],
                Err(DropReason::SourceClaimed),
            ),
            (B, "::", "fe80::1", Err(DropReason::BadPacket)),
            (B, "224.0.0.1", "10.0.0.1", Err(DropReason::BadPacket)),
            (B, "255.255.255.255", "10.0.0.1", Err(DropReason::BadPacket)),
            (B, "127.0.0.1", "10.0.0.1", Err(DropReason::BadPacket)),
            (B, "::1", "fe80::1", Err(DropReason::BadPacket)),
            (B, "ff02::1", "fe80::1", Err(DropReason::BadPacket)),
            (B, "10.0.0.11", "127.0.0.1", Err(DropReason::BadPacket)),
        ] {
            for _ in 0..2 {
                let packet = udp(source, to, 1, 2);
                let judged = tun.incoming(Instant::ZERO, &routes, from, &packet);
                assert_eq!(judged, expected, "{from} {source} {to}");
            }
        }
    }

    #[test]
    fn malformed_and_oversized_packets_are_not_delivered() {
        let (mut tun, routes) = (tun(), routes());
        let mut packet = udp("10.0.0.10", "10.0.0.1", 1, 2);
        for end in 0..packet.len() {
            let judged = tun.incoming(Instant::ZERO, &routes, A, &packet[..end]);
            assert_eq!(judged, Err(DropReason::BadPacket));
        }
        packet.resize(1401, 0);
        packet[2..4].copy_from_slice(&1401_u16.to_be_bytes());
        let judged = tun.incoming(Instant::ZERO, &routes, A, &packet);
        assert_eq!(judged, Err(DropReason::TooBigForDevice));
    }

    #[test]
    fn a_node_that_never_claims_is_learned_and_answered() {
        let (mut tun, routes) = (tun(), routes());
        let stranger = NetId(0x5);
        let packet = udp("10.0.0.50", "10.0.0.1", 1, 2);
        assert_eq!(
            tun.incoming(Instant::ZERO, &routes, stranger, &packet),
            Ok(())
        );
        let answer = udp("10.0.0.1", "10.0.0.50", 2, 1);
        assert_eq!(out(&mut tun, &routes, &answer), Outgoing::To(stranger));
        // Another who uses the address contradicts, whether it claims or not.
        for other in [B, A] {
            let judged = tun.incoming(Instant::ZERO, &routes, other, &packet);
            assert_eq!(judged, Err(DropReason::SourceClaimed));
        }
        // A claim goes before what was learned.
        let claimed = routes_of(&[("10.0.0.50/32", B)], 2);
        assert_eq!(out(&mut tun, &claimed, &answer), Outgoing::To(B));
        assert_eq!(tun.incoming(Instant::ZERO, &claimed, B, &packet), Ok(()));
        let judged = tun.incoming(Instant::ZERO, &claimed, stranger, &packet);
        assert_eq!(judged, Err(DropReason::SourceClaimed));
    }

    #[test]
    fn a_node_that_claims_is_not_learned() {
        let (mut tun, routes) = (tun(), routes());
        let packet = udp("10.0.0.50", "10.0.0.1", 1, 2);
        assert_eq!(tun.incoming(Instant::ZERO, &routes, A, &packet), Ok(()));
        let answer = udp("10.0.0.1", "10.0.0.50", 2, 1);
        assert_eq!(out(&mut tun, &routes, &answer), Outgoing::Hold);
    }

    #[test]
    fn learning_is_bounded() {
        let (mut tun, routes) = (tun(), routes());
        for n in 0..1000_u32 {
            let source = format!("10.3.{}.{}", n / 250, n % 250);
            let packet = udp(&source, "10.0.0.1", 1, 2);
            let _ = tun.incoming(Instant::ZERO, &routes, NetId(0x5), &packet);
        }
        assert_eq!(tun.learned.len(), crate::route::learned::MAX_OF_ONE);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decided_about(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let (mut tun, routes) = (tun(), routes());
            let mut buffer = [0; icmp::MAX_ANSWER_LEN];
            for version in [None, Some(0x45), Some(0x60)] {
                if let (Some(version), Some(first)) = (version, bytes.first_mut()) {
                    *first = version;
                }
                let len = bytes.len();
                if len >= 40 {
                    bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                    if version == Some(0x60) {
                        bytes[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
                    }
                }
                if out(&mut tun, &routes, &bytes) == Outgoing::Hold {
                    let _ = tun.hold(Instant::ZERO, &bytes);
                }
                let _ = tun.incoming(Instant::ZERO, &routes, A, &bytes);
                let answer = Answer::Unreachable;
                let _ = tun.answer(Instant::ZERO, &routes, answer, &bytes, &mut buffer);
            }
        }
    }
}
