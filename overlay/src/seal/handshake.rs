//! The handshake: Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s, three messages (SEALED.md S12 to S18).
//!
//! ```text
//! Initiation::begin ── INIT ──> check_init, Answering::answer
//!    Initiation::complete <── RESP ──┘
//!    │  session, and ── FIN ──> Answering::finish ── session
//! ```
//!
//! One code for links and for two ends ([`Scope`]). Randomness is a *seed*: 32 fresh random bytes
//! that become the ephemeral secret, so equal seeds give equal bytes (vectors, simulator) and each
//! seed is used once.
//!
//! **Error contract.** A datagram that is refused changes nothing: the attempt stays as it was, and
//! a right datagram that comes later is accepted. snow 0.10 rolls its hashes back after an error,
//! yet not its cipher, so an attempt that was refused is built anew from its seed before it reads
//! again; that costs only those who are refused.
//!
//! mac1 is tested before snow is touched: 0.2 us against 60.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use wire::NetId;
use wire::sealed::{
    AnswerKind, HANDSHAKE_MAX_LEN, INIT_LEN, Init, MAC_LEN, NOISE_MAX_LEN, RecordType, SealedError,
};

use crate::planted::{self, Mistake};
use crate::seal::aead::Aead;
use crate::seal::identity::is_low_order;
use crate::seal::keys::{MeshKeys, is_same};
use crate::seal::local::Local;
use crate::seal::noise::Noise;
pub use crate::seal::noise::Seed;
use crate::seal::payload::{
    Proposal, Remote, introduce, propose, read_introduction, read_proposal,
};
pub use crate::seal::scope::Scope;
use crate::seal::scope::put_mac2;
use crate::seal::session::{Session, Terms};
use crate::time::Instant;

/// Room for any handshake datagram; INIT_LEN and HANDSHAKE_MAX_LEN are the same.
pub type Datagram = [u8; INIT_LEN];

const _: () = assert!(INIT_LEN == HANDSHAKE_MAX_LEN);

/// Why a handshake datagram is refused. State: unchanged, all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// The bytes are none of this kind.
    Form(SealedError),
    /// mac1 is wrong: no member of this mesh, or damaged.
    Mac,
    /// It answers another handshake.
    OtherIndex,
    /// The ephemeral or static key has a small order.
    Degenerate,
    /// Noise refuses it: another secret, another prologue, damaged.
    Noise,
    /// A record that must be there is not.
    Missing(RecordType),
    /// A record has a value that it may not have.
    Value(RecordType),
    /// It calls another netid.
    NotCalled,
    /// No AEAD that both have.
    NoAead,
    /// It is ourselves.
    Reflected,
    /// Our own INIT is on its way to where this one came from, and goes first (S47).
    Crossed,
    /// Neither binding nor certificate is good for the key and the netid.
    Credential,
    /// Our own payload does not fit: a certificate too long.
    NoRoom,
}

/// An INIT whose form, mac1 and ephemeral key are right: worth the work of answering.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'d> {
    scope: Scope,
    /// Of the secret that its mac1 is right under.
    epoch: u32,
    init: Init<'d>,
}

/// Tests what is cheap to test of an INIT.
///
/// State: none.
/// Cost:  one short mac.
///
/// # Errors
/// `Form`, `Mac`, `Degenerate`.
pub fn check_init<'d>(
    keys: &MeshKeys,
    scope: Scope,
    datagram: &'d [u8],
) -> Result<Checked<'d>, HandshakeError> {
    let init = scope.parse_init(datagram)?;
    let is_right = is_same(&scope.mac1(keys, true, init.before_mac1), init.mac1);
    if !is_right && !planted::is(Mistake::SkipMac) {
        return Err(HandshakeError::Mac);
    }
    if is_low_order(&init.ephemeral()) {
        return Err(HandshakeError::Degenerate);
    }
    Ok(Checked {
        scope,
        epoch: keys.epoch,
        init,
    })
}

/// The same under either secret of a mesh that changes it, the current one first (S5).
///
/// Cost:  one short mac; two where the first is wrong and there is a next secret.
///
/// # Errors
/// As [`check_init`].
pub fn check_init_of<'d>(
    local: &Local,
    scope: Scope,
    datagram: &'d [u8],
) -> Result<Checked<'d>, HandshakeError> {
    match (check_init(&local.keys, scope, datagram), &local.next) {
        (Err(HandshakeError::Mac), Some(next)) => check_init(next, scope, datagram),
        (checked, _) => checked,
    }
}

impl<'d> Checked<'d> {
    /// Which secret it was made with.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The parsed INIT.
    pub const fn init(&self) -> &Init<'d> {
        &self.init
    }
}

/// The initiator's side, from INIT to RESP.
pub struct Initiation {
    scope: Scope,
    keys: Arc<MeshKeys>,
    index: u32,
    seed: Seed,
    payload: Vec<u8>,
    /// `None` after a refusal: built anew when needed.
    noise: Option<Noise>,
    ephemeral: [u8; 32],
    mac1: [u8; MAC_LEN],
}

