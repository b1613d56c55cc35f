//! What a node seals for other ends, joined to its links and its pump as the daemon joins it.
//!
//! ```text
//!  send ──> sole neighbor ─> NO_FORWARD    deliver <── open <── c8 <── pump
//!       ├─> all ──────────> E-BCAST            handshakes ──> take ──> wishes ──> flood
//!       └─> others ───────> E-DATA, or waits
//! ```

use std::collections::BTreeMap;
use std::mem;

use overlay::id::NetId;
use overlay::keyed::KeyedHasher;
use overlay::node::zone::Zones;
use overlay::pump::Packet;
use overlay::pump::count::DropReason;
use overlay::seal::broadcast::{self, Broadcasts};
use overlay::seal::effect::Event;
use overlay::seal::ends::{Ends, Membership, Notice, Wish};
use overlay::seal::links::Links;
use overlay::seal::local::Local;
use overlay::seal::members::{Claim, Refusal};
use overlay::seal::peer::Timers;
use overlay::seal::session::DATA_OVERHEAD;
use overlay::time::Instant;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use wire::sealed::LINK_HEADER_LEN;
use wire::sealed::endtoend::{BROADCAST_HEADER_LEN, EndToEndKind};
use wire::{Flags, HEADER_LEN, Header, Kind};

use super::World;
use super::sealing::Sealing;
use super::sources::Sources;

/// One node's part in what is sealed end to end.
pub struct Ending {
    /// The real machine.
    pub ends: Ends,
    /// What it told its owner.
    pub notices: Vec<(Instant, NetId, Notice)>,
    /// Payloads that were not taken, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    broadcasts: Broadcasts,
    /// What the pump found for us in the batch at hand.
    found: Vec<(NetId, Packet, bool)>,
    /// The way to the device; none before the world says who there is.
    sources: Option<Sources>,
}

impl Ending {
    pub(super) fn new(local: &Local, seed: [u8; 32]) -> Self {
        let hasher = KeyedHasher(seed[2].into(), seed[3].into());
        let mut own = seed;
        own[31] ^= 0x5a;
        Self {
            ends: Ends::new(Timers::end_to_end(), hasher, ChaCha12Rng::from_seed(own)),
            notices: Vec::new(),
            refused: BTreeMap::new(),
            broadcasts: Broadcasts::new(local, false, hasher),
            found: Vec::new(),
            sources: None,
        }
    }

    /// These are the nodes that there are.
    fn know(&mut self, me: NetId, all: impl Iterator<Item = NetId>, seed: u64) {
        self.sources = Some(Sources::new(me, all, seed));
    }

    /// Whether a packet of `origin` goes to the device (S15); counts why not.
    pub(super) fn admits(&mut self, now: Instant, origin: NetId, packet: &[u8]) -> bool {
        let judged = match &mut self.sources {
            Some(sources) => sources.judge(now, origin, packet),
            None => Ok(()),
        };
        if let Err(reason) = judged {
            self.refuse(reason);
        }
        judged.is_ok()
    }

    /// Notes a payload that begins with `c8` and that the neighbor `by` brought, to be opened when
    /// the batch is judged.
    pub(super) fn note(&mut self, by: NetId, packet: Packet, direct: bool) {
        self.found.push((by, packet, direct));
    }

    fn refuse(&mut self, reason: DropReason) {
        *self.refused.entry(reason.name()).or_insert(0) += 1;
    }
}

