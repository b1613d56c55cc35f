//! Seccomp: which system calls can still be made.
//!
//! Two filters. The first lets through what [`ALLOWED`] names and says ENOSYS to everything else, as a
//! kernel does that lacks the call: then the C library takes an older one, as it does for `clone3`. The
//! second says EPERM to what [`REFUSED`] names and to some arguments of allowed calls, so that a refusal
//! reads as one.
//!
//! A list of what is allowed, since what the next kernel adds is then not in it. It is wider than this
//! program: whoever looks up names and users (nsswitch.conf) runs in this process too.
//!
//! Cost: none for calls that are allowed whatever their arguments; the kernel remembers those (since
//! 5.11). Of the others none is on the data path.

use std::collections::BTreeMap;
use std::error::Error;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Every call that may be made.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // Files and descriptors.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64,
    libc::SYS_pwrite64, libc::SYS_lseek, libc::SYS_close, libc::SYS_close_range, libc::SYS_dup,
    libc::SYS_dup3, libc::SYS_fcntl, libc::SYS_ioctl, libc::SYS_flock, libc::SYS_fsync,
    libc::SYS_fdatasync, libc::SYS_ftruncate, libc::SYS_fallocate, libc::SYS_fadvise64,
    libc::SYS_openat, libc::SYS_openat2, libc::SYS_newfstatat, libc::SYS_fstat, libc::SYS_statx,
    libc::SYS_statfs, libc::SYS_fstatfs, libc::SYS_readlinkat, libc::SYS_faccessat,
    libc::SYS_faccessat2, libc::SYS_getdents64, libc::SYS_getcwd, libc::SYS_unlinkat,
    libc::SYS_renameat2, libc::SYS_mkdirat, libc::SYS_fchmod,
    libc::SYS_fchmodat, libc::SYS_utimensat, libc::SYS_umask, libc::SYS_pipe2,
    // Memory.
    libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise,
    libc::SYS_brk, libc::SYS_mlock, libc::SYS_mlock2, libc::SYS_munlock, libc::SYS_membarrier,
    // Threads, and what they wait for.
    libc::SYS_clone, libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_get_robust_list,
    libc::SYS_rseq, libc::SYS_set_tid_address, libc::SYS_exit, libc::SYS_exit_group,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler, libc::SYS_sched_getscheduler, libc::SYS_sched_setparam,
    libc::SYS_sched_getparam, libc::SYS_sched_setattr, libc::SYS_sched_getattr,
    libc::SYS_sched_get_priority_max, libc::SYS_sched_get_priority_min, libc::SYS_getpriority,
    libc::SYS_getcpu, libc::SYS_restart_syscall,
    // Time, signals to itself, randomness.
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep, libc::SYS_gettimeofday, libc::SYS_times, libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime, libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigpending, libc::SYS_rt_sigsuspend, libc::SYS_sigaltstack, libc::SYS_tgkill,
    libc::SYS_getrandom,
    // Sockets and readiness.
    libc::SYS_socket, libc::SYS_socketpair, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept,
    libc::SYS_accept4, libc::SYS_connect, libc::SYS_getsockname, libc::SYS_getpeername,
    libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_sendto, libc::SYS_recvfrom,
    libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg,
    libc::SYS_shutdown, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2, libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_eventfd2,
    libc::SYS_signalfd4, libc::SYS_inotify_init1, libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // What it is and may.
    libc::SYS_getpid, libc::SYS_gettid, libc::SYS_getppid, libc::SYS_getuid, libc::SYS_geteuid,
    libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getgroups, libc::SYS_getresuid,
    libc::SYS_getresgid, libc::SYS_getpgid, libc::SYS_getsid, libc::SYS_capget,
    libc::SYS_prlimit64, libc::SYS_getrusage, libc::SYS_sysinfo, libc::SYS_uname,
    // These can only take away, but for what `refused_arguments` names.
    libc::SYS_prctl, libc::SYS_seccomp, libc::SYS_capset,
];

/// The older names that some of them have on this processor alone.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access,
    libc::SYS_readlink, libc::SYS_getdents, libc::SYS_unlink, libc::SYS_rename,
    libc::SYS_renameat, libc::SYS_mkdir,
    libc::SYS_chmod, libc::SYS_pipe, libc::SYS_dup2, libc::SYS_poll, libc::SYS_select,
    libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_inotify_init,
    libc::SYS_getpgrp, libc::SYS_getrlimit, libc::SYS_time, libc::SYS_arch_prctl,
];
#[cfg(target_arch = "aarch64")]
const ALLOWED_HERE: &[c_long] = &[
    // renameat, which the C library's rename calls; the crate `libc` has no name for it here.
    38,
];

