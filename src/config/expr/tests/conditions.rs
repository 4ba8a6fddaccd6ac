//! Conditions: grammar, matching, waiting.

use super::{World, condition, condition_in, truth};
use crate::config::expr::Context;
use crate::policy::acl::Truth::{False, NeedMore, True};
use crate::policy::pattern::PatternTable;
use crate::policy::sample::Scratch;
use crate::policy::sample::testing::TestFacts;

fn facts() -> TestFacts {
    TestFacts::new("192.0.2.7:1234", "[2001:db8::1]:443")
}

#[test]
fn grammar() {
    let acls = [
        ("t", vec!["always_true"]),
        ("f", vec!["always_false"]),
        ("either", vec!["always_false", "always_true"]),
        ("or-else", vec!["always_true"]),
        ("not.x", vec!["always_true"]),
    ];
    let cases = [
        ("t", true),
        ("f", false),
        ("!t", false),
        ("! t", false),
        ("!!t", true),
        ("not f", true),
        ("not not f", false),
        ("t t", true),
        ("t f", false),
        ("t and f", false),
        ("t && t", true),
        ("f or t", true),
        ("f || t", true),
        ("t or t f", true),
        ("t f or t", true),
        ("f t or f", false),
        ("(t or f) f", false),
        ("t or (f f)", true),
        ("!(t f)", true),
        ("not (t or f) or t", true),
        ("((t))", true),
        ("either", true),
        ("!either", false),
        ("or-else not.x", true),
        ("TRUE FALSE", false),
        ("{ always_true } { always_true }", true),
        ("!{ always_true }", false),
        ("({ always_true } or f) and t", true),
        ("{ str(}) -m found } t", true),
    ];
    for (text, expected) in cases {
        let compiled =
            condition(text, &acls, Context::Connection).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let truth = compiled.eval(&facts(), &mut Scratch::default());
        assert_eq!(truth, if expected { True } else { False }, "{text}");
        let negated = compiled.negated().eval(&facts(), &mut Scratch::default());
        assert_eq!(negated, if expected { False } else { True }, "unless {text}");
    }
}

#[test]
fn matching() {
    let yes = [
        "{ src 192.0.2.0/24 }",
        "{ src 10.0.0.0/8 192.0.2.7 }",
        "{ src ::ffff:192.0.2.0/120 }",
        "{ dst 2001:db8::/32 }",
        "{ src_port 1234 }",
        "{ src_port 1:10 1000:2000 }",
        "{ src_port gt 1233 }",
        "{ src_port ge 1234 }",
        "{ src_port lt 1235 }",
        "{ src_port le 1234 }",
        "{ src_port eq 1 1234 }",
        "{ src -m str 192.0.2.7 }",
        "{ src -m beg 192.0. }",
        "{ src -m found }",
        "{ src_port -m len 4 }",
        "{ int(1) -m bool }",
        "{ int(-3) -5:-1 }",
        "{ int(-3) lt 0 }",
        "{ fc_rcvd_proxy -m int 0 }",
        "{ str(abc) abc }",
        "{ str(abc) -i ABC }",
        "{ str(abc) -m beg x a }",
        "{ str(abc) -m end -i BC }",
        "{ str(abc) -m sub b }",
        "{ str(abc) -m sub -i B }",
        "{ str(abc) -m reg ^a.c$ }",
        "{ str(abc) -m reg -i ^A.C$ }",
        "{ str(abc) -m reg x ^a y }",
        "{ str(a/b/c) -m dir b }",
        "{ str(/a/b/c) -m dir /a/b/ }",
        "{ str(/a/b?c) -m dir b }",
        "{ str(www.example.com:80) -m dom example.com }",
        "{ str(-i) -- -i }",
        "{ str(a b) 'a b' }",
        "{ str(a b) a\\ b }",
        "{ str('a\"b') 'a\"b' }",
        "{ str(abc) -m bin 616263 }",
        "{ bin(00ff) -m bin 00FF }",
        "{ bin(00ff) -m len 2 }",
        "{ 'str(a b),upper' 'A B' }",
        "{ \"str('x y'),word(2,' ')\" y }",
        "{ str(O\\'x) O\\'x }",
        "{ hostname lb1 lb2 }",
    ];
    let no = [
        "{ src 10.0.0.0/8 }",
        "{ src 192.0.2.8 }",
        "{ src_port 1233 }",
        "{ src_port gt 1234 }",
        "{ src_port lt 1234 }",
        "{ int(0) -m bool }",
        "{ str(abc) ABC }",
        "{ str(abc) -m beg b }",
        "{ str(abc) -m end b }",
        "{ str(abc) -m reg ^b }",
        "{ str(/a/bb/c) -m dir b }",
        "{ str(www.example.com) -m dom exam }",
        "{ str(abc) -- }",
        "{ env(NONE) -m found }",
        "{ env(NONE) -m len 0 }",
        "{ int(9223372036854775807) lt 9223372036854775807 }",
        "LOCALHOST",
    ];
    for text in yes {
        assert_eq!(truth(text, &facts()), True, "{text}");
    }
    for text in no {
        assert_eq!(truth(text, &facts()), False, "{text}");
    }
}

