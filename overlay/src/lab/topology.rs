//! Which nodes there are, which of them are linked, and what may be broken.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The fewest nodes of any topology.
const MIN_NODES: usize = 2;
/// The most nodes: each is a process with a device, and the lab is one machine.
const MAX_NODES: usize = 64;
/// The most nodes of a full mesh: flooding over n(n-1)/2 links fills one machine soon after.
const MAX_MESH_NODES: usize = 16;

/// How the links of a lab lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// Each node is linked to the next.
    Line,
    /// A line whose ends are linked.
    Ring,
    /// Two ways from a to d: by b and by c.
    #[default]
    Diamond,
    /// Everybody is linked to everybody.
    Mesh,
    /// Everybody is linked to a.
    Star,
}

impl Topology {
    /// Every topology, in the order that help texts use.
    pub const ALL: [Self; 5] = [
        Self::Line,
        Self::Ring,
        Self::Diamond,
        Self::Mesh,
        Self::Star,
    ];

    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Ring => "ring",
            Self::Diamond => "diamond",
            Self::Mesh => "mesh",
            Self::Star => "star",
        }
    }

    /// The nodes and links of this topology.
    ///
    /// # Errors
    /// When the topology cannot have that many nodes; the text names the range.
    pub fn graph(self, nodes: usize) -> Result<Graph, TopologyError> {
        let (least, most) = match self {
            Self::Line | Self::Star => (MIN_NODES, MAX_NODES),
            Self::Ring => (3, MAX_NODES),
            Self::Diamond => (4, 4),
            Self::Mesh => (MIN_NODES, MAX_MESH_NODES),
        };
        if !(least..=most).contains(&nodes) {
            return Err(TopologyError::Nodes {
                topology: self,
                nodes,
                least,
                most,
            });
        }
        let edges = match self {
            Self::Line => (1..nodes).map(|node| (node - 1, node)).collect(),
            Self::Ring => (0..nodes).map(|node| (node, (node + 1) % nodes)).collect(),
            Self::Diamond => vec![(0, 1), (0, 2), (1, 3), (2, 3)],
            Self::Mesh => (0..nodes)
                .flat_map(|from| (from + 1..nodes).map(move |to| (from, to)))
                .collect(),
            Self::Star => (1..nodes).map(|leaf| (0, leaf)).collect(),
        };
        Ok(Graph { nodes, edges })
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Topology {
    type Err = TopologyError;

    fn from_str(text: &str) -> Result<Self, TopologyError> {
        Self::ALL
            .into_iter()
            .find(|topology| topology.name() == text)
            .ok_or_else(|| TopologyError::Unknown(text.to_owned()))
    }
}

/// What was asked for cannot be built. Nothing was touched; the caller asks for something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopologyError {
    /// No topology has this name.
    Unknown(String),
    /// The topology cannot have this many nodes.
    Nodes {
        /// Which one.
        topology: Topology,
        /// How many were asked for.
        nodes: usize,
        /// The fewest it can have.
        least: usize,
        /// The most it can have.
        most: usize,
    },
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(text) => write!(
                f,
                "no topology is called {text}; use one of {}",
                Topology::ALL.map(Topology::name).join(", ")
            ),
            Self::Nodes {
                topology,
                nodes,
                least,
                most,
            } if least == most => write!(f, "a {topology} has {least} nodes, not {nodes}"),
            Self::Nodes {
                topology,
                nodes,
                least,
                most,
            } => write!(f, "a {topology} has {least} to {most} nodes, not {nodes}"),
        }
    }
}

impl std::error::Error for TopologyError {}

/// Nodes, numbered from 0, and the links between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    nodes: usize,
    edges: Vec<(usize, usize)>,
}

impl Graph {
    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// The links; the place in this list is the link's number.
    pub fn edges(&self) -> &[(usize, usize)] {
        &self.edges
    }

