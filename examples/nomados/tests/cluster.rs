//! A cluster's secrets: who can read them, what OpenSSL and a real Nomad say of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kiln::{Cache, Progress, go};
use kiln_diskimg::{Limits, container, fat};
use nomados::agent::{Agent, Credentials};
use nomados::cluster::{self, LABEL, Network, Options};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(300);

fn options() -> Result<Options> {
    let mut options = Options::new()?;
    options.network = Some(Network { base: [10, 77, 0, 0].into(), interface: "eth1".into() });
    Ok(options)
}

#[test]
fn keys_are_the_owners_alone_and_what_is_there_stays() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("cluster");
    let mut options = options()?;
    let made = cluster::make(&out, &options)?;
    assert_eq!(made.nodes.len(), 2);
    ensure!(!made.joined);
    for entry in std::fs::read_dir(&out)? {
        let entry = entry?;
        let mode = entry.metadata()?.permissions().mode() & 0o777;
        let name = entry.file_name().to_string_lossy().into_owned();
        let open = ["ca.pem", "cluster.json", "operator.pem"].contains(&name.as_str());
        assert_eq!(mode, if open { 0o644 } else { 0o600 }, "{name}");
    }
    assert_eq!(std::fs::metadata(&out)?.permissions().mode() & 0o777, 0o700);

    // A second client joins; nothing else changes.
    let before = std::fs::read(out.join("client-1.raw"))?;
    let ca = std::fs::read(out.join("ca.pem"))?;
    options.clients = 2;
    let made = cluster::make(&out, &options)?;
    ensure!(made.joined);
    assert_eq!(made.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["client-2"]);
    assert_eq!(std::fs::read(out.join("client-1.raw"))?, before);
    assert_eq!(std::fs::read(out.join("ca.pem"))?, ca);
    assert_eq!(made.nodes[0].files["ca.pem"].as_bytes(), ca);

    // Another cluster does not mix with it, and a half one is refused.
    options.region = "elsewhere".into();
    let error = cluster::make(&out, &options).unwrap_err().to_string();
    ensure!(error.contains("elsewhere") && error.contains("global"), "{error}");
    options.region = "global".into();
    std::fs::remove_file(out.join("ca-key.pem"))?;
    let error = cluster::make(&out, &options).unwrap_err().to_string();
    ensure!(error.contains("ca-key.pem"), "{error}");
    Ok(())
}

#[test]
fn everything_wrong_is_told_at_once_and_nothing_is_written() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("cluster");
    let mut options = options()?;
    options.network = None;
    options.servers = 2;
    options.region = "no good".into();
    options.days = 0;
    let error = cluster::make(&out, &options).unwrap_err().to_string();
    for word in ["--join", "even number", "no good", "0 days"] {
        ensure!(error.contains(word), "{word} is not in {error}");
    }
    ensure!(!out.exists());
    Ok(())
}

#[test]
fn a_disk_is_a_labelled_volume_with_roles_and_addresses() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut options = options()?;
    options.servers = 3;
    options.base["client"]["meta"] = json!({ "kept": "yes" });
    cluster::make(directory.path(), &options)?;
    let path = directory.path().join("client-1.raw");
    let len = std::fs::metadata(&path)?.len();
    ensure!(len < 200 << 10, "{len} bytes");
    let limits = Limits::default();
    let mut image = container::open(std::fs::File::open(&path)?, &limits)?;
    let mut volume = fat::Reader::open(&mut image, &limits)?;
    assert_eq!(volume.label().as_deref(), Some(LABEL));
    let files = volume.list()?;
    let init = files.iter().find(|file| file.path.as_bytes() == b"init.json");
    let config: Value = serde_json::from_slice(&volume.read(init.context("no init.json")?)?)?;
    assert_eq!(config["server"], json!({ "enabled": false }));
    assert_eq!(config["client"]["meta"]["kept"], "yes");
    assert_eq!(config["client"]["network_interface"], "eth1");
    assert_eq!(config["advertise"]["rpc"], "10.77.0.101");
    let servers = json!(["10.77.0.11", "10.77.0.12", "10.77.0.13"]);
    assert_eq!(config["client"]["server_join"]["retry_join"], servers);
    Ok(())
}

