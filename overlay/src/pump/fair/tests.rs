//! A node of fixed speed in virtual time: what floods bring through it, and what is left to others.

use std::collections::VecDeque;

use super::*;

const INSIDER: NetId = NetId(0x0bad);
const RELAY: NetId = NetId(0x4e1a);
const FRIEND: NetId = NetId(0xf00d);
/// Bytes of each datagram.
const LEN: u32 = 1_400;
/// Nanoseconds of work: to take a datagram from the kernel, to open it, and the rest of it. About
/// what trains of 1,400 bytes cost a relay; a plain one has nothing to open and takes longer here.
const DRAIN: u64 = 30;
const OPEN: u64 = 170;
const HANDLE: u64 = 800;
/// Datagrams a second that the node can handle.
const CAPACITY: f64 = 1e9 / (DRAIN + OPEN + HANDLE) as f64;
/// Datagrams that the kernel's buffer holds.
const BUFFER: usize = 5_000;
/// Datagrams of one turn.
const TURN: usize = 64;

/// Somebody who sends evenly; each message under the next of its names.
struct Flow {
    via: NetId,
    names: Vec<NetId>,
    /// Nanoseconds between two messages.
    gap: f64,
    next_at: f64,
    sent: u64,
    served: u64,
}

impl Flow {
    /// `load` is in parts of what the node can handle.
    fn new(via: NetId, names: Vec<NetId>, load: f64) -> Self {
        let gap = 1e9 / (CAPACITY * load);
        Self {
            via,
            names,
            gap,
            next_at: gap,
            sent: 0,
            served: 0,
        }
    }

    fn one(via: NetId, origin: NetId, load: f64) -> Self {
        Self::new(via, vec![origin], load)
    }

    /// What came through, in parts of what the node can handle.
    fn goodput(&self) -> f64 {
        self.served as f64 / MEASURED / CAPACITY
    }

    fn lost(&self) -> f64 {
        1.0 - self.served as f64 / self.sent as f64
    }
}

struct Node {
    fair: Fair,
    is_sealed: bool,
    now: u64,
    queue: VecDeque<(usize, NetId)>,
    lost: bool,
    kernel_drops: u64,
    unfair: u64,
}

impl Node {
    fn new(is_sealed: bool) -> Self {
        Self {
            fair: Fair::new(is_sealed),
            is_sealed,
            now: 0,
            queue: VecDeque::new(),
            lost: false,
            kernel_drops: 0,
            unfair: 0,
        }
    }

    /// What arrived by now.
    fn arrive(&mut self, flows: &mut [Flow]) {
        loop {
            let next = flows
                .iter()
                .enumerate()
                .min_by(|a, b| a.1.next_at.total_cmp(&b.1.next_at))
                .map(|(index, _)| index)
                .unwrap();
            let flow = &mut flows[next];
            if flow.next_at > self.now as f64 {
                return;
            }
            flow.next_at += flow.gap;
            let name = flow.names[flow.sent as usize % flow.names.len()];
            flow.sent += 1;
            if self.queue.len() < BUFFER {
                self.queue.push_back((next, name));
            } else {
                self.lost = true;
                self.kernel_drops += 1;
            }
        }
    }

    fn run(&mut self, flows: &mut [Flow], seconds: f64) {
        let end = self.now + (seconds * 1e9) as u64;
        for flow in flows.iter_mut() {
            (flow.sent, flow.served) = (0, 0);
            flow.next_at = flow.next_at.max(self.now as f64);
        }
        (self.kernel_drops, self.unfair) = (0, 0);
        while self.now < end {
            self.arrive(flows);
            let now = Instant(self.now / 1_000);
            if self.queue.is_empty() {
                self.now += 1_000;
                continue;
            }
            self.settle(now);
            for _ in 0..TURN.min(self.queue.len()) {
                let (index, name) = self.queue.pop_front().unwrap();
                let flow = &mut flows[index];
                self.now += DRAIN;
                let saturated = self.fair.is_saturated();
                if saturated && !self.fair.opens(now, flow.via, LEN) {
                    self.unfair += 1;
                    continue;
                }
                let (open, handle) = if self.is_sealed {
                    (OPEN, HANDLE)
                } else {
                    (0, OPEN + HANDLE)
                };
                self.now += open;
                if saturated && !self.fair.takes(now, flow.via, name, LEN) {
                    self.unfair += 1;
                    continue;
                }
                self.now += handle;
                flow.served += 1;
            }
            self.arrive(flows);
            self.settle(now);
        }
    }

