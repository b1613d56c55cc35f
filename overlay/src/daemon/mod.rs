//! The only place that owns things: clock, sockets, device, threads.
//!
//! From the command line to a running node, in this order:
//!
//! 1. [`args`] is what was typed, [`config`] is what it means, [`mod@file`] adds the TOML file.
//! 2. [`up`] opens what must exist before anything moves: logs ([`log`]), the state directory
//!    ([`state`]), the control socket ([`admin`]).
//! 3. [`secrets`] are the keys of a sealed node; [`setup`] makes them, [`invite`] passes them on,
//!    [`forget`] undoes what was remembered of another's. [`authority`] is `floodmesh ca`.
//! 4. The other commands are [`client`]s of that socket; [`report`] is what goes through it and
//!    [`render`] what people read. [`decode`] needs no daemon.
//!
//! A running node is two loops: the [`driver`] owns everything that waits for time, the [`worker`]
//! moves packets; [`shared`] is what lies between them.
//!
//! [`regular`] opens files, [`acting`] makes root the user whose files a command changes, [`service`] speaks to the service manager. [`clock`] is the one reader of the clock, [`priority`] says how soon threads run, [`confine`] gives up what a
//! running node does not need, [`paths`] knows where files belong, [`error`] is how a
//! command ends that could not do what it was asked to. Read [`config::Config`] first.

pub mod acting;
pub mod admin;
pub mod args;
pub mod authority;
pub mod client;
pub mod clock;
pub mod config;
pub mod confine;
pub mod decode;
pub mod device;
pub mod driver;
pub mod duty;
pub mod error;
pub mod file;
pub mod forget;
pub mod health;
pub mod invite;
pub mod keeping;
pub mod lab;
pub mod log;
pub mod paths;
pub mod peers;
pub mod pinging;
pub mod port;
pub mod prefer;
pub mod priority;
pub mod regular;
pub mod reload;
pub mod remembering;
pub mod render;
pub mod report;
pub mod rotate;
pub mod secrets;
pub mod service;
pub mod setup;
pub mod shared;
pub mod state;
pub mod strict;
pub mod text;
pub mod up;
mod views;
pub mod worker;
