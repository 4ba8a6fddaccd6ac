//! Pattern sets against the plainest thing that could be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{Entry, Method, PatternFile, PatternSet, parse_network};
use crate::policy::sample::Value;

fn entries(patterns: &[impl AsRef<[u8]>], ignore_case: bool) -> Vec<Entry> {
    patterns.iter().map(|p| Entry { pattern: p.as_ref().to_vec(), value: None, ignore_case }).collect()
}

/// The best entry, found by looking at all of them.
fn naive_text(method: Method, entries: &[Entry], text: &[u8]) -> Option<usize> {
    let matches = |e: &Entry| {
        let fold = |b: &[u8]| if e.ignore_case { b.to_ascii_lowercase() } else { b.to_vec() };
        let (p, t) = (fold(&e.pattern), fold(text));
        let part = |delimiters: &[u8]| {
            let p: &[u8] = &p;
            let is = |b: &u8| delimiters.contains(b);
            let start = p.iter().position(|b| !is(b)).expect("not only delimiters");
            let end = p.iter().rposition(|b| !is(b)).expect("not only delimiters");
            let p = &p[start..=end];
            (0..=t.len().saturating_sub(p.len())).any(|at| {
                t[at..].starts_with(p) && (at == 0 || is(&t[at - 1])) && t.get(at + p.len()).is_none_or(is)
            })
        };
        match method {
            Method::Str => p == t,
            Method::Beg => t.starts_with(&p),
            Method::End => t.ends_with(&p),
            Method::Sub => p.is_empty() || t.windows(p.len()).any(|w| w == p),
            Method::Dir => part(b"/?"),
            Method::Dom => part(b"./?:"),
            _ => unreachable!("only text methods"),
        }
    };
    let mut found: Vec<usize> = (0..entries.len()).filter(|i| matches(&entries[*i])).collect();
    if method == Method::Beg {
        found.sort_by_key(|i| (usize::MAX - entries[*i].pattern.len(), *i));
    }
    found.first().copied()
}

fn text_entries(method: Method) -> impl Strategy<Value = Vec<Entry>> {
    let pattern = if matches!(method, Method::Dir | Method::Dom) {
        "[./]?[abA]{1,2}([./][abA]{1,2})?[./]?"
    } else {
        "[abA/.]{0,4}"
    };
    prop::collection::vec((pattern, any::<bool>()), 1..12).prop_map(|list| {
        list.into_iter()
            .map(|(p, ignore_case)| Entry { pattern: p.into_bytes(), value: None, ignore_case })
            .collect()
    })
}

fn check_text(method: Method, entries: &[Entry], text: &str) -> Result<(), TestCaseError> {
    let set = PatternSet::compile(method, entries).expect("valid patterns");
    let value = Value::Str(text.as_bytes());
    let expected = naive_text(method, entries, text.as_bytes());
    prop_assert_eq!(set.find(&value, &mut Vec::new()), expected);
    prop_assert_eq!(set.matches(&value, &mut Vec::new()), expected.is_some());
    Ok(())
}

