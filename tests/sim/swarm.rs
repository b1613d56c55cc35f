//! Worlds put together by chance, faults and attackers switched on by chance: the laws hold in all.
//!
//! Each seed draws a graph, a netem for each wire, who is sealed and who is not, and a program of
//! deeds (SECURITY 4.1, "swarm selection"). What must hold at every datagram is checked while the
//! world runs; after ten quiet minutes of virtual time all members reach each other again and no
//! table has kept anything.

use std::net::SocketAddr;

use overlay::id::NetId;
use overlay::time::Duration;
use overlay_tests::world::attacker::Forger;
use overlay_tests::world::{Choices, Graph, Netem, World};
use wire::{Flags, Kind, emit_control};

use crate::seeds;

const SECOND: Duration = Duration::from_secs(1);
/// Deeds of one world.
const DEEDS: usize = 150;

#[test]
fn any_sealed_world_keeps_the_laws_and_heals() {
    for seed in seeds(6, 3_000) {
        let mut swarm = Swarm::new(seed);
        for _ in 0..DEEDS {
            swarm.deed();
        }
        swarm.heal();
    }
}

struct Swarm {
    world: World,
    graph: Graph,
    chance: Forger,
    moves: u8,
}

impl Swarm {
    fn new(seed: u64) -> Self {
        let mut chance = Forger::new(seed ^ 0x5eed);
        let nodes = 2 + chance.below(6);
        let graph = match chance.below(5) {
            0 => Graph::line(nodes),
            1 => Graph::ring(nodes.max(3)),
            2 => Graph::star(nodes),
            3 => Graph::full(nodes),
            _ => Graph::random(nodes.max(4), 3, seed),
        };
        let mut world = World::new(&graph, Netem::default(), &Choices::sealed(), seed);
        for &(a, b) in &graph.edges {
            let netem = drawn_netem(&mut chance);
            world.set_netem(a, b, |at| *at = netem);
        }
        world.tapped = Some(Vec::new());
        Self {
            world,
            graph,
            chance,
            moves: 0,
        }
    }

    fn node(&mut self) -> usize {
        self.chance.below(self.graph.nodes)
    }

    /// One thing happens, and up to three seconds pass.
    fn deed(&mut self) {
        let node = self.node();
        match self.chance.below(16) {
            0 if self.world.nodes[node].alive => self.world.kill(node),
            0..=2 if !self.world.nodes[node].alive => self.world.restart(node),
            3 => {
                let edge = self.chance.below(self.graph.edges.len());
                let is_cut = self.chance.below(2) == 0;
                if let Some(&(a, b)) = self.graph.edges.iter().nth(edge) {
                    self.world.set_netem(a, b, |netem| netem.cut = is_cut);
                }
            }
            4 => {
                self.moves += 1;
                let address = SocketAddr::from(([10, 99, self.moves, 1], 44_204));
                self.world.rebind(node, address);
            }
            5 => self.outsider(node),
            6 => self.insider(node),
            7 | 8 => self.replayer(),
            9 => self.world.run_for(SECOND * self.chance.below(60) as u32),
            _ => {
                for _ in 0..10 {
                    let (from, to) = (self.node(), self.node());
                    if self.world.nodes[from].alive {
                        let dst = [NetId::ALL, self.world.nodes[to].netid][to % 2];
                        self.world.send(from, dst);
                    }
                }
            }
        }
        let pause = Duration::from_millis(self.chance.below(3_000) as u64);
        self.world.run_for(pause);
    }

    /// Somebody without keys: what he made up changes nothing (S11).
    fn outsider(&mut self, node: usize) {
        let far = self.node();
        let from = self.world.nodes[far].address;
        for n in 0..20 {
            let recorded = self.recorded();
            let forged = match n % 5 {
                0 => self.chance.init(),
                1 => self.chance.link(n, u64::from(n), 100),
                2 => {
                    let src = self.world.nodes[far].netid;
                    let kind = [Kind::Hello, Kind::Goodbye, Kind::Data][n as usize % 3];
                    emit_control(kind, Flags::NONE, n, src, NetId::ALL).to_vec()
                }
                3 => self.chance.cut(&recorded),
                // Of a LINK; an INIT with another mac2 is an INIT.
                _ if recorded.get(1) == Some(&5) => self.chance.flipped(&recorded),
                _ => continue,
            };
            let changed = self.world.touch(node, from, &forged);
            assert!(!changed, "{}: {forged:02x?}", self.world.replay());
        }
    }

