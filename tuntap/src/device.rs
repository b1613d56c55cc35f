//! What every device promises: the trait, and the words its methods use.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::str::FromStr;

use crate::batch::ReadBatch;

/// Which kind of packets a device carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// IP packets, without any header in front.
    Tun,
    /// Ethernet frames, from the destination address on, without checksum.
    Tap,
}

impl Mode {
    /// The shortest packet that can mean anything: an IPv4 header, an Ethernet header.
    pub const fn min_packet(self) -> usize {
        match self {
            Self::Tun => 20,
            Self::Tap => ETHERNET_HEADER_LEN,
        }
    }

    /// The longest packet that a device takes whatever its MTU.
    pub const fn max_packet(self) -> usize {
        match self {
            Self::Tun => IP_MAX_LEN,
            Self::Tap => IP_MAX_LEN + ETHERNET_HEADER_LEN + VLAN_TAGS_LEN,
        }
    }

    /// Judges a packet's length before it is written. The kernel does not: it takes one byte, or
    /// 70,000, and drops them later without a word.
    pub(crate) const fn check_len(self, len: usize) -> Result<(), Refusal> {
        if len < self.min_packet() {
            Err(Refusal::TooShort)
        } else if len > self.max_packet() {
            Err(Refusal::TooLong)
        } else {
            Ok(())
        }
    }
}

/// Bytes of an Ethernet header: two addresses and a type.
const ETHERNET_HEADER_LEN: usize = 14;
/// Bytes of two VLAN tags (802.1Q in 802.1ad), which the MTU does not count either.
const VLAN_TAGS_LEN: usize = 8;
/// The length fields of IP are 16 bits wide.
const IP_MAX_LEN: usize = 65_535;

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tun => "tun",
            Self::Tap => "tap",
        })
    }
}

/// A word that is neither `tun` nor `tap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMode;

impl fmt::Display for UnknownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a device mode is tun or tap")
    }
}

impl std::error::Error for UnknownMode {}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(word: &str) -> Result<Self, UnknownMode> {
        match word {
            "tun" => Ok(Self::Tun),
            "tap" => Ok(Self::Tap),
            _ => Err(UnknownMode),
        }
    }
}

/// What a device is, as it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name of the interface, as the kernel gave it.
    pub name: String,
    /// Which kind of packets it carries.
    pub mode: Mode,
    /// The kernel's number of the interface. A device opened again has another one.
    pub index: u32,
    /// Longest IP packet, bytes; an Ethernet header is not counted.
    pub mtu: u32,
    /// What it moves many packets at a time of.
    pub offload: Offload,
}

/// Which packets a device moves many at a time, as super-packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// None: one packet a system call.
    #[default]
    None,
    /// TCP.
    Tcp,
    /// TCP and UDP (Linux 6.2 and later).
    TcpUdp,
}

/// For which protocols a device no longer merges packets, since the kernel refused merged ones;
/// each with the error number of the last refusal. All their packets are written one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergingEnded {
    /// TCP.
    pub tcp: Option<i32>,
    /// UDP.
    pub udp: Option<i32>,
}

impl MergingEnded {
    /// Both protocols by name.
    pub fn by_protocol(self) -> [(&'static str, Option<i32>); 2] {
        [("tcp", self.tcp), ("udp", self.udp)]
    }
}

impl DeviceInfo {
    /// The longest packet that the kernel sends through the device, bytes: the MTU, and in tap
    /// mode the Ethernet header and two VLAN tags.
    pub fn max_packet(&self) -> usize {
        match self.mode {
            Mode::Tun => self.mtu as usize,
            Mode::Tap => self.mtu as usize + ETHERNET_HEADER_LEN + VLAN_TAGS_LEN,
        }
    }
}

/// What became of one packet written.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The kernel has it.
    Written,
    /// The kernel has no room now. Drop and count it: waiting would stop everything else.
    WouldBlock,
    /// The interface is down. It may come up again; the [`Watch`](crate::Watch) tells when.
    Down,
    /// The interface was deleted. The device is dead: drop it and open another.
    Gone,
    /// This packet was not taken; others may be.
    Refused(Refusal),
}

impl WriteOutcome {
    /// Whether the rest of the batch has the same outcome.
    pub(crate) const fn is_lasting(self) -> bool {
        matches!(self, Self::WouldBlock | Self::Down | Self::Gone)
    }
}

/// Why one packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Shorter than [`Mode::min_packet`].
    TooShort,
    /// Longer than [`Mode::max_packet`].
    TooLong,
    /// The kernel refused it, with this error number. `EINVAL` in tun mode: neither IPv4 nor IPv6.
    Kernel(i32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooShort => f.write_str("too short for a packet"),
            Self::TooLong => f.write_str("too long for a packet"),
            Self::Kernel(errno) => io::Error::from_raw_os_error(errno).fmt(f),
        }
    }
}

/// Whether an error of [`Device::read_batch`] says that the interface was deleted (`EBADFD`), so
/// that the device is dead.
pub fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

