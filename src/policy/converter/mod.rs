//! Converters: what an expression does to its value after the fetch. Names and results are HAProxy's. Arguments are parsed and
//! checked at load; applying a converter writes to a buffer that is handed in, or gives a part of its input.

use std::ops::Range;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::base::id::TableId;
use crate::policy::pattern::SharedPatterns;
use crate::policy::sample::{Facts, Kind, Literal, Value, VariableId, stick_value};
use crate::policy::stick;

mod digest;
mod encode;
mod json;
mod jwt;
mod language;
mod map;
mod number;
mod text;
mod time;

pub use digest::{Digest, Hash};
pub use encode::{Codec, JsonInput};
pub use json::JsonQuery;
pub use jwt::{JwtAlgorithm, JwtPart, JwtVerify, algorithm as jwt_algorithm};
pub use language::Languages;
pub use map::MapResult;
pub use number::{Comparison, Math};
pub use text::{Pieces, Regsub};
pub use time::DateFormat;

/// A converter with its arguments.
#[derive(Clone, Debug)]
pub enum Converter {
    /// `lower`.
    Lower,
    /// `upper`.
    Upper,
    /// `length`.
    Length,
    /// `bytes`: offset and, unless it reaches to the end, length.
    Bytes(usize, Option<usize>),
    /// `field` and `word`.
    Pieces(Box<Pieces>),
    /// `ltrim`.
    TrimStart(Box<[u8]>),
    /// `rtrim`.
    TrimEnd(Box<[u8]>),
    /// `cut_crlf`.
    CutLine,
    /// `host_only`.
    HostOnly,
    /// `port_only`.
    PortOnly,
    /// `regsub`.
    Regsub(Box<Regsub>),
    /// `concat`: a text, a variable and a text.
    Concat(Box<[u8]>, Option<VariableId>, Box<[u8]>),
    /// `add_item`: a delimiter, a variable and a text.
    AddItem(Box<[u8]>, Option<VariableId>, Box<[u8]>),
    /// `strcmp`.
    StrCmp(VariableId),
    /// `secure_memcmp`.
    SecureCompare(VariableId),
    /// `iif`.
    If(Box<[u8]>, Box<[u8]>),
    /// `map`, `map_beg`, ...
    Map {
        /// The lines.
        patterns: Arc<SharedPatterns>,
        /// What keys are read as.
        input: Kind,
        /// What values are read as.
        result: MapResult,
        /// The value of keys that no line matches.
        default: Option<Literal>,
    },
    /// `base64`, `hex`, `url_enc` and their kin.
    Codec(Codec),
    /// `be2hex`: separator, bytes of a group, whether an incomplete last group is dropped.
    GroupedHex(Box<[u8]>, usize, bool),
    /// `be2dec`: separator, bytes of a number, whether an incomplete last number is dropped.
    GroupedDecimal(Box<[u8]>, usize, bool),
    /// `hex2i`.
    HexToInt,
    /// `htonl`.
    NetworkOrder,
    /// `sha1`, `sha2`, `md5`.
    Digest(Digest),
    /// `hmac`: the digest and the key.
    Hmac(Digest, HmacKey),
    /// `jwt_header_query` and `jwt_payload_query`.
    JwtQuery(JwtPart, Option<Box<JsonQuery>>),
    /// `jwt_verify`.
    JwtVerify(Box<JwtVerify>),
    /// `crc32`, `djb2`, `xxh64` and their kin.
    Hash(Hash),
    /// `add`, `and` and their kin, with a number or a variable.
    Math(Math, Operand),
    /// `neg`.
    Neg,
    /// `cpl`.
    Complement,
    /// `bool`, `not`, `even`, `odd`.
    Compare(Comparison),
    /// `http_date`, `utime`.
    Date(Box<DateFormat>),
    /// `json_query`.
    Json(Box<JsonQuery>),
    /// `language`.
    Language(Box<Languages>),
    /// `in_table`, `table_conn_rate` and their kin.
    Table(TableId, stick::Read),
    /// `ipmask`: prefix lengths for IPv4 and, if IPv6 is to pass, for IPv6.
    IpMask(u32, Option<u32>),
}

