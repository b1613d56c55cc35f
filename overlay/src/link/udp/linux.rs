//! The system calls of the UDP transport: `recvmmsg`, `sendmmsg`, the error queue, control
//! messages. The only module of the transport with `unsafe` in it, and without any policy.
//!
//! Headers with pointers are built on the stack for each call, so that what lives longer holds
//! none and moves freely between threads. What the kernel wrote is taken apart in safe code.
//!
//! A train is datagrams of equal size, the last perhaps shorter, that cross the kernel as one:
//! `UDP_SEGMENT` on sending, `UDP_GRO` on receiving. On the wire they are ordinary datagrams.
//!
//! Sources: recvmmsg(2), sendmmsg(2), udp(7), ip(7), ipv6(7), socket(7), cmsg(3).

#![expect(
    unsafe_code,
    reason = "recvmmsg, sendmmsg and the error queue have no safe wrapper that does not allocate"
)]

use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use libc::{c_int, c_void, iovec, mmsghdr, msghdr};
use nix::errno::Errno;
use socket2::SockAddr;

use crate::pump::rx::{RX_BUFFERS, Span};
use crate::pump::tx::MAX_BATCH;

/// Most datagrams of one `sendmmsg`.
pub(super) const SEND_CHUNK: usize = MAX_BATCH;
/// Most datagrams of a train: what older kernels take (`UDP_MAX_SEGMENTS`).
const TRAIN_DATAGRAMS: usize = 64;
/// Most bytes of a train. With its headers it must stay below 64 KiB on any link, or it leaves as
/// single packets.
const TRAIN_LEN: usize = 65_000;
/// Bytes for control messages on sending: PKTINFO (40) and the train's segment size (24).
const SEND_CONTROL_LEN: usize = 64;
/// Bytes for control messages: on receiving at most PKTINFO (40), drop count (24), segment size
/// (24); in the error queue the error with an IPv6 offender (64) and PKTINFO (40).
const CONTROL_LEN: usize = 192;
/// Bytes of a socket address: `sockaddr_in6` is 28.
const NAME_LEN: usize = 32;

/// Control messages as the kernel reads and writes them.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// A socket address as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name([u8; NAME_LEN]);

// ---- options --------------------------------------------------------------------------------

/// Sets a socket option whose value is an `int`.
pub(super) fn set_option(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> Result<(), Errno> {
    // SAFETY: `value` outlives the call and its size is the length given.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

/// Bytes of the receive buffer in use, and how many there are, as the kernel counts them.
pub(super) fn receive_buffer(fd: BorrowedFd<'_>) -> Result<(u32, u32), Errno> {
    const USED: usize = libc::SK_MEMINFO_RMEM_ALLOC as usize;
    const SIZE: usize = libc::SK_MEMINFO_RCVBUF as usize;
    let mut words = [0_u32; 16];
    let mut len = size_of_val(&words) as libc::socklen_t;
    // SAFETY: `words` and `len` outlive the call, and `len` says how many bytes may be written.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    Errno::result(result).map(|_| (words[USED], words[SIZE]))
}

// ---- receiving ------------------------------------------------------------------------------

/// Where the kernel notes the senders and details of one round of receiving. Allocated once.
pub(super) struct ReceiveScratch {
    names: [Name; RX_BUFFERS],
    controls: [Control; RX_BUFFERS],
    results: [ReceiveResult; RX_BUFFERS],
}

/// What the kernel wrote into one message header.
#[derive(Clone, Copy, Default)]
struct ReceiveResult {
    len: u32,
    name_len: usize,
    control_len: usize,
    truncated: bool,
}

/// One message received, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Bytes written to the buffer.
    pub(super) len: u32,
    /// The sender; `None` when the kernel did not say.
    pub(super) remote: Option<SocketAddr>,
    /// Our address that was spoken to.
    pub(super) local: Option<IpAddr>,
    /// Index of the interface; 0 when the kernel did not say.
    pub(super) interface: u32,
    /// How many datagrams this socket has dropped since it was made, when the kernel said so.
    pub(super) kernel_drops: Option<u32>,
    /// Longer than the buffer; the rest is lost.
    pub(super) truncated: bool,
    /// Bytes of each datagram of a train but the last; `None` for a single datagram.
    pub(super) segment: Option<u32>,
}

impl ReceiveScratch {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            names: [Name([0; NAME_LEN]); RX_BUFFERS],
            controls: [Control([0; CONTROL_LEN]); RX_BUFFERS],
            results: [ReceiveResult::default(); RX_BUFFERS],
        })
    }

    /// Receives what waits, one message for each `buffer_len` bytes of `buffers`, without waiting.
    ///
    /// Returns how many came; [`Self::message`] tells about each.
    pub(super) fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        buffers: &mut [u8],
        buffer_len: usize,
    ) -> Result<usize, Errno> {
        let mut vectors = [const { MaybeUninit::<iovec>::uninit() }; RX_BUFFERS];
        let mut headers = [const { MaybeUninit::<mmsghdr>::uninit() }; RX_BUFFERS];
        let mut count = 0;
        for (buffer, (vector, header)) in buffers
            .chunks_exact_mut(buffer_len)
            .zip(vectors.iter_mut().zip(headers.iter_mut()))
        {
            let vector = vector.write(iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            });
            header.write(mmsghdr {
                msg_hdr: header_of(
                    self.names[count].0.as_mut_ptr().cast(),
                    NAME_LEN as libc::socklen_t,
                    (vector, 1),
                    self.controls[count].0.as_mut_ptr().cast(),
                    CONTROL_LEN,
                ),
                msg_len: 0,
            });
            count += 1;
        }
        // SAFETY: the first `count` headers are written; each points to a vector, a buffer, a name
        // and control space of its own, all of which outlive the call, with their true lengths.
        let received = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT,
                null_mut(),
            )
        };
        let received = Errno::result(received)? as usize;
        for (result, header) in self.results.iter_mut().zip(&headers[..received]) {
            // SAFETY: the first `count` headers are written, and `received` is at most `count`.
            let header = unsafe { header.assume_init_ref() };
            *result = ReceiveResult {
                len: header.msg_len,
                name_len: header.msg_hdr.msg_namelen as usize,
                control_len: header.msg_hdr.msg_controllen,
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            };
        }
        Ok(received)
    }

    /// What is known of message `index` of the last round.
    pub(super) fn message(&mut self, index: usize) -> Received {
        let result = self.results[index];
        Received::read(
            result.len,
            result.truncated,
            self.names[index].0.get(..result.name_len).unwrap_or(&[]),
            controls(&mut self.controls[index], result.control_len),
        )
    }
}

