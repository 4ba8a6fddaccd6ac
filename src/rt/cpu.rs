//! Cores: one pinned thread with a glommio executor and a ring each, and the driver that moves both.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

use super::mailbox::{CoreWaker, Mailbox};
use super::op::Reaped;
use super::sys::Limit;
use super::{ring, sys};

/// The first kernel with everything that the ring uses (SINGLE_ISSUER and DEFER_TASKRUN).
const KERNEL_MIN: (u32, u32) = (6, 1);
/// What glommio's own rings need of RLIMIT_MEMLOCK, in bytes per core.
const LOCKED_BYTES_PER_CORE: u64 = 512 * 1024;
/// Passes of the driver without entering the kernel while tasks keep each other runnable.
const PASSES_MAX: u32 = 16;
/// glommio looks after its own rings this often; nothing of ours waits there, and each look wakes the core.
const PREEMPT_TIMER: Duration = Duration::from_secs(3600);

thread_local! {
    /// Polls of tasks on this core: tells the driver whether anything ran since it last looked.
    static POLLS: Cell<u64> = const { Cell::new(0) };
    /// Polls as they were when a task began to wait for something to happen; the greatest number: none waits.
    static STILL_SINCE: Cell<u64> = const { Cell::new(u64::MAX) };
    /// That task.
    static STILL: RefCell<Option<Waker>> = const { RefCell::new(None) };
    /// The core has stopped: its tasks are only dropped any more.
    static STOPPED: Cell<bool> = const { Cell::new(false) };
    /// Passes of the driver.
    static LOOPS: Cell<u64> = const { Cell::new(0) };
    /// Tasks of this core that are not over.
    static TASKS: Cell<u64> = const { Cell::new(0) };
    /// Panics caught on this core.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// A core to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoreSpec {
    /// Thread name, at most 15 bytes are shown by the kernel.
    pub name: String,
    /// CPU to pin it to.
    pub cpu: usize,
    /// Receive buffers at the most.
    pub buffers: u16,
    /// Whether it gives up the system calls that only other threads make (`sandbox::narrow`).
    pub narrow: bool,
}

/// Why cores could not be started: one line that says what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// A core before it runs: where its mailboxes come from.
#[derive(Debug)]
pub struct Booted {
    spec: CoreSpec,
    waker: Arc<CoreWaker>,
}

impl Booted {
    /// A new mailbox of this core.
    pub fn mailbox<M>(&self) -> Mailbox<M> {
        Mailbox::new(self.waker.clone())
    }
}

/// Checks that this machine can run the cores, and prepares them.
pub fn boot(specs: Vec<CoreSpec>) -> Result<Vec<Booted>, StartError> {
    check_machine(&specs)?;
    specs
        .into_iter()
        .map(|spec| {
            let waker = CoreWaker::new().map_err(|e| StartError(format!("cannot make an eventfd: {e}")))?;
            Ok(Booted { spec, waker })
        })
        .collect()
}

fn check_machine(specs: &[CoreSpec]) -> Result<(), StartError> {
    let kernel = sys::kernel_version().map_err(|e| StartError(format!("uname failed: {e}")))?;
    if kernel < KERNEL_MIN {
        let ((major, minor), (want_major, want_minor)) = (kernel, KERNEL_MIN);
        return Err(StartError(format!(
            "kernel {major}.{minor} is too old: io_uring as used here needs {want_major}.{want_minor} or newer; \
             boot a newer kernel (Debian 12 and later have one)"
        )));
    }
    let cpus = sys::allowed_cpus().map_err(|e| StartError(format!("cannot read the CPU affinity: {e}")))?;
    for spec in specs {
        if !cpus.contains(&spec.cpu) {
            return Err(StartError(format!(
                "core {} does not exist or is not allowed to this process (allowed: {cpus:?}); change `cores` or \
                 `control-core` in [global]",
                spec.cpu
            )));
        }
    }
    ring::probe().map_err(|e| StartError(explain_ring(&e)))?;
    let needed = LOCKED_BYTES_PER_CORE;
    match sys::raise_rlimit(Limit::LockedMemory) {
        Ok(limit) if limit >= needed => Ok(()),
        Ok(limit) => Err(StartError(format!(
            "the locked-memory limit is {limit} bytes and io_uring needs {needed}; run `ulimit -l unlimited`, or set \
             LimitMEMLOCK=infinity in the unit"
        ))),
        Err(e) => Err(StartError(format!("cannot read the locked-memory limit: {e}"))),
    }
}

/// What an error of io_uring_setup(2) means to an operator.
fn explain_ring(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!(
            "io_uring is forbidden to this process ({error}); set sysctl kernel.io_uring_disabled=0, or allow io_uring_setup \
             in the container's seccomp profile"
        ),
        Some(libc::ENOSYS) => {
            "this kernel or sandbox has no io_uring; use a kernel with CONFIG_IO_URING=y, and outside of \
                               gVisor and similar sandboxes"
                .to_owned()
        }
        Some(libc::ENOMEM) => {
            "no memory for an io_uring: raise the locked-memory limit (`ulimit -l unlimited`, or \
                               LimitMEMLOCK=infinity in the unit)"
                .to_owned()
        }
        Some(libc::EINVAL) => format!(
            "this kernel's io_uring lacks what is needed ({error}); kernel {}.{} or newer has it",
            KERNEL_MIN.0, KERNEL_MIN.1
        ),
        _ => format!("cannot set up io_uring: {error}"),
    }
}

