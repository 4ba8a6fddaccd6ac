//! `shardgate explain` says what the running proxy does: the same configuration file explains a request and serves it.

use std::process::Command;

use serde_json::Value;

use crate::harness::gate::binary;
use crate::harness::http::{Message, Wire, ok};
use crate::harness::scenario::scenario;
use crate::harness::tls::Ca;
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

fn ask(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary()).arg("explain").args(arguments).output().expect("it runs");
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).expect("text"))
}

#[test]
fn hands_are_shaken_as_with_a_client() {
    let ca = Ca::new();
    let (site, shop) =
        (ca.bundle("site.pem", &["www.example.com"]), ca.bundle("shop.pem", &["shop.example.com"]));
    let jane = ca.bundle("jane.pem", &["jane"]);
    let file = ca.write(
        "shardgate.toml",
        &format!(
            r#"
[defaults]
mode = "http"
timeout = {{ client = "30s", connect = "5s", server = "30s" }}
[frontend.secure]
bind = [{{ address = "127.0.0.1:443", tls = {{ certificates = ["{}", "{}"], verify = "optional", ca-file = ["{}"] }} }}]
rules = [
  {{ deny = true, if = "{{ path_beg /admin }} !{{ ssl_c_used }}" }},
  {{ set-header = {{ name = "X-Who", value = "%[ssl_c_s_dn(cn)] at %[ssl_fc_sni]" }}, if = "{{ ssl_c_used }}" }},
]
default-backend = "app"
[frontend.through]
mode = "tcp"
bind = "127.0.0.1:8443"
inspect-delay = "5s"
rules = [{{ use-backend = "shop", if = "{{ req.ssl_sni shop.example.com }}" }}]
default-backend = "rest"
[backend.app]
server.s1 = {{ address = "127.0.0.1:9" }}
[backend.shop]
mode = "tcp"
server.s1 = {{ address = "127.0.0.1:9" }}
[backend.rest]
mode = "tcp"
server.s1 = {{ address = "127.0.0.1:9" }}
"#,
            site.display(),
            shop.display(),
            ca.path("ca.pem").display()
        ),
    );
    let config = file.to_str().expect("a path");
    let jane = jane.to_str().expect("a path");
    for (arguments, expected) in [
        (&["GET https://shop.example.com/"][..], "certificate /CN=shop.example.com until "),
        (
            &["GET https://shop.example.com/", "--sni", "www.example.com"],
            "TLS for www.example.com: certificate /CN=www.example.com",
        ),
        (&["GET https://www.example.com/admin"], "HTTP/1.1 403"),
        (&["GET https://www.example.com/admin", "--client-cert", jane], "X-Who: jane at www.example.com"),
        (&["tcp 203.0.113.7:5000 -> :8443", "--sni", "shop.example.com"], "backend shop"),
        (&["tcp 203.0.113.7:5000 -> :8443", "--sni", "www.example.com"], "backend rest"),
    ] {
        let (good, text) = ask(&[&["-c", config], arguments].concat());
        assert!(good && text.contains(expected), "{arguments:?}: {text}");
    }
    let (good, text) = ask(&["-c", config, "GET https://www.example.com/", "--client-cert", config]);
    assert!(!good && text.contains("needs its key"), "{text}");
    // Without the files the rest is explained all the same.
    std::fs::remove_file(&site).expect("our own file");
    let (good, text) = ask(&["-c", config, "GET https://www.example.com/"]);
    assert!(good && text.contains("backend app") && text.contains("TLS is left out"), "{text}");
}

#[test]
fn a_running_process_explains_with_its_servers_as_they_are() {
    let (a, b) = (mirror("a"), mirror("b"));
    let gate = Shardgate::start(&format!(
        "[frontend.fe]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\n[backend.be]\nmode = \"http\"\n\
         server.a = {{ address = \"{}\" }}\nserver.b = {{ address = \"{}\" }}\n",
        a.address, b.address
    ));
    let socket = gate.dir().join("admin.sock");
    let socket = socket.to_str().expect("a path");
    gate.ask("disable server be/a");
    gate.ask("set weight be/b 7");
    let (good, text) = ask(&["-s", socket, "GET http://h/", "--frontend", "fe", "--json"]);
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} {good}: {text}"));
    let servers = &value["decision"]["servers"];
    assert_eq!(
        (&servers[0]["state"], &value["decision"]["server"]),
        (&"maint".into(), &"b".into()),
        "{text}"
    );
    assert_eq!(servers[1]["weight"], 7.0, "{text}");
    let (good, text) = ask(&["-s", "/nonexistent/socket", "GET http://h/"]);
    assert!(!good && text.contains("cannot connect"), "{text}");
    gate.finish();
}
