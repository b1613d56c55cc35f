//! The authority's directory: its key, what it signed, what it revoked.
//!
//! | file          | content                                                                |
//! |---------------|------------------------------------------------------------------------|
//! | `key`         | mesh id and private key; written once, for its owner alone (S63)       |
//! | `issued`      | the next serial, then a line for each certificate that has not ended   |
//! | `revocations` | the newest list, as `ca publish` takes it                              |
//!
//! All but the key are written as state is ([`StateDir`]), under its lock. A damaged one ends the
//! command: a serial given twice, or a list with a lower number, could not be told apart later.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::super::acting;
use super::super::error::Failure;
use super::super::secrets::draw;
use super::super::secrets::file::{self, FileError};
use super::super::state::{self, StateDir};
use crate::id::NetId;
use crate::seal::armor::Armor;
use crate::seal::authority::Authority;
use crate::seal::identity::verify_revocations;
use crate::seal::keys::Key;
use crate::seal::members::{key_text, read_key};
use wire::sealed::{Revocations, Revoked};

/// What the first line of the key's file calls it.
const KEY: &str = "authority";
const ISSUED: &str = "issued";
const REVOCATIONS: &str = "revocations";
/// How long a certificate is listed after its end, in seconds.
const LISTED_AFTER_END: u64 = 30 * 86_400;

/// An authority that is at work. Its directory is locked until this is dropped.
#[derive(Debug)]
pub struct Office {
    /// The key.
    pub authority: Authority,
    /// What was signed, the oldest first.
    pub issued: Vec<Issued>,
    /// What is revoked, by the newest list.
    pub revoked: Vec<Revoked>,
    /// That list's number; 0 before the first.
    pub number: u64,
    next_serial: u64,
    directory: StateDir,
}

/// A certificate that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// By which it is revoked.
    pub serial: u64,
    /// Whose it is.
    pub netid: NetId,
    /// Its S.
    pub static_key: [u8; 32],
    /// Its last second.
    pub not_after: u64,
    /// Its rate class; 0 for none.
    pub rate_class: u8,
    /// Its name; may be empty.
    pub name: String,
}

/// Makes an authority for a mesh where there is none.
///
/// # Errors
/// There is one, or it cannot be written.
pub fn make(directory: &Path, mesh_id: [u8; 16]) -> Result<Authority, Failure> {
    let _acting = acting::as_owner_of(directory)?;
    let _locked = StateDir::open(directory)?;
    let secret = draw()?;
    let mut body = Zeroizing::new(String::with_capacity(5 + 32 + 1 + 8 + 64 + 1));
    body.push_str("mesh ");
    body.push_str(&key_text(&mesh_id));
    body.push_str("\ned25519 ");
    for byte in secret.bytes() {
        for digit in [byte >> 4, byte & 15] {
            body.extend(char::from_digit(digit.into(), 16));
        }
    }
    body.push('\n');
    let head = state::head(KEY, &body);
    let mut text = Zeroizing::new(String::with_capacity(head.len() + 1 + body.len()));
    text.push_str(&head);
    text.push('\n');
    text.push_str(&body);
    file::write_new(&directory.join("key"), &text, 0o600)?;
    Ok(Authority::new(mesh_id, &secret))
}

impl Office {
    /// The authority of a directory.
    ///
    /// # Errors
    /// There is none, another command is at work, or a file is loose or damaged.
    pub fn open(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("key");
        let text = file::read(&path).map_err(|error| match error {
            FileError::Missing(_) => Failure::at_work(
                format!("there is no authority in {}", directory.display()),
                "floodmesh ca init makes one; --dir names another directory",
            ),
            error => error.into(),
        })?;
        let authority = parse_key(&text).ok_or_else(|| damaged(&path))?;
        let _acting = acting::as_owner_of(directory)?;
        let directory = StateDir::open(directory)?;
        let (next_serial, issued) = directory
            .must_read(ISSUED, parse_issued)?
            .unwrap_or((1, Vec::new()));
        let list = directory.must_read(REVOCATIONS, |body| {
            let bytes = Armor::Revocations.decode(body)?;
            let list = Revocations::parse(&bytes).ok()?;
            verify_revocations(&list, &authority.public())
                .then(|| (list.number, list.entries().collect()))
        })?;
        let (number, revoked) = list.unwrap_or_default();
        Ok(Self {
            authority,
            issued,
            revoked,
            number,
            next_serial,
            directory,
        })
    }

