//! Opens the sockets and sets their options.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use libc::c_int;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::error::BindError;
use super::{UdpSocket, linux};

/// The port of the protocol: 0xACAC.
pub const DEFAULT_PORT: u16 = 44_204;
/// Most sockets of one node. Each costs two file descriptors' worth of polling a turn; a node with
/// several uplinks and both families needs fewer than ten.
pub const MAX_SOCKETS: usize = 16;
/// Bytes asked for as receive and as send buffer, as wireguard-go does: room for what arrives
/// while this thread is not scheduled (some 3,000 full datagrams, counted with their overhead).
pub const SOCKET_BUFFER: usize = 7 << 20;

/// Opens one socket per address; without any, the default port on every family there is.
pub(super) fn bind_all(listen: &[SocketAddr]) -> Result<Vec<UdpSocket>, BindError> {
    if listen.len() > MAX_SOCKETS {
        return Err(BindError::TooMany {
            asked: listen.len(),
            most: MAX_SOCKETS,
        });
    }
    if listen.is_empty() {
        return bind_default(DEFAULT_PORT);
    }
    listen.iter().map(|&address| bind_one(address)).collect()
}

/// Both wildcards on `port`; a family that the machine does not have is left out.
fn bind_default(port: u16) -> Result<Vec<UdpSocket>, BindError> {
    let v6 = bind_one((Ipv6Addr::UNSPECIFIED, port).into());
    let v4 = bind_one((Ipv4Addr::UNSPECIFIED, port).into());
    either_family(v6, v4)
}

/// Both results, or the one there is when the other's family is missing.
fn either_family<T>(
    first: Result<T, BindError>,
    second: Result<T, BindError>,
) -> Result<Vec<T>, BindError> {
    match (first, second) {
        (Ok(first), Ok(second)) => Ok(vec![first, second]),
        (Ok(only), Err(error)) | (Err(error), Ok(only)) if is_missing_family(&error) => {
            Ok(vec![only])
        }
        // Told is the one that has a remedy.
        (Err(missing), Err(error)) if is_missing_family(&missing) => Err(error),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

fn is_missing_family(error: &BindError) -> bool {
    matches!(
        error,
        BindError::Bind { source, .. } if matches!(
            source.raw_os_error().map(Errno::from_raw),
            Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL)
        )
    )
}

/// Opens, sets up and binds one socket.
fn bind_one(address: SocketAddr) -> Result<UdpSocket, BindError> {
    let bind_error = |source| BindError::Bind { address, source };
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM.nonblocking().cloexec(),
        Some(Protocol::UDP),
    )
    .map_err(bind_error)?;
    set_options(&socket, address)?;
    set_buffers(&socket);
    // Best effort: older kernels give datagrams one by one (before Linux 5.0).
    let _ = linux::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1);
    // Neither SO_REUSEADDR nor SO_REUSEPORT: two daemons on one UDP port would take each other's
    // datagrams. The way in has one thread anyway (`daemon::duty`).
    socket.bind(&address.into()).map_err(bind_error)?;
    let local = socket
        .local_addr()
        .map_err(bind_error)?
        .as_socket()
        .unwrap_or(address);
    Ok(UdpSocket::new(socket, local))
}

/// The options that the transport's promises rest on.
fn set_options(socket: &Socket, address: SocketAddr) -> Result<(), BindError> {
    const V4: c_int = libc::IPPROTO_IP;
    const V6: c_int = libc::IPPROTO_IPV6;
    let of_family: &[(&'static str, c_int, c_int, c_int)] = if address.is_ipv4() {
        &[
            ("IP_PKTINFO", V4, libc::IP_PKTINFO, 1),
            ("IP_RECVERR", V4, libc::IP_RECVERR, 1),
            (
                "IP_MTU_DISCOVER",
                V4,
                libc::IP_MTU_DISCOVER,
                libc::IP_PMTUDISC_DO,
            ),
        ]
    } else {
        &[
            // One socket per family: a dual-stack one would take the IPv4 port too, and speak of
            // IPv4 addresses in IPv6 terms.
            ("IPV6_V6ONLY", V6, libc::IPV6_V6ONLY, 1),
            ("IPV6_RECVPKTINFO", V6, libc::IPV6_RECVPKTINFO, 1),
            ("IPV6_RECVERR", V6, libc::IPV6_RECVERR, 1),
            (
                "IPV6_MTU_DISCOVER",
                V6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_DO,
            ),
        ]
    };
    let of_both = [("SO_RXQ_OVFL", libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)];
    for &(option, level, name, value) in of_family.iter().chain(&of_both) {
        linux::set_option(socket.as_fd(), level, name, value).map_err(|errno| {
            BindError::Option {
                address,
                option,
                source: io::Error::from(errno),
            }
        })?;
    }
    Ok(())
}

/// Large buffers where we may, as large as the machine allows where not.
fn set_buffers(socket: &Socket) {
    let force = |name| {
        linux::set_option(
            socket.as_fd(),
            libc::SOL_SOCKET,
            name,
            SOCKET_BUFFER as c_int,
        )
    };
    // Best effort: a smaller buffer drops earlier under load, and the drops are counted.
    if force(libc::SO_RCVBUFFORCE).is_err() {
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    }
    if force(libc::SO_SNDBUFFORCE).is_err() {
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(errno: Errno) -> BindError {
        BindError::Bind {
            address: "[::]:44204".parse().unwrap(),
            source: errno.into(),
        }
    }

    #[test]
    fn a_missing_family_is_left_out_of_the_default_set() {
        for missing in [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL] {
            assert_eq!(
                either_family(Err(failure(missing)), Ok("v4")).unwrap(),
                ["v4"]
            );
            assert_eq!(
                either_family(Ok("v6"), Err(failure(missing))).unwrap(),
                ["v6"]
            );
        }
        assert_eq!(either_family(Ok("v6"), Ok("v4")).unwrap(), ["v6", "v4"]);
    }

    #[test]
    fn any_other_failure_of_the_default_set_is_told() {
        let told = |first, second| {
            either_family::<&str>(first, second)
                .unwrap_err()
                .to_string()
        };
        assert!(told(Err(failure(Errno::EADDRINUSE)), Ok("v4")).contains("already in use"));
        assert!(told(Ok("v6"), Err(failure(Errno::EADDRINUSE))).contains("already in use"));
        let both = told(
            Err(failure(Errno::EAFNOSUPPORT)),
            Err(failure(Errno::EADDRINUSE)),
        );
        assert!(both.contains("already in use"), "{both}");
    }

    #[test]
    fn the_default_set_holds_both_families_on_one_port() {
        let both = match bind_default(0) {
            Ok(both) => both,
            Err(error) => panic!("{error}"),
        };
        // Port 0 gives each its own; what matters is the families, the IPv6 one being first.
        assert!(both.iter().any(|socket| socket.local().is_ipv4()));
        assert!(both.iter().all(|socket| socket.local().port() != 0));
    }
}
