//! The Internet checksum (RFC 1071), in the machine's own byte order.
//!
//! The sum of 16-bit words does not depend on the byte order in which they are read, as long as the
//! result is stored in the same one. So words are read as they lie, and [`Sum::word`] turns
//! numbers, such as lengths, into the form in which they would lie.

/// A sum that is not folded yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u64);

impl Sum {
    /// The sum of `bytes`; an odd one at the end counts as if a zero followed.
    ///
    /// Cost: about 40 ns for 1,400 bytes; the compiler makes vector code of it.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut words = bytes.chunks_exact(4);
        let sum: u64 = words
            .by_ref()
            .map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
            .sum();
        let mut rest = [0; 4];
        let tail = words.remainder();
        rest[..tail.len()].copy_from_slice(tail);
        Self(sum + u64::from(u32::from_ne_bytes(rest)))
    }

    /// With the number `value` added, as a word of a packet.
    pub(super) const fn word(self, value: u16) -> Self {
        Self(self.0 + value.to_be() as u64)
    }

    /// With the number `value` taken away, as a word of a packet.
    pub(super) const fn without_word(self, value: u16) -> Self {
        Self(self.0 + !value.to_be() as u64)
    }

    /// Both sums.
    pub(super) const fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The bytes of the folded sum: what a checksum field holds while the rest is still to be added
    /// (a pseudo-header's sum).
    pub(super) const fn folded(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xFFFF {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        (sum as u16).to_ne_bytes()
    }

    /// The bytes of a finished checksum.
    pub(super) const fn checksum(self) -> [u8; 2] {
        let [first, second] = self.folded();
        [!first, !second]
    }

    /// Whether the sum of data and its checksum is right.
    pub(super) const fn is_right(self) -> bool {
        let [first, second] = self.folded();
        first == 0xFF && second == 0xFF
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let sum = Sum::of(&[0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]);
        assert_eq!(sum.folded(), [0xDD, 0xF2]);
        assert_eq!(sum.checksum(), [0x22, 0x0D]);
    }

    #[test]
    fn any_length_and_an_odd_end_sum_as_word_by_word() {
        let bytes: Vec<u8> = (0..200_u16).map(|n| (n * 37) as u8).collect();
        for len in 0..bytes.len() {
            let mut padded = bytes[..len].to_vec();
            padded.resize(len.next_multiple_of(2), 0);
            let mut slow = 0_u32;
            for word in padded.chunks(2) {
                slow += u32::from(u16::from_be_bytes([word[0], word[1]]));
                slow = (slow & 0xFFFF) + (slow >> 16);
            }
            assert_eq!(Sum::of(&bytes[..len]).folded(), (slow as u16).to_be_bytes());
        }
    }

    #[test]
    fn a_word_added_and_taken_away_leaves_the_checksum() {
        let sum = Sum::of(&[1, 2, 3, 4, 5, 6]);
        let there_and_back = sum.word(1_234).without_word(1_234);
        assert_eq!(there_and_back.checksum(), sum.checksum());
        assert_eq!(
            sum.word(0x0708).folded(),
            Sum::of(&[1, 2, 3, 4, 5, 6, 7, 8]).folded()
        );
    }
}
