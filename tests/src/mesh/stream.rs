//! A numbered stream of UDP datagrams over the overlay, and what became of it.
//!
//! The sender keeps an absolute schedule: a late wake-up is made good, a little faster than the
//! stream but never in one burst, which would measure the queue of the device. What counts as sent,
//! the kernel took.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use overlay::lab::net::Namespace;

use super::sleep_until;

/// The time from one datagram to the next: 1,000 a second.
const INTERVAL: Duration = Duration::from_millis(1);
/// Bytes of one datagram: about what voice or telemetry sends.
const LEN: usize = 200;
/// How long stragglers are waited for after the last send.
const GRACE: Duration = Duration::from_secs(1);
/// The least time between two sends while a late wake-up is made good.
const CATCH_UP_INTERVAL: Duration = Duration::from_micros(100);
/// How often the receiver looks up from an empty socket.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Asked of the kernel for the receiver: seconds of the stream, so that losses are the mesh's.
const RECEIVE_BUFFER: usize = 8 << 20;
/// How long the sender insists on a datagram that the kernel refuses.
const INSISTENCE: Duration = Duration::from_secs(2);

/// A socket at each end. Each run is a stream of its own.
#[derive(Debug)]
pub struct Stream {
    sender: UdpSocket,
    receiver: UdpSocket,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Datagrams that the kernel took.
    pub sent: usize,
    /// Of them, those that never arrived.
    pub lost: usize,
    /// Arrivals beyond the first of a number.
    pub duplicated: usize,
    /// First arrivals of a number after a higher one.
    pub reordered: usize,
    /// Number of the first one that was lost: tells what it met.
    pub first_lost: Option<usize>,
}

impl Figures {
    /// The share that was lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.lost as f64 / self.sent as f64
    }

    /// Nothing lost, nothing twice.
    pub fn is_perfect(&self) -> bool {
        self.lost == 0 && self.duplicated == 0
    }
}

impl Stream {
    /// Opens the sockets.
    ///
    /// # Panics
    /// When the overlay addresses are not there.
    pub fn open(from: (&Namespace, IpAddr), to: (&Namespace, IpAddr)) -> Self {
        let receiver = to.0.run(|| UdpSocket::bind((to.1, 0))).unwrap().unwrap();
        receiver.set_read_timeout(Some(LOOK_INTERVAL)).unwrap();
        // Beyond the system's limit; these tests run as root.
        setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER).unwrap();
        let target: SocketAddr = receiver.local_addr().unwrap();
        let sender = from
            .0
            .run(|| UdpSocket::bind((from.1, 0)))
            .unwrap()
            .unwrap();
        sender.connect(target).unwrap();
        Self { sender, receiver }
    }

    /// Sends 1,000 datagrams a second for `duration`, and does `meanwhile`, which is told the start.
    pub fn run(&self, duration: Duration, meanwhile: impl FnOnce(Instant)) -> Figures {
        let count = usize::try_from(duration.as_millis()).unwrap();
        let is_sent = AtomicBool::new(false);
        let start = Instant::now();
        let (times, reordered) = thread::scope(|scope| {
            let receiver = scope.spawn(|| self.receive(count, &is_sent));
            let sender = scope.spawn(|| {
                self.send(start, count);
                is_sent.store(true, Ordering::Release);
            });
            meanwhile(start);
            sender.join().unwrap();
            receiver.join().unwrap()
        });
        Figures {
            sent: count,
            lost: times.iter().filter(|&&times| times == 0).count(),
            duplicated: times
                .iter()
                .map(|&times| usize::from(times.saturating_sub(1)))
                .sum(),
            reordered,
            first_lost: times.iter().position(|&times| times == 0),
        }
    }

    fn send(&self, start: Instant, count: usize) {
        let mut datagram = [0xa5; LEN];
        let mut earliest = start;
        for number in 0..u32::try_from(count).unwrap() {
            sleep_until(earliest.max(start + INTERVAL * number));
            datagram[..4].copy_from_slice(&number.to_be_bytes());
            let deadline = Instant::now() + INSISTENCE;
            while let Err(error) = self.sender.send(&datagram) {
                assert!(Instant::now() < deadline, "cannot send: {error}");
                thread::sleep(INTERVAL);
            }
            earliest = Instant::now() + CATCH_UP_INTERVAL;
        }
    }

    /// How often each number arrived, and how many came late.
    fn receive(&self, count: usize, is_sent: &AtomicBool) -> (Vec<u8>, usize) {
        let mut arrivals = vec![0_u8; count];
        let (mut highest, mut reordered) = (0, 0);
        let mut sent_at = None;
        let mut datagram = [0; LEN + 1];
        loop {
            match self.receiver.recv(&mut datagram) {
                Ok(LEN) => {
                    let number = u32::from_be_bytes(*datagram.first_chunk().unwrap()) as usize;
                    let times = &mut arrivals[number];
                    reordered += usize::from(*times == 0 && number < highest);
                    highest = highest.max(number);
                    *times = times.saturating_add(1);
                }
                Ok(other) => panic!("{other} bytes arrived in place of {LEN}"),
                Err(error) if is_silence(&error) => {}
                Err(error) => panic!("cannot receive: {error}"),
            }
            if is_sent.load(Ordering::Acquire) {
                let since: Instant = *sent_at.get_or_insert_with(Instant::now);
                if since.elapsed() > GRACE {
                    return (arrivals, reordered);
                }
            }
        }
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
