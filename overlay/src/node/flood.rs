//! What becomes of a datagram: the data plane.
//!
//! One path for all kinds of messages, in four pure steps that run over a batch:
//!
//! ```text
//! classify   header, sender, flags, dst       -> settled, ours, or a candidate
//! digest     keyed hash of all bytes             (prefetch all, then)
//! probe      the seen table                   -> new, known, refused
//! decide     candidate and answer             -> verdict: drop, or deliver and forward
//! ```
//!
//! [`Flood::judge`] is their batch of one. The pump, the simulator and the fuzzers call the same
//! steps; there is no second place where a rule stands.
//!
//! A [`Verdict`] says *what*, never *to whom*: "forward" is one bool, and the pump fans out to all
//! live neighbors but the one the message came from (A15).
//!
//! The rules are those of PROTOCOL.md, "Flooding", cited as A4 to A20.

use wire::{Flags, HEADER_LEN, Header, INFORM_LEN, Kind, NetId, ParseError};

use crate::node::hash::MessageHasher;
use crate::node::seen::{OWN, Seen, SeenConfig, SeenTable};
use crate::planted::{self, Mistake};
use crate::pump::count::DropReason;
use crate::time::{Duration, Instant};

/// After a start, messages that our former self sent may still be on their way: for so long they
/// count as echoes, not as another node with our netid.
pub const ECHO_GRACE: Duration = Duration::from_secs(10);

/// The first byte of a Data payload that carries an Ethernet frame.
pub const FRAME: u8 = 0xC0;

/// Who gets a message on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deliver {
    /// It is for another node, or of a kind we do not know (A5).
    Nobody,
    /// The device: an IP packet or an Ethernet frame.
    Device,
    /// The service its first byte names; the pump counts `unknown_service` when there is none.
    Service,
    /// The control plane.
    Control,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing, for this reason; but the pump shows control a [`DropReason::DuplicatePong`].
    Drop(DropReason),
    /// It is new.
    New {
        /// Who gets it here.
        deliver: Deliver,
        /// Whether it goes on to the other neighbors.
        forward: bool,
    },
}

/// The reasons that a verdict can have. A datagram counts once: as one of these, as
/// `underlay_in_overlay` or `rx_truncated` (which the pump sees), as `control` or as `flooded`.
/// All other reasons are counted on top, for what was lost later.
pub const JUDGED: [DropReason; 11] = [
    DropReason::Malformed,
    DropReason::WrongVersion,
    DropReason::BadSource,
    DropReason::BadInform,
    DropReason::Stranger,
    DropReason::OwnEcho,
    DropReason::NetidConflict,
    DropReason::NotForUs,
    DropReason::Duplicate,
    DropReason::DuplicatePong,
    DropReason::SeenFull,
];

/// What the header alone tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Judged; the seen table is not asked.
    Settled(Verdict),
    /// It has our netid as src: the seen table tells an echo from a conflict.
    Ours,
    /// Becomes this if the seen table finds it new.
    Candidate {
        /// See [`Verdict::New`].
        deliver: Deliver,
        /// See [`Verdict::New`].
        forward: bool,
        /// A further copy is of interest to control: it is a Pong to our netid.
        pong: bool,
    },
}

impl Class {
    /// What becomes of a message that comes once, over one link (SEALED.md S82): what ends here is
    /// new without the seen table. What goes on may come back another way, and is asked about.
    #[must_use]
    pub const fn settle_alone(self) -> Self {
        match self {
            Self::Candidate {
                deliver,
                forward: false,
                ..
            } => Self::Settled(Verdict::New {
                deliver,
                forward: false,
            }),
            other => other,
        }
    }

    /// Whether the datagram is a message, as opposed to garbage: only then its link was heard.
    pub const fn is_well_formed(self) -> bool {
        !matches!(
            self,
            Self::Settled(Verdict::Drop(
                DropReason::Malformed
                    | DropReason::WrongVersion
                    | DropReason::BadSource
                    | DropReason::BadInform
            ))
        )
    }
}

/// The data plane of one node. See the module page.
///
/// Calls: from any worker at once.
#[derive(Debug)]
pub struct Flood {
    netid: NetId,
    hasher: MessageHasher,
    mixers: [u64; 2],
    seen: SeenTable,
    started: Instant,
}

impl Flood {
    /// A node that has seen nothing yet.
    pub fn new(netid: NetId, hasher: MessageHasher, seen: SeenConfig, started: Instant) -> Self {
        Self {
            netid,
            // No message is as short, so that these are nobody's digests.
            mixers: [b"0", b"1"].map(|name| hasher.digest(name)),
            hasher,
            seen: SeenTable::new(seen),
            started,
        }
    }

