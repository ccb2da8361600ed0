//! Process 1 of a machine that is started four times: cold, after its watchdog reset it, after an
//! emergency, and by kexec. Each time it says what it finds, and the test reads that.

use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use kiln_supervisor::pid1::hotplug::HotPlug;
use kiln_supervisor::pid1::{
    self, Boot, BoxError, Emergency, Loader, PowerButton, device_mapper, kexec, mounts, watchdog,
};
use kiln_supervisor::unix::{self, OnPanic, Options, Request, Reserve, Source};
use kiln_supervisor::{Event, Outcome, Readiness, ServiceSpec};
use rustix::mount::{MountFlags, mount};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

type Result<T = ()> = std::result::Result<T, BoxError>;

/// The partition that is unmounted at the end, and the one that cannot be.
const CALM: &str = "/calm";
const BUSY: &str = "/busy";
const BUSYBOX: &str = "/bin/busybox";
const MODULES: [&str; 7] =
    ["virtio_pci", "virtio_blk", "ext4", "loop", "dm_mod", "button", "evdev"];
/// i6300esb counts in two stages; a host that has other work must not make it look hung.
const TIMEOUT: Duration = Duration::from_secs(8);
/// The watchdog's place among PCI devices.
const WATCHDOG: (&str, &str) = ("0x8086", "0x25ab");

#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("late") => done(late()),
        Some("rescan") => done(rescan()),
        Some("steady") => loop {
            std::thread::park();
        },
        _ => pid1::start(boot),
    }
}

fn done(work: Result) -> ExitCode {
    match work {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("FAILED: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn say(what: impl std::fmt::Display) {
    unix::console_line(format_args!("proof: [{}] {what}", uptime().as_secs()));
}

fn uptime() -> Duration {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: Option<f64> = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.0))
}

fn boot(boot: &mut Boot) -> Result<Outcome> {
    boot.mounts(mounts::STANDARD).console();
    if !boot.resumed() {
        // The watchdog comes late.
        for device in fs::read_dir("/sys/bus/pci/devices")?.flatten() {
            let read = |name| fs::read_to_string(device.path().join(name)).unwrap_or_default();
            if (read("vendor").trim(), read("device").trim()) == WATCHDOG {
                fs::write(device.path().join("remove"), "1")?;
            }
        }
        boot.modules(&MODULES, 16).step("disks", disks);
    }
    let stage = stage(boot)?;
    boot.sysctl().machine_id(Some(&Path::new(CALM).join("machine-id")));
    say(format_args!("stage {stage}, machine-id {}", read("/etc/machine-id")));
    let seed = Path::new(CALM).join("random-seed");
    let before = fs::read(&seed).ok();
    boot.random_seed(&seed);
    let now = fs::read(&seed)?;
    say(match before {
        None => "the first seed is kept",
        Some(before) if before != now => "the seed was credited and replaced",
        Some(_) => "the seed stays",
    });
    say(format_args!("sysctl: panic={}", read("/proc/sys/kernel/panic")));
    let mut settings = watchdog::Settings::default();
    (settings.timeout, settings.shutdown_timeout) = (TIMEOUT, Duration::from_secs(60));
    let watchdog = boot.watchdog(settings);
    for problem in boot.problems() {
        say(problem);
    }
    let busybox = [BUSYBOX, "sh"].map(String::from).to_vec();
    boot.emergency(Emergency::Off.or_shell(true, &busybox, Some(Duration::from_secs(600))));
    let mut options = Options::default();
    options.on_panic = OnPanic::Reexec { limit: 5 };
    options.shutdown_timeout = Duration::from_secs(5);
    options.sources.push(Box::new(PowerButton::open()?));
    let mut services = Vec::new();
    match stage {
        1 | 4 => {
            let mut late = ServiceSpec::daemon("late", ["/init", "late"]);
            late.readiness = Readiness::NotifyFd(3);
            let mut rescan = ServiceSpec::one_shot("rescan", ["/init", "rescan"]);
            rescan.requires = vec!["late".into()];
            services.extend([late, rescan, ServiceSpec::daemon("steady", ["/init", "steady"])]);
        }
        2 => return Err("this stage fails on purpose".into()),
        _ => {
            let line = format!("{} proof=kexec", read("/proc/cmdline"));
            let calm = Path::new(CALM);
            kexec::load(&calm.join("vmlinuz"), Some(&calm.join("initramfs")), &line)?;
        }
    }
    if stage == 4 {
        say(format_args!("by kexec: {}", boot.argument("proof").is_some()));
        services.extend(hold()?);
        boot.ending().last_wait = Duration::from_secs(1);
        boot.ending().disk_wait = Duration::from_secs(8);
    }
    let device = watchdog.as_ref().map(|watchdog| watchdog.device());
    if let Some(watchdog) = watchdog {
        options.sources.push(watchdog);
    }
    let timer = timer()?;
    options.sources.push(Box::new(Script { stage, device, timer, resumed: boot.resumed() }));
    Ok(unix::run(services, options, &mut |event: &Event| say(event))?)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The how manyth time the machine is started.
fn stage(boot: &Boot) -> Result<u32> {
    let path = Path::new(CALM).join("stage");
    let before = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    let before: u32 = before.unwrap_or(0);
    if boot.resumed() {
        return Ok(before);
    }
    let stage = before.saturating_add(1);
    let mut file = fs::File::create(path)?;
    writeln!(file, "{stage}")?;
    file.sync_all()?;
    Ok(stage)
}

fn disks() -> std::result::Result<(), String> {
    for place in [CALM, BUSY] {
        let name = place.trim_start_matches('/');
        let device = device(name).ok_or_else(|| format!("no partition {name}"))?;
        fs::create_dir_all(place).map_err(|error| error.to_string())?;
        mount(&device, place, "ext4", MountFlags::empty(), c"")
            .map_err(|error| format!("mount {name}: {error}"))?;
    }
    Ok(())
}

fn device(name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir("/sys/class/block").ok()?;
    entries.flatten().find_map(|entry| {
        let text = fs::read_to_string(entry.path().join("uevent")).ok()?;
        let found = text.lines().any(|line| line.strip_prefix("PARTNAME=") == Some(name));
        found.then(|| Path::new("/dev").join(entry.file_name()))
    })
}

/// Loads modules of devices that come late, and gives firmware from where the kernel does not look.
fn late() -> Result {
    let mut hotplug = HotPlug::listen(Loader::loadable_of_running_kernel()?)?;
    hotplug.firmware.push("/vendor".into());
    fs::write("/proc/self/fd/3", "\n")?;
    loop {
        hotplug.turn(&mut |done| say(format_args!("late: {done}")))?;
    }
}

/// Lets the watchdog come, and asks for firmware as a driver does.
fn rescan() -> Result {
    fs::write("/sys/bus/pci/rescan", "1")?;
    Loader::loadable_of_running_kernel()?.load(&["test_firmware"]);
    let ask = |name: &str| {
        fs::write("/sys/devices/virtual/misc/test_firmware/trigger_request", name)
            .map(|()| read("/dev/test_firmware"))
    };
    say(format_args!("firmware: {:?}", ask("late.bin")));
    say(format_args!("no firmware: {:?}", ask("none.bin").map_err(|error| error.kind())));
    Ok(())
}

fn busybox(arguments: &[&str]) -> Result {
    let done = Command::new(BUSYBOX).args(arguments).status()?;
    if done.success() { Ok(()) } else { Err(format!("{arguments:?}: {done}").into()) }
}

/// What a shutdown has to cope with: file systems on files of file systems, a swap file, a device of the
/// device mapper on a loop device; one file system that is frozen, and a process that waits for it and
/// cannot be killed; one that ignores to be asked; one that is stopped.
fn hold() -> Result<Vec<ServiceSpec>> {
    fs::create_dir_all("/calm/inner")?;
    busybox(&["mount", "-o", "loop", "/calm/inner.img", "/calm/inner"])?;
    fs::create_dir_all("/calm/inner/tmp")?;
    busybox(&["mount", "-t", "tmpfs", "tmp", "/calm/inner/tmp"])?;
    busybox(&["dd", "if=/dev/zero", "of=/calm/swap", "bs=1M", "count=4"])?;
    busybox(&["mkswap", "/calm/swap"])?;
    busybox(&["swapon", "/calm/swap"])?;
    busybox(&["losetup", "/dev/loop7", "/calm/second.img"])?;
    device_mapper::open("proof", "0 2048 linear /dev/loop7 0")?;
    fs::create_dir_all("/frozen")?;
    busybox(&["mount", "-o", "loop", "/busy/frozen.img", "/frozen"])?;
    busybox(&["fsfreeze", "--freeze", "/frozen"])?;
    let shell = |name: &str, script: &str| {
        let mut spec = ServiceSpec::daemon(name, [BUSYBOX, "sh", "-c", script]);
        spec.stop_timeout = Duration::from_secs(1);
        spec
    };
    Ok(vec![
        shell("stuck", "echo x > /frozen/file"),
        shell("deaf", "trap '' TERM; while :; do busybox sleep 1000; done"),
        shell("stopped", "kill -STOP $$; busybox sleep 1000"),
    ])
}

/// What happens in a stage once its services run.
#[derive(Debug)]
struct Script {
    stage: u32,
    resumed: bool,
    device: Option<watchdog::Device>,
    timer: OwnedFd,
}

fn timer() -> Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let turn = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let times = Itimerspec { it_interval: turn, it_value: turn };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    Ok(timer)
}

