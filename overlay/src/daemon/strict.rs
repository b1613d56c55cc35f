//! Keeps a strict device strict while the node is up: looks again every few seconds, beside the loop.
//!
//! Others take away rules and routes that they did not make: systemd-networkd, when it starts or reads its
//! files again. And the word that somebody set the device down and up may be lost.

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use tuntap::OpenConfig;

use crate::time::{Duration, Instant};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(5);

/// What is known of the looks.
#[derive(Debug, Default)]
pub struct Strictness {
    next_at: Instant,
    /// Of the look that is under way: whether something had gone.
    found: Option<Receiver<io::Result<bool>>>,
    /// The last one failed, and that was told.
    failed: bool,
    /// There is no use in another: the node gave up what it takes.
    ended: bool,
}

impl Strictness {
    /// Looks again if it is time to. Returns whether the last look found that rules or unreachable routes
    /// had gone, and put them back; told once for each look.
    ///
    /// Calls: inside a runtime.
    pub fn poll(&mut self, now: Instant, config: &OpenConfig, index: Option<u32>) -> bool {
        let mut had_gone = false;
        if let Some(found) = &self.found {
            match found.try_recv() {
                Ok(found) => had_gone = self.judge(found),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => {}
            }
            self.found = None;
        }
        if now >= self.next_at && !self.ended {
            self.next_at = now + EVERY;
            let (sender, receiver) = sync_channel(1);
            let config = config.clone();
            tokio::task::spawn_blocking(move || {
                let _ = sender.send(tuntap::strict::keep(&config, index));
            });
            self.found = Some(receiver);
        }
        had_gone
    }

    fn judge(&mut self, found: io::Result<bool>) -> bool {
        let error = match found {
            Ok(had_gone) => {
                self.failed = false;
                return had_gone;
            }
            Err(error) => error,
        };
        self.ended = error.kind() == io::ErrorKind::PermissionDenied;
        if self.ended {
            tracing::warn!(
                "without CAP_NET_ADMIN nobody notices when others take away what keeps the device strict"
            );
        } else if !self.failed {
            tracing::warn!(%error, "cannot look whether the device still is strict");
        }
        self.failed = true;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_fails_is_repeated_unless_it_never_can_succeed() {
        let mut strictness = Strictness::default();
        assert!(strictness.judge(Ok(true)));
        assert!(!strictness.judge(Ok(false)));
        assert!(!strictness.judge(Err(io::Error::from_raw_os_error(libc::ENOBUFS))));
        assert!(strictness.failed && !strictness.ended);
        assert!(strictness.judge(Ok(true)));
        assert!(!strictness.failed);
        assert!(!strictness.judge(Err(io::Error::from_raw_os_error(libc::EPERM))));
        assert!(strictness.ended);
    }
}
