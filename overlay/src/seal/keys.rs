//! The mesh secret, and the keys that come from it.
//!
//! Whoever has the secret is a member. A mesh can change its secret and stays the same mesh: the
//! [`MeshSecret::following`] one keeps the mesh id, on which netids and certificates stand. It is
//! shown to its owner as text, `mk1-` and 58 characters, or `mk2-` and 90 where it followed another,
//! and to nobody else: nothing here has a `Debug` that shows a key, and all of it is wiped when it
//! is dropped. Source: SEALED.md, "Keys" (S1 to S5, S91).

use std::fmt;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::seal::base32;

/// What the text of a mesh's first secret begins with.
const PREFIX: &str = "mk1-";
/// What the text of a later one begins with.
const LATER_PREFIX: &str = "mk2-";
/// Characters of the secret's 32 bytes and the checksum's 4.
const TEXT_LEN: usize = 58;
/// Characters of the secret's 32 bytes, its lineage's 20 and the checksum's 4.
const LATER_TEXT_LEN: usize = 90;
const CHECKSUM_LEN: usize = 4;
/// Bytes of a [`Lineage`].
pub(in crate::seal) const LINEAGE_LEN: usize = 20;
/// The epoch of a mesh's first secret (S91).
pub const FIRST_EPOCH: u32 = 0;

/// 32 bytes that nobody sees: wiped when dropped, compared in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// A key of these bytes; the caller wipes its own copy.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for whoever computes with them.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What makes a node a member (S1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeshSecret {
    key: Key,
    /// Where it is not the mesh's first one.
    lineage: Option<Lineage>,
}

/// What a mesh keeps when its secret changes, and how often it did (S91).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::seal) struct Lineage {
    mesh_id: [u8; 16],
    epoch: u32,
}

impl Lineage {
    pub(in crate::seal) fn to_bytes(self) -> [u8; LINEAGE_LEN] {
        let mut bytes = [0; LINEAGE_LEN];
        bytes[..16].copy_from_slice(&self.mesh_id);
        bytes[16..].copy_from_slice(&self.epoch.to_be_bytes());
        bytes
    }

    /// `None` for epoch 0, whose mesh id follows from the secret.
    pub(in crate::seal) fn from_bytes(bytes: &[u8; LINEAGE_LEN]) -> Option<Self> {
        let (mesh_id, epoch) = bytes.split_first_chunk::<16>()?;
        let epoch = u32::from_be_bytes(epoch.try_into().ok()?);
        (epoch != FIRST_EPOCH).then_some(Self {
            mesh_id: *mesh_id,
            epoch,
        })
    }
}

