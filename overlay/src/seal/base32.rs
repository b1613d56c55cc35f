//! Base32 in lower case without padding (RFC 4648 section 6): the text of secrets that people copy.
//!
//! Every sequence of bytes has one text but for the case of its letters. Nothing here allocates, so
//! that no copy of a secret stays behind.

/// RFC 4648, lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Characters of so many bytes.
pub(in crate::seal) const fn text_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Appends the text of `bytes`; `text` should have room for it, or it leaves a copy when it grows.
pub(in crate::seal) fn encode(bytes: impl IntoIterator<Item = u8>, text: &mut String) {
    let (mut bits, mut count) = (0_u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(digit(bits >> count));
        }
    }
    if count > 0 {
        // The last digit holds what is left on its left.
        text.push(digit(bits << (5 - count)));
    }
}

/// Reads a text into the front of `bytes` and says how many there are.
///
/// `None`: a character of no digit, more than fits, or bits at the end that mean nothing.
pub(in crate::seal) fn decode(text: &str, bytes: &mut [u8]) -> Option<usize> {
    let (mut bits, mut count, mut at) = (0_u32, 0, 0);
    for character in text.bytes() {
        let value = match character.to_ascii_lowercase() {
            letter @ b'a'..=b'z' => letter - b'a',
            number @ b'2'..=b'7' => number - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            *bytes.get_mut(at)? = (bits >> count) as u8;
            at += 1;
        }
    }
    // Five bits left or more are a digit too many.
    (count < 5 && bits & ((1 << count) - 1) == 0).then_some(at)
}

fn digit(bits: u32) -> char {
    char::from(ALPHABET[(bits & 31) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_standard() {
        for (bytes, text) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            let mut encoded = String::new();
            encode(bytes.bytes(), &mut encoded);
            assert_eq!(
                (encoded.as_str(), encoded.len()),
                (text, text_len(bytes.len()))
            );
            let mut decoded = [0xa5; 6];
            let len = decode(&text.to_uppercase(), &mut decoded).unwrap();
            assert_eq!(&decoded[..len], bytes.as_bytes());
        }
    }

    #[test]
    fn no_other_text_means_the_same_bytes() {
        let mut bytes = [0; 8];
        for text in [
            "mz",
            "m",
            "mya",
            "my======",
            "m1",
            "mzxw6ytboizxw6ytb",
            "m y",
            "é",
        ] {
            assert_eq!(decode(text, &mut bytes), None, "{text}");
        }
    }
}
