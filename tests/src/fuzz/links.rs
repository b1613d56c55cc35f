//! Target `links`: any datagrams, times and sources into a node's sealed links, beside an honest one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use overlay::id::{NetId, Path};
use overlay::keyed::KeyedHasher;
use overlay::node::snapshot::NeighborSet;
use overlay::pump::count::Counters;
use overlay::pump::rx::{RxBatch, RxMessage, Span};
use overlay::seal::effect::Owned;
use overlay::seal::identity::Identity;
use overlay::seal::keys::{Key, MeshSecret, mac};
use overlay::seal::links::{Links, Wish};
use overlay::seal::local::Local;
use overlay::seal::opening::{Opening, Porter};
use overlay::seal::peer::Timers;
use overlay::time::{Duration, Instant};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use wire::sealed::{Control, LinkHeader, SEALED_MAGIC};
use wire::{Flags, Kind, emit_control};

use crate::world::sealing::path_to;

/// Which of the two ends.
const NEAR: usize = 0;
const FAR: usize = 1;
/// Indices that one endpoint may hold: an attempt, four half-open, the current one and three before
/// it, and one that waits for its first LINK.
const INDICES: usize = 10;

/// Target `links`: the input is a run of `operation, argument, ..`. A node opens what its neighbor
/// sealed and nothing else, each datagram once; says nothing in plain, no counter twice, and to
/// nobody more than three times what came from there, unless it was dialed; its tables stay bounded
/// and its deadlines move on.
///
/// # Panics
/// When one of these laws is broken.
pub fn fuzz_links(input: &[u8]) {
    let mut run = Run::new();
    let mut bytes = input.iter().copied();
    while let (Some(operation), Some(argument)) = (bytes.next(), bytes.next()) {
        run.step(operation, argument, &mut bytes);
    }
}

struct End {
    links: Links,
    opening: Opening,
    counters: Counters,
    address: SocketAddr,
    netid: NetId,
    /// Numbers of messages that it sealed.
    said: BTreeSet<u32>,
    /// Of the other end's, those that it opened.
    heard: BTreeSet<u32>,
    /// The highest counter of each session that it sealed with.
    counted: BTreeMap<u32, u64>,
}

struct Run {
    ends: [End; 2],
    now: Instant,
    /// On its way to this end.
    wire: VecDeque<(usize, Box<[u8]>)>,
    /// All that was ever sent between the two, the last few hundred.
    tape: VecDeque<Box<[u8]>>,
    /// Bytes from and to strangers' addresses, at the near end.
    accounts: BTreeMap<SocketAddr, (usize, usize)>,
    number: u32,
}

#[derive(Default)]
struct Handed {
    handshakes: Vec<(Path, Vec<u8>)>,
    confirmed: Vec<u32>,
    controls: Vec<(u32, (Path, usize), Owned)>,
    elsewhere: Vec<(u32, Path, usize)>,
}

impl Porter for Handed {
    fn handshake(&mut self, path: Path, datagram: &[u8]) {
        self.handshakes.push((path, datagram.to_vec()));
    }

    fn confirmed(&mut self, index: u32) {
        self.confirmed.push(index);
    }

    fn frame(&mut self, index: u32, by: (Path, usize), control: &Control<'_>) {
        self.controls
            .extend(Owned::of(control).map(|owned| (index, by, owned)));
    }

    fn elsewhere(&mut self, index: u32, from: Path, len: usize) {
        self.elsewhere.push((index, from, len));
    }
}

impl End {
    fn new(key: u8, netid: u32) -> Self {
        let keys = MeshSecret::new([1; 32]).derive();
        let identity = Identity::new(Key::new([key; 32]), &Key::new([key ^ 0x80; 32]));
        let local = Local::new(keys, identity, NetId(netid), key.into(), key == 10);
        let random = ChaCha12Rng::from_seed([key; 32]);
        let hasher = KeyedHasher(1, 2);
        Self {
            links: Links::new(Instant::ZERO, local, Timers::default(), hasher, random),
            opening: Opening::default(),
            counters: Counters::default(),
            address: SocketAddr::from(([192, 0, 2, key], 44_204)),
            netid: NetId(netid),
            said: BTreeSet::new(),
            heard: BTreeSet::new(),
            counted: BTreeMap::new(),
        }
    }
}

