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
    next_at: Instant,
}

impl Keeping {
    /// Nothing is to be written yet.
    pub const fn new(state: Arc<StateDir>) -> Self {
        Self {
            state,
            waiting: BTreeMap::new(),
            writing: None,
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

    /// Writes all that waits.
    ///
    /// # Errors
    /// The first that cannot be written; the others are not tried.
    pub async fn finish(&mut self) -> Result<(), StateError> {
        loop {
            if let Some(writing) = self.writing.take() {
                self.outcome(writing).await?;
            }
            if !self.begin() {
                return Ok(());
            }
        }
    }

    /// Begins a write if something waits and none is under way; whether it did.
    fn begin(&mut self) -> bool {
        if self.writing.is_some() {
            return false;
        }
        let Some((kind, body)) = self.waiting.pop_first() else {
            return false;
        };
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