impl MeshSecret {
    /// The first secret of a mesh, of these random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self {
            key: Key::new(bytes),
            lineage: None,
        }
    }

    /// The secret that follows this one in the same mesh, of these random bytes.
    pub fn following(&self, bytes: [u8; 32]) -> Self {
        let lineage = Lineage {
            mesh_id: self.mesh_id(),
            epoch: self.epoch().saturating_add(1),
        };
        Self::new(bytes).descended(Some(lineage))
    }

    pub(in crate::seal) fn descended(self, lineage: Option<Lineage>) -> Self {
        Self {
            key: self.key,
            lineage,
        }
    }

    pub(in crate::seal) const fn lineage(&self) -> Option<Lineage> {
        self.lineage
    }

    /// How often the mesh changed its secret before this one.
    pub const fn epoch(&self) -> u32 {
        match self.lineage {
            Some(lineage) => lineage.epoch,
            None => FIRST_EPOCH,
        }
    }

    /// Names the mesh, whatever its secret is by now.
    pub fn mesh_id(&self) -> [u8; 16] {
        match self.lineage {
            Some(lineage) => lineage.mesh_id,
            None => derive(self.key.bytes(), b"mesh-id v1"),
        }
    }

    /// Reads the text form; blanks around it are ignored.
    ///
    /// # Errors
    /// Not a mesh secret, or one with a typing error. Never says which character: the text is a
    /// secret as well.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let behind = |prefix: &str| {
            text.get(..prefix.len())
                .filter(|begin| begin.eq_ignore_ascii_case(prefix))
                .and_then(|_| text.get(prefix.len()..))
        };
        if let Some(digits) = behind(LATER_PREFIX) {
            return Self::parse_later(digits);
        }
        let digits = behind(PREFIX).ok_or(SecretError::Prefix)?;
        if digits.len() != TEXT_LEN {
            return Err(SecretError::Length);
        }
        let bytes = decode::<36>(digits)?;
        let (secret, checksum) = bytes.split_at(32);
        let mut array = [0; 32];
        array.copy_from_slice(secret);
        let secret = Self::new(array);
        array.zeroize();
        if secret.checksum().ct_eq(checksum).into() {
            Ok(secret)
        } else {
            Err(SecretError::Checksum)
        }
    }

    fn parse_later(digits: &str) -> Result<Self, SecretError> {
        if digits.len() != LATER_TEXT_LEN {
            return Err(SecretError::Length);
        }
        let bytes = decode::<{ 32 + LINEAGE_LEN + CHECKSUM_LEN }>(digits)?;
        let (secret, rest) = bytes.split_first_chunk::<32>().ok_or(SecretError::Length)?;
        let (lineage, checksum) = rest
            .split_first_chunk::<LINEAGE_LEN>()
            .ok_or(SecretError::Length)?;
        // One of epoch 0 has another text: each secret has one.
        let lineage = Lineage::from_bytes(lineage).ok_or(SecretError::Checksum)?;
        let secret = Self::new(*secret).descended(Some(lineage));
        if secret.checksum().ct_eq(checksum).into() {
            Ok(secret)
        } else {
            Err(SecretError::Checksum)
        }
    }

    /// The text form, wiped when dropped.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + LATER_TEXT_LEN));
        let lineage = self.lineage.map(Lineage::to_bytes);
        text.push_str(if lineage.is_some() {
            LATER_PREFIX
        } else {
            PREFIX
        });
        let checksum = self.checksum();
        let bytes = self.key.bytes().iter();
        let bytes = bytes.chain(lineage.iter().flatten()).chain(&checksum);
        base32::encode(bytes.copied(), &mut text);
        text
    }

    /// Everything that a node needs from it.
    pub fn derive(&self) -> MeshKeys {
        let mac1 = self.key(b"mac1 v1");
        MeshKeys {
            mesh_id: self.mesh_id(),
            epoch: self.epoch(),
            link_psk: self.key(b"link-psk v1"),
            cookie: Key::new(derive(mac1.bytes(), b"cookie v1")),
            mac1,
            end_to_end_psk: self.key(b"e2e-psk v1"),
            end_to_end_mac1: self.key(b"e2e-mac1 v1"),
            broadcast: self.broadcast_key(self.epoch()),
        }
    }

    /// The key of broadcasts in an epoch.
    pub fn broadcast_key(&self, epoch: u32) -> Key {
        let mut info = *b"bcast v1\0\0\0\0";
        info[8..].copy_from_slice(&epoch.to_be_bytes());
        self.key(&info)
    }

    /// The bytes, for an invitation.
    pub(in crate::seal) const fn bytes(&self) -> &[u8; 32] {
        self.key.bytes()
    }

    fn key(&self, info: &[u8]) -> Key {
        Key::new(derive(self.key.bytes(), info))
    }

    fn checksum(&self) -> [u8; CHECKSUM_LEN] {
        let hash = match self.lineage {
            None => Sha256::new()
                .chain_update(b"mesh-secret v1")
                .chain_update(self.key.bytes()),
            Some(lineage) => Sha256::new()
                .chain_update(b"mesh-secret v2")
                .chain_update(self.key.bytes())
                .chain_update(lineage.to_bytes()),
        }
        .finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

/// What is derived from a mesh secret (S2). Nothing in it leads back to the secret.
#[derive(Clone, Debug)]
pub struct MeshKeys {
    /// Names the mesh; no secret, and in no datagram either. It outlives the secret.
    pub mesh_id: [u8; 16],
    /// How often the mesh changed its secret before; rises with each change.
    pub epoch: u32,
    /// Mixed into the handshake of links.
    pub link_psk: Key,
    /// Keys mac1: whoever has not even this is not listened to.
    pub mac1: Key,
    /// Seals cookies.
    pub cookie: Key,
    /// Mixed into the handshake between two ends.
    pub end_to_end_psk: Key,
    /// Keys the mac of that handshake.
    pub end_to_end_mac1: Key,
    /// Seals what is for all, in this epoch.
    pub broadcast: Key,
}

impl MeshKeys {
    /// What tells this secret from others of its epoch to who has both, and nothing else to anybody (S108).
    pub fn fingerprint(&self) -> Fingerprint {
        let mac = mac(&self.mac1, &[b"next-secret v1"]);
        let mut short = [0; 8];
        short.copy_from_slice(&mac[..8]);
        Fingerprint {
            epoch: self.epoch,
            mac: short,
        }
    }
}

/// Which mesh secret somebody has, without the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Its number.
    pub epoch: u32,
    /// The rest.
    pub mac: [u8; 8],
}

