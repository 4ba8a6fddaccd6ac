//! Statistics over HTTP: the page with its users and its form, metrics, and the JSON of `show` commands, on the very
//! configuration of docs/scenarios/statistics.md.

use std::collections::BTreeMap;
use std::process::Command;

use crate::harness::http::{Message, Wire};
use crate::harness::scenario::scenario;
use crate::harness::{Origin, Shardgate, program, until};

const STATS: &str = "Authorization: Basic c3RhdHM6bGV0bWVpbg==\r\n";
const ADMIN: &str = "Authorization: Basic YWRtaW46Z29kd291bGRudGJldXB0aGlzbGF0ZQ==\r\n";
const PAGE: &str = "/haproxy?stats";

fn start(origin: &Origin) -> Shardgate {
    let address = origin.address.to_string();
    scenario(
        "statistics",
        &[
            ("*:81", "127.0.0.1:0"),
            ("*:80", "127.0.0.1:0"),
            ("192.0.2.10:80", &address),
            ("192.0.2.11:80", &address),
        ],
    )
    .start()
}

fn get(gate: &Shardgate, target: &str, headers: &str) -> Message {
    let mut client = gate.wire("HAProxy-Statistics");
    client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n"));
    client.response("GET")
}

fn post(gate: &Shardgate, headers: &str, body: &str) -> Message {
    let mut client = gate.wire("HAProxy-Statistics");
    let len = body.len();
    client.send(format!("POST {PAGE} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {len}\r\n\r\n{body}"));
    client.response("POST")
}

/// The token of the page's form.
fn token(page: &str) -> &str {
    let (_, rest) = page.split_once("name=\"t\" value=\"").expect("the page has a form");
    rest.split('"').next().expect("a value")
}

