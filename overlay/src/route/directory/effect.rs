//! What the directory tells its driver: effects, alarms, and claims to show.

use ipnet::IpNet;

use crate::id::NetId;
use crate::pump::count::DropReason;
use crate::time::{Duration, Instant};

/// One alarm of a kind in this time.
pub const ALARM_SPACING: Duration = Duration::from_secs(10);

/// What the directory wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Originate Data to all (dst ffffffff, no flags).
    Flood(Vec<u8>),
    /// Send Data to this neighbor alone (dst its netid, NO_FORWARD).
    ToNeighbor(NetId, Vec<u8>),
    /// [`Directory::routes`](super::Directory::routes) changed: hand the new one to the workers.
    Changed,
    /// Count so many of this reason.
    Dropped(DropReason, u64),
    /// Tell the person who runs this node. `suppressed` of the same kind came before unreported.
    Alarm {
        /// What is wrong.
        alarm: Alarm,
        /// Alarms of this kind since the last one told.
        suppressed: u32,
    },
}

/// What is wrong, and who is involved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// This node's claims name another mesh: `--mesh` differs.
    OtherMesh {
        /// Who sent them.
        netid: NetId,
    },
    /// This node claims an address of ours.
    OwnAddressClaimed {
        /// The address.
        prefix: IpNet,
        /// Who claims it.
        netid: NetId,
    },
    /// Two others claim the same.
    Conflict {
        /// What.
        prefix: IpNet,
        /// Who keeps it.
        holder: NetId,
        /// Whose claim is refused.
        refused: NetId,
    },
}

/// Where a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimState {
    /// Ours.
    Own,
    /// Its owner told it and was heard within 120 s.
    Fresh,
    /// A neighbor told it; its owner has not yet.
    Hearsay,
    /// Its owner was not heard for 120 s, or left; still used, as nobody else claims it.
    Stale,
    /// Another node holds the prefix.
    Refused,
}

/// One claim, for `status` and `nodes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimView {
    /// What is claimed.
    pub prefix: IpNet,
    /// By whom.
    pub netid: NetId,
    /// Where it stands.
    pub state: ClaimState,
    /// Since its owner was last heard; zero for our own.
    pub age: Duration,
}

/// Lets one alarm of a kind through each [`ALARM_SPACING`].
#[derive(Debug, Default)]
pub(super) struct Alarms {
    kinds: [(Option<Instant>, u32); 3],
}

impl Alarms {
    pub(super) fn raise(&mut self, now: Instant, alarm: Alarm, effects: &mut Vec<Effect>) {
        let (last, suppressed) = match alarm {
            Alarm::OtherMesh { .. } => &mut self.kinds[0],
            Alarm::OwnAddressClaimed { .. } => &mut self.kinds[1],
            Alarm::Conflict { .. } => &mut self.kinds[2],
        };
        if last.is_some_and(|last| now < last + ALARM_SPACING) {
            *suppressed = suppressed.saturating_add(1);
            return;
        }
        *last = Some(now);
        let suppressed = std::mem::take(suppressed);
        effects.push(Effect::Alarm { alarm, suppressed });
    }
}
