//! Whole meshes in one process and in virtual time.
//!
//! A [`World`] is a heap of `(time, sequence, node, input)`; the sequence number breaks ties and
//! every map is ordered, so that one seed gives one run. It holds real [`Control`]s and [`Flood`]s
//! and runs them through the real pump: there is no second implementation of a rule in here, only
//! wires between the nodes. Nodes with a mesh secret speak sealed, joined as in the daemon
//! ([`sealing`], [`ends`]); [`laws`] are checked while a world runs, [`attacker`] has what strangers try.
//!
//! Test: build a world from a [`Graph`], run until its links are live, send, run until quiet, ask
//! what was delivered and what it cost.

pub mod attacker;
pub mod ends;
pub mod laws;
pub mod netem;
pub mod sealing;
pub mod sources;
pub mod topology;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use overlay::id::{LinkId, NetId, Path, SocketId};
use overlay::keyed::KeyedHasher;
use overlay::node::config::{NodeConfig, Socket};
use overlay::node::control::{self, Control};
use overlay::node::effect::{Effects, Event};
use overlay::node::flood::Flood;
use overlay::node::hash::{Algorithm, MessageHasher};
use overlay::node::outlet::{Outlet, carry_out};
use overlay::node::seen::{Generation, SeenConfig};
use overlay::node::snapshot::{LinkEntry, NeighborSet};
use overlay::node::zone::{self, Bridge, OpenZone, Zones};
use overlay::pump::count::{Counters, DropReason};
use overlay::pump::rx::{RxBatch, RxMessage, Span};
use overlay::pump::tx::TxBatch;
use overlay::pump::{Arrival, Packet, Pump, Scene, Sink};
use overlay::seal::policies::PeerMode;
use overlay::seal::prefer::Latches;
use overlay::time::{Duration, Instant};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use wire::sealed::SEALED_MAGIC;
use wire::{Flags, HEADER_LEN, Header, Kind};

use attacker::Tapped;
use ends::Ending;
use laws::Ledger;
use sealing::Sealing;

pub use netem::{Netem, Wire};
pub use topology::Graph;

/// Every node listens here.
pub const PORT: u16 = 44_204;

/// What a node is given at a moment.
enum Input {
    /// A datagram from an address.
    Datagram(SocketAddr, Rc<[u8]>),
    /// Perhaps a deadline.
    Wake,
}

/// One simulated node: the real core, and what it delivered.
pub struct Node {
    /// Its netid.
    pub netid: NetId,
    /// Where it is on the underlay.
    pub address: SocketAddr,
    /// The real control plane.
    pub control: Control,
    /// The real data plane.
    pub flood: Flood,
    /// Its counters.
    pub counters: Arc<Counters>,
    /// How often it delivered each message, by its number.
    pub delivered: BTreeMap<u64, u32>,
    /// Messages of its own that control flooded, by kind.
    pub flooded: BTreeMap<u8, u64>,
    /// What control told.
    pub events: Vec<(Instant, Event)>,
    /// Dead nodes take and send nothing.
    pub alive: bool,
    /// Its sealed links; `None` in plain.
    pub sealing: Option<Sealing>,
    /// Times at which it had something to do by itself.
    pub woken: u64,
    /// What it delivered that nobody sent, or not under that name, or not to it.
    pub ghosts: u64,
    starts: u64,
    named: Vec<usize>,
    neighbors: Arc<NeighborSet>,
    pump: Pump,
    effects: Effects,
    wake_at: Option<Instant>,
}

/// Counts of everything that went over the wires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams sent, each copy.
    pub sent: u64,
    /// Data messages among them.
    pub data: u64,
}

