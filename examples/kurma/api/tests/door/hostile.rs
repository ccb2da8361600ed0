//! Who is refused, while others are served.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kurma_client::tls::Identity;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};

use crate::harness::{PATIENCE, Server};

/// A certificate that says it is an operator's, by an authority.
fn forged(issuer: &Issuer<'_, KeyPair>, authority: &str, year: i32) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "forger");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "operator");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let certificate = params.signed_by(&key, issuer).unwrap().pem();
    Identity::new(authority.to_owned(), certificate, key.serialize_pem())
}

#[test]
fn only_certificates_of_the_own_authority_count_and_while_they_do() {
    let server = Server::start();
    let operator = server.operator();
    let own = std::fs::read_to_string(server.path("data/ca.pem")).unwrap();
    let key = std::fs::read_to_string(server.path("data/ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&own, KeyPair::from_pem(&key).unwrap()).unwrap();
    // what is forged differs from what counts by its end alone
    let good = forged(&issuer, &own, 2100);
    server.wait(server.client(&good).pods()).unwrap();
    let expired = forged(&issuer, &own, 2020);
    let error = server.wait(server.client(&expired).pods()).unwrap_err().to_string();
    assert!(error.contains("CertificateExpired"), "{error}");
    server.until_logged("an expired certificate");

    // one that has all names of the own, but not its key
    let another = Issuer::from_ca_cert_pem(&own, KeyPair::generate().unwrap()).unwrap();
    let wrong = forged(&another, &own, 2100);
    let error = server.wait(server.client(&wrong).pods()).unwrap_err().to_string();
    assert!(error.contains("received fatal alert"), "{error}");
    let other = Server::start();
    let wrong = other.operator();
    let wrong = Identity::new(own, wrong.certificate, wrong.key);
    let error = server.wait(server.client(&wrong).pods()).unwrap_err().to_string();
    assert!(error.contains("received fatal alert"), "{error}");
    server.until_logged("a certificate of another authority");

    // the server's certificate is no client's
    let certificate = std::fs::read_to_string(server.path("data/server.pem")).unwrap();
    let key = std::fs::read_to_string(server.path("data/server.key")).unwrap();
    let wrong = Identity::new(operator.authority.clone(), certificate, key);
    let error = server.wait(server.client(&wrong).pods()).unwrap_err().to_string();
    assert!(error.contains("received fatal alert"), "{error}");
    // nor is another server believed
    let error = other.wait(other.client(&operator).pods()).unwrap_err().to_string();
    assert!(error.contains("invalid peer certificate"), "{error}");
    server.wait(server.client(&operator).pods()).unwrap();
}

#[test]
fn without_a_certificate_there_is_nothing_but_enrolment() {
    let server = Server::start();
    for what in [
        "GET /info",
        "GET /schema",
        "POST /rpc",
        "POST /images/create",
        "GET /containers/enter",
        "GET /enroll",
        "POST /enroll/",
        "POST /enroll/codes",
        "GET /enroll/clients",
        "DELETE /enroll/clients/first",
        "POST //enroll",
        "POST /enroll/../rpc",
        "GET http://x/info",
        "OPTIONS *",
        "CONNECT x:1",
    ] {
        let said = server.ask(None, what, "kurma-role: operator\r\nkurma-caller: first\r\n", "");
        assert!(
            said.starts_with("HTTP/1.1 401 ") || said.starts_with("HTTP/1.1 400 "),
            "{what}: {said}"
        );
        assert!(said.contains("\"code\":-32002") || said.starts_with("HTTP/1.1 400 "), "{said}");
    }
    server.until_logged("no certificate");
    for (body, what) in [
        ("", "400"),
        ("{}", "400"),
        ("{\"secret\":\"\",\"csr\":\"\",\"name\":\"\"}", "403"),
        (&"x".repeat(20_000), "400"),
    ] {
        let said = server.ask(None, "POST /enroll", "", body);
        assert!(said.starts_with(&format!("HTTP/1.1 {what} ")), "{said}");
    }
    // garbage in place of a request for a certificate costs no code
    let code = server.code.clone().unwrap();
    let body = serde_json::json!({ "secret": code.secret(), "csr": "garbage", "name": "first" });
    let said = server.ask(None, "POST /enroll", "", &body.to_string());
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    server.operator();
}

#[test]
fn garbage_is_refused_and_others_are_served() {
    let server = Server::start();
    let client = server.client(&server.operator());
    let say = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(bytes);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        said
    };
    let said = say(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(said.starts_with(b"HTTP/1.1 400 "), "{said:?}");
    server.until_logged("\"refused\":\"no TLS\"");
    assert!(say(&[0; 1000]).is_empty());
    // a record of a handshake that is none, is too long, is another's
    for garbage in [
        &[22, 3, 1, 0, 4, 1, 0, 0, 0][..],
        &[22, 3, 1, 255, 255, 1, 2, 3],
        &[&[22, 3, 1, 64, 0][..], &[7; 0x4000]].concat(),
    ] {
        let said = say(garbage);
        assert!(said.is_empty() || said.first() == Some(&21), "{said:?}");
    }
    server.until_logged("no handshake: ");
    for garbage in [&b"\0\0\0\r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", &[b'A'; 1 << 20]] {
        let said = server.say(None, garbage);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    server.wait(client.pods()).unwrap();
}

#[test]
fn who_waits_keeps_nobody_out() {
    let server = Server::start();
    let client = server.client(&server.operator());
    // more than there may be, each of which says nothing
    let silent: Vec<TcpStream> =
        (0..500).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let begun = Instant::now();
    server.wait(client.pods()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
    server.until_logged("too many others shake hands");
    drop(silent);
}

#[test]
fn who_is_unknown_makes_room() {
    let server = Server::start_with(|options| options.limits.unknown = 4);
    let client = server.client(&server.operator());
    let unknown: Vec<_> = (0..8).map(|_| server.wait(server.connect(None)).unwrap()).collect();
    server.wait(client.pods()).unwrap();
    server.until_logged("too many others are unknown");
    drop(unknown);
}

#[test]
fn everything_is_bounded_in_time() {
    let server = Server::start_with(|options| {
        options.limits.handshake = Duration::from_millis(300);
        options.limits.head = Duration::from_millis(300);
        options.limits.idle = Duration::from_millis(300);
    });
    let operator = server.operator();
    let mut silent = TcpStream::connect(server.address).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent.read(&mut [0; 10]).unwrap(), 0);
    server.until_logged("no handshake for too long");
    // the end comes, whatever is said before it
    for request in [
        &b""[..],
        b"GET /in",
        b"POST /images/create HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
        b"POST /enroll HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
    ] {
        server.say(Some(&operator), request);
    }
    server.wait(server.client(&operator).pods()).unwrap();
}

#[test]
fn there_are_so_many_connections() {
    let server = Server::start_with(|options| options.limits.connections = 3);
    let operator = server.operator();
    let held: Vec<_> =
        (0..3).map(|_| server.wait(server.connect(Some(&operator))).unwrap()).collect();
    // each of them is counted when it has been answered
    let mut held = held;
    for stream in &mut held {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        server.wait(async {
            stream.write_all(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        });
    }
    assert!(server.wait(server.client(&operator).pods()).is_err());
    server.until_logged("too many connections");
    drop(held);
    let begun = Instant::now();
    while server.wait(server.client(&operator).pods()).is_err() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
}
