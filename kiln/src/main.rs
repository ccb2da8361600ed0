//! `kiln`: images from definition files.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use kiln::build::{self, packages};
use kiln::definition::{Definition, FirmwareChoice, Format, Forward, SecureBoot};
use kiln::manifest::Manifest;
use kiln::sign::Key;
use kiln::{Error, Progress, Result, cache, diff, inspect, machine, sbom};

/// Builds operating system images from one file that says what they are.
#[derive(Parser)]
#[command(name = "kiln", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build images, and a manifest.json that says what is in them
    Build {
        #[command(flatten)]
        source: Source,
        /// Where the images go
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Print the manifest
        #[arg(long)]
        json: bool,
    },
    /// Say what a build is going to do, and of what
    Plan {
        #[command(flatten)]
        source: Source,
        /// Print the manifest without its artifacts
        #[arg(long)]
        json: bool,
    },
    /// Take the newest packages into kiln.lock, and say what changes
    Update {
        /// The definition
        #[arg(default_value = "image.toml")]
        file: PathBuf,
        /// Change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Boot an image in QEMU with its console on the terminal
    Run {
        /// An image, the directory of a build, or a definition, which is built first
        image: PathBuf,
        /// A port of the guest to be reached, as HOST:GUEST, GUEST or udp:HOST:GUEST
        #[arg(long, value_name = "PORTS")]
        forward: Vec<Forward>,
        /// Memory in MiB
        #[arg(long)]
        memory: Option<u32>,
        /// Keep what the guest writes to its disk
        #[arg(long)]
        keep: bool,
        /// Switch the machine off when the console shows this text
        #[arg(long, value_name = "TEXT")]
        until: Option<String>,
        /// How many seconds that may take
        #[arg(long, default_value_t = 300, requires = "until")]
        timeout: u64,
    },
    /// Say what is in an image or an initramfs
    Inspect {
        /// The image
        image: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Draw where on it what is, as SVG, to a file
        #[arg(long, value_name = "FILE", conflicts_with = "json")]
        svg: Option<PathBuf>,
    },
    /// Say what is different between two builds; the exit code is 1 when something is
    Diff {
        /// The directory or manifest.json of one build
        old: PathBuf,
        /// That of the other
        new: PathBuf,
        /// List every file
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a build's bill of materials
    Sbom {
        /// The directory or manifest.json of a build
        build: PathBuf,
        /// In which form
        #[arg(long, value_enum, default_value = "spdx")]
        format: SbomFormat,
        /// The file; the terminal without
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Draw a build: what takes the room in its image, as SVG
    Picture {
        /// The directory or manifest.json of a build
        build: PathBuf,
        /// The file
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(clap::Args)]
struct Source {
    /// The definition
    #[arg(default_value = "image.toml")]
    file: PathBuf,
    /// What to make, in place of what the definition says: initramfs, uki, raw, raw-zst,
    /// qcow2, qcow2-zstd, vmdk, vmdk-stream, vdi, vhd, vhd-fixed, vhdx, ova, vbox-zip, gce, iso, tar, tar.gz,
    /// tar.zst, oci, docker, aci, netboot, root.tar.xz, root.tar.zst, root.erofs
    #[arg(long, value_delimiter = ',')]
    format: Vec<Format>,
    /// What starts a disk or CD: bios, uefi or both
    #[arg(long)]
    firmware: Option<FirmwareChoice>,
    /// What UEFI verifies: a directory with db.key and db.crt, to sign with, or shim, for the
    /// distribution's signatures
    #[arg(long, value_name = "KEYDIR|shim")]
    secure_boot: Option<SecureBoot>,
    /// The key (Ed25519, PEM) that roots which machines fetch at boot are signed with
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Make the key where there is none
    #[arg(long, requires = "key")]
    new_key: bool,
    /// A file in place of an input of the definition
    #[arg(long, value_name = "NAME=PATH", value_parser = input)]
    input: Vec<(String, PathBuf)>,
    /// An archive (tar, tar.gz) that a container image begins with, in place of its base
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// A Debian package (.deb) in place of that of the definition's kernel
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Take exactly what kiln.lock says, and do not change it
    #[arg(long)]
    locked: bool,
    /// Fetch nothing
    #[arg(long)]
    offline: bool,
    /// Say of each cached step whether it was taken from the cache, and why not
    #[arg(long)]
    explain: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum SbomFormat {
    /// SPDX 2.3, JSON
    Spdx,
    /// CycloneDX, JSON
    Cyclonedx,
}

fn input(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("give it as NAME=PATH")?;
    Ok((name.to_owned(), path.into()))
}

fn main() -> ExitCode {
    match act(Arguments::parse().verb) {
        Ok(code) => code,
        // What a shell says of a program that Ctrl-C ended.
        Err(Error::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn act(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Build { source, out, json } => {
            let (definition, options, progress) = source.read(json)?;
            let report = build::build(&definition, &options, &out, &progress)?;
            print(&if json { report.manifest.to_json()? } else { report.to_string() });
        }
        Verb::Plan { source, json } => {
            let (definition, options, progress) = source.read(json)?;
            let plan = build::plan(&definition, &options, &progress)?;
            print(&if json { plan.manifest.to_json()? } else { plan.to_string() });
        }
        Verb::Update { file, dry_run } => update(&file, dry_run)?,
        Verb::Run { image, forward, memory, keep, until, timeout } => {
            let mut options = machine::Options::new(image);
            options.forwards = forward;
            options.keep = keep;
            options.until = until.map(|text| (text, Duration::from_secs(timeout)));
            run(options, memory)?;
        }
        Verb::Inspect { image, svg: Some(out), .. } => {
            cache::write_file(&out, inspect::svg(&image)?.as_bytes())?;
        }
        Verb::Inspect { image, json, svg: None } => {
            print(&if json { inspect::json(&image)? } else { inspect::text(&image)? });
        }
        Verb::Diff { old, new, all, json } => {
            let difference = diff::manifests(&Manifest::read(&old)?, &Manifest::read(&new)?);
            if json {
                let text = serde_json::to_string_pretty(&difference)
                    .map_err(|error| Error::input("the difference", error.to_string()))?;
                print(&(text + "\n"));
            } else if all {
                print(&difference.in_full().to_string());
            } else {
                print(&difference.to_string());
            }
            return Ok(if difference.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Verb::Sbom { build, format, out } => {
            let manifest = Manifest::read(&build)?;
            let context = sbom::Context::default();
            let text = match format {
                SbomFormat::Spdx => sbom::spdx(&manifest, &context)?,
                SbomFormat::Cyclonedx => sbom::cyclonedx(&manifest, &context)?,
            };
            match out {
                Some(path) => cache::write_file(&path, text.as_bytes())?,
                None => print(&text),
            }
        }
        Verb::Picture { build, out } => {
            let svg = kiln::picture::size_map(&Manifest::read(&build)?);
            cache::write_file(&out, svg.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what was asked for. A reader that has seen enough is no error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

impl Source {
    fn read(&self, json: bool) -> Result<(Definition, build::Options, Progress)> {
        let definition = Definition::read(&self.file)?;
        let mut options = build::Options::default();
        options.formats.clone_from(&self.format);
        options.inputs = self.input.iter().cloned().collect();
        options.firmware = self.firmware.clone().map(|choice| choice.0).unwrap_or_default();
        options.secure_boot.clone_from(&self.secure_boot);
        if let Some(key) = self.key.as_ref().filter(|key| self.new_key && !key.exists()) {
            Key::make(key)?;
        }
        options.key.clone_from(&self.key);
        (options.base, options.kernel) = (self.base.clone(), self.kernel.clone());
        options.locked = self.locked;
        options.offline = self.offline;
        if self.explain {
            options.cache = options.cache.explained();
        }
        let progress = if json { Progress::quiet() } else { Progress::on_stderr() };
        Ok((definition, options, progress))
    }
}

fn update(file: &Path, dry_run: bool) -> Result<()> {
    let definition = Definition::read(file)?;
    let options = build::Options::default();
    let (lock, changes) = packages::update(&definition, &options, &Progress::on_stderr())?;
    print(&changes.to_string());
    if !dry_run {
        packages::write(&packages::lock_file(file), &lock)?;
    }
    Ok(())
}

fn run(mut options: machine::Options, memory: Option<u32>) -> Result<()> {
    options.interrupt = Some(machine::interrupt()?);
    // A definition is built first, and says how it is run.
    if options.image.extension().is_some_and(|extension| extension == "toml") {
        let definition = Definition::read(&options.image)?;
        let out = cache::workspace_root().join("target/kiln").join(definition.name.as_str());
        let how = build::Options::default();
        let report = build::build(&definition, &how, &out, &Progress::on_stderr())?;
        print(&report.to_string());
        options.image = out;
        if options.forwards.is_empty() {
            options.forwards = definition.run.forwards.iter().map(|it| it.value).collect();
        }
        if let Some(memory) = &definition.run.memory {
            options.memory = u32::try_from(memory.0 >> 20).unwrap_or(options.memory);
        }
    }
    if let Some(memory) = memory {
        options.memory = memory;
    }
    machine::run(&options, &mut std::io::stdout())
}
