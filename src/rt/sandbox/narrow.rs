//! System calls of a data core, which reads what strangers send: a filter of its thread alone, beneath those of the process
//! (`calls`). It serves connections and opens none of the rest: it writes to no file that it opens, makes and signals no thread
//! or process, no further ring, and no socket but of TCP, UDP and UNIX. What its ring does for it is beyond filters; Landlock and
//! capabilities hold there. Whatever else the process makes answers EPERM on a data core and is written to the kernel's audit log.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use super::calls::{self, install};

/// Made while connections are served, when they are few, many, or none, and when a configuration comes or goes.
const MADE: &[c_long] = &[
    // Both rings of glommio and ours, and how they wake each other.
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_timerfd_settime,
    // Connections and listeners.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Pipes of a relay, and what is open.
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_splice,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mlock,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munlock,
    libc::SYS_munmap,
    // The thread itself, and how it panics.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_uname,
    // Time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
];

/// Older names of the same, which other architectures never had.
#[cfg(target_arch = "x86_64")]
const MADE_BEFORE: &[c_long] = &[
    libc::SYS_arch_prctl,
    libc::SYS_eventfd,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const MADE_BEFORE: &[c_long] = &[];

/// A call that some are refused of, and rules any of which is a reason: conditions that all hold. A condition is an argument, which
/// of its bits are looked at, and what they are, or (`Op::Ne`) are not.
type Refused = (c_long, &'static [&'static [(u8, Op, i32)]]);

/// Files are read: local time, and what a panic says of its place. Other than these kinds of sockets are for administrators.
const REFUSED_IF: &[Refused] = &[
    (
        libc::SYS_openat,
        &[
            &writes(2, libc::O_WRONLY),
            &writes(2, libc::O_RDWR),
            &makes(2, libc::O_CREAT),
            &makes(2, libc::O_TRUNC),
        ],
    ),
    #[cfg(target_arch = "x86_64")]
    (
        libc::SYS_open,
        &[
            &writes(1, libc::O_WRONLY),
            &writes(1, libc::O_RDWR),
            &makes(1, libc::O_CREAT),
            &makes(1, libc::O_TRUNC),
        ],
    ),
    (
        libc::SYS_socket,
        &[&[(0, Op::Ne, libc::AF_INET), (0, Op::Ne, libc::AF_INET6), (0, Op::Ne, libc::AF_UNIX)]],
    ),
];

const fn writes(argument: u8, mode: i32) -> [(u8, Op, i32); 1] {
    [(argument, Op::MaskedEq(libc::O_ACCMODE.unsigned_abs() as u64), mode)]
}

const fn makes(argument: u8, flag: i32) -> [(u8, Op, i32); 1] {
    [(argument, Op::MaskedEq(flag.unsigned_abs() as u64), flag)]
}

/// Puts the filter in force for the calling thread and those that it makes, for good.
///
/// # Errors
/// The kernel does not take it.
pub(in crate::rt) fn narrow() -> io::Result<()> {
    install(&program().map_err(io::Error::other)?, libc::SECCOMP_FILTER_FLAG_LOG)
}

/// Refuses what the process makes and a data core does not. What the process does not make is answered by its own filters, as C
/// libraries want it.
fn program() -> Result<BpfProgram, BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let by_core = |call: &c_long| MADE.contains(call) || MADE_BEFORE.contains(call);
    let by_process = [calls::MADE, calls::MADE_BEFORE].into_iter().flatten();
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        by_process.filter(|call| !by_core(call)).map(|call| (*call, Vec::new())).collect();
    for (call, rules) in REFUSED_IF {
        let condition = |(argument, op, value): &(u8, Op, i32)| {
            SeccompCondition::new(*argument, Len::Dword, op.clone(), u64::from(value.unsigned_abs()))
        };
        let rule =
            |all: &&[(u8, Op, i32)]| SeccompRule::new(all.iter().map(condition).collect::<Result<_, _>>()?);
        refused.insert(*call, rules.iter().map(rule).collect::<Result<_, _>>()?);
    }
    let answer = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(refused, SeccompAction::Allow, answer, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_makes_no_call_that_the_process_does_not_make() {
        let process = [calls::MADE, calls::MADE_BEFORE].concat();
        for call in MADE.iter().chain(MADE_BEFORE) {
            assert!(process.contains(call), "{call}");
        }
        assert!((MADE.len() + MADE_BEFORE.len()) * 2 < process.len());
    }

    /// In a process of its own: filters are for good.
    #[test]
    fn a_narrow_thread_reads_and_serves_and_the_others_do_as_before() {
        const INSIDE: &str = "SHARDGATE_TEST_NARROW";
        if std::env::var_os(INSIDE).is_none() {
            let this = std::env::current_exe().expect("it runs");
            let name =
                "rt::sandbox::narrow::tests::a_narrow_thread_reads_and_serves_and_the_others_do_as_before";
            let child = std::process::Command::new(this).args(["--exact", name]).env(INSIDE, "1").output();
            let child = child.expect("it starts");
            let said = String::from_utf8_lossy(&child.stdout);
            assert!(child.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        calls::restrict().expect("the kernel takes it");
        let dir = tempfile::tempdir().expect("a directory");
        let (file, other) = (dir.path().join("file"), dir.path().join("other"));
        std::fs::write(&file, "x").expect("written");
        let inside = std::thread::spawn({
            let other = other.clone();
            move || {
                narrow().expect("the kernel takes it");
                let refused = |result: io::Result<()>, what: &str| {
                    let number = result.expect_err(what).raw_os_error();
                    assert_eq!(number, Some(libc::EPERM), "{what}");
                };
                refused(std::fs::write(&other, "x"), "a new file");
                refused(std::fs::OpenOptions::new().append(true).open(&file).map(drop), "a file to write to");
                refused(std::fs::remove_file(&file), "a file to remove");
                refused(std::thread::Builder::new().spawn(|| ()).map(drop), "a thread");
                // SAFETY: these take numbers alone, or fail before they look at what is not there.
                let calls = unsafe {
                    [
                        libc::syscall(libc::SYS_kill, libc::getpid(), 0),
                        libc::syscall(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 0),
                        libc::syscall(libc::SYS_socket, libc::AF_PACKET, libc::SOCK_RAW, 0),
                        libc::syscall(libc::SYS_io_uring_setup, 8, 0),
                        libc::syscall(libc::SYS_ioctl, 0, 0, 0),
                        libc::syscall(libc::SYS_prctl, libc::PR_GET_DUMPABLE, 0, 0, 0, 0),
                    ]
                };
                assert_eq!(calls, [-1; 6]);
                assert_eq!(std::fs::read(&file).expect("readable"), b"x");
                let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
                let address = listener.local_addr().expect("bound");
                let client = std::net::TcpStream::connect(address).expect("connected");
                drop((client, listener.accept().expect("accepted")));
                std::net::UdpSocket::bind("[::1]:0")
                    .or_else(|_| std::net::UdpSocket::bind("127.0.0.1:0"))
                    .expect("a port");
                std::os::unix::net::UnixDatagram::unbound().expect("a socket");
            }
        });
        inside.join().expect("as it should be");
        std::fs::write(&other, "y").expect("this thread writes");
        std::thread::spawn(|| ()).join().expect("and makes threads");
    }
}
