//! X25519 pairs (RFC 7748): what a handshake computes with.
//!
//! The only module that names the crate behind them. That crate wipes its own copies of a secret.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use zeroize::Zeroizing;

use crate::seal::keys::Key;

/// A secret and its public key. Wiped when the last copy is dropped.
#[derive(Clone)]
pub struct Pair {
    secret: Key,
    private: Arc<PrivateKey>,
    public: [u8; 32],
}

impl Pair {
    /// The pair of a secret.
    ///
    /// Cost:    one multiplication of the base point, 10 us.
    pub fn new(secret: Key) -> Self {
        let private = PrivateKey::from_private_key(&X25519, secret.bytes())
            .expect("any 32 bytes are a secret (RFC 7748 section 5)");
        let mut public = [0; 32];
        if let Ok(computed) = private.compute_public_key() {
            public.copy_from_slice(computed.as_ref());
        }
        Self {
            secret,
            private: Arc::new(private),
            public,
        }
    }

    /// What others know the pair by.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub(in crate::seal) const fn secret(&self) -> &Key {
        &self.secret
    }

    /// What only the holders of the two secrets can compute; `None` if the other public key has a
    /// small order, so that anybody could (S13).
    ///
    /// Cost:    one multiplication, 40 us.
    pub fn agree(&self, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let other = UnparsedPublicKey::new(&X25519, public);
        agree(&self.private, other, (), |shared| {
            let shared: [u8; 32] = shared.try_into().map_err(drop)?;
            Ok(Zeroizing::new(shared))
        })
        .ok()
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair(..)")
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::MontgomeryPoint;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_ends_agree_and_so_does_another_implementation() {
        proptest!(ProptestConfig::with_cases(64), |(a: [u8; 32], b: [u8; 32])| {
            let (ours, theirs) = (Pair::new(Key::new(a)), Pair::new(Key::new(b)));
            let shared = ours.agree(theirs.public()).unwrap();
            assert_eq!(theirs.agree(ours.public()).unwrap(), shared);
            assert_eq!(MontgomeryPoint::mul_base_clamped(a).0, *ours.public());
            assert_eq!(MontgomeryPoint(*theirs.public()).mul_clamped(a).0, *shared);
        });
    }

    #[test]
    fn any_32_bytes_are_taken_as_a_public_key_as_another_implementation_does() {
        let ours = Pair::new(Key::new([7; 32]));
        proptest!(ProptestConfig::with_cases(64), |(point: [u8; 32])| {
            let shared = ours.agree(&point).map(|shared| *shared);
            assert_eq!(shared, Some(MontgomeryPoint(point).mul_clamped([7; 32]).0));
        });
    }
}
