//! The inputs of a target's corpus, through its function: for the tests of the crates.

use std::path::Path;

/// Fails with the first input that panics, and when there is none at all. A crate's tests run in its
/// directory, two below the workspace's.
pub fn replay(target: &str, reader: fn(&[u8])) {
    let corpus = Path::new("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(corpus).expect("a corpus") {
        let path = entry.expect("an entry").path();
        let input = std::fs::read(&path).expect("an input");
        let read = std::panic::catch_unwind(|| reader(&input));
        assert!(read.is_ok(), "{}", path.display());
        inputs += 1;
    }
    assert!(inputs > 0, "{target}: no inputs");
}
