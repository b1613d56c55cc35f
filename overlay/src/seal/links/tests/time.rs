//! What only time shows, in virtual time: thousands of rekeys under a stream, and recordings that are
//! played back minutes later.
//!
//! `FLOODMESH_LONG=1` runs 10,000 rekeys.

use std::collections::VecDeque;

use rand_core::Rng;

use super::*;

/// What the wire takes from one end to the other.
const DELAY: Duration = Duration::from_millis(1);
/// The default timers are divided by this: a rekey a second.
const HASTE: u32 = 120;
/// Of a hundred datagrams the wire loses so many.
const LOSS_PERCENT: u64 = 2;

/// Every timer of a link, so many times shorter.
fn hasty() -> Timers {
    let quick = |time: Duration| time / HASTE;
    let default = Timers::default();
    Timers {
        retry: default.retry.map(quick),
        retry_up: quick(default.retry_up),
        crossing: quick(default.crossing),
        half_open: quick(default.half_open),
        fin_again: default.fin_again.map(quick),
        fin_lifetime: quick(default.fin_lifetime),
        rekey: quick(default.rekey),
        rekey_responder: quick(default.rekey_responder),
        session_lifetime: quick(default.session_lifetime),
        answer_within: quick(default.answer_within),
        idle: quick(default.idle),
        ask: default.ask.map(quick),
        ask_idle: default.ask_idle.map(quick),
        dead: quick(default.dead),
        look: quick(default.look),
        ..default
    }
}

/// One end, its stream, and what came of it.
struct Side {
    end: End,
    rx: RxBatch,
    /// Messages given to the session.
    sent: u64,
    /// Of them, those that the wire took away.
    lost: u64,
    /// Messages of the other one that came out.
    arrived: u64,
    /// Sessions that sealed.
    sessions: u64,
    /// The far end's index of the last of them.
    sealed_with: Option<u32>,
}

fn side(mut end: End) -> Side {
    end.links.timers = hasty();
    Side {
        end,
        rx: RxBatch::with_buffers(1),
        sent: 0,
        lost: 0,
        arrived: 0,
        sessions: 0,
        sealed_with: None,
    }
}

impl Side {
    /// As [`End::receive`], in the same buffer each time.
    fn receive(&mut self, now: Instant, from: Path, datagram: &[u8]) {
        let len = datagram.len() as u32;
        self.rx.clear();
        self.rx.arena_mut()[..datagram.len()].copy_from_slice(datagram);
        self.rx.push(RxMessage {
            span: Span { start: 0, len },
            stride: len,
            path: from,
            interface: 0,
            truncated: false,
            alone: false,
        });
        let (end, mut handed) = (&mut self.end, Handed::default());
        end.opening.open(
            now,
            end.links.sessions(),
            (&end.neighbors, 0),
            &mut self.rx,
            &end.counters,
            &mut handed,
        );
        let messages = self.rx.messages().iter();
        let is_ours = |message: &&RxMessage| message.span.of(self.rx.arena()).len() == MESSAGE_LEN;
        self.arrived += messages.filter(is_ours).count() as u64;
        end.take_in(now, handed);
    }

    /// Seals one message of the stream for `to`.
    fn say(&mut self, now: Instant, to: &Path, src: NetId) -> Vec<u8> {
        let session = self.end.links.sessions().seals(&to.endpoint);
        let session = &session.expect("a session that is up stays up").session;
        if self.sealed_with != Some(session.remote_index()) {
            self.sealed_with = Some(session.remote_index());
            self.sessions += 1;
        }
        let mut message = message(MessageKind::Data, Flags::NONE, src);
        message.extend(self.sent.to_be_bytes());
        self.sent += 1;
        let mut datagram = vec![0; MESSAGE_LEN + 64];
        let len = session.seal_into(&message, false, &mut datagram).unwrap();
        session.note_sent(now, true);
        datagram.truncate(len);
        datagram
    }
}

/// Bytes of a message of the stream; nothing else is as long.
const MESSAGE_LEN: usize = HEADER_LEN + 8;

/// On its way: when it arrives, whether at `near`, and what it is.
type Flying = (Instant, bool, Vec<u8>);

