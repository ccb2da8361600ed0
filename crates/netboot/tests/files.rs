//! Files over the wire, judged by clients of others: curl and busybox.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers of blocks begin anew, and lengths are small"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kiln_dhcp_wire::HardwareAddr;
use kiln_netboot::serve::{End, Event, Files, Http, Sink, Tftp, Tls};
use kiln_netboot::tftp::{Ended, Packet};

const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a program is here. Where `CI` is set it has to be.
fn has(program: &str) -> bool {
    let found =
        ["/usr/bin", "/bin", "/usr/sbin"].iter().any(|it| Path::new(it).join(program).exists());
    assert!(found || std::env::var_os("CI").is_none(), "missing in CI: {program}");
    if !found {
        println!("skipped: {program}");
    }
    found
}

/// Servers on loopback, of a directory with a secret beside it.
struct Lab {
    place: tempfile::TempDir,
    end: End,
    events: Arc<Mutex<Vec<Event>>>,
    threads: Vec<JoinHandle<()>>,
    tftp: SocketAddr,
    http: SocketAddr,
    https: SocketAddr,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.end.ask();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// Bytes that are not the same anywhere.
fn bytes(len: u32) -> Vec<u8> {
    (0..len)
        .flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(len as usize)
        .collect()
}

impl Lab {
    fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let files = place.path().join("files");
        std::fs::create_dir_all(files.join("boot")).unwrap();
        std::fs::write(place.path().join("secret"), "secret").unwrap();
        for (name, len) in [("empty", 0), ("small", 100), ("even", 512 * 8), ("large", 3_000_001)] {
            std::fs::write(files.join(name), bytes(len)).unwrap();
        }
        std::fs::write(files.join("boot/02-00-00-00-00-02.ipxe"), "#!ipxe\nexit\n").unwrap();
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (place.path().join("own.pem"), place.path().join("own.key"));
        std::fs::write(&certificate, own.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let here: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let files = Files::new([files]);
        let script = |mac: HardwareAddr| (mac.0[5] == 1).then(|| "#!ipxe\nboot\n".to_owned());
        let tftp = Tftp::bind(here, None, files.clone()).unwrap();
        let http = Http::bind(here, files.clone(), script).unwrap();
        let https = Http::bind(here, files, script).unwrap();
        let https = https.secured(Tls::read(&certificate, &key).unwrap());
        let (end, events) = (End::new(), Arc::new(Mutex::new(Vec::new())));
        let noted = Arc::clone(&events);
        let sink: Sink = Arc::new(move |event: &Event| noted.lock().unwrap().push(event.clone()));
        let addresses =
            (tftp.address().unwrap(), http.address().unwrap(), https.address().unwrap());
        let both = || (end.clone(), Arc::clone(&sink));
        let (first, second, third) = (both(), both(), both());
        let threads = vec![
            std::thread::spawn(move || tftp.serve(&first.0, &first.1).unwrap()),
            std::thread::spawn(move || http.serve(&second.0, &second.1).unwrap()),
            std::thread::spawn(move || https.serve(&third.0, &third.1).unwrap()),
        ];
        let (tftp, http, https) = addresses;
        Self { place, end, events, threads, tftp, http, https }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.path().join("files").join(name)
    }

    fn curl(&self, words: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60"]).args(words);
        curl.output().unwrap()
    }

