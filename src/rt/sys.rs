//! Thin wrappers over system calls that neither std nor socket2 offers. Each is one call and its error.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use socket2::SockAddr;

use crate::base::time::Now;

/// Turns a return value of -1 into the error it stands for.
fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// CLOCK_MONOTONIC.
pub(super) fn clock() -> Now {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid timespec that the call fills in; CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut ts) };
    Now(ts.tv_sec.unsigned_abs() * 1_000_000_000 + ts.tv_nsec.unsigned_abs())
}

/// CPU time of the calling thread (CLOCK_THREAD_CPUTIME_ID).
pub(super) fn thread_cpu_ns() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as in `clock`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut ts) };
    ts.tv_sec.unsigned_abs() * 1_000_000_000 + ts.tv_nsec.unsigned_abs()
}

/// A non-blocking, close-on-exec eventfd.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers; its result is a fresh descriptor that nobody else owns.
    unsafe {
        let fd = check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Adds one to an eventfd. A full counter (EAGAIN) has woken its reader already.
pub(super) fn eventfd_signal(fd: RawFd) {
    let one: u64 = 1;
    // SAFETY: eight readable bytes, as eventfd(2) wants; a wrong descriptor is an error, not memory unsafety.
    unsafe { libc::write(fd, (&raw const one).cast(), 8) };
}

/// Blocks until the other side of a terminal, pipe or socket is gone. For threads that are no core.
///
/// # Errors
/// Those of poll(2).
pub fn wait_hangup(fd: BorrowedFd<'_>) -> io::Result<()> {
    wait_for(fd, 0)
}

/// The same until there is something to read.
pub(super) fn wait_readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    wait_for(fd, libc::POLLIN)
}

fn wait_for(fd: BorrowedFd<'_>, events: i16) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    loop {
        // SAFETY: one valid pollfd for the call to read and fill in.
        match check(unsafe { libc::poll(&raw mut poll, 1, -1) }) {
            Ok(_) if poll.revents & libc::POLLNVAL == 0 => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::InvalidInput.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// RLIMIT_NOFILE or RLIMIT_MEMLOCK as (soft, hard).
pub(super) fn rlimit(resource: Limit) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call to fill in.
    check(unsafe { libc::getrlimit(resource.number(), &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Raises the soft limit to the hard limit and returns it.
pub(super) fn raise_rlimit(resource: Limit) -> io::Result<u64> {
    let (_, hard) = rlimit(resource)?;
    let limit = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: `limit` is valid for the call to read.
    check(unsafe { libc::setrlimit(resource.number(), &raw const limit) })?;
    Ok(hard)
}

/// Takes a limit away, hard and soft (CAP_SYS_RESOURCE).
pub(super) fn lift_rlimit(resource: Limit) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is valid for the call to read.
    check(unsafe { libc::setrlimit(resource.number(), &raw const limit) }).map(drop)
}

/// A resource limit that we look at.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    /// Open files.
    Files,
    /// Locked memory in bytes.
    LockedMemory,
}

impl Limit {
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Limit::Files => libc::RLIMIT_NOFILE,
            Limit::LockedMemory => libc::RLIMIT_MEMLOCK,
        }
    }
}

/// Nice value of threads that stand back: about a tenth of the share of a core's thread on the same CPU (sched(7)).
const BACKGROUND_NICE: i32 = 10;

/// Lowers the priority of the calling thread.
pub(super) fn lower_priority() {
    // SAFETY: setpriority takes no pointers; 0 is the calling thread on Linux. If it is refused the thread is merely ruder.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, BACKGROUND_NICE) };
}

/// The CPUs this process may run on, ascending.
pub(super) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a zeroed cpu_set_t is an empty set; the call writes at most its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set))?;
        set
    };
    // SAFETY: CPU_ISSET reads one bit of the set; every number below CPU_SETSIZE is inside it.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Moves the calling thread to these CPUs and to the lowest priority; what fails is left as it is.
pub(super) fn background_thread(cpus: &[usize]) {
    place_thread(cpus, 19);
}

/// Nice value of threads that somebody waits for: about a third of the share of a core's thread on the same CPU (sched(7)).
const SIDE_NICE: i32 = 5;

/// Moves the calling thread to these CPUs, a little behind the cores; what fails is left as it is.
pub(super) fn side_thread(cpus: &[usize]) {
    place_thread(cpus, SIDE_NICE);
}

