//! Going on as a new process image because somebody asks for it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kiln_supervisor::control::{Answer, Client, ClientError, Effect, RefusalCode, Request};
use kiln_supervisor::unix::{Options, Reexec};
use kiln_supervisor::{Kind, Log, Outcome, Readiness, ServiceSpec, Socket, Timer};

use crate::supervised::{
    PATIENCE, Raw, Supervisor, options, sh, socket, supervise, svc_out, until,
};

/// So often the process is replaced.
const TIMES: usize = 5;
/// Longer than all of a test: what is due then must stay due then.
const LATER: Duration = Duration::from_secs(1_000);

fn services(dir: &Path) -> Vec<ServiceSpec> {
    let mut talker = sh("talker", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done");
    talker.log = Log::Auto;
    let mut ready = sh("ready", "echo >&3; exec sleep 1000");
    ready.readiness = Readiness::NotifyFd(3);
    let mut never = sh("never", "exec sleep 1000");
    never.readiness = Readiness::NotifyFd(3);
    never.enabled = false;
    let mut often = sh("often", "echo run");
    (often.kind, often.log) = (Kind::OneShot, Log::Auto);
    often.timer = Some(Timer::every(Duration::from_millis(700)));
    let mut seldom = sh("seldom", "exit 0");
    seldom.kind = Kind::OneShot;
    seldom.timer = Some(Timer::every(LATER));
    let mut web = sh("web", "exec sleep 1000");
    let address = format!("unix:{}", dir.join("web").display());
    web.on_demand = true;
    web.sockets = vec![Socket::new(address.parse().unwrap())];
    vec![talker, ready, never, often, seldom, web]
}

fn with_reexec(dir: &Path, program: impl Into<std::path::PathBuf>) -> Options {
    let mut options = options(dir);
    options.reexec = Some(Reexec::new(program));
    options
}

pub(crate) fn run(dir: &Path) {
    let outcome = supervise(services(dir), with_reexec(dir, "/proc/self/exe"));
    assert_eq!(outcome, Outcome::Exit);
}

/// The processes of services that run all the time.
fn pids(client: &mut Client) -> BTreeMap<String, Option<i32>> {
    let list = client.status(None).unwrap();
    let steady = list.into_iter().filter(|s| ["talker", "ready", "never"].contains(&&*s.name));
    steady.map(|status| (status.name, status.pid)).collect()
}

/// When a service's state changes by itself, between these two points.
fn due(client: &mut Client, service: &str) -> (Instant, Instant) {
    let asked = Instant::now();
    let status = client.status(Some(service)).unwrap().remove(0);
    let due = Duration::from_millis(status.due_ms.unwrap());
    (asked + due, Instant::now() + due + Duration::from_millis(2))
}

fn numbers(dir: &Path) -> usize {
    // not there before its first line
    let text = std::fs::read_to_string(dir.join("talker.log")).unwrap_or_default();
    for (expected, line) in text.lines().enumerate() {
        assert_eq!(line, expected.to_string(), "the log has a gap");
    }
    text.lines().count()
}

pub(crate) fn test(dir: &Path) {
    // a program whose file is gone is executed all the same
    let program = dir.join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let name = "reexecution_on_request_keeps_everything";
    let supervisor = Supervisor::start_by(Command::new(&program), name, dir);
    let mut client = supervisor.client();
    std::fs::remove_file(&program).unwrap();
    until("all is up", || {
        let states = client.status(None).unwrap();
        let is = |name, state| states.iter().any(|s| s.name == name && s.state == state);
        let up = is("ready", "up") && is("talker", "up") && is("web", "listening");
        (up && is("seldom", "scheduled")).then_some(())
    });
    let began = client.times().unwrap().began_us;
    let (early, late) = due(&mut client, "seldom");
    client.act(&Request::Start { service: "never".into(), wait_ms: None }).unwrap();
    until("it runs", || pids(&mut client)["never"]);
    let before = pids(&mut client);
    // asks again and again throughout
    let path = socket(dir);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let asking = std::thread::spawn(move || {
        let mut answers = 0;
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let asked = Client::connect(&path).and_then(|mut client| client.status(None));
            match asked {
                Ok(list) => answers += usize::from(list.len() == 6),
                // its connection was one of the old image's
                Err(ClientError::Closed) => {}
                Err(error) => panic!("{error}"),
            }
        }
        answers
    });
    let mut open = Vec::new();
    for turn in 1..=TIMES {
        let mut waiting = Raw::greeted(dir);
        waiting.say(r#"{"start":{"service":"never","wait-ms":60000}}"#).unwrap();
        let mut follower = Raw::greeted(dir);
        follower.say(r#"{"events":{}}"#).unwrap();
        assert!(follower.hear().is_some());
        let lines = numbers(dir);
        // what was asked for before is taken in before this is answered
        client.status(None).unwrap();
        let result = client.reexec().unwrap();
        assert_eq!(result.effect, Effect::Done, "{}", result.text);
        // the answer came from the new image, on the same connection
        assert_eq!(pids(&mut client), before, "turn {turn}");
        match waiting.hear() {
            Some(Answer::Result(result)) => assert_eq!(result.effect, Effect::TimedOut),
            other => panic!("{other:?}"),
        }
        assert_eq!(waiting.hear(), None);
        while follower.hear().is_some() {}
        assert_eq!(svc_out(dir, &["status"]).0, 0);
        until("the log goes on", || (numbers(dir) > lines + 3).then_some(()));
        let (then_early, then_late) = due(&mut client, "seldom");
        assert!(then_early <= late && early <= then_late, "the timer is due when it was");
        open.push(supervisor.descriptors());
    }
    drop(stop);
    let answers = asking.join().unwrap();
    assert!(answers > TIMES, "{answers} answers");
    assert!(open[TIMES - 1] <= open[0] + 2, "descriptors are not handed on in vain: {open:?}");
    let exe = std::fs::read_link(format!("/proc/{}/exe", supervisor.pid())).unwrap();
    assert!(exe.display().to_string().ends_with("program (deleted)"), "{}", exe.display());
    assert_eq!(client.times().unwrap().began_us, began);
    // what is due at short intervals goes on, and who listened still does
    let runs = || std::fs::read_to_string(dir.join("often.log")).unwrap().lines().count();
    let before = runs();
    until("the timer fires", || (runs() > before).then_some(()));
    let _web = UnixStream::connect(dir.join("web")).unwrap();
    until("the connection starts it", || supervisor.out().contains("web: up").then_some(()));
    drop(client);
    let out = supervisor.end();
    let again = "goes on as a new process image with 3 processes taken over";
    // the timer's may run at that moment
    let more = "goes on as a new process image with 4 processes taken over";
    assert_eq!(out.matches(again).count() + out.matches(more).count(), TIMES, "{out}");
    for name in ["talker", "ready", "never", "web"] {
        assert_eq!(out.matches(&format!("{name}: started")).count(), 1, "{name}: {out}");
    }
}

pub(crate) fn other_run(dir: &Path) {
    let is_new = std::env::current_exe().unwrap() == dir.join("program");
    let mut services = vec![sh("a", "exec sleep 1000"), sh("b", "exec sleep 1000")];
    if is_new && dir.join("unsound").exists() {
        services[0].requires = vec!["nobody".into()];
    }
    if is_new && dir.join("fewer").exists() {
        services.truncate(1);
    }
    supervise(services, with_reexec(dir, dir.join("program")));
}

/// Another program: one that is not there, none, one that cannot go on, and one that can.
pub(crate) fn other_test(dir: &Path) {
    let supervisor = Supervisor::start("reexecution_as_another_program", dir);
    let mut client = supervisor.client();
    let pid = |client: &mut Client, name| client.status(Some(name)).unwrap().remove(0).pid;
    let a = Some(until("it runs", || pid(&mut client, "a")));
    let exe = || std::fs::read_link(format!("/proc/{}/exe", supervisor.pid())).unwrap();
    let first = exe();
    let program = dir.join("program");
    let stays = |client: &mut Client, why: &str| {
        let result = client.reexec().unwrap();
        assert_eq!(result.effect, Effect::Failed, "{}", result.text);
        assert!(result.text.contains(why), "{}", result.text);
        assert!(result.text.contains("goes on as before"), "{}", result.text);
        // and all works: children are started, their ends are heard of
        assert_eq!(client.restart("b", PATIENCE).unwrap().effect, Effect::Done);
        assert_eq!(pid(client, "a"), a);
        assert_eq!(exe(), first);
    };
    stays(&mut client, "No such file or directory");
    std::fs::write(&program, "no program").unwrap();
    stays(&mut client, "Permission denied");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    stays(&mut client, "Exec format error");
    // not ours to write while it runs, hence renamed
    std::fs::copy(&first, dir.join("copy")).unwrap();
    std::fs::rename(dir.join("copy"), &program).unwrap();
    std::fs::write(dir.join("unsound"), "").unwrap();
    stays(&mut client, "the new program cannot go on");
    std::fs::remove_file(dir.join("unsound")).unwrap();
    let b = pid(&mut client, "b");
    std::fs::write(dir.join("fewer"), "").unwrap();
    let result = client.reexec().unwrap();
    assert_eq!(result.effect, Effect::Done, "{}", result.text);
    assert_eq!(exe(), program);
    assert_eq!(pid(&mut client, "a"), a);
    // a service that the new program does not have is no process without a master
    let b = format!("/proc/{}", b.unwrap());
    until("what is no service any more ends", || (!Path::new(&b).exists()).then_some(()));
    drop(client);
    let out = supervisor.end();
    assert_eq!(out.matches("a: started").count(), 1, "{out}");
    assert!(out.contains("b: removed"), "{out}");
}

pub(crate) fn refused_run(dir: &Path) {
    supervise(vec![sh("a", "exec sleep 1000")], options(dir));
}

pub(crate) fn refused_test(dir: &Path) {
    let supervisor = Supervisor::start("reexecution_is_refused_unless_allowed", dir);
    match supervisor.client().reexec() {
        Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::NotSupported),
        other => panic!("{other:?}"),
    }
    supervisor.end();
}
