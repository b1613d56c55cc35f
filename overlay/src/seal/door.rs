//! The door: what an INIT has to pass before anything costly is done for it (S27 to S31).
//!
//! ```text
//! form ─> mac1 ─> key ─> load? ── no ──────────────┬─> rate of the prefix ─> room ─> Admit
//!                         └─ yes ─> mac2? ─ right ─┘
//!                                     └─ wrong ─> Cookie
//! ```
//!
//! A configured peer with some half-open handshakes pays the cookie too, whatever the load (S107).
//! Cheapest first. Nothing before mac1 changes any state, so strangers find nothing to fill.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use rand_core::Rng;
use wire::sealed::COOKIE_LEN;

use crate::budget::{Buckets, Rate};
use crate::seal::cookie::Jar;
use crate::seal::handshake::{Checked, HandshakeError, Scope, check_init_of};
use crate::seal::keys::Key;
use crate::seal::local::Local;
use crate::time::{Duration, Instant};

/// What the door lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// INITs that may wait before the node is under load.
    pub waiting: usize,
    /// INITs with a right mac1 in a second before the node is under load.
    pub per_second: u32,
    /// INITs of one prefix: on average, and at once.
    pub rate: Rate,
    /// Prefixes with a rate of their own.
    pub prefixes: usize,
    /// Half-open handshakes in all.
    pub half_open: usize,
    /// Half-open handshakes of one prefix.
    pub half_open_per_prefix: usize,
    /// Half-open handshakes of one configured endpoint from which on a further one has to bring a cookie.
    pub reserved_freely: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting: 64,
            per_second: 200,
            rate: Rate::per_second(20, 5),
            prefixes: 4_096,
            half_open: 256,
            half_open_per_prefix: 4,
            reserved_freely: 3,
        }
    }
}

/// How long a node counts as under load after it was.
const LOAD_LASTS: Duration = Duration::from_secs(1);

/// An INIT that came. Borrows: the datagram.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'d> {
    /// Where it came from.
    pub from: SocketAddr,
    /// Whether the owner named that endpoint, which exempts it from rates and room, never from
    /// the cookie.
    pub is_configured: bool,
    /// How many more wait behind it.
    pub waiting: usize,
    /// The whole of it.
    pub datagram: &'d [u8],
}

/// What becomes of an INIT.
#[derive(Debug)]
pub enum Verdict<'d> {
    /// Answer it; afterwards [`Door::enter`], if a half-open handshake came of it.
    Admit(Checked<'d>),
    /// Send this to where it came from, and nothing else.
    Cookie([u8; COOKIE_LEN]),
    /// Drop it.
    Drop(Refusal),
}

/// Why an INIT is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its bytes.
    Bytes(HandshakeError),
    /// Its prefix sends too many.
    Rate,
    /// Too many handshakes are half-open, in all or of its prefix.
    HalfOpen,
}

/// Guards all handshakes of a node. Owned by whoever reads INITs.
#[derive(Debug)]
pub struct Door {
    limits: Limits,
    jar: Jar,
    rates: Buckets<u64>,
    /// Half-open handshakes by prefix.
    half_open: BTreeMap<u64, usize>,
    half_open_count: usize,
    /// Those of configured endpoints, which count against nobody.
    reserved: BTreeMap<SocketAddr, usize>,
    second: Instant,
    in_second: u32,
    loaded_until: Option<Instant>,
}

impl Door {
    /// A door with the jar's first secret.
    pub fn new(now: Instant, limits: Limits, secret: Key) -> Self {
        Self {
            jar: Jar::new(now, secret),
            rates: Buckets::new(limits.rate, limits.prefixes),
            half_open: BTreeMap::new(),
            half_open_count: 0,
            reserved: BTreeMap::new(),
            second: now,
            in_second: 0,
            loaded_until: None,
            limits,
        }
    }

