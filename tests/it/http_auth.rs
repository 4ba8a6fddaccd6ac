//! Basic authentication: lists of users, groups, every kind of hash, and floods of wrong passwords.

use crate::harness::http::{Wire, http_gate, ok, sections};
use crate::harness::{Origin, Shardgate};

/// Hashes of "secret", made by openssl passwd, crypt(3) and argon2(1).
const USERS: &str = r#"
[userlist.staff]
user.sha256 = { password = "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA" }
user.sha512 = { password = "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1", groups = ["ops", "all"] }
user.bcrypt = { password = "$2b$06$abcdefghijklmnopqrstuuxLa0AkDDSrQ9VwNnETzOsObiucpMYgC" }
user.yescrypt = { password = "$y$j75$saltsaltsaltsalt$DsMjm5uqUiFBUYLB9CLnX8E/M0k0mOVJBUWdpCrUik9" }
user.argon2 = { password = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$TnDEl2tJgYtaYZt0/5f59Jf56vkIG4EtQACv6SLO2cI" }
user.plain = { insecure-password = "secret" }
group.ops = {}
group.all = { users = ["plain"] }
"#;

/// `user:password` as Authorization carries it.
fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = format!("{user}:{password}");
    let mut out = String::new();
    for three in text.as_bytes().chunks(3) {
        let bits = three.iter().chain(&[0, 0]).take(3).fold(0_u32, |bits, b| bits << 8 | u32::from(*b));
        for at in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]);
            out.push(if at <= three.len() { digit } else { '=' });
        }
    }
    out
}

fn gate(origin: &Origin, rules: &str) -> Shardgate {
    let body = sections(origin, &format!("rules = [{rules}]"), "", "") + USERS;
    Shardgate::with(&body).defaults("mode = \"http\"").start()
}

fn ask(client: &mut Wire, path: &str, credentials: Option<(&str, &str)>) -> u16 {
    let header = credentials.map_or_else(String::new, |(user, password)| {
        format!("Authorization: Basic {}\r\n", basic(user, password))
    });
    client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{header}\r\n"));
    client.response("GET").status()
}

#[test]
fn every_kind_of_hash_lets_its_user_in_and_nobody_else() {
    let origin = Origin::http_named("o");
    let gate = gate(&origin, "{ auth = { realm = 'The \"staff\"' }, unless = '{ http_auth(staff) }' }");
    let mut client = gate.wire("fe");
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let asked = client.response("GET");
    assert_eq!(asked.status(), 401);
    assert_eq!(asked.header("www-authenticate"), Some(r#"Basic realm="The \"staff\"""#));
    // Twice: the second time the verdict is remembered.
    for _ in 0..2 {
        for user in ["sha256", "sha512", "bcrypt", "yescrypt", "argon2", "plain"] {
            assert_eq!(ask(&mut client, "/", Some((user, "secret"))), 200, "{user}");
            for wrong in ["Secret", "", "secret ", "secret\0"] {
                assert_eq!(ask(&mut client, "/", Some((user, wrong))), 401, "{user} {wrong:?}");
            }
        }
        assert_eq!(ask(&mut client, "/", Some(("nobody", "secret"))), 401);
    }
    for odd in ["Basic", "Basic !!!", "Bearer x", "Basic c2VjcmV0", "Digest username=\"plain\""] {
        client.send(format!("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: {odd}\r\n\r\n"));
        assert_eq!(client.response("GET").status(), 401, "{odd}");
    }
    drop(client);
    gate.finish();
}

#[test]
fn groups_decide_and_a_verdict_holds_for_the_whole_request() {
    let origin = Origin::http(|request| ok(request.header("authorization").unwrap_or("hidden")));
    let rules = r#"
  { deny = true, if = "{ path_beg /ops } !{ http_auth_group(staff) ops }" },
  { auth = true, unless = "{ http_auth_group(staff) all ops }" },
  { del-header = "Authorization" },
  { deny = { status = 500 }, unless = "{ http_auth(staff) }" }"#;
    let gate = gate(&origin, rules);
    let mut client = gate.wire("fe");
    assert_eq!(ask(&mut client, "/ops", Some(("plain", "secret"))), 403);
    assert_eq!(ask(&mut client, "/ops", Some(("sha512", "secret"))), 200);
    assert_eq!(ask(&mut client, "/", Some(("plain", "secret"))), 200);
    assert_eq!(ask(&mut client, "/", Some(("bcrypt", "secret"))), 401, "in no group");
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {}\r\n\r\n",
        basic("sha512", "secret")
    ));
    assert_eq!(client.response("GET").text(), "hidden");
    drop(client);
    gate.finish();
}

