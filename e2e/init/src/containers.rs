//! Process 1 of a machine whose services are containers, run by each OCI runtime in turn. One service,
//! `prove`, kills, stops and looks, and says what came of it; the test reads that.

use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use kiln_supervisor::control::{Client, ControlOptions, ServiceStatus};
use kiln_supervisor::pid1::{self, Boot, BoxError, mounts, switch_root};
use kiln_supervisor::unix::{self, Options, Reserve};
use kiln_supervisor::{
    Container, Event, Log, Outcome, Readiness, Restart, RuntimeName, ServiceSpec,
};
use nix::sys::signal::SigSet;
use rustix::process::{Pid, Signal, kill_process};

type Result<T = ()> = std::result::Result<T, BoxError>;

const SOCKET: &str = "/run/supervisor";
const GROUPS: &str = "/sys/fs/cgroup/services";
/// Where the supervisor has the sockets of containers.
const SOCKETS: &str = "/run/kiln/containers";
/// Longer than anything takes on an emulated machine whose host has other work.
const PATIENCE: Duration = Duration::from_secs(120);

#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == "container" => unix::container::main(words),
        Some(word) if word == "tell" => {
            if let Err(error) = tell() {
                println!("FAILED: {error}");
            }
            ExitCode::SUCCESS
        }
        Some(word) if word == "prove" => {
            if let Err(error) = prove() {
                say(format_args!("FAILED: {error}"));
            }
            ExitCode::SUCCESS
        }
        _ => pid1::start(boot),
    }
}

fn say(what: impl std::fmt::Display) {
    unix::console_line(format_args!("proof: {what}"));
}

fn boot(boot: &mut Boot) -> Result<Outcome> {
    boot.mounts(mounts::STANDARD).console().loopback();
    boot.switch_root(switch_root::Method::Bind);
    for problem in boot.problems() {
        say(problem);
    }
    for runtime in RuntimeName::ALL {
        leave_one(runtime)?;
    }
    let mut options = Options::default();
    options.cgroup = Some(GROUPS.into());
    options.control = Some(ControlOptions::new(SOCKET));
    options.log_dir = Some("/var/log".into());
    options.log_timestamps = false;
    options.container_command = ["/init", "container"].map(String::from).to_vec();
    Ok(unix::run(services(), options, &mut |event: &Event| say(event))?)
}

/// A container that nobody looks after, under the name that a service's will have.
fn leave_one(runtime: RuntimeName) -> Result {
    let name = format!("left-{runtime}");
    let run = |words: &[&str]| {
        let mut command = Command::new(format!("/usr/bin/{runtime}"));
        if runtime == RuntimeName::Crun {
            command.arg("--cgroup-manager=disabled");
        }
        command.args(words).arg(&name).stdin(Stdio::null()).stdout(Stdio::null()).status()
    };
    run(&["create", "--bundle", &format!("/bundles/{name}")])?;
    run(&["start"])?;
    let left = until("one is left", || Ok(instances(&name).first().copied()))?;
    fs::write(format!("/run/{name}"), left.to_string())?;
    Ok(())
}

fn services() -> Vec<ServiceSpec> {
    let mut all = Vec::new();
    for runtime in RuntimeName::ALL {
        let mut service = |word: &str, change: &dyn Fn(&mut ServiceSpec)| {
            let mut spec = ServiceSpec::default();
            spec.name = format!("{word}-{runtime}");
            let mut container = Container::new(format!("/bundles/{}", spec.name));
            container.runtime = runtime;
            spec.container = Some(container.into());
            change(&mut spec);
            all.push(spec);
        };
        service("web", &|spec| spec.readiness = Readiness::NotifyFd(3));
        service("behind", &|spec| spec.requires = vec![format!("web-{runtime}")]);
        service("left", &|_| {});
        service("deaf", &|spec| spec.stop_timeout = Duration::from_secs(2));
        for word in ["told", "helper", "outsider"] {
            service(word, &|spec| {
                spec.readiness = Readiness::SdNotify;
                spec.ready_timeout = PATIENCE;
            });
        }
        service("code", &|spec| spec.restart = Restart::Never);
        service("broken", &|spec| spec.restart = Restart::Never);
    }
    let mut missing = ServiceSpec::daemon("missing", [""; 0]);
    let mut container = Container::new("/bundles/web-crun");
    container.program = Some("nonesuch".into());
    missing.container = Some(container.into());
    missing.restart = Restart::Never;
    let mut prove = ServiceSpec::one_shot("prove", ["/init", "prove"]);
    prove.log = Log::Inherit;
    all.extend([missing, prove]);
    all
}

fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("not in time: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes whose last argument is a word.
fn marked(word: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let says = |pid: &i32| {
        let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        text.strip_suffix(b"\0")
            .is_some_and(|text| text.rsplit(|b| *b == 0).next() == Some(word.as_bytes()))
    };
    numbers.filter(says).collect()
}

/// The first processes of a service's containers.
fn instances(name: &str) -> Vec<i32> {
    let is_first = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_some_and(|numbers| numbers.split_whitespace().nth(1) == Some("1"))
    };
    marked(&format!("mark-{name}")).into_iter().filter(is_first).collect()
}

fn status(client: &mut Client, name: &str) -> Result<ServiceStatus> {
    Ok(client.status(Some(name))?.pop().ok_or("no such service")?)
}

/// The container of a service that is up.
fn up(client: &mut Client, name: &str) -> Result<i32> {
    until(name, || {
        let is_up = status(client, name)?.state == "up";
        Ok(instances(name).first().copied().filter(|_| is_up))
    })
}

fn kill(pid: i32) -> Result {
    Ok(kill_process(Pid::from_raw(pid).ok_or("no process")?, Signal::KILL)?)
}

fn log(name: &str) -> String {
    fs::read_to_string(format!("/var/log/{name}.log")).unwrap_or_default()
}

fn prove() -> Result {
    let mut client = Client::connect(SOCKET)?;
    for runtime in RuntimeName::ALL {
        restarts(&mut client, &format!("web-{runtime}"))?;
        left(&mut client, &format!("left-{runtime}"))?;
        told(&mut client, runtime)?;
        ends(&mut client, runtime)?;
    }
    let failed = failed(&mut client, "missing")?;
    say(format_args!("missing: {failed}; {}", log("missing").trim()));
    client.shutdown(Outcome::PowerOff, false)?;
    Ok(())
}

/// What kills the process that looks after a container, and what kills the container, is followed by
/// one new container.
fn restarts(client: &mut Client, name: &str) -> Result {
    let began = Instant::now();
    let mut container = up(client, name)?;
    say(format_args!("{name}: up, seen after {:.1?}", began.elapsed()));
    let group = fs::read_to_string(format!("/proc/{container}/cgroup"))?;
    say(format_args!("{name}: group {}", group.trim()));
    for victim in ["shim", "container"] {
        let before = status(client, name)?;
        let shim = before.pid.ok_or("no process")?;
        kill(if victim == "shim" { shim } else { container })?;
        let mut most = 0;
        let new = until("it is there again", || {
            let found = instances(name);
            most = most.max(found.len());
            let now = status(client, name)?;
            let again = now.state == "up" && now.restarts > before.restarts;
            Ok(found.first().copied().filter(|_| again))
        })?;
        let is_new = new != container && !instances(name).contains(&container);
        say(format_args!("{name}: {victim} killed: new {is_new}, at most {most} at a time"));
        container = new;
    }
    let said = log(name).matches("hello").count();
    say(format_args!("{name}: said hello {said} times"));
    Ok(())
}