#[test]
fn files_of_patterns() {
    let world = World {
        patterns: PatternTable::default(),
        files: vec![
            ("nets", "# offices\n192.0.2.0/24\n\n  2001:db8::/32\r\n".to_owned()),
            ("names", "Alpha\n #beta\n".to_owned()),
            ("m.map", "alpha 1\nbeta 2\n".to_owned()),
        ],
    };
    let cases = [
        ("{ src -f nets }", True),
        ("{ src -n -f nets }", True),
        ("{ str(alpha) -f names }", False),
        ("{ str(alpha) -i -f names }", True),
        ("{ str(#beta) -f names }", True),
        ("{ str(x) -f names -i X }", True),
        ("{ str(alphabet) -m beg -i -f names }", True),
        ("{ str(beta) -M -f m.map }", True),
        ("{ str(2) -M -f m.map }", False),
    ];
    for (text, expected) in cases {
        let result = condition_in(&world, text, &[], Context::Connection);
        let compiled = result.unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(compiled.eval(&facts(), &mut Scratch::default()), expected, "{text}");
    }
}

#[test]
fn flags_stand_before_patterns() {
    let error =
        condition("{ src 10.0.0.1 -f nets }", &[], Context::Connection).expect_err("-f is no address");
    assert_eq!(error.offset, 15);
}

#[test]
fn tests_over_first_bytes_wait_while_they_are_open() {
    let mut facts = facts();
    facts.bytes = b"abc".to_vec();
    let open = [
        ("{ req.len gt 3 }", NeedMore, False),
        ("{ req.len ge 3 }", True, True),
        ("{ req.len 0 }", NeedMore, False),
        ("!{ req.len gt 3 }", NeedMore, True),
        ("!{ req.len gt 2 }", False, False),
        ("{ req.payload(0,3) -m str abc }", True, True),
        ("{ req.payload(0,3) 616264 }", False, False),
        ("{ req.payload(0,4) -m str abcd }", NeedMore, False),
        ("{ req.payload(0,0) -m sub x }", NeedMore, False),
        ("{ req.payload(0,0) -m sub c }", True, True),
        ("REQ_CONTENT", True, True),
        ("WAIT_END", NeedMore, True),
        ("!WAIT_END", NeedMore, False),
        ("{ req.len gt 3 } { src 10.0.0.1 }", False, False),
        ("{ req.len gt 3 } { src 192.0.2.7 }", NeedMore, False),
        ("{ req.len gt 3 } or { src 192.0.2.7 }", True, True),
        ("{ req.len gt 3 } or { src 10.0.0.1 }", NeedMore, False),
        ("{ req.ssl_sni x }", False, False),
        ("{ req.ssl_hello_type 1 }", False, False),
        ("RDP_COOKIE", False, False),
    ];
    for (text, now, at_end) in open {
        facts.complete = false;
        assert_eq!(truth(text, &facts), now, "{text} while open");
        facts.complete = true;
        assert_eq!(truth(text, &facts), at_end, "{text} at the end");
    }
    facts.complete = false;
    facts.bytes = vec![0x16, 3, 1];
    assert_eq!(truth("{ req.ssl_sni x }", &facts), NeedMore);
}

/// A ClientHello of TLS 1.2 with a host name and protocols, in one record.
fn client_hello(host: &str, protocols: &[&str]) -> Vec<u8> {
    fn sized(width: usize, body: Vec<u8>) -> Vec<u8> {
        let len = u32::try_from(body.len()).expect("short").to_be_bytes();
        [&len[4 - width..], &body].concat()
    }
    let extension = |kind: u16, body: Vec<u8>| [&kind.to_be_bytes()[..], &sized(2, body)].concat();
    let name = [&[0][..], &sized(2, host.as_bytes().to_vec())].concat();
    let names = protocols.iter().flat_map(|p| sized(1, p.as_bytes().to_vec())).collect();
    let extensions = [extension(0, sized(2, name)), extension(16, sized(2, names))].concat();
    let body =
        [&[3, 3][..], &[7; 32], &[0], &sized(2, vec![0xc0, 0x2f]), &sized(1, vec![0]), &sized(2, extensions)]
            .concat();
    let handshake = [&[1][..], &sized(3, body)].concat();
    [&[22, 3, 1][..], &sized(2, handshake)].concat()
}

#[test]
fn the_client_hello_routes() {
    let mut facts = facts();
    let hello = client_hello("Www.Example.COM", &["h2", "http/1.1"]);
    let holds = [
        "{ req.ssl_sni -i www.example.com }",
        "{ req.ssl_sni,lower -m end .example.com }",
        "{ req.ssl_alpn h2 }",
        "{ req.ssl_alpn http/1.1 }",
        "{ req.ssl_ver 3.3 }",
        "{ req.ssl_ver ge 3.1 }",
        "{ req.ssl_hello_type 1 }",
        "!{ req.ssl_sni www.example.com }",
        "!{ req.ssl_alpn acme-tls/1 }",
        "!{ req.ssl_ver 3:3.2 }",
    ];
    for cut in 0..hello.len() {
        facts.bytes = hello[..cut].to_vec();
        for text in holds {
            assert_eq!(truth(text, &facts), NeedMore, "{text} after {cut} bytes");
        }
    }
    facts.bytes = hello;
    for text in holds {
        assert_eq!(truth(text, &facts), True, "{text}");
    }
}

#[test]
fn an_rdp_cookie_is_read() {
    let mut facts = facts();
    let cookie = b"Cookie: mstshash=alice\r\n";
    let len = u8::try_from(cookie.len() + 11).expect("short");
    facts.bytes = [&[3, 0, 0, len, len - 5, 0xe0, 0, 0, 0, 0, 0][..], cookie].concat();
    for text in ["RDP_COOKIE", "{ rdp_cookie(MSTSHASH) alice }", "{ req.rdp_cookie alice }"] {
        assert_eq!(truth(text, &facts), True, "{text}");
    }
    assert_eq!(truth("{ rdp_cookie(msts) -m found }", &facts), False);
    facts.bytes.truncate(20);
    assert_eq!(truth("RDP_COOKIE", &facts), NeedMore);
}
