//! The directory: who claims which address, told by the nodes themselves. Control side.
//!
//! Nodes flood what they claim; a new neighbor is told what is known. The machine is owned by one
//! task, takes time as an argument, and fills an effects list that the caller drains:
//!
//! 1. `handle_*` with each input: a payload, a sign of life, a link that came up, a node that left;
//! 2. carry out the effects: flood, send to a neighbor, load [`Directory::routes`] anew, warn;
//! 3. sleep until [`Directory::next_timeout`], then [`Directory::handle_timeout`]. An early call is
//!    harmless.
//!
//! Error contract: no input is an error. What is refused is told as [`Effect::Dropped`], what a
//! person should know as [`Effect::Alarm`], at most one of a kind each 10 s.
//!
//! Source: PROTOCOL.md, "Directory".

pub mod codec;
mod effect;
pub mod reserved;
mod table;
#[cfg(test)]
mod tests;

pub use effect::{ALARM_SPACING, Alarm, ClaimState, ClaimView, Effect};
pub use table::{LIFETIME, MAX_CLAIMS, MAX_OF_ONE, MAX_RIVALS, SIMULTANEOUS, STALE_LIFETIME};

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use self::codec::{Content, Payload, Rumour};
use self::effect::Alarms;
use self::table::{Table, Teller, Told};
use crate::id::NetId;
use crate::node::zone::OpenZone;
use crate::pump::count::DropReason;
use crate::route::address::Mesh;
use crate::route::grants::Grants;
use crate::route::routes::{Routes, host};
use crate::time::{Duration, Instant};

/// How often claims are told; each time up to a tenth more or less, so that nodes do not beat
/// together.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(30);
/// Links that come up one after the other cause one announcement in this time.
pub const ANNOUNCE_SPACING: Duration = Duration::from_secs(1);
/// Claims are told again so long after a link came up: nodes behind it may not have had links of
/// their own to those who forward to them, and a flood may be lost.
pub const ANNOUNCE_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// A neighbor is answered once in this time, however often it tells us something.
pub const ANSWER_SPACING: Duration = Duration::from_secs(5);
/// A neighbor whose claims are of another set is answered once in this time.
pub const RESTART_SPACING: Duration = Duration::from_millis(200);
/// The most entries told to a new neighbor, own ones included.
pub const MAX_TOLD: usize = 256;
/// Snapshots are built at most this often; the first change at once.
pub const PUBLISH_SPACING: Duration = Duration::from_millis(100);

/// The claims machine of one node.
#[derive(Debug)]
pub struct Directory {
    me: NetId,
    mesh: Mesh,
    /// The device's addresses with the lengths of their networks; each claims its single address.
    addresses: Vec<IpNet>,
    /// Names the present version of our claims.
    set: u32,
    /// Our claims became empty and the mesh is to be told so.
    retract: bool,
    table: Table,
    /// What certificates let others claim.
    grants: Arc<Grants>,
    /// Who speaks sealed, in a node with two zones.
    zone: Option<Arc<OpenZone>>,
    routes: Arc<Routes>,
    dirty: bool,
    publish_after: Instant,
    /// When our claims are told next; never before the first link is up, as nobody would hear.
    announce_at: Option<Instant>,
    announced: Option<Instant>,
    /// When a link last came up.
    link_up: Option<Instant>,
    /// Neighbors that were answered lately: which set of claims, and when; see [`Self::answer`].
    answered: BTreeMap<NetId, (u32, Instant)>,
    alarms: Alarms,
    rng: ChaCha8Rng,
}

impl Directory {
    /// A directory that knows our own claims only.
    ///
    /// Shape: `addresses` as configured, an address with the length of its network each.
    pub fn new(me: NetId, mesh: Mesh, addresses: Vec<IpNet>, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let routes = Arc::new(Routes::new(me, mesh, &addresses, [], [], 1));
        Self {
            me,
            mesh,
            addresses,
            set: rng.next_u32(),
            retract: false,
            table: Table::new(),
            grants: Arc::default(),
            zone: None,
            routes,
            dirty: false,
            publish_after: Instant::ZERO,
            announce_at: None,
            announced: None,
            link_up: None,
            answered: BTreeMap::new(),
            alarms: Alarms::default(),
            rng,
        }
    }

