//! Attackers for real daemons: forged source addresses, floods, and a neighbor that misbehaves.
//!
//! ```text
//!   Forger    raw IPv4 and IPv6 socket -> any source address, one datagram a call
//!   Witness   raw socket               <- every UDP datagram for one address, open port or not
//!   Neighbor  UDP socket, own thread   <> proves itself to a daemon, answers Pings, floods Data
//! ```
//!
//! Everything stays in the namespaces that a test made. No part of it is fast on purpose only: a
//! flood has a rate and a length, and says what it really sent.

use std::collections::BTreeSet;
use std::io::{self, IoSlice, Read};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use overlay::lab::net::Namespace;
use socket2::{Domain, Protocol, Socket, Type};
use wire::{Flags, HEADER_LEN, Header, Kind, NetId};

/// Bytes of the IPv4 header in front of what a raw socket reads; of IPv6 it shows none.
const IPV4_LEN: usize = 20;
/// Bytes of the UDP header in front of a datagram.
const UDP_LEN: usize = 8;
/// The socket buffers of a neighbor, in bytes: it must not be the one that loses.
const BUFFER: usize = 32 << 20;
/// Datagrams that the kernel takes in one piece at the most (`UDP_MAX_SEGMENTS`).
const SEGMENTS: usize = 64;
/// Bytes of a train at the most: an IP packet, without its headers.
const TRAIN_LEN: usize = 65_000;
/// How much longer than asked a flood may take when the machine is too slow for it.
const BEHIND: Duration = Duration::from_secs(1);
/// A flood is sent in portions, this far apart.
const TICK: Duration = Duration::from_millis(1);
/// How long a neighbor's thread waits before it looks whether it should end.
const LOOK_UP: Duration = Duration::from_millis(50);

/// A message without a payload.
pub fn message(kind: Kind, flags: Flags, src: NetId, dst: NetId, nonce: u32) -> [u8; HEADER_LEN] {
    Header {
        kind,
        flags,
        nonce,
        src,
        dst,
    }
    .to_bytes()
}

/// Sends UDP datagrams from any address, over the family of that address.
#[derive(Debug)]
pub struct Forger {
    v4: Socket,
    v6: Socket,
    packet: Vec<u8>,
}

impl Forger {
    /// A forger whose packets leave from `namespace`.
    ///
    /// # Panics
    /// Without the right to make raw sockets.
    pub fn new(namespace: &Namespace) -> Self {
        let [v4, v6] = [Domain::IPV4, Domain::IPV6].map(|family| {
            // With this protocol the packets given bring their IP header along.
            let protocol = Protocol::from(nix::libc::IPPROTO_RAW);
            let socket = raw(namespace, family, protocol);
            socket.set_send_buffer_size(4 << 20).expect("a buffer");
            socket
        });
        Self {
            v4,
            v6,
            packet: Vec::new(),
        }
    }

    /// Sends one datagram that says it comes from `from`.
    ///
    /// # Panics
    /// When the kernel refuses it for another reason than being busy, or with addresses of two
    /// families.
    pub fn send(
        &mut self,
        from: impl Into<SocketAddr>,
        to: impl Into<SocketAddr>,
        datagram: &[u8],
    ) {
        let (from, to) = (from.into(), to.into());
        self.packet.clear();
        let socket = match (from, to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                packet_v4(&mut self.packet, from, to, datagram);
                &self.v4
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                packet_v6(&mut self.packet, from, to, datagram);
                &self.v6
            }
            _ => panic!("{from} and {to} are of two families"),
        };
        // The port of a raw socket's address is the protocol, and of no use here.
        let at = SocketAddr::new(to.ip(), 0).into();
        loop {
            match socket.send_to(&self.packet, &at) {
                Ok(_) => return,
                Err(error) if is_busy(&error) => thread::yield_now(),
                Err(error) => panic!("cannot forge a datagram from {from} to {to}: {error}"),
            }
        }
    }
}

