//! The transport against the kernel: loopback here, networks of our own making in `network`.

mod namespace;
mod network;
mod sealed;
mod trains;

use std::net::UdpSocket as StdSocket;
use std::sync::Arc;
use std::time::Duration as Wait;

use super::linux::ReceiveScratch;
use super::*;
use crate::id::{Endpoint, LinkId, NetId};
use crate::keyed::KeyedHasher;
use crate::node::snapshot::{LinkEntry, LinkStats};
use crate::pump::count::{DropReason, Total};
use crate::pump::rx::{RxBatch, RxMessage};
use crate::pump::tx::TxBatch;
use crate::time::Instant;

const NOW: Instant = Instant(5_000_000);
const FIRST: SocketId = SocketId(0);

fn bind(listen: &[&str]) -> UdpSockets {
    let listen: Vec<_> = listen.iter().map(|text| text.parse().unwrap()).collect();
    UdpSockets::bind(&listen).unwrap()
}

fn address_of(sockets: &UdpSockets, socket: SocketId) -> SocketAddr {
    sockets.get(socket).unwrap().local()
}

/// One link per path, each to a neighbor of its own.
fn links(paths: &[Path]) -> NeighborSet {
    let entry = |(index, path): (usize, &Path)| LinkEntry {
        open: false,
        id: LinkId(10 + index as u32),
        netid: NetId(100 + index as u32),
        neighbor: index as u16,
        path: *path,
        stats: Arc::new(LinkStats::default()),
    };
    let entries = paths.iter().enumerate().map(entry).collect();
    NeighborSet::new(entries, [], KeyedHasher(1, 2))
}

fn path(socket: SocketId, remote: SocketAddr) -> Path {
    Path::to(Endpoint::new(socket, remote))
}

fn stats(neighbors: &NeighborSet, index: usize) -> &LinkStats {
    &neighbors.links()[index].stats
}

/// A node's means of sending and receiving, and its counters.
struct Node {
    sockets: UdpSockets,
    sender: Sender,
    receiver: Receiver,
    batch: RxBatch,
    counters: Counters,
}

impl Node {
    fn new(sockets: UdpSockets) -> Self {
        Self {
            sockets,
            sender: Sender::default(),
            receiver: Receiver::default(),
            batch: RxBatch::default(),
            counters: Counters::default(),
        }
    }

    /// Floods `datagrams` to all of `neighbors`.
    fn flush(&mut self, neighbors: &NeighborSet, datagrams: &[&[u8]]) {
        let mut tx = TxBatch::default();
        let mut arena = Vec::new();
        for datagram in datagrams {
            let span = Span {
                start: arena.len() as u32,
                len: datagram.len() as u32,
            };
            tx.push(span, None);
            arena.extend_from_slice(datagram);
        }
        self.flush_batch(neighbors, &arena, &tx);
    }

    fn flush_batch(&mut self, neighbors: &NeighborSet, arena: &[u8], tx: &TxBatch) {
        let to = Outbound {
            sockets: &self.sockets,
            neighbors,
            sessions: None,
            counters: &self.counters,
        };
        self.sender.flush(&to, NOW, arena, tx);
    }

    /// What waits on `socket` now, up to one batch: each datagram as a message of its own, and its
    /// bytes, whether it came alone or in a train.
    fn receive(&mut self, socket: SocketId) -> Vec<(RxMessage, Vec<u8>)> {
        self.batch.clear();
        let count = self
            .receiver
            .receive(&self.sockets, socket, &mut self.batch, &self.counters)
            .unwrap();
        assert_eq!(count, self.batch.messages().len());
        let arena = self.batch.arena();
        let mut datagrams = Vec::new();
        for message in self.batch.messages() {
            let Span { start, len } = message.span;
            for offset in (0..len.max(1)).step_by(message.stride as usize) {
                let span = Span {
                    start: start + offset,
                    len: (len - offset).min(message.stride),
                };
                let alone = RxMessage {
                    span,
                    stride: span.len.max(1),
                    ..*message
                };
                datagrams.push((alone, span.of(arena).to_vec()));
            }
        }
        datagrams
    }

