//! The work of the pure layers, a case at a time, for counting instructions: `bench-icount CASE ROUNDS`. perf/icount runs each
//! case under callgrind with two numbers of rounds; the difference is what a round costs, without start and end.
//!
//! Nothing here depends on time, addresses or random numbers, so that a count is the same on every run of the same build.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::ExitCode;
use std::time::Duration;

use shardgate::base::id::{CoreId, Id, IdRange, ServerId};
use shardgate::base::net::Addr;
use shardgate::config::expr::{
    Acls, Context, HTTPLOG, Scope, parse_condition, parse_expr, parse_format, parse_log_format,
};
use shardgate::policy::balance::{
    Algorithm, Balancer, HashFunction, HashMethod, HashType, ServerView, Setup, Spec, Tried, WEIGHT_SCALE,
};
use shardgate::policy::log::{Captured, Dates, EndWords, Levels, Line, Memory, Timers};
use shardgate::policy::rule::{Rule, RuleList, Verdict, next_rule};
use shardgate::policy::sample::{Scratch, VariableTable};
use shardgate::proto::h1::encode::{self, BodyHeaders, ConnectionHeader, HeadOut};
use shardgate::proto::h1::framing::{self, Asked};
use shardgate::proto::h1::head::{Ambiguous, HeadOptions, parse_request, parse_response};
use shardgate::proto::h2::head::{self as h2, Pseudo, WEBSOCKET_KEY_BYTES};
use shardgate::proto::headers::{Head, HeadLimits};
use shardgate::proto::http::Name;
use world::{Request, World};

mod world;

