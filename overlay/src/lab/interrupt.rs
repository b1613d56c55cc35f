//! The wish to stop, carried to whoever waits.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Somebody wants the lab to end. What was built is taken down by the drops on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// A flag that ends sleeps.
///
/// Shape: a handle; clones share the flag. It is raised once and stays raised.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt(Arc<(Mutex<bool>, Condvar)>);

impl Interrupt {
    /// Raises the flag and wakes all sleepers.
    pub(super) fn raise(&self) {
        let (raised, wake) = &*self.0;
        *raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        wake.notify_all();
    }

    /// `Err` once the flag is up.
    pub(super) fn check(&self) -> Result<(), Interrupted> {
        self.sleep(Duration::ZERO)
    }

    /// Sleeps until `deadline`, or until the flag is raised.
    pub(super) fn sleep_until(&self, deadline: Instant) -> Result<(), Interrupted> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }

    /// Sleeps for `duration`, or until the flag is raised.
    pub(super) fn sleep(&self, duration: Duration) -> Result<(), Interrupted> {
        let (raised, wake) = &*self.0;
        let guard = raised.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = wake
            .wait_timeout_while(guard, duration, |raised| !*raised)
            .unwrap_or_else(PoisonError::into_inner);
        if *guard { Err(Interrupted) } else { Ok(()) }
    }

    /// Sleeps until the flag is raised.
    pub(super) fn wait(&self) {
        let (raised, wake) = &*self.0;
        let guard = raised.lock().unwrap_or_else(PoisonError::into_inner);
        drop(wake.wait_while(guard, |raised| !*raised));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_flag_ends_a_long_sleep_and_every_later_one() {
        let interrupt = Interrupt::default();
        assert_eq!(interrupt.check(), Ok(()));
        assert_eq!(interrupt.sleep(Duration::from_millis(1)), Ok(()));
        let sleeper = {
            let interrupt = interrupt.clone();
            std::thread::spawn(move || interrupt.sleep(Duration::from_secs(3600)))
        };
        interrupt.raise();
        assert_eq!(sleeper.join().unwrap(), Err(Interrupted));
        assert_eq!(interrupt.check(), Err(Interrupted));
        interrupt.wait();
    }
}