    /// Our netid.
    pub const fn netid(&self) -> NetId {
        self.netid
    }

    /// Words of this start that nobody outside knows, to spread over a small table what strangers choose.
    pub const fn mixers(&self) -> [u64; 2] {
        self.mixers
    }

    /// The seen table: for its growth, its sweep and its display.
    pub const fn seen(&self) -> &SeenTable {
        &self.seen
    }

    /// Decides what becomes of one datagram.
    ///
    /// Shape: one whole datagram; `from` is the place of the neighbor whose live link it came over
    ///        ([`crate::node::snapshot::LinkEntry::neighbor`]), `None` for a stranger.
    /// State: enters the digest of a new message of a neighbor into the seen table.
    /// Calls: from any worker at once.
    /// Cost:  one hash of the message, one table insert; no allocation.
    pub fn judge(&self, now: Instant, from: Option<u16>, datagram: &[u8]) -> Verdict {
        let class = self.classify(from, datagram);
        match (class, from) {
            (Class::Settled(verdict), _) => verdict,
            (Class::Candidate { .. }, Some(place)) => {
                let seen = self.seen.insert(now, self.digest(datagram), place);
                decide(class, seen)
            }
            // A stranger's message is never a candidate.
            (Class::Ours | Class::Candidate { .. }, _) => self.own(now, self.digest(datagram)),
        }
    }

    /// Step 1: what the header tells. Touches no state.
    ///
    /// Shape: as [`Self::judge`].
    #[inline]
    pub fn classify(&self, from: Option<u16>, datagram: &[u8]) -> Class {
        let header = match Header::parse(datagram) {
            Ok(header) => header,
            Err(error) => return drop(refusal(error)),
        };
        if header.kind == Kind::Inform && datagram.len() < HEADER_LEN + INFORM_LEN {
            return drop(DropReason::BadInform);
        }
        if header.src == self.netid {
            return Class::Ours;
        }
        let ours = header.dst == self.netid;
        let stays = header.flags.no_forward();
        if from.is_none() {
            let begins_a_link = match header.kind {
                Kind::Hello | Kind::Pong => true,
                // A direct one (R50); any other was forwarded.
                Kind::Ping => stays || ours || header.dst == NetId::ANY,
                _ => false,
            };
            // It stays outside the seen table, so that nobody can make a real message look seen
            // by sending it first (SECURITY T9).
            return if begins_a_link {
                Class::Settled(Verdict::New {
                    deliver: Deliver::Control,
                    forward: false,
                })
            } else {
                drop(DropReason::Stranger)
            };
        }
        let here = planted::is(Mistake::DeliverAll)
            || ours
            || header.dst == NetId::ANY
            || header.dst == NetId::ALL;
        if stays && !here {
            // A Pong to a netid that we made up for a challenge: only control knows those.
            return if header.kind == Kind::Pong {
                candidate(Deliver::Control, false)
            } else {
                drop(DropReason::NotForUs)
            };
        }
        let deliver = if here {
            receiver(header.kind, datagram.get(HEADER_LEN))
        } else {
            Deliver::Nobody
        };
        Class::Candidate {
            deliver,
            forward: planted::is(Mistake::ForwardAlways)
                || !stays && (header.dst == NetId::ALL || !here),
            pong: ours && header.kind == Kind::Pong,
        }
    }

    /// Step 2: the digest of a whole message.
    #[inline]
    pub fn digest(&self, datagram: &[u8]) -> u64 {
        self.hasher.digest(datagram)
    }

    /// Starts to fetch what step 3 will read.
    pub fn prefetch_batch(&self, digests: &[u64]) {
        self.seen.prefetch_batch(digests);
    }

    /// Step 3: asks the seen table about all candidates; see [`SeenTable::probe_batch`].
    pub fn probe_batch(&self, now: Instant, entries: &[(u64, u16)], seen: &mut [Seen]) {
        self.seen.probe_batch(now, entries, seen);
    }

    /// Step 3 for [`Class::Ours`]: did we send it?
    pub fn own(&self, now: Instant, digest: u64) -> Verdict {
        // When memory is short not all that we sent is remembered.
        let sent = self.seen.contains(now, digest)
            || now < self.started + ECHO_GRACE
            || self.seen.is_short(now);
        Verdict::Drop(if sent {
            DropReason::OwnEcho
        } else {
            DropReason::NetidConflict
        })
    }

