//! `shardgate explain` says what the running proxy does: the same configuration file explains a request and serves it.

use std::process::Command;

use serde_json::Value;

use crate::harness::gate::binary;
use crate::harness::http::{Message, Wire, ok};
use crate::harness::scenario::scenario;
use crate::harness::{Origin, Shardgate};

/// Answers with its name and the head that it got.
fn mirror(name: &'static str) -> Origin {
    Origin::http(move |request| ok(&format!("{name}\n{}", request.head.trim_end())))
}

fn run(gate: &Shardgate, arguments: &[&str]) -> (bool, String) {
    let config = gate.dir().join("shardgate.toml");
    let mut command = Command::new(binary());
    let output = command.arg("explain").arg("-c").arg(config).args(arguments).output().expect("it runs");
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).expect("text"))
}

fn explained(gate: &Shardgate, frontend: &str, request: &str, headers: &[&str]) -> Value {
    let mut arguments = vec!["--json", "--frontend", frontend, request];
    headers.iter().for_each(|line| arguments.extend(["-H", line]));
    let (good, text) = run(gate, &arguments);
    assert!(good, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

fn served(client: &mut Wire, request: &str, headers: &[&str]) -> Message {
    let (method, url) = request.split_once(' ').expect("method and URL");
    let (host, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
    let mut head = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\n");
    headers.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
    client.send(head + "\r\n");
    client.response(method)
}

/// A request is explained as it is served: by that server with these bytes, or with that answer of the proxy itself.
fn same(gate: &Shardgate, frontend: &str, request: &str, headers: &[&str]) {
    let value = explained(gate, frontend, request, headers);
    let answer = served(&mut gate.wire(frontend), request, headers);
    match &value["decision"] {
        Value::Null => {
            let expected = value["answer"].as_str().unwrap_or_else(|| panic!("{request}: {value:#}"));
            assert_eq!(expected, format!("{}\r\n\r\n{}", answer.head.trim_end(), answer.text()), "{request}");
        }
        decision => {
            let field = |name: &str| decision[name].as_str().unwrap_or_else(|| panic!("{name}: {value:#}"));
            let expected = format!("{}\n{}", field("server"), field("sent").trim_end());
            assert_eq!(answer.text(), expected, "{request}");
        }
    }
}

#[test]
fn routes_and_rewrites_are_those_of_traffic() {
    let (shop, api, files, partner) = (mirror("shop1"), mirror("api1"), mirror("files1"), mirror("partner1"));
    let map = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(map.path(), "www.example.com/partner/  partner\n").expect("our own file");
    let [a, b, c, d] = [&shop, &api, &files, &partner].map(|origin| origin.address.to_string());
    let gate = scenario(
        "route-by-url",
        &[
            ("*:80", "127.0.0.1:0"),
            ("192.0.2.11:8080", &a),
            ("192.0.2.21:8080", &b),
            ("192.0.2.31:8080", &c),
            ("192.0.2.41:8080", &d),
            ("/etc/shardgate/routes.map", &map.path().to_string_lossy()),
        ],
    )
    .start();
    for request in [
        "GET http://www.example.com/",
        "GET http://www.example.com/site.CSS",
        "GET http://API.example.com/v1/items",
        "DELETE http://www.example.com/api/v1/items?x=1",
        "GET http://www.example.com/partner/x",
    ] {
        same(&gate, "public", request, &["X-Some: thing", "Accept: */*"]);
    }
    let value = explained(&gate, "public", "GET http://www.example.com/api/x", &[]);
    let rules = &value["lists"][0]["rules"];
    assert_eq!((&rules[0]["outcome"], &rules[1]["outcome"]), (&"no".into(), &"applies".into()));
    assert_eq!(rules[2]["outcome"], "not-reached");
    assert_eq!(rules[0]["tests"][0]["test"], "static: path_beg /static/ /images/");
    assert_eq!(rules[1]["tests"][1]["values"][0], "/api/x");
    let changes = &value["lists"][1]["rules"][0]["changes"];
    assert_eq!((&changes[0], &changes[1]), (&"- GET /api/x".into(), &"+ GET /x".into()));
    gate.finish();
}

#[test]
fn every_kind_of_rule_is_explained() {
    let origin = mirror("s1");
    let gate = Shardgate::start(&format!(
        r#"
[frontend.fe]
mode = "http"
bind = "127.0.0.1:0"
default-backend = "be"
forwardfor = true
acl.api = "path_beg /api/"
connection-rules = [{{ reject = true, if = "{{ src 203.0.113.0/24 }}" }}]
rules = [
  {{ set-var = {{ name = "txn.who", value = "req.hdr(x-who)" }} }},
  {{ deny = {{ status = 403 }}, if = "api and not {{ var(txn.who) -m found }}" }},
  {{ redirect = {{ prefix = "https://www.example.com" }}, if = "{{ path /old }}" }},
  {{ set-header = {{ name = "X-Who", value = "%[var(txn.who),upper]" }}, if = "{{ var(txn.who) -m found }}" }},
  {{ del-header = "X-Secret" }},
  {{ allow = true, if = "{{ path /plain }}" }},
  {{ add-header = {{ name = "X-Last", value = "yes" }} }},
]
[backend.be]
mode = "http"
rules = [{{ replace-path = {{ regex = "^/api", value = "/v1" }} }}]
server.s1 = {{ address = "{}" }}
"#,
        origin.address
    ));
    for (request, headers) in [
        ("GET http://h/", &["X-Secret: 1"][..]),
        ("GET http://h/api/x", &[]),
        ("GET http://h/api/x", &["X-Who: me"]),
        ("GET http://h/old", &[]),
        ("GET http://h/plain", &["X-Who: me"]),
        ("GET http://h/bad", &["Transfer-Encoding: x"]),
    ] {
        same(&gate, "fe", request, headers);
    }
    let value = explained(&gate, "fe", "GET http://h/plain", &[]);
    assert_eq!(value["lists"][1]["rules"][6]["outcome"], "left-out");
    let (_, text) = run(&gate, &["--frontend", "fe", "--src", "203.0.113.7", "GET http://h/"]);
    assert!(text.contains("applies: reject = true") && text.contains("closed without an answer"), "{text}");
    // What was only explained is no hit.
    let rules = gate.ask("show rules");
    let line = |text: &str| rules.lines().find(|line| line.contains(text)).expect("a rule").to_owned();
    assert!(
        line("del-header").starts_with("3 ") && line("del-header").contains(" frontend/fe rules "),
        "{rules}"
    );
    assert!(line("deny").starts_with("1 "), "{rules}");
    assert!(line("replace-path").starts_with("3 ") && line("replace-path").contains("backend/be"), "{rules}");
    let never = gate.ask("show rules never-hit");
    assert!(
        never.trim_end().lines().count() == 2 && never.contains("0 - frontend/fe connection-rules "),
        "{never}"
    );
    // Nothing of it was sent.
    assert_eq!(gate.count("be/BACKEND", "req_tot"), 3);
    gate.finish();
}

#[test]
fn rules_stand_where_haproxy_has_them() {
    let file = tempfile::NamedTempFile::with_suffix(".cfg").expect("a temporary file");
    std::fs::write(
        file.path(),
        "defaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\nfrontend www\n bind :80\n\
         \x20acl api path_beg /api\n http-request set-header X-Api 1 if api\n use_backend api if api\n\
         \x20default_backend web\nbackend api\n balance source\n server a1 127.0.0.1:1\n server a2 127.0.0.1:2\n\
         backend web\n server w1 127.0.0.1:3\n",
    )
    .expect("our own file");
    let path = file.path().to_str().expect("a path");
    let arguments = ["explain", "-f", path, "--src", "192.0.2.9", "GET http://h/api/x"];
    let output = Command::new(binary()).args(arguments).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    for expected in [
        &format!("{path}:9: applies: set-header"),
        &format!("{path}:10: applies: use-backend"),
        "{ api: path_beg /api } matches: /api/x",
        "+ X-Api: 1",
        "balance source",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_question_without_a_bind_is_refused() {
    let origin = mirror("s1");
    let gate = Shardgate::relay(origin.address);
    for (arguments, expected) in [
        (&["GET http://h:81/"][..], "nothing listens on port 81"),
        (&["GET http://h/", "--frontend", "nobody"], "no frontend \"nobody\""),
        (&["GET /"], "no URL"),
    ] {
        let (good, text) = run(&gate, arguments);
        assert!(!good && text.contains(expected), "{text}");
    }
    let (good, text) = run(&gate, &["--frontend", "fe", "tcp 203.0.113.7:5000 -> :443"]);
    assert!(good && text.contains("s1: balance roundrobin"), "{text}");
    gate.finish();
}
