//! `floodmesh ca sign`: from a node's public keys to its certificate.

use ipnet::IpNet;
use serde::Deserialize;

use super::super::args::SignArgs;
use super::super::client::print;
use super::super::clock;
use super::super::error::Failure;
use super::super::text;
use super::office::Issued;
use crate::id::NetId;
use crate::seal::armor::Armor;
use crate::seal::members::{Trusted, read_key};
use wire::sealed::{Certificate, Prefix, right};

const DAY: u64 = 86_400;
/// The names of rights, from bit 0 up (S38).
const RIGHTS: [&str; 5] = ["originate", "forward", "inform", "relay", "administer"];

/// What a node tells of itself with `floodmesh key`.
#[derive(Debug, Deserialize)]
struct Keys {
    netid: String,
    static_key: String,
    signing_key: String,
    #[serde(default)]
    trusted_key: String,
}

/// Signs, and prints the certificate.
///
/// # Errors
/// The keys cannot be read, or what was asked for is not to be signed.
pub(super) fn sign(args: &SignArgs) -> Result<(), Failure> {
    let keys = Keys::read(&super::read(&args.keys)?).ok_or_else(|| {
        Failure::misuse(
            format!("{} holds no keys of a node", args.keys.display()),
            "give what floodmesh key prints on the node, as text or with --json",
        )
    })?;
    let wrong = |what: String, remedy: &str| Failure::misuse(what, remedy);
    let key = |text: &str| {
        read_key(text).ok_or_else(|| {
            wrong(
                "a key is damaged".into(),
                "copy all that floodmesh key prints",
            )
        })
    };
    let netid_text = args.netid.as_deref().unwrap_or(&keys.netid);
    let netid: NetId = netid_text
        .parse()
        .ok()
        .filter(|netid: &NetId| netid.is_node())
        .ok_or_else(|| {
            wrong(
                format!("{} is no netid of a node", text::foreign(netid_text)),
                "give 1 to 8 hex digits",
            )
        })?;
    let usual = keys.trusted_key.parse::<Trusted>();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => usual.map(|trusted| trusted.name).unwrap_or_default(),
    };
    let mut prefixes = Vec::new();
    for prefix in &args.prefix {
        prefixes.push(self::prefix(prefix)?);
    }
    prefixes.sort_unstable_by_key(|prefix| prefix.to_bytes());
    let mut office = super::open(&args.office)?;
    let now = clock::wall_seconds();
    let not_after = now.saturating_add(u64::from(args.days) * DAY);
    let mut fields = Certificate::of(
        [0; 16],
        netid,
        key(&keys.static_key)?,
        key(&keys.signing_key)?,
    );
    (fields.not_before, fields.not_after) = (now, not_after);
    fields.name = &name;
    if let Some(words) = &args.rights {
        fields.rights = rights(words)?;
    }
    fields.rate_class = args.rate_class;
    if args.rate_class > 0 && fields.rights & right::FORWARD != 0 {
        eprintln!(
            "note: with the right to forward it can pass its own messages off as others', which no rate \
             class counts; --rights originate,inform leaves that out"
        );
    }
    // Signed once for the judgement; the serial is taken only for what can be signed.
    if office.authority.sign(&fields, &prefixes).is_none() {
        return Err(wrong(
            "this cannot be signed".into(),
            "a name has at most 32 printable letters, there are at most 8 prefixes, none twice, and \
             the keys must be a node's",
        ));
    }
    let issued = Issued {
        serial: 0,
        netid,
        static_key: fields.static_key,
        not_after,
        rate_class: args.rate_class,
        name: name.clone(),
    };
    fields.serial = office.note(now, issued.clone())?;
    let bytes = office
        .authority
        .sign(&fields, &prefixes)
        .unwrap_or_default();
    let issued = Issued {
        serial: fields.serial,
        ..issued
    };
    eprintln!(
        "signed {} for {}; it belongs into the file certificate in that node's state directory, with \
         the setting authority that floodmesh ca show prints",
        issued.words(),
        text::count(args.days.into(), "day"),
    );
    for other in others(&office.issued, &issued, now) {
        eprintln!(
            "note: {} goes on being good; floodmesh ca revoke {} ends it",
            other.words(),
            other.serial
        );
    }
    print(&(Armor::Certificate.encode(&bytes) + "\n"))
}

