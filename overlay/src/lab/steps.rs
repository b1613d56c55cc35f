//! The steps of a lab: everything that it makes, breaks and measures.
//!
//! 1. Lay the links between namespaces.
//! 2. Start a daemon in each.
//! 3. Wait until each end of each link is live.
//! 4. Ping every pair.
//! 5. Stream; cut a link, mend it, kill a relaying node.
//! 6. End the daemons, or keep them.
//!
//! Where the lab is to end early or has been kept, the daemons are killed, not asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::interrupt::Interrupt;
use super::net::{Namespace, Plug, Wire, Wires};
use super::node::{Node, NodeError, NodeSetup, endpoint, overlay_address};
use super::pairs::{PairReport, ping_all};
use super::report::{EventReport, LabReport, round_trips, rounded};
use super::stream::Stream;
use super::supervisor::Message;
use super::tally::StreamFigures;
use super::topology::{Graph, Plan, node_name};
use super::worker::{Task, say};
use super::{LabError, STREAM_INTERVAL};

/// How long the daemons may take to be ready; many start at once on few processors.
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// How long the links may take to be live.
const LIVE_PATIENCE: Duration = Duration::from_secs(20);
/// How often the daemons are asked whether they are.
const LIVE_INTERVAL: Duration = Duration::from_millis(250);
/// How long a pair may take to answer.
const PING_PATIENCE: Duration = Duration::from_secs(10);
/// How long a daemon may take to end; its contract is two seconds.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// How many numbered steps there are.
const STEPS: usize = 6;

/// What came of the stream.
pub(super) struct Streamed {
    figures: StreamFigures,
    events: Vec<EventReport>,
}

/// Everything that was made; fields drop in this order: daemons before namespaces.
pub(super) struct Lab<'t> {
    task: &'t Task,
    interrupt: &'t Interrupt,
    program: PathBuf,
    graph: Graph,
    plan: Plan,
    started_at: Instant,
    step: usize,
    failed_nodes: Vec<String>,
    nodes: Vec<Node>,
    /// By link number.
    links: Vec<Wire>,
    wires: Wires,
    /// By place in the graph.
    namespaces: Vec<Namespace>,
}

impl<'t> Lab<'t> {
    pub(super) fn new(
        task: &'t Task,
        graph: Graph,
        interrupt: &'t Interrupt,
    ) -> Result<Self, LabError> {
        Ok(Self {
            task,
            interrupt,
            program: std::env::current_exe().map_err(LabError::Program)?,
            plan: Plan::of(&graph),
            graph,
            started_at: Instant::now(),
            step: 0,
            failed_nodes: Vec::new(),
            nodes: Vec::new(),
            links: Vec::new(),
            wires: Wires::new()?,
            namespaces: Vec::new(),
        })
    }

    /// Announces the next step.
    fn begin(&mut self, what: &str) {
        self.step += 1;
        let step = self.step;
        self.line(&format!("{step}/{STEPS} {what}"));
    }

    /// Says how a step went.
    fn tell(&self, what: &str) {
        self.line(&format!("    {what}"));
    }

    fn line(&self, text: &str) {
        let seconds = self.started_at.elapsed().as_secs_f64();
        say(&Message::Line(format!("[{seconds:5.1} s] {text}")));
    }

    pub(super) fn lay_links(&mut self) -> Result<(), LabError> {
        self.begin(&format!(
            "laying {} links between {} namespaces",
            self.graph.edges().len(),
            self.graph.nodes()
        ));
        for node in 0..self.graph.nodes() {
            self.namespaces.push(Namespace::new(&node_name(node))?);
        }
        for (number, &(a, b)) in self.graph.edges().iter().enumerate() {
            self.interrupt.check()?;
            let names = [interface_to(b), interface_to(a)];
            let addresses = [link_addresses(number, 1), link_addresses(number, 2)];
            let plug = |node: usize, end: usize| Plug {
                namespace: &self.namespaces[node],
                interface: &names[end],
                addresses: &addresses[end],
            };
            self.links.push(self.wires.connect(plug(a, 0), plug(b, 1))?);
        }
        Ok(())
    }

    pub(super) fn start_nodes(&mut self) -> Result<(), LabError> {
        self.begin(&format!("starting {} daemons", self.graph.nodes()));
        for place in 0..self.graph.nodes() {
            let setup = NodeSetup {
                program: &self.program,
                place,
                name: &node_name(place),
                directory: &self.task.directory,
                peers: self.peers_of(place),
                mode: self.task.config.mode,
                degree: self.graph.degree(),
            };
            let node = Node::start(&self.namespaces[place], &setup)?;
            self.nodes.push(node);
        }
        let deadline = Instant::now() + READY_PATIENCE;
        let mut lines = Vec::new();
        for node in &mut self.nodes {
            let line = node.wait_ready(deadline, self.interrupt)?;
            lines.push(format!("{} {line}", node.name()));
        }
        lines.iter().for_each(|line| self.tell(line));
        Ok(())
    }

