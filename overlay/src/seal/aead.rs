//! The two AEADs that seal a session's datagrams, each key for one direction.
//!
//! The only module that names the crate behind them, which wipes its keys when they are dropped.

use std::fmt;

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use wire::sealed::TAG_LEN;

use crate::seal::keys::Key;

/// Which AEAD (S19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aead {
    /// 1: every node has it.
    ChaCha20Poly1305,
    /// 2: where both processors have AES instructions.
    Aes256Gcm,
}

impl Aead {
    /// The number on the wire.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::ChaCha20Poly1305 => 1,
            Self::Aes256Gcm => 2,
        }
    }

    /// The AEAD of a number, if there is one.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    /// What a node offers, best first; `aes` says whether its processor has the instructions.
    pub const fn offer(aes: bool) -> &'static [Self] {
        if aes {
            &[Self::Aes256Gcm, Self::ChaCha20Poly1305]
        } else {
            &[Self::ChaCha20Poly1305]
        }
    }

    /// The counter from which on no plaintext of this length is sealed (S22).
    pub const fn seal_limit(self, plaintext_len: usize) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => wire::sealed::COUNTER_LIMIT,
            Self::Aes256Gcm if plaintext_len > LARGE => 1 << 23,
            Self::Aes256Gcm => 1 << 26,
        }
    }

    /// Failed openings after which a session ends (S22).
    pub const fn failure_limit(self) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => 1 << 36,
            Self::Aes256Gcm => 1 << 32,
        }
    }

    /// The count after which the initiator rekeys (S46).
    pub const fn rekey_after(self, large: bool) -> u64 {
        match self {
            Self::ChaCha20Poly1305 => 1 << 40,
            Self::Aes256Gcm if large => 1 << 22,
            Self::Aes256Gcm => 1 << 24,
        }
    }

    const fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }
}

/// Bytes of plaintext above which a datagram counts as large (S22).
pub const LARGE: usize = 2_048;

/// A key that seals, or opens, by counter. Calls: from any thread at once.
pub struct DirectionKey {
    aead: Aead,
    key: LessSafeKey,
}

impl DirectionKey {
    /// The key of one direction.
    pub fn new(aead: Aead, key: &Key) -> Self {
        Self {
            aead,
            key: less_safe(aead, key.bytes()),
        }
    }

    /// The AEAD.
    pub const fn aead(&self) -> Aead {
        self.aead
    }

    /// Seals in place and gives the tag.
    ///
    /// State:   none; never twice with one counter, or the key is known.
    /// Cost:    no allocation.
    /// Returns `None` only for a text of 2^36 bytes and more.
    pub fn seal(&self, counter: u64, associated: &[u8], text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(counter), Aad::from(associated), text)
            .ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Opens a ciphertext with its tag behind it, in place; gives the plaintext, or `None` when it
    /// is not authentic: then the text is spoilt.
    pub fn open<'t>(
        &self,
        counter: u64,
        associated: &[u8],
        text: &'t mut [u8],
    ) -> Option<&'t mut [u8]> {
        self.key
            .open_in_place(self.nonce(counter), Aad::from(associated), text)
            .ok()
    }

    /// S21: the byte order is the one that Noise defines for the AEAD.
    fn nonce(&self, counter: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&match self.aead {
            Aead::ChaCha20Poly1305 => counter.to_le_bytes(),
            Aead::Aes256Gcm => counter.to_be_bytes(),
        });
        Nonce::assume_unique_for_key(nonce)
    }
}

impl fmt::Debug for DirectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirectionKey({:?})", self.aead)
    }
}

fn less_safe(aead: Aead, key: &[u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(aead.algorithm(), key).expect("both AEADs have keys of 32 bytes");
    LessSafeKey::new(key)
}
