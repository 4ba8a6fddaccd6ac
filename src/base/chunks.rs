//! A growing table whose places stay where they are: it grows by a piece of fixed size and moves nothing. A `Vec` that doubles
//! leaves its former blocks behind as holes in the heap, as much memory again as it has in use. Nothing is ever taken out.

use std::ops::{Index, IndexMut};

/// Places of a piece: small beside what thousands of connections keep, and few enough pieces to find.
const CHUNK: usize = 256;

/// Places by number, from 0 on.
#[derive(Debug)]
pub struct Chunks<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks { chunks: Vec::new(), len: 0 }
    }
}

impl<T> Chunks<T> {
    /// How many there are; the number of the next one.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds one behind the last.
    pub fn push(&mut self, value: T) {
        if self.len == self.chunks.len() * CHUNK {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks.last_mut().expect("pushed above, or not full").push(value);
        self.len += 1;
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// One, if it was pushed.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.chunks.get_mut(at / CHUNK)?.get_mut(at % CHUNK)
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;
    fn index(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK][at % CHUNK]
    }
}

impl<T> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_their_numbers_and_their_addresses() {
        let mut table = Chunks::default();
        assert!(table.is_empty());
        table.push(0);
        let first = std::ptr::from_ref(&table[0]);
        (1..3 * CHUNK + 1).for_each(|n| table.push(n));
        assert_eq!(table.len(), 3 * CHUNK + 1);
        assert!(std::ptr::eq(first, &raw const table[0]), "nothing moves");
        assert!(table.iter().copied().eq(0..3 * CHUNK + 1));
        table[CHUNK] = 7;
        assert_eq!((table[CHUNK - 1], table[CHUNK], table[3 * CHUNK]), (CHUNK - 1, 7, 3 * CHUNK));
        assert_eq!(table.get_mut(3 * CHUNK).copied(), Some(3 * CHUNK));
        assert!(table.get_mut(3 * CHUNK + 1).is_none() && table.get_mut(9 * CHUNK).is_none());
    }
}
