//! Nodes that have nothing but their ends, and a mesh in memory that brings every payload to its
//! destination, or loses it.

use std::collections::BTreeMap;

use rand_core::SeedableRng;
use wire::sealed::endtoend;

use super::*;
use crate::seal::handshake::tests::node;

const START: Instant = Instant::from_secs(100);
const DELAY: Duration = Duration::from_millis(10);
const A: NetId = NetId(1);
const B: NetId = NetId(2);
const C: NetId = NetId(3);
const RELAY: NetId = NetId(0x4e1a);

/// One node, with the part of a worker that this is about.
struct Node {
    local: Local,
    ends: Ends,
    /// Keys that no netid may come with.
    banned: Vec<[u8; 32]>,
    /// Payloads that arrived and were opened, and from whom.
    got: Vec<(NetId, Vec<u8>)>,
    notices: Vec<(NetId, Notice)>,
    dropped: usize,
    /// Payloads that went to the open zone as they are.
    in_the_open: Vec<(NetId, Box<[u8]>)>,
}

/// A payload on its way.
#[derive(Clone, Debug)]
struct Carried {
    at: Instant,
    src: NetId,
    dst: NetId,
    direct: bool,
    payload: Vec<u8>,
}

/// Says of each payload whether it is lost; they are numbered.
type Lose = dyn FnMut(usize, &Carried) -> bool;

struct World {
    now: Instant,
    nodes: BTreeMap<NetId, Node>,
    on_the_way: Vec<Carried>,
    /// Everything that was originated.
    log: Vec<Carried>,
    lose: Box<Lose>,
    /// The neighbor that brings what a node sends, where that is not [`RELAY`].
    bringers: BTreeMap<NetId, NetId>,
}

fn new_node(netid: NetId, life: u8) -> Node {
    let key = netid.0 as u8;
    let random = ChaCha12Rng::from_seed([key ^ life; 32]);
    Node {
        local: node(1, key, netid, true),
        ends: Ends::new(Timers::end_to_end(), KeyedHasher(1, 2), random),
        banned: Vec::new(),
        got: Vec::new(),
        notices: Vec::new(),
        dropped: 0,
        in_the_open: Vec::new(),
    }
}

impl Node {
    fn call<R>(&mut self, call: impl FnOnce(&mut Ends, Membership<'_>) -> R) -> R {
        let banned = &self.banned;
        let membership = Membership {
            local: &self.local,
            refuses: &|claim| {
                let is_banned = banned.contains(&claim.static_key);
                is_banned.then_some(Refusal::NotListed)
            },
        };
        call(&mut self.ends, membership)
    }
}

impl World {
    fn of(netids: impl IntoIterator<Item = u32>) -> Self {
        let netids = netids.into_iter().map(NetId);
        Self {
            now: START,
            nodes: netids.map(|netid| (netid, new_node(netid, 0))).collect(),
            on_the_way: Vec::new(),
            log: Vec::new(),
            lose: Box::new(|_, _| false),
            bringers: BTreeMap::new(),
        }
    }

    fn node(&mut self, netid: NetId) -> &mut Node {
        self.nodes.get_mut(&netid).unwrap()
    }

    fn send(&mut self, src: NetId, dst: NetId, payload: &[u8]) {
        let now = self.now;
        let payload = payload.into();
        self.node(src)
            .call(|ends, with| ends.send(now, with, dst, payload));
        self.carry();
    }

    fn set_neighbors(&mut self, netid: NetId, neighbors: &[NetId]) {
        let (now, neighbors) = (self.now, neighbors.to_vec());
        self.node(netid)
            .call(|ends, with| ends.set_neighbors(now, with, neighbors.into_iter()));
        self.carry();
    }

