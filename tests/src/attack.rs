//! Attackers for real daemons: forged source addresses, floods, and a neighbor that misbehaves.
//!
//! ```text
//!   Forger    raw IPv4 socket          -> any source address, one datagram a call
//!   Witness   raw IPv4 socket          <- every UDP datagram for one address, open port or not
//!   Neighbor  UDP socket, own thread   <> proves itself to a daemon, answers Pings, floods Data
//! ```
//!
//! Everything stays in the namespaces that a test made. No part of it is fast on purpose only: a
//! flood has a rate and a length, and says what it really sent.

use std::collections::BTreeSet;
use std::io::{self, IoSlice, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg, setsockopt, sockopt};
use overlay::lab::net::Namespace;
use socket2::{Domain, Protocol, Socket, Type};
use wire::{Flags, HEADER_LEN, Header, Kind, NetId};

/// Bytes of the IPv4 and the UDP header in front of a datagram.
const IP_UDP_LEN: usize = 28;
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

/// Sends UDP datagrams over IPv4 from any address.
#[derive(Debug)]
pub struct Forger {
    socket: Socket,
    packet: Vec<u8>,
}

impl Forger {
    /// A forger whose packets leave from `namespace`.
    ///
    /// # Panics
    /// Without the right to make raw sockets.
    pub fn new(namespace: &Namespace) -> Self {
        let socket = raw(namespace, Protocol::from(nix::libc::IPPROTO_RAW));
        socket.set_header_included_v4(true).expect("IP_HDRINCL");
        socket.set_send_buffer_size(4 << 20).expect("a buffer");
        Self {
            socket,
            packet: Vec::new(),
        }
    }

    /// Sends one datagram that says it comes from `from`.
    ///
    /// # Panics
    /// When the kernel refuses it for another reason than being busy.
    pub fn send(&mut self, from: SocketAddrV4, to: SocketAddrV4, datagram: &[u8]) {
        let len = u16::try_from(datagram.len() + 8).expect("a datagram fits into a packet");
        self.packet.clear();
        // Version and length; the kernel fills in total length, identification and checksum.
        self.packet
            .extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
        self.packet.extend_from_slice(&from.ip().octets());
        self.packet.extend_from_slice(&to.ip().octets());
        for word in [from.port(), to.port(), len, 0] {
            self.packet.extend_from_slice(&word.to_be_bytes());
        }
        self.packet.extend_from_slice(datagram);
        loop {
            match self
                .socket
                .send_to(&self.packet, &SocketAddr::V4(to).into())
            {
                Ok(_) => return,
                Err(error) if is_busy(&error) => thread::yield_now(),
                Err(error) => panic!("cannot forge a datagram from {from} to {to}: {error}"),
            }
        }
    }
}

/// Sees every UDP datagram that arrives for one address, whether a socket is open there or not.
#[derive(Debug)]
pub struct Witness {
    socket: Socket,
}

impl Witness {
    /// A witness at `address`, which `namespace` has.
    ///
    /// # Panics
    /// Without the right to make raw sockets, or without the address.
    pub fn new(namespace: &Namespace, address: Ipv4Addr) -> Self {
        let socket = raw(namespace, Protocol::UDP);
        let here = SocketAddr::from((address, 0));
        socket.bind(&here.into()).expect("the address is there");
        socket.set_nonblocking(true).expect("fcntl");
        Self { socket }
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
                Ok(len) => datagrams.push(packet[IP_UDP_LEN.min(len)..len].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return datagrams,
                Err(error) => panic!("the witness is blind: {error}"),
            }
        }
    }
}

fn raw(namespace: &Namespace, protocol: Protocol) -> Socket {
    namespace
        .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(protocol)))
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
    hub: SocketAddrV4,
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
    pub fn join(
        namespace: &Namespace,
        local: SocketAddrV4,
        hub: SocketAddrV4,
        netid: NetId,
    ) -> Self {
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
    pub fn endpoint(&self) -> SocketAddrV4 {
        match self.socket.local_addr().expect("it is bound") {
            SocketAddr::V4(v4) => v4,
            SocketAddr::V6(v6) => unreachable!("bound to IPv4, not {v6}"),
        }
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
        let size = make(0).as_ref().len();
        let most = (TRAIN_LEN / size.max(1)).clamp(1, SEGMENTS) as u64;
        let (mut sent, mut train) = (0, Vec::new());
        loop {
            let elapsed = started.elapsed().min(duration);
            let due = rate * elapsed.as_micros() as u64 / 1_000_000;
            // A sender that has fallen behind may not stay longer for it.
            while sent < due && started.elapsed() < duration + BEHIND {
                let count = (due - sent).min(most);
                train.clear();
                for number in sent..sent + count {
                    train.extend_from_slice(make(number).as_ref());
                }
                self.send_train(&train, size);
                sent += count;
            }
            if elapsed == duration {
                return sent;
            }
            thread::sleep(TICK);
        }
    }

    fn send_train(&self, train: &[u8], size: usize) {
        let to = SockaddrIn::from(self.hub);
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
const DATA_LEN: usize = HEADER_LEN + 9;

/// Data for experiments (0xCF) with a number, all of it in the nonce and the payload.
fn data(src: NetId, dst: NetId, number: u64) -> [u8; DATA_LEN] {
    let mut datagram = [0xCF; DATA_LEN];
    let header = message(Kind::Data, Flags::NONE, src, dst, number as u32);
    datagram[..HEADER_LEN].copy_from_slice(&header);
    datagram[HEADER_LEN + 1..].copy_from_slice(&number.to_be_bytes());
    datagram
}

/// The neighbor's thread: answers what is asked directly, counts Data.
fn listen(socket: &UdpSocket, netid: NetId, hub: SocketAddrV4, heard: &Heard) {
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
        if from != SocketAddr::V4(hub) {
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
