//! NomadOS built by us, and an image of the same files built by the programs that people use for it:
//! mmdebstrap, cpio, zstd, genimage, mtools and syslinux, called by a script.
//!
//! Both start with Nomad and /init as programs that are there. Three situations: nothing is kept of
//! earlier builds (so packages are fetched), everything is, and one small file is another one. The
//! script is spared some of the work: it is given the list of files that our build found out, so that
//! it neither resolves libraries nor chooses modules; its few files of no package are there (as text of
//! the same length); and it makes no manifest.

use std::fs;
use std::ops::RangeFrom;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use kiln::manifest::Manifest;
use kiln::{Cache, Progress, go, guest};
use kiln_benches::arguments::Common;
use kiln_benches::bootstrap::{Root, TREE, run};
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, take_turns};
use kiln_benches::{Result, machine};

/// The peers' programs.
const PROGRAMS: [&str; 8] =
    ["mmdebstrap", "genimage", "cpio", "zstd", "mcopy", "mkfs.vfat", "syslinux", "depmod"];
/// Who is compared.
const OURS: &str = "kiln";
const THEIRS: &str = "mmdebstrap, cpio, genimage";
/// What the files of the image are from.
const PACKAGES: &str =
    "libc6,busybox-static,ca-certificates,containernetworking-plugins,iptables,linux-image-amd64";

/// From a tree of files to a disk.
const SCRIPT: &str = r#"kernel=$(ls root/boot/vmlinuz-* | head -n 1)
release=${kernel#root/boot/vmlinuz-}
rm -rf input images tmp
mkdir input
depmod -b tree "$release" 2> /dev/null || true
(cd tree && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) |
  zstd -q -3 -T0 > input/initrd.img
cp "$kernel" input/linux
printf 'DEFAULT a\nLABEL a\n LINUX linux\n INITRD initrd.img\n APPEND console=ttyS0 quiet\n' \
  > input/syslinux.cfg
cat > genimage.cfg <<'END'
image esp.vfat {
  vfat { files = { "linux", "initrd.img", "syslinux.cfg" } }
  size = 64M
}
image disk.raw {
  hdimage { partition-table-type = "gpt" }
  partition esp { image = "esp.vfat" partition-type-uuid = U }
}
END
mkdir empty 2> /dev/null || true
genimage --loglevel 1 --config genimage.cfg --rootpath empty --inputpath input --outputpath images --tmppath tmp
syslinux --install images/esp.vfat
# The loader was written after the partition's content was copied into the disk.
start=$(sfdisk -d images/disk.raw | sed -n 's/.*start= *\([0-9]*\).*/\1/p' | head -n 1)
dd if=images/esp.vfat of=images/disk.raw bs=512 seek="$start" conv=notrunc status=none
test -s images/disk.raw
"#;

/// NomadOS beside a script around mmdebstrap and genimage.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<3>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("image_build", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new();
    if !machine::are_installed(&PROGRAMS) {
        return Ok(report);
    }
    let progress = Progress::on_stderr();
    let recipe = go::PROGRAMS.iter().find(|program| program.name == "nomad");
    let nomad = go::build(&Cache::of_workspace(), recipe.ok_or("no recipe for Nomad")?, &progress)?;
    let init = guest::build("nomados-init", "nomados-init", &progress)?;
    let svc = guest::build_with_features("kiln-supervisor", "svc", &["cli"], &progress)?;
    let own = std::env::current_exe()?.with_file_name("nomados");
    if !own.is_file() {
        return Err(
            format!("{} is not there: cargo build --release -p nomados", own.display()).into()
        );
    }

    let work = tempfile::tempdir()?;
    let work = work.path();
    let ours =
        Ours { program: own, nomad, init, svc, cache: work.join("cache"), out: work.join("ours") };
    ours.build(None)?;
    let peer = Peer { directory: work.join("peer") };
    peer.prepare(&Manifest::read(&ours.out)?, &ours)?;

    let mut contest = |what: &str, contenders: &mut [Contender<'_>]| -> Result<()> {
        let samples = take_turns(arguments.common.n, contenders)?;
        report.contest(what, Unit::Seconds, contenders, samples);
        Ok(())
    };
    let from_kept = || peer.bootstrap().and_then(|()| peer.pack());
    contest(
        "nothing kept",
        &mut [
            Contender::timed(OURS, || {
                fs::remove_dir_all(&ours.cache)?;
                ours.build(None)
            }),
            Contender::timed(THEIRS, || peer.forget().and_then(|()| from_kept())),
        ],
    )?;
    contest(
        "everything kept",
        &mut [Contender::timed(OURS, || ours.build(None)), Contender::timed(THEIRS, from_kept)],
    )?;
    let issue = work.join("issue");
    let (mut own_numbers, mut their_numbers) = (0.., 0..);
    contest(
        "one file changed",
        &mut [
            Contender::timed(OURS, || {
                fs::write(&issue, number(&mut own_numbers))?;
                ours.build(Some(&issue))
            }),
            Contender::timed(THEIRS, || {
                fs::write(peer.directory.join("add/etc/issue"), number(&mut their_numbers))?;
                peer.pack()
            }),
        ],
    )?;
    Ok(report)
}

