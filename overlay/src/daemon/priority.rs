//! How soon the daemon's threads run where programs want all processors too.
//!
//! A packet that waits for a program's time slice waits for milliseconds, and there are four such
//! waits in a round trip. So all threads of the daemon have a low nice value, and data threads run before
//! all ordinary programs (real-time) once they had to wait for one. Neither can take the machine: the kernel
//! keeps a twentieth of each processor for ordinary programs (sched(7), `sched_rt_runtime_us` and the fair
//! server).
//!
//! Not where nobody is in the way: a real-time thread is woken on the processor where it last ran, an
//! ordinary one where its waker is. Single packets pass in half the time by the latter, since no other
//! processor has to be woken (`tests/BENCHMARKS.md`, "Idle pings").

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::unistd::{getpid, getsid};
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::time::{Duration, Instant};

/// A data thread's waits are looked at this often.
const WINDOW: Duration = Duration::from_millis(10);
/// Others are in its way if it had to wait for a processor for so long within a window, or within two wakings
/// that are further apart.
const PATIENCE: Duration = Duration::from_millis(1);
/// Then it is real-time for so long at first. As it has nothing to wait for meanwhile, only another try
/// as an ordinary thread tells whether they still are.
const FIRST: Duration = Duration::from_secs(10);
/// Each try that fails at once doubles that, up to this.
const LONGEST: Duration = Duration::from_secs(160);

/// Takes a nice value, for the calling thread and those that it starts.
///
/// The kernel may weigh it within the process's session only, and sessions against each other
/// (autogroups, sched(7)); so what leads a session, which is its own then, weighs that too.
pub fn take_nice(nice: i32) {
    if let Err(error) = setpriority_process(None, nice) {
        tracing::debug!(%error, nice, "the priority stays as it was");
    }
    // The leader of another process namespace's session has number 0 here.
    if getsid(None).is_ok_and(|leader| leader == getpid())
        && let Err(error) = std::fs::write("/proc/self/autogroup", nice.to_string())
    {
        tracing::debug!(%error, nice, "the session's priority stays as it was");
    }
}

/// Permits the threads of this process to be real-time at the lowest priority of that kind, whatever
/// capabilities it gives up.
///
/// Returns whether they are. To be permitted more than before takes CAP_SYS_RESOURCE.
pub fn permit_realtime() -> bool {
    let Rlimit { current, maximum } = getrlimit(Resource::Rtprio);
    let permitted = Rlimit {
        current: current.map(|priority| priority.max(1)),
        maximum: maximum.map(|priority| priority.max(1)),
    };
    let set = setrlimit(Resource::Rtprio, permitted);
    if let Err(error) = &set {
        tracing::debug!(%error, "RLIMIT_RTPRIO stays as it was");
    }
    set.is_ok()
}

/// Makes the calling thread real-time, at the lowest priority of that kind: before ordinary
/// programs, behind everything else that is real-time, such as a robot's control loops.
///
/// Returns whether the system permitted it, which takes CAP_SYS_NICE or RLIMIT_RTPRIO.
pub fn take_realtime() -> bool {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    takes(ThreadPriority::Min, policy)
}

/// Makes the calling thread an ordinary one again, with its nice value.
fn take_ordinary() -> bool {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
    takes(ThreadPriority::Min, policy)
}

fn takes(priority: ThreadPriority, policy: ThreadSchedulePolicy) -> bool {
    let taken = set_thread_priority_and_policy(thread_native_id(), priority, policy);
    if let Err(error) = &taken {
        tracing::debug!(?error, ?policy, "a data thread keeps its scheduling policy");
    }
    taken.is_ok()
}

/// Makes the calling thread real-time while it would have to wait for others, and an ordinary one else.
#[derive(Debug)]
pub struct Adapting {
    pace: Pace,
    /// The kernel's account of the thread.
    account: File,
}

impl Adapting {
    /// For the calling thread, which is an ordinary one after this. `None` if it may not be real-time, or
    /// the kernel keeps no account of how long it waits; then it stays what it is.
    pub fn from(now: Instant) -> Option<Self> {
        let account = File::open("/proc/thread-self/schedstat");
        let account = account.inspect_err(
            |error| tracing::debug!(%error, "the kernel does not say how long threads wait"),
        );
        let account = account.ok()?;
        let pace = Pace::from(now, waited(&account)?);
        (take_realtime() && take_ordinary()).then_some(Self { pace, account })
    }

    /// Looks how long the thread waited, after each of its turns; `now` is the turn's time.
    ///
    /// Cost: a comparison; a system call each [`WINDOW`], and one when something changes.
    pub fn settle(&mut self, now: Instant) {
        if !self.pace.is_due(now) {
            return;
        }
        let Some(waited) = waited(&self.account) else {
            return;
        };
        match self.pace.step(now, waited) {
            Some(true) => _ = take_realtime(),
            Some(false) => _ = take_ordinary(),
            None => {}
        }
    }
}

