//! Who may come up: what a mesh asks for on top of its secret (SEALED.md S34, S37, S74 to S76).
//!
//! ```text
//!              revoked?  ── yes ──> refused
//!  claim ──>  certificate in time?  ── yes ──> in
//!             on the owner's list?  ── yes, with this netid ──> in
//!                  │ yes, no netid             │ no, and there is a list or an authority
//!                  v                           v
//!             first key of its netid?       refused
//!                  in: pinned / refused
//! ```
//!
//! The handshake has proved that the far end holds S, and that S goes by this netid by its own word
//! or by the authority's. Whether that word counts is decided here, whenever a session comes up: so
//! a pin binds at once, and the end of a certificate at the next rekey.
//!
//! No clock: the owner of [`Members`] tells what time it is. Read [`Members::judge`] first.

mod afar;
pub mod pulling;
mod revoked;
mod trusted;

use std::collections::{BTreeMap, BTreeSet};

use wire::NetId;
use wire::sealed::Certificate;
use wire::sealed::close::{REPLACED, REVOKED};

use crate::seal::payload::Remote;

pub use afar::AfarPins;
pub use pulling::{Ask, Pulling};
pub use revoked::{ListError, RevocationList};
pub use trusted::{NAME_LIMIT, Trusted, key_text, read_key};

/// Netids whose key is remembered; further ones go by any (S74).
pub const PINS_LIMIT: usize = 4_096;
/// Seconds by which the clock may be wrong in the judgement of a certificate (S37).
pub const GRACE: u64 = 86_400;
/// Refused keys that are told apart, so that each is told of once; further ones are no news.
const TOLD_LIMIT: usize = 256;

/// A key for each netid.
pub type Pins = BTreeMap<NetId, [u8; 32]>;

/// The rules of one node, and what it remembers. Calls: by one owner.
#[derive(Debug, Default)]
pub struct Members {
    /// Whether there is an authority, so that a certificate is needed.
    certified: bool,
    trusted: Option<Vec<Trusted>>,
    pins: Pins,
    pins_changed: bool,
    /// Of those that never had a link here.
    afar: AfarPins,
    afar_changed: bool,
    wall_seconds: u64,
    told: BTreeSet<[u8; 32]>,
    list: RevocationList,
    list_changed: bool,
}

/// Who somebody says it is, as far as the handshake proved it.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'c> {
    /// Its netid.
    pub netid: NetId,
    /// Its S.
    pub static_key: [u8; 32],
    /// Its certificate, whole, signed by our authority for this netid and S.
    pub certificate: Option<&'c [u8]>,
}

/// Why a claim is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// By its certificate.
    Certificate,
    /// By the owner's list.
    Listed,
    /// By being the first key of its netid, or that one again.
    Pin,
}

/// Why a node does not come up although it is a member of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its netid is bound to this other key, by pin or list.
    OtherKey([u8; 32]),
    /// Its key is on the list under this other netid.
    OtherNetid(NetId),
    /// Its key is not on the list.
    NotListed,
    /// It has no certificate.
    NotCertified,
    /// Its certificate is not valid yet: from this second on.
    Early(u64),
    /// Its certificate ended with this second.
    Expired(u64),
    /// Its certificate or its key is revoked.
    Revoked,
    /// Its key is up at as many endpoints as one may have.
    Crowding,
}

impl Refusal {
    /// What the far end is told, where there is a session to tell it (S24).
    pub const fn reason(self) -> u8 {
        match self {
            Self::Expired(_) | Self::Revoked => REVOKED,
            _ => REPLACED,
        }
    }
}

impl Members {
    /// A node that goes by pins, with those that it remembers.
    pub fn new(pins: Pins) -> Self {
        Self {
            pins,
            ..Self::default()
        }
    }

    /// The same with the keys of nodes that it met over others alone.
    #[must_use]
    pub fn recalling(mut self, afar: AfarPins) -> Self {
        self.afar = afar;
        self
    }

