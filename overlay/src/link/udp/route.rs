//! Where the kernel would send: a probe against carrying our own link traffic through ourselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::IpNet;

/// Whether datagrams to `remote` would leave through our own device (SECURITY T15).
///
/// Shape: `overlay` are the prefixes that belong to the overlay alone (not fe80::/64, which every
///        interface has); `device_addresses` those assigned to the device, link-local ones too.
/// Cost:  a socket that is connected, asked for its address, and closed; nothing is sent. For
///        control, when a link is considered; never per datagram.
///
/// It asks the kernel which source address it would use. A route through the device that names
/// a source address of another interface escapes it; against that stands the check of each
/// datagram's interface in the data path.
pub(super) fn is_own_route(
    remote: SocketAddr,
    overlay: &[IpNet],
    device_addresses: &[IpAddr],
) -> bool {
    let is_ours = |address: IpAddr| {
        device_addresses.contains(&address) || overlay.iter().any(|net| net.contains(&address))
    };
    is_ours(remote.ip().to_canonical()) || source_toward(remote).is_some_and(is_ours)
}

/// The address that datagrams to `remote` would leave from; `None` without a route.
fn source_toward(remote: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let probe = UdpSocket::bind(any).ok()?;
    probe.connect(remote).ok()?;
    Some(probe.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_inside_the_overlay_is_our_own_route() {
        let overlay = [
            "fd00:1::/64".parse().unwrap(),
            "10.9.0.0/16".parse().unwrap(),
        ];
        for inside in ["[fd00:1::7]:1", "10.9.3.4:1", "[::ffff:10.9.3.4]:1"] {
            assert!(
                is_own_route(inside.parse().unwrap(), &overlay, &[]),
                "{inside}"
            );
        }
    }

    #[test]
    fn a_remote_is_our_own_route_when_its_source_address_would_be_the_devices() {
        let remote = "127.0.0.9:44204".parse().unwrap();
        let device = ["127.0.0.9".parse().unwrap()];
        let elsewhere = "127.0.0.8:44204".parse().unwrap();
        assert!(is_own_route(remote, &[], &device));
        assert!(!is_own_route(elsewhere, &[], &device));
        // The kernel answers 127.0.0.8 from 127.0.0.1.
        let source = ["127.0.0.1".parse().unwrap()];
        assert!(is_own_route(elsewhere, &[], &source));
        let prefix = ["127.0.0.1/32".parse().unwrap()];
        assert!(is_own_route(elsewhere, &prefix, &[]));
    }
}