    /// Receives until `count` messages have come, which loopback may take a moment to hand over;
    /// fewer when it takes too long, more when more come at once.
    fn expect(&mut self, socket: SocketId, count: usize) -> Vec<(RxMessage, Vec<u8>)> {
        let mut all = Vec::new();
        within(PATIENCE, || {
            all.extend(self.receive(socket));
            (all.len() >= count).then_some(())
        });
        all
    }

    /// Receives until nothing has come for a while; how many messages.
    fn settle(&mut self, socket: SocketId) -> usize {
        let mut all = 0;
        while let Some(some) = within(QUIET, || {
            Some(self.receive(socket).len()).filter(|&some| some > 0)
        }) {
            all += some;
        }
        all
    }
}

/// How long something may take that must happen.
const PATIENCE: Wait = Wait::from_secs(5);
/// How long nothing must happen before we believe that nothing will.
const QUIET: Wait = Wait::from_millis(100);

/// Tries until there is an answer, but not for longer than `patience`.
fn within<T>(patience: Wait, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let start = std::time::Instant::now();
    loop {
        let answer = attempt();
        if answer.is_some() || start.elapsed() > patience {
            return answer;
        }
        std::thread::sleep(Wait::from_micros(200));
    }
}

fn bytes_of(messages: &[(RxMessage, Vec<u8>)]) -> Vec<&[u8]> {
    messages.iter().map(|(_, bytes)| bytes.as_slice()).collect()
}

#[test]
fn port_zero_is_answered_with_the_real_port_on_each_socket() {
    let sockets = bind(&["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"]);
    let ports: Vec<_> = sockets
        .iter()
        .map(|(_, socket)| socket.local().port())
        .collect();
    assert!(ports.iter().all(|&port| port != 0), "{ports:?}");
    let ids: Vec<_> = sockets.iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [SocketId(0), SocketId(1), SocketId(2)]);
}

#[test]
fn a_remote_is_reached_by_the_sockets_of_its_family() {
    let sockets = bind(&["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"]);
    let toward = |remote: &str| sockets.toward(remote.parse().unwrap()).collect::<Vec<_>>();
    assert_eq!(toward("192.0.2.1:1"), [SocketId(0), SocketId(2)]);
    assert_eq!(toward("[2001:db8::1]:1"), [SocketId(1)]);
    assert_eq!(toward("[::ffff:192.0.2.1]:1"), [SocketId(0), SocketId(2)]);
}

#[test]
fn both_families_take_the_same_port_and_keep_apart() {
    let v4 = bind(&["0.0.0.0:0"]);
    let port = address_of(&v4, FIRST).port();
    let v6 = bind(&[&format!("[::]:{port}")]);
    assert_eq!(address_of(&v6, FIRST).port(), port);
}

#[test]
fn a_port_in_use_is_refused_with_advice() {
    let holder = bind(&["127.0.0.1:0"]);
    let taken = address_of(&holder, FIRST);
    let error = UdpSockets::bind(&[taken]).unwrap_err().to_string();
    assert!(error.contains(&taken.to_string()), "{error}");
    assert!(error.contains("--listen"), "{error}");
    drop(holder);
    assert!(UdpSockets::bind(&[taken]).is_ok(), "free again once closed");
}

#[test]
fn an_address_that_is_not_ours_and_too_many_are_refused() {
    let foreign = UdpSockets::bind(&["192.0.2.77:0".parse().unwrap()]);
    let error = foreign.unwrap_err().to_string();
    assert!(error.contains("no interface has this address"), "{error}");
    let many = vec!["127.0.0.1:0".parse().unwrap(); MAX_SOCKETS + 1];
    let error = UdpSockets::bind(&many).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot listen on 17 addresses: at most 16 (name fewer --listen addresses)"
    );
}