    /// Where the node at `place` finds its neighbors: the far ends of its links.
    fn peers_of(&self, place: usize) -> Vec<std::net::SocketAddr> {
        let far_end = |(number, &(a, b)): (usize, &(usize, usize))| {
            let host = match place {
                place if place == a => 2,
                place if place == b => 1,
                _ => return None,
            };
            link_addresses(number, host)
                .first()
                .map(|net| endpoint(net.addr()))
        };
        let edges = self.graph.edges().iter().enumerate();
        edges.filter_map(far_end).collect()
    }

    /// Waits, but goes on without: the pings and the stream show what a missing link costs.
    pub(super) fn wait_live(&mut self) -> Result<(), LabError> {
        let wanted = 2 * self.graph.edges().len();
        self.begin(&format!("waiting until all {wanted} link ends are live"));
        let deadline = Instant::now() + LIVE_PATIENCE;
        loop {
            let mut live = 0;
            for node in &self.nodes {
                live += node.live_neighbors(&self.program).map_err(LabError::Ask)?;
            }
            self.check_nodes()?;
            if live >= wanted || Instant::now() >= deadline {
                self.tell(&format!("{live} of {wanted} are live"));
                return Ok(());
            }
            self.interrupt.sleep(LIVE_INTERVAL)?;
        }
    }

    pub(super) fn ping(&mut self) -> Result<Vec<PairReport>, LabError> {
        self.begin("pinging every pair over the overlay");
        let nodes: Vec<(Namespace, IpAddr)> = self
            .namespaces
            .iter()
            .enumerate()
            .map(|(place, namespace)| (namespace.clone(), overlay_address(place).addr()))
            .collect();
        let pings = ping_all(&nodes, PING_PATIENCE, self.interrupt)?;
        self.interrupt.check()?;
        let answering = pings.iter().filter(|pair| pair.rtt_ms.is_some()).count();
        self.tell(&format!(
            "{answering} of {} pairs answer; round trips in ms:",
            pings.len()
        ));
        for line in round_trips(self.graph.nodes(), &pings).lines() {
            say(&Message::Line(format!("            {line}")));
        }
        Ok(pings)
    }

    pub(super) fn stream(&mut self) -> Result<Streamed, LabError> {
        let Plan { source, target, .. } = self.plan;
        let end = |place: usize| (&self.namespaces[place], overlay_address(place).addr());
        let count = self.task.config.packets;
        let stream = Stream::open(end(source), end(target), count, STREAM_INTERVAL)?;
        self.begin(&format!(
            "streaming {count} numbered datagrams from {} to {} in {:.0} s",
            node_name(source),
            node_name(target),
            stream.duration().as_secs_f64()
        ));
        let interrupt = self.interrupt;
        let (figures, events) = stream
            .run(interrupt, |start| self.disturb(start, stream.duration()))
            .map_err(LabError::Stream)?;
        let events = events?;
        interrupt.check()?;
        self.tell(&format!(
            "delivered {} of {}, reordered {}; the sender's own longest pause was {} ms",
            figures.delivered, figures.sent, figures.reordered, figures.longest_send_gap_ms
        ));
        Ok(Streamed { figures, events })
    }

    /// Cuts at one third, mends at one half, kills at two thirds of the stream.
    fn disturb(
        &mut self,
        start: Instant,
        duration: Duration,
    ) -> Result<Vec<EventReport>, LabError> {
        let mut events = Vec::new();
        self.skipped().iter().for_each(|text| self.tell(text));
        if let Some(number) = self.plan.cut {
            let (a, b) = self.graph.edges()[number];
            let link = format!("{} - {}", node_name(a), node_name(b));
            self.interrupt.sleep_until(start + duration / 3)?;
            self.links[number].cut()?;
            events.push(self.note(start, format!("cut the link {link}, silently")));
            self.interrupt.sleep_until(start + duration / 2)?;
            self.links[number].restore()?;
            events.push(self.note(start, format!("mended the link {link}")));
        }
        if let Some(relay) = self.plan.kill {
            self.interrupt.sleep_until(start + duration * 2 / 3)?;
            self.nodes[relay].kill().map_err(LabError::Stop)?;
            events.push(self.note(
                start,
                format!("killed the relaying node {}", node_name(relay)),
            ));
        }
        Ok(events)
    }

    fn note(&self, start: Instant, what: String) -> EventReport {
        self.tell(&what);
        EventReport {
            at_seconds: rounded(start.elapsed().as_secs_f64()),
            what,
        }
    }

    /// What this topology cannot show.
    fn skipped(&self) -> Vec<String> {
        let topology = self.task.config.topology;
        let cannot = |what: &str| format!("not {what}: a {topology} has no second way around it");
        let mut skipped = Vec::new();
        if self.plan.cut.is_none() {
            skipped.push(cannot("cutting a link"));
        }
        if self.plan.kill.is_none() {
            skipped.push(cannot("killing a node"));
        }
        skipped
    }

