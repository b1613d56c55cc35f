//! A session: what a handshake yields, and what seals and opens every datagram after it.
//!
//! All by `&self`, from any worker at once, without a lock and without an allocation: the counter
//! to seal with is an atomic, keys are only read, and the window of what was opened is lock-free
//! ([`Window`]). The order of opening is *peek, open, commit* (S23): nothing that is not authentic
//! changes anything but a count of failures.
//!
//! One type serves both carriers: `seal`/`open` for LINK datagrams, `seal_data`/`open_data` for the
//! end-to-end payload `c8`. Source: SEALED.md, "Sessions".

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use wire::NetId;
use wire::sealed::{
    FRAME_HEAD_LEN, Frame, LINK_HEADER_LEN, LINK_MIN_LEN, LinkHeader, TAG_LEN, endtoend,
};

use crate::planted::{self, Mistake};
use crate::pump::count::DropReason;
use crate::seal::aead::{Aead, DirectionKey, LARGE};
use crate::seal::keys::{FIRST_EPOCH, Key, derive};
use crate::seal::replay::{Judgement, Window};
use crate::time::{Duration, Instant};

/// Bytes that sealing one message on a link adds to it.
pub const LINK_OVERHEAD: usize = LINK_MIN_LEN + FRAME_HEAD_LEN;

/// Bytes that sealing a payload end to end adds to it.
pub const DATA_OVERHEAD: usize = LINK_MIN_LEN;

/// Between two notices that datagrams come from elsewhere.
const ELSEWHERE_INTERVAL: Duration = Duration::from_millis(100);

/// Two keys, two counters, two names. Wiped when dropped.
pub struct Session {
    /// What the far end writes to reach this session.
    local: u32,
    /// What we write.
    remote: u32,
    is_initiator: bool,
    /// Of the mesh secret that it was made under.
    epoch: u32,
    created_at: Instant,
    seal_key: DirectionKey,
    open_key: DirectionKey,
    /// The counter of the next datagram sealed.
    next: AtomicU64,
    /// Whether a plaintext above [`LARGE`] was sealed, which shortens the session's life.
    large: AtomicBool,
    window: Window,
    /// Datagrams that did not open.
    failures: AtomicU64,
    activity: Activity,
    /// When it was last told that datagrams come from elsewhere; as in [`Activity`].
    elsewhere: AtomicU64,
}

/// When something last went over a session; microseconds, 0 for never.
#[derive(Debug, Default)]
struct Activity {
    heard: AtomicU64,
    heard_message: AtomicU64,
    sent: AtomicU64,
    sent_message: AtomicU64,
}

/// What a handshake knows of the session it made.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What the far end is to write.
    pub local: u32,
    /// What the far end wants written.
    pub remote: u32,
    /// Whether our INIT began it.
    pub is_initiator: bool,
    /// What seals.
    pub aead: Aead,
    /// Separates links from ends in the derivation.
    pub info: &'static [u8],
}

/// Why a datagram was not sealed. State: a counter may have been used up; it is never given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The buffer has no room.
    NoRoom,
    /// The session has sealed all that it may: only a new one helps (S22).
    Exhausted,
}

/// Why a datagram was not opened. State: unchanged, but for the count of failures of `Forged`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The header is none, or names another session.
    Malformed,
    /// Opened before.
    Replayed,
    /// Too old to know whether it was opened before.
    TooOld,
    /// Authentic, and further ahead than anybody sends.
    TooFar,
    /// Not authentic: the text is spoilt.
    Forged,
    /// Too much was forged: the session opens nothing more.
    Spent,
}

impl OpenError {
    /// What it counts as.
    pub const fn reason(self) -> DropReason {
        match self {
            Self::Malformed => DropReason::Malformed,
            Self::Replayed | Self::TooOld | Self::TooFar => DropReason::Replayed,
            Self::Forged | Self::Spent => DropReason::Forged,
        }
    }
}