#[test]
fn buffers_are_as_large_as_the_machine_allows() {
    let sockets = bind(&["127.0.0.1:0"]);
    let (receive, send) = sockets.get(FIRST).unwrap().buffers().unwrap();
    let limit = |name: &str| -> usize {
        let path = format!("/proc/sys/net/core/{name}");
        std::fs::read_to_string(path)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    let is_root = nix::unistd::geteuid().is_root();
    for (is, limit) in [(receive, limit("rmem_max")), (send, limit("wmem_max"))] {
        let asked = if is_root {
            SOCKET_BUFFER
        } else {
            SOCKET_BUFFER.min(limit)
        };
        assert!(is >= 2 * asked.min(limit), "{is} of {asked}");
    }
}

#[test]
fn a_batch_goes_to_every_link_of_both_families_and_arrives_as_it_was() {
    let mut far = Node::new(bind(&["127.0.0.1:0", "[::1]:0"]));
    let mut near = Node::new(bind(&["127.0.0.1:0", "[::1]:0"]));
    let neighbors = links(&[
        path(FIRST, address_of(&far.sockets, FIRST)),
        path(SocketId(1), address_of(&far.sockets, SocketId(1))),
    ]);
    let large = vec![7; 9_000];
    near.flush(&neighbors, &[b"one", b"", &large]);
    for socket in [SocketId(0), SocketId(1)] {
        let got = far.expect(socket, 3);
        assert_eq!(bytes_of(&got), [b"one".as_slice(), b"", &large]);
        let from = Endpoint::new(socket, address_of(&near.sockets, socket));
        let to = address_of(&far.sockets, socket).ip();
        for (message, bytes) in &got {
            assert_eq!(message.path.endpoint, from);
            assert_eq!(message.path.local, Some(to));
            assert_eq!(message.interface, 1, "loopback");
            assert_eq!(message.stride as usize, bytes.len().max(1));
            assert!(!message.truncated);
        }
    }
    assert_eq!(near.counters.total(Total::Sent), 6);
    for index in 0..2 {
        let stats = stats(&neighbors, index);
        assert_eq!(stats.tx_datagrams.load(Relaxed), 3);
        assert_eq!(stats.tx_bytes.load(Relaxed), 9_003);
        assert_eq!(stats.last_sent.load(Relaxed), NOW.0);
        assert_eq!(stats.tx_errors.load(Relaxed), 0);
    }
}

#[test]
fn nothing_goes_back_to_the_neighbor_it_came_from() {
    let mut far = Node::new(bind(&["127.0.0.1:0", "127.0.0.1:0"]));
    let mut near = Node::new(bind(&["127.0.0.1:0"]));
    let neighbors = links(&[
        path(FIRST, address_of(&far.sockets, FIRST)),
        path(FIRST, address_of(&far.sockets, SocketId(1))),
    ]);
    let mut tx = TxBatch::default();
    tx.push(Span { start: 0, len: 1 }, Some(0));
    tx.push(Span { start: 1, len: 1 }, Some(1));
    tx.push(Span { start: 2, len: 1 }, None);
    near.flush_batch(&neighbors, b"abc", &tx);
    assert_eq!(bytes_of(&far.expect(SocketId(0), 2)), [b"b", b"c"]);
    assert_eq!(bytes_of(&far.expect(SocketId(1), 2)), [b"a", b"c"]);
    assert_eq!(near.counters.total(Total::Sent), 4);
}

#[test]
fn more_than_one_chunk_and_more_than_one_batch_arrive_in_order() {
    let mut far = Node::new(bind(&["127.0.0.1:0"]));
    let mut near = Node::new(bind(&["127.0.0.1:0"]));
    let neighbors = links(&[path(FIRST, address_of(&far.sockets, FIRST))]);
    let numbers: Vec<[u8; 1]> = (0..150).map(|n| [n]).collect();
    let datagrams: Vec<&[u8]> = numbers.iter().map(<[u8; 1]>::as_slice).collect();
    near.flush(&neighbors, &datagrams);
    let got: Vec<u8> = far
        .expect(FIRST, 150)
        .iter()
        .map(|(_, bytes)| bytes[0])
        .collect();
    assert_eq!(got, (0..150).collect::<Vec<u8>>());
}

#[test]
fn sockets_share_a_batch_and_a_full_one_takes_no_more() {
    let mut far = Node::new(bind(&["127.0.0.1:0", "127.0.0.1:0"]));
    let near = StdSocket::bind("127.0.0.1:0").unwrap();
    let send = |n: u8, socket| {
        near.send_to(&[n], address_of(&far.sockets, socket))
            .unwrap();
    };
    (0..10).for_each(|n| send(n, SocketId(0)));
    (10..20).for_each(|n| send(n, SocketId(1)));
    far.batch.clear();
    let mut take = |socket, count| {
        let Node {
            receiver,
            sockets,
            batch,
            counters,
            ..
        } = &mut far;
        let mut taken = 0;
        within(PATIENCE, || {
            taken += receiver.receive(sockets, socket, batch, counters).unwrap();
            (taken >= count).then_some(())
        });
        taken
    };
    assert_eq!(take(SocketId(0), 10), 10);
    assert_eq!(take(SocketId(1), 6), 6);
    assert_eq!(take(SocketId(1), 0), 0, "full");
    let first_bytes: Vec<_> = far
        .batch
        .messages()
        .iter()
        .map(|message| message.span.of(far.batch.arena())[0])
        .collect();
    assert_eq!(first_bytes, (0..16).collect::<Vec<u8>>());
    assert_eq!(far.expect(SocketId(1), 4).len(), 4, "nothing was lost");
}

#[test]
fn an_answer_leaves_from_the_address_spoken_to() {
    let mut node = Node::new(bind(&["0.0.0.0:0", "[::]:0"]));
    let cases = [
        (SocketId(0), "127.0.0.1:0", "127.0.0.2"),
        (SocketId(0), "127.0.0.3:0", "127.0.0.3"),
        (SocketId(1), "[::1]:0", "::1"),
    ];
    for (socket, peer, spoken_to) in cases {
        let peer = StdSocket::bind(peer).unwrap();
        let ip: IpAddr = spoken_to.parse().unwrap();
        let target = SocketAddr::new(ip, address_of(&node.sockets, socket).port());
        peer.send_to(b"hello", target).unwrap();
        let got = node.expect(socket, 1);
        let answer = got[0].0.path;
        assert_eq!(answer.local, Some(ip));

        let mut buffer = [0; 16];
        node.sockets.send_to(&answer, b"control", None).unwrap();
        assert_eq!(peer.recv_from(&mut buffer).unwrap(), (7, target));
        node.flush(&links(&[answer]), &[b"data"]);
        assert_eq!(peer.recv_from(&mut buffer).unwrap(), (4, target));
    }
}

#[test]
fn a_train_arrives_as_the_datagrams_that_it_was_made_of() {
    // Sent in trains or not, received in trains or not: nobody can tell.
    for (sends, receives) in [(true, true), (true, false), (false, true), (false, false)] {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let [mut far, mut near] = [receives, sends].map(|trains| {
                let mut sockets = bind(&[address]);
                if !trains {
                    sockets.forgo_trains();
                }
                Node::new(sockets)
            });
            let neighbors = links(&[path(FIRST, address_of(&far.sockets, FIRST))]);
            let lens = [1_200; 70].into_iter().chain([300, 300, 1_200, 5, 0, 0, 9]);
            let datagrams: Vec<Vec<u8>> = lens
                .enumerate()
                .map(|(number, len)| vec![number as u8; len])
                .collect();
            let slices: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
            near.flush(&neighbors, &slices);
            let received = far.expect(FIRST, slices.len());
            assert_eq!(bytes_of(&received), slices, "{sends} {receives} {address}");
            let stats = stats(&neighbors, 0);
            assert_eq!(stats.tx_datagrams.load(Relaxed), slices.len() as u64);
        }
    }
}

