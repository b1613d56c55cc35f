//! Two nodes' sealed endpoints, and the worker's half of opening, over a wire in memory.

use std::sync::Arc;

use rand_core::SeedableRng;
use wire::sealed::{Control, Frames};
use wire::{Flags, HEADER_LEN, Header, Kind as MessageKind};

use super::*;
use crate::id::{LinkId, SocketId};
use crate::node::snapshot::{LinkEntry, NeighborSet};
use crate::pump::count::{Counters, DropReason};
use crate::pump::rx::{RxBatch, RxMessage, Span};
use crate::seal::effect::Gone;
use crate::seal::handshake::tests::{FAR, NEAR, node};
use crate::seal::opening::{Opening, Porter};
use crate::time::Duration;

mod moving;
mod renewing;
mod rotating;
mod spreading;
mod time;

const NOW: Instant = Instant::from_secs(100);

/// One node: the machine, and a worker that opens.
struct End {
    links: Links,
    opening: Opening,
    counters: Counters,
    neighbors: NeighborSet,
    /// How the other one sees us.
    path: Path,
    /// Messages that got through.
    messages: Vec<Vec<u8>>,
    /// The endpoint that each of them counts for.
    came_by: Vec<Endpoint>,
    notices: Vec<Notice>,
}

/// What a worker hands to the driver.
#[derive(Default)]
struct Handed {
    handshakes: Vec<(Path, Vec<u8>)>,
    confirmed: Vec<u32>,
    controls: Vec<(u32, (Path, usize), Owned)>,
    elsewhere: Vec<(u32, Path, usize)>,
    /// Controls about lists, whole frames.
    lists: Vec<(u32, Vec<u8>)>,
}

impl Porter for Handed {
    fn handshake(&mut self, path: Path, datagram: &[u8]) {
        self.handshakes.push((path, datagram.to_vec()));
    }
    fn confirmed(&mut self, index: u32) {
        self.confirmed.push(index);
    }
    fn frame(&mut self, index: u32, by: (Path, usize), control: &Control<'_>) {
        if let Some(owned) = Owned::of(control) {
            return self.controls.push((index, by, owned));
        }
        let frame = Frame::Control(*control);
        let mut bytes = vec![0; frame.len()];
        frame.emit(&mut bytes).unwrap();
        self.lists.push((index, bytes));
    }
    fn elsewhere(&mut self, index: u32, from: Path, len: usize) {
        self.elsewhere.push((index, from, len));
    }
}

fn path(last: u8) -> Path {
    Path::to(Endpoint::new(
        SocketId(0),
        ([192, 0, 2, last], 44_204).into(),
    ))
}

fn end(secret: u8, key: u8, netid: NetId, last: u8) -> End {
    let local = node(secret, key, netid, true);
    let random = ChaCha12Rng::from_seed([key; 32]);
    let hasher = KeyedHasher(1, 2);
    End {
        links: Links::new(NOW, local, Timers::default(), hasher, random),
        opening: Opening::default(),
        counters: Counters::default(),
        neighbors: NeighborSet::empty(),
        path: path(last),
        messages: Vec::new(),
        came_by: Vec::new(),
        notices: Vec::new(),
    }
}

fn near() -> End {
    end(1, 10, NEAR, 1)
}

fn far() -> End {
    end(1, 20, FAR, 2)
}

fn message(kind: MessageKind, flags: Flags, src: NetId) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    Header {
        kind,
        flags,
        nonce: 7,
        src,
        dst: NetId::ANY,
    }
    .emit(&mut bytes);
    bytes
}

fn hello(src: NetId) -> Vec<u8> {
    message(MessageKind::Hello, Flags::NO_FORWARD, src)
}

impl End {
    /// A datagram from `from` arrives.
    fn receive(&mut self, now: Instant, from: Path, datagram: &[u8]) {
        let mut rx = RxBatch::default();
        rx.arena_mut()[..datagram.len()].copy_from_slice(datagram);
        let len = datagram.len() as u32;
        rx.push(RxMessage {
            span: Span { start: 0, len },
            stride: len,
            path: from,
            interface: 0,
            truncated: false,
            alone: false,
        });
        let mut handed = Handed::default();
        self.opening.open(
            now,
            self.links.sessions(),
            (&self.neighbors, 0),
            &mut rx,
            &self.counters,
            &mut handed,
        );
        for message in rx.messages() {
            self.messages.push(message.span.of(rx.arena()).to_vec());
            self.came_by.push(message.path.endpoint);
        }
        self.take_in(now, handed);
    }

