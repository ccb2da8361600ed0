//! Composition: what every image builder on top of the crates shares
