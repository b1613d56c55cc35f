//! All keys that there are, with their defaults, and the help made of them.

use super::super::text;
use super::numbers::{Limits, Setting, Storm, Timers};

/// The settings besides plain numbers; together with [`Limits::SETTINGS`], [`Timers::SETTINGS`] and
/// [`Storm::SETTINGS`] all keys that there are. Those with a default of "" have a flag.
const SETTINGS: &[Setting] = &[
    setting("name", "", "--name"),
    setting(
        "mode",
        "",
        "\"sealed\", \"prefer\" (for 30 days), or \"plain\": --plain",
    ),
    setting("netid", "", "--netid, in quotes"),
    setting("mesh", "", "--mesh"),
    setting("listen", "", "--listen, a list"),
    setting(
        "peer",
        "",
        "--peer, a list; \"HOST:PORT sealed\" for a mode of its own",
    ),
    setting("trust_unproved", "", "--trust-unproved, a list"),
    setting("allow_inform", "", "--allow-inform, a list"),
    setting("degree", "", "--degree"),
    setting("max_neighbors", "", "--max-neighbors"),
    setting("state_dir", "", "--state-dir"),
    setting("control", "", "--control"),
    setting("confine", "", "\"yes\", or \"no\": --no-confine"),
    setting("log", "", "--log"),
    setting("log_format", "", "--log-format"),
    setting("device.mode", "", "--mode"),
    setting("device.offload", "", "--offload"),
    setting("device.batch", "", "--batch"),
    setting("device.threads", "", "--threads"),
    setting("device.name", "", "--dev"),
    setting("device.address", "", "--address, a list"),
    setting("device.mtu", "", "--mtu"),
    setting(
        "device.priority",
        "\"realtime\"",
        "Data threads run before all ordinary programs where the system permits it (\"realtime\"), or as \"nice\" says (\"normal\").",
    ),
    setting(
        "secret_file",
        "secret in --state-dir",
        "The mesh secret. Where it exists, nodes speak sealed unless told otherwise.",
    ),
    setting(
        "identity_file",
        "identity in --state-dir",
        "The private keys of this node.",
    ),
    setting(
        "bridge",
        "\"off\"",
        "In mode \"prefer\", Data that is sealed end to end goes on from sealed links to plain ones, and what nodes say that never spoke sealed from plain links to sealed ones (\"on\").",
    ),
    setting(
        "bridge_cleartext",
        "\"off\"",
        "The bridge lets Data in clear go on to plain links too (\"on\").",
    ),
    setting(
        "authority",
        "none",
        "The public key of the mesh's authority, as floodmesh ca show prints it: only nodes with its certificate come up, and those of trusted_keys.",
    ),
    setting(
        "certificate_file",
        "certificate in --state-dir",
        "This node's certificate, as floodmesh ca sign prints it.",
    ),
    setting(
        "trusted_keys",
        "all members",
        "A list: only nodes with these keys come up, each as floodmesh key prints it: a netid, a key, a name. Without a netid the key may come with any.",
    ),
    setting(
        "signed_broadcast",
        "\"off\"",
        "Sign what is for all nodes, and take only what is signed: \"on\" on all nodes of the mesh, or on none. Any member could send it in another's name otherwise; the usual MTU becomes 1296.",
    ),
    setting(
        "device.on_loss",
        "\"keep\"",
        "When the device disappears: keep forwarding for others and make it again (\"keep\"), or end (\"exit\").",
    ),
    setting(
        "device.strict",
        "\"off\"",
        "Packets for the device's networks go into the device or nowhere, whatever routes the networks around hand out, and also after the node ended (\"on\"): a rule and a table of their own. The next start without it removes them.",
    ),
    setting(
        "dedupe.memory",
        "\"256MiB\"",
        "What the memory of messages seen may grow to, 1MiB to 64GiB; 16MiB suits a small router.",
    ),
    setting(
        "dedupe.hash",
        "\"fast\"",
        "How messages are told apart: a fast keyed hash (\"fast\") or keyed BLAKE3 (\"blake3\"), which costs more than the rest of the data path.",
    ),
    setting(
        "nice",
        "-15",
        "Nice value of what is not real-time, -20 to 19, where the system permits it; the lower, the sooner neighbors and clients are answered while programs want all processors.",
    ),
    setting(
        "forwarding",
        "\"flood\"",
        "To whom messages go on: all live neighbors but the one they came from (\"flood\").",
    ),
];

const fn setting(key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting {
        key,
        default,
        meaning,
    }
}

/// All settings, in the order of help.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> + Clone {
    SETTINGS
        .iter()
        .chain(Limits::SETTINGS)
        .chain(Timers::SETTINGS)
        .chain(Storm::SETTINGS)
}

/// What `floodmesh up --help` says about settings without a flag.
pub fn long_help() -> String {
    let mut help = String::from(
        "Examples:\n  \
         floodmesh up --plain --peer van.example:44204 --address 10.77.0.1/24\n  \
         floodmesh up --plain --mode none --listen 192.0.2.1:44204\n  \
         floodmesh up --name van --config ./van.toml --set timers.dead_after=20\n\n\
         Keys of the file and of --set that have a flag:\n",
    );
    for setting in settings().filter(|setting| setting.default.is_empty()) {
        help += &format!("  {:<17}{}\n", setting.key, setting.meaning);
    }
    help += "\nKeys without a flag:\n";
    for setting in settings().filter(|setting| !setting.default.is_empty()) {
        help += &format!("  {} [default: {}]\n", setting.key, setting.default);
        for line in text::wrap(setting.meaning, 70) {
            help += &format!("          {line}\n");
        }
    }
    help += "\nIn the file a dotted key may also stand in its section:\n  \
             mode = \"sealed\"\n  peer = [\"van.example:44204\", \"192.0.2.7:44204\"]\n  \
             [device]\n  address = [\"10.77.0.1/24\"]";
    help
}
