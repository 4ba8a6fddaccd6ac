//! Tables of accepted and refused values.

use super::*;

fn ms(ms: u64) -> Option<Duration> {
    Some(Duration::from_millis(ms))
}

#[test]
fn durations_have_haproxys_units() {
    for (text, expected) in [
        ("5s", ms(5_000)),
        ("500ms", ms(500)),
        ("500", ms(500)),
        ("1m", ms(60_000)),
        ("2h", ms(7_200_000)),
        ("1d", ms(86_400_000)),
        ("2000us", ms(2)),
        ("0", ms(0)),
        ("24d", ms(24 * 86_400_000)),
        ("250us", None),
        ("1500us", None),
        ("25d", None),
        ("99999999999999999999s", None),
        ("18446744073709551615d", None),
        ("", None),
        ("s", None),
        ("5 s", None),
        ("-5s", None),
        ("5sec", None),
        ("1.5s", None),
        ("5S", None),
    ] {
        assert_eq!(duration(text).ok(), expected, "{text:?}");
    }
}

#[test]
fn durations_are_shown_as_they_are_written() {
    for text in ["500ms", "5s", "1m", "2h", "1d", "90s", "1500ms", "0ms"] {
        assert_eq!(show_duration(duration(text).expect("valid")), text);
    }
}

#[test]
fn sizes_are_powers_of_1024() {
    for (text, expected) in [
        ("16k", Some(16_384)),
        ("16K", Some(16_384)),
        ("1m", Some(1 << 20)),
        ("2g", Some(2 << 30)),
        ("100", Some(100)),
        ("", None),
        ("k", None),
        ("1kb", None),
        ("-1", None),
        ("99999999999999g", None),
    ] {
        assert_eq!(size(text).ok(), expected, "{text:?}");
    }
}

fn tcp(text: &str) -> BindAddress {
    BindAddress::Ip(text.parse().expect("valid"))
}

#[test]
fn binds_take_every_form_of_the_documentation() {
    for (text, expected) in [
        ("*:80", vec![tcp("0.0.0.0:80")]),
        (":80", vec![tcp("0.0.0.0:80")]),
        ("[::]:80", vec![tcp("[::]:80")]),
        (":::80", vec![tcp("[::]:80")]),
        ("ipv6@*:80", vec![tcp("[::]:80")]),
        ("ipv4@127.0.0.1:80", vec![tcp("127.0.0.1:80")]),
        ("127.0.0.1:0", vec![tcp("127.0.0.1:0")]),
        ("[2001:db8::1]:443", vec![tcp("[2001:db8::1]:443")]),
        ("127.0.0.1:10-12", vec![tcp("127.0.0.1:10"), tcp("127.0.0.1:11"), tcp("127.0.0.1:12")]),
        ("*:80, [::]:81", vec![tcp("0.0.0.0:80"), tcp("[::]:81")]),
        ("unix@/run/a.sock", vec![BindAddress::Unix("/run/a.sock".into())]),
        ("/run/a.sock", vec![BindAddress::Unix("/run/a.sock".into())]),
        ("abns@web", vec![BindAddress::Abstract("web".into())]),
        ("fd@3", vec![BindAddress::Fd(3)]),
    ] {
        assert_eq!(bind_addresses(text), Ok(expected), "{text:?}");
    }
    assert_eq!(bind_addresses("*:1-65535").map(|all| all.len()), Ok(65_535));
}

#[test]
fn binds_refuse_what_cannot_be_bound() {
    for text in [
        "",
        ",",
        "80",
        "*",
        "*:",
        "*:http",
        "*:65536",
        "*:20-10",
        "*:0-10",
        "localhost:80",
        "1.2.3:80",
        "::1",
        "[::1]",
        "unix@relative",
        "abns@",
        "fd@",
        "fd@-1",
        "fd@x",
        "*:80,",
        "1.2.3.4:80:90",
        "é:80",
    ] {
        assert!(bind_addresses(text).is_err(), "{text:?}");
    }
    assert!(bind_addresses(&format!("/{}", "x".repeat(200))).is_err());
    let help = bind_addresses("*:20-10").expect_err("reversed").help;
    assert_eq!(help.as_deref(), Some("write 10-20"));
}