impl Script {
    /// With the watchdog armed: a panic, and after more than its time the loop hangs.
    fn cold(&self) -> std::io::Result<Vec<Request>> {
        let armed = Path::new("/run/armed");
        if !self.device.as_ref().is_some_and(watchdog::Device::is_armed) {
            return Ok(Vec::new());
        }
        let Ok(since) = fs::read_to_string(armed) else {
            fs::write(armed, uptime().as_secs().to_string())?;
            return Ok(Vec::new());
        };
        let since = Duration::from_secs(since.parse().unwrap_or(0));
        let fed = uptime().saturating_sub(since);
        if !self.resumed && fed > TIMEOUT / 3 {
            return Ok(vec![Request::Panic]);
        }
        if self.resumed && fed > TIMEOUT.saturating_add(Duration::from_secs(2)) {
            say(format_args!("fed for {} s, {:?}; hanging", fed.as_secs(), watchdog::identity()));
            loop {
                std::thread::park();
            }
        }
        Ok(Vec::new())
    }

    /// Whether a process cannot be killed yet, and one is stopped (proc_pid_stat(5)).
    fn held() -> bool {
        let states: Vec<String> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
            .collect();
        let any = |text: &str| states.iter().any(|stat| stat.contains(text));
        any("(busybox) D") && any("(busybox) T")
    }
}

impl Source for Script {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    fn take(&mut self) -> std::io::Result<Vec<Request>> {
        let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
        match self.stage {
            1 => self.cold(),
            4 if Self::held() && self.device.as_ref().is_some_and(watchdog::Device::is_armed) => {
                say("ready for the power button");
                self.stage = 5;
                Ok(Vec::new())
            }
            3 => {
                self.stage = 5;
                Ok(vec![Request::Shutdown(Outcome::Kexec)])
            }
            _ => Ok(Vec::new()),
        }
    }
}
