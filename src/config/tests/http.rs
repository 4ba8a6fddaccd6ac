//! HTTP mode: what right configurations mean.

use std::time::Duration;

use super::*;
use crate::model::CheckConnect;
use crate::model::http::*;
use crate::policy::balance::{KeySource, UriKey};
use crate::policy::http_action::*;
use crate::policy::retry::RetryOn;

const DEFAULTS: &str = "[defaults]\nmode = \"http\"\ntimeout = { client = \"30s\", connect = \"5s\", server = \"20s\" }\n\
                        [frontend.web]\nbind = \"127.0.0.1:80\"\ndefault-backend = \"app\"\n";
const SERVER: &str = "[backend.app.server.s]\naddress = \"127.0.0.1:1\"\ncheck = true\n";

fn frontend(keys: &str) -> HttpFrontend {
    let model = clean(&format!("{DEFAULTS}{keys}\n{SERVER}"));
    *model.frontends[FrontendId(0)].http.clone().expect("http mode")
}

fn backend(keys: &str) -> HttpBackend {
    let model = clean(&format!("{DEFAULTS}[backend.app]\n{keys}\n{SERVER}"));
    *model.backends[BackendId(0)].http.clone().expect("http mode")
}

#[test]
fn defaults_of_http_mode_are_haproxys() {
    let f = frontend("");
    assert_eq!((f.keep_alive, f.ambiguous, f.limits.headers), (KeepAlive::Both, Ambiguous::Reject, 101));
    assert_eq!((f.limits.head_bytes, f.limits.uri_bytes), (16_384, 16_384));
    assert_eq!(f.timeout_request, Some(Duration::from_secs(30)), "timeout client");
    assert_eq!(f.timeout_keep_alive, Some(Duration::from_secs(30)), "timeout http-request");
    assert_eq!(f.timeout_tarpit, Some(Duration::from_secs(5)), "timeout connect");
    assert_eq!(f.insert, Insert::default());
    let b = backend("");
    assert_eq!((b.reuse, b.retry_on, b.keep_alive), (Reuse::Safe, RetryOn::CONN_FAILURE, KeepAlive::Both));
    assert!(b.cookie.is_none() && b.key.is_none() && !b.abort_on_close);
}

#[test]
fn a_section_replaces_the_inherited_way_of_keeping_connections() {
    for (inherited, own, expected) in [
        ("httpclose = true", "", KeepAlive::Neither),
        ("httpclose = true", "http-keep-alive = true", KeepAlive::Both),
        ("httpclose = true", "http-server-close = true", KeepAlive::Client),
        ("", "http-server-close = true", KeepAlive::Client),
    ] {
        let text = DEFAULTS.replace("[frontend.web]\n", &format!("{inherited}\n[frontend.web]\n{own}\n"));
        let model = clean(&format!("{text}{SERVER}"));
        let http = model.frontends[FrontendId(0)].http.as_ref().expect("http mode");
        assert_eq!(http.keep_alive, expected, "{inherited} / {own}");
    }
}

#[test]
fn actions_keep_their_order_and_their_arguments() {
    let f = frontend(
        "rules = [\n\
         { deny = true, if = \"{ src 192.0.2.0/24 }\" },\n\
         { return = { status = 204 }, if = \"{ path /a }\" },\n\
         { redirect = { scheme = \"https\", code = 301, set-cookie = \"A=1\" }, if = \"{ path /b }\" },\n\
         { del-header = \"X-A\" },\n\
         { del-header = { name = \"X-\", match = \"beg\" } },\n\
         { set-timeout = { name = \"tunnel\", value = \"1h\" } },\n\
         { set-var = { name = \"req.a\", value = \"src\" } },\n\
         ]\nresponse-rules = [{ deny = true, if = \"{ status 500 }\" }, { set-status = { status = 404 } }]",
    );
    let rules: &[_] = &f.rules.request;
    let [deny, answer, redirect, exact, begins, timeout, var] = rules else { panic!("seven") };
    assert!(deny.condition.is_some());
    let RequestAction::Deny(Reply { status: 403, content: ReplyContent::ErrorPage, .. }) = &deny.action
    else {
        panic!("{deny:?}")
    };
    let RequestAction::Return(Reply { status: 204, content: ReplyContent::Empty, .. }) = &answer.action
    else {
        panic!("{answer:?}")
    };
    let RequestAction::Redirect(redirect) = &redirect.action else { panic!("{redirect:?}") };
    assert_eq!((redirect.status, redirect.set_cookie.as_deref()), (301, Some("A=1; path=/;")));
    let RequestAction::Edit(HeaderEdit::Del(NameMatch::Exact(name))) = &exact.action else {
        panic!("{exact:?}")
    };
    assert_eq!(name.as_ref(), b"x-a");
    assert!(matches!(begins.action, RequestAction::Edit(HeaderEdit::Del(NameMatch::Begins(_)))));
    let hour = Duration::from_secs(3600);
    assert!(
        matches!(&timeout.action, RequestAction::SetTimeout { timeout: TimeoutName::Tunnel, value: TimeoutValue::Fixed(d) } if *d == hour)
    );
    assert!(matches!(var.action, RequestAction::SetVar { .. }));
    assert!(matches!(f.rules.response[0].action, ResponseAction::Deny(Reply { status: 502, .. })));
    assert!(matches!(f.rules.response[1].action, ResponseAction::SetStatus { status: 404, reason: None }));
}

