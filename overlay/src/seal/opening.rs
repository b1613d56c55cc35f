//! From what was received to what the plain rules judge: LINK datagrams are opened in place.
//!
//! ```text
//!   | ae 05 ... | l | message | tag | ae 05 ... |      a train as received
//!                   ^ span                             its messages, where they lie
//! ```
//!
//! After this step a batch holds what a plain node would have received on the same links, and
//! nothing else: what is not sealed does not get past it (S25, no downgrade), unless the node has an
//! open zone and it is of that (S86).

use wire::sealed::right::{FORWARD, INFORM, ORIGINATE};
use wire::sealed::{Control, Frame, Frames, LINK_HEADER_LEN, LinkHeader, SealedKind};
use wire::{Header, Kind, NetId};

use crate::id::{Endpoint, Path};
use crate::node::snapshot::{LinkEntry, NeighborSet};
use crate::planted::{self, Mistake};
use crate::pump::count::{Counters, DropReason, Total};
use crate::pump::rx::{RX_BUFFERS, RxBatch, RxMessage, Span};
use crate::seal::gate::Gate;
use crate::seal::session::OpenError;
use crate::seal::sessions::{Opens, SessionSet};
use crate::time::Instant;

/// Controls of one datagram that are heard: several may share one, and many are an attack.
const CONTROLS: usize = 2;

/// Rights that are asked about what comes over a link.
const LINK_RIGHTS: u16 = ORIGINATE | FORWARD | INFORM;