/// Calls that someone would make who got hold of the process.
#[rustfmt::skip]
const REFUSED: &[c_long] = &[
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev, libc::SYS_kill, libc::SYS_tkill, libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd, libc::SYS_pidfd_send_signal, libc::SYS_bpf, libc::SYS_perf_event_open,
    libc::SYS_userfaultfd, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register, libc::SYS_memfd_create, libc::SYS_keyctl, libc::SYS_add_key,
    libc::SYS_request_key, libc::SYS_mount, libc::SYS_umount2, libc::SYS_move_mount,
    libc::SYS_open_tree, libc::SYS_fsopen, libc::SYS_fsmount, libc::SYS_mount_setattr,
    libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_unshare, libc::SYS_setns,
    libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at, libc::SYS_mknodat,
    libc::SYS_linkat, libc::SYS_symlinkat, libc::SYS_fchown, libc::SYS_fchownat,
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setresuid, libc::SYS_setresgid,
    libc::SYS_setgroups, libc::SYS_init_module, libc::SYS_finit_module,
    libc::SYS_delete_module, libc::SYS_kexec_load, libc::SYS_reboot, libc::SYS_swapon,
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_sethostname, libc::SYS_syslog,
    libc::SYS_personality,
];

/// Restricts the calling thread.
///
/// # Errors
/// The kernel has no filters, or refused one.
pub(super) fn restrict() -> Result<(), Box<dyn Error>> {
    let all = |calls: &[c_long]| -> Rules { calls.iter().map(|call| (*call, vec![])).collect() };
    let mut allowed = all(ALLOWED);
    allowed.extend(all(ALLOWED_HERE));
    let mut refused = all(REFUSED);
    refused.extend(refused_arguments()?);
    let errno = |errno| SeccompAction::Errno(errno as u32);
    let filters = [
        filter(allowed, errno(libc::ENOSYS), SeccompAction::Allow)?,
        filter(refused, SeccompAction::Allow, errno(libc::EPERM))?,
    ];
    for filter in &filters {
        apply_filter(filter)?;
    }
    Ok(())
}

fn filter(
    rules: Rules,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let processor = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, others, these, processor)?.try_into()
}

/// Calls that are refused with some arguments only.
fn refused_arguments() -> Result<Rules, BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    const WRITE_EXEC: u64 = (libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    const EXEC: u64 = libc::PROT_EXEC as u64;
    const THREAD: u64 = libc::CLONE_THREAD as u64;
    let any = |alternatives: Vec<Result<SeccompRule, BackendError>>| {
        alternatives.into_iter().collect::<Result<Vec<_>, _>>()
    };
    let families = [
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_UNIX,
        libc::AF_NETLINK,
    ];
    let other_family = families.map(|family| (0, Ne, family as u64));
    Ok(Rules::from([
        // A thread is fine, a process is not.
        (
            libc::SYS_clone,
            any(vec![rule([(0, MaskedEq(THREAD), 0)])])?,
        ),
        (libc::SYS_socket, any(vec![rule(other_family)])?),
        (
            libc::SYS_prctl,
            any(vec![rule([(0, Eq, libc::PR_SET_DUMPABLE as u64)])])?,
        ),
        // Memory that is written is never run.
        (
            libc::SYS_mmap,
            any(vec![rule([(2, MaskedEq(WRITE_EXEC), WRITE_EXEC)])])?,
        ),
        (
            libc::SYS_mprotect,
            any(vec![rule([(2, MaskedEq(EXEC), EXEC)])])?,
        ),
        // To type into the terminal that the node was started from.
        (
            libc::SYS_ioctl,
            any(vec![
                rule([(1, Eq, libc::TIOCSTI)]),
                rule([(1, Eq, libc::TIOCLINUX)]),
            ])?,
        ),
    ]))
}

/// A rule that matches where every argument (by its number) compares as said, in its lower half, which is
/// all that the kernel reads of these.
fn rule<const N: usize>(
    arguments: [(u8, SeccompCmpOp, u64); N],
) -> Result<SeccompRule, BackendError> {
    let conditions = arguments.map(|(number, compared, value)| {
        SeccompCondition::new(number, SeccompCmpArgLen::Dword, compared, value)
    });
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_allowed_and_refused() {
        let allowed = |call: &&c_long| ALLOWED.contains(call) || ALLOWED_HERE.contains(call);
        let both: Vec<_> = REFUSED.iter().filter(allowed).collect();
        assert!(both.is_empty(), "{both:?}");
        for call in refused_arguments().unwrap().keys() {
            assert!(ALLOWED.contains(call), "{call}");
        }
    }
}
