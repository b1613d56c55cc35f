//! What an operator should know at a glance: alarms of the last five minutes.

use crate::id::NetId;
use crate::pump::count::{Counters, DropReason};
use crate::route::directory::Alarm;
use crate::time::{Duration, Instant};

use super::report::{Health, Level};

/// How long an alarm is shown after its cause was last seen.
const SHOWN: Duration = Duration::from_secs(300);

/// When each cause was last seen.
#[derive(Debug, Default)]
pub struct Alarms {
    other_mesh: Option<(Instant, NetId)>,
    own_address: Option<(Instant, String)>,
    bridge_loop: Option<Instant>,
    storm: Option<(Instant, u64)>,
}

impl Alarms {
    /// The directory raised an alarm.
    pub fn claims(&mut self, now: Instant, alarm: Alarm) {
        match alarm {
            Alarm::OtherMesh { netid } => self.other_mesh = Some((now, netid)),
            Alarm::OwnAddressClaimed { prefix, netid } => {
                self.own_address = Some((now, format!("node {netid} claims our {prefix}")));
            }
            Alarm::Conflict { .. } => {}
        }
    }

    /// A bridge loop was seen.
    pub fn bridge_loop(&mut self, now: Instant) {
        self.bridge_loop = Some(now);
    }

    /// Notes whether storm control dropped anything since the last call.
    pub fn look_at(&mut self, now: Instant, counters: &Counters) {
        let dropped = counters.dropped(DropReason::StormControl);
        let before = self.storm.map_or(0, |(_, dropped)| dropped);
        if dropped > before {
            self.storm = Some((now, dropped));
        }
    }

    /// The health lines that follow from it.
    pub fn lines(&self, now: Instant) -> Vec<Health> {
        let recent = |at: Instant| now.since(at) < SHOWN;
        let line = |level, code: &str, text: String| Health {
            level,
            code: code.to_owned(),
            text,
        };
        let mut lines = Vec::new();
        if let Some((at, netid)) = self.other_mesh
            && recent(at)
        {
            let text = format!("node {netid} names another --mesh; its addresses are not used");
            lines.push(line(Level::Alarm, "mesh_mismatch", text));
        }
        if let Some((at, text)) = &self.own_address
            && recent(*at)
        {
            lines.push(line(Level::Alarm, "address_claimed", text.clone()));
        }
        if let Some(at) = self.bridge_loop
            && recent(at)
        {
            let text = "frames come back through a bridge; broadcasts are held off".to_owned();
            lines.push(line(Level::Alarm, "bridge_loop", text));
        }
        if let Some((at, dropped)) = self.storm
            && recent(at)
        {
            let text = format!("storm control dropped {dropped} frames so far");
            lines.push(line(Level::Warning, "storm", text));
        }
        lines
    }
}
