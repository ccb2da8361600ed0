//! Sources read from where they are: maps, directories, a web server.
#![cfg(all(feature = "linux", feature = "http"))]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use kiln_cloudconfig::datasource::{
    Answer, Candidate, Directory, Files, Selection, Step, config_drive, digital_ocean, ec2, file,
    http, nocloud,
};
use kiln_cloudconfig::layer::{Rules, merge};
use kiln_cloudconfig::{Limits, decode, document, user_data};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHFZDvJJUVn2uUaRPVuKLtNPbVPHzJfNYJ9VZpn0xg5e ada@lab";

fn files(all: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    all.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

#[test]
fn a_seed_of_nocloud() {
    let limits = Limits::default();
    let meta = format!(
        "instance-id: i-1\nlocal-hostname: node-1\npublic-keys:\n  0: {{openssh-key: \"{KEY}\"}}\nregion: x\n"
    );
    let seed = files(&[
        ("user-data", "#cloud-config\nhostname: node-2\n"),
        ("meta-data", &meta),
        ("network-config", "version: 2\nethernets: {eth0: {dhcp4: true}}\n"),
    ]);
    let found = nocloud(&seed, "cidata", &limits).unwrap().unwrap();
    assert!(found.findings.is_empty(), "{}", found.findings);
    assert_eq!(found.meta_data.instance_id.as_deref(), Some("i-1"));
    assert_eq!(found.meta_data.public_keys, [KEY]);
    // What user-data says counts more than the metadata; here they go below it.
    let (parts, _) = user_data::read("user-data", &found.user_data.unwrap(), &limits);
    let user = document::read(&parts[0].name, &parts[0].bytes, &limits).0;
    let merged = merge([found.meta_data.layer("meta-data"), user], &Rules::default());
    let (config, findings) = decode(&merged.root, &limits);
    assert!(findings.is_empty(), "{findings}");
    assert_eq!(config.hostname.as_deref(), Some("node-2"));
    assert_eq!(config.ssh_authorized_keys, [KEY]);

    assert_eq!(nocloud(&files(&[]), "cidata", &limits), Ok(None));
    assert!(nocloud(&files(&[("meta-data", "")]), "cidata", &limits).unwrap().is_some());
}

#[test]
fn a_config_drive_of_openstack() {
    let limits = Limits::default();
    let json = format!(
        "{{\"uuid\": \"u-1\", \"hostname\": \"bad_name\", \"public_keys\": {{\"mine\": \"{KEY}\\n\", \"other\": \"x\"}}, \"files\": []}}"
    );
    let drive = files(&[
        ("openstack/latest/meta_data.json", &json),
        ("openstack/latest/user_data", "#!/bin/sh\n"),
        ("openstack/latest/network_data.json", "{}"),
    ]);
    let found = config_drive(&drive, "config-2", &limits).unwrap().unwrap();
    assert_eq!(found.meta_data.instance_id.as_deref(), Some("u-1"));
    assert_eq!(found.meta_data.public_keys, [KEY]);
    assert_eq!(found.network.as_deref(), Some(&b"{}"[..]));
    assert_eq!(
        found.findings.to_string(),
        "config-2/openstack/latest/meta_data.json:1: hostname: \"bad_name\" is no host name\n\
         config-2/openstack/latest/meta_data.json:1: public_keys.other: \"x\" is no public key"
    );
}

#[test]
fn a_directory_gives_plain_files_only() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    std::fs::write(at("user-data"), "#cloud-config\n").unwrap();
    std::fs::write(at("large"), vec![b'x'; 100]).unwrap();
    std::fs::create_dir_all(at("sub/dir")).unwrap();
    std::fs::write(at("sub/dir/file"), "inner").unwrap();
    symlink("/etc/passwd", at("absolute")).unwrap();
    symlink("user-data", at("relative")).unwrap();
    symlink("sub", at("linked")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap();
    assert!(fifo.success());
    let directory = Directory::open(place.path()).unwrap();
    let read = |path: &str| directory.read(path, 99).map_err(|error| error.to_string());
    assert_eq!(read("user-data"), Ok(Some(b"#cloud-config\n".to_vec())));
    assert_eq!(read("sub/dir/file"), Ok(Some(b"inner".to_vec())));
    assert_eq!(read("nothing"), Ok(None));
    assert_eq!(read("user-data/nothing"), Ok(None));
    for (path, why) in [
        ("absolute", "absolute: a symbolic link, which is not followed"),
        ("relative", "relative: a symbolic link, which is not followed"),
        ("linked/dir/file", "linked/dir/file: a symbolic link, which is not followed"),
        ("fifo", "fifo: no plain file"),
        ("sub", "sub: no plain file"),
        ("large", "large: more than 99 bytes"),
    ] {
        assert_eq!(read(path), Err(why.to_owned()));
    }
    assert!(read("../x").is_err() && read("/etc/passwd").is_err());
    let provided = file(&directory, "user-data", &Limits::default()).unwrap().unwrap();
    assert_eq!(provided.user_data.as_deref(), Some(&b"#cloud-config\n"[..]));
}

/// A server on this machine that answers by path. It lives as long as the tests.
fn serve(answer: fn(&str, &mut TcpStream)) -> String {
    serve_requests(move |request, stream| {
        answer(request.split(' ').nth(1).unwrap_or_default(), stream);
    })
}

/// The same by all that a request says.
fn serve_requests(answer: impl Fn(&str, &mut TcpStream) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    request.push(byte[0]);
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                answer(&text, &mut stream);
            });
        }
    });
    format!("http://{address}")
}

