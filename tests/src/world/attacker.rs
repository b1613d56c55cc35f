//! What an attacker has: recordings of the wires, forged datagrams, and the result of trying.

use std::net::SocketAddr;

use overlay::time::{Duration, Instant};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use wire::sealed::{COOKIE_LEN, INIT_LEN, SEALED_MAGIC};

use super::World;

/// One datagram as it left.
#[derive(Clone, Debug)]
pub struct Tapped {
    /// When.
    pub at: Instant,
    /// From which address.
    pub from: SocketAddr,
    /// To which.
    pub to: SocketAddr,
    /// The whole of it.
    pub datagram: Box<[u8]>,
}

impl World {
    /// Listens to all wires for `duration`.
    pub fn record(&mut self, duration: Duration) -> Vec<Tapped> {
        self.tapped = Some(Vec::new());
        self.run_for(duration);
        self.tapped.take().unwrap_or_default()
    }

    /// Lets what was recorded arrive once more, in the order in which it was sent, each from where
    /// it came from then, and a millisecond apart.
    pub fn play(&mut self, recording: &[Tapped]) {
        for tapped in recording {
            if let Some(node) = self.node_at(tapped.to) {
                self.inject(node, tapped.from, &tapped.datagram);
            }
            self.run_for(Duration::from_millis(1));
        }
    }

    /// What an outsider must not be able to change of a node: whom it knows, its sessions, and
    /// what its device was given.
    pub fn standing(&self, node: usize) -> Standing {
        let at = &self.nodes[node];
        let sessions = at.sealing.as_ref().map(|sealing| {
            let paths = self
                .nodes
                .iter()
                .map(|far| super::sealing::path_to(far.address));
            let seals = paths.map(|path| {
                let session = sealing.links.sessions().seals(&path.endpoint);
                session.map(|seals| (seals.session.local_index(), seals.session.remote_index()))
            });
            seals.collect()
        });
        Standing {
            links: at.control.links().count(),
            candidates: at.control.candidates().count(),
            remotes: at.control.remotes().count(),
            delivered: at.delivered.values().copied().sum(),
            events: at.events.len(),
            sessions,
        }
    }
}

/// See [`World::standing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Live links.
    pub links: usize,
    /// Endpoints that await proof.
    pub candidates: usize,
    /// Nodes known of.
    pub remotes: usize,
    /// Packets given to the device.
    pub delivered: u32,
    /// What was told.
    pub events: usize,
    /// Indices of the session that seals for each other node; `None` in plain.
    pub sessions: Option<Vec<Option<(u32, u32)>>>,
}

/// Makes up datagrams without any key.
pub struct Forger(ChaCha8Rng);

impl Forger {
    /// One forger for each seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.next_u32() as usize % bound
    }

    /// An INIT in form, with macs out of the air.
    pub fn init(&mut self) -> Vec<u8> {
        const NOISE: usize = 56;
        let mut datagram = vec![0; INIT_LEN];
        self.0.fill_bytes(&mut datagram[4..10 + NOISE + 32]);
        datagram[..4].copy_from_slice(&[SEALED_MAGIC, 1, 1, 1]);
        datagram[8..10].copy_from_slice(&(NOISE as u16).to_be_bytes());
        datagram
    }

    /// A COOKIE in form for a receiver index.
    pub fn cookie(&mut self, index: u32) -> Vec<u8> {
        let mut datagram = vec![0; COOKIE_LEN];
        self.0.fill_bytes(&mut datagram);
        datagram[..4].copy_from_slice(&[SEALED_MAGIC, 4, 0, 0]);
        datagram[4..8].copy_from_slice(&index.to_be_bytes());
        datagram
    }

    /// A LINK in form for a receiver index, of `len` bytes.
    pub fn link(&mut self, index: u32, counter: u64, len: usize) -> Vec<u8> {
        let mut datagram = vec![0; len.max(32)];
        self.0.fill_bytes(&mut datagram);
        datagram[..4].copy_from_slice(&[SEALED_MAGIC, 5, 0, 0]);
        datagram[4..8].copy_from_slice(&index.to_be_bytes());
        datagram[8..16].copy_from_slice(&counter.to_be_bytes());
        datagram
    }

    /// The same datagram with one bit flipped.
    pub fn flipped(&mut self, datagram: &[u8]) -> Vec<u8> {
        let mut spoilt = datagram.to_vec();
        let bit = self.below(spoilt.len() * 8);
        spoilt[bit / 8] ^= 1 << (bit % 8);
        spoilt
    }

    /// The same datagram, shorter.
    pub fn cut(&mut self, datagram: &[u8]) -> Vec<u8> {
        datagram[..self.below(datagram.len())].to_vec()
    }
}