impl Initiation {
    /// Writes an INIT (or E-INIT) and returns its length.
    ///
    /// Shape: `index` is unused by any session or handshake of ours; `called` may be
    /// [`NetId::ANY`]; `cookie` was given for the address that this goes to.
    /// Cost:  one key pair.
    ///
    /// # Errors
    /// `Noise`, if the seed makes no key; never with a random one.
    pub fn begin(
        local: &Local,
        scope: Scope,
        index: u32,
        called: NetId,
        cookie: Option<&[u8; MAC_LEN]>,
        seed: Seed,
        out: &mut Datagram,
    ) -> Result<(Self, usize), HandshakeError> {
        let keys = Arc::clone(&local.keys);
        Self::begin_under(keys, local, scope, index, called, cookie, seed, out)
    }

    /// [`Self::begin`] under these keys of the node's mesh.
    ///
    /// # Errors
    /// As there.
    #[expect(clippy::too_many_arguments, reason = "those of begin, and one")]
    pub fn begin_under(
        keys: Arc<MeshKeys>,
        local: &Local,
        scope: Scope,
        index: u32,
        called: NetId,
        cookie: Option<&[u8; MAC_LEN]>,
        seed: Seed,
        out: &mut Datagram,
    ) -> Result<(Self, usize), HandshakeError> {
        let mut initiation = Self {
            scope,
            keys,
            index,
            seed,
            payload: propose(local, called),
            noise: None,
            ephemeral: [0; 32],
            mac1: [0; MAC_LEN],
        };
        let (noise, message) = initiation.build(local)?;
        let written = scope.emit_init(index, &message, out)?;
        initiation.mac1 = scope.put_mac1(&initiation.keys, true, written, out);
        if let Some(cookie) = cookie {
            put_mac2(cookie, written, out);
        }
        initiation.ephemeral = message.first_chunk().copied().unwrap_or_default();
        initiation.noise = Some(noise);
        Ok((initiation, written.len))
    }

    /// What the far end is to call this handshake, and its session.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// What it was begun under.
    pub const fn keys(&self) -> &Arc<MeshKeys> {
        &self.keys
    }

    /// The ephemeral key, which decides between two that begin at once (S47).
    pub const fn ephemeral(&self) -> &[u8; 32] {
        &self.ephemeral
    }

    /// mac1 of the INIT, which a COOKIE is sealed with.
    pub const fn mac1(&self) -> &[u8; MAC_LEN] {
        &self.mac1
    }

    /// Reads a RESP, writes the FIN and returns the session, who is at its other end, and the
    /// FIN's length.
    ///
    /// State: see the error contract; after success this is to be dropped.
    /// Cost:  three agreements of keys and one verification.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub fn complete(
        &mut self,
        local: &Local,
        now: Instant,
        resp: &[u8],
        observed: Option<SocketAddr>,
        out: &mut Datagram,
    ) -> Result<(Session, Remote, usize), HandshakeError> {
        let scope = self.scope;
        let answer = scope.parse_answer(AnswerKind::Resp, resp)?;
        scope.check_mac1(&self.keys, false, &answer)?;
        if answer.receiver != self.index {
            return Err(HandshakeError::OtherIndex);
        }
        if is_low_order(&answer.ephemeral()) {
            return Err(HandshakeError::Degenerate);
        }
        let mut noise = match self.noise.take() {
            Some(noise) => noise,
            None => self.build(local)?.0,
        };
        // From here on an error leaves `self.noise` empty, and the next RESP builds it anew.
        let mut payload = [0; NOISE_MAX_LEN];
        let len = noise.read(answer.noise, &mut payload)?;
        let static_key = remote_static(local, &noise)?;
        let (remote, choice) = read_introduction(local, 2, static_key, &payload[..len])?;
        let aead = choice
            .filter(|aead| local.offer().contains(aead))
            .ok_or(HandshakeError::NoAead)?;
        scope.check_netid(false, remote.netid)?;
        let introduction = introduce(local, None, scope.observed(observed));
        let message = noise.write(&introduction)?;
        let written =
            scope.emit_answer(AnswerKind::Fin, self.index, answer.sender, &message, out)?;
        scope.put_mac1(&self.keys, true, written, out);
        let terms = Terms {
            local: self.index,
            remote: answer.sender,
            is_initiator: true,
            aead,
            info: scope.info(),
        };
        let session = session(now, terms, &mut noise).of_epoch(self.keys.epoch);
        Ok((session, remote, written.len))
    }

    /// The state after message 1, and message 1; the same each time.
    fn build(&self, local: &Local) -> Result<(Noise, Vec<u8>), HandshakeError> {
        let (keys, index) = (&self.keys, self.index);
        let mut noise = self
            .scope
            .noise(keys, &local.identity, &self.seed, index, true)?;
        let message = noise.write(&self.payload)?;
        Ok((noise, message))
    }
}

