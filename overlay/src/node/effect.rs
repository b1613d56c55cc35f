//! What control wants done. Filled by every call, drained by the driver; reused, never freed.

use std::net::SocketAddr;

use wire::{Flags, HEADER_LEN, Header, INFORM_LEN, Inform, Kind};

use crate::id::{Endpoint, LinkId, NetId, Path};
use crate::time::Duration;

/// A datagram that control made: a header, or a header and an Inform.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Small {
    len: u8,
    bytes: [u8; HEADER_LEN + INFORM_LEN],
}

impl Small {
    /// A message without payload.
    pub fn header(kind: Kind, flags: Flags, nonce: u32, src: NetId, dst: NetId) -> Self {
        let mut bytes = [0; HEADER_LEN + INFORM_LEN];
        Header {
            kind,
            flags,
            nonce,
            src,
            dst,
        }
        .emit(&mut bytes);
        Self {
            len: HEADER_LEN as u8,
            bytes,
        }
    }

    /// An Inform to a neighbor; stays with it (A32).
    pub fn inform(nonce: u32, src: NetId, dst: NetId, inform: Inform) -> Self {
        let mut small = Self::header(Kind::Inform, Flags::NO_FORWARD, nonce, src, dst);
        inform.emit(&mut small.bytes[HEADER_LEN..]);
        small.len = (HEADER_LEN + INFORM_LEN) as u8;
        small
    }

    /// The whole datagram.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Small {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match wire::Message::parse(self.bytes()) {
            Ok((header, message)) => {
                write!(f, "{message:?} {}->{}", header.src, header.dst)?;
                if header.flags.no_forward() {
                    f.write_str(" NO_FORWARD")
                } else {
                    Ok(())
                }
            }
            Err(error) => write!(f, "{error}"),
        }
    }
}

/// One thing to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Enter the datagram into the seen table and send it to one endpoint.
    Send {
        /// Where to.
        path: Path,
        /// The live link there, for its counts; `None` for an endpoint without proof.
        link: Option<LinkId>,
        /// What.
        datagram: Small,
    },
    /// Pad the Ping to `len` bytes with zeros, enter that into the seen table, and send it on one
    /// link, never in fragments: its arrival tells that the path carries so much.
    Probe {
        /// Where to.
        path: Path,
        /// The live link there.
        link: LinkId,
        /// What, without its padding.
        ping: Small,
        /// Bytes with its padding.
        len: usize,
    },
    /// Enter the datagram into the seen table and send it on every live link.
    Flood(Small),
    /// The live links changed: fetch them with `Control::neighbors` and publish them.
    Publish,
    /// Tell whoever wants to know.
    Event(Event),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node became a neighbor: its first link is live.
    NeighborUp(NetId),
    /// A neighbor's last link is gone.
    NeighborDown(NetId, Gone),
    /// A further link of a neighbor, or its first.
    LinkUp(NetId, Endpoint),
    /// One link is gone.
    LinkDown(NetId, Endpoint, Gone),
    /// Datagrams above this many bytes do not get over this path whole: found, or found again.
    PathNarrow(Path, u16),
    /// A node said Goodbye and is not heard any more; it was no neighbor.
    RemoteGone(NetId),
    /// Another node uses our netid; told at most once a minute.
    NetIdConflict {
        /// Where the message came from; the last hop, not the culprit.
        last_hop: SocketAddr,
    },
    /// A stranger was refused; told at most once a minute.
    Refused {
        /// The stranger.
        endpoint: Endpoint,
        /// Why.
        reason: Refusal,
    },
    /// A copy of a Pong to one of our own pings.
    Pong {
        /// As given to `Control::ping`.
        ping: u64,
        /// Who answered.
        from: NetId,
        /// Since the Ping.
        round_trip: Duration,
        /// Different last hops that its copies came over so far.
        last_hops: usize,
    },
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Nothing was heard for `Timers::dead_after`.
    Silent,
    /// It said Goodbye and answers no challenge.
    Goodbye,
    /// Another node proved that it is at this endpoint now.
    Replaced,
}

/// Why a stranger does not become a neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Twice the degree of neighbors is live.
    Degree,
    /// `--max-neighbors` are live.
    MaxNeighbors,
    /// That neighbor has four live links.
    Links,
}

impl Refusal {
    /// What to tell the owner.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Degree => {
                "twice --degree neighbors are live; raise --degree, or name it with --peer"
            }
            Self::MaxNeighbors => "--max-neighbors are live; raise it, or name it with --peer",
            Self::Links => "that neighbor has 4 live links",
        }
    }
}

/// What a call of control leaves to be done.
pub type Effects = crate::effects::Effects<Effect>;

impl Effects {
    /// Tells of something.
    pub fn event(&mut self, event: Event) {
        self.push(Effect::Event(event));
    }
}