    /// Waits until something has happened.
    fn until(&self, what: &str, is_it: impl Fn(&Event) -> bool) {
        let begun = Instant::now();
        while !self.events.lock().unwrap().iter().any(&is_it) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", self.events.lock().unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn curl_and_busybox_get_the_same_bytes_by_tftp() {
    if !(has("curl") && has("busybox")) {
        return;
    }
    let lab = Lab::start();
    let port = lab.tftp.port().to_string();
    for name in ["empty", "small", "even", "large"] {
        let wanted = std::fs::read(lab.file(name)).unwrap();
        let url = format!("tftp://{}/{name}", lab.tftp);
        for block in ["8", "512", "1428", "65464"] {
            // this curl does not know the end of what has no bytes
            if block == "8" && name == "large" || name == "empty" {
                continue;
            }
            let got = lab.curl(&["--tftp-blksize", block, &url]);
            assert!(got.status.success(), "{name} {block}: {got:?}");
            assert!(got.stdout == wanted, "{name} {block}: {} bytes", got.stdout.len());
        }
        let got = lab.curl(&["--tftp-no-options", &url]);
        assert!(got.stdout == wanted, "{name} without options: {got:?}");
        let own = lab.place.path().join("got");
        let _ = std::fs::remove_file(&own);
        let mut busybox = Command::new("busybox");
        busybox.args(["tftp", "-g", "-b", "1468", "-r", name, "-l"]).arg(&own);
        let got = busybox.args(["127.0.0.1", &port]).output().unwrap();
        assert!(got.status.success(), "{name}: {got:?}");
        assert!(std::fs::read(&own).unwrap() == wanted, "{name} by busybox");
    }
    lab.until("large has been sent", |event| {
        matches!(event, Event::Transferred(it) if it.file.ends_with("large") && it.ended == Ended::Whole)
    });
}

#[test]
fn windows_go_to_the_kernel_together_and_arrive_apart() {
    let lab = Lab::start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = b"\0\x01large\0octet\0blksize\x001468\0windowsize\x0032\0";
    socket.send_to(asked, lab.tftp).unwrap();
    let mut bytes = [0; 2000];
    let (len, peer) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"\0\x06blksize\x001468\0windowsize\x0032\0");
    socket.connect(peer).unwrap();
    socket.send(&Packet::Ack(0).encode()).unwrap();
    let (mut has, mut last) = (Vec::new(), 0_u16);
    loop {
        let len = socket.recv(&mut bytes).unwrap();
        let Ok(Packet::Data { block, data }) = Packet::decode(&bytes[..len]) else {
            panic!("no data")
        };
        // loopback loses what has no room
        if block == last.wrapping_add(1) {
            has.extend_from_slice(data);
            last = block;
        }
        if block % 32 == 0 || data.len() < 1468 {
            socket.send(&Packet::Ack(last).encode()).unwrap();
        }
        if data.len() < 1468 && block == last {
            break;
        }
    }
    assert!(has == std::fs::read(lab.file("large")).unwrap(), "{} bytes", has.len());
}

#[test]
fn what_is_not_given_is_refused_by_name() {
    if !has("curl") {
        return;
    }
    let lab = Lab::start();
    let base = lab.tftp;
    for (path, code, why) in [
        ("none", 68, "no such file"),
        ("../secret", 69, "leads elsewhere"),
        ("boot/../../secret", 69, "leads elsewhere"),
        ("boot", 68, "no such file"),
    ] {
        let got = lab.curl(&["--path-as-is", &format!("tftp://{base}/{path}")]);
        assert_eq!(got.status.code(), Some(code), "{path}: {got:?}");
        lab.until(
            path,
            |event| matches!(event, Event::Refused { why: said, .. } if said.contains(why)),
        );
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; 600];
    for (asked, said) in [
        (&b"\0\x02new\0octet\0"[..], "files are given, not taken"),
        (b"\0\x01small\0netascii\0", "files are given as they are: octet"),
    ] {
        socket.send_to(asked, base).unwrap();
        let len = socket.recv(&mut bytes).unwrap();
        let Ok(Packet::Error { message, .. }) = Packet::decode(&bytes[..len]) else { panic!() };
        assert_eq!(message, said);
    }
    assert!(!lab.file("new").exists());
}

#[test]
fn noise_keeps_nobody_out() {
    if !has("curl") {
        return;
    }
    let lab = Lab::start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for at in 0..5000_u32 {
        let noise = bytes(at % 700);
        let _ = socket.send_to(&noise, lab.tftp);
        // what asks and never answers
        if at % 50 == 0 {
            let other = UdpSocket::bind("127.0.0.1:0").unwrap();
            let _ = other.send_to(b"\0\x01large\0octet\0", lab.tftp);
        }
    }
    for bad in [&b"\0\0\0\0"[..], b"GET / HTTP/9.9\r\n\r\n", &[b'A'; 100_000]] {
        let mut stream = TcpStream::connect(lab.http).unwrap();
        let _ = stream.write_all(bad);
    }
    // those that say nothing
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(lab.http).unwrap()).collect();
    let got = lab.curl(&[&format!("tftp://{}/small", lab.tftp)]);
    assert_eq!(got.stdout, bytes(100), "{got:?}");
    let got = lab.curl(&[&format!("http://{}/small", lab.http)]);
    assert_eq!(got.stdout, bytes(100), "{got:?}");
    drop(silent);
}

#[test]
fn a_hundred_at_once_get_all_of_it() {
    if !has("curl") {
        return;
    }
    let lab = Lab::start();
    let wanted = std::fs::read(lab.file("large")).unwrap();
    let urls = [format!("tftp://{}/large", lab.tftp), format!("http://{}/large", lab.http)];
    std::thread::scope(|scope| {
        for at in 0..100 {
            let (lab, url, wanted) = (&lab, &urls[at % 2], &wanted);
            scope.spawn(move || {
                let got = lab.curl(&["--tftp-blksize", "1428", url]);
                assert!(
                    got.stdout == *wanted,
                    "{url}: {} bytes, {:?}",
                    got.stdout.len(),
                    got.status
                );
            });
        }
    });
}

