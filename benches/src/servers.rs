//! Servers of files in a network namespace, and what they use.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Result, machine};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where ours listens, and where the others do.
pub const OURS: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// See [`OURS`].
pub const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);

/// Two namespaces joined by a veth pair. This thread, and what it starts, is in that of the clients.
#[derive(Debug)]
pub struct Network {
    name: String,
}

impl Network {
    /// Makes both and enters one.
    ///
    /// # Errors
    /// What ip(8) says.
    pub fn new() -> Result<Self> {
        let name = format!("kn{}", std::process::id());
        let network = Self { name };
        let (client, server) = (network.client(), network.server());
        let ip = |words: &str| machine::run("ip", |ip| ip.args(words.split(' ')));
        ip(&format!("netns add {client}"))?;
        ip(&format!("netns add {server}"))?;
        ip(&format!("-n {client} link add eth0 type veth peer name eth0 netns {server}"))?;
        for (name, address) in
            [(&server, OURS), (&server, THEIRS), (&client, [10, 78, 0, 9].into())]
        {
            ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
        }
        for name in [&server, &client] {
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} link set eth0 up"))?;
        }
        let inside = fs::File::open(format!("/run/netns/{client}"))?;
        nix::sched::setns(inside, nix::sched::CloneFlags::CLONE_NEWNET)?;
        Ok(network)
    }

    fn client(&self) -> String {
        format!("{}c", self.name)
    }

    fn server(&self) -> String {
        format!("{}s", self.name)
    }

    /// Starts a program beside the clients' namespace. What it says is kept in a file.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, program: &Path, said: &Path, words: &[&str]) -> Result<Process> {
        let said = fs::File::create(said)?;
        let mut command = machine::command("ip");
        command.args(["netns", "exec", &self.server()]).arg(program).args(words);
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        Ok(Process(command.spawn()?))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in [self.client(), self.server()] {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

/// A server with the processes that it has begun. It ends when dropped.
#[derive(Debug)]
pub struct Process(Child);

/// What a server has used.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// Seconds of CPU, since it was started.
    pub cpu: f64,
    /// The most memory that it held since [`Process::forget`], in MiB: `VmHWM` of its processes together, of which
    /// each counts what they share.
    pub memory: f64,
}

impl Process {
    fn all(&self) -> Vec<u32> {
        let own = self.0.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|id| id.parse().ok());
        std::iter::once(own).chain(children).collect()
    }

    /// Lets the most memory be what is held now.
    ///
    /// # Errors
    /// It cannot be asked for.
    pub fn forget(&self) -> Result<()> {
        for id in self.all() {
            fs::write(format!("/proc/{id}/clear_refs"), "5")?;
        }
        Ok(())
    }

    /// What it has used.
    ///
    /// # Errors
    /// It is gone.
    pub fn used(&self) -> Result<Used> {
        let mut used = Used { cpu: 0.0, memory: 0.0 };
        for id in self.all() {
            let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
            // utime and stime, the 14th and 15th of proc_pid_stat(5), of which there are 100 a second
            let (_, fields) = stat.rsplit_once(')').ok_or("/proc: no name")?;
            let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
            used.cpu += ticks.sum::<std::result::Result<f64, _>>()? / 100.0;
            let status = fs::read_to_string(format!("/proc/{id}/status"))?;
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let peak = peak.and_then(|it| it.split_whitespace().next()).ok_or("/proc: no VmHWM")?;
            used.memory += peak.parse::<f64>()? / 1024.0;
        }
        Ok(used)
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    /// It does not.
    pub fn listens(&mut self, at: SocketAddr, said: &Path) -> Result<()> {
        self.until(said, || TcpStream::connect_timeout(&at, PATIENCE).is_ok())
    }

    /// Waits until it has said something.
    ///
    /// # Errors
    /// It does not.
    pub fn says(&mut self, what: &str, said: &Path) -> Result<()> {
        self.until(said, || fs::read_to_string(said).is_ok_and(|text| text.contains(what)))
    }

    fn until(&mut self, said: &Path, is_so: impl Fn() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !is_so() {
            if self.0.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                let text = fs::read_to_string(said).unwrap_or_default();
                return Err(format!("a server does not listen: {text}").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx ends its workers where it may end itself
        let id = i32::try_from(self.0.id()).map(nix::unistd::Pid::from_raw);
        if let Ok(id) = id
            && nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).is_ok()
        {
            let begun = Instant::now();
            while begun.elapsed() < PATIENCE {
                if !matches!(self.0.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
