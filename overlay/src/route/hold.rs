//! Packets that wait for somebody to claim their destination.
//!
//! At most 16, at most 1 s each, copied into slots that are allocated once. A destination that
//! nobody claimed in that second is remembered for a while, so that it is answered at once and
//! does not take the slots from others.

use std::net::IpAddr;

use crate::time::{Duration, Instant};

/// Packets that wait at once.
pub const SLOTS: usize = 16;
/// How long a packet waits.
pub const WAIT: Duration = Duration::from_secs(1);
/// How long a destination counts as given up.
pub const GIVEN_UP: Duration = Duration::from_secs(3);

/// Waiting packets of one worker.
#[derive(Debug)]
pub struct Hold {
    slots: Vec<Slot>,
    given_up: [Option<(IpAddr, Instant)>; SLOTS],
}

#[derive(Debug)]
struct Slot {
    waits: Option<(IpAddr, Instant)>,
    packet: Vec<u8>,
}

/// What became of a packet that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released<R> {
    /// Its destination was found.
    Found(R),
    /// Nobody claimed it in time.
    Expired,
}

impl Hold {
    /// Slots for packets of `packet_len` bytes at most.
    pub fn new(packet_len: usize) -> Self {
        let slot = || Slot {
            waits: None,
            packet: Vec::with_capacity(packet_len),
        };
        Self {
            slots: (0..SLOTS).map(|_| slot()).collect(),
            given_up: [None; SLOTS],
        }
    }

    /// Keeps a copy of `packet`; false when there is no slot or it does not fit into one.
    pub fn push(&mut self, now: Instant, destination: IpAddr, packet: &[u8]) -> bool {
        let free = |slot: &&mut Slot| slot.waits.is_none();
        let Some(slot) = self.slots.iter_mut().find(free) else {
            return false;
        };
        if packet.len() > slot.packet.capacity() {
            return false;
        }
        slot.packet.clear();
        slot.packet.extend_from_slice(packet);
        slot.waits = Some((destination, now + WAIT));
        true
    }

    /// Whether packets to `destination` waited in vain just now.
    pub fn has_given_up(&self, now: Instant, destination: IpAddr) -> bool {
        self.given_up
            .iter()
            .flatten()
            .any(|&(address, until)| address == destination && now < until)
    }

    /// Hands out what has been found or has waited long enough, in no order between destinations
    /// and in the order pushed within one.
    ///
    /// Borrows: `each` gets the packet for as long as it runs.
    pub fn release<R>(
        &mut self,
        now: Instant,
        find: impl Fn(IpAddr) -> Option<R>,
        mut each: impl FnMut(&[u8], Released<R>),
    ) {
        // Slots are taken in any order, so the oldest is looked for each time: 16 of them.
        loop {
            let due = self.slots.iter_mut().filter_map(|slot| {
                let (destination, until) = slot.waits?;
                let found = find(destination);
                (found.is_some() || now >= until).then_some((until, destination, found, slot))
            });
            let Some((_, destination, found, slot)) = due.min_by_key(|(until, ..)| *until) else {
                return;
            };
            slot.waits = None;
            if let Some(found) = found {
                each(&slot.packet, Released::Found(found));
            } else {
                each(&slot.packet, Released::Expired);
                give_up(&mut self.given_up, destination, now + GIVEN_UP);
            }
        }
    }

    /// When the first packet has waited long enough.
    pub fn next_timeout(&self) -> Option<Instant> {
        let until = |slot: &Slot| slot.waits.map(|(_, until)| until);
        self.slots.iter().filter_map(until).min()
    }
}

/// Remembers `destination` in its own place, an empty one, or the oldest one's.
fn give_up(given_up: &mut [Option<(IpAddr, Instant)>; SLOTS], destination: IpAddr, until: Instant) {
    let place = given_up.iter_mut().min_by_key(|entry| match entry {
        Some((address, _)) if *address == destination => (0, Instant::ZERO),
        None => (1, Instant::ZERO),
        Some((_, until)) => (2, *until),
    });
    if let Some(place) = place {
        *place = Some((destination, until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn release(hold: &mut Hold, now: Instant, known: Option<u8>) -> Vec<(Vec<u8>, Released<u8>)> {
        let mut out = Vec::new();
        let find = |address| known.filter(|&n| ip(n) == address);
        hold.release(now, find, |packet, released| {
            out.push((packet.to_vec(), released));
        });
        out
    }

    #[test]
    fn packets_leave_when_their_destination_is_found_in_order() {
        let mut hold = Hold::new(100);
        for n in 0..4_u8 {
            let now = Instant(u64::from(n));
            assert!(hold.push(now, ip(n % 2), &[n]));
        }
        let out = release(&mut hold, Instant(10), Some(1));
        assert_eq!(
            out,
            [(vec![1], Released::Found(1)), (vec![3], Released::Found(1))]
        );
        assert_eq!(hold.next_timeout(), Some(Instant(0) + WAIT));
    }

    #[test]
    fn packets_expire_after_exactly_one_second_and_their_destination_is_given_up() {
        let mut hold = Hold::new(100);
        let start = Instant::from_secs(5);
        hold.push(start, ip(1), &[7]);
        let due = start + WAIT;
        assert_eq!(release(&mut hold, due - MICRO, None), []);
        assert!(!hold.has_given_up(due, ip(1)));
        assert_eq!(
            release(&mut hold, due, None),
            [(vec![7], Released::Expired)]
        );
        assert_eq!(hold.next_timeout(), None);
        assert!(hold.has_given_up(due + GIVEN_UP - MICRO, ip(1)));
        assert!(!hold.has_given_up(due + GIVEN_UP, ip(1)));
        assert!(!hold.has_given_up(due, ip(2)));
    }

    #[test]
    fn sixteen_wait_and_the_next_does_not() {
        let mut hold = Hold::new(100);
        for n in 0..SLOTS {
            assert!(hold.push(Instant::ZERO, ip(1), &[n as u8]));
        }
        assert!(!hold.push(Instant::ZERO, ip(1), &[99]));
        assert_eq!(release(&mut hold, Instant::ZERO, Some(1)).len(), SLOTS);
        assert!(hold.push(Instant::ZERO, ip(1), &[99]));
        assert!(!hold.push(Instant::ZERO, ip(1), &[0; 101]));
    }

    #[test]
    fn the_memory_of_given_up_destinations_is_bounded() {
        let mut hold = Hold::new(100);
        for n in 0..100 {
            let now = Instant::ZERO + Duration::from_millis(u64::from(n));
            hold.push(now, ip(n), &[n]);
            release(&mut hold, now + WAIT, None);
        }
        let now = Instant::ZERO + Duration::from_millis(1100);
        assert!(hold.has_given_up(now, ip(99)));
        assert!(!hold.has_given_up(now, ip(1)));
    }
}
