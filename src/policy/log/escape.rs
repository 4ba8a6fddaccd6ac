//! How bytes of the network are written, in each encoding.

/// Which printable bytes are encoded besides control characters and those beyond ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Map {
    /// `"` and `#`: request lines, cookies.
    Url,
    /// Also `{`, `|` and `}`: captured headers, which stand between them.
    Header,
    /// `"` alone, and bytes beyond ASCII stay: values of expressions.
    Value,
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

impl Map {
    fn encodes(self, byte: u8) -> bool {
        match byte {
            0..0x20 | 0x7f | b'"' => true,
            0x80.. => self != Map::Value,
            b'#' => self != Map::Value,
            b'{' | b'|' | b'}' => self == Map::Header,
            _ => false,
        }
    }

    /// Whether a text has bytes to encode: asked of sixteen at once, as nearly none has. Vectors compare signed bytes: those
    /// beyond ASCII are below zero.
    pub(super) fn is_in(self, text: &[u8]) -> bool {
        let signed = u8::cast_signed;
        // The quote and the hash differ in one bit.
        let url = |byte: u8| (signed(byte) < 0x20) | (byte == 0x7f) | (byte | 1 == b'#');
        match self {
            Map::Value => any(text, |byte| (byte < 0x20) | (byte == 0x7f) | (byte == b'"')),
            Map::Url => any(text, url),
            // All behind `z` but for the tilde.
            Map::Header => any(text, |byte| url(byte) | ((signed(byte) > 0x7a) & (byte != b'~'))),
        }
    }

    /// Appends the text with `#XX` for what would break a line or a field.
    #[inline]
    pub(super) fn append(self, text: &[u8], out: &mut Vec<u8>) {
        match self.is_in(text) {
            false => out.extend_from_slice(text),
            true => self.append_encoded(text, out),
        }
    }

    #[cold]
    fn append_encoded(self, text: &[u8], out: &mut Vec<u8>) {
        let mut plain = 0;
        for (at, byte) in text.iter().enumerate() {
            if self.encodes(*byte) {
                out.extend_from_slice(&text[plain..at]);
                out.extend_from_slice(&[b'#', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                plain = at + 1;
            }
        }
        out.extend_from_slice(&text[plain..]);
    }

    /// The same with a backslash before `"`, `\` and `]`, as structured data of RFC 5424 wants them. As with HAProxy a quote in
    /// request lines and captured headers is encoded in any case.
    pub(super) fn append_escaped(self, text: &[u8], out: &mut Vec<u8>) {
        for byte in text {
            match byte {
                b'"' if self != Map::Value => self.append(&[*byte], out),
                b'"' | b'\\' | b']' => out.extend_from_slice(&[b'\\', *byte]),
                _ => self.append(&[*byte], out),
            }
        }
    }
}

/// Bytes that are looked at without a branch for each: the compiler makes a few vector instructions of it.
const AT_ONCE: usize = 16;

#[inline]
fn any(text: &[u8], is: impl Fn(u8) -> bool) -> bool {
    let among = |bytes: &[u8; AT_ONCE]| bytes.iter().fold(0, |found, byte| found | u8::from(is(*byte))) != 0;
    match text.last_chunk() {
        // The last ones are looked at with those before them, of which some were seen.
        Some(last) => text.as_chunks().0.iter().any(among) || among(last),
        None => {
            let mut padded = [b' '; AT_ONCE];
            padded[..text.len()].copy_from_slice(text);
            among(&padded)
        }
    }
}

/// A text of our own or an operator's for one line: control characters become spaces.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Appends a JSON string. Bytes that are no UTF-8 are read as Latin-1. The control characters beyond ASCII and the separators of
/// lines and paragraphs are escaped as well: terminals and viewers obey them.
pub(super) fn json(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid();
        let mut plain = 0;
        for (at, byte) in valid.bytes().enumerate() {
            if !matches!(byte, 0..0x20 | 0x7f | b'"' | b'\\' | 0xc2 | 0xe2) {
                continue;
            }
            let Some(c) = valid[at..].chars().next().filter(|c| is_escaped(*c)) else { continue };
            out.extend_from_slice(&valid.as_bytes()[plain..at]);
            plain = at + c.len_utf8();
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', byte]),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                c => unicode(c, out),
            }
        }
        out.extend_from_slice(&valid.as_bytes()[plain..]);
        chunk.invalid().iter().for_each(|byte| unicode(char::from(*byte), out));
    }
    out.push(b'"');
}

fn is_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}')
}

