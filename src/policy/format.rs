//! Formats: text with `%[expression]` in it, for headers, redirects, variables. Compiled at load by `config::expr`; writing one
//! appends to a buffer and allocates nothing else.

use std::io::Write;
use std::net::IpAddr;

use crate::policy::sample::{Expr, Facts, Scratch, Value};

/// A compiled format.
#[derive(Clone, Debug, Default)]
pub struct Format {
    parts: Vec<Part>,
}

/// A piece of a format.
#[derive(Clone, Debug)]
pub enum Part {
    /// Text as it is.
    Text(Box<[u8]>),
    /// The value of an expression.
    Value(Expr, Flags),
    /// A variable (`%ci`): its addresses and numbers are hexadecimal with `X`, as HAProxy's.
    Variable(Expr, Flags),
}

/// How a value is written (`%{+Q,-X}[...]`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// `Q`: in double quotes.
    pub quote: bool,
    /// `X`: variables that are addresses or numbers in hexadecimal.
    pub hex: bool,
    /// `E`: a backslash before `"`, `\` and `]`.
    pub escape: bool,
}

impl Format {
    /// A format from its parts.
    pub fn new(parts: Vec<Part>) -> Format {
        Format { parts }
    }

    /// The text, if it has no expression in it.
    pub fn as_text(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// As [`write`](Self::write), for heads of messages: control characters, which none may have, become `%0A` and the like, as
    /// HAProxy writes them.
    pub fn write_in_head<F: Facts>(&self, facts: &F, scratch: &mut Scratch, out: &mut Vec<u8>) {
        let from = out.len();
        self.write(facts, scratch, b"", out);
        encode_controls(out, from);
    }

    /// Appends the text. `missing` stands for values that are not there: nothing in headers, `-` in logs.
    pub fn write<F: Facts>(&self, facts: &F, scratch: &mut Scratch, missing: &[u8], out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Value(expr, flags) => match expr.eval(facts, scratch).value {
                    Some(value) => flags.write(&value, out),
                    None => out.extend_from_slice(missing),
                },
                Part::Variable(expr, flags) => match expr.eval(facts, scratch).value {
                    Some(value) if flags.hex => flags.write_hex(&value, out),
                    Some(value) => flags.write(&value, out),
                    None => out.extend_from_slice(missing),
                },
            }
        }
    }
}

/// Percent-encodes the control characters from a place on, but for tabs (RFC 9110 5.5). Most texts have none.
fn encode_controls(out: &mut Vec<u8>, start: usize) {
    let is_control = |byte: u8| byte.is_ascii_control() && byte != b'\t';
    let controls = out[start..].iter().filter(|byte| is_control(**byte)).count();
    let mut from = out.len();
    out.resize(from + 2 * controls, 0);
    let mut to = out.len();
    // From the end, so that nothing is written over before it was read; what lies before the first one stays.
    while to > from {
        from -= 1;
        let byte = out[from];
        if is_control(byte) {
            let hex = |digit: u8| b"0123456789ABCDEF"[usize::from(digit & 15)];
            to -= 3;
            out[to..to + 3].copy_from_slice(&[b'%', hex(byte >> 4), hex(byte)]);
        } else {
            to -= 1;
            out[to] = byte;
        }
    }
}

impl Flags {
    fn write_hex(self, value: &Value<'_>, out: &mut Vec<u8>) {
        // Writing to a vector does not fail.
        match value {
            Value::Int(number) => drop(write!(out, "{number:04X}")),
            Value::Ip(IpAddr::V4(ip)) => drop(write!(out, "{:08X}", ip.to_bits())),
            Value::Ip(IpAddr::V6(ip)) => drop(write!(out, "{:032X}", ip.to_bits())),
            value => self.write(value, out),
        }
    }

    fn write(self, value: &Value<'_>, out: &mut Vec<u8>) {
        if self.quote {
            out.push(b'"');
        }
        match value {
            value if self.escape => value.with_text(|text| {
                for byte in text {
                    if matches!(byte, b'"' | b'\\' | b']') {
                        out.push(b'\\');
                    }
                    out.push(*byte);
                }
            }),
            value => value.append_text(out),
        }
        if self.quote {
            out.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_get_into_heads() {
        for (text, expected) in [
            ("", ""),
            ("a b\tc\u{e9}", "a b\tc\u{e9}"),
            ("a\r\nX: 1", "a%0D%0AX: 1"),
            ("\u{0}\u{1f}\u{7f}", "%00%1F%7F"),
            ("end\n", "end%0A"),
        ] {
            let mut out = b"kept\n".to_vec();
            out.extend_from_slice(text.as_bytes());
            encode_controls(&mut out, 5);
            assert_eq!(String::from_utf8_lossy(&out), format!("kept\n{expected}"), "{text:?}");
        }
    }
}