#[test]
fn openssl_believes_the_certificates_and_their_uses() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let made = cluster::make(directory.path(), &options()?)?;
    for node in &made.nodes {
        std::fs::write(
            directory.path().join(format!("{}.pem", node.name)),
            &node.files["node.pem"],
        )?;
    }
    let verify = |arguments: &[&str]| -> Result<bool> {
        let mut openssl = Command::new("openssl");
        openssl.args(["verify", "-x509_strict", "-CAfile", "ca.pem"]).args(arguments);
        Ok(openssl.current_dir(directory.path()).output()?.status.success())
    };
    if Command::new("openssl").arg("version").output().is_err() {
        ensure!(std::env::var_os("CI").is_none(), "openssl is missing");
        println!("skipped: openssl");
        return Ok(());
    }
    ensure!(verify(&[
        "-purpose",
        "sslserver",
        "-verify_hostname",
        "server.global.nomad",
        "server-1.pem"
    ])?);
    ensure!(verify(&["-purpose", "sslclient", "-verify_ip", "127.0.0.1", "client-1.pem"])?);
    ensure!(verify(&["-purpose", "sslclient", "operator.pem"])?);
    ensure!(!verify(&["-purpose", "sslserver", "operator.pem"])?, "the operator is a server");
    ensure!(!verify(&["-verify_hostname", "server.global.nomad", "client-1.pem"])?);
    Ok(())
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server's configuration as NomadOS would give it, for this machine.
fn local(text: &str, at: &Path, ports: &[u16]) -> Result<Value> {
    let text = text.replace(cluster::DIRECTORY, &at.display().to_string());
    let mut config: Value = serde_json::from_str(&text)?;
    let own = "127.0.0.1";
    config["data_dir"] = json!(at.join("data"));
    config["bind_addr"] = json!(own);
    config["advertise"] = json!({ "http": own, "rpc": own, "serf": own });
    config["ports"] = json!({ "http": ports[0], "rpc": ports[1], "serf": ports[2] });
    Ok(config)
}

#[test]
fn a_real_server_starts_with_it_and_hears_the_operator_only() -> Result<()> {
    let nomad = go::build(&Cache::of_workspace(), &go::NOMAD, &Progress::quiet())?;
    let directory = tempfile::tempdir()?;
    let made = cluster::make(&directory.path().join("cluster"), &options()?)?;
    let at = directory.path().join("node");
    std::fs::create_dir(&at)?;
    let server = made.nodes.first().context("a server")?;
    for (name, text) in &server.files {
        std::fs::write(at.join(name), text)?;
    }
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(std::net::TcpListener::bind("127.0.0.1:0")?);
    }
    let ports: Vec<u16> =
        held.iter().map(|port| Ok(port.local_addr()?.port())).collect::<Result<_>>()?;
    drop(held);
    let config = local(&server.files["init.json"], &at, &ports)?;
    std::fs::write(at.join("init.json"), config.to_string())?;
    let mut agent = Command::new(nomad);
    agent.arg("agent").arg(format!("-config={}", at.display())).stdout(Stdio::null());
    let mut running = Running(agent.spawn()?);

    let own = Credentials::read(&directory.path().join("cluster"))?;
    let operator = Agent::over_tls(ports[0], &own)?;
    let deadline = Instant::now() + LONG;
    let described = loop {
        match operator.describe() {
            Ok(described) => break described,
            Err(error) => ensure!(Instant::now() < deadline, "{error:#}"),
        }
        ensure!(running.0.try_wait()?.is_none(), "Nomad has ended");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(described["stats"]["serf"]["encrypted"], "true");
    assert_eq!(described["config"]["TLSConfig"]["VerifyHTTPSClient"], true);
    let mut nobody = own;
    nobody.own = None;
    ensure!(Agent::over_tls(ports[0], &nobody)?.nodes().is_err());
    ensure!(Agent::at_port(ports[0]).nodes().is_err());
    Ok(())
}
