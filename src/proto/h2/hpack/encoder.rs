//! From fields to a field section. No table and no code: what they would save in bytes costs more in time, on both sides of
//! a fast network.

use crate::proto::h2::hpack::STATIC;
use crate::proto::http::Known;

/// What has to be said in front of sections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoder {
    resize: bool,
}

impl Encoder {
    /// The peer wants a table of another size. Ours is empty, and it is told so (RFC 7541 4.2).
    pub fn resize(&mut self) {
        self.resize = true;
    }

    /// Begins a section.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.resize) {
            out.push(0x20);
        }
    }
}

/// The index of the first entry of the static table with each known name; 0: there is none.
static INDEX: [u8; Known::ALL.len()] = {
    let mut index = [0; Known::ALL.len()];
    let mut known = 0;
    while known < Known::ALL.len() {
        let name = Known::ALL[known].name().as_bytes();
        let mut at = STATIC.len();
        while at > 0 {
            at -= 1;
            if is_same(STATIC[at].0.as_bytes(), name) {
                #[expect(clippy::cast_possible_truncation, reason = "the table has 61 entries")]
                let number = at as u8 + 1;
                index[known] = number;
            }
        }
        known += 1;
    }
    index
};

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Appends `:status`.
pub fn write_status(status: u16, out: &mut Vec<u8>) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            let digit = |n: u16| b'0' + u8::try_from(n % 10).unwrap_or(0);
            out.extend_from_slice(&[0x08, 3, digit(status / 100), digit(status / 10), digit(status)]);
            return;
        }
    };
    out.push(0x80 | index);
}

/// Appends what a request has in front of its fields; without an authority that is left out. The scheme is http.
pub fn write_pseudo(method: &[u8], authority: &[u8], path: &[u8], out: &mut Vec<u8>) {
    match method {
        b"GET" => out.push(0x82),
        b"POST" => out.push(0x83),
        _ => write_indexed(2, method, out),
    }
    out.push(0x86);
    match path {
        b"/" => out.push(0x84),
        _ => write_indexed(4, path, out),
    }
    if !authority.is_empty() {
        write_indexed(1, authority, out);
    }
}

/// Appends a field whose name is in the table, near its front.
fn write_indexed(index: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(index);
    integer(value.len(), 7, out);
    out.extend_from_slice(value);
}

/// Appends a field. `known` is what `name` is; its letters become small ones.
#[inline]
pub fn write_field(known: Option<Known>, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match known.map_or(0, |known| INDEX[known as usize]) {
        0 => {
            out.push(0);
            integer(name.len(), 7, out);
            let at = out.len();
            out.extend_from_slice(name);
            out[at..].make_ascii_lowercase();
        }
        index => integer(usize::from(index), 4, out),
    }
    integer(value.len(), 7, out);
    out.extend_from_slice(value);
}

/// A number whose first byte has `prefix` bits of it; the others are 0.
#[inline]
fn integer(value: usize, prefix: u8, out: &mut Vec<u8>) {
    let max = (1u8 << prefix) - 1;
    match u8::try_from(value) {
        Ok(value) if value < max => out.push(value),
        _ => {
            out.push(max);
            let mut left = value - usize::from(max);
            while left >= 0x80 {
                out.push(0x80 | u8::try_from(left & 0x7f).unwrap_or(0));
                left >>= 7;
            }
            out.push(u8::try_from(left).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::h2::hpack::{Decoder, Fields};

    #[test]
    fn requests_are_read_as_they_were_written() {
        for (method, authority, path) in [
            ("GET", "a:80", "/"),
            ("POST", "", "/x?y"),
            ("PATCH", "[::1]", "/index.html"),
            ("OPTIONS", "b", "*"),
        ] {
            let mut out = Vec::new();
            write_pseudo(method.as_bytes(), authority.as_bytes(), path.as_bytes(), &mut out);
            let mut fields = Fields::default();
            Decoder::default().decode(&out, usize::MAX, &mut fields).expect("a good section");
            let mut wanted = vec![(":method", method), (":scheme", "http"), (":path", path)];
            wanted.extend((!authority.is_empty()).then_some((":authority", authority)));
            let wanted = wanted.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            assert!(fields.iter().eq(wanted), "{fields:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        let mut encoder = Encoder::default();
        encoder.resize();
        encoder.begin(&mut out);
        encoder.begin(&mut out);
        assert_eq!(out, [0x20]);
        for status in [200, 204, 206, 304, 400, 404, 500, 201, 302, 503, 999] {
            write_status(status, &mut out);
        }
        let long = vec![b'v'; 20_000];
        let mut wanted = Vec::new();
        for known in Known::ALL {
            write_field(Some(*known), known.name().to_uppercase().as_bytes(), b"v", &mut out);
            wanted.push((known.name().as_bytes().to_vec(), b"v".to_vec()));
        }
        for (name, value) in
            [(&b"x"[..], &b""[..]), (b"X-Of-Ours", &long[..127]), (b"a", &long), (&long, b"v")]
        {
            write_field(Known::of(name), name, value, &mut out);
            wanted.push((name.to_ascii_lowercase(), value.to_vec()));
        }
        let mut fields = Fields::default();
        Decoder::default().decode(&out, usize::MAX, &mut fields).expect("a good section");
        let read: Vec<_> = fields.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        let statuses: Vec<_> =
            read.iter().take(11).map(|(_, v)| String::from_utf8_lossy(v).into_owned()).collect();
        assert_eq!(statuses.join(" "), "200 204 206 304 400 404 500 201 302 503 999");
        assert_eq!(&read[11..], &wanted);
    }
}
