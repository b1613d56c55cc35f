//! Cutting and merging against a naive implementation that builds each packet from its meaning.
//!
//! Here the rules one by one; `differential` has them all at once, on every kind of traffic.
//! `FLOODMESH_LONG=1` makes millions of packets instead of some hundred thousand.

mod differential;
mod generate;
mod naive;
mod options;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::coalesce::{Merges, Ready, coalesce};
use super::packet::{Upper, Version};
use super::split::{Malformed, Splitter};
use super::virtio::{Segments, VirtioHeader};
use crate::device::Mode;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;
const BOTH: Merges = Merges {
    tcp: true,
    udp: true,
};

/// What a packet means; the naive side knows nothing of offload.
#[derive(Clone, Debug)]
struct Meaning {
    mode: Mode,
    version: Version,
    upper: Upper,
    flow: u8,
    traffic_class: u8,
    hops: u8,
    dont_fragment: bool,
    id: u16,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    /// Option bytes, a multiple of four.
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Meaning {
    fn new(mode: Mode, version: Version, upper: Upper) -> Self {
        Self {
            mode,
            version,
            upper,
            flow: 1,
            traffic_class: 0,
            hops: 64,
            dont_fragment: false,
            id: 100,
            sequence: 1_000,
            acknowledged: 7,
            flags: ACK,
            options: Vec::new(),
            payload: vec![0x5a; 100],
        }
    }

    fn upper_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x10, 0x00, 0x20, self.flow];
        match self.upper {
            Upper::Tcp => {
                bytes.extend(self.sequence.to_be_bytes());
                bytes.extend(self.acknowledged.to_be_bytes());
                let words = 5 + self.options.len() / 4;
                bytes.extend([(words as u8) << 4, self.flags, 1, 2, 0, 0, 0, 0]);
                bytes.extend(&self.options);
            }
            Upper::Udp => {
                let len = 8 + self.payload.len() as u16;
                bytes.extend(len.to_be_bytes());
                bytes.extend([0, 0]);
            }
        }
        bytes.extend(&self.payload);
        bytes
    }

    fn pseudo_header(&self, len: usize) -> Vec<u8> {
        let protocol = match self.upper {
            Upper::Tcp => 6,
            Upper::Udp => 17,
        };
        let mut bytes = self.addresses();
        match self.version {
            Version::V4 => bytes.extend([0, protocol]),
            Version::V6 => bytes.extend([0, 0, 0, protocol, 0, 0]),
        }
        bytes.extend((len as u16).to_be_bytes());
        bytes
    }

    fn addresses(&self) -> Vec<u8> {
        match self.version {
            Version::V4 => vec![10, 0, 0, self.flow, 10, 0, 0, 2],
            Version::V6 => {
                let mut bytes = vec![0; 32];
                (bytes[0], bytes[15], bytes[16], bytes[31]) = (0xfd, self.flow, 0xfd, 2);
                bytes
            }
        }
    }

    fn wrap(&self, upper: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.mode == Mode::Tap {
            bytes.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
            bytes.extend(match self.version {
                Version::V4 => [0x08, 0x00],
                Version::V6 => [0x86, 0xDD],
            });
        }
        let protocol = match self.upper {
            Upper::Tcp => 6,
            Upper::Udp => 17,
        };
        match self.version {
            Version::V4 => {
                let len = (20 + upper.len()) as u16;
                let mut ip = vec![0x45, self.traffic_class];
                ip.extend(len.to_be_bytes());
                ip.extend(self.id.to_be_bytes());
                ip.extend([u8::from(self.dont_fragment) << 6, 0, self.hops, protocol]);
                ip.extend([0, 0]);
                ip.extend(self.addresses());
                let sum = naive_checksum(&ip);
                ip[10..12].copy_from_slice(&sum);
                bytes.extend(ip);
            }
            Version::V6 => {
                bytes.extend([
                    0x60 | self.traffic_class >> 4,
                    self.traffic_class << 4,
                    0,
                    0,
                ]);
                bytes.extend((upper.len() as u16).to_be_bytes());
                bytes.extend([protocol, self.hops]);
                bytes.extend(self.addresses());
            }
        }
        bytes.extend(upper);
        bytes
    }

    fn field(&self) -> usize {
        match self.upper {
            Upper::Tcp => 16,
            Upper::Udp => 6,
        }
    }

    /// The packet, finished.
    fn packet(&self) -> Vec<u8> {
        let mut upper = self.upper_bytes();
        let whole = [self.pseudo_header(upper.len()), upper.clone()].concat();
        let sum = match naive_checksum(&whole) {
            [0, 0] if self.upper == Upper::Udp => [0xFF, 0xFF],
            sum => sum,
        };
        let field = self.field();
        upper[field..field + 2].copy_from_slice(&sum);
        self.wrap(&upper)
    }

    /// The packet as the kernel hands it over: with the pseudo-header's sum for a checksum.
    fn unfinished(&self) -> (Vec<u8>, (u16, u16)) {
        let mut upper = self.upper_bytes();
        let [first, second] = naive_checksum(&self.pseudo_header(upper.len()));
        let field = self.field();
        (upper[field], upper[field + 1]) = (!first, !second);
        let packet = self.wrap(&upper);
        let start = packet.len() - upper.len();
        (packet, (start as u16, field as u16))
    }

    fn segments(&self) -> Segments {
        match (self.upper, self.version) {
            (Upper::Tcp, Version::V4) => Segments::Tcp4,
            (Upper::Tcp, Version::V6) => Segments::Tcp6,
            (Upper::Udp, _) => Segments::Udp,
        }
    }

    /// The packets that a host without offload would have sent.
    fn cut(&self, size: usize) -> Vec<Vec<u8>> {
        let count = self.payload.len().div_ceil(size);
        let part = |(number, payload): (usize, &[u8])| {
            let mut one = self.clone();
            one.payload = payload.to_vec();
            one.id = self.id.wrapping_add(number as u16);
            one.sequence = self.sequence.wrapping_add((number * size) as u32);
            if number + 1 < count {
                one.flags &= !(FIN | PSH);
            }
            if number > 0 {
                one.flags &= !CWR;
            }
            one.packet()
        };
        self.payload.chunks(size).enumerate().map(part).collect()
    }
}