/// Certificates of another key with the netid or the name of this one.
fn others<'i>(all: &'i [Issued], one: &Issued, now: u64) -> impl Iterator<Item = &'i Issued> {
    let one = one.clone();
    all.iter().filter(move |other| {
        let alike = other.netid == one.netid || (!one.name.is_empty() && other.name == one.name);
        alike && other.static_key != one.static_key && other.not_after >= now
    })
}

impl Keys {
    /// Reads what `floodmesh key` printed, as JSON or as text.
    fn read(text: &str) -> Option<Self> {
        if let Ok(keys) = serde_json::from_str(text) {
            return Some(keys);
        }
        let line = |label: &str| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.trim().strip_prefix(label))?;
            Some(value.trim().to_owned())
        };
        let listed = line("trusted_keys").unwrap_or_default();
        Some(Self {
            netid: line("netid ")?,
            static_key: line("static key ")?,
            signing_key: line("signing key ")?,
            trusted_key: listed.split('"').nth(1).unwrap_or_default().to_owned(),
        })
    }
}

fn prefix(text: &str) -> Result<Prefix, Failure> {
    let net: IpNet = text.parse().map_err(|_| {
        Failure::misuse(
            format!(
                "--prefix {} is not a network with a prefix length",
                text::foreign(text)
            ),
            "write one like 10.80.0.0/24",
        )
    })?;
    if net != net.trunc() {
        return Err(Failure::misuse(
            format!("--prefix {net} has bits behind its prefix length"),
            format!("write {}", net.trunc()),
        ));
    }
    Ok(match net {
        IpNet::V4(net) => Prefix::V4(net.addr().octets(), net.prefix_len()),
        IpNet::V6(net) => Prefix::V6(net.addr().octets(), net.prefix_len()),
    })
}

fn rights(words: &str) -> Result<u16, Failure> {
    let mut rights = 0;
    for word in words.split(',').map(str::trim) {
        let bit = RIGHTS.iter().position(|right| *right == word);
        let bit = bit.ok_or_else(|| {
            Failure::misuse(
                format!("--rights {} is not known", text::foreign(word)),
                format!("choose {}", RIGHTS.join(", ")),
            )
        })?;
        rights |= 1 << bit;
    }
    Ok(rights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_text_and_as_json() {
        let text = "netid        0000002a\nmesh         m\nstatic key   aa\nsigning key  bb\n\
                    For the settings\ntrusted_keys = [\"0000002a aa van 3\"]\n";
        let keys = Keys::read(text).unwrap();
        assert_eq!(
            (&keys.netid[..], &keys.static_key[..], &keys.signing_key[..]),
            ("0000002a", "aa", "bb")
        );
        assert_eq!(keys.trusted_key, "0000002a aa van 3");
        let json = "{\"netid\":\"2a\",\"mesh\":\"m\",\"static_key\":\"aa\",\"signing_key\":\"bb\"}";
        assert_eq!(Keys::read(json).unwrap().netid, "2a");
        assert!(Keys::read("netid 7\n").is_none());
    }

    #[test]
    fn rights_and_prefixes_are_judged() {
        assert_eq!(rights("originate, inform").unwrap(), 0b101);
        assert!(rights("fly").is_err());
        assert_eq!(
            prefix("10.80.0.0/24").unwrap(),
            Prefix::V4([10, 80, 0, 0], 24)
        );
        let said = prefix("10.80.0.1/24").unwrap_err().to_string();
        assert!(said.contains("(write 10.80.0.0/24)"), "{said}");
        assert!(prefix("10.80.0.0").is_err());
    }
}
