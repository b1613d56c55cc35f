//! Writes the neighbors down while the node runs: beside the control loop, since a sync takes
//! seconds on a busy disk, and neither neighbors nor clients are to wait for it.

use std::future::pending;
use std::io;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::state::{NEIGHBORS_LIMIT, Remembered, StateDir, StateError};
use crate::time::{Duration, Instant};

/// Shortest time between two writes while the node runs.
const INTERVAL: Duration = Duration::from_secs(60);

/// The neighbors on disk, and the write under way.
#[derive(Debug)]
pub struct Remembering {
    state: Arc<StateDir>,
    began_at: Option<Instant>,
    /// What is on disk for certain.
    written: Vec<Remembered>,
    writing: Option<JoinHandle<Result<Vec<Remembered>, StateError>>>,
}

impl Remembering {
    /// Nothing is written yet.
    pub fn new(state: impl Into<Arc<StateDir>>) -> Self {
        Self {
            state: state.into(),
            began_at: None,
            written: Vec::new(),
            writing: None,
        }
    }

    /// Begins to write the first [`NEIGHBORS_LIMIT`] of `neighbors`, if they changed: one write at
    /// a time, and at most one in a minute. Returns at once; [`Self::ended`] tells the outcome.
    pub fn begin(&mut self, now: Instant, neighbors: &[Remembered]) {
        let neighbors = &neighbors[..neighbors.len().min(NEIGHBORS_LIMIT)];
        let due = self.began_at.is_none_or(|at| now >= at + INTERVAL);
        if !due || self.writing.is_some() || self.written == neighbors {
            return;
        }
        self.began_at = Some(now);
        let (state, neighbors) = (Arc::clone(&self.state), neighbors.to_vec());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            state.store_neighbors(&neighbors).map(|()| neighbors)
        }));
    }

    /// Waits for the write under way; forever when there is none. May be dropped at any time.
    ///
    /// # Errors
    /// They cannot be written; the old ones are still there. That is worth a warning, no more: the
    /// next [`Self::begin`] after the interval tries again.
    pub async fn ended(&mut self) -> Result<(), StateError> {
        let Some(writing) = &mut self.writing else {
            return pending().await;
        };
        let outcome = writing.await;
        self.writing = None;
        self.written = outcome.map_err(|error| StateError::Io {
            action: "write",
            path: self.state.path().to_owned(),
            source: io::Error::other(error),
        })??;
        Ok(())
    }

    /// Writes `neighbors` for the next start, after what is under way.
    ///
    /// # Errors
    /// As [`Self::ended`].
    pub async fn finish(
        &mut self,
        now: Instant,
        neighbors: &[Remembered],
    ) -> Result<(), StateError> {
        if self.writing.is_some() {
            // Its failure shows again in the next line.
            let _ = self.ended().await;
        }
        self.began_at = None;
        self.begin(now, neighbors);
        match self.writing {
            Some(_) => self.ended().await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::mpsc;

    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::id::NetId;

    fn remembered(count: u16) -> Vec<Remembered> {
        let one = |n: u16| Remembered {
            netid: NetId(u32::from(n) + 1),
            remote: SocketAddr::from(([192, 0, 2, 1], 1_000 + n)),
        };
        (0..count).map(one).collect()
    }

    /// One thread writes, so that a test can keep it busy like a slow disk.
    fn runtime() -> Runtime {
        Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap()
    }

    #[test]
    fn neighbors_are_written_once_a_minute_and_only_when_they_changed() {
        let home = tempfile::tempdir().unwrap();
        let mut remembering = Remembering::new(StateDir::open(home.path()).unwrap());
        let state = Arc::clone(&remembering.state);
        let start = Instant::from_secs(10);
        let minute = start + INTERVAL;
        runtime().block_on(async {
            remembering.begin(start, &remembered(100));
            remembering.ended().await.unwrap();
            assert_eq!(state.neighbors(), remembered(64));
            remembering.begin(minute - Duration::from_micros(1), &remembered(2));
            assert!(remembering.writing.is_none());
            remembering.begin(minute, &remembered(100));
            assert!(remembering.writing.is_none());
            remembering.begin(minute, &remembered(2));
            remembering.ended().await.unwrap();
            assert_eq!(state.neighbors(), remembered(2));
        });
    }

    #[test]
    fn a_slow_disk_keeps_nobody_waiting_and_gets_one_write_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let mut remembering = Remembering::new(StateDir::open(home.path()).unwrap());
        let state = Arc::clone(&remembering.state);
        runtime().block_on(async {
            let (disk, works) = mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || works.recv());
            remembering.begin(Instant::from_secs(10), &remembered(1));
            remembering.begin(Instant::from_secs(100), &remembered(2));
            assert_eq!(state.neighbors(), []);
            drop(disk);
            remembering.ended().await.unwrap();
            assert_eq!(state.neighbors(), remembered(1));
            assert!(remembering.writing.is_none());
        });
    }

    #[test]
    fn a_failed_write_is_told_and_tried_again() {
        let home = tempfile::tempdir().unwrap();
        let mut remembering = Remembering::new(StateDir::open(home.path()).unwrap());
        let state = Arc::clone(&remembering.state);
        // A directory cannot be replaced by a file.
        let blocked = home.path().join("neighbors");
        std::fs::create_dir(&blocked).unwrap();
        runtime().block_on(async {
            remembering.begin(Instant::from_secs(10), &remembered(1));
            let error = remembering.ended().await.unwrap_err();
            assert!(error.to_string().contains("neighbors"), "{error}");
            std::fs::remove_dir(&blocked).unwrap();
            remembering.begin(Instant::from_secs(70), &remembered(1));
            remembering.ended().await.unwrap();
            assert_eq!(state.neighbors(), remembered(1));
        });
    }

    #[test]
    fn the_end_waits_for_the_write_under_way_and_writes_last() {
        let home = tempfile::tempdir().unwrap();
        let mut remembering = Remembering::new(StateDir::open(home.path()).unwrap());
        let state = Arc::clone(&remembering.state);
        let now = Instant::from_secs(10);
        runtime().block_on(async {
            remembering.begin(now, &remembered(1));
            remembering.finish(now, &remembered(2)).await.unwrap();
            assert_eq!(state.neighbors(), remembered(2));
        });
    }
}
