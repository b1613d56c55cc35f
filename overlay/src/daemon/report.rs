//! What a running node says of itself: the objects behind `--json`, stable for scripts.
//!
//! Rules of the format: netids are text of eight hex digits; a field with a unit ends in it
//! (`_seconds`, `_ms`, `_us`, `_bytes`); what is not known is `null`; lists are in the order in
//! which text output prints them. Fields are added, never renamed. [`super::render`] turns them
//! into text for people.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::args::DeviceMode;
use crate::id::NetId;
use crate::pump::count::{Counters, DropReason, Total};

/// How the node is doing: `floodmesh status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The program's version.
    pub version: String,
    /// The node's name on its machine.
    pub name: String,
    /// The node's number.
    #[serde(with = "as_text")]
    pub netid: NetId,
    /// The mesh's name.
    pub mesh: String,
    /// The links' protocol: `plain`, `sealed`, `prefer`.
    pub mode: String,
    /// The daemon's process.
    pub pid: u32,
    /// How long it has run.
    pub uptime_seconds: u64,
    /// How what it sends and takes is protected.
    pub security: Security,
    /// What the process has given up.
    #[serde(default)]
    pub confinement: ConfinementReport,
    /// How far it speaks plain; `null` unless its mode is `prefer`.
    #[serde(default)]
    pub prefer: Option<PreferReport>,
    /// Its certificate, where an authority signs.
    #[serde(default)]
    pub certificate: Option<OwnCertificate>,
    /// Number of the revocation list that it follows; 0 for none.
    #[serde(default)]
    pub revocation_list: u64,
    /// The change of the mesh secret, while one is under way.
    #[serde(default)]
    pub rotation: Option<RotationReport>,
    /// Its device.
    pub device: DeviceReport,
    /// Where it listens.
    pub sockets: Vec<SocketReport>,
    /// Its neighbors by state.
    pub neighbors: NeighborCounts,
    /// Other nodes it knows, neighbors or not.
    pub nodes: u64,
    /// Its memory of messages.
    pub seen: SeenReport,
    /// What went through.
    pub traffic: TrafficReport,
    /// Alarms and advice; empty when all is well.
    pub health: Vec<Health>,
}

/// A node that prefers sealed links and speaks plain to whoever does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferReport {
    /// How long it still does; 0 when it is a sealed node by now.
    pub remaining_seconds: u64,
    /// Nodes that are never spoken to in plain again.
    pub latched: u64,
    /// Live links that are plain.
    pub open_links: u64,
    /// What goes on between plain links and sealed ones: `off`, `on`, `clear`.
    pub bridge: String,
    /// Messages a second that a bridge lets in from plain links to sealed ones at the most.
    #[serde(default)]
    pub guest_per_second: u64,
    /// Messages that it did not let in, being above that.
    #[serde(default)]
    pub guests_refused: u64,
    /// Peers of the settings that are never spoken to in plain.
    #[serde(default)]
    pub sealed_peers: u64,
    /// Peers of the settings that are spoken to in plain without being asked for more.
    #[serde(default)]
    pub plain_peers: u64,
}

/// What `forget` forgot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgottenReport {
    /// Whose key.
    #[serde(with = "as_text")]
    pub netid: NetId,
    /// The key, in hex.
    pub key: String,
}

/// The revocation list that a node follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedReport {
    /// Its number.
    pub number: u64,
    /// How many serials and keys it revokes.
    pub entries: u64,
}

/// What a running node read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadedReport {
    /// What is another than before: `secret`, `next secret`, `certificate`, `authority`,
    /// `trusted_keys`, `modes of peers`.
    pub changed: Vec<String>,
    /// Links that were closed, since their keys are not let in any more.
    pub closed: u64,
    /// Whether other settings changed too, which wait for the next start.
    pub waits_for_start: bool,
}

/// A change of the mesh secret that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationReport {
    /// Neighbors with a session.
    pub neighbors: u64,
    /// Those of them that use the next secret.
    pub using: u64,
}

/// A node's own certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCertificate {
    /// The number by which it is revoked.
    pub serial: u64,
    /// The name in it; may be empty.
    pub name: String,
    /// Its last second, since 1970-01-01 UTC.
    pub not_after: u64,
    /// How long it is still good; 0 when it has ended.
    pub remaining_seconds: u64,
}

