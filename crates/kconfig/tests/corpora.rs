//! What fuzzing found: the inputs of `fuzz/corpus`, through the functions that are fuzzed.

#[expect(unreachable_pub, reason = "shared with fuzz/")]
#[path = "../../../fuzz/src/others/kconfig.rs"]
mod kconfig;
#[expect(unreachable_pub, reason = "shared with fuzz/")]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn no_reader_panics() {
    replay("dotconfig", kconfig::dotconfig);
    replay("kconfig", kconfig::language);
}
