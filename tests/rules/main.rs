//! House rules as tests.

mod noalloc;
