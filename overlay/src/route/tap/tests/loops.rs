//! Two nodes that bridge one LAN, in virtual time: what one writes the other reads.
//!
//! ```text
//!        A ~~~ mesh ~~~ B
//!        |              |        one round of a frame: A reads it, B writes it, A reads it ..
//!        +---- LAN -----+
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Frames on the LAN of which a test says that they go round for ever.
const ENDLESS: usize = 5_000;

/// The most frames on the LAN, beacons among them, that one broadcast leads to at an instant, since
/// with time the guard's levels fall: where none overtakes another on its way, but a node writes a
/// beacon as late as it likes. SECURITY T14 allows ten.
const MOST_IN_TURN: usize = 9;
/// And in any order: the station's frame, the five copies that [`guard::BURST`] lets a node
/// write, a beacon for each of them but the first, and one more when the writer at last reads the
/// station's frame from the LAN. For that the frame overtakes four beacons in a row, or these are
/// lost, which is as if they came last; the first that comes back ends it.
///
/// [`guard::BURST`]: crate::route::guard::BURST
const MOST_IN_ANY_ORDER: usize = 11;

/// Which way frames can go round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Each node reads what the other writes.
    BothWays,
    /// B writes and never reads: its bridge keeps frames from its device.
    OneWay,
}

/// Whether frames overtake others on their way: over the LAN to one reader, or by the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    InTurn,
    Any,
}

/// What happens to a frame next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// This node reads it from the LAN.
    Read(NetId),
    /// It comes to this node by the mesh, from the other one; to all or to it alone.
    Come(NetId, bool),
}

/// One of the things that may happen next.
#[derive(Clone, Copy)]
enum Choice {
    /// The step at this place.
    Take((Instant, usize)),
    /// This node writes the beacon that is due: a worker does so when it has the time.
    Ask(NetId),
}

struct Loop {
    one: Tap,
    two: Tap,
    round: Round,
    /// From one bridge to the other, and from node to node.
    lan: Duration,
    mesh: Duration,
    /// What is to come, in order of time; numbered, since times may be equal.
    steps: BTreeMap<(Instant, usize), (Step, Vec<u8>)>,
    pushed: usize,
    /// Frames that were on the LAN, beacons among them, and when the last one was.
    frames: usize,
    last: Instant,
    /// How often each node read a frame from the LAN, or (true) wrote it there.
    crossed: BTreeMap<(bool, NetId, Vec<u8>), usize>,
}

impl Loop {
    /// A loop that closes now, when both nodes have written their first beacon already.
    fn new(now: Instant, round: Round, length: Duration) -> Self {
        let mut both = Self {
            one: tap_of(A, 1),
            two: tap_of(B, 2),
            round,
            lan: length / 2,
            mesh: length / 2,
            steps: BTreeMap::new(),
            pushed: 0,
            frames: 0,
            last: now,
            crossed: BTreeMap::new(),
        };
        for tap in [&mut both.one, &mut both.two] {
            tap.beacon(now, &mut [0; beacon::LEN]).unwrap();
        }
        both
    }

    fn tap(&mut self, node: NetId) -> &mut Tap {
        if node == A {
            &mut self.one
        } else {
            &mut self.two
        }
    }

    fn push(&mut self, at: Instant, step: Step, frame: &[u8]) {
        self.pushed += 1;
        self.steps.insert((at, self.pushed), (step, frame.to_vec()));
    }

    /// A frame is on the LAN, and whoever is not its writer reads it later.
    fn write(&mut self, now: Instant, writer: Option<NetId>, frame: &[u8]) {
        self.frames += 1;
        self.last = now;
        if let Some(writer) = writer {
            self.count(true, writer, frame);
        }
        for reader in [A, B] {
            let reads = self.round == Round::BothWays || reader == A;
            if reads && writer != Some(reader) {
                self.push(now + self.lan, Step::Read(reader), frame);
            }
        }
    }

    fn count(&mut self, is_write: bool, node: NetId, frame: &[u8]) {
        let key = (is_write, node, frame.to_vec());
        *self.crossed.entry(key).or_default() += 1;
    }

    /// One step of those that come first, chosen by `pick`, and the beacons that it hurried.
    fn step(&mut self, pick: usize) {
        let &(at, _) = self.steps.keys().next().unwrap();
        let now = self.steps.range(..=(at, usize::MAX));
        let &place = now.clone().nth(pick % now.count()).unwrap().0;
        self.take(place);
        for node in [A, B] {
            self.ask(at, node);
        }
    }

    fn take(&mut self, place: (Instant, usize)) {
        let (at, _) = place;
        let (step, frame) = self.steps.remove(&place).unwrap();
        match step {
            Step::Read(node) => {
                self.count(false, node, &frame);
                let other = other(node);
                match out(self.tap(node), at, &frame) {
                    Outgoing::All => self.push(at + self.mesh, Step::Come(other, true), &frame),
                    Outgoing::To(to) if to == other => {
                        self.push(at + self.mesh, Step::Come(other, false), &frame);
                    }
                    Outgoing::To(_) | Outgoing::Drop(_) => {}
                }
            }
            Step::Come(node, to_all) => {
                let judged = self
                    .tap(node)
                    .incoming(at, known, other(node), to_all, &frame);
                if judged.is_ok() {
                    self.write(at, Some(node), &frame);
                }
            }
        }
    }

