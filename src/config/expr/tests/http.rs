//! Fetches of HTTP messages.

use super::{World, condition, scope, show, variables};
use crate::config::expr::{Acls, Context, ExprError, parse_expr};
use crate::policy::acl::Truth::{False, NeedMore, True};
use crate::policy::sample::testing::TestFacts;
use crate::policy::sample::{Expr, Scratch};

const REQUEST: &str = "POST /a/b.html?x=1&y=two;x=3&empty= HTTP/1.1\r\n\
    Host: WWW.Example.com:8080\r\n\
    X-Forwarded-For: 192.0.2.1, 192.0.2.2:99 , [2001:db8::7]:80\r\n\
    x-forwarded-for: \"[::1]\"\r\n\
    User-Agent: curl, or so\r\n\
    Cookie: a=1; b=22; a=3\r\n\
    Cookie: c=4\r\n\
    Content-Length: 12\r\n\
    Authorization: Basic am9lOnNlOmNyZXQ=\r\n\
    X-Empty:\r\n\r\n";

const RESPONSE: &str = "HTTP/1.0 302 Found\r\n\
    Location: /x\r\n\
    Set-Cookie: sid=9; Path=/\r\n\
    Set-Cookie: t=x; HttpOnly\r\n\
    Cache-Control: no-cache, max-age=5\r\n\r\n";

fn facts() -> TestFacts {
    let mut facts =
        TestFacts::new("192.0.2.9:1", "192.0.2.10:80").with_request(REQUEST).with_response(RESPONSE);
    facts.body = b"k=v&k2=v2".to_vec();
    facts
}

fn expr(text: &str, context: Context) -> Result<Expr, ExprError> {
    let world = World::default();
    let acls = Acls::default();
    let mut variables = variables();
    parse_expr(text, &mut scope(&world, &acls, &mut variables, context))
}

fn check(context: Context, cases: &[(&str, Option<&str>)]) {
    let facts = facts();
    let mut scratch = Scratch::default();
    for (text, expected) in cases {
        let expr = expr(text, context).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(show(expr.eval(&facts, &mut scratch).value).as_deref(), *expected, "{text}");
    }
}

#[test]
fn fetches_of_the_request() {
    check(
        Context::Request,
        &[
            ("method", Some("POST")),
            ("path", Some("/a/b.html")),
            ("pathq", Some("/a/b.html?x=1&y=two;x=3&empty=")),
            ("query", Some("x=1&y=two;x=3&empty=")),
            ("url", Some("/a/b.html?x=1&y=two;x=3&empty=")),
            ("url_ip", None),
            ("base", Some("WWW.Example.com:8080/a/b.html")),
            ("baseq,length", Some("50")),
            ("base32,sub(1),add(1)", Some("4528624")),
            ("base,sdbm(1)", Some("4528624")),
            ("url_param(x)", Some("1")),
            ("urlp(y)", Some("two")),
            ("url_param(empty)", Some("")),
            ("url_param(none)", None),
            ("url_param", Some("1")),
            ("urlp_val(x)", Some("1")),
            ("url_param(x,;)", Some("3")),
            ("req.ver", Some("1.1")),
            ("http_first_req", Some("true")),
            ("hdr(host)", Some("WWW.Example.com:8080")),
            ("hdr(host),host_only", Some("www.example.com")),
            ("hdr(x-forwarded-for)", Some("\"[::1]\"")),
            ("hdr(x-forwarded-for,1)", Some("192.0.2.1")),
            ("hdr(x-forwarded-for,2)", Some("192.0.2.2:99")),
            ("hdr(x-forwarded-for,9)", None),
            ("hdr(x-forwarded-for,-2)", Some("[2001:db8::7]:80")),
            ("hdr(x-forwarded-for,-4)", Some("192.0.2.1")),
            ("hdr(x-forwarded-for,-5)", None),
            ("fhdr(user-agent)", Some("curl, or so")),
            ("hdr(user-agent)", Some("or so")),
            ("fhdr(X-Forwarded-For,1)", Some("192.0.2.1, 192.0.2.2:99 , [2001:db8::7]:80")),
            ("hdr_ip(x-forwarded-for)", Some("::1")),
            ("hdr_ip(x-forwarded-for,2)", Some("192.0.2.2")),
            ("hdr_ip(x-forwarded-for,-2)", Some("2001:db8::7")),
            ("hdr_ip(host)", None),
            ("hdr_val(content-length)", Some("12")),
            ("hdr_cnt(x-forwarded-for)", Some("4")),
            ("fhdr_cnt(x-forwarded-for)", Some("2")),
            ("hdr_cnt(none)", Some("0")),
            ("fhdr_cnt", Some("9")),
            ("hdr(x-empty)", Some("")),
            ("hdr(none)", None),
            (
                "req.hdr_names",
                Some(
                    "host,x-forwarded-for,x-forwarded-for,user-agent,cookie,cookie,content-length,authorization,x-empty",
                ),
            ),
            ("req.hdrs,length", Some("249")),
            ("cook(a)", Some("3")),
            ("cook(c)", Some("4")),
            ("cook", Some("1")),
            ("cook_val(b),add(1)", Some("23")),
            ("cook_cnt(a)", Some("2")),
            ("cook_cnt", Some("4")),
            ("cook(none)", None),
            ("req.body", Some("6b3d76266b323d7632")),
            ("req.body_len", Some("9")),
            ("req.body_size", Some("12")),
            ("req.body_param(k2)", Some("v2")),
            ("http_auth_type", Some("Basic")),
            ("http_auth_user", Some("joe")),
            ("http_auth_pass", Some("se:cret")),
            ("http_auth_bearer", None),
            ("http_auth_bearer(host)", Some("WWW.Example.com:8080")),
            ("uuid,length", Some("36")),
            ("uuid", Some("00000000-0000-4000-8000-000000000000")),
            ("ssl_fc", Some("false")),
            ("unique-id", None),
        ],
    );
}

