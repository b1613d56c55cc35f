//! `floodmesh decode`: a datagram in words.

use std::fmt;
use std::io::{self, Read};
use std::process::ExitCode;

use wire::pretty::Tree;
use wire::{MAX_DATAGRAM, Message};

use super::args::DecodeArgs;
use super::client::print;
use super::error::Failure;

/// Bytes of standard input that are read: the longest datagram in hex, with room for separators.
const INPUT_LIMIT: u64 = 4 * MAX_DATAGRAM as u64;

/// Reads the hex, says what it is.
///
/// # Errors
/// It is not hex, or the bytes are no datagram of the protocol.
pub fn decode(args: &DecodeArgs) -> Result<ExitCode, Failure> {
    let mut datagram = Vec::new();
    for argument in &args.hex {
        let read;
        let (name, text) = match argument.as_str() {
            "-" => {
                read = read_input()?;
                ("standard input", read.as_str())
            }
            text => (text, text),
        };
        unhex(text, &mut datagram).map_err(|error| {
            Failure::misuse(
                format!("cannot decode {}: {error}", shorten(name)),
                "give hex digits; spaces, colons and a leading 0x are skipped",
            )
        })?;
    }
    if datagram.is_empty() {
        return Err(Failure::misuse(
            "cannot decode nothing",
            "give a datagram in hex",
        ));
    }
    print(&format!("{}\n", Tree(&datagram)))?;
    match Message::parse(&datagram) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            let what = format!(
                "no datagram of the protocol in these {} bytes",
                datagram.len()
            );
            Err(Failure::at_work(what, "").because(error))
        }
    }
}

fn read_input() -> Result<String, Failure> {
    let cannot = |error| Failure::at_work("cannot read standard input", "").because(error);
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(INPUT_LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    if text.len() as u64 > INPUT_LIMIT {
        return Err(cannot(io::Error::other("longer than any datagram")));
    }
    Ok(text)
}

/// What is wrong with hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HexError {
    /// A character that is no hex digit, and its place among the characters, from 1.
    Character(char, usize),
    /// A digit without its pair.
    Odd,
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(letter, place) => {
                write!(f, "character {place} is {letter:?}, which is no hex digit")
            }
            Self::Odd => f.write_str("the last digit has no pair"),
        }
    }
}

/// Appends the bytes that `text` spells in hex.
fn unhex(text: &str, bytes: &mut Vec<u8>) -> Result<(), HexError> {
    let mut high = None;
    let mut letters = text.chars().zip(1..).peekable();
    let mut word_starts = true;
    while let Some((letter, place)) = letters.next() {
        if letter.is_whitespace() || letter == ':' {
            word_starts = true;
            continue;
        }
        let prefix = word_starts && letter == '0' && high.is_none();
        word_starts = false;
        if prefix
            && letters
                .next_if(|(next, _)| matches!(next, 'x' | 'X'))
                .is_some()
        {
            continue;
        }
        let digit = letter
            .to_digit(16)
            .ok_or(HexError::Character(letter, place))? as u8;
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    if high.is_some() {
        Err(HexError::Odd)
    } else {
        Ok(())
    }
}

/// An argument for an error message: not more than a line can hold.
fn shorten(argument: &str) -> String {
    match argument.char_indices().nth(32) {
        Some((end, _)) => format!("{}...", &argument[..end]),
        None => argument.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Result<Vec<u8>, HexError> {
        let mut bytes = Vec::new();
        unhex(text, &mut bytes).map(|()| bytes)
    }

    #[test]
    fn hex_is_read_as_other_tools_print_it() {
        for text in [
            "ac0103",
            "AC 01 03",
            "ac:01:03",
            "0xac0103",
            "0xac 0x01 0x03",
            " ac01\n03\n",
        ] {
            assert_eq!(bytes(text), Ok(vec![0xac, 1, 3]), "{text}");
        }
        assert_eq!(bytes("0 0"), Ok(vec![0]));
        assert_eq!(bytes(""), Ok(vec![]));
    }

    #[test]
    fn what_is_no_hex_is_named_with_its_place() {
        assert_eq!(bytes("ac0g"), Err(HexError::Character('g', 4)));
        assert_eq!(bytes("\u{e9}"), Err(HexError::Character('\u{e9}', 1)));
        assert_eq!(bytes("ac0x01"), Err(HexError::Character('x', 4)));
        assert_eq!(bytes("ac0"), Err(HexError::Odd));
    }
}
