//! Traffic by the million, from one seed: flows of every kind that crosses a device, with what goes
//! wrong in real life and what does not.

use super::{ACK, CWR, Dice, FIN, PSH, naive};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// ICMP, ICMPv6, ESP, GRE, SCTP, nothing known.
const OTHERS: [u8; 6] = [1, 58, 50, 47, 132, 253];

/// One flow as its host sees it.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) is_tap: bool,
    /// VLAN tags of its frames, none to two.
    pub(super) tags: Vec<[u8; 4]>,
    pub(super) is_v6: bool,
    pub(super) protocol: u8,
    /// Tells flows apart.
    number: u8,
    /// IPv4 options, or IPv6 extension headers with the number of the first: whole.
    pub(super) extra: (u8, Vec<u8>),
    traffic_class: u8,
    label: u8,
    hops: u8,
    dont_fragment: bool,
    id: u16,
    sequence: u32,
    acknowledged: u32,
    window: u16,
    pub(super) flags: u8,
    urgent: u16,
    pub(super) options: Vec<u8>,
    /// Payload of a full segment: what the path's MTU leaves. It changes in mid-stream.
    pub(super) size: usize,
}

impl Flow {
    /// A flow as they come: mostly plain TCP and UDP.
    pub(super) fn any(dice: &mut Dice, is_tap: bool, number: u8) -> Self {
        let is_v6 = dice.once_in(2);
        let protocol = match dice.below(12) {
            0..=5 => TCP,
            6..=10 => UDP,
            _ => OTHERS[dice.below(6) as usize],
        };
        let tags = if is_tap && dice.once_in(4) {
            1 + dice.below(2)
        } else {
            0
        };
        let options = if dice.once_in(2) {
            dice.below(11) as usize * 4
        } else {
            0
        };
        Self {
            is_tap,
            tags: (0..tags)
                .map(|place| {
                    let service = tags == 2 && place == 0 && dice.once_in(2);
                    let kind = if service { [0x88, 0xA8] } else { [0x81, 0x00] };
                    [
                        kind[0],
                        kind[1],
                        dice.below(256) as u8,
                        dice.below(256) as u8,
                    ]
                })
                .collect(),
            is_v6,
            protocol,
            number,
            extra: if dice.once_in(8) {
                extra(dice, is_v6)
            } else {
                (0, Vec::new())
            },
            traffic_class: dice.below(256) as u8,
            label: dice.below(3) as u8,
            hops: 1 + dice.below(255) as u8,
            dont_fragment: dice.once_in(2),
            // Near the ends too, where numbers wrap.
            id: (dice.below(1 << 16) as u16).wrapping_sub(dice.below(40) as u16),
            sequence: [0, u32::MAX - 3_000, 77][dice.below(3) as usize],
            acknowledged: dice.below(3),
            window: dice.below(3) as u16,
            flags: ACK,
            urgent: 0,
            options: dice.payload(options),
            size: size(dice),
        }
    }

    /// A flow whose super-packets a kernel hands over: TCP with any flags, or UDP.
    pub(super) fn offloaded(dice: &mut Dice, is_tap: bool) -> Self {
        let mut flow = Self::any(dice, is_tap, 1);
        flow.protocol = if dice.once_in(2) { TCP } else { UDP };
        flow.flags = ACK | [0, PSH, FIN | PSH, CWR, CWR | FIN, 0x40][dice.below(6) as usize];
        flow
    }

    fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }

    /// The packet that carries `payload`, finished.
    pub(super) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = self.ip_and_below();
        match self.protocol {
            TCP => {
                bytes.extend([0x10, 0x00, 0x20, self.number]);
                bytes.extend(self.sequence.to_be_bytes());
                bytes.extend(self.acknowledged.to_be_bytes());
                let words = 5 + self.options.len() as u8 / 4;
                bytes.extend([words << 4, self.flags]);
                bytes.extend(self.window.to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(self.urgent.to_be_bytes());
                bytes.extend(&self.options);
            }
            UDP => bytes.extend([0x10, 0x00, 0x20, self.number, 0, 0, 0, 0]),
            _ => bytes.extend([self.number; 8]),
        }
        bytes.extend(payload);
        let layout = self.layout(&bytes);
        naive::finish(&mut bytes, layout);
        bytes
    }

    pub(super) fn layout(&self, packet: &[u8]) -> naive::Layout {
        naive::layout(self.is_tap, packet).expect("a flow's packets are IP")
    }

    fn ip_and_below(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.is_tap {
            bytes.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, self.number % 2]);
            bytes.extend(self.tags.concat());
            bytes.extend(if self.is_v6 {
                [0x86, 0xDD]
            } else {
                [0x08, 0x00]
            });
        }
        if self.is_v6 {
            let (high, low) = (self.traffic_class >> 4, self.traffic_class << 4);
            bytes.extend([0x60 | high, low, 0, self.label, 0, 0]);
            let next = if self.extra.1.is_empty() {
                self.protocol
            } else {
                self.extra.0
            };
            bytes.extend([next, self.hops]);
            for end in [self.number, 2] {
                bytes.extend([0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
            }
            let mut extra = self.extra.1.clone();
            if let Some(last) = last_extension(&extra) {
                extra[last] = self.protocol;
            }
            bytes.extend(extra);
        } else {
            let words = 5 + self.extra.1.len() as u8 / 4;
            bytes.extend([0x40 | words, self.traffic_class, 0, 0]);
            bytes.extend(self.id.to_be_bytes());
            bytes.extend([
                u8::from(self.dont_fragment) << 6,
                0,
                self.hops,
                self.protocol,
            ]);
            bytes.extend([0, 0, 10, 0, 0, self.number, 10, 0, 0, 2]);
            bytes.extend(&self.extra.1);
        }
        bytes
    }

    /// The packets in which a host without offload sends `payload`, and the flow goes on.
    pub(super) fn send(&mut self, payload: &[u8]) -> Vec<Vec<u8>> {
        let parts: Vec<&[u8]> = payload.chunks(self.size).collect();
        let flags = self.flags;
        let mut packets = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            self.flags = flags;
            if number + 1 < parts.len() {
                self.flags &= !(FIN | PSH);
            }
            if number > 0 {
                self.flags &= !CWR;
            }
            packets.push(self.next(part));
        }
        self.flags = flags;
        packets
    }

    /// The next packet of the flow.
    pub(super) fn next(&mut self, payload: &[u8]) -> Vec<u8> {
        let packet = self.packet(payload);
        self.pass(payload.len());
        packet
    }

    /// Goes on as if `len` bytes had been sent: they are lost, or came another way.
    pub(super) fn pass(&mut self, len: usize) {
        self.sequence = self.sequence.wrapping_add(len as u32);
        self.id = self.id.wrapping_add(1);
    }

    /// The packet with something about it that forbids merging it, or merging it with the last one.
    pub(super) fn odd(&mut self, dice: &mut Dice) -> Vec<u8> {
        let mut one = self.clone();
        let mut payload = dice.payload(self.size);
        match dice.below(16) {
            0 => one.flags |= FIN,
            1 => one.flags |= PSH,
            2 => one.flags |= [0x02, 0x04, 0x20, 0x40, CWR][dice.below(5) as usize],
            3 => one.flags = 0,
            4 => one.traffic_class ^= 1 << dice.below(8),
            5 => one.hops = one.hops.wrapping_add(1),
            6 => one.label ^= 1,
            7 => one.acknowledged += 1,
            8 => one.window ^= 1,
            9 => one.urgent = 5,
            10 => {
                one.options = if one.options.is_empty() {
                    vec![1; 4]
                } else {
                    Vec::new()
                }
            }
            11 => payload.truncate(self.size / 2),
            12 => payload.clear(),
            13 => payload.extend([0; 8]),
            14 => one.dont_fragment = !one.dont_fragment,
            _ => one.extra = extra(dice, one.is_v6),
        }
        self.pass(payload.len());
        one.packet(&payload)
    }
}

