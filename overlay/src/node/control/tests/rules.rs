//! Rules of PROTOCOL.md, by number, that no other test here would miss.

use super::*;
use crate::node::config::{CHALLENGE_LIFETIME, DIAL_SCHEDULE};

const MICRO: Duration = Duration::from_micros(1);

impl Bench {
    /// A Pong of `src` to `dst`, from an endpoint.
    fn pong(&mut self, from: &str, src: NetId, dst: NetId) -> Vec<Effect> {
        let pong = message(Kind::Pong, Flags::NO_FORWARD, 2, src, dst);
        self.receive(from, &pong)
    }

    /// Until `until`, and all links are heard of in every second.
    fn run_heard(&mut self, seconds: u64) -> Vec<(Instant, Effect)> {
        let mut done = Vec::new();
        for _ in 0..seconds {
            for link in self.control.links() {
                link.stats.heard(self.now, 16);
            }
            done.extend(self.run_for(1));
        }
        done
    }
}

fn kinds<'e>(effects: impl IntoIterator<Item = &'e Effect>) -> Vec<Kind> {
    let sent = sends(effects);
    sent.iter().map(|(header, _)| header.kind).collect()
}

fn count<'e>(effects: impl IntoIterator<Item = &'e Effect>, kind: Kind) -> usize {
    let of_kind = kinds(effects).into_iter().filter(|one| *one == kind);
    of_kind.count()
}

fn of(done: &[(Instant, Effect)]) -> impl Iterator<Item = &Effect> {
    done.iter().map(|(_, effect)| effect)
}

#[test]
fn r49_a_direct_pong_has_no_forward_as_its_ping() {
    let mut bench = Bench::new();
    bench.connect("8.8.8.8:9", THEM);
    for (from, src) in [("8.8.8.8:9", THEM), ("7.7.7.7:9", NetId(0x77))] {
        for flags in [Flags::NONE, Flags::NO_FORWARD] {
            let ping = message(Kind::Ping, flags, 7, src, NetId::ANY);
            let (pong, to) = sends(&bench.receive(from, &ping))[0];
            assert_eq!((pong.kind, pong.src, pong.dst), (Kind::Pong, US, src));
            assert_eq!(pong.flags, flags, "to {from}");
            assert_eq!(to.to_string(), from);
        }
    }
}
