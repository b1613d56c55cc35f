//! Devices with several queues: which packets come from which, and who keeps the interface.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::ops::Range;

use nix::poll::PollFlags;
use tuntap::{
    Device, OffloadChoice, OpenConfig, OpenError, ReadBatch, WriteOutcome, device_exists, is_gone,
};

use crate::host::*;

const QUEUES: u16 = 3;
/// Flows, by their source ports.
const PORTS: Range<u16> = 20_000..20_024;
/// Datagrams of each flow in one round.
const ROUND: u8 = 5;

fn several(offload: OffloadChoice) -> OpenConfig {
    OpenConfig {
        offload,
        queues: QUEUES,
        ..tun()
    }
}

/// Sends a round of datagrams in turn; returns each flow's queue, and insists that it is one and in order.
fn round(sockets: &[UdpSocket], queues: &mut [Box<dyn Device>]) -> BTreeMap<u16, usize> {
    for number in 0..ROUND {
        for socket in sockets {
            socket.send_to(&[number], "10.44.0.2:9").unwrap();
        }
    }
    let mut flows = BTreeMap::new();
    let mut numbers = BTreeMap::<u16, Vec<u8>>::new();
    for (queue, device) in queues.iter_mut().enumerate() {
        let mut batch = ReadBatch::new(256, 16, device.info().max_packet());
        device.read_batch(&mut batch).unwrap();
        for packet in batch.packets().iter().map(|slot| slot.of(batch.arena())) {
            if packet.len() == 29 && packet[9] == 17 {
                let port = u16::from_be_bytes([packet[20], packet[21]]);
                let other = flows.insert(port, queue);
                assert!(other.is_none_or(|other| other == queue), "{port}");
                numbers.entry(port).or_default().push(packet[28]);
            }
        }
    }
    assert!(flows.keys().copied().eq(PORTS), "{flows:?}");
    let expected = Vec::from_iter(0..ROUND);
    assert!(
        numbers.values().all(|seen| *seen == expected),
        "{numbers:?}"
    );
    flows
}

/// What the far end of a flow answers.
fn answer(port: u16) -> Vec<u8> {
    let mut packet = vec![
        0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 44, 0, 2, 10, 44, 0, 1, // IPv4
        0, 9, 0, 0, 0, 9, 0, 0, b'y', // UDP
    ];
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum);
    packet
}

#[test]
fn each_flow_stays_in_one_of_several_queues_whoever_writes_its_answers() {
    in_namespace(|| {
        for offload in [OffloadChoice::Auto, OffloadChoice::Off] {
            let mut queues = open_queues(&several(offload));
            let bind = |port| UdpSocket::bind(("10.44.0.1", port)).unwrap();
            let sockets: Vec<_> = PORTS.map(bind).collect();
            let flows = round(&sockets, &mut queues);
            for queue in 0..usize::from(QUEUES) {
                assert!(flows.values().any(|other| *other == queue), "{flows:?}");
            }
            let mut writers: Vec<_> = queues.iter().map(|one| one.share().unwrap()).collect();
            for device in writers.iter_mut().chain(&mut queues) {
                let answers: Vec<_> = PORTS.map(answer).collect();
                let answers: Vec<_> = answers.iter().map(Vec::as_slice).collect();
                let written = [WriteOutcome::Written; PORTS.end as usize - PORTS.start as usize];
                assert_eq!(write(&mut **device, &answers), written);
                for socket in &sockets {
                    assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 1);
                }
            }
            assert_eq!(round(&sockets, &mut queues), flows);
        }
    });
}

#[test]
fn any_handle_keeps_the_interface_and_all_are_gone_with_it() {
    in_namespace(|| {
        for offload in [OffloadChoice::Auto, OffloadChoice::Off] {
            let mut queues = open_queues(&several(offload));
            let last = queues.remove(1).share().unwrap();
            drop(queues);
            assert!(device_exists("mesh0"));
            drop(last);
            assert!(!device_exists("mesh0"));

            let mut queues = open_queues(&several(offload));
            let index = queues[0].info().index;
            administrate(async |handle| delete(&handle, index).await);
            for device in &mut queues {
                assert_eq!(device.info().index, index);
                assert!(wait(&**device).contains(PollFlags::POLLERR));
                let mut batch = ReadBatch::for_device(device.info(), 16);
                assert!(is_gone(&device.read_batch(&mut batch).unwrap_err()));
                let gone = write(&mut **device, &[&echo_request()]);
                assert_eq!(gone, [WriteOutcome::Gone]);
            }
            // While the dead ones are still held.
            assert_eq!(open_queues(&several(offload)).len(), 3);
        }
    });
}

#[test]
fn nobody_else_is_given_queues_of_a_device_in_use() {
    in_namespace(|| {
        for held in [several(OffloadChoice::Auto), tun()] {
            let held = open_queues(&held);
            for offload in [OffloadChoice::Auto, OffloadChoice::Off] {
                let error = tuntap::open(&several(offload)).unwrap_err();
                assert!(matches!(error, OpenError::NameTaken { .. }), "{error:?}");
                let error = tuntap::open(&OpenConfig {
                    queues: 1,
                    ..several(offload)
                });
                let error = error.unwrap_err();
                let expected = match held.len() {
                    1 => matches!(error, OpenError::NameTaken { .. }),
                    _ => matches!(error, OpenError::WrongKind { .. }),
                };
                assert!(expected, "{error:?}");
            }
            assert!(is_up(&link(held[0].info().index)));
        }
    });
}