/// Payload of a full segment, small for the most part, so that millions are made in time.
fn size(dice: &mut Dice) -> usize {
    1 + match dice.below(40) {
        0 => dice.below(1_460),
        1..=9 => dice.below(200),
        _ => dice.below(24),
    } as usize
}

/// IPv4 options, or IPv6 extension headers and the number of the first of them. The last one's
/// next header is set when the packet is made.
fn extra(dice: &mut Dice, is_v6: bool) -> (u8, Vec<u8>) {
    if !is_v6 {
        return (0, vec![1; 4 + 4 * dice.below(10) as usize]);
    }
    let kinds: Vec<u8> = match dice.below(5) {
        0 => vec![0],
        1 => vec![60],
        2 => vec![0, 43],
        3 => vec![0, 60, 43, 60],
        // An atomic fragment (RFC 6946).
        _ => vec![44],
    };
    let mut bytes = Vec::new();
    for place in 0..kinds.len() {
        let next = *kinds.get(place + 1).unwrap_or(&0);
        let words = if kinds[place] == 44 {
            0
        } else {
            dice.below(3) as u8
        };
        bytes.extend([next, words]);
        bytes.extend(vec![0; 6 + usize::from(words) * 8]);
    }
    (kinds[0], bytes)
}

/// Where the last of some extension headers begins.
fn last_extension(extra: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut last = None;
    while at < extra.len() {
        last = Some(at);
        at += 8 + usize::from(extra[at + 1]) * 8;
    }
    last
}

/// A batch of packets of some flows, mixed as they arrive: in order within each flow, with losses,
/// with what is odd, broken, or fragmented. Gives the packets, and the flow of each.
pub(super) fn batch(dice: &mut Dice, is_tap: bool) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut flows: Vec<Flow> = (0..1 + dice.below(12))
        .map(|number| Flow::any(dice, is_tap, number as u8 + 1))
        .collect();
    let (mut packets, mut owners) = (Vec::new(), Vec::new());
    for _ in 0..1 + dice.below(40) {
        let place = dice.below(flows.len() as u32) as usize;
        let flow = &mut flows[place];
        let number = flow.number;
        let mut add = |packet| {
            packets.push(packet);
            owners.push(number);
        };
        match dice.below(24) {
            // The path's MTU, or the neighbor that brings the rest of the flow, is another one.
            0 => flow.size = size(dice),
            1 | 2 => add(flow.odd(dice)),
            3 => add(broken(dice, flow)),
            4 => add(fragment(dice, flow)),
            5 => flow.pass(flow.size),
            _ => {
                // A train with a last packet that may be shorter, and may say PSH.
                let segments = match dice.below(30) {
                    0 => 70,
                    _ => 1 + dice.below(8) as usize * dice.below(4) as usize,
                };
                let short = dice.below(flow.size as u32) as usize;
                let payload = dice.payload(segments * flow.size - short);
                let flags = flow.flags;
                flow.flags |= if dice.once_in(3) { PSH } else { 0 };
                flow.send(&payload).into_iter().for_each(&mut add);
                flow.flags = flags;
            }
        }
    }
    (packets, owners)
}

/// A packet with one bit turned, cut off, or longer than it says.
fn broken(dice: &mut Dice, flow: &mut Flow) -> Vec<u8> {
    let payload = dice.payload(flow.size);
    let mut packet = flow.next(&payload);
    match dice.below(4) {
        0 | 1 => {
            let at = dice.below(packet.len() as u32) as usize;
            packet[at] ^= 1 << dice.below(8);
        }
        2 => packet.truncate(1 + dice.below(packet.len() as u32) as usize),
        _ => packet.extend(vec![0; 1 + dice.below(30) as usize]),
    }
    packet
}

