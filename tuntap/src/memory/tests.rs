use super::*;
use crate::device::{Mode, Offload, Refusal, is_gone};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The shortest packet, marked with `mark`.
fn packet(mark: u8) -> [u8; 20] {
    let mut packet = [0; 20];
    packet[0] = 0x45;
    packet[19] = mark;
    packet
}

fn info() -> DeviceInfo {
    DeviceInfo {
        name: "mesh0".into(),
        mode: Mode::Tun,
        index: 7,
        mtu: 100,
        offload: Offload::None,
    }
}

fn write(device: &mut dyn Device, packets: &[&[u8]]) -> Vec<WriteOutcome> {
    let mut outcomes = Vec::new();
    device.write_batch(&mut packets.iter().copied(), &mut |number, outcome| {
        assert_eq!(number, outcomes.len());
        outcomes.push(outcome);
    });
    outcomes
}

fn is_ready(device: &MemoryDevice) -> bool {
    let mut fds = [PollFd::new(device.readiness().unwrap(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
}

#[test]
fn injected_packets_are_read_in_order_behind_headroom() {
    let (mut device, handle) = MemoryDevice::pair(info());
    let mut batch = ReadBatch::for_device(device.info(), 16);
    assert!(handle.inject(&packet(1)));
    assert!(handle.inject(&packet(2)));
    assert_eq!(device.read_batch(&mut batch).unwrap(), 2);
    let marks: Vec<u8> = (batch.packets().iter())
        .map(|slot| slot.of(batch.arena())[19])
        .collect();
    assert_eq!(marks, [1, 2]);
    assert_eq!(batch.packets()[0].start, 16);
    assert_eq!(device.read_batch(&mut batch).unwrap(), 0);
}

#[test]
fn reading_stops_when_the_batch_is_full_and_goes_on_after_clearing() {
    let (mut device, handle) = MemoryDevice::pair(info());
    let mut batch = ReadBatch::new(2, 0, 100);
    for mark in 0..3 {
        assert!(handle.inject(&packet(mark)));
    }
    assert_eq!(device.read_batch(&mut batch).unwrap(), 2);
    assert_eq!(device.read_batch(&mut batch).unwrap(), 0);
    batch.clear();
    assert_eq!(device.read_batch(&mut batch).unwrap(), 1);
    assert_eq!(batch.packets()[0].of(batch.arena())[19], 2);
}

#[test]
fn a_packet_longer_than_the_mtu_is_counted_not_delivered() {
    let (mut device, handle) = MemoryDevice::pair(info());
    let mut batch = ReadBatch::for_device(device.info(), 16);
    assert!(handle.inject(&[0x45; 101]));
    assert!(handle.inject(&packet(9)));
    assert_eq!(device.read_batch(&mut batch).unwrap(), 1);
    assert_eq!(batch.truncated(), 1);
    assert_eq!(batch.packets()[0].of(batch.arena()), packet(9));
}

#[test]
fn written_packets_are_collected_and_bad_lengths_refused() {
    let (mut device, handle) = MemoryDevice::pair(info());
    let long = vec![0x45; 65_536];
    let outcomes = write(&mut device, &[&packet(1), b"", &long, &packet(2)]);
    assert_eq!(
        outcomes,
        [
            WriteOutcome::Written,
            WriteOutcome::Refused(Refusal::TooShort),
            WriteOutcome::Refused(Refusal::TooLong),
            WriteOutcome::Written,
        ]
    );
    assert_eq!(handle.take_written(), [packet(1), packet(2)]);
    assert!(handle.take_written().is_empty());
}

#[test]
fn a_device_that_is_down_takes_nothing_and_comes_back() {
    let (mut device, handle) = MemoryDevice::pair(info());
    let mut batch = ReadBatch::for_device(device.info(), 16);
    handle.set_condition(Condition::Down);
    assert!(!handle.inject(&packet(1)));
    assert_eq!(device.read_batch(&mut batch).unwrap(), 0);
    assert_eq!(write(&mut device, &[&packet(1)]), [WriteOutcome::Down]);
    handle.set_condition(Condition::Up);
    assert_eq!(write(&mut device, &[&packet(2)]), [WriteOutcome::Written]);
    assert_eq!(handle.take_written(), [packet(2)]);
}

#[test]
fn a_full_device_can_be_read_but_not_written() {
    let (mut device, handle) = MemoryDevice::pair(info());
    let mut batch = ReadBatch::for_device(device.info(), 16);
    handle.set_condition(Condition::Full);
    assert!(handle.inject(&packet(1)));
    assert_eq!(device.read_batch(&mut batch).unwrap(), 1);
    let outcomes = write(&mut device, &[&packet(1), &packet(2)]);
    assert_eq!(outcomes, [WriteOutcome::WouldBlock; 2]);
}

#[test]
fn a_device_that_is_gone_says_so_on_both_sides() {
    let (mut device, handle) = MemoryDevice::pollable_pair(info()).unwrap();
    let mut batch = ReadBatch::for_device(device.info(), 16);
    assert!(!is_ready(&device));
    handle.set_condition(Condition::Gone);
    assert!(is_ready(&device));
    assert!(is_gone(&device.read_batch(&mut batch).unwrap_err()));
    assert_eq!(write(&mut device, &[&packet(1)]), [WriteOutcome::Gone]);
    assert!(!handle.inject(&packet(1)));
}

#[test]
fn it_is_ready_exactly_while_packets_wait() {
    let (mut device, handle) = MemoryDevice::pollable_pair(info()).unwrap();
    let mut batch = ReadBatch::new(1, 0, 100);
    assert!(!is_ready(&device));
    assert!(handle.inject(&packet(1)));
    assert!(handle.inject(&packet(2)));
    assert!(is_ready(&device));
    assert_eq!(device.read_batch(&mut batch).unwrap(), 1);
    assert!(is_ready(&device));
    batch.clear();
    assert_eq!(device.read_batch(&mut batch).unwrap(), 1);
    assert!(!is_ready(&device));
}

#[test]
fn its_queues_are_bounded() {
    let (mut device, handle) = MemoryDevice::pair(info());
    let taken = (0..2_000).filter(|_| handle.inject(&packet(1))).count();
    assert_eq!(taken, 1_000);
    let one = packet(1);
    let outcomes = write(&mut device, &vec![&one[..]; 1_001]);
    assert_eq!(outcomes[999], WriteOutcome::Written);
    assert_eq!(outcomes[1_000], WriteOutcome::WouldBlock);
}

#[test]
fn a_device_can_be_used_as_an_object_on_another_thread() {
    let (device, handle) = MemoryDevice::pair(info());
    let mut device: Box<dyn Device> = Box::new(device);
    std::thread::spawn(move || write(&mut *device, &[&packet(3)]))
        .join()
        .unwrap();
    assert_eq!(handle.take_written(), [packet(3)]);
}
