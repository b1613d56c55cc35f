//! The keyed hash of a whole message: what "the same message" means to this node.
//!
//! The digest covers every byte, header and payload, because every byte is forwarded unaltered
//! (A10): a copy that differs in one flag is another message, so a forged copy can never make the
//! real one look seen (SECURITY T9). The key is drawn at each start and the digest never leaves
//! the node, so nobody outside can search for two messages of one digest.
//!
//! All three algorithms are keyed pseudo-random functions; they differ in speed alone. Figures of
//! the choice stand at [`Algorithm`]; `cargo bench --bench hash` measures them again.
//!
//! Source: SipHash (Aumasson, Bernstein 2012), HighwayHash (Alakuijala, Cox, Wassenberg 2016),
//! BLAKE3 (O'Connor and others 2020); DATAPATH 10 compares them against possible attacks.

use std::fmt;
use std::str::FromStr;

use highway::{HighwayHash, HighwayHasher, Key};
use siphasher::sip::SipHasher13;

/// Which keyed hash a node uses. No two nodes need agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// SipHash-1-3: the fastest below some 200 bytes, and wherever there is no AVX2.
    SipHash13,
    /// HighwayHash-64: half the time of SipHash over full-size packets.
    #[default]
    Highway64,
    /// Keyed BLAKE3, cut to 64 bits: for those who want a cryptographic hash; costs more than the
    /// rest of the data path together.
    Blake3,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SipHash13, Self::Highway64, Self::Blake3];

    /// The name in `dedupe.hash`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SipHash13 => "siphash",
            Self::Highway64 => "highway",
            Self::Blake3 => "blake3",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgorithmError;

impl fmt::Display for AlgorithmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message hash is siphash, highway or blake3")
    }
}

impl std::error::Error for AlgorithmError {}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == text)
            .ok_or(AlgorithmError)
    }
}

/// An algorithm with this node's key.
///
/// Calls: from any thread. `Debug` does not show the key.
#[derive(Clone)]
pub enum MessageHasher {
    /// See [`Algorithm::SipHash13`]; uses the first two words of the key.
    SipHash13(SipHasher13),
    /// See [`Algorithm::Highway64`].
    Highway64(Key),
    /// See [`Algorithm::Blake3`].
    Blake3([u8; 32]),
}

impl MessageHasher {
    /// `algorithm` with `key`: 256 bits, drawn fresh at every start and told to nobody.
    pub fn new(algorithm: Algorithm, key: [u64; 4]) -> Self {
        match algorithm {
            Algorithm::SipHash13 => Self::SipHash13(SipHasher13::new_with_keys(key[0], key[1])),
            Algorithm::Highway64 => Self::Highway64(Key(key)),
            Algorithm::Blake3 => {
                let mut bytes = [0; 32];
                for (place, word) in bytes.chunks_exact_mut(8).zip(key) {
                    place.copy_from_slice(&word.to_le_bytes());
                }
                Self::Blake3(bytes)
            }
        }
    }

    /// The digest of one whole message.
    ///
    /// Shape: the datagram as received, header first; any length.
    /// Cost:  linear in the length; no allocation.
    pub fn digest(&self, datagram: &[u8]) -> u64 {
        match self {
            Self::SipHash13(hasher) => hasher.hash(datagram),
            Self::Highway64(key) => HighwayHasher::new(*key).hash64(datagram),
            Self::Blake3(key) => {
                let hash = blake3::keyed_hash(key, datagram);
                let mut first = [0; 8];
                first.copy_from_slice(&hash.as_bytes()[..8]);
                u64::from_le_bytes(first)
            }
        }
    }

    /// Which algorithm this is.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::SipHash13(_) => Algorithm::SipHash13,
            Self::Highway64(_) => Algorithm::Highway64,
            Self::Blake3(_) => Algorithm::Blake3,
        }
    }
}

impl fmt::Debug for MessageHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageHasher({})", self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u64; 4] = [
        0x0706_0504_0302_0100,
        0x0f0e_0d0c_0b0a_0908,
        0x1716_1514_1312_1110,
        0x1f1e_1d1c_1b1a_1918,
    ];

    /// The published first vectors: HighwayHash's own test key is the bytes 0 to 31, and BLAKE3's
    /// keyed test uses the text key below over the bytes 0, 1, 2, and so on.
    #[test]
    fn digests_agree_with_the_published_vectors() {
        let highway = MessageHasher::new(Algorithm::Highway64, KEY);
        assert_eq!(highway.digest(&[]), 0x907A_56DE_22C2_6E53);
        assert_eq!(highway.digest(&[0]), 0x7EAB_43AA_C7CD_DD78);

        let text = b"whats the Elvish word for friend";
        let mut key = [0; 4];
        for (word, bytes) in key.iter_mut().zip(text.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap());
        }
        let blake3 = MessageHasher::new(Algorithm::Blake3, key);
        assert_eq!(
            blake3.digest(&[]).to_le_bytes(),
            [0x92, 0xb2, 0xb7, 0x56, 0x04, 0xed, 0x3c, 0x76]
        );
    }

    /// SipHash-1-3 with the key 0 to 15 over 0, 1, 2, ...: the vectors that Rust's core tests use.
    #[test]
    fn siphash_agrees_with_the_vectors_of_rust_core() {
        let siphash = MessageHasher::new(Algorithm::SipHash13, KEY);
        assert_eq!(
            siphash.digest(&[]).to_le_bytes(),
            [0xdc, 0xc4, 0x0f, 0x05, 0x58, 0x01, 0xac, 0xab]
        );
        assert_eq!(
            siphash.digest(&[0]).to_le_bytes(),
            [0x93, 0xca, 0x57, 0x7d, 0xf3, 0x9b, 0xf4, 0xc9]
        );
    }

    #[test]
    fn every_byte_and_the_length_count() {
        for algorithm in Algorithm::ALL {
            let hasher = MessageHasher::new(algorithm, KEY);
            let message = [0x5a_u8; 80];
            let digest = hasher.digest(&message);
            for index in 0..message.len() {
                let mut other = message;
                other[index] ^= 1;
                assert_ne!(hasher.digest(&other), digest, "{algorithm} byte {index}");
            }
            assert_ne!(hasher.digest(&message[..79]), digest, "{algorithm}");
        }
    }

    #[test]
    fn another_key_gives_another_digest() {
        for algorithm in Algorithm::ALL {
            let one = MessageHasher::new(algorithm, KEY);
            let other = MessageHasher::new(algorithm, [KEY[0] ^ 1, KEY[1], KEY[2], KEY[3]]);
            assert_ne!(one.digest(b"message"), other.digest(b"message"));
        }
    }

    #[test]
    fn names_read_back_and_others_are_refused() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
        assert_eq!("md5".parse::<Algorithm>(), Err(AlgorithmError));
    }

    #[test]
    fn the_key_is_not_printed() {
        let hasher = MessageHasher::new(Algorithm::SipHash13, KEY);
        assert_eq!(format!("{hasher:?}"), "MessageHasher(siphash)");
    }
}