    /// A member that says anything to a neighbor.
    fn insider(&mut self, node: usize) {
        let to = self.node();
        let (us, them) = (self.world.nodes[node].netid, self.world.nodes[to].netid);
        for n in 0..20 {
            let kind = Kind::from([1, 2, 3, 4, 5, 6, 0x10][self.chance.below(7)]);
            let flags = [Flags::NONE, Flags::NO_FORWARD][self.chance.below(2)];
            let src = [us, them, NetId(0xbad)][self.chance.below(3)];
            let dst = [NetId::ANY, NetId::ALL, them, NetId(0xbad)][self.chance.below(4)];
            // Data under another's name is what insiders can do on links (SECURITY T4); ends are not
            // simulated, so that it would be delivered.
            let message = emit_control(kind, flags, n, src, dst);
            if node != to && self.world.nodes[node].alive {
                self.world.say_sealed(node, to, &message);
            }
        }
    }

    /// Recorded traffic, old and new, once more: nothing is delivered twice (S1).
    fn replayer(&mut self) {
        for _ in 0..20 {
            let tapped = self.world.tapped.as_ref().map_or(&[][..], Vec::as_slice);
            if tapped.is_empty() {
                return;
            }
            let one = tapped[self.chance.below(tapped.len())].clone();
            self.world.play(&[one]);
        }
    }

    fn recorded(&mut self) -> Vec<u8> {
        let tapped = self.world.tapped.as_ref().map_or(&[][..], Vec::as_slice);
        match tapped.len() {
            0 => vec![0xae],
            len => tapped[self.chance.below(len)].datagram.to_vec(),
        }
    }

    /// All faults end: links are back (V2), everybody reaches everybody (V1), tables are as small as
    /// before (V3), and it is quiet (V5).
    fn heal(&mut self) {
        let world = &mut self.world;
        for &(a, b) in &self.graph.edges {
            world.set_netem(a, b, |netem| *netem = Netem::default());
        }
        for node in 0..self.graph.nodes {
            if !world.nodes[node].alive {
                world.restart(node);
            }
            world.resolve(node);
        }
        world.tapped = None;
        world.run_until_connected(65 * SECOND);
        world.run_for(600 * SECOND);
        for from in 0..self.graph.nodes {
            let number = world.send(from, NetId::ALL);
            world.run_for(SECOND);
            for node in 0..self.graph.nodes {
                let times = world.deliveries(node, number);
                assert_eq!(times, u32::from(node != from), "{}", world.replay());
            }
        }
        let woken: Vec<u64> = world.nodes.iter().map(|node| node.woken).collect();
        world.run_for(60 * SECOND);
        for (node, woken) in woken.into_iter().enumerate() {
            let at = &world.nodes[node];
            let neighbors = self.graph.nodes as u64;
            let times = at.woken - woken;
            assert!(
                times <= 60 * 3 * neighbors,
                "{}: {times} wakes",
                world.replay()
            );
            let held = at
                .sealing
                .as_ref()
                .map_or((0, 0), |sealing| sealing.links.held());
            // One endpoint each, and as many again for rumours and former addresses.
            assert!(
                held.0 <= 2 * self.graph.nodes && held.1 <= held.0 * 6,
                "{}: {held:?} held",
                world.replay()
            );
        }
        world.check();
    }
}

/// One wire's faults: none, or some.
fn drawn_netem(chance: &mut Forger) -> Netem {
    let mut netem = Netem::default();
    if chance.below(2) == 0 {
        return netem;
    }
    netem.latency = Duration::from_millis(1 + chance.below(200) as u64);
    for _ in 0..2 {
        match chance.below(6) {
            0 => netem.loss = chance.below(300) as u32,
            1 => (netem.loss, netem.burst) = (30, 700),
            2 => netem.duplicate = chance.below(500) as u32,
            3 => netem.jitter = Duration::from_millis(chance.below(2_000) as u64),
            4 => netem.corrupt = chance.below(100) as u32,
            _ => netem.truncate = chance.below(50) as u32,
        }
    }
    netem
}
