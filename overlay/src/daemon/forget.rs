//! `floodmesh forget`: the owner's word that a netid has a new key. And what a node says to its owner
//! when it refuses one.
//!
//! A running node is asked, since it alone writes its files and has links to end; where none runs,
//! the file of pins is changed under the state directory's lock.

use std::process::ExitCode;

use super::acting;
use super::admin::Reply;
use super::args::{ForgetArgs, UpArgs};
use super::client::{self, print, show};
use super::config::{Config, NAME, Security};
use super::error::Failure;
use super::paths::Places;
use super::report::ForgottenReport;
use super::secrets::membership;
use super::state::{AFAR, LATCHES, PINS, StateDir};
use super::text;
use crate::id::NetId;
use crate::seal::members::{Refusal, Trusted, key_text};

/// `floodmesh forget`.
///
/// # Errors
/// No key is remembered for the target, or the node or its files cannot be asked.
pub fn forget(args: &ForgetArgs) -> Result<ExitCode, Failure> {
    let up = UpArgs {
        control: args.control.clone(),
        ..args.own.up()
    };
    let places = Places::of_this_process();
    let (target, control) = (&args.target, &args.control);
    let report = match control {
        Some(path) => client::forget(path, target)?.ok_or_else(|| {
            Failure::at_work(
                format!("no node answers at {}", path.display()),
                "leave out --control to change the files of a node that does not run",
            )
        })?,
        None => {
            let config = Config::load(&args.own.up(), &places)?;
            let usual = Config::load(&up, &places).map(|config| config.files.control);
            // That of the settings first: another node of this name may run elsewhere.
            let usual = usual.into_iter();
            let sockets: Vec<_> = usual.chain(places.controls(&config.name)).collect();
            match first(&sockets, |path| client::forget(path, target))? {
                Some(report) => report,
                None => forget_in_file(&config, target)?,
            }
        }
    };
    let shown = show(args.json, &report, |report| {
        format!(
            "forgot the key of {}, {}\nthe next key that comes under this netid is remembered\n",
            report.netid, report.key
        )
    });
    print(&shown)?;
    Ok(ExitCode::SUCCESS)
}

/// What the first of these gives that gives anything.
pub(super) fn first<P, T>(
    places: &[P],
    ask: impl Fn(&P) -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    for place in places {
        if let Some(found) = ask(place)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn forget_in_file(config: &Config, target: &str) -> Result<ForgottenReport, Failure> {
    if config.security == Security::Plain {
        return Err(Failure::misuse(
            format!(
                "the node {} speaks the open protocol and remembers no keys",
                config.name
            ),
            "",
        ));
    }
    let none = || Failure::at_work(unknown_text(target), "see the node's log for its netid");
    let _acting = acting::as_owner_of(&config.files.state)?;
    let state = StateDir::open(&config.files.state)?;
    let mut members = membership::members(config, &state, None)?;
    let netid = match members.find(target) {
        Some(netid) => netid,
        None => target.parse().map_err(|_| none())?,
    };
    let mut latches = state.latches()?;
    let latched = latches.remove(&netid).map(|latch| latch.static_key);
    let key = members.forget(netid).or(latched).ok_or_else(none)?;
    state.write(PINS, &StateDir::pins_body(members.pins()))?;
    state.write(AFAR, &StateDir::afar_body(members.afar()))?;
    if latched.is_some() {
        state.write(LATCHES, &StateDir::latches_body(&latches))?;
    }
    Ok(ForgottenReport {
        netid,
        key: key_text(&key),
    })
}

/// The refusal of a target that no key is remembered for.
pub(super) fn unknown(target: &str) -> Reply {
    Reply::refused(unknown_text(target), "see the node's log for its netid")
}

fn unknown_text(target: &str) -> String {
    format!("no key is remembered for {}", text::foreign(target))
}

/// What the owner of the node `name` is to know, and may do, about a node that it refused.
pub(super) fn advice(name: &str, netid: NetId, key: &[u8; 32], why: Refusal) -> String {
    let entry = || {
        let entry = Trusted {
            netid: Some(netid),
            static_key: *key,
            name: String::new(),
        };
        format!("add to trusted_keys: \"{entry}\"")
    };
    let of_node = match name {
        NAME => String::new(),
        name => format!(" --name {name}"),
    };
    match why {
        Refusal::OtherKey(bound) => format!(
            "a node came with another key than before and is refused, since it may be somebody else \
             (if its key was changed, from {} on purpose: floodmesh forget {netid}{of_node})",
            key_text(&bound[..4])
        ),
        Refusal::OtherNetid(listed) => format!(
            "a node is refused, since its key is listed for netid {listed} (to let it in, {})",
            entry()
        ),
        Refusal::NotListed => format!(
            "a node is refused, since its key is not listed (to let it in, {})",
            entry()
        ),
        Refusal::NotCertified => {
            "a node is refused, since it shows no certificate (floodmesh ca sign makes one)".into()
        }
        Refusal::Crowding => {
            "a node is refused at one more address, since its key is up at too many already".into()
        }
        Refusal::Revoked => "a node is refused, since its key or certificate is revoked".into(),
        Refusal::Early(_) => {
            "a node is refused, since its certificate is not valid yet (check both clocks)".into()
        }
        Refusal::Expired(_) => {
            "a node is refused, since its certificate has expired (floodmesh ca sign makes a new one)"
                .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_names_the_command_and_a_stranger_the_line_to_add() {
        let (netid, key) = (NetId(0x2a), [0xa5; 32]);
        let said = advice(NAME, netid, &key, Refusal::OtherKey([0xbc; 32]));
        assert!(
            said.contains("from bcbcbcbc on purpose: floodmesh forget 0000002a)"),
            "{said}"
        );
        let said = advice("van", netid, &key, Refusal::OtherKey([0xbc; 32]));
        assert!(
            said.contains("floodmesh forget 0000002a --name van)"),
            "{said}"
        );
        let said = advice(NAME, netid, &key, Refusal::NotListed);
        let line = format!("add to trusted_keys: \"0000002a {}\"", "a5".repeat(32));
        assert!(said.contains(&line), "{said}");
    }
}
