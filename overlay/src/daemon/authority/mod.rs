//! `floodmesh ca`: the mesh authority, for meshes in which knowing the secret is not enough.
//!
//! 1. `init` makes its key for a mesh; `show` prints the public one, which all nodes get as
//!    `authority`.
//! 2. `sign` takes what `floodmesh key` prints on a node, and prints a certificate for its state
//!    directory.
//! 3. `revoke` writes the next list of what is good no longer; `publish` gives it to a running node,
//!    and the mesh passes it on.
//!
//! Public things go to standard output in one line and nothing else does, so that commands can be put
//! together; what to do next is said on standard error. Read [`office`] for what is kept.

pub mod office;
mod sign;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::args::{CaArgs, CaCommand, ListArgs, OfficeArgs, PublishArgs, RevokeArgs, ShowArgs};
use super::client::{self, print, show};
use super::clock;
use super::config::Config;
use super::error::Failure;
use super::paths::Places;
use super::regular;
use super::secrets::keep_from_dumps;
use super::secrets::membership::Membership;
use super::text;
use crate::seal::armor::Armor;
use crate::seal::members::{GRACE, key_text, read_key};
use office::{Issued, Office};
use wire::sealed::Revoked;

/// Bytes of anything that is read here.
const INPUT_LIMIT: u64 = 64 * 1024;

/// `floodmesh ca`.
///
/// # Errors
/// The command's own.
pub fn ca(args: &CaArgs) -> Result<ExitCode, Failure> {
    keep_from_dumps();
    match &args.command {
        CaCommand::Init(office) => init(office),
        CaCommand::Sign(sign) => sign::sign(sign),
        CaCommand::Revoke(revoke) => self::revoke(revoke),
        CaCommand::Publish(publish) => self::publish(publish),
        CaCommand::List(list) => self::list(list),
        CaCommand::Show(show) => show_authority(show),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn init(args: &OfficeArgs) -> Result<(), Failure> {
    let config = Config::load(&args.up(), &Places::of_this_process())?;
    let mesh_id = Membership::load(&config)?.secret.derive().mesh_id;
    let directory = directory(args)?;
    let authority = office::make(&directory, mesh_id)?;
    eprintln!(
        "made the authority of the mesh {} in {}; whoever has its file key can make members\n\
         Next:\n  \
         floodmesh key --json | floodmesh ca sign - > NODE.cert\n      \
         with the keys of each node; the certificate belongs into its state directory, as certificate\n  \
         and then into the settings of each node:",
        text::printable(&config.mesh),
        directory.display(),
    );
    print(&setting(&authority.public()))
}

fn show_authority(args: &ShowArgs) -> Result<(), Failure> {
    let office = open(&args.office)?;
    if args.revocations {
        let list = office.list()?.ok_or_else(no_list)?;
        return print(&(list + "\n"));
    }
    let report = AuthorityReport {
        authority: Armor::Authority.encode(&office.authority.public()),
        mesh_id: key_text(office.authority.mesh_id()),
        certificates: office.issued.len() as u64,
        revocations: office.number,
    };
    let public = office.authority.public();
    print(&show(args.json, &report, |_| setting(&public)))
}

/// The authority as a setting of a node.
fn setting(public: &[u8; 32]) -> String {
    format!("authority = \"{}\"\n", Armor::Authority.encode(public))
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let office = open(&args.office)?;
    let now = clock::wall_seconds();
    let report = CertificatesReport {
        certificates: office
            .issued
            .iter()
            .map(|one| CertificateReport::of(&office, one, now))
            .collect(),
    };
    print(&show(args.json, &report, CertificatesReport::text))
}

fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let mut office = open(&args.office)?;
    let now = clock::wall_seconds();
    let more = revocations(&office, &args.target)?;
    let new: Vec<Revoked> = more
        .iter()
        .filter(|one| !office.revoked.contains(one))
        .copied()
        .collect();
    if new.is_empty() {
        return print("it is revoked already; floodmesh ca publish tells the mesh\n");
    }
    // Until the last clock has seen its end.
    office.revoke(|one| one.not_after.saturating_add(2 * GRACE) < now, &new)?;
    let mut said = String::new();
    for one in &office.issued {
        let is_new = new
            .iter()
            .any(|entry| entry.serial == one.serial || entry.static_key == one.static_key);
        if is_new {
            said += &format!("revoked {}\n", one.words());
        }
    }
    for one in new.iter().filter(|one| one.static_key != [0; 32]) {
        said += &format!("revoked the key {}\n", key_text(&one.static_key));
    }
    print(&format!(
        "{said}Next: floodmesh ca publish gives list {} to a running node, and the mesh passes it on\n",
        office.number
    ))
}

/// What is to be revoked by a serial, a name or a key.
fn revocations(office: &Office, target: &str) -> Result<Vec<Revoked>, Failure> {
    let entry = |serial, static_key, not_after| Revoked {
        serial,
        static_key,
        not_after,
    };
    let key = read_key(target);
    let named: Vec<&Issued> = office
        .issued
        .iter()
        .filter(|one| one.name == target || Some(one.static_key) == key)
        .collect();
    if let Some(serial) = target.parse::<u64>().ok().filter(|_| named.is_empty()) {
        let one = office.issued.iter().find(|one| one.serial == serial);
        return match one {
            Some(one) => Ok(vec![entry(serial, [0; 32], one.not_after)]),
            None => Err(unknown(target)),
        };
    }
    match (&named[..], key) {
        // A key that was never certified: it may come up by a list.
        ([], Some(key)) => Ok(vec![entry(0, key, u64::MAX)]),
        ([], None) => Err(unknown(target)),
        // Its key alone ends all its certificates, also those signed at another time.
        (named, _) => {
            let mut entries = Vec::new();
            for one in named {
                let same = named
                    .iter()
                    .filter(|other| other.static_key == one.static_key);
                let last = same.map(|other| other.not_after).max();
                entries.push(entry(0, one.static_key, last.unwrap_or(u64::MAX)));
            }
            entries.sort_unstable();
            entries.dedup();
            Ok(entries)
        }
    }
}

fn unknown(target: &str) -> Failure {
    Failure::misuse(
        format!(
            "no certificate has {} as serial, name or key",
            text::foreign(target)
        ),
        "floodmesh ca list shows them",
    )
}

fn no_list() -> Failure {
    Failure::misuse(
        "nothing is revoked yet",
        "floodmesh ca revoke writes the list",
    )
}

fn publish(args: &PublishArgs) -> Result<(), Failure> {
    let list = match &args.list {
        Some(path) => read(path)?,
        None => open(&args.office)?.list()?.ok_or_else(no_list)?,
    };
    let list = list.trim();
    if Armor::Revocations.decode(list).is_none() {
        return Err(Failure::misuse(
            "this is no list of what is revoked",
            "floodmesh ca show --revocations prints it",
        ));
    }
    let sockets = match &args.control {
        Some(path) => vec![path.clone()],
        None => {
            let name = args.office.node.as_deref().unwrap_or(super::config::NAME);
            Places::of_this_process().controls(name)
        }
    };
    for socket in &sockets {
        if let Some(report) = client::publish(socket, list)? {
            return print(&format!(
                "list {} is with the node now, which passes it on: {} revoked\n",
                report.number,
                text::number(report.entries),
            ));
        }
    }
    Err(Failure::at_work(
        "no node runs here that could pass the list on",
        "floodmesh ca show --revocations prints it for another machine: ... | floodmesh ca publish -",
    ))
}

/// Where the authority of these arguments is.
fn directory(args: &OfficeArgs) -> Result<PathBuf, Failure> {
    match &args.dir {
        Some(path) => Ok(path.clone()),
        None => {
            let config = Config::load(&args.up(), &Places::of_this_process())?;
            Ok(config.files.state.join("authority"))
        }
    }
}

fn open(args: &OfficeArgs) -> Result<Office, Failure> {
    Office::open(&directory(args)?)
}

/// All of a small file, or of standard input where it is `-`.
fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    if path == Path::new("-") {
        let read = io::stdin().take(INPUT_LIMIT).read_to_string(&mut text);
        return match read {
            Ok(_) => Ok(text),
            Err(error) => Err(Failure::at_work("cannot read standard input", "").because(error)),
        };
    }
    regular::read_text(path, 0, INPUT_LIMIT).map_err(|error| {
        let remedy = "name a text file; - reads standard input";
        Failure::at_work(format!("cannot read {}", path.display()), remedy).because(error)
    })
}

