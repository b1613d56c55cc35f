//! The secrets of a sealed node: where they lie, how they are written and read, what they make.
//!
//! | file                  | content                                                   | default   |
//! |-----------------------|-----------------------------------------------------------|-----------|
//! | `secret_file`         | the mesh secret, one line `mk1-...` (SEALED.md S1)        | `secret`  |
//! |                       | the next one, while the mesh changes it (S91), beside it  | `secret.next` |
//! | `identity_file`       | both private keys of this node ([`identity`]; S62)        | `identity`|
//!
//! The defaults are in the state directory. Both are for their owner alone, written once and never
//! over another ([`mod@file`]); what is read is checked on the opened file and wiped when dropped.
//! A damaged one ends the start: to make a new identity silently would be an impostor's work.
//! [`membership`] puts them together into what a handshake needs. Nothing here is ever logged.

pub mod file;
pub mod identity;
pub mod membership;

use nix::sys::prctl;
use rustix::process::{Resource, Rlimit, setrlimit};
use zeroize::Zeroizing;

use super::error::Failure;
use crate::seal::keys::Key;

/// 32 random bytes of the operating system.
///
/// # Errors
/// It gives none.
pub fn draw() -> Result<Key, Failure> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| {
        Failure::at_work("the system gives no random numbers", "look at its log").because(error)
    })?;
    Ok(Key::new(*bytes))
}

/// Keeps this process's memory out of core dumps and from other processes of its user.
///
/// Called before the first secret is read. Where the kernel refuses, dumps stay as the system has
/// set them; that is no reason not to run.
pub fn keep_from_dumps() {
    // The limit alone does not bind a dump that is piped into a program (core(5)).
    if let Err(error) = prctl::set_dumpable(false) {
        tracing::debug!(%error, "the process can be dumped");
    }
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::debug!(%error, "the limit of core dumps stays as it was");
    }
}
