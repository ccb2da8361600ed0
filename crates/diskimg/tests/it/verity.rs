//! Hash trees: `veritysetup` makes the same and checks ours.

use std::num::NonZeroUsize;

use kiln_diskimg::container::Format;
use kiln_diskimg::verity::{self, Options, Parameters, RootHash, Verity};
use kiln_diskimg::{Content, Result, Seed, Sink, Zeroes};

use crate::tools::{bytes, expect, file};

/// Bytes and holes of odd lengths.
#[derive(Debug, Clone)]
struct Patches(Vec<(usize, u64)>);

impl Content for Patches {
    fn len(&self) -> u64 {
        self.0.iter().map(|(data, hole)| *data as u64 + hole).sum()
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        for (data, hole) in &self.0 {
            let bytes: Vec<u8> =
                (0..*data).map(|at| ((at * 7 + data) % 251).to_le_bytes()[0]).collect();
            bytes.chunks(10_007).try_for_each(|chunk| sink.data(chunk))?;
            sink.hole(*hole)?;
        }
        Ok(())
    }
}

fn contents() -> Vec<Patches> {
    [
        vec![(4096, 0)],
        vec![(1, 0)],
        vec![(4096 * 2, 0)],
        vec![(4096 * 128, 0)],
        vec![(4096 * 128, 1)],
        vec![(100, 7_000_000), (5000, 3000), (2_500_001, 300_000), (0, 0), (1, 4096 * 130)],
        vec![(4096 * 128 * 3 + 77, 4096 * 128 * 128)],
        vec![(60_001, 39_999); 60],
        vec![(1, 70_000); 60],
    ]
    .map(Patches)
    .to_vec()
}

