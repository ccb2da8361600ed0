//! What the README's two commands and CI call
fn main() {}
