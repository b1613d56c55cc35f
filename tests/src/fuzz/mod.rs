//! What the fuzzers run: one function per target, from any bytes to nothing or a panic.
//!
//! Two callers. `tests/fuzz/` hands these functions to libFuzzer; the tests below replay the
//! committed corpus, so that every input that once found something is tried by `cargo test`,
//! without a fuzzer and on a stable toolchain. A target asserts laws, not only that nothing
//! panics.

mod control;
#[cfg(feature = "daemon")]
mod files;
mod judge;
mod links;
mod sealed;
mod text;

pub use control::fuzz_control;
#[cfg(feature = "daemon")]
pub use files::fuzz_files;
pub use judge::fuzz_judge;
pub use links::fuzz_links;
pub use sealed::fuzz_sealed;
pub use text::fuzz_text;

use std::fmt::{self, Write};

use wire::pretty::{Line, Tree};
use wire::{Field, Header, Kind, Message};

/// Target `parse`: reading is total, writing gives back what was read, words are printable.
///
/// # Panics
/// When one of these laws is broken.
pub fn fuzz_parse(datagram: &[u8]) {
    let header = Header::parse(datagram);
    let message = Message::parse(datagram);
    match (header, message) {
        (Ok(header), Ok((same, message))) => {
            assert_eq!(
                header, same,
                "header alone and header of the message differ"
            );
            assert!(header.src.is_node(), "a reserved src was read");
            assert!(
                message.belongs_to(&header),
                "the message is of another kind"
            );
            written_back(datagram, &header, &message);
        }
        (Ok(header), Err(error)) => {
            assert_eq!(
                header.kind,
                Kind::Inform,
                "only an Inform has fields of its own"
            );
            assert_eq!(error.field, Field::Inform);
            assert_eq!(header.to_bytes(), datagram[..wire::HEADER_LEN]);
        }
        (Err(error), message) => assert_eq!(message, Err(error)),
    }
    in_words(datagram, message.is_err());
}

fn written_back(datagram: &[u8], header: &Header, message: &Message<'_>) {
    let len = message.datagram_len();
    assert!(
        len <= datagram.len(),
        "the message is longer than its datagram"
    );
    let mut buffer = vec![0xa5; len + 1];
    message.emit(header, &mut buffer);
    assert_eq!(
        buffer[..len],
        datagram[..len],
        "written otherwise than read"
    );
    assert_eq!(buffer[len], 0xa5, "written beyond the end");
}

fn in_words(datagram: &[u8], refused: bool) {
    let mut line = Printable::default();
    let written = write!(line, "{}", Line(datagram));
    assert!(written.is_ok() && line.lines == 0, "not one printable line");
    let mut tree = Printable::default();
    let written = write!(tree, "{}", Tree(datagram));
    assert!(written.is_ok(), "not printable");
    // 16 rows of a dump and at most 20 of fields and titles: bounded whatever comes.
    assert!(tree.lines <= 40, "{} lines", tree.lines);
    let too_long = datagram.len() > wire::MAX_DATAGRAM;
    assert!(
        tree.wrong == refused || too_long,
        "refusal and marks differ"
    );
}

/// Takes text and refuses what is not printable ASCII or a line feed.
#[derive(Default)]
struct Printable {
    lines: usize,
    wrong: bool,
}

impl Write for Printable {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.wrong |= text.contains("WRONG: ");
        self.lines += text.bytes().filter(|&byte| byte == b'\n').count();
        let printable = |byte: u8| byte == b'\n' || byte == b' ' || byte.is_ascii_graphic();
        if text.bytes().all(printable) {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{Rng, SeedableRng};
    use std::path::Path;

    /// Runs `target` over every file of its corpus; the file's name is printed before each, so
    /// that the last one printed is the one that failed.
    fn replay(name: &str, mut target: impl FnMut(&[u8])) -> usize {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(name);
        let mut files: Vec<_> = std::fs::read_dir(&corpus)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for file in &files {
            println!("{}", file.display());
            target(&std::fs::read(file).unwrap());
        }
        files.len()
    }

    #[test]
    fn the_corpus_of_parse_breaks_no_law() {
        let files = replay("parse", fuzz_parse);
        assert!(files >= 40, "only {files} files in the corpus");
    }

    #[test]
    fn the_corpus_of_judge_breaks_no_law() {
        let files = replay("judge", fuzz_judge);
        assert!(files >= 8, "only {files} files in the corpus");
    }

    #[test]
    fn the_corpus_of_control_breaks_no_law() {
        let files = replay("control", fuzz_control);
        assert!(files >= 8, "only {files} files in the corpus");
    }

    #[test]
    fn the_corpus_of_sealed_breaks_no_law() {
        let files = replay("sealed", fuzz_sealed);
        assert!(files >= 20, "only {files} files in the corpus");
    }

    #[test]
    fn the_corpus_of_links_breaks_no_law() {
        let files = replay("links", fuzz_links);
        assert!(files >= 8, "only {files} files in the corpus");
    }

    #[test]
    fn the_corpus_of_text_breaks_no_law() {
        let files = replay("text", fuzz_text);
        assert!(files >= 4, "only {files} files in the corpus");
    }

    /// And each file with a few bytes changed, since there is no fuzzer for this one.
    #[cfg(feature = "daemon")]
    #[test]
    fn the_corpus_of_files_breaks_no_law_whatever_is_changed_in_it() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
        let files = replay("files", |input| {
            fuzz_files(input);
            for _ in 0..15 {
                let mut changed = input.to_vec();
                for _ in 0..=rng.next_u32() % 3 {
                    let at = rng.next_u32() as usize % changed.len();
                    match rng.next_u32() % 3 {
                        0 => changed[at] ^= 1 << (rng.next_u32() % 8),
                        1 if at > 0 => drop(changed.remove(at)),
                        _ => changed.insert(at, b"\n\r =\"0[]"[at % 8]),
                    }
                }
                // The first byte says what it is.
                changed[0] = input[0];
                fuzz_files(&changed);
            }
        });
        assert!(files >= 8, "only {files} files in the corpus");
    }

    /// A fuzzer without feedback, seeded: what `cargo test` can do in a second.
    #[test]
    fn random_inputs_break_no_law() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for _ in 0..300 {
            let mut input = vec![0; rng.next_u32() as usize % 400];
            rng.fill_bytes(&mut input);
            fuzz_parse(&input);
            fuzz_judge(&input);
            fuzz_control(&input);
            fuzz_sealed(&input);
            fuzz_links(&input);
            fuzz_text(&input);
        }
    }

    #[test]
    fn a_datagram_too_long_breaks_no_law() {
        for len in [wire::MAX_DATAGRAM, wire::MAX_DATAGRAM + 1, 70_000] {
            let mut datagram = vec![0x45; len];
            datagram[..4].copy_from_slice(b"\xac\x01\x10\0");
            fuzz_parse(&datagram);
        }
    }
}