    /// The same with a list: nobody else comes up but by certificate.
    #[must_use]
    pub fn listing(mut self, trusted: Vec<Trusted>) -> Self {
        self.trusted = Some(trusted);
        self
    }

    /// The same where an authority signs: nobody else comes up but by list.
    #[must_use]
    pub const fn certified(mut self) -> Self {
        self.certified = true;
        self
    }

    /// Takes other rules for those that come up from now on: as [`Self::certified`] and
    /// [`Self::listing`]. Gives whether they are others.
    pub fn set_rules(&mut self, certified: bool, trusted: Option<Vec<Trusted>>) -> bool {
        let is_other = (self.certified, &self.trusted) != (certified, &trusted);
        (self.certified, self.trusted) = (certified, trusted);
        // Who is refused by other rules is told of anew.
        self.told.clear();
        is_other
    }

    /// Forgets the revocation list: it is of an authority that is none any more.
    pub fn drop_list(&mut self) {
        self.list = RevocationList::default();
        self.list_changed = false;
    }

    /// Takes a newer revocation list.
    ///
    /// # Errors
    /// It is none of our mesh's authority, or not newer. Then the old one stays.
    pub fn revoke(
        &mut self,
        bytes: Vec<u8>,
        mesh_id: &[u8; 16],
        authority: &[u8; 32],
    ) -> Result<(), ListError> {
        self.list.replace(bytes, mesh_id, authority)?;
        self.list_changed = true;
        Ok(())
    }

    /// The newest revocation list.
    pub const fn list(&self) -> &RevocationList {
        &self.list
    }

    /// That list, if it changed since the last call.
    pub fn take_changed_list(&mut self) -> Option<&RevocationList> {
        std::mem::take(&mut self.list_changed).then_some(&self.list)
    }

    /// Tells the time, in seconds since 1970.
    pub const fn set_wall(&mut self, seconds: u64) {
        self.wall_seconds = seconds;
    }

    /// Whether a claim is good, and by what. State: none.
    ///
    /// # Errors
    /// It is not.
    pub fn judge(&self, claim: &Claim<'_>) -> Result<Basis, Refusal> {
        if self.list.revokes(claim) {
            return Err(Refusal::Revoked);
        }
        if let Some(bytes) = claim.certificate {
            return self.in_time(bytes).map(|()| Basis::Certificate);
        }
        let listed = self.trusted.iter().flatten();
        let mut listed = listed.filter(|one| one.static_key == claim.static_key);
        match (&self.trusted, listed.next()) {
            (Some(_), Some(one)) => match one.netid {
                Some(netid) if netid == claim.netid => return Ok(Basis::Listed),
                Some(netid) => return Err(Refusal::OtherNetid(netid)),
                None => self.is_unbound(claim)?,
            },
            (_, _) if self.certified => return Err(Refusal::NotCertified),
            (Some(_), None) => return Err(Refusal::NotListed),
            (None, _) => {}
        }
        match self.pins.get(&claim.netid) {
            Some(pinned) if *pinned != claim.static_key => Err(Refusal::OtherKey(*pinned)),
            _ => Ok(Basis::Pin),
        }
    }