    /// As the worker does before a turn receives, and after.
    fn settle(&mut self, now: Instant) {
        let is_asked = self.fair.is_saturated() || self.lost;
        if is_asked && self.fair.is_due(now) {
            let filled = self.queue.len() as f64 / BUFFER as f64;
            self.fair.settle(now, filled, self.lost);
            self.lost = false;
        }
    }
}

/// Seconds until shares have settled, and for which it is measured then.
const SETTLE: f64 = 0.15;
const MEASURED: f64 = 0.25;

/// Runs until the shares are settled, and then as long as is measured.
fn flood(is_sealed: bool, flows: &mut [Flow]) -> Node {
    let mut node = Node::new(is_sealed);
    for flow in flows.iter().filter(|flow| flow.names.len() == 1) {
        node.fair.heard(Instant::ZERO, flow.names[0], flow.via);
    }
    node.run(flows, SETTLE);
    node.run(flows, MEASURED);
    node
}

#[test]
fn an_insider_at_ten_times_the_capacity_leaves_the_others_their_share() {
    for is_sealed in [true, false] {
        for load in [0.05, 0.2, 1.0, 3.0] {
            let mut flows = [
                Flow::one(INSIDER, INSIDER, 10.0),
                Flow::one(FRIEND, FRIEND, load),
                Flow::one(RELAY, RELAY, 0.1),
            ];
            let node = flood(is_sealed, &mut flows);
            let [insider, friend, relay] = flows.each_ref().map(|flow| flow.goodput());
            let all = insider + friend + relay;
            let case = format!("sealed {is_sealed}, load {load}: {insider} {friend} {relay}");
            // The flood costs what it takes to throw it away.
            assert!(all > 0.45, "{case}");
            assert_eq!(node.kernel_drops, 0, "{case}");
            // Who brings less than a share loses nothing; who brings more gets as much as the insider.
            let fair = (all - relay - friend.min(load)).min(insider);
            assert!(friend >= load.min(fair) * 0.9, "{case}");
            assert!(flows[2].lost().abs() < 0.01, "{case}");
            if load < 0.1 {
                assert!(flows[1].lost().abs() < 0.01, "{case}");
            }
        }
    }
}

#[test]
fn made_up_sources_have_one_share_together() {
    let names: Vec<_> = (0x100_0000..).take(1_000).map(NetId).collect();
    // In plain the source is read at once; sealed, twice a neighbor's share is opened.
    for (is_sealed, load) in [(false, 10.0), (true, 1.2)] {
        let mut flows = [
            Flow::new(RELAY, names.clone(), load),
            Flow::one(RELAY, FRIEND, 0.15),
            Flow::one(FRIEND, FRIEND, 0.2),
        ];
        let node = flood(is_sealed, &mut flows);
        let shares = flows.each_ref().map(|flow| flow.goodput());
        assert_eq!(node.kernel_drops, 0, "{is_sealed} {shares:?}");
        assert!(node.unfair > 0, "{is_sealed} {shares:?}");
        assert!(flows[1].lost().abs() < 0.1, "{is_sealed} {shares:?}");
        assert!(flows[2].lost().abs() < 0.01, "{is_sealed} {shares:?}");
    }
}

