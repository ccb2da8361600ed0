//! SYSLINUX: what we patch equals what its own installer patches.

use kiln_diskimg::Limits;
use kiln_diskimg::boot::syslinux::Loader;
use kiln_diskimg::container::Format;
use kiln_diskimg::fat::{Kind, Reader, Volume};
use kiln_tree::{Node, TreePath};

use crate::tools::{bytes, expect, file, options, run, tree};

fn loader() -> Option<Loader> {
    run("syslinux", &["--version"])?;
    Some(Loader::from_package("/").unwrap())
}

#[test]
fn the_installer_patches_the_same_bytes() {
    let Some(loader) = loader() else { return };
    for kind in [Kind::Fat12, Kind::Fat16, Kind::Fat32] {
        for directory in ["syslinux", ""] {
            let mut tree = tree();
            if !directory.is_empty() {
                tree.insert(directory, Node::directory()).unwrap();
            }
            let mut options = options();
            options.kind = Some(kind);
            options.size = kiln_diskimg::fat::VolumeSize::FromContent {
                headroom: kiln_diskimg::ByteLen::mib(1),
            };
            let volume = Volume::plan(&tree, &options).unwrap();
            let before = bytes(&volume);
            let dir = tempfile::tempdir().unwrap();
            let image = file(dir.path(), "volume", Format::Raw, &volume);
            let mut arguments = vec!["--install"];
            if !directory.is_empty() {
                arguments.extend(["--directory", directory]);
            }
            arguments.push(image.to_str().unwrap());
            if expect("syslinux", &arguments).is_none() {
                return;
            }
            let mut theirs = std::fs::read(&image).unwrap();
            let directory = TreePath::new(directory).unwrap();
            let sys = directory.join("ldlinux.sys").unwrap();
            let mut reader = Reader::open(&mut theirs, &Limits::default()).unwrap();
            let list = reader.list().unwrap();
            let found = list.iter().find(|found| found.path == sys).unwrap();
            let content = reader.read(found).unwrap();
            let first = reader.geometry().sector_of(u64::from(found.cluster));
            let module = list.iter().find(|it| it.path.to_string().ends_with("ldlinux.c32"));
            assert!(reader.read(module.unwrap()).unwrap() == loader.ldlinux_c32());

            // Their mcopy put the file into one run, so ours must be the same for that place.
            let ours = loader.patched(first, &directory).unwrap();
            let differ: Vec<usize> =
                (0..content.len()).filter(|at| content[*at] != ours.ldlinux_sys[*at]).collect();
            assert!(differ.is_empty(), "{kind} {directory}: ldlinux.sys differs at {differ:?}");
            let code = 90;
            assert_eq!(theirs[..11], ours.boot_sector[..11], "{kind}");
            assert!(theirs[code..512] == ours.boot_sector[code..], "{kind}: code differs");
            // The parameter block is the volume's.
            assert_eq!(theirs[11..code], before[11..code]);
        }
    }
}

#[test]
fn fsck_is_content_and_the_volume_holds_the_loader() {
    let Some(loader) = loader() else { return };
    for kind in [Kind::Fat16, Kind::Fat32] {
        let mut options = options();
        options.kind = Some(kind);
        let volume = Volume::plan(&tree(), &options).unwrap();
        let volume = loader.install(volume, "syslinux").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let image = file(dir.path(), "volume", Format::Raw, &volume);
        if let Some(text) = expect("fsck.vfat", &["-n", image.to_str().unwrap()]) {
            assert_eq!(text.lines().count(), 2, "{text}");
        }
        if let Some(text) =
            expect("mattrib", &["-i", image.to_str().unwrap(), "::syslinux/ldlinux.sys"])
        {
            assert!(text.contains("SHR"), "{text}");
        }
        let path = TreePath::new("syslinux/ldlinux.sys").unwrap();
        let extent = volume.extent(&path).unwrap();
        let patched = loader.patched(extent.first_sector, &TreePath::new("syslinux").unwrap());
        let image = bytes(&volume);
        let start = usize::try_from(extent.first_sector * 512).unwrap();
        let patched = patched.unwrap();
        assert!(image[start..].starts_with(&patched.ldlinux_sys));
        assert!(image[90..512] == patched.boot_sector[90..]);
        if kind == Kind::Fat32 {
            assert!(image[..512] == image[6 * 512..7 * 512]);
        }
        // Twice the same.
        let again = loader.install(Volume::plan(&tree(), &options).unwrap(), "syslinux").unwrap();
        assert!(bytes(&again) == image);
    }
}

#[test]
fn what_is_no_loader_is_refused() {
    let error = Loader::from_installer(&[0; 4096], &[0; 440], &[0; 440]).unwrap_err();
    assert!(error.to_string().contains("boot sector template not found"), "{error}");
    let error = Loader::from_parts([0; 512], vec![0; 4096], Vec::new(), &[1], &[1]).unwrap_err();
    assert!(error.to_string().contains("3eb202fe"), "{error}");
    assert!(Loader::from_package("/nonexistent").is_err());
    let Some(loader) = loader() else { return };
    let long = TreePath::new("d/".repeat(200)).unwrap();
    let error = loader.patched(100, &long).unwrap_err().to_string();
    assert!(error.contains("at most 255"), "{error}");
}