/// Appends an IPv4 packet; the kernel fills in total length, identification and header checksum,
/// and a UDP checksum of 0 is none.
pub(crate) fn packet_v4(
    packet: &mut Vec<u8>,
    from: SocketAddrV4,
    to: SocketAddrV4,
    datagram: &[u8],
) {
    packet.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend_from_slice(&from.ip().octets());
    packet.extend_from_slice(&to.ip().octets());
    udp(packet, from.port(), to.port(), datagram);
}

/// Appends an IPv6 packet, whose UDP checksum has to be right.
fn packet_v6(packet: &mut Vec<u8>, from: SocketAddrV6, to: SocketAddrV6, datagram: &[u8]) {
    let len = u16::try_from(UDP_LEN + datagram.len()).expect("a datagram fits into a packet");
    packet.extend_from_slice(&[0x60, 0, 0, 0]);
    packet.extend_from_slice(&len.to_be_bytes());
    packet.extend_from_slice(&[17, 64]);
    let addresses = packet.len();
    packet.extend_from_slice(&from.ip().octets());
    packet.extend_from_slice(&to.ip().octets());
    let start = packet.len();
    udp(packet, from.port(), to.port(), datagram);
    // RFC 8200 section 8.1: addresses, length, protocol, then UDP as it stands.
    let words = packet[addresses..].chunks(2);
    let words = words.map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum = words.sum::<u32>() + u32::from(len) + 17;
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    let checksum = match !(sum as u16) {
        0 => 0xFFFF,
        other => other,
    };
    packet[start + 6..start + 8].copy_from_slice(&checksum.to_be_bytes());
}

/// Appends a UDP header without a checksum, and its datagram.
fn udp(packet: &mut Vec<u8>, from: u16, to: u16, datagram: &[u8]) {
    let len = u16::try_from(UDP_LEN + datagram.len()).expect("a datagram fits into a packet");
    for word in [from, to, len, 0] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    packet.extend_from_slice(datagram);
}

/// Sees every UDP datagram that arrives for one address, whether a socket is open there or not.
#[derive(Debug)]
pub struct Witness {
    socket: Socket,
    /// Bytes in front of the datagram.
    headers: usize,
}

impl Witness {
    /// A witness at `address`, which `namespace` has.
    ///
    /// # Panics
    /// Without the right to make raw sockets, or without the address.
    pub fn new(namespace: &Namespace, address: impl Into<IpAddr>) -> Self {
        let here = SocketAddr::new(address.into(), 0);
        let socket = raw(namespace, Domain::for_address(here), Protocol::UDP);
        socket.bind(&here.into()).expect("the address is there");
        socket.set_nonblocking(true).expect("fcntl");
        let headers = match here {
            SocketAddr::V4(_) => IPV4_LEN + UDP_LEN,
            SocketAddr::V6(_) => UDP_LEN,
        };
        Self { socket, headers }
    }

    /// The datagrams that came since the last call.
    ///
    /// # Panics
    /// When the socket fails.
    pub fn take(&self) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        let mut packet = [0; 2048];
        loop {
            match (&self.socket).read(&mut packet) {
                Ok(len) => datagrams.push(packet[self.headers.min(len)..len].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return datagrams,
                Err(error) => panic!("the witness is blind: {error}"),
            }
        }
    }
}

pub(crate) fn raw(namespace: &Namespace, family: Domain, protocol: Protocol) -> Socket {
    namespace
        .run(|| Socket::new(family, Type::RAW, Some(protocol)))
        .expect("the namespace can be entered")
        .expect("a raw socket can be made")
}

fn is_busy(error: &io::Error) -> bool {
    let busy = [nix::libc::ENOBUFS, nix::libc::EAGAIN, nix::libc::EINTR];
    error
        .raw_os_error()
        .is_some_and(|code| busy.contains(&code))
}

/// A neighbor of a daemon that speaks the protocol itself: it proves its address, stays live, and
/// does with Data what the test wants.
///
/// State: a thread of its own answers and counts until this is dropped.
#[derive(Debug)]
pub struct Neighbor {
    netid: NetId,
    hub: SocketAddr,
    socket: UdpSocket,
    heard: Arc<Heard>,
    thread: Option<JoinHandle<()>>,
}

