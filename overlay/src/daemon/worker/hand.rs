//! What goes from the data loop to the driver, and packets on their way to the device.
//!
//! The driver may fall behind, and what one neighbor sends must not cost the others their place in
//! the channel. So what can be missed leaves room for what cannot:
//!
//! | what | leaves free | because |
//! |---|---|---|
//! | the device is gone, or no longer merges | nothing | it is told once |
//! | control of endpoints being dialed | [`SPARE_FOR_ONCE`] | the way into the mesh |
//! | control of neighbors | [`SPARE_FOR_DIALED`] | they ask and answer again |
//! | directory payloads, news of nodes | [`SPARE_FOR_CONTROL`] | repeated every 30 s, every second |
//!
//! Sealed links have a channel of their own, of which INITs leave half free and other handshakes a quarter:
//! what sessions have to say comes first, and nobody but a session's far end can say it. RESP, FIN and COOKIE
//! answer an index that was given out; an INIT of a member can be said again by anybody, without end.
//!
//! Directory payloads are dear to handle (one may bring 64 claims), so each neighbor has a ration
//! of them besides.

use std::sync::Arc;

use tuntap::MergingEnded;
use wire::Header;
use wire::sealed::{Control, Frame, SealedKind};
use wire::service::{self, Service};

use super::TX_ITEMS;
use crate::budget::{Buckets, Rate};
use crate::daemon::shared::{
    CONTROL_LEN, ENDS, EndReport, NEAR, Report, Reports, SEALS, SealReport,
};
use crate::id::{NetId, Path};
use crate::node::snapshot::LinkEntry;
use crate::pump::count::{Counters, DropReason};
use crate::pump::fair::Sieve;
use crate::pump::{Arrival, Packet, Sink};
use crate::seal::broadcast::PER_BRINGER;
use crate::seal::effect::Owned;
use crate::seal::opening::Porter;
use crate::time::{Duration, Instant};

/// How often the driver is told that a node's device is of another mode.
const MIXED_INTERVAL: Duration = Duration::from_secs(1);

/// Places kept for what is told once.
const SPARE_FOR_ONCE: usize = 8;
/// Places kept for endpoints being dialed.
const SPARE_FOR_DIALED: usize = NEAR / 8;
/// Places kept for control.
const SPARE_FOR_CONTROL: usize = NEAR / 2;
/// Places kept for what sessions have to say, before handshakes.
const SPARE_FOR_SEALS: usize = SEALS / 4;
/// Places kept for what answers a handshake, before INITs.
const SPARE_FOR_ANSWERS: usize = SEALS / 4;
/// One directory payload of each neighbor in this time; a mesh of hundreds of nodes brings tens a
/// second. Unrationed, 12,000 a second filled a processor and `status` was not answered.
const SERVICE_INTERVAL: Duration = Duration::from_millis(1);
/// Directory payloads of a neighbor at once: what a mesh of a thousand nodes claims after a change.
const SERVICE_BURST: u32 = 2_000;
/// Notices a second, for each neighbor, that a node seals with a session that we do not have: a
/// session that ended is sealed with for a while, and anybody in the mesh can make up one.
const UNKNOWN: u32 = 20;
/// Places kept for handshakes between ends, before packets that wait for them.
const SPARE_FOR_HANDSHAKES: usize = ENDS / 2;
/// Neighbors with a ration of their own: as many as there can be.
const RATIONED: usize = 1_024;

/// A payload that is sealed end to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) packet: Packet,
    /// Whether it came from its origin's own link.
    pub(super) direct: bool,
    /// The neighbor that brought it.
    pub(super) by: NetId,
}

/// Takes what the pump delivers: packets for the device are noted, the rest goes to the driver.
pub(super) struct Hand {
    reports: Reports,
    counters: Arc<Counters>,
    pub(super) packets: Vec<Packet>,
    /// Payloads that are sealed end to end.
    pub(super) sealed: Vec<Sealed>,
    /// Whether Data in clear is refused.
    pub(super) is_sealed: bool,
    unknown: Buckets<NetId>,
    /// Verifications of broadcasts, reserved for what each neighbor brings.
    pub(super) verifications: Buckets<NetId>,
    /// When the driver was last told of a node of another device mode.
    mixed_at: Option<Instant>,
    now: Instant,
    services: Buckets<NetId>,
    /// Who has which share of a saturated node.
    pub(super) sieve: Sieve,
}