/// A virtual network device: packets in batches, in both directions.
///
/// Calls: from one thread, its owner; it never waits. Wait on [`Self::readiness`].
/// Cost:  no allocation per packet.
///
/// A device with segmentation offload reads a super-packet of up to 64 KiB, cuts it and fills many
/// slots of the batch from one read; it writes many packets of one flow with one call. That is why
/// reading fills a batch whose layout is the device's own affair, why packets to write live as
/// long as the whole call, and why outcomes carry the packet's number: they come when the packet
/// was flushed, which need not be in order.
///
/// # Errors
/// A device that is *down* reads nothing and reports [`WriteOutcome::Down`]; it recovers by
/// itself. One that is *gone* fails each read with an error for which [`is_gone`] holds and
/// reports [`WriteOutcome::Gone`]; it never recovers. Its readiness says ready then (an error
/// condition), so that a waiting worker finds out.
pub trait Device: fmt::Debug + Send {
    /// What the device is.
    fn info(&self) -> &DeviceInfo;

    /// Reads packets into the free slots of `batch` until none waits or none is free, and returns
    /// how many were read; 0 when nothing waits. Packets already in the batch stay.
    ///
    /// # Errors
    /// When nothing was read and the device failed; see [`is_gone`]. An error after the first
    /// packet shows at the next call.
    fn read_batch(&mut self, batch: &mut ReadBatch) -> io::Result<usize>;

    /// Writes packets, and reports for each of them, by its number in the iteration, what became
    /// of it: exactly once, before this returns, in any order.
    ///
    /// After [`WriteOutcome::WouldBlock`], [`Down`](WriteOutcome::Down) or
    /// [`Gone`](WriteOutcome::Gone) the rest of the batch has the same outcome, untried: it would
    /// fail likewise, or overtake.
    fn write_batch(
        &mut self,
        packets: &mut dyn Iterator<Item = &[u8]>,
        outcome: &mut dyn FnMut(usize, WriteOutcome),
    );

    /// Whether packets wait in the device itself, since they were read with others and the batch
    /// was full: then another batch can be read though [`Self::readiness`] may not say so.
    fn holds_packets(&self) -> bool {
        false
    }

    /// For which protocols it had to give up merging; it stays so as long as the device lives.
    fn merging_ended(&self) -> MergingEnded {
        MergingEnded::default()
    }

    /// What to poll for readability; `None` for a device that is only asked, never waited for.
    fn readiness(&self) -> Option<BorrowedFd<'_>>;

    /// A second handle on the same device, for another thread: one of them reads, both write. What
    /// one holds or has given up ([`Self::holds_packets`], [`Self::merging_ended`]) the other
    /// does not know of.
    ///
    /// State: the interface lives as long as one of them does.
    ///
    /// # Errors
    /// The process has no descriptor left.
    fn share(&self) -> io::Result<Box<dyn Device>>;
}

/// Writes packets one by one with `write`, keeping the promise of [`Device::write_batch`].
pub(crate) fn write_each<'p>(
    packets: &mut dyn Iterator<Item = &'p [u8]>,
    outcome: &mut dyn FnMut(usize, WriteOutcome),
    mut write: impl FnMut(&'p [u8]) -> WriteOutcome,
) {
    let mut lasting = None;
    for (number, packet) in packets.enumerate() {
        let result = lasting.unwrap_or_else(|| write(packet));
        if result.is_lasting() {
            lasting = Some(result);
        }
        outcome(number, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_parsed_from_what_it_prints() {
        for mode in [Mode::Tun, Mode::Tap] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("TUN".parse::<Mode>(), Err(UnknownMode));
        assert_eq!("none".parse::<Mode>(), Err(UnknownMode));
    }

    #[test]
    fn lengths_are_judged_to_the_byte() {
        for (mode, min, max) in [(Mode::Tun, 20, 65_535), (Mode::Tap, 14, 65_557)] {
            assert_eq!(mode.check_len(0), Err(Refusal::TooShort));
            assert_eq!(mode.check_len(min - 1), Err(Refusal::TooShort));
            assert_eq!(mode.check_len(min), Ok(()));
            assert_eq!(mode.check_len(max), Ok(()));
            assert_eq!(mode.check_len(max + 1), Err(Refusal::TooLong));
        }
    }

    #[test]
    fn the_longest_packet_counts_the_ethernet_header_in_tap_mode_only() {
        let mut info = DeviceInfo {
            name: "mesh0".into(),
            mode: Mode::Tun,
            index: 1,
            mtu: 1400,
            offload: Offload::None,
        };
        assert_eq!(info.max_packet(), 1400);
        info.mode = Mode::Tap;
        assert_eq!(info.max_packet(), 1422);
    }

    #[test]
    fn a_refused_packet_does_not_hold_up_the_rest_but_a_full_device_does() {
        let script = [
            WriteOutcome::Refused(Refusal::TooShort),
            WriteOutcome::Written,
            WriteOutcome::WouldBlock,
        ];
        let packets: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
        let mut tried = 0;
        let mut outcomes = Vec::new();
        write_each(
            &mut packets.into_iter(),
            &mut |number, outcome| outcomes.push((number, outcome)),
            |_| {
                tried += 1;
                script[tried - 1]
            },
        );
        assert_eq!(tried, 3);
        assert_eq!(
            outcomes,
            [
                (0, WriteOutcome::Refused(Refusal::TooShort)),
                (1, WriteOutcome::Written),
                (2, WriteOutcome::WouldBlock),
                (3, WriteOutcome::WouldBlock),
                (4, WriteOutcome::WouldBlock),
            ]
        );
    }
}