fn place_thread(cpus: &[usize], nice: i32) {
    // SAFETY: a zeroed cpu_set_t is an empty set; CPU_SET writes one bit of it and numbers beyond it are left out; the calls read
    // the set and concern the calling thread alone (on Linux a niceness belongs to a thread).
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
        libc::setpriority(libc::PRIO_PROCESS, 0, nice);
    }
}

/// Host name of this machine.
pub(super) fn hostname() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: the buffer is writable for its length less one, so a terminating zero is always left.
    let result = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let len = name.iter().position(|&b| b == 0).unwrap_or(0);
    if result == 0 { String::from_utf8_lossy(&name[..len]).into_owned() } else { String::new() }
}

/// Kernel release as (major, minor).
pub(super) fn kernel_version() -> io::Result<(u32, u32)> {
    // SAFETY: utsname is plain bytes; zero is valid and the call fills it in with terminated strings.
    let name = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        check(libc::uname(&raw mut name))?;
        name
    };
    let release: String =
        name.release.iter().take_while(|&&c| c != 0).map(|&c| c.cast_unsigned() as char).collect();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse().unwrap_or(0));
    Ok((parts.next().unwrap_or(0), parts.next().unwrap_or(0)))
}

/// Whether something disciplines the clock (adjtimex(2)).
pub(super) fn is_clock_synchronised() -> io::Result<bool> {
    // SAFETY: a zeroed timex with `modes` 0 asks and changes nothing; the call fills it in.
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (check(libc::adjtimex(&raw mut timex))?, timex.status)
    };
    Ok(state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0)
}

/// A non-blocking, close-on-exec pipe as (read end, write end).
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors; both are fresh and owned by nobody else.
    unsafe {
        check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Sets the capacity of a pipe; returns what the kernel gave.
pub(super) fn set_pipe_size(pipe: &OwnedFd, bytes: u32) -> io::Result<u32> {
    let wanted = i32::try_from(bytes).unwrap_or(i32::MAX);
    // SAFETY: no pointers.
    let got = check(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, wanted) })?;
    Ok(got.unsigned_abs())
}

/// splice(2), non-blocking on both ends.
pub(super) fn splice(from: RawFd, to: RawFd, len: usize, more: bool) -> io::Result<usize> {
    let mut flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    if more {
        flags |= libc::SPLICE_F_MORE;
    }
    // SAFETY: null offsets are what pipes and sockets want; the descriptors are only named.
    let moved = unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), len, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// IORING_REGISTER_PBUF_STATUS.
const BUFFER_RING_STATUS: libc::c_uint = 26;

/// `struct io_uring_buf_status`.
#[repr(C)]
#[derive(Default)]
struct BufferRingStatus {
    group: u32,
    head: u32,
    reserved: [u32; 8],
}

/// The next entry of a ring of provided buffers that the kernel takes; `None`: it is older than 6.8 and does not tell.
pub(super) fn buffer_ring_head(ring: RawFd, group: u16) -> Option<u16> {
    let mut status = BufferRingStatus { group: group.into(), ..BufferRingStatus::default() };
    // SAFETY: the kernel reads and writes `status`, which has the layout that it expects for this one argument.
    let told = unsafe {
        let argument = (&raw mut status).cast::<libc::c_void>();
        libc::syscall(libc::SYS_io_uring_register, ring, BUFFER_RING_STATUS, argument, 1_u32)
    };
    // It counts in the 16 bits of the ring's tail.
    (told == 0).then(|| u16::try_from(status.head & u32::from(u16::MAX)).expect("masked"))
}

/// recv(2), non-blocking, with flags (MSG_PEEK).
pub(super) fn recv(fd: RawFd, buf: &mut [u8], flags: i32) -> io::Result<usize> {
    // SAFETY: `buf` is writable for its length.
    let n = unsafe { libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), flags | libc::MSG_DONTWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// send(2) with flags.
pub(super) fn send(fd: RawFd, bytes: &[u8], flags: i32) -> io::Result<usize> {
    // SAFETY: `bytes` is readable for its length.
    let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// accept4(2), non-blocking; the connection is non-blocking and close-on-exec.
pub(super) fn accept(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no address is asked for; the result is a fresh descriptor.
    unsafe {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let conn = check(libc::accept4(fd, ptr::null_mut(), ptr::null_mut(), flags))?;
        Ok(OwnedFd::from_raw_fd(conn))
    }
}

/// shutdown(2).
pub(super) fn shutdown(fd: RawFd, how: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::shutdown(fd, how) }).map(drop)
}

