//! The fields of one decoded section, in one piece of memory that is handed on and used again.

/// Bytes in front of each field: the lengths of its name and its value.
const LENGTHS: usize = 8;

/// Fields in order, as they were decoded: nothing about them is checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    /// The size of the list as RFC 9113 6.5.2 counts it.
    size: usize,
    /// There were more than the decoder was asked for.
    is_cut: bool,
}

impl Fields {
    /// No fields, in memory that was used before.
    pub fn within(mut bytes: Vec<u8>) -> Fields {
        bytes.clear();
        Fields { bytes, size: 0, is_cut: false }
    }

    /// The memory.
    pub fn into_memory(self) -> Vec<u8> {
        self.bytes
    }

    /// Forgets the fields and keeps the memory.
    pub fn clear(&mut self) {
        let memory = std::mem::take(&mut self.bytes);
        *self = Fields::within(memory);
    }

    /// Bytes of memory that it has.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether fields are missing because the list was too large.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The fields: name and value.
    pub fn iter(&self) -> Iter<'_> {
        Iter { left: &self.bytes }
    }

    /// Appends a field.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.begin();
        self.bytes.extend_from_slice(name);
        self.end_name(start);
        self.bytes.extend_from_slice(value);
        self.end_value(start, usize::MAX);
    }

    /// Begins a field, whose name goes to [`memory`](Self::memory).
    pub(super) fn begin(&mut self) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; LENGTHS]);
        start
    }

    /// Where the rest of a field that was begun goes.
    pub(super) fn memory(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The name is there; the value follows.
    pub(super) fn end_name(&mut self, start: usize) {
        let len = length(self.bytes.len() - start - LENGTHS);
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// The value is there. A field that makes the list larger than `max` is taken away by [`cut`](Self::cut).
    pub(super) fn end_value(&mut self, start: usize, max: usize) -> (&[u8], &[u8]) {
        let name_len = read_length(&self.bytes[start..]);
        let value_at = start + LENGTHS + name_len;
        let value_len = self.bytes.len() - value_at;
        let len = length(value_len);
        self.bytes[start + 4..start + 8].copy_from_slice(&len.to_ne_bytes());
        self.size = self.size.saturating_add(name_len + value_len + super::decoder::ENTRY_COST);
        self.is_cut |= self.size > max;
        (&self.bytes[start + LENGTHS..value_at], &self.bytes[value_at..])
    }

    /// Takes the last field away if the list is larger than it may be.
    pub(super) fn cut(&mut self, start: usize) {
        if self.is_cut {
            self.bytes.truncate(start);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a section has at most a few frames of 16 kB")]
fn length(len: usize) -> u32 {
    debug_assert!(u32::try_from(len).is_ok());
    len as u32
}

fn read_length(bytes: &[u8]) -> usize {
    bytes.first_chunk::<4>().map_or(0, |len| u32::from_ne_bytes(*len) as usize)
}

/// Fields in order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    left: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let (lengths, rest) = self.left.split_at_checked(LENGTHS)?;
        let (name, rest) = rest.split_at_checked(read_length(lengths))?;
        let (value, rest) = rest.split_at_checked(read_length(&lengths[4..]))?;
        self.left = rest;
        Some((name, value))
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
