//! What fuzzing found: the inputs of `fuzz/corpus`, through the functions that are fuzzed.

use std::fs;
use std::path::Path;

#[expect(unreachable_pub, clippy::cast_possible_truncation, reason = "shared with fuzz/")]
#[path = "../../../../fuzz/src/diskimg/mod.rs"]
mod diskimg;
#[allow(dead_code, unreachable_pub, reason = "shared with fuzz/, which makes images too")]
#[allow(clippy::cast_possible_truncation, reason = "shared with fuzz/")]
#[path = "../../../../fuzz/src/sparse.rs"]
mod sparse;

#[test]
fn no_reader_panics() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, reader) in diskimg::READERS {
        let mut inputs = 0;
        for entry in fs::read_dir(corpora.join(name)).unwrap() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            let read = std::panic::catch_unwind(|| reader(&input));
            assert!(read.is_ok(), "{}", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{name}: no inputs");
    }
}