fn options() -> Options {
    let mut options = Options::default();
    options.seed = Seed::new("verity");
    options
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn veritysetup_makes_the_same_and_checks_ours() {
    for (at, content) in contents().into_iter().enumerate() {
        let mut options = options();
        match at {
            1 => options.salt = Some(Vec::new()),
            2 => options.salt = Some(vec![7; 256]),
            _ => {}
        }
        let verity = Verity::plan(content, &options).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let whole = file(dir.path(), "whole", Format::Raw, &verity.protected());
        let data = file(dir.path(), "data", Format::Raw, &verity.data());
        let tree = file(dir.path(), "tree", Format::Raw, &verity.tree());
        let root = verity.root_hash().unwrap().to_string();
        let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let verify = ["verify", &path(&data), &path(&tree), &root];
        if expect("veritysetup", &verify).is_none() {
            return;
        }
        let offset = format!("--hash-offset={}", verity.data().len());
        expect("veritysetup", &["verify", &offset, &path(&whole), &path(&whole), &root]).unwrap();

        let theirs = path(&dir.path().join("theirs"));
        let salt = verity.parameters().salt;
        let salt = if salt.is_empty() { "-".to_owned() } else { hex(&salt) };
        let (salt, uuid) =
            (format!("--salt={salt}"), format!("--uuid={}", options.seed.guid("verity")));
        let said = expect("veritysetup", &["format", &salt, &uuid, &path(&data), &theirs]).unwrap();
        assert!(said.contains(&root), "{at} {root}: {said}");
        assert!(std::fs::read(&theirs).unwrap() == std::fs::read(&tree).unwrap(), "{at}");

        let mut bare = options.clone();
        bare.superblock = false;
        let bare =
            Verity::plan(kiln_tree::Source::from(std::fs::read(&data).unwrap()), &bare).unwrap();
        let ours = bytes(&bare.tree());
        assert_eq!(bare.root_hash().unwrap().to_string(), root);
        assert!(ours == std::fs::read(&theirs).unwrap()[4096..], "{at}");
    }
}

#[test]
fn the_same_whatever_the_threads() {
    for content in contents() {
        let mut options = options();
        let mut seen = Vec::new();
        for threads in [1, 3] {
            options.threads = NonZeroUsize::new(threads);
            let verity = Verity::plan(content.clone(), &options).unwrap();
            seen.push((verity.root_hash().unwrap(), bytes(&verity.protected())));
        }
        assert!(seen[0] == seen[1]);
    }
}

#[test]
fn the_first_bad_block_is_named() {
    let content = Patches(vec![(4096 * 128 * 2 + 1, 0)]);
    let verity = Verity::plan(content, &options()).unwrap();
    let mut whole = bytes(&verity.protected());
    let root = verity.root_hash().unwrap();
    let data = verity.data().len();
    let parameters = Parameters::read(&mut whole, data).unwrap();
    assert_eq!(parameters, verity.parameters());
    verity::verify(&mut whole, None, &parameters, root).unwrap();
    let mut tree = bytes(&verity.tree());
    let two = verity.parameters_of_tree();
    verity::verify(&mut whole, Some(&mut tree), &two, root).unwrap();
    for (at, expected) in [
        (data - 1, "byte 1048576: data block 256 does not have its hash"),
        (4096 * 200, "byte 819200: data block 200 does not have its hash"),
        (data + 4096, "byte 1056768: block 258, level 0 of the tree from its root"),
        (data + 3 * 4096, "byte 1064960: block 260, level 1 of the tree from its root"),
    ] {
        let at = usize::try_from(at).unwrap();
        whole[at] ^= 1;
        let error = verity::verify(&mut whole, None, &parameters, root).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        whole[at] ^= 1;
    }
    let other = RootHash([1; 32]);
    let error = verity::verify(&mut whole, None, &parameters, other).unwrap_err().to_string();
    assert!(error.contains("level 0"), "{error}");
    whole.truncate(whole.len() - 4096);
    assert!(verity::verify(&mut whole, None, &parameters, root).is_err());
}

#[test]
fn superblocks_that_are_none_and_others_are_told_apart() {
    let verity = Verity::plan(Zeroes(8192), &options()).unwrap();
    let tree = bytes(&verity.tree());
    for (at, value, expected) in [
        (0, 1, "byte 0: this is no verity superblock"),
        (8, 2, "superblock version 2, type 1 is not supported"),
        (33, b'x', "the algorithm \"sxa256\" is not supported"),
        (65, 2, "blocks of 512 and 4096 bytes is not supported"),
        (81, 9, "byte 80: the salt is longer"),
    ] {
        let mut tree = tree.clone();
        tree[at] = value;
        let error = Parameters::read(&mut tree, 0).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // More blocks than anybody has.
    let mut hostile = tree.clone();
    hostile[72..80].fill(0xff);
    let parameters = Parameters::read(&mut hostile, 0).unwrap();
    let mut data = bytes(&verity.data());
    let root = verity.root_hash().unwrap();
    assert!(verity::verify(&mut data, Some(&mut hostile), &parameters, root).is_err());
    assert!(Parameters::read(&mut vec![0; 100], 0).is_err());
}

#[test]
fn a_content_that_changes_between_passes_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    std::fs::write(&path, [1; 5000]).unwrap();
    let source = kiln_tree::Source::File { path: path.clone(), len: 5000 };
    let verity = Verity::plan(source, &options()).unwrap();
    let root = verity.root_hash().unwrap();
    std::fs::write(&path, [2; 5000]).unwrap();
    let error = verity.protected().write_to(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("has changed") && error.contains(&root.to_string()), "{error}");
    assert!(Verity::plan(Zeroes(0), &options()).is_err());
}

#[test]
fn a_root_hash_reads_and_prints() {
    let text = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";
    let root: RootHash = text.parse().unwrap();
    assert_eq!(root.to_string(), text);
    let (data, tree) = root.partition_guids();
    assert_eq!(data.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    assert_eq!(tree.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
    for bad in ["", &text[1..], &text.replace('a', "g")] {
        assert!(bad.parse::<RootHash>().is_err());
    }
    let parameters = Verity::plan(Zeroes(8192), &Options::default()).unwrap().parameters();
    let table = parameters.table("/dev/vda2", "/dev/vda2", root);
    assert!(
        table.starts_with("0 16 verity 1 /dev/vda2 /dev/vda2 4096 4096 2 3 sha256 0011"),
        "{table}"
    );
}