#[test]
fn a_closed_port_costs_the_other_neighbor_no_datagram() {
    let mut far = Node::new(bind(&["127.0.0.1:0"]));
    let mut near = Node::new(bind(&["127.0.0.1:0"]));
    let closed = StdSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let neighbors = links(&[
        path(FIRST, closed),
        path(FIRST, address_of(&far.sockets, FIRST)),
    ]);
    let mut received = 0;
    for batch in 0..625_u32 {
        let datagrams: Vec<_> = (0..16).map(|n| (batch * 16 + n).to_be_bytes()).collect();
        let datagrams: Vec<&[u8]> = datagrams.iter().map(<[u8; 4]>::as_slice).collect();
        near.flush(&neighbors, &datagrams);
        received += far.expect(FIRST, 16).len();
    }
    assert_eq!(received, 10_000);
    let alive = stats(&neighbors, 1);
    assert_eq!(alive.tx_datagrams.load(Relaxed), 10_000);
    assert_eq!(alive.tx_errors.load(Relaxed), 0);
    let dead = stats(&neighbors, 0);
    assert!(dead.tx_errors.load(Relaxed) > 0, "the closed port shows");
    assert!(near.counters.dropped(DropReason::TxUnreachable) > 0);
}

#[test]
fn a_pending_error_costs_neither_control_nor_receiving_anything() {
    let mut far = Node::new(bind(&["127.0.0.1:0"]));
    let mut near = Node::new(bind(&["127.0.0.1:0"]));
    let closed = StdSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let closed = path(FIRST, closed);
    let open = path(FIRST, address_of(&far.sockets, FIRST));
    let back = path(FIRST, address_of(&near.sockets, FIRST));
    for _ in 0..100 {
        near.sockets.send_to(&closed, b"lost", None).unwrap();
        assert_eq!(near.sockets.send_to(&open, b"kept", None), Ok(()));
        far.sockets.send_to(&back, b"kept too", None).unwrap();
        near.sockets.send_to(&closed, b"lost", None).unwrap();
        assert_eq!(near.expect(FIRST, 1).len(), 1);
    }
    assert_eq!(far.expect(FIRST, 100).len(), 100);
    assert_eq!(near.counters.dropped(DropReason::RxError), 0);
    assert!(near.counters.dropped(DropReason::TxUnreachable) > 0);
}

