//! Values and decisions as HAProxy 2.6 makes them.

use super::*;

const A: ServerId = ServerId(1);
const B: ServerId = ServerId(2);
const DEAD: ServerId = ServerId(3);
const NO_COOKIE: ServerId = ServerId(9);

/// A time and its date: what HAProxy wrote at that second.
const NOW: u64 = 1_795_227_144;
const NOW_DATE: &str = "awD+C";

fn spec(mode: Mode) -> Spec {
    Spec {
        name: "SRV".to_owned(),
        mode,
        nocache: false,
        indirect: false,
        postonly: false,
        preserve: false,
        httponly: false,
        secure: false,
        domains: Vec::new(),
        maxidle_s: None,
        maxlife_s: None,
        attributes: Vec::new(),
    }
}

fn dated() -> Spec {
    Spec { indirect: true, maxidle_s: Some(60), maxlife_s: Some(7200), ..spec(Mode::Insert) }
}

fn table() -> Table {
    let servers = [(A, "A"), (B, "B"), (DEAD, "D"), (ServerId(5), "shared"), (ServerId(4), "shared")];
    Table::new(servers.map(|(id, value)| (id, value.to_owned())))
}

fn request(spec: &Spec, value: &str) -> Request {
    bound_request(spec, value, Binding::Normal)
}

fn bound_request(spec: &Spec, value: &str, binding: Binding) -> Request {
    on_request(spec, &table(), value.as_bytes(), binding, NOW, |id| id != DEAD && id != ServerId(4))
}

fn date(unix_s: u64) -> String {
    let mut out = Vec::new();
    write_date(unix_s, &mut out);
    String::from_utf8(out).expect("base64")
}

/// The Set-Cookie of a response by `server`, with what it counts as.
fn set_cookie(spec: &Spec, request: &Request, server: ServerId) -> (Set, String) {
    let table = table();
    let response = Response {
        request,
        server,
        server_cookie: table.cookie(server),
        server_sets_it: false,
        is_post: false,
        unix_s: NOW,
    };
    let mut out = Vec::new();
    let set = write_set_cookie(spec, &response, &mut out);
    (set, String::from_utf8(out).expect("text"))
}

fn inserted(text: &str) -> (Set, String) {
    (Set::Inserted, text.to_owned())
}

fn nothing() -> (Set, String) {
    (Set::Nothing, String::new())
}

