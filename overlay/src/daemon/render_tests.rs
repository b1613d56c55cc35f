use super::super::report::{
    ClaimReport, DeviceState, Enforcement, NeighborState, RotationReport, SocketReport,
    TrafficReport,
};
use super::*;
use crate::id::NetId;
use crate::pump::count::{Counters, DropReason, Total};

fn status_report() -> StatusReport {
    StatusReport {
        version: "0.1.0".into(),
        name: "mesh0".into(),
        netid: NetId(0x2a),
        mesh: "fleet".into(),
        mode: "plain".into(),
        pid: 812,
        uptime_seconds: 7_380,
        security: Security::None,
        confinement: ConfinementReport {
            enabled: true,
            groups_cleared: true,
            capabilities: vec!["net_admin".into()],
            no_new_privs: true,
            landlock: LandlockReport {
                state: Enforcement::Enforced,
                abi: Some(7),
            },
            seccomp: true,
        },
        prefer: None,
        certificate: None,
        revocation_list: 0,
        rotation: None,
        device: DeviceReport {
            name: Some("mesh0".into()),
            mode: DeviceMode::Tun,
            mtu_bytes: Some(1_400),
            state: DeviceState::Up,
            addresses: vec![
                "fd12:3456:789a::2a/64".parse().unwrap(),
                "10.77.0.1/24".parse().unwrap(),
            ],
            backend: Some(Backend::Offload),
            unmerged: Vec::new(),
            batch: 256,
            threads: 1,
            queues: 1,
            realtime: true,
            strict_table: None,
            stations: None,
        },
        sockets: vec![SocketReport {
            local: "0.0.0.0:44204".parse().unwrap(),
        }],
        neighbors: NeighborCounts {
            live: 3,
            dialing: 1,
            ..NeighborCounts::default()
        },
        nodes: 7,
        seen: SeenReport {
            entries: 12_345,
            used_bytes: 4 << 20,
            limit_bytes: 256 << 20,
            lifetime_seconds: 300,
            shortened: false,
        },
        traffic: TrafficReport {
            rx_datagrams: 1_234_567,
            rx_bytes: 1_288_490_188,
            first_copies: 1,
            dropped: 4,
            ..TrafficReport::default()
        },
        health: vec![Health {
            level: Level::Alarm,
            code: "netid_conflict".into(),
            text: "another node uses 0000002a\u{1b}".into(),
        }],
    }
}

fn link() -> LinkReport {
    LinkReport {
        endpoint: "203.0.113.4:44204".parse().unwrap(),
        local: None,
        socket: 0,
        age_seconds: 7_000,
        heard_ago_ms: Some(1_200),
        rtt_us: Some(12_400),
        rx_datagrams: 1,
        rx_bytes: 1_288_490_188,
        tx_datagrams: 1,
        tx_bytes: 640 << 20,
        first_share: Some(0.61),
        duplicates: 5,
        tx_errors: 1,
        fragmented: 0,
        unfair_share: 0,
        path_mtu_bytes: Some(1_444),
        largest_packet_bytes: 1_444,
        security: Security::None,
    }
}

#[test]
fn a_status_reads_as_a_page() {
    assert_eq!(
        status(&status_report()),
        "\
mesh0      0000002a  plain  up 2 h 3 m  pid 812  version 0.1.0
mesh       fleet
device     mesh0  tun  up  mtu 1400  offload
addresses  fd12:3456:789a::2a/64
           10.77.0.1/24
listening  0.0.0.0:44204
neighbors  3 live, 1 dialing
nodes      7 other known
security   none (anyone who can reach a node can read, forge and join)
confined   capabilities net_admin, no_new_privs, landlock enforced (ABI 7),
           seccomp
received   1.2 GiB in 1,234,567 datagrams
sent       0 B in 0 datagrams
copies     1 first, 0 later
packets    0 in from the mesh, 0 out, 0 forwarded
dropped    4  (floodmesh counters says why)
seen       12,345 messages, 4.0 MiB of 256 MiB, kept 5 m
# health: ALARM: another node uses 0000002a\\u{1b}
"
    );
}

#[test]
fn what_the_process_kept_is_shown() {
    for (report, line) in [
        (ConfinementReport::default(), "no, as asked for"),
        (
            ConfinementReport {
                enabled: true,
                ..ConfinementReport::default()
            },
            "no capabilities, no no_new_privs, no landlock, no seccomp, supplementary groups kept",
        ),
    ] {
        assert_eq!(confinement(&report), line);
    }
}

