//! The whole data path, turn by turn, as the data thread runs it: device with offload, cutting,
//! merging, routes, digests, seen table, trains to neighbors and back. Over a warm-up, then some
//! hundred turns: no allocation at all, one look at the clock each.
//!
//! Once with the device's twin, whose cutting and merging are the real ones; once, as root, with a
//! TUN of the kernel in a namespace.

use std::net::UdpSocket;
use std::time::Duration as Wait;

use nix::sys::socket::{setsockopt, sockopt};
use overlay::lab::net::Namespace;
use overlay::route::address::{Mesh, mac};
use overlay_tests::packets::{TCP, super_frame, super_packet};
use tuntap::{
    Device, DeviceInfo, MergingEnded, Mode, Offload, OffloadChoice, OffloadHandle, OpenConfig,
    offload_pair,
};

use crate::rig::{ME, MTU, PACKETS, PEER, Rig, SIZE, WARM_UP};

fn twin(mode: Mode) -> (Box<dyn Device>, OffloadHandle) {
    let info = DeviceInfo {
        name: "mesh0".into(),
        mode,
        index: 99,
        mtu: MTU.into(),
        offload: Offload::TcpUdp,
    };
    offload_pair(info).expect("a descriptor is left")
}

#[test]
fn a_turn_with_offload_and_trains_allocates_nothing_and_reads_the_clock_once() {
    through_the_twin(Mode::Tun);
}

#[test]
fn a_turn_with_frames_allocates_nothing_and_reads_the_clock_once() {
    through_the_twin(Mode::Tap);
}

#[test]
fn a_turn_that_seals_and_opens_end_to_end_allocates_nothing_and_reads_the_clock_once() {
    for mode in [Mode::Tun, Mode::Tap] {
        let (device, kernel) = twin(mode);
        through(mode, Rig::sealed(device), &kernel);
    }
}

fn through_the_twin(mode: Mode) {
    let (device, kernel) = twin(mode);
    through(mode, Rig::new(device), &kernel);
}

fn through(mode: Mode, rig: Rig, kernel: &OffloadHandle) {
    let derived = Mesh::default();
    let ends = (derived.address(ME), derived.address(PEER));
    let packet = super_packet(TCP, ends, SIZE, PACKETS);
    let whole = match mode {
        Mode::Tun => packet.into(),
        Mode::Tap => super_frame((mac(ME), mac(PEER)), &packet).into(),
    };
    // The loop-detect beacon: at first, and hurried since the same frames come again; the more the
    // longer the turns take. Packets that are not merged are that many in each turn.
    let beacons = if mode == Mode::Tap { PACKETS as u64 } else { 0 };
    let mut merged = 0;
    rig.run(
        || assert!(kernel.inject(&whole)),
        |turn| {
            let writes = kernel.writes();
            assert!(
                writes.single <= beacons && writes.refused == 0,
                "{writes:?}"
            );
            assert!(writes.merged > merged, "turn {turn}");
            merged = writes.merged;
        },
    );
}

#[test]
fn a_turn_with_a_tun_of_the_kernel_allocates_nothing_and_reads_the_clock_once() {
    let must_run = std::env::var("CI").is_ok_and(|value| value == "true");
    let namespace = match Namespace::new("noalloc") {
        Ok(namespace) => namespace,
        Err(error) => {
            assert!(!must_run, "needs root and /dev/net/tun: {error}");
            return println!("skipped: needs root and /dev/net/tun");
        }
    };
    namespace.run(through_the_kernel).expect("it was made");
}

fn through_the_kernel() {
    let derived = Mesh::default();
    let (me, peer) = (derived.address(ME), derived.address(PEER));
    let opened = tuntap::open(&OpenConfig {
        name: "mesh0".into(),
        mode: Mode::Tun,
        mtu: MTU.into(),
        mac: None,
        link_local: None,
        addresses: vec![ipnet::Ipv6Net::new(me, 64).expect("64 is a length").into()],
        offload: OffloadChoice::Auto,
        queues: 1,
        strict: false,
    });
    let rig = Rig::new(opened.expect("root opens a TUN").queues.remove(0));
    let socket = UdpSocket::bind((me, 0x1235)).expect("the address is ours");
    socket.set_nonblocking(true).expect("a socket");
    // A kernel without it sends the datagrams one by one.
    let segments = setsockopt(&socket, sockopt::UdpGsoSegment, &(SIZE as i32)).is_ok();
    let whole = vec![0x5A; SIZE * PACKETS];
    let send = || {
        let step = if segments { whole.len() } else { SIZE };
        for part in whole.chunks(step) {
            let sent = socket.send_to(part, (peer, 9)).expect("the device is up");
            assert_eq!(sent, part.len());
        }
    };
    let mut room = [0; 2_000];
    rig.run(send, |turn| {
        let mut came = 0;
        while let Ok(len) = socket.recv(&mut room) {
            assert_eq!(len, SIZE);
            came += 1;
        }
        if turn >= WARM_UP {
            assert_eq!(came, PACKETS, "turn {turn}");
        } else {
            // A new IPv6 address is deliverable some milliseconds after the kernel took it.
            std::thread::sleep(Wait::from_millis(1));
        }
    });
}

#[test]
fn the_driver_is_told_once_that_the_kernel_refuses_merged_packets_and_no_packet_is_lost() {
    const EINVAL: i32 = 22;
    let (device, kernel) = twin(Mode::Tun);
    let mut rig = Rig::new(device);
    kernel.refuse_merged(Some(EINVAL));
    let to_me = Rig::to_me(Mode::Tun);
    for turn in 1..=6 {
        let node = rig.node();
        rig.peer.send(node, ME, turn * 100, &to_me);
        rig.turn();
        let written = u64::from(turn) * PACKETS as u64;
        assert_eq!(kernel.writes().single, written, "one by one, all of them");
    }
    let udp = Some(EINVAL);
    assert_eq!(rig.ended, [MergingEnded { tcp: None, udp }]);
    assert_eq!(kernel.writes().refused, 3);
}
