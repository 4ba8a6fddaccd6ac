//! Counts the instructions that one thread of a proxy runs in user mode for a request: it sends requests while the thread is stopped,
//! then lets it run one instruction at a time until all are answered. perf/steps calls it and says whose instructions they are.
//!
//! `bench-steps THREAD PORT http|h2 REQUESTS ROUNDS` prints one line `round INSTRUCTIONS` for each round, then `at ADDRESS COUNT`
//! for each address of the quarter of rounds with the fewest. In a round each of so many connections of HTTP/1, or streams of one
//! connection of HTTP/2, has one request. Counts do not depend on the machine's load, but what the thread does by the clock falls
//! into some rounds.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::ptr::null_mut;
use std::time::Duration;

use ahash::AHashMap;
use libc::{c_int, c_long, pid_t};

/// Rounds before the first that counts, at full speed: connections to servers and caches are there then.
const WARM_ROUNDS: usize = 30;
/// How often a thread that does not go on is looked at, and how long it has to sleep for a round to be over.
const LOOK_US: libc::suseconds_t = 20_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [thread, port, protocol, requests, rounds] = words.as_slice() else {
        eprintln!("bench-steps THREAD PORT http|h2 REQUESTS ROUNDS");
        return ExitCode::from(2);
    };
    let numbers = (thread.parse(), port.parse(), requests.parse(), rounds.parse());
    let (Ok(thread), Ok(port), Ok(requests), Ok(rounds)) = numbers else {
        eprintln!("bench-steps: numbers, please");
        return ExitCode::from(2);
    };
    match run(thread, port, protocol == "h2", requests, rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench-steps: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(thread: pid_t, port: u16, is_h2: bool, requests: usize, rounds: usize) -> io::Result<()> {
    let mut client = Client::connect(port, is_h2, requests)?;
    for _ in 0..WARM_ROUNDS {
        client.ask()?;
        while !client.is_answered()? {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    interrupt_waits()?;
    let stepper = Stepper::stop(thread)?;
    let mut counted = Vec::new();
    for _ in 0..rounds {
        client.ask()?;
        let round = stepper.round(&mut client)?;
        println!("round {}", round.instructions);
        counted.push(round);
    }
    stepper.order(libc::PTRACE_DETACH, 0)?;
    counted.sort_by_key(|round| round.instructions);
    let least = &counted[..rounds.div_ceil(4)];
    let mut all: AHashMap<u64, u64> = AHashMap::new();
    for (address, count) in least.iter().flat_map(|round| &round.at) {
        *all.entry(*address).or_default() += count;
    }
    println!("rounds {}", least.len());
    for (address, count) in all {
        println!("at {address:x} {count}");
    }
    Ok(())
}

/// What a round took.
#[derive(Default)]
struct Round {
    instructions: u64,
    /// How often each address was run.
    at: AHashMap<u64, u64>,
}

/// A thread of another process that runs one instruction at a time. It goes on freely once this program ends.
struct Stepper {
    thread: pid_t,
}

impl Stepper {
    fn stop(thread: pid_t) -> io::Result<Stepper> {
        let stepper = Stepper { thread };
        stepper.order(libc::PTRACE_SEIZE, 0)?;
        stepper.order(libc::PTRACE_INTERRUPT, 0)?;
        while stepper.wait()?.is_none() {}
        stepper.hurry();
        Ok(stepper)
    }

    /// Both threads share the proxy's core and come before all others: each instruction takes two switches between them, and what
    /// the proxy does by the clock falls into fewer rounds. Without the right to it, it only takes longer.
    fn hurry(&self) {
        // SAFETY: the values are alive, and the set is filled by the kernel before it is read.
        let ok = unsafe {
            let mut core: libc::cpu_set_t = std::mem::zeroed();
            let first = libc::sched_param { sched_priority: 1 };
            libc::sched_getaffinity(self.thread, size_of::<libc::cpu_set_t>(), &raw mut core)
                | libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const core)
                | libc::sched_setscheduler(self.thread, libc::SCHED_FIFO, &raw const first)
                | libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first)
        };
        if ok < 0 {
            eprintln!("bench-steps: without root this takes long: {}", io::Error::last_os_error());
        }
    }

    /// From the first instruction after the thread was woken to the one before it sleeps with everything answered.
    fn round(&self, client: &mut Client) -> io::Result<Round> {
        let mut round = Round::default();
        let (mut signal, mut last) = (0, 0);
        loop {
            self.order(libc::PTRACE_SINGLESTEP, signal)?;
            let stopped = loop {
                match self.wait()? {
                    Some(stopped) => break stopped,
                    None if client.is_answered()? => {
                        self.order(libc::PTRACE_INTERRUPT, 0)?;
                        while self.wait()?.is_none() {}
                        return Ok(round);
                    }
                    None => {}
                }
            };
            signal = if stopped == libc::SIGTRAP { 0 } else { c_long::from(stopped) };
            // An instruction that repeats itself (`rep movsb`) stops after each time, and is one.
            let address = self.address()?;
            if std::mem::replace(&mut last, address) != address {
                round.instructions += 1;
                *round.at.entry(address).or_default() += 1;
            }
        }
    }

    /// Waits until the thread stops; `None`: it sleeps. Returns the signal that stopped it.
    fn wait(&self) -> io::Result<Option<c_int>> {
        let mut status = 0;
        // SAFETY: the pointer is that of a live value.
        let found = unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL) };
        if found < 0 {
            let e = io::Error::last_os_error();
            return if e.kind() == ErrorKind::Interrupted { Ok(None) } else { Err(e) };
        }
        if !libc::WIFSTOPPED(status) {
            return Err(io::Error::other("the proxy has ended"));
        }
        Ok(Some(libc::WSTOPSIG(status)))
    }

    fn order(&self, request: libc::c_uint, data: c_long) -> io::Result<()> {
        // SAFETY: none of the requests that are used reads or writes memory of this process.
        let done = unsafe { libc::ptrace(request, self.thread, null_mut::<libc::c_void>(), data) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The instruction that comes next.
    fn address(&self) -> io::Result<u64> {
        let offset =
            std::mem::offset_of!(libc::user, regs) + std::mem::offset_of!(libc::user_regs_struct, rip);
        // SAFETY: the request returns a word and writes nothing; the offset is that of a register.
        let word = unsafe {
            libc::ptrace(libc::PTRACE_PEEKUSER, self.thread, offset as c_long, null_mut::<libc::c_void>())
        };
        Ok(word.cast_unsigned())
    }
}

/// A signal every [`LOOK_US`] ends a wait for a thread that sleeps.
fn interrupt_waits() -> io::Result<()> {
    extern "C" fn nothing(_: c_int) {}
    let tick = libc::timeval { tv_sec: 0, tv_usec: LOOK_US };
    let timer = libc::itimerval { it_interval: tick, it_value: tick };
    // SAFETY: the action is valid with all else zero (no SA_RESTART, so that waits end), and its handler does nothing.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, null_mut())
            | libc::setitimer(libc::ITIMER_REAL, &raw const timer, null_mut())
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Who asks. It never waits.
struct Client {
    streams: Vec<TcpStream>,
    /// Requests at once in one connection.
    streams_each: usize,
    is_h2: bool,
    next_id: u32,
    received: Vec<Vec<u8>>,
    open: usize,
}

const H1_REQUEST: &[u8] = b"GET /100 HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: steps\r\nAccept: */*\r\n\r\n";
/// The preface, empty settings, and room for all that is answered.
const H2_HELLO: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x04\x08\0\0\0\0\0\x40\0\0\0";
/// GET of /100 at 127.0.0.1, the authority from the dynamic table from the second time on.
const H2_FIRST: &[u8] = b"\x82\x86\x44\x04/100\x41\x09127.0.0.1";
const H2_NEXT: &[u8] = b"\x82\x86\xbf\xbe";

impl Client {
    fn connect(port: u16, is_h2: bool, requests: usize) -> io::Result<Client> {
        let connections = if is_h2 { 1 } else { requests };
        let mut streams = Vec::new();
        for _ in 0..connections {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            if is_h2 {
                stream.write_all(H2_HELLO)?;
            }
            stream.set_nonblocking(true)?;
            streams.push(stream);
        }
        let streams_each = requests / connections;
        Ok(Client {
            received: vec![Vec::new(); connections],
            streams,
            streams_each,
            is_h2,
            next_id: 1,
            open: 0,
        })
    }

    /// One request in each connection, or stream.
    fn ask(&mut self) -> io::Result<()> {
        for stream in &mut self.streams {
            let mut bytes = Vec::new();
            for _ in 0..self.streams_each {
                if self.is_h2 {
                    let block = if self.next_id == 1 { H2_FIRST } else { H2_NEXT };
                    bytes.extend([0, 0, u8::try_from(block.len()).expect("short"), 1, 5]);
                    bytes.extend(self.next_id.to_be_bytes());
                    bytes.extend(block);
                    self.next_id += 2;
                } else {
                    bytes.extend(H1_REQUEST);
                }
            }
            stream.write_all(&bytes)?;
        }
        self.open = self.streams.len() * self.streams_each;
        Ok(())
    }

    /// Whether all responses are there.
    fn is_answered(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 1 << 14];
        for (stream, received) in self.streams.iter_mut().zip(&mut self.received) {
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(n) => received.extend_from_slice(&buffer[..n]),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            let ended =
                if self.is_h2 { ended_streams(received, stream)? } else { ended_responses(received)? };
            self.open = self.open.saturating_sub(ended);
        }
        Ok(self.open == 0)
    }
}

/// Takes whole responses of HTTP/1 with a length off.
fn ended_responses(received: &mut Vec<u8>) -> io::Result<usize> {
    let mut ended = 0;
    while let Some(head) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
        let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: Option<usize> = length.and_then(|value| value.trim().parse().ok());
        let Some(length) = length.filter(|_| text.starts_with("http/1.1 200")) else {
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        };
        if received.len() < head + 4 + length {
            break;
        }
        received.drain(..head + 4 + length);
        ended += 1;
    }
    Ok(ended)
}

/// Takes whole frames off, answers settings, and counts the ends of streams.
fn ended_streams(received: &mut Vec<u8>, stream: &mut TcpStream) -> io::Result<usize> {
    let mut ended = 0;
    while received.len() >= 9 {
        let length =
            usize::from(received[1]) << 8 | usize::from(received[2]) | usize::from(received[0]) << 16;
        if received.len() < 9 + length {
            break;
        }
        let (kind, flags) = (received[3], received[4]);
        match kind {
            0 | 1 => ended += usize::from(flags & 1),
            3 | 7 => {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "a stream was reset, or the connection ends",
                ));
            }
            4 if flags & 1 == 0 => stream.write_all(b"\0\0\0\x04\x01\0\0\0\0")?,
            _ => {}
        }
        received.drain(..9 + length);
    }
    Ok(ended)
}