/// What a datagram held. Borrows: from the datagram.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'d> {
    /// The frames of a LINK, or the payload of an E-DATA.
    pub plaintext: &'d mut [u8],
    /// Whether its counter is the highest so far, which alone may begin a move (S53).
    pub is_newest: bool,
    /// Whether it is the first that this session opened, which confirms it (S44).
    pub is_first: bool,
}

impl Session {
    /// The session of the two keys of Noise's Split(), the initiator's first.
    pub fn new(now: Instant, terms: Terms, initiator_key: &Key, responder_key: &Key) -> Self {
        let (initiator, responder) = match terms.is_initiator {
            true => (terms.local, terms.remote),
            false => (terms.remote, terms.local),
        };
        let info = [
            terms.info,
            &[terms.aead.to_byte()],
            &initiator.to_be_bytes(),
            &responder.to_be_bytes(),
        ]
        .concat();
        let key =
            |split: &Key| DirectionKey::new(terms.aead, &Key::new(derive(split.bytes(), &info)));
        let (first, second) = (key(initiator_key), key(responder_key));
        let (seal_key, open_key) = match terms.is_initiator {
            true => (first, second),
            false => (second, first),
        };
        Self {
            local: terms.local,
            remote: terms.remote,
            is_initiator: terms.is_initiator,
            epoch: FIRST_EPOCH,
            created_at: now,
            seal_key,
            open_key,
            next: AtomicU64::new(0),
            large: AtomicBool::new(false),
            window: Window::default(),
            failures: AtomicU64::new(0),
            activity: Activity::default(),
            elsewhere: AtomicU64::new(0),
        }
    }

    /// The same, made under the mesh secret of this epoch.
    #[must_use]
    pub fn of_epoch(mut self, epoch: u32) -> Self {
        self.epoch = epoch;
        self
    }

    /// Which mesh secret it was made under.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What the far end writes to reach this session.
    pub const fn local_index(&self) -> u32 {
        self.local
    }

    /// What the session's datagrams say to reach the far end.
    pub const fn remote_index(&self) -> u32 {
        self.remote
    }

    /// Whether our INIT began it.
    pub const fn is_initiator(&self) -> bool {
        self.is_initiator
    }

    /// When its handshake ended here.
    pub const fn created_at(&self) -> Instant {
        self.created_at
    }

    /// What it seals with.
    pub const fn aead(&self) -> Aead {
        self.seal_key.aead()
    }