/// What came in.
#[derive(Debug, Default)]
struct Heard {
    ends: AtomicBool,
    /// Challenges and Pings answered.
    answered: AtomicU64,
    /// Data, of whomever.
    data: AtomicU64,
    /// Whose Data is told apart by its number.
    watched: AtomicU64,
    numbers: Mutex<BTreeSet<u64>>,
    duplicates: AtomicU64,
}

impl Neighbor {
    /// Greets the daemon at `hub` from `local` and answers its challenges.
    ///
    /// # Panics
    /// When it was not challenged within 5 s.
    pub fn join(namespace: &Namespace, local: SocketAddr, hub: SocketAddr, netid: NetId) -> Self {
        let socket = namespace
            .run(|| UdpSocket::bind(local))
            .expect("the namespace can be entered")
            .expect("the address is free");
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).expect("a large buffer");
        setsockopt(&socket, sockopt::SndBuf, &(4 << 20)).expect("a large buffer");
        socket.set_read_timeout(Some(LOOK_UP)).expect("a timeout");
        let heard = Arc::new(Heard::default());
        let thread = {
            let (socket, heard) = (socket.try_clone().expect("dup"), heard.clone());
            thread::spawn(move || listen(&socket, netid, hub, &heard))
        };
        let neighbor = Self {
            netid,
            hub,
            socket,
            heard,
            thread: Some(thread),
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        for nonce in 0.. {
            if neighbor.heard.answered.load(Relaxed) > 0 {
                break;
            }
            assert!(Instant::now() < deadline, "{netid} was not challenged");
            let hello = message(Kind::Hello, Flags::NO_FORWARD, netid, NetId::ANY, nonce);
            neighbor.send(&hello);
            thread::sleep(Duration::from_millis(250));
        }
        neighbor
    }

    /// Its number.
    pub fn netid(&self) -> NetId {
        self.netid
    }

    /// Its address.
    ///
    /// # Panics
    /// Never: it is bound.
    pub fn endpoint(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// Sends one datagram to the daemon.
    pub fn send(&self, datagram: &[u8]) {
        while let Err(error) = self.socket.send_to(datagram, self.hub) {
            // An ICMP answer to an earlier datagram is no news.
            assert!(
                is_busy(&error) || error.kind() == io::ErrorKind::ConnectionRefused,
                "{error}"
            );
        }
    }

    /// Sends numbered Data to `dst`, `rate` a second for `duration`, and says how many.
    pub fn flood(&self, dst: NetId, rate: u64, duration: Duration) -> u64 {
        self.flood_of(rate, duration, |number| data(self.netid, dst, number))
    }

    /// Sends what `make` makes of the numbers 0, 1, ..., `rate` a second for `duration`, and says
    /// how many.
    ///
    /// Shape: all datagrams have the same length. What is due at once goes out in trains that the
    ///        kernel cuts (UDP_SEGMENT).
    pub fn flood_of<T: AsRef<[u8]>>(
        &self,
        rate: u64,
        duration: Duration,
        make: impl Fn(u64) -> T,
    ) -> u64 {
        let started = Instant::now();
        let most = Self::most(make(0).as_ref().len());
        let mut sent = 0;
        loop {
            let elapsed = started.elapsed().min(duration);
            let due = rate * elapsed.as_micros() as u64 / 1_000_000;
            // A sender that has fallen behind may not stay longer for it.
            while sent < due && started.elapsed() < duration + BEHIND {
                let count = (due - sent).min(most);
                self.train_of(sent..sent + count, &make);
                sent += count;
            }
            if elapsed == duration {
                return sent;
            }
            thread::sleep(TICK);
        }
    }

    /// Sends what `make` makes of these numbers as one train.
    ///
    /// Shape: as with [`Self::flood_of`]; 64 short datagrams at the most.
    pub fn train_of<T: AsRef<[u8]>>(&self, numbers: Range<u64>, make: impl Fn(u64) -> T) {
        let size = make(numbers.start).as_ref().len();
        let count = numbers.end.saturating_sub(numbers.start) as usize;
        let mut train = Vec::with_capacity(size * count);
        for number in numbers {
            train.extend_from_slice(make(number).as_ref());
        }
        self.send_train(&train, size);
    }

    /// How many datagrams of this size make the longest train.
    fn most(size: usize) -> u64 {
        (TRAIN_LEN / size.max(1)).clamp(1, SEGMENTS) as u64
    }

    fn send_train(&self, train: &[u8], size: usize) {
        let to = SockaddrStorage::from(self.hub);
        let size = u16::try_from(size).expect("a datagram's length has 16 bits");
        let cut = [ControlMessage::UdpGsoSegments(&size)];
        let cut = if train.len() > usize::from(size) {
            &cut[..]
        } else {
            &[]
        };
        let (fd, bytes) = (self.socket.as_raw_fd(), [IoSlice::new(train)]);
        while let Err(errno) = sendmsg(fd, &bytes, cut, MsgFlags::empty(), Some(&to)) {
            let error = io::Error::from(errno);
            assert!(
                is_busy(&error) || error.kind() == io::ErrorKind::ConnectionRefused,
                "{error}"
            );
            thread::yield_now();
        }
    }

    /// From now on the Data of `origin` is told apart by its number.
    pub fn watch(&self, origin: NetId) {
        self.heard.watched.store(u64::from(origin.0), Relaxed);
    }

    /// How many numbers of the watched node came, and how many of them twice.
    ///
    /// # Panics
    /// When the neighbor's thread has.
    pub fn watched(&self) -> (u64, u64) {
        let numbers = self.heard.numbers.lock().expect("the thread lives");
        (numbers.len() as u64, self.heard.duplicates.load(Relaxed))
    }

    /// Data that came, of whomever.
    pub fn data(&self) -> u64 {
        self.heard.data.load(Relaxed)
    }
}

impl Drop for Neighbor {
    fn drop(&mut self) {
        self.heard.ends.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a neighbor panicked");
        }
    }
}

