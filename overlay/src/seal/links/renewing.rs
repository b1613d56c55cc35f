//! Other rules of who comes up, and another certificate, while links are up (SEALED.md S96).

use super::{Entry, Links, SHUTDOWN};
use crate::seal::identity::verify_certificate;
use crate::seal::members::{Claim, Refusal, Trusted};
use crate::seal::payload::Remote;
use crate::time::Instant;
use wire::sealed::Certificate;

/// What a node goes by from now on.
#[derive(Debug)]
pub struct Renewal {
    /// Its certificate, shown in the next handshakes.
    pub certificate: Option<Vec<u8>>,
    /// The authority's V.
    pub authority: Option<[u8; 32]>,
    /// The owner's list of keys.
    pub trusted: Option<Vec<Trusted>>,
}

impl Links {
    /// Takes other rules, and ends the links of all that they refuse; gives how many.
    ///
    /// Cost:  a verification for each certificate of a neighbor, if the authority is another one.
    pub fn renew(&mut self, now: Instant, renewal: Renewal) -> usize {
        let Renewal {
            certificate,
            authority,
            trusted,
        } = renewal;
        if authority != self.local.authority {
            // Nobody vouches for its list any more.
            self.members.drop_list();
            self.local.revocation = None;
            self.telling = None;
        }
        (self.local.certificate, self.local.authority) = (certificate, authority);
        self.members.set_rules(authority.is_some(), trusted);
        let refused: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(id, entry)| Some((*id, self.refuses_now(entry.peer.remote()?)?)))
            .collect();
        for (id, why) in &refused {
            self.leave_one(now, *id, why.reason());
        }
        // Whom the former rules refused need not wait for the next step of a long schedule.
        let dialing = |entry: &Entry| entry.peer.is_dialing() && entry.peer.current().is_none();
        let anew: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(id, entry)| dialing(entry).then_some(*id))
            .collect();
        for id in anew {
            self.leave_one(now, id, SHUTDOWN);
        }
        refused.len()
    }

    /// Why somebody who has come up may not stay, under the rules as they are now.
    pub fn refuses_now(&self, remote: &Remote) -> Option<Refusal> {
        let unsigned = remote.certificate.as_deref().is_some_and(|bytes| {
            let authority = self.local.authority.as_ref();
            let certificate = Certificate::parse(bytes).ok();
            let is_good = |(certificate, key)| verify_certificate(certificate, key);
            !certificate.as_ref().zip(authority).is_some_and(is_good)
        });
        if unsigned {
            return Some(Refusal::NotCertified);
        }
        self.members.judge(&Claim::of(remote)).err()
    }
}
