//! The token that brings a mesh to a new node: `mi1-` and some 130 characters.
//!
//! It holds the mesh secret itself, so whoever has read it is a member; that it expires keeps an
//! old one from being used by mistake, and takes nothing from who kept it. Source: SEALED.md S64.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::seal::base32;
use crate::seal::keys::{LINEAGE_LEN, Lineage, MeshSecret};

/// What a token begins with.
pub const PREFIX: &str = "mi1-";
/// Addresses that a token holds at most.
pub const PEERS_LIMIT: usize = 16;
/// Bytes of an address, and of the mesh's name, at most.
pub const TEXT_LIMIT: usize = 255;
const CHECKSUM_LEN: usize = 4;
/// Secret, expiry, MTU, name's length, number of addresses.
const FIXED_LEN: usize = 32 + 8 + 2 + 1 + 1;
/// Bytes of the longest token there can be, before it becomes text.
const LIMIT: usize =
    FIXED_LEN + TEXT_LIMIT + PEERS_LIMIT * (1 + TEXT_LIMIT) + LINEAGE_LEN + CHECKSUM_LEN;
/// Characters of the longest token.
pub const TEXT_LEN_LIMIT: usize = PREFIX.len() + base32::text_len(LIMIT);

/// All that a new node has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// What makes it a member.
    pub secret: MeshSecret,
    /// The last second, since 1970-01-01 UTC, at which the token is to be used.
    pub not_after: u64,
    /// The MTU of the mesh's devices, in bytes.
    pub mtu: u16,
    /// The mesh's name; 1 to 255 bytes.
    pub mesh: String,
    /// `HOST:PORT` of nodes to dial; at most [`PEERS_LIMIT`], each 1 to 255 bytes.
    pub peers: Vec<String>,
}

impl Invitation {
    /// The text form, wiped when dropped; `None` if a part is longer than its place.
    pub fn to_text(&self) -> Option<Zeroizing<String>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT));
        bytes.extend_from_slice(self.secret.bytes());
        bytes.extend_from_slice(&self.not_after.to_be_bytes());
        bytes.extend_from_slice(&self.mtu.to_be_bytes());
        push(&mut bytes, &self.mesh)?;
        let peers = Some(self.peers.len()).filter(|count| *count <= PEERS_LIMIT)?;
        bytes.push(peers as u8);
        for peer in &self.peers {
            push(&mut bytes, peer)?;
        }
        if let Some(lineage) = self.secret.lineage() {
            bytes.extend_from_slice(&lineage.to_bytes());
        }
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        let len = PREFIX.len() + base32::text_len(bytes.len());
        let mut text = Zeroizing::new(String::with_capacity(len));
        text.push_str(PREFIX);
        base32::encode(bytes.iter().copied(), &mut text);
        Some(text)
    }

    /// Reads the text form; blanks around it are ignored. Whether it has expired is not asked.
    ///
    /// # Errors
    /// Not a token, or a damaged one. Never says which character: the text is a secret.
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        let text = text.trim();
        let begins = |prefix: &str| {
            text.get(..prefix.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
        };
        if begins("mk1-") || begins("mk2-") {
            return Err(InvitationError::Secret);
        }
        if !begins(PREFIX) {
            return Err(InvitationError::Prefix);
        }
        let mut bytes = Zeroizing::new([0; LIMIT]);
        let body = text
            .get(PREFIX.len()..)
            .and_then(|digits| base32::decode(digits, &mut *bytes))
            .and_then(|len| bytes.get(..len)?.split_last_chunk::<CHECKSUM_LEN>())
            .filter(|(body, sum)| bool::from(checksum(body).ct_eq(*sum)))
            .map(|(body, _)| body)
            .ok_or(InvitationError::Damaged)?;
        read(body).ok_or(InvitationError::Strange)
    }
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationError {
    /// It does not begin with `mi1-`.
    Prefix,
    /// It is the mesh secret itself.
    Secret,
    /// Characters are wrong, missing or too many.
    Damaged,
    /// It is whole, and what it says cannot be.
    Strange,
}

impl fmt::Display for InvitationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "a token begins with mi1-",
            Self::Secret => "this is a mesh secret, not a token",
            Self::Damaged => "the token is damaged: characters are wrong, missing or too many",
            Self::Strange => "the token says what this version does not understand",
        })
    }
}

impl std::error::Error for InvitationError {}

fn push(bytes: &mut Vec<u8>, text: &str) -> Option<()> {
    let len = u8::try_from(text.len()).ok().filter(|len| *len > 0)?;
    bytes.push(len);
    bytes.extend_from_slice(text.as_bytes());
    Some(())
}

fn read(body: &[u8]) -> Option<Invitation> {
    let (secret, rest) = body.split_first_chunk::<32>()?;
    let (not_after, rest) = rest.split_first_chunk()?;
    let (mtu, rest) = rest.split_first_chunk()?;
    let (mesh, rest) = text(rest)?;
    let (&count, mut rest) = rest.split_first()?;
    if usize::from(count) > PEERS_LIMIT {
        return None;
    }
    let mut peers = Vec::with_capacity(count.into());
    for _ in 0..count {
        let (peer, behind) = text(rest)?;
        peers.push(peer);
        rest = behind;
    }
    // Of a mesh that has changed its secret (S91).
    let lineage = match rest {
        [] => None,
        bytes => Some(Lineage::from_bytes(bytes.try_into().ok()?)?),
    };
    Some(Invitation {
        secret: MeshSecret::new(*secret).descended(lineage),
        not_after: u64::from_be_bytes(*not_after),
        mtu: u16::from_be_bytes(*mtu),
        mesh,
        peers,
    })
}