#[test]
fn servers_are_addresses_or_names() {
    let name = |host: &str, port| ServerAddress::Name { host: host.into(), port };
    for (text, expected) in [
        ("192.0.2.1:80", Some(ServerAddress::Ip("192.0.2.1:80".parse().expect("valid")))),
        ("[2001:db8::1]:80", Some(ServerAddress::Ip("[2001:db8::1]:80".parse().expect("valid")))),
        ("2001:db8::1:80", None),
        ("localhost:80", Some(name("localhost", 80))),
        ("web-1.example.com.:80", Some(name("web-1.example.com.", 80))),
        ("_tcp.web:80", Some(name("_tcp.web", 80))),
        ("unix@/run/a", Some(ServerAddress::Unix("/run/a".into()))),
        ("abns@a", Some(ServerAddress::Abstract("a".into()))),
        ("192.0.2.1", None),
        ("192.0.2.1:0", None),
        ("192.0.2.1:65536", None),
        ("192.0.2.256:80", None),
        ("0.0.0.0:80", Some(ServerAddress::Ip("0.0.0.0:80".parse().expect("valid")))),
        ("[::]:80", Some(ServerAddress::Ip("[::]:80".parse().expect("valid")))),
        ("0.0.0.0:0", Some(ServerAddress::Ip("0.0.0.0:0".parse().expect("valid")))),
        ("fd@3", None),
        ("-web:80", None),
        ("we b:80", None),
        (":80", None),
        ("", None),
    ] {
        assert_eq!(server_address(text).ok(), expected, "{text:?}");
    }
}

#[test]
fn sources_have_an_optional_port_range() {
    let one = |address: &str, ports| Some(Source { address: address.parse().expect("valid"), ports });
    for (text, expected) in [
        ("192.0.2.1", one("192.0.2.1", None)),
        ("192.0.2.1:1024-65000", one("192.0.2.1", Some((1024, 65000)))),
        ("[2001:db8::1]:1024-65000", one("2001:db8::1", Some((1024, 65000)))),
        ("2001:db8::1", one("2001:db8::1", None)),
        ("192.0.2.1:0-10", None),
        ("192.0.2.1:20-10", None),
        ("192.0.2.1:", None),
        ("name", None),
    ] {
        assert_eq!(source(text).ok(), expected, "{text:?}");
    }
}

#[test]
fn networks_lose_their_host_bits() {
    for (text, expected) in [
        ("10.1.2.3/8", Some(("10.0.0.0", 8))),
        ("10.1.2.3", Some(("10.1.2.3", 32))),
        ("0.0.0.0/0", Some(("0.0.0.0", 0))),
        ("2001:db8::1/32", Some(("2001:db8::", 32))),
        ("::/0", Some(("::", 0))),
        ("10.0.0.0/33", None),
        ("::/129", None),
        ("10.0.0.0/", None),
        ("x", None),
    ] {
        let expected = expected.map(|(a, prefix)| Cidr { address: a.parse().expect("valid"), prefix });
        assert_eq!(cidr(text).ok(), expected, "{text:?}");
    }
}

#[test]
fn cpu_lists_are_the_kernels() {
    assert_eq!(cpu_list("0-2,8"), Ok(vec![0, 1, 2, 8]));
    assert_eq!(cpu_list("5"), Ok(vec![5]));
    for text in ["", "-", "3-1", "a", "0,,1", "99999999"] {
        assert!(cpu_list(text).is_err(), "{text:?}");
    }
}

#[test]
fn hex_is_two_digits_a_byte() {
    assert_eq!(hex("50 49 4e47"), Ok(b"PING".to_vec()));
    assert_eq!(hex(""), Ok(vec![]));
    for text in ["5", "zz", "5é"] {
        assert!(hex(text).is_err(), "{text:?}");
    }
}

#[test]
fn names_are_haproxys() {
    for name in ["web", "web-1.a_b:c", "0"] {
        assert!(check_name(name).is_ok(), "{name:?}");
    }
    for name in ["", "a b", "a/b", "é", "a\"b", "a\n"] {
        assert!(check_name(name).is_err(), "{name:?}");
    }
}

#[test]
fn variables_are_expanded_and_offsets_lead_back() {
    let lookup = |name: &str| match name {
        "PORT" => Some("8080".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    for (text, expected) in [
        ("*:${PORT}", "*:8080"),
        ("${PORT}${PORT}", "80808080"),
        ("${NONE-a-b}", "a-b"),
        ("${NONE-}x", "x"),
        ("${EMPTY-a}x", "x"),
        ("$${PORT}", "${PORT}"),
        ("$PORT $", "$PORT $"),
        ("é${PORT}é", "é8080é"),
    ] {
        assert_eq!(expand(text, &lookup).map(|e| e.text), Ok(expected.to_owned()), "{text:?}");
    }
    for (text, at) in [("a${NONE}", 1), ("${PORT", 0), ("${}", 0), ("${a b}", 0)] {
        assert_eq!(expand(text, &lookup).map_err(|(at, _)| at), Err(at), "{text:?}");
    }
    let expanded = expand("a${PORT}bc${EMPTY}d", &lookup).expect("all set");
    assert_eq!(expanded.text, "a8080bcd");
    for (at, original) in [(0, 0), (1, 1), (4, 1), (5, 8), (6, 9), (7, 18)] {
        assert_eq!(expanded.original_offset(at), original, "byte {at}");
    }
}