impl Received {
    /// Reads the name and the control messages that the kernel wrote.
    fn read<'a>(
        len: u32,
        truncated: bool,
        name: &[u8],
        controls: impl Iterator<Item = (c_int, c_int, &'a [u8])>,
    ) -> Self {
        let mut received = Self {
            len,
            remote: read_name(name),
            local: None,
            interface: 0,
            kernel_drops: None,
            truncated,
            segment: None,
        };
        for (level, kind, data) in controls {
            match (level, kind) {
                // struct in_pktinfo: interface, our address, the header's destination. Our
                // address differs from the destination when that is a broadcast.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    received.interface = word(data, 0).unwrap_or(0);
                    received.local = four(data, 4).map(|octets| Ipv4Addr::from(octets).into());
                }
                // struct in6_pktinfo: the header's destination, interface.
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    received.interface = word(data, 16).unwrap_or(0);
                    received.local = sixteen(data, 0).map(|octets| Ipv6Addr::from(octets).into());
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => received.kernel_drops = word(data, 0),
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    received.segment = word(data, 0).filter(|size| *size > 0);
                }
                _ => {}
            }
        }
        // Nothing can be sent from a group or from the wildcard.
        received.local = received
            .local
            .filter(|address| !address.is_multicast() && !address.is_unspecified());
        received
    }
}

// ---- sending --------------------------------------------------------------------------------

/// Where to send and from which address, ready for the kernel.
pub(super) struct Destination {
    name: SockAddr,
    control: SendControl,
}

/// Control messages of one datagram or train.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct SendControl {
    bytes: [u8; SEND_CONTROL_LEN],
    len: usize,
}

impl Destination {
    /// To `remote`, leaving from `local` or, without it, from an address the kernel chooses.
    pub(super) fn new(remote: SocketAddr, local: Option<IpAddr>) -> Self {
        let mut destination = Self {
            name: remote.into(),
            control: SendControl {
                bytes: [0; SEND_CONTROL_LEN],
                len: 0,
            },
        };
        // Interface 0: the route decides, and a link-local destination names its own interface.
        match local {
            Some(IpAddr::V4(address)) => destination.control.put(
                libc::IPPROTO_IP,
                libc::IP_PKTINFO,
                libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(address.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                },
            ),
            Some(IpAddr::V6(address)) => destination.control.put(
                libc::IPPROTO_IPV6,
                libc::IPV6_PKTINFO,
                libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: address.octets(),
                    },
                    ipi6_ifindex: 0,
                },
            ),
            None => {}
        }
        destination
    }
}