    /// Ends all daemons at once and notes those that do not end in order.
    pub(super) fn end_nodes(&mut self) -> Result<(), LabError> {
        self.begin("ending the daemons");
        self.note_deaths();
        self.nodes.iter_mut().for_each(Node::ask_to_end);
        let deadline = Instant::now() + END_PATIENCE;
        let mut problems = Vec::new();
        for node in &mut self.nodes {
            if let Some(problem) = node.wait_end(deadline).map_err(LabError::Stop)? {
                problems.push((node.name().to_owned(), problem));
            }
        }
        problems.retain(|(name, _)| !self.failed_nodes.contains(name));
        for (name, problem) in problems {
            self.tell(&format!("{name} {problem}"));
            self.failed_nodes.push(name);
        }
        Ok(())
    }

    /// Fails if a daemon has ended by itself.
    fn check_nodes(&mut self) -> Result<(), LabError> {
        self.interrupt.check()?;
        for node in &mut self.nodes {
            if let Some(status) = node.unexpected_end() {
                return Err(LabError::Node(NodeError::Failed {
                    name: node.name().to_owned(),
                    problem: format!("ended unasked ({status})"),
                    last_lines: node.last_lines(),
                }));
            }
        }
        Ok(())
    }

    /// Notes daemons that ended by themselves under the stream, with their last words.
    fn note_deaths(&mut self) {
        let mut lines = Vec::new();
        for node in &mut self.nodes {
            if let Some(status) = node.unexpected_end() {
                lines.push(format!("{} ended unasked ({status}):", node.name()));
                lines.extend(node.last_lines());
                self.failed_nodes.push(node.name().to_owned());
            }
        }
        lines.iter().for_each(|line| self.tell(line));
    }

    pub(super) fn report(&self, pings: Vec<PairReport>, streamed: Streamed) -> LabReport {
        LabReport {
            topology: self.task.config.topology.to_string(),
            mode: self.task.config.mode.name().to_owned(),
            nodes: self.graph.nodes(),
            links: self.graph.edges().len(),
            pairs_answering: pings.iter().filter(|pair| pair.rtt_ms.is_some()).count(),
            pairs: pings.len(),
            stream: streamed.figures,
            events: streamed.events,
            skipped: self.skipped(),
            failed_nodes: self.failed_nodes.clone(),
            pings,
            seconds: rounded(self.started_at.elapsed().as_secs_f64()),
        }
    }

    /// What is left to do by hand while the lab is kept.
    pub(super) fn say_how_to_enter(&mut self) {
        self.begin("keeping all this until Ctrl-C");
        self.note_deaths();
        self.tell(&format!(
            "to remove it from elsewhere: kill {}",
            self.task.supervisor
        ));
        self.tell("to work inside a node:");
        for (namespace, node) in self.namespaces.iter().zip(&self.nodes) {
            let user = if self.task.is_in_user_namespace {
                let path = namespace.path();
                let process = path.ancestors().nth(2).unwrap_or(&path);
                format!(
                    "--user={}/ns/user --preserve-credentials ",
                    process.display()
                )
            } else {
                String::new()
            };
            self.tell(&format!(
                "  {}: nsenter {user}--net={} sh",
                namespace.name(),
                namespace.path().display()
            ));
            self.tell(&format!(
                "     floodmesh status --control {}",
                node.control().display()
            ));
        }
    }
}

/// What the interface toward a node is called.
fn interface_to(node: usize) -> String {
    format!("to-{}", node_name(node))
}

/// The underlay addresses of one end of a link: each link has networks of its own.
fn link_addresses(number: usize, host: u8) -> [IpNet; 2] {
    let [high, low] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
    let v4 = Ipv4Addr::new(10, 64 + high, low, host);
    let segment = u16::from_be_bytes([high, low]);
    let v6 = Ipv6Addr::new(0xfd64, 0, 0, segment, 0, 0, 0, u16::from(host));
    [
        IpNet::V4(Ipv4Net::new_assert(v4, 24)),
        IpNet::V6(Ipv6Net::new_assert(v6, 64)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_link_ends_share_an_address_and_both_ends_share_a_network() {
        let mut all = BTreeSet::new();
        for number in 0..120 {
            let (near, far) = (link_addresses(number, 1), link_addresses(number, 2));
            for (near, far) in near.iter().zip(&far) {
                assert_eq!(near.trunc(), far.trunc());
                assert!(all.insert(near.addr()) && all.insert(far.addr()));
                assert!(!overlay_address(0).contains(&near.addr()));
            }
        }
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        let longest = (0..64).map(|node| interface_to(node).len()).max();
        assert!(longest <= Some(15));
    }
}
