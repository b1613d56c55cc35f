//! What goes from the data loop to the driver, and packets on their way to the device.

use std::sync::Arc;

use wire::Header;

use super::TX_ITEMS;
use crate::daemon::shared::{CONTROL_LEN, Report, Reports};
use crate::id::{NetId, Path};
use crate::node::snapshot::LinkEntry;
use crate::pump::count::{Counters, DropReason};
use crate::pump::{Arrival, Packet, Sink};
use crate::time::{Duration, Instant};

/// How often the driver is told that a node's device is of another mode.
const MIXED_INTERVAL: Duration = Duration::from_secs(1);

/// Takes what the pump delivers: packets for the device are noted, the rest goes to the driver.
pub(super) struct Hand {
    reports: Reports,
    counters: Arc<Counters>,
    pub(super) packets: Vec<Packet>,
    /// When the driver was last told of a node of another device mode.
    mixed_at: Option<Instant>,
}

impl Hand {
    pub(super) fn new(reports: Reports, counters: Arc<Counters>) -> Self {
        Self {
            reports,
            counters,
            packets: Vec::with_capacity(TX_ITEMS),
            mixed_at: None,
        }
    }

    /// A payload of `origin` is for a device of another mode; told once a second.
    pub(super) fn mixed(&mut self, now: Instant, origin: NetId) {
        if self
            .mixed_at
            .is_none_or(|at| now.since(at) >= MIXED_INTERVAL)
        {
            self.mixed_at = Some(now);
            self.far(Report::WrongMode(origin));
        }
    }

    pub(super) fn near(&self, report: Report) {
        if self.reports.near.try_send(report).is_err() {
            self.counters.count(DropReason::ControlFull);
        }
    }

    fn far(&self, report: Report) {
        if self.reports.strangers.try_send(report).is_err() {
            self.counters.count(DropReason::StrangerFull);
        }
    }
}

impl Sink for Hand {
    fn device(&mut self, packet: Packet, _arena: &[u8]) {
        self.packets.push(packet);
    }

    fn service(&mut self, link: &LinkEntry, header: &Header, payload: &[u8]) {
        let direct = header.flags.no_forward() && link.netid == header.src;
        let report = Report::Directory {
            origin: header.src,
            direct,
            payload: payload.into(),
        };
        if self.reports.near.try_send(report).is_err() {
            self.counters.count(DropReason::ServiceFull);
        }
    }

    fn control(&mut self, arrival: Arrival, datagram: &[u8]) {
        let Arrival {
            path,
            link,
            expected,
            duplicate,
        } = arrival;
        let len = datagram.len().min(CONTROL_LEN);
        let mut bytes = [0; CONTROL_LEN];
        bytes[..len].copy_from_slice(&datagram[..len]);
        let report = Report::Datagram {
            path,
            duplicate,
            len: len as u8,
            bytes,
        };
        if link.is_some() || expected {
            self.near(report);
        } else {
            self.far(report);
        }
    }

    fn stranger(&mut self, path: Path) {
        self.far(Report::Stranger(path));
    }

    fn conflict(&mut self, path: Path) {
        self.far(Report::Conflict(path));
    }

    fn heard(&mut self, origin: NetId) {
        self.near(Report::Heard(origin));
    }
}
