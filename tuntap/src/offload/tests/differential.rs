//! Cutting and merging held against [`naive`], on packets by the hundred thousand, and with
//! `FLOODMESH_LONG=1` by the million. Each test says how many it made.

use super::generate::{Flow, Options, batch};
use super::{ACK, Dice, Merges, Ready, VirtioHeader, coalesce, naive, split};
use crate::device::Mode;

/// Packets of each test.
fn enough() -> usize {
    if super::is_long() { 5_000_000 } else { 100_000 }
}

fn mode(is_tap: bool) -> Mode {
    if is_tap { Mode::Tap } else { Mode::Tun }
}

/// All that comes of some reads.
fn cut(is_tap: bool, reads: &[([u8; 10], Vec<u8>)]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (header, packet) in reads {
        let header = VirtioHeader::parse(*header).expect("a kernel's header");
        packets.extend(split(mode(is_tap), header, packet).expect("a kernel's packet"));
    }
    packets
}

/// What is written for some packets: the members of each write, and the packets that the kernel
/// makes of it.
fn write(is_tap: bool, merges: Merges, packets: &[Vec<u8>]) -> Vec<(Vec<usize>, Vec<Vec<u8>>)> {
    let mut writes = Vec::new();
    let mut iterator = packets.iter().map(Vec::as_slice);
    coalesce(mode(is_tap), merges, &mut iterator, &mut |ready| {
        writes.push(match ready {
            Ready::Single(number, packet) => (vec![number], vec![packet.to_vec()]),
            Ready::Merged(group) => {
                let header = group.header();
                let mut merged = header.bytes().to_vec();
                for payload in group.payloads() {
                    merged.extend_from_slice(&payload);
                }
                let numbers = group.members().iter().map(|(number, _)| *number);
                let parts = naive::segment(is_tap, header.virtio.to_bytes(), &merged);
                (numbers.collect(), parts)
            }
        });
    });
    writes
}

/// Without what means nothing in a packet that is never cut: the IPv4 identification (RFC 6864).
fn meaning(is_tap: bool, packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if let Some(layout) = naive::layout(is_tap, &packet)
        && packet[layout.ip] >> 4 == 4
        && packet[layout.ip + 6] & 0x40 != 0
        && naive::is_plain(is_tap, &packet)
    {
        packet[layout.ip + 4..layout.ip + 6].fill(0);
        packet[layout.ip + 10..layout.ip + 12].fill(0);
    }
    packet
}

#[test]
fn with_every_option_of_the_kernel_on_and_off_the_same_packets_come_out() {
    let mut dice = super::dice(10);
    let mut made = 0;
    while made < enough() {
        let is_tap = dice.once_in(2);
        let flow = Flow::offloaded(&mut dice, is_tap);
        let segments = 1 + dice.below(40) as usize;
        let most = 65_000 - flow.extra.1.len();
        let len = (segments * flow.size).min(most) - dice.below(flow.size as u32) as usize;
        let payload = dice.payload(len.max(1));
        let expected = flow.clone().send(&payload);
        for options in Options::all() {
            let packets = cut(is_tap, &options.hand_over(&flow, &payload));
            assert!(packets == expected, "after {made}: {options:?} {flow:?}");
            made += packets.len();
        }
    }
    println!("{made} packets");
}

#[test]
fn what_is_neither_tcp_nor_udp_and_fragments_come_out_as_they_are() {
    let mut dice = super::dice(11);
    let mut made = 0;
    while made < enough() {
        let is_tap = dice.once_in(2);
        let (packets, _) = batch(&mut dice, is_tap);
        let reads: Vec<_> = packets.iter().map(|one| ([0; 10], one.clone())).collect();
        for (read, packet) in reads.iter().zip(&packets) {
            let header = VirtioHeader::parse(read.0).unwrap();
            // Only a frame without a whole header in front cannot be read.
            if let Ok(out) = split(mode(is_tap), header, &read.1) {
                assert_eq!(out, std::slice::from_ref(packet));
            } else {
                assert!(packet.len() < 22, "{packet:?}");
            }
        }
        made += packets.len();
    }
    println!("{made} packets");
}

