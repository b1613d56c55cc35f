//! Graphs to build worlds from.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Nodes 0..`nodes` and the pairs of them that have a wire.
#[derive(Clone, Debug)]
pub struct Graph {
    /// How many nodes.
    pub nodes: usize,
    /// Pairs, the lower first, each once.
    pub edges: BTreeSet<(usize, usize)>,
}

impl Graph {
    fn of(nodes: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let edges = edges
            .into_iter()
            .filter(|(a, b)| a != b)
            .map(|(a, b)| (a.min(b), a.max(b)));
        Self {
            nodes,
            edges: edges.collect(),
        }
    }

    /// 0-1-2-...
    pub fn line(nodes: usize) -> Self {
        Self::of(nodes, (1..nodes).map(|n| (n - 1, n)))
    }

    /// A line whose ends meet.
    pub fn ring(nodes: usize) -> Self {
        Self::of(nodes, (0..nodes).map(|n| (n, (n + 1) % nodes)))
    }

    /// Everyone with node 0.
    pub fn star(nodes: usize) -> Self {
        Self::of(nodes, (1..nodes).map(|n| (0, n)))
    }

    /// Everyone with everyone.
    pub fn full(nodes: usize) -> Self {
        Self::of(nodes, (0..nodes).flat_map(|a| (0..a).map(move |b| (a, b))))
    }

    /// Two ways from 0 to 3.
    pub fn diamond() -> Self {
        Self::of(4, [(0, 1), (0, 2), (1, 3), (2, 3)])
    }

    /// A ring with random chords, so that the mean degree is about `degree`; always connected, and
    /// no node or wire whose loss parts it.
    pub fn random(nodes: usize, degree: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut graph = Self::ring(nodes);
        while graph.edges.len() < nodes * degree / 2 {
            let a = rng.next_u32() as usize % nodes;
            let b = rng.next_u32() as usize % nodes;
            if a != b {
                graph.edges.insert((a.min(b), a.max(b)));
            }
        }
        graph
    }

    /// Neighbors of `node`.
    pub fn degree(&self, node: usize) -> usize {
        self.edges
            .iter()
            .filter(|(a, b)| *a == node || *b == node)
            .count()
    }

    /// The nodes that `from` reaches without the `dead` and over wires that `open` lets through.
    pub fn reach(
        &self,
        from: usize,
        mut open: impl FnMut(usize, usize) -> bool,
    ) -> BTreeSet<usize> {
        let mut reached = BTreeSet::from([from]);
        let mut waiting = vec![from];
        while let Some(node) = waiting.pop() {
            for &(a, b) in &self.edges {
                let other = if a == node {
                    b
                } else if b == node {
                    a
                } else {
                    continue;
                };
                if open(a, b) && reached.insert(other) {
                    waiting.push(other);
                }
            }
        }
        reached
    }
}
