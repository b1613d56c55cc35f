//! Making a device that can be used at once: created, sized, addressed and up.

use std::fs;
use std::io;
use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage,
};

use crate::device::{Device, DeviceInfo, Mode};
use crate::error::{OpenError, SkipReason, SkippedAddress};
use crate::name::check_name;
use crate::netlink::{self, Netlink, is_without_ipv6};
use crate::offload::OffloadDevice;
use crate::plain::PlainDevice;
use crate::strict;

/// What a device shall be.
#[derive(Clone, Debug)]
pub struct OpenConfig {
    /// Name of the interface, at most 15 characters; `%d` in it stands for the next free number.
    pub name: String,
    /// Which kind of packets it carries.
    pub mode: Mode,
    /// Longest IP packet, bytes: 68 to 65,535, in tap mode to 65,521. Below 1,280 there is no IPv6
    /// on the device.
    pub mtu: u32,
    /// MAC address in tap mode; `None` takes a random one. Tun mode has none and ignores it.
    pub mac: Option<[u8; 6]>,
    /// The link-local address, given the prefix length 64. Without one the device has no
    /// link-local address: the kernel is kept from inventing one, which nobody could be told of.
    pub link_local: Option<Ipv6Addr>,
    /// Further addresses; each also leads its network into the device.
    pub addresses: Vec<IpNet>,
    /// Whether to move super-packets.
    pub offload: OffloadChoice,
    /// Queues to read from, one for each thread that reads: 1 to 256. Packets of one flow come from
    /// one queue. Several are to be had of a new interface only: one that is there has one.
    pub queues: u16,
    /// Whether what is for the networks of `addresses` leads into the device or nowhere, whatever routes
    /// others add, also while the device is down and after its process ended: [`strict`].
    pub strict: bool,
}

/// Whether a device shall move super-packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffloadChoice {
    /// Where the kernel can.
    #[default]
    Auto,
    /// Or not at all.
    On,
    /// One packet a system call.
    Off,
}

impl OpenConfig {
    /// All addresses wanted, the link-local one first.
    fn addresses(&self) -> impl Iterator<Item = IpNet> {
        let link_local = self.link_local.map(|address| {
            IpNet::V6(Ipv6Net::new(address, 64).expect("64 is a prefix length of IPv6"))
        });
        link_local.into_iter().chain(self.addresses.iter().copied())
    }
}

/// A device that is up.
#[derive(Debug)]
pub struct Opened {
    /// The device: a handle for each queue, at least one, each of which reads its own and writes.
    /// Dropping all of them deletes the interface, its addresses and its routes.
    pub queues: Vec<Box<dyn Device>>,
    /// IPv6 addresses that it goes without, because this host has no IPv6.
    pub skipped: Vec<SkippedAddress>,
}

/// The smallest MTU the kernel allows: a full IPv4 header and eight bytes (RFC 791 section 3.2).
const MTU_LOWEST: u32 = 68;
/// The smallest MTU that IPv6 works with (RFC 8200 section 5).
const MTU_LOWEST_IPV6: u32 = 1_280;

/// Packets that wait in the device while its reader is busy; more are lost. Twice the kernel's 500:
/// a second of a stream of 1,000 packets/s, which a reader on a busy machine may have to wait for
/// a processor. Longer only adds delay under overload.
const QUEUE_LEN: u32 = 1_000;

/// Opens a device.
///
/// 1. Judge the configuration.
/// 2. Create the interface.
/// 3. Set MTU, queue and MAC.
/// 4. Keep the kernel from adding addresses of its own.
/// 5. Add the addresses, usable at once; before that, if it is to be [`strict`], shut their networks in.
/// 6. Bring it up. Nobody ever sees it up and without its addresses.
///
/// A user without privileges may open an interface that was made for this user (`ip tuntap add ... user`).
/// Steps 3 to 6 are then its maker's: it has to be up with this MTU (in tap mode this MAC); addresses that
/// it lacks are left out. It cannot be strict.
///
/// Calls: blocks for a few milliseconds, on any thread, inside a tokio runtime or outside of one;
///        the interface appears in the network namespace of the calling thread.
///
/// # Errors
/// See [`OpenError`]; no interface is left then.
pub fn open(config: &OpenConfig) -> Result<Opened, OpenError> {
    check(config)?;
    let queues =
        create(config).map_err(|error| OpenError::from_create(&config.name, config.mode, error))?;
    // All are handles on the one interface.
    let info = queues[0].info();
    let skipped = netlink::block_on(async |netlink| {
        let refused = match configure(netlink, info, config).await {
            Err(refused @ OpenError::PermissionDenied { .. }) if !config.strict => refused,
            outcome => return Ok(outcome),
        };
        let prepared = find_prepared(netlink, info, config).await?;
        Ok(prepared.ok_or(refused))
    })
    .map_err(|error| OpenError::from_step(&info.name, "reach the kernel by netlink", error))??;
    Ok(Opened { queues, skipped })
}

