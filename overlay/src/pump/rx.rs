//! What one round of receiving filled: a few large buffers, and which datagrams lie in them.

use crate::id::Path;

/// A range of an arena. An index, not a reference, so that no lifetime crosses a system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Bytes.
    pub len: u32,
}

impl Span {
    /// The bytes of `arena` that this names.
    ///
    /// # Panics
    /// When the span was made for another arena.
    pub fn of(self, arena: &[u8]) -> &[u8] {
        &arena[self.start as usize..(self.start + self.len) as usize]
    }

    /// As [`Self::of`], to be written.
    ///
    /// # Panics
    /// As [`Self::of`].
    pub fn of_mut(self, arena: &mut [u8]) -> &mut [u8] {
        &mut arena[self.start as usize..(self.start + self.len) as usize]
    }
}

/// One kernel message: one datagram, or a run of datagrams of equal size from one path.
#[derive(Clone, Copy, Debug)]
pub struct RxMessage {
    /// Where its bytes lie in the arena.
    pub span: Span,
    /// Bytes of each datagram of the run; the last may be shorter. Equal to `span.len` for one.
    pub stride: u32,
    /// Which socket it came in on, from where, and which address of ours was spoken to.
    pub path: Path,
    /// Index of the interface it came in through; 0 when the kernel did not say.
    pub interface: u32,
    /// The kernel cut it, because it was longer than the buffer.
    pub truncated: bool,
    /// No other link carries a copy of it, and this one brings it once (SEALED.md S82): the seen
    /// table need not know it. Never in plain, where nobody can say so.
    pub alone: bool,
}

impl RxMessage {
    /// Its datagrams, and whether the kernel cut each: of a run, the last. A message without bytes
    /// is one empty datagram.
    pub fn datagrams(&self) -> impl Iterator<Item = (Span, bool)> {
        let Span { start, len } = self.span;
        let stride = match self.stride {
            0 => len.max(1),
            stride => stride,
        };
        let truncated = self.truncated;
        (0..len.div_ceil(stride).max(1)).map(move |n| {
            let offset = n * stride;
            let span = Span {
                start: start + offset,
                len: stride.min(len - offset),
            };
            (span, truncated && offset + span.len == len)
        })
    }
}

/// Buffers for one round of receiving. Allocated once; a transport fills it, the pump reads it.
#[derive(Debug)]
pub struct RxBatch {
    arena: Box<[u8]>,
    messages: Vec<RxMessage>,
}

/// Buffers of a batch.
pub const RX_BUFFERS: usize = 16;
/// Messages of a batch whose kernel messages were taken apart: four in each datagram of full trains.
pub const MESSAGES: usize = 4_096;
/// Bytes of one buffer: the largest datagram, or a whole train of them.
pub const RX_BUFFER_LEN: usize = 65_536;

impl Default for RxBatch {
    fn default() -> Self {
        Self::with_buffers(RX_BUFFERS)
    }
}

impl RxBatch {
    /// A batch of 1 to [`RX_BUFFERS`] buffers; fewer or more count as the nearest of these.
    pub fn with_buffers(buffers: usize) -> Self {
        let buffers = buffers.clamp(1, RX_BUFFERS);
        Self {
            arena: vec![0; buffers * RX_BUFFER_LEN].into_boxed_slice(),
            messages: Vec::with_capacity(buffers),
        }
    }

    /// Makes room for [`MESSAGES`], for a batch whose messages are to be replaced.
    #[must_use]
    pub fn with_all_messages(mut self) -> Self {
        self.messages.reserve(MESSAGES);
        self
    }

    /// How many buffers there are.
    pub fn buffers(&self) -> usize {
        self.arena.len() / RX_BUFFER_LEN
    }

    /// The bytes; buffer `n` starts at `n * RX_BUFFER_LEN`.
    pub fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// The bytes, for a transport to fill.
    pub fn arena_mut(&mut self) -> &mut [u8] {
        &mut self.arena
    }

    /// What was received, in order.
    pub fn messages(&self) -> &[RxMessage] {
        &self.messages
    }

    /// Forgets what was received, before the next round.
    pub fn clear(&mut self) {
        self.messages.clear();
    }

    /// Notes one message made of a kernel message; returns whether there was room for it (at most
    /// [`MESSAGES`]).
    pub fn replace(&mut self, message: RxMessage) -> bool {
        let room = self.messages.len() < MESSAGES;
        if room {
            self.messages.push(message);
        }
        room
    }

    /// Notes one kernel message; returns whether there was room for it (at most [`Self::buffers`]).
    pub fn push(&mut self, message: RxMessage) -> bool {
        let room = self.messages.len() < self.buffers();
        if room {
            self.messages.push(message);
        }
        room
    }
}