    /// Takes what the nodes want.
    fn carry(&mut self) {
        for (&src, node) in &mut self.nodes {
            for wish in node.ends.drain().collect::<Vec<_>>() {
                match wish {
                    Wish::Publish => {}
                    Wish::Dropped(count) => node.dropped += count,
                    Wish::InTheOpen(dst, payload) => node.in_the_open.push((dst, payload)),
                    Wish::Notice(netid, notice) => node.notices.push((netid, notice)),
                    Wish::Originate {
                        dst,
                        payload,
                        direct,
                    } => {
                        let carried = Carried {
                            at: self.now + DELAY,
                            src,
                            dst,
                            direct,
                            payload: payload.into(),
                        };
                        if !(self.lose)(self.log.len(), &carried) {
                            self.on_the_way.push(carried.clone());
                        }
                        self.log.push(carried);
                    }
                }
            }
        }
    }

    /// A payload arrives: what a worker would do with it.
    fn arrive(&mut self, carried: Carried) {
        let now = self.now;
        let (src, dst) = (carried.src, carried.dst);
        let by = match carried.direct {
            true => src,
            false => self.bringers.get(&src).copied().unwrap_or(RELAY),
        };
        let Some(node) = self.nodes.get_mut(&dst) else {
            return;
        };
        let mut payload = carried.payload;
        if EndToEndKind::of(&payload) != Ok(EndToEndKind::Data) {
            node.call(|ends, with| ends.handle(now, with, (src, by), carried.direct, &payload));
            return;
        }
        let index = endtoend::parse_data(&payload).unwrap().receiver;
        let Some(session) = node.ends.sessions().opens(src, index).cloned() else {
            return node.call(|ends, with| ends.handle_unknown(now, with, (src, by)));
        };
        let opened = session.open_data(src, dst, &mut payload).unwrap();
        session.note_heard(now, true);
        if !opened.plaintext.is_empty() {
            node.got.push((src, opened.plaintext.to_vec()));
        }
        if opened.is_first {
            node.call(|ends, with| ends.handle_confirmed(now, with, index));
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.carry();
            let timeouts = self.nodes.values().filter_map(|n| n.ends.next_timeout());
            let arrivals = self.on_the_way.iter().map(|carried| carried.at);
            let Some(next) = timeouts.chain(arrivals).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let now = self.now;
            let all = std::mem::take(&mut self.on_the_way);
            let (due, later) = all.into_iter().partition(|carried| carried.at <= now);
            self.on_the_way = later;
            for carried in due {
                self.arrive(carried);
            }
            for node in self.nodes.values_mut() {
                node.call(|ends, with| ends.handle_timeout(now, with));
            }
        }
        self.now = end;
    }

    /// When payloads of a kind were originated by a node, since the start.
    fn times(&self, src: NetId, kind: EndToEndKind) -> Vec<u128> {
        self.log
            .iter()
            .filter(|c| c.src == src && EndToEndKind::of(&c.payload) == Ok(kind))
            .map(|c| (c.at.since(START) - DELAY).as_millis())
            .collect()
    }

