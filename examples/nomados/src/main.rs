//! `nomados`: build an image of NomadOS, look into it, run it.

mod cli;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use kiln::definition::{FirmwareChoice, Format, KernelSource, SecureBoot};
use kiln::qemu::{Bus, Card, Nic, Plugged};
use kiln::{Progress, cache, inspect, machine};
use nomados::agent::Credentials;
use nomados::build;
use nomados::run::{self, Phase, Running};
use serde_json::json;

#[derive(Parser)]
#[command(name = "nomados", version, about = "A machine whose only job is to run Nomad")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build images and a manifest.json into a directory
    Build {
        #[command(flatten)]
        build: BuildArguments,
        /// Print the manifest
        #[arg(long)]
        json: bool,
    },
    /// Boot an image in QEMU, and run a job on its Nomad
    Run {
        /// nomados.raw, .qcow2, .vmdk, or .initramfs with .vmlinuz beside it
        image: PathBuf,
        #[command(flatten)]
        run: RunArguments,
    },
    /// Build what has changed, boot it, run a job, shut it down (what `cargo xtask nomados` does)
    Up {
        #[command(flatten)]
        build: BuildArguments,
        #[command(flatten)]
        run: RunArguments,
    },
    /// Make a Nomad job of a systemd service unit; what is lost is told on standard error
    Convert(cli::convert::Arguments),
    /// Make a cluster's certificates and keys, and a disk for each node that tells it who it is
    Cluster(cli::cluster::Arguments),
    /// Make an archive of software, and the job that downloads and runs it
    Artifact(cli::artifact::Arguments),
    /// Say what is in an image or an initramfs
    Inspect {
        /// The image
        image: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct BuildArguments {
    /// Where the images go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What to make, in place of what the definition says: initramfs, uki, raw, raw-zst, qcow2,
    /// qcow2-zstd, vmdk, vmdk-stream, vdi, vhd, vhd-fixed, vhdx, ova, vbox-zip, gce, iso, tar, tar.gz,
    /// tar.zst
    #[arg(long, value_delimiter = ',')]
    format: Vec<Format>,
    /// What starts a disk or CD: bios, uefi or both
    #[arg(long)]
    firmware: Option<FirmwareChoice>,
    /// What UEFI verifies: a directory with db.key and db.crt, to sign with, or shim, for the
    /// distribution's signatures
    #[arg(long, value_name = "KEYDIR|shim")]
    secure_boot: Option<SecureBoot>,
    /// The definition, in place of NomadOS's own
    #[arg(long, value_name = "image.toml")]
    definition: Option<PathBuf>,
    /// A Nomad in place of the one that $NOMAD names, that is on PATH, or that is built
    #[arg(long, value_name = "PATH")]
    nomad: Option<PathBuf>,
    /// A kernel of your own
    #[arg(long, value_name = "PATH")]
    kernel: Option<PathBuf>,
    /// Its modules (lib/modules/RELEASE), when it has any
    #[arg(long, value_name = "DIR", requires = "kernel")]
    modules: Option<PathBuf>,
    /// Its configuration, to be checked; found as config-RELEASE beside the kernel otherwise
    #[arg(long, value_name = "PATH", requires = "kernel")]
    kernel_config: Option<PathBuf>,
    /// The Debian package of the kernel
    #[arg(long, value_name = "NAME", conflicts_with = "kernel")]
    kernel_package: Option<String>,
    /// Build a small kernel without modules from a source package such as linux-source-6.1
    #[arg(long, value_name = "NAME", conflicts_with_all = ["kernel", "kernel_package"])]
    kernel_source: Option<String>,
    /// Do without drivers for machines that have no virtio, as a cloud kernel does
    #[arg(long)]
    virtio_only: bool,
    /// Nomad's configuration
    #[arg(long, value_name = "init.json")]
    config: Option<PathBuf>,
    /// A file to put into the image, as FILE=PATH
    #[arg(long, value_name = "FILE=PATH")]
    add: Vec<String>,
    /// Let a configuration with secrets into the image
    #[arg(long)]
    allow_secrets: bool,
    /// A shell on the console
    #[arg(long)]
    dev: bool,
    /// An /init in place of the one that is built
    #[arg(long, value_name = "PATH")]
    init: Option<PathBuf>,
    /// A svc in place of the one that is built
    #[arg(long, value_name = "PATH")]
    svc: Option<PathBuf>,
    /// Take exactly what kiln.lock says, and do not change it
    #[arg(long)]
    locked: bool,
    /// Fetch nothing
    #[arg(long)]
    offline: bool,
}

#[derive(clap::Args)]
struct RunArguments {
    /// A job as JSON, in place of one that says hello
    #[arg(long, value_name = "FILE")]
    job: Option<PathBuf>,
    /// Leave the machine running, with 4646–4648 of 127.0.0.1 leading into it
    #[arg(long)]
    stay: bool,
    /// A disk for Nomad's data (a file system labelled nomad-data)
    #[arg(long, value_name = "DISK")]
    data: Option<PathBuf>,
    /// A disk with the node's own configuration and keys (of `nomados cluster`)
    #[arg(long, value_name = "DISK")]
    config_disk: Option<PathBuf>,
    /// The directory of the cluster that the node belongs to: its API takes TLS and the operator's
    /// certificate
    #[arg(long, value_name = "DIR")]
    cluster: Option<PathBuf>,
    /// Memory in MiB
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// The network card
    #[arg(long, value_enum, default_value = "virtio")]
    nic: NicChoice,
    /// A further card on a bridge of the host, after the one that the ports lead to; the image's
    /// network.toml says what is done with it
    #[arg(long, value_name = "BRIDGE")]
    bridge: Vec<String>,
    /// The disk's controller
    #[arg(long, value_enum, default_value = "virtio")]
    bus: BusChoice,
    /// Write what the guest said on its console to a file, with the seconds since QEMU's start
    #[arg(long, value_name = "FILE")]
    console: Option<PathBuf>,
    /// Print one JSON object in place of the text
    #[arg(long = "json")]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum NicChoice {
    Virtio,
    E1000,
}

#[derive(Clone, Copy, ValueEnum)]
enum BusChoice {
    Virtio,
    Ide,
}

fn main() -> ExitCode {
    match act(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            // What a shell says of a program that Ctrl-C ended.
            if is_interrupted(&error) { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

fn is_interrupted(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kiln::Error::Interrupted))
}

fn act(verb: Verb) -> Result<()> {
    match verb {
        Verb::Build { build, json } => {
            let progress = if json { Progress::quiet() } else { Progress::on_stderr() };
            let report = build::build(&build.options()?, &progress)?;
            if json {
                println!("{}", serde_json::to_string_pretty(&report.manifest)?);
            } else {
                print!("{report}");
            }
            Ok(())
        }
        Verb::Run { image, run } => boot(&image, &run, None),
        Verb::Up { build, run } => {
            let progress = if run.json { Progress::quiet() } else { Progress::on_stderr() };
            let started = Instant::now();
            let report = build::build(&build.options()?, &progress)?;
            let image = report.bootable().context("no format that boots was asked for")?;
            if !run.json {
                print!("{report}");
            }
            boot(&image, &run, Some(started.elapsed()))
        }
        Verb::Convert(arguments) => arguments.run(),
        Verb::Cluster(arguments) => arguments.run(),
        Verb::Artifact(arguments) => arguments.run(),
        Verb::Inspect { image, json } => {
            let text = if json { inspect::json(&image)? } else { inspect::text(&image)? };
            print!("{text}");
            Ok(())
        }
    }
}

impl BuildArguments {
    fn options(&self) -> Result<build::Options> {
        let mut options = build::Options::new(&self.out);
        if let Some(definition) = &self.definition {
            options.definition.clone_from(definition);
        }
        options.formats.clone_from(&self.format);
        options.firmware = self.firmware.clone().map(|choice| choice.0).unwrap_or_default();
        options.secure_boot.clone_from(&self.secure_boot);
        options.nomad.clone_from(&self.nomad);
        options.kernel = match (&self.kernel, &self.kernel_source, &self.kernel_package) {
            (Some(image), ..) => Some(KernelSource::Files {
                image: image.clone(),
                modules: self.modules.clone(),
                config: self.kernel_config.clone(),
            }),
            (None, Some(source), _) => Some(KernelSource::Source(source.clone())),
            (None, None, package) => package.clone().map(KernelSource::Package),
        };
        options.virtio_only = self.virtio_only;
        options.config.clone_from(&self.config);
        for add in &self.add {
            let (file, path) = add
                .split_once('=')
                .with_context(|| format!("--add {add}: give it as FILE=PATH"))?;
            options.add.push((file.into(), path.to_owned()));
        }
        options.allow_secrets = self.allow_secrets;
        options.dev = self.dev;
        options.init.clone_from(&self.init);
        options.svc.clone_from(&self.svc);
        options.locked = self.locked;
        options.offline = self.offline;
        Ok(options)
    }
}

/// How long a guest may take to stop when the user wants to leave.
const PATIENCE: Duration = Duration::from_secs(30);

fn boot(image: &std::path::Path, arguments: &RunArguments, built: Option<Duration>) -> Result<()> {
    let progress = if arguments.json { Progress::quiet() } else { Progress::on_stderr() };
    let job = arguments.job.as_deref().map_or_else(|| Ok(run::hello()), run::read_job)?;
    let interrupt = machine::interrupt()?;
    let mut options = run::Options::new(image);
    options.data.clone_from(&arguments.data);
    options.config.clone_from(&arguments.config_disk);
    let credentials = arguments.cluster.as_deref().map(Credentials::read);
    options.credentials = credentials.transpose()?;
    options.memory = arguments.memory;
    options.nic = match arguments.nic {
        NicChoice::Virtio => Nic::Virtio,
        NicChoice::E1000 => Nic::E1000,
    };
    options.bus = match arguments.bus {
        BusChoice::Virtio => Bus::Virtio,
        BusChoice::Ide => Bus::Ide,
    };
    options.cards.extend(arguments.bridge.iter().map(|bridge| {
        let mut card = Card::new(Plugged::Bridge(bridge.clone()));
        card.model = options.nic;
        card
    }));
    options.nomads_ports = arguments.stay;
    options.interrupt = Some(Arc::clone(&interrupt));

    let mut running = run::start(&options)?;
    let mut ran = operate(&mut running, &job, arguments, built, &interrupt, &progress);
    if ran.as_ref().is_err_and(is_interrupted) {
        // A guest that has not come far enough to hear the button is switched off.
        ran = running.shut_down_within(PATIENCE, &progress).map(drop).and(ran);
    }
    if let Some(path) = &arguments.console {
        cache::write_file(path, running.console_text().as_bytes())?;
    }
    ran
}

/// What is done with a machine that was started, up to its end.
fn operate(
    running: &mut Running,
    job: &serde_json::Value,
    arguments: &RunArguments,
    built: Option<Duration>,
    interrupt: &Arc<AtomicBool>,
    progress: &Progress,
) -> Result<()> {
    running.wait_ready(progress)?;
    let output = running.run_job(job, progress)?;
    let mut phases = running.phases();
    if let Some(built) = built {
        phases.insert(0, Phase { name: "build".into(), seconds: built.as_secs_f64() });
    }
    if !arguments.json {
        println!("the job said:\n{}", indent(&output));
        println!("where the time went:\n{}", indent(&run::chart(&phases)));
    }
    if arguments.stay && !arguments.json {
        println!(
            "NomadOS is running: http://127.0.0.1:4646 is its API and web page (RPC 4647, Serf 4648).\n\
             Try `nomad node status`, or `curl http://127.0.0.1:4646/v1/nodes`. Ctrl-C shuts it down."
        );
    }
    if arguments.stay {
        while !interrupt.load(Ordering::Relaxed) {
            if running.vm.has_ended()? {
                println!("the guest powered itself off");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let stopped = running.shut_down(progress)?;
    if arguments.json {
        let report = json!({
            "image": running.image(),
            "output": output,
            "phases": phases,
            "shutdown_seconds": stopped.as_secs_f64(),
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("the guest stopped in order in {:.1} s", stopped.as_secs_f64());
    }
    Ok(())
}

fn indent(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("  {line}\n")).collect()
}
