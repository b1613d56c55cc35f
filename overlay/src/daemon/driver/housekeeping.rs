//! The driver's housekeeping: once a second, and what clients wait for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::super::admin::Reply;
use super::super::clock;
use super::super::device::State;
use super::super::log;
use super::super::pinging::Step;
use super::super::state::{Remembered, StateError};
use super::super::text;
use super::Driver;
use crate::id::NetId;
use crate::node::seen::Generation;
use crate::route::known::Known;
use crate::route::switch::LoopAlarm;
use crate::time::Instant;

impl Driver {
    pub(super) fn keep_house(&mut self, now: Instant) {
        self.shared.flood.seen().sweep(now, 1);
        if let Some(broadcasts) = &self.shared.broadcasts {
            broadcasts.sweep(now);
        }
        if let Some(links) = &mut self.links {
            links.members().set_wall(clock::wall_seconds());
        }
        self.look_after_preference(now);
        self.resize_seen_table(now);
        self.learned.sweep(now);
        self.keep_switch(now);
        self.alarms.look_at(now, &self.shared.counters);
        if self.alarms.look_at_own_traffic(now, &self.shared.counters) {
            tracing::error!(
                "a route leads to a neighbor through the device itself; what goes there is dropped"
            );
        }
        if self.device.was_not_strict(now) && self.alarms.not_strict(now) {
            tracing::error!(
                "somebody took away rules or routes that keep the device strict; they are back"
            );
        }
        let links = self.control.links();
        let dropped = links.map(|link| (link.netid, link.stats.unfair.load(Relaxed)));
        self.alarms.look_at_shares(now, dropped);
        self.remembering.begin(now, &self.proven());
        self.tell_of_lines_left_out(now);
        if self.service.is_told() {
            self.service.note(self.status_line());
        }
    }

    /// Tells the service manager that all is there.
    pub(super) fn tell_ready(&mut self) {
        let status = self.status_line();
        self.service.ready(self.clock.now(), status);
    }

    /// How the node is, in a line for the service manager.
    fn status_line(&self) -> String {
        let live: BTreeSet<NetId> = self.control.links().map(|link| link.netid).collect();
        let mut line = format!(
            "netid {}, {}",
            self.shared.netid,
            text::count(live.len() as u64, "neighbor")
        );
        if self.device.state() == State::Lost {
            line += "; the device is lost";
        }
        line
    }

    fn tell_of_lines_left_out(&mut self, now: Instant) {
        self.lines_left_out += log::take_left_out();
        if self.lines_left_out > 0 && self.limiter.pass(now, "log").is_some() {
            let lines = std::mem::take(&mut self.lines_left_out);
            tracing::warn!(
                lines,
                "log lines were left out: there were more than one a second"
            );
        }
    }

    /// In TAP mode: stations that are over, loops that were found, nodes whose MACs are derived.
    fn keep_switch(&mut self, now: Instant) {
        let Some(switch) = &self.switch else {
            return;
        };
        switch.sweep(now);
        for LoopAlarm { port, .. } in switch.take_alarms() {
            let through = (port != self.shared.netid).then_some(port);
            match through {
                Some(netid) => tracing::error!(%netid, "a node bridges the same network as we do"),
                None => tracing::error!("the bridge behind the device has a loop"),
            }
            self.alarms.bridge_loop(now, through);
        }
        // Once a second is enough: until a node is known, frames to it are flooded.
        let known = Known::new(self.control.remotes().map(|(netid, _)| netid));
        if known != *self.shared.snapshot.load().known {
            self.shared
                .publish(|snapshot| snapshot.known = Arc::new(known));
        }
    }

    /// A larger or smaller table is made by a thread that may take its time; the data path never
    /// waits.
    pub(super) fn resize_seen_table(&mut self, now: Instant) {
        let seen = self.shared.flood.seen();
        if self
            .resizing
            .as_ref()
            .is_some_and(|resizing| !resizing.is_finished())
        {
            return;
        }
        let growth = seen.growth_wanted();
        let Some(bytes) = growth.or_else(|| seen.shrinking_wanted(now)) else {
            return;
        };
        tracing::debug!(
            bytes,
            used = seen.bytes(),
            "the seen table follows the traffic"
        );
        let shared = self.shared.clone();
        let clock = self.clock;
        self.resizing = Some(tokio::task::spawn_blocking(move || {
            let generation = Generation::allocate(clock.now(), bytes);
            shared.flood.seen().adopt(clock.now(), generation);
        }));
    }

    pub(super) fn on_written(&mut self, written: Result<(), StateError>) {
        if let Err(error) = written
            && let Some(suppressed) = self.limiter.pass(self.clock.now(), "state")
        {
            let why = error.with_reason();
            tracing::warn!(suppressed, "neighbors are not written down: {why}");
        }
    }

    pub(super) fn proven(&self) -> Vec<Remembered> {
        let proven = self.control.proven().into_iter();
        proven
            .map(|(netid, remote)| Remembered { netid, remote })
            .collect()
    }

    pub(super) fn poll_pingings(&mut self, now: Instant) {
        let mut pingings = std::mem::take(&mut self.pingings);
        for (id, pinging, replies) in &mut pingings {
            while let Some(step) = pinging.poll(now) {
                let reply = match step {
                    Step::Ask => {
                        self.control
                            .ping(now, *id, pinging.target, &mut self.effects);
                        continue;
                    }
                    Step::Answer(mut answer) => {
                        answer.addresses = self.addresses_of(answer.netid);
                        Reply::Answer(answer)
                    }
                    Step::Missed(missed) => Reply::Missed(missed),
                    Step::Summary(summary) => Reply::Summary(summary),
                };
                let _ = replies.try_send(reply);
            }
        }
        pingings.retain(|(_, pinging, replies)| !pinging.is_done() && !replies.is_closed());
        self.pingings = pingings;
    }
}