/// Who takes what is not for the plain rules.
pub trait Porter {
    /// A datagram of a handshake, whole: of a member, or a COOKIE.
    fn handshake(&mut self, path: Path, datagram: &[u8]);
    /// The first datagram opened on the session of this index.
    fn confirmed(&mut self, index: u32);
    /// A control frame that asks for something, or answers; the path that it came by, and the
    /// length of its datagram.
    fn frame(&mut self, index: u32, by: (Path, usize), control: &Control<'_>);
    /// The newest datagram of this session came from elsewhere; at most ten times a second.
    fn elsewhere(&mut self, index: u32, from: Path, len: usize);
}

/// One worker's scratch memory for opening.
#[derive(Debug)]
pub struct Opening {
    received: Vec<RxMessage>,
}

impl Default for Opening {
    fn default() -> Self {
        Self {
            received: Vec::with_capacity(RX_BUFFERS),
        }
    }
}

impl Opening {
    /// Replaces the batch's messages by what was sealed in them. What came in through our own device
    /// is none of it (SECURITY T15); its index is `device_index`, 0 without one.
    ///
    /// State: counts what does not open; sessions note what they opened and when.
    /// Cost:  no allocation, no lock.
    pub fn open(
        &mut self,
        now: Instant,
        sessions: &SessionSet,
        (neighbors, device_index): (&NeighborSet, u32),
        rx: &mut RxBatch,
        counters: &Counters,
        porter: &mut impl Porter,
    ) {
        self.received.clear();
        self.received.extend_from_slice(rx.messages());
        rx.clear();
        for message in &self.received {
            for (span, cut) in message.datagrams() {
                let outcome = if cut {
                    Err(DropReason::RxTruncated)
                } else {
                    open_one(
                        now,
                        (sessions, neighbors, device_index),
                        rx,
                        *message,
                        span,
                        porter,
                    )
                };
                if let Err(reason) = outcome {
                    // Handshakes are no messages, whoever finds them wrong.
                    let is_message = reason != DropReason::Handshake;
                    counters.add(Total::Received, is_message.into());
                    counters.count(reason);
                }
            }
        }
    }
}

/// Opens one datagram, and adds its messages to the batch.
fn open_one(
    now: Instant,
    (sessions, neighbors, device_index): (&SessionSet, &NeighborSet, u32),
    rx: &mut RxBatch,
    message: RxMessage,
    span: Span,
    porter: &mut impl Porter,
) -> Result<(), DropReason> {
    if message.interface != 0 && message.interface == device_index {
        return Err(DropReason::UnderlayInOverlay);
    }
    let datagram = span.of_mut(rx.arena_mut());
    match SealedKind::of(datagram) {
        Ok(SealedKind::Link) => {}
        Ok(kind) => {
            let is_let_in = |gate: &Gate| gate.lets_in(kind, datagram);
            if !sessions.gate().is_none_or(is_let_in) {
                return Err(DropReason::Handshake);
            }
            porter.handshake(message.path, datagram);
            return Ok(());
        }
        Err(_) if datagram.first() == Some(&wire::MAGIC) => {
            let refused = refuses_plain(sessions, neighbors, &message.path.endpoint, datagram);
            if let Some(reason) = refused.filter(|_| !planted::is(Mistake::AcceptPlain)) {
                return Err(reason);
            }
            let has_room = rx.replace(RxMessage { span, ..message });
            return if has_room {
                Ok(())
            } else {
                Err(DropReason::FramesFull)
            };
        }
        Err(_) => return Err(DropReason::Malformed),
    }
    let header = LinkHeader::parse(datagram).map_err(|_| DropReason::Malformed)?;
    let opens = sessions
        .opens(header.receiver)
        .ok_or(DropReason::UnknownSession)?;
    let opened = opens
        .session
        .open_parsed(header, datagram)
        .map_err(OpenError::reason)?;
    let (is_first, is_newest) = (opened.is_first, opened.is_newest);
    let plaintext_len = opened.plaintext.len();
    if is_first {
        porter.confirmed(header.receiver);
    }
    let whole = span.len as usize;
    let is_elsewhere = is_newest && message.path.endpoint != opens.from;
    if is_elsewhere && opens.session.tells_elsewhere(now) {
        porter.elsewhere(header.receiver, message.path, whole);
    }
    let standing = Standing::of(opens, neighbors);
    let mut holds_message = false;
    let mut asked = 0;
    let mut refused = None;
    let mut at = span.start + LINK_HEADER_LEN as u32;
    let end = at + plaintext_len as u32;
    while at < end {
        let rest = Span {
            start: at,
            len: end - at,
        };
        let Some(Ok(frame)) = Frames::new(rest.of(rx.arena())).next() else {
            break;
        };
        let len = frame.len() as u32;
        match frame {
            Frame::Message(inner) => {
                holds_message = true;
                let inner_len = inner.len() as u32;
                match standing.endpoint_of(now, opens, inner) {
                    Err(reason) => refused = Some(reason),
                    Ok(endpoint) => {
                        let has_room = rx.replace(RxMessage {
                            span: Span {
                                start: at + (len - inner_len),
                                len: inner_len,
                            },
                            stride: inner_len,
                            path: Path {
                                endpoint,
                                local: message.path.local,
                            },
                            interface: message.interface,
                            truncated: false,
                            alone: header.alone,
                        });
                        if !has_room {
                            refused = Some(DropReason::FramesFull);
                        }
                    }
                }
            }
            Frame::Control(control) => {
                if asks_or_answers(&control) && asked < CONTROLS {
                    asked += 1;
                    porter.frame(header.receiver, (message.path, whole), &control);
                }
            }
        }
        at += len;
    }
    opens.session.note_heard(now, holds_message);
    refused.map_or(Ok(()), Err)
}

/// Why a plain datagram is not taken, if so: by a node that takes none; or from or of somebody who
/// is known to speak sealed (S86).
fn refuses_plain(
    sessions: &SessionSet,
    neighbors: &NeighborSet,
    from: &Endpoint,
    datagram: &[u8],
) -> Option<DropReason> {
    let Some(zone) = sessions.open_zone() else {
        return Some(DropReason::NotSealed);
    };
    let link = neighbors.find(from);
    let link = link.and_then(|index| neighbors.links().get(usize::from(index)));
    let is_sealed = link.is_some_and(|link| !link.open)
        || sessions.seals(from).is_some()
        || zone.refuses(&from.remote, datagram);
    is_sealed.then_some(DropReason::PlainFromSealed)
}

/// Whether somebody wants to know of it.
const fn asks_or_answers(control: &Control<'_>) -> bool {
    matches!(
        control,
        Control::PathChallenge(_)
            | Control::PathResponse(_)
            | Control::SizeProbe(_)
            | Control::Close(_)
            | Control::ListNumber(_)
            | Control::ListRequest(..)
            | Control::ListPiece(_)
    )
}

/// What a session's endpoint is to the node above.
#[derive(Clone, Copy)]
enum Standing<'n> {
    /// A live link of the session's node.
    Live,
    /// None, but its node has this one: a far end whose address changed may have a new session
    /// before its link has followed it.
    Elsewhere(&'n LinkEntry),
    /// None, and its node has no other. `taken` if another node's link has not ended here yet.
    Outside { taken: bool },
}

impl<'n> Standing<'n> {
    fn of(opens: &Opens, neighbors: &'n NeighborSet) -> Self {
        let here = neighbors
            .find(&opens.path.endpoint)
            .and_then(|index| neighbors.links().get(usize::from(index)));
        if here.is_some_and(|link| link.netid == opens.netid) {
            return Self::Live;
        }
        match neighbors.link_of(opens.netid) {
            Some(link) => Self::Elsewhere(link),
            None => Self::Outside {
                taken: here.is_some(),
            },
        }
    }

