//! What a lab found out, for people and for programs.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::pairs::PairReport;
use super::tally::StreamFigures;
use super::topology::node_name;

/// The most nodes whose round trips fit into 80 columns as a matrix.
const MAX_MATRIX: usize = 9;

/// The result of one lab. Its `--json` form is stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabReport {
    /// The topology's name.
    pub topology: String,
    /// `tun` or `tap`.
    pub mode: String,
    /// How many nodes there were.
    pub nodes: usize,
    /// How many links.
    pub links: usize,
    /// How many ordered pairs of nodes answered a ping.
    pub pairs_answering: usize,
    /// How many ordered pairs there are.
    pub pairs: usize,
    /// The figures of the stream.
    #[serde(flatten)]
    pub stream: StreamFigures,
    /// What was broken and mended under the stream, in order.
    pub events: Vec<EventReport>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
    /// Daemons that ended without being asked, or not in order when asked.
    pub failed_nodes: Vec<String>,
    /// Every pair with its round trip.
    pub pings: Vec<PairReport>,
    /// How long everything took, cleaning up not included, in seconds.
    pub seconds: f64,
}

/// One thing done under the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventReport {
    /// Seconds since the stream started.
    pub at_seconds: f64,
    /// What was done.
    pub what: String,
}

impl LabReport {
    /// Whether every pair answered, nothing was lost and no daemon failed: the exit code.
    pub fn is_clean(&self) -> bool {
        self.pairs_answering == self.pairs && self.stream.lost == 0 && self.failed_nodes.is_empty()
    }

    /// The last line, for people.
    pub fn summary(&self) -> String {
        format!(
            "pairs {}/{}, sent {}, delivered {}, lost {}, duplicated {}, longest gap {} ms",
            self.pairs_answering,
            self.pairs,
            self.stream.sent,
            self.stream.delivered,
            self.stream.lost,
            self.stream.duplicated,
            self.stream.longest_gap_ms
        )
    }
}

/// A figure with the three decimals that mean something: milliseconds of seconds, microseconds of
/// milliseconds.
pub(super) fn rounded(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

/// Round trips as text: a matrix while it fits, else the extremes; then the pairs that failed.
///
/// Shape: lines, each ended by a newline.
pub(super) fn round_trips(nodes: usize, pings: &[PairReport]) -> String {
    let mut text = if nodes <= MAX_MATRIX {
        matrix(nodes, pings)
    } else {
        extremes(pings)
    };
    for pair in pings.iter().filter(|pair| pair.rtt_ms.is_none()) {
        let _ = writeln!(text, "no answer: {} -> {}", pair.from, pair.to);
    }
    text
}

fn matrix(nodes: usize, pings: &[PairReport]) -> String {
    let mut text = String::from("from\\to");
    for to in 0..nodes {
        let _ = write!(text, "{:>7}", node_name(to));
    }
    for from in 0..nodes {
        let _ = write!(text, "\n{:>7}", node_name(from));
        for to in 0..nodes {
            let pair = pings
                .iter()
                .find(|pair| pair.from == node_name(from) && pair.to == node_name(to));
            let cell = match pair.map(|pair| pair.rtt_ms) {
                Some(Some(rtt)) => format!("{rtt:.2}"),
                Some(None) => "lost".to_owned(),
                None => "-".to_owned(),
            };
            let _ = write!(text, "{cell:>7}");
        }
    }
    text.push('\n');
    text
}

fn extremes(pings: &[PairReport]) -> String {
    let mut trips: Vec<f64> = pings.iter().filter_map(|pair| pair.rtt_ms).collect();
    trips.sort_by(f64::total_cmp);
    match (trips.first(), trips.get(trips.len() / 2), trips.last()) {
        (Some(least), Some(median), Some(most)) => {
            format!("least {least:.2}, median {median:.2}, most {most:.2}\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::lab) fn report() -> LabReport {
        LabReport {
            topology: "diamond".into(),
            mode: "tun".into(),
            nodes: 4,
            links: 4,
            pairs_answering: 12,
            pairs: 12,
            stream: StreamFigures {
                sent: 30000,
                delivered: 30000,
                lost: 0,
                duplicated: 0,
                reordered: 0,
                foreign: 0,
                longest_gap_ms: 3,
                longest_send_gap_ms: 2,
            },
            events: vec![],
            skipped: vec![],
            failed_nodes: vec![],
            pings: vec![],
            seconds: 33.5,
        }
    }

    #[test]
    fn the_last_line_is_a_contract() {
        assert_eq!(
            report().summary(),
            "pairs 12/12, sent 30000, delivered 30000, lost 0, duplicated 0, longest gap 3 ms"
        );
    }

    #[test]
    fn the_json_twin_has_the_same_figures_at_its_top() {
        let json = serde_json::to_value(report()).unwrap();
        let figures = [
            ("pairs_answering", 12),
            ("pairs", 12),
            ("sent", 30000),
            ("delivered", 30000),
            ("lost", 0),
            ("duplicated", 0),
            ("longest_gap_ms", 3),
        ];
        for (key, value) in figures {
            assert_eq!(json[key], value, "{key}");
        }
        assert_eq!(serde_json::from_value::<LabReport>(json).unwrap(), report());
    }

    #[test]
    fn a_failed_pair_a_loss_or_a_dead_daemon_is_not_clean() {
        assert!(report().is_clean());
        let mut pair = report();
        pair.pairs_answering = 11;
        let mut loss = report();
        loss.stream.lost = 1;
        let mut dead = report();
        dead.failed_nodes.push("b".into());
        assert!(![pair, loss, dead].iter().any(LabReport::is_clean));
        let mut duplicate = report();
        duplicate.stream.duplicated = 1;
        assert!(duplicate.is_clean());
    }

    fn pair(from: usize, to: usize, rtt_ms: Option<f64>) -> PairReport {
        PairReport {
            from: node_name(from),
            to: node_name(to),
            rtt_ms,
        }
    }

    #[test]
    fn few_nodes_make_a_matrix() {
        let pings = [pair(0, 1, Some(0.414)), pair(1, 0, None)];
        assert_eq!(
            round_trips(2, &pings),
            concat!(
                "from\\to      a      b\n",
                "      a      -   0.41\n",
                "      b   lost      -\n",
                "no answer: b -> a\n"
            )
        );
    }

    #[test]
    fn many_nodes_make_a_line() {
        let pings = [
            pair(0, 1, Some(3.0)),
            pair(0, 2, Some(1.0)),
            pair(1, 2, Some(2.0)),
        ];
        assert_eq!(
            round_trips(10, &pings),
            "least 1.00, median 2.00, most 3.00\n"
        );
        assert_eq!(round_trips(10, &[]), "");
    }

    #[test]
    fn the_widest_matrix_fits_eighty_columns() {
        let pings: Vec<_> = (0..MAX_MATRIX)
            .flat_map(|from| (0..MAX_MATRIX).map(move |to| pair(from, to, Some(9999.99))))
            .collect();
        assert!(
            round_trips(MAX_MATRIX, &pings)
                .lines()
                .all(|line| line.len() <= 72)
        );
    }
}
