//! Layers that are long enough to be read ahead, and packed in several blocks.

use kiln_oci::host::{self, Unpack};
use kiln_oci::layer::Options;
use kiln_oci::{Compression, Image, Layer, Layout, Limits, Settings};
use kiln_tree::{Node, Source, Tree};

use crate::trees::in_memory;

/// Some 6 MiB, of which a third does not compress: more than one block.
fn large() -> Tree {
    tree(500_000, 200)
}

/// Four files of so many bytes that do not compress, and texts of 20,000.
fn tree(noisy: usize, texts: usize) -> Tree {
    let mut tree = Tree::new();
    let mut state = 1_u64;
    let mut noise = |len: usize| -> Vec<u8> {
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    };
    for number in 0..4 {
        tree.insert(format!("noise/{number}"), Node::file(noise(noisy + number))).unwrap();
    }
    for number in 0..texts {
        let line = format!("line {number}\n");
        let text = line.repeat(20_000 / line.len());
        tree.insert(format!("text/{}/{number}", number % 7), Node::file(text)).unwrap();
    }
    tree
}

fn unpacked(layer: &Layer) -> Result<Tree, String> {
    let work = tempfile::tempdir().unwrap();
    let at = work.path().join("root");
    let made = host::unpack_layers(std::slice::from_ref(layer), &at, &Unpack::default());
    let made = made.map(|tree| in_memory(&tree)).map_err(|error| error.to_string());
    // After an error nothing is left.
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), usize::from(made.is_ok()));
    let applied = Layer::apply(Tree::new(), std::slice::from_ref(layer), &Options::default(), None);
    assert_eq!(applied.map_err(|error| error.to_string()), made);
    made
}

#[test]
fn a_long_layer_is_what_was_packed() {
    let tree = large();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let layer = Layer::pack(&tree, compression).unwrap();
        assert_eq!(layer, Layer::pack(&tree, compression).unwrap());
        assert_eq!(unpacked(&layer).unwrap(), tree);
    }
    let bytes = Layer::pack(&tree, Compression::Gzip).unwrap().source.read().unwrap();
    // Members that gzip(1) takes for one file.
    let mut archive = Vec::new();
    let mut members = flate2::read::MultiGzDecoder::new(&*bytes);
    std::io::Read::read_to_end(&mut members, &mut archive).unwrap();
    let plain = Layer::pack(&tree, Compression::None).unwrap();
    assert!(archive == *plain.source.read().unwrap());
}

#[test]
fn a_layer_is_packed_where_it_belongs() {
    let work = tempfile::tempdir().unwrap();
    let mut layout = Layout::create(work.path(), Limits::default()).unwrap();
    let layer = layout.pack(&large(), Compression::Zstd).unwrap();
    let expected = Layer::pack(&large(), Compression::Zstd).unwrap();
    assert_eq!((&layer.descriptor, &layer.diff_id), (&expected.descriptor, &expected.diff_id));
    assert_eq!(unpacked(&layer).unwrap(), large());
    let image = Image::build(vec![layer], &Settings::default()).unwrap();
    layout.add(&image, Some("a")).unwrap();
    let blobs = || std::fs::read_dir(work.path().join("blobs/sha256")).unwrap().count();
    assert_eq!(blobs(), 3);
    let mut bad = Tree::new();
    bad.insert(".wh.x", Node::file("")).unwrap();
    assert!(layout.pack(&bad, Compression::None).is_err());
    let mut late = Tree::new();
    let gone = Source::File { path: work.path().join("gone"), len: 3 };
    late.insert("gone", Node::file(gone)).unwrap();
    assert!(layout.pack(&late, Compression::None).is_err());
    assert_eq!(blobs(), 3);
}

#[test]
fn a_long_layer_that_is_damaged_is_an_error_with_its_digest() {
    let tree = tree(150_000, 20);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let layer = Layer::pack(&tree, compression).unwrap();
        let digest = layer.descriptor.digest().to_string();
        let bytes = layer.source.read().unwrap().to_vec();
        let damaged = |bytes: Vec<u8>| {
            let mut layer = layer.clone();
            layer.source = bytes.into();
            unpacked(&layer).unwrap_err()
        };
        for at in [1_000, bytes.len() / 2, bytes.len() - 1] {
            let mut other = bytes.clone();
            other[at] ^= 0x40;
            let error = damaged(other);
            assert!(error.starts_with(&digest), "{compression:?}, {at}: {error}");
        }
        let error = damaged(bytes[..bytes.len() - 100_000].to_vec());
        assert!(error.starts_with(&digest), "{compression:?}: {error}");
        let error = damaged([bytes.as_slice(), &[0; 700]].concat());
        assert!(error.starts_with(&digest), "{compression:?}: {error}");
        let mut other = layer.clone();
        other.diff_id = format!("sha256:{:064}", 1).parse().unwrap();
        let error = unpacked(&other).unwrap_err();
        let expected = format!("{}: the digest of its ", other.diff_id);
        assert!(error.starts_with(&expected), "{compression:?}: {error}");
    }
}
