//! A server, the images that it is given, and what it leaves on the machine.

use std::future::Future;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiln_initramfs::elf::{Options, Resolver};
use kiln_network::container::Namespace;
use kiln_oci::appc::{self, App, Dependency, ImageManifest, Isolator};
use kiln_oci::{Compression, Layer, Settings};
use kiln_tree::{Node, Tree, host};
use kurma_client::{Client, Create, Endpoint, Pod, PodState};
use serde_json::{Value, json};

/// Patience with a loaded machine; passing never takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whether tests can run here. Where `CI` is set they must.
pub(crate) fn ready() -> bool {
    let mut missing: Vec<&str> = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root");
    }
    let here = |tool: &str| {
        ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
            .iter()
            .any(|path| Path::new(path).join(tool).exists())
    };
    missing.extend(["crun", "busybox", "ip", "nft", "unshare"].iter().filter(|tool| !here(tool)));
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "missing in CI: {}", missing.join(", "));
    println!("skipped: {}", missing.join(", "));
    false
}

/// A server in a network of its own.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    namespace: Namespace,
    process: Option<Child>,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // pods outlive their server
            for pod in
                self.runtime.block_on(self_client(self.directory.path()).pods()).unwrap_or_default()
            {
                let _ =
                    self.runtime.block_on(self_client(self.directory.path()).destroy(&pod.uuid));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir(cgroup(self.directory.path()));
    }
}

fn self_client(directory: &Path) -> Client {
    Client::new(Endpoint::unix(directory.join("run/kurma.sock")))
}

/// A control group for the server of a directory.
fn cgroup(directory: &Path) -> PathBuf {
    let name = directory.file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned();
    Path::new("/sys/fs/cgroup").join(format!("kurma-{name}"))
}