#[test]
fn only_users_of_the_list_see_the_page() {
    let origin = Origin::http_named("web");
    let gate = start(&origin);
    let refused = get(&gate, PAGE, "");
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.header("www-authenticate"), Some("Basic realm=\"HAProxy-Statistics\""));
    assert_eq!(get(&gate, PAGE, "Authorization: Basic c3RhdHM6eA==\r\n").status(), 401, "a wrong password");
    assert_eq!(get(&gate, "/haproxy?stats;csv", "").status(), 401, "data need the password too");
    assert_eq!(get(&gate, "/api/v1/info", "").status(), 503, "no rule answers that one");
    assert_eq!(get(&gate, "/haproxy?statistics", STATS).status(), 503, "this is another target");
    let page = get(&gate, PAGE, STATS);
    assert_eq!((page.status(), page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let text = page.text();
    for needed in ["HAProxy version ", "<b>uptime = </b> 0d 0h00m", "Web-Farm", "Web1", "content=\"60\""] {
        assert!(text.contains(needed), "the page has no {needed}");
    }
    assert!(!text.contains("<form"), "who only reads gets no form");
    assert!(!get(&gate, "/haproxy?stats;norefresh", STATS).text().contains("http-equiv"));
    let longer = get(&gate, "/haproxy?stats;up;5m", STATS).text();
    assert!(longer.contains("<a href=\"/haproxy?stats;up;5m\" aria-current=\"true\">5 min</a>"), "{longer}");
    assert!(longer.contains("<a href=\"/haproxy?stats;5m\">all</a>"), "{longer}");
    gate.finish();
}

#[test]
fn a_client_cannot_make_itself_an_administrator() {
    let origin = Origin::http_named("web");
    let gate = start(&origin);
    let forged = format!("{STATS}Shardgate-Ticket: page f0 admin 127.0.0.1:1\r\n");
    assert!(!get(&gate, PAGE, &forged).text().contains("<form"));
    let page = get(&gate, PAGE, ADMIN).text();
    let body = format!("t={}&s=Web-Farm%2FWeb0&action=drain", token(&page));
    for (who, headers, body) in [
        ("the user that reads", STATS.to_owned(), body.as_str()),
        ("a forged ticket", forged, body.as_str()),
        ("no token", ADMIN.to_owned(), "s=Web-Farm%2FWeb0&action=drain"),
        ("a wrong token", ADMIN.to_owned(), "t=0123&s=Web-Farm%2FWeb0&action=drain"),
        ("another site", format!("{ADMIN}Sec-Fetch-Site: cross-site\r\n"), body.as_str()),
    ] {
        assert_eq!(post(&gate, &headers, body).status(), 403, "{who}");
    }
    assert_eq!(post(&gate, "", &body).status(), 401);
    assert_eq!(gate.stat("Web-Farm/Web0", "status"), "no check");
    gate.finish();
}

#[test]
fn administrators_change_servers_and_the_log_says_who() {
    let origin = Origin::http_named("web");
    let gate = start(&origin);
    let page = get(&gate, PAGE, ADMIN).text();
    let token = token(&page);
    for (fields, outcome, column, value) in [
        ("s=Web-Farm%2FWeb0&action=drain", "DONE", "status", "DRAIN"),
        ("s=Web0&b=Web-Farm&action=maint", "DONE", "status", "MAINT"),
        ("s=Web0&b=%23999&action=ready", "NONE", "status", "MAINT"),
        ("s=Web-Farm%2FWeb0&action=explode", "UNKN", "status", "MAINT"),
        ("s=Web-Farm%2FWeb0&action=weight&weight=1%0Ashutdown", "UNKN", "weight", "1"),
        ("s=Web-Farm%2FWeb0&action=weight&weight=999", "ERRP", "weight", "1"),
        ("s=Web-Farm%2FWeb0&action=weight&weight=20", "DONE", "weight", "20"),
        ("s=Web-Farm%2FWeb0&action=ready", "DONE", "status", "no check"),
        ("action=ready", "NONE", "status", "no check"),
    ] {
        let answer = post(&gate, ADMIN, &format!("t={token}&{fields}"));
        assert_eq!(answer.status(), 303, "{fields}");
        assert_eq!(answer.header("location"), Some(&*format!("{PAGE};st={outcome}")), "{fields}");
        assert_eq!(gate.stat("Web-Farm/Web0", column), value, "{fields}");
    }
    gate.wait_log("(statistics page) did `set server Web-Farm/Web0 state drain`");
    gate.wait_log("admin from 127.0.0.1:");
    gate.finish();
}

#[test]
fn data_come_in_the_forms_that_tools_read() {
    let origin = Origin::http_named("web");
    let gate = start(&origin);
    let csv = get(&gate, "/haproxy?stats;csv;norefresh", STATS).text();
    assert!(csv.starts_with("# pxname,svname,qcur,"), "{csv}");
    assert!(csv.contains("\nWeb-Farm,Web1,") && !csv.contains("STATS>"), "{csv}");
    assert!(get(&gate, "/haproxy?stats;typed", STATS).text().contains(":str:HAProxy-Statistics"));
    let json: serde_json::Value =
        serde_json::from_str(&get(&gate, "/haproxy?stats;json", STATS).text()).expect("JSON");
    assert!(json.as_array().is_some_and(|lines| lines.len() == 6), "{json}");
    gate.ask("set server Web-Farm/Web0 state maint");
    for flag in ["up", "no-maint"] {
        let csv = get(&gate, &format!("/haproxy?stats;{flag};csv"), STATS).text();
        assert!(!csv.contains("Web-Farm,Web0,") && csv.contains("Web-Farm,Web1,"), "{flag}: {csv}");
    }
    let info: serde_json::Value =
        serde_json::from_str(&get(&gate, "/api/v1/info", STATS).text()).expect("JSON");
    assert!(info.is_array());
    let backends: serde_json::Value =
        serde_json::from_str(&get(&gate, "/api/v1/show/backend", STATS).text()).expect("JSON");
    assert_eq!(backends["lines"][2], "Web-Farm", "{backends}");
    assert_eq!(get(&gate, "/api/v1/set/weight", STATS).status(), 404, "a GET changes nothing");
    let fd = get(&gate, "/api/v1/show/fd", STATS).text();
    assert!(fd.contains("Permission denied"), "level user has no descriptors: {fd}");
    gate.finish();
}

/// Metrics by name and labels. Whatever is no sample of a metric with help and type fails.
fn metrics(text: &str) -> BTreeMap<String, f64> {
    let (mut helped, mut typed) = (Vec::new(), BTreeMap::new());
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().expect("a name").to_owned();
            assert!(!helped.contains(&name), "{name} appears twice");
            helped.push(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            typed.insert(name.to_owned(), kind.to_owned());
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            let name = sample.split('{').next().expect("a name");
            let parts = ["_bucket", "_sum", "_count"];
            let of_histogram = parts.iter().find_map(|end| name.strip_suffix(end));
            let family = of_histogram.filter(|base| typed.contains_key(*base)).unwrap_or(name);
            assert_eq!(helped.last().map(String::as_str), Some(family), "{line} stands apart");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
            let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(samples.insert(sample.to_owned(), value).is_none(), "{sample} appears twice");
        }
    }
    samples
}

