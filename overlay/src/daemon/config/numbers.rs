//! Settings that are one number each: limits, timers, storm control.
//!
//! Each stands here once with meaning, unit, default and sane range; the struct, its defaults, the
//! judgement of what was given and the list in `floodmesh up --help` are made from that.

use std::time::Duration;

use super::error::ConfigError;
use super::value::Given;

/// A setting as `floodmesh up --help` lists it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The dotted key.
    pub key: &'static str,
    /// The default, with its unit.
    pub default: &'static str,
    /// What it means, in a sentence.
    pub meaning: &'static str,
}

/// What a number from a file becomes.
trait Number {
    /// Whether only whole numbers are meant.
    const WHOLE: bool;
    /// The number as this type; it has been judged before.
    fn from_number(number: f64) -> Self;
}

impl Number for u32 {
    const WHOLE: bool = true;
    fn from_number(number: f64) -> Self {
        number as Self
    }
}

/// Seconds in a file.
impl Number for Duration {
    const WHOLE: bool = false;
    fn from_number(number: f64) -> Self {
        Self::from_secs_f64(number)
    }
}

/// Defines a struct of numbers from `field: type = default, range, unit, meaning;` lines.
macro_rules! numbers {
    ($(#[$meta:meta])* $name:ident in $section:literal { $(
        $(#[doc = $cost:literal])*
        $field:ident: $type:ty = $default:literal, $least:literal..=$most:literal, $unit:literal, $meaning:literal;
    )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $(
            #[doc = $meaning]
            #[doc = concat!("\n\nUnits:   ", $unit, "\n\nDefault: ", $default, "; sane from ", $least, " to ", $most, ".\n")]
            $(#[doc = $cost])*
            pub $field: $type,
        )* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: <$type>::from_number(f64::from($default)),)* }
            }
        }

        impl $name {
            /// Its settings, as help lists them.
            pub const SETTINGS: &'static [Setting] = &[$(Setting {
                key: concat!($section, ".", stringify!($field)),
                default: concat!($default, " ", $unit, "; ", $least, " to ", $most),
                meaning: $meaning,
            },)*];

            /// Takes one setting; `None` when its key is none of these.
            pub(super) fn apply(&mut self, given: &Given) -> Option<Result<(), ConfigError>> {
                match given.key.as_str() {
                    $(concat!($section, ".", stringify!($field)) => {
                        let range = (f64::from($least), f64::from($most));
                        let judged = judge(given, range, $unit, <$type as Number>::WHOLE);
                        Some(judged.map(|number| self.$field = <$type>::from_number(number)))
                    })*
                    _ => None,
                }
            }
        }
    };
}

fn judge(
    given: &Given,
    (least, most): (f64, f64),
    unit: &str,
    whole: bool,
) -> Result<f64, ConfigError> {
    let number = given.number()?;
    let problem = if !(least..=most).contains(&number) {
        "is out of range"
    } else if whole && number.fract() != 0.0 {
        "is not a whole number"
    } else {
        return Ok(number);
    };
    Err(given.wrong(problem, format!("give {least} to {most} {unit}")))
}

