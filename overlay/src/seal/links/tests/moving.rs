//! A far end that comes by another address, and who pretends that it does.

use super::*;
use crate::node::zone::{Bridge, OpenZone};
use crate::seal::policies::{PeerMode, Policies};
use crate::seal::prefer::Latches;

/// Where `end` sends what is for the other one's endpoint.
fn destination(end: &End, other: Path) -> Path {
    end.links.sessions().seals(&other.endpoint).unwrap().path
}

#[test]
fn a_far_end_with_a_new_address_is_followed_and_stays_the_same_link() {
    let (mut near, mut far) = pair();
    let (home, away) = (near.path, path(7));
    let to = far.path;
    // The near end now comes by another address, and knows nothing of it.
    near.path = away;
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut near, &mut far);
    assert_eq!(far.messages, [hello(NEAR)]);
    assert_eq!(destination(&far, home), away);
    let moved = Notice::Moved { to: away.endpoint };
    assert!(far.notices.contains(&moved), "{:?}", far.notices);
    // By its old name it is reached where it is, and stays so over a rekey from either side.
    for second in 1..400 {
        let now = NOW + Duration::from_secs(second);
        near.messages.clear();
        far.links.send(now, &home, &hello(FAR));
        for end in [&mut near, &mut far] {
            end.links.handle_timeout(now);
        }
        settle(now, &mut near, &mut far);
        assert_eq!(near.messages, [hello(FAR)], "after {second} s");
        assert_eq!(destination(&far, home), away);
    }
    assert!(far.is_told(|event| matches!(event, Event::Rekeyed(_))));
    assert_eq!(far.links.held().0, 1);
    // And nothing of it stays.
    far.links.leave(NOW);
    far.links.handle_timeout(NOW);
    let id = far.links.by_endpoint[&away.endpoint];
    far.links.forget_if_idle(id);
    assert!(far.links.by_endpoint.is_empty());
}

#[test]
fn who_passes_datagrams_on_from_elsewhere_moves_nothing_and_gets_three_challenges() {
    let (mut near, mut far) = pair();
    let (to, home, victim) = (far.path, near.path, path(66));
    let mut challenges = 0;
    for second in 0..20 {
        let now = NOW + Duration::from_secs(second);
        near.links.send(now, &to, &hello(NEAR));
        for (_, datagram) in near.take() {
            far.receive(now, victim, &datagram);
        }
        far.links.handle_timeout(now);
        // What goes to the address that others say it is at is lost.
        challenges += far.take().iter().filter(|(to, _)| *to == victim).count();
        assert_eq!(destination(&far, home), home);
        if second == 2 {
            assert_eq!(challenges, 3);
        }
    }
    // A new attempt begins only when one is over.
    assert!(challenges <= 18, "{challenges}");
}

#[test]
fn an_old_datagram_and_an_address_that_is_another_links_move_nothing() {
    let (mut near, mut far) = pair();
    let (to, home) = (far.path, near.path);
    near.links.send(NOW, &to, &hello(NEAR));
    let (_, old) = near.take().remove(0);
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut near, &mut far);
    far.receive(NOW, path(7), &old);
    assert!(far.take().is_empty(), "an old one");
    // A third node is at home there.
    let mut third = end(1, 30, NetId(0x30), 7);
    third.links.send(NOW, &to, &hello(NetId(0x30)));
    settle(NOW, &mut third, &mut far);
    near.links.send(NOW, &to, &hello(NEAR));
    let (_, fresh) = near.take().remove(0);
    far.receive(NOW, path(7), &fresh);
    assert!(far.take().is_empty());
    assert_eq!(destination(&far, home), home);
}

#[test]
fn a_size_probe_is_answered_by_the_length_of_its_datagram() {
    let (near, mut far) = pair();
    let to = far.path;
    let session = near.links.sessions().seals(&to.endpoint).unwrap();
    let session = session.session.clone();
    let frame = Frame::Control(Control::SizeProbe(&[0; 1_000]));
    let mut probe = vec![0; LINK_HEADER_LEN + frame.len() + TAG_LEN];
    frame.emit(&mut probe[LINK_HEADER_LEN..]).unwrap();
    session.seal(&mut probe).unwrap();
    far.receive(NOW, near.path, &probe);
    let (_, mut answer) = far.take().remove(0);
    let opened = session.open(&mut answer).unwrap();
    let frames: Vec<_> = Frames::new(opened.plaintext).collect();
    let seen = Control::SizeSeen(probe.len() as u16);
    assert_eq!(frames, [Ok(Frame::Control(seen))]);
}