    /// The driver's half.
    fn take_in(&mut self, now: Instant, handed: Handed) {
        for (path, datagram) in handed.handshakes {
            self.links.handle(now, &path, &datagram, 0);
        }
        for index in handed.confirmed {
            self.links.handle_confirmed(now, index);
        }
        for (index, (from, len), owned) in handed.controls {
            let control = owned.control();
            self.links
                .handle_control(now, index, (&from, len), &control);
        }
        for (index, from, len) in handed.elsewhere {
            self.links.handle_elsewhere(now, index, &from, len);
        }
        for (index, frame) in handed.lists {
            let Some(Ok(Frame::Control(control))) = Frames::new(&frame).next() else {
                panic!("a control was handed over");
            };
            self.links.handle_list(now, index, &control);
        }
    }

    fn take(&mut self) -> Vec<(Path, Box<[u8]>)> {
        let mut sent = Vec::new();
        let wishes: Vec<_> = self.links.drain().collect();
        for wish in wishes {
            match wish {
                Wish::Send(path, datagram) => sent.push((path, datagram)),
                Wish::Publish => {}
                Wish::Notice(_, notice) => self.notices.push(notice),
            }
        }
        sent
    }

    fn is_up(&self, other: &Self) -> bool {
        self.links.sessions().seals(&other.path.endpoint).is_some()
    }

    fn is_told(&self, is_so: impl Fn(&Event) -> bool) -> bool {
        let mut notices = self.notices.iter();
        notices.any(|notice| matches!(notice, Notice::Peer(event) if is_so(event)))
    }
}

/// Lets both speak until nothing is on the wire.
fn settle(now: Instant, left: &mut End, right: &mut End) -> Vec<Box<[u8]>> {
    let mut wire = Vec::new();
    for _ in 0..20 {
        let (to_right, to_left) = (left.take(), right.take());
        if to_right.is_empty() && to_left.is_empty() {
            return wire;
        }
        for (_, datagram) in to_right {
            right.receive(now, left.path, &datagram);
            wire.push(datagram);
        }
        for (_, datagram) in to_left {
            left.receive(now, right.path, &datagram);
            wire.push(datagram);
        }
    }
    panic!("they never stop");
}

#[test]
fn what_control_says_waits_for_the_session_and_arrives_behind_it() {
    let (mut near, mut far) = (near(), far());
    let to = far.path;
    near.links.send(NOW, &to, &hello(NEAR));
    near.links.send(
        NOW,
        &to,
        &message(MessageKind::Ping, Flags::NO_FORWARD, NetId(99)),
    );
    let wire = settle(NOW, &mut near, &mut far);
    assert!(near.is_up(&far) && far.is_up(&near));
    assert_eq!(far.messages[0], hello(NEAR));
    assert_eq!(far.messages.len(), 2);
    // Nothing of it was to be seen on the way.
    assert!(wire.iter().all(|datagram| datagram[0] == 0xAE));
    // And the way back.
    let back = near.path;
    far.links.send(NOW, &back, &hello(FAR));
    settle(NOW, &mut near, &mut far);
    assert_eq!(near.messages, [hello(FAR)]);
    assert!(near.is_told(|event| matches!(event, Event::Up(remote) if remote.netid == FAR)));
}

#[test]
fn a_node_of_another_mesh_stays_outside_and_gets_no_answer() {
    let (mut near, mut stranger) = (near(), end(2, 20, FAR, 2));
    let to = near.path;
    stranger.links.send(NOW, &to, &hello(FAR));
    for (_, datagram) in stranger.take() {
        near.receive(NOW, stranger.path, &datagram);
    }
    assert!(near.take().is_empty() && near.links.peers.is_empty());
    assert!(!near.is_up(&stranger));
}

#[test]
fn plain_datagrams_do_not_get_past_the_opening() {
    let mut near = near();
    near.receive(NOW, path(2), &hello(FAR));
    near.receive(NOW, path(2), &[]);
    near.receive(NOW, path(2), &[0xAE]);
    near.receive(NOW, path(2), &[0xAE, 5, 0, 0, 1, 2, 3, 4]);
    assert!(near.messages.is_empty());
    assert_eq!(near.counters.dropped(DropReason::NotSealed), 1);
    assert_eq!(near.counters.dropped(DropReason::Malformed), 3);
}

#[test]
fn a_recorded_datagram_is_dropped_the_second_time_and_a_spoilt_one_always() {
    let (mut near, mut far) = (near(), far());
    let to = far.path;
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut near, &mut far);
    near.links.send(NOW, &to, &hello(NEAR));
    let (_, datagram) = near.take().remove(0);
    let mut spoilt = datagram.clone();
    spoilt[20] ^= 1;
    far.messages.clear();
    far.receive(NOW, near.path, &spoilt);
    far.receive(NOW, near.path, &datagram);
    far.receive(NOW, near.path, &datagram);
    // From elsewhere too: no endpoint moves.
    far.receive(NOW, path(9), &datagram);
    assert_eq!(far.messages.len(), 1);
    assert_eq!(far.counters.dropped(DropReason::Replayed), 2);
    assert_eq!(far.counters.dropped(DropReason::Forged), 1);
}

