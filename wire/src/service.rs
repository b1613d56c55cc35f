//! What a Data payload carries: its first byte says.
//!
//! An IP packet begins with its version, 4 or 6, in the first four bits. Everything else begins
//! with a byte from 0xC0 to 0xCF, which no IP packet can. Source: PROTOCOL.md, "Data".

use core::fmt;

/// First byte of a payload that holds one Ethernet frame, which follows it.
pub const ETHERNET_FRAME: u8 = 0xC0;
/// First byte of a payload of the reliable messages.
pub const RELIABLE: u8 = 0xC1;
/// First byte of a payload of the directory.
pub const DIRECTORY: u8 = 0xC2;
/// First byte of a payload of a realtime channel.
pub const REALTIME: u8 = 0xC3;
/// First byte of a payload that is sealed end to end and contains one of the others.
pub const SEALED: u8 = 0xC8;
/// First byte of a payload for experiments.
pub const EXPERIMENT: u8 = 0xCF;

/// Who gets a Data payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// 0x40 to 0x4F, 0x60 to 0x6F: the payload, first byte included, is a raw IP packet.
    IpPacket,
    /// [`ETHERNET_FRAME`].
    EthernetFrame,
    /// [`RELIABLE`].
    Reliable,
    /// [`DIRECTORY`].
    Directory,
    /// [`REALTIME`].
    Realtime,
    /// [`SEALED`].
    Sealed,
    /// [`EXPERIMENT`].
    Experiment,
    /// Any other first byte: ignored and counted, forwarded all the same.
    Unknown(u8),
}

/// Who gets a payload that begins with this byte. An empty payload is nobody's.
pub const fn classify(first_byte: u8) -> Service {
    match first_byte {
        0x40..=0x4F | 0x60..=0x6F => Service::IpPacket,
        ETHERNET_FRAME => Service::EthernetFrame,
        RELIABLE => Service::Reliable,
        DIRECTORY => Service::Directory,
        REALTIME => Service::Realtime,
        SEALED => Service::Sealed,
        EXPERIMENT => Service::Experiment,
        other => Service::Unknown(other),
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IpPacket => "IP packet",
            Self::EthernetFrame => "Ethernet frame",
            Self::Reliable => "reliable message",
            Self::Directory => "directory",
            Self::Realtime => "realtime channel",
            Self::Sealed => "sealed end to end",
            Self::Experiment => "experiment",
            Self::Unknown(byte) => return write!(f, "unknown service {byte:02x}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_byte_has_exactly_the_service_of_the_table() {
        for byte in 0..=255 {
            let expected = match byte {
                0x40..=0x4f | 0x60..=0x6f => Service::IpPacket,
                0xc0 => Service::EthernetFrame,
                0xc1 => Service::Reliable,
                0xc2 => Service::Directory,
                0xc3 => Service::Realtime,
                0xc8 => Service::Sealed,
                0xcf => Service::Experiment,
                other => Service::Unknown(other),
            };
            assert_eq!(classify(byte), expected, "{byte:02x}");
        }
    }
}
