//! Processes beside an app.

use futures_util::{SinkExt as _, StreamExt as _};
use kurma_client::enter::{Ended, Enter, INPUT, Said, Size};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{PATIENCE, Server, ready};

/// Starts something, types, and gives what was said and how it ended.
fn enter(server: &Server, enter: &Enter, input: &[Message]) -> (String, Ended) {
    server.wait(async {
        let talk = async {
            let mut socket = server.client().enter(enter).await.unwrap();
            for message in input {
                socket.send(message.clone()).await.unwrap();
            }
            let mut said = String::new();
            loop {
                match socket.next().await.unwrap().unwrap() {
                    Message::Binary(bytes) => said += &String::from_utf8_lossy(&bytes[1..]),
                    Message::Text(text) => return (said, serde_json::from_str(&text).unwrap()),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, talk).await.unwrap()
    })
}

fn typed(text: &str) -> Message {
    Message::binary([&[INPUT], text.as_bytes()].concat())
}

fn said(what: Said) -> Message {
    Message::text(serde_json::to_string(&what).unwrap())
}

#[test]
fn a_process_is_started_beside_an_app() {
    if !ready() {
        return;
    }
    let server = Server::start();
    server.image("example.com/sleeps", "export IN=app; exec sleep 1000");
    server.create(json!({"image": "example.com/sleeps", "name": "sleeps"})).unwrap();
    let mut what = Enter::default();
    what.pod = "sleeps".into();

    // a command, with its code; input to its end
    what.exec = ["sh", "-c", "cat; echo wrong >&2; hostname; exit 5"].map(str::to_owned).to_vec();
    let (text, ended) = enter(&server, &what, &[typed("typed\n"), said(Said::End)]);
    assert_eq!((text.matches("typed\n").count(), ended), (1, Ended::Exit(5)), "{text}");
    assert!(text.contains("wrong\n") && text.contains("sleeps\n"), "{text}");

    // a terminal of a size, which changes
    what.exec = Vec::new();
    what.user = Some("33:33".into());
    what.terminal = Some(Size { rows: 33, columns: 77 });
    let resize = said(Said::Resize(Size { rows: 44, columns: 99 }));
    let line = typed(
        "stty size; while test \"$(stty size)\" != '44 99'; do sleep 0.1; done; tty; id -u; exit 3\n",
    );
    let (text, ended) = enter(&server, &what, &[line, resize]);
    assert_eq!(ended, Ended::Exit(3), "{text}");
    assert!(text.contains("/dev/pts/0") && text.contains("\n33\r\n"), "{text}");

    // what cannot be started
    what = Enter::default();
    what.pod = "sleeps".into();
    what.exec = vec!["/bin/nothing".into()];
    let (text, ended) = enter(&server, &what, &[]);
    assert!(text.contains("nothing") && ended != Ended::Exit(0), "{text} {ended:?}");
    what.app = Some("other".into());
    let (_, ended) = enter(&server, &what, &[]);
    assert_eq!(ended, Ended::Error("pod sleeps has no app \"other\"".into()));
}

#[test]
fn who_goes_takes_the_process_along() {
    if !ready() {
        return;
    }
    let server = Server::start();
    server.image("example.com/sleeps", "exec sleep 1000");
    server.create(json!({"image": "example.com/sleeps", "name": "sleeps"})).unwrap();
    let mut what = Enter::default();
    what.pod = "sleeps".into();
    what.terminal = Some(Size { rows: 24, columns: 80 });
    server.wait(async {
        let mut socket = server.client().enter(&what).await.unwrap();
        socket.send(typed("echo begun; exec sleep 999\n")).await.unwrap();
        let mut text = String::new();
        while !text.contains("begun\r\n") {
            if let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() {
                text += &String::from_utf8_lossy(&bytes[1..]);
            }
        }
    });
    what.terminal = None;
    // the pattern is not to find the line that it is in
    let line = "while cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q 'sleep [9]99'; do sleep 0.1; done; echo gone";
    what.exec = ["sh", "-c", line].map(str::to_owned).to_vec();
    let (text, ended) = enter(&server, &what, &[]);
    assert!(text.ends_with("gone\n") && ended == Ended::Exit(0), "{text} {ended:?}");
}
