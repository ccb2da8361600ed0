//! What is refused, while others are served.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use kurma_client::rpc;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server, ready};

/// What a socket says to bytes, until it is closed.
fn bytes(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(request);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

pub(crate) fn post(socket: &Path, path: &str, headers: &str, body: &[u8]) -> String {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    bytes(socket, &[head.as_bytes(), body].concat())
}

/// What is answered to a call from elsewhere.
fn remotely(server: &Server, role: &str, method: &str, params: &Value) -> Value {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let headers = format!("kurma-caller: somebody\r\nkurma-role: {role}\r\n");
    let said = post(&server.path("run/remote/kurma.sock"), "/rpc", &headers, call.as_bytes());
    serde_json::from_str(said.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

fn pod(app: &Value) -> Value {
    json!({"acKind": "PodManifest", "acVersion": "0.8.11", "apps": [app]})
}

#[test]
fn what_cannot_be_is_told_at_once_and_leaves_nothing() {
    if !ready() {
        return;
    }
    let server = Server::start();
    server.image("example.com/sh", "true");
    let before = server.left();
    let app = |isolators: Value| {
        json!({"name": "a", "image": {"name": "example.com/sh"},
               "app": {"exec": ["/bin/true"], "user": "0", "group": "0", "isolators": isolators}})
    };
    let none = json!([]);
    for (create, said) in [
        (json!({"image": "example.com/sh", "name": "../up"}), "a pod is called by"),
        (json!({"image": "example.com/sh", "name": "a/b"}), "a pod is called by"),
        (json!({"image": "example.com/other"}), "there is no image"),
        (
            json!({"image": "example.com/sh", "networks": ["other"]}),
            "there is no network \"other\"",
        ),
        (json!({"image": "example.com/sh", "ports": ["80"]}), "expected [ADDRESS:]PORT:PORT"),
        (
            json!({"image": "example.com/sh", "networks": [], "ports": ["8080:80"]}),
            "no network of its own",
        ),
        (json!({}), "either a pod's manifest or an image"),
        (
            json!({"pod": pod(&app(json!([{"name": "host/unheard-of", "value": true}])))}),
            "host/unheard-of",
        ),
        (
            json!({"pod": pod(&app(json!([{"name": "host/privileged", "value": 1}])))}),
            "is true or false",
        ),
        (json!({"pod": pod(&json!({"name": "A", "image": {}}))}), "apps[0].image"),
        (
            json!({"pod": pod(&json!({"name": "a", "image": {"name": "example.com/sh"},
                "app": {"exec": ["/bin/true"], "user": "nobody-here", "group": "0", "isolators": none}}))}),
            "nobody-here",
        ),
    ] {
        let refused = server.create(create.clone()).unwrap_err().to_string();
        assert!(refused.contains(said), "{create}: {refused}");
    }
    assert_eq!(server.left(), before);
    // what is not there to be run is known only when it is
    let missing = pod(&json!({"name": "a", "image": {"name": "example.com/sh"},
        "app": {"exec": ["/bin/nothing"], "user": "0", "group": "0"}}));
    server.create(json!({"pod": missing, "name": "nothing"})).unwrap_err();
    assert!(server.pod("nothing").error.is_some());
    server.wait(server.client().destroy("nothing")).unwrap();
    assert_eq!(server.left(), before);
}

#[test]
fn who_asks_from_elsewhere_gets_nothing_of_the_machine() {
    if !ready() {
        return;
    }
    let server = Server::start();
    server.image("example.com/sh", "true");
    let app = |name: &str| {
        json!({"name": "a", "image": {"name": "example.com/sh"},
               "app": {"exec": ["/bin/true"], "user": "0", "group": "0",
                       "isolators": [{"name": name, "value": true}]}})
    };
    for name in ["host/privileged", "host/network", "host/api-access"] {
        let said = remotely(&server, "operator", "Pods.Create", &json!({"pod": pod(&app(name))}));
        assert_eq!(said["error"]["code"], rpc::DENIED, "{said}");
    }
    for isolator in [
        json!({"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_SYS_ADMIN"]}}),
        json!({"name": "os/linux/capabilities-retain-set", "value": {"set": ["CAP_MKNOD"]}}),
        json!({"name": "os/linux/oom-score-adj", "value": -999}),
    ] {
        let app = json!({"name": "a", "image": {"name": "example.com/sh"},
            "app": {"exec": ["/bin/true"], "user": "0", "group": "0", "isolators": [isolator]}});
        let said = remotely(&server, "operator", "Pods.Create", &json!({"pod": pod(&app)}));
        assert_eq!(said["error"]["code"], rpc::DENIED, "{said}");
    }
    for source in ["/", "/etc", "/usr/share/../../etc", "/usr/share/doc"] {
        let mut pod = pod(&json!({"name": "a", "image": {"name": "example.com/sh"}}));
        pod["volumes"] = json!([{"name": "v", "kind": "host", "source": source}]);
        let said = remotely(&server, "operator", "Pods.Create", &json!({"pod": pod}));
        assert!(said["error"].is_object(), "{said}");
    }
    for method in ["Pods.Create", "Pods.Stop", "Pods.Destroy", "Images.Delete"] {
        let said = remotely(&server, "read-only", method, &json!({"image": "example.com/sh"}));
        assert_eq!(said["error"]["code"], rpc::DENIED, "{said}");
    }
    let said = remotely(&server, "emperor", "Images.Delete", &json!({"hash": "example.com/sh"}));
    assert_eq!(said["error"]["code"], rpc::DENIED, "{said}");
    assert_eq!(
        remotely(&server, "read-only", "Images.List", &json!({}))["result"]["images"][0]["manifest"]
            ["name"],
        "example.com/sh"
    );
    let headers = "kurma-caller: somebody\r\nkurma-role: read-only\r\n";
    let said = post(&server.path("run/remote/kurma.sock"), "/images/create", headers, b"x");
    assert!(said.starts_with("HTTP/1.1 403"), "{said}");
    let audit = std::fs::read_to_string(server.path("var/audit.log")).unwrap();
    assert_eq!(audit.matches("\"caller\":\"somebody\"").count(), 16, "{audit}");
}

#[test]
fn garbage_is_answered_and_others_are_served() {
    if !ready() {
        return;
    }
    let server = Server::start();
    // who says nothing, and who begins and stops
    let _silent: Vec<UnixStream> =
        (0..50).map(|_| UnixStream::connect(server.path("run/kurma.sock")).unwrap()).collect();
    let mut slow = UnixStream::connect(server.path("run/kurma.sock")).unwrap();
    slow.write_all(b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    let begun = Instant::now();
    server.wait(server.client().pods()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));

    let local = server.path("run/kurma.sock");
    for garbage in [&b"\0\0\0\0\0\r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", &[b'A'; 1 << 20]] {
        let said = bytes(&local, garbage);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    let long = vec![b' '; 2 << 20];
    assert!(post(&local, "/rpc", "", &long).starts_with("HTTP/1.1 413"));
    assert!(post(&local, "/elsewhere", "", b"").starts_with("HTTP/1.1 404"));
    assert!(post(&local, "/info", "", b"").starts_with("HTTP/1.1 405"));
    let huge = "POST /images/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999999999\r\n\r\n";
    assert!(bytes(&local, huge.as_bytes()).starts_with("HTTP/1.1 413"));
    for (bad, what) in
        [(&b"nothing"[..], "image.aci"), (b"\x1f\x8b\x08\0", "gzip"), (&[0; 10240], "")]
    {
        let said = post(&local, "/images/create", "", bad);
        assert!(said.starts_with("HTTP/1.1 400"), "{what}: {said}");
    }
    // an archive that breaks off leaves nothing
    let half = b"POST /images/create HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf";
    drop({
        let mut stream = UnixStream::connect(&local).unwrap();
        stream.write_all(half).unwrap();
        stream
    });
    let images = server.path("var/images");
    let begun = Instant::now();
    while std::fs::read_dir(&images).unwrap().count() > 0 {
        assert!(begun.elapsed() < PATIENCE, "something is left in {}", images.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    for (call, code) in [
        (json!(7), rpc::INVALID_REQUEST),
        (json!([]), rpc::INVALID_REQUEST),
        (json!({"jsonrpc": "2.0", "id": 1, "method": "Pods.Explode"}), rpc::METHOD_NOT_FOUND),
        (
            json!({"jsonrpc": "2.0", "id": 1, "method": "Pods.Get", "params": [1, 2]}),
            rpc::INVALID_PARAMS,
        ),
        (
            json!({"jsonrpc": "2.0", "id": 1, "method": "Pods.Get", "params": {"uuid": "x"}}),
            rpc::NOT_FOUND,
        ),
    ] {
        let said = post(&local, "/rpc", "", call.to_string().as_bytes());
        let said: Value = serde_json::from_str(said.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(said["error"]["code"], code, "{call}: {said}");
    }
}

#[test]
fn no_pod_gets_at_the_machines_devices() {
    if !ready() {
        return;
    }
    let server = Server::start();
    server.image("example.com/sh", "mknod /disk b 254 0; mknod /data/disk b 254 0; ls /disk; grep Cap /proc/self/status; echo done");
    server.create(json!({"image": "example.com/sh", "name": "sh"})).unwrap();
    server.until_said("sh", "done\n");
    let said = server.said("sh");
    assert_eq!(said.matches("not permitted").count(), 1, "{said}");
    assert!(said.contains("/disk: No such file"), "{said}");
    server.wait(server.client().destroy("sh")).unwrap();
}