/// The key of `hmac`.
#[derive(Clone, PartialEq, Eq)]
pub enum HmacKey {
    /// These bytes.
    Bytes(Box<[u8]>),
    /// A variable in base64.
    Variable(VariableId),
}

// Keys stay out of logs and panics.
impl std::fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HmacKey")
    }
}

/// The argument of an arithmetic converter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// A number.
    Number(i64),
    /// A variable; the converter fails when it is not set or no integer.
    Variable(VariableId),
}

/// What a converter did.
pub(crate) enum Step<'a> {
    /// A scalar, or bytes of the expression or of a variable.
    Value(Value<'a>),
    /// A part of its input.
    Slice(Kind, Range<usize>),
    /// Bytes that it wrote to the output buffer.
    Written(Kind),
    /// There is no result.
    Missing,
}

impl Step<'_> {
    fn int(value: i64) -> Self {
        Step::Value(Value::Int(value))
    }
    fn bool(value: bool) -> Self {
        Step::Value(Value::Bool(value))
    }
}

impl Converter {
    /// Whether it has no arguments and changes nothing.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Converter::Lower | Converter::Upper | Converter::HostOnly | Converter::PortOnly)
    }

    /// What its input is read as before it is applied.
    pub(crate) fn input(&self) -> Kind {
        match self {
            Converter::Lower
            | Converter::Upper
            | Converter::Length
            | Converter::Pieces(_)
            | Converter::TrimStart(_)
            | Converter::TrimEnd(_)
            | Converter::CutLine
            | Converter::HostOnly
            | Converter::PortOnly
            | Converter::Regsub(_)
            | Converter::Concat(..)
            | Converter::AddItem(..)
            | Converter::StrCmp(_)
            | Converter::Json(_)
            | Converter::Language(_)
            | Converter::JwtQuery(..)
            | Converter::JwtVerify(_)
            | Converter::HexToInt => Kind::Str,
            Converter::Bytes(..)
            | Converter::GroupedHex(..)
            | Converter::GroupedDecimal(..)
            | Converter::SecureCompare(_)
            | Converter::Digest(_)
            | Converter::Hmac(..)
            | Converter::Hash(_) => Kind::Bin,
            Converter::If(..) => Kind::Bool,
            Converter::Codec(codec) => codec.input(),
            Converter::Map { input, .. } => *input,
            Converter::NetworkOrder
            | Converter::Math(..)
            | Converter::Neg
            | Converter::Complement
            | Converter::Date(_)
            | Converter::Compare(_) => Kind::Int,
            Converter::IpMask(..) => Kind::Ip,
            Converter::Table(..) => Kind::Any,
        }
    }

    /// Applies it to a value of its input type. `out` is empty; `fold` is scratch memory.
    pub(crate) fn apply<'a, F: Facts>(
        &'a self,
        facts: &'a F,
        input: Value<'_>,
        out: &mut Vec<u8>,
        fold: &mut Vec<u8>,
    ) -> Step<'a> {
        match (self, input) {
            (Converter::Map { patterns, result, default, .. }, _) => {
                map::look_up(patterns, &input, *result, default.as_ref(), out, fold)
            }
            (Converter::Table(table, read), value) => {
                let number = facts.stick(stick::Entry::Key(*table, value), *read);
                number.and_then(|number| stick_value(number, *read)).map_or(Step::Missing, Step::Value)
            }
            (Converter::If(yes, no), Value::Bool(truth)) => {
                Step::Value(Value::Str(if truth { yes } else { no }))
            }
            (Converter::IpMask(v4, v6), Value::Ip(ip)) => number::mask(ip, *v4, *v6),
            (Converter::Math(math, operand), Value::Int(i)) => match operand.value(facts) {
                Some(other) => Step::int(math.apply(i, other)),
                None => Step::Missing,
            },
            (Converter::Neg, Value::Int(i)) => Step::int(i.checked_neg().unwrap_or(i64::MAX)),
            (Converter::Complement, Value::Int(i)) => Step::int(!i),
            (Converter::Compare(comparison), Value::Int(i)) => Step::bool(comparison.holds(i)),
            (Converter::Date(format), Value::Int(i)) => format.apply(i, out),
            (Converter::NetworkOrder, Value::Int(i)) => {
                // HAProxy keeps the lower 32 bits.
                out.extend_from_slice(&i.to_be_bytes()[4..]);
                Step::Written(Kind::Bin)
            }
            (_, Value::Str(text) | Value::Bin(text)) => self.apply_bytes(facts, text, out),
            // Inputs are cast to the type that `input` names, so no other pair comes here.
            _ => Step::Missing,
        }
    }

    fn apply_bytes<'a, F: Facts>(&'a self, facts: &'a F, text: &[u8], out: &mut Vec<u8>) -> Step<'a> {
        let variable = |id: &VariableId| facts.variables().get(*id);
        match self {
            Converter::Lower => text::map_bytes(text, u8::to_ascii_lowercase, out),
            Converter::Upper => text::map_bytes(text, u8::to_ascii_uppercase, out),
            Converter::Length => Step::int(i64::try_from(text.len()).unwrap_or(i64::MAX)),
            Converter::Bytes(offset, length) => text::part(text, *offset, *length),
            Converter::Pieces(pieces) => pieces.apply(text),
            Converter::TrimStart(set) => text::trim_start(text, set),
            Converter::TrimEnd(set) => text::trim_end(text, set),
            Converter::CutLine => text::cut_line(text),
            Converter::HostOnly => text::host_only(text, out),
            Converter::PortOnly => text::port_only(text),
            Converter::Regsub(regsub) => regsub.apply(text, out),
            Converter::Concat(before, id, after) => {
                text::concat(text, before, id.as_ref().and_then(variable), after, out)
            }
            Converter::AddItem(delimiter, id, after) => {
                text::add_item(text, delimiter, id.as_ref().and_then(variable), after, out)
            }
            Converter::StrCmp(id) => variable(id).map_or(Step::Missing, |other| text::compare(text, &other)),
            Converter::SecureCompare(id) => match variable(id).and_then(|v| v.bytes()) {
                Some(other) => Step::bool(digest::equal_in_constant_time(text, other)),
                None => Step::Missing,
            },
            Converter::Codec(codec) => codec.apply(text, out),
            Converter::GroupedHex(separator, group, whole) => {
                encode::grouped_hex(text, separator, *group, *whole, out)
            }
            Converter::GroupedDecimal(separator, group, whole) => {
                encode::grouped_decimal(text, separator, *group, *whole, out)
            }
            Converter::HexToInt => encode::hex_to_int(text),
            Converter::Json(query) => query.apply(text, out),
            Converter::Language(languages) => languages.apply(text),
            Converter::Digest(digest) => digest.apply(text, out),
            Converter::Hmac(digest, key) => match key {
                HmacKey::Bytes(key) => digest.authenticate(key, text, out),
                HmacKey::Variable(id) => {
                    let encoded = variable(id).and_then(|value| value.bytes());
                    match encoded.and_then(|encoded| STANDARD.decode(encoded).ok()) {
                        Some(key) => digest.authenticate(&key, text, out),
                        None => Step::Missing,
                    }
                }
            },
            Converter::JwtQuery(part, query) => part.apply(query.as_deref(), text, out),
            Converter::JwtVerify(verify) => Step::int(verify.apply(facts, text)),
            Converter::Hash(hash) => Step::int(hash.apply(text)),
            _ => Step::Missing,
        }
    }
}

impl Operand {
    fn value<F: Facts>(self, facts: &F) -> Option<i64> {
        match self {
            Operand::Number(n) => Some(n),
            Operand::Variable(id) => facts.variables().get(id)?.as_int(),
        }
    }
}