    /// Writes the header of a new message in front of its payload and remembers the message, so
    /// that its echo is known. Returns whether it differs from all that were sent: if not, call
    /// again with another nonce, or every node would take it for a copy.
    ///
    /// Shape: `slot` is the whole datagram: [`HEADER_LEN`] bytes to be written, then the payload.
    ///
    /// # Panics
    /// When `slot` is shorter than [`HEADER_LEN`].
    pub fn originate(
        &self,
        now: Instant,
        kind: Kind,
        flags: Flags,
        nonce: u32,
        dst: NetId,
        slot: &mut [u8],
    ) -> bool {
        self.emit(kind, flags, nonce, dst, slot);
        self.enter(now, slot)
    }

    /// Only the header of [`Self::originate`]; whoever sends the message enters it, too.
    ///
    /// # Panics
    /// As [`Self::originate`].
    pub fn emit(&self, kind: Kind, flags: Flags, nonce: u32, dst: NetId, slot: &mut [u8]) {
        let header = Header {
            kind,
            flags,
            nonce,
            src: self.netid,
            dst,
        };
        header.emit(slot);
    }

    /// Remembers a message of ours, whoever made it; returns whether it was not known.
    pub fn enter(&self, now: Instant, datagram: &[u8]) -> bool {
        self.seen.insert(now, self.digest(datagram), OWN) == Seen::New
    }
}

/// Step 4: the verdict on a candidate, from what the seen table said.
#[inline]
pub const fn decide(class: Class, seen: Seen) -> Verdict {
    match (class, seen) {
        (Class::Settled(verdict), _) => verdict,
        (
            Class::Candidate {
                deliver, forward, ..
            },
            Seen::New,
        ) => Verdict::New { deliver, forward },
        (Class::Candidate { pong: true, .. }, Seen::Known) => {
            Verdict::Drop(DropReason::DuplicatePong)
        }
        (Class::Candidate { .. }, Seen::Known) => Verdict::Drop(DropReason::Duplicate),
        (_, Seen::Refused) => Verdict::Drop(DropReason::SeenFull),
        // Not asked so: `Flood::own` decides about ours.
        (Class::Ours, Seen::New | Seen::Known) => Verdict::Drop(DropReason::OwnEcho),
    }
}

/// Who gets a message that is for this node; `first` is the first byte of its payload.
#[inline]
fn receiver(kind: Kind, first: Option<&u8>) -> Deliver {
    match (kind, first) {
        (Kind::Data, Some(0x40..=0x4F | 0x60..=0x6F | &FRAME)) => Deliver::Device,
        (Kind::Data, _) => Deliver::Service,
        (Kind::Unknown(_), _) => Deliver::Nobody,
        (Kind::Hello | Kind::Goodbye | Kind::Ping | Kind::Pong | Kind::Inform, _) => {
            Deliver::Control
        }
    }
}

const fn drop(reason: DropReason) -> Class {
    Class::Settled(Verdict::Drop(reason))
}

const fn candidate(deliver: Deliver, forward: bool) -> Class {
    Class::Candidate {
        deliver,
        forward,
        pong: false,
    }
}