    /// The endpoint that a message counts for.
    ///
    /// # Errors
    /// The far end may not say it: `SpoofedControl`, `Stranger`, `NoRight`, `RateClass`.
    fn endpoint_of(
        self,
        now: Instant,
        opens: &Opens,
        message: &[u8],
    ) -> Result<Endpoint, DropReason> {
        let header = Header::parse(message).ok();
        let begins = header.as_ref().is_some_and(begins_a_link);
        let (is_live, endpoint) = match self {
            Self::Live => (true, opens.path.endpoint),
            Self::Elsewhere(link) if !begins => (true, link.path.endpoint),
            // It is heard when it has a link of its own.
            Self::Outside { taken: true } if !begins => return Err(DropReason::Stranger),
            _ => (false, opens.path.endpoint),
        };
        // What is no message is judged, and counted, by the plain rules.
        let Some(header) = header else {
            return Ok(endpoint);
        };
        if !may_say(opens, is_live, &header) {
            return Err(refusal(&header));
        }
        let is_asked = opens.rights & LINK_RIGHTS != LINK_RIGHTS;
        if is_asked && lacks_right(opens, &header) && !planted::is(Mistake::IgnoreRights) {
            return Err(DropReason::NoRight);
        }
        if let Some(allowance) = &opens.allowance
            && is_of_its_own((opens.netid, opens.rights), &header)
            && !allowance.takes(now, message.len())
        {
            return Err(DropReason::RateClass);
        }
        Ok(endpoint)
    }
}

fn is_direct(header: &Header) -> bool {
    header.flags.no_forward() || header.dst == NetId::ANY
}

/// Whether a message is about the endpoint that it comes from, and not about who is there.
fn begins_a_link(header: &Header) -> bool {
    is_direct(header) && matches!(header.kind, Kind::Hello | Kind::Ping | Kind::Pong)
}

/// Whether the far end's certificate does not let it say this (S38): Data of its own, Data of others,
/// or where others are.
fn lacks_right(opens: &Opens, header: &Header) -> bool {
    let needed = match header.kind {
        Kind::Data if header.src == opens.netid => ORIGINATE,
        Kind::Data => FORWARD,
        Kind::Inform => INFORM,
        _ => 0,
    };
    opens.rights & needed != needed
}

/// Whether a rate class counts a message: what the far end's node made, without what keeps the link. Of
/// whoever may not forward that is all that goes on from here, whatever src it names.
fn is_of_its_own((netid, rights): (NetId, u16), header: &Header) -> bool {
    let goes_on = !is_direct(header);
    let is_named = header.src == netid && (header.kind == Kind::Data || goes_on);
    is_named || goes_on && rights & FORWARD == 0
}

/// Whether the far end may speak under this message's src: whoever has no live link here yet, or
/// says what stays on the link, is honored under the netid that the handshake proved alone (S25).
/// A Ping is not asked, since a challenge has a src that names nobody (R28).
fn may_say(opens: &Opens, is_live: bool, header: &Header) -> bool {
    let binds = match header.kind {
        Kind::Ping => false,
        Kind::Hello | Kind::Inform | Kind::Pong => is_direct(header) || !is_live,
        _ => !is_live,
    };
    !binds || header.src == opens.netid || planted::is(Mistake::SpeakForOthers)
}

/// How a message is counted that the far end may not say. What it forwards before its link is live
/// here is no forgery: the two ends see a link come up one after the other.
fn refusal(header: &Header) -> DropReason {
    match header.kind {
        Kind::Hello | Kind::Goodbye | Kind::Inform | Kind::Pong if is_direct(header) => {
            DropReason::SpoofedControl
        }
        _ => DropReason::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use wire::Flags;
    use wire::sealed::RIGHTS;

    use super::*;

    /// S106: a made-up src takes what goes on out of no bound where nobody else can have said it.
    #[test]
    fn a_rate_class_counts_all_that_goes_on_from_who_may_not_forward() {
        let (near, other, to) = (NetId(0x2a), NetId(0x2b), NetId(0x2c));
        let counts = |rights, kind, flags, src| {
            let header = Header {
                kind,
                flags,
                nonce: 1,
                src,
                dst: to,
            };
            is_of_its_own((near, rights), &header)
        };
        let (goes_on, stays) = (Flags::NONE, Flags::NO_FORWARD);
        for (rights, others_count) in [(RIGHTS, false), (RIGHTS & !FORWARD, true)] {
            for kind in [Kind::Ping, Kind::Pong, Kind::Goodbye] {
                assert!(counts(rights, kind, goes_on, near));
                assert_eq!(counts(rights, kind, goes_on, other), others_count);
                // What keeps the link.
                assert!(!counts(rights, kind, stays, near));
                assert!(!counts(rights, kind, stays, other));
            }
            assert!(counts(rights, Kind::Data, stays, near));
        }
    }
}