impl Fingerprint {
    /// As a record has it.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[4..].copy_from_slice(&self.mac);
        bytes
    }

    /// Reads that.
    pub fn from_bytes(bytes: &[u8; 12]) -> Self {
        let (epoch, mac) = bytes.split_at(4);
        let read = |part: &[u8]| {
            part.iter()
                .fold(0, |number, &byte| number << 8 | u64::from(byte))
        };
        Self {
            epoch: read(epoch) as u32,
            mac: read(mac).to_be_bytes(),
        }
    }

    /// Whether these are two secrets with one number: two changes were begun at once.
    pub fn is_rival(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.mac != other.mac
    }
}

/// Why a text is no mesh secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretError {
    /// It begins with neither `mk1-` nor `mk2-`.
    Prefix,
    /// It has too few characters or too many.
    Length,
    /// A character is none of the alphabet's, or the last one has bits that mean nothing.
    Character,
    /// The checksum does not fit: a typing error.
    Checksum,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "a mesh secret begins with mk1- or mk2-",
            Self::Length => "a mesh secret has 58 characters behind mk1-, and 90 behind mk2-",
            Self::Character => {
                "a mesh secret has letters and the digits 2 to 7 behind mk1- or mk2-"
            }
            Self::Checksum => "the mesh secret has a typing error: its checksum does not fit",
        })
    }
}

impl std::error::Error for SecretError {}

/// HKDF-SHA256 with an empty salt.
pub fn derive<const N: usize>(input: &[u8; 32], info: &[u8]) -> [u8; N] {
    const { assert!(N <= 255 * 32) };
    let mut output = [0; N];
    Hkdf::<Sha256>::new(None, input)
        .expand(info, &mut output)
        .expect("fewer bytes than HKDF gives, by the assertion above");
    output
}

/// Keyed BLAKE3 over the parts, the first 16 bytes of it.
pub fn mac(key: &Key, parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key.bytes());
    for part in parts {
        hasher.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}

/// Whether two macs are equal, in a time that does not tell where they differ.
pub fn is_same(left: &[u8; 16], right: &[u8; 16]) -> bool {
    left.ct_eq(right).into()
}

