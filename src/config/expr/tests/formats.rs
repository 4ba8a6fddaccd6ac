//! Formats.

use super::{World, scope, variables};
use crate::config::expr::{Acls, Context, ExprError, FORMAT_VARIABLES, parse_format};
use crate::policy::format::Format;
use crate::policy::sample::Scratch;
use crate::policy::sample::testing::TestFacts;

pub(super) fn format(text: &str, context: Context) -> Result<Format, ExprError> {
    let world = World::default();
    let acls = Acls::default();
    let mut variables = variables();
    parse_format(text, &mut scope(&world, &acls, &mut variables, context))
}

#[test]
fn formats_are_written() {
    let facts = TestFacts::new("192.0.2.7:1234", "192.0.2.8:443")
        .with_request("GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n");
    let cases = [
        ("", ""),
        ("plain", "plain"),
        ("100%% of it", "100% of it"),
        ("%[src]", "192.0.2.7"),
        ("for=%[src]:%[src_port];x", "for=192.0.2.7:1234;x"),
        ("%ci:%cp -> %fi:%fp", "192.0.2.7:1234 -> 192.0.2.8:443"),
        ("%[ src,ipmask(8) ]", "192.0.0.0"),
        ("%[str(']'),concat(' ]')]!", "] ]!"),
        ("%[var(txn.none)]", "-"),
        ("%{+Q}[src]", "\"192.0.2.7\""),
        ("%{+X}[src_port] %{+X}cp", "1234 04D2"),
        ("%{+Q}o%[src_port] %{-Q}[src_port] %cp", "\"1234\" 1234 \"1234\""),
        ("%{+Q,+E}[str('a\"b')]", "\"a\\\"b\""),
        ("%HM %HP %HU", "GET /a /a?b"),
        ("é%[str(é)]", "éé"),
        ("%{+X}o %ci:%cp_%fi:%fp_%Ts_%rt:%pid", "C0000207:04D2_C0000208:01BB_0000_012C:0047"),
    ];
    for (text, expected) in cases {
        let format = format(text, Context::Request).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        let mut out = Vec::new();
        format.write(&facts, &mut Scratch::default(), b"-", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{text}");
        assert_eq!(format.as_text().is_some(), !text.replace("%%", "").contains('%'), "{text}");
    }
}

#[test]
fn wrong_formats_are_refused() {
    for (text, offset, message) in [
        ("a %[src", 3, "this bracket is not closed"),
        ("a %[src x]", 3, "this bracket is not closed"),
        ("a %[sr]", 4, "unknown sample fetch `sr`"),
        ("50% of", 2, "nothing follows the percent sign"),
        ("%", 0, "nothing follows the percent sign"),
        ("x%zz", 1, "unknown variable `%zz`"),
        ("%{+Z}[src]", 2, "unknown flag `+Z`"),
        ("%{+Q[src]", 1, "this brace is not closed"),
        ("a%[status]", 1, "`status` reads the response"),
    ] {
        let error = format(text, Context::Request).expect_err(text);
        assert_eq!(error.offset, offset, "{text}: {error:?}");
        assert!(error.message.starts_with(message), "{text}: {error:?}");
    }
}

#[test]
fn every_variable_compiles_somewhere() {
    for (name, _) in FORMAT_VARIABLES {
        let text = format!("%{name}");
        let contexts = [Context::Request, Context::Response];
        assert!(contexts.iter().any(|c| format(&text, *c).is_ok()), "{name}");
    }
}
