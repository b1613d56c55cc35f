//! How a command ends that could not do what it was asked: one line, then an exit code.
//!
//! The line says what failed, on what, why, and in brackets what to do:
//! `error: cannot open device mesh0: permission denied (run with sudo ...)`.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use clap::CommandFactory;
use nix::errno::Errno;

use super::args::Cli;
use super::text;

/// Which exit code a failure ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: it was asked rightly, and did not work.
    AtWork,
    /// 2: it was asked for something impossible.
    Misuse,
}

/// Why a command ends, and what its user can do about it.
#[derive(Debug)]
pub struct Failure {
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    remedy: String,
    exit: Exit,
}

impl Failure {
    /// What was tried, on what (`cannot open device mesh0`), failed at work; `remedy` is what to do.
    pub fn at_work(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            source: None,
            remedy: remedy.into(),
            exit: Exit::AtWork,
        }
    }

    /// What was asked for cannot be; `remedy` is what to type instead.
    pub fn misuse(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            exit: Exit::Misuse,
            ..Self::at_work(what, remedy)
        }
    }

    /// The same failure with its cause, whose own causes are printed too. On a full disk only one thing
    /// helps, whatever was tried.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into();
        if source.downcast_ref().is_some_and(is_full) {
            "free some space there, or raise the quota, and try again".clone_into(&mut self.remedy);
        }
        self.source = Some(source);
        self
    }

    /// The exit code it ends with.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints the line to stderr and returns the exit code.
    pub fn report(&self) -> ExitCode {
        eprintln!(
            "error: {}",
            text::one_line(&without_secrets(&self.to_string()))
        );
        ExitCode::from(match self.exit {
            Exit::AtWork => 1,
            Exit::Misuse => 2,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = cause {
            match error.downcast_ref::<io::Error>() {
                Some(error) => write!(f, ": {}", reason(error))?,
                None => write!(f, ": {error}")?,
            }
            cause = error.source();
        }
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}

/// Whether there is no room left to write to.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// An I/O error in lower case and without its number: `permission denied`.
pub fn reason(error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    };
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        // An abbreviation stays as it is.
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text,
    }
}

/// Ends a command line that clap refused, or whose help was asked for.
///
/// Help and version go to stdout with code 0; an error becomes one line with code 2.
pub fn refuse(refused: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;

    if matches!(
        refused.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        // A reader that closed the pipe has seen what it wanted.
        let _ = refused.print();
        return ExitCode::from(refused.exit_code() as u8);
    }
    let words: Vec<String> = std::env::args().skip(1).take(2).collect();
    let line = one_line(&refused.to_string(), &words);
    eprintln!("{}", text::one_line(&without_secrets(&line)));
    ExitCode::from(2)
}

/// The text with every mesh secret and token in it cut off behind its prefix: what was typed in the
/// wrong place is quoted in errors, and errors end up in logs.
fn without_secrets(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    let begins = |rest: &str| {
        ["mk1-", "mk2-", "mi1-"].iter().any(|prefix| {
            let begin = rest.get(..prefix.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
        })
    };
    while let Some(letter) = rest.chars().next() {
        if begins(rest) {
            let (prefix, digits) = rest.split_at(4);
            let shown = digits.trim_start_matches(|digit: char| digit.is_ascii_alphanumeric());
            safe += prefix;
            if shown.len() < digits.len() {
                safe += "...";
            }
            rest = shown;
        } else {
            safe.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    safe
}

/// Folds clap's paragraphs into one line: the error, its tips, and where to read more.
///
/// That is the help of the command that the first of `words` name, if there is one: clap tells only with
/// some errors.
fn one_line(paragraphs: &str, words: &[String]) -> String {
    let mut line = String::new();
    let mut known = Cli::command();
    let mut help = "floodmesh ".to_owned();
    for word in words {
        let Some(found) = known.find_subcommand(word).cloned() else {
            break;
        };
        help += &format!("{word} ");
        known = found;
    }
    help += "--help";
    for part in paragraphs
        .lines()
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        if let Some(usage) = part.strip_prefix("Usage: ") {
            // The command is the usage's words before its first argument.
            let words = usage
                .split(' ')
                .take_while(|word| !word.starts_with(['[', '<', '-']));
            help = words.collect::<Vec<_>>().join(" ") + " --help";
        } else if part.starts_with("For more information") {
            continue;
        } else {
            if !line.is_empty() {
                line.push_str(if line.ends_with(':') { " " } else { "; " });
            }
            line.push_str(part.strip_prefix("tip: ").unwrap_or(part));
        }
    }
    format!("{line} (see {help})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_prints_its_chain_and_then_the_remedy() {
        let failure = Failure::at_work("cannot open device mesh0", "run with sudo")
            .because(io::Error::from_raw_os_error(13));
        assert_eq!(
            failure.to_string(),
            "cannot open device mesh0: permission denied (run with sudo)"
        );
    }

    #[test]
    fn on_a_full_disk_the_remedy_is_space() {
        for number in [libc::ENOSPC, libc::EDQUOT] {
            let failure = Failure::at_work("cannot write x", "choose another directory")
                .because(io::Error::from_raw_os_error(number));
            let said = failure.to_string();
            assert!(
                said.ends_with("(free some space there, or raise the quota, and try again)"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_secret_typed_in_the_wrong_place_is_not_quoted() {
        for (text, shown) in [
            ("'mi1-abc2def' found", "'mi1-...' found"),
            ("MK1-ABC2 and mi1-x", "MK1-... and mi1-..."),
            ("a token begins with mi1-, é", "a token begins with mi1-, é"),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
    }

    #[test]
    fn clap_errors_become_one_line() {
        let refused = super::super::args::parse(["floodmesh", "up", "--peeer", "a:1"]).unwrap_err();
        assert_eq!(
            one_line(&refused.to_string(), &[]),
            "error: unexpected argument '--peeer' found; a similar argument exists: '--peer' \
             (see floodmesh up --help)"
        );
        let words = ["ca", "sign", "--days"].map(str::to_owned);
        for (words, help) in [
            (&words[..], "x (see floodmesh ca sign --help)"),
            (&words[..1], "x (see floodmesh ca --help)"),
            (&words[2..], "x (see floodmesh --help)"),
        ] {
            assert_eq!(one_line("x", words), help);
        }
    }
}
