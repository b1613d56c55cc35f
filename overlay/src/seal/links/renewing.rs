//! Other rules of who comes up, and another certificate, while links are up (SEALED.md S96).

use super::Links;
use crate::seal::effect::PeerId;
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
    /// A revocation list that was kept, looked at where the authority is another one.
    pub list: Option<Vec<u8>>,
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
            list,
        } = renewal;
        let is_other_authority = authority != self.local.authority;
        let is_other_certificate = certificate != self.local.certificate;
        (self.local.certificate, self.local.authority) = (certificate, authority);
        if is_other_authority {
            self.take_kept(list);
        }
        let is_other_list = self.members.set_rules(authority.is_some(), trusted);
        let refused: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(id, entry)| Some((*id, self.refuses_now(entry.peer.remote()?)?)))
            .collect();
        for (id, why) in &refused {
            self.leave_one(now, *id, why.reason());
        }
        let all: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in all {
            self.with(now, id, |peer, turn| {
                if is_other_certificate {
                    peer.renew_soon(turn);
                }
                // Who was refused until now need not wait for the next step of a long schedule.
                if is_other_certificate || is_other_authority || is_other_list {
                    peer.begin_anew(turn);
                }
            });
        }
        refused.len()
    }

    /// Another authority: nobody vouches for the former one's list any more. The one that was kept may be
    /// by the new one, if that was the authority before.
    fn take_kept(&mut self, list: Option<Vec<u8>>) {
        self.members.drop_list();
        self.telling = None;
        if let (Some(list), Some(authority)) = (list, &self.local.authority) {
            // One by somebody else is none.
            let _ = self
                .members
                .revoke(list, &self.local.keys.mesh_id, authority);
            // It is written there already.
            let _ = self.members.take_changed_list();
        }
        let number = self.members.list().number();
        self.local.revocation = (number > 0).then_some(number);
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
