//! A mesh of three that changes its secret under streams, in virtual time.

use super::*;
use crate::seal::keys::{MeshKeys, MeshSecret};

const THIRD: NetId = NetId(0x33);
/// Between two messages of a stream.
const STEP: Duration = Duration::from_millis(100);

/// Secret number `epoch` of the mesh that [`near`] and [`far`] are of.
fn keys(epoch: u32) -> MeshKeys {
    let first = MeshSecret::new([1; 32]);
    (0..epoch)
        .fold(first, |secret, number| {
            secret.following([0x40 + number as u8; 32])
        })
        .derive()
}

/// Three nodes, a link between any two.
struct Trio {
    now: Instant,
    ends: [End; 3],
    /// Messages given to sessions, by sender and receiver, and those that waited for none.
    sent: u64,
    unsealed: u64,
    is_streaming: bool,
}

impl Trio {
    fn up() -> Self {
        let ends = [near(), far(), end(1, 30, THIRD, 3)];
        let mut trio = Self {
            now: NOW,
            ends,
            sent: 0,
            unsealed: 0,
            is_streaming: false,
        };
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            let path = trio.ends[to].path;
            let netid = trio.ends[from].links.local().netid;
            trio.ends[from].links.send(NOW, &path, &hello(netid));
        }
        trio.settle();
        for end in &mut trio.ends {
            assert_eq!(end.links.sessions().len(), 2);
            end.messages.clear();
        }
        trio.is_streaming = true;
        trio
    }

    fn settle(&mut self) {
        for _ in 0..40 {
            let mut wire = Vec::new();
            for end in &mut self.ends {
                let from = end.path;
                wire.extend(end.take().into_iter().map(|(to, bytes)| (from, to, bytes)));
            }
            if wire.is_empty() {
                return;
            }
            for (from, to, datagram) in wire {
                let mut ends = self.ends.iter_mut();
                let there = ends.find(|end| end.path == to).unwrap();
                there.receive(self.now, from, &datagram);
            }
        }
        panic!("they never stop");
    }

    fn run(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while self.now < until {
            self.now = self.now + STEP;
            for from in 0..3 {
                self.ends[from].links.handle_timeout(self.now);
                for to in (0..3).filter(|&to| to != from && self.is_streaming) {
                    let (there, here) = (self.ends[to].path, self.ends[from].path);
                    let end = &self.ends[from];
                    let message = hello(end.links.local().netid);
                    self.sent += 1;
                    match end.links.seal(self.now, &there, &message) {
                        Some((_, datagram)) => self.ends[to].receive(self.now, here, &datagram),
                        None => self.unsealed += 1,
                    }
                }
            }
            self.settle();
        }
    }

    /// The owner of a node gives it these secrets.
    fn give(&mut self, node: usize, current: u32, next: Option<u32>) {
        let next = next.map(keys);
        let links = &mut self.ends[node].links;
        links.set_secrets(self.now, keys(current), next);
        self.settle();
    }

    fn rotation(&self, node: usize) -> Option<(usize, usize)> {
        let rotation = self.ends[node].links.rotation()?;
        Some((rotation.using, rotation.neighbors))
    }

    fn arrived(&self) -> u64 {
        self.ends.iter().map(|end| end.messages.len() as u64).sum()
    }

    /// Epochs of all sessions that still open anything.
    fn epochs(&self) -> Vec<u32> {
        let peers = self.ends.iter().flat_map(|end| end.links.peers.values());
        let sessions = peers.filter_map(|entry| entry.peer.current());
        sessions.map(|session| session.epoch()).collect()
    }
}

#[test]
fn a_mesh_of_three_changes_its_secret_and_no_message_of_six_streams_is_lost() {
    let mut trio = Trio::up();
    trio.run(150);
    // 1. The owner goes from node to node; who comes later finds the others.
    trio.give(0, 0, Some(1));
    assert_eq!(trio.rotation(0), Some((0, 2)), "nobody else has it");
    trio.run(30);
    assert_eq!(trio.rotation(0), Some((0, 2)));
    assert!(!trio.ends[0].links.local().prefers_next);
    trio.give(1, 0, Some(1));
    trio.run(1);
    assert_eq!([0, 1].map(|node| trio.rotation(node)), [Some((1, 2)); 2]);
    assert!(!trio.ends[0].links.local().prefers_next, "half is not more");
    trio.run(200);
    trio.give(2, 0, Some(1));
    trio.run(1);
    for node in 0..3 {
        assert_eq!(trio.rotation(node), Some((2, 2)), "{node}");
        assert!(trio.ends[node].links.local().prefers_next);
    }
    // 2. And again, to end it.
    for node in [1, 0, 2] {
        trio.give(node, 1, None);
        assert_eq!(trio.rotation(node), None);
        trio.run(70);
    }
    // 3. Nothing of the former secret is left.
    trio.run(200);
    assert!(trio.epochs().iter().all(|epoch| *epoch == 1));
    assert_eq!((trio.epochs().len(), trio.unsealed), (6, 0));
    assert_eq!(trio.arrived(), trio.sent);
}

