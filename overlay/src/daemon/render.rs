//! Reports as text for people: aligned, no borders, ages in words, 80 columns for usual data.
//!
//! What came from the network or from another machine's configuration goes through
//! [`text::foreign`] or [`text::printable`] before it is shown (SECURITY T23).

use std::fmt::Write;

use super::args::DeviceMode;
use super::report::{
    Backend, ClaimState, ConfinementReport, Count, CountersReport, DeviceReport, DeviceState,
    Health, LandlockReport, Level, LinkReport, NeighborCounts, NeighborReport, NeighborsReport,
    NodeReport, NodesReport, OwnCertificate, PingMissed, PingReply, PingSummary, PreferReport,
    ReloadedReport, Security, SeenReport, StatusReport, Unmerged,
};
use super::text::{self, age, ago, bytes, columns, number, round_trip};
use crate::pump::tx::MAX_BATCH;

/// Columns of a terminal that texts are broken at.
const WIDTH: usize = 80;
/// Columns of what stands behind the name of a row of `status`, of which the longest is `certificate`.
const VALUE_WIDTH: usize = WIDTH - 13;

/// `floodmesh status`.
pub fn status(report: &StatusReport) -> String {
    let StatusReport {
        traffic, neighbors, ..
    } = report;
    let head = format!(
        "{}  {}  up {}  pid {}  version {}",
        report.netid,
        text::foreign(&report.mode),
        age(report.uptime_seconds),
        report.pid,
        text::foreign(&report.version)
    );
    let mut rows = vec![vec![text::foreign(&report.name), head]];
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    row("mesh", text::printable(&report.mesh));
    row("device", device(&report.device));
    several(&mut row, "addresses", &report.device.addresses);
    let sockets: Vec<_> = report.sockets.iter().map(|socket| socket.local).collect();
    several(&mut row, "listening", &sockets);
    row("neighbors", neighbor_counts(neighbors));
    row("nodes", format!("{} other known", number(report.nodes)));
    row("security", security(report.security).to_owned());
    if let Some(report) = &report.prefer {
        several(&mut row, "prefers", &prefer(report));
    }
    let confined = confinement(&report.confinement);
    several(&mut row, "confined", &text::wrap(&confined, VALUE_WIDTH));
    if let Some(own) = &report.certificate {
        row("certificate", certificate(own));
    }
    if report.revocation_list > 0 {
        row(
            "revocations",
            format!("list {}", number(report.revocation_list)),
        );
    }
    if let Some(rotation) = &report.rotation {
        let line = format!(
            "{} of {} {} the next secret (floodmesh rotate --finish on each node, when all do)",
            number(rotation.using),
            text::count(rotation.neighbors, "neighbor"),
            if rotation.using == 1 { "uses" } else { "use" }
        );
        several(&mut row, "rotation", &text::wrap(&line, VALUE_WIDTH));
    }
    row("received", amount(traffic.rx_bytes, traffic.rx_datagrams));
    row("sent", amount(traffic.tx_bytes, traffic.tx_datagrams));
    row(
        "copies",
        format!(
            "{} first, {} later",
            number(traffic.first_copies),
            number(traffic.duplicates)
        ),
    );
    row(
        "packets",
        format!(
            "{} in from the mesh, {} out, {} forwarded",
            number(traffic.delivered),
            number(traffic.originated),
            number(traffic.forwarded)
        ),
    );
    row(
        "dropped",
        format!(
            "{}{}",
            number(traffic.dropped),
            match traffic.dropped {
                0 => "",
                _ => "  (floodmesh counters says why)",
            }
        ),
    );
    row("seen", seen(&report.seen));
    let mut output = columns(&rows, &[]);
    for line in &report.health {
        output += &health(line);
    }
    output
}