/// How something is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Not at all.
    None,
    /// From hop to hop.
    Link,
    /// From end to end.
    E2e,
    /// Signed by its originator.
    Signed,
}

impl Security {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Link => "link",
            Self::E2e => "e2e",
            Self::Signed => "signed",
        }
    }
}

/// What the daemon's process may still do; see [`super::confine`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfinementReport {
    /// Whether it was to give anything up.
    pub enabled: bool,
    /// Whether it has no supplementary groups.
    pub groups_cleared: bool,
    /// Capabilities that it has, as capabilities(7) names them: `net_admin`.
    pub capabilities: Vec<String>,
    /// Whether programs that it runs gain no privileges.
    pub no_new_privs: bool,
    /// Which files it can reach.
    pub landlock: LandlockReport,
    /// Whether its system calls are filtered.
    pub seccomp: bool,
}

/// Rules for files, devices and ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockReport {
    /// How much of them the kernel enforces.
    pub state: Enforcement,
    /// The version of the rules that both the kernel and this program know; `null` without landlock.
    pub abi: Option<u32>,
}

/// How much of what was asked for the kernel enforces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// Everything.
    Enforced,
    /// What it knows of.
    Partial,
    /// Nothing.
    #[default]
    None,
}

impl Enforcement {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Partial => "partial",
            Self::None => "none",
        }
    }
}

/// The virtual network device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Its name; `null` without a device.
    pub name: Option<String>,
    /// What it carries.
    pub mode: DeviceMode,
    /// Its largest packet.
    pub mtu_bytes: Option<u32>,
    /// Whether it works.
    pub state: DeviceState,
    /// Its addresses, the derived one first.
    pub addresses: Vec<IpNet>,
    /// How packets are moved.
    pub backend: Option<Backend>,
    /// What is written packet by packet all the same, since the kernel refused it merged.
    #[serde(default)]
    pub unmerged: Vec<Unmerged>,
    /// Packets of it, or datagrams of a socket, that one round of system calls handles at most.
    pub batch: u16,
    /// Data threads: 1 for everything; of more, one reads the sockets and the others the device.
    #[serde(default)]
    pub threads: u16,
    /// Queues of the device, each read by a thread; 0 without a device.
    #[serde(default)]
    pub queues: u16,
    /// Whether they run before ordinary programs.
    #[serde(default)]
    pub realtime: bool,
    /// The table that alone leads to its networks; `null` unless `device.strict` is on.
    #[serde(default)]
    pub strict_table: Option<u32>,
    /// Hardware addresses (per VLAN) the learning switch knows, on both sides; `null` unless `tap`.
    pub stations: Option<u64>,
}

/// A protocol whose packets the device no longer merges: the kernel refused three merged ones
/// within a minute. It is tried again when the device is opened again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmerged {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// What the kernel said to the last one.
    pub reason: String,
}

/// Whether the device works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// It does.
    Up,
    /// It was set down from outside.
    Down,
    /// It is gone and will be made again; the node forwards for others.
    Degraded,
    /// There is none, as asked.
    None,
}

/// How packets move between the device and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// One packet a system call.
    Plain,
    /// Trains of packets.
    Offload,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketReport {
    /// Its address, with the port it really has.
    pub local: SocketAddr,
}

/// How many neighbors are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborCounts {
    /// Heard lately.
    pub live: u64,
    /// Silent for a while.
    pub suspect: u64,
    /// Said goodbye.
    pub leaving: u64,
    /// Have to prove their address.
    pub proving: u64,
    /// Are being dialed.
    pub dialing: u64,
    /// Were refused, or refused us.
    pub refused: u64,
}

/// The memory of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenReport {
    /// Messages in it.
    pub entries: u64,
    /// Memory it uses.
    pub used_bytes: u64,
    /// Memory it may use.
    pub limit_bytes: u64,
    /// How long a message is remembered now.
    pub lifetime_seconds: u64,
    /// Whether that is less than it should be, for want of memory.
    pub shortened: bool,
}

