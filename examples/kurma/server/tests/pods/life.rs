//! Pods from beginning to end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kurma_client::{AppState, PodState};
use serde_json::json;

use crate::harness::{PATIENCE, Server, aci, docker, ready, upon};
use kiln_oci::appc::App;

/// Answers at port 80 with what its machine is called, and ends when it is asked to.
const WEB: &str = "trap 'exit 0' TERM; echo hello from $(hostname); \
                   while :; do echo served by $(hostname) | nc -l -p 80 & wait $!; done";

/// What is answered at an address. Between two answers there is nobody for a moment.
fn ask(address: &str) -> String {
    let begun = Instant::now();
    loop {
        let asked = TcpStream::connect(address).and_then(|mut stream| {
            stream.write_all(b"\n")?;
            let mut said = String::new();
            stream.read_to_string(&mut said).map(|_| said)
        });
        match asked {
            Ok(said) if !said.is_empty() => return said,
            other => assert!(begun.elapsed() < PATIENCE, "{address}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_pod_runs_is_reached_and_leaves_nothing() {
    if !ready() {
        return;
    }
    let server = Server::start();
    server.image("example.com/web", WEB);
    let before = server.left();
    let pod = server
        .create(json!({"image": "example.com/web", "name": "web", "ports": ["8080:80"]}))
        .unwrap();
    assert_eq!((pod.name.as_str(), pod.state), ("web", PodState::Running));
    assert_eq!(pod.apps[0].state, AppState::Running);
    server.until_said("web", "hello from web\n");

    // from the machine by its address and by the port, and from another pod
    let address = pod.networks[0].addresses[0].split('/').next().unwrap().to_owned();
    let direct = format!("{address}:80");
    assert_eq!(server.inside(|| ask(&direct)), "served by web\n");
    assert_eq!(server.inside(|| ask("10.220.0.1:8080")), "served by web\n");
    let line =
        format!("until nc {address} 80 < /dev/null; do sleep 0.1; done; cat /etc/hosts; exit 7");
    server.image("example.com/asks", &line);
    server.create(json!({"image": "example.com/asks", "name": "asks"})).unwrap();
    let asked = server.until("asks", PodState::Exited);
    assert_eq!(asked.apps[0].exit_code, Some(7));
    server.until_said("asks", "served by web\n");
    assert!(server.said("asks").contains(" asks\n"), "its own name is not in /etc/hosts");

    assert_eq!(server.wait(server.client().stop("web")).unwrap().state, PodState::Stopped);
    assert_eq!(server.pod("web").apps[0].exit_code, Some(0), "it was not asked to end");
    for pod in ["web", "asks"] {
        server.wait(server.client().destroy(pod)).unwrap();
    }
    assert_eq!(server.left(), before);
}

#[test]
fn pods_outlive_the_server_and_are_found_again() {
    if !ready() {
        return;
    }
    let mut server = Server::start();
    server.image("example.com/web", WEB);
    let before = server.left();
    let first = server.create(json!({"image": "example.com/web", "name": "first"})).unwrap();
    let second = server.create(json!({"image": "example.com/web", "name": "second"})).unwrap();
    server.kill();
    // one goes while nobody looks
    let lock = server.path("var/pods").join(&second.uuid).join("lock");
    let number: i32 = std::fs::read_to_string(lock).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(number).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    server.restart();
    assert_eq!(server.until("second", PodState::Exited).apps[0].state, AppState::Ended);
    let found = server.pod("first");
    assert_eq!((found.state, &found.networks), (PodState::Running, &first.networks));
    let address = first.networks[0].addresses[0].split('/').next().unwrap().to_owned() + ":80";
    assert_eq!(server.inside(|| ask(&address)), "served by first\n");
    server.end();
    server.restart();
    assert_eq!(server.pod("first").state, PodState::Running);
    server.wait(server.client().stop("first")).unwrap();
    assert_eq!(server.pod("first").apps[0].exit_code, Some(0));
    for pod in ["first", "second"] {
        server.wait(server.client().destroy(pod)).unwrap();
    }
    assert_eq!(server.left(), before);
}

#[test]
fn what_the_configuration_says_is_there_from_the_beginning() {
    if !ready() {
        return;
    }
    let mut server = Server::start();
    server.kill();
    let images = server.path("images");
    std::fs::create_dir(&images).unwrap();
    let app = App::new(["/bin/sh", "-c", WEB].map(str::to_owned).to_vec());
    std::fs::write(images.join("web.aci"), aci("example.com/web", app)).unwrap();
    std::fs::write(images.join("wrong.aci"), "nothing").unwrap();
    let text = format!(
        "prefetchImages: [{}]\npodNetworks:\n- {{name: other, bridge: other0, gateways: [10.7.0.1/16]}}\n\
         initialPods:\n- example.com/web:1.0\n- {{name: missing, image: example.com/missing}}\n",
        images.display()
    );
    std::fs::write(server.configuration(), text).unwrap();
    server.restart();
    let begun = Instant::now();
    while server.wait(server.client().pod("web")).is_err() {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let pod = server.until("web", PodState::Running);
    assert_eq!(pod.networks[0].addresses, ["10.7.0.2/16"]);
    server.until_log("wrong.aci: ");
    server.until_log("pod missing: there is no image");
    // what runs stays, and what has ended is made anew
    server.end();
    server.restart();
    server.until_log("pod missing: ");
    assert_eq!(server.pod("web").uuid, pod.uuid);
    server.wait(server.client().stop("web")).unwrap();
    server.end();
    server.restart();
    server.until_log("pod web runs 10.7.");
    assert_ne!(server.pod("web").uuid, pod.uuid);
    server.wait(server.client().destroy("web")).unwrap();
}

#[test]
fn images_of_docker_run_too() {
    if !ready() {
        return;
    }
    let server = Server::start();
    let path = server.path("image.tar");
    std::fs::write(
        &path,
        docker(
            "example.com/Old_App:2",
            "cat /data/none; echo wrote > /data/it; id -u; echo $WORD; pwd",
        ),
    )
    .unwrap();
    let image = server.wait(server.client().upload(&path, |_| {})).unwrap();
    assert_eq!((image.name(), image.label("version")), ("example.com/old_app", Some("2")));
    // the same again is the same
    assert_eq!(server.wait(server.client().upload(&path, |_| {})).unwrap(), image);
    server.create(json!({"image": "example.com/old_app:2", "name": "docker"})).unwrap();
    server.until("docker", PodState::Exited);
    server.until_said("docker", " 33\n");
    server.until_said("docker", "said\n");
    server.until_said("docker", " /usr\n");
    server.wait(server.client().delete_image("example.com/old_app")).unwrap_err();
    server.wait(server.client().destroy("docker")).unwrap();
    server.wait(server.client().delete_image("example.com/old_app")).unwrap();
    assert_eq!(std::fs::read_dir(server.path("var/images")).unwrap().count(), 0);
}

#[test]
fn an_image_is_put_upon_another() {
    if !ready() {
        return;
    }
    let server = Server::start();
    let above = upon("example.com/above", "example.com/sh", "cat /etc/above /etc/passwd");
    let path = server.path("above.aci");
    std::fs::write(&path, above).unwrap();
    let refused = server.wait(server.client().upload(&path, |_| {})).unwrap_err().to_string();
    assert!(refused.contains("example.com/sh"), "{refused}");
    server.image("example.com/sh", "true");
    server.wait(server.client().upload(&path, |_| {})).unwrap();
    // it has its files now
    server.wait(server.client().delete_image("example.com/sh")).unwrap();
    server.create(json!({"image": "example.com/above", "name": "above"})).unwrap();
    server.until_said("above", " written above\n");
    server.until_said("above", "web:x:33");
}

#[test]
fn apps_share_a_network_and_volumes() {
    if !ready() {
        return;
    }
    let server = Server::start();
    let client = "until nc 127.0.0.1 80 < /dev/null > /data/answer; do sleep 0.1; done
        id -u > /data/.who && mv /data/.who /data/who";
    server.image("example.com/web", WEB);
    server.image("example.com/sh", "true");
    let app = |line: &str, user: &str| {
        json!({"exec": ["/bin/sh", "-c", line], "user": user, "group": user,
               "mountPoints": [{"name": "data", "path": "/data"}]})
    };
    let pod = json!({
        "acKind": "PodManifest", "acVersion": "0.8.11",
        "apps": [
            {"name": "web", "image": {"name": "example.com/web"}},
            {"name": "asks", "image": {"name": "example.com/sh"}, "app": app(client, "web")},
            {"name": "reads", "image": {"name": "example.com/sh"}, "readOnlyRootFS": true,
             "app": app("until test -e /data/who; do sleep 0.1; done; cat /data/*; touch /x; cat /usr/share/one", "0"),
             "mounts": [{"volume": "data", "path": "/data"}]}
        ],
        "volumes": [{"name": "data", "kind": "empty", "mode": "0777"}],
        "isolators": []
    });
    server.create(json!({"pod": pod, "name": "three"})).unwrap();
    let read = || {
        let pod = server.pod("three");
        pod.apps.iter().find(|app| app.name == "reads").unwrap().state == AppState::Ended
    };
    let begun = Instant::now();
    while !read() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", server.pod("three"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = server.wait(async {
        let mut logs = server.client().logs("three", Some("reads"), None, true).await.unwrap();
        let mut said = String::new();
        while !said.contains("No such file") {
            said += &String::from_utf8_lossy(&logs.next().await.unwrap().unwrap());
        }
        said
    });
    assert!(said.contains("served by three\n"), "{said}");
    assert!(said.contains(" 33\n"), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert_eq!(server.pod("three").state, PodState::Running);
    server.wait(server.client().destroy("three")).unwrap();
    server.wait(server.client().pod("three")).unwrap_err();
}
