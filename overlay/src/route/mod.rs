//! Which netid owns which address, pure.
//!
//! Two sides, as in [`node`](crate::node). The control side is the [`directory`]: claims, who wins,
//! what to tell whom; it publishes an immutable [`routes::Routes`]. The worker side decides about
//! single packets and frames against that snapshot:
//!
//! ```text
//!   device --> Tun::outgoing / Tap::outgoing  --> to one netid, to all, hold, answer, drop
//!   mesh   --> Tun::incoming / Tap::incoming  --> deliver, drop
//! ```
//!
//! A [`tun::Tun`] or [`tap::Tap`] belongs to one worker and keeps that worker's flow cache; what
//! workers share ([`learned::Learned`], [`switch::Switch`]) is `&self` and bounded. No packet
//! allocates, and no packet of a steady flow takes a lock.
//!
//! Read first: [`address`], then [`tun`].

pub mod address;
pub mod beacon;
pub mod blocked;
mod cache;
pub mod directory;
pub mod frame;
pub mod grants;
pub mod guard;
pub mod hold;
pub mod icmp;
pub mod known;
pub mod learned;
pub mod mss;
pub mod owners;
pub mod packet;
pub mod routes;
pub mod storm;
pub mod switch;
pub mod tap;
pub mod tun;
pub mod underlay;
