//! The host that the tests run on: a namespace, and an administrator in it.

use std::net::IpAddr;
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use futures_util::TryStreamExt;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkUnspec};
use tuntap::{Device, Mode, OffloadChoice, OpenConfig, ReadBatch, WriteOutcome, local_addresses};

/// Longest wait for anything the kernel does; it takes a thousandth of that.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `test` on a thread with an empty network namespace, which goes when the thread does.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        let is_able = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .is_ok()
            && unshare(CloneFlags::CLONE_NEWNET).is_ok();
        if is_able {
            test();
            return;
        }
        let must_run = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!must_run, "needs root and /dev/net/tun, and CI is true");
        println!("skipped: needs root and /dev/net/tun");
    });
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// Runs `work` with a netlink connection, as an administrator's command would.
pub(crate) fn administrate<T>(work: impl AsyncFnOnce(Handle) -> T) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { work(administrator()).await })
}

/// A netlink connection on the current runtime.
pub(crate) fn administrator() -> Handle {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle
}

pub(crate) async fn set_up(handle: &Handle, index: u32, up: bool) {
    let link = LinkUnspec::new_with_index(index);
    let link = if up { link.up() } else { link.down() };
    handle.link().change(link.build()).execute().await.unwrap();
}

pub(crate) async fn delete(handle: &Handle, index: u32) {
    handle.link().del(index).execute().await.unwrap();
}

/// The interface as the kernel describes it.
pub(crate) fn link(index: u32) -> LinkMessage {
    administrate(async |handle| {
        let request = handle.link().get().match_index(index).execute();
        let found: Vec<LinkMessage> = request.try_collect().await.unwrap();
        found.into_iter().next().unwrap()
    })
}

pub(crate) fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up)
}

pub(crate) fn mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
}

pub(crate) fn queue_len(link: &LinkMessage) -> Option<u32> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::TxQueueLen(len) => Some(*len),
            _ => None,
        })
}

pub(crate) fn mac(link: &LinkMessage) -> Option<Vec<u8>> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Address(mac) => Some(mac.clone()),
            _ => None,
        })
}

/// The usable addresses of an interface, as text, sorted.
pub(crate) fn addresses(index: u32) -> Vec<String> {
    let mut found: Vec<String> = (local_addresses().unwrap().iter())
        .filter(|found| found.interface == index)
        .map(|found| format!("{}/{}", found.address, found.prefix_len))
        .collect();
    found.sort();
    found
}

/// A tun device with an address of each kind.
pub(crate) fn tun() -> OpenConfig {
    OpenConfig {
        name: "mesh0".into(),
        mode: Mode::Tun,
        mtu: 1400,
        mac: None,
        link_local: Some("fe80::2a".parse().unwrap()),
        addresses: ["fdac:1:2::2a/64", "10.44.0.1/24"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        offload: OffloadChoice::Auto,
        queues: 1,
        strict: false,
    }
}

/// A tap device with an IPv4 address and a MAC address.
pub(crate) fn tap() -> OpenConfig {
    OpenConfig {
        mode: Mode::Tap,
        mac: Some([0x02, 0xac, 0, 0, 0, 0x2a]),
        link_local: None,
        addresses: vec!["10.44.0.1/24".parse().unwrap()],
        ..tun()
    }
}

pub(crate) fn open(config: &OpenConfig) -> Box<dyn Device> {
    open_queues(config).remove(0)
}

/// A device for each queue.
pub(crate) fn open_queues(config: &OpenConfig) -> Vec<Box<dyn Device>> {
    let opened = tuntap::open(config).unwrap();
    assert_eq!(opened.skipped, []);
    assert_eq!(opened.queues.len(), usize::from(config.queues));
    opened.queues
}

/// Waits until the device is ready, and returns how.
pub(crate) fn wait(device: &dyn Device) -> PollFlags {
    let mut fds = [PollFd::new(device.readiness().unwrap(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap();
    assert_eq!(poll(&mut fds, patience).unwrap(), 1, "nothing came");
    fds[0].revents().unwrap()
}

/// Reads until a packet that is `wanted` comes, and returns it with the headroom in front of it.
/// The kernel sends packets of its own accord too, to find routers and to join groups.
pub(crate) fn read(device: &mut dyn Device, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    const HEADROOM: usize = 16;
    let mut batch = ReadBatch::for_device(device.info(), HEADROOM);
    for _ in 0..100 {
        wait(device);
        batch.clear();
        device.read_batch(&mut batch).unwrap();
        for slot in batch.packets() {
            assert!(slot.start as usize >= HEADROOM);
            if wanted(slot.of(batch.arena())) {
                let end = (slot.start + slot.len) as usize;
                return batch.arena()[slot.start as usize - HEADROOM..end].to_vec();
            }
        }
    }
    panic!("the packet did not come");
}

pub(crate) fn write(device: &mut dyn Device, packets: &[&[u8]]) -> Vec<WriteOutcome> {
    let mut outcomes = Vec::new();
    device.write_batch(&mut packets.iter().copied(), &mut |number, outcome| {
        assert_eq!(number, outcomes.len());
        outcomes.push(outcome);
    });
    outcomes
}

/// An IPv4 echo request, from another host of the mesh to ours.
pub(crate) fn echo_request() -> Vec<u8> {
    let mut packet = vec![
        0x45, 0, 0, 32, 0, 1, 0, 0, 64, 1, 0, 0, 10, 44, 0, 2, 10, 44, 0, 1, // IPv4
        8, 0, 0, 0, 0x12, 0x34, 0, 7, b'm', b'e', b's', b'h', // ICMP
    ];
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum);
    let sum = checksum(&packet[20..]);
    packet[22..24].copy_from_slice(&sum);
    packet
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The two addresses of an IP packet.
pub(crate) fn ends(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let address = |from: usize, len: usize| -> Option<IpAddr> {
        let bytes = packet.get(from..from + len)?;
        <[u8; 4]>::try_from(bytes)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
            .ok()
    };
    match packet.first()? >> 4 {
        4 => Some((address(12, 4)?, address(16, 4)?)),
        6 => Some((address(8, 16)?, address(24, 16)?)),
        _ => None,
    }
}
