//! What workers know of sealed links and of other ends: which session opens what comes, and which seals what goes.
//!
//! Built by the driver when sessions come and go, read whole by workers, like the
//! [`NeighborSet`](crate::node::snapshot::NeighborSet).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use wire::sealed::endtoend;

use crate::id::{Endpoint, NetId, Path};
use crate::keyed::KeyedHasher;
use crate::node::zone::OpenZone;
use crate::pump::count::DropReason;
use crate::seal::allowance::Allowance;
use crate::seal::gate::Gate;
use crate::seal::session::{OpenError, Session};
use crate::time::Instant;

/// A session that opens, and whose it is.
#[derive(Clone, Debug)]
pub struct Opens {
    /// The session.
    pub session: Arc<Session>,
    /// The endpoint that it counts for, wherever its datagrams come from.
    pub path: Path,
    /// Where they come from, as far as is known.
    pub from: Endpoint,
    /// Who the handshake proved to be there.
    pub netid: NetId,
    /// What its certificate lets it do (S38); everything without one.
    pub rights: u16,
    /// What of its own its certificate lets it send (S106); `None` for as much as it likes.
    pub allowance: Option<Arc<Allowance>>,
}

/// A session that seals, and where to.
#[derive(Clone, Debug)]
pub struct Seals {
    /// The session.
    pub session: Arc<Session>,
    /// Where its endpoint is now (S53).
    pub path: Path,
    /// Who the handshake proved to be there.
    pub netid: NetId,
}

/// A session with another end that opens, and whose it is.
#[derive(Clone, Debug)]
pub struct EndOpens {
    /// The session.
    pub session: Arc<Session>,
    /// Who the handshake proved to be there.
    pub netid: NetId,
}

/// All sessions with other ends at one moment.
#[derive(Clone, Debug)]
pub struct EndSet {
    opening: HashMap<u32, EndOpens, KeyedHasher>,
    sealing: HashMap<NetId, Arc<Session>, KeyedHasher>,
    open: HashSet<NetId, KeyedHasher>,
}

impl EndSet {
    /// A set without sessions.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self {
            opening: HashMap::with_hasher(hasher),
            sealing: HashMap::with_hasher(hasher),
            open: HashSet::with_hasher(hasher),
        }
    }

    /// Whether Data for a node goes in clear, to the open zone alone: it is of that, and does not
    /// speak sealed (S89).
    pub fn is_open(&self, dst: NetId) -> bool {
        self.open.contains(&dst)
    }

    pub(crate) fn set_open(&mut self, dst: NetId, is_open: bool) {
        match is_open {
            true => drop(self.open.insert(dst)),
            false => drop(self.open.remove(&dst)),
        }
    }

    /// What opens a payload of `src` with this receiver index.
    pub fn opens(&self, src: NetId, index: u32) -> Option<&Arc<Session>> {
        let opens = self.opening.get(&index)?;
        (opens.netid == src).then_some(&opens.session)
    }

    /// Opens an E-DATA of `src` to `dst` in place; gives the session's index if it is the first one there,
    /// and the length of what was inside, which begins behind the header.
    ///
    /// State: the session notes what it opened and when; nothing changes where it does not open.
    ///
    /// # Errors
    /// `Malformed`, `UnknownSession`, `Replayed`, `Forged`.
    pub fn open_data(
        &self,
        now: Instant,
        (src, dst): (NetId, NetId),
        payload: &mut [u8],
    ) -> Result<(Option<u32>, usize), DropReason> {
        let header = endtoend::parse_data(payload).map_err(|_| DropReason::Malformed)?;
        let session = self
            .opens(src, header.receiver)
            .ok_or(DropReason::UnknownSession)?;
        let opened = session
            .open_data(src, dst, payload)
            .map_err(OpenError::reason)?;
        session.note_heard(now, true);
        let index = opened.is_first.then_some(header.receiver);
        Ok((index, opened.plaintext.len()))
    }

    /// What seals for this node.
    pub fn seals(&self, dst: NetId) -> Option<&Arc<Session>> {
        self.sealing.get(&dst)
    }

    /// How many nodes can be sealed for.
    pub fn len(&self) -> usize {
        self.sealing.len()
    }

    /// Whether none can.
    pub fn is_empty(&self) -> bool {
        self.sealing.is_empty()
    }

    /// From now on a session opens.
    pub fn open(&mut self, opens: EndOpens) {
        self.opening.insert(opens.session.local_index(), opens);
    }

    /// It opens no more.
    pub fn close(&mut self, index: u32) {
        self.opening.remove(&index);
    }

    /// From now on this session seals for a node, or none.
    pub fn seal(&mut self, dst: NetId, session: Option<Arc<Session>>) {
        match session {
            Some(session) => drop(self.sealing.insert(dst, session)),
            None => drop(self.sealing.remove(&dst)),
        }
    }
}

/// All sessions at one moment.
#[derive(Clone, Debug)]
pub struct SessionSet {
    opening: HashMap<u32, Opens, KeyedHasher>,
    sealing: HashMap<Endpoint, Seals, KeyedHasher>,
    open_zone: Option<Arc<OpenZone>>,
    gate: Option<Arc<Gate>>,
}

impl SessionSet {
    /// A set without sessions.
    pub fn new(hasher: KeyedHasher) -> Self {
        Self {
            opening: HashMap::with_hasher(hasher),
            sealing: HashMap::with_hasher(hasher),
            open_zone: None,
            gate: None,
        }
    }

    /// By what plain datagrams are taken; `None` where none are.
    pub fn open_zone(&self) -> Option<&OpenZone> {
        self.open_zone.as_deref()
    }

    /// From now on plain datagrams are taken by this, or not at all.
    pub(crate) fn set_open_zone(&mut self, zone: Option<Arc<OpenZone>>) {
        self.open_zone = zone;
    }

    /// What handshakes have to pass; `None` where all do.
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.as_deref()
    }

    /// From now on handshakes have to pass this.
    pub(crate) fn set_gate(&mut self, gate: Gate) {
        self.gate = Some(Arc::new(gate));
    }

    /// What opens a datagram with this receiver index (S8).
    pub fn opens(&self, index: u32) -> Option<&Opens> {
        self.opening.get(&index)
    }

    /// What seals for this endpoint.
    pub fn seals(&self, endpoint: &Endpoint) -> Option<&Seals> {
        self.sealing.get(endpoint)
    }

    /// How many endpoints can be sealed for.
    pub fn len(&self) -> usize {
        self.sealing.len()
    }

    /// Whether none can.
    pub fn is_empty(&self) -> bool {
        self.sealing.is_empty()
    }

    pub(crate) fn open(&mut self, opens: Opens) {
        self.opening.insert(opens.session.local_index(), opens);
    }

    pub(crate) fn close(&mut self, index: u32) {
        self.opening.remove(&index);
    }

    pub(crate) fn seal(&mut self, endpoint: Endpoint, seals: Option<Seals>) {
        match seals {
            Some(seals) => drop(self.sealing.insert(endpoint, seals)),
            None => drop(self.sealing.remove(&endpoint)),
        }
    }

    /// What counts for this endpoint goes to `path` from now on, and is expected from there.
    pub(crate) fn redirect(&mut self, endpoint: Endpoint, path: Path) {
        if let Some(seals) = self.sealing.get_mut(&endpoint) {
            seals.path = path;
        }
        for opens in self.opening.values_mut() {
            if opens.path.endpoint == endpoint {
                opens.from = path.endpoint;
            }
        }
    }
}
