//! Pictures are well-formed, deterministic, and keep inside their frames.

use std::time::Duration;

use kiln::picture::{Disk, Partition, Phase, boot, disk, size_map};
use kiln_diskimg::ByteLen;
use proptest::prelude::*;
use roxmltree::Document;

use crate::sample::{any_manifest, file, manifest, package, realistic};

fn sample_disk() -> Disk {
    let partition = |name: &str, kind: &str, start, len, free| Partition {
        name: name.into(),
        kind: kind.into(),
        start: ByteLen::mib(start),
        len: ByteLen::mib(len),
        free,
    };
    Disk {
        name: "sample.raw".into(),
        len: ByteLen::mib(2048),
        partitions: vec![
            partition("ROOT-A", "Linux root, EROFS", 514, 700, Some(ByteLen::ZERO)),
            partition("ESP <boot>", "EFI system, FAT32", 2, 512, Some(ByteLen::mib(180))),
            partition("BIOS", "BIOS boot", 1, 1, None),
            partition("nomad-data", "Linux data, ext4", 1300, 600, Some(ByteLen::mib(450))),
        ],
    }
}

fn sample_boot() -> Vec<Phase> {
    let phase = |name: &str, start, end| Phase {
        name: name.into(),
        start: Duration::from_millis(start),
        end: Duration::from_millis(end),
    };
    vec![
        phase("firmware and loader", 0, 1830),
        phase("kernel", 1830, 4210),
        phase("process 1", 4210, 4390),
        phase("modules", 4390, 6120),
        phase("network (DHCP)", 4700, 7350),
        phase("a service with a name that is longer than its column", 7350, 7350),
        phase("nomad", 7350, 11_420),
        phase("job", 11_000, 12_640),
    ]
}

fn small_manifest() -> kiln::manifest::Manifest {
    let mut files = vec![
        file("usr/bin/busybox", "a", 1_800_000),
        file("usr/lib/libc.so.6", "b", 1_900_000),
        file("usr/lib/ld.so", "c", 210_000),
        file("etc/a&b", "d", 400),
    ];
    files[0].package = Some("busybox".into());
    files[1].package = Some("libc6".into());
    files[2].package = Some("libc6".into());
    let mut made = manifest(files);
    made.packages = vec![package("busybox", "1.35"), package("libc6", "2.36")];
    made
}

#[test]
fn small_ones() {
    insta::assert_snapshot!("size_map", size_map(&small_manifest()));
    insta::assert_snapshot!("disk", disk(&sample_disk()));
    insta::assert_snapshot!("boot", boot(&sample_boot()));
}

/// With `KILN_PICTURES=DIR`, the pictures are written there to be looked at.
#[test]
fn large_ones_are_well_formed() {
    let pictures = [
        ("size-map.svg", size_map(&realistic())),
        ("size-map-small.svg", size_map(&small_manifest())),
        ("size-map-empty.svg", size_map(&manifest(Vec::new()))),
        ("disk.svg", disk(&sample_disk())),
        ("disk-empty.svg", disk(&Disk::default())),
        ("boot.svg", boot(&sample_boot())),
        ("boot-empty.svg", boot(&[])),
    ];
    for (name, svg) in &pictures {
        if let Some(directory) = std::env::var_os("KILN_PICTURES") {
            std::fs::write(std::path::Path::new(&directory).join(name), svg).unwrap();
        }
        check(svg);
    }
    let [(_, map), ..] = &pictures;
    // What is drawn is bounded, and the largest things are named.
    assert!(map.len() < 400_000, "{} bytes", map.len());
    for name in ["nomad", "libstdc++6", "linux"] {
        assert!(map.contains(&format!(">{name}")), "{name} has no label");
    }
}

/// Well-formed, with a title, and with no shape outside of the frame.
fn check(svg: &str) {
    let document = Document::parse(svg).unwrap();
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "svg");
    assert!(root.children().any(|node| node.has_tag_name("title") && node.text().is_some()));
    let number = |node: &roxmltree::Node<'_, '_>, name: &str| -> f64 {
        node.attribute(name).map_or(0.0, |value| value.parse().unwrap())
    };
    let (width, height) = (number(&root, "width"), number(&root, "height"));
    for node in root.descendants() {
        let (x, y) = (number(&node, "x"), number(&node, "y"));
        assert!(x.is_finite() && y.is_finite() && x >= 0.0 && y >= 0.0, "{node:?}");
        if node.has_tag_name("rect") {
            let (right, bottom) = (x + number(&node, "width"), y + number(&node, "height"));
            assert!(right <= width + 0.2 && bottom <= height + 0.2, "{node:?}");
        } else if node.has_tag_name("text") {
            assert!(x <= width && y <= height, "{node:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_values_give_pictures(
        manifest in any_manifest(),
        len: u64,
        spans in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<String>()), 0..6),
        times in proptest::collection::vec((any::<Duration>(), any::<Duration>(), any::<String>()), 0..6),
    ) {
        check(&size_map(&manifest));
        let partitions = spans.iter().map(|(start, len, free, name)| Partition {
            name: name.clone(),
            kind: name.clone(),
            start: ByteLen(*start),
            len: ByteLen(*len),
            free: free.map(ByteLen),
        });
        check(&disk(&Disk { name: "any".into(), len: ByteLen(len), partitions: partitions.collect() }));
        let phases: Vec<Phase> = times
            .into_iter()
            .map(|(start, end, name)| Phase { name, start, end })
            .collect();
        check(&boot(&phases));
    }
}
