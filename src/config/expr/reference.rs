//! docs/EXPRESSIONS.md: the reference of fetches, converters and predefined ACLs, made from their tables.

use std::fmt::Write;

use crate::config::expr::{FORMAT_VARIABLES, PREDEFINED, converters, fetches};

/// The text of docs/EXPRESSIONS.md.
pub fn reference() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("## Sample fetches\n\n| fetch | type | where | value |\n|---|---|---|---|\n");
    for f in fetches() {
        let also: Vec<_> = f.aliases.iter().map(|a| format!("`{a}`")).collect();
        let also = if also.is_empty() { String::new() } else { format!(" (also {})", also.join(", ")) };
        let derived =
            if f.derived { " Also `_beg`, `_dir`, `_dom`, `_end`, `_len`, `_reg`, `_sub`." } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "| `{}`{also} | {} | {} | {}{derived} |",
            signature(f.name, f.args),
            f.kind.name(),
            f.needs.name(),
            cell(f.help)
        );
    }
    out.push_str("\n## Converters\n\n| converter | from | to | result |\n|---|---|---|---|\n");
    for c in converters::all() {
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            signature(c.name, c.args),
            c.input.name(),
            c.output.name(),
            cell(c.help)
        );
    }
    out.push_str("\n## Predefined ACLs\n\n| ACL | test |\n|---|---|\n");
    for (name, text) in PREDEFINED {
        let _ = writeln!(out, "| `{name}` | `{text}` |");
    }
    out.push_str("\n## Variables of formats\n\n| variable | value |\n|---|---|\n");
    for (name, text) in FORMAT_VARIABLES {
        let _ = writeln!(out, "| `%{name}` | `{text}` |");
    }
    out
}

fn signature(name: &str, args: &str) -> String {
    match args {
        "" => name.to_owned(),
        args if args.starts_with('[') && args.ends_with(']') && !args.contains("][") => {
            format!("{name}[({})]", &args[1..args.len() - 1])
        }
        args => format!("{name}({args})"),
    }
}

/// A vertical bar would end a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

const INTRODUCTION: &str = "\
# Conditions and expressions

Generated from the tables of fetches and converters; `UPDATE_GOLDEN=1 cargo test expressions_reference` refreshes it.

A **condition** is the text of `if` or `unless`. It is made of ACLs with `and` (which may be left out), `or` (or `||`), `not` (or `!`) and
parentheses; `and` binds tighter than `or`. An ACL is a name from the section's `acl` table, a predefined name, or a test in braces, with a
space before the closing one:

    acl.from-office = \"src 192.0.2.0/24 2001:db8::/32\"
    rules = [
      { reject = {}, unless = \"from-office or { dst_port 443 }\" },
      { use-backend = \"web\", if = \"{ req.ssl_sni -i www.example.com } and not (from-office { src_port lt 1024 })\" },
    ]

An ACL that has several texts holds if any of them does. A **test** is `EXPRESSION [FLAGS] [OPERATOR] PATTERNS`; it holds if the value of the
expression matches any of the patterns. An **expression** is a fetch and converters, `FETCH(arguments),CONVERTER(arguments),...`, without spaces
outside of quotes. Names, arguments and results are those of HAProxy.

Flags: `-i` ignores case; `-m METHOD` names the method; `-f FILE` reads patterns from a file, one a line; `-M` says that the file is a map;
`--` ends the flags; `-n` and `-u ID` are accepted (host names are never resolved).

| method | the value | default for |
|---|---|---|
| `found` | is there | |
| `bool` | is true or not 0 | boolean |
| `int` | is an integer in a range: `80`, `1024:65535`, `:1023`, or after `eq`, `ge`, `gt`, `le`, `lt` | integer |
| `len` | has a length in such a range | |
| `ip` | is an address in a network: `192.0.2.0/24`, `2001:db8::/32` | ip |
| `str` | is this text | string |
| `beg` `end` `sub` | begins with, ends with, contains this text | |
| `dir` `dom` | has this part between slashes and question marks; between those, dots and colons | |
| `reg` | matches this regular expression (syntax of the regex crate, over bytes) | |
| `bin` | is these bytes, in hexadecimal | |

A **format** is text in which `%[EXPRESSION]` stands for a value, `%ci` for one of the variables below, and `%%` for a percent sign. Flags say
how a value is written: `%{+Q}[...]` in quotes, `%{+X}ci` in hexadecimal (variables alone; an expression has `hex`), `+E` with a backslash before quotes,
backslashes and brackets; `%{+Q}o` holds for all that follows. In heads of messages control characters are written as `%0A` and the like.

HAProxy gives the same values, but for these, which are bugs there: binary values end at their first zero byte where text is wanted, numbers of
headers that are none are what their letters add up to, and `http_date` writes a fraction for `ms` and `us`.

Tests over first bytes (`where`: content) wait for more of them while the outcome is open, at most for the `inspect-delay`. The value of a fetch
that is not there matches nothing.

";

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn expressions_reference() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/EXPRESSIONS.md");
        let text = super::reference();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).expect("docs is writable");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            golden == text,
            "docs/EXPRESSIONS.md is not what the tables say: refresh it with UPDATE_GOLDEN=1"
        );
    }
}
