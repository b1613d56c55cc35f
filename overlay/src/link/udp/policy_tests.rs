//! The policy against a kernel that follows a script.

use std::collections::VecDeque;

use super::*;

/// What the scripted kernel answers to one send.
#[derive(Clone, Copy)]
enum Answer {
    /// Takes so many, at most all.
    Take(usize),
    /// Fails, with nothing in the error queue.
    Fail(Errno),
    /// Fails, and the error queue holds a report.
    Echo(Errno),
}

/// Datagrams of given lengths, and a kernel that takes all once its script is over.
struct Scripted {
    lengths: Vec<usize>,
    source: Option<IpAddr>,
    script: VecDeque<Answer>,
    reports: bool,
    calls: Vec<(Range<usize>, Manner)>,
}

impl Scripted {
    fn new(lengths: &[usize], script: &[Answer]) -> Self {
        Self {
            lengths: lengths.to_vec(),
            source: None,
            script: script.iter().copied().collect(),
            reports: false,
            calls: Vec::new(),
        }
    }

    fn run(&mut self, memory: &mut LinkMemory, now: Instant) -> Tally {
        let mut tally = Tally::default();
        deliver(self, memory, now, &mut tally);
        tally
    }
}

impl Outlet for Scripted {
    fn count(&self) -> usize {
        self.lengths.len()
    }
    fn bytes(&self, index: usize) -> usize {
        self.lengths[index]
    }
    fn source(&self) -> Option<IpAddr> {
        self.source
    }
    fn send(&mut self, range: Range<usize>, manner: Manner) -> Result<usize, Errno> {
        self.calls.push((range.clone(), manner));
        match self.script.pop_front() {
            None => Ok(range.len()),
            Some(Answer::Take(n)) => Ok(n.min(range.len())),
            Some(Answer::Fail(errno)) => Err(errno),
            Some(Answer::Echo(errno)) => {
                self.reports = true;
                Err(errno)
            }
        }
    }
    fn drain(&mut self) -> bool {
        std::mem::take(&mut self.reports)
    }
}

const NOW: Instant = Instant(1_000);
const PLAIN: Manner = Manner {
    fragment: false,
    pinned: false,
    trains: true,
};

fn memory() -> LinkMemory {
    LinkMemory::new(LinkId(1))
}

fn sent(sent: u64, bytes: usize) -> Tally {
    Tally {
        sent,
        bytes,
        ..Tally::default()
    }
}

#[test]
fn a_run_that_the_kernel_takes_in_parts_is_sent_whole_and_in_order() {
    let mut kernel = Scripted::new(&[10, 20, 30, 40], &[Answer::Take(1), Answer::Take(2)]);
    assert_eq!(kernel.run(&mut memory(), NOW), sent(4, 100));
    assert_eq!(kernel.calls, [(0..4, PLAIN), (1..4, PLAIN), (3..4, PLAIN)]);
}

#[test]
fn a_refused_train_goes_one_by_one_and_no_train_follows_for_ten_minutes() {
    let mut memory = memory();
    let mut kernel = Scripted::new(&[10, 10], &[Answer::Fail(Errno::EIO)]);
    assert_eq!(kernel.run(&mut memory, NOW), sent(2, 20));
    let single = Manner {
        trains: false,
        ..PLAIN
    };
    assert_eq!(kernel.calls, [(0..2, PLAIN), (0..2, single)]);
    for (at, manner) in [
        (NOW + TRAIN_MEMORY - Duration::from_micros(1), single),
        (NOW + TRAIN_MEMORY, PLAIN),
    ] {
        let mut kernel = Scripted::new(&[10], &[]);
        kernel.run(&mut memory, at);
        assert_eq!(kernel.calls, [(0..1, manner)]);
    }
}

#[test]
fn four_errors_of_another_neighbor_cost_nothing() {
    let script = [Answer::Echo(Errno::ECONNREFUSED); 4];
    let mut kernel = Scripted::new(&[10, 10], &script);
    assert_eq!(kernel.run(&mut memory(), NOW), sent(2, 20));
    assert_eq!(kernel.calls.len(), 5);
}

