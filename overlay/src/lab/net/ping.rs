//! ICMP echo, so that no `ping` program is needed.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Namespace, NetError};

/// ICMP and ICMPv6 header of an echo: type, code, checksum, identifier, sequence (RFC 792, 4443).
const HEADER_LEN: usize = 8;
/// Telltale bytes after the header, so that nobody else's echo is taken for ours.
const PAYLOAD: &[u8; 16] = b"floodmesh lab ..";
/// How long to wait before asking again after the kernel refused to send.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Sends one echo request from `namespace` to `target` and returns the round-trip time, or `None`
/// if no answer came within `patience`.
pub fn ping(
    namespace: &Namespace,
    target: IpAddr,
    patience: Duration,
) -> Result<Option<Duration>, NetError> {
    let action = format!("ping {target}");
    Pinger::open(namespace, target)?
        .echo(patience)
        .map_err(|source| NetError::new(action, namespace.name(), source))
}

/// A raw socket in one namespace that asks one address.
#[derive(Debug)]
pub struct Pinger {
    socket: Socket,
    target: IpAddr,
    /// Tells the pingers of one namespace apart: a raw socket hears all echo replies.
    identifier: u16,
    sequence: u16,
}

impl Pinger {
    /// Opens the socket inside `namespace`; it may be used from anywhere.
    pub fn open(namespace: &Namespace, target: IpAddr) -> Result<Self, NetError> {
        let open = || -> io::Result<Socket> {
            let (domain, protocol) = match target {
                IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
                IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
            };
            Socket::new(domain, Type::RAW, Some(protocol))
        };
        let socket = namespace
            .run(open)?
            .map_err(|source| NetError::new("open a raw ICMP socket", namespace.name(), source))?;
        static LATEST: AtomicU16 = AtomicU16::new(0);
        Ok(Self {
            socket,
            target,
            identifier: LATEST.fetch_add(1, Ordering::Relaxed),
            sequence: 0,
        })
    }

    /// Sends one echo request and waits at most `patience` for its answer.
    ///
    /// No route, an unreachable host and silence are all `None`.
    pub fn echo(&mut self, patience: Duration) -> io::Result<Option<Duration>> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = self.request();
        let sent_at = Instant::now();
        let deadline = sent_at + patience;
        let target = SockAddr::from(SocketAddr::new(self.target, 0));
        if let Err(error) = self.socket.send_to(&request, &target) {
            if !is_unreachable(&error) {
                return Err(error);
            }
            std::thread::sleep(patience.min(RETRY_INTERVAL));
            return Ok(None);
        }
        let mut datagram = [0; 256];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match (&self.socket).read(&mut datagram) {
                Ok(len) if self.is_answer(&datagram[..len]) => {
                    return Ok(Some(sent_at.elapsed()));
                }
                Ok(_) => {}
                Err(error) if is_unreachable(&error) || is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn request(&self) -> Vec<u8> {
        let echo = IcmpEchoHeader {
            id: self.identifier,
            seq: self.sequence,
        };
        match self.target {
            IpAddr::V4(_) => {
                let kind = Icmpv4Type::EchoRequest(echo);
                let header = Icmpv4Header::with_checksum(kind, PAYLOAD);
                [&header.to_bytes()[..], PAYLOAD].concat()
            }
            // Its checksum covers a pseudo header; the kernel fills it in (RFC 3542, 3.1).
            IpAddr::V6(_) => {
                let header = Icmpv6Header::new(Icmpv6Type::EchoRequest(echo));
                [&header.to_bytes()[..], PAYLOAD].concat()
            }
        }
    }

    /// Whether a datagram from the raw socket answers the latest request.
    ///
    /// Shape: IPv4 comes with its IP header, IPv6 without.
    fn is_answer(&self, datagram: &[u8]) -> bool {
        let (skipped, kind) = match self.target {
            IpAddr::V4(_) => {
                let Some(&first) = datagram.first() else {
                    return false;
                };
                (usize::from(first & 0x0f) * 4, 0)
            }
            IpAddr::V6(_) => (0, 129),
        };
        let Some(message) = datagram.get(skipped..) else {
            return false;
        };
        message.len() == HEADER_LEN + PAYLOAD.len()
            && message[0] == kind
            && message[4..6] == self.identifier.to_be_bytes()
            && message[6..8] == self.sequence.to_be_bytes()
            && &message[HEADER_LEN..] == PAYLOAD
    }
}

fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::ConnectionRefused
    )
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
