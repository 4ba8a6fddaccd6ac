//! A data core in its steady state allocates nothing per request: the whole process runs in here, under an allocator that
//! counts what its data core does. `STEADY_TRACE=1` prints where the first allocations came from.

#![allow(clippy::disallowed_types, reason = "a scripted origin is an ordinary thread")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use shardgate::control::{self, Options};

/// Requests before the count begins, and requests that are counted; over all clients.
const WARM_UP: usize = 800;
const COUNTED: usize = 1600;
const CLIENTS: usize = 8;
/// Allocations that say nothing: what runs by the clock, a core that parks. One that each request makes would count as `COUNTED`.
const NOISE: usize = COUNTED / 20;
/// A slow machine makes more of that noise, now and then; what requests allocate is there each time.
const TRIES: usize = 5;

static ON: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static TRACED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IS_DATA_CORE: Cell<bool> = const { Cell::new(false) };
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

impl Counting {
    fn note() {
        if !ON.load(Ordering::Relaxed) || INSIDE.get() || !is_data_core() {
            return;
        }
        COUNT.fetch_add(1, Ordering::Relaxed);
        if TRACED.load(Ordering::Relaxed) > 0 {
            INSIDE.set(true);
            TRACED.fetch_sub(1, Ordering::Relaxed);
            let trace = Backtrace::force_capture().to_string();
            let ours = |line: &&str| line.contains("shardgate::") || line.contains("glommio::reactor");
            let frames = trace.lines().filter(ours).map(|line| line.trim().split('<').next().unwrap_or(line));
            eprintln!("allocated: {}", frames.take(6).collect::<Vec<_>>().join(" | "));
            INSIDE.set(false);
        }
    }
}

/// Threads are told apart by name; those that are no data core are asked every time, which only makes them slow.
fn is_data_core() -> bool {
    if !IS_DATA_CORE.get() {
        let mut name = [0_u8; 16];
        // SAFETY: PR_GET_NAME writes at most 16 bytes.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        IS_DATA_CORE.set(name.starts_with(b"core-"));
    }
    IS_DATA_CORE.get()
}

// SAFETY: every call goes to the system's allocator unchanged; what is counted is counted in cells without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note();
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note();
        // SAFETY: the caller's promise about pointer, layout and size is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Answers `GET /N` with N bytes, `GET /chunked/N` with N bytes in one chunk, and everything else with none.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accepted");
            thread::spawn(move || while answer(&mut stream).is_some() {});
        }
    });
    port
}

fn answer(stream: &mut TcpStream) -> Option<()> {
    let head = read_head(stream)?;
    let mut body = vec![0; length_of(&head)];
    stream.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1)?;
    let begin = "HTTP/1.1 200 OK\r\nServer: origin\r\n";
    let out = match path.strip_prefix("/chunked/") {
        Some(size) => {
            let body = chunked(size.parse().ok()?);
            format!("{begin}Transfer-Encoding: chunked\r\n\r\n{body}")
        }
        None => {
            let size = path.trim_start_matches('/').parse().unwrap_or(0);
            format!("{begin}Content-Length: {size}\r\n\r\n{}", "x".repeat(size))
        }
    };
    stream.write_all(out.as_bytes()).ok()
}