#[test]
fn nobody_introduces_another_node_over_a_session() {
    let (mut near, mut far) = (near(), far());
    let to = far.path;
    let spoofed = [
        hello(NetId(77)),
        message(MessageKind::Pong, Flags::NO_FORWARD, NetId(77)),
        message(MessageKind::Inform, Flags::NO_FORWARD, NetId(77)),
        message(MessageKind::Data, Flags::NONE, NetId(77)),
    ];
    // What is forwarded before the link is live at both ends is dropped, but nobody's forgery.
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut near, &mut far);
    far.messages.clear();
    for message in &spoofed {
        near.links.send(NOW, &to, message);
    }
    settle(NOW, &mut near, &mut far);
    assert!(far.messages.is_empty());
    assert_eq!(far.counters.dropped(DropReason::SpoofedControl), 3);
    assert_eq!(far.counters.dropped(DropReason::Stranger), 1);
    // Once the link is live, others' messages go on over it; introductions still do not.
    let link = LinkEntry {
        open: false,
        id: LinkId(1),
        netid: NEAR,
        neighbor: 0,
        path: near.path,
        stats: Arc::default(),
    };
    far.neighbors = NeighborSet::new(vec![link], [], KeyedHasher(1, 2));
    for message in &spoofed {
        near.links.send(NOW, &to, message);
    }
    settle(NOW, &mut near, &mut far);
    assert_eq!(far.messages, [spoofed[3].clone()]);
}

#[test]
fn another_key_under_a_pinned_netid_does_not_come_up_from_either_side() {
    for dials in [true, false] {
        let (mut near, mut far) = (near(), far());
        near.links = near.links.admitting(Members::new([(FAR, [9; 32])].into()));
        let (to, back) = (far.path, near.path);
        if dials {
            near.links.send(NOW, &to, &hello(NEAR));
        } else {
            far.links.send(NOW, &back, &hello(FAR));
        }
        settle(NOW, &mut near, &mut far);
        assert!(!near.is_up(&far));
        assert!(near.messages.is_empty());
        let alarmed = |notice: &Notice| {
            let Notice::Refused { netid, why, .. } = notice else {
                return false;
            };
            (*netid, *why) == (FAR, Refusal::OtherKey([9; 32]))
        };
        assert!(near.notices.iter().any(alarmed));
        assert!(near.links.sessions().is_empty());
    }
}

#[test]
fn a_silent_endpoint_is_given_up_and_leaves_nothing_behind() {
    let mut near = near();
    let mut now = NOW;
    near.links.send(now, &path(2), &hello(NEAR));
    let mut inits = 0;
    while let Some(at) = near.links.next_timeout() {
        assert!(now < NOW + Duration::from_secs(60));
        inits += near.take().len();
        now = now.max(at);
        near.links.handle_timeout(now);
    }
    near.take();
    assert_eq!(inits, 3);
    assert!(near.is_told(|event| *event == Event::GaveUp));
    assert!(near.links.peers.is_empty() && near.links.by_endpoint.is_empty());
    assert!(near.links.indices.is_empty());
}

#[test]
fn who_leaves_or_falls_silent_is_told_of_and_forgotten() {
    let (mut near, mut far) = (near(), far());
    let to = far.path;
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut near, &mut far);
    let mut now = NOW;
    // Nobody answers any more.
    while far.is_up(&near) {
        let at = far.links.next_timeout().unwrap();
        assert!(at <= NOW + Duration::from_secs(40));
        now = now.max(at);
        far.links.handle_timeout(now);
        far.take();
    }
    assert!(far.is_told(|event| *event == Event::Down(Gone::Silent)));
    near.links.leave(now);
    near.take();
    assert!(!near.is_up(&far));
    assert!(near.links.indices.is_empty());
}

#[test]
fn a_thousand_strangers_leave_no_endpoint_behind() {
    let mut near = near();
    let mut now = NOW;
    for last in 0..1_000_u16 {
        let mut stranger = far();
        let [high, low] = last.to_be_bytes();
        let remote = ([198, 18, high, low], 1).into();
        let to = near.path;
        stranger.links.send(now, &to, &hello(FAR));
        let from = Path::to(Endpoint::new(SocketId(0), remote));
        for (_, init) in stranger.take() {
            near.receive(now, from, &init);
        }
    }
    assert!(near.links.peers.len() <= 256, "{}", near.links.peers.len());
    while let Some(at) = near.links.next_timeout() {
        now = now.max(at);
        near.links.handle_timeout(now);
    }
    assert!(near.links.peers.is_empty() && near.links.indices.is_empty());
    assert_eq!(near.links.door.half_open(), 0);
}

