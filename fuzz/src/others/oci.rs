//! The readers of kiln-oci. Also a module of that crate's tests.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;

use kiln_oci::appc::{self, Aci, Container, ImageManifest, Rendering};
use kiln_oci::bundle::{self, Users};
use kiln_oci::layer::{Devices, Options};
use kiln_oci::oci_spec::image::{Descriptor, MediaType};
use kiln_oci::registry::{Challenge, reference};
use kiln_oci::{Compression, Digest, Image, Layer, Layout, Limits, docker, platform};
use kiln_tree::{Node, Tree};
use sha2::Digest as _;

/// Bounds that keep a single input cheap, and that inputs of some kilobytes reach.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.manifest = 16 << 10;
    limits.config = 16 << 10;
    limits.manifests = 16;
    limits.entries = 200;
    limits.bytes = 1 << 20;
    limits.names = 16 << 10;
    limits.extension = 4 << 10;
    limits.depth = 12;
    limits.memory = 1 << 20;
    limits
}

fn digest(bytes: &[u8]) -> Digest {
    let sum = sha2::Sha256::digest(bytes);
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}").parse().expect("a digest")
}

/// A layer whose digests are right, whatever its bytes are.
fn layer(bytes: &[u8], archive: &[u8]) -> Layer {
    let size = bytes.len() as u64;
    let descriptor = Descriptor::new(MediaType::ImageLayer, size, digest(bytes));
    Layer::new(descriptor, digest(archive), bytes.to_vec().into())
}