#[test]
fn each_datagram_has_its_own_four_resends() {
    let error = Answer::Echo(Errno::EHOSTUNREACH);
    let one = Answer::Take(1);
    let script = [error, error, error, one, error, error, error, error, one];
    let mut kernel = Scripted::new(&[10, 10], &script);
    assert_eq!(kernel.run(&mut memory(), NOW), sent(2, 20));
}

#[test]
fn a_fifth_error_drops_one_datagram_and_the_rest_goes_on() {
    let script = [Answer::Echo(Errno::ECONNREFUSED); 5];
    let mut kernel = Scripted::new(&[10, 20], &script);
    let expected = Tally {
        unreachable: 1,
        ..sent(1, 20)
    };
    assert_eq!(kernel.run(&mut memory(), NOW), expected);
}

#[test]
fn a_missing_route_is_found_out_once_and_not_for_every_datagram() {
    let mut link = memory();
    let script = [Answer::Fail(Errno::ENETUNREACH); 5];
    let mut kernel = Scripted::new(&[10; 16], &script);
    let expected = Tally {
        unreachable: 16,
        ..Tally::default()
    };
    assert_eq!(kernel.run(&mut link, NOW), expected);
    assert_eq!(kernel.calls.len(), 5);
    let until = NOW + PAUSE;
    let before = Instant(until.0 - 1);
    assert_eq!(link.paused(before), Some(SendError::Unreachable));
    assert_eq!(link.paused(until), None);
}

#[test]
fn a_full_interface_queue_pauses_the_link_for_two_milliseconds() {
    let mut link = memory();
    let mut kernel = Scripted::new(&[10; 8], &[Answer::Take(3), Answer::Fail(Errno::ENOBUFS)]);
    let expected = Tally {
        no_buffer: 5,
        ..sent(3, 30)
    };
    assert_eq!(kernel.run(&mut link, NOW), expected);
    assert_eq!(kernel.calls.len(), 2);
    assert_eq!(link.paused(NOW), Some(SendError::NoBuffer));
    assert_eq!(link.paused(Instant(2_999)), Some(SendError::NoBuffer));
    assert_eq!(link.paused(Instant(3_000)), None);
}

#[test]
fn a_full_socket_buffer_drops_what_did_not_fit_and_pauses_nobody() {
    let mut link = memory();
    let mut kernel = Scripted::new(&[10; 3], &[Answer::Take(1), Answer::Fail(Errno::EAGAIN)]);
    let expected = Tally {
        no_buffer: 1,
        ..sent(2, 20)
    };
    assert_eq!(kernel.run(&mut link, NOW), expected);
    assert_eq!(link.paused(NOW), None);
}

#[test]
fn a_datagram_above_the_path_mtu_goes_in_fragments_and_the_link_remembers() {
    let mut link = memory();
    let big = Answer::Echo(Errno::EMSGSIZE);
    let mut kernel = Scripted::new(&[100, 1400, 100], &[Answer::Take(1), big, big]);
    let expected = Tally {
        fragmented: 1,
        ..sent(3, 1600)
    };
    assert_eq!(kernel.run(&mut link, NOW), expected);
    let fragment = Manner {
        fragment: true,
        ..PLAIN
    };
    let calls = [
        (0..3, PLAIN),
        (1..3, PLAIN),
        (1..3, PLAIN),
        (1..2, fragment),
        (2..3, PLAIN),
    ];
    assert_eq!(kernel.calls, calls);

    // A second run asks for fragments at once, until the memory ends.
    let mut kernel = Scripted::new(&[1399, 1400, 1401], &[]);
    assert_eq!(kernel.run(&mut link, NOW).fragmented, 2);
    assert_eq!(kernel.calls, [(0..1, PLAIN), (1..3, fragment)]);
    let last = Instant((NOW + MTU_MEMORY).0 - 1);
    assert_eq!(
        Scripted::new(&[1400], &[]).run(&mut link, last).fragmented,
        1
    );
    let over = NOW + MTU_MEMORY;
    assert_eq!(
        Scripted::new(&[1400], &[]).run(&mut link, over).fragmented,
        0
    );
}