    /// The same for one who comes over others: a key that came so before binds it too.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn judge_afar(&self, claim: &Claim<'_>) -> Result<Basis, Refusal> {
        let basis = self.judge(claim)?;
        match self.afar.get(claim.netid) {
            Some(pinned) if basis == Basis::Pin && pinned != claim.static_key => {
                // Who has a link here is known better than by that.
                match self.pins.contains_key(&claim.netid) {
                    true => Ok(basis),
                    false => Err(Refusal::OtherKey(pinned)),
                }
            }
            _ => Ok(basis),
        }
    }

    /// Remembers the key of one that came up over others, as long as there is room.
    pub fn note_afar(&mut self, claim: &Claim<'_>) {
        let is_new = !self.pins.contains_key(&claim.netid) && self.afar.get(claim.netid).is_none();
        if is_new && self.judge_afar(claim) == Ok(Basis::Pin) {
            self.afar.note(claim.netid, claim.static_key);
            self.afar_changed = true;
        }
    }

    /// Remembers the key of a claim that came up on a link, if it is the first of its netid and
    /// nothing else binds it. What was remembered of it from afar counts no more.
    pub fn note_up(&mut self, claim: &Claim<'_>) {
        self.afar_changed |= self.afar.forget(claim.netid).is_some();
        let is_new = !self.pins.contains_key(&claim.netid) && self.pins.len() < PINS_LIMIT;
        if is_new && self.judge(claim) == Ok(Basis::Pin) {
            self.pins.insert(claim.netid, claim.static_key);
            self.pins_changed = true;
        }
    }

    /// Whether this refused key was not told of yet.
    pub fn is_news(&mut self, static_key: [u8; 32]) -> bool {
        self.told.len() < TOLD_LIMIT && self.told.insert(static_key)
    }

    /// Forgets the key of a netid, and says which it was; the next one that comes is remembered.
    pub fn forget(&mut self, netid: NetId) -> Option<[u8; 32]> {
        let linked = self.pins.remove(&netid);
        let afar = self.afar.forget(netid);
        self.pins_changed |= linked.is_some();
        self.afar_changed |= afar.is_some();
        let key = linked.or(afar)?;
        self.told.clear();
        Some(key)
    }

    /// The netid that goes by this name or key, by list or pin.
    pub fn find(&self, name: &str) -> Option<NetId> {
        let key = read_key(name);
        let pinned = |key: &[u8; 32]| {
            let mut pins = self.pins.iter();
            let linked = pins.find(|(_, pinned)| *pinned == key);
            let afar = || self.afar.iter().find(|(_, pinned)| pinned == key);
            linked
                .map(|(netid, _)| *netid)
                .or_else(|| afar().map(|(netid, _)| netid))
        };
        if let Some(netid) = key.as_ref().and_then(pinned) {
            return Some(netid);
        }
        let mut listed = self.trusted.iter().flatten();
        let one = listed.find(|one| one.name == name && !name.is_empty())?;
        one.netid.or_else(|| pinned(&one.static_key))
    }

    /// The keys remembered.
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The keys remembered, if they changed since the last call.
    pub fn take_changed(&mut self) -> Option<&Pins> {
        std::mem::take(&mut self.pins_changed).then_some(&self.pins)
    }

    /// The keys remembered from afar.
    pub const fn afar(&self) -> &AfarPins {
        &self.afar
    }

    /// The keys remembered from afar, if they changed since the last call.
    pub fn take_changed_afar(&mut self) -> Option<&AfarPins> {
        std::mem::take(&mut self.afar_changed).then_some(&self.afar)
    }

    /// Whether the list binds the claim's netid to no other key.
    fn is_unbound(&self, claim: &Claim<'_>) -> Result<(), Refusal> {
        let mut listed = self.trusted.iter().flatten();
        let other = listed.find(|one| one.netid == Some(claim.netid));
        other.map_or(Ok(()), |one| Err(Refusal::OtherKey(one.static_key)))
    }

    fn in_time(&self, bytes: &[u8]) -> Result<(), Refusal> {
        // It was parsed before it became part of a claim.
        let certificate = Certificate::parse(bytes).map_err(|_| Refusal::NotCertified)?;
        if self.wall_seconds.saturating_add(GRACE) < certificate.not_before {
            return Err(Refusal::Early(certificate.not_before));
        }
        if self.wall_seconds > certificate.not_after.saturating_add(GRACE) {
            return Err(Refusal::Expired(certificate.not_after));
        }
        Ok(())
    }
}

impl<'c> Claim<'c> {
    /// The claim of a node that came through a handshake.
    pub fn of(remote: &'c Remote) -> Self {
        Self {
            netid: remote.netid,
            static_key: remote.static_key,
            certificate: remote.certificate.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests;