#[test]
fn draining_tells_which_link_failed_and_ends_the_polls_error() {
    let near = Node::new(bind(&["127.0.0.1:0"]));
    let closed = StdSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let closed = path(FIRST, closed);
    let neighbors = links(&[closed]);
    near.sockets.send_to(&closed, b"lost", None).unwrap();
    let has_error = |timeout: u16| {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let fd = near.sockets.get(FIRST).unwrap().as_fd();
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(timeout)).unwrap();
        fds[0].revents().unwrap().contains(PollFlags::POLLERR)
    };
    assert!(has_error(5_000));
    near.sockets.drain_errors(FIRST, &neighbors, &near.counters);
    assert!(!has_error(0));
    assert_eq!(stats(&neighbors, 0).tx_errors.load(Relaxed), 1);
    assert_eq!(near.counters.dropped(DropReason::TxUnreachable), 1);
}

#[test]
fn what_the_kernel_cut_is_marked_as_truncated() {
    let far = bind(&["127.0.0.1:0"]);
    let socket = far.get(FIRST).unwrap();
    let near = StdSocket::bind("127.0.0.1:0").unwrap();
    near.send_to(b"123456789", socket.local()).unwrap();
    near.send_to(b"12345678", socket.local()).unwrap();
    let mut buffer = [0_u8; 8];
    let mut scratch = ReceiveScratch::new();
    for truncated in [true, false] {
        let count = within(PATIENCE, || {
            scratch.receive(socket.as_fd(), &mut buffer, 8).ok()
        });
        assert_eq!(count, Some(1));
        assert_eq!(&buffer, b"12345678");
        assert_eq!(scratch.message(0).len, 8);
        assert_eq!(scratch.message(0).truncated, truncated);
    }
}

#[test]
fn the_largest_datagram_goes_through() {
    let mut far = Node::new(bind(&["127.0.0.1:0"]));
    let mut near = Node::new(bind(&["127.0.0.1:0"]));
    let to_far = path(FIRST, address_of(&far.sockets, FIRST));
    let neighbors = links(&[to_far]);
    let largest = vec![3; wire::MAX_DATAGRAM];
    near.flush(&neighbors, &[&largest]);
    near.sockets.send_to(&to_far, &largest, None).unwrap();
    let got = far.expect(FIRST, 2);
    assert_eq!(got.len(), 2);
    assert!(got.iter().all(|(_, bytes)| *bytes == largest));

    let too_large = vec![3; wire::MAX_DATAGRAM + 1];
    near.flush(&neighbors, &[&too_large, b"next"]);
    assert_eq!(near.counters.dropped(DropReason::TxTooBig), 1);
    assert_eq!(stats(&neighbors, 0).tx_errors.load(Relaxed), 1);
    let refused = near.sockets.send_to(&to_far, &too_large, None);
    assert_eq!(refused, Err(SendError::TooBig));
    assert_eq!(bytes_of(&far.expect(FIRST, 1)), [b"next"]);
}