#[test]
fn http_has_ranges_scripts_and_tls() {
    if !has("curl") {
        return;
    }
    let lab = Lab::start();
    let url = format!("http://{}", lab.http);
    let wanted = std::fs::read(lab.file("large")).unwrap();
    let got = lab.curl(&["--range", "1000000-1000099", &format!("{url}/large")]);
    assert!(got.stdout == wanted[1_000_000..1_000_100]);
    // goes on where it was broken off
    let own = lab.place.path().join("part");
    std::fs::write(&own, &wanted[..1_234_567]).unwrap();
    let got = lab.curl(&[
        "--continue-at",
        "-",
        "--output",
        own.to_str().unwrap(),
        &format!("{url}/large"),
    ]);
    assert!(got.status.success(), "{got:?}");
    assert!(std::fs::read(&own).unwrap() == wanted);
    let code = |words: &[&str]| {
        let words = [&["--output", "/dev/null", "--write-out", "%{http_code}"], words].concat();
        String::from_utf8(lab.curl(&words).stdout).unwrap()
    };
    for (path, expected) in [
        ("large", "200"),
        ("none", "404"),
        ("../secret", "404"),
        ("boot/../../secret", "404"),
        ("%2e%2e/secret", "404"),
        ("boot/02-00-00-00-00-03.ipxe", "404"),
        ("boot/nobody.ipxe", "404"),
    ] {
        assert_eq!(code(&["--path-as-is", &format!("{url}/{path}")]), expected, "{path}");
    }
    assert_eq!(code(&["--head", &format!("{url}/large")]), "200");
    let text = |name: &str| lab.curl(&[&format!("{url}/boot/{name}.ipxe")]).stdout;
    assert_eq!(text("02-00-00-00-00-01"), b"#!ipxe\nboot\n");
    // a file comes before what is made
    assert_eq!(text("02-00-00-00-00-02"), b"#!ipxe\nexit\n");
    let port = lab.https.port();
    let certificate = lab.place.path().join("own.pem");
    let trusting = [
        "--cacert",
        certificate.to_str().unwrap(),
        "--resolve",
        &format!("localhost:{port}:127.0.0.1"),
    ];
    let secure = format!("https://localhost:{port}/large");
    let got = lab.curl(&[&trusting[..], &[&secure]].concat());
    assert!(got.stdout == wanted, "{got:?}");
    assert!(!lab.curl(&["--resolve", trusting[3], &secure]).status.success());
}

/// A head's lines without the date, in their order by name, and what follows.
fn answer(bytes: &[u8]) -> (Vec<String>, Vec<u8>) {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines: Vec<String> = head.lines().map(str::to_lowercase).collect();
    lines.retain(|line| !line.starts_with("date:"));
    lines.sort();
    (lines, bytes[end + 4..].to_vec())
}

#[test]
fn files_are_answered_alike_by_the_kernel_and_by_hyper() {
    if !has("curl") {
        return;
    }
    let lab = Lab::start();
    std::fs::write(lab.file("own.efi"), "efi").unwrap();
    std::fs::write(lab.file("own.txt"), "text").unwrap();
    let asked: [(&str, &[&str]); 9] = [
        ("large", &[]),
        ("large", &["--range", "1000000-1999999"]),
        ("large", &["--range", "2999999-"]),
        ("large", &["--range", "5-9000000"]),
        ("large", &["--head"]),
        ("large", &["--head", "--range", "1-2"]),
        ("own.efi", &[]),
        ("own.txt", &["--header", "Connection: close"]),
        ("empty", &[]),
    ];
    for (name, words) in asked {
        let get = |more: &str| {
            let url = format!("http://{}/{name}{more}", lab.http);
            let got = lab.curl(&[&["--include", &url], words].concat());
            assert!(got.status.success(), "{name} {words:?}: {got:?}");
            answer(&got.stdout)
        };
        // what has a query is left to hyper
        let (plain, other) = (get(""), get("?left"));
        assert_eq!(plain.0, other.0, "{name} {words:?}");
        assert!(plain.1 == other.1, "{name} {words:?}");
    }
    // one connection, of which hyper takes over what is no file
    let url = |name: &str| format!("http://{}/{name}", lab.http);
    let (file, script) = (url("small"), url("boot/02-00-00-00-00-01.ipxe"));
    let got = lab.curl(&["--write-out", "%{num_connects}", &file, &file, &script, &file]);
    let small = bytes(100);
    let wanted = [&small[..], b"1", &small, b"0", b"#!ipxe\nboot\n", b"0", &small, b"0"].concat();
    assert!(got.stdout == wanted, "{got:?}");
    // two at once, and one in pieces
    let mut stream = TcpStream::connect(lab.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /small HTTP/1.1\r\n\r\nGET /empty HTTP/1.1\r\n\r\nGET /sm").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    stream.write_all(b"all HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    let bodies = got.windows(100).filter(|it| *it == small).count();
    let answers = got.windows(15).filter(|it| it == b"HTTP/1.1 200 OK").count();
    assert_eq!((bodies, answers), (2, 3), "{}", String::from_utf8_lossy(&got));
}

#[test]
fn a_file_that_becomes_shorter_ends_its_connection() {
    let lab = Lab::start();
    let file = std::fs::File::create(lab.file("shrinks")).unwrap();
    file.set_len(200 << 20).unwrap();
    let mut stream = TcpStream::connect(lab.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /shrinks HTTP/1.1\r\n\r\n").unwrap();
    let mut bytes = vec![0; 1 << 20];
    stream.read_exact(&mut bytes).unwrap();
    file.set_len(1 << 20).unwrap();
    let mut rest = 0;
    while let Ok(len @ 1..) = stream.read(&mut bytes) {
        rest += len;
    }
    assert!(rest < 199 << 20, "{rest}");
}