#[test]
fn balance_cuts_keys_out_of_requests() {
    let plain = UriKey::default();
    for (text, expected) in [
        ("uri", KeySource::Uri(plain)),
        (
            "uri len 10 depth 2 whole",
            KeySource::Uri(UriKey { len: Some(10), depth: Some(2), whole: true, ..plain }),
        ),
        ("url_param id", KeySource::UrlParam { name: "id".into() }),
        ("hdr(Host) use_domain_only", KeySource::Header { name: "Host".into(), domain_only: true }),
    ] {
        assert_eq!(backend(&format!("balance = \"{text}\"")).key, Some(expected), "{text}");
    }
}

#[test]
fn error_pages_of_the_section_come_before_shared_ones() {
    let f = frontend(
        "errorfile.503 = \"/etc/503.http\"\nerrorfiles = \"site\"\n[http-errors.site]\nerrorfile = { 503 = \"/etc/503.http\", 502 = \"/etc/503.http\" }",
    );
    let statuses: Vec<u16> = f.error_pages.pages.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [502, 503]);
    assert!(f.error_pages.page(502).is_some() && f.error_pages.page(500).is_none());
}

#[test]
fn checks_send_the_request_of_httpchk_unless_a_step_sends() {
    let model = clean(&format!(
        "{DEFAULTS}[backend.app]\nhttpchk = {{ uri = \"/health\", hdr = {{ Host = \"a\" }} }}\nhttp-check = [{{ connect = {{ port = 8080 }} }}, {{ not-expect-status = \"500-599,404\" }}]\n{SERVER}"
    ));
    let check = model.servers[ServerId(0)].check.clone().expect("checked");
    let CheckKind::Http(http) = check.kind else { panic!("{:?}", check.kind) };
    let [HttpCheckStep::Connect(CheckConnect { port: Some(8080), .. }), HttpCheckStep::Send(request), expect] =
        http.steps.as_slice()
    else {
        panic!("{:?}", http.steps)
    };
    assert_eq!(
        (request.method.as_str(), request.uri.as_str(), request.http_11),
        ("OPTIONS", "/health", true)
    );
    let expected =
        HttpCheckStep::Expect { negated: true, expect: Expect::Status(vec![(500, 599), (404, 404)]) };
    assert_eq!(expect, &expected);
}

#[test]
fn users_get_the_groups_of_both_sides_and_hide_their_hashes() {
    let model = clean(&format!(
        "{DEFAULTS}{SERVER}[userlist.staff]\nuser.adam = {{ password = \"$6$x$y\", groups = [\"ops\"] }}\ngroup.ops = {{}}\ngroup.admins = {{ users = \"adam\" }}\n"
    ));
    let user = &model.userlists[0].users[0];
    assert_eq!(user.groups, ["ops".into(), "admins".into()]);
    assert!(!format!("{:?}", model.userlists).contains("$6$"));
}

/// The examples of the page about logs are whole but for what they are not about.
#[test]
fn the_examples_about_logs_are_right() {
    let page = include_str!("../../../docs/LOGGING.md");
    let blocks: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 5, "{page}");
    for block in blocks {
        let defaults = DEFAULTS.split("[frontend").next().expect("it begins with them");
        let server = if block.contains("default-backend = \"app\"") { SERVER } else { "" };
        clean(&format!("{defaults}{block}\n{server}"));
    }
}
