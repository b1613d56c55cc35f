//! A node's sealed links, joined to its pump and its control plane as the daemon joins them.
//!
//! ```text
//!  datagram ──> open ──> pump ──> control ──> Links::send ──┐
//!                 └── handshakes, notices ──> take ─────────┴──> wishes ──> wires
//! ```

use overlay::id::{Endpoint, NetId, Path, SocketId};
use overlay::keyed::KeyedHasher;
use overlay::node::snapshot::NeighborSet;
use overlay::node::zone::OpenZone;
use overlay::pump::count::{Counters, DropReason};
use overlay::pump::rx::RxBatch;
use overlay::seal::authority::Authority;
use overlay::seal::effect::Owned;
use overlay::seal::identity::Identity;
use overlay::seal::keys::{Key, MeshSecret};
use overlay::seal::links::{Links, Notice, Wish};
use overlay::seal::local::Local;
use overlay::seal::members::Members;
use overlay::seal::opening::{Opening, Porter};
use overlay::seal::peer::Timers;
use overlay::seal::policies::{PeerMode, Policies};
use overlay::seal::prefer::{Latches, Prefer};
use overlay::time::Instant;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use std::net::SocketAddr;
use wire::sealed::{Certificate, Control, Frame, Frames, Revoked};

use super::World;
use super::ends::Ending;

/// One node's part in sealed links.
pub struct Sealing {
    /// The real machine.
    pub links: Links,
    /// What it told its owner.
    pub notices: Vec<(Instant, Notice)>,
    /// What it seals for other ends; `None` where links alone are looked at.
    pub ending: Option<Ending>,
    opening: Opening,
    handed: Vec<Handed>,
}

/// What a worker hands to the driver.
enum Handed {
    Handshake(Path, Box<[u8]>),
    Confirmed(u32),
    Control(u32, (Path, usize), Owned),
    Elsewhere(u32, Path, usize),
    /// A control about revocation lists, as it was framed.
    List(u32, Vec<u8>),
}

/// What certificates of these worlds are good for, in seconds since 1970.
const WALL: u64 = 1_700_000_000;

/// Who signs certificates in worlds that have any.
pub fn authority() -> Authority {
    let mesh_id = MeshSecret::new([1; 32]).derive().mesh_id;
    Authority::new(mesh_id, &Key::new([0x77; 32]))
}

/// What shuts node `number` out.
pub fn revoked(number: usize) -> Revoked {
    Revoked {
        serial: number as u64 + 1,
        static_key: [0; 32],
        not_after: WALL + 1_000,
    }
}

/// Gives a node a certificate of its own, and nothing else to go by.
fn certify(local: &mut Local, number: usize, (rights, rate_class): (u16, u8)) -> Members {
    let (s, v) = (*local.identity.public(), local.identity.signing_public());
    let mut fields = Certificate::of(local.keys.mesh_id, local.netid, s, v);
    (fields.serial, fields.not_after) = (revoked(number).serial, WALL + 1_000);
    (fields.rights, fields.rate_class) = (rights, rate_class);
    local.certificate = authority().sign(&fields, &[]);
    local.authority = Some(authority().public());
    let mut members = Members::default().certified();
    members.set_wall(WALL);
    members
}

/// The keys of node `number`: the same after each start.
pub fn identity_of(number: usize) -> Identity {
    let mut key = [0x5a; 32];
    // Not in the first or last byte, some bits of which X25519 does not look at.
    key[8..16].copy_from_slice(&(number as u64).to_le_bytes());
    let mut signing = key;
    signing[31] = 0xa5;
    Identity::new(Key::new(key), &Key::new(signing))
}

/// The path to an address through a node's only socket.
pub fn path_to(remote: SocketAddr) -> Path {
    Path::to(Endpoint::new(SocketId(0), remote))
}

