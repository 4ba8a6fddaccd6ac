//! Values of samples and how one type is read as another (HAProxy's casts).

use std::io::Write;
use std::net::IpAddr;

/// The value of a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An IP address.
    Ip(IpAddr),
    /// Text; not necessarily UTF-8.
    Str(&'a [u8]),
    /// Bytes.
    Bin(&'a [u8]),
}

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A boolean.
    Bool,
    /// A signed integer.
    Int,
    /// An IPv4 or IPv6 address.
    Ip,
    /// Text.
    Str,
    /// Bytes.
    Bin,
    /// Known only when it is evaluated: a variable.
    Any,
}

impl Kind {
    /// The operator's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "boolean",
            Kind::Int => "integer",
            Kind::Ip => "ip",
            Kind::Str => "string",
            Kind::Bin => "binary",
            Kind::Any => "any",
        }
    }

    /// Whether a value of this type can be read as `to`; individual values may still not be readable.
    pub fn casts_to(self, to: Kind) -> bool {
        !matches!(
            (self, to),
            (Kind::Bool, Kind::Ip) | (Kind::Ip, Kind::Bool) | (Kind::Bin, Kind::Bool | Kind::Int | Kind::Ip)
        )
    }
}

/// Longest text of a value that is not text itself: an IPv6 address.
const SCALAR_TEXT_MAX: usize = 48;

impl<'a> Value<'a> {
    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Int,
            Value::Ip(_) => Kind::Ip,
            Value::Str(_) => Kind::Str,
            Value::Bin(_) => Kind::Bin,
        }
    }

    /// As an integer: a boolean is 0 or 1, text is read up to the first byte that is no digit, an IPv4 address is its 32 bits.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Bool(b) => Some(i64::from(*b)),
            Value::Int(i) => Some(*i),
            Value::Ip(IpAddr::V4(a)) => Some(i64::from(a.to_bits())),
            Value::Ip(IpAddr::V6(_)) | Value::Bin(_) => None,
            Value::Str(text) => leading_int(text),
        }
    }

    /// As a boolean: whatever is not zero.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Ip(_) => None,
            _ => self.as_int().map(|i| i != 0),
        }
    }

    /// As an address. The lower 32 bits of an integer are an IPv4 one.
    pub fn as_ip(&self) -> Option<IpAddr> {
        match self {
            Value::Ip(ip) => Some(*ip),
            Value::Int(i) => {
                let [_, _, _, _, a, b, c, d] = i.to_be_bytes();
                Some(IpAddr::from([a, b, c, d]))
            }
            Value::Str(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            Value::Bool(_) | Value::Bin(_) => None,
        }
    }

    /// Its bytes, if it is text or binary.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Value::Str(b) | Value::Bin(b) => Some(b),
            _ => None,
        }
    }

    /// Calls `f` with it as text: booleans are `0` and `1`, addresses in their usual form.
    pub fn with_text<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        if let Some(bytes) = self.bytes() {
            return f(bytes);
        }
        let mut buffer = [0_u8; SCALAR_TEXT_MAX];
        let mut rest = &mut buffer[..];
        self.write_scalar(&mut rest);
        let unused = rest.len();
        f(&buffer[..SCALAR_TEXT_MAX - unused])
    }

    /// Appends it as text.
    pub fn append_text(&self, out: &mut Vec<u8>) {
        match self.bytes() {
            Some(bytes) => out.extend_from_slice(bytes),
            None => self.write_scalar(out),
        }
    }

    /// Appends it as bytes: an integer is 8 bytes, an address 4 or 16, all in network order.
    pub fn append_binary(&self, out: &mut Vec<u8>) {
        match self {
            Value::Bool(b) => out.extend_from_slice(&i64::from(*b).to_be_bytes()),
            Value::Int(i) => out.extend_from_slice(&i.to_be_bytes()),
            Value::Ip(IpAddr::V4(a)) => out.extend_from_slice(&a.octets()),
            Value::Ip(IpAddr::V6(a)) => out.extend_from_slice(&a.octets()),
            Value::Str(b) | Value::Bin(b) => out.extend_from_slice(b),
        }
    }

    fn write_scalar(&self, out: &mut impl Write) {
        // Neither a vector nor a buffer of SCALAR_TEXT_MAX bytes can be too short.
        let _ = match self {
            Value::Bool(b) => out.write_all(if *b { b"1" } else { b"0" }),
            Value::Int(i) => write!(out, "{i}"),
            Value::Ip(ip) => write!(out, "{ip}"),
            Value::Str(_) | Value::Bin(_) => Ok(()),
        };
    }
}

/// The integer that a text begins with; 0 if there is none; `None` for an empty text. Saturates.
fn leading_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let mut value = 0_i64;
    for digit in digits.iter().take_while(|b| b.is_ascii_digit()) {
        let digit = i64::from(digit - b'0');
        value = value.saturating_mul(10);
        value = if negative { value.saturating_sub(digit) } else { value.saturating_add(digit) };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_other_types() {
        let ip = |s: &str| s.parse::<IpAddr>().expect("an address");
        let ints: &[(Value<'_>, Option<i64>)] = &[
            (Value::Bool(true), Some(1)),
            (Value::Str(b"12ab"), Some(12)),
            (Value::Str(b"-12"), Some(-12)),
            (Value::Str(b"x"), Some(0)),
            (Value::Str(b""), None),
            (Value::Str(b"99999999999999999999"), Some(i64::MAX)),
            (Value::Str(b"-99999999999999999999"), Some(i64::MIN)),
            (Value::Ip(ip("0.0.1.0")), Some(256)),
            (Value::Ip(ip("::1")), None),
            (Value::Bin(b"1"), None),
        ];
        for (value, expected) in ints {
            assert_eq!(value.as_int(), *expected, "{value:?}");
        }
        assert_eq!(Value::Str(b"10.0.0.1").as_ip(), Some(ip("10.0.0.1")));
        assert_eq!(Value::Str(b"10.0.0.1:80").as_ip(), None);
        assert_eq!(Value::Int(0x7f00_0001).as_ip(), Some(ip("127.0.0.1")));
        assert_eq!(Value::Int(-1).as_ip(), Some(ip("255.255.255.255")));
    }

    #[test]
    fn every_scalar_fits_its_text_buffer() {
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255";
        for (value, text) in [
            (Value::Int(i64::MIN), i64::MIN.to_string()),
            (Value::Bool(false), "0".to_owned()),
            (Value::Ip("::ffff:1.2.3.4".parse().expect("an address")), "::ffff:1.2.3.4".to_owned()),
        ] {
            value.with_text(|t| assert_eq!(t, text.as_bytes()));
            let mut out = Vec::new();
            value.append_text(&mut out);
            assert_eq!(out, text.as_bytes());
        }
        assert!(longest.len() < SCALAR_TEXT_MAX);
    }
}