#[test]
fn metrics_have_the_names_of_haproxy() {
    let origin = Origin::http_named("web");
    let gate = start(&origin);
    let mut client = gate.wire("Public");
    for _ in 0..10 {
        assert_eq!(client.get("/").status(), 200);
    }
    drop(client);
    gate.ask("set server Web-Farm/Web1 state maint");
    until("durations arrive", || get(&gate, "/metrics", "").text().contains("_duration_seconds_count"));
    let all = metrics(&get(&gate, "/metrics", "").text());
    for (name, value) in [
        ("haproxy_process_nbthread", 2.0),
        ("haproxy_frontend_http_requests_total{proxy=\"Public\"}", 10.0),
        ("haproxy_frontend_http_responses_total{proxy=\"Public\",code=\"2xx\"}", 10.0),
        ("haproxy_frontend_status{proxy=\"Public\",state=\"UP\"}", 1.0),
        ("haproxy_backend_status{proxy=\"Web-Farm\",state=\"UP\"}", 1.0),
        ("haproxy_backend_http_responses_total{proxy=\"Web-Farm\",code=\"5xx\"}", 0.0),
        ("haproxy_server_status{proxy=\"Web-Farm\",server=\"Web1\",state=\"MAINT\"}", 1.0),
        ("haproxy_server_status{proxy=\"Web-Farm\",server=\"Web1\",state=\"UP\"}", 0.0),
        ("haproxy_server_weight{proxy=\"Web-Farm\",server=\"Web0\"}", 1.0),
    ] {
        assert_eq!(all.get(name), Some(&value), "{name}");
    }
    let count = "shardgate_backend_duration_seconds_count{proxy=\"Web-Farm\",phase=\"total\"}";
    until("all ten are counted", || metrics(&get(&gate, "/metrics", "").text()).get(count) == Some(&10.0));
    let all = metrics(&get(&gate, "/metrics", "").text());
    let infinite = count.replace("_count{", "_bucket{").replace("\"}", "\",le=\"+Inf\"}");
    assert_eq!(all.get(&infinite), Some(&10.0));
    for (query, wanted, unwanted) in [
        ("?scope=server", "haproxy_server_", "haproxy_frontend_"),
        ("?scope=global&scope=frontend", "haproxy_process_", "haproxy_server_"),
        ("?no-maint", "server=\"Web0\"", "server=\"Web1\",state"),
        ("?extra-counters", "haproxy_server_connect_timeouts_total", "haproxy_listener_"),
        ("", "shardgate_core_idle_seconds_total", "haproxy_server_connect_timeouts_total"),
    ] {
        let text = get(&gate, &format!("/metrics{query}"), "").text();
        metrics(&text);
        assert!(text.contains(wanted), "{query}: no {wanted}");
        assert!(!text.contains(unwanted), "{query}: {unwanted}");
    }
    gate.finish();
}

#[test]
fn stick_tables_and_looked_up_names_are_among_the_metrics() {
    let origin = Origin::http_named("web");
    let port = origin.address.port();
    let gate = Shardgate::with(&format!(
        r#"
[frontend.fe]
bind = "127.0.0.1:0"
rules = [{{ use-service = "prometheus-exporter", if = "{{ path /metrics }}" }}]
default-backend = "be"
[backend.be]
stick-table = {{ type = "string", len = 8, size = "2k", expire = "10m", store = ["http_req_cnt"] }}
rules = [{{ track-sc0 = "path" }}]
server.s1 = {{ address = "localhost:{port}" }}
server.s2 = {{ address = "no-such-host.invalid:{port}" }}
"#
    ))
    .defaults("mode = \"http\"")
    .start();
    until("localhost to be resolved", || gate.stat("be/s1", "status") != "MAINT (resolution)");
    let mut client = gate.wire("fe");
    for path in ["/a", "/b", "/c"] {
        assert_eq!(client.get(path).status(), 200);
    }
    let mut ask = |query: &str| metrics(&client.get(&format!("/metrics{query}")).text());
    let labels = "{name=\"be\",type=\"string\"}";
    until("the keys are in the table", || {
        ask("").get(&format!("haproxy_sticktable_used{labels}")) == Some(&3.0)
    });
    assert_eq!(ask("?scope=sticktable").get(&format!("haproxy_sticktable_size{labels}")), Some(&2048.0));
    assert!(ask("?scope=server").keys().all(|name| !name.contains("sticktable")));
    let lookups = |host: &str, result: &str| {
        format!("shardgate_resolver_lookups_total{{name=\"{host}\",result=\"{result}\"}}")
    };
    let all = ask("?names=shardgate");
    assert!(all.get(&lookups("localhost", "found")) > Some(&0.0), "{all:?}");
    assert!(all.get(&lookups("no-such-host.invalid", "failed")) > Some(&0.0), "{all:?}");
    assert!(all.keys().all(|name| name.starts_with("shardgate_")), "{all:?}");
    assert_eq!(all.get("shardgate_server_connect_timeouts_total{proxy=\"be\",server=\"s1\"}"), Some(&0.0));
    assert_eq!(all.get(&format!("shardgate_sticktable_used{labels}")), Some(&3.0));
    drop(client);
    gate.finish();
}