    /// The nodes linked to `node`.
    pub fn neighbors(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        self.edges.iter().filter_map(move |&(a, b)| {
            if a == node {
                Some(b)
            } else if b == node {
                Some(a)
            } else {
                None
            }
        })
    }

    /// The most links that one node has.
    pub fn degree(&self) -> usize {
        (0..self.nodes)
            .map(|node| self.neighbors(node).count())
            .max()
            .unwrap_or(0)
    }

    /// A shortest way from `from` to `to`, both included, that avoids one link and one node.
    fn path(
        &self,
        from: usize,
        to: usize,
        without_edge: Option<(usize, usize)>,
        without_node: Option<usize>,
    ) -> Option<Vec<usize>> {
        let mut came_from = vec![None; self.nodes];
        let mut queue = VecDeque::from([to]);
        // Searched backwards, so that following the trail from `from` gives the way in order.
        while let Some(node) = queue.pop_front() {
            for next in self.neighbors(node) {
                let edge = (node.min(next), node.max(next));
                let is_closed = without_edge.is_some_and(|(a, b)| (a.min(b), a.max(b)) == edge)
                    || without_node == Some(next);
                if !is_closed && next != to && came_from[next].is_none() {
                    came_from[next] = Some(node);
                    queue.push_back(next);
                }
            }
        }
        let mut path = vec![from];
        let mut node = from;
        while node != to {
            node = came_from[node]?;
            path.push(node);
        }
        Some(path)
    }
}

/// What the lab does under the stream: who speaks to whom, and what is broken meanwhile.
///
/// The link is cut and mended before the node is killed, so each break leaves one way; the node is
/// one that carried the stream during the cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The node that sends the stream.
    pub source: usize,
    /// The node that receives it: the farthest from the source.
    pub target: usize,
    /// The link to cut, as its number in [`Graph::edges`]; `None` if that would part the two.
    pub cut: Option<usize>,
    /// The relaying node to kill; `None` if that would part the two.
    pub kill: Option<usize>,
}

impl Plan {
    /// Chooses for `graph`, which is connected and has at least two nodes.
    pub(super) fn of(graph: &Graph) -> Self {
        let source = usize::from(is_hub(graph, 0));
        let distance = |node: usize| {
            graph
                .path(source, node, None, None)
                .map_or(0, |path| path.len())
        };
        // The last of the farthest: in a diamond d, in a mesh the last node.
        let target = (0..graph.nodes)
            .filter(|&node| node != source)
            .max_by_key(|&node| distance(node))
            .unwrap_or(source);
        let shortest = graph.path(source, target, None, None).unwrap_or_default();
        let cut = shortest.windows(2).find_map(|hop| {
            let edge = (hop[0], hop[1]);
            graph.path(source, target, Some(edge), None)?;
            graph
                .edges
                .iter()
                .position(|&(a, b)| (a, b) == edge || (b, a) == edge)
        });
        let cut_edge = cut.and_then(|number| graph.edges.get(number).copied());
        let detour = graph
            .path(source, target, cut_edge, None)
            .unwrap_or_default();
        let kill = detour.into_iter().find(|&relay| {
            relay != source
                && relay != target
                && graph.path(source, target, None, Some(relay)).is_some()
        });
        Self {
            source,
            target,
            cut,
            kill,
        }
    }
}

/// Whether everything goes through this node, so that a stream from it would prove little.
fn is_hub(graph: &Graph, node: usize) -> bool {
    graph.nodes > 2
        && graph.edges.len() == graph.nodes - 1
        && graph.neighbors(node).count() == graph.nodes - 1
}

