//! A wire with faults, pure: what becomes of a datagram on its way.

use overlay::time::{Duration, Instant};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

/// Faults of one direction of a wire. The default is a perfect wire of 1 ms.
#[derive(Clone, Copy, Debug)]
pub struct Netem {
    /// Time on the way.
    pub latency: Duration,
    /// Up to this much more, uniform; more than the sender's spacing means reordering.
    pub jitter: Duration,
    /// Lost, in thousandths.
    pub loss: u32,
    /// After a loss, this many thousandths of the next are lost too: bursts.
    pub burst: u32,
    /// Arriving twice, in thousandths.
    pub duplicate: u32,
    /// With one bit flipped, in thousandths.
    pub corrupt: u32,
    /// Cut short, in thousandths.
    pub truncate: u32,
    /// Datagrams longer than this vanish.
    pub mtu: usize,
    /// Nothing arrives.
    pub cut: bool,
    /// Nothing sealed arrives: somebody would have the nodes speak plain.
    pub jams_sealed: bool,
}

impl Default for Netem {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0,
            burst: 0,
            duplicate: 0,
            corrupt: 0,
            truncate: 0,
            mtu: usize::MAX,
            cut: false,
            jams_sealed: false,
        }
    }
}

/// A wire's memory: whether it is in a burst of losses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wire {
    /// Its faults.
    pub netem: Netem,
    bursting: bool,
}

impl Wire {
    /// A wire with faults.
    pub fn new(netem: Netem) -> Self {
        Self {
            netem,
            bursting: false,
        }
    }

    /// When copies of a datagram of `len` bytes sent at `now` arrive: none, one or two.
    pub fn carry(
        &mut self,
        now: Instant,
        len: usize,
        rng: &mut ChaCha8Rng,
    ) -> impl Iterator<Item = Instant> + use<> {
        let netem = self.netem;
        let loss = if self.bursting {
            netem.burst.max(netem.loss)
        } else {
            netem.loss
        };
        let lost = netem.cut || len > netem.mtu || chance(rng, loss);
        self.bursting = lost && !netem.cut;
        let copies = match (lost, chance(rng, netem.duplicate)) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        let jitter = u64::try_from(netem.jitter.as_micros()).unwrap_or(u64::MAX);
        let arrivals: Vec<Instant> = (0..copies)
            .map(|_| {
                let more = if jitter == 0 {
                    0
                } else {
                    rng.next_u64() % jitter
                };
                now + netem.latency + Duration::from_micros(more)
            })
            .collect();
        arrivals.into_iter()
    }

    /// Harms the bytes if it is their turn; says whether it did.
    pub fn harm(&self, bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) -> bool {
        let mut harmed = false;
        if chance(rng, self.netem.corrupt) && !bytes.is_empty() {
            let bit = rng.next_u32() as usize % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            harmed = true;
        }
        if chance(rng, self.netem.truncate) {
            bytes.truncate(rng.next_u32() as usize % (bytes.len() + 1));
            harmed = true;
        }
        harmed
    }
}

fn chance(rng: &mut ChaCha8Rng, thousandths: u32) -> bool {
    thousandths > 0 && rng.next_u32() % 1_000 < thousandths
}
