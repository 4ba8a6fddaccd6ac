//! Log formats compiled and written: presets, flags, encodings, and bytes that want to break out of a line.

use std::time::Duration;

use super::{World, scope, variables};
use crate::base::net::Addr;
use crate::config::expr::{Acls, CLF, Context, ExprError, HTTPLOG, HTTPSLOG, REFUSED, SPAN, TCPLOG};
use crate::config::expr::{json_preset, parse_log_format};
use crate::policy::log::{
    Captured, Dates, EndWords, FIELDS, Levels, Line, LogFormat, Memory, Moment, Span, Timers,
};
use crate::policy::sample::Scratch;
use crate::policy::sample::testing::TestFacts;

fn compile(text: &str) -> Result<(LogFormat, Vec<Moment>), ExprError> {
    let (world, acls, mut variables) = (World::default(), Acls::default(), variables());
    let mut keep = Vec::new();
    let format = parse_log_format(text, &mut keep, &mut scope(&world, &acls, &mut variables, Context::Log))?;
    Ok((format, keep.iter().map(|keep| keep.moment).collect()))
}

fn address(text: &str) -> Addr {
    Addr::Ip(text.parse().expect("an address"))
}

const SPANS: [Span; 3] = [Some((0, 4)), None, Some((4, 8))];

fn line() -> Line<'static> {
    Line {
        accepted: Duration::from_millis(1_795_236_430_123),
        hostname: "lb1",
        pid: 42,
        client: address("192.0.2.1:50000"),
        local: address("192.0.2.9:80"),
        source: Addr::Unknown,
        remote: address("10.0.0.1:8080"),
        frontend: "fe",
        is_tls: false,
        tls: None,
        backend: "be",
        is_routed: true,
        server: Some("s1"),
        timers: Timers {
            handshake: Some(0),
            idle: Some(5_000),
            request: Some(1_200),
            queue: Some(0),
            connect: Some(2_900),
            response: Some(10_000),
            data: Some(900),
            total: 20_000,
        },
        status: 200,
        bytes_out: 1234,
        bytes_in: 99,
        is_early: false,
        origin: "txn_close",
        end: EndWords { letters: "--", name: "normal", by: "client" },
        cookie: *b"VN",
        retries: 1,
        redispatched: true,
        queued_before: (2, 3),
        levels: Levels { process: 5, frontend: 4, backend: 3, server: 2 },
        request: Some(b"GET /a?b=c HTTP/1.1"),
        sent: Some(b"GET /x HTTP/1.1"),
        host: Some(b"example.org"),
        request_captures: Captured { text: b"one|{\"\n\xff", spans: &SPANS },
        response_captures: Captured { text: b"", spans: &[] },
        cookies: [Some(b"S=1"), None],
        trace: None,
        unique_id: None,
        numbers: (7, 8),
        kept: Captured { text: b"", spans: &[] },
    }
}