/// Checksums of headers made right, without which a reader would go no further.
fn seal(archive: &mut [u8]) {
    let mut at = 0_usize;
    while let Some(block) = archive.get_mut(at..).and_then(|rest| rest.get_mut(..512)) {
        if block.iter().all(|byte| *byte == 0) {
            return;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = block[124..136].iter().take_while(|byte| byte.is_ascii_digit());
        let size = digits.fold(0_usize, |size, digit| {
            size.saturating_mul(8).saturating_add(usize::from(digit - b'0'))
        });
        // Only files and extension headers have a content.
        let has = matches!(block[156], 0 | b'0' | b'7' | b'x' | b'g' | b'L' | b'K');
        at = at.saturating_add(512);
        if has {
            at = at.saturating_add(size.div_ceil(512).saturating_mul(512));
        }
    }
}

/// A flag of the first byte, by which an input says how it is to be read.
fn flag(flags: u8, bit: u32) -> bool {
    flags >> bit & 1 == 1
}

/// What was made of layers keeps the rules of trees, and becomes a layer that makes the same again.
fn sound(tree: &Tree) {
    assert!(tree.check().is_empty(), "{:?}", tree.check());
    let Ok(packed) = Layer::pack(tree, Compression::None) else {
        // A tree may have what no archive has: numbers of devices.
        return;
    };
    let mut wide = Options::default();
    wide.devices = Devices::Keep;
    let again = Layer::apply(Tree::new(), &[packed], &wide, None);
    assert_eq!(again.expect("a layer of ours"), *tree);
}

/// Two archives: flags, blocks of the first, then both.
pub fn layers(input: &[u8]) {
    let Some((&[flags, blocks], archives)) = input.split_first_chunk() else { return };
    let at = usize::from(blocks).saturating_mul(512).min(archives.len());
    let (lower, upper) = archives.split_at(at);
    let made = [lower, upper].map(|archive| {
        let mut archive = archive.to_vec();
        if !flag(flags, 0) {
            seal(&mut archive);
        }
        layer(&archive, &archive)
    });
    let mut options = Options::default();
    options.limits = limits();
    options.devices = match flags >> 1 & 3 {
        0 => Devices::Refuse,
        1 => Devices::Skip,
        _ => Devices::Keep,
    };
    let mut below = Tree::new();
    below.insert("etc/passwd", Node::file("root:x:0:0::/:\n")).expect("a path");
    below.insert("bin", Node::symlink("usr/bin")).expect("a path");
    let both = Layer::apply(below.clone(), &made, &options, None);
    let Ok(both) = both else { return };
    sound(&both);
    assert!(both.content_len() <= options.limits.bytes + 16);
    // One after the other gives the same.
    let [lower, upper] = made;
    let one = Layer::apply(below, &[lower], &options, None).expect("the first of both");
    let other = Layer::apply(one, &[upper], &options, None).expect("the second of both");
    assert_eq!(other, both);
    let _ = Users::of_tree(&both);
}

/// A layer that is compressed, of any kind.
pub fn compressed(input: &[u8]) {
    let mut archive = Vec::new();
    let most = 1 << 20;
    let read = match input {
        [0x1f, 0x8b, ..] => {
            flate2::read::MultiGzDecoder::new(input).take(most).read_to_end(&mut archive)
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::new(input).and_then(|mut decoder| {
            decoder.window_log_max(20)?;
            decoder.take(most).read_to_end(&mut archive)
        }),
        _ => return,
    };
    let mut options = Options::default();
    options.limits = limits();
    let applied = Layer::apply(Tree::new(), &[layer(input, &archive)], &options, None);
    if let Ok(tree) = applied {
        assert!(read.is_ok(), "what another reader cannot read");
        sound(&tree);
    }
}

/// An image of an App Container: flags, then the archive, compressed or not.
pub fn aci(input: &[u8]) {
    let Some((flags, archive)) = input.split_first() else { return };
    let mut archive = archive.to_vec();
    let is_packed =
        matches!(archive.as_slice(), [0x1f, 0x8b, ..] | [b'B', b'Z', b'h', ..] | [0xfd, ..]);
    if !flag(*flags, 0) && !is_packed {
        seal(&mut archive);
    }
    let Ok(image) = Aci::of_source("x", archive.into(), &limits()) else { return };
    // What was read is written, and read as the same.
    let bytes = image.manifest.to_bytes().expect("what was read");
    let manifest = ImageManifest::parse("x", &bytes).expect("what was written");
    assert_eq!(manifest, *image.manifest);
    // It depends on nothing but itself, at most.
    let find = &mut |_: &appc::Dependency| Ok(Some(image.clone()));
    let Ok(rendering) = Rendering::new(image.clone(), &limits(), find) else { return };
    let mut options = Options::default();
    options.limits = limits();
    options.devices = if flag(*flags, 1) { Devices::Skip } else { Devices::Keep };
    let tree = match rendering.tree(&options, None) {
        Ok(tree) => tree,
        // A device that is not there has no further name; a list may need a directory more.
        Err(error) => {
            let has_list = !manifest.path_whitelist.is_empty();
            return assert!(has_list || options.devices == Devices::Skip, "{error}");
        }
    };
    assert!(tree.check().is_empty(), "{:?}", tree.check());
    assert!(tree.content_len() <= options.limits.bytes);
    let _ = Container::alone(&manifest, &tree, &bundle::Options::default())
        .and_then(|container| container.spec());
    if let Ok((other, _)) = appc::to_image(&manifest, &tree, Vec::new()) {
        let _ = appc::from_image(&other, &tree, manifest.name.clone());
    }
    // A tree may have what no archive has: numbers of devices.
    let Ok(packed) = appc::pack(&manifest, &tree, Compression::None) else { return };
    let again = Rendering::new(packed, &limits(), &mut |_| Ok(None)).expect("it is alone");
    options.devices = Devices::Keep;
    assert_eq!(again.tree(&options, None).expect("an image of ours"), tree);
}

/// The file in which archives are, so that they can be opened by a path.
fn with_file(bytes: &[u8], read: impl FnOnce(&str)) {
    thread_local! {
        static KEPT: RefCell<File> = RefCell::new(
            tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).expect("a file"),
        );
    }
    KEPT.with_borrow_mut(|file| {
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).expect("an empty file");
        file.write_all(bytes).expect("room");
        read(&format!("/proc/self/fd/{}", file.as_raw_fd()));
    });
}

fn used(image: &Image) {
    let mut options = Options::default();
    options.limits = limits();
    if let Ok(tree) = image.tree(&options, None) {
        let _ = Users::of_tree(&tree)
            .and_then(|users| bundle::spec(&image.config, &users, &bundle::Options::default()));
    }
    let _ = bundle::spec(&image.config, &Users::default(), &bundle::Options::default());
    let name = "x".parse().expect("a name");
    let _ = appc::from_image(image, &Tree::new(), name);
}

