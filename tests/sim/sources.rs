//! S15: the source of an inner packet belongs to the node that a session proves sent it. Nodes that seal
//! end to end, one of which speaks from any address that comes to its mind.

use std::net::Ipv6Addr;

use overlay::id::NetId;
use overlay::pump::count::DropReason;
use overlay::time::Duration;
use overlay_tests::world::sources::{claimed, derived, near};
use overlay_tests::world::{Choices, Graph, Netem, World};

use crate::seeds;

const SECOND: Duration = Duration::from_secs(1);

/// A source that may be spoken from, or not, and why not.
type Source = (Ipv6Addr, Option<DropReason>);

/// What a node might try that knows another one.
fn sources(own: NetId, other: NetId) -> Vec<Source> {
    let (claims, no_source) = (DropReason::SourceClaimed, DropReason::BadPacket);
    vec![
        (derived(own), None),
        (near(own), None),
        (claimed(own), None),
        (derived(other), Some(claims)),
        (near(other), Some(claims)),
        (claimed(other), Some(claims)),
        (Ipv6Addr::UNSPECIFIED, Some(no_source)),
        (Ipv6Addr::LOCALHOST, Some(no_source)),
        (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), Some(no_source)),
    ]
}

#[test]
fn s15_no_device_gets_a_packet_whose_source_is_not_its_senders() {
    for seed in seeds(3, 100) {
        let graphs = [Graph::line(4), Graph::ring(5), Graph::line(2)];
        for graph in &graphs {
            let choices = Choices::end_to_end();
            let mut world = World::new(graph, Netem::default(), &choices, seed);
            world.run_until_connected(10 * SECOND);
            let last = world.nodes.len() - 1;
            let netids: Vec<NetId> = world.nodes.iter().map(|node| node.netid).collect();
            // Over others or over the link alone, and to all.
            for (from, to) in [(0, last), (0, 1), (last, 0)] {
                let other = netids[if from == 0 { last } else { 0 }];
                for (source, refused) in sources(netids[from], other) {
                    for dst in [netids[to], NetId::ALL] {
                        // Who has no address yet may ask all of them: that belongs to nobody.
                        if source.is_unspecified() && dst == NetId::ALL {
                            continue;
                        }
                        let before = refused.map(|reason| world.refused_at_end(to, reason));
                        let number = world.send_as(from, dst, source);
                        world.run_for(5 * SECOND);
                        let taken = world.deliveries(to, number);
                        let replay = world.replay();
                        assert_eq!(taken, u32::from(refused.is_none()), "{replay}: {source}");
                        if let (Some(reason), Some(before)) = (refused, before) {
                            let after = world.refused_at_end(to, reason);
                            assert_eq!(after, before + 1, "{replay}: {source}");
                        }
                    }
                }
            }
            world.check();
        }
    }
}