#[test]
fn a_device_that_had_to_give_up_merging_says_so_and_why() {
    let mut report = status_report();
    report.device.unmerged = vec![Unmerged {
        protocol: "udp".into(),
        reason: "Invalid argument".into(),
    }];
    let page = status(&report);
    let line = "device     mesh0  tun  up  mtu 1400  offload  \
                udp not merged: kernel says Invalid argument\n";
    assert!(page.contains(line), "{page}");
    let json = serde_json::to_value(&report).unwrap();
    let unmerged = serde_json::json!([{"protocol": "udp", "reason": "Invalid argument"}]);
    assert_eq!(json["device"]["unmerged"], unmerged);
}

#[test]
fn a_smaller_batch_than_usual_is_shown_with_a_device_and_without() {
    let mut report = status_report();
    report.device.backend = Some(Backend::Plain);
    report.device.batch = 1;
    let page = status(&report);
    assert!(
        page.contains("mtu 1400  plain backend  batch 1\n"),
        "{page}"
    );
    report.device.mode = DeviceMode::None;
    let page = status(&report);
    assert!(page.contains("none (a relay only)  batch 1\n"), "{page}");
}

#[test]
fn a_certificate_and_the_list_that_is_followed_have_their_rows() {
    let mut report = status_report();
    report.revocation_list = 7;
    report.rotation = Some(RotationReport {
        neighbors: 3,
        using: 1,
    });
    report.certificate = Some(OwnCertificate {
        serial: 12,
        name: "van 3".into(),
        not_after: 0,
        remaining_seconds: 2 * 86_400,
    });
    let page = status(&report);
    assert!(
        page.contains(
            "\ncertificate  van 3, serial 12, good for 2 d\nrevocations  list 7\n\
             rotation     1 of 3 neighbors uses the next secret (floodmesh rotate --finish on\n             \
             each node, when all do)\n"
        ),
        "{page}"
    );
    report.certificate = Some(OwnCertificate {
        serial: 12,
        name: String::new(),
        not_after: 0,
        remaining_seconds: 0,
    });
    assert!(status(&report).contains("\ncertificate  serial 12, ended\n"));
}

#[test]
fn a_node_that_prefers_sealed_links_says_for_how_long_and_how_many_are_not() {
    let mut report = status_report();
    let mut prefer = PreferReport {
        remaining_seconds: 29 * 86_400,
        latched: 2,
        open_links: 1,
        bridge: "off".into(),
        guest_per_second: 1_000,
        guests_refused: 12,
        sealed_peers: 0,
        plain_peers: 0,
    };
    report.prefer = Some(prefer.clone());
    let page = status(&report);
    assert!(
        page.contains("\nprefers    sealed; plain to who does not answer, 29 d left\n"),
        "{page}"
    );
    let links = " 2 nodes never plain again, 1 plain link, no bridge between them\n";
    assert!(page.contains(links), "{page}");
    (prefer.remaining_seconds, prefer.bridge) = (0, "on".into());
    report.prefer = Some(prefer);
    assert!(status(&report).contains("  sealed only, since 30 days are over"));
    assert!(!status(&report).contains("own mode"));
    let guests = " bridge lets in 1,000/s at the most, 12 messages more refused\n";
    assert!(status(&report).contains(guests));
    let modes = report.prefer.as_mut().unwrap();
    (modes.sealed_peers, modes.plain_peers) = (1, 2);
    let page = status(&report);
    let line = " by their own mode 1 peer never plain, 2 never asked for more than plain\n";
    assert!(page.contains(line), "{page}");
}

