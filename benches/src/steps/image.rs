//! What our image has, and a script that makes the same of a root directory: cpio, zstd, genimage,
//! syslinux, qemu-img, zip.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kiln::manifest::Manifest;
use serde_json::Value;

use crate::bootstrap::{Root, TREE, run};
use crate::{Result, machine};

/// Our outputs, unpacked by others' programs; `$1` is where they are. Everything of the initramfs that is
/// in no package is found in `ours/root`.
const UNPACK: &str = r#"mkdir -p ours/root add loader
tar -xf "$1/kurma-init.tar" -C ours
unzip -q "$1/kurma-virtualbox.zip" -d ours/zip
cp /usr/lib/systemd/boot/efi/systemd-bootx64.efi loader/BOOTX64.EFI
printf 'timeout 0\n' > loader/loader.conf
"#;

/// From a tree to the zip.
const SCRIPT: &str = r#"kernel=$(ls root/boot/vmlinuz-* | head -n 1)
release=${kernel#root/boot/vmlinuz-}
rm -rf input volumes images tmp zip
mkdir -p input empty zip
depmod -b tree "$release"
(cd tree && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) |
  zstd -q -3 -T0 > input/initramfs
cp "$kernel" input/vmlinuz
cp loader/* input/
genimage --loglevel 1 --config volumes.cfg --rootpath empty --inputpath input --outputpath volumes --tmppath tmp
syslinux --install volumes/boot.img
rm -rf tmp
genimage --loglevel 1 --config disk.cfg --rootpath empty --inputpath volumes --outputpath images --tmppath tmp
dd if=/usr/lib/syslinux/mbr/gptmbr.bin of=images/kurma.raw conv=notrunc status=none
cp ours/zip/*.ovf zip/
disk=$(cd ours/zip && ls *.vmdk)
qemu-img convert -q -W -m 16 -f raw -O vmdk -o subformat=streamOptimized images/kurma.raw "zip/$disk"
rm -f kurma-virtualbox.zip
(cd zip && zip -q -0 ../kurma-virtualbox.zip *)
"#;

/// The image that others make.
#[derive(Debug)]
pub struct Image {
    directory: PathBuf,
    packages: BTreeSet<String>,
}

impl Image {
    /// The programs of the script.
    pub const PROGRAMS: [&'static str; 14] = [
        "cpio",
        "depmod",
        "genimage",
        "mcopy",
        "mkfs.ext4",
        "mkfs.vfat",
        "mmdebstrap",
        "qemu-img",
        "sfdisk",
        "syslinux",
        "tar",
        "unzip",
        "zip",
        "zstd",
    ];

    /// Prepares a directory for an image with the content of our outputs in `out`, and makes it once.
    ///
    /// # Errors
    /// What the programs and the file system refuse.
    pub fn like(out: &Path, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let mut unpack = machine::command("sh");
        unpack.args(["-c", &format!("set -e\n{UNPACK}"), "sh"]).arg(out);
        run(unpack.current_dir(directory))?;
        unpack_initramfs(directory)?;
        let manifest = Manifest::read(&directory.join("ours/manifest.json"))?;
        let mut list = String::new();
        for file in &manifest.files {
            writeln!(list, "{}", file.path)?;
            // The script makes indexes of modules itself.
            let is_index = file.path.contains("lib/modules/") && file.path.contains("/modules.");
            let (from, to) = (directory.join("ours/root"), directory.join("add"));
            if file.kind == "directory" {
                // of some, packages know nothing
                fs::create_dir_all(to.join(&file.path))?;
            }
            if file.package.is_some() || is_index || file.kind == "directory" {
                continue;
            }
            if let Some(parent) = Path::new(&file.path).parent() {
                fs::create_dir_all(to.join(parent))?;
            }
            machine::run("cp", |it| {
                it.arg("--archive").arg(from.join(&file.path)).arg(to.join(&file.path))
            })?;
        }
        fs::write(directory.join("files"), list)?;
        let entry = format!(
            "title Kurma\nlinux /vmlinuz\ninitrd /initramfs\noptions {}\n",
            manifest.command_line
        );
        fs::write(directory.join("loader/kurma.conf"), entry)?;
        let menu = format!(
            "DEFAULT kurma\nLABEL kurma\n LINUX vmlinuz\n INITRD initramfs\n APPEND {}\n",
            manifest.command_line
        );
        fs::write(directory.join("loader/syslinux.cfg"), menu)?;
        partitions(&out.join("kurma.raw"), directory)?;
        let packages = manifest.packages.iter().map(|package| package.name.clone()).collect();
        let image = Self { directory: directory.to_owned(), packages };
        image.root()?;
        image.pack()?;
        image.check()?;
        Ok(image)
    }

    /// The packages that the files are from.
    #[must_use]
    pub const fn packages(&self) -> &BTreeSet<String> {
        &self.packages
    }

    /// Where `root` is made, a root directory with the packages.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the root directory with mmdebstrap, of packages and lists that are kept.
    ///
    /// # Errors
    /// It fails, with what it said last.
    pub fn root(&self) -> Result<()> {
        let mut root = Root::below(&self.directory)?;
        root.keeps_lists = true;
        let packages: Vec<&str> = self.packages.iter().map(String::as_str).collect();
        root.bootstrap(&packages.join(","))
    }

    /// Another program as process 1.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn set_init(&self, program: &Path) -> Result<()> {
        fs::copy(program, self.directory.join("add/init"))?;
        Ok(())
    }

    /// From the root directory to the zip.
    ///
    /// # Errors
    /// A program fails, with what it said last.
    pub fn pack(&self) -> Result<()> {
        let script = format!("set -e\n{TREE}{SCRIPT}");
        run(machine::command("sh").args(["-c", &script]).current_dir(&self.directory))
    }

    /// Whether what was packed has all that our image has.
    ///
    /// # Errors
    /// It has not.
    pub fn check(&self) -> Result<()> {
        let list = "for part in ours/*.cpio; do cpio --quiet -t < $part; done | sort -u > ours/list
            zstd -dcq input/initramfs | cpio --quiet -t | sed 's,^\\./,,' | sort -u > list
            grep -v '/modules\\.' ours/list > a; grep -v '/modules\\.' list > b
            diff a b >&2";
        run(machine::command("sh").args(["-c", list]).current_dir(&self.directory))
    }
}

/// Unpacks our initramfs: archives one after the other, each a frame of zstd that begins where 512 divides, which
/// only the kernel's reader takes in one go.
fn unpack_initramfs(directory: &Path) -> Result<()> {
    const FRAME: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
    let bytes = fs::read(directory.join("ours/initramfs"))?;
    let begins = |at: &usize| bytes.get(*at..).is_some_and(|rest| rest.starts_with(FRAME));
    let begins: Vec<usize> = (0..bytes.len()).step_by(512).filter(begins).collect();
    for (number, begin) in begins.into_iter().enumerate() {
        let frame = bytes.get(begin..).unwrap_or_default();
        let mut archive = zstd::Decoder::new(frame)?.single_frame();
        let name = format!("ours/{number}.cpio");
        std::io::copy(&mut archive, &mut fs::File::create(directory.join(&name))?)?;
        let unpack = format!("cd ours/root && cpio --quiet -idm < ../../{name}");
        run(machine::command("sh").args(["-c", &unpack]).current_dir(directory))?;
    }
    Ok(())
}

/// Has the script make the partitions of a disk.
fn partitions(disk: &Path, directory: &Path) -> Result<()> {
    let output = machine::command("sfdisk").arg("--json").arg(disk).output()?;
    let table: Value = serde_json::from_slice(&output.stdout)?;
    let missing = "the disk's table has no partitions";
    let entries = table["partitiontable"]["partitions"].as_array().ok_or(missing)?;
    let mut volumes = String::new();
    let mut all = format!(
        "image kurma.raw {{\n size = {}\n hdimage {{ partition-table-type = \"gpt\" }}\n",
        fs::metadata(disk)?.len()
    );
    for entry in entries {
        let (Some(start), Some(sectors), Some(kind), Some(name)) = (
            entry["start"].as_u64(),
            entry["size"].as_u64(),
            entry["type"].as_str(),
            entry["name"].as_str(),
        ) else {
            return Err(missing.into());
        };
        let (start, size) = (start * 512, sectors * 512);
        let boots = name == "boot";
        write!(volumes, "image {name}.img {{\n size = {size}\n ")?;
        match boots {
            true => volumes.push_str(
                "vfat {
  extraargs = \"-F 32\"
  files = { \"vmlinuz\", \"initramfs\", \"syslinux.cfg\" }
  file EFI/BOOT/BOOTX64.EFI { image = \"BOOTX64.EFI\" }
  file loader/loader.conf { image = \"loader.conf\" }
  file loader/entries/kurma.conf { image = \"kurma.conf\" }
 }\n}\n",
            ),
            false => {
                writeln!(volumes, "ext4 {{ use-mke2fs = true label = \"{name}\" }}\n}}")?;
            }
        }
        writeln!(
            all,
            " partition {name} {{ image = \"{name}.img\" offset = {start} size = {size} \
             partition-type-uuid = \"{kind}\" bootable = {boots} }}"
        )?;
    }
    all.push_str("}\n");
    fs::write(directory.join("volumes.cfg"), volumes)?;
    Ok(fs::write(directory.join("disk.cfg"), all)?)
}
