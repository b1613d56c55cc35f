//! What is for all nodes: sealed under the key that all members share (SEALED.md S59 to S61, S71).
//!
//! ```text
//! E-BCAST ─> replay, by src and boot id ─> rate ─> signature ─> rate of src ─> open   where all are signed
//!         └──────────────────────────────────────────────────────────────────> open   where none is
//! ```
//!
//! Relays and strangers differ in nothing here: whoever is no member reads nothing and can make
//! nothing up. A member can speak in the name of another, unless broadcasts are signed. So only
//! where they are, something is remembered by their src: of what anybody can have made up, one
//! message would silence the node that it names. Copies are the seen table's business.
//!
//! All by `&self`, from any worker at once, without a lock; only the first broadcast of a start of a
//! node allocates.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use wire::sealed::endtoend::{BROADCAST_HEADER_LEN, BroadcastHeader, SIGNATURE_LEN};
use wire::sealed::{COUNTER_LIMIT, TAG_LEN};
use wire::{Kind, NetId};

use crate::budget::{Bucket, Level, Rate};
use crate::keyed::KeyedHasher;
use crate::pump::count::DropReason;
use crate::seal::identity::{Signing, blake2s, verify};
use crate::seal::keys::{FIRST_EPOCH, MeshKeys};
use crate::seal::local::Local;
use crate::seal::replay::{Judgement, Window};
use crate::seal::session::SealError;
use crate::time::Instant;

/// Bytes that sealing a broadcast adds to its payload at most.
pub const OVERHEAD_MAX: usize = overhead(true);
/// Signed broadcasts of one origin a second (S61): each costs a verification.
pub const PER_ORIGIN: u32 = 200;
/// Verifications a second, whoever brings them (S101).
pub const IN_ALL: u32 = 2_000;
/// Verifications a second besides, for what one neighbor brings.
pub const PER_BRINGER: u32 = 200;
/// Origins whose broadcasts are taken; 2 KiB each.
const ORIGINS: usize = 4_096;
/// Bytes of the associated data: src, dst, kind, header.
const ASSOCIATED_LEN: usize = 9 + BROADCAST_HEADER_LEN;
/// Bytes of what is signed: its name, mesh id, src, dst, header, hash.
const SIGNED_LEN: usize = 13 + 16 + 8 + BROADCAST_HEADER_LEN + 32;

/// Bytes that sealing a broadcast adds to its payload.
pub const fn overhead(signed: bool) -> usize {
    BROADCAST_HEADER_LEN + TAG_LEN + if signed { SIGNATURE_LEN } else { 0 }
}

type Origins = HashMap<NetId, Arc<Origin>, KeyedHasher>;
type Signers = HashMap<NetId, [u8; 32], KeyedHasher>;

/// Seals and opens. Calls: from any thread at once.
pub struct Broadcasts {
    netid: NetId,
    mesh_id: [u8; 16],
    boot: u64,
    ring: ArcSwap<Ring>,
    /// The newest epoch that something opened in, beyond the current one.
    heard: AtomicU32,
    /// Where broadcasts are signed: signs ours; others' have to be.
    signing: Option<Signing>,
    /// The sequence number of the next one.
    next: AtomicU64,
    rate: Bucket,
    origins: ArcSwap<Origins>,
    /// V of nodes that we shook hands with.
    signers: ArcSwap<Signers>,
}

/// The keys of broadcasts, while a mesh changes its secret (S95).
struct Ring {
    current: EpochKey,
    next: Option<EpochKey>,
    /// Opens until then.
    former: Option<(EpochKey, Instant)>,
}

#[derive(Clone)]
struct EpochKey {
    epoch: u32,
    cipher: XChaCha20Poly1305,
}

impl EpochKey {
    fn of(keys: &MeshKeys) -> Self {
        Self {
            epoch: keys.epoch,
            cipher: XChaCha20Poly1305::new(keys.broadcast.bytes().into()),
        }
    }
}

impl Ring {
    /// What seals: the next secret's key only when somebody does without the current one.
    fn sealing(&self, heard: u32) -> &EpochKey {
        let next = self.next.as_ref();
        next.filter(|next| heard >= next.epoch)
            .unwrap_or(&self.current)
    }

    fn opening(&self, now: Instant, epoch: u32) -> Option<&EpochKey> {
        let former = self.former.as_ref();
        let former = former.filter(|(_, until)| now < *until).map(|(key, _)| key);
        let all = [Some(&self.current), self.next.as_ref(), former];
        all.into_iter().flatten().find(|key| key.epoch == epoch)
    }
}

