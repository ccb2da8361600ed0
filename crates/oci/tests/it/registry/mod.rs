//! Debian's registry, and registries that are down, slow, or lie.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kiln_oci::registry::{Client, Options, reference};
use kiln_oci::{Compression, Image, Layout, Limits, platform};

use crate::debian::tool;
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

#[test]
fn debians_registry_takes_and_gives() {
    let Some(registry) = tool("docker-registry") else { return };
    let work = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = work.path().join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\"}}\n",
        work.path().join("data").display()
    );
    std::fs::write(&config, text).unwrap();
    let child = registry
        .command()
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _running = Running(child.unwrap());
    let limit = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < limit, "the registry does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
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

/// What a registry of the tests does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Layers break off, and are had from where they ended.
    BreaksOff,
    /// The same, by one that knows no ranges.
    NoRanges,
    /// The first answer to everything is an error of its own.
    Busy,
    /// It is always busy.
    Down,
    /// Layers are other bytes.
    Lies,
    /// Layers have a byte too many.
    Longer,
    /// Manifests are not what their header says.
    LiesOfManifests,
    /// Layers begin, and do not go on.
    Silent,
    /// It wants a token, which takes a password.
    Token,
}

/// A registry with one image that does as it is told.
struct Server {
    port: u16,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(image: &Image, fault: Fault) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    files.insert("manifests/1".into(), image.manifest_bytes.clone());
    files.insert(format!("blobs/{}", image.manifest.config().digest()), image.config_bytes.clone());
    for layer in &image.layers {
        let bytes = layer.source.read().unwrap().to_vec();
        files.insert(format!("blobs/{}", layer.descriptor.digest()), bytes);
    }
    let large = image.layers[1].descriptor.digest().to_string();
    let files = Arc::new(files);
    let server = Server { port, stop: Arc::clone(&stop), seen: Arc::clone(&seen) };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let (files, seen, large) = (Arc::clone(&files), Arc::clone(&seen), large.clone());
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let _ = answer(stream.unwrap(), port, fault, &files, &seen, &large, &stop);
            });
        }
    });
    server
}

fn answer(
    mut stream: TcpStream,
    port: u16,
    fault: Fault,
    files: &BTreeMap<String, Vec<u8>>,
    seen: &Mutex<Vec<String>>,
    large: &str,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        head.push_str(&line.to_ascii_lowercase());
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let first = {
        let mut seen = seen.lock().unwrap();
        seen.push(head.clone());
        seen.iter().filter(|head| head.split(' ').nth(1) == Some(&path)).count() == 1
    };
    let say = |stream: &mut TcpStream, status: &str, headers: &str, body: &[u8], length: usize| {
        write!(
            stream,
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        )?;
        stream.write_all(body)
    };
    if fault == Fault::Down || fault == Fault::Busy && first {
        return say(&mut stream, "503 Service Unavailable", "", b"", 0);
    }
    if path.starts_with("/token") {
        let good = head.contains("authorization: basic dxnlcjpwyxnz")
            && path.contains("scope=repository%3aapp%3apull");
        let body = b"{\"token\":\"opened\"}";
        return match good {
            true => say(&mut stream, "200 OK", "", body, body.len()),
            false => say(&mut stream, "401 Unauthorized", "", b"", 0),
        };
    }
    if fault == Fault::Token && !head.contains("authorization: bearer opened") {
        let challenge = format!(
            "www-authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"s\",scope=\"repository:app:pull\"\r\n"
        );
        return say(&mut stream, "401 Unauthorized", &challenge, b"", 0);
    }
    let Some(file) = path.strip_prefix("/v2/app/").and_then(|name| files.get(name)) else {
        return say(&mut stream, "404 Not Found", "", b"", 0);
    };
    let mut file = file.clone();
    let half = file.len() / 2;
    if path.contains("/manifests/") {
        let digest = match fault {
            Fault::LiesOfManifests => format!("docker-content-digest: sha256:{:064}\r\n", 0),
            _ => String::new(),
        };
        let headers =
            format!("content-type: application/vnd.oci.image.manifest.v1+json\r\n{digest}");
        return say(&mut stream, "200 OK", &headers, &file, file.len());
    }
    if !path.contains(large) {
        return say(&mut stream, "200 OK", "", &file, file.len());
    }
    let range = head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next());
    let range: Option<usize> = range.and_then(|start| start.parse().ok());
    match fault {
        Fault::Lies => file[half] ^= 1,
        Fault::Longer => file.push(0),
        Fault::BreaksOff | Fault::NoRanges if first => {
            return say(&mut stream, "200 OK", "", &file[..half], file.len());
        }
        Fault::BreaksOff => {
            let start = range.unwrap();
            return say(&mut stream, "206 Partial Content", "", &file[start..], file.len() - start);
        }
        Fault::Silent => {
            say(&mut stream, "200 OK", "", &file[..half], file.len())?;
            // Until the client has gone, or the test is over.
            stream.set_read_timeout(Some(Duration::from_millis(100)))?;
            let mut byte = [0];
            while !stop.load(Ordering::Relaxed) && !matches!(stream.read(&mut byte), Ok(0)) {}
            return Ok(());
        }
        _ => {}
    }
    say(&mut stream, "200 OK", "", &file, file.len())
}