#[test]
fn neighbors_are_lines_of_links_with_notes() {
    let neighbor = |netid, state, links: &[LinkReport]| NeighborReport {
        netid,
        name: None,
        state,
        peer: None,
        mode: None,
        why: None,
        links: links.to_vec(),
    };
    let mut second = link();
    second.endpoint = "198.51.100.2:44204".parse().unwrap();
    (second.tx_errors, second.rtt_us, second.first_share) = (0, None, None);
    (second.fragmented, second.path_mtu_bytes) = (9, Some(1_294));
    let mut dialed = neighbor(None, NeighborState::Dialing, &[]);
    dialed.peer = Some("van.example:44204".into());
    dialed.why = Some("no answer for 2 m".into());
    dialed.mode = Some("sealed".into());
    let report = NeighborsReport {
        neighbors: vec![
            neighbor(Some(NetId(7)), NeighborState::Live, &[link(), second]),
            dialed,
        ],
    };
    let output = neighbors(&report);
    assert_eq!(
        output,
        "\
netid     state    endpoint            silent  rtt      rx       tx       first
00000007  live     203.0.113.4:44204   1 s     12.4 ms  1.2 GiB  640 MiB  61 %
                   198.51.100.2:44204  1 s     -        1.2 GiB  640 MiB  -
          203.0.113.4:44204: 1 datagram could not be sent
          198.51.100.2:44204: 9 datagrams sent in fragments, path MTU 1294, and
          our largest packets have 1444
-         dialing  van.example:44204
          no answer for 2 m
          mode of this peer sealed
security  none
"
    );
    let mut mixed = report;
    mixed.neighbors[0].links[0].security = Security::Link;
    let mixed = neighbors(&mixed);
    assert!(
        mixed.contains("203.0.113.4:44204: security link, 1 datagram could"),
        "{mixed}"
    );
    assert!(
        mixed.contains("198.51.100.2:44204: security none, 9 datagrams"),
        "{mixed}"
    );
    assert!(!mixed.contains("\nsecurity  "), "{mixed}");
    assert!(output.lines().all(|line| line.len() <= WIDTH));
    assert_eq!(
        neighbors(&NeighborsReport::default()),
        "no neighbors, and none is being dialed\n"
    );
}

#[test]
fn nodes_show_addresses_and_doubtful_claims() {
    let claim = |prefix: &str, state| ClaimReport {
        prefix: prefix.parse().unwrap(),
        state,
    };
    let report = NodesReport {
        nodes: vec![NodeReport {
            netid: NetId(0xb),
            neighbor: false,
            via: vec![NetId(7), NetId(8), NetId(9)],
            heard_ago_ms: None,
            addresses: vec!["fd00::b".parse().unwrap(), "10.77.0.2".parse().unwrap()],
            claims: vec![
                claim("10.77.0.2/32", ClaimState::Active),
                claim("10.88.0.0/16", ClaimState::Active),
                claim("10.77.0.9/32", ClaimState::Refused),
            ],
            security: Security::E2e,
            rate_class: 5,
            rate_refused: 7,
        }],
    };
    assert_eq!(
        nodes(&report),
        "\
netid     heard  way                       security  addresses
0000000b  never  via 00000007 00000008 +1  e2e       fd00::b
                                                     10.77.0.2
                                                     10.88.0.0/16
                                                     10.77.0.9/32 (refused)
                                                     held to 1,024 kbit/s of its own, 7 messages more dropped
"
    );
}

#[test]
fn counters_show_all_totals_and_only_drops_that_happened() {
    let counted = Counters::default();
    counted.add(Total::Received, 1_234_567);
    counted.count_many(DropReason::Duplicate, 42);
    let report = CountersReport::from(&counted);
    assert_eq!(report.drops.len(), DropReason::ALL.len());
    let output = counters(&report);
    assert!(
        output.starts_with("received        1,234,567  datagrams received\n"),
        "{output}"
    );
    assert!(
        output.ends_with("\ndropped:\nduplicate              42  message that had come before\n"),
        "{output}"
    );
    assert!(output.lines().all(|line| line.len() <= WIDTH), "{output}");
    let quiet = counters(&CountersReport::from(&Counters::default()));
    assert!(quiet.ends_with("\nnothing was dropped\n"), "{quiet}");
}

#[test]
fn a_ping_reads_as_lines() {
    let reply = PingReply {
        sequence: 1,
        netid: NetId(0x2a),
        rtt_us: 12_400,
        last_hops: 3,
        addresses: vec!["10.77.0.2".parse().unwrap()],
    };
    assert_eq!(
        ping_reply(&reply),
        "answer 1 from 0000002a (10.77.0.2) after 12.4 ms, over 3 last hops\n"
    );
    assert_eq!(ping_missed(&PingMissed { sequence: 2 }), "no answer 2\n");
    let summary = PingSummary {
        target: "0000002a".into(),
        sent: 2,
        answered: 1,
        nodes: 1,
        rtt_min_us: Some(12_400),
        rtt_mean_us: Some(12_400),
        rtt_max_us: Some(12_400),
    };
    assert_eq!(
        ping_summary(&summary),
        "0000002a: 1 of 2 answered, round trip 12.4 ms to 12.4 ms, mean 12.4 ms\n"
    );
}

#[test]
fn reports_come_back_from_json_as_they_were() {
    let report = status_report();
    let json = serde_json::to_string(&report).unwrap();
    assert!(json.contains("\"netid\":\"0000002a\""), "{json}");
    assert_eq!(serde_json::from_str::<StatusReport>(&json).unwrap(), report);
}
