//! What fuzzing found: the inputs of `fuzz/corpus`, through the functions that are fuzzed.
#![cfg(all(feature = "appc", feature = "registry", feature = "zstd"))]

#[expect(unreachable_pub, reason = "shared with fuzz/")]
#[path = "../../../fuzz/src/others/oci.rs"]
mod oci;
#[expect(unreachable_pub, reason = "shared with fuzz/")]
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn no_reader_panics() {
    replay("oci_aci", oci::aci);
    replay("oci_archive", oci::archive);
    replay("oci_challenge", oci::challenge);
    replay("oci_compressed", oci::compressed);
    replay("oci_documents", oci::documents);
    replay("oci_layers", oci::layers);
    replay("oci_names", oci::names);
}