/// SO_PEERCRED of a UNIX socket: user id and process id.
pub(super) fn peer_credentials(fd: RawFd) -> Option<(u32, i32)> {
    let mut who = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).expect("twelve bytes");
    // SAFETY: the kernel writes at most `len` bytes of `who`, which is plain data.
    let got = unsafe {
        let value = (&raw mut who).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, value, &raw mut len)
    };
    // A TCP socket answers with process 0.
    (got == 0 && who.pid != 0).then_some((who.uid, who.pid))
}

/// Who is at the other end of a TCP socket, or was: it may have been reset (SO_PEERNAME, which getpeername(2) would refuse).
pub(super) fn peer_name(fd: RawFd) -> io::Result<SockAddr> {
    let ask = |size: usize| {
        // SAFETY: there is room for any address, the kernel writes at most `len` bytes of one, and for the size that it is it
        // writes all of it.
        let name = unsafe {
            SockAddr::try_init(|name, len| {
                *len = libc::socklen_t::try_from(size).expect("a few bytes");
                check(libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERNAME, name.cast(), len))
            })
        };
        name.map(|(_, name)| name)
    };
    // EINVAL: it is shorter than what was asked for.
    ask(size_of::<libc::sockaddr_in6>()).or_else(|_| ask(size_of::<libc::sockaddr_in>()))
}

/// setsockopt(2) with an integer.
pub(super) fn setsockopt_int(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<i32>()).expect("four bytes");
    // SAFETY: the kernel reads `len` bytes of `value`.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) }).map(drop)
}

/// getsockopt(2) for an int.
pub(super) fn getsockopt_int(fd: RawFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value = 0;
    let mut len = libc::socklen_t::try_from(size_of::<i32>()).expect("four bytes");
    // SAFETY: the kernel writes at most `len` bytes to `value`, and how many to `len`.
    check(unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) })?;
    Ok(value)
}

/// Takes the program of a SO_REUSEPORT group away: the kernel's hash decides (SO_DETACH_REUSEPORT_BPF, socket(7)).
pub(super) fn detach_reuseport(fd: RawFd) -> io::Result<()> {
    match setsockopt_int(fd, libc::SOL_SOCKET, libc::SO_DETACH_REUSEPORT_BPF, 0) {
        // There is none.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// close(2) for descriptors that are not in a ring, such as one received for an operation that was given up.
pub(super) fn close(fd: RawFd) {
    // SAFETY: the caller owns `fd` and gives it up here.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// Attaches to a SO_REUSEPORT group the program "the socket whose CPU received the packet": `cpus` are the CPUs of the
/// sockets in the order in which they listen. The kernel falls back to its hash where the answer is past the group
/// (SO_ATTACH_REUSEPORT_CBPF, socket(7)).
pub(super) fn attach_reuseport_cpu(fd: RawFd, cpus: &[usize]) -> io::Result<()> {
    /// SKF_AD_OFF + SKF_AD_CPU: the CPU number as a virtual load offset.
    const CPU_NUMBER: u32 = (-0x1000_i32 + 36).cast_unsigned();
    /// BPF_LD | BPF_W | BPF_ABS
    const LOAD: u16 = 0x20;
    /// BPF_JMP | BPF_JEQ | BPF_K
    const JUMP_EQUAL: u16 = 0x15;
    /// BPF_RET | BPF_K
    const RETURN: u16 = 0x06;
    let number = |n: usize| u32::try_from(n).map_err(io::Error::other);
    let mut program = vec![libc::sock_filter { code: LOAD, jt: 0, jf: 0, k: CPU_NUMBER }];
    for (socket, cpu) in cpus.iter().enumerate() {
        program.push(libc::sock_filter { code: JUMP_EQUAL, jt: 0, jf: 1, k: number(*cpu)? });
        program.push(libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: number(socket)? });
    }
    program.push(libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: u32::MAX });
    let count = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len: count, filter: program.as_mut_ptr() };
    let len = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).expect("small");
    // SAFETY: `filter` points at `count` instructions that live until the call returns; the kernel copies them.
    check(unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            len,
        )
    })
    .map(drop)
}

