//! An image run in QEMU with its console on the terminal: `kiln run`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::manifest::Manifest;
use crate::qemu::{DirectKernel, Disk, Forward, Machine, Vm};
use crate::{Error, Result};

/// How long a guest may take to stop after its power button was pressed.
const STOP: Duration = Duration::from_secs(60);
/// How often the console is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// How an image is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// A disk, an initramfs with its kernel beside it, or the directory of a build.
    pub image: PathBuf,
    /// Memory in MiB.
    pub memory: u32,
    /// Ports of the host that lead into the guest.
    pub forwards: Vec<Forward>,
    /// Whether what the guest writes to the disk stays.
    pub keep: bool,
    /// Disks beside the image, behind it.
    pub disks: Vec<Disk>,
    /// Words besides on the command line of a kernel that QEMU starts itself.
    pub append: String,
    /// A text of the console at which the machine is switched off in order, and how long it may
    /// take to come.
    pub until: Option<(String, Duration)>,
    /// Set when the user wants to stop.
    pub interrupt: Option<Arc<AtomicBool>>,
}

impl Options {
    /// An image in a machine of 1 GiB.
    #[must_use]
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            memory: 1024,
            forwards: Vec::new(),
            keep: false,
            disks: Vec::new(),
            append: String::new(),
            until: None,
            interrupt: None,
        }
    }
}

/// A flag that Ctrl-C and SIGTERM set. A second Ctrl-C ends the program at once.
///
/// # Errors
/// [`Error::Input`] when the signals cannot be watched.
pub fn interrupt() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| Error::input("Ctrl-C", error.to_string()))?;
    }
    Ok(flag)
}

/// The image to run: the path itself, or the first one that a build wrote into the directory.
///
/// # Errors
/// Those of reading the manifest; [`Error::Input`] when there is nothing to run.
pub fn bootable(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        std::fs::metadata(path).map_err(Error::io("stat", path))?;
        return Ok(path.to_path_buf());
    }
    let manifest = Manifest::read(path)?;
    let artifact = manifest.bootable().ok_or_else(|| {
        Error::input(path.display().to_string(), "its manifest.json names nothing that boots")
    })?;
    Ok(path.join(&artifact.path))
}

/// Adds an image to a machine: a disk, or a kernel with an initramfs. The command line is the one
/// that the manifest beside it says, or else `default`.
///
/// # Errors
/// [`Error::Input`] when it is neither.
pub fn insert(machine: &mut Machine, image: &Path, keep: bool, default: &str) -> Result<()> {
    if let Some(mut disk) = Disk::of(image) {
        disk.snapshot = !keep;
        machine.disks.push(disk);
        return Ok(());
    }
    let kernel = image.with_extension("vmlinuz");
    if !kernel.is_file() {
        return Err(Error::input(
            image.display().to_string(),
            format!(
                "neither a disk (.raw, .qcow2, .vmdk, .iso) nor an initramfs with its kernel {} beside it",
                kernel.display()
            ),
        ));
    }
    let directory = image.parent().unwrap_or_else(|| Path::new("."));
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let command_line = if directory.join(crate::manifest::FILE_NAME).is_file() {
        Manifest::read(directory)?.command_line
    } else {
        default.to_owned()
    };
    machine.kernel = Some(DirectKernel { kernel, initramfs: image.to_path_buf(), command_line });
    Ok(())
}

/// Runs an image until its guest powers off, the awaited text comes, or the user wants to stop,
/// and writes its console to `out`.
///
/// # Errors
/// When QEMU cannot be started, when the guest dies, when the text does not come in time.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let image = bootable(&options.image)?;
    let mut machine = Machine { memory: options.memory, ..Machine::default() };
    machine.interrupt.clone_from(&options.interrupt);
    machine.forwards.clone_from(&options.forwards);
    insert(&mut machine, &image, options.keep, "console=ttyS0")?;
    if let Some(kernel) = machine.kernel.as_mut().filter(|_| !options.append.is_empty()) {
        kernel.command_line = format!("{} {}", kernel.command_line, options.append);
    }
    machine.disks.extend(options.disks.iter().cloned());
    let mut vm = machine.start()?;
    let io = |error| Error::Io { action: "write", path: "the terminal".into(), source: error };
    for forward in &options.forwards {
        let host = vm.forwarded(forward.guest).unwrap_or(forward.host);
        let kind = if forward.udp { "UDP" } else { "TCP" };
        writeln!(out, "127.0.0.1:{host} leads to the guest's {kind} port {}", forward.guest)
            .map_err(io)?;
    }
    let watched = watch(&mut vm, options, out);
    if matches!(watched, Err(Error::Interrupted)) {
        // A guest that is not far enough to hear the button is switched off.
        let _ = vm.power_button();
        let _ = vm.wait_exit(STOP);
    }
    watched
}

fn watch(vm: &mut Vm, options: &Options, out: &mut dyn Write) -> Result<()> {
    let io = |error| Error::Io { action: "write", path: "the terminal".into(), source: error };
    let mut shown = 0;
    let deadline = options.until.as_ref().map(|(_, limit)| Instant::now() + *limit);
    loop {
        let lines = vm.console().lines();
        let mut came = false;
        // The last line may not have ended yet.
        let ended = vm.has_ended()?;
        let whole = if ended { lines.len() } else { lines.len().saturating_sub(1) };
        for line in lines.get(shown..whole).unwrap_or_default() {
            writeln!(out, "{}", line.text).map_err(io)?;
            came |= options.until.as_ref().is_some_and(|(text, _)| line.text.contains(text));
        }
        shown = whole.max(shown);
        out.flush().map_err(io)?;
        if ended {
            return Ok(());
        }
        if came {
            vm.power_button()?;
            return vm.wait_exit(STOP);
        }
        if options.interrupt.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Error::Interrupted);
        }
        if let (Some((text, limit)), true) =
            (&options.until, deadline.is_some_and(|deadline| Instant::now() > deadline))
        {
            return Err(Error::Timeout {
                what: format!("{text:?} on the console"),
                seconds: limit.as_secs(),
                console: vm.console().tail(20),
            });
        }
        std::thread::sleep(PAUSE);
    }
}
