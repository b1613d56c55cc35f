//! Merged packets that the kernel refused, and when it gets no more of them (SECURITY T20).
//!
//! Some kernels of 2024 refused valid ones (tailscale issue 13041). A refusal costs a packet nothing,
//! since its parts are written one by one then, but each costs a call in vain. One now and then may
//! be the packet's own; [`REFUSALS`] within [`WINDOW`] are the kernel's.

use std::time::{Duration, Instant};

use super::packet::Upper;
use crate::device::MergingEnded;

/// Refusals that end merging for their protocol, until the device is opened again.
pub(super) const REFUSALS: usize = 3;
/// The time within which they come.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The refusals of one device.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    tcp: Recent,
    udp: Recent,
    ended: MergingEnded,
}

/// When the last ones were, the oldest first.
#[derive(Debug, Default)]
struct Recent([Option<Instant>; REFUSALS]);

impl Refusals {
    /// Notes that a merged packet of `upper` was refused with `errno`.
    pub(super) fn note(&mut self, now: Instant, upper: Upper, errno: i32) {
        // A machine without memory says nothing about the packet.
        if matches!(errno, libc::ENOMEM | libc::ENOBUFS) {
            return;
        }
        let (recent, ended) = match upper {
            Upper::Tcp => (&mut self.tcp, &mut self.ended.tcp),
            Upper::Udp => (&mut self.udp, &mut self.ended.udp),
        };
        recent.0.rotate_left(1);
        recent.0[REFUSALS - 1] = Some(now);
        if let Some(oldest) = recent.0[0]
            && now.duration_since(oldest) < WINDOW
        {
            *ended = Some(errno);
        }
    }

    /// For which protocols merging has ended.
    pub(super) fn ended(&self) -> MergingEnded {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_within_a_minute_end_merging_for_their_protocol_and_for_no_other() {
        let mut refusals = Refusals::default();
        let now = Instant::now();
        let last = WINDOW - Duration::from_nanos(1);
        for after in [Duration::ZERO, Duration::ZERO, last] {
            assert_eq!(refusals.ended(), MergingEnded::default());
            refusals.note(now + after, Upper::Udp, libc::EINVAL);
        }
        let udp = Some(libc::EINVAL);
        assert_eq!(refusals.ended(), MergingEnded { tcp: None, udp });
    }

    #[test]
    fn three_in_a_longer_time_and_a_lack_of_memory_end_nothing() {
        let mut refusals = Refusals::default();
        let now = Instant::now();
        for number in 0..20 {
            refusals.note(now + number * WINDOW / 2, Upper::Tcp, libc::EINVAL);
            refusals.note(now, Upper::Udp, libc::ENOMEM);
        }
        assert_eq!(refusals.ended(), MergingEnded::default());
        refusals.note(now + 20 * WINDOW / 2 - WINDOW / 4, Upper::Tcp, libc::EINVAL);
        assert_eq!(refusals.ended().tcp, Some(libc::EINVAL));
    }
}
