//! Blocks of memory for values of one type that live long and are made beside others that do not. A block taken alone from the
//! heap would lie between those, and keep holes open once they are gone; so blocks are taken many at a time, and lie together.

use std::mem::MaybeUninit;
use std::rc::Rc;

/// Blocks that are taken from the heap at once, and at most kept when they come back.
const BLOCKS: usize = 64;

/// Empty blocks of one core. The one given back last is taken first.
#[derive(Debug)]
pub struct Stock<T> {
    blocks: Vec<Rc<MaybeUninit<T>>>,
}

impl<T> Default for Stock<T> {
    fn default() -> Self {
        Stock { blocks: Vec::new() }
    }
}

impl<T> Stock<T> {
    /// As `Rc::new`.
    pub fn make(&mut self, value: T) -> Rc<T> {
        if self.blocks.is_empty() {
            self.blocks.extend((0..BLOCKS).map(|_| Rc::new_uninit()));
        }
        let mut block = self.blocks.pop().expect("filled above");
        Rc::get_mut(&mut block).expect("nobody else has a block of the stock").write(value);
        // SAFETY: the value was written above.
        unsafe { block.assume_init() }
    }

    /// Ends a value and keeps its block, unless somebody else has the value too.
    pub fn give_back(&mut self, mut value: Rc<T>) {
        if self.blocks.len() >= BLOCKS || Rc::get_mut(&mut value).is_none() {
            return;
        }
        // SAFETY: there is no other pointer to the value, weak or strong (`get_mut`), so that it may end here. From then on it is
        // only known as uninitialised memory, which has the same layout (`MaybeUninit` is transparent) and is never dropped as a
        // `T`. If its end panics the block is leaked.
        let block = unsafe {
            let value = Rc::into_raw(value).cast_mut();
            value.drop_in_place();
            Rc::from_raw(value.cast_const().cast::<MaybeUninit<T>>())
        };
        self.blocks.push(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end_once_and_their_blocks_are_used_again() {
        let ended = Rc::new(());
        let mut stock = Stock::default();
        let (first, second) = (stock.make(ended.clone()), stock.make(ended.clone()));
        assert_eq!((stock.blocks.len(), Rc::strong_count(&ended)), (BLOCKS - 2, 3));
        let place = Rc::as_ptr(&second);
        stock.give_back(second);
        assert_eq!((stock.blocks.len(), Rc::strong_count(&ended)), (BLOCKS - 1, 2));
        let again = stock.make(ended.clone());
        assert!(std::ptr::eq(place, Rc::as_ptr(&again)), "the last block is taken first");
        drop((first, again));
        assert_eq!(Rc::strong_count(&ended), 1);
    }

    #[test]
    fn a_value_that_somebody_else_has_too_lives_on() {
        let mut stock = Stock::default();
        let mine = stock.make(String::from("x"));
        let (other, weak) = (mine.clone(), Rc::downgrade(&mine));
        stock.give_back(mine);
        assert_eq!((stock.blocks.len(), other.as_str()), (BLOCKS - 1, "x"));
        stock.give_back(other);
        assert!(weak.upgrade().is_none(), "it ends with its last owner, its block with the weak one");
        assert_eq!(stock.blocks.len(), BLOCKS - 1);
    }

    #[test]
    fn a_bounded_number_of_blocks_is_kept() {
        let mut stock = Stock::default();
        let values: Vec<_> = (0..3 * BLOCKS).map(|n| stock.make(n)).collect();
        values.into_iter().for_each(|value| stock.give_back(value));
        assert_eq!(stock.blocks.len(), BLOCKS);
    }
}
