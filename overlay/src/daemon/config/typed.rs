//! What was typed or stood in the environment, as settings.

use std::path::PathBuf;

use clap::ValueEnum;

use super::super::args::UpArgs;
use super::super::file;
use super::NAME;
use super::error::ConfigError;
use super::value::{Given, Origin, Value};
use super::words::node_name;

/// Everything typed and in the environment, as settings.
pub(super) fn typed(args: &UpArgs) -> Result<Vec<Given>, ConfigError> {
    let mut typed = Vec::new();
    let mut add = |key: &str, flag: &str, value: Option<Value>| {
        // The name that clap knows a flag's value by is that of its field.
        let field = flag.trim_start_matches('-').replace('-', "_");
        let origin = if args.from_environment.contains(&field) {
            Origin::Environment(format!("FLOODMESH_{}", field.to_uppercase()))
        } else {
            Origin::Flag(flag.to_owned())
        };
        typed.extend(value.map(|value| Given {
            key: key.to_owned(),
            value,
            origin,
        }));
    };
    let word = |text: &Option<String>| text.clone().map(Value::Word);
    let path = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| Value::Word(path.display().to_string()))
    };
    let words = |texts: &[String]| match texts {
        [] => None,
        [one] => Some(Value::Word(one.clone())),
        many => Some(Value::List(many.iter().cloned().map(Value::Word).collect())),
    };
    add("name", "--name", word(&args.name));
    add(
        "mode",
        "--plain",
        args.plain.then(|| Value::Word("plain".into())),
    );
    add("netid", "--netid", word(&args.netid));
    add("mesh", "--mesh", word(&args.mesh));
    add("listen", "--listen", words(&args.listen));
    add("peer", "--peer", words(&args.peer));
    add(
        "trust_unproved",
        "--trust-unproved",
        words(&args.trust_unproved),
    );
    add("allow_inform", "--allow-inform", words(&args.allow_inform));
    add("degree", "--degree", word(&args.degree));
    add(
        "max_neighbors",
        "--max-neighbors",
        word(&args.max_neighbors),
    );
    add("state_dir", "--state-dir", path(&args.state_dir));
    add("control", "--control", path(&args.control));
    add(
        "confine",
        "--no-confine",
        args.no_confine.then(|| Value::Word("no".into())),
    );
    add("log", "--log", word(&args.log));
    add(
        "log_format",
        "--log-format",
        args.log_format.as_ref().map(name_of_choice),
    );
    add(
        "device.mode",
        "--mode",
        args.mode.as_ref().map(name_of_choice),
    );
    add(
        "device.offload",
        "--offload",
        args.offload.as_ref().map(name_of_choice),
    );
    add("device.batch", "--batch", word(&args.batch));
    add("device.threads", "--threads", word(&args.threads));
    add("device.name", "--dev", word(&args.dev));
    add("device.address", "--address", words(&args.address));
    add("device.mtu", "--mtu", word(&args.mtu));
    for set in &args.set {
        typed.push(parse_set(set)?);
    }
    Ok(typed)
}

/// `KEY=VALUE`; a value in quotes or brackets is read as TOML, anything else as it stands.
fn parse_set(set: &str) -> Result<Given, ConfigError> {
    let Some((key, value)) = set.split_once('=') else {
        return Err(ConfigError::Invalid {
            given: format!("--set {set}"),
            problem: "has no value".into(),
            remedy: "write --set KEY=VALUE".into(),
        });
    };
    let (key, value) = (key.trim(), value.trim());
    let mut given = Given {
        key: key.to_owned(),
        value: Value::Word(value.to_owned()),
        origin: Origin::Set,
    };
    if value.starts_with(['"', '\'', '[']) {
        let read = file::parse("--set".as_ref(), &format!("value = {value}\n"));
        match read.as_deref() {
            Ok([one]) => given.value = one.value.clone(),
            _ => return Err(given.wrong("is not TOML", "write a list as [\"a\", \"b\"]")),
        }
    }
    Ok(given)
}

/// The name that the strongest of `typed` gives; the file to read follows from it.
pub(super) fn name_of(typed: &[Given]) -> Result<String, ConfigError> {
    let names = typed.iter().filter(|given| given.key == "name");
    match names.max_by_key(|given| given.origin.rank()) {
        Some(given) => node_name(given),
        None => Ok(NAME.to_owned()),
    }
}

fn name_of_choice<T: ValueEnum>(choice: &T) -> Value {
    let value = choice.to_possible_value();
    Value::Word(value.map_or_else(String::new, |value| value.get_name().to_owned()))
}
