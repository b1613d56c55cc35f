//! Words for people: ages, amounts, aligned columns; and text from elsewhere made harmless.

use std::fmt::Write;

/// Bytes of a name from the network that are shown at most (SECURITY T23).
pub const NAME_LIMIT: usize = 64;

/// Text that came from elsewhere, safe for a terminal and a log: everything but printable ASCII
/// is escaped, and what is longer than [`NAME_LIMIT`] bytes is cut and marked with `...`.
pub fn foreign(text: &str) -> String {
    let cut = text.floor_char_boundary(NAME_LIMIT);
    let mut safe = printable(&text[..cut]);
    if cut < text.len() {
        safe.push_str("...");
    }
    safe
}

/// All of `text`, with everything but printable ASCII escaped.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|letter| {
            let plain = (' '..='~').contains(&letter);
            let (as_is, escaped) = if plain {
                (Some(letter), None)
            } else {
                (None, Some(letter.escape_default()))
            };
            as_is.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

/// Our own text with control characters escaped, so that it stays one line.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

/// A certificate's rate class: what a second of it is worth, or `-` where there is no bound.
pub fn rate_class(class: u8) -> String {
    let Some(bytes) = wire::sealed::rate_of(class) else {
        return "-".to_owned();
    };
    match bytes * 8 / 1_000 {
        kbits @ ..10_000 => format!("{} kbit/s", number(kbits)),
        kbits => format!("{} Mbit/s", number(kbits / 1_000)),
    }
}

/// A span of time in its two largest units: `42 s`, `3 m 5 s`, `2 h 3 m`, `4 d 1 h`.
pub fn age(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    let two = |large, large_unit, small, small_unit| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(minutes, "m", rest, "s"),
        3_600..86_400 => two(hours, "h", minutes, "m"),
        _ => two(days, "d", hours, "h"),
    }
}

/// How long ago, from milliseconds: `now` below a second, else `3 s ago`; `never` without.
pub fn ago(milliseconds: Option<u64>) -> String {
    match milliseconds {
        None => "never".to_owned(),
        Some(0..1_000) => "now".to_owned(),
        Some(more) => age(more / 1_000) + " ago",
    }
}

/// A round-trip time from microseconds: `0.43 ms`, `12.4 ms`, `1.2 s`.
pub fn round_trip(microseconds: u64) -> String {
    let milliseconds = microseconds as f64 / 1_000.0;
    match microseconds {
        0..10_000 => format!("{milliseconds:.2} ms"),
        10_000..1_000_000 => format!("{milliseconds:.1} ms"),
        _ => format!("{:.1} s", milliseconds / 1_000.0),
    }
}

/// An amount of bytes: `512 B`, `1.5 KiB`, `640 MiB`.
pub fn bytes(amount: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = amount as f64;
    let mut name = "B";
    for unit in UNITS {
        // From here on it would print as 1024.
        if value < 1_023.5 {
            break;
        }
        value /= 1_024.0;
        name = unit;
    }
    if name == "B" || value >= 99.95 {
        format!("{value:.0} {name}")
    } else {
        format!("{value:.1} {name}")
    }
}

/// A number with commas: `1,234,567`.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 node`, `2 nodes`.
pub fn count(value: u64, noun: &str) -> String {
    let ending = if value == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", number(value))
}

/// `1 node sees`, `2 nodes see`.
pub fn count_does(value: u64, noun: &str, verb: &str) -> String {
    let ending = if value == 1 { "s" } else { "" };
    format!("{} {verb}{ending}", count(value, noun))
}

/// Rows of cells as lines: columns two spaces apart, as wide as their widest cell; `right` names
/// the columns that are aligned to the right.
pub fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut lines = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a `String` cannot fail.
            let _ = if right.contains(&column) {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

/// `words` broken into lines of at most `width` characters, where they have spaces.
pub fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_said_in_two_units() {
        let said: Vec<_> = [0, 59, 60, 185, 3_600, 7_380, 86_400, 90_000]
            .map(age)
            .into();
        assert_eq!(
            said,
            [
                "0 s", "59 s", "1 m", "3 m 5 s", "1 h", "2 h 3 m", "1 d", "1 d 1 h"
            ]
        );
        assert_eq!(ago(None), "never");
        assert_eq!(ago(Some(999)), "now");
        assert_eq!(ago(Some(3_000)), "3 s ago");
    }

    #[test]
    fn amounts_keep_two_or_three_digits() {
        let said: Vec<_> = [0, 1_023, 1_024, 1_536, 1_048_063, 671_088_640, u64::MAX]
            .map(bytes)
            .into();
        assert_eq!(
            said,
            [
                "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023 KiB", "640 MiB", "16.0 EiB"
            ]
        );
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(round_trip(430), "0.43 ms");
        assert_eq!(round_trip(12_400), "12.4 ms");
        assert_eq!(round_trip(1_200_000), "1.2 s");
    }

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(foreign("van\n\u{1b}[31m"), "van\\n\\u{1b}[31m");
        assert_eq!(foreign("\u{202e}evil"), "\\u{202e}evil");
        assert_eq!(foreign(&"x".repeat(1 << 20)), "x".repeat(64) + "...");
        // A cut inside a letter moves to the letter's start.
        assert_eq!(
            foreign(&("x".repeat(63) + "\u{e9}")),
            "x".repeat(63) + "..."
        );
    }

    #[test]
    fn columns_align_and_leave_no_trailing_space() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned(), "x".to_owned()],
            vec!["bbb".to_owned(), "100".to_owned(), String::new()],
        ];
        assert_eq!(columns(&rows, &[1]), "a      1  x\nbbb  100\n");
    }

    #[test]
    fn wrapping_breaks_only_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
    }
}
