//! The driver's part of `floodmesh reload`: what was read anew is taken up.

use std::future::pending;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::super::admin::Reply;
use super::super::error::Failure;
use super::super::reload::{Renewed, Standing, waits_for_start};
use super::super::report::ReloadedReport;
use super::Driver;
use crate::seal::ends::Membership;
use crate::seal::keys::MeshKeys;
use crate::seal::links::{FORMER_LASTS, Renewal};
use crate::time::Instant;
use wire::sealed::close::REPLACED;

/// A reading under way, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Reloading {
    reading: Option<JoinHandle<Result<Renewed, Failure>>>,
    replies: Option<mpsc::Sender<Reply>>,
}

impl Reloading {
    /// What the reading gave; never while none is under way.
    pub(super) async fn ended(&mut self) -> Result<Result<Renewed, Failure>, JoinError> {
        let Some(reading) = &mut self.reading else {
            return pending().await;
        };
        let read = reading.await;
        self.reading = None;
        read
    }
}

impl Driver {
    /// Begins to read, beside the loop.
    pub(super) fn reload(&mut self, replies: mpsc::Sender<Reply>) {
        let refused = match &self.links {
            None => Some(Reply::refused(
                "this node speaks the open protocol and has no keys to read again",
                "",
            )),
            Some(_) if self.reloading.reading.is_some() => Some(Reply::refused(
                "the node is reading its files already",
                "try again in a moment",
            )),
            Some(links) => {
                let (standing, args) = (
                    Standing::of(links.local(), &self.config.files, &self.confinement),
                    self.args.clone(),
                );
                let read = move || standing.read(&args);
                self.service.reloading();
                self.reloading.reading = Some(tokio::task::spawn_blocking(read));
                None
            }
        };
        match refused {
            // A client that went away misses its answer; nobody else minds.
            Some(refused) => drop(replies.try_send(refused)),
            None => self.reloading.replies = Some(replies),
        }
    }

    pub(super) fn on_reloaded(&mut self, read: Result<Result<Renewed, Failure>, JoinError>) {
        let reply = match read {
            Ok(Ok(renewed)) => Reply::Reloaded(self.take_up(self.clock.now(), renewed)),
            Ok(Err(failure)) => {
                tracing::warn!("nothing was read anew: {failure}");
                Reply::refused(failure.to_string(), "nothing changed")
            }
            Err(_) => Reply::refused("the files could not be read", "nothing changed"),
        };
        self.service.reloaded();
        if let Some(replies) = self.reloading.replies.take() {
            let _ = replies.try_send(reply);
        }
    }

    /// Goes by what was read from now on.
    fn take_up(&mut self, now: Instant, renewed: Renewed) -> ReloadedReport {
        let Renewed {
            keys,
            next,
            certificate,
            config,
            list,
        } = renewed;
        let Some(links) = &mut self.links else {
            return ReloadedReport::default();
        };
        let local = links.local();
        let next_mac1 = |next: Option<&MeshKeys>| next.map(|next| next.mac1.clone());
        let is_ended = keys.epoch > local.keys.epoch;
        let has_next = next_mac1(next.as_ref()) != next_mac1(local.next.as_deref());
        let mut report = ReloadedReport {
            waits_for_start: waits_for_start(&self.config, &config),
            ..ReloadedReport::default()
        };
        let mut note = |is_so: bool, what: &str| {
            if is_so {
                report.changed.push(what.to_owned());
            }
        };
        note(is_ended, "secret");
        // Taken over, or taken back: what is said of an end has it both ways.
        let is_back = next.is_none() && !is_ended;
        note(has_next && !is_back, "next secret");
        note(has_next && is_back, "the current secret alone");
        let is_certificate = certificate != local.certificate;
        let is_authority = config.authority != local.authority;
        let is_trusted = config.trusted != self.config.trusted;
        note(is_certificate, "certificate");
        note(is_authority, "authority");
        note(is_trusted, "trusted_keys");
        // In another mode than the node's, which waits for a start, they may mean what cannot be.
        let has_modes =
            config.security == self.config.security && self.config.links.take_modes(&config.links);
        note(has_modes, "modes of peers");
        if has_modes {
            let said = &self.config.warnings;
            for warning in config.warnings.iter().filter(|one| !said.contains(one)) {
                tracing::warn!("{warning}");
            }
            self.config.warnings.clone_from(&config.warnings);
        }
        // 1. Secrets.
        let epoch = keys.epoch;
        if is_ended || has_next {
            let until = now + FORMER_LASTS;
            if let Some(broadcasts) = &self.shared.broadcasts {
                broadcasts.set_secrets(&keys, next.as_ref(), until);
            }
            links.set_secrets(now, keys, next);
            if is_ended {
                self.with_ends(|ends, with| ends.retire(now, with, epoch, until));
            }
        }
        // 2. Who comes up, and who stays.
        (self.config.authority, self.config.trusted) = (config.authority, config.trusted);
        let renewal = Renewal {
            certificate,
            authority: self.config.authority,
            trusted: self.config.trusted.clone(),
            list,
        };
        if let Some(links) = &mut self.links {
            report.closed = links.renew(now, renewal) as u64;
            links.set_policies(self.places.policies(&self.config.links));
        }
        self.note_own_grant(now);
        self.leave_refused_ends(now);
        self.with_ends(|ends, with| {
            if is_certificate {
                ends.renew_all_soon(now, with);
            }
            if is_certificate || is_authority || is_trusted {
                ends.begin_all_anew(now, with);
            }
        });
        tracing::info!(changed = ?report.changed, closed = report.closed, "files were read again, as asked");
        report
    }

    /// Ends what is sealed end to end with those that may not come up any more.
    fn leave_refused_ends(&mut self, now: Instant) {
        let (Some(ends), Some(links)) = (&mut self.ends, &self.links) else {
            return;
        };
        let membership = Membership {
            local: links.local(),
            refuses: &|claim| links.refuses(claim),
        };
        ends.leave_where(now, membership, REPLACED, |remote| {
            links.refuses_now(remote).is_some()
        });
        self.carry_out_ends(now);
    }
}
