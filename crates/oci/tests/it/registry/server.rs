//! A registry that does as it is told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_oci::Image;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    None,
    /// Layers break off, and are had from where they ended.
    BreaksOff,
    /// The same, by one that knows no ranges.
    NoRanges,
    /// Layers break off a byte later each time.
    AlwaysBreaksOff,
    /// The first answer to everything is an error of its own.
    Busy,
    /// It is always busy.
    Down,
    /// Layers are other bytes.
    Lies,
    /// Layers go on from another place than was asked for.
    LiesOfRanges,
    /// Layers have a byte too many.
    Longer,
    /// Layers lack a byte.
    Shorter,
    /// Layers have no end.
    Endless,
    /// Manifests have no end.
    EndlessManifests,
    /// Manifests are not what their header says.
    LiesOfManifests,
    /// Layers begin, and do not go on.
    Silent,
    /// It wants a token, which takes a password.
    Token,
    /// It wants a password.
    Password,
    /// It has tokens at an address that only looks like one of this machine.
    TokenElsewhere,
}

/// A registry with one image.
pub(super) struct Server {
    pub(super) port: u16,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// The heads of the requests so far, in small letters.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// What all connections share.
struct Shared {
    port: u16,
    fault: Fault,
    files: BTreeMap<String, Vec<u8>>,
    /// The path of the layer with which things go wrong.
    large: String,
    /// Where blobs are, if not here.
    store: Option<String>,
    seen: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

pub(super) fn serve(image: &Image, fault: Fault) -> Server {
    serve_with(image, fault, None, None)
}

/// The same, over TLS, or with a store for blobs at another address.
pub(super) fn serve_with(
    image: &Image,
    fault: Fault,
    tls: Option<Arc<ServerConfig>>,
    store: Option<String>,
) -> Server {
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
    let server = Server { port, stop: Arc::clone(&stop), seen: Arc::clone(&seen) };
    let large = image.layers[1].descriptor.digest().to_string();
    let shared = Arc::new(Shared { port, fault, files, large, store, seen, stop });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            let (shared, tls) = (Arc::clone(&shared), tls.clone());
            std::thread::spawn(move || {
                let stream = stream.unwrap();
                // One that says nothing until the test is over is let go.
                stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                let _ = match tls {
                    None => shared.answer(stream),
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        shared.answer(StreamOwned::new(connection, stream))
                    }
                };
            });
        }
    });
    server
}

fn say(
    stream: &mut impl Write,
    status: &str,
    headers: &str,
    body: &[u8],
    length: usize,
) -> std::io::Result<()> {
    let fixed = "connection: close\r\n";
    write!(stream, "HTTP/1.1 {status}\r\n{fixed}content-length: {length}\r\n{headers}\r\n")?;
    stream.write_all(body)?;
    stream.flush()
}

/// A body in chunks for as long as somebody takes them.
fn endless(stream: &mut impl Write, headers: &str, first: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{headers}\r\n")?;
    write!(stream, "{:x}\r\n", first.len())?;
    stream.write_all(first)?;
    loop {
        write!(stream, "\r\n{:x}\r\n", 1 << 16)?;
        stream.write_all(&[b' '; 1 << 16])?;
    }
}

impl Shared {
    /// Reads up to the end of a head.
    fn head(&self, stream: &mut impl Read) -> std::io::Result<String> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => head.push(byte[0]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.stop.load(Ordering::Relaxed) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(String::from_utf8(head).unwrap().to_ascii_lowercase())
    }

