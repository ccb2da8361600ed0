//! A process beside an app, through the door: crun, a real pod, a websocket over TLS.
//!
//! Without the usual harness: the program is the pod's stager as well.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use kiln_initramfs::elf::{Options as ElfOptions, Resolver};
use kiln_oci::Compression;
use kiln_oci::appc::{self, App, ImageManifest};
use kiln_tree::{Node, Tree, host};
use kurma_api::{Door, Options};
use kurma_client::enter::{Ended, Enter, INPUT, Said};
use kurma_client::{Client, Create, Endpoint};
use kurma_server::{ApiOptions, Images, Listener, PodOptions, Pods};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

/// Patience with a loaded machine; passing never takes this long.
const PATIENCE: Duration = Duration::from_secs(120);

fn missing() -> Vec<&'static str> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root");
    }
    let here = |tool: &str| {
        ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
            .iter()
            .any(|path| Path::new(path).join(tool).exists())
    };
    missing.extend(["crun", "busybox", "unshare"].iter().filter(|tool| !here(tool)));
    missing
}

/// An image of this machine's busybox that sleeps.
fn image() -> Vec<u8> {
    let mut tree = Tree::new();
    let program =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let program = program.unwrap();
    let closure = Resolver::new(ElfOptions::new("/")).unwrap().closure(&[program]).unwrap();
    closure.add_to(&mut tree, &host::Policy::default()).unwrap();
    for name in ["sh", "cat", "sleep", "hostname"] {
        tree.insert(format!("usr/bin/{name}").as_str(), Node::symlink(program)).unwrap();
    }
    if !tree.contains("bin") {
        tree.insert("bin", Node::symlink("usr/bin")).unwrap();
    }
    let mut manifest = ImageManifest::new("example.com/sleeps".parse().unwrap());
    manifest.app = Some(App::new(["/bin/sh", "-c", "exec sleep 1000"].map(str::to_owned).to_vec()));
    appc::write(&manifest, &tree, Compression::None, Vec::new()).unwrap().0
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = kurma_server::part(&words) {
        return code;
    }
    let missing = missing();
    if !missing.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "missing in CI: {}", missing.join(", "));
        println!("skipped: {}", missing.join(", "));
        return ExitCode::SUCCESS;
    }
    if words.first().is_none_or(|word| word != "inside") {
        // mounts of its own, with control groups that are all of version 2
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg("mount -t cgroup2 none /sys/fs/cgroup; exec \"$0\" inside");
        let status = command.arg(std::env::current_exe().unwrap()).status().unwrap();
        assert!(status.success(), "{status}");
        return ExitCode::SUCCESS;
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let done =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, talk(directory.path())).await });
    runtime.shutdown_background();
    done.expect("it takes too long");
    println!("a process is entered through the door: ok");
    ExitCode::SUCCESS
}

async fn talk(place: &Path) {
    let mut pods = PodOptions::default();
    pods.directory = place.join("var");
    pods.runtime = place.join("run");
    pods.sockets = place.join("run/remote");
    pods.cgroup = None;
    pods.patience = Duration::from_secs(2);
    pods.program = std::env::current_exe().unwrap();
    let images = Images::open(place.join("var/images"), kiln_oci::Limits::default());
    let images = Arc::new(images.unwrap());
    let pods = Pods::open(pods, Arc::clone(&images)).unwrap();
    let mut api = ApiOptions::default();
    api.audit = place.join("audit.log");
    let listeners = [Listener::remote(place.join("run/remote/kurma.sock"))];
    let (_end, ending) = watch::channel(false);
    let mut options = Options::default();
    options.directory = place.join("data");
    options.server = place.join("run/remote/kurma.sock");
    options.listen = vec![([127, 0, 0, 1], 0).into()];
    let socket = options.server.clone();
    let behind = ending.clone();
    tokio::spawn(async move {
        let listeners = kurma_server::bind(&listeners).unwrap();
        kurma_server::serve(pods, images, listeners, api, behind).await.unwrap();
    });
    while !socket.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let door = Door::open(options).await.unwrap();
    let address = door.addresses().first().unwrap().to_string();
    let code = door.code().unwrap().code.parse().unwrap();
    tokio::spawn(door.serve(ending));
    let (identity, _) = kurma_client::enroll::enroll(&address, &code, "me").await.unwrap();
    let client = Client::new(Endpoint::tls(address, &identity).unwrap());

    let path = place.join("image.aci");
    std::fs::write(&path, image()).unwrap();
    client.upload(&path, |_| {}).await.unwrap();
    let mut create = Create::default();
    (create.image, create.name) = (Some("example.com/sleeps".into()), "sleeps".into());
    create.networks = Some(Vec::new());
    client.create(&create).await.unwrap();

    let mut enter = Enter::default();
    enter.pod = "sleeps".into();
    enter.exec = ["sh", "-c", "cat; hostname; exit 5"].map(str::to_owned).to_vec();
    let mut socket = client.enter(&enter).await.unwrap();
    // more than all buffers in between hold
    let piece = [vec![INPUT], vec![b'x'; 30_000]].concat();
    let (mut said, mut ended) = (String::new(), None);
    for _ in 0..100 {
        socket.send(Message::binary(piece.clone())).await.unwrap();
        // what is sent back is taken, so that neither end waits for the other
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => said += &String::from_utf8_lossy(bytes.get(1..).unwrap()),
            Message::Text(text) => ended = Some(text),
            _ => {}
        }
    }
    socket.send(Message::text(serde_json::to_string(&Said::End).unwrap())).await.unwrap();
    while ended.is_none() {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => said += &String::from_utf8_lossy(bytes.get(1..).unwrap()),
            Message::Text(text) => ended = Some(text),
            _ => {}
        }
    }
    let ended: Ended = serde_json::from_str(&ended.unwrap()).unwrap();
    assert_eq!(ended, Ended::Exit(5));
    assert_eq!(said.matches('x').count(), 3_000_000);
    assert!(said.ends_with("sleeps\n"));
    client.destroy("sleeps").await.unwrap();
}
