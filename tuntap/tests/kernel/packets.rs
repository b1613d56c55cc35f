//! Packets through a device, and what becomes of it when others touch the interface.

use std::net::{IpAddr, UdpSocket};

use crate::host::*;

use nix::poll::PollFlags;
use tuntap::{
    OffloadChoice, OpenConfig, ReadBatch, Refusal, WriteOutcome, device_exists, is_gone, set_mtu,
};

#[test]
fn what_a_program_sends_is_read_behind_the_headroom() {
    in_namespace(|| {
        let mut device = open(&tun());
        for (near, far) in [("10.44.0.1", "10.44.0.2"), ("fdac:1:2::2a", "fdac:1:2::7")] {
            let (near, far): (IpAddr, IpAddr) = (near.parse().unwrap(), far.parse().unwrap());
            let socket = UdpSocket::bind((near, 0)).unwrap();
            socket.send_to(b"over the mesh", (far, 9)).unwrap();
            let read = read(&mut *device, |packet| ends(packet) == Some((near, far)));
            assert_eq!(read[..16], [0; 16]);
            assert!(read.ends_with(b"over the mesh"));
        }
    });
}

#[test]
fn several_packets_come_in_one_batch_in_order() {
    in_namespace(|| {
        let mut device = open(&tun());
        let socket = UdpSocket::bind("10.44.0.1:0").unwrap();
        for number in 0..40_u8 {
            socket.send_to(&[number], "10.44.0.2:9").unwrap();
        }
        let mut batch = ReadBatch::new(32, 16, device.info().max_packet());
        let mut numbers = Vec::new();
        let mut rounds = 0;
        while device.read_batch(&mut batch).unwrap() > 0 {
            let packets = batch.packets().iter().map(|slot| slot.of(batch.arena()));
            numbers.extend(packets.filter(|p| p.len() == 29).map(|p| p[28]));
            batch.clear();
            rounds += 1;
        }
        assert_eq!(numbers, Vec::from_iter(0..40));
        assert_eq!(rounds, 2, "32 slots, then the rest");
    });
}

#[test]
fn a_written_echo_request_is_answered_by_the_kernel() {
    in_namespace(|| {
        let mut device = open(&tun());
        let request = echo_request();
        assert_eq!(write(&mut *device, &[&request]), [WriteOutcome::Written]);
        let reply = read(&mut *device, |packet| packet.get(9) == Some(&1));
        let packet = &reply[16..];
        assert_eq!(packet[12..20], [10, 44, 0, 1, 10, 44, 0, 2]);
        assert_eq!(packet[20], 0, "an echo reply");
        assert_eq!(packet[24..], request[24..]);
        assert_eq!(checksum(&packet[20..]), [0, 0]);
    });
}

#[test]
fn of_two_handles_one_writes_and_the_other_reads_and_either_keeps_the_interface() {
    in_namespace(|| {
        for offload in [OffloadChoice::Auto, OffloadChoice::Off] {
            let mut reader = open(&OpenConfig { offload, ..tun() });
            let mut writer = reader.share().unwrap();
            assert_eq!(writer.info(), reader.info());
            let request = echo_request();
            assert_eq!(write(&mut *writer, &[&request]), [WriteOutcome::Written]);
            let reply = read(&mut *reader, |packet| packet.get(9) == Some(&1));
            assert_eq!(reply[16..][24..], request[24..]);
            drop(reader);
            assert!(device_exists("mesh0"));
            drop(writer);
            assert!(!device_exists("mesh0"));
        }
    });
}

#[test]
fn a_tap_device_carries_whole_frames() {
    in_namespace(|| {
        let mut device = open(&tap());
        let socket = UdpSocket::bind("10.44.0.1:0").unwrap();
        socket.send_to(b"who has it?", "10.44.0.2:9").unwrap();
        let read = read(&mut *device, |frame| frame.get(12..14) == Some(&[8, 6]));
        let frame = &read[16..];
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[6..12], [0x02, 0xac, 0, 0, 0, 0x2a]);
    });
}

#[test]
fn bad_lengths_never_reach_the_kernel_and_bad_versions_are_refused_by_it() {
    in_namespace(|| {
        let mut device = open(&tun());
        let long = vec![0x45; 65_536];
        assert_eq!(
            write(
                &mut *device,
                &[&[], &[0x45], &long, &[0; 20], &echo_request()]
            ),
            [
                WriteOutcome::Refused(Refusal::TooShort),
                WriteOutcome::Refused(Refusal::TooShort),
                WriteOutcome::Refused(Refusal::TooLong),
                WriteOutcome::Refused(Refusal::Kernel(libc::EINVAL)),
                WriteOutcome::Written,
            ]
        );
        drop(device);
        let mut device = open(&tap());
        assert_eq!(
            write(&mut *device, &[&[0; 13]]),
            [WriteOutcome::Refused(Refusal::TooShort)]
        );
    });
}

#[test]
fn a_device_taken_down_says_so_and_works_again_when_up() {
    in_namespace(|| {
        let mut device = open(&tun());
        let index = device.info().index;
        let request = echo_request();
        let mut batch = ReadBatch::for_device(device.info(), 16);
        administrate(async |handle| set_up(&handle, index, false).await);
        // What waited before may still be read; then there is nothing.
        while device.read_batch(&mut batch).unwrap() > 0 {
            batch.clear();
        }
        assert_eq!(
            write(&mut *device, &[&request, &request]),
            [WriteOutcome::Down; 2]
        );
        administrate(async |handle| set_up(&handle, index, true).await);
        assert_eq!(write(&mut *device, &[&request]), [WriteOutcome::Written]);
    });
}

#[test]
fn a_deleted_device_wakes_its_waiter_and_is_gone_for_good() {
    in_namespace(|| {
        let mut device = open(&tun());
        let index = device.info().index;
        administrate(async |handle| delete(&handle, index).await);
        assert!(wait(&*device).contains(PollFlags::POLLERR));
        let mut batch = ReadBatch::for_device(device.info(), 16);
        assert!(is_gone(&device.read_batch(&mut batch).unwrap_err()));
        let request = echo_request();
        assert_eq!(
            write(&mut *device, &[&request, &request]),
            [WriteOutcome::Gone; 2]
        );
        // The name is free while the dead device is still held, so that it can be replaced.
        let again = open(&tun());
        assert_ne!(again.info().index, index);
        assert_eq!(addresses(again.info().index).len(), 3);
    });
}

#[test]
fn a_packet_above_the_mtu_of_the_batch_is_counted_not_cut() {
    in_namespace(|| {
        let mut device = open(&tun());
        set_mtu(device.info().index, 2_000).unwrap();
        assert_eq!(mtu(&link(device.info().index)), Some(2_000));
        let socket = UdpSocket::bind("10.44.0.1:0").unwrap();
        for len in [1_401, 1_400] {
            socket.send_to(&vec![7; len - 28], "10.44.0.2:9").unwrap();
        }
        let mut batch = ReadBatch::for_device(device.info(), 16);
        device.read_batch(&mut batch).unwrap();
        assert_eq!(batch.truncated(), 1);
        let lens: Vec<u32> = batch.packets().iter().map(|slot| slot.len).collect();
        assert!(lens.contains(&1_400), "{lens:?}");
    });
}
