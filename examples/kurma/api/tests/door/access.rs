//! Who becomes known, and who is known no longer.

use std::os::unix::fs::PermissionsExt as _;

use kurma_client::rpc::DENIED;
use kurma_client::{Code, Error, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::Server;

fn refused(error: &Error) -> (i64, String) {
    match error {
        Error::Refused(fault) => (fault.code, fault.message.clone()),
        other => panic!("{other}"),
    }
}

#[test]
fn who_knows_the_code_is_known_from_then_on() {
    let server = Server::start();
    let operator = server.operator();
    let client = server.client(&operator);
    assert!(server.wait(client.pods()).unwrap().is_empty());
    let image = server.wait(client.upload(&server.image(), |_| {})).unwrap();
    let images = server.wait(client.images()).unwrap();
    assert_eq!((images.len(), &images[0].hash), (1, &image.hash));
    server.wait(client.delete_image(&image.hash)).unwrap();
    let audit = server.audit();
    assert_eq!(audit.matches("\"caller\":\"first\"").count(), 2, "{audit}");
    assert_eq!(audit.matches("\"role\":\"operator\"").count(), 2, "{audit}");
    for entry in std::fs::read_dir(server.path("data")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let is_lock = entry.file_name() == "lock";
        assert!(is_lock || mode == 0o600, "{:?} {mode:o}", entry.path());
    }
}

#[test]
fn a_code_counts_once() {
    let server = Server::start();
    let code = server.code.clone().unwrap();
    let operator = server.operator();
    let again = server.enroll(&code, "second").unwrap_err();
    assert_eq!(refused(&again).0, DENIED);
    assert!(refused(&again).1.contains("no code counts"), "{again}");
    // nor do those of others go on
    let issued = server.wait(server.client(&operator).code(Role::Operator)).unwrap();
    let error = server.enroll(&code, "second").unwrap_err();
    assert!(refused(&error).1.contains("4 more tries"), "{error}");
    // a name that is taken or none costs no code
    let code = issued.code.parse().unwrap();
    assert!(server.enroll(&code, "first").unwrap_err().to_string().contains("already"));
    for bad in ["", "a b", "a/b", "ü", ".a", &"a".repeat(65)] {
        let error = server.enroll(&code, bad).unwrap_err().to_string();
        assert!(error.contains("a client is called by"), "{bad}: {error}");
    }
    server.enroll(&code, "second").unwrap();
    let known = server.wait(server.client(&operator).known()).unwrap();
    let names: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn five_wrong_tries_end_the_code() {
    let mut server = Server::start();
    let code = server.code.clone().unwrap();
    let authority = std::fs::read(server.path("data/ca.pem")).unwrap();
    let authority = {
        use rustls::pki_types::pem::PemObject as _;
        rustls::pki_types::CertificateDer::from_pem_slice(&authority).unwrap()
    };
    for (at, left) in ["4 more", "3 more", "2 more", "1 more", "none counts"].iter().enumerate() {
        let guess = Code::new(&authority, [u8::try_from(at).unwrap(); 10]);
        let error = server.enroll(&guess, "guesser").unwrap_err();
        assert_eq!(refused(&error).0, DENIED);
        assert!(refused(&error).1.contains(left), "{error}");
    }
    let error = server.enroll(&code, "first").unwrap_err();
    assert!(refused(&error).1.contains("no code counts"), "{error}");
    server.until_logged("\"refused\":\"enroll guesser: the code is wrong");
    // another start, another code
    server.end();
    server.ended();
    server.open(|_| {});
    assert!(server.code.as_ref().unwrap() != &code);
    server.operator();
}

#[test]
fn a_code_of_another_server_is_not_told_to_this_one() {
    let (server, other) = (Server::start(), Server::start());
    let error = server.enroll(other.code.as_ref().unwrap(), "first").unwrap_err();
    assert!(error.to_string().contains("the code is not one of this server"), "{error}");
    // and so has not been tried
    server.operator();
}

#[test]
fn who_is_known_stays_so_when_the_names_change() {
    let mut server = Server::start();
    let operator = server.operator();
    let certificate = std::fs::read(server.path("data/server.pem")).unwrap();
    server.end();
    server.ended();
    server.open(|_| {});
    assert!(server.code.is_none());
    assert_eq!(std::fs::read(server.path("data/server.pem")).unwrap(), certificate);
    server.end();
    server.ended();
    server.open(|options| options.names = vec!["other.example".into()]);
    assert_ne!(std::fs::read(server.path("data/server.pem")).unwrap(), certificate);
    server.until_logged("its names are others");
    server.wait(server.client(&operator).pods()).unwrap();
}

#[test]
fn who_may_look_changes_nothing_whatever_it_says_it_is() {
    let server = Server::start();
    let operator = server.operator();
    let reader = server.reader(&operator, "reader");
    let client = server.client(&reader);
    server.wait(client.pods()).unwrap();
    server.wait(client.known()).unwrap();
    let image = server.wait(server.client(&operator).upload(&server.image(), |_| {})).unwrap();
    for error in [
        server.wait(client.delete_image(&image.hash)).unwrap_err(),
        server.wait(client.code(Role::ReadOnly)).unwrap_err(),
        server.wait(client.revoke("first")).unwrap_err(),
    ] {
        let (code, message) = refused(&error);
        assert_eq!((code, message.as_str()), (DENIED, "reader may look, and change nothing"));
    }
    let call = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Images.Delete\",\"params\":{{\"hash\":\"{}\"}}}}",
        image.hash
    );
    for headers in [
        "kurma-role: operator\r\nkurma-caller: first\r\n",
        "Kurma-Role: operator\r\nKURMA-ROLE: operator\r\n",
        // a proxy that takes out what this names last says nothing of who asks
        "Connection: kurma-role, kurma-caller\r\n",
        "Connection: kurma-role\r\nkurma-role: operator\r\n",
    ] {
        let said = server.ask(Some(&reader), "POST /rpc", headers, &call);
        assert!(said.contains("reader may look, and change nothing"), "{headers}: {said}");
    }
    assert_eq!(server.wait(client.images()).unwrap().len(), 1);
}

#[test]
fn who_is_refused_while_still_sending_reads_why() {
    let server = Server::start();
    let operator = server.operator();
    let client = server.client(&server.reader(&operator, "reader"));
    let large = server.path("large");
    std::fs::write(&large, vec![0; 5_000_000]).unwrap();
    let body = "x".repeat(5_000_000);
    for _ in 0..5 {
        // by the server, which is asked on behalf of somebody, and at the door
        let error = server.wait(client.upload(&large, |_| {})).unwrap_err();
        assert_eq!(refused(&error).1, "reader may look, and change nothing");
        let said = server.ask(None, "POST /images/create", "", &body);
        assert!(said.contains("kurma enroll"), "{said}");
    }
}

#[test]
fn who_is_revoked_is_refused_at_once_and_after_a_start() {
    let mut server = Server::start();
    let operator = server.operator();
    let reader = server.reader(&operator, "reader");
    // a connection that is open stays open no longer
    let mut open = server.wait(server.connect(Some(&reader))).unwrap();
    let info = b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n";
    server.wait(async {
        open.write_all(info).await.unwrap();
        let mut piece = [0; 1 << 10];
        assert!(open.read(&mut piece).await.unwrap() > 0);
    });
    assert!(server.wait(server.client(&operator).revoke("reader")).unwrap().revoked);
    server.wait(async {
        let mut rest = Vec::new();
        let _ = open.read_to_end(&mut rest).await;
    });
    let error = server.wait(server.client(&reader).pods()).unwrap_err();
    assert!(refused(&error).1.contains("revoked"), "{error}");
    server.until_logged("\"caller\":\"reader\"");
    let error = server.wait(server.client(&operator).revoke("nobody")).unwrap_err();
    assert!(error.to_string().contains("nobody is called nobody"), "{error}");
    server.end();
    server.ended();
    server.open(|_| {});
    let error = server.wait(server.client(&reader).pods()).unwrap_err();
    assert!(refused(&error).1.contains("revoked"), "{error}");
    let known = server.wait(server.client(&operator).known()).unwrap();
    let revoked: Vec<(&str, bool)> =
        known.iter().map(|one| (one.name.as_str(), one.revoked)).collect();
    assert_eq!(revoked, [("first", false), ("reader", true)]);
    // the name is free again, the certificate is not
    server.reader(&operator, "reader");
    assert!(server.wait(server.client(&reader).pods()).is_err());
}
