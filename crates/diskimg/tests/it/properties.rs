//! Properties that hold for arbitrary trees, plans and images.

use std::io::Cursor;

use kiln_diskimg::container::{self, Format};
use kiln_diskimg::fat::{Kind, Options, Volume, VolumeSize};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{ByteLen, DiskPlan, Limits, Partition, Seed, Size, Table, Zeroes, dump};
use kiln_tree::{Node, Tree};
use proptest::prelude::*;

use crate::tools::bytes;

fn trees() -> impl Strategy<Value = Tree> {
    let name = "[a-zA-Z0-9 ._+~äß]{0,30}[a-z0-9]";
    let path = prop::collection::vec(name, 1..4);
    let content = prop::collection::vec(any::<u8>(), 0..2000);
    prop::collection::vec((path, content), 0..25).prop_map(|files| {
        let mut tree = Tree::new();
        for (path, content) in files {
            // Names that collide are the subject of another test.
            let path: Vec<String> = path.iter().map(|name| name.to_lowercase()).collect();
            let _ = tree.insert(path.join("/"), Node::file(content));
        }
        tree
    })
}

fn some_plan(table: Table, sizes: &[(u64, u64)], alignment: u32) -> DiskPlan {
    let mut plan = DiskPlan::new(table, Seed::new("property"));
    plan.alignment = ByteLen(512 << alignment);
    for (content, headroom) in sizes {
        let size = Size::FromContent { headroom: ByteLen(*headroom) };
        let content = Zeroes(*content);
        plan.partitions.push(Partition::new("p", PartitionType::LINUX, content).sized(size));
    }
    plan
}

/// A small image of every format with a table and a volume in it, and where it is not zero.
fn images() -> Vec<(Vec<u8>, Vec<usize>)> {
    let mut tree = Tree::new();
    tree.insert("a directory/a file", Node::file(vec![1; 3000])).unwrap();
    tree.insert("B", Node::file(vec![2; 700])).unwrap();
    let mut options = Options::default();
    options.kind = Some(Kind::Fat12);
    let volume = Volume::plan(&tree, &options).unwrap();
    [Table::Gpt, Table::Mbr]
        .into_iter()
        .flat_map(|table| {
            let kind = PartitionType::EFI_SYSTEM;
            let plan = DiskPlan::new(table, Seed::default());
            let layout = plan.with(Partition::new("p", kind, volume.clone())).layout().unwrap();
            let available = Format::ALL.into_iter().filter(|format| format.is_available());
            let written = available.map(|format| {
                container::write(format, &layout, Cursor::new(Vec::new())).unwrap().into_inner()
            });
            written.collect::<Vec<_>>()
        })
        .map(|image: Vec<u8>| {
            let places = (0..image.len()).filter(|at| image[*at] != 0 || *at < 1024).collect();
            (image, places)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_is_read_back(tree in trees(), kind in 0..3_usize) {
        let kind = [Kind::Fat12, Kind::Fat16, Kind::Fat32][kind];
        let mut options = Options::default();
        options.kind = Some(kind);
        let mut image = bytes(&Volume::plan(&tree, &options).unwrap());
        crate::fat::read_back(&kind.to_string(), &tree, &mut image);
    }

    #[test]
    fn insertion_order_does_not_matter(tree in trees()) {
        let mut reversed = Tree::new();
        for (path, node) in tree.iter().rev() {
            reversed.insert(path.as_bytes(), node.clone()).unwrap();
        }
        let mut options = Options::default();
        options.size = VolumeSize::Fixed(ByteLen::mib(2));
        let image = bytes(&Volume::plan(&tree, &options).unwrap());
        prop_assert!(image == bytes(&Volume::plan(&reversed, &options).unwrap()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn partitions_never_overlap(
        sizes in prop::collection::vec((1..5_000_000_u64, 0..100_000_u64), 0..12),
        alignment in 0..13_u32,
        mbr in any::<bool>(),
    ) {
        let table = if mbr { Table::Mbr } else { Table::Gpt };
        match some_plan(table, &sizes, alignment).layout() {
            Err(_) => prop_assert!(mbr && sizes.len() > 4),
            Ok(layout) => {
                let mut end = if mbr { 1 } else { 34 };
                for (placed, (content, headroom)) in layout.partitions.iter().zip(&sizes) {
                    prop_assert!(placed.first.0 >= end);
                    prop_assert!(placed.first.0.is_multiple_of(1 << alignment));
                    prop_assert!(placed.sectors * 512 >= content + headroom);
                    end = placed.first.0 + placed.sectors;
                }
                let tail = if mbr { 0 } else { 33 };
                prop_assert!((end + tail) * 512 <= layout.len.0);
            }
        }
    }

    #[test]
    fn readers_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        // Only where something is: most of an image are zeroes that nobody reads.
        static IMAGES: std::sync::OnceLock<Vec<(Vec<u8>, Vec<usize>)>> =
            std::sync::OnceLock::new();
        let images = IMAGES.get_or_init(images);
        let (image, interesting) = &images[which.index(images.len())];
        let mut image = image.clone();
        for (index, byte) in changes {
            let at = interesting[index.index(interesting.len())];
            image[at] = byte;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        if let Ok(report) = dump::inspect(Cursor::new(image), &Limits::default()) {
            prop_assert!(!report.to_string().is_empty());
            prop_assert!(report.svg().ends_with("</svg>\n"));
        }
    }
}
