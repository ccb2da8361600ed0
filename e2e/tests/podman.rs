//! Podman as Nomad Init's author proposed it: a job of type system downloads it and runs it as a
//! daemon; its API runs a container. And Podman that an image carries.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kiln::cache::workspace_root;
use kiln::definition::Format;
use kiln::{Cache, Progress, archive, debian, digest};
use kiln_e2e::{Server, copy, get_until, images, start, with_raw_exec};
use kiln_tree::{Metadata, Node, Tree, host};
use nomados::agent::batch_job;
use nomados::artifact;
use nomados::run::Options;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(1200);
/// Where Podman's API listens.
const API: u16 = 8181;

/// A root file system with busybox alone, as an archive.
fn busybox() -> Result<Vec<u8>> {
    let sysroot = debian::sysroot(&Cache::of_workspace(), &["busybox-static"])?;
    let mut tree = Tree::new();
    let program = sysroot.join("usr/bin/busybox");
    let program = if program.is_file() { program } else { sysroot.join("bin/busybox") };
    host::import(&mut tree, &program, "bin/busybox", &host::Policy::default())?;
    for name in ["cat", "hostname", "id", "ip", "ps", "sh", "wget"] {
        tree.insert(format!("bin/{name}"), Node::symlink("busybox"))?;
    }
    tree.insert("tmp", Node::directory().with(Metadata::new(0o1777)))?;
    Ok(archive::write(&tree, Vec::new())?)
}

/// Podman's API.
struct Podman {
    base: String,
    client: ureq::Agent,
}

impl Podman {
    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Result<String> {
        let request = self.client.post(format!("{}{path}", self.base)).content_type(kind);
        let mut answer = request.send(body).with_context(|| format!("POST {path}"))?;
        let text = answer.body_mut().read_to_string()?;
        if !answer.status().is_success() {
            bail!("POST {path}: {}: {text}", answer.status());
        }
        Ok(text)
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        let mut answer = self.client.get(format!("{}{path}", self.base)).call()?;
        Ok(answer.body_mut().read_to_vec()?)
    }
}

