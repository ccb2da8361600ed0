//! What is passed on: streams both ways, websockets, and what comes without TLS.

use futures_util::StreamExt as _;
use kurma_client::enter::{Ended, Enter};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::Server;

#[test]
fn a_websocket_is_a_tunnel() {
    let server = Server::start();
    let operator = server.operator();
    let mut what = Enter::default();
    what.pod = "nothing".into();
    for client in [server.client(&operator), server.plainly()] {
        let said = server.wait(async {
            let mut socket = client.enter(&what).await.unwrap();
            socket.next().await.unwrap().unwrap()
        });
        let Message::Text(text) = said else { panic!("{said:?}") };
        let ended: Ended = serde_json::from_str(&text).unwrap();
        assert!(matches!(&ended, Ended::Error(error) if error.contains("nothing")), "{ended:?}");
    }
    // who may look does not come in
    let reader = server.reader(&operator, "reader");
    let error = server.wait(server.client(&reader).enter(&what)).err().unwrap().to_string();
    assert!(error.contains("403"), "{error}");
}

#[test]
fn several_requests_go_over_one_connection() {
    let server = Server::start();
    let operator = server.operator();
    server.wait(async {
        let mut stream = server.connect(Some(&operator)).await.unwrap();
        for _ in 0..20 {
            stream.write_all(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut said = Vec::new();
            while !said.ends_with(b"}") {
                assert!(stream.read_buf(&mut said).await.unwrap() > 0);
            }
            assert!(said.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
        // a body without a length, in pieces
        let call = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Pods.List\"}";
        let head = "POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for piece in call.as_bytes().chunks(7) {
            let piece = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            stream.write_all(&piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        stream.write_all(b"0\r\nkurma-role: operator\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"}") {
            assert!(stream.read_buf(&mut said).await.unwrap() > 0);
        }
        assert!(String::from_utf8_lossy(&said).contains("\"pods\":[]"));
    });
}

#[test]
fn without_tls_everybody_is_an_operator_and_nobody_becomes_known() {
    let server = Server::start();
    let image = server.wait(server.plainly().upload(&server.image(), |_| {})).unwrap();
    assert_eq!(server.wait(server.plainly().images()).unwrap()[0].hash, image.hash);
    let audit = server.audit();
    assert!(audit.contains("\"caller\":\"plain 127.0.0.1\""), "{audit}");
    for error in [
        server.wait(server.plainly().known()).unwrap_err(),
        server.wait(server.plainly().code(kurma_client::Role::Operator)).unwrap_err(),
    ] {
        assert!(error.to_string().contains("over TLS only"), "{error}");
    }
}

#[test]
fn what_has_begun_goes_on_to_its_end() {
    let mut server = Server::start();
    let operator = server.operator();
    let image = std::fs::read(server.image()).unwrap();
    let (first, rest) = image.split_at(image.len() / 2);
    let mut stream = server.wait(server.connect(Some(&operator))).unwrap();
    let head = format!(
        "POST /images/create HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        image.len()
    );
    server.wait(async {
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(first).await.unwrap();
        stream.flush().await.unwrap();
    });
    // it is being taken
    let images = server.path("var/images");
    let begun = std::time::Instant::now();
    while std::fs::read_dir(&images).unwrap().count() == 0 {
        assert!(begun.elapsed() < crate::harness::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    server.end();
    let said = server.wait(async {
        stream.write_all(rest).await.unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    });
    assert!(said.starts_with("HTTP/1.1 201 "), "{said}");
    server.ended();
    assert!(server.wait(server.client(&operator).pods()).is_err());
}

#[test]
fn a_server_that_is_gone_is_told() {
    let server = Server::start_with(|options| options.server = "/nowhere/kurma.sock".into());
    let operator = server.operator();
    let said = server.ask(Some(&operator), "GET /info", "", "");
    assert!(said.starts_with("HTTP/1.1 502 "), "{said}");
    assert!(said.contains("kurma-server does not answer"), "{said}");
}