fn decode<const N: usize>(digits: &str) -> Result<Zeroizing<[u8; N]>, SecretError> {
    let mut bytes = Zeroizing::new([0; N]);
    match base32::decode(digits, &mut *bytes) {
        Some(len) if len == N => Ok(bytes),
        _ => Err(SecretError::Character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

    #[test]
    fn nothing_that_holds_a_key_shows_it() {
        let secret = MeshSecret::new([0x5a; 32]);
        let shown = format!("{:?} {:?}", secret, secret.derive());
        for digits in ["5a", "90", "Zz"] {
            assert!(!shown.contains(digits), "{shown}");
        }
        let text = secret.to_text();
        assert!(!shown.contains(&text[4..12]));
    }

    #[test]
    fn a_text_is_read_back_in_either_case_and_with_blanks_around() {
        let secret = MeshSecret::new([7; 32]);
        let text = secret.to_text();
        assert_eq!(text.len(), 62);
        for text in [
            text.to_string(),
            text.to_uppercase(),
            format!("  {}\n", *text),
        ] {
            assert_eq!(MeshSecret::parse(&text), Ok(secret.clone()));
        }
    }

    #[test]
    fn every_other_text_is_refused_by_its_reason() {
        let text = MeshSecret::new([7; 32]).to_text();
        assert_eq!(MeshSecret::parse(""), Err(SecretError::Prefix));
        assert_eq!(MeshSecret::parse(&text[4..]), Err(SecretError::Prefix));
        assert_eq!(MeshSecret::parse(&text[..61]), Err(SecretError::Length));
        assert_eq!(
            MeshSecret::parse(&format!("{}a", *text)),
            Err(SecretError::Length)
        );
        for odd in ["1", "0", "8", "=", "-", " "] {
            let changed = format!("{}{odd}{}", &text[..20], &text[21..]);
            assert_eq!(
                MeshSecret::parse(&changed),
                Err(SecretError::Character),
                "{odd}"
            );
        }
        // Not ASCII, and of a length that counts.
        assert!(MeshSecret::parse(&format!("mk1-{}", "é".repeat(29))).is_err());
        assert!(MeshSecret::parse("mké1-").is_err());
        // The last digit has two bits that mean nothing.
        let last = text.as_bytes()[61];
        let value = ALPHABET.iter().position(|&digit| digit == last).unwrap();
        assert_eq!(value % 4, 0);
        let changed = format!("{}{}", &text[..61], char::from(ALPHABET[value + 1]));
        assert_eq!(MeshSecret::parse(&changed), Err(SecretError::Character));
    }

    #[test]
    fn a_following_secret_shares_the_mesh_id_and_nothing_else() {
        let first = MeshSecret::new([7; 32]);
        let second = first.following([8; 32]);
        let third = second.following([9; 32]);
        assert_eq!([&first, &second, &third].map(MeshSecret::epoch), [0, 1, 2]);
        let all = [&first, &second, &third].map(MeshSecret::derive);
        for keys in &all[1..] {
            assert_eq!(keys.mesh_id, all[0].mesh_id);
            assert!(keys.link_psk != all[0].link_psk && keys.mac1 != all[0].mac1);
            assert!(keys.end_to_end_psk != all[0].end_to_end_psk);
            assert!(keys.broadcast != all[0].broadcast && keys.cookie != all[0].cookie);
        }
        // The same bytes as a first secret make another mesh.
        assert_ne!(MeshSecret::new([8; 32]).derive().mesh_id, all[0].mesh_id);
    }

    #[test]
    fn the_text_of_a_following_secret_brings_its_mesh_and_its_epoch() {
        let secret = MeshSecret::new([7; 32]).following([8; 32]);
        let text = secret.to_text();
        assert!(
            text.starts_with("mk2-") && text.len() == 94,
            "{}",
            text.len()
        );
        assert_eq!(MeshSecret::parse(&text.to_uppercase()), Ok(secret));
        for at in 4..93 {
            let other = if text.as_bytes()[at] == b'a' {
                "b"
            } else {
                "a"
            };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(MeshSecret::parse(&changed).is_err(), "{at}");
        }
        let short = MeshSecret::parse(&text[..93]);
        assert_eq!(short, Err(SecretError::Length));
        // One that says that it followed none has another text.
        let zero = Lineage {
            mesh_id: [1; 16],
            epoch: 0,
        };
        let odd = MeshSecret::new([8; 32]).descended(Some(zero)).to_text();
        assert_eq!(MeshSecret::parse(&odd), Err(SecretError::Checksum));
    }

    proptest! {
        #[test]
        fn every_secret_survives_its_text_and_no_changed_character_does(
            bytes in any::<[u8; 32]>(), at in 4_usize..61, by in 1_usize..32,
        ) {
            let secret = MeshSecret::new(bytes);
            let text = secret.to_text();
            prop_assert_eq!(MeshSecret::parse(&text), Ok(secret));
            let mut changed = text.as_bytes().to_vec();
            let value = ALPHABET.iter().position(|&digit| digit == changed[at]).unwrap();
            changed[at] = ALPHABET[(value + by) % 32];
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(MeshSecret::parse(&changed), Err(SecretError::Checksum));
        }
    }
}