impl Hand {
    /// `sieve` is to be one without room where nothing is received.
    pub(super) fn new(
        now: Instant,
        reports: Reports,
        counters: Arc<Counters>,
        sieve: Sieve,
    ) -> Self {
        Self {
            reports,
            counters,
            packets: Vec::with_capacity(TX_ITEMS),
            sealed: Vec::with_capacity(TX_ITEMS),
            is_sealed: false,
            unknown: Buckets::new(Rate::per_second(UNKNOWN, UNKNOWN), RATIONED),
            verifications: Buckets::new(Rate::per_second(PER_BRINGER, PER_BRINGER), RATIONED),
            mixed_at: None,
            now,
            services: Buckets::new(Rate::every(SERVICE_INTERVAL, SERVICE_BURST), RATIONED),
            sieve,
        }
    }

    /// A batch begins; `is_sealed` says whether Data in clear is refused.
    pub(super) fn begin(&mut self, now: Instant, is_sealed: bool) {
        self.now = now;
        self.is_sealed = is_sealed;
        self.packets.clear();
        self.sealed.clear();
    }

    /// A payload of a handshake between ends, of `src`, that the neighbor `by` brought.
    pub(super) fn introduce(&self, (src, by): (NetId, NetId), direct: bool, payload: &[u8]) {
        let payload = payload.into();
        self.end(EndReport::Handshake {
            src,
            by,
            direct,
            payload,
        });
    }

    /// The first payload opened on the session of this index. Missed, it is found out in time.
    pub(super) fn end_confirmed(&self, index: u32) {
        self.end(EndReport::Confirmed(index));
    }

    /// A node seals with a session that we do not have; the neighbor `by` brought it.
    pub(super) fn end_unknown(&mut self, src: NetId, by: NetId) {
        if self.unknown.take(self.now, by) {
            self.end(EndReport::Unknown(src, by));
        }
    }

    /// A payload for a node without a session: it waits with the driver.
    pub(super) fn wait(&self, dst: NetId, payload: &[u8]) {
        if self.reports.ends.capacity() <= SPARE_FOR_HANDSHAKES {
            return self.counters.count(DropReason::EndWaiting);
        }
        let report = EndReport::Waiting(dst, payload.into());
        if self.reports.ends.try_send(report).is_err() {
            self.counters.count(DropReason::EndWaiting);
        }
    }

    /// A payload that was opened and that the neighbor `by` brought: it has a service byte of its
    /// own, or is nothing but a sign of life.
    pub(super) fn opened(&mut self, by: NetId, packet: Packet, arena: &[u8]) {
        let payload = packet.payload.of(arena);
        let Some(&first) = payload.first() else {
            return;
        };
        match service::classify(first) {
            Service::IpPacket | Service::EthernetFrame => self.packets.push(packet),
            Service::Directory => self.directory(by, packet.origin, false, payload),
            _ => self.counters.count(DropReason::UnknownService),
        }
    }

    /// A directory payload, within its bringer's ration.
    pub(super) fn directory(&mut self, by: NetId, origin: NetId, direct: bool, payload: &[u8]) {
        if !self.services.take(self.now, by) {
            return self.counters.count(DropReason::ServiceFull);
        }
        let report = Report::Directory {
            origin,
            direct,
            payload: payload.into(),
        };
        self.near(report, SPARE_FOR_CONTROL, DropReason::ServiceFull);
    }

    /// A payload of `origin` is for a device of another mode; told once a second.
    pub(super) fn mixed(&mut self, now: Instant, origin: NetId) {
        if self
            .mixed_at
            .is_none_or(|at| now.since(at) >= MIXED_INTERVAL)
        {
            self.mixed_at = Some(now);
            self.far(Report::WrongMode(origin));
        }
    }

    /// The device of this index is gone.
    pub(super) fn device_gone(&self, index: u32) {
        self.near(Report::DeviceGone(index), 0, DropReason::ControlFull);
    }

    /// The device no longer merges some packets; returns whether that found a place.
    pub(super) fn merging_ended(&self, ended: MergingEnded) -> bool {
        let told = self.reports.near.try_send(Report::MergingEnded(ended));
        told.is_ok()
    }

    /// The seen table wants to be larger; asked again if this finds no place.
    pub(super) fn seen_fills(&self) {
        self.near(Report::SeenFills, SPARE_FOR_ONCE, DropReason::ControlFull);
    }

    /// Puts a report into the channel if more than `spare` places are left.
    fn near(&self, report: Report, spare: usize, reason: DropReason) {
        if self.reports.near.capacity() <= spare || self.reports.near.try_send(report).is_err() {
            self.counters.count(reason);
        }
    }

    fn seal(&self, report: SealReport) {
        if self.reports.seals.try_send(report).is_err() {
            self.counters.count(DropReason::ControlFull);
        }
    }

    fn end(&self, report: EndReport) {
        if self.reports.ends.try_send(report).is_err() {
            self.counters.count(DropReason::ControlFull);
        }
    }

