//! What operators are told: where it is wrong, what, and what to do.

use super::{World, condition, expr, scope, variables};
use crate::config::expr::{Acls, Context, parse_condition};

/// Text with `^` before the place, the message's beginning, and a part of the help.
const CONDITIONS: &[(&str, &str, &str)] = &[
    ("^", "expected an ACL, found the end", "in braces"),
    ("t or^", "expected an ACL, found the end", ""),
    ("t or ^or t", "expected an ACL, found `or`", ""),
    ("t and ^or", "expected an ACL", ""),
    ("t ^) t", "unexpected `)`", ""),
    ("^(t", "this parenthesis is not closed", ""),
    ("^{ src 1.2.3.4", "this brace is not closed", "stands alone"),
    ("^{ src 1.2.3.4}", "this brace is not closed", "stands alone"),
    ("^{ }", "the braces hold no test", ""),
    ("t ^from-ofice", "unknown ACL `from-ofice`", "did you mean `from-office`?"),
    ("^src 10.0.0.0/8", "unknown ACL `src`", "tests stand in braces"),
    ("{ ^sr 10.0.0.1 }", "unknown sample fetch `sr`", "did you mean `src`?"),
    ("{ ^lower }", "unknown sample fetch `lower`", "`lower` is a converter"),
    ("{ src,^lowr x }", "unknown converter `lowr`", "did you mean `lower`?"),
    ("{ src ^10.0.0.300 }", "`10.0.0.300` is not an IP address", ""),
    ("{ src 10.0.0.1 ^10.0.0.0/33 }", "`/33` is not a prefix length", ""),
    ("{ src_port ^x }", "`x` is not an integer", ""),
    ("{ src_port ^9:1 }", "the range `9:1` is empty", ""),
    ("{ src_port gt ^1:2 }", "`gt` compares with one value", ""),
    ("{ src_port ^gt }", "`gt` needs a value", ""),
    ("{ str(a) -m reg ^( }", "the regular expression is wrong", ""),
    ("{ str(a) -m ^foo a }", "unknown matching method `foo`", "found, bool, int"),
    ("{ str(a) ^-x a }", "`-x` is no flag", "-- ends them"),
    ("{ str(a) ^-m }", "the method after -m is missing", ""),
    ("{ str(a) -f ^nofile }", "cannot read `nofile`: no such file", ""),
    ("{ str(a) ^-i }", "`str` has no pattern to match", "-m found"),
    ("{ src ^-m int 5 }", "-m int cannot match a value of type ip", ""),
    ("{ bin(00) ^00 }", "how is `bin` matched?", "-m found, bool"),
    ("{ src_is_local ^0 }", "a boolean is not compared", "`!` before"),
    ("{ src -m found ^x }", "-m found takes no pattern", ""),
    ("{ str(a) ^'b }", "this quote is not closed", ""),
    ("{ nbsrv(^wep) gt 1 }", "unknown backend `wep`", "did you mean `web`?"),
    ("{ ^nbsrv gt 1 }", "`nbsrv` needs the name of a backend here", "nbsrv(BACKEND)"),
    ("{ srv_is_up(^web/c) }", "unknown server `web/c`", "did you mean `web/"),
    ("{ srv_is_up(^a) }", "unknown server `a`", "BACKEND/SERVER"),
    ("{ src(^x) 1 }", "`src` takes no argument", ""),
    ("{ req.len,add(1,^2) gt 1 }", "`add` has too many arguments", "add(VALUE)"),
    ("{ str^(a }", "this parenthesis is not closed", ""),
    ("{ var(^x) -m found }", "`x` is not the name of a variable", "SCOPE.NAME"),
    ("{ var(^txn.a-b) -m found }", "`txn.a-b` is not the name", "only letters"),
    ("{ src^!lower x }", "unexpected `!` in an expression", ""),
    ("{ src,^ x }", "expected a converter", ""),
];

#[test]
fn errors_say_where_and_what_to_do() {
    let acls = [("t", vec!["always_true"]), ("from-office", vec!["src 10.0.0.1"])];
    for (marked, message, help) in CONDITIONS {
        // A caret of a regular expression would be taken for the mark; the table has none.
        let at = marked.find('^').expect("the place is marked");
        let text = marked.replacen('^', "", 1);
        let error = condition(&text, &acls, Context::Content).expect_err(marked);
        assert_eq!(error.offset, at, "{marked}: {error:?}");
        assert!(error.message.starts_with(message), "{marked}: {error:?}");
        assert!(error.help.as_deref().unwrap_or_default().contains(help), "{marked}: {error:?}");
    }
}

