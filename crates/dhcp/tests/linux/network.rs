//! Two namespaces joined by a veth pair, the programs in them, and their end.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use kiln_dhcp::Lease;

/// Patience with a loaded machine; passing never takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Whether tests can run here. Where `CI` is set they must.
pub(crate) fn ready(tools: &[&str]) -> bool {
    let mut missing: Vec<&str> = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root");
    }
    missing.extend(["ip"].iter().chain(tools).filter(|tool| {
        !["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|d| Path::new(d).join(tool).exists())
    }));
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "missing in CI: {}", missing.join(", "));
    println!("skipped: {}", missing.join(", "));
    false
}

fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
    assert!(
        output.status.success(),
        "{}: {}",
        command.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A client's and a server's namespace with `eth0` in each. The server has 10.77.0.1/16.
pub(crate) struct Network {
    name: String,
    pub(crate) dir: tempfile::TempDir,
}

impl Network {
    pub(crate) fn new() -> Self {
        let name = format!("kd{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let network = Self { name, dir: tempfile::tempdir().unwrap() };
        let (client, server) = (network.client(), network.server());
        run(&["ip", "netns", "add", &client]);
        run(&["ip", "netns", "add", &server]);
        run(&[
            "ip", "-n", &client, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0",
            "netns", &server,
        ]);
        run(&["ip", "-n", &server, "link", "set", "lo", "up"]);
        run(&["ip", "-n", &server, "addr", "add", "10.77.0.1/16", "dev", "eth0"]);
        run(&["ip", "-n", &server, "link", "set", "eth0", "up"]);
        network
    }

    pub(crate) fn client(&self) -> String {
        format!("{}c", self.name)
    }

    pub(crate) fn server(&self) -> String {
        format!("{}s", self.name)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn client_ip(&self, arguments: &[&str]) -> String {
        run(&[&["ip", "-n", &self.client()], arguments].concat())
    }

    pub(crate) fn server_ip(&self, arguments: &[&str]) -> String {
        run(&[&["ip", "-n", &self.server()], arguments].concat())
    }

    /// IPv4 addresses of the client, as `ip` lists them.
    pub(crate) fn addresses(&self) -> String {
        self.client_ip(&["-4", "addr", "show", "dev", "eth0"])
    }

    /// State and MTU of the client's interface.
    pub(crate) fn link(&self) -> String {
        self.client_ip(&["link", "show", "dev", "eth0"])
    }

    pub(crate) fn routes(&self) -> String {
        self.client_ip(&["-4", "route", "show"])
    }

    pub(crate) fn spawn(&self, namespace: &str, command: &[&str]) -> Program {
        Program::spawn(&[&["ip", "netns", "exec", namespace], command].concat())
    }

    /// The example, which is the shell and nothing else.
    pub(crate) fn lease(&self, arguments: &[&str]) -> Program {
        let example = example();
        let command = [&[example.to_str().unwrap(), "eth0", "--verbose"], arguments].concat();
        self.spawn(&self.client(), &command)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [self.client(), self.server()] {
            let _ = Command::new("ip").args(["netns", "del", &namespace]).output();
        }
    }
}

/// Cargo builds examples before tests (but not when told to run one test only: then an old one is
/// found here), beside the directory of the test's own program.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/lease");
    assert!(path.exists(), "{}: not built", path.display());
    path
}

/// A running program; its lines are collected. Killed when dropped.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    pub(crate) seen: Vec<String>,
}

fn forward(from: impl Read + Send + 'static, to: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
}

impl Program {
    fn spawn(command: &[&str]) -> Self {
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        forward(child.stdout.take().unwrap(), sender.clone());
        forward(child.stderr.take().unwrap(), sender);
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line that contains `text`.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        self.line(text, PATIENCE).unwrap_or_else(|| panic!("no {text:?} in {:#?}", self.seen))
    }

    pub(crate) fn line(&mut self, text: &str, patience: Duration) -> Option<String> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).ok()?;
            self.seen.push(line.clone());
            if line.contains(text) {
                return Some(line);
            }
        }
    }

    /// The next lease printed as JSON.
    pub(crate) fn lease(&mut self) -> Lease {
        serde_json::from_str(&self.expect("{\"address\"")).unwrap()
    }

    pub(crate) fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// The exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("still running: {:#?}", self.seen);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
