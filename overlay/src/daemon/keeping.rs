//! Writes down what a sealed node must not forget, beside the control loop: a sync takes seconds on a
//! busy disk, and nobody is to wait for it.
//!
//! One write at a time, of the latest content of each file, and at most one in a second: so members
//! that make up netids cannot keep the disk busy. What could not be written is tried again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::state::{StateDir, StateError};
use crate::time::{Duration, Instant};

/// Shortest time between two writes.
const INTERVAL: Duration = Duration::from_secs(1);

/// A file of the state directory, by its kind, and what is to be in it.
type File = (&'static str, String);

/// Files that are to be written, and the write under way.
#[derive(Debug)]
pub struct Keeping {
    state: Arc<StateDir>,
    waiting: BTreeMap<&'static str, String>,
    writing: Option<JoinHandle<Result<(), (File, StateError)>>>,
    /// The file that was written to last. The one behind it is next, so that one that cannot be written
    /// keeps none of the others from it.
    last: &'static str,
    next_at: Instant,
}

impl Keeping {
    /// Nothing is to be written yet.
    pub const fn new(state: Arc<StateDir>) -> Self {
        Self {
            state,
            waiting: BTreeMap::new(),
            writing: None,
            last: "",
            next_at: Instant::ZERO,
        }
    }

    /// Has a file written, in place of what waits to be written to it.
    pub fn put(&mut self, kind: &'static str, body: String) {
        self.waiting.insert(kind, body);
    }

    /// Goes on; returns at once. Called after each [`Self::put`], and at least once a second.
    ///
    /// # Errors
    /// A write failed: what was there before is still there, and a later call tries again.
    pub async fn poll(&mut self, now: Instant) -> Result<(), StateError> {
        let ended = self.writing.take_if(|writing| writing.is_finished());
        let outcome = match ended {
            Some(writing) => self.outcome(writing).await,
            None => Ok(()),
        };
        if now >= self.next_at && self.begin() {
            self.next_at = now + INTERVAL;
        }
        outcome
    }

    /// Whether everything is written.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.writing.is_none()
    }

    /// Writes all that waits, each file once.
    ///
    /// # Errors
    /// The last that cannot be written; what was there before is still there.
    pub async fn finish(&mut self) -> Result<(), StateError> {
        if let Some(writing) = self.writing.take() {
            // What failed waits again, and shows again below.
            let _ = self.outcome(writing).await;
        }
        let mut outcome = Ok(());
        for _ in 0..self.waiting.len() {
            if self.begin()
                && let Some(writing) = self.writing.take()
            {
                let written = self.outcome(writing).await;
                outcome = written.and(outcome);
            }
        }
        outcome
    }

    /// Begins a write if something waits and none is under way; whether it did.
    fn begin(&mut self) -> bool {
        if self.writing.is_some() {
            return false;
        }
        let behind = self.waiting.keys().find(|kind| **kind > self.last);
        let Some(&kind) = behind.or_else(|| self.waiting.keys().next()) else {
            return false;
        };
        let body = self.waiting.remove(kind).unwrap_or_default();
        self.last = kind;
        let state = Arc::clone(&self.state);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let written = state.write(kind, &body);
            written.map_err(|error| ((kind, body), error))
        }));
        true
    }

    async fn outcome(
        &mut self,
        writing: JoinHandle<Result<(), (File, StateError)>>,
    ) -> Result<(), StateError> {
        match writing.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(((kind, body), error))) => {
                // Unless something newer is to be written there by now.
                self.waiting.entry(kind).or_insert(body);
                Err(error)
            }
            Err(error) => Err(StateError::Io {
                action: "write",
                path: self.state.path().to_owned(),
                source: io::Error::other(error),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_keeps_no_other_from_it() {
        let home = tempfile::tempdir().unwrap();
        let mut keeping = Keeping::new(Arc::new(StateDir::open(home.path()).unwrap()));
        let runtime = Builder::new_current_thread().build().unwrap();
        // A directory cannot be replaced by a file.
        fs::create_dir(home.path().join("afar")).unwrap();
        runtime.block_on(async {
            keeping.put("afar", "one\n".into());
            keeping.put("pins", "two\n".into());
            let mut failed = 0;
            for second in 0..3 {
                let now = Instant::from_secs(second);
                failed += u32::from(keeping.poll(now).await.is_err());
                while !keeping.writing.as_ref().is_none_or(JoinHandle::is_finished) {
                    tokio::task::yield_now().await;
                }
            }
            assert_eq!(failed, 1);
            assert!(home.path().join("pins").exists());
            assert!(!home.path().join("afar.new").exists());
            // Nor at the end, whichever comes first.
            keeping.put("latches", "three\n".into());
            keeping.put("boot", "four\n".into());
            assert!(keeping.finish().await.is_err());
            assert!(home.path().join("latches").exists() && home.path().join("boot").exists());
            assert!(keeping.waiting.len() == 1 && !keeping.is_done());
        });
    }

    #[test]
    fn the_latest_of_each_file_is_written_and_a_failure_tried_again() {
        let home = tempfile::tempdir().unwrap();
        let read = |kind| fs::read_to_string(home.path().join(kind)).unwrap_or_default();
        let mut keeping = Keeping::new(Arc::new(StateDir::open(home.path()).unwrap()));
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            keeping.put("pins", "one\n".into());
            keeping.put("pins", "two\n".into());
            keeping.poll(Instant::ZERO).await.unwrap();
            keeping.put("pins", "three\n".into());
            // Not twice in a second, but at the end.
            keeping.poll(Instant::ZERO).await.unwrap();
            assert_eq!(keeping.waiting.len(), 1);
            keeping.finish().await.unwrap();
            assert!(read("pins").ends_with("three\n"));
            // A directory cannot be replaced by a file.
            fs::remove_file(home.path().join("pins")).unwrap();
            fs::create_dir(home.path().join("pins")).unwrap();
            keeping.put("pins", "four\n".into());
            let error = keeping.finish().await.unwrap_err();
            assert!(error.to_string().contains("pins"), "{error}");
            fs::remove_dir(home.path().join("pins")).unwrap();
            keeping.finish().await.unwrap();
            assert!(read("pins").ends_with("four\n"));
        });
    }
}
