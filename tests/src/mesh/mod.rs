//! Whole meshes of the real daemon: machines, wires, processes.
//!
//! For tests in `tests/netns`. Built on [`overlay::lab::net`]; adds the daemon, its control socket
//! and what every test needs around it. Not the lab: here nothing is printed, and everything can be
//! wired, started and broken by hand.
//!
//! ```text
//!   Mesh::started("ab bd ac cd")       a --ab-- b --bd-- d
//!                                       \--ac-- c --cd--/
//! ```
//!
//! Machines are single letters; the n-th letter of the alphabet has netid n and the overlay address
//! 10.77.0.n/24, besides the derived one. The n-th wire is 10.64.n.0/24 and fd64:0:0:n::/64: its
//! first letter has host 1, its second 2. Both ends dial each other.
//!
//! 1. [`may_run`], or return.
//! 2. [`Turn::alone`] for a test that measures, [`Turn::beside`] for one that does not.
//! 3. [`Mesh::started`]; or [`Mesh::wired`], then [`Mesh::start`] and [`Mesh::start_with`].
//! 4. [`Node::wait`] for a state; never sleep for one. [`Stream`] to count what is lost.
//! 5. Drop: daemons are killed and reaped, namespaces and the directory go. While a test panics,
//!    the last lines of each daemon's log are shown.
//!
//! Read [`Mesh`] first.
#![allow(
    clippy::unwrap_used,
    reason = "only tests call this, and one that cannot go on fails there"
)]

mod node;
mod stream;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay::id::NetId;
use overlay::lab::net::{Namespace, Plug, Wire, Wires, ping};

pub use node::{Node, Setup, wait_until};
pub use stream::{Figures, Stream};

/// The UDP port of every daemon.
pub const PORT: u16 = 44204;
/// The device's name in every namespace.
pub const DEVICE: &str = "mesh0";
/// How long a state may take that should be there at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Whether this test may make namespaces and devices; says so when not.
///
/// # Panics
/// Without the rights when `CI=true`, so that a gate cannot pass by skipping.
pub fn may_run() -> bool {
    let has_device = Path::new("/dev/net/tun").exists();
    let refusal = Namespace::new("probe").err();
    if let Some(refusal) = &refusal {
        assert!(refusal.is_permission(), "{refusal:?}");
    }
    if has_device && refusal.is_none() {
        return true;
    }
    let skipped = "skipped: needs root and /dev/net/tun";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{skipped}");
    println!("{skipped}");
    false
}

