//! An image booted in QEMU, watched to its Nomad, given a job, shut down in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln::qemu::{Bus, Card, Disk, Firmware, Format, Forward, Machine, Nic, Vm, format_of};
use kiln::{Progress, machine};
use serde::Serialize;
use serde_json::Value;

use crate::agent::{self, Agent, Credentials};

/// How long a guest may take to have Nomad ready. A machine without acceleration that is busy with
/// other work has been seen to take a minute.
const READY: Duration = Duration::from_secs(300);
/// How long a job may take.
const JOB: Duration = Duration::from_secs(300);
/// How long the guest may take to stop everything and power off.
const STOP: Duration = Duration::from_secs(120);
/// Nomad's ports: HTTP, RPC and Serf.
const PORTS: [u16; 3] = [4646, 4647, 4648];

/// How an image is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The image: a disk, or an initramfs with the kernel beside it.
    pub image: PathBuf,
    /// A disk whose label says that Nomad's data belongs on it; written to.
    pub data: Option<PathBuf>,
    /// A disk with the node's own configuration and keys ([`crate::cluster`]); never written to.
    pub config: Option<PathBuf>,
    /// How Nomad is spoken to, if over TLS.
    pub credentials: Option<Credentials>,
    /// Words for the kernel's command line, after those that an initramfs was built for.
    pub command_line: Vec<String>,
    /// Memory in MiB.
    pub memory: u32,
    /// The network card.
    pub nic: Nic,
    /// How the disk is attached.
    pub bus: Bus,
    /// What starts it.
    pub firmware: Firmware,
    /// Whether the host's ports are Nomad's own (4646–4648); else free ones are chosen.
    pub nomads_ports: bool,
    /// TCP ports of the guest, beside Nomad's, that free ports of the host lead to
    /// ([`Vm::forwarded`] says which).
    pub ports: Vec<u16>,
    /// Whether the guest has a network to ask for an address.
    pub network: bool,
    /// Further network cards.
    pub cards: Vec<Card>,
    /// Set when the user wants to stop.
    pub interrupt: Option<Arc<AtomicBool>>,
}

impl Options {
    /// An image in a machine with 2 GiB and virtio, reached by free ports.
    #[must_use]
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            data: None,
            config: None,
            credentials: None,
            command_line: Vec::new(),
            memory: 2048,
            nic: Nic::Virtio,
            bus: Bus::Virtio,
            firmware: Firmware::Bios,
            nomads_ports: false,
            ports: Vec::new(),
            network: true,
            cards: Vec::new(),
            interrupt: None,
        }
    }
}

/// A NomadOS that is running.
#[derive(Debug)]
pub struct Running {
    /// The machine.
    pub vm: Vm,
    /// Its Nomad.
    pub agent: Agent,
    image: PathBuf,
    times: Vec<(&'static str, Instant)>,
}

/// Where the time went.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// What was going on.
    pub name: String,
    /// For how many seconds.
    pub seconds: f64,
}

/// Starts an image.
///
/// # Errors
/// When the image cannot be read or QEMU does not start.
pub fn start(options: &Options) -> Result<Running> {
    let mut machine = Machine::default();
    machine.memory = options.memory;
    machine.nic = Some(options.nic);
    machine.network = options.network;
    machine.cards.clone_from(&options.cards);
    machine.firmware.clone_from(&options.firmware);
    machine.interrupt.clone_from(&options.interrupt);
    if options.network {
        let host = |port| if options.nomads_ports { port } else { 0 };
        machine.forwards =
            PORTS.map(|port| Forward { udp: false, host: host(port), guest: port }).to_vec();
        machine.forwards.push(Forward { udp: true, host: host(PORTS[2]), guest: PORTS[2] });
        let more = options.ports.iter();
        machine.forwards.extend(more.map(|port| Forward { udp: false, host: 0, guest: *port }));
    }
    machine::insert(&mut machine, &options.image, false, "console=ttyS0")?;
    if let Some(disk) = machine.disks.first_mut() {
        disk.bus = options.bus;
    }
    match &mut machine.kernel {
        Some(direct) => {
            let words = [std::slice::from_ref(&direct.command_line), &options.command_line];
            direct.command_line = words.concat().join(" ");
        }
        None if options.command_line.is_empty() => {}
        None => bail!("{}: a disk has its command line in it", options.image.display()),
    }
    if let Some(data) = &options.data {
        let mut disk = Disk::new(data, format_of(data).unwrap_or(Format::Raw));
        disk.bus = options.bus;
        disk.snapshot = false;
        machine.disks.push(disk);
    }
    if let Some(config) = &options.config {
        let mut disk = Disk::new(config, Format::Raw);
        disk.bus = options.bus;
        machine.disks.push(disk);
    }
    let vm = machine.start()?;
    let port = vm.forwarded(PORTS[0]).unwrap_or(PORTS[0]);
    let agent = match &options.credentials {
        Some(credentials) => Agent::over_tls(port, credentials)?,
        None => Agent::at_port(port),
    };
    let agent = agent.interrupted_by(options.interrupt.clone());
    let times = vec![("start", vm.started())];
    Ok(Running { vm, agent, image: options.image.clone(), times })
}

