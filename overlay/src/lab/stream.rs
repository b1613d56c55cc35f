//! A numbered stream of UDP datagrams from one namespace to another.
//!
//! The sender keeps an absolute schedule, so a late wake-up is made good, a little faster than the
//! stream but never in one burst, which would measure the queue of the device. It never gives a datagram up: what counts as sent, the kernel took.
//! Arrival times are the kernel's, taken as the datagram leaves the device, so that a receiver that
//! is scheduled late does not look like a gap.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use super::interrupt::Interrupt;
use super::net::{Namespace, NetError};
use super::tally::{StreamFigures, Tally};

/// The receiver's port on the overlay.
const PORT: u16 = 44205;
/// Bytes of one datagram's payload: about what voice or telemetry sends.
const DATAGRAM_LEN: usize = 200;
/// What every datagram starts with; the number follows, big-endian.
const MARK: &[u8; 8] = b"lab flow";
/// How long the receiver waits for stragglers after the last send.
const GRACE: Duration = Duration::from_secs(2);
/// How long the sender insists on a datagram that the kernel refuses.
const PATIENCE: Duration = Duration::from_secs(2);
/// The least time between two sends while a late wake-up is made good.
const CATCH_UP_INTERVAL: Duration = Duration::from_micros(100);
/// How often the receiver looks up from an empty socket.
const LOOK_UP_INTERVAL: Duration = Duration::from_millis(50);
/// The receiver's socket buffer: some seconds of the stream, so that losses are the mesh's.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A stream ready to run.
#[derive(Debug)]
pub(super) struct Stream {
    sender: UdpSocket,
    receiver: UdpSocket,
    count: u32,
    interval: Duration,
}

impl Stream {
    /// Opens a socket in each namespace, for `count` datagrams, one each `interval`.
    pub(super) fn open(
        from: (&Namespace, IpAddr),
        to: (&Namespace, IpAddr),
        count: u32,
        interval: Duration,
    ) -> Result<Self, NetError> {
        let target = SocketAddr::new(to.1, PORT);
        let error = |namespace: &Namespace| {
            let name = namespace.name().to_owned();
            move |source: io::Error| NetError::new("open the stream's socket", &name, source)
        };
        let sender = from.0.run(|| -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((from.1, 0))?;
            socket.connect(target)?;
            Ok(socket)
        })?;
        let receiver = to.0.run(|| open_receiver(target))?;
        Ok(Self {
            sender: sender.map_err(error(from.0))?,
            receiver: receiver.map_err(error(to.0))?,
            count,
            interval,
        })
    }

    /// How long sending takes.
    pub(super) fn duration(&self) -> Duration {
        self.interval * self.count
    }

    /// Runs the stream on two threads and `meanwhile` on the caller's, which is told when the
    /// stream started.
    ///
    /// State: raising the flag ends the stream early; the figures then cover what was sent.
    pub(super) fn run<T>(
        &self,
        interrupt: &Interrupt,
        meanwhile: impl FnOnce(Instant) -> T,
    ) -> io::Result<(StreamFigures, T)> {
        let is_sent = AtomicBool::new(false);
        let start = Instant::now();
        thread::scope(|scope| {
            let receiver = scope.spawn(|| self.receive(&is_sent, interrupt));
            let sender = scope.spawn(|| {
                let sent = self.send(start, interrupt);
                is_sent.store(true, Ordering::Release);
                sent
            });
            let result = meanwhile(start);
            let (sent, longest_send_gap) = joined(sender.join())?;
            let tally = joined(receiver.join())?;
            Ok((tally.figures(sent, longest_send_gap), result))
        })
    }

    /// Sends all datagrams; returns how many and the longest pause between two.
    fn send(&self, start: Instant, interrupt: &Interrupt) -> io::Result<(u32, Duration)> {
        let mut datagram = [0; DATAGRAM_LEN];
        datagram[..MARK.len()].copy_from_slice(MARK);
        let mut before: Option<Instant> = None;
        let mut longest_gap = Duration::ZERO;
        for number in 0..self.count {
            let scheduled = start + self.interval * number;
            let at = before.map_or(scheduled, |before| {
                scheduled.max(before + CATCH_UP_INTERVAL)
            });
            if interrupt.sleep_until(at).is_err() {
                return Ok((number, longest_gap));
            }
            datagram[MARK.len()..MARK.len() + 4].copy_from_slice(&number.to_be_bytes());
            self.send_one(&datagram)?;
            let now = Instant::now();
            if let Some(before) = before {
                longest_gap = longest_gap.max(now - before);
            }
            before = Some(now);
        }
        Ok((self.count, longest_gap))
    }

    /// Sends one datagram; a refusal that may pass is met by trying again.
    fn send_one(&self, datagram: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.sender.send(datagram) {
                Ok(_) => return Ok(()),
                // Full queues, and errors that an ICMP answer to an earlier datagram left behind.
                Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Receives until all numbers are there, or `GRACE` after the last send.
    fn receive(&self, is_sent: &AtomicBool, interrupt: &Interrupt) -> io::Result<Tally> {
        let mut tally = Tally::new(self.count);
        let mut last_at = None;
        loop {
            if let Some((number, at)) = receive_one(&self.receiver)? {
                tally.record(number, at);
                continue;
            }
            // The socket was empty for one interval: late duplicates have had their chance too.
            if is_sent.load(Ordering::Acquire) {
                let is_waiting = !tally.is_complete() && interrupt.check().is_ok();
                let since = *last_at.get_or_insert_with(Instant::now);
                if !is_waiting || since.elapsed() >= GRACE {
                    return Ok(tally);
                }
            }
        }
    }
}

fn open_receiver(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(LOOK_UP_INTERVAL))?;
    // Beyond the system's limit as root; without root the limit has to do.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    }
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    Ok(socket)
}

/// One datagram's number and arrival time, or `None` if nothing came for a while.
fn receive_one(socket: &UdpSocket) -> io::Result<Option<(Option<u32>, Duration)>> {
    let mut datagram = [0; DATAGRAM_LEN + 1];
    let mut control = cmsg_space!(TimeSpec);
    let mut slices = [IoSliceMut::new(&mut datagram)];
    let received = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    );
    let (len, at) = match received {
        Ok(message) => {
            let stamp = message.cmsgs().ok().and_then(|mut messages| {
                messages.find_map(|control| match control {
                    ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                    _ => None,
                })
            });
            (message.bytes, stamp.unwrap_or_else(wall_time))
        }
        Err(errno) => {
            let error = io::Error::from(errno);
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
    };
    Ok(Some((number_in(&datagram[..len]), at)))
}

fn number_in(datagram: &[u8]) -> Option<u32> {
    let number = datagram.strip_prefix(MARK)?.first_chunk()?;
    (datagram.len() == DATAGRAM_LEN).then(|| u32::from_be_bytes(*number))
}

fn wall_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn joined<T>(result: thread::Result<io::Result<T>>) -> io::Result<T> {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
