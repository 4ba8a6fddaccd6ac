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