/// Bytes of a numbered Data datagram.
pub const DATA_LEN: usize = HEADER_LEN + 9;

/// Data for experiments (0xCF) with a number, all of it in the nonce and the payload.
pub fn data(src: NetId, dst: NetId, number: u64) -> [u8; DATA_LEN] {
    let mut datagram = [0xCF; DATA_LEN];
    let header = message(Kind::Data, Flags::NONE, src, dst, number as u32);
    datagram[..HEADER_LEN].copy_from_slice(&header);
    datagram[HEADER_LEN + 1..].copy_from_slice(&number.to_be_bytes());
    datagram
}

/// The neighbor's thread: answers what is asked directly, counts Data.
fn listen(socket: &UdpSocket, netid: NetId, hub: SocketAddr, heard: &Heard) {
    let mut buffer = [0; 2048];
    let mut nonce = 0x8000_0000;
    while !heard.ends.load(Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let datagram = &buffer[..len];
        let Ok(header) = Header::parse(datagram) else {
            continue;
        };
        if from != hub {
            continue;
        }
        let direct = header.flags.no_forward() || header.dst == NetId::ANY;
        match header.kind {
            Kind::Ping if direct => {
                nonce += 1;
                let pong = message(Kind::Pong, Flags::NO_FORWARD, netid, header.src, nonce);
                // What gets lost is asked again.
                let _ = socket.send_to(&pong, hub);
                heard.answered.fetch_add(1, Relaxed);
            }
            Kind::Data => {
                heard.data.fetch_add(1, Relaxed);
                if u64::from(header.src.0) == heard.watched.load(Relaxed) {
                    note(heard, &datagram[HEADER_LEN..]);
                }
            }
            _ => {}
        }
    }
}

fn note(heard: &Heard, payload: &[u8]) {
    let number = payload.get(1..9).and_then(|bytes| bytes.try_into().ok());
    let (Some(number), Ok(mut numbers)) = (number, heard.numbers.lock()) else {
        return;
    };
    if !numbers.insert(u64::from_be_bytes(number)) {
        heard.duplicates.fetch_add(1, Relaxed);
    }
}
