//! Fuzzing of Kiln's readers of hostile bytes: a target for each, of which an ordinary test of the
//! crate replays the corpus. `cargo xtask campaign fuzz` builds and runs them.
//!
//! A target must neither panic nor loop, and take at most [`MEMORY`] bytes.

use std::alloc::System;

use cap::Cap;

pub mod diskimg;
pub mod mutate;
pub mod others;
pub mod seeds;
pub mod sparse;

/// What a target may allocate at once, with the bounds that it gives to a reader.
pub const MEMORY: usize = 128 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY);

/// A target of libFuzzer from a function of bytes; `image` when these are a sparse image.
#[macro_export]
macro_rules! target {
    (image $reader:path) => {
        $crate::target!($reader);
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            $crate::mutate::image(data, size, max_size, seed)
        });
    };
    ($reader:path) => {
        libfuzzer_sys::fuzz_target!(|input: &[u8]| $reader(input));
    };
}