    /// Judges an INIT.
    ///
    /// State: nothing changes, unless mac1 is right.
    pub fn judge<'d>(
        &mut self,
        now: Instant,
        local: &Local,
        arrival: &Arrival<'d>,
        random: &mut dyn Rng,
    ) -> Verdict<'d> {
        let from = arrival.from;
        // 1. Its own bytes.
        let checked = match check_init_of(local, Scope::Link, arrival.datagram) {
            Ok(checked) => checked,
            Err(error) => return Verdict::Drop(Refusal::Bytes(error)),
        };
        // 2. Load: a spoofed address gets no further.
        self.refresh(now, random);
        let is_loaded = self.is_loaded(now, arrival.waiting);
        // A configured peer has no rate. What was recorded of it, said again under its address, must not
        // take the places of its own handshakes.
        let reserved = self.reserved.get(&from).copied().unwrap_or(0);
        let is_crowded = arrival.is_configured && reserved >= self.limits.reserved_freely;
        if (is_loaded || is_crowded) && !self.jar.accepts(checked.init(), from) {
            let mut nonce = [0; 24];
            random.fill_bytes(&mut nonce);
            let keys = local.keys_of(checked.epoch());
            let answer = |keys| self.jar.answer(keys, checked.init(), from, nonce);
            return match keys.and_then(|keys| answer(keys)) {
                Some(cookie) => Verdict::Cookie(cookie),
                None => Verdict::Drop(Refusal::Rate),
            };
        }
        // 3. Shares.
        if !arrival.is_configured {
            if !self.rates.take(now, rate_prefix(from)) {
                return Verdict::Drop(Refusal::Rate);
            }
            let here = self.half_open.get(&room_prefix(from)).copied().unwrap_or(0);
            if here >= self.limits.half_open_per_prefix
                || self.half_open_count >= self.limits.half_open
            {
                return Verdict::Drop(Refusal::HalfOpen);
            }
        }
        Verdict::Admit(checked)
    }

    /// Counts a half-open handshake of an endpoint that is not configured.
    pub fn enter(&mut self, from: SocketAddr) {
        *self.half_open.entry(room_prefix(from)).or_default() += 1;
        self.half_open_count += 1;
    }

    /// Notes a half-open handshake of a configured endpoint, whose place is reserved.
    pub fn enter_reserved(&mut self, from: SocketAddr) {
        *self.reserved.entry(from).or_default() += 1;
    }

    /// Counts the end of a half-open handshake, good or bad.
    pub fn leave(&mut self, from: SocketAddr) {
        if let Some(count) = self.reserved.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.reserved.remove(&from);
            }
            return;
        }
        let prefix = room_prefix(from);
        if let Some(count) = self.half_open.get_mut(&prefix) {
            *count -= 1;
            self.half_open_count -= 1;
            if *count == 0 {
                self.half_open.remove(&prefix);
            }
        }
    }

    /// Half-open handshakes that were entered and have not left.
    pub const fn half_open(&self) -> usize {
        self.half_open_count
    }

    fn is_loaded(&mut self, now: Instant, waiting: usize) -> bool {
        if now.since(self.second) >= Duration::from_secs(1) {
            (self.second, self.in_second) = (now, 0);
        }
        self.in_second = self.in_second.saturating_add(1);
        // Spoofed INITs that fill the places for half-open ones need not be many.
        let fills = self.half_open_count * 2 > self.limits.half_open;
        if waiting > self.limits.waiting || self.in_second > self.limits.per_second || fills {
            self.loaded_until = Some(now + LOAD_LASTS);
        }
        self.loaded_until.is_some_and(|until| now < until)
    }

    fn refresh(&mut self, now: Instant, random: &mut dyn Rng) {
        if now >= self.jar.rotates_at() {
            let mut secret = [0; 32];
            random.fill_bytes(&mut secret);
            self.jar.rotate(now, Key::new(secret));
        }
    }
}

/// IPv4 address or IPv6 /64, told apart.
fn rate_prefix(from: SocketAddr) -> u64 {
    match from.ip().to_canonical() {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64 | 1 << 63,
    }
}

/// IPv4 /24 or IPv6 /56, told apart.
fn room_prefix(from: SocketAddr) -> u64 {
    match from.ip().to_canonical() {
        IpAddr::V4(v4) => u64::from(u32::from(v4) >> 8),
        IpAddr::V6(v6) => (u128::from(v6) >> 72) as u64 | 1 << 63,
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