/// A mesh.
pub struct World {
    /// Virtual time.
    pub now: Instant,
    /// The nodes, by number.
    pub nodes: Vec<Node>,
    /// The wires, per direction.
    pub wires: BTreeMap<(usize, usize), Wire>,
    /// What went over them.
    pub traffic: Traffic,
    /// Datagrams that went to addresses where nobody is.
    pub astray: BTreeMap<SocketAddr, Vec<Vec<u8>>>,
    /// What the wires carried, once somebody listens: see [`attacker`].
    pub tapped: Option<Vec<Tapped>>,
    /// Messages that nodes passed on, once somebody listens: by whom.
    pub passed: Option<Vec<(usize, Vec<u8>)>>,
    /// Netids that an insider speaks under, so that what is said is not its relays' fault.
    pub tolerated: Vec<NetId>,
    /// What the laws remember of the run.
    pub ledger: Ledger,
    choices: Choices,
    addresses: BTreeMap<SocketAddr, usize>,
    seed: u64,
    rng: ChaCha8Rng,
    heap: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    inputs: BTreeMap<u64, Input>,
    sequence: u64,
    trace: u64,
    rx: RxBatch,
    tx: TxBatch,
    next_message: u64,
}

/// What may be chosen about a world's nodes.
#[derive(Clone, Debug)]
pub struct Choices {
    /// As `--degree`; large by default, so that only the graph decides who dials.
    pub degree: usize,
    /// Bytes of the seen table at its start, and its bound.
    pub seen_memory: usize,
    /// Names the nodes.
    pub netid_of: fn(usize) -> NetId,
    /// Bytes of the largest datagram that a device would make; 0 probes no link.
    pub largest: u16,
    /// The mesh secret of each node, 32 times this byte; a node without one speaks plain.
    pub secret_of: fn(usize) -> Option<u8>,
    /// Whether sealed nodes seal Data end to end too, as the daemon does.
    pub ends: bool,
    /// Whether the nodes of the sealed mesh go by certificates.
    pub certified: bool,
    /// What those let each node do.
    pub rights: fn(usize) -> u16,
    /// Nodes with a secret that speak plain to whoever does not answer sealed.
    pub prefers: fn(usize) -> bool,
    /// What goes on between their zones.
    pub bridge: Bridge,
    /// Messages a second that a bridge lets in.
    pub guests: u32,
    /// The rate class of each node's certificate.
    pub rate_class_of: fn(usize) -> u8,
    /// The mode that a node's settings give each of its peers.
    pub mode_of: fn(usize, usize) -> PeerMode,
}

impl Choices {
    /// Everybody is a member of one sealed mesh.
    pub fn sealed() -> Self {
        Self {
            secret_of: |_| Some(1),
            ..Self::default()
        }
    }

    /// The same, and what passes through others is sealed end to end.
    pub fn end_to_end() -> Self {
        Self {
            ends: true,
            ..Self::sealed()
        }
    }
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            degree: 256,
            seen_memory: 1 << 20,
            netid_of,
            largest: 0,
            secret_of: |_| None,
            ends: false,
            certified: false,
            rights: |_| wire::sealed::RIGHTS,
            prefers: |_| false,
            bridge: Bridge::Off,
            guests: zone::GUESTS,
            rate_class_of: |_| 0,
            mode_of: |_, _| PeerMode::Prefer,
        }
    }
}

/// The underlay address of node `number`.
pub fn address_of(number: usize) -> SocketAddr {
    let [_, a, b, c] = (number as u32 + 1).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, a, b, c), PORT))
}

fn netid_of(number: usize) -> NetId {
    NetId(0x1000 + number as u32)
}

impl World {
    /// A world with the nodes and wires of `graph`. The higher of two nodes dials the lower.
    pub fn new(graph: &Graph, netem: Netem, choices: &Choices, seed: u64) -> Self {
        let mut world = Self {
            now: Instant::ZERO,
            nodes: Vec::new(),
            wires: BTreeMap::new(),
            traffic: Traffic::default(),
            astray: BTreeMap::new(),
            tapped: None,
            passed: None,
            tolerated: Vec::new(),
            ledger: Ledger::default(),
            choices: choices.clone(),
            addresses: BTreeMap::new(),
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            heap: BinaryHeap::new(),
            inputs: BTreeMap::new(),
            sequence: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            rx: RxBatch::default(),
            tx: TxBatch::with_capacity(1_024),
            next_message: 0,
        };
        for number in 0..graph.nodes {
            let node = world.make_node(number, 1);
            world.addresses.insert(node.address, number);
            world.ledger.at(node.address);
            world.nodes.push(node);
        }
        for number in 0..graph.nodes {
            world.tell_nodes(number);
        }
        for &(a, b) in &graph.edges {
            world.connect(a, b, netem);
            world.name_peer(b, a);
        }
        world
    }

