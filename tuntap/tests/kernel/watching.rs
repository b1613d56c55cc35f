//! What a watch hears of a real kernel.

use std::time::Duration;

use crate::host::*;

use tokio::time::timeout;
use tuntap::{Change, LocalAddress, Watch, open as open_device};

/// The next change that `is_wanted`; others may come before it, as addresses come and go with the
/// interface.
async fn next(watch: &mut Watch, is_wanted: impl Fn(&Change) -> bool) -> Change {
    let wait = async {
        loop {
            let change = watch.next().await.unwrap();
            if is_wanted(&change) {
                return change;
            }
        }
    };
    timeout(PATIENCE, wait)
        .await
        .expect("the change was not told")
}

fn is_about_device(change: &Change) -> bool {
    matches!(
        change,
        Change::DeviceUp | Change::DeviceDown | Change::DeviceDeleted | Change::DeviceMtu(_)
    )
}

/// Asserts that nothing more is told about the device. What the kernel says comes with the cause,
/// so a marker that is told proves that all before it was told too.
async fn assert_quiet(watch: &mut Watch, index: u32) {
    let marker = "10.99.0.1".parse().unwrap();
    let add = administrator().address().add(index, marker, 32);
    add.execute().await.unwrap();
    let is_marker = |change: &Change| matches!(change, Change::AddressAdded(LocalAddress { address, .. }) if *address == marker);
    let change = next(watch, |c| is_about_device(c) || is_marker(c)).await;
    assert!(is_marker(&change), "{change:?}");
}

#[test]
fn what_becomes_of_the_device_is_told_in_order() {
    in_namespace(|| {
        let device = open(&tun());
        let index = device.info().index;
        administrate(async |handle| {
            let mut watch = Watch::open(Some(index)).await.unwrap();
            set_up(&handle, index, false).await;
            assert_eq!(next(&mut watch, is_about_device).await, Change::DeviceDown);
            set_up(&handle, index, true).await;
            assert_eq!(next(&mut watch, is_about_device).await, Change::DeviceUp);
            tuntap::set_mtu(index, 1300).unwrap();
            assert_eq!(
                next(&mut watch, is_about_device).await,
                Change::DeviceMtu(1300)
            );
            delete(&handle, index).await;
            assert_eq!(next(&mut watch, is_about_device).await, Change::DeviceDown);
            assert_eq!(
                next(&mut watch, is_about_device).await,
                Change::DeviceDeleted
            );
        });
    });
}

#[test]
fn a_device_deleted_before_the_watch_began_is_told() {
    in_namespace(|| {
        let device = open(&tun());
        let index = device.info().index;
        administrate(async |handle| {
            delete(&handle, index).await;
            let mut watch = Watch::open(Some(index)).await.unwrap();
            assert_eq!(
                next(&mut watch, is_about_device).await,
                Change::DeviceDeleted
            );
        });
    });
}

#[test]
fn after_a_loss_the_watch_follows_the_new_device_without_telling_of_its_making() {
    in_namespace(|| {
        let device = open(&tun());
        let index = device.info().index;
        administrate(async |handle| {
            let mut watch = Watch::open(Some(index)).await.unwrap();
            delete(&handle, index).await;
            next(&mut watch, |change| *change == Change::DeviceDeleted).await;
            let again = open(&tun());
            let index = again.info().index;
            watch.follow(Some(index));
            assert_quiet(&mut watch, index).await;
            drop(again);
            next(&mut watch, |change| *change == Change::DeviceDeleted).await;
        });
    });
}

#[test]
fn addresses_links_and_routes_of_others_are_told() {
    in_namespace(|| {
        administrate(async |handle| {
            let mut watch = Watch::open(None).await.unwrap();
            assert_eq!(watch.addresses().count(), 0);
            set_up(&handle, 1, true).await;
            let loopback = Change::Link {
                interface: 1,
                up: true,
            };
            next(&mut watch, |change| *change == loopback).await;
            let address = LocalAddress {
                interface: 1,
                address: "192.0.2.1".parse().unwrap(),
                prefix_len: 24,
            };
            let add = handle.address().add(1, address.address, 24);
            add.execute().await.unwrap();
            next(&mut watch, |c| *c == Change::AddressAdded(address)).await;
            assert!(watch.addresses().any(|found| found == address));
            // Its network is a route of the main table, unless on the loopback interface: a
            // second device, which is not followed, brings one.
            let _other = open_device(&tun()).unwrap();
            next(&mut watch, |change| *change == Change::Routes).await;
        });
    });
}

#[test]
fn a_watch_survives_more_messages_than_its_socket_holds() {
    in_namespace(|| {
        let device = open(&tun());
        let index = device.info().index;
        administrate(async |handle| {
            let mut watch = Watch::open(Some(index)).await.unwrap();
            assert_quiet(&mut watch, index).await;
            // Nobody asks the watch meanwhile, so the kernel must leave out messages, the last
            // ones: those of the deletion.
            for _ in 0..200 {
                set_up(&handle, index, false).await;
                set_up(&handle, index, true).await;
            }
            delete(&handle, index).await;
            next(&mut watch, |change| *change == Change::DeviceDeleted).await;
            assert_eq!(watch.addresses().count(), 0);
        });
    });
}

#[test]
fn a_cancelled_wait_loses_nothing() {
    in_namespace(|| {
        let device = open(&tun());
        let index = device.info().index;
        administrate(async |handle| {
            let mut watch = Watch::open(Some(index)).await.unwrap();
            for _ in 0..3 {
                let brief = Duration::from_millis(1);
                let _ = timeout(brief, next(&mut watch, |_| false)).await;
            }
            set_up(&handle, index, false).await;
            assert_eq!(next(&mut watch, is_about_device).await, Change::DeviceDown);
        });
    });
}

#[test]
fn a_watch_survives_being_cancelled_in_the_middle_of_a_look() {
    in_namespace(|| {
        administrate(async |_| {
            let mut watch = Watch::open(None).await.unwrap();
            for patience in 0..200 {
                // Stale again, so that it looks; then cancelled, as a select does.
                watch.follow(None);
                let patience = Duration::from_micros(patience);
                if let Ok(change) = timeout(patience, watch.next()).await {
                    change.unwrap();
                }
            }
            assert_quiet(&mut watch, 1).await;
        });
    });
}