fn device(report: &DeviceReport) -> String {
    let batch = match usize::from(report.batch) {
        MAX_BATCH => String::new(),
        batch => format!("  batch {batch}"),
    };
    let mode = match report.mode {
        DeviceMode::None => return format!("none (a relay only){batch}"),
        DeviceMode::Tap => "tap",
        DeviceMode::Tun => "tun",
    };
    let state = match report.state {
        DeviceState::Up => "up",
        DeviceState::Down => "down",
        DeviceState::Degraded => "degraded",
        DeviceState::None => "none",
    };
    let mut line = text::foreign(report.name.as_deref().unwrap_or("-"));
    // Writing to a `String` cannot fail.
    let _ = write!(line, "  {mode}  {state}");
    if let Some(mtu) = report.mtu_bytes {
        let _ = write!(line, "  mtu {mtu}");
    }
    match report.backend {
        Some(Backend::Offload) => line.push_str("  offload"),
        Some(Backend::Plain) => line.push_str("  plain backend"),
        None => {}
    }
    for Unmerged { protocol, reason } in &report.unmerged {
        let (protocol, reason) = (text::foreign(protocol), text::printable(reason));
        let _ = write!(line, "  {protocol} not merged: kernel says {reason}");
    }
    line += &batch;
    if report.threads > 1 {
        let _ = write!(line, "  {} data threads", report.threads);
    }
    if report.queues > 1 {
        let _ = write!(line, "  {} queues", report.queues);
    }
    if !report.realtime {
        line.push_str("  not real-time");
    }
    if let Some(stations) = report.stations {
        let _ = write!(line, "  {} stations", number(stations));
    }
    if let Some(table) = report.strict_table {
        let _ = write!(line, "  strict, table {table}");
    }
    line
}

/// A row per value, the name only in the first.
fn several<T: ToString>(row: &mut impl FnMut(&str, String), name: &str, values: &[T]) {
    for (place, value) in values.iter().enumerate() {
        row(if place == 0 { name } else { "" }, value.to_string());
    }
}

fn neighbor_counts(counts: &NeighborCounts) -> String {
    let others = [
        (counts.suspect, "suspect"),
        (counts.leaving, "leaving"),
        (counts.proving, "proving"),
        (counts.dialing, "dialing"),
        (counts.refused, "refused"),
    ];
    let mut line = format!("{} live", number(counts.live));
    for (count, name) in others.into_iter().filter(|(count, _)| *count > 0) {
        let _ = write!(line, ", {} {name}", number(count));
    }
    line
}

fn security(security: Security) -> &'static str {
    match security {
        Security::None => "none (anyone who can reach a node can read, forge and join)",
        Security::Link => "link (members only; a member that relays can read)",
        Security::E2e => "e2e (members only; who relays cannot read what is for one node)",
        other => other.name(),
    }
}

fn prefer(report: &PreferReport) -> Vec<String> {
    let bridge = match report.bridge.as_str() {
        "off" => "no bridge between them".to_owned(),
        other => format!("bridge {}", text::foreign(other)),
    };
    let time = match report.remaining_seconds {
        0 => "sealed only, since 30 days are over".to_owned(),
        left => format!("sealed; plain to who does not answer, {} left", age(left)),
    };
    let links = format!(
        "{} never plain again, {}, {bridge}",
        text::count(report.latched, "node"),
        text::count(report.open_links, "plain link")
    );
    let modes = match (report.sealed_peers, report.plain_peers) {
        (0, 0) => None,
        (sealed, plain) => Some(format!(
            "by their own mode {} never plain, {} never asked for more than plain",
            text::count(sealed, "peer"),
            number(plain)
        )),
    };
    let guests = (report.bridge != "off").then(|| {
        format!(
            "bridge lets in {}/s at the most, {} more refused",
            number(report.guest_per_second),
            text::count(report.guests_refused, "message")
        )
    });
    [time, links]
        .into_iter()
        .chain(guests)
        .chain(modes)
        .collect()
}