fn naive_checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn split(mode: Mode, header: VirtioHeader, packet: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut splitter = Splitter::new(mode, header, packet)?;
    let mut packets = Vec::new();
    let mut room = vec![0; 70_000];
    while let Some(len) = splitter.next(packet, &mut room) {
        packets.push(room[..len].to_vec());
    }
    assert!(splitter.is_done());
    Ok(packets)
}

fn is_long() -> bool {
    std::env::var("FLOODMESH_LONG").is_ok_and(|value| value == "1")
}

fn rounds(short: u32) -> u32 {
    if is_long() { short * 200 } else { short }
}

struct Dice(ChaCha8Rng);

fn dice(seed: u64) -> Dice {
    Dice(ChaCha8Rng::seed_from_u64(seed))
}

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0.next_u32() % bound
    }

    fn once_in(&mut self, rarity: u32) -> bool {
        self.below(rarity) == 0
    }

    fn payload(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    fn meaning(&mut self, mode: Mode) -> Meaning {
        let version = [Version::V4, Version::V6][self.below(2) as usize];
        let upper = [Upper::Tcp, Upper::Tcp, Upper::Udp][self.below(3) as usize];
        let options = self.below(4) as usize * 4;
        Meaning {
            traffic_class: self.below(4) as u8,
            hops: 1 + self.below(3) as u8,
            dont_fragment: self.once_in(2),
            id: self.0.next_u32() as u16,
            sequence: self.0.next_u32(),
            acknowledged: self.below(3),
            flags: ACK | [0, PSH, FIN, CWR, 0x40][self.below(5) as usize],
            options: self.payload(options),
            ..Meaning::new(mode, version, upper)
        }
    }
}