/// The cores that run.
#[derive(Debug)]
pub struct Cores {
    handles: Vec<(String, glommio::ExecutorJoinHandle<Result<(), StartError>>)>,
}

impl Cores {
    /// None yet.
    pub fn new() -> Self {
        Cores { handles: Vec::new() }
    }

    /// Starts a core; `main` makes its first task there. The core stops when that task is done.
    pub fn start<F, T>(&mut self, booted: Booted, main: F) -> Result<(), StartError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Future<Output = ()> + 'static,
    {
        let Booted { spec, waker } = booted;
        let name = spec.name.clone();
        let (buffers, narrow) = (spec.buffers, spec.narrow);
        let handle = LocalExecutorBuilder::new(Placement::Fixed(spec.cpu))
            .name(&spec.name)
            .preempt_timer(PREEMPT_TIMER)
            // glommio's own IO is not used: a small share of memory for its rings is enough.
            .io_memory(64 * 1024)
            .ring_depth(8)
            .spawn(move || core_main(waker, buffers, narrow, main))
            .map_err(|e| StartError(format!("cannot start the thread {name}: {e}")))?;
        self.handles.push((name, handle));
        Ok(())
    }

    /// Waits until all cores have stopped.
    pub fn join(self) -> Result<(), StartError> {
        let mut result = Ok(());
        for (name, handle) in self.handles {
            let outcome = match handle.join() {
                Ok(outcome) => outcome,
                Err(e) => Err(StartError(format!("core {name} failed: {e}"))),
            };
            result = result.and(outcome);
        }
        result
    }
}

impl Default for Cores {
    fn default() -> Self {
        Self::new()
    }
}

async fn core_main<F, T>(waker: Arc<CoreWaker>, buffers: u16, narrow: bool, main: F) -> Result<(), StartError>
where
    F: FnOnce() -> T,
    T: Future<Output = ()> + 'static,
{
    ring::install(waker, buffers).map_err(|e| StartError(explain_ring(&e)))?;
    if narrow {
        // Its rings are there, and no stranger was heard yet.
        let failed =
            |e| StartError(format!("a core cannot enter the sandbox: {e}; sandbox = false runs without it"));
        super::sandbox::narrow().map_err(failed)?;
    }
    let stop = std::rc::Rc::new(Cell::new(false));
    let stopped = stop.clone();
    let first = main();
    spawn(async move {
        first.await;
        stopped.set(true);
    });
    drive(&stop).await;
    STOPPED.set(true);
    ring::wind_down();
    Ok(())
}

/// Moves the ring until `stop`. Runs as one task among the others: each pass lets all that are runnable run once; the
/// ring is entered when nothing ran since the last pass (then it may park), or after `PASSES_MAX` busy passes.
async fn drive(stop: &Cell<bool>) {
    let mut reaped = Reaped::default();
    let mut passes = 0;
    let mut seen = POLLS.get();
    while !stop.get() {
        super::time::yield_now().await;
        LOOPS.set(LOOPS.get() + 1);
        let polls = POLLS.get();
        let busy = polls != seen;
        seen = polls;
        if polls > STILL_SINCE.get() {
            stir();
        }
        passes += 1;
        if busy && passes < PASSES_MAX {
            continue;
        }
        passes = 0;
        if ring::with(|r| r.turn(!busy, &mut reaped)) {
            stir();
        }
        reaped.settle();
    }
    STILL.take();
}

fn stir() {
    STILL_SINCE.set(u64::MAX);
    if let Some(waker) = STILL.take() {
        waker.wake();
    }
}