/// Blocks the signals in the calling thread (threads made later inherit that) and returns a descriptor to read them from.
pub(super) fn signalfd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; the result is a fresh descriptor.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        let result = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Sends a signal to a process (kill(2)).
pub(super) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill(2) takes two numbers and touches no memory of ours.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ignores SIGPIPE in the whole process.
pub(super) fn ignore_sigpipe() {
    // SAFETY: SIG_IGN is a valid disposition and no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Seconds east of Greenwich that local time is ahead at a UNIX time (the TZ variable or /etc/localtime).
pub(super) fn local_offset(unix_s: i64) -> i32 {
    // SAFETY: a zeroed `tm` is valid; the call reads the time and writes the broken-down time, both ours.
    unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&raw const unix_s, &raw mut tm).is_null() {
            return 0;
        }
        i32::try_from(tm.tm_gmtoff).unwrap_or(0)
    }
}

/// Datagrams that one call of [`send_datagrams`] sends at most: their headers are on the stack.
pub(super) const DATAGRAMS_MAX: usize = 64;

/// Datagrams that one message may be cut into, and the bytes of it: what the kernel takes (udp(7), UDP_SEGMENT).
const SEGMENTS_MAX: usize = 64;
const SEGMENTED_BYTES_MAX: usize = 60_000;

/// Room for one control message with a `u16`.
type SegmentControl = [u64; 4];

/// Sends datagrams over a connected socket without waiting; how many went out. An error stands for the first of them
/// alone, or the first message. `segments`: neighbours of the same length go as one message that the kernel cuts
/// (UDP only), which saves most of what a datagram costs.
pub(super) fn send_datagrams(fd: RawFd, datagrams: &[io::IoSlice<'_>], segments: bool) -> io::Result<usize> {
    // SAFETY: zeroed headers are valid: null pointers with zero lengths.
    let mut headers: [libc::mmsghdr; DATAGRAMS_MAX] = unsafe { std::mem::zeroed() };
    let mut controls: [SegmentControl; DATAGRAMS_MAX] = [[0; 4]; DATAGRAMS_MAX];
    let mut runs = [0_usize; DATAGRAMS_MAX];
    let (mut at, mut count) = (0, 0);
    while at < datagrams.len() && count < DATAGRAMS_MAX {
        let len = datagrams[at].len();
        let most = SEGMENTS_MAX.min(SEGMENTED_BYTES_MAX / len.max(1)).max(1);
        let alike = datagrams[at..].iter().take(most).take_while(|other| other.len() == len).count();
        let run = if segments { alike.max(1) } else { 1 };
        let header = &mut headers[count].msg_hdr;
        // IoSlice has the layout of iovec (std's promise); sendmmsg only reads it.
        header.msg_iov = ptr::from_ref(&datagrams[at]).cast_mut().cast();
        header.msg_iovlen = run as _;
        if run > 1 {
            header.msg_control = controls[count].as_mut_ptr().cast();
            put_segment_size(header, u16::try_from(len).map_err(io::Error::other)?);
        }
        runs[count] = run;
        (at, count) = (at + run, count + 1);
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let count = libc::c_uint::try_from(count).map_err(io::Error::other)?;
    // SAFETY: `headers` has at least `count` entries; each points at iovecs that live as long as `datagrams`, `runs` of them
    // in a row, and at a control message in `controls` or none.
    let sent = check(unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count, flags as _) })?;
    Ok(runs.iter().take(usize::try_from(sent).unwrap_or(0)).sum())
}

/// Fills in the control message that says how long the datagrams of a message are.
fn put_segment_size(header: &mut libc::msghdr, size: u16) {
    let len = libc::c_uint::from(u16::BITS / 8);
    // SAFETY: computes sizes alone.
    let (space, cmsg_len) = unsafe { (libc::CMSG_SPACE(len), libc::CMSG_LEN(len)) };
    assert!(space as usize <= size_of::<SegmentControl>(), "sized for it");
    header.msg_controllen = space as _;
    // SAFETY: `msg_control` points at a zeroed, aligned SegmentControl, which has room for the message by the assertion.
    unsafe {
        let cmsg = libc::CMSG_FIRSTHDR(header);
        (*cmsg).cmsg_level = libc::SOL_UDP;
        (*cmsg).cmsg_type = libc::UDP_SEGMENT;
        (*cmsg).cmsg_len = cmsg_len as _;
        ptr::write_unaligned(libc::CMSG_DATA(cmsg).cast(), size);
    }
}