/// A body of one chunk and the last one.
fn chunked(size: usize) -> String {
    format!("{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size))
}

/// Reads byte by byte, so that nothing is read too far.
fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn length_of(head: &str) -> usize {
    let line = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    line.map_or(0, |value| value.trim().parse().expect("a number"))
}

/// A frontend with a log, and with enough rules that they are looked up.
fn logged(name: &str, listener: TcpListener, logging: &str) -> String {
    format!(
        r#"
[frontend.{name}]
bind = "fd@{}"
{logging}
rules = [
    {{ set-header = {{ name = "X-Path", value = "%[path]" }} }},
    {{ deny = true, if = "{{ path_beg /a }}" }},
    {{ deny = true, if = "{{ path_beg /b /c }}" }},
    {{ deny = true, if = "{{ path_beg /d }}" }},
    {{ deny = true, if = "{{ path_beg -i /e }}" }},
    {{ deny = true, if = "{{ path_end .f }}" }},
    {{ deny = true, if = "{{ path_beg /g }} {{ hdr(host) g }}" }},
    {{ deny = true, if = "{{ path -i /h }}" }},
    {{ deny = true, if = "{{ path_beg /i }} or {{ path_end .i }}" }},
    {{ deny = true, if = "{{ path /j }}" }},
]
default-backend = "be"
"#,
        listener.into_raw_fd()
    )
}

/// Starts the process in a thread; its data core serves the listeners: plain, with TLS, and with TLS that tells servers of the
/// client's certificate. It ends with the test.
fn start([plain, tls, telling]: [TcpListener; 3], pki: &Pki, logged: &str, origin: u16) {
    let tls_of = |listener: TcpListener| {
        let (site, ca) = (pki.dir.path().join("site.pem"), pki.dir.path().join("ca.pem"));
        format!(
            "{{ address = \"fd@{}\", tls = {{ certificates = \"{}\", verify = \"required\", ca-file = \"{}\" }} }}",
            listener.into_raw_fd(),
            site.display(),
            ca.display()
        )
    };
    let (tls, telling) = (tls_of(tls), tls_of(telling));
    let text = format!(
        r#"
[global]
cores = [0]
control-core = 0
[defaults]
mode = "http"
timeout = {{ connect = "5s", client = "1m", server = "1m", http-keep-alive = "1m" }}
[frontend.fe]
bind = "fd@{}"
forwardfor = true
unique-id-format = "%[uuid]"
rules = [
    {{ set-header = {{ name = "X-Path", value = "%[path]" }} }},
    {{ set-var = {{ name = "txn.host", value = "req.hdr(host),lower" }} }},
    {{ deny = true, if = "{{ path_beg /no }} or {{ hdr(user-agent) -m sub evil }}" }},
]
response-rules = [{{ del-header = "Server" }}]
default-backend = "be"
[frontend.tls]
bind = [{tls}]
default-backend = "be"
[frontend.telling]
bind = [{telling}]
forward-client-cert = true
rules = [
    {{ set-header = {{ name = "X-DN", value = "%[ssl_c_s_dn] %[ssl_c_i_dn(cn)] %[ssl_c_notafter(iso)] %[ssl_f_s_dn(cn)]" }} }},
    {{ deny = true, if = "{{ ssl_c_version 1 }} or {{ ssl_c_serial,hex AA }}" }},
]
default-backend = "be"
{logged}
[backend.be]
http-reuse = "always"
[backend.be.server.s1]
address = "127.0.0.1:{origin}"
"#,
        plain.into_raw_fd()
    );
    let (model, diagnostics) = control::load::from_text("steady.toml", &text).expect("the machine is known");
    let model = model.unwrap_or_else(|| panic!("{diagnostics:?}"));
    let (ready, is_ready) = mpsc::channel();
    let on_ready = Box::new(move || ready.send(()).expect("the test waits"));
    thread::spawn(|| control::run(model, Options { on_ready: Some(on_ready), ..Options::default() }));
    is_ready.recv().expect("the process starts");
}

/// Certificates of the server and of a client.
struct Pki {
    dir: tempfile::TempDir,
    client: Arc<rustls::ClientConfig>,
}

impl Pki {
    fn new() -> Pki {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("a certificate");
        let issuer = rcgen::Issuer::new(params, key);
        let make = |name: &str| {
            let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let key = rcgen::KeyPair::generate().expect("a key");
            (params.signed_by(&key, &issuer).expect("a certificate"), key)
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (site, site_key) = make("site.test");
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).expect("writable");
        let pem = site.pem() + &site_key.serialize_pem();
        std::fs::write(dir.path().join("site.pem"), pem).expect("writable");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.der().clone()).expect("a root");
        let (own, own_key) = make("me.test");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own.der().clone()], own_key.into())
            .expect("a certificate with its key");
        Pki { dir, client: Arc::new(client) }
    }

    fn connect(&self, port: u16) -> Tls {
        let name = "site.test".try_into().expect("a name");
        let client = rustls::ClientConnection::new(self.client.clone(), name).expect("a client");
        rustls::StreamOwned::new(client, TcpStream::connect(("127.0.0.1", port)).expect("connected"))
    }
}

