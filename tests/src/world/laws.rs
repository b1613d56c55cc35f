//! What must hold in every world (SECURITY 4.1, S1 to S14), checked while it runs.
//!
//! At every datagram sent: nobody's address is used against him (S4), no nonce twice (S9), nothing
//! plain from a sealed node (S10), nothing forwarded that stays (S3). At every one received: nothing
//! opened twice (S8). At every wake-up: no session outlives its time (S9). At the
//! end, by [`World::check`]: nothing delivered twice (S1) or that nobody sent (S8), tables bounded
//! (S5), all that was received counted once (S14).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use overlay::id::NetId;
use overlay::node::flood::JUDGED;
use overlay::pump::count::{DropReason, Total};
use overlay::time::{Duration, Instant};
use wire::Header;
use wire::sealed::{INIT_LEN, LinkHeader, SEALED_MAGIC, SealedKind};

use super::World;
use super::sealing::path_to;

/// A session's longest life, and the second in which that is noticed (S45).
const SESSION_LIFETIME: Duration = Duration::from_secs(181);
/// INITs to an address that a neighbor told of, in ten minutes (S41), and one more for where two
/// rounds meet.
const INFORMED: usize = 4;
/// An INIT is not repeated sooner (S41).
const RETRY: Duration = Duration::from_millis(700);
/// What a sealed node counts when a datagram does not open.
const UNOPENED: [DropReason; 7] = [
    DropReason::PlainFromSealed,
    DropReason::Malformed,
    DropReason::RxTruncated,
    DropReason::NotSealed,
    DropReason::UnknownSession,
    DropReason::Replayed,
    DropReason::Forged,
];
/// What is counted before the plain rules, and with [`Total::Received`].
const BEFORE: [DropReason; 9] = [
    DropReason::NoRight,
    DropReason::PlainFromSealed,
    DropReason::UnderlayInOverlay,
    DropReason::RxTruncated,
    DropReason::NotSealed,
    DropReason::UnknownSession,
    DropReason::Replayed,
    DropReason::Forged,
    DropReason::FramesFull,
];

/// Bytes from and to an address that has proved nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    received: usize,
    sent: usize,
}

/// What the laws remember of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// INITs that an address may get in ten minutes that sent nothing and is no node's: 0, unless an
    /// insider tells of it.
    pub advance: usize,
    /// Who sent each message, and for whom.
    sent: BTreeMap<u64, (NetId, NetId)>,
    /// Where nodes are or were.
    nodes: BTreeSet<SocketAddr>,
    /// Addresses that had a session with a node, or that its owner named.
    proved: BTreeSet<(usize, SocketAddr)>,
    accounts: BTreeMap<(usize, SocketAddr), Account>,
    /// Addresses with which a node had a session.
    sealed: BTreeSet<(usize, SocketAddr)>,
    /// The highest counter of each session, by its sender, far end and index.
    counters: BTreeMap<(usize, SocketAddr, u32), u64>,
    /// When an INIT last went from a node to an address, and a COOKIE came from there.
    inits: BTreeMap<(usize, SocketAddr), Instant>,
    cookies: BTreeMap<(usize, SocketAddr), Instant>,
    /// What was opened: node, index, counter.
    opened: BTreeSet<(usize, u32, u64)>,
    /// Indices that a node gave out, and when.
    indices: BTreeMap<(usize, u32), Instant>,
}

impl Ledger {
    pub(super) fn sent(&mut self, number: u64, src: NetId, dst: NetId) {
        self.sent.insert(number, (src, dst));
    }

    pub(super) fn is_sent(&self, number: u64, src: NetId, dst: NetId) -> bool {
        self.sent.get(&number) == Some(&(src, dst))
    }

    pub(super) fn named(&mut self, node: usize, address: SocketAddr) {
        self.proved.insert((node, address));
    }

    /// A node is at an address now.
    pub(super) fn at(&mut self, address: SocketAddr) {
        self.nodes.insert(address);
    }