/// The one that was there before is not there beside the service's.
fn left(client: &mut Client, name: &str) -> Result {
    let before: i32 = fs::read_to_string(format!("/run/{name}"))?.parse()?;
    let now = up(client, name)?;
    let all = instances(name);
    say(format_args!("{name}: alone {}", before != now && all == [now]));
    Ok(())
}

/// In a container: says that it is ready, and where and as whom it says so.
fn tell() -> Result {
    let place = std::env::var("NOTIFY_SOCKET")?;
    let socket = UnixDatagram::unbound()?;
    println!("said at {place} by {}", std::process::id());
    socket.send_to(b"READY=1", &place)?;
    let mut asked = SigSet::empty();
    asked.add(nix::sys::signal::SIGTERM);
    asked.thread_block()?;
    asked.wait()?;
    Ok(())
}

/// Containers say themselves that they are ready; nobody else can say it for them.
fn told(client: &mut Client, runtime: RuntimeName) -> Result {
    let name = format!("outsider-{runtime}");
    until("its container is there", || Ok(instances(&name).first().copied()))?;
    let socket = format!("{SOCKETS}/{name}/notify");
    until("it is read", || Ok(is_read(&socket, b"READY=1")?.then_some(())))?;
    say(format_args!("{name}: {}", status(client, &name)?.state));
    for word in ["told", "helper"] {
        let name = format!("{word}-{runtime}");
        let first = up(client, &name)?;
        let before = status(client, &name)?.restarts;
        kill(first)?;
        until("it is up again", || {
            let now = status(client, &name)?;
            Ok((now.state == "up" && now.restarts > before).then_some(()))
        })?;
        say(format_args!("{name}: up; {}", log(&name).trim().replace('\n', " | ")));
        client.stop(&name, PATIENCE)?;
        let is_left = Path::new(&format!("{SOCKETS}/{name}")).exists();
        say(format_args!("{name}: stopped, socket left {is_left}"));
    }
    Ok(())
}

/// Sends a datagram with the end of a pipe, and looks whether whoever reads it has let go of that.
fn is_read(path: &str, text: &[u8]) -> Result<bool> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    let (read, write) = rustix::pipe::pipe()?;
    let fds = [write.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err("no room for a descriptor".into());
    }
    rustix::net::sendmsg(&socket, &[IoSlice::new(text)], &mut control, SendFlags::empty())?;
    drop(write);
    let mut byte = [0_u8; 1];
    Ok(rustix::io::read(&read, &mut byte)? == 0)
}

fn failed(client: &mut Client, name: &str) -> Result<String> {
    until(name, || {
        let now = status(client, name)?;
        Ok((now.state == "failed").then(|| now.detail.unwrap_or_default()))
    })
}

fn ends(client: &mut Client, runtime: RuntimeName) -> Result {
    for word in ["code", "broken"] {
        let name = format!("{word}-{runtime}");
        let failed = failed(client, &name)?;
        say(format_args!("{name}: {failed}; {}", log(&name).trim().replace('\n', " | ")));
    }
    let name = format!("web-{runtime}");
    up(client, &format!("behind-{runtime}"))?;
    let stopped = client.stop(&name, PATIENCE)?;
    let heard = log(&name).ends_with("stopping\n");
    say(format_args!("{name}: {}, heard of it {heard}", stopped.text));
    let name = format!("deaf-{runtime}");
    up(client, &name)?;
    let child = format!("child-{name}");
    until("its child is there", || Ok((!marked(&child).is_empty()).then_some(())))?;
    client.stop(&name, PATIENCE)?;
    // Its directory goes with the last of its members.
    for name in [format!("web-{runtime}"), name] {
        let group = format!("{GROUPS}/{name}.service");
        until("its group is gone", || Ok((!Path::new(&group).exists()).then_some(())))?;
    }
    let left = marked(&child).len() + marked(&format!("mark-deaf-{runtime}")).len();
    say(format_args!("deaf-{runtime}: {left} processes left"));
    Ok(())
}