#[test]
fn a_super_packet_is_cut_as_a_host_without_offload_would_have_sent_it() {
    let mut dice = dice(1);
    for round in 0..rounds(300) {
        let mode = [Mode::Tun, Mode::Tap][round as usize % 2];
        let mut whole = dice.meaning(mode);
        let len = 1 + dice.below(64_000) as usize;
        whole.payload = dice.payload(len);
        let size = 1 + dice.below(1_500) as usize + usize::from(len > 5_000) * 500;
        let (packet, checksum) = whole.unfinished();
        let header = VirtioHeader {
            checksum: Some(checksum),
            segments: Some((whole.segments(), size as u16)),
            headers_len: 0,
        };
        let parts = split(mode, header, &packet).unwrap();
        assert!(parts == whole.cut(size), "round {round}: {size} of {len}");
    }
}

#[test]
fn a_single_packet_gets_its_checksum_and_a_finished_one_stays() {
    let mut dice = dice(2);
    for round in 0..rounds(500) {
        let mode = [Mode::Tun, Mode::Tap][round as usize % 2];
        let mut one = dice.meaning(mode);
        let len = dice.below(1_400) as usize;
        one.payload = dice.payload(len);
        let (packet, checksum) = one.unfinished();
        let header = VirtioHeader {
            checksum: Some(checksum),
            ..VirtioHeader::default()
        };
        assert_eq!(split(mode, header, &packet), Ok(vec![one.packet()]));
        let finished = one.packet();
        let none = VirtioHeader::default();
        assert_eq!(split(mode, none, &finished), Ok(vec![finished.clone()]));
    }
}

#[test]
fn a_vlan_tag_moves_the_ip_header() {
    let mut whole = Meaning::new(Mode::Tap, Version::V4, Upper::Tcp);
    whole.payload = vec![1; 250];
    let (packet, (start, field)) = whole.unfinished();
    let tag = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
    let header = VirtioHeader {
        checksum: Some((start + 4, field)),
        segments: Some((Segments::Tcp4, 100)),
        headers_len: 0,
    };
    let parts = split(Mode::Tap, header, &tag(&packet)).unwrap();
    let expected: Vec<_> = whole.cut(100).iter().map(|part| tag(part)).collect();
    assert_eq!(parts, expected);
}

#[test]
fn what_contradicts_its_header_is_malformed_and_nothing_panics() {
    let whole = Meaning::new(Mode::Tun, Version::V4, Upper::Tcp);
    let (packet, checksum) = whole.unfinished();
    let header = VirtioHeader {
        checksum: Some(checksum),
        segments: Some((Segments::Tcp4, 10)),
        headers_len: 0,
    };
    assert_eq!(split(Mode::Tun, header, &packet[..40]), Err(Malformed));
    assert_eq!(split(Mode::Tun, header, &[]), Err(Malformed));
    let six = VirtioHeader {
        segments: Some((Segments::Tcp6, 10)),
        ..header
    };
    assert_eq!(split(Mode::Tun, six, &packet), Err(Malformed));
    let bare = VirtioHeader {
        checksum: None,
        ..header
    };
    assert_eq!(split(Mode::Tun, bare, &packet), Err(Malformed));
    // Anything at all.
    let mut dice = dice(3);
    for _ in 0..rounds(20_000) {
        let mode = [Mode::Tun, Mode::Tap][dice.below(2) as usize];
        let len = dice.below(150) as usize;
        let mut packet = dice.payload(len);
        if let Some(first) = packet.first_mut() {
            *first = [0x45, 0x60, 0x4f][dice.below(3) as usize];
        }
        let mut header = [0; super::virtio::LEN];
        dice.0.fill_bytes(&mut header);
        (header[1], header[7], header[9]) = ([0, 1, 4, 5][dice.below(4) as usize], 0, 0);
        if let Some(header) = VirtioHeader::parse(header) {
            let _ = split(mode, header, &packet);
        }
    }
}