/// Waits until something happens on this core: an operation completes, or a task runs that is not the one which waits. For one
/// task a core: what has to be done after each time of work, and never while there is none.
pub async fn stirred() {
    let mut waits = false;
    poll_fn(|cx| {
        // Its own poll is counted already; whatever runs or completes after it is seen by the driver before the core parks.
        if waits && STILL_SINCE.get() == u64::MAX {
            return Poll::Ready(());
        }
        waits = true;
        STILL_SINCE.set(POLLS.get());
        STILL.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// Starts a task on this core. A panic in it ends that task alone; it is logged and counted.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    TASKS.set(TASKS.get() + 1);
    glommio::spawn_local(Guarded { future, _alive: Alive }).detach();
}

/// A future whose polls are counted and whose panic is its end.
struct Guarded<F> {
    future: F,
    _alive: Alive,
}

/// Counts a task as long as it lives.
struct Alive;

impl Drop for Alive {
    fn drop(&mut self) {
        // An executor that ends with its thread drops tasks when there is nothing to count in any more.
        let _ = TASKS.try_with(|tasks| tasks.set(tasks.get().saturating_sub(1)));
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if STOPPED.get() {
            return Poll::Pending;
        }
        POLLS.set(POLLS.get() + 1);
        // SAFETY: a structural pin projection: the field is never moved out of `self`, which is pinned.
        let future = unsafe { self.map_unchecked_mut(|s| &mut s.future) };
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll,
            Err(_) => {
                PANICS.set(PANICS.get() + 1);
                Poll::Ready(())
            }
        }
    }
}

/// Facts about this machine that a configuration is resolved against.
pub mod machine {
    use super::{ring, sys};
    use std::io;

    /// CPUs that this process may use, ascending.
    pub fn cpus() -> io::Result<Vec<usize>> {
        sys::allowed_cpus()
    }

    /// Lets the calling thread, for whose result somebody waits, work where there is room: on all of these CPUs, whatever its
    /// parent was pinned to, and a little behind the cores. Where the kernel does not allow that it works where it is.
    pub fn step_aside(cpus: &[usize]) {
        sys::side_thread(cpus);
    }

    /// Lets the calling thread, which does a long piece of work, stand back behind the cores: a lower priority.
    pub fn step_back() {
        sys::lower_priority();
    }

    /// The time, for a process without cores and their clock: a client of the admin socket.
    #[allow(clippy::disallowed_methods, reason = "the one place where a client reads the clock")]
    pub fn clock() -> std::time::Instant {
        std::time::Instant::now()
    }

    /// Its host name.
    pub fn hostname() -> String {
        sys::hostname()
    }

    /// Makes the calling thread one that works in the background: on these CPUs, whatever its parent was pinned to, and at the
    /// lowest priority. Where the kernel does not allow that it works where it is.
    pub fn stand_back(cpus: &[usize]) {
        sys::background_thread(cpus);
    }

    /// Kernel release as (major, minor).
    pub fn kernel() -> io::Result<(u32, u32)> {
        sys::kernel_version()
    }

    /// The first kernel that has all that the ring uses.
    pub const KERNEL_MIN: (u32, u32) = super::KERNEL_MIN;

    /// What one core locks of RLIMIT_MEMLOCK, in bytes.
    pub const LOCKED_BYTES_PER_CORE: u64 = super::LOCKED_BYTES_PER_CORE;

    /// Makes a ring as the cores do, and names the operations of ours that it lacks. The error says what to do.
    pub fn missing_operations() -> Result<Vec<&'static str>, String> {
        ring::missing_operations().map_err(|e| super::explain_ring(&e))
    }

    /// Whether something keeps the clock right (adjtimex(2)).
    pub fn is_clock_synchronised() -> io::Result<bool> {
        sys::is_clock_synchronised()
    }

    /// Seconds that local time is ahead of universal time at a UNIX time.
    pub fn local_offset(unix_s: i64) -> i32 {
        sys::local_offset(unix_s)
    }

    /// Whether sockets of this process may have addresses of other hosts (IP_TRANSPARENT).
    pub fn may_be_transparent() -> bool {
        let any = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        socket.is_ok_and(|socket| crate::rt::conn::set_transparent(&socket, any).is_ok())
    }

    /// Whether an address is one of this machine: a socket can be bound to it.
    pub fn is_local(address: std::net::IpAddr) -> bool {
        std::net::UdpSocket::bind((address, 0)).is_ok()
    }
}

/// Limits and counts of the process and of this core.
pub mod limits {
    use super::sys::{self, Limit};
    use super::{LOOPS, PANICS, TASKS, ring};
    use crate::rt::bufs;
    use std::io;

    /// The hard limits of open files, and of locked memory in bytes.
    pub fn hard() -> io::Result<(u64, u64)> {
        Ok((sys::rlimit(Limit::Files)?.1, sys::rlimit(Limit::LockedMemory)?.1))
    }

    /// Raises the limit of open files to the hard limit and returns it.
    pub fn raise_open_files() -> io::Result<u64> {
        sys::raise_rlimit(Limit::Files)
    }

    /// What the ring of this core did so far.
    pub fn activity() -> ring::Activity {
        ring::with(|r| r.activity())
    }

    /// Panics of tasks of this core.
    pub fn panics() -> u64 {
        PANICS.get()
    }

    /// Passes of the driver of this core.
    pub fn loops() -> u64 {
        LOOPS.get()
    }

    /// Tasks of this core that are not over.
    pub fn tasks() -> u64 {
        TASKS.get()
    }

    /// Receive buffers of this core that hold bytes.
    pub fn buffers_used() -> u64 {
        bufs::used()
    }

    /// How often this core ran out of receive buffers.
    pub fn buffers_exhausted() -> u64 {
        bufs::exhausted()
    }

    /// How many receives of this core waited because every buffer held bytes.
    pub fn buffers_short() -> u64 {
        bufs::short()
    }

    /// Gives memory that a burst of receives took back to the kernel, if it is over. For now and then. True: it was not over yet.
    pub fn give_back_buffers() -> bool {
        bufs::give_back(|| ring::with(|r| r.buffers_head()))
    }

    /// CPU time of this core's thread in nanoseconds.
    pub fn cpu_ns() -> u64 {
        sys::thread_cpu_ns()
    }
}
