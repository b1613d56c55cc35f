//! The configuration file: TOML in, a flat list of settings with their lines out.
//!
//! Small and strict. Sections are dots in keys: `[device]` with `mtu = 1400` is `device.mtu`.
//! Which keys exist is not known here; [`super::config`] judges each.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::config::{ConfigError, Given, Origin, Value};
use super::regular;

/// Bytes that a file may have; ours have some hundreds.
const LIMIT: u64 = 1 << 20;

/// Reads the file at `path`.
///
/// # Errors
/// It cannot be read, is no regular file, too large, or not TOML.
pub fn read(path: &Path) -> Result<Vec<Given>, ConfigError> {
    let text = regular::read_text(path, 0, LIMIT).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// Reads `text` as the file at `path`.
///
/// # Errors
/// It is not TOML.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Given>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().lines().collect::<Vec<_>>().join(", "),
    })?;
    let mut settings = Vec::new();
    flatten(path, text, "", table.get_ref(), &mut settings);
    Ok(settings)
}

fn flatten(path: &Path, text: &str, section: &str, table: &DeTable<'_>, into: &mut Vec<Given>) {
    for (name, value) in table {
        let key = match section {
            "" => name.get_ref().to_string(),
            _ => format!("{section}.{}", name.get_ref()),
        };
        match value.get_ref() {
            // The parser itself bounds how deep tables nest.
            DeValue::Table(inner) if !inner.is_empty() => flatten(path, text, &key, inner, into),
            other => into.push(Given {
                key,
                value: convert(other),
                origin: Origin::File {
                    path: path.to_owned(),
                    line: line_of(text, name.span().start),
                },
            }),
        }
    }
}

fn convert(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => {
            let digits = i64::from_str_radix(integer.as_str(), integer.radix());
            digits.map_or_else(
                |_| Value::Other(integer.to_string()),
                |number| Value::Number(number as f64),
            )
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse();
            number.map_or_else(|_| Value::Other(float.to_string()), Value::Number)
        }
        DeValue::Boolean(yes) => Value::Bool(*yes),
        DeValue::Datetime(date) => Value::Other(date.to_string()),
        DeValue::Array(values) => {
            Value::List(values.iter().map(Spanned::get_ref).map(convert).collect())
        }
        DeValue::Table(_) => Value::Other("{}".into()),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Vec<String> {
        let given = parse(Path::new("f"), text).unwrap();
        given.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sections_become_dots_and_lines_are_kept() {
        let text = "name = \"van\"\npeer = [\"a:1\", \"b\"]\n\n[device]\nmtu = 1_400\n[timers]\nredial = 2.5\n";
        let mut found = settings(text);
        found.sort();
        assert_eq!(
            found,
            [
                "f:1: name = \"van\"",
                "f:2: peer = [\"a:1\", \"b\"]",
                "f:5: device.mtu = 1400",
                "f:7: timers.redial = 2.5",
            ]
        );
    }

    #[test]
    fn what_is_not_toml_is_refused_with_its_line() {
        let error = parse(Path::new("f"), "name = \"a\"\nmtu 1400\n").unwrap_err();
        assert!(error.to_string().starts_with("f:2: not TOML: "), "{error}");
        let twice = parse(Path::new("f"), "name = \"a\"\nname = \"b\"\n").unwrap_err();
        assert!(twice.to_string().contains("duplicate key"), "{twice}");
    }

    #[test]
    fn an_empty_section_is_seen() {
        assert_eq!(settings("[devize]\n"), ["f:1: devize = {}"]);
    }
}