/// Coalesces, and cuts what was merged again; returns the packets with their numbers in the order
/// of writing, and how many writes there were.
fn there_and_back(mode: Mode, packets: &[Vec<u8>]) -> (Vec<(usize, Vec<u8>)>, usize) {
    let mut back = Vec::new();
    let mut writes = 0;
    let mut iterator = packets.iter().map(Vec::as_slice);
    coalesce(mode, BOTH, &mut iterator, &mut |ready| {
        writes += 1;
        match ready {
            Ready::Single(number, packet) => back.push((number, packet.to_vec())),
            Ready::Merged(group) => {
                let header = group.header();
                let mut merged = header.bytes().to_vec();
                for payload in group.payloads() {
                    merged.extend_from_slice(&payload);
                }
                assert!(merged.len() <= 65_535 + 14);
                let parts = split(mode, header.virtio, &merged).unwrap();
                let numbers = group.members().iter().map(|(number, _)| *number);
                assert_eq!(parts.len(), group.members().len());
                back.extend(numbers.zip(parts));
            }
        }
    });
    (back, writes)
}

#[test]
fn what_is_merged_and_cut_again_is_what_it_was_and_in_order_within_each_flow() {
    let mut dice = dice(4);
    for round in 0..rounds(400) {
        let mode = [Mode::Tun, Mode::Tap][round as usize % 2];
        let mut flows: Vec<Meaning> = (0..1 + dice.below(12))
            .map(|flow| Meaning {
                flow: flow as u8 + 1,
                options: Vec::new(),
                flags: ACK,
                ..dice.meaning(mode)
            })
            .collect();
        let size = 1 + dice.below(1_400) as usize;
        let mut packets = Vec::new();
        let mut flow_of = Vec::new();
        for _ in 0..dice.below(200) {
            let place = dice.below(flows.len() as u32) as usize;
            let flow = &mut flows[place];
            flow.payload = dice.payload(size);
            let mut one = flow.clone();
            // Rarely something that may not be merged, or not with what came before.
            match dice.below(60) {
                0 => one.flags |= FIN,
                1 => one.flags |= PSH,
                2 => one.traffic_class ^= 3,
                3 => one.hops += 1,
                4 => one.acknowledged += 1,
                5 => one.options = vec![1, 1, 1, 1],
                6 => one.payload.truncate(size / 2),
                7 => one.payload.clear(),
                8 => one.sequence = one.sequence.wrapping_add(5),
                9 => one.id = one.id.wrapping_add(9),
                10 => one.payload.extend([0; 8]),
                _ => {}
            }
            flow.sequence = one.sequence.wrapping_add(one.payload.len() as u32);
            flow.id = one.id.wrapping_add(1);
            let mut packet = one.packet();
            let is_harmed = dice.once_in(50);
            if is_harmed {
                let at = dice.below(packet.len() as u32) as usize;
                packet[at] ^= 1 << dice.below(8);
            }
            packets.push(packet);
            // What was harmed may be of any flow now.
            flow_of.push((!is_harmed).then_some(place));
        }
        let (back, writes) = there_and_back(mode, &packets);
        assert!(writes <= packets.len());
        let mut numbers: Vec<usize> = back.iter().map(|(number, _)| *number).collect();
        for (number, packet) in &back {
            assert!(
                without_id(mode, packet) == without_id(mode, &packets[*number]),
                "{round}"
            );
        }
        for flow in 0..flows.len() {
            let of_flow = numbers
                .iter()
                .filter(|number| flow_of[**number] == Some(flow));
            assert!(
                of_flow.is_sorted(),
                "round {round}, flow {flow}: {numbers:?}"
            );
        }
        numbers.sort_unstable();
        assert_eq!(numbers, Vec::from_iter(0..packets.len()));
    }
}

