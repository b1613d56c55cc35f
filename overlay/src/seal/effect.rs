//! What a peer wants done. Filled by every call, drained by the driver; reused, never freed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use rand_core::Rng;
use wire::NetId;
use wire::sealed::Control;

use crate::seal::handshake::HandshakeError;
use crate::seal::local::Local;
use crate::seal::members::{Claim, Refusal};
use crate::seal::payload::Remote;
use crate::seal::session::Session;
use crate::time::Instant;

/// One endpoint's machine, as the driver numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u32);

/// What every call of a peer is given.
pub struct Turn<'t> {
    /// By a clock that does not stop in suspend.
    pub now: Instant,
    /// This node.
    pub local: &'t Local,
    /// Why somebody may not come up, if so (S34, S76).
    pub refuses: &'t dyn Fn(&Claim<'_>) -> Option<Refusal>,
    /// A cryptographic generator: seeds, indices, challenges, jitter.
    pub random: &'t mut dyn Rng,
    /// All indices of this node.
    pub indices: &'t mut Indices,
    /// Where wishes go.
    pub effects: &'t mut Effects,
}

/// One thing to do, in order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a handshake datagram to the peer's endpoint.
    Send(Box<[u8]>),
    /// Seal a control frame with the session, send it, and note that on the session. Between two
    /// ends it is always a keepalive, and that is an E-DATA of an empty payload.
    Control(Arc<Session>, Owned),
    /// LINK datagrams may come for this session from now on: enter it by its local index.
    Open {
        /// The session.
        session: Arc<Session>,
        /// The netid that its handshake proved, as far as a key can.
        netid: NetId,
        /// What its certificate lets it do (S38); everything without one.
        rights: u16,
        /// How much of its own its certificate lets it send (S106).
        rate_class: u8,
    },
    /// None may come any more: drop every reference to the session of this local index.
    Close(u32),
    /// Seal what goes to this peer with this session from now on; with none, let it wait (S48).
    Use(Option<Arc<Session>>),
    /// Tell whoever wants to know.
    Event(Event),
}

/// A control frame that owns its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// Says that we live.
    Keepalive,
    /// To be sent back.
    PathChallenge([u8; 8]),
    /// What was sent.
    PathResponse([u8; 8]),
    /// To be answered by the next; what it was filled with is gone.
    SizeProbe,
    /// The length of the datagram that carried a probe.
    SizeSeen(u16),
    /// We leave; why.
    Close(u8),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first session with this peer; who it is.
    Up(Box<Remote>),
    /// A further session took over; what the peer tells of itself may have changed.
    Rekeyed(Box<Remote>),
    /// No session is left.
    Down(Gone),
    /// An informed endpoint did not answer and is not dialed any more.
    GaveUp,
    /// A handshake datagram for us was refused.
    Refused(HandshakeError),
    /// A handshake ended with a node that may not come up. Nothing has changed by it, unless a session
    /// with this node was up: that has ended.
    NotAdmitted {
        /// The netid that it goes by.
        netid: NetId,
        /// Its key.
        static_key: [u8; 32],
        /// Why.
        why: Refusal,
    },
    /// A handshake ended with another key while a session is up: refused (S51).
    OtherKey {
        /// The netid that it goes by.
        netid: NetId,
        /// The key.
        static_key: [u8; 32],
    },
}

/// Why a peer is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Nothing opened for 30 s.
    Silent,
    /// The last session's time was over and no other had come up.
    Expired,
    /// We left.
    Left,
}

/// What a call of a peer leaves to be done.
pub type Effects = crate::effects::Effects<Effect>;

impl Effects {
    /// Tells of something.
    pub fn event(&mut self, event: Event) {
        self.push(Effect::Event(event));
    }
}

impl Owned {
    /// What is worth owning of a frame that was received.
    pub const fn of(control: &Control<'_>) -> Option<Self> {
        Some(match control {
            Control::PathChallenge(bytes) => Self::PathChallenge(*bytes),
            Control::PathResponse(bytes) => Self::PathResponse(*bytes),
            Control::SizeProbe(_) => Self::SizeProbe,
            Control::Close(reason) => Self::Close(*reason),
            _ => return None,
        })
    }

    /// The frame, to be written.
    pub const fn control(&self) -> Control<'static> {
        match *self {
            Self::Keepalive => Control::Keepalive,
            Self::PathChallenge(bytes) => Control::PathChallenge(bytes),
            Self::PathResponse(bytes) => Control::PathResponse(bytes),
            Self::SizeProbe => Control::SizeProbe(&[]),
            Self::SizeSeen(len) => Control::SizeSeen(len),
            Self::Close(reason) => Control::Close(reason),
        }
    }
}

/// Which indices are given out, and whose they are: how a datagram finds its peer (S8).
#[derive(Debug, Default)]
pub struct Indices {
    owners: BTreeMap<u32, PeerId>,
    /// For workers, where they look.
    given: Option<Arc<Given>>,
}

/// Which indices may be given out, for workers: what names another one is for nobody. One of 65,536 bytes
/// counts all indices that begin alike, so few are taken for given that are not, and none the other way.
pub struct Given(Box<[AtomicU8]>);

impl Default for Given {
    fn default() -> Self {
        Self((0..=u16::MAX).map(|_| AtomicU8::new(0)).collect())
    }
}

impl Given {
    /// Whether an index may be given out. Calls: from any thread.
    pub fn has(&self, index: u32) -> bool {
        self.place(index).load(Relaxed) > 0
    }

    /// Calls: these two by one owner. A count that is full stays so.
    fn add(&self, index: u32) {
        let place = self.place(index);
        place.store(place.load(Relaxed).saturating_add(1), Relaxed);
    }

    fn remove(&self, index: u32) {
        let place = self.place(index);
        let count = place.load(Relaxed);
        if count < u8::MAX {
            place.store(count.saturating_sub(1), Relaxed);
        }
    }

    fn place(&self, index: u32) -> &AtomicU8 {
        &self.0[(index >> 16) as usize]
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Given(..)")
    }
}

impl Indices {
    /// The same, noted in `given` too.
    pub fn watched(given: Arc<Given>) -> Self {
        Self {
            given: Some(given),
            ..Self::default()
        }
    }

    /// A random index that nobody has.
    pub fn take(&mut self, owner: PeerId, random: &mut dyn Rng) -> u32 {
        // Few thousands of 2^32 are taken: the first draw is all but always free.
        loop {
            let index = random.next_u32();
            if let std::collections::btree_map::Entry::Vacant(vacant) = self.owners.entry(index) {
                vacant.insert(owner);
                if let Some(given) = &self.given {
                    given.add(index);
                }
                return index;
            }
        }
    }

    /// Gives an index back.
    pub fn release(&mut self, index: u32) {
        if let (Some(_), Some(given)) = (self.owners.remove(&index), &self.given) {
            given.remove(index);
        }
    }

    /// Whose an index is.
    pub fn owner(&self, index: u32) -> Option<PeerId> {
        self.owners.get(&index).copied()
    }

    /// Whose the index is that stands at this place of a datagram.
    pub fn owner_at(&self, datagram: &[u8], place: usize) -> Option<PeerId> {
        let word = datagram.get(place..place + 4)?.try_into().ok()?;
        self.owner(u32::from_be_bytes(word))
    }

    /// How many are given out.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether none is given out.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}