#[test]
fn the_echo_of_anothers_long_datagram_does_not_fragment_this_one() {
    let mut kernel = Scripted::new(&[100], &[Answer::Echo(Errno::EMSGSIZE)]);
    assert_eq!(kernel.run(&mut memory(), NOW), sent(1, 100));
}

#[test]
fn the_shortest_length_refused_counts() {
    let mut link = memory();
    let big = Answer::Fail(Errno::EMSGSIZE);
    Scripted::new(&[1400], &[big, big]).run(&mut link, NOW);
    Scripted::new(&[1300], &[big, big]).run(&mut link, NOW);
    assert_eq!(
        Scripted::new(&[1350], &[]).run(&mut link, NOW).fragmented,
        1
    );
}

#[test]
fn what_fragments_cannot_carry_is_dropped_as_too_big() {
    let mut kernel = Scripted::new(&[65_535, 10], &[Answer::Fail(Errno::EMSGSIZE); 7]);
    let expected = Tally {
        too_big: 1,
        ..sent(1, 10)
    };
    assert_eq!(kernel.run(&mut memory(), NOW), expected);
}

#[test]
fn a_source_address_that_is_gone_is_given_up_without_loss_and_tried_again_later() {
    let mut link = memory();
    let pinned = Manner {
        pinned: true,
        ..PLAIN
    };
    let run = |link: &mut LinkMemory, now, script: &[Answer]| {
        let mut kernel = Scripted::new(&[10, 10], script);
        kernel.source = Some("192.0.2.1".parse().unwrap());
        assert_eq!(kernel.run(link, now), sent(2, 20));
        kernel.calls
    };
    // IPv6 says EINVAL, IPv4 says ENETUNREACH.
    let calls = run(&mut link, NOW, &[Answer::Fail(Errno::EINVAL)]);
    assert_eq!(calls, [(0..2, pinned), (0..2, PLAIN)]);
    let later = NOW + Duration::from_secs(9);
    assert_eq!(run(&mut link, later, &[]), [(0..2, PLAIN)]);
    let again = NOW + SOURCE_MEMORY;
    let calls = run(&mut link, again, &[Answer::Fail(Errno::ENETUNREACH); 5]);
    assert_eq!(calls.len(), 6);
    assert_eq!(calls[5], (0..2, PLAIN));
}

#[test]
fn a_firewalls_no_drops_that_datagram_alone() {
    let script = [Answer::Fail(Errno::EPERM), Answer::Take(1)];
    let mut kernel = Scripted::new(&[10, 20, 30], &script);
    let expected = Tally {
        other: 1,
        ..sent(2, 50)
    };
    assert_eq!(kernel.run(&mut memory(), NOW), expected);
    assert_eq!(kernel.calls.len(), 3);
}

#[test]
fn no_answer_of_the_kernel_makes_it_spin() {
    for errno in [
        Errno::EINTR,
        Errno::ECONNREFUSED,
        Errno::EMSGSIZE,
        Errno::ENOBUFS,
        Errno::EAGAIN,
        Errno::EINVAL,
        Errno::EPERM,
    ] {
        for answer in [Answer::Fail(errno), Answer::Echo(errno), Answer::Take(0)] {
            let mut kernel = Scripted::new(&[10; 4], &[answer; 1_000]);
            kernel.source = Some("192.0.2.1".parse().unwrap());
            let tally = kernel.run(&mut memory(), NOW);
            let dropped: u64 = tally.dropped().iter().map(|&(_, n)| n).sum();
            assert_eq!(dropped, 4, "{errno}");
            assert!(kernel.calls.len() <= 60, "{errno}: {}", kernel.calls.len());
        }
    }
}
