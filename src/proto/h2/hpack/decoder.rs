//! From a field section to fields (RFC 7541 section 3), with the table that its sender fills.

use std::collections::VecDeque;

use crate::proto::h2::hpack::fields::Fields;
use crate::proto::h2::hpack::{STATIC, huffman};

/// What an entry costs beyond its bytes (RFC 7541 4.1).
pub(super) const ENTRY_COST: usize = 32;

/// Bytes of the table: what a peer may use that was told nothing else (RFC 9113 6.5.2).
const TABLE_BYTES_MAX: usize = 4096;

/// Bytes behind the last entry that were given up, before they are moved away.
const SLACK_BYTES: usize = 1024;

/// The section is broken: nothing after it can be decoded (COMPRESSION_ERROR).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undecodable;

type Result<T> = std::result::Result<T, Undecodable>;

/// Decodes the sections of one direction of a connection, all of them and in order.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { table: Table { max: TABLE_BYTES_MAX, ..Table::default() } }
    }
}

impl Decoder {
    /// Appends the fields of a section. Once they are more than `size_max` bytes as RFC 9113 6.5.2 counts them the rest is
    /// left out, and [`Fields::is_cut`] says so; the section is read to its end all the same.
    pub fn decode(&mut self, section: &[u8], size_max: usize, fields: &mut Fields) -> Result<()> {
        let mut bytes = section;
        let mut may_resize = true;
        while let Some(first) = bytes.first().copied() {
            if first & 0xe0 == 0x20 {
                let size = integer(&mut bytes, 5)?;
                if !may_resize || size > TABLE_BYTES_MAX {
                    return Err(Undecodable);
                }
                self.table.resize(size);
                continue;
            }
            may_resize = false;
            let start = fields.begin();
            if first & 0x80 != 0 {
                let index = integer(&mut bytes, 7)?;
                let (name, value) = self.table.get(index).ok_or(Undecodable)?;
                fields.memory().extend_from_slice(name);
                fields.end_name(start);
                fields.memory().extend_from_slice(value);
                fields.end_value(start, size_max);
            } else {
                let is_kept = first & 0x40 != 0;
                let index = integer(&mut bytes, if is_kept { 6 } else { 4 })?;
                if index == 0 {
                    string(&mut bytes, fields.memory())?;
                } else {
                    let (name, _) = self.table.get(index).ok_or(Undecodable)?;
                    fields.memory().extend_from_slice(name);
                }
                fields.end_name(start);
                string(&mut bytes, fields.memory())?;
                let (name, value) = fields.end_value(start, size_max);
                if is_kept {
                    self.table.insert(name, value);
                }
            }
            fields.cut(start);
        }
        Ok(())
    }
}

/// A number whose first byte has `prefix` bits of it (RFC 7541 5.1).
#[inline]
fn integer(bytes: &mut &[u8], prefix: u8) -> Result<usize> {
    let (first, rest) = bytes.split_first().ok_or(Undecodable)?;
    *bytes = rest;
    let max = (1usize << prefix) - 1;
    let low = usize::from(*first) & max;
    if low < max { Ok(low) } else { long_integer(bytes, max) }
}

fn long_integer(bytes: &mut &[u8], max: usize) -> Result<usize> {
    let mut value = max;
    // Four bytes say more than any section has.
    for shift in [0, 7, 14, 21] {
        let (byte, rest) = bytes.split_first().ok_or(Undecodable)?;
        *bytes = rest;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Undecodable)
}

/// A string (RFC 7541 5.2).
#[inline]
fn string(bytes: &mut &[u8], out: &mut Vec<u8>) -> Result<()> {
    let is_code = bytes.first().ok_or(Undecodable)? & 0x80 != 0;
    let len = integer(bytes, 7)?;
    let (text, rest) = bytes.split_at_checked(len).ok_or(Undecodable)?;
    *bytes = rest;
    if !is_code {
        out.extend_from_slice(text);
        return Ok(());
    }
    if huffman::decode(text, out) { Ok(()) } else { Err(Undecodable) }
}

/// An entry of the table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where its name begins, counted from the first byte that the table ever had.
    at: u32,
    name_len: u16,
    value_len: u16,
}

impl Entry {
    fn cost(self) -> usize {
        usize::from(self.name_len) + usize::from(self.value_len) + ENTRY_COST
    }
}

/// The dynamic table (RFC 7541 2.3.2), and the static one in front of it.
#[derive(Debug, Default)]
struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    bytes: Vec<u8>,
    /// What the first of `bytes` counts as.
    base: u32,
    size: usize,
    max: usize,
}