#[test]
fn dates_are_those_that_haproxy_writes() {
    assert_eq!(date(NOW), NOW_DATE);
    assert_eq!(date(NOW + 1), "awD+D", "rounded up");
    assert_eq!(parse_date(NOW_DATE.as_bytes()), Some(NOW));
    for unix_s in [4, 8, NOW, 4 * ((1 << 30) - 1)] {
        assert_eq!(parse_date(date(unix_s).as_bytes()), Some(unix_s));
    }
    for bad in ["", "a", "awD+", "awD+!", "AAAAA", "     ", "é+++"] {
        assert_eq!(parse_date(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn dynamic_cookies_are_those_of_haproxy() {
    for (address, expected) in [
        ("127.0.0.1:18999", "cf206621b0cc6615"),
        ("10.1.2.3:80", "403a4ee3b3264695"),
        ("[2001:db8::1]:8080", "34ee5fc25c710b37"),
    ] {
        let address: SocketAddr = address.parse().expect("an address");
        assert_eq!(dynamic_cookie("mysecret", address), expected, "{address}");
        assert_ne!(dynamic_cookie("other", address), expected);
    }
}

#[test]
fn a_cookie_leads_to_its_server() {
    for (value, server, found) in [
        ("A", Some(A), Found::Valid),
        ("B", Some(B), Found::Valid),
        ("D", None, Found::Down),
        ("shared", Some(ServerId(5)), Found::Valid),
        ("a", None, Found::Invalid),
        ("A~orig", None, Found::Invalid),
        ("", None, Found::Invalid),
        ("A|", Some(A), Found::Valid),
        ("A|!!", Some(A), Found::Valid),
        ("|", None, Found::Invalid),
    ] {
        let r = request(&spec(Mode::Insert), value);
        assert_eq!((r.server, r.found), (server, found), "{value}");
    }
}

#[test]
fn a_server_knows_its_cookie() {
    let table = table();
    for (server, cookie) in
        [(A, Some("A")), (DEAD, Some("D")), (ServerId(4), Some("shared")), (NO_COOKIE, None)]
    {
        assert_eq!(table.cookie(server), cookie.map(str::as_bytes), "{server:?}");
    }
}

#[test]
fn persistence_can_be_forced_and_ignored() {
    let s = spec(Mode::Insert);
    let forced = bound_request(&s, "D", Binding::Force);
    assert_eq!((forced.server, forced.found), (Some(DEAD), Found::Down));
    assert_eq!(bound_request(&s, "zz", Binding::Force).server, None);
    let ignored = bound_request(&s, "A", Binding::Ignore);
    assert_eq!((ignored.server, ignored.found), (None, Found::Unused));
    assert_eq!(set_cookie(&s, &ignored, B), nothing());
}

#[test]
fn the_server_sees_what_the_mode_leaves() {
    let indirect = Spec { indirect: true, ..spec(Mode::Insert) };
    for (s, value, edit) in [
        (&spec(Mode::Insert), "A", RequestEdit::Keep),
        (&indirect, "A", RequestEdit::Remove),
        (&indirect, "zz", RequestEdit::Remove),
        (&spec(Mode::Rewrite), "A", RequestEdit::Keep),
        (&spec(Mode::Prefix), "A~orig", RequestEdit::KeepFrom(2)),
        (&spec(Mode::Prefix), "A~x~y", RequestEdit::KeepFrom(2)),
        (&spec(Mode::Prefix), "~x", RequestEdit::KeepFrom(1)),
        (&spec(Mode::Prefix), "A", RequestEdit::Keep),
    ] {
        assert_eq!(request(s, value).edit, edit, "{value} {:?}", s.mode);
    }
    assert_eq!(request(&spec(Mode::Prefix), "A~orig").server, Some(A));
    assert_eq!(request(&spec(Mode::Prefix), "A").server, Some(A));
}

#[test]
fn old_and_idle_cookies_are_ignored() {
    for (last, first, found) in [
        (NOW, NOW, Found::Valid),
        (NOW - 60, NOW - 7200, Found::Valid),
        (NOW - 64, NOW, Found::Expired),
        (NOW, NOW - 7204, Found::Old),
        (NOW + 80_000, NOW + 80_000, Found::Valid),
        (NOW + 90_000, NOW, Found::Expired),
        (NOW, NOW + 90_000, Found::Old),
    ] {
        let value = format!("A|{}|{}", date(last), date(first));
        let r = request(&dated(), &value);
        assert_eq!(r.found, found, "last {last} first {first}");
        assert_eq!(r.server.is_some(), found == Found::Valid);
    }
    let ancient = format!("A|{}|{}", date(4), date(4));
    assert_eq!(request(&spec(Mode::Insert), &ancient).found, Found::Valid, "no limits, no dates");
}

#[test]
fn a_client_without_a_cookie_gets_one_and_one_with_it_does_not() {
    let s = spec(Mode::Insert);
    assert_eq!(set_cookie(&s, &Request::NONE, A), inserted("SRV=A; path=/"));
    assert_eq!(set_cookie(&s, &request(&s, "A"), A), nothing());
    assert_eq!(set_cookie(&s, &request(&s, "nope"), A), inserted("SRV=A; path=/"));
    assert_eq!(set_cookie(&s, &request(&s, "D"), A), inserted("SRV=A; path=/"));
    assert_eq!(set_cookie(&s, &request(&s, "A"), B), inserted("SRV=B; path=/"), "redispatched");
    for mode in [Mode::Rewrite, Mode::Prefix] {
        assert_eq!(set_cookie(&spec(mode), &Request::NONE, A), nothing());
    }
}

#[test]
fn a_server_without_a_cookie_makes_the_client_forget_its() {
    let s = Spec { httponly: true, ..spec(Mode::Insert) };
    let forget = "SRV=; Expires=Thu, 01-Jan-1970 00:00:01 GMT; path=/; HttpOnly";
    assert_eq!(set_cookie(&s, &request(&s, "A"), NO_COOKIE), inserted(forget));
}

#[test]
fn attributes_stand_in_haproxys_order() {
    let s = Spec {
        httponly: true,
        secure: true,
        domains: vec![".a.com".to_owned(), ".b.com".to_owned()],
        attributes: vec!["SameSite=Strict".to_owned()],
        ..dated()
    };
    let expected =
        "SRV=A|awD+C|awD+C; path=/; domain=.a.com; domain=.b.com; HttpOnly; Secure; SameSite=Strict";
    assert_eq!(set_cookie(&s, &Request::NONE, A), inserted(expected));
}

#[test]
fn dates_are_refreshed_and_the_first_is_kept() {
    let s = dated();
    let updated =
        |last: u64, first: u64| (Set::Updated, format!("SRV=A|{}|{}; path=/", date(last), date(first)));
    let value = |last, first| format!("A|{}|{}", date(last), date(first));
    assert_eq!(set_cookie(&s, &request(&s, "A"), A), updated(NOW, NOW), "dates are added");
    assert_eq!(set_cookie(&s, &request(&s, &value(NOW - 32, NOW - 32)), A), updated(NOW, NOW - 32));
    assert_eq!(set_cookie(&s, &request(&s, &value(NOW, NOW - 32)), A), nothing(), "it is fresh");
    let plain = spec(Mode::Insert);
    let stripped = (Set::Updated, "SRV=A; path=/".to_owned());
    assert_eq!(set_cookie(&plain, &request(&plain, &value(NOW - 32, NOW - 32)), A), stripped);
    let idle = Spec { maxidle_s: Some(60), ..spec(Mode::Insert) };
    assert_eq!(set_cookie(&idle, &Request::NONE, A), inserted("SRV=A|awD+C; path=/"));
}

#[test]
fn an_old_cookie_starts_anew() {
    let s = dated();
    let old = format!("A|{}|{}", date(NOW), date(NOW - 9000));
    let (set, text) = set_cookie(&s, &request(&s, &old), A);
    assert_eq!((set, text.as_str()), (Set::Inserted, "SRV=A|awD+C|awD+C; path=/"));
}

#[test]
fn postonly_and_preserve_hold_it_back() {
    let table = table();
    let mut response = Response {
        request: &Request::NONE,
        server: A,
        server_cookie: table.cookie(A),
        server_sets_it: false,
        is_post: false,
        unix_s: NOW,
    };
    let mut set = |spec: &Spec, is_post, server_sets_it| {
        response.is_post = is_post;
        response.server_sets_it = server_sets_it;
        write_set_cookie(spec, &response, &mut Vec::new())
    };
    let postonly = Spec { postonly: true, ..spec(Mode::Insert) };
    assert_eq!((set(&postonly, false, false), set(&postonly, true, false)), (Set::Nothing, Set::Inserted));
    let preserve = Spec { preserve: true, ..spec(Mode::Insert) };
    assert_eq!((set(&preserve, false, false), set(&preserve, false, true)), (Set::Inserted, Set::Nothing));
}

#[test]
fn a_set_cookie_of_the_server_is_kept_removed_or_changed() {
    let preserve = |mode| Spec { preserve: true, ..spec(mode) };
    let indirect = |mode| Spec { indirect: true, ..spec(mode) };
    let cookie = Some(&b"A"[..]);
    for (s, direct, server_cookie, expected) in [
        (spec(Mode::Insert), false, cookie, ResponseEdit::Remove),
        (spec(Mode::Insert), true, None, ResponseEdit::Remove),
        (preserve(Mode::Insert), false, cookie, ResponseEdit::Keep),
        (spec(Mode::Rewrite), false, cookie, ResponseEdit::Replace),
        (spec(Mode::Rewrite), false, None, ResponseEdit::Keep),
        (preserve(Mode::Rewrite), false, cookie, ResponseEdit::Keep),
        (spec(Mode::Prefix), true, cookie, ResponseEdit::Prefix),
        (indirect(Mode::Rewrite), true, cookie, ResponseEdit::Remove),
        (indirect(Mode::Rewrite), false, cookie, ResponseEdit::Replace),
    ] {
        let r = if direct { request(&s, "A") } else { Request::NONE };
        assert_eq!(on_set_cookie(&s, &r, server_cookie), expected, "{s:?} {direct}");
    }
}

#[test]
fn any_bytes_are_survived() {
    use crate::base::rng::Rng;
    let mut rng = Rng::new(11);
    let letters = b"AD|~b+/\0\xff";
    for _ in 0..20_000 {
        let len = usize::try_from(rng.below(16)).expect("small");
        let value: Vec<u8> =
            (0..len).map(|_| letters[usize::try_from(rng.below(9)).expect("small")]).collect();
        for s in [spec(Mode::Insert), spec(Mode::Rewrite), spec(Mode::Prefix), dated()] {
            let r = on_request(&s, &table(), &value, Binding::Normal, NOW, |_| true);
            if let RequestEdit::KeepFrom(at) = r.edit {
                assert!(at <= value.len());
            }
            assert_eq!(r.server.is_some(), r.found == Found::Valid);
        }
    }
}
