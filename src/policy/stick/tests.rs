use std::time::Duration;

use super::*;
use crate::base::time::Now;

fn ms(t: u64) -> Now {
    Now(1_000_000_000_000 + t * 1_000_000)
}

fn spec(size: u32, store: &[&str]) -> Spec {
    let period = |text: &str| match text.strip_suffix('s').and_then(|digits| digits.parse().ok()) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(format!("\"{text}\" is no time")),
    };
    Spec {
        name: "t".to_owned(),
        kind: KeyKind::Ip,
        size,
        expire: Some(Duration::from_secs(10)),
        nopurge: false,
        store: store.iter().flat_map(|text| parse_store(text, period).expect("columns")).collect(),
        backend: None,
    }
}

fn key(n: u8) -> Key {
    Key::from_slice(&[192, 0, 2, n])
}

fn cell(name: &str) -> Cell {
    Cell::parse(name).expect("a name")
}

/// Tells two tables what the other counted.
fn exchange(a: &mut Table, b: &mut Table, now: Now) {
    let (told_a, told_b) = (a.take_changes(), b.take_changes());
    a.apply(&told_b, now);
    b.apply(&told_a, now);
    assert!(!a.has_changes() && !b.has_changes(), "nothing is told back");
}

#[test]
fn every_kind_has_a_name_that_is_read_back() {
    for info in DATA {
        for index in [0, 3] {
            let cell = Cell { data: info.data, index: if info.is_array { index } else { 0 } };
            assert_eq!(Cell::parse(&cell.name()), Some(cell), "{}", cell.name());
        }
        assert_eq!(info.data.info().name, info.name);
    }
    for wrong in ["", "gpc", "gpc(x)", "gpc300", "conn_cur(1)", "gpc0(1)", "nothing"] {
        assert_eq!(Cell::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn words_of_store_are_columns_or_are_refused() {
    let period = |text: &str| text.parse().map(Duration::from_secs).map_err(|_| "no time".to_owned());
    let names = |text: &str| {
        let columns = parse_store(text, period)?;
        Ok(columns
            .iter()
            .map(|store| format!("{} {}", store.cell.name(), store.period_ms))
            .collect::<Vec<_>>())
    };
    for (text, expected) in [
        ("gpc0", Ok("gpc0 0")),
        ("gpc1", Ok("gpc1 0")),
        ("gpc(2)", Ok("gpc0 0, gpc1 0")),
        ("gpc_rate(2,3)", Ok("gpc0_rate 3000, gpc1_rate 3000")),
        ("gpc1_rate(3)", Ok("gpc1_rate 3000")),
        ("conn_rate(10)", Ok("conn_rate 10000")),
        ("conn_rate", Err("conn_rate needs a period")),
        ("conn_rate(x)", Err("no time")),
        ("conn_rate(0)", Err("at least a millisecond")),
        ("conn_cnt(10)", Err("takes no period")),
        ("gpc(0)", Err("from 1 to 16")),
        ("gpc(17)", Err("from 1 to 16")),
        ("gpc99", Err("nothing that a table keeps")),
        ("conn_rate(10", Err("nothing that a table keeps")),
        ("whatever", Err("nothing that a table keeps")),
    ] {
        match (names(text), expected) {
            (Ok(names), Ok(expected)) => assert_eq!(names.join(", "), expected),
            (Err(message), Err(expected)) => {
                let message: String = message;
                assert!(message.contains(expected), "{text}: {message}");
            }
            (got, _) => panic!("{text}: {got:?}"),
        }
    }
}

#[test]
fn values_are_keys_of_the_type_of_the_table() {
    for (kind, value, expected) in [
        (KeyKind::Ip, Value::Str(b"192.0.2.1"), Some("192.0.2.1")),
        (KeyKind::Ip, Value::Str(b"::ffff:192.0.2.1"), Some("192.0.2.1")),
        (KeyKind::Ip, Value::Str(b"2001:db8::1"), None),
        (KeyKind::Ip, Value::Str(b"x"), None),
        (KeyKind::Ipv6, Value::Str(b"192.0.2.1"), Some("::ffff:192.0.2.1")),
        (KeyKind::Ipv6, Value::Str(b"2001:db8::1"), Some("2001:db8::1")),
        (KeyKind::Integer, Value::Int(42), Some("42")),
        (KeyKind::Integer, Value::Int(-1), Some("4294967295")),
        (KeyKind::Integer, Value::Str(b"17"), Some("17")),
        (KeyKind::String(4), Value::Str(b"abcdef"), Some("abcd")),
        (KeyKind::String(9), Value::Str(b"a\n\\"), Some("a\\x0A\\x5C")),
        (KeyKind::String(9), Value::Str(b""), None),
        (KeyKind::String(9), Value::Int(12), Some("12")),
        (KeyKind::Binary(3), Value::Bin(b"\x01"), Some("010000")),
        (KeyKind::Binary(1), Value::Bin(b"\xab\xcd"), Some("AB")),
    ] {
        let key = kind.key(value);
        assert_eq!(key.as_ref().map(|key| kind.show(key)).as_deref(), expected, "{kind:?} {value:?}");
        if let (Some(key), Some(text)) = (key, expected)
            && !text.contains('\\')
        {
            assert_eq!(kind.parse(text), Some(key), "{text} is read back");
        }
    }
    assert_eq!(KeyKind::Integer.parse("1x"), None);
    assert_eq!(KeyKind::Binary(2).parse("0"), None);
}

#[test]
fn an_entry_lives_as_long_as_it_is_touched_or_held() {
    let mut table = Table::new(spec(10, &["gpc0"]), false);
    let slot = table.entry(&key(1), ms(0)).expect("room");
    table.add(slot, cell("gpc0"), 3, ms(0));
    assert_eq!(table.find(&key(1), ms(9_999)), Some(slot));
    assert_eq!(table.find(&key(1), ms(10_000)), None);
    table.touch(slot, ms(5_000));
    assert_eq!(table.find(&key(1), ms(14_999)), Some(slot));
    table.hold(slot, ms(5_000));
    assert_eq!(table.find(&key(1), ms(99_999)), Some(slot), "it is in use");
    assert!(!table.remove(slot));
    table.release(slot, ms(100_000));
    assert_eq!(table.find(&key(1), ms(109_999)), Some(slot));
    assert_eq!(table.find(&key(1), ms(110_000)), None);
    let again = table.entry(&key(1), ms(110_000)).expect("room");
    assert_eq!(table.read(again, cell("gpc0"), ms(110_000)), Some(0), "it begins anew");
    assert_eq!(table.read(again, cell("gpc1"), ms(110_000)), None, "it is not kept");
}

#[test]
fn a_full_table_forgets_the_oldest_that_nobody_holds() {
    let mut table = Table::new(spec(2, &["gpc0"]), false);
    let first = table.entry(&key(1), ms(0)).expect("room");
    table.entry(&key(2), ms(1)).expect("room");
    table.touch(first, ms(2));
    table.entry(&key(3), ms(3)).expect("the second was the oldest");
    assert_eq!(table.find(&key(2), ms(3)), None);
    table.hold(first, ms(3));
    let third = table.find(&key(3), ms(3)).expect("it is there");
    table.hold(third, ms(3));
    assert_eq!(table.entry(&key(4), ms(4)), Err(Full));
    table.release(third, ms(5));
    assert!(table.entry(&key(4), ms(5)).is_ok());
    assert_eq!(table.len(), 2);
    let mut kept = Table::new(Spec { nopurge: true, ..spec(1, &["gpc0"]) }, false);
    kept.entry(&key(1), ms(0)).expect("room");
    assert_eq!(kept.entry(&key(2), ms(1)), Err(Full));
    assert!(kept.entry(&key(2), ms(10_000)).is_ok(), "the first one is over");
}

#[test]
fn two_cores_count_one_sum() {
    let store = ["conn_cur", "conn_cnt", "conn_rate(10s)", "gpt0"];
    let (mut a, mut b) = (Table::new(spec(10, &store), true), Table::new(spec(10, &store), true));
    let (in_a, in_b) = (a.entry(&key(1), ms(0)).expect("room"), b.entry(&key(1), ms(0)).expect("room"));
    for name in ["conn_cur", "conn_cnt", "conn_rate"] {
        (0..3).for_each(|_| a.add(in_a, cell(name), 1, ms(0)));
        b.add(in_b, cell(name), 1, ms(0));
        assert_eq!((a.read(in_a, cell(name), ms(0)), b.read(in_b, cell(name), ms(0))), (Some(3), Some(1)));
    }
    exchange(&mut a, &mut b, ms(20));
    for name in ["conn_cur", "conn_cnt", "conn_rate"] {
        assert_eq!((a.read(in_a, cell(name), ms(20)), b.read(in_b, cell(name), ms(20))), (Some(4), Some(4)));
    }
    a.set(in_a, cell("gpt0"), 7, ms(30));
    (0..3).for_each(|_| a.add(in_a, cell("conn_cur"), -1, ms(30)));
    exchange(&mut a, &mut b, ms(40));
    assert_eq!(b.read(in_b, cell("gpt0"), ms(40)), Some(7));
    assert_eq!(b.read(in_b, cell("conn_cur"), ms(40)), Some(1));
    assert_eq!(a.find(&key(1), ms(999_999)), Some(in_a), "a connection of the other core is open");
    b.add(in_b, cell("conn_cur"), -1, ms(50));
    exchange(&mut a, &mut b, ms(60));
    assert!(a.remove(in_a));
    exchange(&mut a, &mut b, ms(70));
    assert_eq!(b.find(&key(1), ms(70)), None, "what one forgets by order all do");
}

#[test]
fn the_end_of_what_was_forgotten_makes_no_entry() {
    let store = ["conn_cur"];
    let (mut a, mut b) = (Table::new(spec(10, &store), true), Table::new(spec(10, &store), true));
    let slot = a.entry(&key(1), ms(0)).expect("room");
    a.add(slot, cell("conn_cur"), 1, ms(0));
    a.take_changes();
    a.add(slot, cell("conn_cur"), -1, ms(1));
    exchange(&mut a, &mut b, ms(2));
    assert!(b.is_empty());
}

#[test]
fn of_values_set_on_two_cores_the_later_one_holds_on_both() {
    let gpt0 = cell("gpt0");
    // Who hears first, and whether the earlier one was told before the later one was set, decides nothing.
    for (first_hears_first, is_told_at_once) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut tables = [(); 2].map(|()| Table::new(spec(10, &["gpt0", "gpc0"]), true));
        let set = |table: &mut Table, value, now| {
            let slot = table.entry(&key(1), now).expect("room");
            table.set(slot, gpt0, value, now);
        };
        set(&mut tables[0], 11, ms(1));
        let early = if is_told_at_once { tables[0].take_changes() } else { Vec::new() };
        set(&mut tables[1], 12, ms(2));
        let told = [early, tables[0].take_changes()].concat();
        let told_by_the_other = tables[1].take_changes();
        let order = if first_hears_first { [0, 1] } else { [1, 0] };
        for at in order {
            tables[at].apply(if at == 0 { &told_by_the_other } else { &told }, ms(3));
        }
        for table in &tables {
            let slot = table.find(&key(1), ms(4)).expect("it is known");
            assert_eq!(table.read(slot, gpt0, ms(4)), Some(12));
        }
        // What is set after that was heard is later, whatever the clock of the core says; at the same time the greater value holds.
        set(&mut tables[0], 1, ms(1));
        let [a, b] = &mut tables;
        exchange(a, b, ms(5));
        set(a, 7, ms(9));
        set(b, 5, ms(9));
        exchange(a, b, ms(10));
        for table in [a, b] {
            let slot = table.find(&key(1), ms(10)).expect("it is known");
            assert_eq!(table.read(slot, gpt0, ms(10)), Some(7));
        }
    }
}

#[test]
fn a_reload_keeps_the_columns_that_stay() {
    for has_others in [false, true] {
        let mut table = Table::new(spec(10, &["gpc0", "conn_rate(10s)", "conn_cnt"]), has_others);
        let slot = table.entry(&key(1), ms(0)).expect("room");
        for (name, events) in [("gpc0", 1), ("conn_rate", 2), ("conn_cnt", 3)] {
            table.add(slot, cell(name), events, ms(0));
        }
        table.reshape(spec(20, &["conn_cnt", "gpt0", "conn_rate(10s)", "conn_cur"]));
        let read = |name| table.read(slot, cell(name), ms(1));
        assert_eq!([read("conn_cnt"), read("conn_rate"), read("gpc0")], [Some(3), Some(2), None]);
        assert_eq!([read("gpt0"), read("conn_cur")], [Some(0), Some(0)]);
        let other = table.entry(&key(2), ms(1)).expect("room");
        table.add(other, cell("conn_cnt"), 1, ms(1));
        table.reshape(spec(20, &["conn_rate(20s)"]));
        assert_eq!(table.read(slot, cell("conn_rate"), ms(1)), Some(0), "another period is another thing");
        assert_eq!(table.take_changes().len(), if has_others { 2 } else { 0 });
    }
}

#[test]
fn a_random_walk_keeps_the_lists_whole() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut rng = crate::base::rng::Rng::new(seed);
    let store = ["conn_cur", "gpc0", "conn_rate(1s)"];
    let mut tables = [Table::new(spec(20, &store), true), Table::new(spec(20, &store), true)];
    let mut held: [Vec<Slot>; 2] = Default::default();
    for step in 0..20_000_u64 {
        let now = ms(step * 7);
        let at = usize::from(rng.bits() % 2 == 1);
        let table = &mut tables[at];
        match rng.bits() % 8 {
            0..=3 => {
                if let Ok(slot) = table.entry(&key((rng.bits() % 40) as u8), now) {
                    table.add(slot, cell("gpc0"), 1, now);
                    if rng.bits().is_multiple_of(3) {
                        table.hold(slot, now);
                        table.add(slot, cell("conn_cur"), 1, now);
                        held[at].push(slot);
                    }
                }
            }
            4..=5 => {
                if let Some(slot) = held[at].pop() {
                    table.add(slot, cell("conn_cur"), -1, now);
                    table.release(slot, now);
                }
            }
            6 => {
                if let Some(slot) = table.find(&key((rng.bits() % 40) as u8), now) {
                    table.remove(slot);
                }
            }
            _ => {
                let [a, b] = &mut tables;
                exchange(a, b, now);
            }
        }
        for table in &tables {
            assert!(table.len() <= 20, "SEED={seed} step {step}");
        }
    }
    let now = ms(20_000 * 7);
    for (table, held) in tables.iter_mut().zip(&mut held) {
        for slot in held.drain(..) {
            table.add(slot, cell("conn_cur"), -1, now);
            table.release(slot, now);
        }
    }
    let [a, b] = &mut tables;
    exchange(a, b, now);
    for table in &tables {
        let (slots, next) = table.part(0, 1000, now);
        assert_eq!(next, None);
        for slot in slots {
            assert_eq!(table.uses(slot), 0);
        }
    }
}