impl Sealing {
    /// A member of the mesh whose secret is 32 times `secret`, at its start number `starts`. Every
    /// other one has AES instructions, so that both AEADs are used.
    pub(super) fn new(
        now: Instant,
        secret: u8,
        number: usize,
        netid: NetId,
        starts: u64,
        (seed, ends, grant): ([u8; 32], bool, Option<(u16, u8)>),
    ) -> Self {
        let keys = MeshSecret::new([secret; 32]).derive();
        let mut local = Local::new(
            keys,
            identity_of(number),
            netid,
            starts << 32,
            number.is_multiple_of(2),
        );
        let members = match grant {
            Some(grant) => certify(&mut local, number, grant),
            None => Members::default(),
        };
        let ending = ends.then(|| Ending::new(&local, seed));
        let hasher = KeyedHasher(seed[0].into(), seed[1].into());
        let random = ChaCha12Rng::from_seed(seed);
        Self {
            links: Links::new(now, local, Timers::default(), hasher, random).admitting(members),
            notices: Vec::new(),
            ending,
            opening: Opening::default(),
            handed: Vec::new(),
        }
    }

    /// The same where it prefers sealed links, and remembers these latches.
    #[must_use]
    pub(super) fn preferring(mut self, zone: OpenZone, latches: Latches) -> Self {
        let prefer = Prefer::new(latches, std::iter::empty(), zone);
        self.links = self.links.preferring(prefer);
        self
    }

    /// The worker's half: what was received becomes what a plain node would have received.
    pub(super) fn open(
        &mut self,
        now: Instant,
        neighbors: &NeighborSet,
        rx: &mut RxBatch,
        counters: &Counters,
    ) {
        let mut porter = Hand(&mut self.handed);
        let sessions = self.links.sessions();
        self.opening
            .open(now, sessions, (neighbors, 0), rx, counters, &mut porter);
    }

    /// The driver's half: what the worker handed over goes to the machine.
    pub(super) fn take(&mut self, now: Instant, counters: &Counters) {
        for handed in self.handed.drain(..) {
            match handed {
                Handed::Handshake(path, datagram) => {
                    if !self.links.handle(now, &path, &datagram, 0) {
                        counters.count(DropReason::Handshake);
                    }
                }
                Handed::Confirmed(index) => self.links.handle_confirmed(now, index),
                Handed::Control(index, (from, len), control) => {
                    self.links
                        .handle_control(now, index, (&from, len), &control.control());
                }
                Handed::Elsewhere(index, from, len) => {
                    self.links.handle_elsewhere(now, index, &from, len);
                }
                Handed::List(index, frame) => {
                    if let Some(Ok(Frame::Control(control))) = Frames::new(&frame).next() {
                        self.links.handle_list(now, index, &control);
                    }
                }
            }
        }
    }

    /// Seals a message for one link, as the sender does; `None` without a session.
    pub(super) fn seal(
        &self,
        now: Instant,
        path: &Path,
        message: &[u8],
    ) -> Option<(Path, Box<[u8]>)> {
        self.links.seal(now, path, message)
    }
}

impl World {
    /// Carries out what a node's sealed links want.
    pub(super) fn carry_out_sealing(&mut self, node: usize) {
        let Some(sealing) = &mut self.nodes[node].sealing else {
            return;
        };
        let wishes: Vec<Wish> = sealing.links.drain().collect();
        if wishes.iter().any(|wish| matches!(wish, Wish::Publish)) {
            // With sessions the zones of links change.
            let set = self.nodes[node].control.neighbors();
            self.publish(node, set);
        }
        for wish in wishes {
            match wish {
                Wish::Send(path, datagram) => {
                    self.transmit(node, path.endpoint.remote, &datagram, false);
                }
                // Nobody but the simulator's one thread looks at the sessions.
                Wish::Publish => {}
                Wish::Notice(_, notice) => {
                    let now = self.now;
                    if let Some(sealing) = &mut self.nodes[node].sealing {
                        sealing.notices.push((now, notice));
                    }
                }
            }
        }
    }