    /// Writes a node's beacon if it is due.
    fn ask(&mut self, now: Instant, node: NetId) {
        let mut bytes = [0; beacon::LEN];
        if self.tap(node).beacon(now, &mut bytes).is_some() {
            self.write(now, Some(node), &bytes);
        }
    }

    fn run(&mut self, picks: &[usize]) {
        let mut picks = picks.iter().copied();
        while !self.steps.is_empty() && self.frames < ENDLESS {
            self.step(picks.next().unwrap_or(0));
        }
    }

    /// A broadcast in a loop where nothing takes any time, so that every step may be the next one.
    fn at_once(round: Round) -> Self {
        let mut both = Self::new(at(5), round, Duration::ZERO);
        both.write(at(6), None, &frame(ALL, HERE, 0x0806, &[7; 28]));
        both
    }

    fn choices(&self, order: Order) -> Vec<Choice> {
        let mut ways = BTreeSet::new();
        let steps = self.steps.iter().filter(|(_, (step, frame))| {
            // Of equal frames on one way it makes no difference which one is taken.
            ways.insert((step, (order == Order::Any).then_some(frame)))
        });
        let takes = steps.map(|(&place, _)| Choice::Take(place));
        let due = [(A, &self.one), (B, &self.two)].into_iter();
        let due = due.filter(|(_, tap)| tap.next_beacon() <= self.last);
        takes
            .chain(due.map(|(node, _)| Choice::Ask(node)))
            .collect()
    }

    /// All on which it depends how a loop without time goes on, with the frames that there were:
    /// what is under way, what the guards have counted, which beacon is due and who is blocked.
    fn state(&self, order: Order) -> impl Ord + use<> {
        let mut under_way: Vec<_> = self.steps.values().cloned().collect();
        match order {
            Order::InTurn => under_way.sort_by_key(|&(step, _)| step),
            Order::Any => under_way.sort(),
        }
        let told = [(&self.one, B), (&self.two, A)]
            .map(|(tap, other)| (tap.next_beacon(), tap.switch.is_blocked(self.last, other)));
        (under_way, self.crossed.clone(), told)
    }
}

/// The most frames that there are in any of all orders, found by going on from each state once.
fn most_frames(round: Round, order: Order) -> usize {
    let mut most = 0;
    let mut states = BTreeSet::new();
    let mut paths = vec![Vec::new()];
    while let Some(path) = paths.pop() {
        let mut both = Loop::at_once(round);
        for &choice in &path {
            match both.choices(order)[choice] {
                Choice::Take(place) => both.take(place),
                Choice::Ask(node) => both.ask(at(6), node),
            }
        }
        most = most.max(both.frames);
        if both.frames < ENDLESS && states.insert(both.state(order)) {
            let next = 0..both.choices(order).len();
            paths.extend(next.map(|choice| [&path[..], &[choice]].concat()));
        }
    }
    println!(
        "{round:?}, {order:?}: {most} frames, {} states",
        states.len()
    );
    most
}

fn other(node: NetId) -> NetId {
    if node == A { B } else { A }
}

/// Rounds from two veth pairs on one machine to satellites.
const ROUNDS: [u64; 12] = [
    20, 200, 1_000, 2_000, 3_000, 4_000, 5_000, 10_000, 20_000, 50_000, 100_000, 300_000,
];

#[test]
fn a_broadcast_in_a_loop_is_on_the_lan_ten_times_at_most_and_less_than_a_second() {
    let arp = frame(ALL, HERE, 0x0806, &[7; 28]);
    for micros in ROUNDS {
        for round in [Round::BothWays, Round::OneWay] {
            let mut both = Loop::new(at(5), round, Duration::from_micros(micros));
            both.write(at(6), None, &arp);
            both.run(&[]);
            let took = both.last.since(at(6));
            let what = format!("{round:?}, {micros} us: {} frames, {took:?}", both.frames);
            println!("{what}");
            assert!(both.frames <= 6, "{what}");
            assert!(took < Duration::from_secs(1), "{what}");
            let (one, two) = (&both.one.switch, &both.two.switch);
            assert!(two.is_blocked(both.last, A), "{what}");
            let told = round == Round::OneWay || one.is_blocked(both.last, B);
            assert!(told, "{what}");
        }
    }
}