    fn is_up(&self, near: NetId, far: NetId) -> bool {
        let sealed = |one: NetId, other| self.nodes[&one].ends.sessions().seals(other).is_some();
        sealed(near, far) && sealed(far, near)
    }
}

fn payload(number: u32) -> Vec<u8> {
    let mut payload = vec![0x45; 40];
    payload[20..24].copy_from_slice(&number.to_be_bytes());
    payload
}

fn numbered(count: u32) -> Vec<(NetId, Vec<u8>)> {
    (0..count).map(|number| (A, payload(number))).collect()
}

#[test]
fn a_payload_waits_for_the_handshake_and_nothing_leaves_in_clear() {
    let mut world = World::of([1, 2, 3]);
    for number in 0..5 {
        world.send(A, B, &payload(number));
    }
    assert_eq!(world.log.len(), 1, "one E-INIT");
    world.run(Duration::from_secs(1));
    assert_eq!(world.nodes[&B].got, numbered(5));
    assert!(world.is_up(A, B));
    // From now on nothing waits.
    world.send(B, A, &payload(9));
    world.run(DELAY);
    assert_eq!(world.nodes[&A].got, [(B, payload(9))]);
    let handshake = [EndToEndKind::Init, EndToEndKind::Fin].map(|kind| world.times(A, kind).len());
    assert_eq!(handshake, [1, 1]);
    for carried in &world.log {
        let kind = EndToEndKind::of(&carried.payload);
        assert!(kind.is_ok(), "{:02x?}", carried.payload);
        assert!(!carried.payload.windows(8).any(|bytes| bytes == [0x45; 8]));
    }
    assert!(world.nodes[&C].ends.sessions().is_empty());
}

#[test]
fn two_that_begin_at_once_come_up_and_lose_nothing() {
    let mut world = World::of([1, 2]);
    for number in 0..20 {
        world.send(A, B, &payload(number));
        world.send(B, A, &payload(number));
        world.run(Duration::from_millis(3));
    }
    world.run(Duration::from_secs(10));
    assert_eq!(world.nodes[&B].got.len(), 20);
    assert_eq!(world.nodes[&A].got.len(), 20);
    let [a, b] = [(A, B), (B, A)].map(|(near, far)| {
        let session = world.nodes[&near].ends.sessions().seals(far).unwrap();
        let (local, remote) = (session.local_index(), session.remote_index());
        if near == A {
            (local, remote)
        } else {
            (remote, local)
        }
    });
    assert_eq!(a, b, "both seal with one session");
}

#[test]
fn ends_come_up_under_every_loss_of_the_first_four_payloads() {
    for pattern in 0_u32..16 {
        let mut world = World::of([1, 2]);
        world.lose = Box::new(move |number, _| number < 4 && pattern >> number & 1 == 1);
        world.send(A, B, &payload(0));
        // Five E-INITs at worst: 1 + 3 + 30 + 120 s, 20 % more.
        world.run(Duration::from_secs(200));
        assert!(world.is_up(A, B), "{pattern:04b}");
    }
}

#[test]
fn after_a_start_anew_an_end_recovers_at_the_first_payload_for_it() {
    let mut world = World::of([1, 2]);
    world.send(A, B, &payload(0));
    world.run(Duration::from_secs(60));
    world.nodes.insert(B, new_node(B, 0x55));
    // A cannot know; what it seals with is gone.
    world.send(A, B, &payload(1));
    world.run(Duration::from_millis(100));
    assert_eq!(world.nodes[&B].got, []);
    world.send(A, B, &payload(2));
    world.run(Duration::from_millis(100));
    assert_eq!(world.nodes[&B].got, [(A, payload(2))]);
    // The same when it is the one who begins.
    world.nodes.insert(B, new_node(B, 0x66));
    world.send(B, A, &payload(3));
    world.run(Duration::from_millis(100));
    assert_eq!(world.nodes[&A].got, [(B, payload(3))]);
}

#[test]
fn an_end_that_is_not_there_costs_five_handshakes_and_what_waited_is_counted() {
    let mut world = World::of([1]);
    for number in 0..200 {
        world.send(A, B, &payload(number));
    }
    assert_eq!(world.nodes[&A].dropped, 200 - 128);
    world.run(Duration::from_secs(400));
    let times = world.times(A, EndToEndKind::Init);
    assert_eq!(times.len(), 5);
    for (wait, expected) in times.windows(2).zip([1_000, 3_000, 30_000, 120_000]) {
        let wait = wait[1] - wait[0];
        assert!(wait.abs_diff(expected) <= expected / 5, "{times:?}");
    }
    world.run(Duration::from_secs(600));
    assert_eq!(world.nodes[&A].dropped, 200);
    assert_eq!(world.times(A, EndToEndKind::Init).len(), 5);
    assert_eq!(world.nodes[&A].ends.by_netid.len(), 0);
    assert_eq!(world.nodes[&A].ends.indices.len(), 0);
}

#[test]
fn what_waits_is_bounded_for_each_end_and_for_all() {
    let mut world = World::of([1]);
    let large = vec![0x45; 60_000];
    for _ in 0..6 {
        world.send(A, B, &large);
    }
    assert_eq!(world.nodes[&A].dropped, 2, "four fit into 256 KiB");
    for end in 10..60 {
        for _ in 0..4 {
            world.send(A, NetId(end), &large);
        }
    }
    let ends = &world.nodes[&A].ends;
    assert!(ends.waiting <= waiting::BYTES_IN_ALL && ends.waiting > 8_000_000);
    assert!(!ends.by_netid.contains_key(&B) || ends.peers[&ends.by_netid[&B]].waiting.len() == 0);
    let waiting: usize = ends.peers.values().map(|entry| entry.waiting.bytes()).sum();
    assert_eq!(waiting, ends.waiting);
}

#[test]
fn handshakes_with_many_at_once_are_rationed_and_all_get_their_turn() {
    let mut world = World::of(1..=41);
    for end in 2..=41 {
        world.send(A, NetId(end), &payload(0));
    }
    world.run(Duration::from_secs(30));
    let times = world.times(A, EndToEndKind::Init);
    assert_eq!(times.len(), 40, "one each, as none was lost");
    for second in 0..8 {
        let until = (second + 1) * 1_000;
        let count = times.iter().filter(|time| **time < until).count();
        assert!(count <= 5 * (second as usize + 2), "{times:?}");
    }
    assert!((2..=41).all(|end| world.is_up(A, NetId(end))));
}

#[test]
fn answers_to_many_at_once_are_rationed() {
    let mut world = World::of(1..=41);
    for end in 2..=41 {
        world.send(NetId(end), A, &payload(0));
    }
    world.run(Duration::from_millis(15));
    // Those for all, and those of the neighbor that brings them.
    assert_eq!(world.times(A, EndToEndKind::Resp).len(), RESPS as usize + 4);
    world.run(Duration::from_secs(100));
    assert!((2..=41).all(|end| world.is_up(A, NetId(end))));
}

#[test]
fn what_one_neighbor_brings_uses_up_nobody_elses_answers() {
    let mut world = World::of(1..=61);
    let other = NetId(61);
    world.bringers.insert(other, NetId(0x0ba1));
    // Made-up handshakes come all the time.
    for end in 2..=60 {
        world.send(NetId(end), A, &payload(0));
    }
    world.run(Duration::from_millis(15));
    let answers = world.times(A, EndToEndKind::Resp).len();
    world.send(other, A, &payload(0));
    world.run(Duration::from_millis(50));
    assert_eq!(world.times(A, EndToEndKind::Resp).len(), answers + 1);
    assert!(world.is_up(A, other));
}

/// What one neighbor may bring at once.
const BROUGHT_AT_ONCE: usize = 4;

/// Notices that A takes of unknown sessions: how many handshakes they begin.
fn unknown(world: &mut World, sources: impl IntoIterator<Item = u32>, by: NetId) -> usize {
    let now = world.now;
    let begun = world.times(A, EndToEndKind::Init).len();
    for src in sources {
        let a = world.node(A);
        a.call(|ends, with| ends.handle_unknown(now, with, (NetId(src), by)));
    }
    world.carry();
    world.times(A, EndToEndKind::Init).len() - begun
}

#[test]
fn unknown_sessions_that_one_neighbor_brings_begin_few_handshakes() {
    let mut world = World::of([1]);
    let other = NetId(0x0ba1);
    // Rationed by E-INITs alone, those that wait would wait for all.
    world.node(A).ends.inits = Bucket::per_second(1_000, 1_000);
    assert_eq!(
        unknown(&mut world, 100..200, RELAY),
        BROUGHT_AT_ONCE + INITS as usize
    );
    assert_eq!(unknown(&mut world, 200..300, other), BROUGHT_AT_ONCE);
    // Whom a handshake is under way with takes no ration from others.
    world.now = world.now + Duration::from_millis(1_000);
    let same = std::iter::repeat_n(100, 1_000);
    assert_eq!(unknown(&mut world, same.chain([300]), other), 1);
}

#[test]
fn a_leaf_that_starts_anew_under_many_that_send_to_it_recovers_in_seconds() {
    let ends = 2..=51;
    let mut world = World::of([1].into_iter().chain(ends.clone()));
    for end in ends.clone() {
        world.send(NetId(end), A, &payload(0));
    }
    world.run(Duration::from_secs(60));
    assert!(ends.clone().all(|end| world.is_up(A, NetId(end))));
    // Its one neighbor brings all of them, each ten times a second, and none knows that it is gone.
    world.nodes.insert(A, new_node(A, 0x55));
    for _ in 0..10 * 15 {
        for end in ends.clone() {
            world.send(NetId(end), A, &payload(1));
        }
        world.run(Duration::from_millis(100));
    }
    let up = ends.filter(|end| world.is_up(A, NetId(*end))).count();
    assert_eq!(up, 50);
}

#[test]
fn a_neighbor_is_met_over_its_link_and_by_flooding_when_that_brings_nothing() {
    let mut world = World::of([1, 2, 3]);
    world.lose = Box::new(|_, carried| carried.dst == C && carried.direct);
    world.set_neighbors(A, &[B, C]);
    world.run(Duration::from_millis(500));
    assert!(world.is_up(A, B));
    assert!(world.log.iter().all(|carried| carried.direct));
    assert!(!world.is_up(A, C));
    world.run(Duration::from_secs(2));
    assert!(world.is_up(A, C));
    let to_c: Vec<bool> = world
        .log
        .iter()
        .filter(|c| c.dst == C)
        .map(|c| c.direct)
        .collect();
    assert_eq!(to_c[..2], [true, false]);
    // Payloads go all ways, whoever they are for.
    world.send(A, B, &payload(1));
    assert!(world.log.last().is_some_and(|carried| !carried.direct));
}

#[test]
fn whoever_has_not_even_the_mac_key_changes_nothing() {
    let mut world = World::of([1, 2]);
    world.send(A, B, &payload(0));
    let init = world.on_the_way.pop().unwrap().payload;
    for at in 0..init.len() {
        let mut changed = init.clone();
        changed[at] ^= 0x01;
        let b = world.node(B);
        assert!(
            !b.call(|ends, with| ends.handle(START, with, (A, A), false, &changed)),
            "{at}"
        );
        assert!(b.ends.peers.is_empty() && b.ends.wishes.is_empty());
    }
    // The same bytes on a message of another src.
    let b = world.node(B);
    assert!(!b.call(|ends, with| ends.handle(START, with, (C, C), false, &init)));
    assert!(b.call(|ends, with| ends.handle(START, with, (A, A), false, &init)));
    // An answer on a message of another src.
    world.carry();
    let resp = world.on_the_way.pop().unwrap().payload;
    let a = world.node(A);
    assert!(!a.call(|ends, with| ends.handle(START, with, (C, C), false, &resp)));
    assert!(a.ends.wishes.is_empty());
    assert!(!a.call(|ends, with| ends.handle(START, with, (A, A), false, &resp)));
    assert!(a.call(|ends, with| ends.handle(START, with, (B, B), false, &resp)));
}

#[test]
fn a_key_that_does_not_go_with_its_netid_comes_to_nothing() {
    for (refuses, begins) in [(A, B), (B, A), (A, A), (B, B)] {
        let mut world = World::of([1, 2]);
        let other = if refuses == A { B } else { A };
        let key = *world.nodes[&other].local.identity.public();
        world.node(refuses).banned.push(key);
        let to = if begins == A { B } else { A };
        world.send(begins, to, &payload(0));
        world.run(Duration::from_secs(20));
        let node = &world.nodes[&refuses];
        assert!(node.ends.sessions().is_empty());
        let refused = Notice::Refused {
            static_key: key,
            why: Refusal::NotListed,
        };
        assert!(node.notices.contains(&(other, refused)));
        assert!(world.nodes[&to].got.is_empty());
    }
}

#[test]
fn of_too_many_the_least_recently_used_goes_and_neighbors_last() {
    let mut world = World::of(1..=6);
    world.node(A).ends.limit = 3;
    world.set_neighbors(A, &[B]);
    world.run(Duration::from_secs(5));
    for end in 3..=4 {
        world.send(A, NetId(end), &payload(0));
        world.run(Duration::from_secs(5));
    }
    world.send(A, C, &payload(1));
    world.run(Duration::from_secs(5));
    let sealed = |world: &World| -> Vec<u32> {
        let ends = &world.nodes[&A].ends;
        (1..=6)
            .filter(|end| ends.sessions().seals(NetId(*end)).is_some())
            .collect()
    };
    assert_eq!(sealed(&world), [2, 3, 4]);
    world.send(A, NetId(5), &payload(0));
    world.run(Duration::from_secs(5));
    assert_eq!(sealed(&world), [2, 3, 5], "4 was not used for longest");
    world.send(NetId(6), A, &payload(0));
    world.run(Duration::from_secs(5));
    assert_eq!(sealed(&world), [2, 5, 6]);
    assert_eq!(world.nodes[&A].ends.indices.len(), 3);
}

#[test]
fn a_stream_in_one_direction_loses_nothing_for_hours() {
    let mut world = World::of([1, 2]);
    let mut sent = 0;
    for _ in 0..3 * 360 {
        world.send(A, B, &payload(sent));
        sent += 1;
        world.run(Duration::from_secs(10));
    }
    assert_eq!(world.nodes[&B].got, numbered(sent));
    // Asked whether the other end is there each 10 minutes of its silence.
    let inits = world.times(A, EndToEndKind::Init).len();
    assert!((15..=22).contains(&inits), "{inits}");
}

#[test]
fn ends_that_have_nothing_to_say_are_forgotten_and_neighbors_are_met_anew() {
    let mut world = World::of([1, 2, 3]);
    world.send(A, B, &payload(0));
    world.set_neighbors(A, &[C]);
    world.set_neighbors(C, &[A]);
    world.run(Duration::from_secs(901 + 5));
    assert!(!world.is_up(A, B));
    assert!(!world.nodes[&A].ends.by_netid.contains_key(&B));
    world.run(Duration::from_secs(5));
    assert!(world.is_up(A, C));
}

#[test]
fn whom_membership_takes_back_is_left_at_once_and_does_not_come_back() {
    let mut world = World::of([1, 2, 3]);
    for other in [B, C] {
        world.send(A, other, &payload(0));
    }
    world.run(Duration::from_secs(5));
    assert!(world.is_up(A, B) && world.is_up(A, C));
    const REVOKED: u8 = 3;
    let key = *world.nodes[&B].local.identity.public();
    world.node(A).banned.push(key);
    let now = world.now;
    world.node(A).call(|ends, with| {
        ends.leave_where(now, with, REVOKED, |remote| remote.static_key == key);
    });
    assert!(world.nodes[&A].ends.sessions().seals(B).is_none());
    assert!(world.is_up(A, C));
    world.node(B).got.clear();
    world.send(A, B, &payload(1));
    world.run(Duration::from_secs(60));
    assert!(!world.is_up(A, B));
    assert!(world.nodes[&B].got.is_empty());
}

#[test]
fn ends_change_the_secret_under_a_stream_and_drop_what_was_made_under_the_former() {
    use crate::seal::keys::MeshSecret;
    let first = MeshSecret::new([1; 32]);
    let (current, next) = (first.derive(), first.following([2; 32]).derive());
    let mut world = World::of([1, 2]);
    world.send(A, B, &payload(0));
    world.run(Duration::from_secs(10));
    // Both know the next secret, then both end the change, one long before the other.
    for netid in [A, B] {
        world.node(netid).local.next = Some(next.clone().into());
    }
    let epoch = |world: &World| world.nodes[&A].ends.sessions().seals(B).unwrap().epoch();
    assert_eq!((current.epoch, epoch(&world)), (0, 0));
    let mut sent = 1;
    for netid in [B, A] {
        let node = world.node(netid);
        node.local.keys = next.clone().into();
        node.local.next = None;
        let (now, at) = (world.now, world.now + Duration::from_secs(180));
        world
            .node(netid)
            .call(|ends, with| ends.retire(now, with, 1, at));
        for _ in 0..200 {
            world.send(A, B, &payload(sent));
            world.send(B, A, &payload(sent));
            sent += 1;
            world.run(Duration::from_secs(1));
        }
    }
    assert_eq!(epoch(&world), 1);
    assert_eq!(world.nodes[&B].got, numbered(sent));
    assert_eq!(world.nodes[&A].got.len() as u32, sent - 1);
    assert_eq!(
        world.nodes.values().map(|node| node.dropped).sum::<usize>(),
        0
    );
}

impl World {
    /// Once a second, as the driver does: `open` are the nodes of A's open zone.
    fn run_open(&mut self, seconds: u64, open: &[NetId]) {
        for _ in 0..seconds {
            let now = self.now;
            let alone = open.iter().copied().collect();
            let heard = open.iter().copied();
            self.node(A)
                .call(|ends, with| ends.set_open(now, with, alone, heard));
            self.carry();
            self.run(Duration::from_secs(1));
        }
    }