#[test]
fn what_a_neighbor_carries_over_a_session_from_elsewhere_counts_for_its_link() {
    let (near, mut far) = pair();
    let link = |path| LinkEntry {
        open: false,
        id: LinkId(1),
        netid: NEAR,
        neighbor: 0,
        path,
        stats: Arc::default(),
    };
    // The same node has another address, and its next handshake is the first that comes from there.
    let mut moved = super::near();
    moved.path = path(7);
    let (to, home) = (far.path, near.path);
    moved.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut moved, &mut far);
    far.messages.clear();
    let carried = message(MessageKind::Data, Flags::NONE, NetId(77));
    moved.links.send(NOW, &to, &carried);
    settle(NOW, &mut moved, &mut far);
    assert!(far.messages.is_empty(), "it has no link at all");
    far.neighbors = NeighborSet::new(vec![link(home)], [], KeyedHasher(1, 2));
    far.came_by.clear();
    for said in [&carried, &hello(NEAR)] {
        moved.links.send(NOW, &to, said);
        settle(NOW, &mut moved, &mut far);
    }
    assert_eq!(far.messages, [carried, hello(NEAR)]);
    // What begins a link is about the place that it came from.
    assert_eq!(far.came_by, [home.endpoint, path(7).endpoint]);
}

#[test]
fn who_came_up_where_another_nodes_link_still_is_introduces_itself_first() {
    let (mut near, mut far) = pair();
    let to = far.path;
    let link = LinkEntry {
        open: false,
        id: LinkId(1),
        netid: NetId(55),
        neighbor: 0,
        path: near.path,
        stats: Arc::default(),
    };
    far.neighbors = NeighborSet::new(vec![link], [], KeyedHasher(1, 2));
    let own = message(MessageKind::Data, Flags::NO_FORWARD, NEAR);
    let anothers = message(MessageKind::Data, Flags::NO_FORWARD, NetId(55));
    for said in [&own, &anothers, &hello(NEAR)] {
        near.links.send(NOW, &to, said);
    }
    settle(NOW, &mut near, &mut far);
    assert_eq!(far.messages, [hello(NEAR)]);
    assert_eq!(far.counters.dropped(DropReason::Stranger), 2);
}

#[test]
fn of_many_controls_in_one_datagram_two_are_heard() {
    let (near, mut far) = pair();
    let session = near.links.sessions().seals(&far.path.endpoint).unwrap();
    let session = session.session.clone();
    let probe = Frame::Control(Control::SizeProbe(&[]));
    let mut datagram = vec![0; LINK_HEADER_LEN + 200 * probe.len() + TAG_LEN];
    for number in 0..200 {
        let at = LINK_HEADER_LEN + number * probe.len();
        probe.emit(&mut datagram[at..]).unwrap();
    }
    session.seal(&mut datagram).unwrap();
    far.receive(NOW, near.path, &datagram);
    assert_eq!(far.take().len(), 2);
}

#[test]
fn an_init_is_answered_where_it_came_from_whatever_link_has_moved() {
    let (mut near, mut far) = pair();
    let (home, away, to) = (near.path, path(7), far.path);
    near.path = away;
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut near, &mut far);
    assert_eq!(destination(&far, home), away);
    far.take();
    // The same node starts anew, first at its old address, then at the new one.
    for at in [home, away] {
        let mut again = super::near();
        again.links.send(NOW, &to, &hello(NEAR));
        let (_, init) = again.take().remove(0);
        far.receive(NOW, at, &init);
        let answers: Vec<Path> = far.take().into_iter().map(|(to, _)| to).collect();
        assert_eq!(answers, [at]);
    }
}

#[test]
fn who_starts_anew_at_the_address_that_its_link_has_left_comes_up_there_and_is_followed() {
    let (mut near, mut far) = pair();
    let (home, away, to) = (near.path, path(7), far.path);
    near.path = away;
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut near, &mut far);
    assert_eq!(destination(&far, home), away);
    far.take();
    far.messages.clear();
    // It starts anew where it was at first, and hears only what goes there.
    let later = NOW + Duration::from_secs(10);
    let mut again = super::near();
    let exchange = |again: &mut End, far: &mut End, loses_first_answer_to_fin: bool| {
        let mut loses = loses_first_answer_to_fin;
        for _ in 0..20 {
            for (_, datagram) in again.take() {
                far.receive(later, home, &datagram);
            }
            for (at, datagram) in far.take() {
                let is_link = SealedKind::of(&datagram) == Ok(SealedKind::Link);
                if is_link && std::mem::take(&mut loses) {
                    continue;
                }
                if at == home {
                    again.receive(later, to, &datagram);
                }
            }
        }
    };
    // The answer to its FIN is lost, so that the repetition's counts as well.
    again.links.send(later, &to, &hello(NEAR));
    exchange(&mut again, &mut far, true);
    assert!(!again.is_told(|event| matches!(event, Event::Up(_))));
    let repeated = again.links.next_timeout().unwrap();
    again.links.handle_timeout(repeated);
    exchange(&mut again, &mut far, false);
    assert!(again.is_told(|event| matches!(event, Event::Up(_))));
    // The link is there again, and carries data both ways.
    assert_eq!(destination(&far, home), home);
    again.links.send(later, &to, &hello(NEAR));
    far.links.send(later, &home, &hello(FAR));
    exchange(&mut again, &mut far, false);
    assert_eq!(far.messages, [hello(NEAR), hello(NEAR)]);
    assert_eq!(again.messages, [hello(FAR)]);
    assert_eq!(far.links.held().0, 1);
}