/// Lets `near` dial, or dial again, and says whether both came up.
fn meets(now: Instant, near: &mut End, far: &mut End) -> bool {
    let to = far.path;
    near.links.send(now, &to, &hello(NEAR));
    near.links.handle_timeout(now);
    settle(now, near, far);
    near.is_up(far) && far.is_up(near)
}

#[test]
fn a_forgotten_key_gives_way_to_the_next_and_its_link_ends() {
    let (mut near, mut far) = (near(), far());
    // Another key under the same netid, from elsewhere.
    let mut thief = end(1, 30, FAR, 3);
    assert!(meets(NOW, &mut near, &mut far));
    assert!(near.links.members().take_changed().is_some());
    assert!(!meets(NOW, &mut near, &mut thief));
    assert!(near.is_up(&far) && !near.links.indices.is_empty());
    let key = *far.links.local.identity.public();
    assert_eq!(near.links.forget(NOW, FAR), Some(key));
    assert_eq!(near.links.forget(NOW, FAR), None);
    assert!(!near.is_up(&far));
    // The attempt goes on (S16): its next INIT brings the link up.
    let now = NOW + Duration::from_secs(2);
    assert!(meets(now, &mut near, &mut thief));
    // And now it is the former one that stays outside, told of again.
    near.notices.clear();
    far.links.leave(now);
    far.take();
    assert!(!meets(now, &mut near, &mut far));
    let told = |notice: &Notice| matches!(notice, Notice::Refused { is_news: true, .. });
    assert!(near.notices.iter().any(told));
    // Nothing of it stays when the attempt is given up.
    for second in 0..20 {
        near.links.handle_timeout(now + Duration::from_secs(second));
        near.take();
    }
    assert_eq!(near.links.peers.len(), 1);
}

/// Two nodes with a link.
fn pair() -> (End, End) {
    let (mut near, mut far) = (near(), far());
    let to = far.path;
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut near, &mut far);
    far.messages.clear();
    (near, far)
}

/// Brings the node of this key up at another address of the far end.
fn come_up(now: Instant, far: &mut End, key: u8, last: u8) -> bool {
    let mut near = end(1, key, NEAR, last);
    let to = far.path;
    near.links.send(now, &to, &hello(NEAR));
    settle(now, &mut near, far);
    near.is_up(far) && far.is_up(&near)
}

#[test]
fn a_member_comes_up_at_eight_endpoints_and_no_more() {
    let mut far = far();
    // As many configured ones as needed, so that no ration of a prefix decides.
    far.links
        .set_configured((10..30).map(|last| path(last).endpoint.remote));
    for last in 0..ENDPOINTS_PER_KEY as u8 {
        assert!(come_up(NOW, &mut far, 10, 10 + last), "{last}");
    }
    assert!(!come_up(NOW, &mut far, 10, 20));
    let refused = far.notices.iter().any(|notice| {
        matches!(
            notice,
            Notice::Refused {
                why: Refusal::Crowding,
                ..
            }
        )
    });
    assert!(refused);
    // Another node is not concerned, and a further key of those that are up is none more.
    let mut other = end(1, 40, NetId(0x40), 21);
    let to = far.path;
    other.links.send(NOW, &to, &hello(NetId(0x40)));
    settle(NOW, &mut other, &mut far);
    assert!(far.is_up(&other));
    assert!(
        come_up(NOW, &mut far, 10, 10),
        "it starts anew where it was"
    );
    // What has ended makes room.
    far.links.leave(NOW);
    assert!(far.links.up.is_empty());
}

#[test]
fn configured_endpoints_have_places_whatever_others_fill() {
    let mut far = far();
    let to = far.path;
    let inits = |far: &mut End, last: u8| {
        let mut near = near();
        near.links.send(NOW, &to, &hello(NEAR));
        let (_, init) = near.take().remove(0);
        far.links.handle(NOW, &path(last), &init, 0)
    };
    // Four of one prefix are half-open, and that is all.
    let answered = (10..20).filter(|last| inits(&mut far, *last)).count();
    assert_eq!(answered, 4);
    far.links
        .set_configured([path(50).endpoint.remote].into_iter());
    for _ in 0..8 {
        assert!(inits(&mut far, 50));
    }
    assert!(!inits(&mut far, 51));
    assert_eq!(far.links.door.half_open(), 4);
    // Its handshakes end without taking part in the count.
    let mut now = NOW;
    for _ in 0..10 {
        now = now + Duration::from_secs(1);
        far.links.handle_timeout(now);
    }
    assert_eq!(far.links.door.half_open(), 0);
    assert!(far.links.peers.is_empty());
}
