//! What fuzzing found: the inputs of `fuzz/corpus`, through the functions that are fuzzed.

#[expect(unreachable_pub, clippy::cast_possible_truncation, reason = "shared with fuzz/")]
#[path = "../../../../fuzz/src/diskimg/mod.rs"]
mod diskimg;
#[expect(unreachable_pub, reason = "shared with fuzz/")]
#[path = "../../../../fuzz/src/replay.rs"]
mod replay;
#[allow(dead_code, unreachable_pub, reason = "shared with fuzz/, which makes images too")]
#[allow(clippy::cast_possible_truncation, reason = "shared with fuzz/")]
#[path = "../../../../fuzz/src/sparse.rs"]
mod sparse;

#[test]
fn no_reader_panics() {
    for (name, reader) in diskimg::READERS {
        replay::replay(name, *reader);
    }
}
