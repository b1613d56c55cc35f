//! What can go wrong while a device is opened, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;

use ipnet::IpNet;

use crate::device::Mode;
use crate::name::NameProblem;

/// Why a device could not be opened.
///
/// State: whatever the variant, no interface of ours is left: it lives only as long as the device,
///        and the device was dropped. The caller may correct the cause and open again.
#[derive(Debug)]
pub enum OpenError {
    /// The name cannot be one of an interface. Found before anything was done.
    InvalidName {
        /// The name asked for.
        name: String,
        /// What is wrong with it.
        problem: NameProblem,
    },
    /// The MTU is outside of what the kernel allows. Found before anything was done.
    InvalidMtu {
        /// The name asked for.
        name: String,
        /// The MTU asked for, bytes.
        mtu: u32,
        /// The smallest allowed, bytes.
        lowest: u32,
        /// The largest allowed, bytes.
        highest: u32,
    },
    /// The MAC address is all zeros or one of a group. Found before anything was done.
    InvalidMac {
        /// The name asked for.
        name: String,
        /// The MAC address asked for.
        mac: [u8; 6],
    },
    /// The process may not create or configure interfaces.
    PermissionDenied {
        /// The name asked for.
        name: String,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// There is no `/dev/net/tun`, or no driver behind it.
    NoDriver {
        /// The name asked for.
        name: String,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// Another process holds the device of this name. It is left as it was.
    NameTaken {
        /// The name asked for.
        name: String,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// An interface of this name exists and is of another kind or mode, or has several queues. It is
    /// left as it was.
    WrongKind {
        /// The name asked for.
        name: String,
        /// The mode asked for.
        mode: Mode,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// The kernel refused an address.
    AddressRefused {
        /// The interface's name.
        name: String,
        /// The address refused.
        address: IpNet,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// Another step failed.
    Step {
        /// The interface's name.
        name: String,
        /// What was tried: a verb and its object.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl OpenError {
    /// The meaning of a failed creation.
    pub(crate) fn from_create(name: &str, mode: Mode, source: io::Error) -> Self {
        let name = name.to_owned();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::PermissionDenied { name, source },
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => Self::NoDriver { name, source },
            Some(libc::EBUSY) => Self::NameTaken { name, source },
            Some(libc::EINVAL) => Self::WrongKind { name, mode, source },
            _ => Self::from_step(&name, "create the interface", source),
        }
    }

    /// The meaning of a failed step after the creation.
    pub(crate) fn from_step(name: &str, step: &'static str, source: io::Error) -> Self {
        let name = name.to_owned();
        if source.raw_os_error() == Some(libc::EPERM) {
            Self::PermissionDenied { name, source }
        } else {
            Self::Step { name, step, source }
        }
    }

    /// The name of the device that could not be opened.
    pub fn name(&self) -> &str {
        match self {
            Self::InvalidName { name, .. }
            | Self::InvalidMtu { name, .. }
            | Self::InvalidMac { name, .. }
            | Self::PermissionDenied { name, .. }
            | Self::NoDriver { name, .. }
            | Self::NameTaken { name, .. }
            | Self::WrongKind { name, .. }
            | Self::AddressRefused { name, .. }
            | Self::Step { name, .. } => name,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot open device {}: ", self.name())?;
        match self {
            Self::InvalidName { problem, .. } => write!(f, "{problem} (choose another with --dev)"),
            Self::InvalidMtu {
                mtu,
                lowest,
                highest,
                ..
            } => write!(
                f,
                "an MTU of {mtu} bytes is not possible (--mtu takes {lowest} to {highest})"
            ),
            Self::InvalidMac {
                mac: [a, b, c, d, e, g],
                ..
            } => write!(
                f,
                "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} is no MAC address of a single \
                 interface (its first byte must be even, and not all may be zero)"
            ),
            Self::PermissionDenied { .. } => f.write_str(
                "permission denied (needs CAP_NET_ADMIN; run as root, or use --mode none)",
            ),
            Self::NoDriver { .. } => f.write_str(
                "no TUN/TAP driver at /dev/net/tun (load the module tun, or give the container \
                 the device, or use --mode none)",
            ),
            Self::NameTaken { .. } => f.write_str(
                "another process uses the device (stop it, or choose another name with --dev)",
            ),
            Self::WrongKind { mode, .. } => write!(
                f,
                "an interface of this name exists and is not a {mode} device with one queue \
                 (remove it, or choose another name with --dev)"
            ),
            Self::AddressRefused { address, .. } => write!(f, "address {address} refused"),
            Self::Step { step, .. } => write!(f, "cannot {step}"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::InvalidName { .. } | Self::InvalidMtu { .. } | Self::InvalidMac { .. } => None,
            Self::PermissionDenied { source, .. }
            | Self::NoDriver { source, .. }
            | Self::NameTaken { source, .. }
            | Self::WrongKind { source, .. }
            | Self::AddressRefused { source, .. }
            | Self::Step { source, .. } => Some(source),
        }
    }
}

/// An address that the device goes without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedAddress {
    /// The address.
    pub address: IpNet,
    /// Why.
    pub reason: SkipReason,
}

/// Why the device goes without an address: mostly its IPv6 addresses, and then the mesh works on with
/// IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The kernel was built or started without IPv6.
    NotInKernel,
    /// The sysctl `disable_ipv6` is set for new interfaces.
    SwitchedOff,
    /// The MTU is below 1,280 bytes, the least that IPv6 works with (RFC 8200 section 5).
    MtuTooSmall,
    /// The interface was made for this user, who may not add what its maker left out.
    NotPermitted,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotInKernel => "the kernel has no IPv6",
            Self::SwitchedOff => {
                "IPv6 is switched off (sysctl net.ipv6.conf.default.disable_ipv6 is 1)"
            }
            Self::MtuTooSmall => "IPv6 needs an MTU of at least 1280 bytes",
            Self::NotPermitted => {
                "the device does not have it, and this user may not add it (ip address add)"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(errno: i32) -> OpenError {
        OpenError::from_create("mesh0", Mode::Tun, io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn each_refusal_of_the_kernel_says_what_to_do() {
        let cases = [
            (
                libc::EPERM,
                "cannot open device mesh0: permission denied (needs CAP_NET_ADMIN; run as root, \
                 or use --mode none)",
            ),
            (
                libc::EBUSY,
                "cannot open device mesh0: another process uses the device (stop it, or choose \
                 another name with --dev)",
            ),
            (
                libc::EINVAL,
                "cannot open device mesh0: an interface of this name exists and is not a tun \
                 device with one queue (remove it, or choose another name with --dev)",
            ),
            (
                libc::ENOENT,
                "cannot open device mesh0: no TUN/TAP driver at /dev/net/tun (load the module \
                 tun, or give the container the device, or use --mode none)",
            ),
            (
                libc::EMFILE,
                "cannot open device mesh0: cannot create the interface",
            ),
        ];
        for (errno, text) in cases {
            let error = create(errno);
            assert_eq!(error.to_string(), text);
            assert!(error.source().is_some(), "{text}");
        }
    }

    #[test]
    fn a_device_file_that_may_not_be_opened_is_a_matter_of_permission() {
        let error = create(libc::EACCES);
        assert!(matches!(error, OpenError::PermissionDenied { .. }));
    }

    #[test]
    fn missing_permission_shows_at_every_step() {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        let error = OpenError::from_step("mesh0", "set the MTU", refused);
        assert!(matches!(error, OpenError::PermissionDenied { .. }));
    }

    #[test]
    fn refused_addresses_and_numbers_are_named() {
        let error = OpenError::AddressRefused {
            name: "mesh0".into(),
            address: "10.0.0.1/24".parse().unwrap(),
            source: io::Error::from_raw_os_error(libc::EINVAL),
        };
        assert_eq!(
            error.to_string(),
            "cannot open device mesh0: address 10.0.0.1/24 refused"
        );
        let error = OpenError::InvalidMtu {
            name: "mesh0".into(),
            mtu: 20,
            lowest: 68,
            highest: 65_535,
        };
        assert_eq!(
            error.to_string(),
            "cannot open device mesh0: an MTU of 20 bytes is not possible (--mtu takes 68 to 65535)"
        );
        let error = OpenError::InvalidMac {
            name: "mesh0".into(),
            mac: [1, 0, 0x5e, 0, 0, 0xab],
        };
        assert!(error.to_string().contains("01:00:5e:00:00:ab"));
    }
}