#[test]
fn fetches_of_the_response() {
    check(
        Context::Response,
        &[
            ("status", Some("302")),
            ("txn.status", Some("302")),
            ("req.proto_http", Some("true")),
            ("res.ver", Some("1.0")),
            ("res.hdr(location)", Some("/x")),
            ("shdr(cache-control,1)", Some("no-cache")),
            ("res.fhdr(cache-control)", Some("no-cache, max-age=5")),
            ("res.hdr_cnt(cache-control)", Some("2")),
            ("res.cook(sid)", Some("9")),
            ("scook_val(sid)", Some("9")),
            ("scook_cnt", Some("2")),
            ("scook(none)", None),
            ("res.hdr_names(;)", Some("location;set-cookie;set-cookie;cache-control")),
        ],
    );
}

#[test]
fn an_absolute_target_has_an_authority() {
    let facts =
        TestFacts::default().with_request("GET http://192.0.2.5/x?q HTTP/1.1\r\nHost: 192.0.2.5\r\n\r\n");
    for (text, expected) in [("url_ip", "192.0.2.5"), ("url_port", "80"), ("path", "/x"), ("pathq", "/x?q")] {
        let expr = expr(text, Context::Request).expect("compiles");
        assert_eq!(
            show(expr.eval(&facts, &mut Scratch::default()).value).as_deref(),
            Some(expected),
            "{text}"
        );
    }
}

#[test]
fn conditions_see_every_value() {
    let mut facts = facts();
    facts.auth = Some(vec!["ops".into(), "admin".into()]);
    let cases = [
        ("{ hdr(x-forwarded-for) 192.0.2.1 }", True),
        ("{ hdr_ip(x-forwarded-for) 192.0.2.0/24 }", True),
        ("{ hdr_ip(x-forwarded-for) ::1 }", True),
        ("{ hdr_ip(x-forwarded-for) 10.0.0.0/8 }", False),
        ("{ hdr(x-forwarded-for,1) ::1 }", False),
        ("{ cook(a) 1 }", True),
        ("{ cook(a) 3 }", True),
        ("{ cook(a) 2 }", False),
        ("{ cook 22 }", True),
        ("{ url_param(x) 3 }", True),
        ("{ path_beg /a/ }", True),
        ("{ path_end -i .HTML }", True),
        ("{ path_dir b.html }", True),
        ("{ path_len gt 5 }", True),
        ("{ path_reg ^/[a-z]/ }", True),
        ("{ path_beg -m end .html }", True),
        ("{ hdr_beg(host) -i www. }", True),
        ("{ hdr_dom(host) -i example.com }", True),
        ("{ hdr_sub(user-agent) curl }", True),
        ("{ base_sub -i example.com:8080/a }", True),
        ("{ urlp_beg(y) t }", True),
        ("{ cook_beg(b) 2 }", True),
        ("{ hdr(x-empty) -m found }", True),
        ("{ hdr(none) -m found }", False),
        ("METH_POST HTTP_1.1 HTTP_CONTENT HTTP_URL_SLASH", True),
        ("METH_GET", False),
        ("HTTP_URL_STAR or HTTP_URL_ABS", False),
        ("{ http_auth(staff) }", True),
        ("{ http_auth_group(staff) admin }", True),
        ("{ http_auth_group(staff) dev }", False),
    ];
    let mut scratch = Scratch::default();
    for (text, expected) in cases {
        let compiled = condition(text, &[], Context::Request).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!(compiled.eval(&facts, &mut scratch), expected, "{text}");
    }
    facts.auth_pending = true;
    let auth = condition("{ http_auth(staff) }", &[], Context::Request).expect("compiles");
    assert_eq!(auth.eval(&facts, &mut scratch), NeedMore, "while the password is verified");
    facts.auth_pending = false;
    facts.auth = None;
    assert_eq!(auth.eval(&facts, &mut scratch), False);
}

#[test]
fn http_is_refused_where_there_is_none() {
    for (text, context) in [
        ("path", Context::Content),
        ("path", Context::Connection),
        ("path", Context::Response),
        ("status", Context::Request),
        ("req.ssl_sni", Context::Request),
    ] {
        let error = expr(text, context).expect_err(text);
        assert!(error.help.is_some(), "{text}: {error:?}");
    }
    for (text, message) in [
        ("hdr(a b)", "`a b` is no name of a header"),
        ("hdr(a,-11)", "the occurrence is at least -10"),
        ("http_auth(x)", "unknown userlist `x`"),
        ("url_param(a,bc)", "the delimiter is one character"),
    ] {
        let error = expr(text, Context::Request).expect_err(text);
        assert!(error.message.starts_with(message), "{text}: {error:?}");
    }
}
