//! Every variable of HAProxy's log formats with every flag: HAProxy and Shardgate run the same file and have the same scripted
//! exchange, and each variable says the same. Those that HAProxy has not are run beside them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use regex::Regex;
use shardgate::policy::log::FIELDS;

use crate::harness::peers::Peer;
use crate::harness::tls::{Ca, tls};
use crate::harness::{Origin, Shardgate, connect};
use crate::logs::Syslog;

/// How much of a value is the same for both proxies.
#[derive(Clone, Copy, PartialEq)]
enum Same {
    /// All of it.
    All,
    /// It is a number of the same form: ports, times, sizes (HAProxy counts those of its inner form of a message), levels
    /// (a session that ended is counted for a moment more).
    Number,
    /// It is a date of the same form.
    Date,
}
use Same::{All, Date, Number};

/// The variables of HAProxy 2.6 to 2.8 (configuration manual, 8.2.6), and whether they are those of HTTP mode alone.
const HAPROXYS: &[(&str, Same, bool)] = &[
    ("B", Number, false),
    ("CC", All, true),
    ("CS", All, true),
    ("H", All, false),
    ("HM", All, true),
    ("HP", All, true),
    ("HPO", All, true),
    ("HQ", All, true),
    ("HU", All, true),
    ("HV", All, true),
    ("ID", All, false),
    ("ST", All, false),
    ("T", Date, false),
    ("Ta", Number, true),
    ("Tc", Number, false),
    ("Td", Number, false),
    ("Tl", Date, false),
    ("Th", Number, false),
    ("Ti", Number, true),
    ("Tq", Number, true),
    ("TR", Number, true),
    ("Tr", Number, true),
    ("Ts", Number, false),
    ("Tt", Number, false),
    ("Tu", Number, false),
    ("Tw", Number, false),
    ("U", Number, false),
    ("ac", Number, false),
    ("b", All, false),
    ("bc", Number, false),
    ("bi", All, false),
    ("bp", Number, false),
    ("bq", All, false),
    ("ci", All, false),
    ("cp", Number, false),
    ("f", All, false),
    ("fc", Number, false),
    ("fi", All, false),
    ("fp", Number, false),
    ("ft", All, false),
    ("lc", Number, false),
    ("hr", All, false),
    ("hrl", All, false),
    ("hs", All, false),
    ("hsl", All, false),
    ("ms", Number, false),
    ("pid", Number, false),
    ("r", All, true),
    ("rc", All, false),
    ("rt", Number, false),
    ("s", All, false),
    ("sc", Number, false),
    ("si", All, false),
    ("sp", All, false),
    ("sq", All, false),
    ("sslc", All, false),
    ("sslv", All, false),
    ("t", Date, false),
    ("tr", Date, true),
    ("trg", Date, true),
    ("trl", Date, true),
    ("ts", All, false),
    ("tsc", All, true),
];

/// Those that HAProxy 2.6 has not: what they look like for the good exchange. Times are there, but not always the same.
const OURS: &[(&str, &str)] = &[
    ("EB", "client"),
    ("EC", "normal"),
    ("HH", "h.example"),
    ("HUF", "http://h\\.example/a/b%20c\\?d='e'&f=\\[g\\]"),
    ("OG", "txn_close"),
    ("SR", "GET /a/b%20c\\?d='e'&f=\\[g\\] HTTP/1\\.1"),
    ("TI", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d"),
    ("TRu", r"\d+"),
    ("Tau", r"\d+"),
    ("Tcu", r"\d+"),
    ("Tdu", r"\d+"),
    ("Tru", r"\d+"),
    ("Twu", r"\d+"),
    ("sid", "-"),
    ("tid", "-"),
];

/// Flags of one frontend each.
const FLAGS: [&str; 6] = ["", "{+Q}", "{+X}", "{+E}", "{+Q,+E}", "{-Q,+X,+E}"];

fn format(names: impl Iterator<Item = &'static str>, flags: &str) -> String {
    names.map(|name| format!("{name}=%{flags}{name};")).collect()
}

/// `NAME=VALUE;` of a line. No value has a semicolon.
fn values(line: &str) -> BTreeMap<String, String> {
    let (_, text) = line.split_once("]: ").expect("a header");
    let pairs = text.trim_end_matches('\n').split_terminator(';').map(|pair| {
        let (name, value) = pair.split_once('=').expect("a name");
        (name.to_owned(), value.to_owned())
    });
    pairs.collect()
}

fn normal(same: Same, value: &str) -> String {
    let replaced =
        |pattern: &str, by: &str| Regex::new(pattern).expect("a pattern").replace_all(value, by).into_owned();
    match same {
        All => value.to_owned(),
        // What never came is told apart from what took no time.
        Number if value.contains("-1") => value.to_owned(),
        Number => replaced("[0-9A-F]+", "N"),
        Date => {
            replaced(r"\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d", "DATE").replace(|c: char| c.is_ascii_digit(), "9")
        }
    }
}

fn origin() -> Origin {
    Origin::new(|mut stream, shared| {
        let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
        while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(len) => seen.extend_from_slice(&buffer[..len]),
            }
        }
        shared.note(&seen);
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: a \"b\" {c|d} \\ #]\r\nSet-Cookie: SES=x\\y]#1; path=/\r\n\
              Connection: close\r\n\r\nok",
        );
    })
}

