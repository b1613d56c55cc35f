//! What a handshake needs to know of this node: its keys, its names, its wishes.

use std::sync::Arc;

use wire::NetId;

use crate::seal::aead::Aead;
use crate::seal::identity::{BINDING_LEN, Identity};
use crate::seal::keys::MeshKeys;

/// This node, as it introduces itself. Built at the start; its secrets and certificate may
/// be exchanged while it runs.
#[derive(Debug)]
pub struct Local {
    /// From the mesh secret.
    pub keys: Arc<MeshKeys>,
    /// From the next one, while the mesh changes it (S5).
    pub next: Option<Arc<MeshKeys>>,
    /// Whether more than half of the neighbors have used the next one.
    pub prefers_next: bool,
    /// The node's own keys.
    pub identity: Identity,
    /// The netid it goes by.
    pub netid: NetId,
    /// This start of the node (S60).
    pub boot: u64,
    /// Whether the processor has AES instructions, so that AES-256-GCM is the faster.
    pub aes: bool,
    /// Whether it would go on in plain.
    pub policy: Policy,
    /// Its certificate, whole, if an authority gave it one.
    pub certificate: Option<Vec<u8>>,
    /// The authority's V; without it, certificates of others are refused.
    pub authority: Option<[u8; 32]>,
    /// Number of the newest revocation list it has.
    pub revocation: Option<u64>,
    /// The largest datagram it wants to receive; `None` says nothing about it.
    pub receive_size: Option<u16>,
    /// V's word for S, made once: signatures cost.
    binding: [u8; BINDING_LEN],
}

/// Whether a node would go on in plain (record 5). Told, so that both sides' owners see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// 1: never.
    Sealed,
    /// 2: where the other side cannot do otherwise; for the time of a migration.
    Prefer,
}

impl Local {
    /// A node without certificate, with AES if the caller says so.
    ///
    /// Cost: one signature.
    pub fn new(keys: MeshKeys, identity: Identity, netid: NetId, boot: u64, aes: bool) -> Self {
        let binding = identity.binding(&keys.mesh_id, netid);
        Self {
            keys: Arc::new(keys),
            next: None,
            prefers_next: false,
            identity,
            netid,
            boot,
            aes,
            policy: Policy::Sealed,
            certificate: None,
            authority: None,
            revocation: None,
            receive_size: None,
            binding,
        }
    }

    /// The keys that try number `tries` of a handshake begins with (S93). While a session lives, a
    /// try costs nothing, and the next secret comes first, twice; who gets no answer takes the other
    /// one.
    pub fn keys_to_begin(&self, tries: u32, is_up: bool) -> &Arc<MeshKeys> {
        // One that is lost, or crosses the other side's, must not bring the current one back.
        let takes_next = match is_up {
            true => tries % 3 < 2,
            false => self.prefers_next == tries.is_multiple_of(2),
        };
        match &self.next {
            Some(next) if takes_next => next,
            _ => &self.keys,
        }
    }

    /// The keys of this epoch, while a handshake may be answered under them.
    pub fn keys_of(&self, epoch: u32) -> Option<&Arc<MeshKeys>> {
        let next = self.next.iter();
        next.chain([&self.keys]).find(|keys| keys.epoch == epoch)
    }

    /// What it offers to seal with, best first.
    pub const fn offer(&self) -> &'static [Aead] {
        Aead::offer(self.aes)
    }

    /// V and V's word for S.
    pub const fn binding(&self) -> &[u8; BINDING_LEN] {
        &self.binding
    }
}

impl Policy {
    /// The number on the wire.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Sealed => 1,
            Self::Prefer => 2,
        }
    }

    /// The policy of a number, if there is one.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Sealed),
            2 => Some(Self::Prefer),
            _ => None,
        }
    }
}
