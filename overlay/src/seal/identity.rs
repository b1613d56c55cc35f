//! A node's own keys, and what others' signatures are worth.
//!
//! Two pairs, drawn independently: X25519 for handshakes, whose public key is S, and Ed25519 for
//! signatures, whose public key is V. A [`binding`](Identity::binding) is V's word for S; a
//! certificate is the mesh authority's word for both. Source: SEALED.md S3, S4, S13, S32 to S40.

use std::fmt;

use blake2::{Blake2s256, Digest};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use wire::NetId;
use wire::sealed::{Certificate, Revocations};

use crate::seal::keys::Key;
use crate::seal::x25519::Pair;

/// Bytes of V and its signature, which a handshake carries.
pub const BINDING_LEN: usize = 96;

/// The keys of this node. Wiped when dropped.
pub struct Identity {
    pair: Pair,
    signing: SigningKey,
}

/// Signs as a node. Wiped when dropped.
pub struct Signing(SigningKey);

impl Signing {
    /// A signature by V.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl Identity {
    /// The identity of two secrets of 32 random bytes each.
    pub fn new(secret: Key, signing: &Key) -> Self {
        Self {
            pair: Pair::new(secret),
            signing: SigningKey::from_bytes(signing.bytes()),
        }
    }

    /// S: what others know this node by.
    pub const fn public(&self) -> &[u8; 32] {
        self.pair.public()
    }

    /// V: what others verify this node's signatures with.
    pub fn signing_public(&self) -> [u8; 32] {
        self.signing.verifying_key().to_bytes()
    }

    /// What signs as this node without the rest of its keys.
    pub fn signer(&self) -> Signing {
        Signing(self.signing.clone())
    }

    pub(in crate::seal) const fn pair(&self) -> &Pair {
        &self.pair
    }

    /// V, and its signature that S is this node's under this netid (S32).
    pub fn binding(&self, mesh_id: &[u8; 16], netid: NetId) -> [u8; BINDING_LEN] {
        let signature = self.signing.sign(&bound(mesh_id, netid, self.public()));
        let mut binding = [0; BINDING_LEN];
        binding[..32].copy_from_slice(&self.signing_public());
        binding[32..].copy_from_slice(&signature.to_bytes());
        binding
    }

    /// The netid that follows from S, where none is configured (S4).
    pub fn netid(&self, mesh_id: &[u8; 16]) -> NetId {
        (0..=u8::MAX)
            .map(|salt| {
                let hash = blake2s(&[b"netid v1", mesh_id, self.public(), &[salt]]);
                NetId(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]))
            })
            .find(|netid| netid.is_node())
            // One in 2^7936; any netid is better than none.
            .unwrap_or(NetId(1))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// V, if it vouches for S under the netid in this mesh.
pub fn verify_binding(
    binding: &[u8; BINDING_LEN],
    mesh_id: &[u8; 16],
    netid: NetId,
    static_key: &[u8; 32],
) -> Option<[u8; 32]> {
    let (key, signature) = binding.split_first_chunk::<32>()?;
    let signature = signature.try_into().ok()?;
    verify(key, &bound(mesh_id, netid, static_key), signature).then_some(*key)
}

/// Whether the authority signed the certificate. Its validity in time is another question.
pub fn verify_certificate(certificate: &Certificate<'_>, authority: &[u8; 32]) -> bool {
    let message = [b"mesh-cert v1", certificate.signed()].concat();
    verify(authority, &message, &certificate.signature)
        && !is_weak_signing(&certificate.signing_key)
        && !is_low_order(&certificate.static_key)
}

/// Whether the authority signed the list.
pub fn verify_revocations(list: &Revocations<'_>, authority: &[u8; 32]) -> bool {
    let message = [b"mesh-revocation v1", list.signed()].concat();
    verify(authority, &message, &list.signature)
}

/// Whether the signature is the key's, strictly (S40): the one place where signatures are judged.
pub fn verify(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(key) else {
        return false;
    };
    let signature = Signature::from_bytes(signature);
    !key.is_weak() && key.verify_strict(message, &signature).is_ok()
}

/// Whether an Ed25519 public key is none, or one that vouches for everything.
pub fn is_weak_signing(key: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(key).map_or(true, |key| key.is_weak())
}

