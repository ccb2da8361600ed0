//! A machine whose services are containers, run by Debian's crun and runc: started, killed, stopped, and
//! never two of one service.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kiln::{Cache, Progress, debian, guest};
use kiln_e2e::{LONG, alone, said};
use kiln_initramfs::elf::{self, Resolver};
use kiln_tree::{Metadata, Node, Tree, host};
use serde_json::json;

/// What the containers do, by the first word of their service's name.
const SCRIPTS: [(&str, &str); 9] = [
    (
        "web",
        "trap 'echo stopping; exit 0' TERM; echo hello; echo >&3; exec 3>&-; \
         while :; do /bin/busybox sleep 0.2 & wait $!; done",
    ),
    ("behind", "trap 'exit 0' TERM; while :; do /bin/busybox sleep 0.2 & wait $!; done"),
    ("left", "while :; do /bin/busybox sleep 1; done"),
    (
        "deaf",
        "trap '' TERM; /bin/busybox setsid /bin/busybox sh -c 'while :; do /bin/busybox sleep 1; done' \
         \"child-$0\" & while :; do /bin/busybox sleep 1; done",
    ),
    ("told", "exec /bin/tell tell mark-$0"),
    ("helper", "trap 'exit 0' TERM; /bin/tell tell & wait $!"),
    ("outsider", "while :; do /bin/busybox sleep 1; done"),
    ("code", "echo to the log; exit 7"),
    ("broken", "exit 0"),
];

/// A bundle's `config.json` for a script that can be told by its last argument.
fn config(name: &str, script: &str, root: &str) -> String {
    let mut mounts = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
    ]);
    let is_told = name.starts_with("told");
    if let Some(list) = mounts.as_array_mut().filter(|_| is_told) {
        list.push(json!({ "destination": "/run", "type": "tmpfs", "source": "tmpfs" }));
    }
    // as an ordinary user, too, one says that one is ready
    let user = if is_told { 1000 } else { 0 };
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": user, "gid": user },
            "args": ["/bin/busybox", "sh", "-c", script.replace("$0", name), format!("mark-{name}")],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
        },
        "root": { "path": root, "readonly": true },
        "hostname": name,
        "mounts": mounts,
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }],
        },
    })
    .to_string()
}

fn tree() -> Result<Tree> {
    let cache = Cache::of_workspace();
    let sysroot = debian::sysroot(&cache, &["busybox-static", "crun", "runc"])?;
    let mut resolver = Resolver::new(elf::Options::new(&sysroot))?;
    let roots = [("usr/bin/crun", "/usr/bin/crun"), ("usr/sbin/runc", "/usr/bin/runc")]
        .map(|(from, to)| elf::Root::placed(sysroot.join(from), to));
    let mut tree = Tree::new();
    resolver.closure_of(&roots)?.add_to(&mut tree, &host::Policy::default())?;
    let init = guest::build("kiln-e2e-init", "containers", &Progress::on_stderr())?;
    let init = std::fs::read(init)?;
    tree.insert("init", Node::executable(init.clone()))?;
    tree.insert("rootfs/bin/tell", Node::executable(init))?;
    let busybox = std::fs::read(sysroot.join("bin/busybox"))?;
    tree.insert("rootfs/bin/busybox", Node::executable(busybox))?;
    for directory in ["rootfs/proc", "rootfs/dev", "rootfs/run"] {
        tree.insert(directory, Node::directory().with(Metadata::new(0o755)))?;
    }
    for runtime in ["crun", "runc"] {
        for (word, script) in SCRIPTS {
            let name = format!("{word}-{runtime}");
            let root = if word == "broken" { "nowhere" } else { "/rootfs" };
            let path = format!("bundles/{name}/config.json");
            tree.insert(path, Node::file(config(&name, script, root)))?;
        }
    }
    Ok(tree)
}

#[test]
fn services_are_containers_of_either_runtime() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let kernel = debian::kernel(&Cache::of_workspace(), "linux-image-amd64")?;
    let mut machine = alone::machine(kernel.image, &tree()?, directory.path())?;
    (machine.memory, machine.processors) = (1024, 1);
    let began = Instant::now();
    let mut vm = machine.start()?;
    let done = (|| -> Result<()> {
        // Each in time for a machine that is emulated, on a host with other work.
        for line in ["web-crun: said hello", "deaf-crun: 0 processes", "web-runc: said hello"] {
            vm.wait_for(line, LONG)?;
        }
        vm.wait_for("all services stopped: power off", LONG)?;
        vm.wait_exit(LONG)?;
        Ok(())
    })();
    let console = vm.console().tail(400);
    done.with_context(|| console.clone())?;
    let all = said(&vm, "proof: ");
    println!("{:.1?}\n{}", began.elapsed(), all.join("\n"));
    for runtime in ["crun", "runc"] {
        for line in [
            "web-RUNTIME: group 0::/services/web-RUNTIME.service",
            "web-RUNTIME: shim killed: new true, at most 1 at a time",
            "web-RUNTIME: container killed: new true, at most 1 at a time",
            "web-RUNTIME: said hello 3 times",
            "left-RUNTIME: alone true",
            "outsider-RUNTIME: unready",
            "told-RUNTIME: up; said at /run/notify-socket by 1 | said at /run/notify-socket by 1",
            "told-RUNTIME: stopped, socket left false",
            "helper-RUNTIME: up; said at /dev/notify-socket by ",
            "helper-RUNTIME: stopped, socket left false",
            "code-RUNTIME: exit code 7; to the log",
            "broken-RUNTIME: exit code 125; container broken-RUNTIME: /bundles/broken-RUNTIME/config.json: \
             root.path: /bundles/broken-RUNTIME/nowhere: No such file or directory",
            "heard of it true",
            "deaf-RUNTIME: killed, it did not stop in time",
            "deaf-RUNTIME: 0 processes left",
        ] {
            let line = line.replace("RUNTIME", runtime);
            ensure!(all.iter().any(|said| said.contains(&line)), "{line:?} is not in\n{console}");
        }
        let place = |line: &str| {
            let line = line.replace("RUNTIME", runtime);
            all.iter().position(|said| said.starts_with(&line))
        };
        let stopped = place("behind-RUNTIME: stopped").context("behind was not stopped")?;
        ensure!(Some(stopped) < place("web-RUNTIME: stopping"), "order\n{console}");
        // Ended as the container did that was killed, and by the kill of its own.
        let killed = format!("web-{runtime}: process ");
        let killed = all
            .iter()
            .filter(|said| said.starts_with(&killed) && said.contains("killed by SIGKILL"));
        ensure!(killed.count() == 2, "deaths of web-{runtime}\n{console}");
    }
    let missing =
        "missing: exit code 125; container missing: no OCI runtime \"nonesuch\": looked in";
    ensure!(all.iter().any(|said| said.starts_with(missing)), "{missing:?} is not in\n{console}");
    ensure!(!console.contains("FAILED") && !console.contains("panic"), "{console}");
    Ok(())
}
