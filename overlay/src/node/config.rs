//! What the owner may choose about the control plane, with the default and its reason.
//!
//! Durations are scheduled against [`crate::time::Instant`]. Every rate is enforced by a
//! [`crate::budget::Bucket`].

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::id::{NetId, SocketId};
use crate::time::Duration;

/// Links of one neighbor at the most: several uplinks, or an old and a new address while roaming
/// (PROTOCOL.md "Links"). Each carries a copy of everything, so more would only cost.
pub const LINKS_PER_NEIGHBOR: usize = 4;

/// When a configured peer is dialed, counted from the start of dialing; after the last, every
/// [`Timers::redial`]. Close together at first, because a user waits; then patient.
pub const DIAL_SCHEDULE: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];

/// When an address learned from Inform is probed: Hello, challenge, Hello, and no more (T5).
pub const INFORM_SCHEDULE: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(4),
];

/// When a new neighbor is told of others and they of it, counted from its proof. The first telling
/// may come before the listener has proven us, and be dropped; the others cover that, and loss.
pub const TELL_SCHEDULE: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(4),
];

/// How long an address that was probed in vain is left alone (T5).
pub const INFORM_SILENCE: Duration = Duration::from_secs(600);

/// When a leaving neighbor is challenged, counted from its Goodbye (T3).
pub const LEAVE_CHALLENGES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// When a leaving neighbor that answers no challenge is gone; under 4 s (PROTOCOL.md "Goodbye").
pub const LEAVE_AFTER: Duration = Duration::from_millis(3_500);

/// How long a probed endpoint may answer after the last probe.
pub const CANDIDATE_LIFETIME: Duration = Duration::from_secs(5);

/// The Hellos of an endpoint are answered with one Hello in this time (A25); a stranger's endpoint
/// is remembered for so long.
pub const GREET_INTERVAL: Duration = Duration::from_secs(10);

/// A Pong proves its endpoint for so long after the challenge.
pub const CHALLENGE_LIFETIME: Duration = Duration::from_secs(10);

/// One endpoint is challenged once in this time, unless the owner named it.
pub const CHALLENGE_SPACING: Duration = Duration::from_secs(1);

/// One proof in this time of an endpoint that sends and was never greeted.
pub const STRANGER_PROOF_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes that may go to an endpoint without proof, for each byte that came from there.
pub const AMPLIFICATION: u64 = 3;

/// A Ping to all nodes is answered after a random time up to this, so that answers do not collide.
pub const ANSWER_SPREAD: Duration = Duration::from_millis(500);

/// One Inform of a neighbor is followed in this time, after [`TELLER_BURST`] at once (T5).
pub const TELLER_INTERVAL: Duration = Duration::from_secs(10);

/// See [`TELLER_INTERVAL`].
pub const TELLER_BURST: u32 = 16;

/// A conflict of netids is told at most this often.
pub const ALARM_INTERVAL: Duration = Duration::from_secs(60);

/// A known node is forgotten after this long without a message from it.
pub const REMOTE_LIFETIME: Duration = Duration::from_secs(600);

/// A node whose Goodbye came from elsewhere is forgotten after this long without a message.
pub const REMOTE_LEAVE_AFTER: Duration = Duration::from_secs(10);

/// Everything that [`super::control::Control`] needs to know at start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This node's name; a single node's, never changed while running.
    pub netid: NetId,
    /// Our sockets, in the order of their ids.
    pub sockets: Vec<Socket>,
    /// Links learned from Inform are dialed while fewer than this many neighbors are live, and
    /// strangers accepted up to twice it. Default 6, range 1..=256: more costs bandwidth (each
    /// neighbor carries every message), fewer costs paths.
    pub degree: usize,
    /// Live neighbors at the most, configured peers excepted. Default 256, range 1..=1,024.
    pub max_neighbors: usize,
    /// Inform is followed into these prefixes even if they are of a class that we do not have.
    pub allow_inform: Vec<IpNet>,
    /// Prefixes of the overlay itself, never dialed (T15).
    pub overlay: Vec<IpNet>,
    /// Bytes of the largest datagram that a packet of the device makes. Links are probed for
    /// whether they carry it whole (SECURITY T18); 0 probes none.
    pub largest: u16,
    /// Deadlines.
    pub timers: Timers,
    /// Rates and table bounds.
    pub limits: Limits,
    /// Seeds nonces, challenge netids, jitter and table keys; from the operating system in the
    /// daemon, from the run's seed in the simulator.
    pub seed: [u8; 32],
}

/// One of our sockets.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// Its id.
    pub id: SocketId,
    /// The address it is bound to; possibly the wildcard.
    pub local: SocketAddr,
}

/// Deadlines of a link's life (PROTOCOL-NOTES A35, DECISIONS 4a).
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// A link is pinged after this long without news. Default 15 s: keeps common NAT bindings.
    pub ping_after: Duration,
    /// It counts as suspect after this long. Default 30 s.
    pub suspect_after: Duration,
    /// It is dead after this long. Default 45 s.
    pub dead_after: Duration,
    /// A link that was sent to but heard nothing for this long is greeted and pinged. Default
    /// 2 s: a restarted or rebound neighbor costs seconds, not 45.
    pub unheard_after: Duration,
    /// A configured peer that does not answer is dialed this often, +-20 %. Default 30 s.
    pub redial: Duration,
    /// One random pair of neighbors is told of each other this often. Default 60 s.
    pub inform: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            ping_after: Duration::from_secs(15),
            suspect_after: Duration::from_secs(30),
            dead_after: Duration::from_secs(45),
            unheard_after: Duration::from_secs(2),
            redial: Duration::from_secs(30),
            inform: Duration::from_secs(60),
        }
    }
}

/// Rates and bounds (DECISIONS 4a; SECURITY T2, T5 to T8).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Hellos handled per second in all. Default 1,000.
    pub hellos: u32,
    /// Hellos handled per second and endpoint. Default 5.
    pub hellos_per_endpoint: u32,
    /// Challenges sent per second in all. Default 500; per endpoint it is always 1.
    pub challenges: u32,
    /// Unproved endpoints remembered. Default 1,024, each about 200 bytes.
    pub candidates: usize,
    /// Unproved endpoints of one /24 or /56 while that table is over 75 % full. Default 16.
    pub candidates_per_prefix: usize,
    /// Addresses learned from Inform that are probed at the same time. Default 8.
    pub informed_in_flight: usize,
    /// Addresses learned from Inform that are probed per /24 or /56 at once. Default 32.
    pub inform_burst: u32,
    /// The same per second, after the burst. Default 1.
    pub informs_per_prefix: u32,
    /// Pings to us answered per second in all. Default 500, burst the same.
    pub pongs: u32,
    /// Pings to us answered per second and src netid. Default 50, burst twice that.
    pub pongs_per_origin: u32,
    /// Pings to all nodes answered per second. Default 1, burst 3.
    pub pongs_to_all: u32,
    /// Other nodes remembered. Default 4,096.
    pub remotes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hellos: 1_000,
            hellos_per_endpoint: 5,
            challenges: 500,
            candidates: 1_024,
            candidates_per_prefix: 16,
            informed_in_flight: 8,
            inform_burst: 32,
            informs_per_prefix: 1,
            pongs: 500,
            pongs_per_origin: 50,
            pongs_to_all: 1,
            remotes: 4_096,
        }
    }
}