/// Step 2.
fn create(config: &OpenConfig) -> io::Result<Vec<Box<dyn Device>>> {
    match create_with(config, config.queues) {
        // An interface that is there, or a kernel that has no more: one queue, or none.
        Err(error) if config.queues > 1 && is_refusal(&error) => {
            create_with(config, 1).map_err(|_| error)
        }
        created => created,
    }
}

/// The interface with that many queues.
fn create_with(config: &OpenConfig, queues: u16) -> io::Result<Vec<Box<dyn Device>>> {
    let OpenConfig {
        name, mode, mtu, ..
    } = config;
    if config.offload != OffloadChoice::Off {
        match OffloadDevice::create(name, *mode, *mtu, queues) {
            Ok(devices) => return Ok(boxed(devices)),
            Err(error) if config.offload == OffloadChoice::Auto && is_lacking(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if queues > 1 {
        return Ok(boxed(PlainDevice::create_several(
            name, *mode, *mtu, queues,
        )?));
    }
    Ok(boxed(vec![PlainDevice::create(name, *mode, *mtu)?]))
}

fn boxed(devices: Vec<impl Device + 'static>) -> Vec<Box<dyn Device>> {
    let boxed = |device| Box::new(device) as Box<dyn Device>;
    devices.into_iter().map(boxed).collect()
}

/// Whether several queues were refused where one might not be.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBUSY | libc::EINVAL | libc::E2BIG)
    )
}

/// Whether the kernel refused the offload, and not the device.
fn is_lacking(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(libc::EINVAL)
}

/// Step 1: what can be known to fail before anything is done.
fn check(config: &OpenConfig) -> Result<(), OpenError> {
    let name = || config.name.clone();
    check_name(&config.name).map_err(|problem| OpenError::InvalidName {
        name: name(),
        problem,
    })?;
    // Source: `tun_net_initialize` of the kernel.
    let highest = match config.mode {
        Mode::Tun => 65_535,
        Mode::Tap => 65_535 - 14,
    };
    if !(MTU_LOWEST..=highest).contains(&config.mtu) {
        return Err(OpenError::InvalidMtu {
            name: name(),
            mtu: config.mtu,
            lowest: MTU_LOWEST,
            highest,
        });
    }
    let is_single = |mac: [u8; 6]| mac[0] & 1 == 0 && mac != [0; 6];
    if let Some(mac) = config.mac.filter(|mac| !is_single(*mac)) {
        return Err(OpenError::InvalidMac { name: name(), mac });
    }
    // The kernel takes 0.0.0.0 and forgets it without a word; the others it refuses less clearly.
    match config.addresses().find(|address| {
        let address = address.addr();
        address.is_unspecified() || address.is_multicast()
    }) {
        Some(address) => Err(OpenError::AddressRefused {
            name: name(),
            address,
            source: io::Error::new(io::ErrorKind::InvalidInput, "not an address of one host"),
        }),
        None => Ok(()),
    }
}

/// Steps 3 to 6.
async fn configure(
    netlink: &mut Netlink,
    info: &DeviceInfo,
    config: &OpenConfig,
) -> Result<Vec<SkippedAddress>, OpenError> {
    let DeviceInfo { name, index, .. } = info;
    let failed = |step| move |error| OpenError::from_step(name, step, error);

    let mut size = LinkUnspec::new_with_index(*index)
        .mtu(config.mtu)
        .txqueuelen(QUEUE_LEN);
    if let (Mode::Tap, Some(mac)) = (config.mode, config.mac) {
        size = size.address(mac.to_vec());
    }
    netlink
        .change_link(size.build())
        .await
        .map_err(failed("set MTU, queue and MAC"))?;

    let no_ipv6 = prepare_ipv6(netlink, info)
        .await
        .map_err(failed("keep the kernel from adding addresses"))?;
    if config.strict {
        let shut = strict::shut(netlink, name, config).await;
        shut.map_err(failed("shut its networks in"))?;
    } else {
        let released = strict::release(netlink, name, config).await;
        released.map_err(failed("remove what a strict start left"))?;
    }
    let skipped = add_addresses(netlink, info, config, no_ipv6).await?;

    let up = LinkUnspec::new_with_index(*index).up().build();
    netlink
        .change_link(up)
        .await
        .map_err(failed("bring it up"))?;
    if config.strict {
        let led = strict::lead_in(netlink, name, *index, config).await;
        led.map_err(failed("lead its networks into it"))?;
    }
    Ok(skipped)
}

/// Steps 3 to 6 for those who may not take them: whether somebody did. Returns the addresses that are
/// not there, if so.
async fn find_prepared(
    netlink: &mut Netlink,
    info: &DeviceInfo,
    config: &OpenConfig,
) -> io::Result<Option<Vec<SkippedAddress>>> {
    let links = netlink.links().await?;
    let link = links.iter().find(|link| link.header.index == info.index);
    if !link.is_some_and(|link| is_prepared(link, config)) {
        return Ok(None);
    }
    let there = netlink.addresses().await?;
    let is_there = |wanted: &IpNet| {
        there
            .iter()
            .any(|found| found.interface == info.index && found.address == wanted.addr())
    };
    let reason = SkipReason::NotPermitted;
    let missing = config.addresses().filter(|address| !is_there(address));
    let missing = missing.map(|address| SkippedAddress { address, reason });
    Ok(Some(missing.collect()))
}

/// Whether an interface is up, and of the size and name that is wanted.
fn is_prepared(link: &LinkMessage, config: &OpenConfig) -> bool {
    let has = |wanted: &LinkAttribute| link.attributes.contains(wanted);
    let mac = config.mac.filter(|_| config.mode == Mode::Tap);
    link.header.flags.contains(LinkFlags::Up)
        && has(&LinkAttribute::Mtu(config.mtu))
        && mac.is_none_or(|mac| has(&LinkAttribute::Address(mac.to_vec())))
}

/// Step 4: no address of the kernel's own making. Returns why there is no IPv6, if so.
async fn prepare_ipv6(netlink: &mut Netlink, info: &DeviceInfo) -> io::Result<Option<SkipReason>> {
    if info.mtu < MTU_LOWEST_IPV6 {
        return Ok(Some(SkipReason::MtuTooSmall));
    }
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let message = LinkUnspec::new_with_index(info.index)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
            vec![none],
        )]))
        .build();
    match netlink.change_link(message).await {
        Err(error) if is_without_ipv6(&error) => return Ok(Some(SkipReason::NotInKernel)),
        result => result?,
    }
    if info.mode == Mode::Tun {
        refuse_router_advertisements(&info.name);
    }
    Ok(None)
}

