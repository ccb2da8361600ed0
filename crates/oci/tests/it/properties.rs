//! What holds for every tree.

use std::io::Read;

use kiln_oci::host::{self, Unpack};
use kiln_oci::layer::Options;
use kiln_oci::{Compression, Difference, Layer};
use kiln_tree::Tree;
use proptest::prelude::*;

use crate::trees::{canonical, in_memory, tree};

fn apply(onto: Tree, layer: Layer) -> Tree {
    Layer::apply(onto, &[layer], &Options::default(), None).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_tree_comes_out_of_a_layer_as_it_went_in(tree in tree()) {
        let layers = [Compression::None, Compression::Gzip, Compression::Zstd]
            .map(|compression| Layer::pack(&tree, compression).unwrap());
        prop_assert_eq!(&layers[0].diff_id, &layers[1].diff_id);
        prop_assert_eq!(&layers[0].diff_id, &layers[2].diff_id);
        let found = layers.map(|layer| apply(Tree::new(), layer));
        prop_assert_eq!(&found[0], &canonical(&tree));
        prop_assert_eq!(&found[0], &found[1]);
        prop_assert_eq!(&found[0], &found[2]);
        // The same tree by other names gives the same bytes.
        let again = Layer::pack(&found[0], Compression::Gzip).unwrap();
        prop_assert_eq!(again, Layer::pack(&tree, Compression::Gzip).unwrap());
    }

    #[test]
    fn a_difference_makes_the_upper_tree_of_the_lower(lower in tree(), upper in tree()) {
        let difference = Difference::between(&lower, &upper).unwrap();
        prop_assert_eq!(difference.is_empty(), canonical(&lower) == canonical(&upper));
        let layer = Layer::pack_difference(&difference, Compression::None).unwrap();
        prop_assert_eq!(apply(lower.clone(), layer.clone()), canonical(&upper));
        // Whether the lower tree is a value or layers too.
        let below = Layer::pack(&lower, Compression::None).unwrap();
        let both = Layer::apply(Tree::new(), &[below, layer], &Options::default(), None).unwrap();
        prop_assert_eq!(both, canonical(&upper));
        prop_assert!(Difference::between(&upper, &canonical(&upper)).unwrap().is_empty());
    }

    #[test]
    fn the_tar_crate_reads_what_we_write(tree in tree()) {
        // It takes PAX records for lines.
        prop_assume!(tree.iter().all(|(path, _)| !path.as_bytes().contains(&b'\n')));
        let layer = Layer::pack(&tree, Compression::None).unwrap();
        let bytes = layer.source.read().unwrap();
        let mut archive = tar::Archive::new(&*bytes);
        let mut count = 0;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path_bytes().into_owned();
            let Ok(path) = kiln_tree::TreePath::new(&name) else { panic!("{name:?}") };
            if path.is_root() {
                continue;
            }
            count += 1;
            let expected = canonical(&tree);
            let node = expected.get(&path).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            match &node.kind {
                kiln_tree::Kind::File(source) => prop_assert_eq!(&*source.read().unwrap(), content),
                kiln_tree::Kind::Symlink(target) => {
                    let found = entry.link_name_bytes().unwrap().into_owned();
                    prop_assert_eq!(&found, target);
                }
                _ => {}
            }
        }
        prop_assert_eq!(count, tree.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_directory_is_the_tree_that_it_comes_with(lower in tree(), upper in tree()) {
        let difference = Difference::between(&lower, &upper).unwrap();
        let layers = [
            Layer::pack(&lower, Compression::Zstd).unwrap(),
            Layer::pack_difference(&difference, Compression::Gzip).unwrap(),
        ];
        let work = tempfile::tempdir().unwrap();
        let at = work.path().join("root");
        let mut options = Unpack::default();
        options.owners = rustix::process::geteuid().is_root();
        let tree = host::unpack_layers(&layers, &at, &options).unwrap();
        prop_assert_eq!(in_memory(&tree), canonical(&upper));

        let mut policy = kiln_tree::host::Policy::default();
        policy.hardlinks = true;
        if options.owners {
            (policy.owner, policy.mtime) = (None, None);
            policy.modes = kiln_tree::host::Modes::Keep;
        }
        let mut found = Tree::new();
        kiln_tree::host::import(&mut found, &at, "", &policy).unwrap();
        let mut expected = canonical(&upper);
        let mut root = expected.root().clone();
        root.xattrs.clear();
        expected.set_root(root);
        for (_, node) in expected.iter_mut() {
            node.meta.xattrs.clear();
        }
        let plain = |tree: &Tree| {
            let mut tree = in_memory(&canonical(tree));
            for (_, node) in tree.iter_mut() {
                // What the host says of a second name is what it says of the file.
                if matches!(node.kind, kiln_tree::Kind::Hardlink(_)) || !options.owners {
                    node.meta = kiln_tree::Metadata::default();
                }
            }
            if !options.owners {
                tree.set_root(kiln_tree::Metadata::default());
            }
            tree
        };
        prop_assert_eq!(plain(&found), plain(&expected));
        prop_assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 1);
    }
}