/// What went through since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// Datagrams received over links.
    pub rx_datagrams: u64,
    /// Bytes of them.
    pub rx_bytes: u64,
    /// Datagrams sent over links, each copy.
    pub tx_datagrams: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Messages that came first.
    pub first_copies: u64,
    /// Messages that had come before.
    pub duplicates: u64,
    /// Packets written to the device.
    pub delivered: u64,
    /// Packets read from the device and sent.
    pub originated: u64,
    /// Messages forwarded for others.
    pub forwarded: u64,
    /// Everything dropped but duplicates and own echoes; `counters` has the reasons.
    pub dropped: u64,
}

/// One thing that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How bad it is.
    pub level: Level,
    /// A word that stays the same, for scripts: `netid_conflict`, `mesh_mismatch`, `storm`,
    /// `bridge_loop`, `wrong_mode`, `other_key`, `certificate_ends`, `revoked`, `device_degraded`,
    /// `no_neighbor`, `seen_shortened`, `path_mtu`, `plain_outgrown`,
    /// `other_next_secret`, `not_strict`.
    pub code: String,
    /// A sentence, for people.
    pub text: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something is not as good as it could be.
    Warning,
    /// Traffic is or will be lost.
    Alarm,
}

/// `floodmesh neighbors`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NeighborsReport {
    /// One entry per neighbor, and per address that is being dialed or proved.
    pub neighbors: Vec<NeighborReport>,
}

/// One neighbor, or an address that may become one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeighborReport {
    /// Its number, once known.
    #[serde(with = "as_text_or_null")]
    pub netid: Option<NetId>,
    /// Its name, by its certificate; `null` without one.
    #[serde(default)]
    pub name: Option<String>,
    /// How things stand.
    pub state: NeighborState,
    /// The `--peer` that it was found by, as written; `null` when it came by itself.
    pub peer: Option<String>,
    /// The mode that this peer has in the settings, `sealed`, `prefer` or `plain`; `null` where it goes by
    /// the node's.
    #[serde(default)]
    pub mode: Option<String>,
    /// Why it is not live, or not with all links; `null` when all is well.
    pub why: Option<String>,
    /// The links to it, or the attempts at one.
    pub links: Vec<LinkReport>,
}

/// How things stand with a neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeighborState {
    /// Heard lately; all messages go there.
    Live,
    /// Silent for a while; messages still go there.
    Suspect,
    /// Said goodbye; gone in seconds unless it answers.
    Leaving,
    /// Spoke to us, and has to prove its address.
    Proving,
    /// Is being dialed.
    Dialing,
    /// Was refused, or refused us.
    Refused,
}

impl NeighborState {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Suspect => "suspect",
            Self::Leaving => "leaving",
            Self::Proving => "proving",
            Self::Dialing => "dialing",
            Self::Refused => "refused",
        }
    }
}

/// One link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkReport {
    /// The far end.
    pub endpoint: SocketAddr,
    /// The address of ours it speaks to, once known.
    pub local: Option<IpAddr>,
    /// Our socket, by its place in `StatusReport::sockets`.
    pub socket: u8,
    /// How long it has been up.
    pub age_seconds: u64,
    /// How long ago it was heard; `null` is never.
    pub heard_ago_ms: Option<u64>,
    /// The last round-trip time measured.
    pub rtt_us: Option<u64>,
    /// Datagrams received.
    pub rx_datagrams: u64,
    /// Bytes of them.
    pub rx_bytes: u64,
    /// Datagrams sent.
    pub tx_datagrams: u64,
    /// Bytes of them.
    pub tx_bytes: u64,
    /// Share of all first copies that came over this link, 0 to 1; `null` before the first.
    pub first_share: Option<f64>,
    /// Messages that had come before.
    pub duplicates: u64,
    /// Datagrams that could not be sent.
    pub tx_errors: u64,
    /// Datagrams sent in fragments, larger than the path takes whole.
    pub fragmented: u64,
    /// Datagrams received that were dropped as more than the neighbor's, or their source's, fair
    /// share while the node was saturated.
    #[serde(default)]
    pub unfair_share: u64,
    /// The largest IP packet that was shown to arrive whole; `null` while nothing is known. No
    /// larger one is tried than the next field says.
    pub path_mtu_bytes: Option<u32>,
    /// The largest IP packet that a packet of the device makes on this link.
    pub largest_packet_bytes: u32,
    /// How it is protected.
    pub security: Security,
}