/// Keeps other nodes of the mesh from giving this host routes and name servers: in tun mode there
/// is no router on the other side, whoever says so. Where /proc cannot be written (a container),
/// the host's own setting stands; netlink has no attribute for it.
fn refuse_router_advertisements(name: &str) {
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0");
}

/// Step 5. An address that fails because this host has no IPv6 is skipped, and the rest with it.
async fn add_addresses(
    netlink: &mut Netlink,
    info: &DeviceInfo,
    config: &OpenConfig,
    mut no_ipv6: Option<SkipReason>,
) -> Result<Vec<SkippedAddress>, OpenError> {
    let mut skipped = Vec::new();
    for address in config.addresses() {
        if no_ipv6.is_none() || address.addr().is_ipv4() {
            let Err(source) = netlink.add_address(info.index, address).await else {
                continue;
            };
            no_ipv6 = match (address, source.raw_os_error()) {
                (IpNet::V6(_), Some(libc::EACCES)) => Some(SkipReason::SwitchedOff),
                (IpNet::V6(_), _) if is_without_ipv6(&source) => Some(SkipReason::NotInKernel),
                (_, Some(libc::EPERM)) => {
                    return Err(OpenError::from_step(&info.name, "add an address", source));
                }
                _ => {
                    let name = info.name.clone();
                    return Err(OpenError::AddressRefused {
                        name,
                        address,
                        source,
                    });
                }
            };
        }
        skipped.extend(no_ipv6.map(|reason| SkippedAddress { address, reason }));
    }
    Ok(skipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NameProblem;

    fn config() -> OpenConfig {
        OpenConfig {
            name: "mesh0".into(),
            mode: Mode::Tun,
            mtu: 1400,
            mac: None,
            link_local: None,
            addresses: Vec::new(),
            offload: OffloadChoice::Auto,
            queues: 1,
            strict: false,
        }
    }

    #[test]
    fn a_bad_name_is_found_before_anything_is_done() {
        let config = OpenConfig {
            name: "a-name-too-long-for-it".into(),
            ..config()
        };
        let Err(OpenError::InvalidName { problem, .. }) = open(&config) else {
            panic!("opened");
        };
        assert_eq!(problem, NameProblem::TooLong);
    }

    #[test]
    fn the_mtu_has_the_kernels_bounds_to_the_byte() {
        for (mode, highest) in [(Mode::Tun, 65_535), (Mode::Tap, 65_521)] {
            for (mtu, good) in [
                (67, false),
                (68, true),
                (highest, true),
                (highest + 1, false),
            ] {
                let config = OpenConfig {
                    mode,
                    mtu,
                    ..config()
                };
                assert_eq!(check(&config).is_ok(), good, "{mode} {mtu}");
            }
        }
    }

    #[test]
    fn a_group_mac_and_a_zero_mac_are_refused() {
        for (mac, good) in [
            ([0x02, 0xac, 0, 0, 0, 0x2a], true),
            ([0x03, 0xac, 0, 0, 0, 0x2a], false),
            ([0; 6], false),
        ] {
            let config = OpenConfig {
                mac: Some(mac),
                ..config()
            };
            assert_eq!(check(&config).is_ok(), good, "{mac:?}");
        }
    }

    #[test]
    fn addresses_that_no_host_can_have_are_refused_by_name() {
        for text in ["0.0.0.0/8", "::/64", "224.0.0.1/4", "ff02::1/64"] {
            let config = OpenConfig {
                addresses: vec![text.parse().unwrap()],
                ..config()
            };
            let Err(OpenError::AddressRefused { address, .. }) = check(&config) else {
                panic!("{text} passed");
            };
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_prepared_interface_is_up_with_the_mtu_and_in_tap_mode_the_mac_that_are_wanted() {
        let mac = [0x02, 0xac, 0, 0, 0, 0x2a];
        let link = |flags, mtu| {
            let mut link = LinkMessage::default();
            link.header.flags = flags;
            link.attributes = vec![
                LinkAttribute::Mtu(mtu),
                LinkAttribute::Address(mac.to_vec()),
            ];
            link
        };
        let tap = |mac| OpenConfig {
            mode: Mode::Tap,
            mac: Some(mac),
            ..config()
        };
        let up = link(LinkFlags::Up, 1400);
        assert!(is_prepared(&up, &config()));
        assert!(is_prepared(&up, &tap(mac)));
        assert!(!is_prepared(&up, &tap([0x02, 0xac, 0, 0, 0, 0x2b])));
        assert!(!is_prepared(&link(LinkFlags::empty(), 1400), &config()));
        assert!(!is_prepared(&link(LinkFlags::Up, 1500), &config()));
    }

    #[test]
    fn the_link_local_address_comes_first_with_64_bits_of_prefix() {
        let config = OpenConfig {
            link_local: Some("fe80::2a".parse().unwrap()),
            addresses: vec!["10.0.0.1/24".parse().unwrap()],
            ..config()
        };
        let texts: Vec<String> = config.addresses().map(|a| a.to_string()).collect();
        assert_eq!(texts, ["fe80::2a/64", "10.0.0.1/24"]);
    }
}
