//! Groups and capabilities: what the process may do because of who it is.

use std::io;

use nix::unistd::{getegid, getgroups, setgroups};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Leaves all supplementary groups; the main group stays.
pub(super) fn clear_groups() -> io::Result<()> {
    let own = getegid();
    if getgroups()?.iter().all(|group| *group == own) {
        return Ok(());
    }
    Ok(setgroups(&[])?)
}

/// Keeps those capabilities of `wanted` that the process has, and gives up all others, also the way
/// to get them back.
pub(super) fn keep_only(wanted: CapabilitySet) -> io::Result<()> {
    for (_, one) in CapabilitySet::all().iter_names() {
        // Refused to a user, who gains none from it, and for what this kernel does not have.
        let _ = remove_capability_from_bounding_set(one);
    }
    // Not in kernels before 4.3, which have no such set.
    let _ = clear_ambient_capability_set();
    lower_to(wanted)
}

/// Keeps those capabilities of `wanted` that the calling thread has.
pub(super) fn lower_to(wanted: CapabilitySet) -> io::Result<()> {
    let held = capabilities(None)?;
    let kept = held.permitted & wanted;
    let lowered = set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    );
    match lowered {
        // A service manager may refuse every change. It left no more than that either, but for what
        // programs inherit, and a node runs none.
        Err(_) if held.permitted == kept && held.effective == kept => Ok(()),
        lowered => Ok(lowered?),
    }
}

/// Programs that this process runs gain nothing from set-user-ID bits and file capabilities.
pub(super) fn gain_none() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}

/// What the calling thread may do now.
pub(super) fn held() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted)
}

/// `net_admin` and so on, as capabilities(7) has them but for the prefix.
pub(super) fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names()
        .map(|(name, _)| name.to_lowercase())
        .collect()
}
