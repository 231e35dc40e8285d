//! An allocator that counts what this thread asks for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::{AddAssign, Sub};

/// What was asked of the allocator so far, by this thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Calls of `alloc` and `realloc`.
    pub calls: u64,
    /// The bytes of those calls; what is freed again is not taken off.
    pub bytes: u64,
}

impl Sub for Asked {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { calls: self.calls - before.calls, bytes: self.bytes - before.bytes }
    }
}

impl AddAssign for Asked {
    fn add_assign(&mut self, more: Self) {
        self.calls += more.calls;
        self.bytes += more.bytes;
    }
}

/// Returns what this thread has asked for so far.
pub fn asked() -> Asked {
    ASKED.get()
}

struct Counting;

fn count(size: usize) {
    // A thread that ends may still free and allocate after its cell is gone.
    let _ = ASKED.try_with(|asked| {
        let before = asked.get();
        asked.set(Asked { calls: before.calls + 1, bytes: before.bytes + size as u64 });
    });
}

// SAFETY: every call goes to the system's allocator unchanged; only a thread's own cell is written.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ASKED: Cell<Asked> = const { Cell::new(Asked { calls: 0, bytes: 0 }) };
}