/// A text behind its length: not empty, and nothing in it that steers a terminal.
fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(len.into())?;
    let text = str::from_utf8(text).ok()?;
    let fine = !text.is_empty() && !text.chars().any(char::is_control);
    fine.then(|| (text.to_owned(), rest))
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let hash = Sha256::new()
        .chain_update(b"mesh-invitation v1")
        .chain_update(body)
        .finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789-=. ";

    fn invitation() -> Invitation {
        Invitation {
            secret: MeshSecret::new([0x5a; 32]),
            not_after: 1_800_000_000,
            mtu: 1_360,
            mesh: "floodmesh".into(),
            peers: vec!["van.example:44204".into(), "[2001:db8::7]:44204".into()],
        }
    }

    #[test]
    fn a_token_of_a_mesh_that_changed_its_secret_brings_mesh_and_epoch() {
        let mut invitation = invitation();
        invitation.secret = invitation.secret.following([7; 32]);
        let text = invitation.to_text().unwrap();
        let read = Invitation::parse(&text).unwrap();
        assert_eq!(read.secret.derive().mesh_id, invitation.secret.mesh_id());
        assert_eq!(read, invitation);
    }

    #[test]
    fn a_token_is_read_back_in_either_case_and_with_blanks_around() {
        for peers in 0..=PEERS_LIMIT {
            let mut invitation = invitation();
            invitation.peers = vec!["van.example:44204".into(); peers];
            let text = invitation.to_text().unwrap();
            assert!(text.starts_with("mi1-"));
            for text in [
                text.to_string(),
                text.to_uppercase(),
                format!(" \t{}\r\n", *text),
            ] {
                assert_eq!(Invitation::parse(&text), Ok(invitation.clone()));
            }
        }
    }

    #[test]
    fn the_longest_token_fits() {
        let mut longest = invitation();
        longest.secret = longest.secret.following([7; 32]);
        longest.mesh = "m".repeat(TEXT_LIMIT);
        longest.peers = vec!["p".repeat(TEXT_LIMIT); PEERS_LIMIT];
        let text = longest.to_text().unwrap();
        assert_eq!(text.len(), TEXT_LEN_LIMIT);
        assert_eq!(Invitation::parse(&text), Ok(longest.clone()));
        longest.mesh.push('m');
        assert!(longest.to_text().is_none());
    }

    #[test]
    fn every_single_changed_lost_or_doubled_character_is_refused() {
        let text = invitation().to_text().unwrap();
        for at in 0..text.len() {
            let (before, rest) = text.split_at(at);
            let (own, behind) = rest.split_at(1);
            let others = LETTERS.split("").filter(|other| *other != own);
            let doubled = format!("{own}{own}");
            for other in others.chain([doubled.as_str()]) {
                // A blank at the end is not part of the text.
                let changed = format!("{before}{other}{behind}");
                if changed.trim() != *text {
                    assert!(Invitation::parse(&changed).is_err(), "{at}: {other:?}");
                }
            }
        }
    }

    #[test]
    fn every_shorter_text_and_every_swap_of_neighbors_is_refused() {
        let text = invitation().to_text().unwrap();
        for len in 0..text.len() {
            assert!(Invitation::parse(&text[..len]).is_err(), "{len}");
        }
        for at in 1..text.len() {
            let mut swapped = text.as_bytes().to_vec();
            swapped.swap(at - 1, at);
            let swapped = String::from_utf8(swapped).unwrap();
            assert!(swapped == *text || Invitation::parse(&swapped).is_err());
        }
    }

    #[test]
    fn what_is_whole_and_cannot_be_is_refused() {
        let text = |change: &dyn Fn(&mut Vec<u8>)| {
            let token = invitation().to_text().unwrap();
            let mut bytes = [0; LIMIT];
            let len = base32::decode(&token[4..], &mut bytes).unwrap();
            let mut bytes = bytes[..len - CHECKSUM_LEN].to_vec();
            change(&mut bytes);
            let sum = checksum(&bytes);
            let mut text = PREFIX.to_owned();
            base32::encode(bytes.into_iter().chain(sum), &mut text);
            text
        };
        assert_eq!(Invitation::parse(&text(&|_| {})), Ok(invitation()));
        for (what, change) in [
            (
                "a byte behind",
                &(|b: &mut Vec<u8>| b.push(0)) as &dyn Fn(&mut Vec<u8>),
            ),
            ("no name", &|b| b[42] = 0),
            ("a control character", &|b| b[43] = 7),
            ("no UTF-8", &|b| b[43] = 0xff),
            ("too many addresses", &|b| b[52] = 17),
            ("an address too many", &|b| b[52] = 3),
            ("nothing", &|b| b.clear()),
        ] {
            let refused = Invitation::parse(&text(change));
            assert_eq!(refused, Err(InvitationError::Strange), "{what}");
        }
    }

    #[test]
    fn a_mesh_secret_is_told_from_a_token() {
        let secret = MeshSecret::new([1; 32]).to_text();
        assert_eq!(Invitation::parse(&secret), Err(InvitationError::Secret));
        assert_eq!(Invitation::parse("hello"), Err(InvitationError::Prefix));
        assert_eq!(Invitation::parse(""), Err(InvitationError::Prefix));
    }

    #[test]
    fn an_invitation_does_not_show_its_secret() {
        assert!(!format!("{:?}", invitation()).contains("90"));
    }
}