/// The reason under which unreadable bytes count.
#[cold]
fn refusal(error: ParseError) -> DropReason {
    match error.field {
        wire::Field::Version => DropReason::WrongVersion,
        wire::Field::Src => DropReason::BadSource,
        wire::Field::Inform => DropReason::BadInform,
        wire::Field::Header | wire::Field::Magic => DropReason::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::hash::Algorithm;

    const US: u32 = 0x2a;
    const LIVE: Option<u16> = Some(3);
    const NOW: Instant = Instant::from_secs(100);
    const CONTROL: Verdict = new(Deliver::Control, false);
    const PASSED: Verdict = new(Deliver::Nobody, true);

    const fn new(deliver: Deliver, forward: bool) -> Verdict {
        Verdict::New { deliver, forward }
    }

    fn flood() -> Flood {
        let hasher = MessageHasher::new(Algorithm::default(), [1, 2, 3, 4]);
        let seen = SeenConfig {
            start_bytes: 64 << 10,
            memory_bytes: 1 << 20,
        };
        Flood::new(NetId(US), hasher, seen, Instant::from_secs(50))
    }

    /// A datagram from its bytes: kind, flags, src, dst, rest.
    fn datagram(kind: u8, flags: u8, src: u32, dst: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xAC, 0x01, kind, flags, 1, 2, 3, 4];
        bytes.extend(src.to_be_bytes());
        bytes.extend(dst.to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    /// Judges as of a fresh node.
    fn judged(from: Option<u16>, datagram: &[u8]) -> Verdict {
        flood().judge(NOW, from, datagram)
    }

    #[test]
    fn garbage_is_dropped_for_the_first_reason_that_applies() {
        let ping = datagram(0x03, 0, 7, US, &[]);
        let with = |index: usize, byte: u8| {
            let mut bytes = ping.clone();
            bytes[index] = byte;
            judged(LIVE, &bytes)
        };
        for length in 0..16 {
            let verdict = judged(LIVE, &ping[..length]);
            assert_eq!(verdict, Verdict::Drop(DropReason::Malformed));
        }
        assert_eq!(with(0, 0xAD), Verdict::Drop(DropReason::Malformed));
        assert_eq!(with(1, 0x02), Verdict::Drop(DropReason::WrongVersion));
        for src in [0, 0xFFFF_FFFF] {
            let verdict = judged(LIVE, &datagram(0x10, 0, src, 7, b"E"));
            assert_eq!(verdict, Verdict::Drop(DropReason::BadSource));
        }
        let inform = datagram(0x05, 0, 7, US, &[0; 22]);
        let verdict = judged(LIVE, &inform[..37]);
        assert_eq!(verdict, Verdict::Drop(DropReason::BadInform));
        assert_eq!(judged(LIVE, &inform), CONTROL);
        let long = datagram(0x10, 0, 7, US, &vec![0x45; 65_507 - 15]);
        let verdict = judged(LIVE, &long);
        assert_eq!(verdict, Verdict::Drop(DropReason::Malformed));
    }

    /// Rows A5, A16 to A19 and A28: kind by dst by flag, for a neighbor's new message.
    #[test]
    fn a_new_message_is_delivered_and_forwarded_by_kind_dst_and_flag() {
        const ANY: u32 = 0;
        const ALL: u32 = 0xFFFF_FFFF;
        const OTHER: u32 = 0x99;
        let not_for_us = Verdict::Drop(DropReason::NotForUs);
        let kinds: [(u8, &[u8], Deliver); 12] = [
            (0x01, &[], Deliver::Control),
            (0x02, &[], Deliver::Control),
            (0x03, &[], Deliver::Control),
            (0x04, &[], Deliver::Control),
            (0x05, &[0; 22], Deliver::Control),
            (0x10, &[0x45, 0], Deliver::Device),
            (0x10, &[0x60], Deliver::Device),
            (0x10, &[0xC0, 1], Deliver::Device),
            (0x10, &[0xC2, 1], Deliver::Service),
            (0x10, &[0x50], Deliver::Service),
            (0x10, &[], Deliver::Service),
            (0x77, &[0x45], Deliver::Nobody),
        ];
        for (kind, rest, deliver) in kinds {
            // Reserved flag bits change nothing (A4).
            for reserved in [0, 0x7F] {
                let judged = |flags, dst| judged(LIVE, &datagram(kind, flags, 7, dst, rest));
                assert_eq!(judged(reserved, US), new(deliver, false));
                assert_eq!(judged(reserved, ANY), new(deliver, false));
                assert_eq!(judged(reserved, ALL), new(deliver, true));
                assert_eq!(judged(reserved, OTHER), PASSED);
                let stays = reserved | 0x80;
                assert_eq!(judged(stays, US), new(deliver, false));
                assert_eq!(judged(stays, ANY), new(deliver, false));
                assert_eq!(judged(stays, ALL), new(deliver, false));
                // Only a Pong may be to a netid that we made up.
                let other = if kind == 0x04 { CONTROL } else { not_for_us };
                assert_eq!(judged(stays, OTHER), other);
            }
        }
    }

    #[test]
    fn of_a_stranger_only_what_makes_a_link_passes_and_nothing_is_remembered() {
        let flood = flood();
        for kind in [0x01, 0x03, 0x04] {
            for (flags, dst) in [(0x80, US), (0x80, 0), (0, US), (0, 0x99), (0, 0xFFFF_FFFF)] {
                let hello = datagram(kind, flags, 7, dst, &[]);
                if kind == 0x03 && flags == 0 && dst != US {
                    // A forwarded Ping needs a live last hop (R51).
                    let verdict = flood.judge(NOW, None, &hello);
                    assert_eq!(verdict, Verdict::Drop(DropReason::Stranger));
                    continue;
                }
                assert_eq!(flood.judge(NOW, None, &hello), CONTROL);
                assert_eq!(flood.judge(NOW, None, &hello), CONTROL);
                assert!(!flood.seen().contains(NOW, flood.digest(&hello)));
            }
        }
        for (kind, rest) in [(0x02, 0), (0x05, 22), (0x10, 1), (0x77, 0)] {
            let message = datagram(kind, 0, 7, US, &vec![0x45; rest]);
            let verdict = flood.judge(NOW, None, &message);
            assert_eq!(verdict, Verdict::Drop(DropReason::Stranger));
            assert!(!flood.seen().contains(NOW, flood.digest(&message)));
            // And a neighbor's copy of it is new all the same.
            assert!(matches!(
                flood.judge(NOW, LIVE, &message),
                Verdict::New { .. }
            ));
        }
    }

    #[test]
    fn a_further_copy_is_a_duplicate_and_of_a_pong_for_us_a_duplicate_pong() {
        let flood = flood();
        let again = |datagram: &[u8]| {
            flood.judge(NOW, LIVE, datagram);
            flood.judge(NOW, Some(4), datagram)
        };
        let duplicate = Verdict::Drop(DropReason::Duplicate);
        assert_eq!(again(&datagram(0x10, 0, 7, US, b"E")), duplicate);
        assert_eq!(again(&datagram(0x04, 0, 7, 0x99, &[])), duplicate);
        assert_eq!(again(&datagram(0x04, 0x80, 7, 0x99, &[])), duplicate);
        let pong = datagram(0x04, 0, 7, US, &[]);
        assert_eq!(again(&pong), Verdict::Drop(DropReason::DuplicatePong));
    }

    /// SECURITY T9: no copy with another byte can make the real message look seen.
    #[test]
    fn each_byte_makes_another_message() {
        let flood = flood();
        let message = datagram(0x10, 0, 7, 0xFFFF_FFFF, &[0x45; 40]);
        flood.judge(NOW, LIVE, &message);
        for index in 2..message.len() {
            let mut other = message.clone();
            other[index] ^= 0x80;
            let verdict = flood.judge(NOW, LIVE, &other);
            let known = Verdict::Drop(DropReason::Duplicate);
            assert_ne!(verdict, known, "byte {index}");
        }
    }

    #[test]
    fn our_own_message_is_an_echo_when_we_sent_it_and_else_a_conflict() {
        let flood = flood();
        let mut slot = [0xA5; 20];
        assert!(flood.originate(NOW, Kind::Data, Flags::NONE, 9, NetId::ALL, &mut slot));
        assert_eq!(
            slot,
            [
                0xAC, 1, 0x10, 0, 0, 0, 0, 9, 0, 0, 0, 0x2a, 0xFF, 0xFF, 0xFF, 0xFF, 0xA5, 0xA5,
                0xA5, 0xA5
            ]
        );
        let echo = Verdict::Drop(DropReason::OwnEcho);
        let conflict = Verdict::Drop(DropReason::NetidConflict);
        let foreign = datagram(0x10, 0, US, 7, b"E");
        for from in [LIVE, None] {
            assert_eq!(flood.judge(NOW, from, &slot), echo);
            assert_eq!(flood.judge(NOW, from, &foreign), conflict);
            // The message is not remembered for having come.
            assert_eq!(flood.judge(NOW, from, &foreign), conflict);
        }
        let grace = Instant::from_secs(60);
        let before = grace - Duration::from_micros(1);
        assert_eq!(flood.judge(before, LIVE, &foreign), echo);
        assert_eq!(flood.judge(grace, LIVE, &foreign), conflict);
    }

    #[test]
    fn a_message_like_one_that_was_sent_needs_another_nonce() {
        let flood = flood();
        let mut slot = [0; 16];
        let mut originate =
            |nonce| flood.originate(NOW, Kind::Ping, Flags::NONE, nonce, NetId(7), &mut slot);
        assert!(originate(1));
        assert!(!originate(1));
        assert!(originate(2));
    }

    #[test]
    fn judge_gives_no_reason_but_the_listed() {
        let flood = flood();
        let mut number = 0_u64;
        for _ in 0..50_000 {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let bits = (number >> 24) as u32;
            let length = (number >> 56) as usize % 48;
            let mut bytes = datagram(
                bits as u8 % 0x12,
                (bits >> 8) as u8,
                7,
                bits % 3,
                &[0x45; 32],
            );
            bytes[11] = (bits >> 16) as u8 % 44;
            bytes[bits as usize % 2] ^= u8::from(bits.is_multiple_of(7));
            bytes.truncate(length);
            let from = (!bits.is_multiple_of(5)).then_some((bits % 5) as u16);
            if let Verdict::Drop(reason) = flood.judge(NOW, from, &bytes) {
                assert!(JUDGED.contains(&reason), "{reason:?}");
            }
        }
    }
}