/// What was opened of one start of a node.
#[derive(Debug)]
struct Origin {
    boot: u64,
    window: Window,
    level: Level,
}

impl Origin {
    fn new(boot: u64) -> Arc<Self> {
        Arc::new(Self {
            boot,
            window: Window::default(),
            level: Level::default(),
        })
    }

    /// Which start of the node it is (S60).
    const fn count(&self) -> u64 {
        self.boot >> 32
    }
}

impl Broadcasts {
    /// Those of a node; `signed` if they are to be.
    pub fn new(local: &Local, signed: bool, hasher: KeyedHasher) -> Self {
        Self {
            netid: local.netid,
            mesh_id: local.keys.mesh_id,
            boot: local.boot,
            ring: ArcSwap::from_pointee(Ring {
                current: EpochKey::of(&local.keys),
                next: local.next.as_deref().map(EpochKey::of),
                former: None,
            }),
            heard: AtomicU32::new(FIRST_EPOCH),
            signing: signed.then(|| local.identity.signer()),
            next: AtomicU64::new(0),
            rate: Bucket::per_second(IN_ALL, IN_ALL),
            origins: ArcSwap::from_pointee(HashMap::with_hasher(hasher)),
            signers: ArcSwap::from_pointee(HashMap::with_hasher(hasher)),
        }
    }

    /// Takes the secrets that the node has from now on; the key of a former one opens until `until`.
    pub fn set_secrets(&self, current: &MeshKeys, next: Option<&MeshKeys>, until: Instant) {
        let ring = self.ring.load();
        let former = match ring.current.epoch == current.epoch {
            true => ring.former.clone(),
            false => Some((ring.current.clone(), until)),
        };
        // Another next secret may come under the same number.
        self.heard.store(FIRST_EPOCH, Relaxed);
        self.ring.store(Arc::new(Ring {
            current: EpochKey::of(current),
            next: next.map(EpochKey::of),
            former,
        }));
    }