impl Run {
    fn new() -> Self {
        Self {
            ends: [End::new(10, 0x2a), End::new(20, 7)],
            now: Instant::from_secs(1),
            wire: VecDeque::new(),
            tape: VecDeque::new(),
            accounts: BTreeMap::new(),
            number: 0,
        }
    }

    fn step(&mut self, operation: u8, argument: u8, bytes: &mut impl Iterator<Item = u8>) {
        let far = self.ends[FAR].address;
        let taped = |tape: &VecDeque<Box<[u8]>>| -> Option<Box<[u8]>> {
            let at = usize::from(argument) % tape.len().max(1);
            tape.iter().rev().nth(at).cloned()
        };
        match operation % 12 {
            0 => self.sleep(Duration::from_millis(u64::from(argument) * 10)),
            1 => self.sleep(Duration::from_secs(u64::from(argument))),
            2 => {
                let datagram: Vec<u8> = bytes.take(usize::from(argument)).collect();
                self.stranger(argument, &datagram);
            }
            3 => {
                // A member's: any handshake with a right mac1.
                let mut datagram = [0; 1_200];
                let head = [SEALED_MAGIC, 1, 1, 1, 0, 0, 0, argument, 0, 56];
                datagram[..10].copy_from_slice(&head);
                for (at, byte) in (10..66).zip(bytes) {
                    datagram[at] = byte;
                }
                let keys = MeshSecret::new([1; 32]).derive();
                let mac1 = mac(&keys.mac1, &[&datagram[..66]]);
                datagram[66..82].copy_from_slice(&mac1);
                self.stranger(argument, &datagram);
            }
            4 | 5 => self.say(usize::from(operation % 2)),
            6 => {
                if let Some((to, datagram)) = self.wire.pop_front() {
                    let from = self.ends[1 - to].address;
                    self.receive(to, from, &datagram);
                }
            }
            7 => drop(self.wire.pop_front()),
            8 => {
                // The last ones overtake the first.
                if let Some((to, datagram)) = self.wire.pop_back() {
                    let from = self.ends[1 - to].address;
                    self.receive(to, from, &datagram);
                }
            }
            9 => {
                if let Some(datagram) = taped(&self.tape) {
                    self.receive(NEAR, far, &datagram);
                    self.stranger(argument, &datagram);
                }
            }
            10 => {
                if let (Some(mut datagram), Some(at), Some(bit)) =
                    (taped(&self.tape), bytes.next(), bytes.next())
                {
                    let at = usize::from(at) * datagram.len() / 256;
                    datagram[at] ^= 1 << (bit % 8);
                    self.receive(NEAR, far, &datagram);
                }
            }
            _ => {
                // Everything that is on its way, in order.
                for _ in 0..argument {
                    let Some((to, datagram)) = self.wire.pop_front() else {
                        break;
                    };
                    let from = self.ends[1 - to].address;
                    self.receive(to, from, &datagram);
                }
            }
        }
    }

    /// A Hello of one end to the other; its nonce is its number.
    fn say(&mut self, end: usize) {
        self.number += 1;
        let to = path_to(self.ends[1 - end].address);
        let at = &mut self.ends[end];
        at.said.insert(self.number);
        let stays = Flags::NO_FORWARD;
        let hello = emit_control(Kind::Hello, stays, self.number, at.netid, NetId::ANY);
        at.links.send(self.now, &to, &hello);
        self.settle();
    }

    fn stranger(&mut self, number: u8, datagram: &[u8]) {
        let from = SocketAddr::from(([8, 8, number, 8], 40_000));
        self.accounts.entry(from).or_default().0 += datagram.len();
        self.receive(NEAR, from, datagram);
    }

