//! The text of what an authority gives out: a word, a dash, and base32 of the bytes and a checksum of
//! four (SEALED.md S77). Public, all of it; the checksum finds what was lost in copying.

use sha2::{Digest, Sha256};

use crate::seal::base32;

const CHECKSUM_LEN: usize = 4;

/// What a text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Armor {
    /// `ma1-`: the authority's public key.
    Authority,
    /// `mc1-`: a certificate.
    Certificate,
    /// `mr1-`: a revocation list.
    Revocations,
}

impl Armor {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Authority => "ma1-",
            Self::Certificate => "mc1-",
            Self::Revocations => "mr1-",
        }
    }

    const fn label(self) -> &'static [u8] {
        match self {
            Self::Authority => b"mesh-authority v1",
            Self::Certificate => b"mesh-certificate v1",
            Self::Revocations => b"mesh-revocations v1",
        }
    }

    /// Bytes at the most.
    pub const fn limit(self) -> usize {
        match self {
            Self::Authority => 32,
            Self::Certificate => wire::sealed::CERTIFICATE_MAX_LEN,
            Self::Revocations => wire::sealed::REVOCATIONS_MAX_LEN,
        }
    }

    /// The text of these bytes.
    pub fn encode(self, bytes: &[u8]) -> String {
        let mut text = String::from(self.prefix());
        let checksum = self.checksum(bytes);
        base32::encode(bytes.iter().chain(&checksum).copied(), &mut text);
        text
    }

    /// The bytes of a text; blanks around it are ignored, and upper case is as good.
    pub fn decode(self, text: &str) -> Option<Vec<u8>> {
        let (prefix, digits) = text.trim().split_at_checked(self.prefix().len())?;
        if !prefix.eq_ignore_ascii_case(self.prefix()) {
            return None;
        }
        let mut bytes = vec![0; self.limit() + CHECKSUM_LEN];
        let len = base32::decode(digits, &mut bytes)?;
        let (content, checksum) = bytes.get(..len)?.split_last_chunk::<CHECKSUM_LEN>()?;
        (*checksum == self.checksum(content)).then(|| content.to_vec())
    }

    fn checksum(self, bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
        let hash = Sha256::new()
            .chain_update(self.label())
            .chain_update(bytes)
            .finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_what_it_is_and_no_typing_error_passes() {
        let bytes = [0x5a; 32];
        let text = Armor::Authority.encode(&bytes);
        assert!(text.starts_with("ma1-") && text.len() == 62, "{text}");
        let read = |text: &str| Armor::Authority.decode(text);
        assert_eq!(read(&text).as_deref(), Some(&bytes[..]));
        assert_eq!(
            read(&format!(" {}\n", text.to_uppercase())).as_deref(),
            Some(&bytes[..])
        );
        for place in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[place] = if wrong[place] == b'a' { b'b' } else { b'a' };
            assert_eq!(read(&String::from_utf8(wrong).unwrap()), None, "{place}");
            assert_eq!(read(&text[..place]), None, "{place}");
        }
        // The same digits are nothing else, and what is too long is nothing.
        assert_eq!(Armor::Certificate.decode(&text.replace("ma1", "mc1")), None);
        assert_eq!(read(&Armor::Authority.encode(&[7; 33])), None);
        assert_eq!(read("é"), None);
    }
}