impl SendControl {
    /// Adds a control message behind those that are there.
    fn put<T: Copy>(&mut self, level: c_int, kind: c_int, value: T) {
        let len = size_of::<T>() as u32;
        // SAFETY: CMSG_LEN and CMSG_SPACE only compute.
        let (message_len, space) = unsafe { (libc::CMSG_LEN(len), libc::CMSG_SPACE(len)) };
        let room = &mut self.bytes[self.len..];
        assert!(space as usize <= room.len(), "a constant of this file");
        let header: *mut libc::cmsghdr = room.as_mut_ptr().cast();
        // SAFETY: the buffer is aligned for a cmsghdr, and so is each place in it, since CMSG_SPACE
        // is a multiple of that; it holds `space` bytes more: header and value.
        unsafe {
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = message_len as usize;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        self.len += space as usize;
    }
}

/// How many of `spans`, from the first on, make one train.
fn train(spans: &[Span]) -> usize {
    let Some(first) = spans.first() else {
        return 0;
    };
    let mut bytes = 0;
    let mut count = 0;
    for span in spans.iter().take(TRAIN_DATAGRAMS) {
        bytes += span.len as usize;
        // An empty datagram cannot be told in a train.
        if span.len > first.len || span.len == 0 || (count > 0 && bytes > TRAIN_LEN) {
            break;
        }
        count += 1;
        if span.len < first.len {
            break;
        }
    }
    count.max(1)
}

/// Sends up to [`SEND_CHUNK`] datagrams of `arena` to one destination, without waiting; with
/// `trains` those that make a train as one.
///
/// Returns how many datagrams the kernel took. An error tells of the first datagram or train only:
/// one that strikes a later one ends the call early, is forgotten by the kernel, and shows again (if
/// it lasts) when that one comes first.
pub(super) fn send(
    fd: BorrowedFd<'_>,
    destination: &Destination,
    arena: &[u8],
    spans: &[Span],
    trains: bool,
) -> Result<usize, Errno> {
    let mut vectors = [const { MaybeUninit::<iovec>::uninit() }; SEND_CHUNK];
    let mut headers = [const { MaybeUninit::<mmsghdr>::uninit() }; SEND_CHUNK];
    let mut controls = [const { MaybeUninit::<SendControl>::uninit() }; SEND_CHUNK];
    let mut lens = [0_u8; SEND_CHUNK];
    let mut count = 0;
    let mut rest = &spans[..spans.len().min(SEND_CHUNK)];
    let mut free = &mut vectors[..];
    while !rest.is_empty() {
        let len = if trains { train(rest) } else { 1 };
        let (members, after) = rest.split_at(len);
        let control = controls[count].write(destination.control);
        if len > 1 {
            control.put(libc::SOL_UDP, libc::UDP_SEGMENT, members[0].len as u16);
        }
        let (mine, others) = std::mem::take(&mut free).split_at_mut(len);
        let used = gather(arena, members, mine);
        headers[count].write(mmsghdr {
            msg_hdr: header_of(
                destination.name.as_ptr().cast_mut().cast(),
                destination.name.len(),
                (mine.as_mut_ptr().cast(), used),
                match control.len {
                    0 => null_mut(),
                    _ => control.bytes.as_mut_ptr().cast(),
                },
                control.len,
            ),
            msg_len: 0,
        });
        lens[count] = len as u8;
        count += 1;
        (rest, free) = (after, others);
    }
    // SAFETY: the first `count` headers are written; what they point to outlives the call and is
    // only read: sendmmsg writes to the headers alone, which are ours.
    let sent = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    let sent = Errno::result(sent)? as usize;
    Ok(lens[..sent].iter().map(|len| usize::from(*len)).sum())
}

/// Notes where the bytes of `members` lie, those that touch each other as one; returns the number
/// of vectors written.
///
/// Shape: `vectors` as long as `members`.
fn gather(arena: &[u8], members: &[Span], vectors: &mut [MaybeUninit<iovec>]) -> usize {
    let mut used = 0;
    let mut members = members.iter().copied().peekable();
    while let Some(mut span) = members.next() {
        while let Some(next) = members.next_if(|next| next.start == span.start + span.len) {
            span.len += next.len;
        }
        let bytes = span.of(arena);
        vectors[used].write(iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        });
        used += 1;
    }
    used
}

// ---- the error queue ------------------------------------------------------------------------

/// One entry of a socket's error queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Where the datagram was going that failed.
    pub(super) remote: Option<SocketAddr>,
    /// What became of it.
    pub(super) errno: Errno,
}

