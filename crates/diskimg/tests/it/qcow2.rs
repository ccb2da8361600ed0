//! The `imago` crate reads our qcow2 images, too; it knows no zstd.

use imago::file::File;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};
use kiln_diskimg::container::Format;

use crate::containers::Scattered;
use crate::tools::{bytes, file};

#[test]
fn imago_finds_the_disk() {
    for len in [512 * 20, (40 << 20) + 512] {
        let disk = Scattered::new(len);
        let wanted = bytes(&disk);
        let dir = tempfile::tempdir().unwrap();
        let formats = [Format::Qcow2, Format::Qcow2Zlib];
        for format in formats.into_iter().filter(|format| format.is_available()) {
            let path = file(dir.path(), format.name(), format, &disk);
            let gate = PermissiveImplicitOpenGate::default();
            let image = FormatAccess::new(Qcow2::<File>::builder_path(path).open(gate).unwrap());
            assert_eq!(image.size(), len, "{format}");
            let mut found = vec![0xff; wanted.len()];
            image.read(&mut found, 0).unwrap();
            assert!(found == wanted, "{format}");
        }
    }
}