    fn make_node(&mut self, number: usize, starts: u64) -> Node {
        let choices = self.choices.clone();
        let netid = (choices.netid_of)(number);
        let seed = self.draw_seed();
        let counters = Arc::new(Counters::default());
        let config = NodeConfig {
            netid,
            sockets: vec![Socket {
                id: SocketId(0),
                local: SocketAddr::from(([0, 0, 0, 0], PORT)),
            }],
            degree: choices.degree,
            max_neighbors: 256,
            allow_inform: Vec::new(),
            overlay: Vec::new(),
            largest: choices.largest,
            timers: Default::default(),
            limits: Default::default(),
            seed,
        };
        let mut control = Control::new(self.now, config, counters.clone());
        let address = address_of(number);
        let local = ipnet::IpNet::new(address.ip(), 8).into_iter().collect();
        control.set_surroundings(local, Vec::new());
        let key = [0; 4].map(|_| self.rng.next_u64());
        let hasher = MessageHasher::new(Algorithm::SipHash13, key);
        // Small: a world may hold ten thousand of them.
        let seen = SeenConfig {
            start_bytes: 64 << 10,
            memory_bytes: choices.seen_memory,
        };
        let flood = Flood::new(netid, hasher, seen, self.now);
        let sealing = (choices.secret_of)(number).map(|secret| {
            let seed = self.draw_seed();
            let grant = || ((choices.rights)(number), (choices.rate_class_of)(number));
            let more = (seed, choices.ends, choices.certified.then(grant));
            let sealing = Sealing::new(self.now, secret, number, netid, starts, more);
            match (choices.prefers)(number) {
                true => {
                    let zone = OpenZone::new(choices.bridge, KeyedHasher(1, 2));
                    sealing.preferring(zone.letting_in(choices.guests), Latches::new())
                }
                false => sealing,
            }
        });
        Node {
            netid,
            address,
            control,
            flood,
            counters,
            delivered: BTreeMap::new(),
            flooded: BTreeMap::new(),
            events: Vec::new(),
            alive: true,
            sealing,
            woken: 0,
            ghosts: 0,
            starts,
            named: Vec::new(),
            neighbors: Arc::new(NeighborSet::empty()),
            pump: Pump::default(),
            effects: Effects::default(),
            wake_at: None,
        }
    }