#[test]
fn a_registry_that_falters_is_asked_again() {
    let image = image(Compression::Gzip);
    for fault in [Fault::None, Fault::BreaksOff, Fault::NoRanges, Fault::Busy] {
        let server = serve(&image, fault);
        let (_, found) =
            pulled(&client(|_| {}), &format!("127.0.0.1:{}/app:1", server.port)).unwrap();
        assert_eq!(found.manifest_bytes, image.manifest_bytes, "{fault:?}");
        let seen = server.seen.lock().unwrap();
        let ranges = seen.iter().filter(|head| head.contains("range: bytes=")).count();
        assert_eq!(
            ranges,
            usize::from(matches!(fault, Fault::BreaksOff | Fault::NoRanges)),
            "{fault:?}"
        );
    }
}

#[test]
fn a_registry_that_is_down_slow_or_lies_is_an_error_that_names_what() {
    let image = image(Compression::Gzip);
    let layer = image.layers[1].descriptor.digest().to_string();
    let zeros = format!("sha256:{:064}", 0);
    for (fault, named, reason) in [
        (Fault::Down, "/manifests/1", "503 Service Unavailable (tried 2 times)"),
        (Fault::Lies, &layer, "bytes with digest sha256:"),
        (Fault::Longer, &layer, "gives more than its"),
        (Fault::LiesOfManifests, &zeros, "bytes with digest sha256:"),
        (Fault::Silent, &layer, "(tried 2 times)"),
    ] {
        let server = serve(&image, fault);
        let client = client(|options| {
            options.attempts = 2;
            options.silence =
                if fault == Fault::Silent { Duration::from_millis(300) } else { options.silence };
        });
        let error = pulled(&client, &format!("127.0.0.1:{}/app:1", server.port)).unwrap_err();
        assert!(error.contains(named) && error.contains(reason), "{fault:?}: {error}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = pulled(&client(|options| options.attempts = 2), &format!("127.0.0.1:{gone}/app:1"))
        .unwrap_err();
    assert!(error.contains("refused") && error.contains("(tried 2 times)"), "{error}");
}

#[test]
fn a_token_is_had_with_the_password_and_used() {
    let image = image(Compression::Gzip);
    let server = serve(&image, Fault::Token);
    let name = format!("127.0.0.1:{}/app:1", server.port);
    let with = client(|options| options.credentials = Some(("user".into(), "pass".into())));
    pulled(&with, &name).unwrap();
    let tokens = |server: &Server| {
        server.seen.lock().unwrap().iter().filter(|head| head.starts_with("get /token")).count()
    };
    // Once, and not for every blob.
    assert_eq!(tokens(&server), 1);
    let error = pulled(&client(|_| {}), &name).unwrap_err();
    assert!(error.contains("no token from http://127.0.0.1:") && error.contains("401"), "{error}");
}