/// An archive of images, as Docker and the specification have it.
fn images(path: &str) {
    if let Ok(archive) = docker::Archive::open(path, limits()) {
        for tags in archive.tags() {
            let _ = tags.first().map(|tag| archive.image(Some(tag)));
        }
        for (_, image) in archive.images().iter().flatten() {
            used(image);
        }
    }
    let Ok(layout) = Layout::open(path, limits()) else { return };
    let wanted = platform("linux/arm/v7").expect("a platform");
    let _ = layout.image(None, &wanted);
    for listed in layout.images().iter().flatten() {
        let digest = listed.descriptor.digest().as_ref();
        let _ = layout.image(listed.name.as_deref(), &wanted);
        if let Ok(image) = layout.image(Some(digest), &wanted) {
            assert_eq!(image.digest().as_ref(), digest);
            used(&image);
        }
    }
}

/// An archive of images, byte by byte: flags, then the archive.
pub fn archive(input: &[u8]) {
    let Some((flags, archive)) = input.split_first() else { return };
    let mut archive = archive.to_vec();
    if !flag(*flags, 0) {
        seal(&mut archive);
    }
    with_file(&archive, images);
}

/// The documents of an archive, which are separated by NUL, the lowest first. In each, `@0` stands for
/// the digest, `~0` for its hexadecimal digits and `#0` for the length of the first, and so on.
pub fn documents(input: &[u8]) {
    let mut members: Vec<(String, Vec<u8>)> =
        vec![("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    let mut known: Vec<(Digest, usize)> = Vec::new();
    for text in input.split(|byte| *byte == 0).take(8) {
        let mut document = Vec::new();
        let mut bytes = text.iter();
        while let Some(byte) = bytes.next() {
            let number = bytes.as_slice().first().map(|digit| digit.wrapping_sub(b'0'));
            let about = number.and_then(|number| known.get(usize::from(number)));
            match (byte, about) {
                (b'@', Some((digest, _))) => document.extend_from_slice(digest.as_ref().as_bytes()),
                (b'~', Some((digest, _))) => document.extend_from_slice(digest.digest().as_bytes()),
                (b'#', Some((_, len))) => document.extend_from_slice(len.to_string().as_bytes()),
                _ => {
                    document.push(*byte);
                    continue;
                }
            }
            bytes.next();
        }
        let name = digest(&document);
        members.push((format!("blobs/sha256/{}", name.digest()), document.clone()));
        known.push((name, document.len()));
    }
    // The last one is the index of a layout, or the list of an archive of Docker.
    if let Some((_, last)) = members.last().cloned() {
        members.push(("index.json".into(), last.clone()));
        members.push(("manifest.json".into(), last));
    }
    let mut archive = Vec::new();
    for (name, content) in members {
        let mut block = [0_u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        archive.extend_from_slice(&block);
        archive.extend_from_slice(&content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    seal(&mut archive);
    with_file(&archive, images);
}

/// What a registry says to somebody who is not let in: the header, NUL, and what has a token in it.
pub fn challenge(input: &[u8]) {
    let (header, token) = match input.iter().position(|byte| *byte == 0) {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, &[][..]),
    };
    let header = String::from_utf8_lossy(header);
    for challenge in Challenge::parse(&header) {
        assert!(!challenge.scheme.is_empty());
        if let Some(address) = challenge.token_address() {
            assert!(address.is_ascii() || !challenge.parameters["realm"].is_ascii());
        }
        // Written as it should be, it is read again.
        let parameters = challenge.parameters.iter().map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{name}=\"{value}\"")
        });
        let text = format!("{} {}", challenge.scheme, parameters.collect::<Vec<_>>().join(", "));
        assert_eq!(Challenge::parse(&text), [challenge], "{text}");
    }
    let _ = Challenge::token("the registry", token);
}

/// A name of an image; and platforms.
pub fn names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(name) = reference(&text) {
        let written = name.to_string();
        let again = reference(&written).expect(&written);
        assert_eq!(again.to_string(), written);
        assert_eq!(again.repository(), name.repository());
        assert!(!name.repository().contains(".."), "{written}");
    }
    if let Ok(found) = platform(&text) {
        let _ = found.os().to_string();
    }
}