    fn draw_seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        seed
    }

    /// Lays a wire, the same faults in both directions.
    pub fn connect(&mut self, a: usize, b: usize, netem: Netem) {
        self.wires.insert((a, b), Wire::new(netem));
        self.wires.insert((b, a), Wire::new(netem));
    }

    /// Changes the faults of a wire in both directions.
    pub fn set_netem(&mut self, a: usize, b: usize, change: impl Fn(&mut Netem)) {
        for pair in [(a, b), (b, a)] {
            if let Some(wire) = self.wires.get_mut(&pair) {
                change(&mut wire.netem);
            }
        }
    }

    /// Gives `node` a named peer.
    pub fn name_peer(&mut self, node: usize, peer: usize) {
        let address = self.nodes[peer].address;
        self.ledger.named(node, address);
        let at = &mut self.nodes[node];
        if !at.named.contains(&peer) {
            at.named.push(peer);
        }
        self.set_modes(node, self.choices.mode_of);
        let at = &mut self.nodes[node];
        at.control
            .set_peer(self.now, peer, &[address], false, &mut at.effects);
        self.carry_out(node);
    }

    /// Looks up the addresses of a node's named peers anew.
    pub fn resolve(&mut self, node: usize) {
        for peer in self.nodes[node].named.clone() {
            self.name_peer(node, peer);
        }
    }

    /// Kills a node at once: no Goodbye.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
    }

    /// Starts a dead node anew: with its keys and peers, and without any memory.
    pub fn restart(&mut self, node: usize) {
        let starts = self.nodes[node].starts + 1;
        let fresh = self.make_node(node, starts);
        let former = std::mem::replace(&mut self.nodes[node], fresh);
        let at = &mut self.nodes[node];
        at.address = former.address;
        // What its device was given stays given.
        (at.delivered, at.ghosts) = (former.delivered, former.ghosts);
        self.tell_nodes(node);
        self.ledger.forget(node);
        for peer in former.named {
            self.name_peer(node, peer);
        }
    }

    /// Gives a node another address, as a NAT does that forgot it: its datagrams come from there,
    /// and what goes to the former one is lost.
    pub fn rebind(&mut self, node: usize, address: SocketAddr) {
        let former = std::mem::replace(&mut self.nodes[node].address, address);
        self.addresses.remove(&former);
        self.addresses.insert(address, node);
        self.ledger.at(address);
    }

    /// Tells a node that its machine's addresses or routes changed.
    pub fn change_network(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        at.control.handle_network_change(self.now, &mut at.effects);
        self.carry_out(node);
    }

    /// Lets a node leave in order: Goodbye twice, 20 ms apart, then nothing.
    pub fn say_goodbye(&mut self, node: usize) {
        for _ in 0..2 {
            let at = &mut self.nodes[node];
            at.control.say_goodbye(&mut at.effects);
            self.carry_out(node);
            self.run_for(Duration::from_millis(20));
        }
        self.kill(node);
    }

    /// Lets a datagram from any address, true or forged, arrive at `node` now.
    pub fn inject(&mut self, node: usize, from: SocketAddr, datagram: &[u8]) {
        self.schedule(self.now, node, Input::Datagram(from, datagram.into()));
    }

    /// Lets `node` take a datagram at once, and says whether that changed its [`Standing`].
    ///
    /// [`Standing`]: attacker::Standing
    pub fn touch(&mut self, node: usize, from: SocketAddr, datagram: &[u8]) -> bool {
        let before = self.standing(node);
        self.feed(node, Input::Datagram(from, datagram.into()));
        self.standing(node) != before
    }

    /// Originates a numbered Data message at `node` and returns its number.
    pub fn send(&mut self, node: usize, dst: NetId) -> u64 {
        self.send_packet(node, dst, 20)
    }

    /// The same with a packet of `len` bytes, 20 or more.
    pub fn send_packet(&mut self, node: usize, dst: NetId, len: usize) -> u64 {
        if self.choices.ends && self.nodes[node].sealing.is_some() {
            let source = sources::derived(self.nodes[node].netid);
            return self.send_as(node, dst, source);
        }
        self.next_message += 1;
        let number = self.next_message;
        // A first nibble of 4: a packet for the device.
        let mut slot = vec![0; HEADER_LEN + len];
        slot[HEADER_LEN] = 0x45;
        slot[HEADER_LEN + 8..HEADER_LEN + 16].copy_from_slice(&number.to_be_bytes());
        self.ledger.sent(number, self.nodes[node].netid, dst);
        let nonce = self.rng.next_u32();
        let now = self.now;
        self.nodes[node]
            .flood
            .originate(now, Kind::Data, Flags::NONE, nonce, dst, &mut slot);
        self.flood_from(node, &slot, None, Zones::All);
        number
    }

    /// Originates a numbered packet at a node that seals end to end, from an address that may be another's.
    pub fn send_as(&mut self, node: usize, dst: NetId, source: Ipv6Addr) -> u64 {
        self.next_message += 1;
        let number = self.next_message;
        self.ledger.sent(number, self.nodes[node].netid, dst);
        self.send_end_to_end(node, dst, &sources::packet(number, source, dst));
        number
    }

    /// Runs for `duration` of virtual time.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Runs up to `until`.
    pub fn run_until(&mut self, until: Instant) {
        while let Some(&Reverse((at, sequence, node))) = self.heap.peek() {
            if at > until {
                break;
            }
            self.heap.pop();
            assert!(at >= self.now, "{}: time went back", self.replay());
            self.now = at;
            let Some(input) = self.inputs.remove(&sequence) else {
                continue;
            };
            self.feed(node, input);
        }
        self.now = until;
    }

    /// Runs until every live node has a link over each of its wires, at most `patience`.
    ///
    /// # Panics
    /// When they do not come to be in that time.
    pub fn run_until_connected(&mut self, patience: Duration) {
        let until = self.now + patience;
        while !self.is_connected() {
            assert!(
                self.now < until,
                "{}: links missing after {patience:?}",
                self.replay()
            );
            self.run_for(Duration::from_millis(100));
        }
    }

    /// Whether each wire between live nodes carries a link, both ways.
    pub fn is_connected(&self) -> bool {
        self.wires
            .iter()
            .filter(|(_, wire)| !wire.netem.cut)
            .all(|(&(a, b), _)| {
                let (one, other) = (&self.nodes[a], &self.nodes[b]);
                !one.alive || !other.alive || one.control.is_neighbor(other.netid)
            })
    }

    /// How often `node` delivered message `number`.
    pub fn deliveries(&self, node: usize, number: u64) -> u32 {
        self.nodes[node]
            .delivered
            .get(&number)
            .copied()
            .unwrap_or(0)
    }

    /// A number that differs as soon as any datagram of the run did.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// How to see this run again, for failures.
    pub fn replay(&self) -> String {
        format!("seed {}, at {:?}", self.seed, self.now)
    }

    fn schedule(&mut self, at: Instant, node: usize, input: Input) {
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, node)));
        self.inputs.insert(self.sequence, input);
    }

    fn feed(&mut self, node: usize, input: Input) {
        if !self.nodes[node].alive {
            return;
        }
        match input {
            Input::Datagram(from, bytes) => self.receive(node, from, &bytes),
            Input::Wake => {
                let at = &mut self.nodes[node];
                // An earlier one came in its place; each that were heard would arm one more.
                if at.wake_at != Some(self.now) {
                    return;
                }
                at.wake_at = None;
                if at.next_timeout().is_some_and(|due| due <= self.now) {
                    at.woken += 1;
                    at.control.handle_timeout(self.now, &mut at.effects);
                    if let Some(sealing) = &mut at.sealing {
                        sealing.links.handle_timeout(self.now);
                    }
                    self.wake_ends(node);
                }
                self.check_erased(node);
            }
        }
        self.carry_out(node);
    }

    /// One datagram through the real opening and the real pump.
    fn receive(&mut self, node: usize, from: SocketAddr, bytes: &[u8]) {
        self.ledger.received(self.now, node, from, bytes);
        let unopened = self.unopened(node);
        self.rx.clear();
        self.tx.clear();
        self.rx.arena_mut()[..bytes.len()].copy_from_slice(bytes);
        let span = Span {
            start: 0,
            len: bytes.len() as u32,
        };
        let path = sealing::path_to(from);
        let stride = span.len;
        self.rx.push(RxMessage {
            span,
            stride,
            path,
            interface: 0,
            truncated: false,
            alone: false,
        });
        let now = self.now;
        let Node {
            control,
            flood,
            counters,
            delivered,
            neighbors,
            pump,
            effects,
            sealing,
            ghosts,
            netid,
            ..
        } = &mut self.nodes[node];
        if let Some(sealing) = sealing {
            sealing.open(now, neighbors, &mut self.rx, counters);
        }
        let mut sink = Deliver {
            now,
            us: *netid,
            control,
            delivered,
            effects,
            ledger: &self.ledger,
            ghosts,
            ending: sealing.as_mut().and_then(|sealing| sealing.ending.as_mut()),
        };
        let scene = Scene {
            flood,
            neighbors,
            counters,
            device_index: 0,
        };
        pump.receive(now, scene, &self.rx, &mut self.tx, &mut sink);
        self.grow(node);
        let waiting: Vec<(Vec<u8>, Option<u16>, Zones)> = self
            .tx
            .items()
            .iter()
            .map(|item| {
                let datagram = item.span.of(self.rx.arena()).to_vec();
                (datagram, item.except, item.zones)
            })
            .collect();
        self.check_opened(node, bytes, unopened);
        for (datagram, except, zones) in waiting {
            self.check_forwarded(node, bytes, &datagram);
            self.check_passed(node, &datagram);
            if let Some(passed) = &mut self.passed {
                passed.push((node, datagram.clone()));
            }
            self.flood_from(node, &datagram, except, zones);
        }
        self.unseal(node);
        // The daemon's driver takes what control was told before what sealed links were.
        self.carry_out(node);
        let at = &mut self.nodes[node];
        if let Some(sealing) = &mut at.sealing {
            sealing.take(now, &at.counters);
        }
        self.end_revoked(node);
    }

    /// Gives the seen table what it wants at once; in the daemon a thread does that.
    fn grow(&self, node: usize) {
        let seen = self.nodes[node].flood.seen();
        if let Some(bytes) = seen.growth_wanted() {
            seen.adopt(self.now, Generation::allocate(self.now, bytes));
        }
    }

    fn flood_from(&mut self, node: usize, datagram: &[u8], except: Option<u16>, zones: Zones) {
        let neighbors = self.nodes[node].neighbors.clone();
        self.send_over(
            node,
            datagram,
            neighbors
                .except(except)
                .map(|(_, link)| link)
                .filter(|link| zones.have(link.open)),
        );
    }

    /// Sends a message to one neighbor, over all its links.
    fn send_to(&mut self, node: usize, datagram: &[u8], netid: NetId) {
        let neighbors = self.nodes[node].neighbors.clone();
        let links = neighbors.links().iter();
        self.send_over(node, datagram, links.filter(|link| link.netid == netid));
    }

    fn send_over<'l>(
        &mut self,
        node: usize,
        datagram: &[u8],
        links: impl Iterator<Item = &'l LinkEntry>,
    ) {
        for link in links {
            let at = &mut self.nodes[node];
            let sealed = match &mut at.sealing {
                None => None,
                Some(_) if link.open => None,
                Some(sealing) => match sealing.seal(self.now, &link.path, datagram) {
                    None => {
                        at.counters.count(DropReason::NoSession);
                        continue;
                    }
                    sealed => sealed,
                },
            };
            link.stats.sent(self.now, 1, datagram.len());
            let whole = link.stats.whole.load(Relaxed) as usize;
            let cut = whole > 0 && datagram.len() > whole;
            if cut {
                link.stats.fragmented.fetch_add(1, Relaxed);
            }
            if sealed.is_some() {
                self.count_data(datagram);
            }
            let (path, whole) = match &sealed {
                Some((path, sealed)) => (path, &**sealed),
                None => (&link.path, datagram),
            };
            self.transmit(node, path.endpoint.remote, whole, cut);
        }
    }

    fn count_data(&mut self, message: &[u8]) {
        if Header::parse(message).is_ok_and(|header| header.kind == Kind::Data) {
            self.traffic.data += 1;
        }
    }

    /// Sends a datagram whole, or `cut`: in fragments, short enough for any wire.
    fn transmit(&mut self, node: usize, to: SocketAddr, datagram: &[u8], cut: bool) {
        self.traffic.sent += 1;
        self.count_data(datagram);
        self.note(node, datagram);
        self.check_sent(node, to, datagram);
        let from = self.nodes[node].address;
        if let Some(tapped) = &mut self.tapped {
            let at = self.now;
            tapped.push(Tapped {
                at,
                from,
                to,
                datagram: datagram.into(),
            });
        }
        let Some(peer) = self.node_at(to) else {
            self.astray.entry(to).or_default().push(datagram.to_vec());
            return;
        };
        let Some(wire) = self.wires.get_mut(&(node, peer)) else {
            return;
        };
        if wire.netem.jams_sealed && datagram.first() == Some(&SEALED_MAGIC) {
            return;
        }
        let longest = if cut { 0 } else { datagram.len() };
        for at in wire.carry(self.now, longest, &mut self.rng) {
            let mut bytes = datagram.to_vec();
            self.wires[&(node, peer)].harm(&mut bytes, &mut self.rng);
            self.schedule(at, peer, Input::Datagram(from, bytes.into()));
        }
    }

    /// Gives `node`'s device what was opened of `origin`.
    fn deliver(&mut self, node: usize, (origin, dst): (NetId, NetId), packet: &[u8]) {
        let now = self.now;
        let at = &mut self.nodes[node];
        let ending = at.sealing.as_mut().and_then(|s| s.ending.as_mut());
        if ending.is_some_and(|ending| !ending.admits(now, origin, packet)) {
            return;
        }
        let whom = (at.netid, origin, dst);
        let is_true = take(whom, packet, &mut at.delivered, &self.ledger);
        at.ghosts += u64::from(!is_true);
    }

    fn node_at(&self, address: SocketAddr) -> Option<usize> {
        self.addresses.get(&address).copied()
    }

    fn carry_out(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        let mut effects = std::mem::take(&mut at.effects);
        let mut deeds = Deeds::default();
        carry_out(self.now, &at.control, &at.flood, &mut effects, &mut deeds);
        at.effects = effects;
        for deed in deeds.list {
            match deed {
                Deed::Send(path, datagram) => self.tell(node, &path, &datagram),
                Deed::Probe(path, datagram) => self.probe(node, &path, &datagram),
                Deed::Flood(datagram) => {
                    *self.nodes[node].flooded.entry(datagram[2]).or_insert(0) += 1;
                    let neighbors = self.nodes[node].neighbors.clone();
                    for link in neighbors.links() {
                        self.say(node, &link.path, &datagram);
                    }
                }
                Deed::Publish(set) => {
                    self.publish(node, set);
                    self.meet_neighbors(node);
                }
                Deed::Event(event) => self.nodes[node].events.push((self.now, event)),
            }
        }
        self.carry_out_sealing(node);
        self.arm(node);
    }

    /// Makes a set of links the one that the pump uses.
    pub(super) fn publish(&mut self, node: usize, set: NeighborSet) {
        let (now, at) = (self.now, &mut self.nodes[node]);
        let set = match &mut at.sealing {
            Some(sealing) => sealing.links.sort(now, set),
            None => set,
        };
        at.neighbors = Arc::new(set);
    }

    /// Sends one datagram of control to an endpoint, dialed or not.
    fn tell(&mut self, node: usize, path: &Path, datagram: &[u8]) {
        let (now, at) = (self.now, &mut self.nodes[node]);
        match &mut at.sealing {
            Some(sealing) if !at.control.is_dialing(&path.endpoint) => {
                sealing.links.reply(now, path, datagram);
            }
            _ => self.say(node, path, datagram),
        }
    }

    /// Sends one datagram of control, sealed where links are.
    fn say(&mut self, node: usize, path: &Path, datagram: &[u8]) {
        match &mut self.nodes[node].sealing {
            Some(sealing) => sealing.links.send(self.now, path, datagram),
            None => self.transmit(node, path.endpoint.remote, datagram, false),
        }
    }

    fn probe(&mut self, node: usize, path: &Path, datagram: &[u8]) {
        let sealed = match &mut self.nodes[node].sealing {
            Some(sealing) => match sealing.links.seal(self.now, path, datagram) {
                None if sealing.links.is_open(&path.endpoint) => None,
                None => return,
                sealed => sealed,
            },
            None => None,
        };
        let (path, whole) = match &sealed {
            Some((path, sealed)) => (path, &**sealed),
            None => (path, datagram),
        };
        self.transmit(node, path.endpoint.remote, whole, false);
    }

    /// Makes sure that the node is woken at its next deadline.
    fn arm(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        let Some(due) = at.next_timeout() else {
            return;
        };
        let due = due.max(self.now);
        if at.wake_at.is_none_or(|armed| due < armed) {
            at.wake_at = Some(due);
            self.schedule(due, node, Input::Wake);
        }
    }

    /// Mixes a datagram into the trace (FNV-1a: no secret, only a witness).
    fn note(&mut self, node: usize, datagram: &[u8]) {
        let time = self.now.0.to_le_bytes();
        let node = (node as u64).to_le_bytes();
        for byte in time.iter().chain(&node).chain(datagram) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Node {
    fn next_timeout(&self) -> Option<Instant> {
        let sealing = self.sealing.as_ref();
        let links = sealing.and_then(|sealing| sealing.links.next_timeout());
        let ending = sealing.and_then(|sealing| sealing.ending.as_ref());
        let ends = ending.and_then(|ending| ending.ends.next_timeout());
        let control = self.control.next_timeout();
        links.into_iter().chain(ends).chain(control).min()
    }
}

/// Takes what the pump hands on: packets are counted, control is called at once.
struct Deliver<'n> {
    now: Instant,
    us: NetId,
    ledger: &'n Ledger,
    ghosts: &'n mut u64,
    control: &'n mut Control,
    delivered: &'n mut BTreeMap<u64, u32>,
    effects: &'n mut Effects,
    ending: Option<&'n mut Ending>,
}

