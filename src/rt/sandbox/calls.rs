//! System calls inside the sandbox: what a load balancer and the C libraries below it make, and how everything else is answered.
//! Three filters: what is known and refused answers EPERM; what is not in the list of what is made answers ENOSYS, which is what a C
//! library understands that tries a newer call first. The kernel writes each refusal to its audit log (type=1326, with the number
//! of the call), but for those that are part of each start of a thread. Calls of the list that have no condition cost nothing: the kernel remembers that they are allowed.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// Made by this program, by glommio, Rust's library, glibc or musl: files, sockets, io_uring, memory, threads, signals, time.
pub(super) const MADE: &[c_long] = &[
    // io_uring, and waiting without it.
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    // Sockets.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socket,
    libc::SYS_socketpair,
    // Files and pipes.
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_tee,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_vmsplice,
    libc::SYS_write,
    libc::SYS_writev,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munmap,
    // Threads and the process itself.
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_clone,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_get_mempolicy,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_mbind,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_rseq,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_set_mempolicy,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setpriority,
    libc::SYS_setrlimit,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // Signals.
    libc::SYS_kill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_tgkill,
    libc::SYS_tkill,
    // Time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getitimer,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_setitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
];

/// Older names of the same, which other architectures never had.
#[cfg(target_arch = "x86_64")]
pub(super) const MADE_BEFORE: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_signalfd,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const MADE_BEFORE: &[c_long] = &[];

/// What a load balancer has no use for and attacks on programs or kernels begin with: other programs, other processes, mounts,
/// modules, clocks. Whoever meets one of these is to read "Operation not permitted".
const REFUSED: &[c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_memfd_create,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];
#[cfg(target_arch = "x86_64")]
const REFUSED_BEFORE: &[c_long] = &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_ioperm, libc::SYS_iopl];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_BEFORE: &[c_long] = &[];

/// A call, one of its arguments, which of that one's bits are looked at, and what they are when it is refused: a process of its
/// own (`clone` without CLONE_THREAD), memory that is written and run, memory that was written and is to be run.
const REFUSED_IF: &[(c_long, u8, i32, i32)] = &[
    (libc::SYS_clone, 0, libc::CLONE_THREAD, 0),
    (libc::SYS_mmap, 2, libc::PROT_WRITE | libc::PROT_EXEC, libc::PROT_WRITE | libc::PROT_EXEC),
    (libc::SYS_mprotect, 2, libc::PROT_EXEC, libc::PROT_EXEC),
];

/// What C libraries try first, with flags that a filter cannot see: they use `clone` when there is no such call. It says nothing
/// about what goes on here, so that it is not worth a line of the log for each thread.
const TRIED: &[c_long] = &[libc::SYS_clone3];

const EVERY_THREAD: libc::c_ulong = libc::SECCOMP_FILTER_FLAG_TSYNC;

/// Puts the filters in force for all threads, for good.
pub(super) fn restrict() -> io::Result<()> {
    let [made, refused, tried] = programs().map_err(io::Error::other)?;
    // Later calls are made through the filters before, so the list must have what installs them.
    install(&made, EVERY_THREAD | libc::SECCOMP_FILTER_FLAG_LOG)?;
    install(&refused, EVERY_THREAD | libc::SECCOMP_FILTER_FLAG_LOG)?;
    install(&tried, EVERY_THREAD)
}

