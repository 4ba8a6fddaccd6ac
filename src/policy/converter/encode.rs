//! Encodings: base64, hexadecimal, URLs, JSON strings.

use std::io::Write;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD};

use crate::policy::converter::Step;
use crate::policy::sample::Kind;

/// Bits beyond the last byte mean nothing, as in HAProxy.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);

const STANDARD_ANY: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);

/// base64url with or without padding, as tokens come.
const URL_SAFE_ANY: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    LENIENT.with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Encodings without arguments that change their output's shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// `base64`.
    Base64,
    /// `b64dec`.
    Base64Decode,
    /// `ub64enc`.
    Base64Url,
    /// `ub64dec`.
    Base64UrlDecode,
    /// `hex`.
    Hex,
    /// `url_enc`.
    UrlEncode,
    /// `url_dec`; true: the text is a form or a query, `+` is a space everywhere and not only after `?`.
    UrlDecode(bool),
    /// `json`.
    Json(JsonInput),
}

/// How `json` reads its input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JsonInput {
    /// `ascii`: every byte is a character of its number.
    Ascii,
    /// `utf8`: fails on what is not UTF-8.
    Utf8,
    /// `utf8s`: leaves out what is not UTF-8.
    Utf8Skip,
}

impl Codec {
    pub(super) fn input(self) -> Kind {
        match self {
            Codec::Base64 | Codec::Base64Url | Codec::Hex => Kind::Bin,
            _ => Kind::Str,
        }
    }

    pub(super) fn apply(self, input: &[u8], out: &mut Vec<u8>) -> Step<'static> {
        match self {
            Codec::Base64 => encode_base64(&STANDARD, input, out),
            Codec::Base64Url => encode_base64(&URL_SAFE_NO_PAD, input, out),
            Codec::Base64Decode => decode_base64(&STANDARD_ANY, input, out),
            Codec::Base64UrlDecode => decode_base64(&URL_SAFE_ANY, input, out),
            Codec::Hex => {
                input.iter().for_each(|b| out.extend_from_slice(&hex_pair(*b)));
                Step::Written(Kind::Str)
            }
            Codec::UrlEncode => {
                url_encode(input, out);
                Step::Written(Kind::Str)
            }
            Codec::UrlDecode(form) => written_if(url_decode(input, form, out)),
            Codec::Json(input_code) => written_if(json(input, input_code, out)),
        }
    }
}

fn written_if(ok: bool) -> Step<'static> {
    if ok { Step::Written(Kind::Str) } else { Step::Missing }
}

fn encode_base64(engine: &GeneralPurpose, input: &[u8], out: &mut Vec<u8>) -> Step<'static> {
    // Four bytes for each three begun.
    out.resize(input.len().div_ceil(3) * 4, 0);
    match engine.encode_slice(input, out) {
        Ok(len) => {
            out.truncate(len);
            Step::Written(Kind::Str)
        }
        Err(_) => Step::Missing,
    }
}

fn decode_base64(engine: &GeneralPurpose, input: &[u8], out: &mut Vec<u8>) -> Step<'static> {
    match engine.decode_vec(input, out) {
        Ok(()) => Step::Written(Kind::Bin),
        Err(_) => Step::Missing,
    }
}

fn hex_pair(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Everything but the unreserved characters of RFC 3986 is escaped.
fn url_encode(input: &[u8], out: &mut Vec<u8>) {
    for byte in input {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.push(b'%');
            out.extend_from_slice(&hex_pair(*byte));
        }
    }
}

/// False on a `%` that two hexadecimal digits do not follow.
fn url_decode(input: &[u8], mut form: bool, out: &mut Vec<u8>) -> bool {
    let mut rest = input;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' if form => out.push(b' '),
            b'%' => {
                let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
                let (Some(high), Some(low)) = (digit(0), digit(1)) else { return false };
                let value = u8::try_from(high << 4 | low);
                out.push(value.expect("two hexadecimal digits make a byte"));
                rest = &after[2..];
            }
            byte => {
                form |= *byte == b'?';
                out.push(*byte);
            }
        }
    }
    true
}

/// The inside of a JSON string, in ASCII. False if the input cannot be read.
fn json(input: &[u8], input_code: JsonInput, out: &mut Vec<u8>) -> bool {
    if input_code == JsonInput::Ascii {
        input.iter().for_each(|b| json_char(char::from(*b), out));
        return true;
    }
    for chunk in input.utf8_chunks() {
        if !chunk.invalid().is_empty() && input_code == JsonInput::Utf8 {
            return false;
        }
        chunk.valid().chars().for_each(|c| json_char(c, out));
    }
    true
}

fn json_char(c: char, out: &mut Vec<u8>) {
    let short = match c {
        '"' => b'"',
        '\\' => b'\\',
        '/' => b'/',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        ' '..='~' => {
            // ASCII, so its number is its byte.
            let mut byte = [0];
            c.encode_utf8(&mut byte);
            out.extend_from_slice(&byte);
            return;
        }
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a vector does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// `hex2i`: of more than 16 digits the last ones count. HAProxy's manual says zero where it is no hexadecimal number; it gives
/// no value then, and so does this.
pub(super) fn hex_to_int(text: &[u8]) -> Step<'static> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let number = text.iter().try_fold(0_u64, |sum, byte| Some(sum << 4 | u64::from(digit(*byte)?)));
    number.map_or(Step::Missing, |number| Step::int(number.cast_signed()))
}

pub(super) fn grouped_hex(
    input: &[u8],
    separator: &[u8],
    group: usize,
    whole: bool,
    out: &mut Vec<u8>,
) -> Step<'static> {
    for (at, chunk) in chunks(input, group, whole).enumerate() {
        if at > 0 {
            out.extend_from_slice(separator);
        }
        chunk.iter().for_each(|b| out.extend_from_slice(&hex_pair(*b)));
    }
    Step::Written(Kind::Str)
}

pub(super) fn grouped_decimal(
    input: &[u8],
    separator: &[u8],
    group: usize,
    whole: bool,
    out: &mut Vec<u8>,
) -> Step<'static> {
    for (at, chunk) in chunks(input, group, whole).enumerate() {
        if at > 0 {
            out.extend_from_slice(separator);
        }
        let number = chunk.iter().fold(0_u64, |sum, b| (sum << 8) | u64::from(*b));
        // Writing to a vector does not fail.
        let _ = write!(out, "{number}");
    }
    Step::Written(Kind::Str)
}

fn chunks(input: &[u8], group: usize, whole: bool) -> impl Iterator<Item = &[u8]> {
    input.chunks(group.max(1)).filter(move |c| !whole || c.len() == group)
}