    fn far(&self, report: Report) {
        if self.reports.strangers.try_send(report).is_err() {
            self.counters.count(DropReason::StrangerFull);
        }
    }
}

impl Sink for Hand {
    fn device(&mut self, packet: Packet, _arena: &[u8]) {
        self.packets.push(packet);
    }

    fn service(&mut self, link: &LinkEntry, header: &Header, payload: &[u8]) {
        let direct = header.flags.no_forward() && link.netid == header.src;
        self.directory(link.netid, header.src, direct, payload);
    }

    /// What stays on a link needs no other seal than the link's, if it is of who is there. In the open
    /// zone of a node that has one there is none.
    fn admits(&self, link: &LinkEntry, header: &Header) -> bool {
        let stays = header.flags.no_forward() && link.netid == header.src;
        !self.is_sealed || stays || link.open
    }

    fn sealed(&mut self, link: &LinkEntry, packet: Packet, direct: bool) -> bool {
        if self.is_sealed {
            let by = link.netid;
            self.sealed.push(Sealed { packet, direct, by });
        }
        self.is_sealed
    }

    fn control(&mut self, arrival: Arrival, datagram: &[u8]) {
        let Arrival {
            path,
            link,
            expected,
            duplicate,
        } = arrival;
        let len = datagram.len().min(CONTROL_LEN);
        let mut bytes = [0; CONTROL_LEN];
        bytes[..len].copy_from_slice(&datagram[..len]);
        let report = Report::Datagram {
            path,
            duplicate,
            len: len as u8,
            bytes,
        };
        if expected {
            self.near(report, SPARE_FOR_ONCE, DropReason::ControlFull);
        } else if link.is_some() {
            self.near(report, SPARE_FOR_DIALED, DropReason::ControlFull);
        } else {
            self.far(report);
        }
    }

    fn stranger(&mut self, path: Path) {
        self.far(Report::Stranger(path));
    }

    fn conflict(&mut self, path: Path) {
        self.far(Report::Conflict(path));
    }

    fn brought(&mut self, origin: NetId, via: NetId, is_new: bool) {
        if is_new {
            self.sieve.fair.heard(self.now, origin, via);
        } else {
            self.sieve.fair.heard_later(self.now, origin, via);
        }
    }

    fn heard(&mut self, origin: NetId, via: NetId) {
        // No datagram is lost with it, so nothing is counted.
        if self.reports.near.capacity() > SPARE_FOR_CONTROL {
            let _ = self.reports.near.try_send(Report::Heard { origin, via });
        }
    }
}

impl Porter for Hand {
    fn handshake(&mut self, path: Path, datagram: &[u8]) {
        let spare = match SealedKind::of(datagram) {
            Ok(SealedKind::Init) => SPARE_FOR_SEALS + SPARE_FOR_ANSWERS,
            _ => SPARE_FOR_SEALS,
        };
        if self.reports.seals.capacity() <= spare {
            return self.counters.count(DropReason::ControlFull);
        }
        self.seal(SealReport::Handshake(path, datagram.into()));
    }

    fn confirmed(&mut self, index: u32) {
        // Missed, the peer finds it out by itself within a second.
        self.seal(SealReport::Confirmed(index));
    }

    fn frame(&mut self, index: u32, by: (Path, usize), control: &Control<'_>) {
        match control {
            Control::ListNumber(_) | Control::ListRequest(..) | Control::ListPiece(_) => {
                let frame = Frame::Control(*control);
                let mut bytes = vec![0; frame.len()];
                if frame.emit(&mut bytes).is_some() {
                    self.seal(SealReport::List(index, bytes.into()));
                }
            }
            _ => {
                if let Some(owned) = Owned::of(control) {
                    self.seal(SealReport::Control(index, by, owned));
                }
            }
        }
    }