/// Nothing beyond the basic plane is escaped.
fn unicode(c: char, out: &mut Vec<u8>) {
    let number = u32::from(c);
    let digit = |shift: u32| HEX[(number >> shift & 15) as usize];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

/// How much of a JSON object of ours stays where only so many bytes may, and what closes it: it ends behind a member, or in the middle
/// of a text, and is an object still.
pub fn shorten_json(object: &[u8], max: usize) -> (usize, &'static [u8]) {
    let mut kept: (usize, &[u8]) = if max < 2 { (0, b"") } else { (1, b"}") };
    let mut at = 1;
    // `"name": value, ` and so on, as `LogFormat::write` has it.
    loop {
        let mut value = text_end(object, at) + 2;
        if object.get(value) == Some(&b'"') {
            let end = text_end(object, value);
            let mut cut = value + 1;
            while cut + 2 <= max && cut < end {
                kept = (cut, b"\"}");
                cut += unit(&object[cut..]);
            }
            value = end;
        } else {
            value += object.iter().skip(value).take_while(|byte| !matches!(byte, b',' | b'}')).count();
        }
        if value + 1 > max || value >= object.len() {
            return kept;
        }
        kept = (value, b"}");
        at = value + 2;
    }
}

/// Behind the text that begins with the quote at a place.
fn text_end(object: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while object.get(at).is_some_and(|byte| *byte != b'"') {
        at += unit(&object[at..]);
    }
    at + 1
}

/// Bytes of the character or escape at the front of a text.
fn unit(text: &[u8]) -> usize {
    match text {
        [b'\\', b'u', ..] => 6,
        [b'\\', ..] => 2,
        [0xc0..=0xdf, ..] => 2,
        [0xe0..=0xef, ..] => 3,
        [0xf0..=0xff, ..] => 4,
        _ => 1,
    }
}

/// Appends the head of a CBOR item: its major type and a number (RFC 8949 section 3).
pub(super) fn cbor_head(major: u8, number: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    let bytes = number.to_be_bytes();
    match number {
        0..24 => out.push(major | bytes[7]),
        24..0x100 => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a CBOR text; bytes that are no UTF-8 make it a byte string.
pub(super) fn cbor_text(text: &[u8], out: &mut Vec<u8>) {
    let major = if std::str::from_utf8(text).is_ok() { 3 } else { 2 };
    cbor_head(major, text.len() as u64, out);
    out.extend_from_slice(text);
}

/// Writes what stands behind `from` in hexadecimal instead.
pub(super) fn hex_from(from: usize, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    scratch.extend_from_slice(&out[from..]);
    out.truncate(from);
    for byte in scratch.iter() {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_json_string_is_obeyed_by_a_terminal() {
        let mut out = Vec::new();
        json("\u{9b}31m\u{85}\u{2028}\u{2029}\u{7f}\u{e9}\u{20ac}\u{1f600}\"\\\n".as_bytes(), &mut out);
        json(b"\xff\x80\xc2", &mut out);
        let expected = "\"\\u009B31m\\u0085\\u2028\\u2029\\u007F\u{e9}\u{20ac}\u{1f600}\\\"\\\\\\n\"\"\\u00FF\\u0080\\u00C2\"";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn a_json_object_that_is_cut_is_one_still() {
        let mut text = Vec::new();
        json("a\"b\\c\u{9b}\u{e9}\u{20ac}\u{1f600}, \u{7f}x\": {}".as_bytes(), &mut text);
        let text = String::from_utf8(text).expect("text");
        for object in [
            format!("{{\"n\\\"\": 12, \"long\": {text}, \"none\": null, \"last\": {text}}}"),
            format!("{{\"long\": {text}, \"n\": -1}}"),
            "{}".to_owned(),
        ] {
            let mut lengths = Vec::new();
            for max in 0..object.len() {
                let (len, close) = shorten_json(object.as_bytes(), max);
                let whole = [&object.as_bytes()[..len], close].concat();
                assert!(whole.len() <= max, "{max} {}", String::from_utf8_lossy(&whole));
                lengths.push(whole.len());
                let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&whole);
                assert!(parsed.is_ok() || max < 2, "{max} {}", String::from_utf8_lossy(&whole));
            }
            assert!(lengths.is_sorted(), "more room holds no less: {lengths:?}");
        }
    }

    #[test]
    fn what_is_found_is_what_is_encoded() {
        for map in [Map::Url, Map::Header, Map::Value] {
            for byte in 0..=u8::MAX {
                let text = [b'a', byte, b'b'];
                assert_eq!(map.is_in(&text), map.encodes(byte), "{map:?} {byte:#x}");
                for at in 0..40 {
                    let mut text = [b'a'; 40];
                    text[at] = byte;
                    let found = [map.is_in(&text), map.is_in(&text[..=at]), map.is_in(&text[at..])];
                    assert_eq!(found, [map.encodes(byte); 3], "{map:?} {byte:#x} {at}");
                }
            }
        }
    }
}
