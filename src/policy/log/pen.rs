//! Writes short things at their place, where room was made for them: numbers, addresses and names of a log line. Nothing here looks
//! for room; `steps` and `plain` call it.

use std::net::Ipv4Addr;

use crate::policy::log::plain::{is_marked, number, signed};
use crate::policy::log::{Field, Line};

/// Bytes of a number in decimal at most, with its sign and a mark.
pub(super) const NUMBER_BYTES_MAX: usize = 24;
/// With the byte that is written behind the last number and overwritten then.
pub(super) const IPV4_BYTES_MAX: usize = 16;
/// The name of a server where there is none.
pub(super) const NO_SERVER: &str = "<NOSRV>";

/// Puts things one behind the other, where there is room for them.
pub(super) struct Pen<'o> {
    pub(super) out: &'o mut [u8],
    pub(super) at: usize,
}

impl Pen<'_> {
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        self.out[self.at..end].copy_from_slice(bytes);
        self.at = end;
    }

    /// Puts the first of these bytes. All are written, so that nothing depends on how many count; what comes next overwrites
    /// the rest.
    #[inline]
    pub(super) fn put_some<const N: usize>(&mut self, bytes: [u8; N], count: usize) {
        self.out[self.at..self.at + N].copy_from_slice(&bytes);
        self.at += count;
    }

    #[inline]
    pub(super) fn byte(&mut self, byte: u8) {
        self.out[self.at] = byte;
        self.at += 1;
    }

    #[inline]
    pub(super) fn mark(&mut self, is_marked: bool) {
        if is_marked {
            self.byte(b'+');
        }
    }

    /// Names of proxies and servers have no byte to escape and are not empty.
    pub(super) fn name(&mut self, field: Field, line: &Line<'_>) {
        match field {
            Field::Backend => self.put(line.backend.as_bytes()),
            Field::Server => self.put(line.server.unwrap_or(NO_SERVER).as_bytes()),
            Field::FrontendTransport if line.is_tls => {
                self.put(line.frontend.as_bytes());
                self.byte(b'~');
            }
            _ => self.put(line.frontend.as_bytes()),
        }
    }

    pub(super) fn letters(&mut self, line: &Line<'_>) {
        match line.end.letters.as_bytes() {
            [who, when] => self.put(&[*who, *when]),
            letters => self.put(letters),
        }
    }

    pub(super) fn field(&mut self, field: Field, line: &Line<'_>) {
        let value = match field {
            Field::Status => line.status.into(),
            Field::BytesOut if !line.is_early => signed(line.bytes_out),
            field => {
                let Some(value) = number(field, line).flatten() else { return self.byte(b'-') };
                self.mark(is_marked(field, line));
                value
            }
        };
        self.number(value);
    }

    #[inline]
    pub(super) fn before_slash(&mut self, number: i64) {
        self.number(number);
        self.byte(b'/');
    }

    /// A number in decimal. The general way of `write!` would be the dearest part of a line, whose numbers are ports, times and
    /// sizes: short ones have a way of their own.
    #[inline]
    pub(super) fn number(&mut self, number: i64) {
        match usize::try_from(number) {
            Ok(number @ 0..1000) => self.first_digits(number),
            _ => self.long_number(number),
        }
    }

    /// A number below a thousand.
    #[inline]
    pub(super) fn first_digits(&mut self, number: usize) {
        let triple = u32::from_le_bytes(TRIPLES[number]);
        let count = triple >> 24;
        self.put_some((triple >> (8 * (3 - count))).to_le_bytes(), count as usize);
    }

    #[inline(never)]
    fn long_number(&mut self, number: i64) {
        match usize::try_from(number) {
            Ok(number @ 0..1_000_000) => {
                self.first_digits(number / 1000);
                self.put_some(TRIPLES[number % 1000], 3);
            }
            _ => self.any_number(number),
        }
    }

    #[cold]
    fn any_number(&mut self, number: i64) {
        let mut text = [0; NUMBER_BYTES_MAX];
        let mut from = text.len();
        let mut rest = number.unsigned_abs();
        loop {
            from -= 1;
            text[from] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            self.byte(b'-');
        }
        self.put(&text[from..]);
    }

    pub(super) fn ipv4(&mut self, ip: Ipv4Addr) {
        let [first, rest @ ..] = ip.octets();
        self.first_digits(first.into());
        for octet in rest {
            self.byte(b'.');
            self.first_digits(octet.into());
        }
    }
}

/// The numbers below a thousand with three digits, and how many of them count.
const TRIPLES: [[u8; 4]; 1000] = {
    let mut triples = [*b"000\x01"; 1000];
    let digits = b"0123456789";
    let mut number = 0;
    while number < 1000 {
        let count = if number < 10 {
            1
        } else if number < 100 {
            2
        } else {
            3
        };
        triples[number] = [digits[number / 100], digits[number / 10 % 10], digits[number % 10], count];
        number += 1;
    }
    triples
};

/// Appends a number in decimal.
pub fn number_to(number: i64, out: &mut Vec<u8>) {
    let mut text = [0; NUMBER_BYTES_MAX];
    let mut pen = Pen { out: &mut text, at: 0 };
    pen.number(number);
    let end = pen.at;
    out.extend_from_slice(&text[..end]);
}

pub(super) fn ipv4_to(ip: Ipv4Addr, out: &mut Vec<u8>) {
    let mut text = [0; IPV4_BYTES_MAX];
    let mut pen = Pen { out: &mut text, at: 0 };
    pen.ipv4(ip);
    let end = pen.at;
    out.extend_from_slice(&text[..end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_library() {
        let powers = (0..19).map(|exponent| 10_i64.pow(exponent));
        let near = powers.flat_map(|power| [power - 1, power, power + 1, 7 * (power / 3), -power]);
        for number in near.chain(0..12_000).chain([i64::MAX, i64::MIN]) {
            let mut out = Vec::new();
            number_to(number, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), number.to_string());
        }
    }

    #[test]
    fn addresses_are_those_of_the_library() {
        for octet in 0..=u8::MAX {
            let (ip, mut out) = (Ipv4Addr::new(octet, 0, 255, octet / 2), Vec::new());
            ipv4_to(ip, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), ip.to_string());
        }
    }
}