#[test]
fn what_the_kernel_drops_before_we_read_is_counted_apart() {
    let mut far = Node::new(bind(&["127.0.0.1:0"]));
    let target = address_of(&far.sockets, FIRST);
    let socket = &far.sockets.get(FIRST).unwrap().socket;
    socket.set_recv_buffer_size(10_000).unwrap();
    let near = StdSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..200 {
        near.send_to(&[0; 1_000], target).unwrap();
    }
    let received = far.settle(FIRST);
    assert!(received < 200);
    assert_eq!(far.counters.total(Total::SocketDrops), 0, "not known yet");
    near.send_to(&[0; 1_000], target).unwrap();
    assert_eq!(far.expect(FIRST, 1).len(), 1);
    let drops = far.counters.total(Total::SocketDrops);
    assert_eq!(received as u64 + drops, 200);
    // The kernel repeats its total with every datagram from here on.
    near.send_to(&[0; 1_000], target).unwrap();
    far.expect(FIRST, 1);
    assert_eq!(far.counters.total(Total::SocketDrops), drops);
}

#[test]
fn a_socket_says_how_full_its_receive_buffer_is() {
    let node = Node::new(bind(&["127.0.0.1:0"]));
    let socket = node.sockets.get(FIRST).unwrap();
    socket.socket.set_recv_buffer_size(200_000).unwrap();
    assert_eq!(socket.filled(), 0.0);
    let peer = StdSocket::bind("127.0.0.1:0").unwrap();
    let fill = |datagrams: usize| {
        for _ in 0..datagrams {
            peer.send_to(&[7; 1_000], socket.local()).unwrap();
        }
    };
    fill(20);
    // Loopback may take a moment to hand over.
    let some = within(PATIENCE, || {
        Some(socket.filled()).filter(|filled| *filled > 0.0)
    });
    let some = some.expect("something waits");
    assert!(some < 1.0, "{some}");
    // Until nothing finds room any more.
    let more = within(PATIENCE, || {
        fill(100);
        Some(socket.filled()).filter(|filled| *filled > 0.8)
    });
    assert!(more.is_some(), "{}", socket.filled());
}

#[test]
fn the_kernels_count_of_drops_wraps_and_an_older_count_adds_nothing() {
    let sockets = bind(&["127.0.0.1:0"]);
    let socket = sockets.get(FIRST).unwrap();
    socket.kernel_drops.store(u32::MAX - 1, Relaxed);
    assert_eq!(socket.new_drops(3), 5);
    assert_eq!(socket.new_drops(u32::MAX), 0);
    assert_eq!(socket.new_drops(3), 0);
    assert_eq!(socket.new_drops(4), 1);
}

#[test]
fn a_link_of_a_socket_that_is_not_there_costs_the_others_nothing() {
    let mut far = Node::new(bind(&["127.0.0.1:0"]));
    let mut near = Node::new(bind(&["127.0.0.1:0"]));
    let target = address_of(&far.sockets, FIRST);
    let neighbors = links(&[path(SocketId(9), target), path(FIRST, target)]);
    near.flush(&neighbors, &[b"a", b"b"]);
    assert_eq!(far.expect(FIRST, 2).len(), 2);
    assert_eq!(near.counters.dropped(DropReason::TxError), 2);
    let nowhere = near.sockets.send_to(&path(SocketId(9), target), b"a", None);
    assert_eq!(nowhere, Err(SendError::Other));
    let mut batch = RxBatch::default();
    let absent = near
        .receiver
        .receive(&near.sockets, SocketId(9), &mut batch, &near.counters);
    assert_eq!(absent.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_batch_of_one_carries_all_one_by_one() {
    let mut far = Node::new(bind(&["127.0.0.1:0"]));
    let mut near = Node::new(bind(&["127.0.0.1:0"]));
    far.batch = RxBatch::with_buffers(1);
    near.sender = Sender::with_chunk(1);
    let neighbors = links(&[path(FIRST, address_of(&far.sockets, FIRST))]);
    let datagrams = [[1; 40], [2; 40], [3; 40]];
    near.flush(&neighbors, &datagrams.each_ref().map(|bytes| &bytes[..]));
    for expected in datagrams {
        let came = far.expect(FIRST, 1);
        assert_eq!(
            came.len(),
            1,
            "sent in a call of its own, received likewise"
        );
        assert_eq!(came[0].1, expected);
    }
}

#[test]
fn everything_can_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    fn movable<T: Send>() {}
    shared::<UdpSockets>();
    movable::<Sender>();
    movable::<Receiver>();
}
