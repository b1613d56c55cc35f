//! What a flush seals, for whom, and what it notes.

use super::*;
use crate::pump::rx::Span;
use crate::seal::aead::Aead;
use crate::seal::keys::Key;
use crate::seal::session::{LINK_OVERHEAD, OpenError, Session, Terms};
use crate::seal::sessions::{Seals, SessionSet};

fn session(local: u32, remote: u32, is_initiator: bool) -> Arc<Session> {
    let terms = Terms {
        local,
        remote,
        is_initiator,
        aead: Aead::Aes256Gcm,
        info: b"link-aead v1",
    };
    let keys = (Key::new([1; 32]), Key::new([2; 32]));
    Arc::new(Session::new(NOW, terms, &keys.0, &keys.1))
}

/// A node with a session for its only neighbor, and that neighbor's end of it.
struct Pair {
    near: Node,
    far: Node,
    neighbors: NeighborSet,
    session: Arc<Session>,
    sessions: SessionSet,
}

impl Pair {
    fn new() -> Self {
        let mut near = Node::new(bind(&["127.0.0.1:0"]));
        near.sender = Sender::default().sealing();
        let far = Node::new(bind(&["127.0.0.1:0"]));
        let path = path(FIRST, address_of(&far.sockets, FIRST));
        let session = session(1, 2, true);
        let mut sessions = SessionSet::new(KeyedHasher(1, 2));
        let seals = Seals {
            session: session.clone(),
            path,
            netid: NetId(100),
        };
        sessions.seal(path.endpoint, Some(seals));
        Self {
            near,
            far,
            neighbors: links(&[path]),
            session,
            sessions,
        }
    }

    /// Floods messages of these lengths, which came from `except`.
    fn flush(&mut self, lengths: &[usize], except: Option<u16>) {
        let (mut tx, mut start) = (TxBatch::default(), 0);
        for len in lengths {
            let len = *len as u32;
            tx.push(Span { start, len }, except);
            start += len;
        }
        let to = Outbound {
            sockets: &self.near.sockets,
            neighbors: &self.neighbors,
            sessions: Some(&self.sessions),
            counters: &self.near.counters,
        };
        let arena = vec![0xAC; start as usize];
        self.near.sender.flush(&to, NOW, &arena, &tx);
    }
}

#[test]
fn each_message_is_sealed_and_opens_at_the_far_end() {
    let mut pair = Pair::new();
    let lengths = [1_400, 1_400, 1_400, 60];
    pair.flush(&lengths, None);
    let far = session(2, 1, false);
    let received = pair.far.receive(FIRST);
    assert_eq!(received.len(), lengths.len());
    for (len, (_, mut datagram)) in lengths.into_iter().zip(received) {
        assert_eq!((datagram[0], datagram.len()), (0xAE, len + LINK_OVERHEAD));
        let opened = far.open(&mut datagram).unwrap();
        assert_eq!(opened.plaintext[2..], vec![0xAC; len]);
    }
    assert_eq!(pair.near.counters.total(Total::Sent), 4);
    assert_eq!(pair.session.message_sent_at(), Some(NOW));
}

#[test]
fn what_goes_alone_says_so_and_is_heard_so() {
    let mut pair = Pair::new();
    let mut tx = TxBatch::default();
    tx.push_alone(Span { start: 0, len: 100 });
    tx.push(Span { start: 0, len: 100 }, None);
    let to = Outbound {
        sockets: &pair.near.sockets,
        neighbors: &pair.neighbors,
        sessions: Some(&pair.sessions),
        counters: &pair.near.counters,
    };
    pair.near.sender.flush(&to, NOW, &[0xAC; 100], &tx);
    let far = session(2, 1, false);
    let received = pair.far.receive(FIRST);
    let flags: Vec<_> = received.iter().map(|(_, datagram)| datagram[2]).collect();
    assert_eq!(flags, [1, 0]);
    for (_, mut datagram) in received {
        // The flag is sealed in: changed, nothing opens.
        let mut changed = datagram.clone();
        changed[2] ^= 1;
        assert_eq!(far.open(&mut changed), Err(OpenError::Forged));
        assert!(far.open(&mut datagram).is_ok());
    }
}

/// A keepalive is owed by who sends nothing; messages that go to others are no reason to be silent.
#[test]
fn what_is_not_for_a_link_counts_as_nothing_sent_on_it() {
    let mut pair = Pair::new();
    pair.flush(&[100, 100], Some(0));
    assert_eq!(pair.session.sealed_count(), 0);
    assert_eq!(pair.session.sent_at(), None);
    assert!(pair.far.receive(FIRST).is_empty());
}

#[test]
fn without_a_session_nothing_leaves_and_each_copy_is_counted() {
    let mut pair = Pair::new();
    pair.sessions = SessionSet::new(KeyedHasher(1, 2));
    pair.flush(&[100, 100], None);
    assert!(pair.far.receive(FIRST).is_empty());
    assert_eq!(pair.near.counters.dropped(DropReason::NoSession), 2);
}

#[test]
fn what_is_for_a_link_is_not_sealed_for_another_node_that_came_up_in_its_place() {
    let mut pair = Pair::new();
    let path = path(FIRST, address_of(&pair.far.sockets, FIRST));
    let seals = Seals {
        session: pair.session.clone(),
        path,
        netid: NetId(66),
    };
    pair.sessions.seal(path.endpoint, Some(seals));
    pair.flush(&[100], None);
    assert!(pair.far.receive(FIRST).is_empty());
    assert_eq!(pair.near.counters.dropped(DropReason::NoSession), 1);
}