/// The first, a middle or the last fragment of a datagram of the flow.
fn fragment(dice: &mut Dice, flow: &mut Flow) -> Vec<u8> {
    let (offset, more) = [(0, true), (25, true), (25, false)][dice.below(3) as usize];
    let mut one = flow.clone();
    if flow.is_v6 {
        let word = (offset << 3 | u16::from(more)).to_be_bytes();
        one.extra = (44, vec![0, 0, word[0], word[1], 0, 0, 0, 9]);
    } else {
        one.extra = (0, Vec::new());
        one.dont_fragment = false;
    }
    let payload = dice.payload(flow.size);
    let mut packet = one.packet(&payload);
    flow.pass(payload.len());
    if !flow.is_v6 {
        let layout = one.layout(&packet);
        packet[layout.ip + 6] |= u8::from(more) << 5;
        packet[layout.ip + 7] |= offset as u8;
        let sum = &mut packet[layout.ip + 10..layout.ip + 12];
        sum.fill(0);
        let sum = naive::checksum(&packet[layout.ip..layout.ip + 20]).to_be_bytes();
        packet[layout.ip + 10..layout.ip + 12].copy_from_slice(&sum);
    }
    packet
}

/// What a kernel with some of the options hands over for one send of a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) checksum: bool,
    pub(super) tcp4: bool,
    pub(super) tcp6: bool,
    pub(super) udp: bool,
}

impl Options {
    /// Every choice that a kernel accepts: without checksums there is nothing else.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..9_u8).map(|bits| Self {
            checksum: bits < 8,
            tcp4: bits < 8 && bits & 1 != 0,
            tcp6: bits < 8 && bits & 2 != 0,
            udp: bits < 8 && bits & 4 != 0,
        })
    }

    /// The reads, each the bytes of a virtio header and a packet, and the packets they stand for.
    pub(super) fn hand_over(self, flow: &Flow, payload: &[u8]) -> Vec<([u8; 10], Vec<u8>)> {
        let is_taken = match (flow.is_tcp(), flow.is_v6) {
            (true, false) => self.tcp4,
            (true, true) => self.tcp6,
            (false, _) => self.udp,
        };
        let kind = match (flow.is_tcp(), flow.is_v6) {
            (true, false) => 1,
            (true, true) => 4,
            (false, _) => 5,
        };
        if !is_taken || payload.len() <= flow.size {
            let finished = flow.clone().send(payload).into_iter();
            return finished.map(|packet| self.single(flow, packet)).collect();
        }
        let mut packet = flow.packet(payload);
        let layout = flow.layout(&packet);
        let (start, offset) = naive::unfinish(&mut packet, layout);
        let ecn = if flow.is_tcp() && flow.flags & CWR != 0 {
            0x80
        } else {
            0
        };
        // The length of the headers is not to be relied on (here: nothing at all).
        vec![(virtio(kind | ecn, flow.size as u16, start, offset), packet)]
    }

    fn single(self, flow: &Flow, mut packet: Vec<u8>) -> ([u8; 10], Vec<u8>) {
        if !self.checksum {
            return ([0; 10], packet);
        }
        let layout = flow.layout(&packet);
        let (start, offset) = naive::unfinish(&mut packet, layout);
        (virtio(0, 0, start, offset), packet)
    }
}

fn virtio(kind: u8, size: u16, start: u16, offset: u16) -> [u8; 10] {
    let (size, start, offset) = (
        size.to_ne_bytes(),
        start.to_ne_bytes(),
        offset.to_ne_bytes(),
    );
    let mut bytes = [1, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..6].copy_from_slice(&size);
    bytes[6..8].copy_from_slice(&start);
    bytes[8..10].copy_from_slice(&offset);
    bytes
}
