//! `rancheros`: builds and runs the RancherOS-like system.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use kiln::definition::Format;
use kiln::qemu::{self, Bus, Disk, Forward};
use kiln::{Progress, machine};
use rancheros::{AUTOFORMAT, NAME, Options, build, drive, key};

/// Builds and runs the RancherOS-like system.
#[derive(Parser)]
#[command(name = "rancheros", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build kernel, initramfs, CD, disks and the installer's image, and a manifest.json that says what is
    /// in them
    Build {
        /// Where they go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// What to make, in place of initramfs, iso, qcow2 and vbox-zip
        #[arg(long, value_delimiter = ',')]
        format: Vec<Format>,
        /// Leave out the installer's image, which needs the initramfs
        #[arg(long)]
        no_installer: bool,
        /// Another version than image.toml's
        #[arg(long, value_name = "VERSION")]
        release: Option<String>,
        /// Print the manifest
        #[arg(long)]
        json: bool,
    },
    /// Boot a build in QEMU, with a disk that is kept and a CD with a cloud-config
    Run {
        /// The directory of a build, or an image of it
        image: PathBuf,
        /// The disk that is kept; made where it is not there
        #[arg(long, value_name = "FILE", default_value = "state/hd.img")]
        disk: PathBuf,
        /// A cloud-config; one with the key of `rancheros ssh` without
        #[arg(long, value_name = "FILE")]
        cloud_config: Option<PathBuf>,
        /// The key whose owner may log in; made where it is not there
        #[arg(long, value_name = "FILE", default_value = "state/rancher.key")]
        key: PathBuf,
        /// The port of 127.0.0.1 that leads to the guest's ssh
        #[arg(long, default_value_t = 2222)]
        port: u16,
        /// Memory in MiB
        #[arg(long, default_value_t = 1024)]
        memory: u32,
    },
    /// Log in to a machine that runs
    Ssh {
        /// The key
        #[arg(long, value_name = "FILE", default_value = "state/rancher.key")]
        key: PathBuf,
        /// The port of 127.0.0.1
        #[arg(long, default_value_t = 2222)]
        port: u16,
        /// A command, in place of a shell
        command: Vec<String>,
    },
}

/// How large the disk is that is made, in bytes: it takes no room before it is used.
const DISK: u64 = 10 << 30;

fn main() -> ExitCode {
    match act(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(verb: Verb) -> Result<()> {
    match verb {
        Verb::Build { out, format, no_installer, release, json } => {
            let progress = if json { Progress::quiet() } else { Progress::on_stderr() };
            let has_initramfs = format.is_empty() || format.contains(&Format::Initramfs);
            let installer = has_initramfs && !no_installer;
            let options = Options { formats: format, installer, version: release };
            let report = build(&options, &out, &progress)?;
            if json {
                println!("{}", report.manifest.to_json()?);
            } else {
                print!("{report}");
            }
            Ok(())
        }
        Verb::Run { image, disk, cloud_config, key, port, memory } => {
            run(&image, &disk, cloud_config.as_deref(), &key, port, memory)
        }
        Verb::Ssh { key, port, command } => {
            let error = Command::new("ssh").args(key::ssh(&key, port)).args(command).exec();
            Err(error).context("ssh")
        }
    }
}

fn run(
    image: &Path,
    disk: &Path,
    cloud_config: Option<&Path>,
    key: &Path,
    port: u16,
    memory: u32,
) -> Result<()> {
    let user_data = match cloud_config {
        Some(path) => std::fs::read(path).with_context(|| format!("read {}", path.display()))?,
        None => {
            let public = key::ensure(key)?;
            format!("#cloud-config\nssh_authorized_keys:\n- {public}\n").into_bytes()
        }
    };
    if !disk.exists() {
        let parent = disk.parent().unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        let file = File::create(disk).with_context(|| format!("make {}", disk.display()))?;
        file.set_len(DISK)?;
    }
    let drive = disk.with_file_name("cloud-config.iso");
    drive::write(&drive, &user_data)?;
    // of a whole build, what needs no disk of its own
    let initramfs = image.join(format!("{NAME}.{}", Format::Initramfs.ending()));
    let image = if initramfs.is_file() { initramfs } else { machine::bootable(image)? };
    let mut options = machine::Options::new(image);
    options.append = AUTOFORMAT.into();
    options.memory = memory;
    options.forwards = vec![Forward { udp: false, host: port, guest: 22 }];
    let mut state = Disk::new(disk, qemu::Format::Raw);
    state.snapshot = false;
    let mut medium = Disk::new(drive, qemu::Format::Raw);
    medium.bus = Bus::Cd;
    options.disks = vec![state, medium];
    options.interrupt = Some(machine::interrupt()?);
    machine::run(&options, &mut std::io::stdout())?;
    Ok(())
}
