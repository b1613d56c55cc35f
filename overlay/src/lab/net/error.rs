//! What can go wrong while namespaces and wires are made.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// The kernel refused a namespace, an interface or a program in a namespace.
///
/// What was made before stays until its handles are dropped; nothing is half done inside one
/// interface. The caller gives up and drops what it holds.
#[derive(Debug)]
pub struct NetError {
    /// What was tried, as it continues "cannot": `create bridge w1`.
    action: String,
    /// The namespace it was tried in or for.
    namespace: String,
    source: io::Error,
}

impl NetError {
    pub(in crate::lab) fn new(
        action: impl Into<String>,
        namespace: &str,
        source: impl Into<io::Error>,
    ) -> Self {
        Self {
            action: action.into(),
            namespace: namespace.to_owned(),
            source: source.into(),
        }
    }

    /// Whether rights are what is missing, so that root or a user namespace would help.
    pub fn is_permission(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} (namespace {})", self.action, self.namespace)?;
        if self.is_permission() {
            write!(f, "; needs root, or a user namespace")?;
        }
        Ok(())
    }
}

impl std::error::Error for NetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Puts rtnetlink's errors into the form that the rest of the machine's trouble has.
pub(super) fn from_netlink(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// The same for nix.
pub(super) fn from_errno(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}