/// S85: where a latched node went to, nobody is spoken to in plain either.
#[test]
fn a_far_end_that_moved_is_latched_where_it_is() {
    let (mut near, mut far) = (near(), preferring(far(), &[]));
    let to = far.path;
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut near, &mut far);
    let away = path(7);
    assert!(may_open(&far, away) && !may_open(&far, near.path));
    near.path = away;
    near.links.send(NOW, &to, &hello(NEAR));
    settle(NOW, &mut near, &mut far);
    assert!(!may_open(&far, away));
}

/// S85: a plain link of a node that has a pin, and was never latched, is of no zone; that is told once,
/// for whoever carries it out sorts again.
#[test]
fn sorting_the_links_of_a_node_without_a_latch_comes_to_an_end() {
    let mut near = preferring(near(), &[FAR]);
    near.links.drain().for_each(drop);
    let link = LinkEntry {
        open: false,
        id: LinkId(0),
        netid: FAR,
        neighbor: 0,
        path: path(2),
        stats: Arc::default(),
    };
    let set = NeighborSet::new(vec![link], [], KeyedHasher(1, 2));
    let set = near.links.sort(NOW, set);
    assert!(!set.has_open());
    assert_eq!(near.links.drain().count(), 0);
}

/// S83, S104: who keeps a sealed peer's name from being resolved gets no plain by it, and nobody three INITs
/// for a forged Hello.
#[test]
fn while_nobody_knows_where_a_sealed_peer_is_a_stranger_is_answered_by_nothing() {
    let mut near = preferring(near(), &[]);
    let unknown = |plain: &[SocketAddr]| {
        let peers = [(PeerMode::Sealed, &[][..]), (PeerMode::Plain, plain)];
        Policies::new(peers.into_iter())
    };
    let hello = hello(NEAR);
    let answered = |links: &mut Links, last: u8| {
        links.reply(NOW, &path(last), &hello);
        let sends = links.drain().filter(|wish| matches!(wish, Wish::Send(..)));
        sends.count()
    };
    assert_eq!(answered(&mut near.links, 7), 1);
    let plain = path(8).endpoint.remote;
    near.links.set_policies(unknown(&[plain]));
    assert_eq!([7, 8].map(|last| answered(&mut near.links, last)), [0, 1]);
    // Whom the node dials itself gets its INIT.
    near.links.send(NOW, &path(7), &hello);
    assert_eq!(near.links.drain().count(), 1);
}

/// S104: a reload that gives a name without an address the mode sealed ends what is plain already, unless the
/// owner says who is there; and a full table of latches ends nothing.
#[test]
fn a_sealed_peer_that_nobody_finds_ends_the_plain_links_that_there_are() {
    let mut near = preferring(near(), &[]);
    let link = |last: u8, neighbor: u16| LinkEntry {
        open: false,
        id: LinkId(last.into()),
        netid: NetId(last.into()),
        neighbor,
        path: path(last),
        stats: Arc::default(),
    };
    let open = |near: &mut End| {
        let set = NeighborSet::new(vec![link(7, 0), link(8, 1)], [], KeyedHasher(1, 2));
        let sorted = near.links.sort(NOW, set);
        let links = sorted.links().iter();
        links.map(|link| link.open).collect::<Vec<_>>()
    };
    assert_eq!(open(&mut near), [true, true]);
    let named = [path(8).endpoint.remote];
    let peers = [(PeerMode::Prefer, &named[..]), (PeerMode::Sealed, &[])];
    near.links.set_policies(Policies::new(peers.into_iter()));
    assert!(!near.links.is_open(&path(7).endpoint) && near.links.is_open(&path(8).endpoint));
    assert!(near.links.drain().any(|wish| matches!(wish, Wish::Publish)));
    assert_eq!(open(&mut near), [false, true]);
}

fn preferring(mut end: End, pinned: &[NetId]) -> End {
    let zone = OpenZone::new(Bridge::Off, KeyedHasher(1, 2));
    let prefer = Prefer::new(Latches::new(), pinned.iter().copied(), zone);
    end.links = end.links.preferring(prefer);
    end
}

fn may_open(end: &End, path: Path) -> bool {
    end.links.prefer().unwrap().may_open(&path.endpoint.remote)
}