#[test]
fn a_fast_loop_ends_though_no_beacon_may_be_written() {
    let arp = frame(ALL, HERE, 0x0806, &[7; 28]);
    for micros in [20, 200, 1_000, 2_000] {
        let mut both = Loop::new(at(5), Round::OneWay, Duration::from_micros(micros));
        for _ in 0..100 {
            both.two.switch.beacons.hurry(at(6));
            both.two.beacon(at(6), &mut [0; beacon::LEN]);
        }
        both.write(at(6), None, &arp);
        both.run(&[]);
        let took = both.last.since(at(6));
        println!("{micros} us: {} frames, {took:?}", both.frames);
        assert!(both.frames <= 10, "{micros} us: {} frames", both.frames);
        assert!(!both.two.switch.is_blocked(both.last, A));
    }
}

/// A station's frame to another one on the same LAN, whose nodes take that for the mesh's other
/// end: learned from a copy that went round before.
#[test]
fn a_unicast_frame_in_a_loop_ends_though_its_flow_is_cached() {
    for micros in ROUNDS {
        let length = Duration::from_micros(micros);
        let mut both = Loop::new(at(5), Round::OneWay, length);
        // A believes that HERE is behind B, and B that it is on its own side.
        both.one
            .incoming(at(5), known, B, true, &ip(ALL, HERE))
            .unwrap();
        assert_eq!(out(&mut both.two, at(5), &ip(ALL, HERE)), Outgoing::All);
        // Other traffic was sampled when it begins.
        for n in 0..100 {
            let bytes = frame(HERE, THERE, 0x0800, &[n; 60]);
            both.two.incoming(at(6), known, A, false, &bytes).unwrap();
        }
        both.write(at(6), None, &ip(HERE, THERE));
        both.run(&[]);
        let took = both.last.since(at(6));
        let what = format!("{micros} us: {} frames, {took:?}", both.frames);
        println!("{what}");
        assert!(both.frames <= 60, "{what}");
        assert!(both.two.switch.is_blocked(both.last, A), "{what}");
    }
}

#[test]
fn neither_sends_the_other_what_goes_round_and_what_is_for_itself_still_passes() {
    let mut tap = tap();
    tap.incoming(at(0), known, A, true, &ip(ALL, THERE))
        .unwrap();
    tap.incoming(at(0), known, B, true, &ip(ALL, [0x0A, 0, 0, 0, 0, 3]))
        .unwrap();
    assert_eq!(out(&mut tap, at(1), &ip(THERE, HERE)), Outgoing::To(A));
    tap.switch.block(at(1), A);
    // At once, though the flow was cached.
    let looped = Outgoing::Drop(DropReason::BridgeLoop);
    assert_eq!(out(&mut tap, at(1), &ip(THERE, HERE)), looped);
    assert_eq!(out(&mut tap, at(1), &ip(mac(A), HERE)), Outgoing::To(A));
    let elsewhere = out(&mut tap, at(1), &ip([0x0A, 0, 0, 0, 0, 3], HERE));
    assert_eq!(elsewhere, Outgoing::To(B));
    let mut come = |to, from| tap.incoming(at(1), known, from, false, &ip(to, THERE));
    assert_eq!(come(HERE, A), Err(DropReason::BridgeLoop));
    assert_eq!(come(mac(ME), A), Ok(()));
    assert_eq!(come(HERE, B), Ok(()));
    assert_eq!(out(&mut tap, at(61), &ip(mac(A), HERE)), Outgoing::To(A));
    let judged = tap.incoming(at(61), known, A, false, &ip(HERE, THERE));
    assert_eq!(judged, Ok(()));
}

#[test]
fn no_order_at_all_brings_more_frames_than_the_most() {
    for (round, order, most) in [
        (Round::BothWays, Order::InTurn, MOST_IN_TURN),
        (Round::BothWays, Order::Any, MOST_IN_ANY_ORDER),
        // B never reads the station's frame, and asks once less.
        (Round::OneWay, Order::InTurn, MOST_IN_TURN - 1),
        (Round::OneWay, Order::Any, MOST_IN_ANY_ORDER - 1),
    ] {
        assert_eq!(most_frames(round, order), most, "{round:?}, {order:?}");
    }
}

/// B writes, and reads the station's frame only after five rounds; no beacon is back before that.
#[test]
fn a_frame_that_overtakes_four_beacons_still_ends_when_it_comes_too_often() {
    let mut both = Loop::at_once(Round::BothWays);
    both.run(&[0, 1, 1, 1, 1, 2, 1, 1, 1, 2, 3, 4]);
    assert_eq!(both.frames, MOST_IN_ANY_ORDER);
    let arp = frame(ALL, HERE, 0x0806, &[7; 28]);
    assert_eq!(both.crossed[&(true, B, arp)], 5);
    assert!(both.two.switch.is_blocked(both.last, A));
}

proptest! {
    #[test]
    fn a_loop_ends_in_whatever_order_frames_travel(
        picks in prop::collection::vec(any::<usize>(), 0..30),
    ) {
        let mut both = Loop::at_once(Round::BothWays);
        both.run(&picks);
        prop_assert!(both.frames <= MOST_IN_ANY_ORDER, "{} frames", both.frames);
    }
}