proptest! {
    #[test]
    fn exact_agrees(entries in text_entries(Method::Str), text in "[abA/.]{0,4}") {
        check_text(Method::Str, &entries, &text)?;
    }
    #[test]
    fn beginnings_agree(entries in text_entries(Method::Beg), text in "[abA/.]{0,6}") {
        check_text(Method::Beg, &entries, &text)?;
    }
    #[test]
    fn endings_agree(entries in text_entries(Method::End), text in "[abA/.]{0,6}") {
        check_text(Method::End, &entries, &text)?;
    }
    #[test]
    fn substrings_agree(entries in text_entries(Method::Sub), text in "[abA/.]{0,8}") {
        check_text(Method::Sub, &entries, &text)?;
    }
    #[test]
    fn directories_agree(entries in text_entries(Method::Dir), text in "[abA/.?]{0,10}") {
        check_text(Method::Dir, &entries, &text)?;
    }
    #[test]
    fn domains_agree(entries in text_entries(Method::Dom), text in "[abA/.:?]{0,10}") {
        check_text(Method::Dom, &entries, &text)?;
    }

    #[test]
    fn ranges_agree(ranges in prop::collection::vec((-20_i64..20, 0_i64..10), 1..10), value in -25_i64..35) {
        let patterns: Vec<_> = ranges.iter().map(|(low, len)| format!("{low}:{}", low + len)).collect();
        let set = PatternSet::compile(Method::Int, &entries(&patterns, false)).expect("valid ranges");
        let expected = ranges.iter().position(|(low, len)| (*low..=low + len).contains(&value));
        prop_assert_eq!(set.find(&Value::Int(value), &mut Vec::new()), expected);
    }

    #[test]
    fn networks_agree(
        v4 in prop::collection::vec((any::<u32>(), 0_u32..=32), 0..40),
        v6 in prop::collection::vec((any::<u128>(), 0_u32..=128), 0..20),
        probes in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>(), 0_u32..32), 1..20),
    ) {
        let mut patterns: Vec<String> =
            v4.iter().map(|(a, p)| format!("{}/{p}", Ipv4Addr::from_bits(*a))).collect();
        patterns.extend(v6.iter().map(|(a, p)| format!("{}/{p}", Ipv6Addr::from_bits(*a))));
        prop_assume!(!patterns.is_empty());
        let set = PatternSet::compile(Method::Ip, &entries(&patterns, false)).expect("valid networks");
        for (index, noise, shift) in probes {
            // Near a network, so that many probes hit.
            let (address, _) = parse_network(&patterns[index.index(patterns.len())]).expect("valid network");
            let probe = match address {
                IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() ^ (noise >> shift))),
                IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() ^ (u128::from(noise) << shift))),
            };
            prop_assert_eq!(set.find(&Value::Ip(probe), &mut Vec::new()), naive_ip(&patterns, probe), "{}", probe);
        }
    }
}

/// The longest network of the address's own family, or else of the other one.
fn naive_ip(patterns: &[String], probe: IpAddr) -> Option<usize> {
    let best = |probe: IpAddr| {
        let mut best: Option<(u32, usize)> = None;
        for (at, pattern) in patterns.iter().enumerate() {
            let (address, prefix) = parse_network(pattern).expect("valid network");
            let inside = match (address, probe) {
                (IpAddr::V4(n), IpAddr::V4(a)) => {
                    prefix == 0 || (n.to_bits() ^ a.to_bits()) >> (32 - prefix) == 0
                }
                (IpAddr::V6(n), IpAddr::V6(a)) => {
                    prefix == 0 || (n.to_bits() ^ a.to_bits()) >> (128 - prefix) == 0
                }
                _ => false,
            };
            if inside && best.is_none_or(|(longest, _)| prefix > longest) {
                best = Some((prefix, at));
            }
        }
        best.map(|(_, at)| at)
    };
    let other = match probe {
        IpAddr::V4(a) => Some(IpAddr::V6(a.to_ipv6_mapped())),
        IpAddr::V6(a) => {
            let bits = a.to_bits();
            let low = u32::try_from(bits & 0xffff_ffff).expect("masked");
            match bits >> 32 {
                0 | 0xffff => Some(IpAddr::V4(Ipv4Addr::from_bits(low))),
                _ if bits >> 112 == 0x2002 => Some(IpAddr::V4(Ipv4Addr::from_bits(
                    u32::try_from((bits >> 80) & 0xffff_ffff).expect("masked"),
                ))),
                _ => None,
            }
        }
    };
    best(probe).or_else(|| best(other?))
}

#[test]
fn many_networks_use_the_table_and_agree() {
    // Every /24 of 10.0.0.0/8 with an even third octet, and two large networks around them.
    let mut patterns: Vec<String> =
        (0..=255).flat_map(|b| (0..=255).step_by(2).map(move |c| format!("10.{b}.{c}.0/24"))).collect();
    patterns.push("10.0.0.0/8".to_owned());
    patterns.push("0.0.0.0/0".to_owned());
    let set = PatternSet::compile(Method::Ip, &entries(&patterns, false)).expect("valid networks");
    let mut fold = Vec::new();
    let mut find = |text: &str| {
        let ip = text.parse::<IpAddr>().expect("an address");
        set.find(&Value::Ip(ip), &mut fold).map(|at| patterns[at].clone())
    };
    for (address, expected) in [
        ("10.0.0.0", "10.0.0.0/24"),
        ("10.255.254.255", "10.255.254.0/24"),
        ("10.255.255.255", "10.0.0.0/8"),
        ("10.7.1.9", "10.0.0.0/8"),
        ("9.255.255.255", "0.0.0.0/0"),
        ("11.0.0.0", "0.0.0.0/0"),
        ("255.255.255.255", "0.0.0.0/0"),
        ("0.0.0.0", "0.0.0.0/0"),
        ("::ffff:10.3.2.1", "10.3.2.0/24"),
        ("2002:a03:201::", "10.3.2.0/24"),
    ] {
        assert_eq!(find(address).as_deref(), Some(expected), "{address}");
    }
    assert_eq!(find("2001:db8::1"), None);
}