    /// Seals a LINK in place.
    ///
    /// Shape:   [`LINK_HEADER_LEN`] bytes for the header, the frames, [`TAG_LEN`] bytes for the tag.
    /// State:   takes the next counter, whatever becomes of the datagram.
    /// Calls:   from any thread at once.
    /// Cost:    no allocation, no lock.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, datagram: &mut [u8]) -> Result<(), SealError> {
        self.seal_link(false, datagram)
    }

    /// Seals one message of the plain protocol into `out` as a LINK of its own and returns the
    /// datagram's length: the message's and [`LINK_OVERHEAD`]. `alone` says that it goes over no
    /// other link (S82). As [`Self::seal`] otherwise.
    ///
    /// # Errors
    /// [`SealError`]; `NoRoom` also for a message of 0 or more than 32,767 bytes.
    pub fn seal_into(
        &self,
        message: &[u8],
        alone: bool,
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let len = message.len() + LINK_OVERHEAD;
        let datagram = out.get_mut(..len).ok_or(SealError::NoRoom)?;
        let frames = datagram
            .get_mut(LINK_HEADER_LEN..)
            .ok_or(SealError::NoRoom)?;
        Frame::Message(message)
            .emit(frames)
            .ok_or(SealError::NoRoom)?;
        self.seal_link(alone, datagram)?;
        Ok(len)
    }

    /// Opens a LINK in place.
    ///
    /// Shape:   a whole datagram that names this session.
    /// State:   its counter is remembered, if it opens.
    /// Borrows: the plaintext lies in `datagram`.
    /// Calls:   from any thread at once; of two with one datagram, one gets it.
    /// Cost:    no allocation, no lock.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open<'d>(&self, datagram: &'d mut [u8]) -> Result<Opened<'d>, OpenError> {
        let header = LinkHeader::parse(datagram).map_err(|_| OpenError::Malformed)?;
        self.open_parsed(header, datagram)
    }

    /// As [`Self::open`], by whoever read the datagram's header to find this session.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_parsed<'d>(
        &self,
        header: LinkHeader,
        datagram: &'d mut [u8],
    ) -> Result<Opened<'d>, OpenError> {
        self.open_behind(header, &header.to_bytes(), datagram)
    }

    /// Seals an end-to-end payload in place, to be sent as Data from `src` to `dst`. As
    /// [`Self::seal`] otherwise.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_data(&self, src: NetId, dst: NetId, payload: &mut [u8]) -> Result<(), SealError> {
        let header = self.next_header(payload.len())?;
        let bytes = endtoend::data_header(header);
        let associated = endtoend::associated(src, dst, &bytes);
        self.seal_behind(&bytes, &associated, header.counter, payload)
    }

    /// Seals a payload into `out`, to be sent as Data from `src` to `dst`, and returns the length
    /// of what is to be sent: the payload's and [`DATA_OVERHEAD`]. As [`Self::seal`] otherwise.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_data_into(
        &self,
        src: NetId,
        dst: NetId,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        let len = payload.len() + DATA_OVERHEAD;
        let whole = out.get_mut(..len).ok_or(SealError::NoRoom)?;
        whole
            .get_mut(LINK_HEADER_LEN..LINK_HEADER_LEN + payload.len())
            .ok_or(SealError::NoRoom)?
            .copy_from_slice(payload);
        self.seal_data(src, dst, whole)?;
        Ok(len)
    }

    /// Opens the payload of a Data message from `src` to `dst` in place. As [`Self::open`]
    /// otherwise.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_data<'d>(
        &self,
        src: NetId,
        dst: NetId,
        payload: &'d mut [u8],
    ) -> Result<Opened<'d>, OpenError> {
        let header = endtoend::parse_data(payload).map_err(|_| OpenError::Malformed)?;
        let associated = endtoend::associated(src, dst, &endtoend::data_header(header));
        self.open_behind(header, &associated, payload)
    }

    /// Whether its count asks for a successor (S46); its age is the peer's business.
    pub fn is_worn(&self) -> bool {
        let most = self.next.load(Relaxed).max(self.window.end());
        let after = self.aead().rekey_after(self.large.load(Relaxed));
        most >= if self.is_initiator { after } else { 2 * after }
    }

    /// Whether anything ever opened on it, which says that the far end has it too.
    pub fn is_confirmed(&self) -> bool {
        self.window.end() > 0
    }

    /// Datagrams sealed so far.
    pub fn sealed_count(&self) -> u64 {
        self.next.load(Relaxed)
    }

    /// Datagrams that did not open so far.
    pub fn failure_count(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Notes that something opened; `message` if it held one of the plain protocol. Within a batch
    /// all but the first cost a look.
    pub fn note_heard(&self, now: Instant, message: bool) {
        raise(&self.activity.heard, now);
        if message {
            raise(&self.activity.heard_message, now);
        }
    }

    /// Notes that something was sent; otherwise as above.
    pub fn note_sent(&self, now: Instant, message: bool) {
        raise(&self.activity.sent, now);
        if message {
            raise(&self.activity.sent_message, now);
        }
    }

    /// Whether somebody is to be told now that datagrams come from another address: ten times a
    /// second at most, and by one worker.
    pub fn tells_elsewhere(&self, now: Instant) -> bool {
        let last = self.elsewhere.load(Relaxed);
        let due = last == 0 || now.since(Instant(last)) >= ELSEWHERE_INTERVAL;
        let micros = now.0.max(1);
        due && self
            .elsewhere
            .compare_exchange(last, micros, Relaxed, Relaxed)
            .is_ok()
    }

    /// When something last opened.
    pub fn heard_at(&self) -> Option<Instant> {
        read(&self.activity.heard)
    }

    /// When a message last came.
    pub fn message_heard_at(&self) -> Option<Instant> {
        read(&self.activity.heard_message)
    }

    /// When something was last sent.
    pub fn sent_at(&self) -> Option<Instant> {
        read(&self.activity.sent)
    }

    /// When a message was last sent.
    pub fn message_sent_at(&self) -> Option<Instant> {
        read(&self.activity.sent_message)
    }

    fn seal_link(&self, alone: bool, datagram: &mut [u8]) -> Result<(), SealError> {
        let header = LinkHeader {
            alone,
            ..self.next_header(datagram.len())?
        };
        let bytes = header.to_bytes();
        self.seal_behind(&bytes, &bytes, header.counter, datagram)
    }

    fn next_header(&self, whole_len: usize) -> Result<LinkHeader, SealError> {
        let text = whole_len
            .checked_sub(LINK_MIN_LEN)
            .ok_or(SealError::NoRoom)?;
        // Fails once and for all before it wraps: 2^64 attempts are out of reach.
        let mut counter = self.next.fetch_add(1, Relaxed);
        if planted::is(Mistake::ReuseCounter) && counter % 64 == 63 {
            counter -= 1;
        }
        if counter >= self.aead().seal_limit(text) {
            return Err(SealError::Exhausted);
        }
        if text > LARGE && !self.large.load(Relaxed) {
            self.large.store(true, Relaxed);
        }
        Ok(LinkHeader {
            receiver: self.remote,
            counter,
            alone: false,
        })
    }

    fn seal_behind(
        &self,
        header: &[u8; LINK_HEADER_LEN],
        associated: &[u8],
        counter: u64,
        whole: &mut [u8],
    ) -> Result<(), SealError> {
        let (head, rest) = whole
            .split_first_chunk_mut::<LINK_HEADER_LEN>()
            .ok_or(SealError::NoRoom)?;
        let (text, tag) = rest
            .split_last_chunk_mut::<TAG_LEN>()
            .ok_or(SealError::NoRoom)?;
        *head = *header;
        *tag = self
            .seal_key
            .seal(counter, associated, text)
            .ok_or(SealError::NoRoom)?;
        Ok(())
    }

    fn open_behind<'d>(
        &self,
        header: LinkHeader,
        associated: &[u8],
        whole: &'d mut [u8],
    ) -> Result<Opened<'d>, OpenError> {
        if header.receiver != self.local {
            return Err(OpenError::Malformed);
        }
        // 1. Peek: what was seen before is not worth the work.
        known(self.window.peek(header.counter))?;
        if self.failures.load(Relaxed) >= self.aead().failure_limit() {
            return Err(OpenError::Spent);
        }
        // 2. Open.
        let text = whole
            .get_mut(LINK_HEADER_LEN..)
            .ok_or(OpenError::Malformed)?;
        let Some(plaintext) = self.open_key.open(header.counter, associated, text) else {
            self.failures.fetch_add(1, Relaxed);
            if planted::is(Mistake::CommitForged) {
                self.window.commit(header.counter);
            }
            return Err(OpenError::Forged);
        };
        // 3. Commit: of two workers with one datagram, one goes on.
        let end = self.window.end();
        known(self.window.commit(header.counter))?;
        Ok(Opened {
            plaintext,
            is_newest: header.counter >= end,
            is_first: end == 0,
        })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("aead", &self.aead())
            .finish_non_exhaustive()
    }
}

fn known(judgement: Judgement) -> Result<(), OpenError> {
    match judgement {
        Judgement::Fresh => Ok(()),
        Judgement::Replayed => Err(OpenError::Replayed),
        Judgement::TooOld => Err(OpenError::TooOld),
        Judgement::TooFar => Err(OpenError::TooFar),
    }
}

fn raise(at: &AtomicU64, now: Instant) {
    let micros = now.0.max(1);
    if at.load(Relaxed) < micros {
        at.fetch_max(micros, Relaxed);
    }
}

fn read(at: &AtomicU64) -> Option<Instant> {
    match at.load(Relaxed) {
        0 => None,
        micros => Some(Instant(micros)),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