type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// Sends requests on all clients in turn and reads the answers whole: `size` bytes behind each head.
fn load(clients: &mut [impl Read + Write], request: &[u8], size: usize, count: usize) {
    for _ in 0..count / clients.len() {
        for client in &mut *clients {
            client.write_all(request).expect("it is taken");
            client.flush().expect("it is taken");
        }
        for client in &mut *clients {
            let head = read_head(client).expect("an answer");
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            if !head.contains("chunked") {
                assert_eq!(length_of(&head), size);
            }
            client.read_exact(&mut vec![0; size]).expect("a body");
        }
    }
}

/// What the data core allocates meanwhile, at the least of some tries.
fn fewest(mut work: impl FnMut()) -> usize {
    let mut fewest = usize::MAX;
    for _ in 0..TRIES {
        fewest = fewest.min(allocations_of(&mut work));
        if fewest < NOISE {
            break;
        }
    }
    fewest
}

/// What the data core allocates meanwhile.
fn allocations_of(work: impl FnOnce()) -> usize {
    let before = COUNT.load(Ordering::Relaxed);
    TRACED.store(std::env::var_os("STEADY_TRACE").map_or(0, |_| 100), Ordering::Relaxed);
    ON.store(true, Ordering::Relaxed);
    work();
    ON.store(false, Ordering::Relaxed);
    COUNT.load(Ordering::Relaxed) - before
}

/// A client of HTTP/2 whose requests are all alike.
struct H2Client {
    stream: TcpStream,
    /// The number of the next stream.
    next: u32,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl H2Client {
    fn connect(port: u16) -> H2Client {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("taken");
        let mut client = H2Client { stream, next: 1 };
        // SETTINGS_INITIAL_WINDOW_SIZE and the window of the connection: the largest there is, so that none has to be opened.
        client.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        client.send(8, 0, 0, &0x7fff_0000_u32.to_be_bytes());
        client
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let frame = Self::frame(kind, flags, stream, payload);
        self.stream.write_all(&frame).expect("taken");
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    fn ask(&mut self, method: &str, path: &str, body: &[u8]) {
        let mut block = Vec::new();
        let fields = [(":method", method), (":scheme", "http"), (":authority", "steady"), (":path", path)];
        let length = body.len().to_string();
        let length = (!body.is_empty()).then_some(("content-length", length.as_str()));
        for (name, value) in fields.into_iter().chain(length) {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("short"));
                block.extend_from_slice(text.as_bytes());
            }
        }
        let ends = if body.is_empty() { END_STREAM } else { 0 };
        let stream = self.next;
        self.next += 2;
        let mut frames = Self::frame(HEADERS, END_HEADERS | ends, stream, &block);
        if !body.is_empty() {
            // With its head: a body that comes later is sent from memory of its own.
            frames.extend(Self::frame(DATA, END_STREAM, stream, body));
        }
        self.stream.write_all(&frames).expect("taken");
    }

    /// Reads until so many streams are over; the bytes of their bodies.
    fn read(&mut self, streams: usize) -> usize {
        let (mut over, mut bytes) = (0, 0);
        while over < streams {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).expect("a frame");
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; len];
            self.stream.read_exact(&mut payload).expect("a whole frame");
            match head[3] {
                SETTINGS if head[4] == 0 => self.send(SETTINGS, 1, 0, &[]),
                PING if head[4] == 0 => self.send(PING, 1, 0, &payload),
                // 200 of the static table, behind an update of the size of the dynamic one.
                HEADERS => assert!(payload.contains(&0x88), "{payload:?}"),
                DATA => bytes += len,
                3 | 7 => panic!("refused: {head:?} {payload:?}"),
                _ => {}
            }
            over += usize::from(matches!(head[3], DATA | HEADERS) && head[4] & END_STREAM != 0);
        }
        bytes
    }
}

/// Streams at once of each client.
const STREAMS: usize = 4;

fn load_streams(
    clients: &mut [H2Client],
    (method, path, body): (&str, &str, &[u8]),
    size: usize,
    count: usize,
) {
    for _ in 0..count / clients.len() / STREAMS {
        for client in &mut *clients {
            (0..STREAMS).for_each(|_| client.ask(method, path, body));
        }
        for client in &mut *clients {
            assert_eq!(client.read(STREAMS), STREAMS * size);
        }
    }
}