#[test]
fn errors_of_expressions() {
    for (marked, message) in [
        ("^", "expected a sample fetch"),
        ("src ^x", "unexpected text"),
        ("str(a),field(^0,_)", "the index counts from 1"),
        ("str(a),field(^1)", "`field` needs the delimiters"),
        ("str(a),regsub(^'(',x)", "the regular expression is wrong"),
        ("str(a),regsub(a,b,^z)", "unknown flag `z`"),
        ("str(a),sha2(^7)", "SHA-2 has"),
        ("src,^ipmask", "`ipmask` needs a mask for IPv4"),
        ("src,ipmask(^33)", "`33` is not a prefix length"),
        ("src,ipmask(^255.0.255.0)", "`255.0.255.0` is not"),
        ("src_is_local,^ipmask(8)", "`ipmask` takes an ip, but what comes before it gives a boolean"),
        ("bin(00),^add(1)", "`add` takes an integer, but what comes before it gives a binary"),
        ("int(^x)", "the value is an integer, not `x`"),
        ("bin(^0)", "`0` is not pairs"),
        ("date,utime(^%!)", ""),
        ("str(a),json_query(^a.b)", "`a.b` is not a JSON path"),
        ("str(a),json_query(^$.a[x])", "`$.a[x]` is not a JSON path"),
        ("rand(^0)", "the range is at least 1"),
        ("req.payload(^-1,2)", "the offset is not negative"),
        ("req.payload_lv(0,^9)", "the length has 1 to 8 bytes"),
        ("str(a),^map_foo(x)", "unknown converter `map_foo`"),
        ("str(a),map(^none)", "cannot read `none`"),
    ] {
        let at = marked.find('^').expect("the place is marked");
        let error = expr(&marked.replacen('^', "", 1), &World::default()).expect_err(marked);
        // An argument that is missing is reported at the last one that is there.
        assert!(error.message.starts_with(message), "{marked}: {error:?}");
        assert_eq!(error.offset, at, "{marked}: {error:?}");
    }
    let world = World { files: vec![("m", "a 1\nb x\n".to_owned())], ..World::default() };
    let error = expr("str(a),map_str_int(m)", &world).expect_err("x is no integer");
    assert_eq!(error.message, "m: the value `x` of `b` is no integer");
}

#[test]
fn fetches_are_refused_where_they_have_no_value() {
    let error = condition("TRUE { req.ssl_sni x }", &[], Context::Connection).expect_err("no bytes there");
    assert_eq!(error.offset, 5);
    assert!(error.help.expect("help").contains("inspect-delay"));
    let acls = [("sni", vec!["req.ssl_sni x"])];
    let error = condition("sni", &acls, Context::Connection).expect_err("no bytes there");
    assert!(error.message.starts_with("ACL `sni`: `req.ssl_sni` reads bytes"), "{error:?}");
    assert!(condition("sni", &acls, Context::Content).is_ok());
    assert!(condition("sni", &acls, Context::Request).is_err());
    assert!(condition("WAIT_END", &[], Context::Connection).is_err());
    assert!(condition("{ be_name x }", &[], Context::Connection).is_err());
}

#[test]
fn named_acls_are_all_checked() {
    let world = World::default();
    let mut variables = variables();
    let none = Acls::default();
    let table =
        [("good", vec!["src 10.0.0.1", "src 10.0.0.x"]), ("or", vec!["src 10.0.0.1"]), ("a b", vec![])];
    let (acls, errors) = Acls::compile(table, &mut scope(&world, &none, &mut variables, Context::Connection));
    let found: Vec<_> = errors.iter().map(|e| (e.name.as_str(), e.text, e.error.offset)).collect();
    assert_eq!(found, [("good", 1, 4), ("or", 0, 0), ("a b", 0, 0)]);
    let scope = &mut scope(&world, &acls, &mut variables, Context::Connection);
    assert!(parse_condition("good", scope).is_ok(), "the right text of a name works");
}

#[test]
fn deep_nesting_is_an_error() {
    let text = format!("{}TRUE{}", "(".repeat(10_000), ")".repeat(10_000));
    let error = condition(&text, &[], Context::Connection).expect_err("too deep");
    assert!(error.message.contains("64 parentheses"), "{error:?}");
    let text = format!("{}TRUE", "!".repeat(100_001));
    assert!(condition(&text, &[], Context::Connection).is_ok(), "negations do not recurse");
}
