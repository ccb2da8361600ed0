//! The Kurma-like system from its disk, by a BIOS and by UEFI: what its OEM says is there from the beginning,
//! and is kept; from the host, over TLS, its command makes pods and replaces the system.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kiln::Cache;
use kiln::qemu::{Firmware, Uefi, Vm};
use kiln::sign::Key;
use kiln_e2e::kurma::{API, Cli, Life, SECOND, System, enrolled, port, replaced, system, web};
use kiln_e2e::{LONG, Server, get_until};

/// What the OEM says: a pod that is reached by a port, and one that sees the machine and tells of it.
const OEM: &str = r#"{
    "hostname": "by-oem",
    "debug": true,
    "modules": ["br_netfilter"],
    "prefetchImages": ["/oem/images"],
    "initialPods": [
        {"name": "web", "image": "example.com/web", "ports": ["8080:80"]},
        {"name": "tells", "apps": [{"name": "tells", "image": {"name": "example.com/web"}, "app": {
            "exec": ["/bin/sh", "-c", "cd /host/proc; while :; do { printf 'HTTP/1.0 200 OK\\r\\n\\r\\n'; cat sys/kernel/hostname 1/mounts partitions modules; } | nc -l -p 8081; done"],
            "user": "0", "group": "0",
            "isolators": [{"name": "host/privileged", "value": true}]
        }}]}
    ]
}"#;
/// Ports of the machine: two of the OEM's, the interface's, and one of a pod that is made from here.
const PORTS: [u16; 4] = [8080, 8081, API, 8090];

/// Sees that a machine is as its OEM says.
fn looks(vm: &Vm) -> Result<()> {
    let said = get_until(port(vm, 8080)?, "/", LONG);
    let said = said.with_context(|| vm.console().tail(80))?;
    assert_eq!(said, "served by a pod\n");
    println!("a pod answers {:.1} s after QEMU's start", vm.started().elapsed().as_secs_f64());
    let told = get_until(port(vm, 8081)?, "/", LONG).with_context(|| vm.console().tail(80))?;
    ensure!(told.starts_with("by-oem\n"), "{told}");
    ensure!(told.contains(" /oem ext4 ro,") && told.contains(" /var/kurma ext4 rw,"), "{told}");
    ensure!(told.contains("\nbr_netfilter "), "{told}");
    // the last partition has what the disk has grown by
    let size = |name: &str| {
        let line = told.lines().find(|line| line.ends_with(&format!(" {name}")))?;
        line.split_whitespace().nth(2)?.parse::<u64>().ok()
    };
    ensure!(size("vda") == Some(3 << 20) && size("vda3") > Some(2 << 20), "{told}");
    Ok(())
}

/// Makes a pod from here, which reaches this host and is reached from it.
fn makes(vm: &Vm, cli: &Cli, place: &Path) -> Result<()> {
    let image = place.join("own.aci");
    web(&image)?;
    let image = image.to_string_lossy();
    cli.run(&["image", "upload", &image])?;
    cli.run(&["create", "example.com/web", "--name", "own", "--port", "8090:80"])?;
    assert_eq!(get_until(port(vm, 8090)?, "/", LONG)?, "served by a pod\n");
    let server = Server::start("served by the host")?;
    // QEMU's gateway is this host
    let address = format!("http://10.0.2.2:{}/", server.port);
    let fetched = cli.run(&["enter", "-T", "own", "--", "/bin/wget", "-qO-", &address])?;
    assert_eq!(fetched, "served by the host");
    let list = cli.run(&["list"])?;
    ensure!(["web", "tells", "own", "kurma-api"].iter().all(|it| list.contains(it)), "{list}");
    // what is the machine's is not given to who asks from elsewhere
    let manifest = place.join("pod.json");
    fs::write(
        &manifest,
        r#"{"acKind": "PodManifest", "acVersion": "0.8.11", "apps": [{"name": "all",
            "image": {"name": "example.com/web"}}],
            "isolators": [{"name": "host/privileged", "value": true}]}"#,
    )?;
    println!("{}", cli.refused(&["create", &manifest.to_string_lossy()])?);
    cli.run(&["destroy", "own"])?;
    ensure!(!cli.run(&["list"])?.contains(" own "), "it is still there");
    Ok(())
}

/// Sends what must not replace the system.
fn keeps(system: &System, cli: &Cli, place: &Path) -> Result<()> {
    let stranger = place.join("stranger.key");
    Key::make(&stranger)?;
    let unsigned = system.other("v9", "", Some(&stranger), place)?;
    let truncated = place.join("truncated.tar");
    fs::copy(&system.second, &truncated)?;
    let file = fs::OpenOptions::new().write(true).open(&truncated)?;
    file.set_len(file.metadata()?.len() / 2)?;
    for (path, expected) in [(&unsigned, "not trusted here"), (&truncated, "archive")] {
        let said = cli.refused(&["upgrade", &path.to_string_lossy()])?;
        ensure!(said.contains(expected), "{said}");
        println!("{said}");
    }
    let older = ["upgrade", &system.first().to_string_lossy(), "--force"].map(str::to_owned);
    let said = cli.refused(&older.each_ref().map(String::as_str))?;
    ensure!(said.contains("for the machine itself alone"), "{said}");
    Ok(())
}

#[test]
fn a_disk_starts_by_both_firmwares_and_is_asked_and_replaced_over_the_network() -> Result<()> {
    let system = system()?;
    let directory = tempfile::tempdir()?;
    let place = directory.path();
    let oem = place.join("oem");
    fs::create_dir_all(oem.join("images"))?;
    web(&oem.join("images/web.aci"))?;
    fs::write(oem.join("kurma_oem.json"), OEM)?;
    let life = Life::new(system, &oem, place)?;

    let mut vm = life.start(Firmware::Bios, &PORTS)?;
    let done = (|| {
        looks(&vm)?;
        let cli = enrolled(&mut vm, system, place)?;
        makes(&vm, &cli, place)?;
        keeps(system, &cli, place)?;
        replaced(&mut vm, system, &cli, place)
    })();
    done.with_context(|| vm.console().tail(80))?;
    assert_eq!(get_until(port(&vm, 8080)?, "/", LONG)?, "served by a pod\n");
    vm.power_button()?;
    vm.wait_exit(LONG).with_context(|| vm.console().tail(40))?;
    drop(vm);
    for (state, count) in life.recorded()?.upgrade_crashes(60, 1)? {
        println!("{count}: {state}");
    }

    let uefi = Firmware::Uefi(Uefi::find(&Cache::of_workspace())?);
    let mut vm = life.start(uefi, &PORTS)?;
    let done = (|| {
        looks(&vm)?;
        // what was taken in before is there
        let console = vm.console().tail(200);
        ensure!(!console.contains("image example.com/web is here"), "{console}");
        // who was known is known
        let cli = Cli::known(system, place, port(&vm, API)?)?;
        cli.until(&["info"], SECOND)?;
        let third = system.other("v0.4.0", "", None, place)?;
        println!("{}", cli.run(&["upgrade", "--kexec", &third.to_string_lossy()])?);
        vm.wait_for("trial: version v0.4.0 works", LONG)?;
        cli.until(&["info"], SECOND).map(drop)
    })();
    done.with_context(|| vm.console().tail(80))?;
    vm.power_button()?;
    vm.wait_exit(LONG).with_context(|| vm.console().tail(40))?;
    Ok(())
}
