//! Hashing of what strangers choose.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Hashes with a key that strangers do not know, so that they cannot make keys collide (SECURITY
/// T12). The key is random per start; the simulator gives its own.
#[derive(Clone, Copy, Debug)]
pub struct KeyedHasher(pub u64, pub u64);

impl BuildHasher for KeyedHasher {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}
