//! What the driver knows, as the reports that clients get.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

use ipnet::IpNet;
use nix::errno::Errno;
use tuntap::Offload;

use super::args::DeviceMode;
use super::clock;
use super::config::Security as Mode;
use super::device::State;
use super::driver::Driver;
use super::report::{
    Backend, ClaimReport, ClaimState, DeviceReport, DeviceState, Health, Level, LinkReport,
    NeighborCounts, NeighborReport, NeighborState, NeighborsReport, NodeReport, NodesReport,
    OwnCertificate, RotationReport, Security, SeenReport, SocketReport, StatusReport,
    TrafficReport, Unmerged,
};
use crate::id::{Endpoint, NetId, canonical};
use crate::node::candidate::Origin;
use crate::node::control::report::{CandidateView, LinkView};
use crate::node::mtu::IPV6_MTU;
use crate::node::neighbor::LinkState;
use crate::pump::count::{DropReason, Total};
use crate::route::directory::ClaimState as Claim;
use crate::time::{Duration, Instant};
use wire::sealed::Certificate;

/// Seconds before the end of its certificate from which on a node warns.
const WARN_BEFORE: u64 = 30 * 86_400;
/// How long messages are remembered unless memory is short.
const LIFETIME: Duration = Duration::from_secs(300);

impl Driver {
    pub(super) fn status(&self, now: Instant) -> StatusReport {
        let neighbors = self.neighbors(now);
        let counts = count(&neighbors);
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.config.name.clone(),
            netid: self.shared.netid,
            mesh: self.config.mesh.clone(),
            mode: match self.links {
                None => "plain".to_owned(),
                Some(_) if self.config.security == Mode::Prefer => "prefer".to_owned(),
                Some(_) => "sealed".to_owned(),
            },
            pid: std::process::id(),
            uptime_seconds: now.as_secs(),
            security: match self.ends {
                None => Security::None,
                Some(_) if self.shared.snapshot.load().neighbors.has_open() => Security::None,
                Some(_) => Security::E2e,
            },
            prefer: self.prefer_report(),
            confinement: self.confinement.clone(),
            certificate: self.own_certificate(),
            revocation_list: self
                .links
                .as_ref()
                .and_then(|links| links.local().revocation)
                .unwrap_or(0),
            rotation: self.rotation(),
            device: self.device_report(),
            sockets: self
                .shared
                .sockets
                .iter()
                .map(|(_, socket)| SocketReport {
                    local: socket.local(),
                })
                .collect(),
            neighbors: counts,
            nodes: self.control.remotes().count() as u64,
            seen: self.seen_report(),
            traffic: self.traffic_report(),
            health: self.health(now, counts),
        }
    }

    pub(super) fn neighbors(&self, now: Instant) -> NeighborsReport {
        let mut by_netid: BTreeMap<NetId, Vec<LinkView>> = BTreeMap::new();
        for link in self.control.links() {
            by_netid.entry(link.netid).or_default().push(link);
        }
        let all: u64 = by_netid
            .values()
            .flatten()
            .map(|link| link.stats.first_copies.load(Relaxed))
            .sum();
        let live = by_netid
            .into_iter()
            .map(|(netid, links)| self.live(now, netid, &links, all));
        let tried = self
            .control
            .candidates()
            .map(|candidate| self.tried(now, &candidate));
        let peers = self.peers.iter().enumerate();
        let unresolved = peers.filter(|(_, (_, addresses, _))| addresses.is_empty());
        let unresolved = unresolved.map(|(place, (name, _, problem))| NeighborReport {
            netid: None,
            name: None,
            state: NeighborState::Dialing,
            peer: Some(name.clone()),
            mode: self.mode_of(place),
            why: Some(
                problem
                    .clone()
                    .unwrap_or_else(|| "its name is being looked up".to_owned()),
            ),
            links: Vec::new(),
        });
        let refused = self.control.refused(now).map(|refused| NeighborReport {
            netid: refused.netid,
            name: None,
            state: NeighborState::Refused,
            peer: None,
            mode: None,
            why: Some(format!("{}: {}", refused.endpoint, refused.reason.advice())),
            links: Vec::new(),
        });
        NeighborsReport {
            neighbors: live.chain(tried).chain(unresolved).chain(refused).collect(),
        }
    }

    pub(super) fn nodes(&self, now: Instant) -> NodesReport {
        let mut nodes: BTreeMap<NetId, NodeReport> = self
            .control
            .remotes()
            .map(|(netid, remote)| {
                let heard = now.since(remote.heard_at);
                let mut node = self.node(netid, Some(heard));
                node.via = remote.via(now).collect();
                (netid, node)
            })
            .collect();
        for claim in self.directory.claims(now) {
            let state = match claim.state {
                Claim::Own => continue,
                Claim::Fresh => ClaimState::Active,
                Claim::Hearsay => ClaimState::Hearsay,
                Claim::Stale => ClaimState::Stale,
                Claim::Refused => ClaimState::Refused,
            };
            let node = nodes
                .entry(claim.netid)
                .or_insert_with(|| self.node(claim.netid, None));
            node.claims.push(ClaimReport {
                prefix: claim.prefix,
                state,
            });
            let usable = !matches!(state, ClaimState::Refused);
            if usable && claim.prefix.prefix_len() == claim.prefix.max_prefix_len() {
                node.addresses.push(claim.prefix.addr());
            }
        }
        NodesReport {
            nodes: nodes.into_values().collect(),
        }
    }

    /// A node's addresses: the derived one, then those it claims.
    pub(super) fn addresses_of(&self, netid: NetId) -> Vec<IpAddr> {
        let derived = IpAddr::V6(self.directory.routes().mesh().address(netid));
        let now = self.clock.now();
        let claimed = self.directory.claims(now).into_iter();
        let claimed = claimed
            .filter(|claim| claim.netid == netid && claim.state != Claim::Refused)
            .map(|claim| claim.prefix.addr());
        [derived].into_iter().chain(claimed).collect()
    }

    /// How Data is protected that goes to this node and comes from it: as others see it on the way.
    fn security(&self, netid: NetId) -> Security {
        let is_sole = self.shared.snapshot.load().neighbors.sole() == Some(netid);
        match &self.ends {
            Some(ends) if ends.is_open(netid) || self.is_open_neighbor(netid) => Security::None,
            Some(_) if is_sole => Security::Link,
            Some(_) => Security::E2e,
            None => Security::None,
        }
    }

    /// Whether a neighbor has a link of the open zone.
    fn is_open_neighbor(&self, netid: NetId) -> bool {
        let snapshot = self.shared.snapshot.load();
        let mut links = snapshot.neighbors.links().iter();
        links.any(|link| link.netid == netid && link.open)
    }

    /// How messages are protected on the link to an endpoint, or would be.
    fn link_security(&self, endpoint: &Endpoint) -> Security {
        let snapshot = self.shared.snapshot.load();
        let link = snapshot.neighbors.find(endpoint);
        let link = link.and_then(|index| snapshot.neighbors.links().get(usize::from(index)));
        match &self.links {
            Some(_) if link.is_some_and(|link| link.open) => Security::None,
            Some(links) if link.is_none() && links.is_open(endpoint) => Security::None,
            Some(_) => Security::Link,
            None => Security::None,
        }
    }

    fn rotation(&self) -> Option<RotationReport> {
        let rotation = self.links.as_ref()?.rotation()?;
        Some(RotationReport {
            neighbors: rotation.neighbors as u64,
            using: rotation.using as u64,
        })
    }

    fn own_certificate(&self) -> Option<OwnCertificate> {
        let bytes = self.links.as_ref()?.local().certificate.as_deref()?;
        let certificate = Certificate::parse(bytes).ok()?;
        let not_after = certificate.not_after;
        Some(OwnCertificate {
            serial: certificate.serial,
            name: certificate.name.to_owned(),
            not_after,
            remaining_seconds: not_after.saturating_sub(clock::wall_seconds()),
        })
    }

    /// The name in a neighbor's certificate.
    fn certified_name(&self, netid: NetId) -> Option<String> {
        let mut certificates = self.links.as_ref()?.certificates();
        let (_, bytes) = certificates.find(|(of, _)| *of == netid)?;
        let name = Certificate::parse(bytes).ok()?.name;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// What is to be said of the node's own standing in the mesh.
    fn standing(&self) -> Option<(Level, &'static str, String)> {
        if self.links.as_ref().is_some_and(|links| links.is_revoked()) {
            let text = "this node's key or certificate is revoked; the mesh lets it in no more";
            return Some((Level::Alarm, "revoked", text.to_owned()));
        }
        let left = self.own_certificate()?.remaining_seconds;
        let remedy = "floodmesh ca sign makes a new certificate";
        match left {
            0 => {
                let text = format!("this node's certificate has ended: {remedy}");
                Some((Level::Alarm, "certificate_ends", text))
            }
            1..WARN_BEFORE => {
                let age = super::text::age(left);
                let text = format!("this node's certificate ends in {age}: {remedy}");
                Some((Level::Warning, "certificate_ends", text))
            }
            _ => None,
        }
    }

    /// What links carry, and how.
    fn carriage(&self, endpoint: &Endpoint) -> Carriage {
        let security = self.link_security(endpoint);
        let overhead = match security {
            Security::None => 0,
            _ => self.overhead(),
        };
        Carriage {
            largest: self.control.largest_datagram().saturating_add(overhead),
            overhead,
            security,
        }
    }

    fn node(&self, netid: NetId, heard: Option<Duration>) -> NodeReport {
        let links = self.links.as_ref();
        let held = links.and_then(|links| links.rate_class(netid));
        let (rate_class, rate_refused) = held.unwrap_or_default();
        NodeReport {
            rate_class,
            rate_refused,
            netid,
            neighbor: self.control.is_neighbor(netid),
            via: Vec::new(),
            heard_ago_ms: heard.map(millis),
            addresses: vec![IpAddr::V6(self.directory.routes().mesh().address(netid))],
            claims: Vec::new(),
            security: self.security(netid),
        }
    }

    fn live(&self, now: Instant, netid: NetId, links: &[LinkView], all: u64) -> NeighborReport {
        let state = |link: &LinkView| match link.state {
            LinkState::Live => NeighborState::Live,
            LinkState::Suspect => NeighborState::Suspect,
            LinkState::Leaving { .. } => NeighborState::Leaving,
        };
        let states: Vec<NeighborState> = links.iter().map(state).collect();
        let best = [
            NeighborState::Live,
            NeighborState::Suspect,
            NeighborState::Leaving,
        ]
        .into_iter()
        .find(|state| states.contains(state))
        .unwrap_or(NeighborState::Live);
        let why = match best {
            NeighborState::Suspect => Some("silent for more than 30 s".to_owned()),
            NeighborState::Leaving => Some("it said Goodbye".to_owned()),
            _ if states.iter().any(|state| *state != best) => {
                Some("not all of its links are live".to_owned())
            }
            _ => None,
        };
        let mut remotes = links.iter().map(|link| link.path.endpoint.remote);
        let (peer, mode) = remotes
            .find_map(|remote| self.peer_of(remote))
            .unwrap_or_default();
        NeighborReport {
            netid: Some(netid),
            name: self.certified_name(netid),
            state: best,
            peer,
            mode,
            why,
            links: links
                .iter()
                .map(|link| link_report(now, link, all, self.carriage(&link.path.endpoint)))
                .collect(),
        }
    }

    fn tried(&self, now: Instant, candidate: &CandidateView) -> NeighborReport {
        let age = now.since(candidate.since).as_secs();
        let (state, why) = match candidate.origin {
            Origin::Unsolicited => (
                NeighborState::Proving,
                "has to prove its address".to_owned(),
            ),
            _ if candidate.heard => {
                let why = "it answers, but not our challenge: perhaps it has enough neighbors";
                (NeighborState::Proving, why.to_owned())
            }
            Origin::Informed { by } => (NeighborState::Dialing, format!("{by} told of it")),
            Origin::Remembered => (
                NeighborState::Dialing,
                "a neighbor before the restart".to_owned(),
            ),
            Origin::Configured => (NeighborState::Dialing, format!("no answer for {age} s")),
        };
        let remote = candidate.endpoint.remote;
        let (peer, mode) = self.peer_of(remote).unwrap_or_default();
        NeighborReport {
            netid: candidate.claimed,
            name: None,
            state,
            peer,
            mode,
            why: Some(why),
            links: vec![LinkReport {
                endpoint: candidate.endpoint.remote,
                local: None,
                socket: candidate.endpoint.socket.0,
                age_seconds: age,
                heard_ago_ms: None,
                rtt_us: None,
                rx_datagrams: 0,
                rx_bytes: 0,
                tx_datagrams: 0,
                tx_bytes: 0,
                first_share: None,
                duplicates: 0,
                tx_errors: 0,
                fragmented: 0,
                unfair_share: 0,
                path_mtu_bytes: None,
                largest_packet_bytes: packet_len(
                    candidate.endpoint.remote,
                    self.carriage(&candidate.endpoint).largest,
                ),
                security: self.link_security(&candidate.endpoint),
            }],
        }
    }

    /// The peer of the settings that is there, and the mode of its own that it has.
    fn peer_of(&self, remote: SocketAddr) -> Option<(Option<String>, Option<String>)> {
        let same = |address: &SocketAddr| canonical(*address) == remote;
        let is_it = |peer: &(_, Vec<SocketAddr>, _)| peer.1.iter().any(same);
        let place = self.peers.iter().position(is_it)?;
        Some((Some(self.peers[place].0.clone()), self.mode_of(place)))
    }

    /// The mode of its own that the peer with this number has.
    fn mode_of(&self, place: usize) -> Option<String> {
        let mode = self.config.links.mode_of(place)?;
        Some(mode.name().to_owned())
    }

    fn device_report(&self) -> DeviceReport {
        let routes = self.directory.routes();
        let derived = routes.mesh().address(self.shared.netid);
        let exists = self.config.device.mode != DeviceMode::None;
        let mut addresses = self.device.addresses().to_vec();
        // The derived one in front, wherever it was put.
        addresses.sort_by_key(|net| net.addr() != IpAddr::V6(derived));
        DeviceReport {
            name: self.device.name().map(str::to_owned),
            mode: self.config.device.mode,
            mtu_bytes: exists.then_some(self.config.device.mtu),
            state: match self.device.state() {
                State::Up => DeviceState::Up,
                State::Down => DeviceState::Down,
                State::Lost => DeviceState::Degraded,
                State::None => DeviceState::None,
            },
            addresses: if exists {
                addresses
            } else {
                Vec::<IpNet>::new()
            },
            backend: exists.then_some(match self.device.offload() {
                Offload::None => Backend::Plain,
                Offload::Tcp | Offload::TcpUdp => Backend::Offload,
            }),
            unmerged: self.unmerged(),
            batch: self.config.device.batch,
            threads: self.shared.wakes.len() as u16,
            queues: self.device.queues(),
            realtime: self.shared.is_realtime.load(Relaxed),
            strict_table: self.device.strict_table(),
            stations: self.switch.as_ref().map(|switch| switch.len() as u64),
        }
    }

    fn unmerged(&self) -> Vec<Unmerged> {
        let ended = self.device.merging_ended().by_protocol();
        ended
            .into_iter()
            .filter_map(|(protocol, errno)| {
                Some(Unmerged {
                    protocol: protocol.to_owned(),
                    reason: Errno::from_raw(errno?).desc().to_owned(),
                })
            })
            .collect()
    }

    fn seen_report(&self) -> SeenReport {
        let seen = self.shared.flood.seen();
        let lifetime = seen.lifetime();
        SeenReport {
            entries: seen.entries(),
            used_bytes: seen.bytes() as u64,
            limit_bytes: self.config.dedupe.memory,
            lifetime_seconds: lifetime.as_secs(),
            shortened: lifetime < LIFETIME,
        }
    }

    fn traffic_report(&self) -> TrafficReport {
        let counters = &self.shared.counters;
        let total = |total| counters.total(total);
        let mut report = TrafficReport {
            rx_datagrams: total(Total::Received),
            tx_datagrams: total(Total::Sent),
            delivered: total(Total::Delivered),
            originated: total(Total::Originated),
            forwarded: total(Total::Forwarded),
            ..TrafficReport::default()
        };
        for link in self.control.links() {
            report.rx_bytes += link.stats.rx_bytes.load(Relaxed);
            report.tx_bytes += link.stats.tx_bytes.load(Relaxed);
            report.first_copies += link.stats.first_copies.load(Relaxed);
            report.duplicates += link.stats.duplicates.load(Relaxed);
        }
        let harmless = [
            DropReason::Duplicate,
            DropReason::DuplicatePong,
            DropReason::OwnEcho,
        ];
        report.dropped = DropReason::ALL
            .iter()
            .filter(|reason| !harmless.contains(reason))
            .map(|reason| counters.dropped(*reason))
            .sum();
        report
    }

    fn health(&self, now: Instant, counts: NeighborCounts) -> Vec<Health> {
        let mut health = Vec::new();
        let mut say = |level, code: &str, text: String| {
            health.push(Health {
                level,
                code: code.to_owned(),
                text,
            });
        };
        if self.control.has_conflict(now) {
            let netid = self.shared.netid;
            let text = format!("another node uses our netid {netid}; give one of them --netid");
            say(Level::Alarm, "netid_conflict", text);
        }
        if let Some((level, code, text)) = self.standing() {
            say(level, code, text);
        }
        if self.device.state() == State::Lost {
            let text = "the device is gone and being opened again".to_owned();
            say(Level::Alarm, "device_degraded", text);
        }
        if self.device.state() == State::Down {
            say(
                Level::Alarm,
                "device_down",
                "the device is set down".to_owned(),
            );
        }
        if let Some(text) = self.outgrown() {
            say(Level::Warning, "plain_outgrown", text);
        }
        if counts.live == 0 {
            say(Level::Warning, "no_neighbor", "no live neighbor".to_owned());
        }
        if self.shared.flood.seen().lifetime() < LIFETIME {
            let text = "messages are remembered for less than 5 minutes; raise dedupe.memory";
            say(Level::Warning, "seen_shortened", text.to_owned());
        }
        if let Some(text) = self.narrow_paths() {
            say(Level::Warning, "path_mtu", text);
        }
        health.extend(self.alarms.lines(now));
        health
    }

    /// Advice when the device's largest packets do not fit through all links whole.
    fn narrow_paths(&self) -> Option<String> {
        let measured = |link: &LinkView| link.carries.is_some() && link.limit.is_some();
        let narrow = self.control.links().filter(measured);
        let (size, link) = narrow
            .filter_map(|link| Some((link.limit?, link)))
            .min_by_key(|(size, _)| *size)?;
        let largest = self.control.largest_datagram();
        let mtu = self
            .config
            .device
            .mtu
            .saturating_sub(u32::from(largest - size));
        let remote = link.path.endpoint.remote;
        let (path, ours) = (packet_len(remote, size), packet_len(remote, largest));
        let remedy = if mtu < u32::from(IPV6_MTU) {
            "raise the MTU of the path".to_owned()
        } else {
            format!("give every node --mtu {mtu}, or raise the MTU of the path")
        };
        Some(format!(
            "the path to {remote} carries packets of {path} bytes and our largest have {ours}, so \
             that they go in fragments: {remedy}"
        ))
    }
}