/// The responder's side, from INIT to FIN.
pub struct Answering {
    scope: Scope,
    keys: Arc<MeshKeys>,
    local_index: u32,
    remote_index: u32,
    aead: Aead,
    seed: Seed,
    /// Noise message 1 as it came, and our payload, to build the state anew.
    first: Vec<u8>,
    payload: Vec<u8>,
    noise: Option<Noise>,
}

impl Answering {
    /// Reads a checked INIT, writes the RESP and returns its length and what the INIT proposed.
    ///
    /// Shape: `index` as in [`Initiation::begin`]; `observed` is where the INIT came from.
    /// Cost:  one key pair and two agreements of keys.
    ///
    /// # Errors
    /// [`HandshakeError`]; there is no state yet.
    pub fn answer(
        local: &Local,
        checked: &Checked<'_>,
        index: u32,
        seed: Seed,
        observed: Option<SocketAddr>,
        out: &mut Datagram,
    ) -> Result<(Self, Proposal, usize), HandshakeError> {
        let (scope, init) = (checked.scope, &checked.init);
        let keys = local.keys_of(checked.epoch).ok_or(HandshakeError::Mac)?;
        let mut noise = scope.noise(keys, &local.identity, &seed, init.sender, false)?;
        let mut payload = [0; INIT_LEN];
        let len = noise.read(init.noise, &mut payload)?;
        let proposal = read_proposal(&payload[..len])?;
        if proposal.called != NetId::ANY && proposal.called != local.netid {
            return Err(HandshakeError::NotCalled);
        }
        let ours = local.offer();
        let aead = proposal
            .offer
            .iter()
            .copied()
            .find(|aead| ours.contains(aead));
        let aead = aead.ok_or(HandshakeError::NoAead)?;
        let payload = introduce(local, Some(aead), scope.observed(observed));
        let message = noise.write(&payload)?;
        let written = scope.emit_answer(AnswerKind::Resp, index, init.sender, &message, out)?;
        scope.put_mac1(keys, false, written, out);
        let answering = Self {
            scope,
            keys: Arc::clone(keys),
            local_index: index,
            remote_index: init.sender,
            aead,
            seed,
            first: init.noise.to_vec(),
            payload,
            noise: Some(noise),
        };
        Ok((answering, proposal, written.len))
    }

    /// What the far end is to call this handshake, and its session.
    pub const fn index(&self) -> u32 {
        self.local_index
    }

    /// Which secret it is under.
    pub fn epoch(&self) -> u32 {
        self.keys.epoch
    }

    /// Reads a FIN; returns the session and who is at its other end.
    ///
    /// State: see the error contract; after success this is to be dropped.
    /// Cost:  one agreement of keys and one verification.
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub fn finish(
        &mut self,
        local: &Local,
        now: Instant,
        fin: &[u8],
    ) -> Result<(Session, Remote), HandshakeError> {
        let answer = self.scope.parse_answer(AnswerKind::Fin, fin)?;
        self.scope.check_mac1(&self.keys, true, &answer)?;
        if (answer.sender, answer.receiver) != (self.remote_index, self.local_index) {
            return Err(HandshakeError::OtherIndex);
        }
        let mut noise = match self.noise.take() {
            Some(noise) => noise,
            None => self.build(local)?,
        };
        let mut payload = [0; NOISE_MAX_LEN];
        let len = noise.read(answer.noise, &mut payload)?;
        let static_key = remote_static(local, &noise)?;
        let (remote, _) = read_introduction(local, 3, static_key, &payload[..len])?;
        self.scope.check_netid(true, remote.netid)?;
        let terms = Terms {
            local: self.local_index,
            remote: self.remote_index,
            is_initiator: false,
            aead: self.aead,
            info: self.scope.info(),
        };
        let session = session(now, terms, &mut noise).of_epoch(self.keys.epoch);
        Ok((session, remote))
    }

    /// The state after message 2; the same each time.
    fn build(&self, local: &Local) -> Result<Noise, HandshakeError> {
        let (keys, sender) = (&self.keys, self.remote_index);
        let mut noise = self
            .scope
            .noise(keys, &local.identity, &self.seed, sender, false)?;
        noise.read(&self.first, &mut [0; INIT_LEN])?;
        noise.write(&self.payload)?;
        Ok(noise)
    }
}

/// The far end's S, if it is one and not ours.
fn remote_static(local: &Local, noise: &Noise) -> Result<[u8; 32], HandshakeError> {
    let key = noise.remote_static().ok_or(HandshakeError::Noise)?;
    if is_low_order(&key) {
        return Err(HandshakeError::Degenerate);
    }
    if key == *local.identity.public() {
        return Err(HandshakeError::Reflected);
    }
    Ok(key)
}

fn session(now: Instant, terms: Terms, noise: &mut Noise) -> Session {
    let (first, second) = noise.split();
    Session::new(now, terms, &first, &second)
}

impl fmt::Debug for Initiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Initiation({:08x})", self.index)
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answering({:08x})", self.local_index)
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
pub(crate) mod tests;