#[test]
fn two_that_both_bring_too_much_get_the_same() {
    for is_sealed in [true, false] {
        let mut flows = [
            Flow::one(INSIDER, INSIDER, 6.0),
            Flow::one(FRIEND, FRIEND, 1.5),
        ];
        flood(is_sealed, &mut flows);
        let [insider, friend] = flows.each_ref().map(|flow| flow.goodput());
        assert!((friend / insider - 1.0).abs() < 0.1, "{insider} {friend}");
    }
}

#[test]
fn a_single_flow_gets_everything_and_loses_nothing_to_shares() {
    for is_sealed in [true, false] {
        for load in [0.5, 0.99, 3.0] {
            let mut flows = [Flow::one(FRIEND, FRIEND, load)];
            let node = flood(is_sealed, &mut flows);
            assert_eq!(node.unfair, 0);
            // What the kernel drops is not even received.
            assert!(flows[0].goodput() > load.min(1.0) * 0.98);
        }
    }
}

#[test]
fn nothing_is_dropped_below_saturation() {
    for is_sealed in [true, false] {
        let mut flows = [
            Flow::one(INSIDER, INSIDER, 0.8),
            Flow::one(FRIEND, FRIEND, 0.1),
            Flow::new(RELAY, vec![NetId(5), NetId(6)], 0.05),
        ];
        let node = flood(is_sealed, &mut flows);
        assert_eq!((node.unfair, node.kernel_drops), (0, 0));
        assert!(!node.fair.is_saturated());
    }
}

#[test]
fn shares_are_forgotten_when_the_flood_is_over() {
    let mut flows = [
        Flow::one(INSIDER, INSIDER, 10.0),
        Flow::one(FRIEND, FRIEND, 0.5),
    ];
    let mut node = flood(true, &mut flows);
    assert!(node.fair.is_saturated());
    flows[0].gap *= 100.0;
    node.run(&mut flows, 0.3);
    assert!(!node.fair.is_saturated());
    node.run(&mut flows, 0.3);
    assert_eq!((node.unfair, node.kernel_drops), (0, 0));
}

#[test]
fn who_comes_after_a_silence_is_not_measured_by_a_flood_before_it() {
    for silence in [Duration::from_millis(100), Duration::from_secs(3_600)] {
        let mut flows = [
            Flow::one(INSIDER, INSIDER, 10.0),
            Flow::one(FRIEND, FRIEND, 3.0),
        ];
        let mut node = flood(true, &mut flows);
        assert!(node.unfair > 0 && node.fair.is_saturated());
        // What was left came off in less than it takes until shares are settled again, and then nothing
        // came until there was a burst.
        node.now += silence.as_micros() as u64 * 1_000;
        node.queue = std::iter::repeat_n((0, FRIEND), TURN).collect();
        let mut burst = [Flow::one(FRIEND, FRIEND, 1.0)];
        node.run(&mut burst, 0.000_05);
        assert_eq!(node.unfair, 0);
        assert!(burst[0].served >= 50, "{}", burst[0].served);
    }
}

#[test]
fn a_burst_that_is_over_when_it_is_known_brings_no_shares() {
    let mut fair = Fair::new(true);
    fair.settle(Instant::ZERO, 0.1, true);
    assert!(!fair.is_saturated());
    fair.settle(Instant::ZERO, 0.9, false);
    assert!(!fair.is_saturated());
    fair.settle(Instant::ZERO, 0.9, true);
    assert!(fair.is_saturated());
    // No word for long: the flood is over.
    fair.settle(Instant::ZERO + OVER, 0.9, false);
    assert!(!fair.is_saturated());
}

