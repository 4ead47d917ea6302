//! The program's allocator: mimalloc, called directly.
//!
//! The crate `mimalloc` asks for a stated alignment each time, which the allocator then has to look
//! at: 3 % of a request's instructions. Nearly everything is aligned well enough anyway.

#![expect(unsafe_code, reason = "an allocator hands out memory, and this one is written in C")]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

/// What mimalloc aligns all memory to that is at least as large (`MI_MAX_ALIGN_SIZE`). Smaller
/// memory is aligned to the power of two that fits into it, and to a word at least.
const NATURAL: usize = 16;
const WORD: usize = size_of::<usize>();

/// An allocator that needs 0.93 to 1.0 of the processor time per request of the system's allocator
/// (measured).
#[derive(Debug)]
pub struct Mimalloc;

/// Whether so much memory is aligned so whether it is asked for or not.
fn is_natural(size: usize, alignment: usize) -> bool {
    // The first comparison is of constants, nearly everywhere.
    alignment <= WORD || alignment <= NATURAL && alignment <= size
}

// SAFETY: what it returns is null, or memory of its own of at least the layout's size, aligned as
// the layout asks, which stays where it is until it is given back. Nothing here panics.
unsafe impl GlobalAlloc for Mimalloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        if is_natural(size, alignment) {
            // SAFETY: it may be called with any size.
            unsafe { mi_malloc(size) }.cast()
        } else {
            // SAFETY: it may be called with any size and any power of two, which a layout's is.
            unsafe { mi_malloc_aligned(size, alignment) }.cast()
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, alignment) = (layout.size(), layout.align());
        if is_natural(size, alignment) {
            // SAFETY: it may be called with any size.
            unsafe { mi_zalloc(size) }.cast()
        } else {
            // SAFETY: it may be called with any size and any power of two, which a layout's is.
            unsafe { mi_zalloc_aligned(size, alignment) }.cast()
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, _: Layout) {
        // SAFETY: the caller has the pointer from this allocator, so from mimalloc, and uses it no
        // more. However it was allocated, it is given back by this.
        unsafe { mi_free(pointer.cast()) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if is_natural(new_size, layout.align()) {
            // SAFETY: the caller has the pointer from this allocator, so from mimalloc, and uses it
            // no more unless null is returned.
            unsafe { mi_realloc(pointer.cast(), new_size) }.cast()
        } else {
            // SAFETY: the same, and the alignment is a power of two, since it is a layout's.
            unsafe { mi_realloc_aligned(pointer.cast(), new_size, layout.align()) }.cast()
        }
    }
}

unsafe extern "C" {
    /// (The crate declares it behind a feature that needs another crate.)
    fn mi_collect(force: bool);
}

/// Gives all memory that this thread does not use back to the system. mimalloc does so by itself
/// only in the course of allocating, so after a burst an idle thread would keep it.
pub(crate) fn give_back() {
    // SAFETY: it may be called at any time, and touches nothing that is in use.
    unsafe { mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use proptest::prelude::*;

    use super::*;

    /// Tests that use this allocator do so one after the other: to each, memory that another one
    /// takes would look as if it had not been given back.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory that is given back when it is dropped.
    struct Memory {
        start: *mut u8,
        layout: Layout,
    }

    impl Memory {
        fn new(size: usize, alignment: usize, is_zeroed: bool) -> Self {
            let layout = Layout::from_size_align(size, alignment).unwrap();
            // SAFETY: the size is not zero.
            let start = unsafe {
                if is_zeroed { Mimalloc.alloc_zeroed(layout) } else { Mimalloc.alloc(layout) }
            };
            Self { start, layout }.checked()
        }

        fn resized(self, size: usize) -> Self {
            // SAFETY: it is of this allocator and this layout, and no longer used. The size is not
            // zero.
            let start = unsafe { Mimalloc.realloc(self.start, self.layout, size) };
            let layout = Layout::from_size_align(size, self.layout.align()).unwrap();
            std::mem::forget(self);
            Self { start, layout }.checked()
        }

        fn checked(self) -> Self {
            assert!(!self.start.is_null() && self.start.addr().is_multiple_of(self.layout.align()));
            self
        }

        fn fill(&mut self, with: u8) {
            // SAFETY: so many bytes belong to it.
            unsafe { self.start.write_bytes(with, self.layout.size()) };
        }

        /// Of memory that was filled, or was zeroed.
        fn bytes(&self) -> &[u8] {
            // SAFETY: so many bytes belong to it, and have been written.
            unsafe { std::slice::from_raw_parts(self.start, self.layout.size()) }
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: it is of this allocator and this layout, and nobody uses it any more.
            unsafe { Mimalloc.dealloc(self.start, self.layout) };
        }
    }

    /// Whether the page at this address is in memory.
    fn is_resident(address: usize) -> bool {
        let mut entry = [0; 8];
        let map = File::open("/proc/self/pagemap").unwrap();
        map.read_exact_at(&mut entry, (address / 4096 * 8) as u64).unwrap();
        u64::from_ne_bytes(entry) >> 63 == 1
    }

    #[test]
    fn what_a_burst_has_left_is_given_back() {
        let _alone = alone();
        let burst = (0..2_000).map(|_| {
            let mut memory = Memory::new(32 * 1024, 8, false);
            memory.fill(1);
            memory
        });
        let burst: Vec<Memory> = burst.collect();
        let addresses: Vec<usize> = burst.iter().map(|memory| memory.start.addr()).collect();
        let resident = || addresses.iter().filter(|address| is_resident(**address)).count();
        assert_eq!(resident(), addresses.len());
        drop(burst);
        give_back();
        let left = resident();
        assert!(left < addresses.len() / 20, "{left}");
    }

    fn sizes() -> impl Strategy<Value = usize> {
        prop_oneof![1..=80_usize, 1..=2_000_usize, 1..=200_000_usize, 1..=3_000_000_usize]
    }

    fn alignments() -> impl Strategy<Value = usize> {
        (0..=16_u32).prop_map(|power| 1 << power)
    }

    /// Several at once: the first of a page is aligned better than the others.
    #[test]
    fn all_small_memory_is_aligned_as_it_is_asked_for() {
        let _alone = alone();
        for alignment in [1, 2, 4, 8, 16, 32, 64] {
            for size in 1..=300 {
                let held = (0..10).map(|_| Memory::new(size, alignment, false));
                drop(held.collect::<Vec<_>>());
            }
        }
    }

    proptest! {
        #[test]
        fn memory_is_aligned_and_keeps_what_is_in_it(
            first in sizes(),
            second in sizes(),
            alignment in alignments(),
            others in prop::collection::vec((sizes(), alignments()), 0..8),
        ) {
            let _alone = alone();
            let others = others.iter().map(|other| Memory::new(other.0, other.1, false));
            let _others: Vec<Memory> = others.collect();
            let mut memory = Memory::new(first, alignment, false);
            memory.fill(0xa5);
            let mut memory = memory.resized(second);
            prop_assert!(memory.bytes()[..first.min(second)].iter().all(|byte| *byte == 0xa5));
            memory.fill(0x5a);
            drop(memory);
            // Likely the same memory.
            let zeroed = Memory::new(second, alignment, true);
            prop_assert!(zeroed.bytes().iter().all(|byte| *byte == 0));
        }
    }
}
