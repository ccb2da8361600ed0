//! Many pods one after the other and at once, and what is left of them. `KILN_LOAD=PODS,ALIVE,MALFORMED` makes
//! it as much as a campaign wants.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Server, ready, run};
use crate::refusals::post;

/// Who asks at once.
const WORKERS: usize = 8;

fn amounts() -> [usize; 3] {
    let text = std::env::var("KILN_LOAD").unwrap_or_default();
    let numbers: Vec<usize> = text.split(',').filter_map(|number| number.parse().ok()).collect();
    numbers.try_into().unwrap_or([16, 6, 300])
}

fn told(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    println!(
        "{what}: n {}, p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
        times.len(),
        at(50),
        at(99),
        at(100)
    );
}

/// What the server itself has: descriptors, and threads for pods.
fn held(server: &Server) -> [usize; 2] {
    let count =
        |name: &str| std::fs::read_dir(format!("/proc/{}/{name}", server.id())).unwrap().count();
    [count("fd"), pods_threads(server)]
}

fn pods_threads(server: &Server) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.id())).unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name == "pod\n").count()
}

/// Does something several times, by several at once.
fn spread(
    count: usize,
    server: &Server,
    what: impl Fn(&kurma_client::Client, usize) -> Duration + Sync,
) -> Vec<Duration> {
    let next = AtomicUsize::new(0);
    let (next, what) = (&next, &what);
    let work = |client: kurma_client::Client| {
        let mut times = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return times;
            }
            times.push(what(&client, at));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| server.client())
            .map(|client| scope.spawn(move || work(client)))
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn wait<T>(what: impl Future<Output = kurma_client::Result<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(what).unwrap()
}

fn create(client: &kurma_client::Client, name: &str, port: Option<usize>) -> Duration {
    let ports: Vec<String> = port.map(|port| format!("{port}:80")).into_iter().collect();
    let create = json!({ "image": "example.com/sleeps", "name": name, "ports": ports });
    let create = serde_json::from_value(create).unwrap();
    let begun = Instant::now();
    wait(client.create(&create));
    begun.elapsed()
}

#[test]
fn many_pods_leave_nothing_and_garbage_keeps_nobody_waiting() {
    if !ready() {
        return;
    }
    let [pods, alive, malformed] = amounts();
    let server = Server::start();
    server
        .image("example.com/sleeps", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done");
    // what is made once and stays is there
    create(&server.client(), "first", Some(9999));
    wait(server.client().destroy("first"));
    let (before, own) = (server.left(), held(&server));

    let mut gone = Vec::new();
    let mut made =
        spread(pods, &server, |client, at| create(client, &format!("p{at}"), Some(10_000 + at)));
    told("made and left alive at once", &mut made);
    // beyond what is to be alive: one goes, one comes
    for at in alive..pods {
        let begun = Instant::now();
        wait(server.client().destroy(&format!("p{at}")));
        gone.push(begun.elapsed());
    }
    told("destroyed", &mut gone);
    let listed = wait(server.client().pods());
    assert_eq!(listed.len(), alive.min(pods));
    let mut asked = spread(200, &server, |client, _| {
        let begun = Instant::now();
        wait(client.pods());
        begun.elapsed()
    });
    told(&format!("list of {alive} pods"), &mut asked);

    let bad: [&[u8]; 5] =
        [b"", b"{", b"[[[[", b"{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"id\":1}", &[0xff; 4096]];
    let begun = Instant::now();
    spread(malformed, &server, |_, at| {
        let said = post(&server.path("run/kurma.sock"), "/rpc", "", bad[at % bad.len()]);
        assert!(said.contains("\"error\""), "{said}");
        Duration::ZERO
    });
    println!("{malformed} malformed calls: {:.1} s", begun.elapsed().as_secs_f64());

    spread(alive.min(pods), &server, |client, at| {
        wait(client.destroy(&format!("p{at}")));
        Duration::ZERO
    });
    assert_eq!(server.left(), before);
    // who waited for a pod's end notices in its time; a connection may have been open before, which is none now
    let begun = Instant::now();
    while held(&server).into_iter().zip(own).any(|(now, before)| now > before) {
        assert!(begun.elapsed() < crate::harness::PATIENCE, "{:?} {own:?}", held(&server));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A pod has a network, a book of addresses, logs and a supervisor beside its container: how much of the time until
/// it runs is not its container's. Nothing is asserted of times; the figures are printed.
#[test]
fn a_pod_beside_a_container_of_the_runtime_alone() {
    if !ready() {
        return;
    }
    let count = if std::env::var_os("KILN_LOAD").is_some() { 30 } else { 3 };
    let server = Server::start();
    let line = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";
    server.image("example.com/sleeps", line);
    let bundle = server.path("bundle");
    std::fs::create_dir(&bundle).unwrap();
    let (place, image) = (bundle.display().to_string(), server.path("image.aci"));
    run("tar", &["-C", &place, "-xzf", &image.display().to_string()]);
    run("crun", &["spec", "--bundle", &place]);
    let config = bundle.join("config.json");
    let mut spec: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!(["/bin/sh", "-c", line]);
    // rules for devices want a memory lock that is not allowed everywhere
    spec["linux"]["resources"] = json!({});
    std::fs::write(&config, spec.to_string()).unwrap();
    // in the server's mounts, where control groups are all of version 2
    let mounts = format!("--mount=/proc/{}/ns/mnt", server.id());
    let state = server.path("alone").display().to_string();
    let runtime = |words: &[&str]| {
        let words = [&[&mounts, "crun", "--root", &state], words].concat();
        let mut command = std::process::Command::new("nsenter");
        command.args(&words).stdin(std::process::Stdio::null());
        // what runs keeps its descriptors open
        let said = std::fs::File::create(server.path("alone.log")).unwrap();
        command.stdout(std::process::Stdio::null()).stderr(said);
        let done = command.status().unwrap();
        let said = || std::fs::read_to_string(server.path("alone.log")).unwrap();
        assert!(done.success(), "{words:?}: {}", said());
    };
    let (mut pods, mut alone) = (Vec::new(), Vec::new());
    create(&server.client(), "first", None);
    wait(server.client().destroy("first"));
    for at in 0..count {
        let name = format!("kiln-{}-{at}", std::process::id());
        pods.push(create(&server.client(), &name, None));
        wait(server.client().destroy(&name));
        let begun = Instant::now();
        runtime(&["run", "--detach", "--bundle", &place, &name]);
        alone.push(begun.elapsed());
        runtime(&["delete", "--force", &name]);
    }
    told("a pod runs, one at a time", &mut pods);
    told("a container runs, by the runtime alone", &mut alone);
}