impl Server {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let namespace = Namespace::new().unwrap();
        let lo = namespace.run(|| run("ip", &["link", "set", "lo", "up"])).unwrap();
        assert_eq!(lo, "");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut server = Self { directory, namespace, process: None, runtime };
        server.restart();
        server
    }

    /// Starts it, in mounts of its own where control groups are all of version 2.
    pub(crate) fn restart(&mut self) {
        let place = self.directory.path();
        let socket = place.join("run/kurma.sock");
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg("mount -t cgroup2 none /sys/fs/cgroup; exec \"$0\" \"$@\"");
        command.arg(env!("CARGO_BIN_EXE_kurma-server"));
        command.arg("--directory").arg(place.join("var"));
        command.arg("--runtime").arg(place.join("run"));
        command.arg("--cgroup").arg(cgroup(place));
        command.args(["--patience", "2", "--volume", "/usr/share"]);
        command.arg("--config").arg(self.configuration());
        let upgrades = self.path("upgrades");
        if upgrades.exists() {
            command.arg("--upgrades").arg(upgrades);
        }
        command.stdin(Stdio::null()).process_group(0);
        let log = std::fs::File::create(place.join("server.log")).unwrap();
        command.stderr(log);
        self.process = Some(self.namespace.run(|| command.spawn().unwrap()).unwrap());
        let begun = Instant::now();
        while self.wait(self.client().pods()).is_err() {
            assert!(
                begun.elapsed() < PATIENCE,
                "{}",
                std::fs::read_to_string(place.join("server.log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The file of its configuration, which is empty unless a test writes it.
    pub(crate) fn configuration(&self) -> PathBuf {
        let path = self.directory.path().join("kurma.yml");
        if !path.exists() {
            std::fs::write(&path, "").unwrap();
        }
        path
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("server.log")).unwrap()
    }

    /// Waits until it has said something.
    pub(crate) fn until_log(&self, what: &str) {
        let begun = Instant::now();
        while !self.log().contains(what) {
            assert!(begun.elapsed() < PATIENCE, "{what:?} is not in\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it, as nobody can prepare for.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Asks it to end, which leaves its pods alone.
    pub(crate) fn end(&mut self) {
        let mut process = self.process.take().unwrap();
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(process.wait().unwrap().success());
    }

    /// The server's process.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn client(&self) -> Client {
        self_client(self.directory.path())
    }

    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Does something in the server's network.
    pub(crate) fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(what).unwrap()
    }

    /// Gives it an image of busybox whose app is a line for its shell.
    pub(crate) fn image(&self, name: &str, line: &str) {
        self.image_with(name, line, Vec::new());
    }

    pub(crate) fn image_with(&self, name: &str, line: &str, isolators: Vec<Isolator>) {
        let path = self.path("image.aci");
        let mut app = App::new(["/bin/sh", "-c", line].map(str::to_owned).to_vec());
        app.isolators = isolators;
        std::fs::write(&path, aci(name, app)).unwrap();
        self.wait(self.client().upload(&path, |_| {})).unwrap();
    }

    pub(crate) fn create(&self, create: Value) -> kurma_client::Result<Pod> {
        let create: Create = serde_json::from_value(create).unwrap();
        self.wait(self.client().create(&create))
    }

    pub(crate) fn pod(&self, pod: &str) -> Pod {
        self.wait(self.client().pod(pod)).unwrap()
    }

    /// Waits until a pod is in a state.
    pub(crate) fn until(&self, pod: &str, state: PodState) -> Pod {
        let begun = Instant::now();
        loop {
            let pod = self.pod(pod);
            if pod.state == state {
                return pod;
            }
            assert!(begun.elapsed() < PATIENCE, "{pod:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What an app has said.
    pub(crate) fn said(&self, pod: &str) -> String {
        self.wait(async {
            let mut logs = self.client().logs(pod, None, None, false).await.unwrap();
            let mut said = Vec::new();
            while let Some(piece) = logs.next().await.unwrap() {
                said.extend_from_slice(&piece);
            }
            String::from_utf8(said).unwrap()
        })
    }

    /// Waits until an app has said something.
    pub(crate) fn until_said(&self, pod: &str, what: &str) {
        let begun = Instant::now();
        while !self.said(pod).contains(what) {
            assert!(begun.elapsed() < PATIENCE, "{what:?} is not in {:?}", self.said(pod));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What there is on the machine because of pods, each kind by name.
    pub(crate) fn left(&self) -> Value {
        let place = self.directory.path().display().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(&place) && !line.contains("--directory")
        });
        let mounts = self.process.as_ref().map(|server| {
            let path = format!("/proc/{}/mountinfo", server.id());
            std::fs::read_to_string(path)
                .unwrap()
                .lines()
                .filter(|line| line.contains(&place))
                .count()
        });
        let names = |path: PathBuf| {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            let mut names: Vec<String> =
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        let groups = self.process.as_ref().map(|server| {
            let root = PathBuf::from(format!("/proc/{}/root", server.id()));
            let group = root.join(cgroup(self.directory.path()).strip_prefix("/").unwrap());
            names(group).into_iter().filter(|name| name.len() == 36).count()
        });
        let links = self.inside(|| run("ip", &["-br", "link", "show", "type", "veth"]));
        let rules = self.inside(|| run("nft", &["list", "ruleset"]));
        let leases =
            std::fs::read_to_string(self.path("run/networks/default.json")).unwrap_or_default();
        let leases = serde_json::from_str::<Value>(&leases).unwrap_or_default();
        json!({
            "processes": processes.count(),
            "mounts": mounts,
            "groups": groups,
            "links": links.lines().count(),
            "forwards": rules.lines().filter(|line| line.contains("dnat")).count(),
            "leases": leases.to_string().matches("\"owner\"").count(),
            "kept": names(self.path("var/pods")),
            "runtime": names(self.path("run/pods")),
        })
    }
}

/// Runs a program, and gives what it says.
pub(crate) fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {}: {said}", words.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// The files of an image: this machine's busybox, and what it needs.
pub(crate) fn busybox() -> Tree {
    let mut tree = Tree::new();
    let program =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let program = program.unwrap();
    let closure = Resolver::new(Options::new("/")).unwrap().closure(&[program]).unwrap();
    closure.add_to(&mut tree, &host::Policy::default()).unwrap();
    for name in run(program, &["--list"]).lines().filter(|name| *name != "busybox") {
        tree.insert(format!("usr/bin/{name}").as_str(), Node::symlink(program)).unwrap();
    }
    if !tree.contains("bin") {
        tree.insert("bin", Node::symlink("usr/bin")).unwrap();
    }
    tree.insert("etc/passwd", Node::file("root:x:0:0::/:/bin/sh\nweb:x:33:33::/:/bin/sh\n"))
        .unwrap();
    tree.insert("etc/group", Node::file("root:x:0:\nweb:x:33:\n")).unwrap();
    tree
}

/// An image as it is sent.
pub(crate) fn aci(name: &str, app: App) -> Vec<u8> {
    let mut manifest = ImageManifest::new(name.parse().unwrap());
    for (label, value) in [("version", "1.0"), ("os", "linux"), ("arch", "amd64")] {
        manifest.labels.insert(label.parse().unwrap(), value.into());
    }
    manifest.app = Some(app);
    appc::write(&manifest, &busybox(), Compression::Gzip, Vec::new()).unwrap().0
}

/// An image as `docker save` writes it, whose user is 33.
pub(crate) fn docker(tag: &str, line: &str) -> Vec<u8> {
    let mut root = busybox();
    let mut data = Node::directory();
    data.meta.uid = 33;
    root.insert("data", data).unwrap();
    let layer = Layer::pack(&root, Compression::None).unwrap();
    let mut settings = Settings::default();
    settings.entrypoint = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    settings.user = Some("web".into());
    settings.env = vec!["WORD=said".into()];
    settings.working_dir = Some("/usr".into());
    let image = kiln_oci::Image::build(vec![layer], &settings).unwrap();
    kiln_oci::docker::write(
        Vec::new(),
        &[(vec![tag.to_owned()], &image)],
        kiln_oci::docker::Form::Legacy,
    )
    .unwrap()
}

/// An image with one file, upon another.
pub(crate) fn upon(name: &str, below: &str, line: &str) -> Vec<u8> {
    let mut manifest = ImageManifest::new(name.parse().unwrap());
    manifest.app = Some(App::new(["/bin/sh", "-c", line].map(str::to_owned).to_vec()));
    manifest.dependencies = vec![Dependency::new(below.parse().unwrap())];
    let mut root = Tree::new();
    root.insert("etc/above", Node::file("written above\n")).unwrap();
    appc::write(&manifest, &root, Compression::None, Vec::new()).unwrap().0
}
