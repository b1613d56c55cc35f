//! Why a lab did not run to its end.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitStatus;

use super::interrupt::Interrupted;
use super::net::NetError;
use super::node::NodeError;
use super::topology::TopologyError;

/// A lab could not run to its end.
///
/// Whatever the variant, everything that the lab made is gone when the caller sees it.
#[derive(Debug)]
pub enum LabError {
    /// What was asked for cannot be built: misuse, exit code 2.
    Topology(TopologyError),
    /// The kernel grants neither namespaces nor a user namespace to make them in.
    Forbidden(io::Error),
    /// The private directory cannot be made.
    Directory(io::Error),
    /// Our own program cannot be found or started.
    Program(io::Error),
    /// There is no access to `/dev/net/tun`.
    Device(io::Error),
    /// The kernel refused a namespace, a wire or a socket.
    Net(NetError),
    /// A daemon did not start, or ended unasked.
    Node(NodeError),
    /// A daemon could not be asked for its neighbors.
    Ask(io::Error),
    /// A daemon could not be ended.
    Stop(io::Error),
    /// The stream's sockets failed.
    Stream(io::Error),
    /// The worker process said this before it ended.
    Worker(String),
    /// The worker process ended without a word.
    Silent(ExitStatus),
    /// Ctrl-C or SIGTERM.
    Interrupted,
}

impl LabError {
    /// Whether the command line is to blame (exit code 2) and not the machine (exit code 1).
    pub fn is_misuse(&self) -> bool {
        matches!(self, Self::Topology(_))
    }

    /// The error and all its sources on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        text
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topology(error) => error.fmt(f),
            Self::Forbidden(_) => {
                f.write_str("cannot make namespaces; run with sudo, or allow user namespaces")
            }
            Self::Directory(_) => f.write_str("cannot make a private directory"),
            Self::Program(_) => f.write_str("cannot start this program once more"),
            Self::Device(_) => f.write_str(
                "cannot open /dev/net/tun; load the module tun, or allow access (in a container: \
                 --device /dev/net/tun)",
            ),
            Self::Net(error) => error.fmt(f),
            Self::Node(error) => error.fmt(f),
            Self::Ask(_) => f.write_str("cannot ask a daemon for its neighbors"),
            Self::Stop(_) => f.write_str("cannot end a daemon"),
            Self::Stream(_) => f.write_str("cannot run the stream"),
            Self::Worker(text) => f.write_str(text),
            Self::Silent(status) => write!(f, "the lab's worker process broke off ({status})"),
            Self::Interrupted => f.write_str("interrupted; everything is removed"),
        }
    }
}

impl Error for LabError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Forbidden(error)
            | Self::Directory(error)
            | Self::Program(error)
            | Self::Device(error)
            | Self::Ask(error)
            | Self::Stop(error)
            | Self::Stream(error) => Some(error),
            // Shown in full above; their own sources continue the chain.
            Self::Net(error) => error.source(),
            Self::Node(error) => error.source(),
            Self::Topology(_) | Self::Worker(_) | Self::Silent(_) | Self::Interrupted => None,
        }
    }
}

impl From<TopologyError> for LabError {
    fn from(error: TopologyError) -> Self {
        Self::Topology(error)
    }
}

impl From<NetError> for LabError {
    fn from(error: NetError) -> Self {
        Self::Net(error)
    }
}

impl From<NodeError> for LabError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Interrupted => Self::Interrupted,
            error => Self::Node(error),
        }
    }
}

impl From<Interrupted> for LabError {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_impossible_topology_is_misuse() {
        let unknown = TopologyError::Unknown("torus".into());
        assert!(LabError::from(unknown).is_misuse());
        assert!(!LabError::Interrupted.is_misuse());
    }

    #[test]
    fn the_chain_ends_with_the_kernels_word() {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(
            LabError::Forbidden(source).chain(),
            "cannot make namespaces; run with sudo, or allow user namespaces: permission denied"
        );
        let refused = NetError::new("set up to-b", "a", io::Error::other("no such device"));
        assert_eq!(
            LabError::from(refused).chain(),
            "cannot set up to-b (namespace a): no such device"
        );
    }
}