/// The next server-sent event.
fn event(client: &mut Wire) -> serde_json::Value {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        assert_eq!(client.take(&mut byte).expect("the stream goes on"), 1);
        if byte[0] != b'\n' {
            line.push(byte[0]);
            continue;
        }
        if let Some(text) = line.strip_prefix(b"data: ") {
            return serde_json::from_slice(text).expect("JSON");
        }
        line.clear();
    }
}

#[test]
fn graphs_go_back_a_day_and_rules_show_how_often_they_applied() {
    let origin = Origin::http_named("web");
    let gate = start(&origin);
    (0..5).for_each(|_| drop(gate.wire("Public").get("/")));
    for span in ["", ";g10m", ";g2h", ";g24h"] {
        // The seconds are counted together once a second.
        until("the requests are in the graph", || {
            let text = get(&gate, &format!("{PAGE};graphs{span}"), STATS).text();
            let graphs: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let rates: Vec<u64> = serde_json::from_value(graphs["2-0-0"][0].clone()).expect("numbers");
            rates.len() <= 60 && rates.iter().any(|rate| *rate > 0)
        });
    }
    let page = get(&gate, &format!("{PAGE};g2h;5m"), ADMIN).text();
    assert!(page.contains(">Rate 2 h</th>") && page.contains("data-part=\"120\""), "{page}");
    assert!(page.contains("/haproxy?stats;5m;g24h\""), "links keep the window: {page}");
    // Rules are for administrators.
    assert!(page.contains("class=\"rules\"") && page.contains("prometheus-exporter"), "{page}");
    assert!(!get(&gate, PAGE, STATS).text().contains("class=\"rules\""));
    let mut live = gate.wire("HAProxy-Statistics");
    live.send(format!("GET {PAGE};live HTTP/1.0\r\nHost: h\r\n{ADMIN}\r\n"));
    live.head().expect("a head");
    assert!(event(&mut live)["rules"].is_object());
    get(&gate, "/metrics", "");
    until("the rule was hit", || event(&mut live)["rules"].as_object().is_some_and(|hits| !hits.is_empty()));
    drop(live);
    gate.finish();
}

#[test]
fn a_live_page_is_told_what_changes_and_a_stop_ends_it() {
    let origin = Origin::http_named("web");
    let mut gate = start(&origin);
    let mut client = gate.wire("HAProxy-Statistics");
    // HTTP/1.0: the events come as they are, without chunks.
    client.send(format!("GET {PAGE};live HTTP/1.0\r\nHost: h\r\n{STATS}\r\n"));
    assert!(client.head().expect("a head").contains("text/event-stream"));
    let first = event(&mut client);
    assert_eq!(first["rows"].as_object().map(serde_json::Map::len), Some(6), "all rows come first: {first}");
    gate.ask("set server Web-Farm/Web0 state drain");
    until("the drain shows", || event(&mut client)["rows"]["3-1-2"][0] == "DRAIN");
    gate.signal("USR1");
    assert!(gate.wait_exit().success(), "a live page does not hold up the end");
}

