//! Lists: written, read, and what is none.
#![allow(clippy::unwrap_used, reason = "tests end by panicking")]

use std::io::Write as _;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use kiln_ramroot::{ChunkList, Chunker, Error, Kind};
use proptest::prelude::*;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn trusts(key: &SigningKey) -> impl Fn(&[u8], &[u8; 64]) -> bool {
    let key: VerifyingKey = key.verifying_key();
    move |text, signature| key.verify_strict(text, &Signature::from_bytes(signature)).is_ok()
}

fn made(bytes: &[u8], chunk: u32) -> ChunkList {
    let mut chunker = Chunker::new(Vec::new(), chunk);
    chunker.write_all(bytes).unwrap();
    let kind = Kind::TarXz;
    chunker.finish(("hashios", "0.1.0"), ("hashios-root.tar.xz", kind), 4_000_000).unwrap().1
}

#[test]
fn as_text() {
    let bytes: Vec<u8> = (0..10_000_u32).map(|at| (at / 97).to_le_bytes()[0]).collect();
    let list = made(&bytes, 4096);
    insta::assert_snapshot!(list.text(), @"
    kiln-chunks 1
    system hashios
    version 0.1.0
    file hashios-root.tar.xz
    kind tar.xz
    size 10000
    unpacked 4000000
    chunk 4096
    e5d36a61c3e6f9c2db59757a95c15fdc0d81504411d99fecdfec38e7f389c340
    4a402b70190e52d6817fef8437952ec1a5067226114f38e9afb46fad3c793db7
    beaea610a46e5946388dedb3b031a02846054204ffee598c483cdab6eb6585cb
    ");
    assert_eq!((list.chunks(), list.chunk(2), list.chunk(3)), (3, Some((8192, 1808)), None));
    assert_eq!(list.memory(), 4_000_000);
    let signed = list.signed(|text| key(1).sign(text).to_bytes());
    assert_eq!(ChunkList::read(signed.as_bytes(), trusts(&key(1))).unwrap(), list);
    let other = ChunkList::read(signed.as_bytes(), trusts(&key(2))).unwrap_err().to_string();
    assert!(other.contains("not trusted here"), "{other}");
}

#[test]
fn one_changed_byte_of_a_list_anywhere_is_refused() {
    let list = made(&[7; 9000], 4096);
    let signed = list.signed(|text| key(1).sign(text).to_bytes()).into_bytes();
    for at in 0..signed.len() {
        for flip in [1, 0x20, 0x80] {
            let mut other = signed.clone();
            other[at] ^= flip;
            assert!(ChunkList::read(&other, trusts(&key(1))).is_err(), "{at} {flip}");
        }
        assert!(ChunkList::read(&signed[..at], trusts(&key(1))).is_err(), "{at}");
    }
    let twice = [signed.as_slice(), &signed].concat();
    assert!(ChunkList::read(&twice, trusts(&key(1))).is_err());
    assert!(ChunkList::read(&vec![b'\n'; 18 << 20], |_, _| true).is_err());
}

/// What a key that is trusted signs is held to the format all the same.
#[test]
fn what_is_no_list_is_told_with_its_line() {
    let text = made(&[7; 9000], 4096).text();
    for (from, to, expected) in [
        ("chunks 1", "chunks 2", "line 1: it has to be \"kiln-chunks 1\""),
        ("system hashios", "sys hashios", "line 2: system is missing"),
        ("version 0.1.0", "version ", "line 3: names have 1 to 128"),
        ("version 0.1.0", "version a b", "line 3: names have"),
        ("file hash", "file ../hash", "line 4: it is no name of a file"),
        ("kind tar.xz", "kind tar.bz2", "line 5: \"tar.bz2\" is no kind of root"),
        ("size 9000", "size 09000", "line 6: \"09000\" is no such number"),
        ("size 9000", "size -1", "line 6: \"-1\" is no such number"),
        ("size 9000", "size 0", "line 6: there is nothing in it"),
        ("size 9000", "size 90000", "line 12: 3 digests, of 22 chunks"),
        ("size 9000", "size 8192", "line 11: there are 2 chunks, and this is one more"),
        ("chunk 4096", "chunk 1", "line 8: chunks have 4096 to 16777216 bytes"),
        ("unpacked 4", "unpacked x", "line 7: \"x000000\" is no such number"),
    ] {
        assert!(text.contains(from), "{from}");
        let other = text.replacen(from, to, 1);
        let signed = format!("{other}signature {}\n", "00".repeat(64));
        let error = ChunkList::read(signed.as_bytes(), |_, _| true).unwrap_err();
        assert!(matches!(error, Error::List { .. }));
        let text = error.to_string();
        assert!(text.starts_with(&format!("the list of chunks, {expected}")), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(bytes in prop::collection::vec(any::<u8>(), 1..20_000), pieces in 1_usize..5000) {
        let mut chunker = Chunker::new(Vec::new(), 4096);
        for piece in bytes.chunks(pieces) {
            chunker.write_all(piece).unwrap();
        }
        let (written, list) = chunker.finish(("a", "1"), ("f", Kind::Erofs), 5).unwrap();
        prop_assert_eq!(&written, &bytes);
        prop_assert_eq!(list.size(), bytes.len() as u64);
        prop_assert_eq!(list.memory(), bytes.len() as u64);
        for (index, chunk) in bytes.chunks(4096).enumerate() {
            prop_assert!(list.is_chunk(index, chunk));
            prop_assert!(!list.is_chunk(index, &chunk[1..]));
        }
        prop_assert!(!list.is_chunk(list.chunks(), b""));
        let signed = list.signed(|_| [0; 64]);
        prop_assert_eq!(ChunkList::read(signed.as_bytes(), |_, _| true).unwrap(), list);
    }

    #[test]
    fn garbage_is_refused(text in "(kiln-chunks 1\n)?([a-z]{1,9} [0-9a-z.]{0,9}\n){0,12}(signature [0-9a-f]{128}\n)?") {
        let _ = ChunkList::read(text.as_bytes(), |_, _| true);
    }
}
