//! The system's allocator, with a count of what each thread holds: it tells what a generation of the configuration costs. The count
//! is a cell of the thread itself, so that nothing is shared.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Constant and without a destructor: it is there before the first allocation and after the last one.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// Counts what passes through the system's allocator. The program makes it its global one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

/// Bytes that this thread allocated, less those that it freed; only differences mean something, because memory moves between threads.
/// 0 where [`Counting`] is not the global allocator.
pub fn held() -> i64 {
    HELD.get()
}

/// Gives whole pages of free blocks back to the kernel. It looks at every free block of the process and makes threads that allocate
/// meanwhile wait: for after a burst, and seldom.
pub fn give_pages_back() {
    // SAFETY: it concerns free memory alone, and locks what it looks at.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

fn add(bytes: usize) {
    HELD.set(HELD.get().wrapping_add_unsigned(bytes as u64));
}

fn take(bytes: usize) {
    HELD.set(HELD.get().wrapping_sub_unsigned(bytes as u64));
}

// SAFETY: every call goes to the system's allocator unchanged, and the count is a plain cell that neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        take(layout.size());
        // SAFETY: the pointer came from this allocator, that is the system's, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(layout.size());
        add(size);
        // SAFETY: the pointer came from this allocator, that is the system's, with this layout; the size is the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_what_was_taken_less_what_was_given_back() {
        let before = held();
        let layout = Layout::from_size_align(1000, 8).expect("a good layout");
        // SAFETY: the layout has a size, the pointer is used as it came, and freed once with its last layout.
        unsafe {
            let pointer = Counting.alloc(layout);
            assert!(!pointer.is_null());
            assert_eq!(held() - before, 1000);
            let pointer = Counting.realloc(pointer, layout, 3000);
            assert!(!pointer.is_null());
            assert_eq!(held() - before, 3000);
            Counting.dealloc(pointer, Layout::from_size_align(3000, 8).expect("a good layout"));
            let zeroed = Counting.alloc_zeroed(layout);
            assert!(!zeroed.is_null() && *zeroed == 0);
            Counting.dealloc(zeroed, layout);
        }
        assert_eq!(held(), before);
    }
}
