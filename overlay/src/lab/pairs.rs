//! Every node pings every other over the overlay.

use std::io;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::interrupt::Interrupt;
use super::net::{Namespace, NetError, Pinger};
use super::report::rounded;
use super::topology::node_name;

/// How long one echo may take before the next is sent.
const ECHO_PATIENCE: Duration = Duration::from_millis(500);
/// How many echoes a pair gets at least, also as the last of many when time is up.
const MIN_ECHOES: usize = 3;
/// How many further echoes are measured once a pair answers: the first one waits for caches.
const MEASURED_ECHOES: usize = 2;

/// One ordered pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairReport {
    /// Who asked.
    pub from: String,
    /// Who should answer.
    pub to: String,
    /// The shortest round trip in milliseconds; `null` without an answer.
    pub rtt_ms: Option<f64>,
}

/// Pings all ordered pairs at once, one thread for each asking node.
///
/// Shape: `nodes` are the namespaces and overlay addresses in the order of the graph.
/// State: raising the flag leaves the remaining pairs without an answer.
pub(super) fn ping_all(
    nodes: &[(Namespace, IpAddr)],
    patience: Duration,
    interrupt: &Interrupt,
) -> Result<Vec<PairReport>, NetError> {
    let deadline = Instant::now() + patience;
    let ask_from = |place: usize, namespace: &Namespace| -> Result<Vec<PairReport>, NetError> {
        let mut reports = Vec::new();
        for (other, &(_, target)) in nodes
            .iter()
            .enumerate()
            .filter(|&(other, _)| other != place)
        {
            let mut pinger = Pinger::open(namespace, target)?;
            let rtt = round_trip(&mut pinger, deadline, interrupt).map_err(|source| {
                NetError::new(format!("ping {target}"), namespace.name(), source)
            })?;
            reports.push(PairReport {
                from: node_name(place),
                to: node_name(other),
                rtt_ms: rtt.map(|rtt| rounded(rtt.as_secs_f64() * 1e3)),
            });
        }
        Ok(reports)
    };
    thread::scope(|scope| {
        let askers: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(place, (namespace, _))| scope.spawn(move || ask_from(place, namespace)))
            .collect();
        let mut reports = Vec::new();
        for asker in askers {
            let asked = asker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            reports.extend(asked);
        }
        Ok(reports)
    })
}

/// Asks until an answer comes, then measures; the shortest of all.
fn round_trip(
    pinger: &mut Pinger,
    deadline: Instant,
    interrupt: &Interrupt,
) -> io::Result<Option<Duration>> {
    let mut shortest = None;
    let mut tries = 0;
    while shortest.is_none()
        && interrupt.check().is_ok()
        && (tries < MIN_ECHOES || Instant::now() < deadline)
    {
        shortest = pinger.echo(ECHO_PATIENCE)?;
        tries += 1;
    }
    if shortest.is_some() {
        for _ in 0..MEASURED_ECHOES {
            let again = pinger.echo(ECHO_PATIENCE)?;
            shortest = shortest.min(again.or(shortest));
        }
    }
    Ok(shortest)
}
