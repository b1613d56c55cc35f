//! Between whom a handshake is: what links and ends do differently (SEALED.md, "Handshake" and
//! "End to end"). Everything else is one code.

use std::net::SocketAddr;

use wire::NetId;
use wire::sealed::{
    Answer, AnswerKind, Init, MAC_LEN, RecordType, SEALED_VERSION, SUITE, Written, endtoend,
};

use crate::seal::handshake::{Datagram, HandshakeError};
use crate::seal::identity::Identity;
use crate::seal::keys::{Key, MeshKeys, is_same, mac};
use crate::seal::noise::{Noise, Seed};

/// Between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Two neighbors, over one link.
    Link,
    /// Two ends, over the mesh; the src and dst of the first message.
    EndToEnd {
        /// Whose INIT it is.
        initiator: NetId,
        /// Whom it is for.
        responder: NetId,
    },
}

impl Scope {
    pub(in crate::seal) fn noise(
        self,
        keys: &MeshKeys,
        identity: &Identity,
        seed: &Seed,
        init_sender: u32,
        is_initiator: bool,
    ) -> Result<Noise, HandshakeError> {
        let psk = match self {
            Self::Link => &keys.link_psk,
            Self::EndToEnd { .. } => &keys.end_to_end_psk,
        };
        let prologue = self.prologue(&keys.mesh_id, init_sender);
        Noise::new(identity, psk, &prologue, seed, is_initiator)
    }

    pub(in crate::seal) fn prologue(self, mesh_id: &[u8; 16], init_sender: u32) -> Vec<u8> {
        let tail = [SUITE, SEALED_VERSION];
        let sender = init_sender.to_be_bytes();
        match self {
            Self::Link => [&b"mesh-link v1"[..], mesh_id, &tail, &sender].concat(),
            Self::EndToEnd {
                initiator,
                responder,
            } => [
                &b"mesh-e2e v1"[..],
                mesh_id,
                &initiator.0.to_be_bytes(),
                &responder.0.to_be_bytes(),
                &tail,
                &sender,
            ]
            .concat(),
        }
    }

    pub(in crate::seal) const fn info(self) -> &'static [u8] {
        match self {
            Self::Link => b"link-aead v1",
            Self::EndToEnd { .. } => b"e2e-aead v1",
        }
    }

    pub(in crate::seal) fn mac1(
        self,
        keys: &MeshKeys,
        by_initiator: bool,
        before: &[u8],
    ) -> [u8; MAC_LEN] {
        match self {
            Self::Link => mac(&keys.mac1, &[before]),
            Self::EndToEnd {
                initiator,
                responder,
            } => {
                let (src, dst) = if by_initiator {
                    (initiator, responder)
                } else {
                    (responder, initiator)
                };
                let (src, dst) = (src.0.to_be_bytes(), dst.0.to_be_bytes());
                mac(&keys.end_to_end_mac1, &[&src, &dst, before])
            }
        }
    }

    pub(in crate::seal) fn check_mac1(
        self,
        keys: &MeshKeys,
        by_initiator: bool,
        answer: &Answer<'_>,
    ) -> Result<(), HandshakeError> {
        if is_same(
            &self.mac1(keys, by_initiator, answer.before_mac1),
            answer.mac1,
        ) {
            Ok(())
        } else {
            Err(HandshakeError::Mac)
        }
    }

    pub(in crate::seal) fn put_mac1(
        self,
        keys: &MeshKeys,
        by_initiator: bool,
        written: Written,
        out: &mut Datagram,
    ) -> [u8; MAC_LEN] {
        let (before, rest) = out.split_at_mut(written.mac1_at);
        let mac1 = self.mac1(keys, by_initiator, before);
        rest[..MAC_LEN].copy_from_slice(&mac1);
        mac1
    }

    /// The netid inside must be the one on the message that carried it (S56).
    pub(in crate::seal) fn check_netid(
        self,
        is_initiator: bool,
        netid: NetId,
    ) -> Result<(), HandshakeError> {
        match self {
            Self::Link => Ok(()),
            Self::EndToEnd { initiator, .. } if is_initiator && netid == initiator => Ok(()),
            Self::EndToEnd { responder, .. } if !is_initiator && netid == responder => Ok(()),
            Self::EndToEnd { .. } => Err(HandshakeError::Value(RecordType::NetId)),
        }
    }

    /// Ends see no address of each other.
    pub(in crate::seal) fn observed(self, observed: Option<SocketAddr>) -> Option<SocketAddr> {
        observed.filter(|_| self == Self::Link)
    }

    pub(in crate::seal) fn parse_init(self, datagram: &[u8]) -> Result<Init<'_>, HandshakeError> {
        match self {
            Self::Link => Init::parse(datagram),
            Self::EndToEnd { .. } => endtoend::parse_init(datagram),
        }
        .map_err(HandshakeError::Form)
    }

    pub(in crate::seal) fn emit_init(
        self,
        sender: u32,
        noise: &[u8],
        out: &mut Datagram,
    ) -> Result<Written, HandshakeError> {
        match self {
            Self::Link => Init::emit(sender, noise, out),
            Self::EndToEnd { .. } => endtoend::emit_init(sender, noise, out),
        }
        .ok_or(HandshakeError::NoRoom)
    }

    pub(in crate::seal) fn emit_answer(
        self,
        kind: AnswerKind,
        sender: u32,
        receiver: u32,
        noise: &[u8],
        out: &mut Datagram,
    ) -> Result<Written, HandshakeError> {
        match self {
            Self::Link => Answer::emit(kind, sender, receiver, noise, out),
            Self::EndToEnd { .. } => endtoend::emit_answer(kind, sender, receiver, noise, out),
        }
        .ok_or(HandshakeError::NoRoom)
    }

    pub(in crate::seal) fn parse_answer(
        self,
        kind: AnswerKind,
        datagram: &[u8],
    ) -> Result<Answer<'_>, HandshakeError> {
        match self {
            Self::Link => Answer::parse(kind, datagram),
            Self::EndToEnd { .. } => endtoend::parse_answer(kind, datagram),
        }
        .map_err(HandshakeError::Form)
    }
}

/// mac2 of an INIT (S10).
pub(in crate::seal) fn mac2(cookie: &[u8; MAC_LEN], before: &[u8]) -> [u8; MAC_LEN] {
    let mut key = [0; 32];
    key[..MAC_LEN].copy_from_slice(cookie);
    mac(&Key::new(key), &[before])
}

pub(in crate::seal) fn put_mac2(cookie: &[u8; MAC_LEN], written: Written, out: &mut Datagram) {
    let (before, rest) = out.split_at_mut(written.mac1_at + MAC_LEN);
    rest[..MAC_LEN].copy_from_slice(&mac2(cookie, before));
}
