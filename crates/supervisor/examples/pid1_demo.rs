//! A guest's whole `/init`, to try PID 1 in a virtual machine by hand:
//!
//! ```text
//! RUSTFLAGS="-C target-feature=+crt-static" cargo build -p kiln-supervisor \
//!     --features pid1 --example pid1_demo --target x86_64-unknown-linux-gnu
//! # root/: init (this), bin/busybox, lib/modules/RELEASE with modules.dep
//! (cd root && find . | cpio -o -H newc) > initrd
//! qemu-system-x86_64 -accel tcg -cpu max -m 512 -nographic -kernel vmlinuz -initrd initrd \
//!     -append "console=ttyS0 demo.panic" -qmp unix:qmp,server,nowait
//! ```
//! Words on the kernel's command line: `demo.panic` (let the supervisor panic once, after 2 s),
//! `demo.copy` (leave rootfs by copying), `demo.off` (power off after 4 s by a service that sends
//! SIGUSR2), `demo.shell` (a shell on the console).
//!
//! Anywhere, without rights: `cargo run -p kiln-supervisor --features pid1 --example pid1_demo --
//! rehearse` says what its boot would do here.

use std::os::fd::{AsFd, BorrowedFd};

use kiln_supervisor::pid1::{self, Boot, PowerButton, console, mounts, switch_root};
use kiln_supervisor::unix::{self, Console, OnPanic, Options, Request, Reserve, Source};
use kiln_supervisor::{Readiness, ServiceSpec};

/// For when the kernel gives no memory: process 1 must not end.
#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

fn main() {
    if std::env::args().nth(1).as_deref() == Some("rehearse") {
        let mut boot = Boot::rehearsal();
        boot.mounts(mounts::STANDARD).console().hostname("demo").loopback().sysctl();
        boot.modules(&["virtio_net", "button", "evdev"], 8).machine_id(None);
        boot.switch_root(switch_root::Method::Bind);
        for step in boot.steps() {
            println!("{step}");
        }
        return;
    }
    pid1::start(|boot| {
        boot.mounts(mounts::STANDARD).console().hostname("demo").loopback();
        let copy = boot.argument("demo.copy").is_some();
        let method = match copy {
            true => switch_root::Method::Copy { size: None },
            false => switch_root::Method::Bind,
        };
        memory("before");
        boot.modules(&["virtio_net", "button", "evdev"], 8).switch_root(method);
        memory("after");
        for step in boot.steps() {
            eprintln!("demo: {step}");
        }

        let sh = |text: &str| ["/bin/busybox", "sh", "-c", text].map(str::to_owned);
        let mut ready = ServiceSpec::daemon("ready", sh("echo >&3; exec busybox sleep 1000"));
        ready.readiness = Readiness::NotifyFd(3);
        let mut ticker = ServiceSpec::daemon("ticker", sh("while :; do busybox sleep 1; done"));
        ticker.requires = vec!["ready".into()];
        let deaf = sh("trap '' TERM; while :; do busybox sleep 1; done");
        let mut deaf = ServiceSpec::daemon("deaf", deaf);
        deaf.stop_timeout = std::time::Duration::from_secs(2);
        let facts = sh("busybox ip addr show lo; busybox ls /sys/class/net /sys/class/input; \
                        busybox cat /sys/fs/cgroup/cgroup.subtree_control; busybox mkdir -p /tmp/r; \
                        busybox mount -t tmpfs r /tmp/r && busybox mkdir /tmp/r/old && cd /tmp/r && \
                        busybox unshare -m busybox pivot_root . old && echo pivot_root works; \
                        busybox cat /proc/1/oom_score_adj /proc/self/oom_score_adj");
        let mut services = vec![ready, ticker, deaf, ServiceSpec::one_shot("facts", facts)];
        services.push(ServiceSpec::one_shot("orphans", sh("(busybox sleep 1 &) ; exit 0")));
        if boot.argument("demo.off").is_some() {
            services
                .push(ServiceSpec::one_shot("off", sh("busybox sleep 4; busybox kill -USR2 1")));
        }
        if boot.argument("demo.shell").is_some() {
            services.push(console::shell(["/bin/busybox", "sh"]));
        }

        let mut options = Options::default();
        options.console = Console::Events;
        options.on_panic = OnPanic::Reexec { limit: 3 };
        let button = PowerButton::open()?;
        eprintln!("demo: {} power buttons", button.devices());
        options.sources.push(Box::new(button));
        if boot.argument("demo.panic").is_some() && !boot.resumed() {
            options.sources.push(Box::new(PanicLater::new()?));
        }
        Ok(unix::run(services, options, &mut |_| {})?)
    })
}

fn memory(when: &str) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = text.lines().find(|line| line.starts_with("MemAvailable")).unwrap_or_default();
    eprintln!("demo: {when} leaving rootfs: {free}");
}

/// Asks the supervisor to panic, 2 s from now.
#[derive(Debug)]
struct PanicLater(std::io::PipeReader);

impl PanicLater {
    fn new() -> std::io::Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_secs(2));
            drop(writer);
        });
        Ok(Self(reader))
    }
}

impl Source for PanicLater {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn take(&mut self) -> std::io::Result<Vec<Request>> {
        Ok(vec![Request::Panic])
    }
}
