//! How soon the daemon's threads run where programs want all processors too.
//!
//! A packet that waits for a program's time slice waits for milliseconds, and there are four such
//! waits in a round trip. So data threads run before all ordinary programs, and everything else of
//! the daemon with a low nice value. Neither can take the machine: the kernel keeps a twentieth of
//! each processor for ordinary programs (sched(7), `sched_rt_runtime_us` and the fair server).

use nix::unistd::{getpid, getsid};
use rustix::process::setpriority_process;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

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

/// Makes the calling thread real-time, at the lowest priority of that kind: before ordinary
/// programs, behind everything else that is real-time, such as a robot's control loops.
///
/// Returns whether the system permitted it, which takes CAP_SYS_NICE or RLIMIT_RTPRIO.
pub fn take_realtime() -> bool {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    let taken = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
    if let Err(error) = &taken {
        tracing::debug!(?error, "a data thread is not real-time");
    }
    taken.is_ok()
}
