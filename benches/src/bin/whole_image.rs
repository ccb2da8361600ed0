//! A whole disk image: ours beside the programs that people put together, systemd-repart and genimage.
//!
//! A GPT with an EFI system partition of 100 MiB (FAT32, 40 MB of kernel, initramfs and loader) and
//! an ext4 partition of 600 MiB with a tree of 338 MB in 10,000 files, as a raw sparse file of 1 GiB.
//! Figures are wall and CPU time from the two directories to the image, that of the tools with their
//! start; all read and write in the same directory.
//!
//! systemd-repart makes images without root and loop devices from version 254 on. Where the host's
//! is older, a later one of Debian is unpacked beside it; the programs that it calls are the host's.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::noise::{Noise, fill_root};
use kiln_benches::report::Report;
use kiln_benches::turns::{Contender, Spent, spent};
use kiln_benches::{Result, machine, repart};
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{ByteLen, DiskPlan, Partition, Seed, Table, ext4, fat};
use kiln_tree::{Tree, host};

/// A whole disk image beside sfdisk + mkfs.vfat + mcopy + mke2fs, systemd-repart and genimage
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<5>,
    /// Where to work, about 3 GiB; best a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    dir: std::path::PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("whole_image", &arguments.common, || measure(&arguments))
}

/// Directories and files that all contenders have in common.
struct Place<'dir> {
    /// The directory with `esp` and `root` in it.
    content: &'dir Path,
    /// Where images and files in between go.
    work: &'dir Path,
}

impl Place<'_> {
    /// What a run takes that finds nothing of the runs before.
    fn spent(&self, run: impl FnOnce() -> Result<()>) -> Result<Spent> {
        for image in ["ours.raw", "programs.raw", "repart.raw", "genimage.raw"] {
            let _ = fs::remove_file(self.work.join(image));
        }
        for part in ["esp.vfat", "root.ext4"] {
            let _ = fs::remove_file(self.work.join(part));
        }
        let _ = fs::remove_dir_all(self.work.join("tmp"));
        spent(run)
    }
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let (content, work) = (dir.path().join("content"), dir.path().join("work"));
    fill_esp(&content.join("esp"))?;
    fill_root(&content.join("root"))?;
    fs::create_dir(&work)?;
    let place = &Place { content: &content, work: &work };

    let mut turns = vec![Contender::new("kiln-diskimg", || place.spent(|| ours(place)))];
    if machine::are_installed(&["sfdisk", "mkfs.vfat", "mcopy", "mke2fs"]) {
        turns.push(Contender::new("sfdisk + mkfs.vfat + mcopy + mke2fs -d", || {
            place.spent(|| programs(place))
        }));
    }
    if let Some(repart) = repart::find() {
        repart::define(&work.join("repart"))?;
        turns.push(Contender::new(repart.name(), move || {
            place.spent(|| repart.run(place.content, place.work))
        }));
    }
    if machine::are_installed(&["genimage"]) {
        for (who, in_place) in [("genimage", false), ("genimage, directories in place", true)] {
            let config = work.join(format!("genimage-{in_place}.cfg"));
            fs::write(&config, genimage_definition(&content, in_place))?;
            turns.push(Contender::new(who, move || place.spent(|| genimage(place, &config))));
        }
    }
    let mut report = Report::new();
    let what = "GPT, 40 MB in FAT32, 10,000 files with 338 MB in ext4";
    report.spent(what, arguments.common.n, turns)?;
    Ok(report)
}

/// A kernel, an initramfs and a loader, as long as Debian's.
fn fill_esp(dir: &Path) -> Result<()> {
    let mut noise = Noise::default();
    for (path, len) in [
        ("vmlinuz", 14_200_000),
        ("initramfs.img", 25_800_000),
        ("EFI/BOOT/BOOTX64.EFI", 120_000),
        ("loader/entries/a.conf", 200),
    ] {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, noise.bytes(len))?;
    }
    Ok(())
}

