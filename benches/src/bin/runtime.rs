//! What starts containers: crun beside runc, on bundles of ours.
//!
//! A container with name spaces of its own runs `true` of busybox: from the call of the runtime until it has
//! ended, and the most memory that the runtime had. Both are Debian's, without systemd, in a mount name
//! space that has a cgroup2 and nothing else (crun wants no hybrid). crun makes no control groups, as in our
//! images, where process 1 does; runc cannot be told not to. Root is needed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use kiln::{Cache, debian};
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, spent, take_turns};
use kiln_benches::{Result, peak};
use kiln_oci::bundle::{self, Users};
use kiln_oci::{Image, Settings};

/// Containers started by crun and by runc
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<20>,
}

/// Says that this process is in the name space that the bench needs.
const INSIDE: &str = "KILN_BENCH_RUNTIME";
const ENTER: &str =
    "umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$0\" \"$@\"";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: runtime (root)");
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(INSIDE).is_none() {
        return enter();
    }
    kiln_benches::run("runtime", &arguments.common, || measure(arguments.common.n))
}

fn enter() -> ExitCode {
    let own = std::env::current_exe().unwrap_or_default();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", ENTER]).arg(own).args(std::env::args_os().skip(1));
    match command.env(INSIDE, "1").status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("unshare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The runtimes, and where they run.
struct Place {
    root: PathBuf,
    bundle: PathBuf,
}

fn measure(rounds: u32) -> Result<Report> {
    let root = debian::sysroot(&Cache::of_workspace(), &["busybox-static", "crun", "runc"])?;
    let work = tempfile::tempdir()?;
    let place = Place { root, bundle: work.path().join("bundle") };
    place.prepare()?;
    let mut report = Report::new();
    let ways = [("crun", "usr/bin/crun"), ("runc", "usr/sbin/runc")];
    let timed = ways.map(|(who, program)| {
        let place = &place;
        Contender::new(who, move || spent(|| place.run(program)))
    });
    report.spent("a container that runs true", rounds, timed.into())?;
    let mut heavy = ways.map(|(who, program)| {
        let place = &place;
        Contender::new(who, move || peak::mebibytes(place.command(program)))
    });
    let samples = take_turns(rounds, &mut heavy)?;
    report.contest("a container that runs true: memory", Unit::Mebibytes, &heavy, samples);
    Ok(report)
}

impl Place {
    fn prepare(&self) -> Result<()> {
        let bin = self.bundle.join("rootfs/bin");
        fs::create_dir_all(&bin)?;
        for name in ["dev", "proc", "sys"] {
            fs::create_dir_all(self.bundle.join("rootfs").join(name))?;
        }
        fs::copy(self.root.join("usr/bin/busybox"), bin.join("busybox"))?;
        symlink("busybox", bin.join("true"))?;
        let mut settings = Settings::default();
        settings.cmd = vec!["/bin/true".into()];
        let image = Image::build(Vec::new(), &settings)?;
        let mut options = bundle::Options::default();
        options.root = "rootfs".into();
        let (_, config) = bundle::spec(&image.config, &Users::default(), &options)?;
        fs::write(self.bundle.join("config.json"), config)?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.root.join(program));
        // as the images have it: process 1 makes the control groups
        if program.ends_with("crun") {
            command.arg("--cgroup-manager=disabled");
        }
        command.arg("--root").arg(self.bundle.with_file_name("state"));
        command.args(["run", "--bundle"]).arg(&self.bundle).arg("kiln-bench");
        command.env("LD_LIBRARY_PATH", libraries(&self.root)).stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str) -> Result<()> {
        let output = self.command(program).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

fn libraries(root: &Path) -> PathBuf {
    root.join("usr/lib/x86_64-linux-gnu")
}
