//! The RancherOS-like system: containers for services, a real Docker engine, cloud-config, a disk that is
//! kept.

use std::fs::File;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kiln::qemu::{Bus, Disk, Format as DiskFormat, Machine};
use kiln_e2e::Registry;
use kiln_e2e::rancheros::{Guest, direct, small_image};
use kiln_oci::{Limits, docker, registry};
use rancheros::{drive, key};

#[test]
fn containers_run_docker_and_what_cloud_config_says_and_the_disk_is_kept() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let place = |name: &str| directory.path().join(name);
    let public = key::ensure(&place("key"))?;

    // An image that is loaded, and one that is pulled.
    let archive = small_image(&place("small"))?;
    let image = docker::Archive::open(&archive, Limits::default())?;
    let image = image.image(Some("rancher/os-base:v1"))?;
    let server = Registry::start()?;
    let pushed = registry::reference(&format!("127.0.0.1:{}/hello:1", server.port))?;
    registry::Client::new(registry::Options::default())?.push(&image, &pushed)?;
    let pulled = format!("10.0.2.2:{}/hello:1", server.port);

    let user_data = format!(
        r#"#cloud-config
hostname: ranch-7
ssh_authorized_keys:
- {public}
write_files:
- path: /opt/written
  permissions: "0640"
  owner: rancher:docker
  content: |
    from a file
bootcmd:
- echo early > /run/early
runcmd:
- [touch, "/run/a file"]
- echo "$(cat /run/early) and late" > /run/late
rancher:
  debgu: true
  environment:
    COLOUR: blue
  sysctl:
    vm.swappiness: 11
  modules: [vxlan log_ecn_error=0]
  docker:
    insecure_registry: ["10.0.2.2:{port}"]
  services:
    hello:
      image: {pulled}
      command: /bin/sh -c "echo hello $COLOUR from a user service; exec sleep 100000"
      environment: [COLOUR]
      restart: always
    broken:
      image: rancher/os-base:v1
      labels: {{io.rancher.os.scope: system}}
      volumes_from: [nobody]
    another:
      image: {pulled}
      command: nc -ll -p 22 -e /bin/sh
      privileged: true
      net: host
      uts: host
      pid: host
      restart: always
      volumes_from: [all-volumes]
      labels: {{io.rancher.os.scope: system, io.rancher.os.console: busybox}}
    second:
      image: rancher/os-docker:v1
      command: ros dockerd --label=engine=second
      privileged: true
      net: host
      uts: host
      pid: host
      ipc: host
      restart: always
      volumes_from: [all-volumes]
      labels:
        io.rancher.os.scope: system
        io.rancher.os.after: network
        io.docker.compose.rebuild: always
        io.kiln.engine: second
        io.kiln.ready: unix:/run/docker.sock
"#,
        port = server.port
    );
    drive::write(&place("config.iso"), user_data.as_bytes())?;
    File::create(place("disk"))?.set_len(10 << 30)?;

    let mut machine = direct(&place("disk"))?;
    let mut medium = Disk::new(place("config.iso"), DiskFormat::Raw);
    medium.bus = Bus::Cd;
    machine.disks.push(medium);
    words(&mut machine, "-- rancher.environment.SECRET=told")?;
    let guest = Guest::start(machine, &place("key"))?;
    let console = guest.vm.console().tail(400);
    // A wrong key and a service that cannot be are told, and everything else counts.
    ensure!(console.contains("unknown key \"debgu\", did you mean \"debug\"?"), "{console}");
    ensure!(console.contains("config: service broken: volumes_from: "), "{console}");
    ensure!(console.contains("/dev/vda: formatted, RANCHER_STATE"), "{console}");
    assert_eq!(guest.run("hostname")?, "ranch-7\n");
    assert_eq!(
        guest.run("cat /opt/written; stat -c '%a %U %G' /opt/written")?,
        "from a file\n640 rancher docker\n"
    );
    guest.until("ls '/run/a file' && cat /run/late", "early and late")?;
    assert_eq!(guest.run("cat /proc/sys/vm/swappiness; echo $COLOUR")?, "11\n\n");
    assert_eq!(guest.run("bash -lc 'echo $COLOUR'")?, "blue\n");
    ensure!(guest.run("sudo id -u")? == "0\n", "sudo");
    assert_eq!(guest.run("cat /sys/module/vxlan/parameters/log_ecn_error")?, "N\n");
    // Words behind `--` count, and are not shown.
    assert_eq!(guest.run("bash -lc 'echo $SECRET'")?, "told\n");
    let shown = guest.run("cat /proc/cmdline; tr '\\0' ' ' < /proc/1/cmdline")?;
    ensure!(shown.contains("quiet") && !shown.contains("SECRET"), "{shown}");

    guest.until("docker info --format '{{.Driver}} {{.CgroupVersion}}'", "overlay2 2")?;
    println!(
        "dockerd answers {:.1} s after QEMU's start",
        guest.vm.started().elapsed().as_secs_f64()
    );
    guest.feed("docker load", &archive)?;
    let ran =
        guest.run("docker run --rm rancher/os-base:v1 /bin/echo printed by a loaded image")?;
    assert_eq!(ran, "printed by a loaded image\n");
    guest.until("docker logs hello", "hello blue from a user service")?;
    let ran =
        guest.run(&format!("docker run --rm {pulled} /bin/echo printed by a pulled image"))?;
    assert_eq!(ran, "printed by a pulled image\n");
    guest.run(
        "docker run --detach --restart always --name web --publish 8080:80 rancher/os-base:v1 \
         /bin/sh -c 'echo kept > /page; exec nc -ll -p 80 -e /bin/cat /page'",
    )?;
    guest.until("nc -w 2 127.0.0.1 8080 < /dev/null", "kept")?;

    // `ros`
    let ps = guest.run("sudo ros service ps")?;
    for service in ["acpid", "console", "docker", "network", "ntp", "syslog"] {
        let line = ps.lines().find(|line| line.starts_with(service)).unwrap_or_default();
        ensure!(line.contains(" up "), "{service} is not up:\n{ps}");
    }
    assert_eq!(guest.run("sudo ros config get rancher.docker.storage_driver")?, "overlay2\n");
    guest.run("sudo ros config set rancher.docker.debug true")?;
    ensure!(guest.run("sudo ros config export")?.contains("debug: true"), "export");
    ensure!(guest.run("sudo ros config set rancher.docker.debugg 1").is_err(), "an unknown key");
    guest.run("sudo ros service disable acpid")?;
    guest.until("sudo ros service ps | grep -c acpid || true", "0")?;
    guest.run("sudo ros service enable acpid")?;
    guest.until("sudo ros service ps | grep acpid", " up ")?;
    println!("{}", guest.run("free -m; df -h /var/lib/docker")?);
    consoles(&guest)?;
    engines(&guest)?;
    // Of the other console there is no image at the next boot.
    guest.run("sudo ros console enable busybox")?;
    assert_eq!(guest.run("sudo ros console list")?, "enabled  busybox\ncurrent  default\n");
    guest.run("sudo sh -c 'rm /var/lib/rancher/preload/system-docker/*.tar'")?;
    guest.power_off()?;

    // The same disk without the CD: what it said is kept, and so are containers.
    let mut machine = direct(&place("disk"))?;
    words(&mut machine, "rancher.modules=[8021q] rancher.state.wait")?;
    let guest = Guest::begin(machine, &place("key"))?;
    // The default console is there until the engine has fetched the image of the other one.
    guest.shell_until("ros console list", "current  busybox\ndisabled default\n")?;
    let console = guest.vm.console().tail(400);
    ensure!(console.contains(": it is the default meanwhile"), "{console}");
    println!(
        "a console that was fetched {:.1} s after QEMU's start",
        guest.vm.started().elapsed().as_secs_f64()
    );
    let _ = guest.shell("ros console switch default");
    guest.let_in()?;
    println!("the default one {:.1} s after it", guest.vm.started().elapsed().as_secs_f64());
    ensure!(guest.run("ls /sys/module")?.contains("8021q"), "no module of the command line");
    guest.until("docker info --format '{{.Labels}}'", "[engine=second]")?;
    assert_eq!(guest.run("hostname; cat /opt/written")?, "ranch-7\nfrom a file\n");
    guest.until("nc -w 2 127.0.0.1 8080 < /dev/null", "kept")?;
    guest.until("docker logs hello 2>&1 | grep -c hello", "3")?;
    assert_eq!(guest.run("sudo ros config get rancher.docker.debug")?, "true\n");
    guest.power_off()
}

