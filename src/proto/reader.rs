//! A cursor over bytes that says `None` at the end, for the binary formats of this layer.

/// Reads big-endian fields from the front of a slice; a read past the end gives `None` and leaves it unchanged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(count)?;
        self.rest = tail;
        Some(head)
    }
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.bytes(1).map(|b| b[0])
    }
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.bytes(2).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }
    pub(super) fn u24(&mut self) -> Option<usize> {
        self.bytes(3).map(|b| usize::from(b[0]) << 16 | usize::from(b[1]) << 8 | usize::from(b[2]))
    }
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.bytes(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }
    /// A vector with a one-byte length.
    pub(super) fn vec8(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let count = ahead.u8()?;
        let bytes = ahead.bytes(usize::from(count))?;
        *self = ahead;
        Some(bytes)
    }
    /// A vector with a two-byte length.
    pub(super) fn vec16(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let count = ahead.u16()?;
        let bytes = ahead.bytes(usize::from(count))?;
        *self = ahead;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_past_the_end_leaves_the_reader_unchanged() {
        let mut r = Reader::new(&[0, 2, 7]);
        assert_eq!(r.vec16(), None);
        assert_eq!(r.u32(), None);
        assert_eq!(r.len(), 3);
        assert_eq!(r.u16(), Some(2));
        assert_eq!(r.vec8(), None);
        assert_eq!(r.u8(), Some(7));
        assert!(r.is_empty());
    }
}
