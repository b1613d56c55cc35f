//! Which processor things run on, for measurements: whoever makes the load must not take its time from
//! what is measured.
#![allow(
    clippy::unwrap_used,
    reason = "only tests call this, and one that cannot go on fails there"
)]

use std::{fs, thread};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Processors that there are for us, at least 1.
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps this thread, and those that it begins from now on, on a processor; gives whether that was
/// granted.
pub fn pin_thread(processor: usize) -> bool {
    pin(Pid::from_raw(0), processor)
}

/// Keeps all threads of a process on a processor; gives whether that was granted.
///
/// # Panics
/// When the process is gone.
pub fn pin_process(pid: Pid, processor: usize) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names = threads.map(|thread| thread.unwrap().file_name());
    let ids = names.map(|name| name.to_str().unwrap().parse().unwrap());
    // One may have ended since.
    ids.filter(|id| pin(Pid::from_raw(*id), processor)).count() > 0
}

fn pin(thread: Pid, processor: usize) -> bool {
    let mut set = CpuSet::new();
    set.set(processor).is_ok() && sched_setaffinity(thread, &set).is_ok()
}