#[test]
fn where_most_of_what_comes_is_of_strangers_no_neighbor_loses_anything() {
    let mut fair = Fair::new(true);
    fair.settle(Instant::ZERO, 1.0, true);
    let mut now = Instant::ZERO;
    let mut lost = 0;
    for _ in 0..50 {
        for via in [FRIEND, RELAY] {
            for _ in 0..40 {
                let taken = fair.opens(now, via, LEN) && fair.takes(now, via, via, LEN);
                lost += u32::from(!taken);
            }
        }
        for _ in 0..100 {
            fair.stranger(LEN);
        }
        now = now + INTERVAL;
        // Whatever is taken, the buffer stays full.
        fair.settle(now, 1.0, true);
    }
    assert_eq!(lost, 0);
}

#[test]
fn a_flood_that_holds_no_messages_is_cut_as_any_other() {
    let mut fair = Fair::new(true);
    fair.heard(Instant::ZERO, FRIEND, FRIEND);
    fair.settle(Instant::ZERO, 1.0, true);
    let mut now = Instant::ZERO;
    let (mut opened, mut taken) = (0, 0);
    for _ in 0..100 {
        // Opened, they are found to be keepalives: nothing comes of them.
        for _ in 0..1_000 {
            opened += usize::from(fair.opens(now, INSIDER, LEN));
        }
        for _ in 0..10 {
            let is_taken = fair.opens(now, FRIEND, LEN) && fair.takes(now, FRIEND, FRIEND, LEN);
            taken += usize::from(is_taken);
        }
        now = now + INTERVAL;
        fair.settle(now, 0.9, true);
    }
    assert!(opened < 50_000, "{opened}");
    assert_eq!(taken, 1_000);
}

#[test]
fn a_burst_of_who_sends_little_is_no_flood() {
    let mut fair = Fair::new(true);
    fair.heard(Instant::ZERO, FRIEND, FRIEND);
    fair.settle(Instant::ZERO, 0.6, true);
    let mut now = Instant::ZERO;
    let mut taken = 0;
    for turn in 1..=200 {
        for _ in 0..640 {
            let _ = fair.opens(now, INSIDER, LEN) && fair.takes(now, INSIDER, INSIDER, LEN);
        }
        // As much as its share of ten turns, at once.
        for _ in 0..if turn % 20 == 0 { 100 } else { 0 } {
            let is_taken = fair.opens(now, FRIEND, LEN) && fair.takes(now, FRIEND, FRIEND, LEN);
            taken += usize::from(is_taken);
        }
        now = now + INTERVAL;
        // Full enough that a twentieth is taken in the end, and then steady.
        let filled = if fair.part > 0.05 { 0.9 } else { 0.5 };
        fair.settle(now, filled, false);
    }
    assert_eq!(taken, 1_000);
}

#[test]
fn tables_are_bounded_and_who_is_beyond_them_shares_a_share() {
    let mut fair = Fair::new(false);
    let room = fair.neighbors.capacity();
    for n in 1..1_000 {
        fair.heard(Instant::ZERO, NetId(n), NetId(n));
        fair.heard(Instant::ZERO, NetId(n), NetId(1));
    }
    assert_eq!(fair.neighbors.len(), 1 + NEIGHBORS);
    assert_eq!(fair.neighbors.capacity(), room);
    assert_eq!(fair.netids.len(), fair.neighbors.len());
    assert_eq!(fair.find_or_add(Instant::ZERO, NetId(5_000)), 0);
    assert_eq!(fair.neighbors[1].used, PLACES);
    assert_eq!(
        fair.neighbors[1].source(NetId(PLACES as u32)).netid,
        NetId(PLACES as u32)
    );
    assert_eq!(fair.neighbors[1].source(NetId(999)).netid, NetId::ANY);
    // Who was silent for a minute gives way.
    fair.heard(Instant::ZERO + KEPT, NetId(999), NetId(1));
    assert_eq!(fair.neighbors[1].source(NetId(999)).netid, NetId(999));
    let place = fair.find_or_add(Instant::ZERO + KEPT, NetId(5_000));
    assert_ne!(place, 0);
    assert_eq!(fair.find_or_add(Instant::ZERO, NetId(1)), 1);
    assert_eq!(fair.find_or_add(Instant::ZERO, NetId(5_000)), place);
}