/// Who else may load the machine meanwhile: a stream of 1,000 packets/s beside five other meshes on
/// two cores would show the scheduler's losses, not ours.
#[derive(Debug)]
pub enum Turn {
    /// Runs while no other test does.
    Alone(RwLockWriteGuard<'static, ()>),
    /// Runs beside others of its kind.
    Beside(RwLockReadGuard<'static, ()>),
}

static TURNS: RwLock<()> = RwLock::new(());

impl Turn {
    /// Waits until no other test of this process runs, and keeps them off while it lives.
    pub fn alone() -> Self {
        Self::Alone(TURNS.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until no test runs that must be alone.
    pub fn beside() -> Self {
        Self::Beside(TURNS.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the wires carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both: two links from each neighbor to the next.
    Dual,
}

impl Family {
    fn takes(self, address: IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
            Self::Dual => true,
        }
    }
}

/// Machines, wires and daemons. Dropped, everything is gone.
#[derive(Debug)]
pub struct Mesh {
    // In the order in which they go: processes, then what they run in.
    nodes: BTreeMap<char, Node>,
    machines: BTreeMap<char, Namespace>,
    cables: Vec<Cable>,
    wires: Wires,
    family: Family,
    directory: tempfile::TempDir,
}

/// A wire and whom it connects.
#[derive(Debug)]
struct Cable {
    ends: [char; 2],
    addresses: [Vec<IpAddr>; 2],
    wire: Wire,
}

impl Cable {
    /// What is plugged in at the far end, if one end is at `name`.
    fn from(&self, name: char) -> Option<(char, &[IpAddr])> {
        let [a, b] = self.ends;
        match name {
            _ if name == a => Some((b, &self.addresses[1])),
            _ if name == b => Some((a, &self.addresses[0])),
            _ => None,
        }
    }
}

impl Mesh {
    /// Machines wired as `wires` says, with a daemon on each, all links live at both ends.
    ///
    /// # Panics
    /// When that does not come about, as all methods here.
    pub fn started(wires: &str) -> Self {
        let mut mesh = Self::wired(Family::V4, wires);
        mesh.start_all();
        mesh
    }

    /// A mesh of members, sealed, live.
    pub fn sealed(family: Family, wires: &str) -> Self {
        let mut mesh = Self::wired(family, wires);
        let names: Vec<char> = mesh.machines.keys().copied().collect();
        for name in names {
            mesh.start_with(name, |setup| setup.sealed = true);
        }
        mesh.wait_live();
        mesh
    }

    /// Machines and wires, and no daemon yet: `"ab bc"` is three machines in a line.
    pub fn wired(family: Family, wires: &str) -> Self {
        let mut mesh = Self {
            nodes: BTreeMap::new(),
            machines: BTreeMap::new(),
            cables: Vec::new(),
            wires: Wires::new().unwrap(),
            family,
            directory: tempfile::Builder::new()
                .prefix("fm")
                .tempdir_in("/tmp")
                .unwrap(),
        };
        for ends in wires.split_whitespace() {
            mesh.lay(ends);
        }
        mesh
    }

    /// Adds a machine without a wire; nothing changes if it is there.
    pub fn add_machine(&mut self, name: char) -> &Namespace {
        self.machines
            .entry(name)
            .or_insert_with(|| Namespace::new(&name.to_string()).unwrap())
    }

    fn lay(&mut self, ends: &str) {
        let ends: Vec<char> = ends.chars().collect();
        let &[a, b] = ends.as_slice() else {
            panic!("a wire has two ends, not {ends:?}");
        };
        let number = self.cables.len() + 1;
        let nets = [1, 2].map(|host| {
            let all = [
                format!("10.64.{number}.{host}/24"),
                format!("fd64:0:0:{number}::{host}/64"),
            ];
            let all = all.iter().map(|text| text.parse::<IpNet>().unwrap());
            all.filter(|net| self.family.takes(net.addr()))
                .collect::<Vec<_>>()
        });
        let machines = [a, b].map(|name| self.add_machine(name).clone());
        let interfaces = [b, a].map(|far| format!("to-{far}"));
        let plug = |end: usize| Plug {
            namespace: &machines[end],
            interface: &interfaces[end],
            addresses: &nets[end],
        };
        let wire = self.wires.connect(plug(0), plug(1)).unwrap();
        self.cables.push(Cable {
            ends: [a, b],
            addresses: nets.map(|nets| nets.iter().map(IpNet::addr).collect()),
            wire,
        });
    }

    /// Starts a daemon on each machine and waits until all wires are live at both ends.
    pub fn start_all(&mut self) {
        let names: Vec<char> = self.machines.keys().copied().collect();
        for name in names {
            self.start(name);
        }
        self.wait_live();
    }

    /// Starts the daemon of one machine as it is by default; returns when it is ready.
    pub fn start(&mut self, name: char) -> &mut Node {
        self.start_with(name, |_| {})
    }

    /// The same with changes to what it is started with.
    pub fn start_with(&mut self, name: char, change: impl FnOnce(&mut Setup)) -> &mut Node {
        let mut setup = Setup::new(name, self.directory.path());
        setup.peers = self.peers(name);
        change(&mut setup);
        let node = Node::start(&self.machines[&name], &setup);
        // The one before it, if any, has to be gone by now: they share state and socket.
        self.nodes.insert(name, node);
        self.nodes.get_mut(&name).unwrap()
    }

    /// The far ends of a machine's wires, as endpoints.
    pub fn peers(&self, name: char) -> Vec<SocketAddr> {
        let far = self.cables.iter().filter_map(|cable| cable.from(name));
        far.flat_map(|(_, addresses)| addresses.iter().map(|ip| SocketAddr::new(*ip, PORT)))
            .collect()
    }

    /// Waits until each daemon has a live link over each wire to another daemon.
    pub fn wait_live(&self) {
        for (&name, node) in &self.nodes {
            let far = self.cables.iter().filter_map(|cable| cable.from(name));
            let expected: Vec<NetId> = far
                .filter(|(far, _)| self.nodes.get(far).is_some_and(Node::is_running))
                .flat_map(|(far, addresses)| addresses.iter().map(move |_| netid(far)))
                .collect();
            node.wait("has all links live", PATIENCE, |node| {
                let mut live = node.live_links();
                live.sort_unstable();
                let mut expected = expected.clone();
                expected.sort_unstable();
                live == expected
            });
        }
    }

    /// Waits until `from` reaches the overlay address of `to` by ping.
    pub fn wait_ping(&self, from: char, to: char) {
        let deadline = Instant::now() + PATIENCE;
        while !self.pings(from, to, Duration::from_millis(200)) {
            assert!(
                Instant::now() < deadline,
                "{from} does not reach {to}{}{}",
                self.node(from).facts(),
                self.node(to).facts()
            );
        }
    }

    /// Whether one ping over the overlay is answered within `patience`.
    pub fn pings(&self, from: char, to: char, patience: Duration) -> bool {
        let target = overlay_v4(to);
        ping(self.machine(from), target, patience)
            .unwrap()
            .is_some()
    }

    /// A stream over the overlay, not yet running.
    pub fn stream(&self, from: char, to: char) -> Stream {
        let sides = [from, to].map(|name| (self.machine(name), overlay_v4(name)));
        Stream::open(sides[0], sides[1])
    }

    /// The daemon of a machine, running or not.
    pub fn node(&self, name: char) -> &Node {
        &self.nodes[&name]
    }

    /// The same, to stop or kill it.
    pub fn node_mut(&mut self, name: char) -> &mut Node {
        self.nodes.get_mut(&name).unwrap()
    }

    /// The namespace of a machine.
    pub fn machine(&self, name: char) -> &Namespace {
        &self.machines[&name]
    }

    /// A wire by its two letters, in either order.
    pub fn wire(&self, ends: &str) -> &Wire {
        &self.cable(ends).wire
    }

    /// The addresses of the first of two letters on the wire between them.
    pub fn underlay(&self, ends: &str) -> &[IpAddr] {
        let cable = self.cable(ends);
        let first = ends.chars().next().unwrap();
        &cable.addresses[usize::from(cable.ends[0] != first)]
    }

    /// Where files of this mesh can go; removed at the end.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn cable(&self, ends: &str) -> &Cable {
        let wanted: Vec<char> = ends.chars().collect();
        let found = self
            .cables
            .iter()
            .find(|cable| wanted.iter().all(|end| cable.ends.contains(end)));
        found.unwrap_or_else(|| panic!("there is no wire {ends}"))
    }
}

/// The place of a machine's letter in the alphabet, from 1.
fn place(name: char) -> u8 {
    assert!(name.is_ascii_lowercase(), "a machine is a letter");
    name as u8 - b'a' + 1
}

/// The netid of a machine's daemon.
pub fn netid(name: char) -> NetId {
    format!("{:x}", place(name)).parse().unwrap()
}

/// The overlay address of a machine's daemon.
pub fn overlay_v4(name: char) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, place(name)))
}

/// Sleeps until `at`; for the moments of a fault within a stream, never to wait for a state.
pub fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}