    /// The same with nodes that are heard in both zones.
    fn run_between(&mut self, seconds: u64, heard: &[NetId]) {
        for _ in 0..seconds {
            let now = self.now;
            let heard = heard.iter().copied();
            self.node(A)
                .call(|ends, with| ends.set_open(now, with, BTreeSet::new(), heard));
            self.carry();
            self.run(Duration::from_secs(1));
        }
    }
}

/// S89.
#[test]
fn data_for_a_node_of_the_open_zone_goes_in_clear_once_it_did_not_answer() {
    // Nobody has netid 9: a plain node knows no handshakes.
    let mut world = World::of([1, 2]);
    let plain = NetId(9);
    world.run_open(1, &[plain]);
    world.send(A, plain, &payload(1));
    world.run_open(5, &[plain]);
    assert_eq!(world.nodes[&A].in_the_open, []);
    assert_eq!(world.times(A, EndToEndKind::Init).len(), 3);
    world.run_open(3, &[plain]);
    let sent = |world: &World| world.nodes[&A].in_the_open.len();
    assert_eq!(sent(&world), 1, "what waited");
    world.send(A, plain, &payload(2));
    world.carry();
    assert_eq!(sent(&world), 2);
    assert!(world.nodes[&A].ends.sessions().is_open(plain));
    // Its link came up sealed: not a single packet more.
    world.node(A).ends.close(plain);
    assert!(!world.nodes[&A].ends.sessions().is_open(plain));
    world.run_open(8, &[plain]);
    assert!(world.nodes[&A].ends.sessions().is_open(plain));
    // It is heard in the sealed zone too, or spoke sealed: it waits again.
    world.run_open(1, &[]);
    assert!(!world.nodes[&A].ends.sessions().is_open(plain));
    world.send(A, plain, &payload(3));
    world.run(Duration::from_secs(600));
    assert_eq!(sent(&world), 2);
}

/// S89: one that is moved to sealed is found out, though it is sent to in clear by now.
#[test]
fn a_node_of_the_open_zone_is_asked_again_every_few_minutes() {
    let mut world = World::of([1]);
    world.run_open(200, &[B]);
    assert!(world.nodes[&A].ends.sessions().is_open(B));
    let asked = world.times(A, EndToEndKind::Init).len();
    world.nodes.insert(B, new_node(B, 0));
    world.run_open(700, &[B]);
    assert!(world.times(A, EndToEndKind::Init).len() > asked);
    assert!(world.is_up(A, B));
    assert!(!world.nodes[&A].ends.sessions().is_open(B));
}

/// S89: without a session it would take what is for all nodes twice, once of each zone.
#[test]
fn a_node_that_is_heard_in_both_zones_is_asked_and_never_sent_to_in_clear() {
    let mut world = World::of([1, 2]);
    let plain = NetId(9);
    world.run_between(20, &[B, plain]);
    assert!(world.is_up(A, B));
    world.run_between(600, &[B, plain]);
    assert!(!world.nodes[&A].ends.sessions().is_open(plain));
    assert_eq!(world.nodes[&A].in_the_open, []);
}

/// S89: it speaks sealed, over whatever links.
#[test]
fn data_for_a_node_of_the_open_zone_that_answers_is_sealed() {
    let mut world = World::of([1, 2]);
    world.run_open(1, &[B]);
    world.send(A, B, &payload(0));
    world.run_open(20, &[B]);
    assert!(world.is_up(A, B));
    assert_eq!(world.nodes[&B].got, numbered(1));
    assert_eq!(world.nodes[&A].in_the_open, []);
    assert!(!world.nodes[&A].ends.sessions().is_open(B));
}

/// S89: whom the open zone was never heard to have gets nothing in clear, however long it is silent.
#[test]
fn data_for_any_other_node_that_does_not_answer_never_goes_in_clear() {
    let mut world = World::of([1, 2]);
    world.send(A, NetId(9), &payload(1));
    world.run_open(1_000, &[NetId(8)]);
    assert_eq!(world.nodes[&A].in_the_open, []);
    assert_eq!(world.nodes[&A].dropped, 1);
}

#[test]
fn who_is_refused_no_longer_comes_up_at_once_and_gets_what_waited() {
    let mut world = World::of([1, 2]);
    let key = *world.nodes[&B].local.identity.public();
    world.node(A).banned.push(key);
    world.send(A, B, &payload(0));
    // The attempt goes on, with minutes between its E-INITs.
    world.run(Duration::from_secs(60));
    assert!(!world.is_up(A, B));
    assert_eq!(world.times(A, EndToEndKind::Init).len(), 4);
    world.node(A).banned.clear();
    let now = world.now;
    world
        .node(A)
        .call(|ends, with| ends.begin_anew(now, with, B));
    world.run(Duration::from_secs(1));
    assert!(world.is_up(A, B));
    assert_eq!(world.nodes[&B].got, numbered(1));
    // It is no news where nothing is under way.
    let now = world.now;
    for netid in [B, C] {
        let a = world.node(A);
        a.call(|ends, with| ends.begin_anew(now, with, netid));
    }
    assert!(world.is_up(A, B));
}

#[test]
fn other_rules_begin_anew_what_is_under_way_but_not_what_only_waits_for_its_end() {
    let mut world = World::of([1, 2]);
    let begun = |world: &World| world.times(A, EndToEndKind::Init).len();
    let tell = |world: &mut World| {
        let now = world.now;
        let a = world.node(A);
        a.call(|ends, with| {
            ends.begin_all_anew(now, with);
            ends.handle_timeout(now, with);
        });
        world.carry();
    };
    // 1. The E-FIN is lost each time: the E-INIT stays the only one.
    world.lose = Box::new(|_, carried| EndToEndKind::of(&carried.payload) == Ok(EndToEndKind::Fin));
    world.send(A, B, &payload(0));
    world.run(Duration::from_millis(500));
    assert_eq!(world.times(A, EndToEndKind::Fin).len(), 1);
    tell(&mut world);
    assert_eq!(begun(&world), 1);
    world.lose = Box::new(|_, _| false);
    world.run(Duration::from_secs(5));
    assert_eq!(world.nodes[&B].got, numbered(1));
    assert_eq!(begun(&world), 1);
    // 2. Nobody answers: it goes out at once, and is said to who comes by then.
    let mut world = World::of([1, 2]);
    world.lose = Box::new(|number, _| number == 0);
    world.send(A, B, &payload(0));
    tell(&mut world);
    assert_eq!(begun(&world), 2);
    world.run(Duration::from_millis(500));
    assert_eq!(world.nodes[&B].got, numbered(1));
}

#[test]
fn another_certificate_is_shown_to_all_ends_within_a_minute() {
    let mut world = World::of([1, 2, 3]);
    for other in [B, C] {
        world.send(A, other, &payload(0));
    }
    world.run(Duration::from_secs(5));
    assert_eq!(world.times(A, EndToEndKind::Init).len(), 2);
    let now = world.now;
    let a = world.node(A);
    a.call(|ends, with| ends.renew_all_soon(now, with));
    world.run(Duration::from_secs(80));
    assert_eq!(world.times(A, EndToEndKind::Init).len(), 4);
    assert!(world.is_up(A, B) && world.is_up(A, C));
}