/// What a client sends: all that flags and formats treat in a way of their own, a request that is none, one that a rule refuses.
const REQUESTS: [&str; 3] = [
    "GET /a/b%20c?d='e'&f=[g] HTTP/1.1\r\nHost: h.example\r\nX-Long: a \"b\" {c|d} \\ #] and so on, longer than it may be\r\n\
     Cookie: a=b; SES=s\\t]\r\nConnection: close\r\n\r\n",
    "GET / JUNK\r\n\r\n",
    "GET http://other.example/deny?x HTTP/1.0\r\n\r\n",
];

fn file(frontends: &str, log: SocketAddr, origin: SocketAddr) -> String {
    format!(
        "global\n nbthread 1\ndefaults\n mode http\n log {log} len 8192 local0 info\n option dontlognull\n timeout client 1m\n \
         timeout server 1m\n timeout connect 1m\n timeout http-request 1m\n timeout http-keep-alive 1m\nfrontend probe\n bind \
         @ADDRESS@\n default_backend be\n{frontends}backend be\n server s1 {origin}\n"
    )
}

fn frontend(name: &str, bind: &str, names: impl Iterator<Item = &'static str>, flags: &str) -> String {
    format!(
        "frontend {name}\n bind @FREE@ {bind}\n capture request header X-Long len 30\n capture request header X-None len 5\n \
         capture response header Server len 30\n capture response header X-None len 5\n capture cookie SES= len 20\n \
         unique-id-format id-%{{+X}}ci-%HM\n http-request deny if {{ path /deny }}\n log-format \"{}\"\n default_backend be\n",
        format(names, flags)
    )
}

