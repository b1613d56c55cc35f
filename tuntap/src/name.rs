//! Which interface names can be asked for. The kernel's rules, told before it is asked, because
//! `tun-tap` cuts a long name without a word.

use std::fmt;

/// Bytes of the longest interface name (`IFNAMSIZ` without its final zero).
const NAME_MAX: usize = 15;

/// What is wrong with an interface name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameProblem {
    /// No character at all.
    Empty,
    /// More than 15 bytes.
    TooLong,
    /// `.` or `..`, which cannot be directories of /proc and /sys.
    Dots,
    /// A character that is not printable ASCII, or a slash, a colon or a space.
    Character(char),
    /// A percent sign other than one `%d`, which stands for the next free number.
    Percent,
}

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name has at least one character"),
            Self::TooLong => write!(f, "a name has at most {NAME_MAX} characters"),
            Self::Dots => f.write_str("a name is not . or .."),
            Self::Character(found) => write!(f, "a name does not contain {found:?}"),
            Self::Percent => f.write_str("a name contains % only once, as %d"),
        }
    }
}

/// Judges the name of a device to be opened; `%d` in it stands for the next free number.
///
/// # Errors
/// What is wrong with it. Source: `dev_valid_name` and `__dev_alloc_name` of the kernel, and
/// narrower: ASCII only, so that what is printed can be typed.
pub fn check_name(name: &str) -> Result<(), NameProblem> {
    if name.is_empty() {
        return Err(NameProblem::Empty);
    }
    if name.len() > NAME_MAX {
        return Err(NameProblem::TooLong);
    }
    if matches!(name, "." | "..") {
        return Err(NameProblem::Dots);
    }
    if let Some(found) = name
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '/' | ':'))
    {
        return Err(NameProblem::Character(found));
    }
    if name.replacen("%d", "", 1).contains('%') {
        return Err(NameProblem::Percent);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_pass() {
        for name in ["mesh0", "mesh%d", "a", "tap-lan.7", "abcdefghijklmno"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_the_kernel_would_refuse_or_cut_do_not_pass() {
        let cases = [
            ("", NameProblem::Empty),
            ("abcdefghijklmnop", NameProblem::TooLong),
            (".", NameProblem::Dots),
            ("..", NameProblem::Dots),
            ("mesh/0", NameProblem::Character('/')),
            ("mesh:0", NameProblem::Character(':')),
            ("mesh 0", NameProblem::Character(' ')),
            ("mesh\0", NameProblem::Character('\0')),
            ("m\u{fc}nchen", NameProblem::Character('\u{fc}')),
            ("mesh%s", NameProblem::Percent),
            ("%d%d", NameProblem::Percent),
            ("%", NameProblem::Percent),
        ];
        for (name, problem) in cases {
            assert_eq!(check_name(name), Err(problem), "{name:?}");
        }
    }
}
