//! The mesh authority: signs who is who, and who is no longer (SEALED.md S35 to S40, S78).
//!
//! Nothing here keeps anything: which serials were given is the business of who owns the key.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use wire::sealed::{
    CERTIFICATE_MAX_LEN, Certificate, Prefix, REVOCATIONS_MAX_LEN, Revocations, Revoked,
};

use crate::seal::identity::{is_low_order, is_weak_signing};
use crate::seal::keys::Key;

const SIGNATURE_LEN: usize = 64;

/// The authority's key, and the mesh that it is for. Wiped when dropped.
pub struct Authority {
    mesh_id: [u8; 16],
    signing: SigningKey,
}

impl Authority {
    /// The authority of a mesh with this secret, 32 random bytes.
    pub fn new(mesh_id: [u8; 16], secret: &Key) -> Self {
        Self {
            mesh_id,
            signing: SigningKey::from_bytes(secret.bytes()),
        }
    }

    /// The mesh.
    pub const fn mesh_id(&self) -> &[u8; 16] {
        &self.mesh_id
    }

    /// What others verify its signatures with.
    pub fn public(&self) -> [u8; 32] {
        self.signing.verifying_key().to_bytes()
    }

    /// The whole certificate of these fields; their mesh is replaced by the authority's. `None` if
    /// they are not canonical (S36), or a key is nobody's (S40).
    pub fn sign(&self, fields: &Certificate<'_>, prefixes: &[Prefix]) -> Option<Vec<u8>> {
        let mut fields = *fields;
        fields.mesh_id = self.mesh_id;
        if is_low_order(&fields.static_key) || is_weak_signing(&fields.signing_key) {
            return None;
        }
        let mut bytes = vec![0; CERTIFICATE_MAX_LEN];
        let len = fields.emit_unsigned(prefixes, &mut bytes)?;
        Some(self.signed(b"mesh-cert v1", bytes, len))
    }

    /// The whole revocation list of this number with these entries, which are put in order. `None`
    /// if there are too many, or one revokes nothing.
    pub fn revoke(&self, number: u64, revoked: &[Revoked]) -> Option<Vec<u8>> {
        let mut sorted = revoked.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut bytes = vec![0; REVOCATIONS_MAX_LEN];
        let len = Revocations::emit_unsigned(&self.mesh_id, number, &sorted, &mut bytes)?;
        Some(self.signed(b"mesh-revocation v1", bytes, len))
    }

    fn signed(&self, text: &[u8], mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
        bytes.truncate(len);
        let signature = self.signing.sign(&[text, &bytes].concat());
        bytes.reserve_exact(SIGNATURE_LEN);
        bytes.extend_from_slice(&signature.to_bytes());
        bytes
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::identity::{verify_certificate, verify_revocations};
    use wire::NetId;

    #[test]
    fn what_it_signs_is_verified_by_its_key_alone_and_what_is_nobodys_it_does_not_sign() {
        let authority = Authority::new([9; 16], &Key::new([7; 32]));
        let other = Authority::new([9; 16], &Key::new([8; 32]));
        let mut fields = Certificate::of([0; 16], NetId(5), [0x55; 32], other.public());
        fields.name = "van";
        let bytes = authority.sign(&fields, &[]).unwrap();
        let certificate = Certificate::parse(&bytes).unwrap();
        assert_eq!((certificate.mesh_id, certificate.name), ([9; 16], "van"));
        assert!(verify_certificate(&certificate, &authority.public()));
        assert!(!verify_certificate(&certificate, &other.public()));
        fields.static_key = [0; 32];
        assert_eq!(authority.sign(&fields, &[]), None);
        fields.static_key = [0x55; 32];
        fields.signing_key = [0; 32];
        assert_eq!(authority.sign(&fields, &[]), None);

        let entry = |serial| Revoked {
            serial,
            static_key: [0; 32],
            not_after: 1,
        };
        // Whatever their order, and however often.
        let bytes = authority
            .revoke(3, &[entry(7), entry(2), entry(7)])
            .unwrap();
        let list = Revocations::parse(&bytes).unwrap();
        assert_eq!(list.entries().collect::<Vec<_>>(), [entry(2), entry(7)]);
        assert!(verify_revocations(&list, &authority.public()));
        assert!(!verify_revocations(&list, &other.public()));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let good = Revocations::parse(&changed)
                .is_ok_and(|list| verify_revocations(&list, &authority.public()));
            assert!(!good, "bit {bit}");
        }
        assert_eq!(authority.revoke(0, &[entry(1)]), None);
        assert_eq!(authority.revoke(1, &[entry(0)]), None);
    }
}