/// Gives a packet to a device, and says whether somebody had sent it, under this name and to here.
fn take(
    (us, origin, dst): (NetId, NetId, NetId),
    packet: &[u8],
    delivered: &mut BTreeMap<u64, u32>,
    ledger: &Ledger,
) -> bool {
    let plain = || packet.get(8..16)?.try_into().ok().map(u64::from_be_bytes);
    let Some(number) = sources::number_of(packet).or_else(plain) else {
        return false;
    };
    *delivered.entry(number).or_insert(0) += 1;
    ledger.is_sent(number, origin, dst) && (dst == us || dst == NetId::ALL)
}

impl Sink for Deliver<'_> {
    fn device(&mut self, packet: Packet, arena: &[u8]) {
        let whom = (self.us, packet.origin, packet.dst);
        let payload = packet.payload.of(arena);
        if let Some(ending) = &mut self.ending
            && !ending.admits(self.now, packet.origin, payload)
        {
            return;
        }
        let is_true = take(whom, payload, self.delivered, self.ledger);
        *self.ghosts += u64::from(!is_true);
    }

    fn admits(&self, link: &LinkEntry, header: &Header) -> bool {
        let stays = header.flags.no_forward() && link.netid == header.src;
        self.ending.is_none() || stays
    }

    fn sealed(&mut self, link: &LinkEntry, packet: Packet, direct: bool) -> bool {
        if let Some(ending) = &mut self.ending {
            ending.note(link.netid, packet, direct);
        }
        self.ending.is_some()
    }

    fn service(&mut self, _link: &LinkEntry, _header: &Header, _payload: &[u8]) {}

    fn control(&mut self, arrival: Arrival, datagram: &[u8]) {
        let Arrival {
            path, duplicate, ..
        } = arrival;
        let arrival = control::Arrival { path, duplicate };
        self.control
            .handle_datagram(self.now, &arrival, datagram, self.effects);
    }

    fn stranger(&mut self, path: Path) {
        self.control.handle_stranger(self.now, &path, self.effects);
    }

    fn conflict(&mut self, path: Path) {
        self.control.handle_conflict(self.now, &path, self.effects);
    }

    fn heard(&mut self, origin: NetId, via: NetId) {
        self.control.handle_heard(self.now, origin, via);
    }
}

enum Deed {
    Send(Path, Vec<u8>),
    Probe(Path, Vec<u8>),
    Flood(Vec<u8>),
    Publish(NeighborSet),
    Event(Event),
}

#[derive(Default)]
struct Deeds {
    list: Vec<Deed>,
}

impl Outlet for Deeds {
    fn send(&mut self, _now: Instant, path: &Path, _link: Option<LinkId>, datagram: &[u8]) {
        self.list.push(Deed::Send(*path, datagram.to_vec()));
    }

    fn probe(&mut self, _now: Instant, path: &Path, _link: LinkId, datagram: &[u8]) {
        self.list.push(Deed::Probe(*path, datagram.to_vec()));
    }

    fn flood(&mut self, _now: Instant, datagram: &[u8]) {
        self.list.push(Deed::Flood(datagram.to_vec()));
    }

    fn publish(&mut self, _now: Instant, neighbors: NeighborSet) {
        self.list.push(Deed::Publish(neighbors));
    }

    fn event(&mut self, _now: Instant, event: Event) {
        self.list.push(Deed::Event(event));
    }
}
