//! The control socket: how `floodmesh status` and the like speak to a running node.
//!
//! A Unix socket with one JSON object a line, both ways:
//!
//! ```text
//! -> "status"                                      or "neighbors", "nodes", "counters"
//! <- {"status":{"version":"0.1.0", ...}}           or {"refused":{"problem":..., "remedy":...}}
//! -> {"ping":{"target":"0000002a","count":2,"interval_ms":1000}}
//! <- {"answer":{...}}                              as many as come
//! <- {"missed":{"sequence":2}}
//! <- {"summary":{...}}                             the last one
//! ```
//!
//! All verbs but `forget`, `publish` and `reload` only read; none takes a path, a command or an interface name (SECURITY 2.11,
//! T33).
//! The socket has mode 0660, and who connects is asked for by SO_PEERCRED besides: root, the
//! daemon's own user, and members of the socket's group; only the first two may change anything. A request has at most 64 KiB, 16 clients
//! are served at once, and one that is silent for 5 s is sent away.
//!
//! [`listen`] makes the socket, [`server`] serves it and hands each request to the driver as an
//! [`AdminRequest`]; the driver answers through the channel in it.

pub mod listen;
pub mod server;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::report::{
    CountersReport, ForgottenReport, NeighborsReport, NodesReport, PingMissed, PingReply,
    PingSummary, PublishedReport, Refusal, ReloadedReport, StatusReport,
};

/// Bytes of a request, its line end included.
pub const REQUEST_LIMIT: usize = 64 * 1024;
/// Replies that wait for a client; a driver that finds it full drops the request.
pub const REPLIES: usize = 64;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Verb {
    /// For [`Reply::Status`].
    Status,
    /// For [`Reply::Neighbors`].
    Neighbors,
    /// For [`Reply::Nodes`].
    Nodes,
    /// For [`Reply::Counters`].
    Counters,
    /// For [`Reply::Forgotten`].
    Forget(ForgetRequest),
    /// For [`Reply::Published`].
    Publish(PublishRequest),
    /// For [`Reply::Reloaded`].
    Reload,
    /// For [`Reply::Answer`] and [`Reply::Missed`], then [`Reply::Summary`].
    Ping(PingRequest),
}

/// Whose key is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// A netid, a key, or a name of the list of trusted keys.
    pub target: String,
}

/// A revocation list that the node is to follow and to pass on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// The list as text (SEALED.md S77).
    pub list: String,
}

impl Verb {
    /// Whether it changes what the node does.
    pub const fn changes(&self) -> bool {
        matches!(self, Self::Forget(_) | Self::Publish(_) | Self::Reload)
    }
}

/// What to ping, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PingRequest {
    /// A netid, an address inside the mesh, or `all`: what
    /// [`PingTarget`](super::args::PingTarget) reads. The server lets nothing else through.
    pub target: String,
    /// How often: 1 to 100,000.
    pub count: u32,
    /// Time between two: 20 to 3,600,000.
    pub interval_ms: u32,
}

/// What the node answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// How it is doing.
    Status(Box<StatusReport>),
    /// Its neighbors.
    Neighbors(NeighborsReport),
    /// The other nodes it knows.
    Nodes(NodesReport),
    /// What it counted.
    Counters(CountersReport),
    /// The key that it forgot.
    Forgotten(ForgottenReport),
    /// The list that it follows now.
    Published(PublishedReport),
    /// What it read again.
    Reloaded(ReloadedReport),
    /// An answer to a ping.
    Answer(PingReply),
    /// A ping without one.
    Missed(PingMissed),
    /// The end of a ping.
    Summary(PingSummary),
    /// It does not answer, and why.
    Refused(Refusal),
}

impl Reply {
    /// Whether nothing follows it.
    pub const fn is_last(&self) -> bool {
        !matches!(self, Self::Answer(_) | Self::Missed(_))
    }

    /// A refusal.
    pub fn refused(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Refused(Refusal {
            problem: problem.into(),
            remedy: remedy.into(),
        })
    }
}

/// A request on its way to the driver.
///
/// The driver sends one reply, or for a ping several of which the last [is last](Reply::is_last).
/// Sending fails once the client has gone, which ends a ping early. Use `try_send`, so that a
/// client that does not read cannot hold the driver.
#[derive(Debug)]
pub struct AdminRequest {
    /// What is asked.
    pub verb: Verb,
    /// Where replies go.
    pub replies: mpsc::Sender<Reply>,
}