fn import(from: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    host::import(&mut tree, from, "", &host::Policy::default())?;
    Ok(tree)
}

fn ours(place: &Place<'_>) -> Result<()> {
    let mut options = fat::Options::default();
    options.size = fat::VolumeSize::Fixed(ByteLen::mib(100));
    options.cluster = Some(512);
    let esp = fat::Volume::plan(&import(&place.content.join("esp"))?, &options)?;
    let mut options = ext4::Options::default();
    options.size = ext4::VolumeSize::Fixed(ByteLen::mib(600));
    let root = ext4::Volume::plan(&import(&place.content.join("root"))?, &options)?;
    let mut plan = DiskPlan::new(Table::Gpt, Seed::new("bench"))
        .with(Partition::new("esp", PartitionType::EFI_SYSTEM, esp))
        .with(Partition::new("root", PartitionType::LINUX, root));
    plan.size = Some(ByteLen::gib(1));
    Ok(container::write_file(Format::Raw, &plan.layout()?, place.work.join("ours.raw"))?)
}

/// Each file system is made at its place in the image, so that no byte is copied twice.
fn programs(place: &Place<'_>) -> Result<()> {
    let out = place.work.join("programs.raw");
    fs::File::create(&out)?.set_len(1 << 30)?;
    let table = "label: gpt\n\
                 start=2048, size=204800, type=U, name=esp\n\
                 start=206848, size=1228800, type=L, name=root\n";
    machine::run_with_input("sfdisk", table, |it| it.arg("-q").arg(&out))?;
    machine::run("mkfs.vfat", |it| {
        it.args(["-F", "32", "-s", "1", "-h", "2048", "--offset", "2048"]).arg(&out).arg("102400")
    })?;
    let esp = place.content.join("esp");
    let names: Vec<_> =
        fs::read_dir(&esp)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    machine::run("mcopy", |it| {
        it.env("MTOOLS_SKIP_CHECK", "1")
            .args(["-s", "-Q", "-i"])
            .arg(format!("{}@@1M", out.display()))
            .args(names)
            .arg("::")
    })?;
    machine::run("mke2fs", |it| {
        it.args(["-q", "-t", "ext4", "-m", "0", "-F", "-E", "offset=105906176", "-d"])
            .arg(place.content.join("root"))
            .arg(&out)
            .arg("600M")
    })
}

/// With its directories named by `srcpath`, genimage reads them where they are; with `mountpoint`, it
/// copies the root directory first.
fn genimage_definition(content: &Path, in_place: bool) -> String {
    let from = |name: &str| {
        if in_place {
            format!("srcpath = \"{}\"", content.join(name).display())
        } else {
            format!("mountpoint = \"/{name}\"")
        }
    };
    let (esp, root) = (from("esp"), from("root"));
    format!(
        "image esp.vfat {{ vfat {{ extraargs = \"-F 32 -s 1\" }} size = 100M {esp} }}\n\
         image root.ext4 {{ ext4 {{ use-mke2fs = true extraargs = \"-m 0\" }} size = 600M {root} }}\n\
         image genimage.raw {{\n\
         hdimage {{ partition-table-type = \"gpt\" align = 1M }} size = 1G\n\
         partition esp {{ partition-type-uuid = \"U\" image = \"esp.vfat\" }}\n\
         partition root {{ partition-type-uuid = \"L\" image = \"root.ext4\" }}\n}}\n"
    )
}

fn genimage(place: &Place<'_>, config: &Path) -> Result<()> {
    machine::run("genimage", |it| {
        it.arg("--config")
            .arg(config)
            .arg("--rootpath")
            .arg(place.content)
            .arg("--inputpath")
            .arg(place.work)
            .arg("--outputpath")
            .arg(place.work)
            .arg("--tmppath")
            .arg(place.work.join("tmp"))
    })
}