/// Takes one entry from the error queue; `None` when it is empty.
pub(super) fn next_report(fd: BorrowedFd<'_>) -> Option<Report> {
    let mut name = Name([0; NAME_LEN]);
    let mut control = Control([0; CONTROL_LEN]);
    // No buffer for the failed datagram itself: its destination is all that is asked for.
    let mut header = header_of(
        name.0.as_mut_ptr().cast(),
        NAME_LEN as libc::socklen_t,
        (null_mut(), 0),
        control.0.as_mut_ptr().cast(),
        CONTROL_LEN,
    );
    // SAFETY: name and control space outlive the call and their lengths are true; no vector.
    let result = unsafe {
        libc::recvmsg(
            fd.as_raw_fd(),
            &raw mut header,
            libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
        )
    };
    Errno::result(result).ok()?;
    let remote = read_name(name.0.get(..header.msg_namelen as usize).unwrap_or(&[]));
    // struct sock_extended_err begins with the errno.
    let errno = controls(&mut control, header.msg_controllen)
        .find(|&(level, kind, _)| {
            (level, kind) == (libc::IPPROTO_IP, libc::IP_RECVERR)
                || (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        })
        .and_then(|(_, _, data)| word(data, 0))
        .map_or(Errno::UnknownErrno, |errno| Errno::from_raw(errno as i32));
    Some(Report { remote, errno })
}

// ---- shared ---------------------------------------------------------------------------------

/// A header with `count` vectors; an empty name or control is given as null and 0.
fn header_of(
    name: *mut c_void,
    name_len: libc::socklen_t,
    (vectors, count): (*mut iovec, usize),
    control: *mut c_void,
    control_len: usize,
) -> msghdr {
    // SAFETY: all zeroes is a msghdr: null pointers and lengths of 0. It has private padding on
    // some platforms, so that it cannot be written as a literal.
    let mut header: msghdr = unsafe { zeroed() };
    header.msg_name = name;
    header.msg_namelen = name_len;
    header.msg_iov = vectors;
    header.msg_iovlen = count;
    header.msg_control = control;
    header.msg_controllen = control_len;
    header
}

/// The control messages in the first `len` bytes: level, type and data of each.
fn controls(
    control: &mut Control,
    len: usize,
) -> impl Iterator<Item = (c_int, c_int, &[u8])> + use<'_> {
    // SAFETY: all zeroes is a msghdr.
    let mut header: msghdr = unsafe { zeroed() };
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = len.min(CONTROL_LEN);
    // SAFETY: the buffer is aligned and `msg_controllen` bytes long; null when it holds nothing.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    std::iter::from_fn(move || {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a header inside the buffer, which
        // `control` keeps borrowed.
        let message = unsafe { next.as_ref() }?;
        // SAFETY: CMSG_LEN only computes.
        let len = message
            .cmsg_len
            .checked_sub(unsafe { libc::CMSG_LEN(0) } as usize)?;
        // SAFETY: the kernel keeps the data of a message, `cmsg_len` bytes less the header, inside
        // `msg_controllen`; the slice borrows from `control`.
        let data = unsafe { std::slice::from_raw_parts(libc::CMSG_DATA(message), len) };
        let item = (message.cmsg_level, message.cmsg_type, data);
        // SAFETY: `next` came from this header's buffer.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
        Some(item)
    })
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
fn read_name(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes([*name.first()?, *name.get(1)?]);
    let port = u16::from_be_bytes([*name.get(2)?, *name.get(3)?]);
    match i32::from(family) {
        libc::AF_INET => Some(SocketAddrV4::new(four(name, 4)?.into(), port).into()),
        libc::AF_INET6 => {
            Some(SocketAddrV6::new(sixteen(name, 8)?.into(), port, 0, word(name, 24)?).into())
        }
        _ => None,
    }
}

/// The native 32-bit word at `offset`.
fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    four(bytes, offset).map(u32::from_ne_bytes)
}

fn four(bytes: &[u8], offset: usize) -> Option<[u8; 4]> {
    bytes.get(offset..offset + 4)?.try_into().ok()
}

