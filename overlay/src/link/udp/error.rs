//! What goes wrong on a UDP socket: at start (told to the owner) and while sending (counted).

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;

use crate::pump::count::DropReason;

/// Why the sockets could not be made. No socket is left open; nothing else has changed.
#[derive(Debug)]
pub enum BindError {
    /// More addresses than a node has sockets for.
    TooMany {
        /// How many were asked for.
        asked: usize,
        /// How many are allowed.
        most: usize,
    },
    /// The address cannot be listened on.
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses an option that the transport needs.
    Option {
        /// The address asked for.
        address: SocketAddr,
        /// The option's name in the system's manuals.
        option: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl BindError {
    /// What the owner can do about it.
    fn advice(&self) -> &'static str {
        let source = match self {
            Self::TooMany { .. } => return "name fewer --listen addresses",
            Self::Bind { source, .. } => source,
            Self::Option { .. } => return "floodmesh needs Linux 3.8 or newer",
        };
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EADDRINUSE) => {
                "another program, perhaps another floodmesh, has this UDP port: stop it, \
                 or choose another port with --listen ADDR:PORT"
            }
            Some(Errno::EADDRNOTAVAIL) => {
                "no interface has this address: give one that `ip address` shows, \
                 or 0.0.0.0 or [::] for all"
            }
            Some(Errno::EAFNOSUPPORT) => {
                "this machine has this address family disabled: listen on the other one"
            }
            Some(Errno::EACCES | Errno::EPERM) => {
                "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port"
            }
            Some(Errno::EMFILE | Errno::ENFILE) => "raise the limit of open files",
            Some(Errno::EINVAL) => "a link-local address needs its interface: [fe80::1%eth0]:PORT",
            _ => "choose another address with --listen ADDR:PORT",
        }
    }
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooMany { asked, most } => {
                write!(f, "cannot listen on {asked} addresses: at most {most}")?;
            }
            Self::Bind { address, source } => {
                write!(f, "cannot listen on udp {address}: {}", plain(source))?;
            }
            Self::Option {
                address,
                option,
                source,
            } => write!(f, "cannot set {option} on udp {address}: {}", plain(source))?,
        }
        write!(f, " ({})", self.advice())
    }
}

// `source()` stays empty: the text above already says what the system said, and a printed chain
// would say it twice.
impl std::error::Error for BindError {}

/// The system's words without the number that the standard library adds.
fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// Why one datagram was not sent. It is dropped; the socket is as good as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The interface's queue or the socket's buffer is full.
    NoBuffer,
    /// No route to the far end, or it refuses.
    Unreachable,
    /// Larger than UDP carries even in fragments.
    TooBig,
    /// There is no session that seals for the far end.
    NoSession,
    /// Something else, such as a firewall rule.
    Other,
}

impl SendError {
    /// The counter of this error.
    pub const fn reason(self) -> DropReason {
        match self {
            Self::NoBuffer => DropReason::TxNoBuffer,
            Self::Unreachable => DropReason::TxUnreachable,
            Self::TooBig => DropReason::TxTooBig,
            Self::NoSession => DropReason::NoSession,
            Self::Other => DropReason::TxError,
        }
    }
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoBuffer => "the queue to the network is full",
            Self::Unreachable => "the far end cannot be reached",
            Self::TooBig => "the datagram is too large for the path",
            Self::NoSession => "no session seals for the far end",
            Self::Other => "the system refused the datagram",
        })
    }
}

impl std::error::Error for SendError {}

/// What an errno calls for, on sending and receiving alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Interrupted: the same call again.
    Again,
    /// Perhaps the echo of an earlier datagram, to any neighbor: empty the error queue and send
    /// the same datagram again, a bounded number of times.
    Retry,
    /// Larger than the path MTU, or the echo of an earlier one that was: as above, then with
    /// fragmentation allowed.
    Fragment,
    /// The interface's queue is full: drop, and leave this link alone for a moment.
    Pause,
    /// The socket's own buffer is full, whoever filled it: drop this datagram.
    Full,
    /// Surely this datagram's own: the source address is no longer ours, or there is no route.
    Reroute,
    /// Surely this datagram's own, and final.
    Refused,
}

/// The table of errnos. One place, so that it can be read and tested as a table.
///
/// An ICMP error about any earlier datagram of an unconnected socket becomes the result of the
/// socket's next call, whomever that concerns; `Retry` lists all that the kernel makes of ICMP
/// and ICMPv6 (`icmp_err_convert`, `icmpv6_err_convert`). EACCES is among them (administratively
/// prohibited) as well as a `prohibit` route of our own.
pub(super) const fn react(errno: Errno) -> Reaction {
    match errno {
        Errno::EINTR => Reaction::Again,
        Errno::ECONNREFUSED
        | Errno::ENETUNREACH
        | Errno::EHOSTUNREACH
        | Errno::EHOSTDOWN
        | Errno::ENETDOWN
        | Errno::ENONET
        | Errno::ENOPROTOOPT
        | Errno::EOPNOTSUPP
        | Errno::EPROTO
        | Errno::EACCES => Reaction::Retry,
        Errno::EMSGSIZE => Reaction::Fragment,
        Errno::ENOBUFS => Reaction::Pause,
        Errno::EAGAIN | Errno::ENOMEM => Reaction::Full,
        Errno::EINVAL | Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::ENXIO => Reaction::Reroute,
        _ => Reaction::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_that_was_seen_has_its_reaction() {
        let table = [
            (Errno::EINTR, Reaction::Again),
            (Errno::ECONNREFUSED, Reaction::Retry),
            (Errno::ENETUNREACH, Reaction::Retry),
            (Errno::EHOSTUNREACH, Reaction::Retry),
            (Errno::EACCES, Reaction::Retry),
            (Errno::EPROTO, Reaction::Retry),
            (Errno::EMSGSIZE, Reaction::Fragment),
            (Errno::ENOBUFS, Reaction::Pause),
            (Errno::EAGAIN, Reaction::Full),
            (Errno::ENOMEM, Reaction::Full),
            (Errno::EINVAL, Reaction::Reroute),
            (Errno::EADDRNOTAVAIL, Reaction::Reroute),
            (Errno::ENODEV, Reaction::Reroute),
            (Errno::EPERM, Reaction::Refused),
            (Errno::EIO, Reaction::Refused),
            (Errno::EBADF, Reaction::Refused),
            (Errno::UnknownErrno, Reaction::Refused),
        ];
        for (errno, reaction) in table {
            assert_eq!(react(errno), reaction, "{errno}");
        }
    }

    #[test]
    fn a_port_in_use_is_told_in_one_line_with_what_to_do() {
        let error = BindError::Bind {
            address: "0.0.0.0:44204".parse().unwrap(),
            source: io::Error::from_raw_os_error(Errno::EADDRINUSE as i32),
        };
        assert_eq!(
            error.to_string(),
            "cannot listen on udp 0.0.0.0:44204: address already in use (another program, \
             perhaps another floodmesh, has this UDP port: stop it, or choose another port with \
             --listen ADDR:PORT)"
        );
    }

    #[test]
    fn every_send_error_has_a_counter_of_its_own() {
        let all = [
            SendError::NoBuffer,
            SendError::Unreachable,
            SendError::TooBig,
            SendError::Other,
        ];
        let reasons: std::collections::BTreeSet<_> = all.map(SendError::reason).into();
        assert_eq!(reasons.len(), all.len());
    }
}