#[test]
fn the_same_packets_are_written_together_as_the_naive_way_and_mean_the_same() {
    let mut dice = super::dice(12);
    let (mut made, mut merged) = (0, 0);
    while made < enough() {
        let is_tap = dice.once_in(2);
        let merges = Merges {
            tcp: !dice.once_in(4),
            udp: !dice.once_in(4),
        };
        let (packets, owners) = batch(&mut dice, is_tap);
        let expected = naive::merge(is_tap, merges.tcp, merges.udp, &packets);
        let writes = write(is_tap, merges, &packets);
        let members: Vec<_> = writes.iter().map(|(members, _)| members.clone()).collect();
        assert_eq!(members, expected, "after {made}: {merges:?}");

        // Each packet comes out once, with the same meaning, in order within its flow.
        let mut last = [None; 256];
        for (members, parts) in &writes {
            assert_eq!(members.len(), parts.len());
            for (number, part) in members.iter().zip(parts) {
                let packet = &packets[*number];
                assert!(meaning(is_tap, part) == meaning(is_tap, packet), "{number}");
                // What was broken may be of any flow now.
                if naive::flow(is_tap, packet).is_some() && naive::is_plain(is_tap, packet) {
                    let last = &mut last[usize::from(owners[*number])];
                    assert!(last.replace(*number) < Some(*number), "{members:?}");
                }
            }
            merged += members.len().saturating_sub(1);
        }
        made += packets.len();
    }
    println!("{made} packets, {merged} of them joined another");
    assert!(merged * 4 > made, "too few were merged to mean something");
}

#[test]
fn what_one_node_cuts_another_merges_back_to_what_was_sent() {
    let mut dice = super::dice(13);
    let (mut made, mut writes) = (0, 0);
    while made < enough() {
        let is_tap = dice.once_in(2);
        let mut flow = Flow::offloaded(&mut dice, is_tap);
        flow.flags = ACK;
        (flow.extra, flow.tags) = ((0, Vec::new()), Vec::new());
        let mut sent = Vec::new();
        let mut packets = Vec::new();
        for _ in 0..3 {
            let segments = 2 + dice.below(30) as usize;
            let short = dice.below(2) as usize;
            let payload = dice.payload(segments * flow.size - short);
            let all = Options {
                checksum: true,
                tcp4: true,
                tcp6: true,
                udp: true,
            };
            packets.extend(cut(is_tap, &all.hand_over(&flow, &payload)));
            sent.extend(flow.send(&payload));
            // The MTU changes between two super-packets.
            flow.size += 1 + dice.below(9) as usize;
        }
        assert!(packets == sent);
        let both = Merges {
            tcp: true,
            udp: true,
        };
        let back = write(is_tap, both, &packets);
        assert_eq!(back.len(), 3, "each super-packet is one write again");
        writes += back.len();
        made += packets.len();
    }
    println!("{made} packets in {writes} writes");
}

#[test]
fn a_super_packet_that_was_tampered_with_is_refused_or_cut_into_no_more_than_it_holds() {
    let mut dice = super::dice(14);
    let (mut made, mut refused) = (0, 0);
    while made < enough() {
        let is_tap = dice.once_in(2);
        let flow = Flow::offloaded(&mut dice, is_tap);
        let payload = dice.payload(1 + flow.size * 5);
        let all = Options {
            checksum: true,
            tcp4: true,
            tcp6: true,
            udp: true,
        };
        let (mut header, mut packet) = all.hand_over(&flow, &payload).remove(0);
        tamper(&mut dice, &mut header, &mut packet);
        made += 1;
        let header = VirtioHeader::parse(header);
        let Some(Ok(parts)) = header.map(|header| split(mode(is_tap), header, &packet)) else {
            refused += 1;
            continue;
        };
        made += parts.len();
        assert!(parts.len() <= packet.len().max(1));
        assert!(parts.iter().all(|part| part.len() <= packet.len()));
    }
    println!("{made} packets, {refused} refused");
    assert!(refused > 0);
}

/// Changes some bytes of header or packet, or the packet's length.
fn tamper(dice: &mut Dice, header: &mut [u8; 10], packet: &mut Vec<u8>) {
    for _ in 0..1 + dice.below(3) {
        match dice.below(4) {
            0 => header[dice.below(10) as usize] = dice.below(256) as u8,
            1 => packet.truncate(dice.below(packet.len() as u32 + 1) as usize),
            _ if packet.is_empty() => {}
            _ => {
                let at = dice.below(packet.len().min(80) as u32) as usize;
                packet[at] = dice.below(256) as u8;
            }
        }
    }
}

#[test]
fn a_merged_packet_has_65535_bytes_at_the_most_to_the_byte() {
    let mut dice = super::dice(15);
    let both = Merges {
        tcp: true,
        udp: true,
    };
    for (last, writes) in [(1_495, 1), (1_496, 2)] {
        for is_tap in [false, true] {
            let mut flow = Flow::offloaded(&mut dice, is_tap);
            (flow.protocol, flow.is_v6, flow.flags) = (6, false, ACK);
            (flow.extra, flow.tags, flow.options) = ((0, Vec::new()), Vec::new(), Vec::new());
            flow.size = 16_000;
            let packets = flow.send(&vec![7; 4 * 16_000 + last]);
            assert_eq!(write(is_tap, both, &packets).len(), writes, "{last}");
            assert_eq!(naive::merge(is_tap, true, true, &packets).len(), writes);
        }
    }
}