#[test]
fn rekeys_under_a_stream_lose_nothing_that_the_wire_did_not_lose() {
    let is_long = std::env::var_os("FLOODMESH_LONG").is_some();
    let rekeys = if is_long { 10_000 } else { 100 };
    let (mut near, mut far) = (side(near()), side(far()));
    let (to_near, to_far) = (near.end.path, far.end.path);
    let mut random = ChaCha12Rng::from_seed([3; 32]);
    let mut wire: VecDeque<Flying> = VecDeque::new();
    // The handshake that begins it all, which nothing is lost of.
    near.end.links.send(NOW, &to_far, &hello(NEAR));
    settle(NOW, &mut near.end, &mut far.end);
    let mut now = NOW;
    let mut is_over = false;
    while !is_over || !wire.is_empty() {
        now = now + Duration::from_millis(1);
        // 1. What arrives.
        while let Some((at, at_near, datagram)) = wire.pop_front() {
            if at > now {
                wire.push_front((at, at_near, datagram));
                break;
            }
            match at_near {
                true => near.receive(now, to_far, &datagram),
                false => far.receive(now, to_near, &datagram),
            }
        }
        // 2. What is due, and what is said: 1,000 messages a second each way.
        let mut leaving = Vec::new();
        for (at_near, side, to, src) in [
            (false, &mut near, &to_far, NEAR),
            (true, &mut far, &to_near, FAR),
        ] {
            if side.end.links.next_timeout().is_some_and(|at| now >= at) {
                side.end.links.handle_timeout(now);
            }
            let control = side.end.take().into_iter();
            leaving.extend(control.map(|(_, datagram)| (at_near, false, datagram.into_vec())));
            if !is_over {
                leaving.push((at_near, true, side.say(now, to, src)));
            }
        }
        for (at_near, is_message, datagram) in leaving {
            if random.next_u64() % 100 >= LOSS_PERCENT {
                wire.push_back((now + DELAY, at_near, datagram));
            } else if is_message {
                let from = if at_near { &mut far } else { &mut near };
                from.lost += 1;
            }
        }
        is_over |= near.sessions > rekeys && far.sessions > rekeys;
    }
    for (name, from, to) in [("there", &near, &far), ("back", &far, &near)] {
        let rate = from.sent as f64 / now.since(NOW).as_secs_f64();
        println!(
            "{name}: {} rekeys, {} messages ({rate:.0}/s), {} lost by the wire, {} arrived",
            from.sessions - 1,
            from.sent,
            from.lost,
            to.arrived
        );
        assert!(from.lost > from.sent / 100 && rate > 950.0);
        assert_eq!(to.arrived, from.sent - from.lost, "{name}");
        for reason in [
            DropReason::Forged,
            DropReason::Replayed,
            DropReason::UnknownSession,
        ] {
            assert_eq!(to.end.counters.dropped(reason), 0, "{name} {reason:?}");
        }
    }
}

#[test]
fn a_recording_is_worth_nothing_after_seconds_minutes_and_a_restart() {
    let (mut near, mut far) = (near(), far());
    let (to_near, to_far) = (near.path, far.path);
    let data = |number: u8| [message(MessageKind::Data, Flags::NONE, NEAR), vec![number]].concat();
    near.links.send(NOW, &to_far, &hello(NEAR));
    let mut recording = settle(NOW, &mut near, &mut far);
    for number in 0..50 {
        near.links.send(NOW, &to_far, &data(number));
        recording.extend(settle(NOW, &mut near, &mut far));
    }
    assert_eq!(far.messages.len(), 51);
    let replay = |now, far: &mut End, elsewhere: &mut Vec<Path>| {
        far.messages.clear();
        for from in [to_near, path(9)] {
            for datagram in &recording {
                far.receive(now, from, datagram);
            }
        }
        assert_eq!(far.messages, Vec::<Vec<u8>>::new(), "{now:?}");
        assert!(far.links.sessions().seals(&path(9).endpoint).is_none());
        let sent = far.take().into_iter();
        elsewhere.extend(sent.map(|(to, _)| to).filter(|to| *to == path(9)));
    };
    let mut elsewhere = Vec::new();
    let mut now = NOW;
    for seconds in [10, 200, 400] {
        // Meanwhile they go on speaking, and rekey.
        while now < NOW + Duration::from_secs(seconds) {
            now = now + Duration::from_secs(1);
            for end in [&mut near, &mut far] {
                end.links.handle_timeout(now);
            }
            near.links.send(now, &to_far, &data(0));
            settle(now, &mut near, &mut far);
            assert!(near.is_up(&far) && far.is_up(&near), "{now:?}");
        }
        replay(now, &mut far, &mut elsewhere);
        settle(now, &mut near, &mut far);
        // The link goes on where it was.
        far.messages.clear();
        near.links.send(now, &to_far, &data(99));
        settle(now, &mut near, &mut far);
        assert_eq!(far.messages, [data(99)]);
    }
    // What has started anew remembers nothing, and takes nothing either. To the one INIT from elsewhere it
    // may answer as to any; and before its session was rekeyed, the copy of its FIN was answered, too (S102).
    let mut anew = end(1, 20, FAR, 2);
    replay(now, &mut anew, &mut elsewhere);
    assert!(elsewhere.len() <= 5, "{elsewhere:?}");
    assert_eq!(anew.links.sessions().len(), 0);
}
