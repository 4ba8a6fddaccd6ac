//! Keys of stick tables: made of values of samples, and shown to operators.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;

use crate::policy::sample::Value;

/// A key: addresses fit without memory of their own.
pub type Key = SmallVec<[u8; 16]>;

/// What the keys of a table are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyKind {
    /// IPv4 addresses (`ip`).
    Ip,
    /// IPv6 addresses; IPv4 ones are mapped (`ipv6`).
    Ipv6,
    /// 32 bits (`integer`).
    Integer,
    /// Text, cut at so many bytes (`string`).
    String(u16),
    /// So many bytes; shorter ones are filled up with 0 (`binary`).
    Binary(u16),
}

impl KeyKind {
    /// HAProxy's word for it.
    pub fn name(self) -> &'static str {
        match self {
            KeyKind::Ip => "ip",
            KeyKind::Ipv6 => "ipv6",
            KeyKind::Integer => "integer",
            KeyKind::String(_) => "string",
            KeyKind::Binary(_) => "binary",
        }
    }

    /// The key that a value is, if it is one.
    pub fn key(self, value: Value<'_>) -> Option<Key> {
        match self {
            KeyKind::Ip => match value.as_ip()?.to_canonical() {
                IpAddr::V4(ip) => Some(Key::from_slice(&ip.octets())),
                IpAddr::V6(_) => None,
            },
            KeyKind::Ipv6 => Some(match value.as_ip()? {
                IpAddr::V4(ip) => Key::from_slice(&ip.to_ipv6_mapped().octets()),
                IpAddr::V6(ip) => Key::from_slice(&ip.octets()),
            }),
            KeyKind::Integer => {
                let number = value.as_int()?;
                // HAProxy keeps the lower 32 bits.
                Some(Key::from_slice(&number.to_be_bytes()[4..]))
            }
            KeyKind::String(len) => value.with_text(|text| {
                let text = &text[..text.len().min(usize::from(len))];
                (!text.is_empty()).then(|| Key::from_slice(text))
            }),
            KeyKind::Binary(len) => {
                let len = usize::from(len);
                let mut key = match value {
                    Value::Str(bytes) | Value::Bin(bytes) => Key::from_slice(&bytes[..bytes.len().min(len)]),
                    Value::Ip(IpAddr::V4(ip)) => Key::from_slice(&ip.octets()),
                    Value::Ip(IpAddr::V6(ip)) => Key::from_slice(&ip.octets()),
                    Value::Int(number) => Key::from_slice(&number.to_be_bytes()),
                    Value::Bool(flag) => Key::from_slice(&i64::from(flag).to_be_bytes()),
                };
                if key.is_empty() {
                    return None;
                }
                key.resize(len, 0);
                Some(key)
            }
        }
    }

    /// The key that an operator writes: as [`show`](Self::show) writes it.
    pub fn parse(self, text: &str) -> Option<Key> {
        if let KeyKind::Binary(_) = self {
            let digits = text.as_bytes();
            let pairs = digits.chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
                u8::from_str_radix(pair, 16).ok()
            });
            let bytes: Vec<u8> = pairs.collect::<Option<_>>()?;
            return self.key(Value::Bin(&bytes));
        }
        if self == KeyKind::Integer && text.parse::<u32>().is_err() {
            return None;
        }
        self.key(Value::Str(text.as_bytes()))
    }

    /// For operators. Text may have any bytes in it: those that would break a line are escaped as `\xHH`.
    pub fn show(self, key: &[u8]) -> String {
        match (self, key) {
            (KeyKind::Ip, [a, b, c, d]) => Ipv4Addr::new(*a, *b, *c, *d).to_string(),
            (KeyKind::Ipv6, bytes) => match <[u8; 16]>::try_from(bytes) {
                Ok(bytes) => Ipv6Addr::from(bytes).to_string(),
                Err(_) => hex(bytes),
            },
            (KeyKind::Integer, [a, b, c, d]) => u32::from_be_bytes([*a, *b, *c, *d]).to_string(),
            (KeyKind::String(_), bytes) => {
                let mut text = String::with_capacity(bytes.len());
                for byte in bytes {
                    match byte {
                        b' '..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
                        _ => text += &format!("\\x{byte:02X}"),
                    }
                }
                text
            }
            (_, bytes) => hex(bytes),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