const SMALL: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nAccept: */*\r\n\r\n";
const BROWSER: &[u8] = b"GET /app/77/start?lang=en&page=2 HTTP/1.1\r\nHost: www.Example.com\r\nUser-Agent: Mozilla/5.0 (X11; \
Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,\
application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n\
Referer: https://www.example.com/app/76/\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef; theme=dark\r\n\
Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nCache-Control: max-age=0\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Tue, 01 Jan 2030 00:00:00 GMT\r\nContent-Type: text/html\r\n\
Content-Length: 4096\r\nConnection: keep-alive\r\nETag: \"5f-1000\"\r\nCache-Control: max-age=60\r\n\r\n";

/// What each case is, in the order of perf/RESULTS.md.
const CASES: &[(&str, fn(u32))] = &[
    ("h1-parse-small", |rounds| parse(SMALL, rounds)),
    ("h1-parse-browser", |rounds| parse(BROWSER, rounds)),
    ("h1-request-through", request_through),
    ("h1-response-through", response_through),
    ("h2-request", h2_request),
    ("condition", condition),
    ("rules-200", rules),
    ("map-10000", map),
    ("format", format),
    ("log-line", log_line),
    ("balance-roundrobin", |rounds| balance(Algorithm::RoundRobin, rounds)),
    ("balance-leastconn", |rounds| balance(Algorithm::LeastConn, rounds)),
    ("balance-hash", |rounds| balance(Algorithm::Hash, rounds)),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.len() == 1 && words[0] == "--list" {
        CASES.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let case = words.first().and_then(|word| CASES.iter().find(|(name, _)| name == word));
    let rounds = words.get(1).and_then(|word| word.parse().ok());
    let (Some((_, case)), Some(rounds)) = (case, rounds) else {
        eprintln!("usage: bench-icount --list | CASE ROUNDS");
        return ExitCode::FAILURE;
    };
    case(rounds);
    ExitCode::SUCCESS
}

fn parse(text: &[u8], rounds: u32) {
    let (options, mut head) = (HeadOptions::default(), Head::new());
    for _ in 0..rounds {
        head.clear();
        assert!(parse_request(black_box(text), &options, &mut head).is_ok());
    }
}

/// What every request of HTTP/1 goes through: parsed, judged, one header set and one added, written for the server.
fn request_through(rounds: u32) {
    let (options, mut head, mut out) = (HeadOptions::default(), Head::new(), Vec::new());
    let how = HeadOut { body: BodyHeaders::Keep, connection: ConnectionHeader::None };
    for _ in 0..rounds {
        head.clear();
        out.clear();
        assert!(parse_request(black_box(BROWSER), &options, &mut head).is_ok());
        let mut edit = head.edit(BROWSER);
        assert!(framing::request(&mut edit, Ambiguous::Reject).is_ok());
        assert!(edit.set(Name::of(b"X-Forwarded-Proto"), b"https").is_ok());
        assert!(edit.add(Name::of(b"X-Forwarded-For"), b"192.0.2.1").is_ok());
        encode::request(&mut edit, how, &mut out);
        black_box(&out);
    }
}

/// What every response of HTTP/1 goes through: parsed, judged, one header deleted and one set, written for the client.
fn response_through(rounds: u32) {
    let (options, mut head, mut out) = (HeadOptions::default(), Head::new(), Vec::new());
    let how = HeadOut { body: BodyHeaders::Keep, connection: ConnectionHeader::None };
    for _ in 0..rounds {
        head.clear();
        out.clear();
        assert!(parse_response(black_box(RESPONSE), &options, &mut head).is_ok());
        let mut edit = head.edit(RESPONSE);
        assert!(framing::response(&mut edit, Asked::default(), Ambiguous::Reject).is_ok());
        edit.delete(Name::of(b"Server"));
        assert!(edit.set(Name::of(b"X-Served-By"), b"edge-1").is_ok());
        encode::response(&mut edit, how, &mut out);
        black_box(&out);
    }
}

fn h2_request(rounds: u32) {
    let fields: [(&[u8], &[u8]); 8] = [
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0 Safari/537.36"),
        (b"accept", b"text/html,application/xhtml+xml"),
        (b"accept-language", b"en-US,en;q=0.5"),
        (b"accept-encoding", b"gzip, deflate, br"),
        (b"cookie", b"session=0123456789abcdef"),
        (b"cookie", b"theme=dark"),
        (b"referer", b"https://www.example.com/app/76/"),
        (b"cache-control", b"max-age=0"),
    ];
    let pseudo = Pseudo {
        method: b"GET",
        scheme: Some(b"https"),
        authority: Some(b"www.example.com"),
        path: Some(b"/app/77/start?lang=en"),
        protocol: None,
    };
    let (limits, mut head, mut out) = (HeadLimits::default(), Head::new(), Vec::new());
    for _ in 0..rounds {
        out.clear();
        let fields = || black_box(&fields).iter().copied();
        let key = [b'A'; WEBSOCKET_KEY_BYTES];
        assert!(h2::request(black_box(&pseudo), fields, &limits, &key, &mut out, &mut head).is_ok());
        black_box(&out);
    }
}

/// A request as rules see it.
fn arrived() -> Request {
    let mut request = Request { bytes: BROWSER.to_vec(), ..Request::default() };
    request.conn.src = "192.0.2.1:5".parse::<std::net::SocketAddr>().expect("an address").into();
    assert!(parse_request(BROWSER, &HeadOptions::default(), &mut request.head).is_ok());
    request
}

/// Calls `work` with the place where texts are compiled.
fn compiled(work: impl FnOnce(&mut Scope<'_>)) {
    let (world, acls, mut variables) = (World::default(), Acls::default(), VariableTable::default());
    work(&mut Scope { acls: &acls, resolver: &world, variables: &mut variables, context: Context::Request });
}

fn condition(rounds: u32) {
    compiled(|scope| {
        let text = "{ path_beg -i /APP/77 } { hdr(host) -m reg ^www[.] } { hdr_dom(host) -i Example.com } \
            !{ path_end .png .gif } { src 10.0.0.0/8 192.0.2.0/24 } { hdr_sub(user-agent) -i CHROME wget } { path_dir 77 }";
        let condition = parse_condition(text, scope).expect("compiles");
        let (request, mut scratch) = (arrived(), Scratch::default());
        for _ in 0..rounds {
            black_box(condition.eval(black_box(&request), &mut scratch));
        }
    });
}

/// Two hundred rules of which none applies.
fn rules(rounds: u32) {
    compiled(|scope| {
        let mut rule = |n: u32| {
            let text = format!("{{ path_beg /deny/{n}/ }}");
            let condition = Some(parse_condition(&text, scope).expect("compiles"));
            Rule { condition, action: (), id: n, origin: String::new(), text }
        };
        let rules: RuleList<()> = (0..200).map(&mut rule).collect();
        let (request, mut scratch) = (arrived(), Scratch::default());
        for _ in 0..rounds {
            assert_eq!(next_rule(&rules, 0, black_box(&request), &mut scratch), Verdict::End);
        }
    });
}

fn map(rounds: u32) {
    compiled(|scope| {
        let expr =
            parse_expr("str(host7777.example.com/app7777/x),map_beg(routes,none)", scope).expect("compiles");
        let (request, mut scratch) = (arrived(), Scratch::default());
        for _ in 0..rounds {
            assert!(expr.eval(black_box(&request), &mut scratch).value.is_some());
        }
    });
}

/// What headers and redirects are made of.
fn format(rounds: u32) {
    compiled(|scope| {
        let text = "%[src]:%cp %{+Q}[path,url_enc] %[hdr(host),lower] %[hdr(user-agent)] %[cook(session)]";
        let format = parse_format(text, scope).expect("compiles");
        let (request, mut scratch, mut out) = (arrived(), Scratch::default(), Vec::new());
        for _ in 0..rounds {
            out.clear();
            format.write(black_box(&request), &mut scratch, b"", &mut out);
        }
    });
}

/// A line of `option httplog` with two captured headers, as a small request leaves it.
fn log_line(rounds: u32) {
    compiled(|scope| {
        let mut keep = Vec::new();
        let format = parse_log_format(HTTPLOG, &mut keep, scope).expect("compiles");
        let (request, mut scratch) = (arrived(), Scratch::default());
        let (mut dates, mut text, mut out) = (Dates::new(|_| 3600), Vec::new(), Vec::new());
        let captured = b"www.example.comcurl/7.88.1";
        for round in 0..rounds {
            out.clear();
            let line = Line {
                // A thousand lines a second.
                accepted: Duration::from_millis(1_795_236_430_000 + u64::from(round)),
                request: Some(b"GET /index.html HTTP/1.1"),
                request_captures: Captured { text: captured, spans: &[Some((0, 15)), Some((15, 26))] },
                numbers: (u64::from(round), u64::from(round)),
                ..LINE
            };
            let mut memory = Memory { scratch: &mut scratch, dates: &mut dates, text: &mut text };
            format.write(black_box(&line), &request, &mut memory, &mut out);
            black_box(&out);
        }
    });
}

const fn at(last: u8, port: u16) -> Addr {
    Addr::Ip(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port)))
}

const LINE: Line<'_> = Line {
    accepted: Duration::ZERO,
    hostname: "host",
    pid: 4711,
    client: at(7, 40_123),
    local: at(1, 443),
    source: Addr::Unknown,
    remote: Addr::Unknown,
    frontend: "web",
    is_tls: false,
    tls: None,
    backend: "application",
    is_routed: true,
    server: Some("app-1"),
    timers: Timers {
        handshake: Some(0),
        idle: Some(20_000),
        request: Some(30),
        queue: Some(0),
        connect: Some(0),
        response: Some(2_345),
        data: Some(100),
        total: 22_475,
    },
    status: 200,
    bytes_out: 1_234,
    bytes_in: 456,
    is_early: false,
    origin: "txn_close",
    end: EndWords { letters: "--", name: "normal", by: "client" },
    cookie: *b"--",
    retries: 0,
    redispatched: false,
    queued_before: (0, 0),
    levels: Levels { process: 64, frontend: 64, backend: 12, server: 3 },
    request: None,
    sent: None,
    host: None,
    request_captures: Captured { text: b"", spans: &[] },
    response_captures: Captured { text: b"", spans: &[] },
    cookies: [None; 2],
    unique_id: None,
    trace: None,
    numbers: (0, 0),
    kept: Captured { text: b"", spans: &[] },
};

/// Sixteen servers of several weights and loads.
struct Servers;

impl ServerView for Servers {
    fn usable(&self, id: ServerId) -> bool {
        id.0 != 3
    }
    fn weight(&self, id: ServerId) -> u32 {
        (1 + id.0 % 4) * WEIGHT_SCALE
    }
    fn backup(&self, id: ServerId) -> bool {
        id.0 == 15
    }
    fn hash_id(&self, id: ServerId) -> u32 {
        id.0 + 1
    }
    fn load(&self, id: ServerId) -> u32 {
        id.0 * 3 % 7
    }
    fn free_slot(&self, _: ServerId) -> bool {
        true
    }
    fn load_total(&self) -> u32 {
        45
    }
}

fn balance(algorithm: Algorithm, rounds: u32) {
    let hash_type =
        HashType { method: HashMethod::Consistent, function: HashFunction::Sdbm, avalanche: true };
    let setup = Setup {
        servers: IdRange::new(ServerId(0)..ServerId(16)),
        allbackups: false,
        core: CoreId::from_index(0),
        cores: 1,
        seed: 1,
    };
    let mut balancer = Balancer::new(&Spec { algorithm, hash_type, balance_factor: None }, setup, &Servers);
    let tried = Tried::new();
    for round in 0..rounds {
        assert!(balancer.pick(&Servers, Some(u64::from(round) * 0x9e37_79b9), black_box(&tried)).is_some());
    }
}