    /// Gives a node a revocation list, as its owner would.
    ///
    /// # Panics
    /// When it does not take it.
    pub fn publish_list(&mut self, node: usize, number: u64, entries: &[Revoked]) {
        let list = authority().revoke(number, entries);
        let now = self.now;
        let sealing = self.nodes[node].sealing.as_mut();
        let taken = sealing
            .zip(list)
            .map(|(s, list)| s.links.take_list(now, list));
        assert_eq!(taken, Some(Ok(())), "{}", self.replay());
        self.end_revoked(node);
        self.carry_out_sealing(node);
    }

    /// Gives the named peers of a node these modes, as its owner does by a start or a reload.
    pub fn set_modes(&mut self, node: usize, mode_of: fn(usize, usize) -> PeerMode) {
        let at = &self.nodes[node];
        let peers = at.named.iter();
        let modes = peers.map(|peer| (mode_of(node, *peer), [self.nodes[*peer].address]));
        let modes: Vec<_> = modes.collect();
        let policies = Policies::new(modes.iter().map(|(mode, places)| (*mode, &places[..])));
        if let Some(sealing) = &mut self.nodes[node].sealing {
            sealing.links.set_policies(policies);
        }
        self.carry_out_sealing(node);
    }

    /// Gives a node the secrets that it has from now on: this one, and perhaps the next.
    pub fn set_secrets(&mut self, node: usize, current: &MeshSecret, next: Option<&MeshSecret>) {
        let now = self.now;
        if let Some(sealing) = &mut self.nodes[node].sealing {
            let next = next.map(MeshSecret::derive);
            sealing.links.set_secrets(now, current.derive(), next);
        }
        self.carry_out_sealing(node);
        self.arm(node);
    }

    /// Lets a node that prefers sealed links insist on them from now on.
    pub fn insist(&mut self, node: usize) {
        if let Some(sealing) = &mut self.nodes[node].sealing {
            sealing.links.insist();
        }
        self.carry_out_sealing(node);
    }

    /// Lets `node` say any message over its link to `to`, as an insider may that keeps to no rule.
    /// Says whether there was a session to say it on.
    pub fn say_sealed(&mut self, node: usize, to: usize, message: &[u8]) -> bool {
        let path = path_to(self.nodes[to].address);
        let sealing = self.nodes[node].sealing.as_ref();
        let sealed = sealing.and_then(|sealing| sealing.seal(self.now, &path, message));
        if let Some((path, datagram)) = &sealed {
            self.transmit(node, path.endpoint.remote, datagram, false);
        }
        sealed.is_some()
    }

    /// Whether `node` has a session that seals for `to`.
    pub fn is_sealed(&self, node: usize, to: usize) -> bool {
        let path = path_to(self.nodes[to].address);
        let sealing = self.nodes[node].sealing.as_ref();
        sealing.is_some_and(|sealing| sealing.links.sessions().seals(&path.endpoint).is_some())
    }
}

struct Hand<'h>(&'h mut Vec<Handed>);

impl Porter for Hand<'_> {
    fn handshake(&mut self, path: Path, datagram: &[u8]) {
        self.0.push(Handed::Handshake(path, datagram.into()));
    }

    fn confirmed(&mut self, index: u32) {
        self.0.push(Handed::Confirmed(index));
    }

    fn frame(&mut self, index: u32, by: (Path, usize), control: &Control<'_>) {
        if let Control::ListNumber(_) | Control::ListRequest(..) | Control::ListPiece(_) = control {
            let frame = Frame::Control(*control);
            let mut bytes = vec![0; frame.len()];
            if frame.emit(&mut bytes).is_some() {
                self.0.push(Handed::List(index, bytes));
            }
        } else if let Some(owned) = Owned::of(control) {
            self.0.push(Handed::Control(index, by, owned));
        }
    }

    fn elsewhere(&mut self, index: u32, from: Path, len: usize) {
        self.0.push(Handed::Elsewhere(index, from, len));
    }
}