fn sixteen(bytes: &[u8], offset: usize) -> Option<[u8; 16]> {
    bytes.get(offset..offset + 16)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: c_int, kind: c_int, data: &[u8]) -> (c_int, c_int, &[u8]) {
        (level, kind, data)
    }

    #[test]
    fn a_name_of_each_family_is_read_and_a_short_one_is_not() {
        let v4 = [2, 0, 0xAC, 0xAC, 192, 0, 2, 5];
        assert_eq!(read_name(&v4), Some("192.0.2.5:44204".parse().unwrap()));
        for len in 0..v4.len() {
            assert_eq!(read_name(&v4[..len]), None, "{len} bytes");
        }
        let mut v6 = [0_u8; 28];
        v6[0] = libc::AF_INET6 as u8;
        v6[3] = 7;
        v6[4..8].copy_from_slice(&[9; 4]); // flow label: not part of an endpoint
        v6[8] = 0xfe;
        v6[9] = 0x80;
        v6[23] = 1;
        v6[24] = 3;
        assert_eq!(read_name(&v6), Some("[fe80::1%3]:7".parse().unwrap()));
        assert_eq!(read_name(&[1, 0, 0, 0, 0, 0, 0, 0]), None, "another family");
    }

    #[test]
    fn the_address_spoken_to_is_ours_not_the_broadcast_address() {
        // Interface 2, our address 10.0.0.1, sent to 10.0.0.255.
        let data = [2, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 255];
        let info = [message(libc::IPPROTO_IP, libc::IP_PKTINFO, &data)];
        let received = Received::read(4, false, &[], info.into_iter());
        assert_eq!(received.local, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(received.interface, 2);
    }

    #[test]
    fn a_multicast_destination_is_no_address_to_answer_from() {
        let mut data = [0_u8; 20];
        data[0] = 0xff;
        data[1] = 0x02;
        data[16] = 5;
        let info = [message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data)];
        let received = Received::read(4, false, &[], info.into_iter());
        assert_eq!(received.local, None);
        assert_eq!(received.interface, 5);
    }

    #[test]
    fn short_and_unknown_control_messages_are_passed_over() {
        let seven = 7_u32.to_ne_bytes();
        let all = [
            message(libc::IPPROTO_IP, libc::IP_PKTINFO, &[1, 0]),
            message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[0; 15]),
            message(libc::SOL_SOCKET, 9999, &[1; 8]),
            message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &seven),
        ];
        let received = Received::read(0, true, &[2], all.into_iter());
        let expected = Received {
            len: 0,
            remote: None,
            local: None,
            interface: 0,
            kernel_drops: Some(7),
            truncated: true,
            segment: None,
        };
        assert_eq!(received, expected);
    }

    #[test]
    fn what_is_put_into_control_space_is_found_there() {
        let with = Destination::new(
            "[::1]:1".parse().unwrap(),
            Some("2001:db8::7".parse().unwrap()),
        );
        let mut put = with.control;
        put.put(libc::SOL_UDP, libc::UDP_SEGMENT, 1_416_u16);
        let mut control = Control([0; CONTROL_LEN]);
        control.0[..put.len].copy_from_slice(&put.bytes[..put.len]);
        let found: Vec<_> = controls(&mut control, put.len).collect();
        assert_eq!(found.len(), 2);
        let (level, kind, data) = found[1];
        assert_eq!((level, kind), (libc::SOL_UDP, libc::UDP_SEGMENT));
        assert_eq!(data, 1_416_u16.to_ne_bytes());
        let (level, kind, data) = found[0];
        assert_eq!((level, kind), (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO));
        assert_eq!(
            sixteen(data, 0).map(Ipv6Addr::from),
            Some("2001:db8::7".parse().unwrap())
        );
        assert_eq!(word(data, 16), Some(0));
        assert_eq!(controls(&mut control, 0).count(), 0);
    }

    fn spans(lens: &[u32]) -> Vec<Span> {
        lens.iter().map(|&len| Span { start: 0, len }).collect()
    }

    #[test]
    fn a_train_has_equal_datagrams_a_shorter_last_one_64_of_them_and_65000_bytes() {
        for (lens, expected) in [
            (vec![], 0),
            (vec![100], 1),
            (vec![100, 100, 100], 3),
            (vec![100, 100, 40, 40], 3),
            (vec![100, 101], 1),
            (vec![40, 100], 1),
            (vec![100, 0, 100], 1),
            (vec![0, 0], 1),
            (vec![16; 200], 64),
            (vec![1_416; 64], 45),
            (vec![65_507, 65_507], 1),
        ] {
            assert_eq!(train(&spans(&lens)), expected, "{lens:?}");
        }
    }

    #[test]
    fn what_lies_side_by_side_is_one_vector() {
        let arena = [0; 100];
        let side_by_side = |start| Span { start, len: 10 };
        let members = [0, 10, 20, 50, 60].map(side_by_side);
        let mut vectors = [const { MaybeUninit::uninit() }; 5];
        assert_eq!(gather(&arena, &members, &mut vectors), 2);
    }
}