/// S98: a name that one node says comes as a later copy by every neighbor of every node.
#[test]
fn later_copies_take_half_of_a_neighbors_places_and_keep_those_that_are_had() {
    let mut fair = Fair::new(false);
    let via = NetId(1);
    let at = |secs| Instant::from_secs(secs);
    let has = |fair: &mut Fair, n| {
        let place = fair.find_or_add(Instant::ZERO, via);
        fair.neighbors[place].source(NetId(n)).netid == NetId(n)
    };
    for n in 100..200 {
        fair.heard_later(at(0), NetId(n), via);
    }
    let later = |fair: &mut Fair| (100..200).filter(|n| has(fair, *n)).count();
    assert_eq!(later(&mut fair), PLACES / 2);
    for n in 200..300 {
        fair.heard(at(0), NetId(n), via);
    }
    let first = |fair: &mut Fair| (200..300).filter(|n| has(fair, *n)).count();
    assert_eq!(first(&mut fair), PLACES / 2);
    // A later copy keeps a source its place, and takes none of who has it for more, however long silent.
    fair.heard_later(at(50), NetId(100), via);
    fair.heard_later(at(50), NetId(200), via);
    for n in 300..400 {
        fair.heard_later(at(70), NetId(n), via);
    }
    assert!(has(&mut fair, 100) && has(&mut fair, 200));
    assert_eq!((later(&mut fair), first(&mut fair)), (1, PLACES / 2));
    // Heard as the first once, a source is no later one: there is room for one more.
    fair.heard(at(71), NetId(100), via);
    fair.heard_later(at(120), NetId(401), via);
    assert!(has(&mut fair, 401));
}

/// What each gets if capacity is handed out in small pieces, in turns, to those who still want some.
fn handed_out(wants: &[u32], capacity: u32) -> Vec<u32> {
    let mut gets = vec![0; wants.len()];
    let mut rest = capacity;
    loop {
        let before = rest;
        for (gets, wants) in gets.iter_mut().zip(wants) {
            if *gets < *wants && rest > 0 {
                *gets += 1;
                rest -= 1;
            }
        }
        if rest == before {
            return gets;
        }
    }
}

proptest::proptest! {
    #[test]
    fn the_level_is_what_handing_out_in_turns_comes_to(
        wants in proptest::collection::vec(0_u32..500, 1..20),
        capacity in 0_u32..5_000,
    ) {
        let mut sorted: Vec<f64> = wants.iter().map(|want| f64::from(*want)).collect();
        let level = level(&mut sorted, f64::from(capacity));
        for (gets, want) in handed_out(&wants, capacity).iter().zip(&wants) {
            let by_level = f64::from(*want).min(level);
            proptest::prop_assert!((by_level - f64::from(*gets)).abs() < 1.0 + 1e-6);
        }
        let all: f64 = wants.iter().map(|want| f64::from(*want).min(level)).sum();
        let demand: f64 = wants.iter().map(|want| f64::from(*want)).sum();
        proptest::prop_assert!((all - demand.min(f64::from(capacity))).abs() < 1e-6);
    }

    #[test]
    fn a_part_takes_that_part_of_the_bytes(
        costs in proptest::collection::vec(512_u32..66_000, 100..400),
        part in 0.0_f64..1.0,
    ) {
        let mut taking = Part::ALL;
        taking.set(part);
        let taken: u64 = costs.iter().filter(|cost| taking.takes(**cost)).map(|c| u64::from(*c)).sum();
        let all: u64 = costs.iter().map(|cost| u64::from(*cost)).sum();
        // No more than one datagram is owed, ever.
        let owed = all as f64 * part - taken as f64;
        proptest::prop_assert!(owed > -1.0 && owed < 66_000.0 + all as f64 / 65_536.0);
    }
}
