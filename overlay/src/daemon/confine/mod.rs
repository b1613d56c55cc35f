//! Gives up whatever a running node has no use for, so that a flaw in it is worth little.
//!
//! A node needs much to start (a device, addresses, large socket buffers, a place for its control
//! socket) and little to run. [`confine`] is called between the two, when everything is open and there
//! is one thread; all later ones inherit what it leaves. [`settle`] takes the rest once threads have the
//! priority they are to run at.
//!
//! | step | what goes | what stays |
//! |---|---|---|
//! | groups | supplementary groups | user and main group |
//! | privileges | all capabilities, also from the bounding set | those of [`Needs`]: CAP_NET_ADMIN to make a deleted device again |
//! | | gaining any by running a program (no_new_privs) | |
//! | files (landlock) | every file, device and TCP port | the state directory, settings and keys, removing the control socket, what names are looked up with |
//! | system calls (seccomp) | running and making processes, tracing, mounting, new namespaces, other kinds of sockets, `bpf`, `io_uring`, .. | what the node, the C library and its name services use |
//!
//! The order is given: a filter of system calls comes last, since it refuses the other steps. Each
//! step does what the kernel has and the user may; what came of it is in `status`, and a node runs
//! without it too. A refused call fails with an error, as it would for a user who may not; nothing
//! is killed, for a name service with a system call of its own must not end a mesh.
//!
//! What stays is still something: a node that runs as root keeps root's uid, and so may read what root
//! owns below `/etc`. One that runs as a user of its own (a persistent device, or the ambient
//! CAP_NET_ADMIN of a service manager) has not even that.
//!
//! Sources: SECURITY 2.11; capabilities(7), landlock(7), seccomp(2).

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod calls;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod calls {
    //! No list of system calls is kept for this processor.
    pub(super) fn restrict() -> Result<(), Box<dyn std::error::Error>> {
        Err("no list of system calls for this processor".into())
    }
}
mod files;
mod privileges;
#[cfg(test)]
mod tests;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;
use rustix::thread::CapabilitySet;

use super::report::ConfinementReport;

/// What a node goes on needing.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// To make its device again when somebody deletes it.
    pub device: bool,
    /// To make threads real-time, until [`settle`].
    pub scheduling: bool,
    /// To write into this directory.
    pub state: &'a Path,
    /// To remove this socket when it ends.
    pub control: &'a Path,
    /// To read these files again, if they are there.
    pub reread: [Option<&'a Path>; 3],
}

impl Needs<'_> {
    /// The capabilities for that.
    fn capabilities(&self) -> CapabilitySet {
        let mut needed = CapabilitySet::empty();
        needed.set(CapabilitySet::NET_ADMIN, self.device);
        needed.set(CapabilitySet::SYS_NICE, self.scheduling);
        // Root without it writes only where root is the owner.
        needed.set(CapabilitySet::DAC_OVERRIDE, !is_ours(self.state));
        needed
    }
}

fn is_ours(directory: &Path) -> bool {
    directory
        .metadata()
        .is_ok_and(|found| found.uid() == geteuid().as_raw())
}

/// Gives up all that `needs` does not name, for the calling thread and those that it starts from now on.
///
/// State: for good; there is no way back.
/// Calls: once, by the only thread there is.
pub fn confine(needs: &Needs<'_>) -> ConfinementReport {
    let groups_cleared = told("supplementary groups", privileges::clear_groups());
    told("capabilities", privileges::keep_only(needs.capabilities()));
    let no_new_privs = told("no_new_privs", privileges::gain_none());
    let landlock = told("landlock", files::restrict(needs));
    let seccomp = told("seccomp", calls::restrict());
    ConfinementReport {
        enabled: true,
        groups_cleared: groups_cleared.is_some(),
        capabilities: privileges::names(privileges::held()),
        no_new_privs: no_new_privs.is_some(),
        landlock: landlock.unwrap_or_default(),
        seccomp: seccomp.is_some(),
    }
}

/// Gives up what was kept for [`Needs::scheduling`]: by each thread that has the priority it wanted, and
/// by the one that started them. Returns what the calling thread has left.
pub fn settle() -> Vec<String> {
    let rest = privileges::held() - CapabilitySet::SYS_NICE;
    told("capabilities", privileges::lower_to(rest));
    privileges::names(privileges::held())
}

/// The state of a node that was told to keep everything.
pub fn unconfined() -> ConfinementReport {
    ConfinementReport {
        capabilities: privileges::names(privileges::held()),
        ..ConfinementReport::default()
    }
}

/// What came of a step; why nothing did is logged.
fn told<T, E: std::fmt::Display>(step: &str, outcome: Result<T, E>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::info!(%error, "not confined by {step}");
            None
        }
    }
}
