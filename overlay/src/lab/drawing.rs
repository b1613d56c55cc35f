//! A topology as text, narrow enough for 80 columns.

use super::topology::{Graph, Topology, node_name};

/// The widest line: a terminal's 80 columns less the indent that the report adds.
const WIDTH: usize = 76;
/// The most leaves of a star that get a line each.
const MAX_LEAF_LINES: usize = 12;
/// The most nodes of a ring that is drawn round: all names have one letter, so the rows match.
const MAX_ROUND: usize = 26;

/// Draws `graph`, which is `topology` with some number of nodes.
///
/// Shape: lines of at most 76 columns, each ended by a newline, not indented.
pub(super) fn draw(topology: Topology, graph: &Graph) -> String {
    let names: Vec<String> = (0..graph.nodes()).map(node_name).collect();
    match (topology, names.as_slice()) {
        (Topology::Diamond, [a, b, c, d]) => {
            format!("  {b}\n / \\\n{a}   {d}\n \\ /\n  {c}\n")
        }
        (Topology::Mesh, [a, b, c, d]) => {
            format!("{a} -- {b}\n| \\/ |\n| /\\ |\n{d} -- {c}\n")
        }
        (Topology::Ring, names) | (Topology::Mesh, names @ [_, _, _]) => ring(names),
        (Topology::Star, [hub, leaves @ ..]) if leaves.len() <= MAX_LEAF_LINES => star(hub, leaves),
        (Topology::Line, names) => wrap(&names.join(" -- ")),
        _ => list(graph),
    }
}

/// Two rows joined at their ends, the second read backwards; a long one as a line that returns.
fn ring(names: &[String]) -> String {
    if names.len() > MAX_ROUND {
        let first = names.first().map_or("", String::as_str);
        return wrap(&format!("{} -- {first} (again)", names.join(" -- ")));
    }
    let (there, back) = names.split_at(names.len().div_ceil(2));
    let upper = there.join(" -- ");
    let mut back = back.to_vec();
    back.reverse();
    let mut lower = back.join(" -- ");
    // An odd ring has a node less below: its last link turns the corner.
    if names.len() % 2 == 1 {
        let dashes = upper.len().saturating_sub(lower.len() + 2);
        lower = format!("{lower} {}+", "-".repeat(dashes));
    }
    let between = " ".repeat(upper.len().saturating_sub(2));
    format!("{upper}\n|{between}|\n{lower}\n")
}

/// The hub at the left of its middle leaf.
fn star(hub: &str, leaves: &[String]) -> String {
    let middle = (leaves.len() - 1) / 2;
    let line = |(place, leaf): (usize, &String)| {
        let stem = if place == middle { hub } else { " " };
        format!("{stem} +-- {leaf}\n")
    };
    leaves.iter().enumerate().map(line).collect()
}

/// Each node with the later ones that it is linked to.
fn list(graph: &Graph) -> String {
    let line = |node: usize| {
        let later: Vec<String> = graph
            .neighbors(node)
            .filter(|&other| other > node)
            .map(node_name)
            .collect();
        if later.is_empty() {
            String::new()
        } else {
            wrap(&format!("{} -- {}", node_name(node), later.join(", ")))
        }
    };
    (0..graph.nodes()).map(line).collect()
}

/// Breaks one line at spaces; what follows is indented.
fn wrap(line: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in line.split(' ') {
        if column > 0 && column + 1 + word.len() > WIDTH {
            text.push_str("\n  ");
            column = 2;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(topology: Topology, nodes: usize) -> String {
        draw(topology, &topology.graph(nodes).unwrap())
    }

    #[test]
    fn a_diamond_is_a_diamond() {
        assert_eq!(
            drawing(Topology::Diamond, 4),
            concat!("  b\n", " / \\\n", "a   d\n", " \\ /\n", "  c\n")
        );
    }

    #[test]
    fn a_ring_closes_also_with_an_odd_node() {
        assert_eq!(
            drawing(Topology::Ring, 4),
            concat!("a -- b\n", "|    |\n", "d -- c\n")
        );
        assert_eq!(
            drawing(Topology::Ring, 5),
            concat!("a -- b -- c\n", "|         |\n", "e -- d ---+\n")
        );
        assert_eq!(
            drawing(Topology::Ring, 3),
            concat!("a -- b\n", "|    |\n", "c ---+\n")
        );
    }

    #[test]
    fn a_star_has_its_hub_in_the_middle() {
        assert_eq!(
            drawing(Topology::Star, 4),
            concat!("  +-- b\n", "a +-- c\n", "  +-- d\n")
        );
    }

    #[test]
    fn a_mesh_of_four_is_crossed_and_a_larger_one_listed() {
        assert_eq!(
            drawing(Topology::Mesh, 4),
            concat!("a -- b\n", "| \\/ |\n", "| /\\ |\n", "d -- c\n")
        );
        assert_eq!(
            drawing(Topology::Mesh, 5),
            concat!(
                "a -- b, c, d, e\n",
                "b -- c, d, e\n",
                "c -- d, e\n",
                "d -- e\n"
            )
        );
    }

    #[test]
    fn a_line_is_a_line() {
        assert_eq!(drawing(Topology::Line, 3), "a -- b -- c\n");
    }

    #[test]
    fn every_possible_drawing_is_narrow_and_names_every_node() {
        for topology in Topology::ALL {
            for graph in (0..=65).filter_map(|nodes| topology.graph(nodes).ok()) {
                let text = draw(topology, &graph);
                assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
                let words: Vec<&str> = text.split(|c: char| !c.is_ascii_lowercase()).collect();
                for node in 0..graph.nodes() {
                    assert!(words.contains(&node_name(node).as_str()), "{text}");
                }
            }
        }
    }
}