#[test]
fn a_job_downloads_podman_and_its_api_runs_a_container() -> Result<()> {
    let quiet = Progress::quiet();
    let directory = tempfile::tempdir()?;
    let how = kiln::build::Options::default();
    let (made, _) = artifact::podman(&how, directory.path(), "http://unused", "unused", &quiet)?;
    println!("podman: {made}");
    let bytes = std::fs::read(directory.path().join("podman.tar.gz"))?;
    let sha256 = digest::of_bytes(&bytes);
    let archive = Server::start(bytes)?;
    let page = Server::start("a page from the host\n")?;

    let mut options = Options::new(images()?.join("nomados.initramfs"));
    options.ports = vec![API];
    let mut guest = start(&options)?;
    guest.running.wait_ready(&quiet)?;
    let agent = guest.running.agent.clone();
    let port = guest.running.vm.forwarded(API).context("no port leads to Podman")?;

    let submitted = Instant::now();
    let url = format!("http://10.0.2.2:{}/podman.tar.gz", archive.port);
    let id = agent.submit(&artifact::podman_job(&url, &sha256, &format!("tcp:0.0.0.0:{API}")))?;
    let daemon = agent.wait_for(&id, &["running"], LONG)?;
    ensure!(daemon.status == "running", "{daemon:?}");
    let said = || agent.log(&daemon.id, "podman", "stderr").unwrap_or_default();
    let ping = get_until(port, "/_ping", LONG).with_context(said)?;
    assert_eq!(ping, "OK");
    println!("podman: its API answers {:.1} s after the job", submitted.elapsed().as_secs_f64());

    let podman = Podman {
        base: format!("http://127.0.0.1:{port}/v4.0.0/libpod"),
        client: ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(180)))
            .http_status_as_error(false)
            .build()
            .into(),
    };
    let info: Value = serde_json::from_slice(&podman.get("/info")?)?;
    assert_eq!(info["host"]["cgroupVersion"], "v2", "{info}");
    assert_eq!(info["host"]["networkBackend"], "netavark");
    assert_eq!(info["host"]["ociRuntime"]["name"], "crun");
    assert_eq!(info["store"]["graphDriverName"], "overlay");

    let begun = Instant::now();
    let image = "localhost/busybox:latest";
    podman
        .post(&format!("/images/import?reference={image}"), "application/x-tar", &busybox()?)
        .with_context(said)?;
    let script = format!(
        "hostname; id -u; cat /proc/1/comm; wget -q -O - http://10.0.2.2:{}/page",
        page.port
    );
    let container = json!({
        "name": "hello",
        "image": image,
        "hostname": "inside",
        "command": ["/bin/sh", "-c", script],
    });
    let json = "application/json";
    podman.post("/containers/create", json, container.to_string().as_bytes()).with_context(said)?;
    podman.post("/containers/hello/start", json, b"").with_context(said)?;
    let code = podman.post("/containers/hello/wait", json, b"").with_context(said)?;
    let log = podman.get("/containers/hello/logs?stdout=true&stderr=true")?;
    let log = String::from_utf8_lossy(&log).into_owned();
    assert_eq!(code.trim(), "0", "{log}");
    for expected in ["inside\n", "0\n", "sh\n", "a page from the host\n"] {
        ensure!(log.contains(expected), "{expected:?} is not in {log:?}");
    }
    println!("podman: image imported and container run in {:.1} s", begun.elapsed().as_secs_f64());

    // Stopped, it leaves no mount behind, and the node's own file systems alone.
    agent.stop("podman")?;
    agent.wait_for("podman", &[], LONG)?;
    let look = batch_job("look", "raw_exec", "mount; test -c /dev/null && test -d /proc/1");
    let mounts = guest.running.run_job(&look, &quiet)?;
    ensure!(!mounts.contains("containers") && !mounts.contains("overlay"), "{mounts}");
    guest.running.shut_down(&quiet)?;
    Ok(())
}

/// A container with a network of its own asks the host for a page.
const RUN: &str = r"set -e
mkdir -p root/bin root/tmp
cp /usr/bin/busybox root/bin/sh
tar -c -C root . | podman import --quiet - localhost/busybox >/dev/null
podman run --rm --hostname inside localhost/busybox /bin/sh -c 'hostname; wget -q -O - PAGE'
podman info --format '{{.Host.NetworkBackend}} {{.Host.OCIRuntime.Name}} {{.Store.GraphDriverName}}'
";

#[test]
fn an_image_with_the_package_runs_containers_by_itself() -> Result<()> {
    let quiet = Progress::quiet();
    let directory = tempfile::tempdir()?;
    let own = directory.path().join("nomados");
    copy(&workspace_root().join("examples/nomados"), &own)?;
    let file = own.join("image.toml");
    let text = std::fs::read_to_string(&file)?;
    let install = "[packages]\ninstall = [\"podman\", \"crun\", \"netavark\", \"aardvark-dns\"]\n";
    std::fs::write(&file, text.replacen("[packages]\n", install, 1))?;
    let out = directory.path().join("out");
    let mut options = with_raw_exec(&out)?;
    options.definition = file;
    options.formats = vec![Format::Initramfs];
    let report = nomados::build::build(&options, &quiet)?;
    println!("with podman: {report}");

    let page = Server::start("a page from the host\n")?;
    let image = report.bootable().context("nothing to boot")?;
    let mut guest = start(&Options::new(image))?;
    guest.running.wait_ready(&quiet)?;
    let script = RUN.replace("PAGE", &format!("http://10.0.2.2:{}/page", page.port));
    let said = guest.running.run_job(&batch_job("podman", "raw_exec", &script), &quiet)?;
    for expected in ["inside\n", "a page from the host\n", "netavark crun overlay\n"] {
        ensure!(said.contains(expected), "{expected:?} is not in {said:?}");
    }
    guest.running.shut_down(&quiet)?;
    Ok(())
}
