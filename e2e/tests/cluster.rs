//! A cluster with mutual TLS on a network between guests: a node is lost, and another takes over.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kiln::Progress;
use kiln::qemu::{Card, Lan};
use kiln_e2e::{Guest, answer_of, images, start};
use nomados::agent::{Agent, Credentials, batch_job};
use nomados::cluster::{self, Network};
use nomados::run::Options;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(1200);
/// The first byte of a connection of Nomad's RPC without TLS (`helper/pool`, `RpcNomad`).
const PLAIN_RPC: u8 = 1;

/// A server and two clients in a directory, quick to notice that one is gone.
fn make(directory: &Path) -> Result<()> {
    let mut options = cluster::Options::new()?;
    options.clients = 2;
    options.network = Some(Network { base: [10, 77, 0, 0].into(), interface: "eth1".into() });
    options.base["plugin"] = json!([{ "raw_exec": { "config": { "enabled": true } } }]);
    options.base["server"]["heartbeat_grace"] = json!("10s");
    options.base["server"]["min_heartbeat_ttl"] = json!("5s");
    cluster::make(directory, &options).map(drop)
}

/// Starts a node; `number` is the last part of its address on the network.
fn node(cluster: &Path, lan: &Lan, name: &str, number: u8) -> Result<Guest> {
    let mut options = Options::new(images()?.join("nomados.initramfs"));
    options.memory = 1024;
    options.config = Some(cluster.join(format!("{name}.raw")));
    options.credentials = Some(Credentials::read(cluster)?);
    options.cards = vec![Card::on(lan, number)];
    options.command_line =
        vec!["ip=eth0:dhcp".into(), format!("ip=10.77.0.{number}:::24::eth1:none")];
    start(&options)
}

/// A service that runs until it is stopped, anywhere.
fn worker() -> Value {
    let mut job = batch_job("worker", "exec", "echo working; exec sleep 100000");
    job["Type"] = json!("service");
    job["TaskGroups"][0]["ReschedulePolicy"] =
        json!({ "Unlimited": true, "Delay": 5_000_000_000_u64, "DelayFunction": "constant" });
    job
}

fn until(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let last = ready();
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("{what} did not come within {} s: {last:?}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The status of the node of this name.
fn status(agent: &Agent, name: &str) -> Result<String> {
    let nodes = agent.nodes()?;
    let node = nodes.as_array().into_iter().flatten().find(|node| node["Name"] == name);
    Ok(node.and_then(|node| node["Status"].as_str()).unwrap_or("unknown").to_owned())
}

#[test]
fn a_clients_job_moves_when_it_is_lost_and_nobody_without_a_certificate_is_heard() -> Result<()> {
    let quiet = Progress::quiet();
    let directory = tempfile::tempdir()?;
    let cluster = directory.path().join("cluster");
    make(&cluster)?;
    let lan = Lan::start()?;
    let server = node(&cluster, &lan, "server-1", 11)?;
    let mut first = node(&cluster, &lan, "client-1", 101)?;
    let agent = server.running.agent.clone();
    until("a ready client", LONG, || {
        ensure!(!first.running.vm.has_ended()?, "the client has ended");
        Ok(agent.is_ready())
    })
    .with_context(|| server.running.vm.console().tail(20))?;
    assert_eq!(status(&agent, "client-1")?, "ready");
    ensure!(lan.frames() > 0, "nothing crossed the network between them");

    // Gossip is encrypted, and the API answers to the cluster's own people only.
    let described = agent.describe()?;
    assert_eq!(described["stats"]["serf"]["encrypted"], "true", "{described}");
    let port = server.running.vm.forwarded(4646).context("no port leads to the API")?;
    let answer = answer_of(port, "/v1/nodes")?;
    ensure!(answer.starts_with("HTTP/1.0 400"), "plain HTTP is answered: {answer}");
    let own = Credentials::read(&cluster)?;
    let mut nobody = own.clone();
    nobody.own = None;
    ensure!(Agent::over_tls(port, &nobody)?.nodes().is_err(), "heard without a certificate");
    let foreign = directory.path().join("foreign");
    make(&foreign)?;
    let mut stranger = own.clone();
    stranger.own = Credentials::read(&foreign)?.own;
    ensure!(Agent::over_tls(port, &stranger)?.nodes().is_err(), "heard with a foreign certificate");
    let mut deceived = own;
    deceived.ca = Credentials::read(&foreign)?.ca;
    ensure!(Agent::over_tls(port, &deceived)?.nodes().is_err(), "believed a foreign server");
    // RPC, too: whoever begins it without TLS is hung up on.
    let rpc = server.running.vm.forwarded(4647).context("no port leads to RPC")?;
    let mut plain = TcpStream::connect(("127.0.0.1", rpc))?;
    plain.set_read_timeout(Some(Duration::from_secs(60)))?;
    plain.write_all(&[PLAIN_RPC])?;
    ensure!(plain.read(&mut [0]).context("plain RPC is waited for")? == 0, "plain RPC is answered");

    // On the node, the secrets are root's alone, and on no command line.
    let look = batch_job(
        "look",
        "raw_exec",
        "stat -c '%a %n' /run/nomad-config /run/nomad-config/* /etc/nomad/init.json; \
         cat /proc/cmdline; mount | grep nomad-config; ls /run",
    );
    let found = agent.run(&look, LONG)?;
    let seen = agent.log(&found.id, "look", "stdout")?;
    ensure!(seen.contains("700 /run/nomad-config\n"), "{seen}");
    ensure!(seen.contains("600 /run/nomad-config/node-key.pem"), "{seen}");
    ensure!(seen.contains("600 /etc/nomad/init.json"), "{seen}");
    ensure!(!seen.contains("BEGIN") && !seen.contains("nomad-config.disk"), "{seen}");

    let id = agent.submit(&worker())?;
    let before = agent.wait_for(&id, &["running"], LONG)?;
    ensure!(before.status == "running" && before.node == "client-1", "{before:?}");

    // The plug is pulled. After its heartbeats have stayed out, the job is lost and waits.
    drop(first);
    until("the lost node", LONG, || Ok(status(&agent, "client-1")? == "down"))?;
    until("the lost allocation", LONG, || {
        let all = agent.allocations(&id)?;
        Ok(all.iter().any(|found| found.id == before.id && found.status == "lost"))
    })?;

    // Another client comes, and gets it.
    first = node(&cluster, &lan, "client-2", 102)?;
    until("the job on the other client", LONG, || {
        ensure!(!first.running.vm.has_ended()?, "the client has ended");
        let all = agent.allocations(&id)?;
        Ok(all.iter().any(|found| found.node == "client-2" && found.status == "running"))
    })
    .with_context(|| first.running.vm.console().tail(20))?;
    assert_eq!(status(&agent, "client-1")?, "down");

    let mut server = server;
    first.running.shut_down(&quiet)?;
    server.running.shut_down(&quiet)?;
    Ok(())
}