    /// Forgets a former secret's key that opens nothing any more; it is wiped. Once a second.
    pub fn sweep(&self, now: Instant) {
        let ring = self.ring.load();
        if ring.former.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.ring.store(Arc::new(Ring {
                current: ring.current.clone(),
                next: ring.next.clone(),
                former: None,
            }));
        }
    }

    /// Seals a payload into `out`, to be sent as Data from us to all, and returns the length: the
    /// payload's and [`overhead`].
    ///
    /// State: takes the next sequence number, whatever becomes of the message.
    /// Cost:  no allocation, no lock; a signature, if there is to be one.
    ///
    /// # Errors
    /// `NoRoom`.
    pub fn seal(&self, payload: &[u8], out: &mut [u8]) -> Result<usize, SealError> {
        let signed = self.signing.is_some();
        let len = payload.len() + overhead(signed);
        let whole = out.get_mut(..len).ok_or(SealError::NoRoom)?;
        let ring = self.ring.load();
        let key = ring.sealing(self.heard.load(Relaxed));
        let header = BroadcastHeader {
            signed,
            epoch: key.epoch,
            boot: self.boot,
            sequence: self.next.fetch_add(1, Relaxed),
        };
        let bytes = header.to_bytes();
        let (head, rest) = whole
            .split_first_chunk_mut::<BROADCAST_HEADER_LEN>()
            .ok_or(SealError::NoRoom)?;
        *head = bytes;
        let (body, signature) = rest
            .split_at_mut_checked(payload.len() + TAG_LEN)
            .ok_or(SealError::NoRoom)?;
        let (text, tag) = body
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(SealError::NoRoom)?;
        text.copy_from_slice(payload);
        let sealed = key
            .cipher
            .encrypt_inout_detached(
                &nonce(self.netid, header),
                &associated(self.netid, &bytes),
                text.into(),
            )
            .map_err(|_| SealError::NoRoom)?;
        *tag = sealed.into();
        if let Some(signing) = &self.signing {
            let signed = signing.sign(&self.signed(self.netid, &bytes, body));
            signature.copy_from_slice(&signed);
        }
        Ok(len)
    }

    /// Opens a broadcast of `src` in place, and gives the length of what lies behind its header. Where the
    /// verifications for all are used up, `is_reserved` says whether who brought it has one left.
    ///
    /// State: remembered, if it opens and all are signed.
    /// Calls: of two with one message, one gets it.
    /// Cost:  no allocation, no lock, but for the first of each start of a node.
    ///
    /// # Errors
    /// `Malformed`, `UnknownSession` (another epoch), `Unsigned`, `BroadcastRate`, `Replayed`,
    /// `Forged`.
    pub fn open(
        &self,
        now: Instant,
        src: NetId,
        payload: &mut [u8],
        is_reserved: impl FnOnce() -> bool,
    ) -> Result<usize, DropReason> {
        const ORIGIN_RATE: Rate = Rate::per_second(PER_ORIGIN, PER_ORIGIN);
        let header = BroadcastHeader::parse(payload).map_err(|_| DropReason::Malformed)?;
        let ring = self.ring.load();
        let key = ring
            .opening(now, header.epoch)
            .ok_or(DropReason::UnknownSession)?;
        if self.signing.is_some() && !header.signed {
            return Err(DropReason::Unsigned);
        }
        if header.sequence >= COUNTER_LIMIT {
            return Err(DropReason::Malformed);
        }
        let strict = self.signing.is_some();
        let origins = self.origins.load();
        let found = origins.get(&src).filter(|_| strict);
        // 1. Replay: another start of the node, unless it is a later one; a number that came.
        let known = match found {
            Some(origin) if origin.boot == header.boot => Some(Arc::clone(origin)),
            Some(origin) if origin.count() >= header.boot >> 32 => {
                return Err(DropReason::Replayed);
            }
            _ => None,
        };
        if let Some(origin) = &known {
            fresh(origin.window.peek(header.sequence))?;
        }
        // 2. Rate and 3. signature: rationed is what costs a verification, by whoever brings it. What is
        //    not of its src takes nothing of that one's ration.
        let bytes = header.to_bytes();
        let rest = payload
            .get_mut(BROADCAST_HEADER_LEN..)
            .ok_or(DropReason::Malformed)?;
        let body_len = match header.signed {
            true => rest.len().saturating_sub(SIGNATURE_LEN),
            false => rest.len(),
        };
        let (body, signature) = rest.split_at_mut(body_len);
        if let Ok(signature) = <&[u8; SIGNATURE_LEN]>::try_from(&*signature) {
            match self.signers.load().get(&src) {
                Some(key) => {
                    if !self.rate.take(now) && !is_reserved() {
                        return Err(DropReason::BroadcastRate);
                    }
                    if !verify(key, &self.signed(src, &bytes, body), signature) {
                        return Err(DropReason::Forged);
                    }
                    if found.is_some_and(|origin| !origin.level.take(now, ORIGIN_RATE)) {
                        return Err(DropReason::BroadcastRate);
                    }
                }
                None if strict => return Err(DropReason::Unsigned),
                // Who does not ask for signatures takes what the shared key opens.
                None => {}
            }
        }
        // 4. Open.
        let (text, tag) = body
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(DropReason::Malformed)?;
        let len = text.len();
        key.cipher
            .decrypt_inout_detached(
                &nonce(src, header),
                &associated(src, &bytes),
                text.into(),
                &Tag::from(*tag),
            )
            .map_err(|_| DropReason::Forged)?;
        if header.epoch > ring.current.epoch {
            self.heard.fetch_max(header.epoch, Relaxed);
        }
        if !strict {
            return Ok(len);
        }
        // 5. Remember. Who was away may have missed any number of them.
        let origin = match known {
            Some(origin) => origin,
            None => self.enter(src, header.boot).ok_or(DropReason::Replayed)?,
        };
        fresh(origin.window.enter(header.sequence))?;
        Ok(len)
    }

    /// A handshake proved which start of a node this is, and V: its broadcasts are known by them.
    ///
    /// State: what anybody said before of another start is forgotten.
    pub fn note(&self, netid: NetId, boot: u64, signing_key: [u8; 32]) {
        let is_other = |origins: &Origins| origins.get(&netid).is_some_and(|o| o.boot != boot);
        if is_other(&self.origins.load()) {
            self.origins.rcu(|origins| {
                let mut origins = Origins::clone(origins);
                origins.insert(netid, Origin::new(boot));
                origins
            });
        }
        if self.signers.load().get(&netid) != Some(&signing_key) {
            self.signers.rcu(|signers| {
                let mut signers = Signers::clone(signers);
                if signers.len() < ORIGINS || signers.contains_key(&netid) {
                    signers.insert(netid, signing_key);
                }
                signers
            });
        }
    }

    /// The memory of a start of a node, made if it is later than the one known and there is room.
    fn enter(&self, src: NetId, boot: u64) -> Option<Arc<Origin>> {
        let fresh = Origin::new(boot);
        self.origins.rcu(|origins| {
            let has_room = match origins.get(&src) {
                Some(origin) => origin.count() < fresh.count(),
                None => origins.len() < ORIGINS,
            };
            if !has_room {
                return Arc::clone(origins);
            }
            let mut origins = Origins::clone(origins);
            origins.insert(src, Arc::clone(&fresh));
            Arc::new(origins)
        });
        let origins = self.origins.load();
        origins.get(&src).filter(|o| o.boot == boot).cloned()
    }

    fn signed(
        &self,
        src: NetId,
        header: &[u8; BROADCAST_HEADER_LEN],
        body: &[u8],
    ) -> [u8; SIGNED_LEN] {
        let mut signed = [0; SIGNED_LEN];
        let mut rest = &mut signed[..];
        for part in [
            &b"mesh-bcast v1"[..],
            &self.mesh_id,
            &src.0.to_be_bytes(),
            &NetId::ALL.0.to_be_bytes(),
            header,
            &blake2s(&[body]),
        ] {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
        signed
    }
}