fn confinement(report: &ConfinementReport) -> String {
    let capabilities = report.capabilities.iter().map(|name| text::foreign(name));
    let capabilities = match capabilities.collect::<Vec<_>>() {
        _ if !report.enabled => return "no, as asked for".to_owned(),
        none if none.is_empty() => "no capabilities".to_owned(),
        some => format!("capabilities {}", some.join(" ")),
    };
    let LandlockReport { state, abi } = report.landlock;
    let landlock = match abi {
        Some(abi) => format!("landlock {} (ABI {abi})", state.name()),
        None => "no landlock".to_owned(),
    };
    let or_not = |is_so, name: &str| match is_so {
        true => name.to_owned(),
        false => format!("no {name}"),
    };
    let mut parts = vec![
        capabilities,
        or_not(report.no_new_privs, "no_new_privs"),
        landlock,
        or_not(report.seccomp, "seccomp"),
    ];
    if !report.groups_cleared {
        parts.push("supplementary groups kept".to_owned());
    }
    parts.join(", ")
}

/// What a node read again.
pub fn reloaded(report: &ReloadedReport) -> String {
    let mut text = match report.changed.as_slice() {
        [] => "nothing changed".to_owned(),
        changed => format!("took up: {}", changed.join(", ")),
    };
    if report.closed > 0 {
        text += &format!("; closed {}", text::count(report.closed, "link"));
    }
    text += "\n";
    if report.waits_for_start {
        text += "other settings changed as well: they wait for the next start\n";
    }
    text
}

fn certificate(own: &OwnCertificate) -> String {
    let left = match own.remaining_seconds {
        0 => "ended".to_owned(),
        left => format!("good for {}", age(left)),
    };
    match own.name.as_str() {
        "" => format!("serial {}, {left}", own.serial),
        name => format!("{}, serial {}, {left}", text::foreign(name), own.serial),
    }
}

fn amount(amount: u64, datagrams: u64) -> String {
    format!(
        "{} in {}",
        bytes(amount),
        text::count(datagrams, "datagram")
    )
}

fn seen(report: &SeenReport) -> String {
    let shortened = if report.shortened {
        " (shortened: memory is full)"
    } else {
        ""
    };
    format!(
        "{}, {} of {}, kept {}{shortened}",
        text::count(report.entries, "message"),
        bytes(report.used_bytes),
        bytes(report.limit_bytes),
        age(report.lifetime_seconds)
    )
}

fn health(line: &Health) -> String {
    let level = match line.level {
        Level::Warning => "",
        Level::Alarm => "ALARM: ",
    };
    format!("# health: {level}{}\n", text::printable(&line.text))
}