numbers! {
    /// How much strangers and neighbors may ask of this node. Configured peers are outside all of
    /// them. What is above a limit is dropped and counted under the limit's own reason.
    ///
    /// Source: DECISIONS 4a; SECURITY T1, T2, T5, T7.
    Limits in "limits" {
        /// Too small: a node that many join at once learns them late. Too large: a flood of Hellos
        /// costs the control plane about 2 us each.
        hello_per_second: u32 = 1_000, 1..=100_000, "per second",
            "Hellos looked at, from all endpoints together.";
        /// Too small: a Hello that is lost is repeated too late. Too large: one endpoint can use up
        /// what all share.
        hello_per_endpoint: u32 = 5, 1..=1_000, "per second",
            "Hellos looked at, from one endpoint.";
        /// Too small: many newcomers wait for their proof. Too large: more datagrams to spoofed
        /// addresses, though never more than three times what came from there.
        challenges_per_second: u32 = 500, 1..=100_000, "per second",
            "Challenges sent to endpoints that have to prove themselves.";
        /// Too small: a burst of newcomers pushes the oldest of them out before their proof. Too
        /// large: about 200 bytes of memory each, which spoofed Hellos can fill.
        candidates: u32 = 1_024, 16..=65_536, "endpoints",
            "Endpoints that may await their proof at the same time.";
        /// Too small: a group of nodes behind one network is learned slowly. Too large: neighbors
        /// can make this node send that many datagrams to a network that never asked.
        inform_burst: u32 = 32, 1..=1_024, "addresses",
            "Addresses that neighbors tell of, probed at once per network (IPv4 /24, IPv6 /56).";
        /// As `inform_burst`, over time.
        inform_per_second: u32 = 1, 1..=1_000, "per second",
            "Addresses that neighbors tell of, probed per network after such a burst.";
        /// Too small: `floodmesh ping -i` below 1/N shows losses that are none. Too large: each
        /// answer is flooded through the whole mesh.
        ping_per_source: u32 = 50, 1..=10_000, "per second",
            "Pings answered to one node; twice as many in one burst.";
        /// As `ping_per_source`, for all nodes together.
        ping_total: u32 = 500, 1..=100_000, "per second",
            "Pings answered to all nodes together.";
        /// Too small: `ping all` stays without answer more often. Too large: every node answers
        /// every one, and every answer is flooded.
        ping_all: u32 = 1, 1..=100, "per second",
            "Pings to all nodes answered; three times as many in one burst.";
        /// Too small: plain nodes behind a bridge lose packets to sealed ones. Too large: whoever can
        /// reach a plain node fills what all sealed ones remember, 300 s of it with 8 bytes a message.
        guest_per_second: u32 = 1_000, 1..=1_000_000, "messages per second",
            "Messages of plain neighbors that a bridge lets in to sealed ones, all together; one neighbor gets nine sixteenths of it at the most.";
    }
}

numbers! {
    /// When a silent neighbor is asked, doubted and given up; each longer than the one before.
    ///
    /// Source: DECISIONS 4a; PROTOCOL-NOTES A35.
    Timers in "timers" {
        /// Too small: idle links cost traffic. Too large: NAT bindings close (30 s is common).
        ping_after: Duration = 15, 0.1..=3600, "seconds",
            "A neighbor that was silent this long is pinged.";
        /// Too small: one lost Pong makes a neighbor suspect. Too large: `neighbors` shows a dead
        /// link as live. Traffic flows all the same.
        suspect_after: Duration = 30, 0.2..=7200, "seconds",
            "A neighbor that was silent this long is suspect.";
        /// Too small: a short outage costs the link, and a new proof. Too large: every message is
        /// also sent to a neighbor that is gone.
        dead_after: Duration = 45, 0.3..=14400, "seconds",
            "A neighbor that was silent this long is no neighbor any more.";
        /// Too small: peers that are off get traffic for nothing. Too large: a peer that comes
        /// back first is noticed late.
        redial: Duration = 30, 1..=3600, "seconds",
            "A configured peer that does not answer is dialed again this often, +-20 %.";
    }
}

numbers! {
    /// How many frames that go to everyone one device may send in TAP mode; a burst may hold two
    /// seconds' worth. What is above is dropped, counted and shown in the health line.
    ///
    /// Source: DECISIONS 5; SECURITY T14.
    Storm in "storm" {
        /// Too small: ARP and discovery of large bridged networks suffer. Too large: a bridge loop
        /// fills every link of the mesh.
        broadcast: u32 = 1_000, 1..=1_000_000, "frames per second",
            "Broadcast and unknown unicast frames taken from the device.";
        /// Too small: multicast video breaks up. Too large: as above.
        multicast: u32 = 20_000, 1..=1_000_000, "frames per second",
            "Multicast frames taken from the device.";
    }
}