/// S108: two owners begin a change at once. No handshake under either's next secret is heard by the other,
/// so what is under the current one tells.
#[test]
fn two_next_secrets_of_one_number_are_told_apart_within_two_minutes() {
    let mut trio = Trio::up();
    let other = MeshSecret::new([1; 32]).following([0x99; 32]).derive();
    let (one, rival) = (keys(1).fingerprint(), other.fingerprint());
    assert!(one.is_rival(&rival) && !one.is_rival(&one));
    assert!(
        !keys(2).fingerprint().is_rival(&rival),
        "one that follows is none"
    );
    trio.give(0, 0, Some(1));
    let now = trio.now;
    trio.ends[1].links.set_secrets(now, keys(0), Some(other));
    trio.settle();
    trio.run(120);
    let told = |of: usize, by: usize| {
        let netid = trio.ends[by].links.local().netid;
        let peers = trio.ends[of].links.peers.values();
        let mut remotes = peers.filter_map(|entry| entry.peer.remote());
        remotes.find(|remote| remote.netid == netid)?.next_secret
    };
    assert_eq!((told(0, 1), told(1, 0)), (Some(rival), Some(one)));
    // The third has adopted none, and tells of none.
    assert_eq!((told(0, 2), told(2, 0)), (None, Some(one)));
    assert_eq!(trio.unsealed, 0);
}

#[test]
fn who_was_not_told_of_the_next_secret_is_out_three_minutes_after_its_end_at_the_latest() {
    let mut trio = Trio::up();
    for node in [0, 1] {
        trio.give(node, 0, Some(1));
    }
    trio.run(200);
    assert_eq!(trio.rotation(0), Some((1, 2)));
    // Until then it is a neighbor as ever.
    assert_eq!((trio.unsealed, trio.arrived()), (0, trio.sent));
    for node in [0, 1] {
        trio.give(node, 1, None);
    }
    trio.run(181);
    let third = trio.ends[2].path.endpoint;
    for end in &trio.ends[..2] {
        assert!(end.links.sessions().seals(&third).is_none());
        assert_eq!(end.links.sessions().len(), 1);
    }
}

#[test]
fn a_link_that_begins_anew_finds_who_has_only_the_other_secret() {
    // The far node has ended the change; the near one has both secrets and no neighbor.
    for (mine, theirs) in [((0, Some(1)), (1, None)), ((0, Some(1)), (0, None))] {
        let (mut near, mut far) = (near(), far());
        near.links.set_secrets(NOW, keys(mine.0), mine.1.map(keys));
        far.links
            .set_secrets(NOW, keys(theirs.0), theirs.1.map(keys));
        let to = far.path;
        near.links.send(NOW, &to, &hello(NEAR));
        settle(NOW, &mut near, &mut far);
        let later = NOW + Duration::from_millis(1_300);
        near.links.handle_timeout(later);
        settle(later, &mut near, &mut far);
        assert!(near.is_up(&far) && far.is_up(&near), "{theirs:?}");
        assert_eq!(far.messages, [hello(NEAR)]);
    }
}

#[test]
fn under_load_the_cookie_of_either_secret_is_read() {
    let (mut near, mut far) = (near(), far());
    near.links.set_secrets(NOW, keys(1), None);
    far.links.set_secrets(NOW, keys(0), Some(keys(1)));
    let to = far.path;
    near.links.send(NOW, &to, &hello(NEAR));
    // As many wait that it answers with a cookie alone.
    for (_, init) in near.take() {
        far.links.handle(NOW, &near.path, &init, 1_000);
    }
    let cookies = far.take();
    assert_eq!(cookies.len(), 1);
    for (_, cookie) in cookies {
        near.receive(NOW, far.path, &cookie);
    }
    let later = NOW + Duration::from_millis(1_300);
    near.links.handle_timeout(later);
    for (_, init) in near.take() {
        assert!(far.links.handle(later, &near.path, &init, 1_000));
    }
    settle(later, &mut near, &mut far);
    assert!(near.is_up(&far));
}

#[test]
fn a_next_secret_that_is_taken_back_leaves_all_as_it_was() {
    let mut trio = Trio::up();
    trio.give(0, 0, Some(1));
    trio.give(1, 0, Some(1));
    trio.run(10);
    trio.give(0, 0, None);
    trio.give(1, 0, None);
    trio.run(300);
    assert!(trio.epochs().iter().all(|epoch| *epoch == 0));
    assert_eq!((trio.unsealed, trio.arrived()), (0, trio.sent));
}

#[test]
fn a_node_that_starts_in_the_middle_of_a_change_goes_on_with_it() {
    let (mut near, mut far) = (near(), far());
    far.links.set_secrets(NOW, keys(0), Some(keys(1)));
    let mut local = node(1, 10, NEAR, true);
    local.next = Some(keys(1).into());
    let random = ChaCha12Rng::from_seed([10; 32]);
    near.links = Links::new(NOW, local, Timers::default(), KeyedHasher(1, 2), random);
    let to = far.path;
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut near, &mut far);
    assert!(near.is_up(&far));
    near.links.handle_timeout(NOW);
    settle(NOW, &mut near, &mut far);
    for end in [&near, &far] {
        let rotation = end.links.rotation().unwrap();
        assert_eq!((rotation.using, rotation.neighbors), (1, 1));
    }
}