/// The packet without what means nothing when it must not be fragmented: the IPv4 identification
/// (RFC 6864), and the header's checksum over it.
fn without_id(mode: Mode, packet: &[u8]) -> Vec<u8> {
    let ip = if mode == Mode::Tap { 14 } else { 0 };
    let mut packet = packet.to_vec();
    if packet[ip] >> 4 == 4 && packet[ip + 6] & 0x40 != 0 {
        packet[ip + 4..ip + 6].fill(0);
        packet[ip + 10..ip + 12].fill(0);
    }
    packet
}

fn train(first: &Meaning, count: usize) -> Vec<Vec<u8>> {
    let mut whole = first.clone();
    whole.payload = first.payload.repeat(count);
    whole.cut(first.payload.len())
}

#[test]
fn a_train_is_one_write_and_two_interleaved_ones_are_two() {
    for (version, upper) in [
        (Version::V4, Upper::Tcp),
        (Version::V6, Upper::Tcp),
        (Version::V4, Upper::Udp),
        (Version::V6, Upper::Udp),
    ] {
        let one = Meaning::new(Mode::Tun, version, upper);
        let first = train(&one, 40);
        assert_eq!(there_and_back(Mode::Tun, &first).1, 1);
        let second = train(&Meaning { flow: 2, ..one }, 40);
        let mixed: Vec<_> = first
            .into_iter()
            .zip(second)
            .flat_map(|(a, b)| [a, b])
            .collect();
        assert_eq!(there_and_back(Mode::Tun, &mixed).1, 2);
    }
}

#[test]
fn a_group_has_64_packets_and_64_kib_at_the_most() {
    let mut one = Meaning::new(Mode::Tun, Version::V4, Upper::Tcp);
    assert_eq!(there_and_back(Mode::Tun, &train(&one, 130)).1, 3);
    one.payload = vec![7; 1_348];
    // 48 payloads and the headers are 64,744 bytes; with another they were more than IP can say.
    let packets: Vec<_> = (0..96)
        .map(|number| {
            let mut packet = one.clone();
            packet.sequence += number * 1_348;
            packet.id += number as u16;
            packet.packet()
        })
        .collect();
    assert_eq!(there_and_back(Mode::Tun, &packets).1, 2);
}

#[test]
fn what_ends_a_group_ends_it_and_does_not_overtake() {
    let one = Meaning::new(Mode::Tun, Version::V4, Upper::Tcp);
    let mut packets = train(&one, 4);
    let mut pure_ack = one.clone();
    pure_ack.payload.clear();
    packets.insert(2, pure_ack.packet());
    let (back, writes) = there_and_back(Mode::Tun, &packets);
    let numbers: Vec<_> = back.iter().map(|(number, _)| *number).collect();
    assert_eq!((numbers, writes), (vec![0, 1, 2, 3, 4], 3));
    // Another flow's acknowledgment ends nothing.
    let other = Meaning {
        flow: 9,
        ..pure_ack
    };
    packets[2] = other.packet();
    assert_eq!(there_and_back(Mode::Tun, &packets).1, 2);
    // A fragment might be of any flow.
    packets[2][6] = 0x20;
    assert_eq!(there_and_back(Mode::Tun, &packets).1, 3);
}

#[test]
fn a_wrong_checksum_is_never_merged() {
    let mut packets = train(&Meaning::new(Mode::Tun, Version::V6, Upper::Udp), 3);
    let last = packets[1].len() - 1;
    packets[1][last] ^= 0x10;
    let (back, writes) = there_and_back(Mode::Tun, &packets);
    assert_eq!(writes, 3);
    assert_eq!(back[1], (1, packets[1].clone()));
}

#[test]
fn a_protocol_that_the_kernel_does_not_take_is_not_merged() {
    let packets = train(&Meaning::new(Mode::Tun, Version::V4, Upper::Udp), 3);
    let merges = Merges { udp: false, ..BOTH };
    let mut singles = 0;
    let mut iterator = packets.iter().map(Vec::as_slice);
    coalesce(Mode::Tun, merges, &mut iterator, &mut |ready| {
        singles += usize::from(matches!(ready, Ready::Single(..)));
    });
    assert_eq!(singles, 3);
}