impl Issued {
    /// For a line that names it.
    fn words(&self) -> String {
        let name = match self.name.as_str() {
            "" => String::new(),
            name => format!(", {}", text::printable(name)),
        };
        format!("certificate {} of {}{name}", self.serial, self.netid)
    }
}

/// What `ca show --json` prints. Stable: scripts read it.
#[derive(Serialize)]
struct AuthorityReport {
    authority: String,
    mesh_id: String,
    certificates: u64,
    /// Number of the newest list; 0 before the first.
    revocations: u64,
}

/// What `ca list --json` prints. Stable: scripts read it.
#[derive(Serialize)]
struct CertificatesReport {
    certificates: Vec<CertificateReport>,
}

#[derive(Serialize)]
struct CertificateReport {
    serial: u64,
    netid: String,
    name: String,
    static_key: String,
    /// Last second, since 1970.
    not_after: u64,
    /// 0 for none.
    rate_class: u8,
    /// `good`, `expired` or `revoked`.
    state: &'static str,
    remaining_seconds: u64,
}

impl CertificateReport {
    fn of(office: &Office, one: &Issued, now: u64) -> Self {
        let state = match one {
            one if office.is_revoked(one) => "revoked",
            one if one.not_after < now => "expired",
            _ => "good",
        };
        Self {
            serial: one.serial,
            netid: one.netid.to_string(),
            name: one.name.clone(),
            static_key: key_text(&one.static_key),
            not_after: one.not_after,
            rate_class: one.rate_class,
            state,
            remaining_seconds: one.not_after.saturating_sub(now),
        }
    }
}

impl CertificatesReport {
    fn text(&self) -> String {
        if self.certificates.is_empty() {
            return "no certificate was signed yet\n".to_owned();
        }
        let mut rows = vec![
            ["serial", "netid", "state", "left", "rate", "name"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for one in &self.certificates {
            let left = match one.state {
                "good" => text::age(one.remaining_seconds),
                _ => "-".to_owned(),
            };
            rows.push(vec![
                one.serial.to_string(),
                one.netid.clone(),
                one.state.to_owned(),
                left,
                text::rate_class(one.rate_class),
                text::printable(&one.name),
            ]);
        }
        text::columns(&rows, &[0])
    }
}
