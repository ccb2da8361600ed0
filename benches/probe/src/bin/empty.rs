//! Nothing: the size of an empty static Rust program.

fn main() {}