    fn elsewhere(&mut self, index: u32, from: Path, len: usize) {
        // Told again while it lasts.
        self.seal(SealReport::Elsewhere(index, from, len));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::id::{Endpoint, LinkId, SocketId};

    fn hand() -> (Hand, mpsc::Receiver<Report>) {
        let (near, reports) = mpsc::channel(NEAR);
        let (strangers, _) = mpsc::channel(1);
        let (seals, _) = mpsc::channel(1);
        let (ends, _) = mpsc::channel(1);
        let reports_of = Reports {
            near,
            strangers,
            seals,
            ends,
        };
        let counters = Arc::new(Counters::default());
        (
            Hand::new(Instant::ZERO, reports_of, counters, Sieve::default()),
            reports,
        )
    }

    fn path() -> Path {
        Path::to(Endpoint::new(SocketId(0), "192.0.2.1:1".parse().unwrap()))
    }

    fn arrival(link: Option<u16>, expected: bool) -> Arrival {
        Arrival {
            path: path(),
            link,
            expected,
            duplicate: false,
        }
    }

    fn waiting(hand: &Hand) -> usize {
        NEAR - hand.reports.near.capacity()
    }

    fn link(netid: u32) -> LinkEntry {
        LinkEntry {
            open: false,
            id: LinkId(0),
            netid: NetId(netid),
            neighbor: 0,
            path: path(),
            stats: Arc::default(),
        }
    }

    fn claim(hand: &mut Hand, netid: u32) {
        let header = Header {
            kind: wire::Kind::Data,
            flags: wire::Flags::NONE,
            nonce: 1,
            src: NetId(netid),
            dst: NetId::ALL,
        };
        hand.service(&link(netid), &header, &[0xC2]);
    }

    #[test]
    fn what_can_be_missed_leaves_room_for_what_cannot() {
        let (mut hand, _reports) = hand();
        for n in 0..2_000 {
            hand.heard(NetId(n), NetId(2));
        }
        assert_eq!(waiting(&hand), NEAR - SPARE_FOR_CONTROL);
        for _ in 0..2_000 {
            hand.control(arrival(Some(0), false), &[0; 16]);
        }
        assert_eq!(waiting(&hand), NEAR - SPARE_FOR_DIALED);
        for _ in 0..2_000 {
            hand.control(arrival(None, true), &[0; 16]);
        }
        assert_eq!(waiting(&hand), NEAR - SPARE_FOR_ONCE);
        hand.device_gone(7);
        assert_eq!(waiting(&hand), NEAR - SPARE_FOR_ONCE + 1);
    }

    #[test]
    fn a_neighbor_has_a_ration_of_directory_payloads_and_takes_nobody_elses() {
        let (mut hand, mut reports) = hand();
        let mut taken = 0;
        for _ in 0..3_000 {
            claim(&mut hand, 2);
            taken += usize::from(reports.try_recv().is_ok());
        }
        assert_eq!(taken, SERVICE_BURST as usize);
        claim(&mut hand, 3);
        assert!(reports.try_recv().is_ok());
        hand.begin(Instant::ZERO + SERVICE_INTERVAL, false);
        claim(&mut hand, 2);
        assert!(reports.try_recv().is_ok());
        claim(&mut hand, 2);
        assert!(reports.try_recv().is_err());
        assert_eq!(hand.counters.dropped(DropReason::ServiceFull), 1_001);
    }

    #[test]
    fn inits_leave_places_for_answers_and_both_for_what_sessions_say() {
        let (mut hand, _reports) = hand();
        let (seals, waiting) = mpsc::channel(SEALS);
        hand.reports.seals = seals;
        let says = |hand: &mut Hand, kind: u8, times: usize| {
            for _ in 0..times {
                hand.handshake(path(), &[wire::sealed::SEALED_MAGIC, kind]);
            }
        };
        let (init, resp, fin, cookie) = (1, 2, 3, 4);
        says(&mut hand, init, SEALS);
        assert_eq!(waiting.len(), SEALS / 2);
        // One of each finds a place, and more of them up to a quarter.
        for kind in [resp, fin, cookie] {
            says(&mut hand, kind, 1);
        }
        assert_eq!(waiting.len(), SEALS / 2 + 3);
        says(&mut hand, cookie, SEALS);
        assert_eq!(waiting.len(), SEALS / 4 * 3);
        hand.confirmed(7);
        assert_eq!(waiting.len(), SEALS / 4 * 3 + 1);
        let refused = hand.counters.dropped(DropReason::ControlFull);
        assert_eq!(refused as usize, 2 * SEALS + 3 - SEALS / 4 * 3);
    }

    /// S70, S90.
    #[test]
    fn data_in_clear_is_taken_over_plain_links_or_from_the_far_end_of_a_sealed_one() {
        let (mut hand, _reports) = hand();
        let data = |src, flags| Header {
            kind: wire::Kind::Data,
            flags,
            nonce: 1,
            src: NetId(src),
            dst: NetId::ALL,
        };
        let (forwarded, stays) = (wire::Flags::NONE, wire::Flags::NO_FORWARD);
        let sealed = link(2);
        let open = LinkEntry {
            open: true,
            ..link(2)
        };
        hand.begin(Instant::ZERO, true);
        assert!(hand.admits(&open, &data(7, forwarded)));
        assert!(hand.admits(&sealed, &data(2, stays)));
        assert!(!hand.admits(&sealed, &data(2, forwarded)));
        assert!(!hand.admits(&sealed, &data(7, stays)));
        hand.begin(Instant::ZERO, false);
        assert!(hand.admits(&sealed, &data(7, forwarded)));
    }
}
