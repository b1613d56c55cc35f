//! Landlock: which files, devices and ports can still be reached by name.
//!
//! Rules hold for what is below a directory, whatever it is replaced by; so the files that names are
//! looked up with are given as directories, since `/etc/resolv.conf` and `/etc/hosts` are replaced by
//! new files whenever the machine moves to another network.
//!
//! What is open already (logs, the device, sockets) is not touched.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use super::Needs;
use crate::daemon::report::{Enforcement, LandlockReport};

/// The newest rules asked for; an older kernel enforces those that it has. Version 9 would also ask
/// for each name service's socket.
const NEWEST: ABI = ABI::V6;

/// Where the C library finds out about names and users, and the code that does it.
const NAMES: &[&str] = &[
    "/etc",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share",
    "/nix/store",
    "/gnu/store",
    "/run/NetworkManager",
    "/run/connman",
    "/run/nscd",
    "/run/resolvconf",
    "/run/systemd/resolve",
    "/run/systemd/userdb",
    "/var/lib/sss",
];

/// Name servers answer there what is too long for a datagram.
const NAME_SERVER: u16 = 53;

/// Restricts the calling thread.
///
/// # Errors
/// The kernel refused a rule; nothing is restricted then. One without landlock is no error.
pub(super) fn restrict(needs: &Needs<'_>) -> Result<LandlockReport, RulesetError> {
    let kept = make_bitflags!(AccessFs::{
        ReadFile | ReadDir | WriteFile | MakeReg | RemoveFile | Truncate
    });
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(NAMES, read))?
        .add_rules(path_beneath_rules(resolver(), read))?
        .add_rules(path_beneath_rules([needs.state], kept))?
        // Those files alone: what lies beside them may be anything of their owner's.
        .add_rules(path_beneath_rules(
            needs.reread.iter().flatten(),
            AccessFs::ReadFile,
        ))?
        .add_rules(path_beneath_rules(
            beside(needs.control),
            AccessFs::RemoveFile,
        ))?
        .add_rule(NetPort::new(NAME_SERVER, AccessNet::ConnectTcp))?;
    if needs.device {
        let opened = make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev});
        let set: BitFlags<AccessFs> = AccessFs::WriteFile | AccessFs::Truncate;
        ruleset = ruleset
            .add_rules(path_beneath_rules(["/dev/net/tun"], opened))?
            // Of a device that is made again: to take no routes from the mesh.
            .add_rules(path_beneath_rules(["/proc/sys/net/ipv6/conf"], set))?;
    }
    let status = ruleset.restrict_self()?;
    Ok(LandlockReport {
        state: match status.ruleset {
            RulesetStatus::FullyEnforced => Enforcement::Enforced,
            RulesetStatus::PartiallyEnforced => Enforcement::Partial,
            RulesetStatus::NotEnforced => Enforcement::None,
        },
        abi: match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => Some(effective_abi as u32),
            _ => None,
        },
    })
}

/// The directory that `path` lies in.
fn beside(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| match parent.as_os_str() {
        here if here.is_empty() => Path::new("."),
        _ => parent,
    })
}

/// The directory that `/etc/resolv.conf` really lies in.
fn resolver() -> Option<PathBuf> {
    let file = Path::new("/etc/resolv.conf").canonicalize().ok()?;
    file.parent().map(Path::to_owned)
}