/// The name of a node: a to z, then aa, ab and so on.
pub(super) fn node_name(node: usize) -> String {
    let letter = |place: usize| char::from(b'a' + u8::try_from(place % 26).unwrap_or(0));
    match node / 26 {
        0 => letter(node).to_string(),
        block => [letter(block - 1), letter(node)].iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(topology: Topology, nodes: usize) -> Graph {
        topology.graph(nodes).unwrap()
    }

    #[test]
    fn each_topology_has_its_links() {
        assert_eq!(graph(Topology::Line, 3).edges(), [(0, 1), (1, 2)]);
        assert_eq!(graph(Topology::Ring, 3).edges(), [(0, 1), (1, 2), (2, 0)]);
        assert_eq!(
            graph(Topology::Diamond, 4).edges(),
            [(0, 1), (0, 2), (1, 3), (2, 3)]
        );
        assert_eq!(graph(Topology::Mesh, 4).edges().len(), 6);
        assert_eq!(graph(Topology::Star, 4).edges(), [(0, 1), (0, 2), (0, 3)]);
    }

    #[test]
    fn impossible_sizes_name_the_range() {
        let error = |topology: Topology, nodes| topology.graph(nodes).unwrap_err().to_string();
        assert_eq!(error(Topology::Line, 1), "a line has 2 to 64 nodes, not 1");
        assert_eq!(
            error(Topology::Line, 65),
            "a line has 2 to 64 nodes, not 65"
        );
        assert_eq!(error(Topology::Ring, 2), "a ring has 3 to 64 nodes, not 2");
        assert_eq!(error(Topology::Diamond, 5), "a diamond has 4 nodes, not 5");
        assert_eq!(
            error(Topology::Mesh, 17),
            "a mesh has 2 to 16 nodes, not 17"
        );
    }

    #[test]
    fn every_name_parses_back_and_others_are_refused() {
        for topology in Topology::ALL {
            assert_eq!(topology.to_string().parse(), Ok(topology));
        }
        assert_eq!(
            "torus".parse::<Topology>().unwrap_err().to_string(),
            "no topology is called torus; use one of line, ring, diamond, mesh, star"
        );
    }

    #[test]
    fn a_diamond_loses_a_link_on_one_side_and_a_node_on_the_other() {
        let plan = Plan::of(&graph(Topology::Diamond, 4));
        let expected = Plan {
            source: 0,
            target: 3,
            cut: Some(0),
            kill: Some(2),
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn a_mesh_loses_the_direct_link_and_then_a_relay() {
        let plan = Plan::of(&graph(Topology::Mesh, 4));
        let expected = Plan {
            source: 0,
            target: 3,
            cut: Some(2),
            kill: Some(1),
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn without_a_second_way_nothing_is_broken() {
        for (topology, nodes) in [
            (Topology::Line, 4),
            (Topology::Star, 4),
            (Topology::Mesh, 2),
        ] {
            let plan = Plan::of(&graph(topology, nodes));
            assert_eq!((plan.cut, plan.kill), (None, None), "{topology}");
            assert_ne!(plan.source, plan.target);
        }
    }

    #[test]
    fn a_star_streams_from_leaf_to_leaf() {
        let plan = Plan::of(&graph(Topology::Star, 4));
        assert_eq!((plan.source, plan.target), (1, 3));
    }

    #[test]
    fn whatever_is_broken_leaves_a_way_in_every_possible_lab() {
        for topology in Topology::ALL {
            for graph in (0..=65).filter_map(|nodes| topology.graph(nodes).ok()) {
                let plan = Plan::of(&graph);
                let edge = plan.cut.map(|number| graph.edges[number]);
                let way = |edge, node| graph.path(plan.source, plan.target, edge, node);
                assert!(way(edge, None).is_some());
                assert!(way(None, plan.kill).is_some());
                let has_two_ways = matches!(topology, Topology::Ring | Topology::Diamond)
                    || (topology == Topology::Mesh && graph.nodes > 2);
                assert_eq!(plan.cut.is_some(), has_two_ways, "{topology} {graph:?}");
                assert_eq!(plan.kill.is_some(), has_two_ways, "{topology} {graph:?}");
            }
        }
    }

    #[test]
    fn names_run_from_a_to_bl() {
        assert_eq!(node_name(0), "a");
        assert_eq!(node_name(25), "z");
        assert_eq!(node_name(26), "aa");
        assert_eq!(node_name(63), "bl");
    }
}
