//! Tests that boot images, and tests across crates