/// `floodmesh nodes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodesReport {
    /// One entry per other node, by netid.
    pub nodes: Vec<NodeReport>,
}

/// Another node of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its number.
    #[serde(with = "as_text")]
    pub netid: NetId,
    /// Whether it is a live neighbor.
    pub neighbor: bool,
    /// Neighbors over which messages of it came first in the last minute, the latest in front; one
    /// message a second is looked at.
    #[serde(with = "as_texts")]
    pub via: Vec<NetId>,
    /// How long ago a message of it came; `null` when others only spoke of it.
    pub heard_ago_ms: Option<u64>,
    /// The addresses it can be reached at now, the derived one first.
    pub addresses: Vec<IpAddr>,
    /// The rate class of its certificate, as far as this node holds it to one; 0 for none.
    #[serde(default)]
    pub rate_class: u8,
    /// Messages of its own that were dropped here as above that.
    #[serde(default)]
    pub rate_refused: u64,
    /// What it claims.
    pub claims: Vec<ClaimReport>,
    /// How Data between it and us is protected; `link` where it is our only neighbor.
    pub security: Security,
}

/// One claim of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimReport {
    /// What is claimed.
    pub prefix: IpNet,
    /// Whether it is used.
    pub state: ClaimState,
}

/// Whether a claim is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimState {
    /// Heard first hand and refreshed.
    Active,
    /// Heard from others only.
    Hearsay,
    /// Not refreshed lately; used while nobody else claims it.
    Stale,
    /// Another node holds the prefix.
    Refused,
    /// Not claimed, but seen as a source address.
    Learned,
}

impl ClaimState {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Hearsay => "hearsay",
            Self::Stale => "stale",
            Self::Refused => "refused",
            Self::Learned => "learned",
        }
    }
}

/// `floodmesh counters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersReport {
    /// What went well.
    pub totals: Vec<Count>,
    /// What was dropped, by reason.
    pub drops: Vec<Count>,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Its name, which stays the same.
    pub name: String,
    /// How many since the start.
    pub value: u64,
    /// What it counts.
    pub meaning: String,
}

impl From<&Counters> for CountersReport {
    fn from(counters: &Counters) -> Self {
        let count = |name: &str, value, meaning: &str| Count {
            name: name.to_owned(),
            value,
            meaning: meaning.to_owned(),
        };
        let total = |one: &Total| count(one.name(), counters.total(*one), one.meaning());
        let dropped = |one: &DropReason| count(one.name(), counters.dropped(*one), one.meaning());
        Self {
            totals: Total::ALL.iter().map(total).collect(),
            drops: DropReason::ALL.iter().map(dropped).collect(),
        }
    }
}

/// One answer to a ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingReply {
    /// Which question it answers, from 1.
    pub sequence: u32,
    /// Who answered.
    #[serde(with = "as_text")]
    pub netid: NetId,
    /// How long the first copy of the answer took.
    pub rtt_us: u64,
    /// Over how many neighbors copies of the answer came.
    pub last_hops: u32,
    /// Addresses of who answered.
    pub addresses: Vec<IpAddr>,
}

/// A ping that was not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingMissed {
    /// Which question, from 1.
    pub sequence: u32,
}

/// The end of a ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingSummary {
    /// Who was asked, as typed.
    pub target: String,
    /// Questions asked.
    pub sent: u32,
    /// Questions that were answered by at least one node.
    pub answered: u32,
    /// Nodes that answered.
    pub nodes: u32,
    /// Shortest round-trip time.
    pub rtt_min_us: Option<u64>,
    /// Mean round-trip time.
    pub rtt_mean_us: Option<u64>,
    /// Longest round-trip time.
    pub rtt_max_us: Option<u64>,
}

/// Why the node does not answer a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// Values that are text in JSON because people write them so.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'d, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'d>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The same, for values that may be missing.
mod as_text_or_null {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'d, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'d>,
    {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}

/// The same, for lists.
mod as_texts {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        values: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'d, T, D>(from: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'d>,
    {
        let texts = Vec::<String>::deserialize(from)?;
        texts
            .iter()
            .map(|text| text.parse().map_err(D::Error::custom))
            .collect()
    }
}