fn count(report: &NeighborsReport) -> NeighborCounts {
    let mut counts = NeighborCounts::default();
    for neighbor in &report.neighbors {
        match neighbor.state {
            NeighborState::Live => counts.live += 1,
            NeighborState::Suspect => counts.suspect += 1,
            NeighborState::Leaving => counts.leaving += 1,
            NeighborState::Proving => counts.proving += 1,
            NeighborState::Dialing => counts.dialing += 1,
            NeighborState::Refused => counts.refused += 1,
        }
    }
    counts
}

/// How messages travel on links.
#[derive(Clone, Copy)]
struct Carriage {
    /// Bytes of the largest datagram that the device's packets come to.
    largest: u16,
    /// Bytes that a seal adds to a message.
    overhead: u16,
    security: Security,
}

fn link_report(
    now: Instant,
    link: &LinkView,
    all_first_copies: u64,
    carriage: Carriage,
) -> LinkReport {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    let remote = link.path.endpoint.remote;
    let stats = &link.stats;
    let first = load(&stats.first_copies);
    LinkReport {
        endpoint: remote,
        local: link.path.local,
        socket: link.path.endpoint.socket.0,
        age_seconds: now.since(link.since).as_secs(),
        heard_ago_ms: Some(millis(now.since(Instant(load(&stats.last_heard))))),
        rtt_us: link
            .round_trip
            .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        rx_datagrams: load(&stats.rx_datagrams),
        rx_bytes: load(&stats.rx_bytes),
        tx_datagrams: load(&stats.tx_datagrams),
        tx_bytes: load(&stats.tx_bytes),
        first_share: (all_first_copies > 0).then(|| first as f64 / all_first_copies as f64),
        duplicates: load(&stats.duplicates),
        tx_errors: load(&stats.tx_errors),
        fragmented: load(&stats.fragmented),
        unfair_share: load(&stats.unfair),
        path_mtu_bytes: link
            .carries
            .map(|size| packet_len(remote, size.saturating_add(carriage.overhead))),
        largest_packet_bytes: packet_len(remote, carriage.largest),
        security: carriage.security,
    }
}

/// Bytes of the IP packet around a datagram of `size` bytes to `remote`.
fn packet_len(remote: SocketAddr, size: u16) -> u32 {
    let headers = match remote {
        SocketAddr::V4(_) => 20 + 8,
        SocketAddr::V6(_) => 40 + 8,
    };
    u32::from(size) + headers
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
