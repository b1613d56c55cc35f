//! The newest revocation list that a node has: verified before a word of it counts (SEALED.md S78).

use std::collections::BTreeSet;
use std::fmt;

use wire::sealed::{Certificate, Revocations};

use super::Claim;
use crate::seal::identity::verify_revocations;

/// A list, or none yet.
#[derive(Debug, Default)]
pub struct RevocationList {
    bytes: Vec<u8>,
    number: u64,
    serials: BTreeSet<u64>,
    keys: BTreeSet<[u8; 32]>,
}

/// Why a list is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListError {
    /// The bytes are no list.
    Form,
    /// It is for another mesh.
    OtherMesh,
    /// Our authority did not sign it.
    Signature,
    /// We have this one, or a newer one: its number.
    NotNewer(u64),
    /// We have no authority, and cannot tell whether it is good.
    NoAuthority,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("this is no revocation list"),
            Self::OtherMesh => f.write_str("the list is for another mesh"),
            Self::Signature => f.write_str("the list is not signed by this mesh's authority"),
            Self::NoAuthority => f.write_str("the node has no authority to judge lists by"),
            Self::NotNewer(number) => write!(f, "the node has list {number} already"),
        }
    }
}

impl RevocationList {
    /// Its number; 0 for none.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// All of it; empty for none.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.serials.len() + self.keys.len()
    }

    /// Whether it revokes nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it revokes what the claim stands on.
    pub fn revokes(&self, claim: &Claim<'_>) -> bool {
        let serial = claim
            .certificate
            .and_then(|bytes| Certificate::parse(bytes).ok())
            .map(|certificate| certificate.serial);
        self.keys.contains(&claim.static_key)
            || serial.is_some_and(|serial| self.serials.contains(&serial))
    }

    /// Takes a newer one in its place.
    ///
    /// # Errors
    /// It is not to be believed, or not newer; nothing changed.
    pub fn replace(
        &mut self,
        bytes: Vec<u8>,
        mesh_id: &[u8; 16],
        authority: &[u8; 32],
    ) -> Result<(), ListError> {
        let list = Revocations::parse(&bytes).map_err(|_| ListError::Form)?;
        if list.mesh_id != *mesh_id {
            return Err(ListError::OtherMesh);
        }
        if !verify_revocations(&list, authority) {
            return Err(ListError::Signature);
        }
        if list.number <= self.number {
            return Err(ListError::NotNewer(self.number));
        }
        let (number, entries) = (list.number, list.entries());
        let (serials, keys): (Vec<_>, Vec<_>) = entries
            .map(|entry| (entry.serial, entry.static_key))
            .unzip();
        self.serials = serials.into_iter().filter(|serial| *serial != 0).collect();
        self.keys = keys.into_iter().filter(|key| *key != [0; 32]).collect();
        self.number = number;
        self.bytes = bytes;
        Ok(())
    }
}