fn written(text: &str, line: &Line<'_>, facts: &TestFacts) -> String {
    let (format, _) = compile(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let (mut scratch, mut dates, mut buffer) = (Scratch::default(), Dates::new(|_| 0), Vec::new());
    let mut memory = Memory { scratch: &mut scratch, dates: &mut dates, text: &mut buffer };
    let mut out = Vec::new();
    format.write(line, facts, &mut memory, &mut out);
    String::from_utf8(out).unwrap_or_else(|e| e.into_bytes().iter().map(|b| format!("{b:02x}")).collect())
}

fn plain(text: &str) -> String {
    written(text, &line(), &TestFacts::default())
}

#[test]
fn presets_are_haproxys() {
    assert_eq!(
        plain(HTTPLOG),
        "192.0.2.1:50000 [21/Nov/2026:04:47:10.128] fe be/s1 1/0/2/10/15 200 1234 S=1 - --VN 5/4/3/2/+1 2/3 \
         {one#7C||#7B#22#0A#FF} \"GET /a?b=c HTTP/1.1\""
    );
    let tcp = Line { timers: Timers { request: None, idle: None, ..line().timers }, ..line() };
    assert_eq!(
        written(TCPLOG, &tcp, &TestFacts::default()),
        "192.0.2.1:50000 [21/Nov/2026:04:47:10.123] fe be/s1 1/2/20 1234 -- 5/4/3/2/+1 2/3"
    );
    assert_eq!(
        plain(CLF),
        "192.0.2.1 - - [21/Nov/2026:04:47:10 +0000] \"GET /a?b=c HTTP/1.1\" 200 1234 \"\" \"\" 50000 123 \"fe\" \
         \"be\" \"s1\" 1 0 2 10 15 --VN 5 4 3 2 +1 2 3 \"S=1\" \"\" \"one#7C\" \"\" \"#7B#22#0A#FF\" "
    );
}

#[test]
fn flags_and_missing_values() {
    let facts = TestFacts::new("192.0.2.1:1", "192.0.2.9:80");
    for (format, expected) in [
        ("%%  a   b", "% a b"),
        ("%{+X}o %ci:%cp %pid %Ts", "C0000201:C350 002A 6B010DCE"),
        ("%{+Q}s %s", "\"s1\" s1"),
        ("%ID %{+Q}ID %bi", "- \"\" -"),
        ("%HM %HP %HPO %HQ %HU %HV", "GET /a /a ?b=c /a?b=c HTTP/1.1"),
        ("%HUF", "http://example.org/a?b=c"),
        ("%SR", "GET /x HTTP/1.1"),
        ("%[src]/%[int(255)]/%{+X}[int(255)]/%[var(txn.none)]", "192.0.2.1/255/255/-"),
        ("%[str(a\\nb)]", "a\\nb"),
        ("%TRu %Tau %Tq %Tu %Td", "1200 15000 6 15 0"),
        ("%ts %tsc %EC %EB", "-- --VN normal client"),
        ("%hrl %{+Q}hrl", "one#7C - #7B#22#0A#FF \"one#7C\" \"\" \"#7B#22#0A#FF\""),
        (
            "%T|%Tl|%trg|%TI",
            "21/Nov/2026:04:47:10 +0000|21/Nov/2026:04:47:10 +0000|21/Nov/2026:04:47:10 +0000|2026-11-21T04:47:10.128000+00:00",
        ),
    ] {
        let line = line();
        assert_eq!(
            written(format, &line, &facts).replace("6B010DCE", &format!("{:04X}", line.accepted.as_secs())),
            expected.replace("6B010DCE", &format!("{:04X}", line.accepted.as_secs())),
            "{format}"
        );
    }
}

#[test]
fn a_bad_request_and_an_early_line() {
    let line = Line { request: None, is_early: true, request_captures: Captured::default(), ..line() };
    let facts = TestFacts::default();
    assert_eq!(written("%{+Q}r %HM %HUF", &line, &facts), "\"<BADREQ>\" <BADREQ> <BADREQ>");
    assert_eq!(written("%hr %hs %B %Ta %Tt", &line, &facts), "+1234 +15 +20");
}

#[test]
fn objects_have_the_named_items() {
    let json = "%{+json}o %(status)ST %ci ignored %(client)ci %(id)ID %(e)[str(x)] %(n:sint)[int(-3)] %(c)hr";
    assert_eq!(
        plain(json),
        r#"{"status": 200, "client": "192.0.2.1", "id": null, "e": "x", "n": -3, "c": "{one|||{\"\n\u00FF}"}"#
    );
    let parsed: serde_json::Value = serde_json::from_str(&plain(json)).expect("JSON");
    assert_eq!(parsed["status"], 200);
    assert_eq!(
        plain("%{+cbor}o %(s)ST %(m)HM %(x)ID %(n)[int(-300)]"),
        "BF617318C8616D634745546178F6616E39012BFF"
    );
    assert_eq!(plain("%{+cbor,+bin}o %(s)ST"), "bf617318c8ff");
}

#[test]
fn the_other_presets_need_no_message() {
    for text in [HTTPSLOG, REFUSED, SPAN] {
        let (_, keep) = compile(text).expect("our own");
        assert!(keep.is_empty(), "{text}");
    }
}

#[test]
fn the_preset_is_an_object_in_both_modes() {
    for is_http in [false, true] {
        let text = json_preset(is_http);
        let parsed: serde_json::Value = serde_json::from_str(&plain(&text)).expect("JSON");
        assert_eq!(parsed["end"], "normal");
        assert_eq!(parsed["server"], "s1");
        assert_eq!(parsed.get("url.full").is_some(), is_http);
    }
}

#[test]
fn nothing_of_the_network_breaks_out_of_a_line() {
    let evil: Vec<u8> = (0..=255).collect();
    let spans: [Span; 1] = [Some((0, 256))];
    let captured = Captured { text: &evil, spans: &spans };
    let line = Line {
        request: Some(&evil),
        sent: Some(&evil),
        host: Some(&evil),
        request_captures: captured,
        response_captures: captured,
        cookies: [Some(&evil), Some(&evil)],
        unique_id: Some(&evil),
        kept: captured,
        ..line()
    };
    let mut facts = TestFacts::new("192.0.2.1:1", "192.0.2.9:80");
    facts.conn.pp_authority = Some(evil.clone());
    let fields: Vec<String> = FIELDS.iter().map(|info| format!("%{}", info.name)).collect();
    for field in fields.iter().map(String::as_str).chain(["%[fc_pp_authority]", "%[req.hdr(x)]"]) {
        for flags in ["", "{+E}", "{+Q}"] {
            let format = field.replacen('%', &format!("%{flags}"), 1);
            let text = written(&format, &line, &facts);
            let bytes = if text.starts_with("00") { vec![] } else { text.clone().into_bytes() };
            assert!(!bytes.iter().any(|b| *b < 0x20 || *b == 0x7f), "{format}: {text:?}");
            let quotes = text.matches('"').count() - text.matches("\\\"").count();
            let own = if flags == "{+Q}" { 2 } else { 0 };
            assert!(quotes <= own, "{format}: {text:?}");
        }
        let json = written(&format!("%{{+json}}o {}", field.replacen('%', "%(name)", 1)), &line, &facts);
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(&json);
        assert!(parsed.is_ok() && !json.contains('\n'), "{field}: {json}");
    }
}

#[test]
fn values_of_messages_are_kept_while_they_are_there() {
    let (_, moments) =
        compile("%[req.hdr(a)] %[src] %[res.hdr(b),lower] %[capture.req.hdr(0)]").expect("compiles");
    assert_eq!(moments, [Moment::Request, Moment::Response]);
}

#[test]
fn mistakes_are_told() {
    for (text, offset, part) in [
        ("%xx", 0, "unknown variable `%xx`"),
        ("a %", 2, "nothing follows"),
        ("%{+Z}o", 2, "unknown flag `+Z`"),
        ("%{+json}ST", 0, "whole line"),
        ("%(a", 1, "not closed"),
        ("%[nope]", 2, "unknown sample fetch"),
        ("%[req.payload(0,1)]", 0, "first bytes"),
    ] {
        let error = compile(text).expect_err(text);
        assert!(error.message.contains(part), "{text}: {}", error.message);
        assert_eq!(error.offset, offset, "{text}");
    }
}