    pub(super) fn received(
        &mut self,
        now: Instant,
        node: usize,
        from: SocketAddr,
        datagram: &[u8],
    ) {
        let account = self.accounts.entry((node, from)).or_default();
        account.received += datagram.len();
        if SealedKind::of(datagram) == Ok(SealedKind::Cookie) {
            self.cookies.insert((node, from), now);
        }
    }

    /// A node starts anew.
    pub(super) fn forget(&mut self, node: usize) {
        self.proved.retain(|(of, _)| *of != node);
        self.sealed.retain(|(of, _)| *of != node);
        self.accounts.retain(|(of, _), _| *of != node);
        self.counters.retain(|(of, ..), _| *of != node);
        self.indices.retain(|(of, _), _| *of != node);
        self.inits.retain(|(of, _), _| *of != node);
    }
}

impl World {
    /// S4, S9, S10 of a sealed node's datagram.
    pub(super) fn check_sent(&mut self, node: usize, to: SocketAddr, datagram: &[u8]) {
        let at = &self.nodes[node];
        let Some(sealing) = &at.sealing else {
            return;
        };
        let replay = self.replay();
        if sealing.links.prefer().is_some() && datagram.first() == Some(&wire::MAGIC) {
            // S10 where sealed links are preferred: nothing plain goes where a session was.
            let was_sealed = self.ledger.sealed.contains(&(node, to));
            assert!(!was_sealed, "{replay}: node {node} falls back to plain");
            return;
        }
        assert_eq!(
            datagram.first(),
            Some(&SEALED_MAGIC),
            "{replay}: node {node} speaks plain"
        );
        // The link may have moved there, from wherever its far end was.
        let has_session = self.ledger.nodes.iter().any(|from| {
            let seals = sealing.links.sessions().seals(&path_to(*from).endpoint);
            seals.is_some_and(|seals| *from == to || seals.path.endpoint.remote == to)
        });
        // Neighbors tell each other of nodes.
        let was_node = self.ledger.nodes.contains(&to);
        let ledger = &mut self.ledger;
        let advance = if was_node { INFORMED } else { ledger.advance };
        if has_session {
            ledger.sealed.insert((node, to));
            ledger.proved.insert((node, to));
        } else if !ledger.proved.contains(&(node, to)) {
            let account = ledger.accounts.entry((node, to)).or_default();
            account.sent += datagram.len();
            let rounds = 1 + (self.now.0 / 600_000_000) as usize;
            assert!(
                account.sent <= 3 * account.received + advance * rounds * INIT_LEN,
                "{replay}: node {node} sent {account:?} to {to}"
            );
        }
        match SealedKind::of(datagram) {
            Ok(SealedKind::Init | SealedKind::Resp) => {
                let index = datagram[4..8].try_into().map(u32::from_be_bytes);
                let index = index.unwrap_or_default();
                ledger.indices.insert((node, index), self.now);
                if datagram[1] == SealedKind::Init.to_byte() {
                    self.check_init(node, to);
                }
            }
            Ok(SealedKind::Link) => {
                let Ok(header) = LinkHeader::parse(datagram) else {
                    panic!("{replay}: node {node} sends what is no LINK");
                };
                let session = (node, to, header.receiver);
                let former = ledger.counters.insert(session, header.counter);
                assert!(
                    former.is_none_or(|former| former < header.counter),
                    "{replay}: node {node} used counter {} again",
                    header.counter
                );
            }
            _ => {}
        }
    }

    /// S30: a COOKIE is no reason to hurry.
    fn check_init(&mut self, node: usize, to: SocketAddr) {
        let (now, replay) = (self.now, self.replay());
        let former = self.ledger.inits.insert((node, to), now);
        let cookie = self.ledger.cookies.remove(&(node, to));
        if let (Some(former), Some(cookie)) = (former, cookie) {
            assert!(
                cookie < former || now.since(former) >= RETRY,
                "{replay}: a COOKIE made node {node} try again"
            );
        }
    }

    /// How many datagrams a node refused to open.
    pub(super) fn unopened(&self, node: usize) -> u64 {
        let counters = &self.nodes[node].counters;
        UNOPENED
            .iter()
            .map(|reason| counters.dropped(*reason))
            .sum()
    }