#[test]
fn bodies_and_pipelined_requests_wait_for_the_verdict() {
    let origin = Origin::http(|request| ok(&format!("{} {}", request.start(), request.text())));
    let gate = gate(&origin, "{ auth = true, unless = \"{ http_auth(staff) }\" }");
    let mut client = gate.wire("fe");
    let header = format!("Host: h\r\nAuthorization: Basic {}\r\n", basic("sha512", "secret"));
    client.send(format!(
        "POST /1 HTTP/1.1\r\n{header}Content-Length: 3\r\n\r\nabcPOST /2 HTTP/1.1\r\n{header}Transfer-Encoding: chunked\r\n\r\n\
         2\r\nde\r\n0\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n"
    ));
    assert_eq!(client.response("POST").text(), "POST /1 HTTP/1.1 abc");
    assert_eq!(client.response("POST").text(), "POST /2 HTTP/1.1 de");
    assert_eq!(client.response("GET").status(), 401);
    drop(client);
    gate.finish();
}

#[test]
fn a_flood_of_wrong_passwords_does_not_stall_the_others() {
    let origin = Origin::http_named("o");
    // A hash that costs a tenth of a second and more.
    let slow = "[userlist.slow]\nuser.x = { password = \"$6$rounds=100000$saltsalt$abc\" }\n";
    let frontend = r#"rules = [
  { auth = true, if = "{ path_beg /slow } !{ http_auth(slow) }" },
  { auth = true, if = "{ path_beg /staff } !{ http_auth(staff) }" },
]"#;
    let body = sections(&origin, frontend, "", "") + USERS + slow;
    let gate = Shardgate::with(&body).cores(1).defaults("mode = \"http\"").start();
    let mut known = gate.wire("fe");
    assert_eq!(ask(&mut known, "/staff", Some(("sha512", "secret"))), 200);
    let mut flood: Vec<Wire> = (0..30).map(|_| gate.wire("fe")).collect();
    for (number, client) in flood.iter_mut().enumerate() {
        let wrong = basic("x", &format!("wrong{number}"));
        client.send(format!("GET /slow HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {wrong}\r\n\r\n"));
    }
    // While the hashes are being made: those who need none, and those whose password is known.
    for _ in 0..50 {
        assert_eq!(ask(&mut known, "/", None), 200);
        assert_eq!(ask(&mut known, "/staff", Some(("sha512", "secret"))), 200);
    }
    // One address has only so many checks at a time; the others are told at once.
    let answers: Vec<u16> = flood.iter_mut().map(|client| client.response("GET").status()).collect();
    assert!(answers.iter().all(|status| [401, 503].contains(status)), "{answers:?}");
    assert!(answers.contains(&503) && answers.contains(&401), "{answers:?}");
    drop((known, flood));
    gate.finish();
}

#[test]
fn wrong_lists_do_not_load_and_plain_passwords_warn() {
    let origin = Origin::http_named("o");
    for (keys, said) in [
        ("user.a = { password = \"plain\" }", "no hash that can be verified"),
        ("user.a = {}", "has no password"),
        ("user.a = { insecure-password = \"x\", groups = [\"g\"] }", "unknown group"),
        ("group.g = { users = [\"b\"] }", "unknown user"),
    ] {
        let body = sections(&origin, "", "", "") + "[userlist.l]\n" + keys;
        let out = Shardgate::with(&body).defaults("mode = \"http\"").run_to_end("check");
        let text = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
        assert!(!out.status.success() && text.contains(said), "{keys}: {text}");
    }
    let unknown = "rules = [{ auth = true, unless = \"{ http_auth(nobody) }\" }]";
    let start = Shardgate::with(&sections(&origin, unknown, "", "")).defaults("mode = \"http\"");
    let out = start.run_to_end("check");
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("unknown userlist"));
    let gate = http_gate(&origin, "", "", "");
    gate.finish();
    let body = sections(&origin, "", "", "") + USERS;
    let out = Shardgate::with(&body).defaults("mode = \"http\"").run_to_end("check");
    let text = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.contains("whoever reads this file knows this password"), "{text}");
}

#[test]
fn the_first_list_may_come_with_a_reload() {
    let origin = Origin::http_named("o");
    let mut gate = http_gate(&origin, "", "", "");
    let mut client = gate.wire("fe");
    assert_eq!(ask(&mut client, "/", None), 200);
    let rules = "rules = [{ auth = {}, unless = '{ http_auth(staff) }' }]";
    gate.reload(&(sections(&origin, rules, "", "") + USERS));
    assert_eq!(ask(&mut client, "/", None), 401);
    assert_eq!(ask(&mut client, "/", Some(("sha256", "secret"))), 200);
    assert_eq!(ask(&mut client, "/", Some(("sha256", "wrong"))), 401);
    drop(client);
    gate.finish();
}