/// `floodmesh neighbors`: one line per link, and under each neighbor why it is not well.
pub fn neighbors(report: &NeighborsReport) -> String {
    if report.neighbors.is_empty() {
        return "no neighbors, and none is being dialed\n".to_owned();
    }
    let common = common_security(report);
    let heads = [
        "netid", "state", "endpoint", "silent", "rtt", "rx", "tx", "first",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    // Where a note goes: behind that many rows.
    let mut notes: Vec<(usize, String)> = Vec::new();
    for neighbor in &report.neighbors {
        neighbor_rows(neighbor, &mut rows);
        for note in neighbor_notes(neighbor, common.is_some()) {
            notes.push((rows.len(), note));
        }
    }
    let table = columns(&rows, &[]);
    let mut notes = notes.into_iter().peekable();
    let mut output = String::new();
    for (place, line) in table.lines().enumerate() {
        let _ = writeln!(output, "{line}");
        while let Some((_, note)) = notes.next_if(|(after, _)| *after == place + 1) {
            for part in text::wrap(&note, WIDTH - 10) {
                let _ = writeln!(output, "          {part}");
            }
        }
    }
    if let Some(security) = common {
        let _ = writeln!(output, "security  {}", security.name());
    }
    output
}

fn neighbor_rows(neighbor: &NeighborReport, rows: &mut Vec<Vec<String>>) {
    let netid = neighbor
        .netid
        .map_or_else(|| "-".to_owned(), |netid| netid.to_string());
    let mut head = vec![netid, neighbor.state.name().to_owned()];
    if neighbor.links.is_empty() {
        head.push(text::printable(neighbor.peer.as_deref().unwrap_or("-")));
        rows.push(head);
        return;
    }
    for link in &neighbor.links {
        head.extend(link_cells(link));
        rows.push(std::mem::replace(
            &mut head,
            vec![String::new(), String::new()],
        ));
    }
}

fn link_cells(link: &LinkReport) -> [String; 6] {
    let share = |share: f64| format!("{:.0} %", share * 100.0);
    [
        link.endpoint.to_string(),
        link.heard_ago_ms
            .map_or_else(|| "-".to_owned(), |silent| age(silent / 1_000)),
        link.rtt_us.map_or_else(|| "-".to_owned(), round_trip),
        bytes(link.rx_bytes),
        bytes(link.tx_bytes),
        link.first_share.map_or_else(|| "-".to_owned(), share),
    ]
}

/// How all links are protected, if it is the same for all: then it takes one line, and not one for each.
fn common_security(report: &NeighborsReport) -> Option<Security> {
    let mut links = report.neighbors.iter().flat_map(|one| &one.links);
    let first = links.next()?.security;
    links.all(|link| link.security == first).then_some(first)
}

/// What is to be said of a neighbor; how each link is protected, unless all `are_alike`.
fn neighbor_notes(neighbor: &NeighborReport, are_alike: bool) -> impl Iterator<Item = String> {
    let why = neighbor.why.as_deref().map(text::printable);
    let peer = neighbor.peer.as_deref().filter(|peer| {
        let shown = neighbor
            .links
            .iter()
            .any(|link| link.endpoint.to_string() == **peer);
        !shown && !neighbor.links.is_empty()
    });
    let links = neighbor.links.iter().filter_map(move |link| {
        let mut problems = Vec::new();
        if !are_alike {
            problems.push(format!("security {}", link.security.name()));
        }
        if link.tx_errors > 0 {
            problems.push(format!(
                "{} could not be sent",
                text::count(link.tx_errors, "datagram")
            ));
        }
        if link.unfair_share > 0 {
            problems.push(format!(
                "{} above its fair share dropped",
                text::count(link.unfair_share, "datagram")
            ));
        }
        if link.fragmented > 0 {
            problems.push(format!(
                "{} sent in fragments",
                text::count(link.fragmented, "datagram")
            ));
        }
        if let Some(mtu) = link
            .path_mtu_bytes
            .filter(|mtu| *mtu < link.largest_packet_bytes)
        {
            problems.push(format!(
                "path MTU {mtu}, and our largest packets have {}",
                link.largest_packet_bytes
            ));
        }
        (!problems.is_empty()).then(|| format!("{}: {}", link.endpoint, problems.join(", ")))
    });
    let peer = peer.map(|peer| format!("dialed as {}", text::printable(peer)));
    let name = neighbor.name.as_deref();
    let name = name.map(|name| format!("certified as {}", text::foreign(name)));
    let mode = neighbor.mode.as_deref();
    let mode = mode.map(|mode| format!("mode of this peer {}", text::foreign(mode)));
    name.into_iter()
        .chain(why)
        .chain(peer)
        .chain(mode)
        .chain(links)
}

/// `floodmesh nodes`: one line per node, more where it has many addresses.
pub fn nodes(report: &NodesReport) -> String {
    if report.nodes.is_empty() {
        return "no other node is known\n".to_owned();
    }
    let mut rows = vec![
        ["netid", "heard", "way", "security", "addresses"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for node in &report.nodes {
        let mut addresses = node_addresses(node);
        addresses.extend(held_to(node));
        let mut addresses = addresses.into_iter();
        rows.push(vec![
            node.netid.to_string(),
            ago(node.heard_ago_ms),
            way(node),
            node.security.name().to_owned(),
            addresses.next().unwrap_or_else(|| "-".to_owned()),
        ]);
        let empty = || vec![String::new(); 4];
        rows.extend(addresses.map(|address| [empty(), vec![address]].concat()));
    }
    columns(&rows, &[])
}

/// The rate that this node holds another to, if to any.
fn held_to(node: &NodeReport) -> Option<String> {
    let refused = match node.rate_refused {
        0 => String::new(),
        refused => format!(", {} more dropped", text::count(refused, "message")),
    };
    let rate = text::rate_class(node.rate_class);
    (node.rate_class > 0).then(|| format!("held to {rate} of its own{refused}"))
}

/// How messages of the node come in: at most two neighbors are named.
fn way(node: &NodeReport) -> String {
    match (node.neighbor, node.via.as_slice()) {
        (true, _) => "direct".to_owned(),
        (false, []) => "-".to_owned(),
        (false, [one]) => format!("via {one}"),
        (false, [one, two]) => format!("via {one} {two}"),
        (false, [one, two, rest @ ..]) => format!("via {one} {two} +{}", rest.len()),
    }
}

/// Addresses in use, then claims that are not simply one of them.
fn node_addresses(node: &NodeReport) -> Vec<String> {
    let mut lines: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
    for claim in &node.claims {
        let single = claim.prefix.prefix_len() == claim.prefix.max_prefix_len();
        let listed = single && node.addresses.contains(&claim.prefix.addr());
        if claim.state != ClaimState::Active || !listed {
            let state = match claim.state {
                ClaimState::Active => String::new(),
                other => format!(" ({})", other.name()),
            };
            lines.push(format!("{}{state}", claim.prefix));
        }
    }
    lines
}

/// `floodmesh counters`: all totals, and the drops that happened.
pub fn counters(report: &CountersReport) -> String {
    let shown = |counts: &[Count]| counts.iter().any(|count| count.value > 0);
    let dropped: Vec<_> = report
        .drops
        .iter()
        .filter(|count| count.value > 0)
        .cloned()
        .collect();
    let all = report.totals.iter().chain(&dropped);
    let width = all.clone().map(|count| count.name.len()).max().unwrap_or(0);
    let digits = all
        .map(|count| number(count.value).len())
        .max()
        .unwrap_or(0);
    let mut output = counted(&report.totals, width, digits);
    output += if shown(&dropped) {
        "\ndropped:\n"
    } else {
        "\nnothing was dropped\n"
    };
    output + &counted(&dropped, width, digits)
}

fn counted(counts: &[Count], width: usize, digits: usize) -> String {
    let indent = width + digits + 4;
    let mut output = String::new();
    for count in counts {
        let (name, value) = (text::foreign(&count.name), number(count.value));
        let _ = write!(output, "{name:<width$}  {value:>digits$}");
        let meaning = text::printable(&count.meaning);
        for (place, part) in text::wrap(&meaning, WIDTH.saturating_sub(indent).max(20))
            .iter()
            .enumerate()
        {
            let space = if place == 0 { 2 } else { indent };
            let _ = writeln!(output, "{:space$}{part}", "");
        }
    }
    output
}

/// One line per answer to a ping.
pub fn ping_reply(reply: &PingReply) -> String {
    let addresses: Vec<_> = reply.addresses.iter().map(ToString::to_string).collect();
    let who = match addresses.as_slice() {
        [] => reply.netid.to_string(),
        some => format!("{} ({})", reply.netid, some.join(", ")),
    };
    format!(
        "answer {} from {who} after {}, over {}\n",
        reply.sequence,
        round_trip(reply.rtt_us),
        text::count(u64::from(reply.last_hops), "last hop")
    )
}

/// One line per ping that was not answered.
pub fn ping_missed(missed: &PingMissed) -> String {
    format!("no answer {}\n", missed.sequence)
}

/// The last line of a ping.
pub fn ping_summary(summary: &PingSummary) -> String {
    let mut line = format!(
        "{}: {} of {} answered",
        text::foreign(&summary.target),
        number(u64::from(summary.answered)),
        number(u64::from(summary.sent))
    );
    if summary.nodes > 1 {
        let _ = write!(
            line,
            " by {}",
            text::count(u64::from(summary.nodes), "node")
        );
    }
    let times = (summary.rtt_min_us, summary.rtt_mean_us, summary.rtt_max_us);
    if let (Some(least), Some(mean), Some(most)) = times {
        let (least, mean, most) = (round_trip(least), round_trip(mean), round_trip(most));
        let _ = write!(line, ", round trip {least} to {most}, mean {mean}");
    }
    line + "\n"
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