    fn receive(&mut self, to: usize, from: SocketAddr, datagram: &[u8]) {
        let mut rx = RxBatch::with_buffers(1).with_all_messages();
        rx.arena_mut()[..datagram.len()].copy_from_slice(datagram);
        let len = datagram.len() as u32;
        rx.push(RxMessage {
            span: Span { start: 0, len },
            stride: len,
            path: path_to(from),
            interface: 0,
            truncated: false,
            alone: false,
        });
        let now = self.now;
        let mut handed = Handed::default();
        let at = &mut self.ends[to];
        let sessions = at.links.sessions();
        let none = NeighborSet::empty();
        at.opening.open(
            now,
            sessions,
            (&none, 0),
            &mut rx,
            &at.counters,
            &mut handed,
        );
        let opened: Vec<u32> = rx
            .messages()
            .iter()
            .map(|message| {
                let header = wire::Header::parse(message.span.of(rx.arena()));
                header.expect("the honest end says messages").nonce
            })
            .collect();
        for (path, datagram) in handed.handshakes {
            at.links.handle(now, &path, &datagram, 0);
        }
        for index in handed.confirmed {
            at.links.handle_confirmed(now, index);
        }
        for (index, (from, len), control) in handed.controls {
            at.links
                .handle_control(now, index, (&from, len), &control.control());
        }
        for (index, from, len) in handed.elsewhere {
            at.links.handle_elsewhere(now, index, &from, len);
        }
        for number in opened {
            assert!(self.ends[1 - to].said.contains(&number), "nobody said that");
            assert!(self.ends[to].heard.insert(number), "heard twice");
        }
        self.settle();
    }

    /// Runs every deadline of both up to then; each must move on.
    fn sleep(&mut self, time: Duration) {
        let until = self.now + time;
        for end in [NEAR, FAR] {
            let (mut now, mut turns) = (self.now, 0);
            while let Some(at) = self.ends[end]
                .links
                .next_timeout()
                .filter(|at| *at <= until)
            {
                now = now.max(at);
                self.ends[end].links.handle_timeout(now);
                turns += 1;
                assert!(turns < 10_000, "a deadline that does not move on");
            }
        }
        self.now = until;
        self.settle();
    }

    fn settle(&mut self) {
        for end in [NEAR, FAR] {
            let far = self.ends[1 - end].address;
            let wishes: Vec<Wish> = self.ends[end].links.drain().collect();
            for wish in wishes {
                let Wish::Send(path, datagram) = wish else {
                    continue;
                };
                assert_eq!(datagram.first(), Some(&SEALED_MAGIC), "said in plain");
                if let Ok(header) = LinkHeader::parse(&datagram) {
                    let former = self.ends[end]
                        .counted
                        .insert(header.receiver, header.counter);
                    assert!(former.is_none_or(|former| former < header.counter), "again");
                }
                let to = path.endpoint.remote;
                if to == far {
                    self.tape.push_back(datagram.clone());
                    self.wire.push_back((1 - end, datagram));
                    if self.tape.len() > 256 {
                        self.tape.pop_front();
                    }
                    continue;
                }
                let (received, sent) = self.accounts.entry(to).or_default();
                *sent += datagram.len();
                assert!(*sent <= 3 * *received, "{sent} to {to} for {received}");
            }
            let (endpoints, indices) = self.ends[end].links.held();
            assert!(endpoints <= 2_048 && indices <= endpoints * INDICES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_run_comes_up_and_both_hear_each_other() {
        let mut run = Run::new();
        let mut none = std::iter::empty();
        for (operation, argument) in [(4, 0), (11, 40), (5, 0), (4, 0), (11, 40)] {
            run.step(operation, argument, &mut none);
        }
        assert_eq!(run.ends[FAR].heard, run.ends[NEAR].said);
        assert_eq!(run.ends[NEAR].heard, run.ends[FAR].said);
        assert_eq!(run.number, 3);
        assert!(run.wire.is_empty());
    }
}
