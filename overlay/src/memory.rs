//! Memory of the data path: zeroed, touched before it is used, on huge pages where there are any.
//!
//! A table of a hundred megabytes is read at random places, once a message. On 4 KiB pages each
//! read also misses the TLB, and on memory that nobody touched the first read of each page takes a
//! fault of about a microsecond. [`Lines::zeroed`] pays both in advance, on the caller's thread,
//! which is why a table is made off the data path.
//!
//! The one module of the pure core with `unsafe`; its interface is safe. Without the feature
//! `daemon` the memory comes from the ordinary allocator, touched likewise.
//!
//! Source: madvise(2) MADV_HUGEPAGE; DATAPATH 4.2 and 10 for the figures.

#![expect(unsafe_code, reason = "mmap, madvise and prefetch have no safe form")]

use std::ops::Deref;
use std::sync::atomic::AtomicU64;

/// Bytes of one cache line of the machines we know.
pub const LINE_LEN: usize = 64;

/// One cache line of eight words; all zero when made.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Line(pub [AtomicU64; 8]);

impl Line {
    /// Asks the processor to fetch this line; returns at once and never faults.
    #[inline]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch reads nothing the program can see and does not fault; the address
            // is that of a live reference all the same. SSE is part of every x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(self).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            // An ordinary read: out-of-order execution overlaps those of one loop.
            std::hint::black_box(self.0[0].load(std::sync::atomic::Ordering::Relaxed));
        }
    }
}

/// A fixed number of zeroed [`Line`]s, each already touched.
#[derive(Debug)]
pub struct Lines(Source);

#[derive(Debug)]
enum Source {
    #[cfg(feature = "daemon")]
    Mapped(mapped::Mapping),
    Heap(Vec<Line>),
}

impl Lines {
    /// `count` lines, all zero, all touched.
    ///
    /// Cost: touches every page: about 0.1 ms a MiB on huge pages, 0.3 ms on small ones.
    pub fn zeroed(count: usize) -> Self {
        #[cfg(feature = "daemon")]
        if let Some(mapping) = mapped::Mapping::zeroed(count) {
            return Self(Source::Mapped(mapping));
        }
        // Writing each line, as `Default` does, touches it.
        Self(Source::Heap(
            std::iter::repeat_with(Line::default).take(count).collect(),
        ))
    }
}

impl Deref for Lines {
    type Target = [Line];

    #[inline]
    fn deref(&self) -> &[Line] {
        match &self.0 {
            #[cfg(feature = "daemon")]
            Source::Mapped(mapping) => mapping.lines(),
            Source::Heap(lines) => lines,
        }
    }
}

#[cfg(feature = "daemon")]
mod mapped {
    use std::ptr::NonNull;
    use std::sync::atomic::Ordering::Relaxed;

    use super::{LINE_LEN, Line};

    /// Bytes of a huge page of x86-64 and, with 4 KiB base pages, of aarch64.
    const HUGE: usize = 2 << 20;
    /// Bytes of the smallest page; touching more often than once a page is harmless.
    const PAGE: usize = 4096;

    /// An anonymous private mapping, unmapped when dropped.
    #[derive(Debug)]
    pub(super) struct Mapping {
        base: NonNull<libc::c_void>,
        len: usize,
        lines: NonNull<Line>,
        count: usize,
    }

    // SAFETY: the mapping belongs to this value alone and outlives every reference that `lines`
    // gives out; what lies in it is atomics, which any thread may use through `&`.
    unsafe impl Send for Mapping {}
    // SAFETY: as above.
    unsafe impl Sync for Mapping {}

    impl Mapping {
        /// `None` for what is too small to be worth a mapping, and when the system refuses one.
        pub(super) fn zeroed(count: usize) -> Option<Self> {
            let bytes = count.checked_mul(LINE_LEN)?;
            if bytes < PAGE {
                return None;
            }
            // Room to start at a multiple of a huge page; the rest is never touched and costs
            // addresses only.
            let slack = if bytes >= HUGE { HUGE } else { 0 };
            let len = bytes.checked_add(slack)?;
            // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing
            // that exists.
            let base = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            if base == libc::MAP_FAILED {
                return None;
            }
            let base = NonNull::new(base)?;
            let start = if slack == 0 {
                base
            } else {
                let skip = base.cast::<u8>().align_offset(HUGE);
                // SAFETY: `skip` is below HUGE, which is how much longer the mapping is than
                // `bytes`, so the result and `bytes` behind it lie inside.
                unsafe { base.byte_add(skip) }
            };
            // A kernel without huge pages answers EINVAL, and small pages do.
            // SAFETY: the range lies inside the mapping made above.
            unsafe { libc::madvise(start.as_ptr(), bytes, libc::MADV_HUGEPAGE) };
            let mapping = Self {
                base,
                len,
                lines: start.cast(),
                count,
            };
            for line in mapping.lines().iter().step_by(PAGE / LINE_LEN) {
                line.0[0].store(0, Relaxed);
            }
            Some(mapping)
        }

        #[inline]
        pub(super) fn lines(&self) -> &[Line] {
            // SAFETY: `lines` is aligned (a page, or a huge page), `count` lines from it lie in
            // the mapping, which lives as long as `self`; zero bytes are valid `Line`s, and the
            // only access to them is through atomics.
            unsafe { std::slice::from_raw_parts(self.lines.as_ptr(), self.count) }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: `base` and `len` are what mmap gave, and no reference outlives `self`.
            unsafe { libc::munmap(self.base.as_ptr(), self.len) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn all_lines_are_there_aligned_zero_and_writable() {
        // Below a page, between a page and a huge page, and above two, not round.
        for count in [0, 1, 16, 64, 1000, 70_001] {
            let lines = Lines::zeroed(count);
            assert_eq!(lines.len(), count);
            for line in &*lines {
                assert_eq!(std::ptr::from_ref(line).addr() % LINE_LEN, 0);
                line.prefetch();
                for word in &line.0 {
                    assert_eq!(word.load(Relaxed), 0);
                    word.store(u64::MAX, Relaxed);
                }
            }
        }
    }
}
