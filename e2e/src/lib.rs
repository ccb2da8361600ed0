//! What the tests that boot images share: the images, built once a run, variants of them, and small
//! servers.

mod chrony;
mod identity;
mod recorded;
mod registry;
mod rooted;
mod variant;

pub use chrony::Chrony;
pub use identity::Identity;
pub use recorded::{Recorded, Tally};
pub use registry::Registry;
pub use rooted::rooted;
pub use variant::{LONG, Variant, report, said, tool};

pub mod alone;
pub mod jobs;
pub mod kurma;
pub mod lab;
pub mod rancheros;
pub mod slots;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kiln::definition::Format;
use kiln::{Progress, cache};
use nomados::build;
use nomados::run::{self, Running};

/// NomadOS in every format, with `raw_exec` enabled by its configuration, in
/// `target/e2e/nomados`.
///
/// # Errors
/// When it cannot be built.
pub fn images() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build_images().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build_images() -> Result<PathBuf> {
    let out = cache::workspace_root().join("target/e2e/nomados");
    let mut options = with_raw_exec(&out)?;
    options.formats = vec![Format::Initramfs, Format::Raw, Format::Qcow2, Format::Vmdk];
    build::build(&options, &Progress::on_stderr())?;
    Ok(out)
}

/// What builds a NomadOS into `out`, with `raw_exec` enabled by its configuration.
///
/// # Errors
/// When the configuration cannot be written.
pub fn with_raw_exec(out: &Path) -> Result<build::Options> {
    std::fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    let mut config: serde_json::Value =
        serde_json::from_str(include_str!("../../examples/nomados/etc/init.json"))?;
    config["plugin"] = serde_json::json!([{ "raw_exec": { "config": { "enabled": true } } }]);
    // A host that has other work starves guests, and a node that is late is not a node that is lost.
    config["server"]["heartbeat_grace"] = serde_json::json!("10m");
    let path = out.join("init.json");
    cache::write_file(&path, config.to_string().as_bytes())?;
    let mut options = build::Options::new(out);
    options.config = Some(path);
    Ok(options)
}

/// Copies a directory of the host with all that is in it.
///
/// # Errors
/// When `cp` fails.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = Command::new("cp").arg("-r").arg(from).arg(to).status()?;
    ensure!(done.success(), "cp {} {}: {done}", from.display(), to.display());
    Ok(())
}

/// Starts a NomadOS, and prints its console if the test fails from here on.
///
/// # Errors
/// When it does not start.
pub fn start(options: &run::Options) -> Result<Guest> {
    Ok(Guest { running: run::start(options)? })
}

/// A NomadOS under test.
#[derive(Debug)]
pub struct Guest {
    /// The guest.
    pub running: Running,
}

impl Guest {
    /// The number of the first line of the console, at or after `from`, that contains a text.
    #[must_use]
    pub fn line(&self, text: &str, from: usize) -> Option<usize> {
        self.running.vm.console().find(text, from, Duration::ZERO).map(|(index, _)| index)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the guest's console:\n{}", self.running.vm.console().tail(60));
        }
    }
}

/// Asks a server at a port of 127.0.0.1 for a path until it answers with success, and gives the
/// body.
///
/// # Errors
/// After `limit`, with the last answer.
pub fn get_until(port: u16, path: &str, limit: Duration) -> Result<String> {
    let deadline = Instant::now() + limit;
    loop {
        let last = answer_of(port, path);
        match last {
            Ok(answer)
                if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") =>
            {
                let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
                return body.context("the answer has no end of its head");
            }
            last if Instant::now() >= deadline => {
                bail!("GET {path} of port {port} after {} s: {last:?}", limit.as_secs());
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// What a server at a port of 127.0.0.1 answers, head and body.
///
/// # Errors
/// When it cannot be reached or hangs up without an answer.
pub fn answer_of(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// An HTTP server on a free port of 127.0.0.1 (which a guest reaches as 10.0.2.2). It ends with the value.
#[derive(Debug)]
pub struct Server {
    /// Its port.
    pub port: u16,
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts to serve the same answer to everything.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(body: impl Into<Vec<u8>>) -> Result<Self> {
        let body = body.into();
        Self::answering(move |_| Some(body.clone()))
    }

    /// The same over TLS.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn secure(identity: Identity, body: impl Into<Vec<u8>>) -> Result<Self> {
        let body = body.into();
        Self::serving(move |stream, requests| {
            if let Ok(mut stream) = identity.serve(stream) {
                serve(&mut stream, requests, &|_| Some(body.clone()));
            }
        })
    }

    /// Starts to serve what is made of each request's head; where nothing is, it says that there is nothing.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn answering(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> Result<Self> {
        Self::serving(move |mut stream, requests| serve(&mut stream, requests, &answer))
    }

    fn serving(serve: impl Fn(TcpStream, &Mutex<Vec<String>>) + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen on 127.0.0.1")?;
        let port = listener.local_addr()?.port();
        let (stop, requests) =
            (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::<Vec<String>>::default()));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                serve(stream, &seen);
            }
        });
        Ok(Self { port, stop, requests })
    }

    /// The first lines of all requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().map(|requests| requests.clone()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread, which then sees that it is over.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Answers one request, and notes its first line.
fn serve(
    stream: &mut (impl Read + Write),
    requests: &Mutex<Vec<String>>,
    answer: &impl Fn(&str) -> Option<Vec<u8>>,
) {
    let mut request = [0; 2048];
    let count = stream.read(&mut request).unwrap_or(0);
    let text = String::from_utf8_lossy(request.get(..count).unwrap_or_default());
    let first = text.lines().next().unwrap_or_default().to_owned();
    let head = first.starts_with("HEAD");
    if let Ok(mut seen) = requests.lock() {
        seen.push(first);
    }
    let found = answer(&text);
    let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
    let body = found.unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: text/plain\r\n\
         Connection: close\r\n\r\n",
        body.len(),
    );
    let _ = stream.write_all(answer.as_bytes());
    if !head {
        let _ = stream.write_all(&body);
    }
    let _ = stream.flush();
}