    fn answer(&self, mut stream: impl Read + Write) -> std::io::Result<()> {
        let head = self.head(&mut stream)?;
        let stream = &mut stream;
        let path = head.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
        let times = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(head.clone());
            seen.iter().filter(|head| head.split([' ', '?']).nth(1) == Some(&path)).count()
        };
        if self.fault == Fault::Down || self.fault == Fault::Busy && times == 1 {
            return say(stream, "503 Service Unavailable", "", b"", 0);
        }
        if path == "/token" {
            let good = head.contains("authorization: basic dxnlcjpwyxnz")
                && head.contains("scope=repository%3aapp%3apull");
            let body = b"{\"token\":\"opened\"}";
            return match good {
                true => say(stream, "200 OK", "", body, body.len()),
                false => say(stream, "401 Unauthorized", "", b"", 0),
            };
        }
        let port = self.port;
        let (wanted, challenge) = match self.fault {
            Fault::Token => (
                "bearer opened",
                format!(
                    "Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"s\",scope=\"repository:app:pull\""
                ),
            ),
            Fault::TokenElsewhere => {
                ("bearer opened", "Bearer realm=\"http://127.0.0.1:80@registry.invalid/\"".into())
            }
            Fault::Password => ("basic dxnlcjpwyxnz", "Basic realm=\"r\"".into()),
            _ => ("", String::new()),
        };
        if !wanted.is_empty() && !head.contains(&format!("authorization: {wanted}")) {
            let challenge = format!("www-authenticate: {challenge}\r\n");
            return say(stream, "401 Unauthorized", &challenge, b"", 0);
        }
        let Some(file) = path.strip_prefix("/v2/app/").and_then(|name| self.files.get(name)) else {
            return say(stream, "404 Not Found", "", b"", 0);
        };
        if path.contains("/manifests/") {
            return self.manifest(stream, file);
        }
        if let Some(store) = &self.store {
            let location = format!("location: {store}{path}?signature=x\r\n");
            return say(stream, "307 Temporary Redirect", &location, b"", 0);
        }
        if path.ends_with(&self.large) {
            return self.layer(stream, &head, file, times);
        }
        say(stream, "200 OK", "", file, file.len())
    }

    fn manifest(&self, stream: &mut impl Write, file: &[u8]) -> std::io::Result<()> {
        let digest = match self.fault {
            Fault::LiesOfManifests => format!("docker-content-digest: sha256:{:064}\r\n", 0),
            _ => String::new(),
        };
        let headers =
            format!("content-type: application/vnd.oci.image.manifest.v1+json\r\n{digest}");
        if self.fault == Fault::EndlessManifests {
            return endless(stream, &headers, file);
        }
        say(stream, "200 OK", &headers, file, file.len())
    }

    fn layer(
        &self,
        stream: &mut (impl Read + Write),
        head: &str,
        file: &[u8],
        times: usize,
    ) -> std::io::Result<()> {
        let mut file = file.to_vec();
        let half = file.len() / 2;
        let range = head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next());
        let range: Option<usize> = range.and_then(|start| start.parse().ok());
        match self.fault {
            Fault::Lies => file[half] ^= 1,
            Fault::Longer => file.push(0),
            Fault::Shorter => file.truncate(file.len() - 1),
            Fault::Endless => return endless(stream, "", &file),
            Fault::BreaksOff | Fault::NoRanges | Fault::LiesOfRanges if times == 1 => {
                return say(stream, "200 OK", "", &file[..half], file.len());
            }
            Fault::AlwaysBreaksOff => {
                let start = range.unwrap_or(0);
                let status = if start == 0 { "200 OK" } else { "206 Partial Content" };
                return say(stream, status, "", &file[start..=start], file.len() - start);
            }
            Fault::BreaksOff | Fault::LiesOfRanges => {
                let start = range.unwrap() - usize::from(self.fault == Fault::LiesOfRanges);
                let end = file.len() - usize::from(self.fault == Fault::LiesOfRanges);
                return say(stream, "206 Partial Content", "", &file[start..end], end - start);
            }
            Fault::Silent => {
                say(stream, "200 OK", "", &file[..half], file.len())?;
                // Until the client has gone, or the test is over.
                let mut byte = [0];
                while !self.stop.load(Ordering::Relaxed) && !matches!(stream.read(&mut byte), Ok(0))
                {
                }
                return Ok(());
            }
            _ => {}
        }
        say(stream, "200 OK", "", &file, file.len())
    }
}