    /// Takes the next serial and notes what is signed under it, before it is signed.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn note(&mut self, now: u64, certificate: Issued) -> Result<u64, Failure> {
        let serial = self.next_serial;
        self.next_serial += 1;
        let listed = |one: &Issued| one.not_after.saturating_add(LISTED_AFTER_END) >= now;
        self.issued.retain(listed);
        self.issued.push(Issued {
            serial,
            ..certificate
        });
        let mut body = format!("next {}\n", self.next_serial);
        for one in &self.issued {
            let class = match one.rate_class {
                0 => String::new(),
                class => format!(":{class}"),
            };
            // Writing to a `String` cannot fail.
            let _ = writeln!(
                body,
                "{} {} {} {}{class} {}",
                one.serial,
                one.netid,
                key_text(&one.static_key),
                one.not_after,
                one.name
            );
        }
        let _acting = acting::as_owner_of(self.directory.path())?;
        self.directory.write(ISSUED, &body)?;
        Ok(serial)
    }

    /// Writes the next list, with these entries more and without those that no longer matter.
    ///
    /// # Errors
    /// It would have too many, or cannot be written.
    pub fn revoke(
        &mut self,
        outlived: impl Fn(&Revoked) -> bool,
        more: &[Revoked],
    ) -> Result<(), Failure> {
        let mut revoked = std::mem::take(&mut self.revoked);
        revoked.retain(|one| !outlived(one));
        revoked.extend_from_slice(more);
        let number = self.number + 1;
        let bytes = self.authority.revoke(number, &revoked).ok_or_else(|| {
            Failure::at_work(
                format!("a list holds {} entries at most", wire::sealed::REVOKED_MAX),
                "make a new mesh secret or a new authority; entries leave the list when their \
                 certificates have ended",
            )
        })?;
        let body = Armor::Revocations.encode(&bytes) + "\n";
        let _acting = acting::as_owner_of(self.directory.path())?;
        self.directory.write(REVOCATIONS, &body)?;
        self.revoked = revoked;
        self.number = number;
        Ok(())
    }

    /// The newest list as text; `None` before the first.
    ///
    /// # Errors
    /// It was damaged meanwhile.
    pub fn list(&self) -> Result<Option<String>, Failure> {
        Ok(self
            .directory
            .must_read(REVOCATIONS, |body| Some(body.trim_end().to_owned()))?)
    }

    /// Whether a certificate is revoked, by its serial or its key.
    pub fn is_revoked(&self, one: &Issued) -> bool {
        self.revoked
            .iter()
            .any(|entry| entry.serial == one.serial || entry.static_key == one.static_key)
    }
}

fn damaged(path: &Path) -> Failure {
    FileError::Damaged {
        path: PathBuf::from(path),
        what: "the authority's key is damaged".into(),
    }
    .into()
}

fn parse_key(text: &str) -> Option<Authority> {
    let mut lines = state::body(KEY, text)?.lines();
    // Twice the digits are as long as those of a key.
    let mesh = lines.next()?.strip_prefix("mesh ")?;
    let mesh_id = read_key(&[mesh, mesh].concat())?;
    let secret = Zeroizing::new(read_key(lines.next()?.strip_prefix("ed25519 ")?)?);
    let authority = Authority::new(*mesh_id.first_chunk()?, &Key::new(*secret));
    lines.next().is_none().then_some(authority)
}

