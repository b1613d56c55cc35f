//! As many datagrams as the machine can send.
//!
//! All of them come from addresses that are not the sender's. A part comes from thousands: packets made in
//! advance and handed to the kernel by the dozen (sendmmsg on a raw socket). The greater part comes from
//! some dozens, in trains that the kernel cuts (UDP_SEGMENT), which is many times as fast.
//!
//! Everything stays in the namespace that a test made.
#![allow(
    clippy::unwrap_used,
    reason = "only tests call this, and one that cannot go on fails there"
)]

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, sendmsg, setsockopt, sockopt,
};
use overlay::lab::net::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

use crate::attack::{packet_v4, raw};
use crate::pinning::{pin_thread, processors};

/// Packets of one system call.
const BATCH: usize = 64;
/// Packets made in advance; then they repeat.
const PACKETS: usize = 8_192;
/// Trains sent between two of these calls.
const TRAINS: usize = 8;
/// Datagrams of a train at the most (`UDP_MAX_SEGMENTS`), and its bytes.
const TRAIN: (usize, usize) = (64, 65_000);
/// Sources of trains; each is a socket, since the kernel makes their headers.
const TRAIN_SOURCES: u8 = 64;
/// Where they say that they come from: the benchmark networks of RFC 2544, and nobody's here.
pub const SOURCES: [u8; 2] = [198, 18];
/// The port that they say they come from.
const SOURCE_PORT: u16 = 40_000;

/// A flood, ready to begin.
#[derive(Debug)]
pub struct Flood {
    socket: Socket,
    packets: Vec<Vec<u8>>,
    /// Each bound to an address that is not the sender's.
    spoofers: Vec<UdpSocket>,
    /// Each with the length of its datagrams, and how many they are.
    trains: Vec<(Vec<u8>, u16, u64)>,
    to: SocketAddrV4,
    /// Where it runs.
    processor: usize,
}

impl Flood {
    /// A flood of `datagrams` in turn, from `namespace` to `to`.
    ///
    /// # Panics
    /// Without the right to make raw sockets.
    pub fn new(namespace: &Namespace, to: SocketAddrV4, datagrams: &[Vec<u8>]) -> Self {
        // With this protocol the packets given bring their IP header along.
        let protocol = Protocol::from(nix::libc::IPPROTO_RAW);
        let socket = raw(namespace, Domain::IPV4, protocol);
        socket.set_send_buffer_size(4 << 20).unwrap();
        let packet = |(number, datagram): (usize, &Vec<u8>)| {
            let mut packet = Vec::new();
            packet_v4(&mut packet, source(number as u16), to, datagram);
            packet
        };
        let train = |datagram: &Vec<u8>| {
            let count = TRAIN.0.min(TRAIN.1 / datagram.len());
            let len = u16::try_from(datagram.len()).unwrap();
            (datagram.repeat(count), len, count as u64)
        };
        // Beyond the sources of single packets.
        let spoofers = (0..TRAIN_SOURCES).map(|n| u16::from_be_bytes([0xff, n]));
        let spoofers = spoofers.map(|number| spoofer(namespace, source(number), to));
        let many = datagrams.iter().cycle().take(PACKETS).enumerate();
        Self {
            packets: many.map(packet).collect(),
            trains: datagrams.iter().map(train).collect(),
            socket,
            spoofers: spoofers.collect(),
            to,
            processor: processors() - 1,
        }
    }

    /// Sends for `duration`, at most `rate` a second, on the last processor that its maker had;
    /// returns how many the kernel took.
    ///
    /// # Panics
    /// When the kernel refuses them for another reason than being busy.
    pub fn run(&self, duration: Duration, rate: u64) -> u64 {
        // Where that is refused the figure is worse, and says so itself.
        pin_thread(self.processor);
        let slices: Vec<[IoSlice<'_>; 1]> = self
            .packets
            .iter()
            .map(|packet| [IoSlice::new(packet)])
            .collect();
        let addresses = vec![Some(SockaddrIn::from(SocketAddrV4::new(*self.to.ip(), 0))); BATCH];
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
        let mut trains = self.trains.iter().cycle().zip(self.spoofers.iter().cycle());
        let (start, mut sent) = (Instant::now(), 0);
        for batch in slices.chunks_exact(BATCH).cycle() {
            let elapsed = start.elapsed();
            if elapsed >= duration {
                break;
            }
            if sent as f64 > elapsed.as_secs_f64() * rate as f64 {
                thread::sleep(Duration::from_micros(200));
                continue;
            }
            let fd = self.socket.as_raw_fd();
            match sendmmsg(fd, &mut headers, batch, &addresses, [], MsgFlags::empty()) {
                Ok(taken) => sent += taken.count() as u64,
                Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => thread::yield_now(),
                Err(error) => panic!("cannot flood {}: {error}", self.to),
            }
            for ((train, len, count), spoofer) in trains.by_ref().take(TRAINS) {
                let cut = [ControlMessage::UdpGsoSegments(len)];
                let train = [IoSlice::new(train)];
                let fd = spoofer.as_raw_fd();
                match sendmsg::<()>(fd, &train, &cut, MsgFlags::MSG_DONTWAIT, None) {
                    Ok(_) => sent += count,
                    // A closed port would be told so; ours is only busy.
                    Err(_) => thread::yield_now(),
                }
            }
        }
        sent
    }
}

fn source(number: u16) -> SocketAddrV4 {
    let [first, second] = SOURCES;
    let [high, low] = number.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(first, second, high, low), SOURCE_PORT)
}

/// A socket that sends from an address that is not the machine's.
fn spoofer(namespace: &Namespace, from: SocketAddrV4, to: SocketAddrV4) -> UdpSocket {
    let socket = namespace.run(|| Socket::new(Domain::IPV4, Type::DGRAM, None));
    let socket = socket.unwrap().unwrap();
    setsockopt(&socket, sockopt::IpTransparent, &true).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}