/// The next text of the file that changes.
fn number(numbers: &mut RangeFrom<u32>) -> String {
    format!("{}\n", numbers.next().unwrap_or_default())
}

/// Our builder, as a user calls it.
struct Ours {
    program: PathBuf,
    nomad: PathBuf,
    init: PathBuf,
    svc: PathBuf,
    cache: PathBuf,
    out: PathBuf,
}

impl Ours {
    fn build(&self, add: Option<&Path>) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.env("KILN_CACHE", &self.cache);
        command.arg("build").arg("--out").arg(&self.out).args(["--format", "raw"]);
        command.arg("--nomad").arg(&self.nomad).arg("--init").arg(&self.init);
        command.arg("--svc").arg(&self.svc);
        if let Some(path) = add {
            command.arg("--add").arg(format!("{}=/etc/issue", path.display()));
        }
        run(&mut command)
    }
}

/// The script, and what it keeps.
struct Peer {
    directory: PathBuf,
}

impl Peer {
    /// Gives the peer the list of files, and those of them that are in no package.
    fn prepare(&self, manifest: &Manifest, ours: &Ours) -> Result<()> {
        let add = self.directory.join("add");
        for directory in ["etc", "usr/bin", "usr/local/bin"] {
            fs::create_dir_all(add.join(directory))?;
        }
        fs::copy(&ours.nomad, add.join("usr/local/bin/nomad"))?;
        fs::copy(&ours.init, add.join("init"))?;
        fs::copy(&ours.svc, add.join("usr/bin/svc"))?;
        let list: String = manifest.files.iter().map(|file| format!("{}\n", file.path)).collect();
        fs::write(self.directory.join("files"), list)?;
        for file in &manifest.files {
            let path = add.join(&file.path);
            let own = file.package.is_none() && file.input.is_none() && !path.exists();
            if !own || file.path.contains("lib/modules/") {
                continue;
            }
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            match (&file.target, file.size) {
                (Some(target), _) if !target.starts_with("usr/") => symlink(target, &path)?,
                (None, Some(size)) => fs::write(&path, vec![b'#'; usize::try_from(size)?])?,
                _ => {}
            }
        }
        Ok(())
    }

    fn forget(&self) -> Result<()> {
        self.root()?.forget()
    }

    fn bootstrap(&self) -> Result<()> {
        self.root()?.bootstrap(PACKAGES)
    }

    fn root(&self) -> Result<Root> {
        Root::below(&self.directory)
    }

    fn pack(&self) -> Result<()> {
        let script = format!("set -e\n{TREE}{SCRIPT}");
        run(machine::command("sh").args(["-c", &script]).current_dir(&self.directory))
    }
}