fn nonce(src: NetId, header: BroadcastHeader) -> XNonce {
    let (src, boot) = (src.0.to_be_bytes(), header.boot.to_be_bytes());
    let hash = blake2s(&[&src, &boot, &header.sequence.to_be_bytes()]);
    let mut nonce = [0; 24];
    nonce.copy_from_slice(&hash[..24]);
    nonce.into()
}

fn associated(src: NetId, header: &[u8; BROADCAST_HEADER_LEN]) -> [u8; ASSOCIATED_LEN] {
    let mut bytes = [0; ASSOCIATED_LEN];
    bytes[0..4].copy_from_slice(&src.0.to_be_bytes());
    bytes[4..8].copy_from_slice(&NetId::ALL.0.to_be_bytes());
    bytes[8] = Kind::Data.to_byte();
    bytes[9..].copy_from_slice(header);
    bytes
}

fn fresh(judgement: Judgement) -> Result<(), DropReason> {
    match judgement {
        Judgement::Fresh => Ok(()),
        _ => Err(DropReason::Replayed),
    }
}

impl fmt::Debug for Broadcasts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broadcasts({}, {:016x})", self.netid, self.boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::handshake::tests::{FAR, NEAR, node};
    use crate::seal::keys::MeshSecret;
    use crate::time::Duration;

    const NOW: Instant = Instant::from_secs(100);
    const TEXT: &[u8] = b"\xc2 what everybody may know";

    fn of(key: u8, netid: NetId, boot: u64, signed: bool) -> Broadcasts {
        let mut local = node(1, key, netid, true);
        local.boot = boot;
        Broadcasts::new(&local, signed, KeyedHasher(1, 2))
    }

    fn near(boot: u64, signed: bool) -> Broadcasts {
        of(10, NEAR, boot << 32 | 7, signed)
    }

    fn far(signed: bool) -> Broadcasts {
        of(20, FAR, 1 << 32, signed)
    }

    fn signing_key() -> [u8; 32] {
        node(1, 10, NEAR, true).identity.signing_public()
    }

    fn sealed(by: &Broadcasts) -> Vec<u8> {
        let mut out = vec![0xa5; 200];
        let len = by.seal(TEXT, &mut out).unwrap();
        out.truncate(len);
        out
    }

    fn opened(by: &Broadcasts, src: NetId, payload: &[u8]) -> Result<Vec<u8>, DropReason> {
        let mut payload = payload.to_vec();
        let len = by.open(NOW, src, &mut payload, || false)?;
        Ok(payload[24..24 + len].to_vec())
    }

    #[test]
    fn what_one_member_seals_all_others_open_once() {
        for signed in [false, true] {
            let (near, far) = (near(1, signed), far(signed));
            far.note(NEAR, near.boot, signing_key());
            let payload = sealed(&near);
            assert_eq!(payload.len(), TEXT.len() + overhead(signed));
            assert!(!payload.windows(4).any(|bytes| bytes == &TEXT[..4]));
            assert_eq!(opened(&far, NEAR, &payload), Ok(TEXT.to_vec()));
            let again = opened(&far, NEAR, &payload);
            assert_eq!(again.err(), signed.then_some(DropReason::Replayed));
            assert_eq!(opened(&far, NEAR, &sealed(&near)), Ok(TEXT.to_vec()));
        }
    }

    #[test]
    fn broadcasts_are_opened_throughout_while_a_mesh_changes_its_secret() {
        let first = MeshSecret::new([1; 32]);
        let (current, next) = (first.derive(), first.following([2; 32]).derive());
        let until = NOW + Duration::from_secs(180);
        for signed in [false, true] {
            let all = [
                near(1, signed),
                far(signed),
                of(30, NetId(3), 1 << 32, signed),
            ];
            let netids = [NEAR, FAR, NetId(3)];
            for (by, from) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
                let key = node(1, [10, 20, 30][from], netids[from], true);
                let key = key.identity.signing_public();
                all[by].note(netids[from], all[from].boot, key);
            }
            let hear_each_other = |at: &str| {
                for from in 0..3 {
                    let payload = sealed(&all[from]);
                    for by in (0..3).filter(|by| *by != from) {
                        let got = opened(&all[by], netids[from], &payload);
                        assert_eq!(got, Ok(TEXT.to_vec()), "{at}: {from} to {by}");
                    }
                }
            };
            for node in &all {
                node.set_secrets(&current, Some(&next), until);
                hear_each_other("adopting");
            }
            assert_eq!(sealed(&all[0])[4..8], [0, 0, 0, 0], "the current one seals");
            all[0].set_secrets(&next, None, until);
            hear_each_other("one has ended it");
            assert_eq!(sealed(&all[1])[4..8], [0, 0, 0, 1], "the others follow");
            all[1].set_secrets(&next, None, until);
            hear_each_other("two have");
            all[2].set_secrets(&next, None, until);
            hear_each_other("all have");
            // Three minutes later the former secret opens nothing.
            let old = sealed(&of(40, NetId(4), 1 << 32, false));
            let open = |now| all[0].open(now, NetId(4), &mut old.clone(), || false);
            assert_eq!(open(until), Err(DropReason::UnknownSession));
            if !signed {
                assert_eq!(open(NOW), Ok(TEXT.len()));
            }
            // And is nowhere any more, while the others go on.
            let keeps = || all[0].ring.load().former.is_some();
            all[0].sweep(until - Duration::from_micros(1));
            assert!(keeps());
            all[0].sweep(until);
            assert!(!keeps());
            assert_eq!(open(NOW), Err(DropReason::UnknownSession));
            hear_each_other("afterwards");
        }
    }

    #[test]
    fn keys_of_broadcasts_are_wiped_when_they_are_dropped() {
        fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
        is_wiped::<XChaCha20Poly1305>();
    }

    #[test]
    fn a_changed_byte_another_src_and_another_mesh_open_nothing_and_change_nothing() {
        for signed in [false, true] {
            let (near, far) = (near(1, signed), far(signed));
            far.note(NEAR, near.boot, signing_key());
            far.note(NetId(9), near.boot, signing_key());
            let payload = sealed(&near);
            for at in 0..payload.len() {
                let mut changed = payload.clone();
                changed[at] ^= 0x02;
                assert!(opened(&far, NEAR, &changed).is_err(), "{at}");
            }
            assert_eq!(opened(&far, NetId(9), &payload), Err(DropReason::Forged));
            let other = Broadcasts::new(&node(2, 20, FAR, true), false, KeyedHasher(1, 2));
            assert_eq!(opened(&other, NEAR, &payload), Err(DropReason::Forged));
            assert!(far.origins.load().is_empty());
            assert!(opened(&far, NEAR, &payload).is_ok());
        }
    }

    #[test]
    fn a_later_start_ends_the_former_at_once_and_an_earlier_one_is_dropped() {
        let (first, second, far) = (near(1, true), near(2, true), far(true));
        far.note(NEAR, first.boot, signing_key());
        let old = sealed(&first);
        assert!(opened(&far, NEAR, &sealed(&first)).is_ok());
        assert!(opened(&far, NEAR, &sealed(&second)).is_ok());
        assert_eq!(opened(&far, NEAR, &old), Err(DropReason::Replayed));
        // One that is not known by a handshake is forgotten when a handshake tells which it is.
        assert!(opened(&far, NEAR, &sealed(&near(9, true))).is_ok());
        assert!(opened(&far, NEAR, &sealed(&second)).is_err());
        far.note(NEAR, second.boot, signing_key());
        assert!(opened(&far, NEAR, &sealed(&second)).is_ok());
    }

    #[test]
    fn who_was_away_for_any_number_of_broadcasts_hears_the_next() {
        for signed in [false, true] {
            let (near, far) = (near(1, signed), far(signed));
            far.note(NEAR, near.boot, signing_key());
            for missed in [1 << 25, 1 << 30, 1 << 40] {
                near.next.store(missed, Relaxed);
                assert!(opened(&far, NEAR, &sealed(&near)).is_ok(), "{missed}");
            }
            near.next.store(COUNTER_LIMIT, Relaxed);
            assert_eq!(
                opened(&far, NEAR, &sealed(&near)),
                Err(DropReason::Malformed)
            );
        }
    }

    /// Any member can make up such a broadcast where they are not signed.
    #[test]
    fn nothing_that_a_member_makes_up_silences_the_node_that_it_names() {
        let far = far(false);
        let honest = near(1, false);
        let forged = near(u64::from(u32::MAX), false);
        assert!(opened(&far, NEAR, &sealed(&forged)).is_ok());
        let ahead = near(1, false);
        ahead.next.store(COUNTER_LIMIT - 1, Relaxed);
        assert!(opened(&far, NEAR, &sealed(&ahead)).is_ok());
        assert!(opened(&far, NEAR, &sealed(&honest)).is_ok());
        assert!(far.origins.load().is_empty());
    }

    #[test]
    fn who_asks_for_signatures_takes_nothing_else() {
        let strict = far(true);
        let unsigned = sealed(&near(1, false));
        assert_eq!(opened(&strict, NEAR, &unsigned), Err(DropReason::Unsigned));
        let signed = sealed(&near(1, true));
        assert_eq!(opened(&strict, NEAR, &signed), Err(DropReason::Unsigned));
        strict.note(NEAR, near(1, true).boot, [0; 32]);
        assert_eq!(opened(&strict, NEAR, &signed), Err(DropReason::Forged));
        strict.note(NEAR, near(1, true).boot, signing_key());
        assert!(opened(&strict, NEAR, &signed).is_ok());
        // Who does not ask looks at one all the same, if it can.
        assert!(opened(&far(false), NEAR, &signed).is_ok());
        let careless = far(false);
        careless.note(NEAR, near(1, true).boot, [0; 32]);
        let signed = sealed(&near(1, true));
        assert_eq!(opened(&careless, NEAR, &signed), Err(DropReason::Forged));
    }

    #[test]
    fn signed_ones_are_rationed_and_others_are_not() {
        for (signed, most) in [(false, 1_000), (true, 200)] {
            let (near, far) = (near(1, signed), far(signed));
            far.note(NEAR, near.boot, signing_key());
            let taken = (0..1_000).filter(|_| opened(&far, NEAR, &sealed(&near)).is_ok());
            let taken = taken.count();
            assert!((most..=most + 1).contains(&taken), "{taken}");
        }
    }

    #[test]
    fn forged_ones_take_nothing_of_the_ration_of_whom_they_name() {
        let (near, far) = (near(1, true), far(true));
        far.note(NEAR, near.boot, signing_key());
        assert!(opened(&far, NEAR, &sealed(&near)).is_ok(), "it is known");
        for _ in 0..1_000 {
            let mut forged = sealed(&near);
            *forged.last_mut().unwrap() ^= 1;
            assert_eq!(opened(&far, NEAR, &forged), Err(DropReason::Forged));
        }
        assert!(opened(&far, NEAR, &sealed(&near)).is_ok());
    }

    #[test]
    fn forged_ones_of_one_neighbor_leave_the_others_their_verifications() {
        let (near, far) = (near(1, true), far(true));
        far.note(NEAR, near.boot, signing_key());
        let forged = (0..IN_ALL + 100).map(|_| {
            let mut forged = sealed(&near);
            *forged.last_mut().unwrap() ^= 1;
            opened(&far, NEAR, &forged).err()
        });
        let refused = forged.filter(|error| *error == Some(DropReason::BroadcastRate));
        assert!(refused.count() > 0);
        let mut payload = sealed(&near);
        assert!(far.open(NOW, NEAR, &mut payload, || true).is_ok());
        // Nobody's verifications are used for whom they cannot help.
        let mut payload = sealed(&near);
        let unknown = far.open(NOW, NetId(9), &mut payload, || panic!("asked"));
        assert_eq!(unknown, Err(DropReason::Unsigned));
    }
}
