//! Debian's registry, and registries that are down, slow, or lie.

mod faults;
mod server;
mod tls;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use kiln_oci::registry::{Client, Options, reference};
use kiln_oci::{Compression, Image, Layout, Limits, platform};

use crate::debian::{Tool, tool};
use crate::images::image;

fn client(change: impl FnOnce(&mut Options)) -> Client {
    let mut options = Options::default();
    options.pause = Duration::from_millis(5);
    change(&mut options);
    Client::new(options).unwrap()
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pulled(client: &Client, name: &str) -> Result<(tempfile::TempDir, Image), String> {
    let work = tempfile::tempdir().unwrap();
    let mut layout = Layout::create(work.path(), Limits::default()).unwrap();
    let wanted = platform("linux/amd64").unwrap();
    match client.pull(&reference(name).unwrap(), &wanted, &mut layout, Some("here")) {
        Ok(image) => Ok((work, image)),
        Err(error) => {
            // Nothing half done is left, and nothing is listed.
            let blobs = std::fs::read_dir(work.path().join("blobs/sha256")).unwrap();
            let names: Vec<_> = blobs.map(|entry| entry.unwrap().file_name()).collect();
            assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{names:?}");
            assert!(
                Layout::open(work.path(), Limits::default()).unwrap().images().unwrap().is_empty()
            );
            Err(error.to_string())
        }
    }
}

/// Debian's registry with a directory of its own; `http` and `auth` are of its configuration. Gives its
/// port.
fn start(registry: &Tool, work: &Path, http: &str, auth: &str) -> (Running, u16) {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = work.join(format!("config-{port}.yml"));
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\"{http}}}\n{auth}",
        work.join("data").display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = registry.command();
    command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().unwrap());
    let limit = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < limit, "the registry does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    (running, port)
}

#[test]
fn debians_registry_takes_and_gives() {
    let Some(registry) = tool("docker-registry") else { return };
    let work = tempfile::tempdir().unwrap();
    let (_running, port) = start(&registry, work.path(), "", "");
    let client = client(|_| {});
    for compression in [Compression::Gzip, Compression::Zstd] {
        let image = image(compression);
        let name = format!("127.0.0.1:{port}/team/app:1");
        client.push(&image, &reference(&name).unwrap()).unwrap();
        // What is there already is not sent again.
        client.push(&image, &reference(&name).unwrap()).unwrap();
        let by_digest = format!("127.0.0.1:{port}/team/app@{}", image.digest());
        for name in [&name, &by_digest] {
            let (work, found) = pulled(&client, name).unwrap();
            assert_eq!(found.manifest_bytes, image.manifest_bytes);
            let layout = Layout::open(work.path(), Limits::default()).unwrap();
            let kept = layout.image(Some("here"), &platform("linux/amd64").unwrap()).unwrap();
            let options = kiln_oci::layer::Options::default();
            let (kept, ours) =
                (kept.tree(&options, None).unwrap(), image.tree(&options, None).unwrap());
            assert_eq!(crate::trees::in_memory(&kept), ours);
        }
        if let Some(skopeo) = tool("skopeo") {
            let said = skopeo.expect(&[
                "inspect",
                "--tls-verify=false",
                "--raw",
                &format!("docker://{name}"),
            ]);
            assert_eq!(said.as_bytes(), image.manifest_bytes);
            let target = format!("docker://127.0.0.1:{port}/team/theirs:1");
            let layout = work.path().join(format!("{compression:?}"));
            Layout::create(&layout, Limits::default()).unwrap().add(&image, Some("x")).unwrap();
            let from = format!("oci:{}:x", layout.display());
            skopeo.expect(&[
                "--insecure-policy",
                "copy",
                "--dest-tls-verify=false",
                &from,
                &target,
            ]);
            let (_, found) = pulled(&client, &format!("127.0.0.1:{port}/team/theirs:1")).unwrap();
            assert_eq!(found.config_bytes, image.config_bytes);
        }
    }
    let error = pulled(&client, &format!("127.0.0.1:{port}/team/app:9")).unwrap_err();
    assert!(error.contains("/manifests/9: GET 404 Not Found: MANIFEST_UNKNOWN"), "{error}");
}