fn programs() -> Result<[BpfProgram; 3], BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let errno = |number: i32| SeccompAction::Errno(number.unsigned_abs());
    let always = |lists: [&[c_long]; 4]| -> BTreeMap<i64, Vec<SeccompRule>> {
        lists.into_iter().flatten().map(|call| (*call, Vec::new())).collect()
    };
    let mut known = always([MADE, MADE_BEFORE, REFUSED, REFUSED_BEFORE]);
    known.append(&mut always([TRIED, &[], &[], &[]]));
    let made = SeccompFilter::new(known, errno(libc::ENOSYS), SeccompAction::Allow, arch)?;
    let mut rules = always([REFUSED, REFUSED_BEFORE, &[], &[]]);
    for (call, argument, mask, value) in REFUSED_IF {
        let bits = |of: i32| u64::from(of.unsigned_abs());
        let condition =
            SeccompCondition::new(*argument, Len::Qword, Op::MaskedEq(bits(*mask)), bits(*value))?;
        rules.insert(*call, vec![SeccompRule::new(vec![condition])?]);
    }
    let refused = SeccompFilter::new(rules, SeccompAction::Allow, errno(libc::EPERM), arch)?;
    let tried = always([TRIED, &[], &[], &[]]);
    let tried = SeccompFilter::new(tried, SeccompAction::Allow, errno(libc::ENOSYS), arch)?;
    Ok([made.try_into()?, refused.try_into()?, tried.try_into()?])
}

/// As `seccompiler::apply_filter` does, with flags of ours.
pub(super) fn install(program: &BpfProgram, flags: libc::c_ulong) -> io::Result<()> {
    let rules = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: prctl takes numbers alone.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `rules` points to `len` instructions of the layout of `sock_filter` (seccompiler's type is its mirror), which live
    // as long as `program`; the kernel copies them and writes nothing.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const rules) }
    {
        0 => Ok(()),
        ..0 => Err(io::Error::last_os_error()),
        thread => {
            Err(io::Error::other(format!("thread {thread} cannot be restricted: it has a filter of its own")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_order_and_name_each_call_once() {
        for list in [MADE_BEFORE, REFUSED] {
            assert!(!list.is_empty());
        }
        let all: Vec<c_long> = [MADE, MADE_BEFORE, REFUSED, REFUSED_BEFORE, TRIED].concat();
        let different: std::collections::BTreeSet<c_long> = all.iter().copied().collect();
        assert_eq!(all.len(), different.len(), "a call is in two lists");
        for program in programs().expect("they compile") {
            assert!(program.len() < usize::from(u16::MAX));
        }
    }

    /// A process of its own tries what the filters are about: they are for good.
    #[test]
    fn what_is_refused_says_so_and_the_rest_works() {
        const INSIDE: &str = "SHARDGATE_TEST_SANDBOX";
        if std::env::var_os(INSIDE).is_none() {
            let this = std::env::current_exe().expect("it runs");
            let name = "rt::sandbox::calls::tests::what_is_refused_says_so_and_the_rest_works";
            let child = std::process::Command::new(this).args(["--exact", name]).env(INSIDE, "1").output();
            let child = child.expect("it starts");
            let said = String::from_utf8_lossy(&child.stdout);
            assert!(child.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        restrict().expect("the kernel takes them");
        let errno = || io::Error::last_os_error().raw_os_error();
        let program = std::process::Command::new("/bin/true").spawn();
        assert_eq!(program.expect_err("no process of its own").raw_os_error(), Some(libc::EPERM));
        let protection = libc::PROT_WRITE | libc::PROT_EXEC;
        let map = |protection: i32| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new mapping at an address that the kernel chooses.
            unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) }
        };
        assert_eq!((map(protection), errno()), (libc::MAP_FAILED, Some(libc::EPERM)));
        let page = map(libc::PROT_WRITE);
        assert_ne!(page, libc::MAP_FAILED);
        // SAFETY: the page mapped above, which nothing else uses.
        let run = unsafe { libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC) };
        assert_eq!((run, errno()), (-1, Some(libc::EPERM)));
        // SAFETY: these take numbers alone, and fail before they look at them.
        let unknown = unsafe { libc::syscall(libc::SYS_inotify_init1, 0) };
        assert_eq!((unknown, errno()), (-1, Some(libc::ENOSYS)));
        // Threads, files, sockets and names.
        let thread = std::thread::spawn(|| std::fs::read("/proc/self/status").map(|text| text.len()));
        assert!(thread.join().expect("it ends").expect("readable") > 0);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let name = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", address.port())).expect("a name");
        assert!(name.count() > 0);
        std::net::TcpStream::connect(address).expect("connected");
    }
}
