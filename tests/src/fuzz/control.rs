//! Target `control`: any sequence of inputs and times into the real control plane.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use overlay::id::{Endpoint, NetId, Path, SocketId};
use overlay::node::config::{NodeConfig, Socket};
use overlay::node::control::{Arrival, Control};
use overlay::node::effect::{Effect, Effects};
use overlay::pump::count::Counters;
use overlay::time::{Duration, Instant};
use wire::{Flags, Header, Kind, emit_control};

const US: NetId = NetId(0x2a);
/// The endpoint that the owner may name, which is outside the 3x rule.
const NAMED: u8 = 0;

/// Bytes to and from one endpoint.
#[derive(Default)]
struct Account {
    received: usize,
    sent: usize,
    challenge: Option<NetId>,
}

/// Target `control`: the input is a run of `operation, argument, ..`. No endpoint without a link
/// gets more than three times what came from it (48 bytes more when a neighbor told of it), tables
/// stay bounded, deadlines never lie in the past for long, and nothing is said after Goodbye.
///
/// # Panics
/// When one of these laws is broken.
pub fn fuzz_control(input: &[u8]) {
    let mut run = Run::new();
    let mut bytes = input.iter().copied();
    while let (Some(operation), Some(argument)) = (bytes.next(), bytes.next()) {
        run.step(operation, argument, &mut bytes);
    }
}

struct Run {
    control: Control,
    effects: Effects,
    now: Instant,
    accounts: BTreeMap<SocketAddr, Account>,
    left: bool,
}

impl Run {
    fn new() -> Self {
        let config = NodeConfig {
            netid: US,
            sockets: vec![Socket {
                id: SocketId(0),
                local: ([0, 0, 0, 0], 44_204).into(),
            }],
            degree: 3,
            max_neighbors: 8,
            allow_inform: Vec::new(),
            overlay: Vec::new(),
            largest: 1_416,
            timers: Default::default(),
            limits: Default::default(),
            seed: [7; 32],
        };
        Self {
            control: Control::new(Instant::ZERO, config, Arc::new(Counters::default())),
            effects: Effects::default(),
            now: Instant::ZERO,
            accounts: BTreeMap::new(),
            left: false,
        }
    }

    fn step(&mut self, operation: u8, argument: u8, bytes: &mut impl Iterator<Item = u8>) {
        let from = address(argument);
        let path = Path::to(Endpoint::new(SocketId(0), from));
        match operation % 10 {
            0 => self.sleep(Duration::from_millis(u64::from(argument) * 10)),
            1 => self.sleep(Duration::from_secs(u64::from(argument))),
            2 => {
                let datagram: Vec<u8> = bytes.take(usize::from(argument)).collect();
                let from = address(datagram.first().copied().unwrap_or(0));
                self.receive(from, datagram.get(1..).unwrap_or(&[]));
            }
            3 => {
                let (kind, src, dst) = (bytes.next(), bytes.next(), bytes.next());
                let flags = Flags(if argument >= 128 { 0x80 } else { 0 });
                let kind = Kind::from(kind.unwrap_or(1) % 17);
                let src = NetId(u32::from(src.unwrap_or(1)) + 1);
                let dst = [NetId::ANY, US, NetId::ALL, src][usize::from(dst.unwrap_or(0) % 4)];
                let datagram = emit_control(kind, flags, self.now.0 as u32, src, dst);
                self.receive(from, &datagram);
            }
            4 => {
                // An honest answer to the last challenge.
                let challenge = self
                    .accounts
                    .get(&from)
                    .and_then(|account| account.challenge);
                if let Some(dst) = challenge {
                    let src = NetId(u32::from(argument) + 0x100);
                    let pong = emit_control(Kind::Pong, Flags::NO_FORWARD, 9, src, dst);
                    self.receive(from, &pong);
                }
            }
            5 => {
                self.account(from).received += wire::HEADER_LEN;
                self.control
                    .handle_stranger(self.now, &path, &mut self.effects);
            }
            6 => {
                let origin = NetId(u32::from(argument) + 1);
                self.control.handle_heard(self.now, origin, origin);
            }
            7 => {
                let named = [address(NAMED)];
                self.control
                    .set_peer(self.now, 0, &named, false, &mut self.effects);
            }
            8 => self
                .control
                .handle_network_change(self.now, &mut self.effects),
            _ if argument == 255 => {
                self.control.say_goodbye(&mut self.effects);
                self.effects.clear();
                self.left = true;
            }
            _ => self
                .control
                .ping(self.now, 1, NetId(argument.into()), &mut self.effects),
        }
        self.settle();
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.account(from).received += datagram.len();
        let path = Path::to(Endpoint::new(SocketId(0), from));
        let arrival = Arrival {
            path,
            duplicate: false,
        };
        self.control
            .handle_datagram(self.now, &arrival, datagram, &mut self.effects);
    }

    /// Runs every deadline up to then; each must move on.
    fn sleep(&mut self, time: Duration) {
        let until = self.now + time;
        let mut turns = 0;
        while let Some(at) = self.control.next_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.control.handle_timeout(self.now, &mut self.effects);
            self.settle();
            turns += 1;
            assert!(turns < 100_000, "a deadline that does not move on");
        }
        self.now = until;
    }

    fn settle(&mut self) {
        let effects: Vec<Effect> = self.effects.drain().collect();
        for effect in effects {
            let is_said = matches!(effect, Effect::Send { .. } | Effect::Flood(_));
            assert!(!(self.left && is_said), "said after Goodbye");
            if let Effect::Probe { path, .. } = effect {
                let mut links = self.control.links();
                assert!(links.any(|link| link.path == path), "a probe astray");
            }
            let Effect::Send {
                path,
                link,
                datagram,
            } = effect
            else {
                continue;
            };
            let remote = path.endpoint.remote;
            let header = Header::parse(datagram.bytes()).expect("we send messages");
            let account = self.account(remote);
            if header.kind == Kind::Ping && header.src != US {
                account.challenge = Some(header.src);
            }
            if link.is_some() {
                // A proven endpoint is outside the rule, also for what it is sent later.
                *account = Account {
                    challenge: account.challenge,
                    ..Account::default()
                };
                continue;
            }
            account.sent += datagram.bytes().len();
            let allowed = 3 * account.received + 48;
            assert!(
                remote == address(NAMED) || account.sent <= allowed,
                "to {remote}"
            );
        }
        assert!(self.control.candidates().count() <= 1_024 + 64);
        assert!(self.control.remotes().count() <= 4_096);
        let set = self.control.neighbors();
        assert!(usize::from(set.neighbors()) <= 8 + 1);
    }

    fn account(&mut self, remote: SocketAddr) -> &mut Account {
        self.accounts.entry(remote).or_default()
    }
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([8, 8, number, 8], 40_000))
}
