//! What an operator should know at a glance: alarms of the last five minutes.

use std::collections::BTreeMap;

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
    /// Through which node frames came back, or `None` for our own bridge.
    bridge_loop: Option<(Instant, Option<NetId>)>,
    wrong_mode: Option<(Instant, NetId)>,
    storm: Option<(Instant, u64)>,
    /// The neighbor that most was dropped of as more than its share, and how much within a second.
    flood: Option<(Instant, NetId, u64)>,
    /// What was dropped so by each neighbor.
    unfair: BTreeMap<NetId, u64>,
    /// A netid that came with another key, and what to do about it.
    other_key: Option<(Instant, NetId, String)>,
    /// Why the state cannot be written down.
    unwritten: Option<(Instant, String)>,
    /// Our own datagrams that came back through the device.
    own_traffic: Option<(Instant, u64)>,
    /// A node that has adopted another next secret than ours.
    other_next: Option<(Instant, NetId)>,
    /// Rules or routes of a strict device that others took away, and how often.
    not_strict: Option<(Instant, u64)>,
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

    /// Our beacon came back: through another node, or through the bridge behind our device.
    pub fn bridge_loop(&mut self, now: Instant, through: Option<NetId>) {
        self.bridge_loop = Some((now, through));
    }

    /// This node has a TAP device where we have a TUN device, or the other way round.
    pub fn wrong_mode(&mut self, now: Instant, netid: NetId) {
        self.wrong_mode = Some((now, netid));
    }

    /// A node came with another key than the one its netid is bound to.
    pub fn other_key(&mut self, now: Instant, netid: NetId, advice: &str) {
        self.other_key = Some((now, netid, advice.to_owned()));
    }

    /// What is to outlive this start cannot be written down.
    pub fn unwritten(&mut self, now: Instant, error: String) {
        self.unwritten = Some((now, error));
    }

    /// It was written after all.
    pub fn written(&mut self) {
        self.unwritten = None;
    }

    /// Notes whether datagrams of our links went into our own device since the last call (SECURITY T15).
    /// Once a second. Returns whether that is news: it did not for as long as an alarm is shown.
    ///
    /// Datagrams that come out of the device to our port are no sign of it: any member can send some.
    pub fn look_at_own_traffic(&mut self, now: Instant, counters: &Counters) -> bool {
        let dropped = counters.dropped(DropReason::OverlayLoop);
        let (seen_at, before) = self.own_traffic.unzip();
        if dropped <= before.unwrap_or(0) {
            return false;
        }
        self.own_traffic = Some((now, dropped));
        seen_at.is_none_or(|at| now.since(at) >= SHOWN)
    }

    /// Others had taken away what keeps the device strict. Returns whether that is news: it did not happen
    /// for as long as an alarm is shown.
    pub fn not_strict(&mut self, now: Instant) -> bool {
        let (seen_at, times) = self.not_strict.unzip();
        self.not_strict = Some((now, times.unwrap_or(0) + 1));
        seen_at.is_none_or(|at| now.since(at) >= SHOWN)
    }

    /// A node has another next secret than ours.
    pub fn other_next(&mut self, now: Instant, netid: NetId) {
        self.other_next = Some((now, netid));
    }

    /// Notes whether storm control dropped anything since the last call. Once a second.
    pub fn look_at(&mut self, now: Instant, counters: &Counters) {
        let dropped = counters.dropped(DropReason::StormControl);
        let before = self.storm.map_or(0, |(_, dropped)| dropped);
        if dropped > before {
            self.storm = Some((now, dropped));
        }
    }

    /// Notes who brought more than its fair share since the last call. Once a second; `dropped` has
    /// what was dropped so far of each link.
    pub fn look_at_shares(&mut self, now: Instant, dropped: impl Iterator<Item = (NetId, u64)>) {
        let mut sums = BTreeMap::new();
        for (netid, dropped) in dropped.filter(|(_, dropped)| *dropped > 0) {
            *sums.entry(netid).or_default() += dropped;
        }
        let before = std::mem::replace(&mut self.unfair, sums);
        let grown = self.unfair.iter().map(|(netid, sum)| {
            let former = before.get(netid).copied().unwrap_or(0);
            (sum.saturating_sub(former), *netid)
        });
        if let Some((dropped @ 1.., netid)) = grown.max() {
            self.flood = Some((now, netid, dropped));
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
        if let Some((at, netid, advice)) = &self.other_key
            && recent(*at)
        {
            let text = format!("{netid}: {advice}");
            lines.push(line(Level::Alarm, "other_key", text));
        }
        if let Some((at, netid)) = self.other_next
            && recent(at)
        {
            let text = format!(
                "node {netid} has adopted another next secret than this one: two changes were begun at once; \
                 floodmesh rotate --adopt one of them on all nodes before rotate --finish"
            );
            lines.push(line(Level::Alarm, "other_next_secret", text));
        }
        if let Some((at, text)) = &self.own_address
            && recent(*at)
        {
            lines.push(line(Level::Alarm, "address_claimed", text.clone()));
        }
        if let Some((at, through)) = self.bridge_loop
            && recent(at)
        {
            let text = match through {
                Some(netid) => format!(
                    "node {netid} bridges the same network as this node; broadcasts from it are \
                     held off"
                ),
                None => "the bridge behind the device has a loop; broadcasts are held off".into(),
            };
            lines.push(line(Level::Alarm, "bridge_loop", text));
        }
        if let Some((at, netid)) = self.wrong_mode
            && recent(at)
        {
            let text = format!(
                "node {netid} has a device of the other --mode; nothing passes between tun and tap"
            );
            lines.push(line(Level::Alarm, "wrong_mode", text));
        }
        if let Some((at, dropped)) = self.storm
            && recent(at)
        {
            let text = format!("storm control dropped {dropped} frames so far");
            lines.push(line(Level::Warning, "storm", text));
        }
        if let Some((at, why)) = &self.unwritten
            && recent(*at)
        {
            let text = format!("what it must remember is not written down: {why}");
            lines.push(line(Level::Alarm, "state_unwritten", text));
        }
        if let Some((at, dropped)) = self.own_traffic
            && recent(at)
        {
            let text = format!(
                "a route leads to a neighbor through the device itself: {dropped} datagrams of our \
                 own came back and were dropped; see ip route get and the address of that neighbor"
            );
            lines.push(line(Level::Alarm, "underlay_in_overlay", text));
        }
        if let Some((at, times)) = self.not_strict
            && recent(at)
        {
            let text = format!(
                "somebody took away rules or routes that keep the device strict ({times} times so far); they \
                 were put back; where systemd-networkd runs, ManageForeignRoutingPolicyRules=no and \
                 ManageForeignRoutes=no keep them"
            );
            lines.push(line(Level::Alarm, "not_strict", text));
        }
        if let Some((at, netid, dropped)) = self.flood
            && recent(at)
        {
            let text = format!(
                "more comes than this node can handle, most of it through neighbor {netid}; \
                 {dropped} datagrams a second above its fair share were dropped"
            );
            lines.push(line(Level::Warning, "unfair_share", text));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(alarms: &Alarms, now: Instant) -> Vec<String> {
        let lines = alarms.lines(now).into_iter();
        lines.map(|line| line.code).collect()
    }

    #[test]
    fn an_alarm_is_shown_for_five_minutes() {
        let mut alarms = Alarms::default();
        alarms.bridge_loop(Instant::ZERO, Some(NetId(9)));
        alarms.wrong_mode(Instant::from_secs(1), NetId(8));
        assert_eq!(
            codes(&alarms, Instant::from_secs(299)),
            ["bridge_loop", "wrong_mode"]
        );
        assert_eq!(codes(&alarms, Instant::from_secs(300)), ["wrong_mode"]);
        assert!(codes(&alarms, Instant::from_secs(301)).is_empty());
    }

    /// S108.
    #[test]
    fn another_next_secret_is_an_alarm_that_names_who_has_it() {
        let mut alarms = Alarms::default();
        alarms.other_next(Instant::ZERO, NetId(9));
        let line = &alarms.lines(Instant::from_secs(299))[0];
        assert_eq!(line.code, "other_next_secret");
        assert!(line.text.starts_with("node 00000009 "), "{}", line.text);
        assert!(codes(&alarms, Instant::from_secs(300)).is_empty());
    }

    #[test]
    fn a_loop_names_the_node_it_goes_through_or_our_own_bridge() {
        let mut alarms = Alarms::default();
        alarms.bridge_loop(Instant::ZERO, Some(NetId(9)));
        assert!(
            alarms.lines(Instant::ZERO)[0]
                .text
                .contains("node 00000009")
        );
        alarms.bridge_loop(Instant::ZERO, None);
        assert!(
            alarms.lines(Instant::ZERO)[0]
                .text
                .contains("behind the device")
        );
    }

    #[test]
    fn a_storm_is_shown_from_when_drops_last_rose() {
        let (mut alarms, counters) = (Alarms::default(), Counters::default());
        alarms.look_at(Instant::ZERO, &counters);
        assert!(codes(&alarms, Instant::ZERO).is_empty());
        counters.count_many(DropReason::StormControl, 5);
        alarms.look_at(Instant::from_secs(10), &counters);
        alarms.look_at(Instant::from_secs(20), &counters);
        assert_eq!(codes(&alarms, Instant::from_secs(309)), ["storm"]);
        assert!(codes(&alarms, Instant::from_secs(310)).is_empty());
    }

    #[test]
    fn own_traffic_in_the_device_is_news_once_and_again_after_five_quiet_minutes() {
        let (mut alarms, counters) = (Alarms::default(), Counters::default());
        let mut look = |seconds, more| {
            counters.count_many(DropReason::OverlayLoop, more);
            alarms.look_at_own_traffic(Instant::from_secs(seconds), &counters)
        };
        // What a member sends through the overlay to our port says nothing of our routes.
        counters.count_many(DropReason::UnderlayInOverlay, 7);
        assert!(!look(0, 0));
        assert!(look(1, 3));
        assert!(!look(2, 0) && !look(3, 5) && !look(302, 1));
        assert!(!look(601, 0));
        assert!(look(602, 1));
        assert_eq!(
            codes(&alarms, Instant::from_secs(602)),
            ["underlay_in_overlay"]
        );
    }

    #[test]
    fn what_keeps_the_device_strict_and_had_gone_is_news_once_and_shown_for_five_minutes() {
        let (mut alarms, at) = (Alarms::default(), Instant::from_secs);
        assert!(alarms.not_strict(at(1)));
        assert!(!alarms.not_strict(at(6)));
        assert_eq!(codes(&alarms, at(305)), ["not_strict"]);
        assert!(codes(&alarms, at(306)).is_empty());
        assert!(alarms.not_strict(at(306)));
        assert!(alarms.lines(at(306))[0].text.contains("3 times"));
    }

    #[test]
    fn what_cannot_be_written_is_shown_until_it_is() {
        let mut alarms = Alarms::default();
        alarms.unwritten(Instant::ZERO, "cannot write pins: full".to_owned());
        assert!(alarms.lines(Instant::ZERO)[0].text.ends_with("pins: full"));
        alarms.written();
        assert!(codes(&alarms, Instant::ZERO).is_empty());
    }

    #[test]
    fn a_flood_is_told_with_the_neighbor_that_brings_it() {
        let mut alarms = Alarms::default();
        let (few, many) = (NetId(8), NetId(9));
        let at = Instant::from_secs;
        alarms.look_at_shares(at(1), [(few, 0), (many, 0)].into_iter());
        assert!(codes(&alarms, at(1)).is_empty());
        // Two links of one neighbor count together.
        alarms.look_at_shares(at(2), [(few, 60), (many, 50), (many, 50)].into_iter());
        let text = &alarms.lines(at(2))[0].text;
        assert!(
            text.contains("00000009") && text.contains("100 datagrams"),
            "{text}"
        );
        // Nothing more was dropped: it is shown for five minutes still.
        alarms.look_at_shares(at(3), [(few, 60), (many, 100)].into_iter());
        assert_eq!(codes(&alarms, at(301)), ["unfair_share"]);
        assert!(codes(&alarms, at(302)).is_empty());
    }
}
