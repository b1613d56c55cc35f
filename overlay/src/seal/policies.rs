//! What the owner wants of single peers, in a node that prefers sealed links (S104).
//!
//! The node's mode is a peer's too, unless the settings give it one of its own. A peer is known by its
//! addresses: who is there, and under which netid, is proved by a session alone. Where two peers
//! have the same address, the stricter word counts.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::id::canonical;

/// How links to a peer of the settings are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMode {
    /// Nothing plain goes there, whatever times out or is said, and nothing plain from there is taken.
    Sealed,
    /// Sealed if it answers, plain otherwise.
    Prefer,
    /// Plain: no handshake is begun with it. Once it has come up sealed by itself it is latched like
    /// all others.
    Plain,
}

impl PeerMode {
    /// The word for it, as settings have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Prefer => "prefer",
            Self::Plain => "plain",
        }
    }
}

/// The addresses of the owner's peers, by mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    sealed: BTreeSet<SocketAddr>,
    prefer: BTreeSet<SocketAddr>,
    plain: BTreeSet<SocketAddr>,
    /// Whether it is not known yet where a sealed peer is.
    has_unknown: bool,
}

impl Policies {
    /// Of these peers with all addresses that they are known to have had; none while a name was not
    /// resolved yet.
    pub fn new<'a>(peers: impl Iterator<Item = (PeerMode, &'a [SocketAddr])>) -> Self {
        let mut policies = Self::default();
        for (mode, places) in peers {
            let set = match mode {
                PeerMode::Sealed => &mut policies.sealed,
                PeerMode::Prefer => &mut policies.prefer,
                PeerMode::Plain => &mut policies.plain,
            };
            set.extend(places.iter().copied().map(canonical));
            policies.has_unknown |= mode == PeerMode::Sealed && places.is_empty();
        }
        policies
    }

    /// Where nothing plain goes.
    pub fn sealed(&self) -> impl Iterator<Item = &SocketAddr> {
        self.sealed.iter()
    }

    /// Whether nothing plain goes there.
    pub fn is_sealed(&self, place: &SocketAddr) -> bool {
        self.sealed.contains(place)
    }

    /// Whether no handshake is begun there.
    pub fn is_plain(&self, place: &SocketAddr) -> bool {
        self.plain.contains(place) && !self.sealed.contains(place) && !self.prefer.contains(place)
    }

    /// Whether plain may be spoken to whoever is there. While it is not known where a sealed peer is,
    /// it may be anywhere but where the owner says that somebody else is: who keeps a name from being
    /// resolved must not gain by it.
    pub fn may_open(&self, place: &SocketAddr) -> bool {
        let is_another = || self.prefer.contains(place) || self.plain.contains(place);
        !self.sealed.contains(place) && (!self.has_unknown || is_another())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Endpoint, SocketId};

    fn place(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn the_stricter_of_two_words_about_one_address_counts() {
        let (one, both) = ([place(1)], [place(1), place(2)]);
        let mapped = ["[::ffff:192.0.2.1]:3".parse().unwrap()];
        let policies = Policies::new(
            [
                (PeerMode::Sealed, &one[..]),
                (PeerMode::Plain, &both),
                (PeerMode::Prefer, &mapped),
                (PeerMode::Plain, &mapped),
            ]
            .into_iter(),
        );
        assert!(policies.is_sealed(&place(1)) && !policies.is_plain(&place(1)));
        assert!(policies.is_plain(&place(2)) && !policies.is_plain(&place(3)));
        let may = [1, 2, 3, 4].map(|port| policies.may_open(&place(port)));
        assert_eq!(may, [false, true, true, true]);
    }

    /// A link-local address is one with its interface, as what comes from there is.
    #[test]
    fn a_place_on_one_interface_is_none_on_another() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let sealed = [at("[fe80::1%2]:7")];
        let policies = Policies::new([(PeerMode::Sealed, &sealed[..])].into_iter());
        let came_from = |text| Endpoint::new(SocketId(0), at(text)).remote;
        assert!(policies.is_sealed(&came_from("[fe80::1%2]:7")));
        assert!(!policies.may_open(&came_from("[fe80::1%2]:7")));
        assert!(policies.may_open(&came_from("[fe80::1%3]:7")));
    }

    #[test]
    fn while_nobody_knows_where_a_sealed_peer_is_plain_goes_to_named_others_alone() {
        let (one, other) = ([place(1)], [place(2)]);
        let of = |sealed: &[SocketAddr]| {
            let peers = [
                (PeerMode::Sealed, sealed),
                (PeerMode::Plain, &one),
                (PeerMode::Prefer, &other),
            ];
            let policies = Policies::new(peers.into_iter());
            [1, 2, 3].map(|port| policies.may_open(&place(port)))
        };
        assert_eq!(of(&[]), [true, true, false]);
        assert_eq!(of(&[place(4)]), [true, true, true]);
    }
}