#[test]
fn a_password_in_the_section_and_a_scope() {
    let origin = Origin::http_named("web");
    let gate = Shardgate::with(&format!(
        "[frontend.fe]\nmode = \"http\"\nbind = \"127.0.0.1:0\"\ndefault-backend = \"be\"\nstats.uri = \"/st\"\n\
         stats.auth = [\"joe:secret\"]\nstats.scope = \".\"\nstats.hide-version = true\n\
         rules = [{{ deny = true, if = \"{{ hdr(x-bad) 1 }}\" }}, {{ use-backend = \"be\" }}]\n\
         [backend.be]\nmode = \"http\"\nstats.uri = \"/own\"\n[backend.be.server.s]\naddress = \"{}\"\n",
        origin.address
    ))
    .start();
    let ask = |target: &str, headers: &str| {
        let mut client = gate.wire("fe");
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n"));
        client.response("GET")
    };
    assert_eq!(ask("/st", "").status(), 401);
    let joe = "Authorization: Basic am9lOnNlY3JldA==\r\n";
    let page = ask("/st", joe).text();
    assert!(page.contains(">fe<") && !page.contains(">be<") && !page.contains("HAProxy version"), "{page}");
    assert_eq!(ask("/st", &format!("{joe}x-bad: 1\r\n")).status(), 403, "rules come first");
    let mut live = gate.wire("fe");
    live.send(format!("GET /st;live HTTP/1.0\r\nHost: h\r\n{joe}\r\n"));
    live.head().expect("a head");
    let rows = event(&mut live)["rows"].as_object().map(serde_json::Map::len);
    assert_eq!(rows, Some(1), "a live page keeps to its scope");
    drop(live);
    assert!(ask("/own;csv", "").text().contains("\nbe,s,"), "a backend has its page too");
    assert_eq!(ask("/other", "").text(), "web");
    gate.finish();
}

#[test]
fn a_browser_sees_counters_move_and_drains_a_server() {
    let origin = Origin::http_named("web");
    let gate = start(&origin);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/browser.mjs");
    let page = format!("http://{}{PAGE}", gate.address("HAProxy-Statistics"));
    let traffic = format!("http://{}/", gate.address("Public"));
    let output = Command::new(program("node"))
        .arg(script)
        .arg(program("chromium"))
        .args([page.as_str(), "admin", "godwouldntbeupthislate", traffic.as_str()])
        // Pictures of the page for docs/, when somebody wants new ones.
        .args(std::env::var_os("PAGE_PICTURES"))
        .output()
        .expect("node runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("drained\nnothing was reported\n"), "{said}");
    assert_eq!(gate.stat("Web-Farm/Web0", "status"), "DRAIN");
    gate.wait_log("(statistics page) did `set server Web-Farm/Web0 state drain`");
    gate.finish();
}

#[test]
fn programs_change_servers_over_the_api() {
    let origin = Origin::http_named("web");
    let gate = start(&origin);
    let ask = |target: &str, headers: &str, body: &str| {
        let mut client = gate.wire("HAProxy-Statistics");
        let len = body.len();
        client.send(format!(
            "POST {target} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {len}\r\n\r\n{body}"
        ));
        client.response("POST")
    };
    let (target, json) = (format!("{PAGE}/api/v1/command"), "Content-Type: application/json\r\n");
    let drain = r#"{"command": "set server Web-Farm/Web0 state drain"}"#;
    for (who, target, headers, body, status) in [
        ("nobody", target.as_str(), json.to_owned(), drain, 401),
        ("the user that reads", &target, format!("{STATS}{json}"), drain, 403),
        ("a rule without administrators", "/api/v1/command", format!("{ADMIN}{json}"), drain, 403),
        ("another site", &target, format!("{ADMIN}{json}Sec-Fetch-Site: cross-site\r\n"), drain, 403),
        ("a form", &target, format!("{ADMIN}Content-Type: text/plain\r\n"), drain, 415),
        ("no JSON", &target, format!("{ADMIN}{json}"), "drain it", 400),
        ("two lines", &target, format!("{ADMIN}{json}"), r#"{"command": "help\nhelp"}"#, 400),
        ("another path", "/haproxy?stats/api/v1/info", format!("{ADMIN}{json}"), drain, 405),
    ] {
        assert_eq!(ask(target, &headers, body).status(), status, "{who}");
    }
    assert_eq!(gate.stat("Web-Farm/Web0", "status"), "no check");
    let headers = format!("{ADMIN}{json}");
    let answer = ask(&target, &headers, drain);
    let said: serde_json::Value = serde_json::from_str(&answer.text()).expect("JSON");
    assert_eq!((answer.status(), &said["lines"]), (200, &serde_json::json!([])));
    assert_eq!(gate.stat("Web-Farm/Web0", "status"), "DRAIN");
    gate.wait_log("(statistics page) did `set server Web-Farm/Web0 state drain` (from ready to drain)");
    let answer = ask(&target, &headers, r#"{"command": "set weight Web-Farm/Web9 1"}"#);
    assert_eq!((answer.status(), answer.text().contains("No such server.")), (200, true));
    gate.finish();
}