fn answers(path: &str, stream: &mut TcpStream) {
    let mut say = |text: &str| {
        let _ = stream.write_all(text.as_bytes());
    };
    match path {
        "/seed/user-data" => {
            say("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n#cloud-config\nnot this")
        }
        "/seed/meta-data" => say("HTTP/1.0 200 OK\r\n\r\ninstance-id: i-2\n"),
        "/chunked" => {
            say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            say("0\r\n\r\n");
            // It keeps the connection, although it was asked not to.
            let _ = stream.read(&mut [0]);
        }
        "/cut" => say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
        "/cut-chunk" => say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nshort"),
        "/there" => say("HTTP/1.1 302 Found\r\nLocation: /chunked\r\n\r\n"),
        "/round" => say("HTTP/1.1 301 Moved\r\nLocation: /round\r\n\r\n"),
        "/away" => say("HTTP/1.1 307 Elsewhere\r\nLocation: ftp://example.org/\r\n\r\n"),
        "/endless" => {
            say("HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        }
        "/header" => while stream.write_all(b"HTTP/1.1 200 OK").is_ok() {},
        "/drip" => {
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        "/silent" => {
            let _ = stream.read(&mut [0]);
        }
        "/ssh" => say("SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n\r\n"),
        "/gone" => say("HTTP/1.1 410 Gone\r\n\r\n"),
        "/error" => say("HTTP/1.1 500 Oops\r\n\r\n"),
        _ => say("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}

#[test]
fn a_web_server_in_every_mood() {
    let base = serve(answers);
    let mut bounds = http::Bounds::default();
    let get = |path: &str, bounds: &http::Bounds| {
        http::get(&format!("{base}{path}"), 1000, bounds, None)
            .map_err(|error| error.to_string().replace(&base, ""))
    };
    let server = http::Server::new(&format!("{base}/seed"), bounds.clone()).unwrap();
    let found = nocloud(&server, "http", &Limits::default()).unwrap().unwrap();
    assert_eq!(found.user_data.as_deref(), Some(&b"#cloud-config\n"[..]));
    assert_eq!(found.meta_data.instance_id.as_deref(), Some("i-2"));
    assert_eq!(found.network, None);

    for path in ["/chunked", "/there"] {
        assert_eq!(get(path, &bounds), Ok(Some(b"hello".to_vec())));
    }
    for path in ["/nothing", "/gone"] {
        assert_eq!(get(path, &bounds), Ok(None));
    }
    for (path, why) in [
        ("/cut", "/cut: cut off after 5 of 100 bytes"),
        ("/cut-chunk", "/cut-chunk: cut off, or damaged chunks"),
        ("/round", "/round: redirected more than 4 times"),
        ("/endless", "/endless: more than 1000 bytes"),
        ("/header", "/header: a header of more than 16384 bytes"),
        ("/ssh", "/ssh: what answers does not speak HTTP/1.1"),
        ("/error", "/error: the server says 500"),
        (
            "/away",
            "/away: redirected to \"ftp://example.org/\": expected http://HOST/PATH or https://HOST/PATH",
        ),
    ] {
        assert_eq!(get(path, &bounds), Err(why.to_owned()));
    }
    bounds.patience = Duration::from_millis(300);
    for path in ["/silent", "/drip"] {
        let began = Instant::now();
        assert_eq!(get(path, &bounds), Err(format!("{path}: no whole answer within 300ms")));
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

/// Knows one name, at an address where nobody listens and at another one, and no TLS.
#[derive(Debug)]
struct Names;

impl http::Reach for Names {
    fn addresses(&self, name: &str, _: Duration) -> Result<Vec<IpAddr>, String> {
        match name {
            "seed.test" => Ok([2, 1].map(|last| Ipv4Addr::new(127, 0, 0, last).into()).into()),
            _ => Err(format!("nobody knows {name}")),
        }
    }

    fn secured(
        &self,
        host: &str,
        _: Box<dyn http::Stream>,
    ) -> Result<Box<dyn http::Stream>, String> {
        Err(format!("no TLS with {host}"))
    }
}

#[test]
fn names_and_tls_are_others_to_know() {
    let base = serve(answers);
    let url = |scheme: &str, host: &str| {
        format!("{}/there", base.replace("http://127.0.0.1", &format!("{scheme}://{host}")))
    };
    let get = |url: &str, reach: Option<&dyn http::Reach>| {
        http::get(url, 1000, &http::Bounds::default(), reach).map_err(|error| error.why)
    };
    assert_eq!(get(&url("http", "SEED.test"), Some(&Names)), Ok(Some(b"hello".to_vec())));
    for (url, reach, why) in [
        (url("http", "other.test"), true, "nobody knows other.test"),
        (url("https", "seed.test"), true, "no TLS with seed.test"),
        (url("https", "127.0.0.1"), true, "no TLS with 127.0.0.1"),
        (url("http", "seed.test"), false, "names are not looked up"),
        (url("https", "127.0.0.1"), false, "TLS is not spoken"),
    ] {
        let reach: Option<&dyn http::Reach> = if reach { Some(&Names) } else { None };
        assert_eq!(get(&url, reach), Err(why.to_owned()));
    }
    let server = http::Server::new(&url("http", "seed.test"), http::Bounds::default()).unwrap();
    let server = server.reached_by(Arc::new(Names));
    assert_eq!(server.read("", 1000), Ok(None));
}

/// EC2's metadata as its servers give it: `wants_token` is that of version 2.
fn instance_metadata(wants_token: bool) -> String {
    serve_requests(move |request, stream| {
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let has = |line: &str| request.lines().any(|own| own.eq_ignore_ascii_case(line));
        let content = match (method, path) {
            ("PUT", "/latest/api/token") if wants_token => {
                assert!(has("X-aws-ec2-metadata-token-ttl-seconds: 21600"), "{request}");
                assert!(has("Content-Length: 0"), "{request}");
                Some("AQAEtoken==".to_owned())
            }
            ("PUT", _) => None,
            _ if wants_token && !has("X-aws-ec2-metadata-token: AQAEtoken==") => None,
            (_, "/latest/meta-data/instance-id") => Some("i-0123".into()),
            (_, "/latest/meta-data/local-hostname") => Some("ip-10-0-0-1.ec2.internal".into()),
            (_, "/latest/meta-data/public-keys/") => Some("0=mine\n1=bad\nx=odd".into()),
            (_, "/latest/meta-data/public-keys/0/openssh-key") => Some(format!("{KEY}\n")),
            (_, "/latest/meta-data/public-keys/1/openssh-key") => Some("no key".into()),
            (_, "/latest/user-data") => Some("#cloud-config\nhostname: node-5\n".into()),
            (_, "/metadata/v1/id") => Some("4711".into()),
            (_, "/metadata/v1/hostname") => Some("bad_name".into()),
            (_, "/metadata/v1/public-keys") => Some(format!("{KEY}\n{KEY}\n")),
            _ => None,
        };
        let answer = match content {
            Some(text) => {
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
            }
            None if method == "PUT" => "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".into(),
            None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
        };
        let _ = stream.write_all(answer.as_bytes());
    })
}

#[test]
fn metadata_of_ec2_with_and_without_a_token() {
    let limits = Limits::default();
    for wants_token in [true, false] {
        let base = instance_metadata(wants_token);
        let server =
            http::imds(http::Server::new(&base, http::Bounds::default()).unwrap()).unwrap();
        let found = ec2(&server, "ec2", &limits).unwrap().unwrap();
        assert_eq!(found.meta_data.instance_id.as_deref(), Some("i-0123"));
        assert_eq!(found.meta_data.hostname.as_deref(), Some("ip-10-0-0-1.ec2.internal"));
        assert_eq!(found.meta_data.public_keys, [KEY]);
        assert_eq!(found.user_data.as_deref(), Some(&b"#cloud-config\nhostname: node-5\n"[..]));
        assert_eq!(
            found.findings.to_string(),
            "ec2/latest/meta-data/public-keys/1/openssh-key: \"no key\" is no public key"
        );
    }
    // Who asks without a token is told nothing there, and that is no answer by halves.
    let plain = http::Server::new(&instance_metadata(true), http::Bounds::default()).unwrap();
    assert_eq!(ec2(&plain, "ec2", &limits), Ok(None));
    assert!(plain.clone().with_field("a\r\nb", "c").is_err());
    assert!(plain.with_field("a", "b\r\nc: d").is_err());
}

#[test]
fn metadata_of_digital_ocean() {
    let limits = Limits::default();
    let server = http::Server::new(&instance_metadata(false), http::Bounds::default()).unwrap();
    let found = digital_ocean(&server, "digitalocean", &limits).unwrap().unwrap();
    assert_eq!(found.meta_data.instance_id.as_deref(), Some("4711"));
    assert_eq!(found.meta_data.public_keys, [KEY]);
    assert_eq!(
        found.findings.to_string(),
        "digitalocean/metadata/v1/hostname: \"bad_name\" is no host name"
    );
    let nothing = http::Server::new(&serve(answers), http::Bounds::default()).unwrap();
    assert_eq!(digital_ocean(&nothing, "digitalocean", &limits), Ok(None));
    assert_eq!(ec2(&nothing, "ec2", &limits), Ok(None));
}

/// Three sources at once, as a boot has them: the medium is not there, one server never answers.
#[test]
fn sources_are_tried_at_once_and_one_that_hangs_holds_up_nothing_for_long() {
    let base = serve(answers);
    let began = Instant::now();
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(400));
    let candidates = vec![
        Candidate::new("drive", long),
        Candidate::new("hangs", short),
        Candidate::new("works", long),
    ];
    let mut selection = Selection::new(candidates, None, began.elapsed());
    let (sender, receiver) = mpsc::channel();
    for at in selection.to_ask() {
        let (sender, base) = (sender.clone(), base.clone());
        std::thread::spawn(move || {
            let read = |path: &str| {
                http::get(&format!("{base}{path}"), 1000, &http::Bounds::default(), None)
            };
            let found = match at {
                0 => Ok(None),
                1 => read("/silent"),
                _ => read("/chunked"),
            };
            let answer = match found {
                Ok(Some(bytes)) => Answer::Found(bytes),
                Ok(None) => Answer::Absent,
                Err(error) => Answer::Failed(error.to_string()),
            };
            // By then it may have been decided.
            let _ = sender.send((at, answer));
        });
    }
    while let Step::WaitUntil(deadline) = selection.step(began.elapsed()) {
        if let Ok((at, answer)) = receiver.recv_timeout(deadline.saturating_sub(began.elapsed())) {
            selection.answer(at, answer, began.elapsed());
        }
    }
    assert_eq!(selection.finish().winner, Some((2, b"hello".to_vec())));
}
