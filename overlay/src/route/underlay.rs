//! Our own link traffic, so that it is known when it turns up inside the overlay (SECURITY T15).

use std::net::{IpAddr, SocketAddr};

use crate::route::packet::Packet;

/// Our sockets' ports and the endpoints they speak to, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Underlay {
    ports: Vec<u16>,
    endpoints: Vec<(IpAddr, u16)>,
}

impl Underlay {
    /// Ports that our sockets are bound to, and endpoints of neighbors and of peers being dialed.
    ///
    /// Shape: endpoints canonical, as [`Endpoint`](crate::id::Endpoint) has them.
    pub fn new(
        ports: impl IntoIterator<Item = u16>,
        endpoints: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let mut endpoints: Vec<_> = endpoints
            .into_iter()
            .map(|endpoint| (endpoint.ip(), endpoint.port()))
            .collect();
        endpoints.sort_unstable();
        Self {
            ports: ports.into_iter().collect(),
            endpoints,
        }
    }

    /// Whether `packet` is a datagram of ours to the far end of a link: it was routed into the
    /// device it should carry.
    ///
    /// Cost: for a packet that is not UDP from one of our ports, a few loads.
    pub fn carries(&self, packet: &Packet<'_>) -> bool {
        let Some((from, to)) = packet.udp_ports() else {
            return false;
        };
        self.ports.contains(&from)
            && self
                .endpoints
                .binary_search(&(packet.destination, to))
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::packet::build::udp;

    #[test]
    fn only_datagrams_from_our_port_to_a_far_end_are_ours() {
        let endpoints = ["192.0.2.5:4242", "[2001:db8::5]:4242"].map(|text| text.parse().unwrap());
        let underlay = Underlay::new([44204], endpoints);
        let carries = |to: &str, from_port, to_port| {
            let from = if to.contains(':') {
                "fd00::1"
            } else {
                "10.0.0.1"
            };
            let bytes = udp(from, to, from_port, to_port);
            underlay.carries(&Packet::read(&bytes).unwrap())
        };
        assert!(carries("192.0.2.5", 44204, 4242));
        assert!(carries("2001:db8::5", 44204, 4242));
        assert!(!carries("192.0.2.5", 44205, 4242));
        assert!(!carries("192.0.2.5", 44204, 4243));
        assert!(!carries("192.0.2.6", 44204, 4242));
    }
}