    /// The present snapshot.
    pub fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes)
    }

    /// Which netid holds `address`, for `floodmesh ping ADDRESS`.
    pub fn resolve(&self, address: IpAddr) -> Option<NetId> {
        self.routes.find(address)
    }

    /// All claims, ours first, then by prefix and netid.
    pub fn claims(&self, now: Instant) -> Vec<ClaimView> {
        let own = self.addresses.iter().map(|address| ClaimView {
            prefix: host(address),
            netid: self.me,
            state: ClaimState::Own,
            age: Duration::ZERO,
        });
        let others = self.table.iter(now).map(|seen| ClaimView {
            prefix: seen.prefix,
            netid: seen.owner,
            state: seen.state,
            age: seen.age,
        });
        own.chain(others).collect()
    }

    /// How many claims of others are held in memory.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether nobody else claims anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Handles a 0xC2 payload that `from` originated.
    ///
    /// Shape: `payload` with its first byte 0xC2; `from` the src netid of the message; `direct`
    /// when it had NO_FORWARD and came over a link of `from` itself.
    pub fn handle_payload(
        &mut self,
        now: Instant,
        from: NetId,
        direct: bool,
        payload: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        if from == self.me {
            return;
        }
        let Ok(payload) = Payload::parse(payload) else {
            effects.push(Effect::Dropped(DropReason::BadDirectory, 1));
            return;
        };
        if payload.mesh != self.mesh.hash {
            let alarm = Alarm::OtherMesh { netid: from };
            self.alarms.raise(now, alarm, effects);
            effects.push(Effect::Dropped(DropReason::ClaimRefused, 1));
            return;
        }
        match payload.content {
            Content::Claims {
                set,
                part,
                parts,
                prefixes,
            } => {
                // A set of one part says at once what is no longer claimed, which makes room.
                if parts == 1 {
                    self.dirty |= self.table.keep_only(from, &prefixes);
                }
                for prefix in prefixes {
                    self.tell(now, from, prefix, Teller::Owner { set }, effects);
                }
                self.dirty |= self.table.part(from, set, part, parts);
                if direct {
                    self.answer(now, from, set, effects);
                }
            }
            Content::Hearsay(rumours) if direct => {
                for rumour in rumours {
                    if !self.hears(from, rumour.owner) {
                        effects.push(Effect::Dropped(DropReason::ClaimRefused, 1));
                    } else if rumour.owner.is_node() && rumour.owner != self.me {
                        let teller = Teller::Neighbor {
                            age: Duration::from_secs(rumour.age.into()),
                            held: Duration::from_secs(rumour.held.into()),
                        };
                        self.tell(now, rumour.owner, rumour.prefix, teller, effects);
                    }
                }
            }
            // Forwarded hearsay would be rumours of rumours without end.
            Content::Hearsay(_) => effects.push(Effect::Dropped(DropReason::ClaimRefused, 1)),
            Content::Unknown => {}
        }
        self.publish(now, effects);
    }

    /// Notes that the neighbor `via` brought some message of `netid`, which refreshes its claims. At
    /// most once a second per netid is enough.
    pub fn handle_heard(
        &mut self,
        now: Instant,
        netid: NetId,
        via: NetId,
        effects: &mut Vec<Effect>,
    ) {
        if !self.hears(via, netid) {
            return;
        }
        self.dirty |= self.table.heard(now, netid);
        self.publish(now, effects);
    }

    /// Notes that `netid` left, once that is certain: its claims are stale at once.
    pub fn handle_gone(&mut self, now: Instant, netid: NetId, effects: &mut Vec<Effect>) {
        self.dirty |= self.table.gone(now, netid);
        self.publish(now, effects);
    }

    /// Tells a new neighbor what we know, and soon everybody what we claim: behind the new link
    /// there may be nodes that never heard us.
    pub fn handle_link_up(&mut self, now: Instant, netid: NetId, effects: &mut Vec<Effect>) {
        self.tell_neighbor(now, netid, effects);
        self.link_up = Some(now);
        let soon = self
            .announced
            .map_or(now, |last| now.max(last + ANNOUNCE_SPACING));
        self.announce_at = Some(self.announce_at.map_or(soon, |at| at.min(soon)));
        self.handle_timeout(now, effects);
    }

    /// Tells a neighbor what we know in return for what it told us alone: it is live on our side
    /// and, as it told us, we are on its side. At our own link-up we may not have been, and one
    /// that restarted within our patience makes no link-up at all.
    ///
    /// Not again within [`ANSWER_SPACING`], so that two neighbors do not answer each other for ever;
    /// one that restarted has a new `set`, and waits for [`RESTART_SPACING`] at most.
    fn answer(&mut self, now: Instant, netid: NetId, set: u32, effects: &mut Vec<Effect>) {
        self.answered
            .retain(|_, (_, at)| now.since(*at) < ANSWER_SPACING);
        if let Some((answered, at)) = self.answered.get(&netid)
            && (*answered == set || now.since(*at) < RESTART_SPACING)
        {
            return;
        }
        self.answered.insert(netid, (set, now));
        // To all as well: what we flooded at our link-up may have ended at that neighbor.
        self.handle_link_up(now, netid, effects);
    }

    fn tell_neighbor(&self, now: Instant, netid: NetId, effects: &mut Vec<Effect>) {
        let own = self.own_prefixes();
        let room = MAX_TOLD.saturating_sub(own.len());
        let payloads = codec::claims(self.mesh.hash, self.set, &own);
        let hearsay = codec::hearsay(self.mesh.hash, &self.rumours(now, netid, room));
        effects.extend(
            payloads
                .into_iter()
                .chain(hearsay)
                .map(|payload| Effect::ToNeighbor(netid, payload)),
        );
    }

    /// Replaces our addresses.
    pub fn set_addresses(
        &mut self,
        now: Instant,
        addresses: Vec<IpNet>,
        effects: &mut Vec<Effect>,
    ) {
        if addresses == self.addresses {
            return;
        }
        self.retract = addresses.is_empty();
        self.addresses = addresses;
        self.set = self.set.wrapping_add(1);
        self.dirty = true;
        for prefix in self.own_prefixes() {
            while let Some(netid) = self.table.forget_prefix(prefix) {
                let alarm = Alarm::OwnAddressClaimed { prefix, netid };
                self.alarms.raise(now, alarm, effects);
            }
        }
        self.announce_at = self.announce_at.map(|_| now);
        self.handle_timeout(now, effects);
    }

    /// Takes what certificates let nodes do. Counts at once: claims that they do not cover are
    /// forgotten.
    pub fn set_grants(&mut self, now: Instant, grants: Arc<Grants>, effects: &mut Vec<Effect>) {
        self.grants = grants;
        for netid in self.grants.netids() {
            let claims = self.table.iter(now).filter(|seen| seen.owner == netid);
            let may = claims.filter(|seen| self.grants.may_claim(netid, &seen.prefix));
            let may: Vec<IpNet> = may.map(|seen| seen.prefix).collect();
            self.table.keep_only(netid, &may);
        }
        self.dirty = true;
        self.publish_after = now;
        self.publish(now, effects);
    }

    /// Takes who speaks sealed, in a node that has a plain zone beside the sealed one: what is claimed in
    /// one is not told in the other, unless there is a bridge (S88).
    pub fn set_open_zone(&mut self, zone: Option<Arc<OpenZone>>) {
        self.zone = zone;
    }

    fn hears(&self, neighbor: NetId, of: NetId) -> bool {
        let zone = self.zone.as_ref();
        zone.is_none_or(|zone| zone.hears(neighbor, of))
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        let publish = self.dirty.then_some(self.publish_after);
        let change = self.table.next_change();
        [publish, change, self.announce_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due. Too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.table.next_change().is_some_and(|at| now >= at) {
            self.table.sweep(now);
            self.dirty = true;
        }
        if self.announce_at.is_some_and(|at| now >= at) {
            self.announce(now, effects);
        }
        self.publish(now, effects);
    }

    fn announce(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let own = self.own_prefixes();
        if !own.is_empty() || self.retract {
            let payloads = codec::claims(self.mesh.hash, self.set, &own);
            effects.extend(payloads.into_iter().map(Effect::Flood));
            self.retract = false;
        }
        self.announced = Some(now);
        // 90 % to 110 % of the interval, in 4096 steps.
        let step = u64::from(self.rng.next_u32() >> 20);
        let fifth = ANNOUNCE_INTERVAL.as_micros() as u64 / 5;
        let jitter = Duration::from_micros(fifth * step / 4096);
        let regular = now + ANNOUNCE_INTERVAL * 9 / 10 + jitter;
        let again = self.link_up.and_then(|up| {
            let mut times = ANNOUNCE_AGAIN.into_iter().map(|after| up + after);
            times.find(|at| *at >= now + ANNOUNCE_SPACING)
        });
        self.announce_at = Some(again.map_or(regular, |at| at.min(regular)));
    }

    fn tell(
        &mut self,
        now: Instant,
        owner: NetId,
        prefix: IpNet,
        teller: Teller,
        effects: &mut Vec<Effect>,
    ) {
        if self.addresses.iter().any(|own| host(own) == prefix) {
            let alarm = Alarm::OwnAddressClaimed {
                prefix,
                netid: owner,
            };
            self.alarms.raise(now, alarm, effects);
            effects.push(Effect::Dropped(DropReason::ClaimRefused, 1));
            return;
        }
        let may = self.grants.may_claim(owner, &prefix);
        if !may || reserved::is_reserved(&self.mesh, &prefix) {
            effects.push(Effect::Dropped(DropReason::ClaimRefused, 1));
            return;
        }
        let before = self.table.holder(now, prefix);
        match self.table.tell(now, owner, prefix, teller) {
            Told::Kept => {}
            Told::Full => effects.push(Effect::Dropped(DropReason::DirectoryFull, 1)),
            Told::Changed => {
                self.dirty = true;
                self.judge_conflict(now, owner, prefix, before, effects);
            }
        }
    }

    /// Says which of two claims of one prefix stands, when there was another holder before.
    fn judge_conflict(
        &mut self,
        now: Instant,
        owner: NetId,
        prefix: IpNet,
        before: Option<NetId>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(holder) = self.table.holder(now, prefix) else {
            return;
        };
        let refused = if holder == owner { before } else { Some(owner) };
        let Some(refused) = refused.filter(|&refused| refused != holder) else {
            return;
        };
        // One who takes over from a stale holder does as it may.
        if !self.table.is_live(now, prefix, refused) {
            return;
        }
        effects.push(Effect::Dropped(DropReason::ClaimRefused, 1));
        let alarm = Alarm::Conflict {
            prefix,
            holder,
            refused,
        };
        self.alarms.raise(now, alarm, effects);
    }

    fn publish(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if !self.dirty || now < self.publish_after {
            return;
        }
        self.dirty = false;
        let routes = Routes::new(
            self.me,
            self.mesh,
            &self.addresses,
            self.table.holders(now),
            self.table.claimants(),
            self.routes.epoch() + 1,
        )
        .granting(Arc::clone(&self.grants));
        // Also when nothing comes of it: building is what costs.
        self.publish_after = now + PUBLISH_SPACING;
        if !routes.agrees_with(&self.routes) {
            self.routes = Arc::new(routes);
            effects.push(Effect::Changed);
        }
    }

    /// What to tell `neighbor` of others: holders that are not stale, the last heard first.
    fn rumours(&self, now: Instant, neighbor: NetId, room: usize) -> Vec<Rumour> {
        let mut known: Vec<_> = self
            .table
            .iter(now)
            .filter(|seen| matches!(seen.state, ClaimState::Fresh | ClaimState::Hearsay))
            .filter(|seen| seen.owner != neighbor)
            .filter(|seen| {
                let zone = self.zone.as_ref();
                zone.is_none_or(|zone| zone.tells(neighbor, seen.owner))
            })
            .collect();
        known.sort_by_key(|seen| (seen.age, seen.prefix, seen.owner));
        known.truncate(room);
        known
            .into_iter()
            .map(|seen| Rumour {
                owner: seen.owner,
                prefix: seen.prefix,
                age: seconds(seen.age),
                held: seconds(seen.held),
            })
            .collect()
    }

    fn own_prefixes(&self) -> Vec<IpNet> {
        self.addresses.iter().map(host).collect()
    }
}

/// Whole seconds; what does not fit is "or more".
fn seconds(duration: Duration) -> u16 {
    u16::try_from(duration.as_secs()).unwrap_or(u16::MAX)
}
