//! Receiving: what waits on a socket, into the free buffers of a batch.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::error::{Reaction, react};
use super::linux::{ReceiveScratch, Received};
use super::policy::RESENDS;
use super::{UdpSocket, UdpSockets, send};
use crate::id::{Endpoint, Path, SocketId};
use crate::pump::count::{Counters, DropReason, Total};
use crate::pump::rx::{RX_BUFFER_LEN, RxBatch, RxMessage, Span};

/// One worker's means of receiving: the kernel's headers, made once.
///
/// Calls: one owner; several receivers may use the same socket, each datagram going to one.
pub struct Receiver {
    scratch: Box<ReceiveScratch>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            scratch: ReceiveScratch::new(),
        }
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

impl Receiver {
    /// Receives what waits on `socket` into the buffers of `batch` that are still free.
    ///
    /// Returns how many messages came; 0 when nothing waits or no buffer is free. An empty
    /// datagram is a message too, with a stride of 1, so that a run can always be cut at it.
    ///
    /// State: counts kernel drops that became known (SocketDrops).
    /// Cost:  one system call; never waits, never allocates.
    /// Drops: RxError, for a call that failed.
    ///
    /// # Errors
    /// What the system says when the socket itself is of no use. An error that echoes an earlier
    /// datagram is none: it is taken note of and the call made again.
    pub fn receive(
        &mut self,
        sockets: &UdpSockets,
        socket: SocketId,
        batch: &mut RxBatch,
        counters: &Counters,
    ) -> io::Result<usize> {
        let Some(source) = sockets.get(socket) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let used = batch.messages().len();
        if used >= batch.buffers() {
            return Ok(0);
        }
        let buffers = &mut batch.arena_mut()[used * RX_BUFFER_LEN..];
        let count = match self.call(source, buffers, counters) {
            Ok(count) => count,
            Err(Errno::EAGAIN) => return Ok(0),
            Err(errno) => {
                counters.count(DropReason::RxError);
                return Err(errno.into());
            }
        };
        let mut noted = 0;
        for index in 0..count {
            let received = self.scratch.message(index);
            if let Some(drops) = received.kernel_drops {
                counters.add(Total::SocketDrops, source.new_drops(drops));
            }
            noted += usize::from(batch.push(message(socket, used + index, &received)));
        }
        Ok(noted)
    }

    /// The system call, again as long as its error is only the echo of something sent.
    fn call(
        &mut self,
        socket: &UdpSocket,
        buffers: &mut [u8],
        counters: &Counters,
    ) -> Result<usize, Errno> {
        for _ in 0..=RESENDS {
            match self.scratch.receive(socket.as_fd(), buffers, RX_BUFFER_LEN) {
                Err(errno) => match react(errno) {
                    Reaction::Again => {}
                    Reaction::Retry | Reaction::Fragment => {
                        send::drain(socket, |report| {
                            if report.errno != Errno::EMSGSIZE {
                                counters.count(DropReason::TxUnreachable);
                            }
                        });
                    }
                    _ => return Err(errno),
                },
                received => return received,
            }
        }
        // Errors come faster than they can be read; the datagrams are still there next time.
        Err(Errno::EAGAIN)
    }
}

/// What the pump is told of the message in buffer `buffer`.
fn message(socket: SocketId, buffer: usize, received: &Received) -> RxMessage {
    // A sender that the kernel does not name is nobody: port 0 is no live link's.
    let nobody = ([0, 0, 0, 0], 0).into();
    RxMessage {
        span: Span {
            start: (buffer * RX_BUFFER_LEN) as u32,
            len: received.len,
        },
        stride: received.segment.unwrap_or(received.len).max(1),
        path: Path {
            endpoint: Endpoint::new(socket, received.remote.unwrap_or(nobody)),
            local: received.local,
        },
        interface: received.interface,
        truncated: received.truncated,
        alone: false,
    }
}
