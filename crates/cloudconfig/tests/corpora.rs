//! What fuzzing found: the inputs of `fuzz/corpus`, through the functions that are fuzzed.

#[expect(unreachable_pub, reason = "shared with fuzz/")]
#[path = "../../../fuzz/src/others/cloudconfig.rs"]
mod cloudconfig;
#[expect(unreachable_pub, reason = "shared with fuzz/")]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn no_reader_panics() {
    replay("cloud_command_line", cloudconfig::command_line);
    replay("cloud_documents", cloudconfig::documents);
    replay("cloud_medium", cloudconfig::medium);
    replay("cloud_user_data", cloudconfig::user_data);
}