fn words(machine: &mut Machine, words: &str) -> Result<()> {
    let kernel = machine.kernel.as_mut().context("no kernel")?;
    kernel.command_line += &format!(" {words}");
    Ok(())
}

/// Goes over to a console that the engine has to fetch, with a shell where the other one has ssh, and back.
/// The user's containers go on.
fn consoles(guest: &Guest) -> Result<()> {
    const STARTED: &str = "docker inspect --format '{{.State.StartedAt}}' web";
    let started = guest.run(STARTED)?;
    assert_eq!(guest.run("sudo ros console list")?, "disabled busybox\ncurrent  default\n");
    guest.fails("sudo ros console switch invalid", "invalid is not a valid console")?;
    let began = Instant::now();
    // the connection ends with the console
    let said = guest.run("sudo ros console switch -f busybox");
    guest
        .shell_until("ros console list", "current  busybox\ndisabled default\n")
        .with_context(|| format!("switch: {said:?}\n{}", guest.vm.console().tail(40)))?;
    println!("another console is there after {:.1} s", began.elapsed().as_secs_f64());
    guest.shell_until("nc -w 2 127.0.0.1 8080 < /dev/null", "kept")?;
    let began = Instant::now();
    let _ = guest.shell("ros console switch default");
    guest.let_in()?;
    println!("and the first one again after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(guest.run("sudo ros console list")?, "disabled busybox\ncurrent  default\n");
    assert_eq!(guest.run(STARTED)?, started);
    Ok(())
}

/// Goes over to another engine, which finds the containers.
fn engines(guest: &Guest) -> Result<()> {
    assert_eq!(guest.run("sudo ros engine list")?, "current  docker\ndisabled second\n");
    guest.fails("sudo ros engine enable invalid", "invalid is not a valid engine")?;
    let began = Instant::now();
    guest.run("sudo ros engine switch second")?;
    guest.until("docker info --format '{{.Labels}}'", "[engine=second]")?;
    println!("another engine answers after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(guest.run("sudo ros engine list")?, "disabled docker\ncurrent  second\n");
    guest.until("nc -w 2 127.0.0.1 8080 < /dev/null", "kept")
}
