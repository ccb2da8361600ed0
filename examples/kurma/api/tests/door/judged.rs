//! What others think of the certificates: OpenSSL. And the program itself.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::harness::Server;

fn openssl(words: &[&str], input: &str) -> Output {
    let mut child = Command::new("openssl")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    let held = std::thread::spawn(move || {
        // its answer comes before its input ends
        std::thread::sleep(std::time::Duration::from_secs(2));
        drop(stdin);
    });
    let output = child.wait_with_output().unwrap();
    held.join().unwrap();
    output
}

#[test]
fn openssl_believes_the_certificates() {
    if !Path::new("/usr/bin/openssl").exists() {
        println!("skipped: openssl");
        return;
    }
    let server = Server::start();
    let operator = server.operator();
    let own = server.path("own");
    operator.write(&own).unwrap();
    let path = |name: &str| server.path(name).display().to_string();
    let authority = path("data/ca.pem");
    let verify = |words: &[&str], name: &str| {
        let mut all = vec!["verify", "-x509_strict", "-CAfile", &authority];
        let name = path(name);
        all.extend_from_slice(words);
        all.push(&name);
        Command::new("openssl").args(&all).output().unwrap().status.success()
    };
    let named = |name: &str| {
        verify(&["-purpose", "sslserver", "-verify_hostname", name], "data/server.pem")
    };
    assert!(named("localhost") && named("kurma.internal") && !named("other.example"));
    assert!(verify(&["-purpose", "sslserver", "-verify_ip", "127.0.0.1"], "data/server.pem"));
    assert!(!verify(&["-purpose", "sslclient"], "data/server.pem"));
    assert!(verify(&["-purpose", "sslclient"], "own/client.pem"));
    assert!(!verify(&["-purpose", "sslserver"], "own/client.pem"));
    let subject = ["x509", "-noout", "-subject", "-in", &path("own/client.pem")];
    let subject = Command::new("openssl").args(subject).output().unwrap().stdout;
    let subject = String::from_utf8(subject).unwrap().replace(' ', "");
    assert_eq!(subject.trim(), "subject=OU=operator,CN=first");

    let address = server.address.to_string();
    let (certificate, key) = (path("own/client.pem"), path("own/client.key"));
    let base = ["s_client", "-quiet", "-connect", &address, "-CAfile", &authority];
    let checked = ["-verify_return_error", "-verify_hostname", "localhost"];
    let request = "GET /info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for version in ["-tls1_2", "-tls1_3"] {
        let words = [&base[..], &checked, &[version, "-cert", &certificate, "-key", &key]].concat();
        let said = openssl(&words, request);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.starts_with("HTTP/1.1 200 OK"), "{version}: {said}");
        let said = openssl(&[&base[..], &checked, &[version]].concat(), request);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.starts_with("HTTP/1.1 401 "), "{version}: {said}");
    }
    // nothing older
    let old = openssl(&[&base[..], &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]].concat(), request);
    assert!(!old.status.success());
}

#[test]
fn the_program_shows_a_code_and_ends_when_told_to() {
    let server = Server::start();
    let data = server.path("program");
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kurma-api"));
        command.arg("--directory").arg(&data);
        command.arg("--server").arg(server.path("kurma.sock"));
        command.args(["--listen", "127.0.0.1:0", "--name", "localhost"]);
        command.args(["--plain", "127.0.0.1:0"]);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let mut program = start();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    let address = line();
    let address = address.strip_prefix("kurma-api: https://").unwrap().to_owned();
    assert!(line().starts_with("kurma-api: NO TLS at http://127.0.0.1:"));
    assert!(line().contains("within 60 minutes"));
    let invitation = line();
    let port = address.rsplit(':').next().unwrap();
    let code = invitation.strip_prefix(&format!("kurma enroll https://localhost:{port} --code "));
    let code = code.unwrap().parse().unwrap();
    let enrolled = server.wait(kurma_client::enroll::enroll(&address, &code, "me"));
    let (identity, _) = enrolled.unwrap();
    let endpoint = kurma_client::Endpoint::tls(address, &identity).unwrap();
    server.wait(kurma_client::Client::new(endpoint).pods()).unwrap();

    // the directory is one program's
    let mut second = start();
    assert!(!second.wait().unwrap().success());
    let pid = rustix::process::Pid::from_child(&program);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(program.wait().unwrap().success());
}