    /// S8: no datagram opens twice; `unopened` as it was before this one.
    pub(super) fn check_opened(&mut self, node: usize, datagram: &[u8], unopened: u64) {
        let is_sealed = self.nodes[node].sealing.is_some();
        if !is_sealed || self.unopened(node) != unopened {
            return;
        }
        if let Ok(header) = LinkHeader::parse(datagram) {
            let opened = (node, header.receiver, header.counter);
            let is_first = self.ledger.opened.insert(opened);
            assert!(is_first, "{}: {opened:?} opened twice", self.replay());
        }
    }

    /// S3: what stays is not forwarded, and what is forwarded is as it came.
    pub(super) fn check_forwarded(&self, node: usize, received: &[u8], forwarded: &[u8]) {
        let replay = self.replay();
        let is_part = received
            .windows(forwarded.len())
            .any(|part| part == forwarded);
        let sealed = self.nodes[node].sealing.is_some();
        assert!(
            is_part || sealed,
            "{replay}: node {node} alters what it forwards"
        );
        let stays = Header::parse(forwarded).is_ok_and(|header| {
            header.flags.no_forward()
                || header.dst == NetId::ANY
                || header.dst == self.nodes[node].netid
        });
        assert!(!stays, "{replay}: node {node} forwards what stays");
    }

    /// S9: no session lives longer than 180 s and the second in which it is looked at.
    pub(super) fn check_erased(&mut self, node: usize) {
        let Some(sealing) = &self.nodes[node].sealing else {
            return;
        };
        let (now, replay) = (self.now, self.replay());
        self.ledger.indices.retain(|(of, index), given_at| {
            if *of != node {
                return true;
            }
            let Some(opens) = sealing.links.sessions().opens(*index) else {
                // Perhaps a handshake that is under way.
                return now.since(*given_at) < Duration::from_secs(60);
            };
            let age = now.since(opens.session.created_at());
            assert!(
                age <= SESSION_LIFETIME,
                "{replay}: a session of node {node} is {age:?} old"
            );
            true
        });
    }

    /// Checks what must hold at any time; call it at the end of every test.
    ///
    /// # Panics
    /// As [`Self::check_counts`], and when a message was delivered twice, or to a sealed node's
    /// device although nobody sent it.
    pub fn check(&self) {
        self.check_counts();
        for (number, node) in self.nodes.iter().enumerate() {
            // Once in each life: a node that starts anew has forgotten what it had seen.
            let lives = u32::try_from(node.starts).unwrap_or(u32::MAX);
            let twice = node.delivered.iter().find(|(_, times)| **times > lives);
            assert_eq!(
                twice,
                None,
                "{}: node {number} delivered twice",
                self.replay()
            );
            let ghosts = if node.sealing.is_some() {
                node.ghosts
            } else {
                0
            };
            assert_eq!(
                ghosts,
                0,
                "{}: node {number} delivered what nobody sent",
                self.replay()
            );
        }
    }

    /// Checks what must hold even where wires harm the bytes they carry.
    ///
    /// # Panics
    /// When a datagram was counted not at all or twice, or a table is above its bound.
    pub fn check_counts(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let counted: u64 = JUDGED
                .iter()
                .chain(&BEFORE)
                .map(|reason| node.counters.dropped(*reason))
                .sum();
            let fine = node.counters.total(Total::Flooded) + node.counters.total(Total::Control);
            let received = node.counters.total(Total::Received);
            // Spoofed control counts here if it was refused on the way in, not if by control.
            let spoofed = node.counters.dropped(DropReason::SpoofedControl);
            let more = if node.sealing.is_some() { spoofed } else { 0 };
            assert!(
                (counted + fine..=counted + fine + more).contains(&received),
                "{}: node {number} miscounts: {received}, not {counted} + {fine}",
                self.replay()
            );
            assert!(
                node.control.candidates().count() <= 2_048 + 256,
                "{}",
                self.replay()
            );
            assert!(node.control.remotes().count() <= 4_096, "{}", self.replay());
        }
    }
}