/// How long a thread was ready to run and did not, since it began: the second number of its account
/// (`Documentation/scheduler/sched-stats.rst`).
fn waited(account: &File) -> Option<Duration> {
    let mut text = [0; 64];
    let len = account.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..len)?).ok()?;
    let nanoseconds = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// When a thread is to be real-time.
#[derive(Debug)]
struct Pace {
    /// When the window began, and how long the thread had waited by then.
    window: (Instant, Duration),
    /// Since when the thread is what it is.
    since: Instant,
    is_realtime: bool,
    /// How long it is real-time, the next time or now.
    term: Duration,
}

impl Pace {
    fn from(now: Instant, waited: Duration) -> Self {
        Self {
            window: (now, waited),
            since: now,
            is_realtime: false,
            term: Duration::ZERO,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        now.since(self.window.0) >= WINDOW
    }

    /// Closes the window; `waited` counts from the thread's beginning. Returns whether the thread is to
    /// become real-time from now on, or to be so no more.
    fn step(&mut self, now: Instant, waited: Duration) -> Option<bool> {
        let (_, before) = std::mem::replace(&mut self.window, (now, waited));
        let lasted = now.since(self.since);
        let is_over = if self.is_realtime {
            lasted >= self.term
        } else {
            waited.saturating_sub(before) >= PATIENCE
        };
        if !is_over {
            return None;
        }
        if !self.is_realtime {
            let failed_at_once = lasted < FIRST;
            self.term = if failed_at_once {
                (self.term * 2).clamp(FIRST, LONGEST)
            } else {
                FIRST
            };
        }
        self.is_realtime = !self.is_realtime;
        self.since = now;
        Some(self.is_realtime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that is looked at each [`WINDOW`]: `waits` says how long it waits within the window that
    /// ends then, if it is an ordinary one. Returns when it changed, in milliseconds, and to what.
    fn changes(duration: Duration, waits: impl Fn(Duration) -> Duration) -> Vec<(u64, bool)> {
        let (mut now, mut waited) = (Instant::from_secs(1), Duration::from_secs(3));
        let begin = now;
        let mut pace = Pace::from(now, waited);
        let mut changes = Vec::new();
        while now.since(begin) < duration {
            now = now + WINDOW;
            if !pace.is_realtime {
                waited += waits(now.since(begin));
            }
            assert!(pace.is_due(now));
            if let Some(is_realtime) = pace.step(now, waited) {
                changes.push((now.since(begin).as_millis() as u64, is_realtime));
            }
            assert!(!pace.is_due(now));
        }
        changes
    }

    #[test]
    fn a_thread_with_nobody_in_its_way_stays_an_ordinary_one() {
        let nearly = PATIENCE - Duration::from_micros(1);
        assert!(changes(Duration::from_secs(100), |_| nearly).is_empty());
    }

    #[test]
    fn a_thread_that_had_to_wait_is_real_time_for_ten_seconds() {
        let once = |at| {
            let had_to = at == Duration::from_secs(2);
            if had_to { PATIENCE } else { Duration::ZERO }
        };
        let expected = [(2_000, true), (12_000, false)];
        assert_eq!(changes(Duration::from_secs(100), once), expected);
    }

    #[test]
    fn where_others_are_always_in_the_way_it_tries_ever_more_rarely() {
        let changes = changes(Duration::from_secs(1_000), |_| PATIENCE);
        let tries: Vec<u64> = changes
            .iter()
            .filter(|change| !change.1)
            .map(|c| c.0)
            .collect();
        let terms: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(terms[..4], [20_010, 40_010, 80_010, 160_010]);
        assert!(terms[4..].iter().all(|&term| term == 160_010), "{terms:?}");
    }

    #[test]
    fn a_try_that_went_well_for_ten_seconds_begins_anew() {
        // In the way until 35 s, and again from 85 s on.
        let waits = |at: Duration| match at.as_secs() {
            35..85 => Duration::ZERO,
            _ => PATIENCE,
        };
        let changes = changes(Duration::from_secs(99), waits);
        let expected = [
            (10, true),
            (10_010, false),
            (10_020, true),
            (30_020, false),
            (30_030, true),
            (70_030, false),
            (85_000, true),
            (95_000, false),
        ];
        assert_eq!(changes[..8], expected);
    }

    #[test]
    fn no_clock_makes_it_panic() {
        let mut pace = Pace::from(Instant::from_secs(9), Duration::from_secs(9));
        pace.step(Instant::ZERO, Duration::ZERO);
        pace.step(Instant::FAR, Duration::MAX);
        pace.step(Instant::ZERO, Duration::MAX);
    }

    #[test]
    fn the_kernel_says_how_long_a_thread_waited() {
        let account = File::open("/proc/thread-self/schedstat").unwrap();
        assert!(waited(&account).unwrap() < Duration::from_secs(3_600));
    }
}