/// Streams of HTTP/2 allocate as little as requests of HTTP/1.
fn expect_no_allocations_of_streams(port: u16) {
    let mut clients: Vec<H2Client> = (0..CLIENTS).map(|_| H2Client::connect(port)).collect();
    for (what, method, path, body, size) in [
        ("GET of 100 bytes", "GET", "/100", 0, 100),
        ("POST of 1 kB", "POST", "/0", 1000, 0),
        ("GET of 4 kB in a chunk", "GET", "/chunked/4096", 0, 4096),
        ("GET of 100 kB", "GET", "/100000", 0, 100_000),
    ] {
        let request = (method, path, &vec![b'x'; body][..]);
        // Buffers that a core keeps grow to what is needed, one after the other.
        load_streams(&mut clients, request, size, 2 * WARM_UP);
        let count = fewest(|| load_streams(&mut clients, request, size, COUNTED));
        assert!(count < NOISE, "HTTP/2, {what}: {count} allocations in {COUNTED} streams");
    }
}

#[test]
fn a_request_allocates_nothing_on_its_data_core() {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let ports = listeners.each_ref().map(|listener| listener.local_addr().expect("bound").port());
    let pki = Pki::new();
    let captures = "log-format = \"httplog\"\ncapture.request-header = [{ name = \"Host\", len = 20 }]\n\
                    capture.response-header = [{ name = \"Content-Length\", len = 20 }]\n";
    let mut loggeds = String::new();
    let logs = [("httplog", captures), ("json", "")].map(|(name, more)| {
        // A socket each: one that nobody reads meanwhile keeps the first lines and no others.
        let syslog = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        syslog.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        let target = syslog.local_addr().expect("bound");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        loggeds.push_str(&logged(name, listener, &format!("log = [{{ address = \"{target}\" }}]\n{more}")));
        (name, address, syslog)
    });
    start(listeners, &pki, &loggeds, origin());
    let mut clients: Vec<TcpStream> =
        (0..CLIENTS).map(|_| TcpStream::connect(("127.0.0.1", ports[0])).expect("connected")).collect();
    let get =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: Steady\r\nUser-Agent: test\r\n\r\n").into_bytes();
    let mut post = b"POST /0 HTTP/1.1\r\nHost: Steady\r\nContent-Length: 4096\r\n\r\n".to_vec();
    post.resize(post.len() + 4096, b'x');
    for (what, request, size) in [
        ("GET of 100 bytes", get("/100"), 100),
        ("POST of 4 kB", post, 0),
        ("GET of 100 kB", get("/100000"), 100_000),
        ("GET of 4 kB in a chunk", get("/chunked/4096"), chunked(4096).len()),
    ] {
        load(&mut clients, &request, size, WARM_UP);
        let count = fewest(|| load(&mut clients, &request, size, COUNTED));
        assert!(count < NOISE, "{what}: {count} allocations in {COUNTED} requests");
    }
    expect_no_allocations_of_streams(ports[0]);
    for (name, address, syslog) in logs {
        let mut clients: Vec<TcpStream> =
            (0..CLIENTS).map(|_| TcpStream::connect(address).expect("connected")).collect();
        load(&mut clients, &get("/100"), 100, WARM_UP);
        let count = fewest(|| load(&mut clients, &get("/100"), 100, COUNTED));
        assert!(count < NOISE, "{name}: {count} allocations in {COUNTED} requests");
        // The lines are really written: one that names the frontend comes.
        let mut line = [0; 2048];
        while !String::from_utf8_lossy(&line).contains(name) {
            line.fill(0);
            let _ = syslog.recv(&mut line).expect("a line in time");
        }
    }
    // Records are sealed into memory of those before. What rules and servers are told of the client adds nothing to it.
    for (what, port) in [("TLS", ports[1]), ("TLS that is told of", ports[2])] {
        let mut clients: Vec<Tls> = (0..CLIENTS).map(|_| pki.connect(port)).collect();
        for size in [100, 10_000] {
            let request = get(&format!("/{size}"));
            load(&mut clients, &request, size, WARM_UP);
            let count = fewest(|| load(&mut clients, &request, size, COUNTED));
            // Sessions that begin anew on a slow machine are noise; one field that is read again would count as all requests.
            assert!(count < COUNTED / 4, "{what}, {size} bytes: {count} allocations in {COUNTED} requests");
        }
    }
}