/// Calls a node's ends with what they have to know of its members.
fn with_ends<R>(
    sealing: &mut Sealing,
    call: impl FnOnce(&mut Ends, Membership<'_>) -> R,
) -> Option<R> {
    let Sealing { links, ending, .. } = sealing;
    let links: &Links = links;
    let membership = Membership {
        local: links.local(),
        refuses: &|claim| links.refuses(claim),
    };
    Some(call(&mut ending.as_mut()?.ends, membership))
}

/// Opens one payload of `origin` in place; gives where what is inside begins, and its length.
fn open(
    now: Instant,
    sealing: &mut Sealing,
    (origin, dst): (NetId, NetId),
    payload: &mut [u8],
) -> Result<(usize, usize), DropReason> {
    let ending = sealing.ending.as_mut().ok_or(DropReason::Malformed)?;
    match EndToEndKind::of(payload) {
        Ok(EndToEndKind::Data) => {
            let sessions = ending.ends.sessions();
            let (first, len) = sessions.open_data(now, (origin, dst), payload)?;
            if let Some(index) = first {
                with_ends(sealing, |ends, with| {
                    ends.handle_confirmed(now, with, index);
                });
            }
            Ok((LINK_HEADER_LEN, len))
        }
        Ok(EndToEndKind::Broadcast) if dst == NetId::ALL => {
            let len = ending.broadcasts.open(now, origin, payload, || true)?;
            Ok((BROADCAST_HEADER_LEN, len))
        }
        _ => Err(DropReason::Malformed),
    }
}

impl World {
    /// Tells a node that seals end to end which nodes there are.
    pub(super) fn tell_nodes(&mut self, node: usize) {
        let seed = self.seed;
        let all: Vec<NetId> = self.nodes.iter().map(|node| node.netid).collect();
        let at = &mut self.nodes[node];
        let ending = at.sealing.as_mut().and_then(|s| s.ending.as_mut());
        if let Some(ending) = ending {
            ending.know(at.netid, all.into_iter(), seed);
        }
    }

    /// Originates a packet as the worker of a node with ends does: sealed end to end, but for the
    /// sole neighbor; or waiting for a session.
    pub(super) fn send_end_to_end(&mut self, node: usize, dst: NetId, packet: &[u8]) {
        let now = self.now;
        let sole = self.nodes[node].neighbors.sole();
        if sole == Some(dst) {
            return self.originate(node, (dst, Flags::NO_FORWARD), packet, Some(dst));
        }
        let us = self.nodes[node].netid;
        let Some(sealing) = &mut self.nodes[node].sealing else {
            return;
        };
        let Some(ending) = &mut sealing.ending else {
            return;
        };
        let sealed = if dst == NetId::ALL {
            let mut out = vec![0; packet.len() + broadcast::OVERHEAD_MAX];
            let len = ending.broadcasts.seal(packet, &mut out);
            len.ok().map(|len| out[..len].to_vec())
        } else {
            ending.ends.sessions().seals(dst).and_then(|session| {
                let mut out = vec![0; packet.len() + DATA_OVERHEAD];
                session.seal_data_into(us, dst, packet, &mut out).ok()?;
                session.note_sent(now, true);
                Some(out)
            })
        };
        match sealed {
            Some(payload) => self.originate(node, (dst, Flags::NONE), &payload, None),
            None => {
                with_ends(sealing, |ends, with| {
                    ends.send(now, with, dst, packet.into());
                });
                self.carry_out_ends(node);
            }
        }
    }

    /// Originates Data with a payload as it stands: to all links, or to those of one neighbor.
    pub fn originate(
        &mut self,
        node: usize,
        (dst, flags): (NetId, Flags),
        payload: &[u8],
        only: Option<NetId>,
    ) {
        let slot = self.make_data(node, (dst, flags), payload);
        match only {
            None => self.flood_from(node, &slot, None, Zones::All),
            Some(netid) => self.send_to(node, &slot, netid),
        }
    }

    /// A Data message of `node`, entered as its own.
    fn make_data(&mut self, node: usize, (dst, flags): (NetId, Flags), payload: &[u8]) -> Vec<u8> {
        // What the links have sealed already goes first.
        self.carry_out_sealing(node);
        let mut slot = [&[0; HEADER_LEN][..], payload].concat();
        let nonce = self.rng.next_u32();
        let at = &mut self.nodes[node];
        at.flood
            .originate(self.now, Kind::Data, flags, nonce, dst, &mut slot);
        slot
    }

    /// Opens what the pump found for `node`, delivers it, and takes handshakes.
    pub(super) fn unseal(&mut self, node: usize) {
        let now = self.now;
        let us = self.nodes[node].netid;
        let Some(sealing) = &mut self.nodes[node].sealing else {
            return;
        };
        let found = sealing.ending.as_mut().map(|e| mem::take(&mut e.found));
        let found = found.into_iter().flatten();
        // A copy: what is opened here is still to be forwarded as it came.
        let found: Vec<(NetId, Packet, bool, Vec<u8>)> = found
            .map(|(by, packet, direct)| {
                let payload = packet.payload.of(self.rx.arena());
                (by, packet, direct, payload.to_vec())
            })
            .collect();
        for (by, packet, direct, mut payload) in found {
            let payload = &mut payload[..];
            let Some(sealing) = &mut self.nodes[node].sealing else {
                return;
            };
            let (origin, dst) = (packet.origin, packet.dst);
            let kind = EndToEndKind::of(payload);
            if let Ok(EndToEndKind::Init | EndToEndKind::Resp | EndToEndKind::Fin) = kind {
                let is_ours = dst == us;
                let is_of_use = is_ours
                    && with_ends(sealing, |ends, with| {
                        ends.handle(now, with, (origin, by), direct, payload)
                    })
                    .unwrap_or(false);
                if let (false, Some(ending)) = (is_of_use, &mut sealing.ending) {
                    ending.refuse(DropReason::Handshake);
                }
                continue;
            }
            match open(now, sealing, (origin, dst), payload) {
                Ok((_, 0)) => {}
                Ok((at, len)) => {
                    let packet = payload[at..at + len].to_vec();
                    self.deliver(node, (origin, dst), &packet);
                }
                Err(reason) => {
                    if reason == DropReason::UnknownSession {
                        with_ends(sealing, |ends, with| {
                            ends.handle_unknown(now, with, (origin, by));
                        });
                    }
                    if let Some(ending) = &mut sealing.ending {
                        ending.refuse(reason);
                    }
                }
            }
        }
        self.carry_out_ends(node);
    }

    /// Ends what a node seals with those whom a newer list revokes.
    pub(super) fn end_revoked(&mut self, node: usize) {
        let now = self.now;
        let Some(sealing) = &mut self.nodes[node].sealing else {
            return;
        };
        if sealing.links.members().take_changed_list().is_none() {
            return;
        }
        with_ends(sealing, |ends, with| {
            ends.leave_where(now, with, Refusal::Revoked.reason(), |remote| {
                (with.refuses)(&Claim::of(remote)) == Some(Refusal::Revoked)
            });
        });
        self.carry_out_ends(node);
    }

    /// Tells a node's ends who its neighbors are.
    pub(super) fn meet_neighbors(&mut self, node: usize) {
        let now = self.now;
        let at = &mut self.nodes[node];
        let neighbors: Vec<NetId> = at.neighbors.links().iter().map(|link| link.netid).collect();
        if let Some(sealing) = &mut at.sealing {
            with_ends(sealing, |ends, with| {
                ends.set_neighbors(now, with, neighbors.into_iter());
            });
        }
        self.carry_out_ends(node);
    }

    /// Lets a node's ends do what is due.
    pub(super) fn wake_ends(&mut self, node: usize) {
        let now = self.now;
        if let Some(sealing) = &mut self.nodes[node].sealing {
            with_ends(sealing, |ends, with| ends.handle_timeout(now, with));
        }
        self.carry_out_ends(node);
    }

    fn carry_out_ends(&mut self, node: usize) {
        let now = self.now;
        let Some(sealing) = &mut self.nodes[node].sealing else {
            return;
        };
        let Some(ending) = &mut sealing.ending else {
            return;
        };
        let wishes: Vec<Wish> = ending.ends.drain().collect();
        for wish in wishes {
            match wish {
                Wish::Publish | Wish::Dropped(_) => {}
                Wish::Originate {
                    dst,
                    payload,
                    direct,
                } => {
                    let links = self.nodes[node].neighbors.clone();
                    let is_near = direct && links.link_of(dst).is_some();
                    let (flags, only) = match is_near {
                        true => (Flags::NO_FORWARD, Some(dst)),
                        false => (Flags::NONE, None),
                    };
                    self.originate(node, (dst, flags), &payload, only);
                }
                Wish::InTheOpen(dst, payload) => {
                    let slot = self.make_data(node, (dst, Flags::NONE), &payload);
                    self.flood_from(node, &slot, None, Zones::Open);
                }
                Wish::Notice(netid, notice) => {
                    let Some(sealing) = &mut self.nodes[node].sealing else {
                        continue;
                    };
                    let Sealing { links, ending, .. } = sealing;
                    let Some(ending) = ending else { continue };
                    if let Notice::Peer(Event::Up(remote) | Event::Rekeyed(remote)) = &notice {
                        let (boot, key) = (remote.boot, remote.signing_key);
                        ending.broadcasts.note(netid, boot, key);
                        links.members().note_afar(&Claim::of(remote));
                    }
                    ending.notices.push((now, netid, notice));
                }
            }
        }
    }

    /// Which session seals at `node` for `to`: the indices of both sides.
    pub fn end_session(&self, node: usize, to: usize) -> Option<(u32, u32)> {
        let ending = self.nodes[node].sealing.as_ref()?.ending.as_ref()?;
        let session = ending.ends.sessions().seals(self.nodes[to].netid)?;
        Some((session.local_index(), session.remote_index()))
    }

    /// How often `node` refused a payload that was sealed for it, for this reason.
    pub fn refused_at_end(&self, node: usize, reason: DropReason) -> u64 {
        let ending = self.nodes[node].sealing.as_ref();
        let refused =
            ending.and_then(|sealing| sealing.ending.as_ref()?.refused.get(reason.name()));
        refused.copied().unwrap_or(0)
    }

    /// Nothing that a node with ends passes on can be read by it; nor is it spoken to in clear by
    /// those that are no neighbors.
    pub(super) fn check_passed(&self, node: usize, forwarded: &[u8]) {
        let has_ends = |sealing: &Sealing| sealing.ending.is_some();
        if !self.nodes[node].sealing.as_ref().is_some_and(has_ends) {
            return;
        }
        let Ok(header) = Header::parse(forwarded) else {
            return;
        };
        let first = forwarded.get(HEADER_LEN);
        let is_sealed = header.kind != Kind::Data || first == Some(&wire::service::SEALED);
        assert!(
            is_sealed || self.tolerated.contains(&header.src),
            "{}: node {node} passes on what it can read: {forwarded:02x?}",
            self.replay()
        );
    }
}