impl Table {
    fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let dynamic = match index.checked_sub(1)? {
            index if index < STATIC.len() => {
                let (name, value) = STATIC[index];
                return Some((name.as_bytes(), value.as_bytes()));
            }
            index => index - STATIC.len(),
        };
        let entry = self.entries.get(dynamic)?;
        let at = entry.at.wrapping_sub(self.base) as usize;
        let value_at = at + usize::from(entry.name_len);
        Some((
            self.bytes.get(at..value_at)?,
            self.bytes.get(value_at..value_at + usize::from(entry.value_len))?,
        ))
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        let cost = name.len() + value.len() + ENTRY_COST;
        self.shrink(self.max.saturating_sub(cost));
        if cost > self.max {
            return;
        }
        let (Ok(name_len), Ok(value_len)) = (u16::try_from(name.len()), u16::try_from(value.len())) else {
            return;
        };
        self.move_up();
        let offset = u32::try_from(self.bytes.len()).unwrap_or(0);
        self.entries.push_front(Entry { at: self.base.wrapping_add(offset), name_len, value_len });
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += cost;
        debug_assert!(self.size <= self.max);
    }

    fn resize(&mut self, max: usize) {
        self.max = max;
        self.shrink(max);
    }

    /// Takes the oldest entries away until the table has at most `size` bytes.
    fn shrink(&mut self, size: usize) {
        while self.size > size
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.cost();
        }
    }

    /// Moves the bytes of entries to the front when enough in front of them is given up.
    fn move_up(&mut self) {
        let unused = match self.entries.back() {
            Some(oldest) => oldest.at.wrapping_sub(self.base) as usize,
            None => self.bytes.len(),
        };
        if unused >= SLACK_BYTES {
            self.bytes.drain(..unused);
            self.base = self.base.wrapping_add(u32::try_from(unused).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(decoder: &mut Decoder, section: &[u8]) -> Result<Vec<(String, String)>> {
        let mut fields = Fields::default();
        decoder.decode(section, 1 << 20, &mut fields)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(fields.iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16);
        digits.chunks(2).map(|digits| pair(digits).expect("digits")).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn requests_of_the_rfc_are_read() {
        // RFC 7541 C.3 and C.4: the same requests, plain and in the code.
        let first =
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        let second = [&first[..], &[("cache-control", "no-cache")]].concat();
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        for sections in [
            [
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
            [
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
        ] {
            let mut decoder = Decoder::default();
            for (section, wanted) in sections.iter().zip([&first[..], &second, &third]) {
                assert_eq!(decode(&mut decoder, &hex(section)), Ok(pairs(wanted)));
            }
            assert_eq!(decoder.table.size, 164);
        }
    }

    #[test]
    fn entries_leave_the_table_when_it_is_full() {
        // RFC 7541 C.5 with a table of 256 bytes.
        let mut decoder = Decoder::default();
        decoder.table.resize(256);
        let section = hex(
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120
             474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        );
        assert_eq!(decode(&mut decoder, &section).map(|fields| fields.len()), Ok(4));
        assert_eq!(decoder.table.size, 222);
        let fields = decode(&mut decoder, &hex("4803 3330 37c1 c0bf"));
        assert_eq!(fields.map(|fields| fields[0].clone()), Ok((":status".to_owned(), "307".to_owned())));
        assert_eq!(decoder.table.size, 222);
        assert_eq!(decoder.table.entries.len(), 4);
    }

    #[test]
    fn a_table_that_is_used_for_long_stays_small() {
        let mut decoder = Decoder::default();
        for n in 0..10_000u32 {
            let value = format!("value-{n}");
            let mut section = vec![0x40, 1, b'n', u8::try_from(value.len()).expect("short")];
            section.extend_from_slice(value.as_bytes());
            section.extend_from_slice(&[0xbe]);
            let fields = decode(&mut decoder, &section).expect("a good section");
            assert_eq!(fields[0], fields[1]);
            assert!(decoder.table.size <= TABLE_BYTES_MAX);
            assert!(decoder.table.bytes.len() <= TABLE_BYTES_MAX + SLACK_BYTES);
        }
    }

    #[test]
    fn broken_sections_are_refused() {
        for section in [
            // Indexes that there are not.
            "80",
            "be",
            "ffff ff7f",
            // Cut strings and numbers.
            "4003 61",
            "40",
            "00",
            "ff",
            "ffff ffff ffff ff7f",
            // A new size that is too large, or in the middle.
            "3fe2 1f",
            "8220",
            // Padding that is none.
            "0081 1861",
        ] {
            assert_eq!(decode(&mut Decoder::default(), &hex(section)), Err(Undecodable), "{section}");
        }
        assert_eq!(decode(&mut Decoder::default(), &hex("203f e11f 82")), Ok(pairs(&[(":method", "GET")])));
    }

    #[test]
    fn a_list_that_is_too_large_is_cut_and_read_on() {
        let mut decoder = Decoder::default();
        let mut section = vec![0x40, 1, b'n', 100];
        section.extend_from_slice(&[b'v'; 100]);
        section.extend_from_slice(&[0xbe; 1000]);
        section.extend_from_slice(&[0x40, 1, b'm', 1, b'w']);
        let mut fields = Fields::default();
        assert_eq!(decoder.decode(&section, 1000, &mut fields), Ok(()));
        assert!(fields.is_cut());
        assert_eq!(fields.iter().count(), 1000 / (101 + ENTRY_COST));
        // What came behind the cut is in the table.
        assert_eq!(decode(&mut decoder, &[0xbe]), Ok(pairs(&[("m", "w")])));
    }
}