fn parse_issued(body: &str) -> Option<(u64, Vec<Issued>)> {
    let mut lines = body.lines();
    let next = lines.next()?.strip_prefix("next ")?.parse().ok()?;
    let line = |line: &str| {
        let mut words = line.splitn(5, ' ');
        let (serial, netid, key) = (words.next()?, words.next()?, words.next()?);
        // The end, and behind it the rate class where there is one.
        let end = words.next()?;
        let (not_after, class) = end.split_once(':').unwrap_or((end, "0"));
        Some(Issued {
            serial: serial.parse().ok()?,
            netid: netid.parse().ok()?,
            static_key: read_key(key)?,
            not_after: not_after.parse().ok()?,
            rate_class: class.parse().ok()?,
            name: words.next()?.to_owned(),
        })
    };
    Some((next, lines.map(line).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn issued(name: &str, not_after: u64) -> Issued {
        Issued {
            serial: 0,
            netid: NetId(7),
            static_key: [0xa5; 32],
            not_after,
            rate_class: 0,
            name: name.into(),
        }
    }

    #[test]
    fn a_rate_class_is_kept_with_what_was_signed() {
        let home = tempfile::tempdir().unwrap();
        make(home.path(), [9; 16]).unwrap();
        let mut office = Office::open(home.path()).unwrap();
        let slow = Issued {
            rate_class: 18,
            ..issued("van 3", 2_000)
        };
        office.note(1_000, slow.clone()).unwrap();
        office.note(1_000, issued("truck", 2_000)).unwrap();
        drop(office);
        let office = Office::open(home.path()).unwrap();
        let classes: Vec<_> = office.issued.iter().map(|one| one.rate_class).collect();
        assert_eq!(classes, [18, 0]);
        assert_eq!(office.issued[0], Issued { serial: 1, ..slow });
    }

    #[test]
    fn serials_rise_and_what_was_signed_is_listed_until_a_month_after_its_end() {
        let home = tempfile::tempdir().unwrap();
        let public = make(home.path(), [9; 16]).unwrap().public();
        let mut office = Office::open(home.path()).unwrap();
        assert_eq!(
            (office.authority.public(), office.authority.mesh_id()),
            (public, &[9; 16])
        );
        assert_eq!(office.note(1_000, issued("van 3", 2_000)).unwrap(), 1);
        assert_eq!(office.note(1_000, issued("", 9_000_000)).unwrap(), 2);
        drop(office);
        let mut office = Office::open(home.path()).unwrap();
        assert_eq!(office.issued.len(), 2);
        assert_eq!(office.issued[0].name, "van 3");
        let late = 2_000 + LISTED_AFTER_END + 1;
        assert_eq!(office.note(late, issued("truck", late)).unwrap(), 3);
        let serials: Vec<_> = office.issued.iter().map(|one| one.serial).collect();
        assert_eq!(serials, [2, 3]);
    }

    #[test]
    fn lists_follow_each_other_and_lose_what_no_longer_matters() {
        let home = tempfile::tempdir().unwrap();
        make(home.path(), [9; 16]).unwrap();
        let entry = |serial, not_after| Revoked {
            serial,
            static_key: [0; 32],
            not_after,
        };
        let mut office = Office::open(home.path()).unwrap();
        assert_eq!(office.list().unwrap(), None);
        office.revoke(|_| false, &[entry(1, 50)]).unwrap();
        office
            .revoke(|one| one.not_after < 60, &[entry(2, 70)])
            .unwrap();
        drop(office);
        let office = Office::open(home.path()).unwrap();
        assert_eq!(
            (office.number, &office.revoked[..]),
            (2, &[entry(2, 70)][..])
        );
        assert!(office.list().unwrap().unwrap().starts_with("mr1-"));
    }

    #[test]
    fn a_second_authority_and_a_damaged_file_end_the_command() {
        let home = tempfile::tempdir().unwrap();
        let none = Office::open(home.path()).unwrap_err().to_string();
        assert!(none.contains("there is no authority in"), "{none}");
        make(home.path(), [9; 16]).unwrap();
        assert!(make(home.path(), [9; 16]).is_err());
        let path = home.path().join("key");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("mesh 09", "mesh 08")).unwrap();
        let error = Office::open(home.path()).unwrap_err().to_string();
        assert!(error.contains("is damaged"), "{error}");
        fs::write(&path, text).unwrap();
        fs::write(home.path().join(ISSUED), "next 1\n").unwrap();
        let error = Office::open(home.path()).unwrap_err().to_string();
        assert!(error.contains("issued is damaged"), "{error}");
    }
}
