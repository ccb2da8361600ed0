//! What fuzzing found: the inputs of `fuzz/corpus`, through the functions that are fuzzed.

use std::fs;
use std::path::Path;

#[expect(unreachable_pub, reason = "shared with fuzz/")]
#[path = "../../../fuzz/src/others/kconfig.rs"]
mod kconfig;

#[test]
fn no_reader_panics() {
    replay("dotconfig", kconfig::dotconfig);
    replay("kconfig", kconfig::language);
}

fn replay(target: &str, reader: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(corpus).expect("a corpus") {
        let path = entry.expect("an entry").path();
        let input = fs::read(&path).expect("an input");
        let read = std::panic::catch_unwind(|| reader(&input));
        assert!(read.is_ok(), "{}", path.display());
        inputs += 1;
    }
    assert!(inputs > 0, "{target}: no inputs");
}