/// Whether an X25519 public key has a small order, so that all agree on the same secret (S13).
pub fn is_low_order(key: &[u8; 32]) -> bool {
    let mut key = *key;
    key[31] &= 0x7f;
    LOW_ORDER.contains(&key)
}

/// 0, 1, p-1, p, p+1 and the two points of order 8; p = 2^255 - 19, little-endian.
const LOW_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    near_p(0xec),
    near_p(0xed),
    near_p(0xee),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
];

const fn near_p(first: u8) -> [u8; 32] {
    let mut number = [0xff; 32];
    number[0] = first;
    number[31] = 0x7f;
    number
}

fn bound(mesh_id: &[u8; 16], netid: NetId, static_key: &[u8; 32]) -> Vec<u8> {
    [
        b"mesh-binding v1",
        &mesh_id[..],
        &netid.0.to_be_bytes(),
        static_key,
    ]
    .concat()
}

/// BLAKE2s-256 over the parts.
pub(in crate::seal) fn blake2s(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::MontgomeryPoint;

    const MESH: [u8; 16] = [9; 16];

    fn identity(seed: u8) -> Identity {
        Identity::new(Key::new([seed; 32]), &Key::new([seed ^ 0x80; 32]))
    }

    #[test]
    fn a_binding_vouches_for_its_own_key_mesh_and_netid_only() {
        let node = identity(1);
        let binding = node.binding(&MESH, NetId(5));
        let verify = verify_binding;
        let signing = node.signing_public();
        assert_eq!(
            verify(&binding, &MESH, NetId(5), node.public()),
            Some(signing)
        );
        assert_eq!(verify(&binding, &MESH, NetId(6), node.public()), None);
        assert_eq!(verify(&binding, &[8; 16], NetId(5), node.public()), None);
        assert_eq!(
            verify(&binding, &MESH, NetId(5), identity(2).public()),
            None
        );
        for bit in 0..BINDING_LEN * 8 {
            let mut changed = binding;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                verify(&changed, &MESH, NetId(5), node.public()),
                None,
                "bit {bit}"
            );
        }
    }

    #[test]
    fn the_identity_point_vouches_for_nothing() {
        // y = 1: with R the same and S zero, the plain equation holds for every message.
        let mut point = [0; 32];
        point[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(is_weak_signing(&point));
        assert!(!verify(&point, b"anything", &signature));
    }

    #[test]
    fn exactly_the_points_of_small_order_agree_on_zero() {
        let agrees_on_zero =
            |point: &[u8; 32]| MontgomeryPoint(*point).mul_clamped([0x42; 32]).0 == [0; 32];
        for point in LOW_ORDER {
            let mut high = point;
            high[31] |= 0x80;
            for point in [point, high] {
                assert!(
                    is_low_order(&point) && agrees_on_zero(&point),
                    "{point:02x?}"
                );
            }
        }
        for number in 2..=255 {
            let mut point = [0; 32];
            point[0] = number;
            assert!(!is_low_order(&point) && !agrees_on_zero(&point), "{number}");
        }
        for first in (0xe0..=0xff).filter(|first| !(0xec..=0xee).contains(first)) {
            assert!(!is_low_order(&near_p(first)) && !agrees_on_zero(&near_p(first)));
        }
    }

    #[test]
    fn a_certificate_counts_by_its_authority_and_no_other() {
        let (authority, node) = (identity(3), identity(4));
        let fields = Certificate::of(MESH, NetId(5), *node.public(), node.signing_public());
        let mut bytes = [0; 400];
        let len = fields.emit_unsigned(&[], &mut bytes).unwrap();
        let signature = authority
            .signing
            .sign(&[b"mesh-cert v1", &bytes[..len]].concat());
        bytes[len..len + 64].copy_from_slice(&signature.to_bytes());
        let whole = &bytes[..len + 64];
        let signed = |bytes: &[u8], by: &Identity| {
            Certificate::parse(bytes)
                .is_ok_and(|certificate| verify_certificate(&certificate, &by.signing_public()))
        };
        assert!(signed(whole, &authority));
        assert!(!signed(whole, &node));
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!signed(&changed, &authority), "bit {bit}");
        }
    }
}