impl Running {
    /// The image that it was started from.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The console so far, each line with the seconds since QEMU was started.
    #[must_use]
    pub fn console_text(&self) -> String {
        let since = |at: Instant| at.saturating_duration_since(self.vm.started()).as_secs_f64();
        let lines = self.vm.console().lines();
        lines.iter().map(|line| format!("{:8.3} {}\n", since(line.at), line.text)).collect()
    }

    /// Waits until a leader is elected and the node takes jobs.
    ///
    /// # Errors
    /// When the guest dies, or after five minutes, with the console's last lines.
    pub fn wait_ready(&mut self, progress: &Progress) -> Result<()> {
        let step = progress.step("waiting for Nomad in the guest");
        let agent = self.agent.clone();
        self.vm.wait_until("a ready Nomad node", READY, |vm| {
            step.update(vm.console().tail(1));
            agent.is_ready()
        })?;
        self.times.push(("ready", Instant::now()));
        step.done();
        Ok(())
    }

    /// Runs a job to its end and gives what its first task wrote.
    ///
    /// # Errors
    /// When the job fails, with its events.
    pub fn run_job(&mut self, job: &Value, progress: &Progress) -> Result<String> {
        let id = job["ID"].as_str().unwrap_or("?").to_owned();
        let step = progress.step(format!("running the job {id}"));
        let allocation = self.agent.run(job, JOB)?;
        self.times.push(("job", Instant::now()));
        let task = job["TaskGroups"][0]["Tasks"][0]["Name"].as_str().unwrap_or_default();
        let output = self.agent.log(&allocation.id, task, "stdout")?;
        step.done();
        Ok(output)
    }

    /// Presses the power button and waits until everything has stopped and the machine is off.
    ///
    /// # Errors
    /// When the guest does not stop within two minutes.
    pub fn shut_down(&mut self, progress: &Progress) -> Result<Duration> {
        self.shut_down_within(STOP, progress)
    }

    /// The same with a time limit.
    ///
    /// # Errors
    /// When the guest does not stop by then.
    pub fn shut_down_within(&mut self, limit: Duration, progress: &Progress) -> Result<Duration> {
        let step = progress.step("shutting the guest down in order");
        let pressed = Instant::now();
        self.vm.power_button()?;
        self.vm.wait_exit(limit)?;
        step.done();
        Ok(pressed.elapsed())
    }

    /// Where the time went since QEMU was started, as far as the guest has come.
    #[must_use]
    pub fn phases(&self) -> Vec<Phase> {
        let mut phases = Vec::new();
        let mut last = self.vm.started();
        let mut add = |name: &str, at: Instant| {
            let seconds = at.saturating_duration_since(last).as_secs_f64();
            phases.push(Phase { name: name.into(), seconds });
            last = last.max(at);
        };
        // A mark of the guest carries its own clock, which started with the kernel.
        if let Some((mark, uptime)) = self.mark("/init started") {
            if let Some(kernel) = mark.checked_sub(uptime) {
                add("firmware and loader", kernel);
            }
            add("kernel", mark);
        }
        if let Some((mark, _)) = self.mark("network: started") {
            add("init", mark);
        }
        if let Some((mark, _)) = self.mark("network: up") {
            add("DHCP", mark);
        }
        for (name, at) in &self.times {
            match *name {
                "ready" => add("Nomad ready", *at),
                "job" => add("job done", *at),
                _ => {}
            }
        }
        phases
    }

    /// When a line with this mark came, and the guest's uptime that it says in brackets.
    fn mark(&self, text: &str) -> Option<(Instant, Duration)> {
        let (_, line) = self.vm.console().find(text, 0, Duration::ZERO)?;
        let seconds = line.text.split('[').nth(1)?.split(']').next()?.trim().parse().ok()?;
        Some((line.at, Duration::try_from_secs_f64(seconds).ok()?))
    }
}

/// A job from a file: the object that Nomad's API takes, with or without `Job` around it.
///
/// # Errors
/// When it cannot be read or is no JSON.
pub fn read_job(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let value: Value = serde_json::from_str(&text)
        .with_context(|| format!("{}: jobs are given as JSON", path.display()))?;
    Ok(value.get("Job").cloned().unwrap_or(value))
}

/// The job that shows that a machine works.
#[must_use]
pub fn hello() -> Value {
    agent::batch_job(
        "hello",
        "exec",
        "echo \"hello from $(hostname), task $NOMAD_TASK_NAME of allocation $NOMAD_SHORT_ALLOC_ID\"",
    )
}

/// Phases as a table with a bar for each.
#[must_use]
pub fn chart(phases: &[Phase]) -> String {
    let total: f64 = phases.iter().map(|phase| phase.seconds).sum();
    let mut text = String::new();
    for phase in phases {
        let share = if total > 0.0 { phase.seconds / total } else { 0.0 };
        let bar = "█".repeat(bar_length(share));
        text +=
            &format!("{:20} {:7.2} s  {:3.0} %  {bar}\n", phase.name, phase.seconds, share * 100.0);
    }
    text + &format!("{:20} {total:7.2} s\n", "together")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of 40 columns"
)]
fn bar_length(share: f64) -> usize {
    (share.clamp(0.0, 1.0) * 40.0).round() as usize
}