/// Sends the same to each frontend of both proxies, and compares what they write.
fn compare(
    frontends: &str,
    rows: &[(&'static str, Same)],
    talk: impl Fn(SocketAddr, usize, usize),
    (places, exchanges): (usize, usize),
) {
    let origin = origin();
    let [theirs, ours] = [Syslog::new(), Syslog::new()];
    let peer = Peer::haproxy(&file(frontends, theirs.address(), origin.address));
    let gate = Peer::in_haproxys_place(&file(frontends, ours.address(), origin.address));
    let mut wrong = Vec::new();
    for place in 0..places {
        for exchange in 0..exchanges {
            talk(peer.more[place], place, exchange);
            talk(gate.more[place], place, exchange);
            let (expected, line) = (values(&theirs.any_line()), values(&ours.any_line()));
            for (name, same) in rows {
                let (expected, got) = (&expected[*name], &line[*name]);
                if normal(*same, got) != normal(*same, expected) {
                    wrong.push(format!("%{name} of {place}, {exchange}: ours {got:?} theirs {expected:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn to_end(mut client: TcpStream, text: &str) {
    client.write_all(text.as_bytes()).expect("the proxy reads");
    let _ = client.read_to_end(&mut Vec::new());
}

fn names() -> impl Iterator<Item = &'static str> {
    HAPROXYS.iter().map(|(name, ..)| *name)
}

#[test]
fn the_tables_are_whole() {
    for info in FIELDS {
        let theirs = names().any(|name| name == info.name);
        let ours = OURS.iter().any(|(name, _)| *name == info.name);
        assert!(theirs != ours, "%{} is in one of the tables", info.name);
    }
    assert_eq!(FIELDS.len(), HAPROXYS.len() + OURS.len());
}

#[test]
fn variables_say_what_haproxys_say() {
    let frontends: String =
        FLAGS.iter().enumerate().map(|(n, flags)| frontend(&format!("f{n}"), "", names(), flags)).collect();
    let rows: Vec<(&str, Same)> = HAPROXYS.iter().map(|(name, same, _)| (*name, *same)).collect();
    compare(
        &frontends,
        &rows,
        |address, _, exchange| to_end(connect(address), REQUESTS[exchange]),
        (FLAGS.len(), REQUESTS.len()),
    );
}

#[test]
fn variables_of_tls_say_what_haproxys_say() {
    let ca = Ca::new();
    let pem = ca.bundle("site.pem", &["h.example"]);
    let versions: [&[&'static rustls::SupportedProtocolVersion]; 2] =
        [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];
    let bind = format!(
        "ssl crt {} ciphers ECDHE-ECDSA-AES128-GCM-SHA256 ciphersuites TLS_AES_128_GCM_SHA256",
        pem.display()
    );
    let frontends: String =
        (0..2).map(|n| frontend(&format!("f{n}"), &bind, names(), ["", "{+Q}"][n])).collect();
    let rows: Vec<(&str, Same)> = HAPROXYS.iter().map(|(name, same, _)| (*name, *same)).collect();
    compare(
        &frontends,
        &rows,
        |address, _, exchange| {
            let mut client =
                tls(address, "h.example", ca.client_of(versions[exchange])).expect("a handshake");
            client.write_all(REQUESTS[0].as_bytes()).expect("the proxy reads");
            let _ = client.read_to_end(&mut Vec::new());
        },
        (2, versions.len()),
    );
}

#[test]
fn variables_of_tcp_mode_say_what_haproxys_say() {
    let both = || HAPROXYS.iter().filter(|(.., is_http)| !is_http);
    let frontends: String = FLAGS
        .iter()
        .enumerate()
        .map(|(n, flags)| {
            format!(
                "frontend f{n}\n mode tcp\n bind @FREE@\n log-format \"{}\"\n default_backend tcp\n",
                format(both().map(|(name, ..)| *name), flags)
            )
        })
        .collect();
    let origin = origin();
    let more = format!("{frontends}backend tcp\n mode tcp\n server s1 {}\n", origin.address);
    let rows: Vec<(&str, Same)> = both().map(|(name, same, _)| (*name, *same)).collect();
    compare(&more, &rows, |address, _, _| to_end(connect(address), REQUESTS[0]), (FLAGS.len(), 1));
}

/// The example of HAProxy's manual. Ids go to the server and into the line; those of two requests of a connection differ.
#[test]
fn an_id_of_haproxys_manual_has_the_same_shape() {
    let origin = origin();
    let shapes = ["haproxy", "ours"].map(|whose| {
        let syslog = Syslog::new();
        let text = file(
            "frontend f0\n bind @FREE@\n unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid\n unique-id-header X-Id\n \
             log-format %ID\n default_backend be\n",
            syslog.address(),
            origin.address,
        );
        let peer = if whose == "haproxy" { Peer::haproxy(&text) } else { Peer::in_haproxys_place(&text) };
        let get = "GET / HTTP/1.1\r\nHost: h.example\r\n\r\n";
        to_end(connect(peer.more[0]), &format!("{get}{}", get.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")));
        let ids = [syslog.any_line(), syslog.any_line()].map(|line| {
            let (_, id) = line.trim_end().split_once("]: ").expect("a header");
            let sent = |head: &str| head.to_lowercase().contains(&format!("x-id: {}\r\n", id.to_lowercase()));
            assert!(origin.notes().iter().any(|head| sent(&String::from_utf8_lossy(head))), "{whose}: no server got {id:?}");
            id.to_owned()
        });
        assert_ne!(ids[0], ids[1], "{whose}");
        let address = "7F000001:[0-9A-F]{4}";
        let whole = Regex::new(&format!("^{address}_{address}_[0-9A-F]{{8}}_[0-9A-F]{{4,8}}:[0-9A-F]{{4,8}}$"));
        let whole = whole.expect("a pattern");
        ids.map(|id| (whole.is_match(&id), Regex::new("[0-9A-F]+").expect("a pattern").replace_all(&id, "N").into_owned(), id))
    });
    for (theirs, ours) in shapes[0].iter().zip(&shapes[1]) {
        assert!(theirs.0 && ours.0 && theirs.1 == ours.1, "ours {ours:?} theirs {theirs:?}");
    }
}

/// A frontend of ours with this format, and where its lines arrive. It ends when it is dropped: the socket of its target stays
/// open, which looks as if something leaked.
fn ours(log_format: &str, origin: &Origin) -> (Shardgate, Syslog) {
    let syslog = Syslog::new();
    let body = format!(
        "[frontend.fe]\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\nlog-format = '''{log_format}'''\n\
         log = [{{ address = \"{}\", len = 8192 }}]\n[backend.be]\nserver.s1.address = \"{}\"\n",
        syslog.address(),
        origin.address
    );
    (Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start(), syslog)
}

#[test]
fn our_own_variables_say_what_they_are_for() {
    let origin = origin();
    let (gate, syslog) = ours(&format(OURS.iter().map(|(name, _)| *name), ""), &origin);
    to_end(gate.connect("fe"), REQUESTS[0]);
    let line = values(&syslog.line());
    for (name, pattern) in OURS {
        let whole = Regex::new(&format!("^(?:{pattern})$")).expect("a pattern");
        assert!(whole.is_match(&line[*name]), "%{name} says {:?}, not {pattern}", line[*name]);
    }
}

/// All variables, named, in one object.
fn object(encoding: &str) -> String {
    let items: Vec<String> = FIELDS.iter().map(|info| format!("%({0}){0}", info.name)).collect();
    format!("%{{{encoding}}}o {}", items.join(" "))
}

#[test]
fn objects_have_every_variable_with_its_type() {
    let origin = origin();
    let (gate, syslog) = ours(&object("+json"), &origin);
    to_end(gate.connect("fe"), REQUESTS[0]);
    let line = syslog.line();
    let (_, json) = line.split_once("]: ").expect("a header");
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let (gate, syslog) = ours(&object("+cbor"), &origin);
    to_end(gate.connect("fe"), REQUESTS[0]);
    let line = syslog.line();
    let (_, digits) = line.trim_end().split_once("]: ").expect("a header");
    let bytes: Vec<u8> = (0..digits.len() / 2)
        .map(|n| u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).expect("hexadecimal digits"))
        .collect();
    let cbor = cbor_map(&bytes);
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(FIELDS.len()));
    assert_eq!(cbor.len(), FIELDS.len());
    for info in FIELDS {
        let (json, cbor) = (&json[info.name], &cbor[info.name]);
        // What is not there has no type: ids of traces, TLS of a connection without it.
        let good = if info.is_number { json.is_number() } else { json.is_string() };
        assert!(good || json.is_null(), "%{} is {json}", info.name);
        assert_eq!((json.is_number(), json.is_null()), (cbor.is_number(), cbor.is_null()), "%{}", info.name);
        if matches!(HAPROXYS.iter().find(|(name, ..)| *name == info.name), Some((_, All, _))) {
            assert_eq!(json, cbor, "%{}", info.name);
        }
    }
    assert_eq!((&json["ST"], &json["HM"], &json["sslv"]), (&200.into(), &"GET".into(), &().into()));
}

/// Reads a CBOR map of texts and numbers that ends with a break (RFC 8949).
fn cbor_map(bytes: &[u8]) -> BTreeMap<String, serde_json::Value> {
    let (mut map, mut rest) = (BTreeMap::new(), &bytes[1..]);
    assert_eq!((bytes[0], bytes[bytes.len() - 1]), (0xbf, 0xff));
    while rest[0] != 0xff {
        let name = cbor_item(&mut rest);
        let value = cbor_item(&mut rest);
        map.insert(name.as_str().expect("a name").to_owned(), value);
    }
    assert_eq!(rest.len(), 1);
    map
}

fn cbor_item(rest: &mut &[u8]) -> serde_json::Value {
    let (major, short) = (rest[0] >> 5, rest[0] & 31);
    if rest[0] == 0xf6 {
        *rest = &rest[1..];
        return serde_json::Value::Null;
    }
    let len = if short < 24 { 0 } else { 1 << (short - 24) };
    let number = rest[1..=len].iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    let number = if short < 24 { u64::from(short) } else { number };
    *rest = &rest[1 + len..];
    match major {
        0 => number.into(),
        1 => (-1 - i64::try_from(number).expect("a small number")).into(),
        3 => {
            let (text, after) = rest.split_at(usize::try_from(number).expect("a length"));
            *rest = after;
            String::from_utf8(text.to_vec()).expect("text").into()
        }
        other => panic!("major type {other}"),
    }
}

#[test]
fn an_unknown_variable_is_an_error_that_helps() {
    for (mode, format, told) in [
        ("tcp", "%ci %HM", ["the log format of TCP mode reads HTTP", "use it in a frontend of HTTP mode"]),
        ("http", "%ci %STT", ["unknown variable `%STT`", "did you mean `%ST`?"]),
        ("http", "%{+Y}ci", ["unknown flag `+Y`", "flags are +Q (quotes), +X (hexadecimal), +E (escapes)"]),
        ("http", "100% %ci", ["nothing follows the percent sign", "write %% for a percent sign"]),
    ] {
        let body = format!(
            "[frontend.fe]\nbind = \"127.0.0.1:0\"\nmode = \"{mode}\"\nlog = true\nlog-format = \"{format}\"\n\
             default-backend = \"be\"\n[backend.be]\nmode = \"{mode}\"\nserver.s1.address = \"127.0.0.1:9\"\n"
        );
        let done = Shardgate::with(&body).run_to_end("check");
        let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert_eq!(done.status.code(), Some(1), "{text}");
        for part in told {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }
}