#[test]
fn addresses_may_be_abbreviated_as_in_haproxy() {
    let ok = [
        ("192.168.1", "192.168.0.1", 32),
        ("10.12/8", "10.0.0.12", 8),
        ("127.1", "127.0.0.1", 32),
        ("10.0.0.1/255.255.0.0", "10.0.0.1", 16),
        ("::/0", "::", 0),
        ("2001:db8::1/64", "2001:db8::1", 64),
    ];
    for (text, address, prefix) in ok {
        assert_eq!(parse_network(text), Ok((address.parse().expect("an address"), prefix)), "{text}");
    }
    for text in [
        "",
        "1",
        "localhost",
        "1.2.3.4.5",
        "1..2",
        "1.2.3.256",
        "1.2.3.4/33",
        "::/129",
        "1.2.3.4/",
        "::/ffff::",
        "1.2.3.4/255.0.255.0",
    ] {
        assert!(parse_network(text).is_err(), "{text}");
    }
}

#[test]
fn versions_count_minor_numbers() {
    let find = |pattern: &str, value| {
        let set = PatternSet::compile(Method::Version, &entries(&[pattern], false)).expect("valid");
        set.find(&Value::Int(value), &mut Vec::new()).is_some()
    };
    let v = |major: i64, minor: i64| (major << 16) + minor;
    assert!(find("3.1", v(3, 1)) && !find("3.1", v(3, 2)));
    assert!(find("3:3.1", v(3, 0)) && find("3:3.1", v(3, 1)) && !find("3:3.1", v(3, 2)));
    assert!(find("3.3:", v(3, 4)) && !find("3.3:", v(3, 1)));
    assert!(PatternSet::compile(Method::Version, &entries(&["3.x"], false)).is_err());
}

#[test]
fn regexes_in_groups_find_the_first() {
    let patterns: Vec<String> = (0..200).map(|n| format!("^/item/{n}(/|$)")).collect();
    let set = PatternSet::compile(Method::Reg, &entries(&patterns, false)).expect("valid");
    let mut fold = Vec::new();
    for n in [0, 63, 64, 199] {
        let path = format!("/item/{n}/x");
        assert_eq!(set.find(&Value::Str(path.as_bytes()), &mut fold), Some(n));
    }
    assert!(!set.matches(&Value::Str(b"/item/200"), &mut fold));
    let mixed = [
        Entry { pattern: b"^a|b$".to_vec(), value: None, ignore_case: true },
        Entry { pattern: b"^c".to_vec(), value: None, ignore_case: false },
    ];
    let set = PatternSet::compile(Method::Reg, &mixed).expect("valid");
    for (text, expected) in [("Ax", Some(0)), ("xB", Some(0)), ("cx", Some(1)), ("Cx", None)] {
        assert_eq!(set.find(&Value::Str(text.as_bytes()), &mut fold), expected, "{text}");
    }
}

#[test]
fn a_wrong_line_leaves_a_pattern_file_as_it_was() {
    let file = PatternFile::parse("nets", b"10.0.0.0/8\n", false);
    let shared = file.compile(Method::Ip, false).expect("valid");
    let hit = |text: &str| {
        let value = Value::Ip(text.parse().expect("an address"));
        shared.with(|set| set.matches(&value, &mut Vec::new()))
    };
    assert!(hit("10.1.1.1"));
    let error = file.replace(vec![(b"11.0.0.0/8".to_vec(), None), (b"x".to_vec(), None)]).expect_err("x");
    assert_eq!(error.entry, 1);
    assert!(hit("10.1.1.1") && !hit("11.1.1.1"));
    file.replace(vec![(b"11.0.0.0/8".to_vec(), None)]).expect("valid");
    assert!(!hit("10.1.1.1") && hit("11.1.1.1"));
    assert_eq!(file.lines().len(), 1);
}
