//! Each verb of `svc` against real services.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kiln_supervisor::control::{Effect, EventLine, ServiceStatus, Times};
use kiln_supervisor::{Kind, Log, Readiness, Reload, Restart, ServiceSpec, Signal};

use crate::supervised::{Supervisor, options, sh, socket, supervise, svc, svc_out, until};

fn services() -> Vec<ServiceSpec> {
    let mut base = sh("base", "exit 0");
    base.kind = Kind::OneShot;
    let mut web =
        sh("web", "trap 'echo reloaded' HUP; echo hello; echo >&3; while :; do sleep 0.02; done");
    web.requires = vec!["base".into()];
    web.readiness = Readiness::NotifyFd(3);
    web.reload = Some(Reload::Signal(Signal::HUP));
    web.log = Log::Auto;
    let mut shop = sh("shop", "exec sleep 1000");
    shop.requires = vec!["web".into()];
    shop.log = Log::Auto;
    shop.reload = Some(Reload::Command(
        ["/bin/sh", "-c", "echo \"reloads $MAINPID\"; exit 0"].map(str::to_owned).to_vec(),
    ));
    let mut manual = sh("manual", "exec sleep 1000");
    manual.enabled = false;
    let mut broken = ServiceSpec::daemon("broken", ["/no/such/program"]);
    broken.restart = Restart::Never;
    broken.log = Log::Null;
    vec![shop, web, base, manual, broken]
}

pub(crate) fn run(dir: &Path) {
    supervise(services(), options(dir));
}

fn status(dir: &Path, name: &str) -> ServiceStatus {
    let (_, text) = svc_out(dir, &["status", name, "--json"]);
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn test(dir: &Path) {
    let supervisor = Supervisor::start("every_verb_does_what_it_says", dir);
    let mut client = supervisor.client();
    assert_eq!(client.supervisor(), i32::try_from(supervisor.pid()).unwrap());
    assert!(client.may_act());
    until("shop is up", || (status(dir, "shop").state == "up").then_some(()));

    // status
    let (code, table) = svc_out(dir, &["status"]);
    assert_eq!(code, 0, "all of it is an answer, whatever it says");
    assert!(table.starts_with("SERVICE  STATE"), "{table}");
    let broken = table.lines().find(|line| line.starts_with("broken")).unwrap();
    assert!(broken.contains("failed") && broken.contains("ENOENT"), "{broken}");
    assert_eq!(svc_out(dir, &["status", "web"]).0, 0);
    assert_eq!(svc_out(dir, &["status", "base"]).0, 0, "a one-shot that is done is well");
    assert_eq!(svc_out(dir, &["status", "web", "manual"]).0, 1);
    assert_eq!(svc(dir, &["status", "nobody"]).status.code(), Some(6));
    assert_eq!(client.status(None).unwrap().len(), 5);

    // start, stop, restart
    let (code, text) = svc_out(dir, &["start", "manual"]);
    assert!(code == 0 && text.starts_with("manual: up after"), "{text}");
    assert_eq!(svc_out(dir, &["start", "manual"]), (0, "manual: already up\n".into()));
    assert_eq!(svc_out(dir, &["stop", "manual"]), (0, "manual: stopped\n".into()));
    assert_eq!(status(dir, "manual").state, "down");
    assert_eq!(svc_out(dir, &["stop", "manual"]), (0, "manual: down\n".into()));
    let failed = svc(dir, &["start", "broken"]);
    let text = String::from_utf8(failed.stderr).unwrap();
    assert!(failed.status.code() == Some(1) && text.contains("ENOENT"), "{text}");
    let before = (status(dir, "web").pid, status(dir, "shop").pid);
    let (code, text) = svc_out(dir, &["restart", "web"]);
    assert!(code == 0 && text.starts_with("web: up after"), "{text}");
    until("shop follows", || (status(dir, "shop").state == "up").then_some(()));
    let after = (status(dir, "web").pid, status(dir, "shop").pid);
    assert!(before.0 != after.0 && before.1 != after.1, "{before:?} {after:?}");

    // reload: by a signal, by a command, not at all
    let web = after.0.unwrap();
    assert_eq!(svc_out(dir, &["reload", "web"]), (0, format!("web: SIGHUP sent to {web}\n")));
    let (code, text) = svc_out(dir, &["reload", "shop"]);
    assert_eq!((code, text.as_str()), (0, "shop: reload command: exit code 0\n"));
    let log = |name: &str| svc_out(dir, &["logs", name, "-n", "1"]).1;
    until("web has reloaded", || (log("web") == "reloaded\n").then_some(()));
    let line = format!("reloads {}\n", after.1.unwrap());
    until("the command's output is in the log", || (log("shop") == line).then_some(()));
    assert_eq!(status(dir, "web").pid, Some(web), "the same process");
    assert_eq!(svc(dir, &["reload", "manual"]).status.code(), Some(1));
    assert_eq!(svc(dir, &["reload"]).status.code(), Some(7));

    // tree, blame, plot
    let (_, tree) = svc_out(dir, &["tree", "shop"]);
    assert_eq!(tree, "shop up\n└─ web up\n   └─ base done\n");
    assert!(svc_out(dir, &["tree"]).1.contains("\nmanual down\n"));
    let (_, blame) = svc_out(dir, &["blame"]);
    assert!(blame.lines().any(|line| line.ends_with("  web")), "{blame}");
    let times: Times = serde_json::from_str(&svc_out(dir, &["blame", "--json"]).1).unwrap();
    let of = |name: &str| times.services.iter().find(|s| s.name == name).unwrap().runs[0];
    assert!(of("base").ready_us <= Some(of("web").started_us), "{times:?}");
    assert!(of("web").ready_us <= Some(of("shop").started_us), "{times:?}");
    let (_, plot) = svc_out(dir, &["plot"]);
    assert!(plot.starts_with("<svg ") && plot.contains(">shop</text>"), "{plot}");

    // events, as they come
    let mut program = Command::new(env!("CARGO_BIN_EXE_svc"));
    program.arg("--socket").arg(socket(dir)).args(["events", "--json"]);
    let mut program = program.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    // until it listens, there is something to hear
    let reader = std::thread::spawn(move || lines.next().unwrap().unwrap());
    until("an event is told", || {
        client.start("broken", Duration::from_secs(60)).unwrap();
        reader.is_finished().then_some(())
    });
    let told: EventLine = serde_json::from_str(&reader.join().unwrap()).unwrap();
    assert!(told.problem && told.service.as_deref() == Some("broken"), "{told:?}");
    program.kill().unwrap();
    program.wait().unwrap();

    // a wrong command line, and no supervisor
    assert_eq!(svc(dir, &["start"]).status.code(), Some(2));
    let nowhere = svc(&dir.join("nowhere"), &["status"]);
    let text = String::from_utf8(nowhere.stderr).unwrap();
    assert!(nowhere.status.code() == Some(3) && text.contains("--socket"), "{text}");
    supervisor.end();
}

pub(crate) fn waits_run(dir: &Path) {
    let mut never = sh("never", "exec sleep 1000");
    never.readiness = Readiness::NotifyFd(3);
    never.enabled = false;
    let mut crashes = sh("crashes", "exit 7");
    crashes.readiness = Readiness::NotifyFd(3);
    crashes.enabled = false;
    crashes.backoff.initial = Duration::from_secs(3600);
    let mut deaf = sh("deaf", "trap '' TERM; echo >&3; while :; do sleep 0.05; done");
    deaf.readiness = Readiness::NotifyFd(3);
    deaf.stop_timeout = Duration::from_secs(1);
    let mut stands = sh("stands", "exec sleep 1000");
    stands.requires = vec!["crashes".into()];
    stands.enabled = false;
    let mut once = ServiceSpec::one_shot("once", ["/bin/true"]);
    once.enabled = false;
    let mut fails = sh("fails", "exit 3");
    (fails.kind, fails.enabled) = (Kind::OneShot, false);
    supervise(vec![never, crashes, deaf, stands, once, fails], options(dir));
}

pub(crate) fn waits_test(dir: &Path) {
    let supervisor = Supervisor::start("waiting_ends_with_what_came_of_it", dir);
    let mut client = supervisor.client();
    let wait = Duration::from_millis(300);
    let result = client.start("never", wait).unwrap();
    assert_eq!(result.effect, Effect::TimedOut, "{result:?}");
    assert_eq!(svc(dir, &["start", "never", "--wait", "0.1"]).status.code(), Some(5));
    let long = Duration::from_secs(60);
    let result = client.start("crashes", long).unwrap();
    assert_eq!(result.effect, Effect::Failed);
    assert!(result.text.contains("exit code 7; crashes: restart 1 in"), "{}", result.text);
    // nobody waits
    assert_eq!(client.start("crashes", Duration::ZERO).unwrap().effect, Effect::Accepted);
    // somebody else stops it meanwhile
    let mut other = supervisor.client();
    let asks = std::thread::spawn(move || other.start("stands", long));
    until("it waits", || {
        let list = client.status(Some("stands")).unwrap();
        list.iter().any(|s| s.state == "waiting" && s.detail.is_some()).then_some(())
    });
    assert_eq!(client.stop("stands", long).unwrap().effect, Effect::Done);
    let result = asks.join().unwrap().unwrap();
    assert_eq!((result.effect, result.text.as_str()), (Effect::Failed, "stands: stopped"));
    // killed at its timeout, and that is what is waited for
    let deaf = |client: &mut kiln_supervisor::control::Client| {
        client.status(Some("deaf")).unwrap().remove(0)
    };
    until("its trap is set", || (deaf(&mut client).state == "up").then_some(()));
    let pid = deaf(&mut client).pid;
    let result = client.restart("deaf", long).unwrap();
    assert_eq!(result.effect, Effect::Done, "{result:?}");
    assert_ne!(deaf(&mut client).pid, pid);
    assert_eq!(deaf(&mut client).detail.as_deref(), Some("before: killed by SIGKILL"));
    // what is done, or has failed, runs again, and that is what is waited for
    for _ in 0..3 {
        let result = client.restart("once", long).unwrap();
        assert_eq!((result.effect, result.text.as_str()), (Effect::Done, "once: done"));
        let result = client.restart("fails", long).unwrap();
        assert_eq!(result.effect, Effect::Failed);
        assert!(result.text.contains("exit code 3"), "{}", result.text);
    }
    // a shutdown ends every wait, is accepted once, and kills when asked to
    assert_eq!(client.stop("never", long).unwrap().effect, Effect::Done);
    let mut other = supervisor.client();
    let asks = std::thread::spawn(move || other.start("never", long));
    until("it is being started", || {
        let list = client.status(Some("never")).unwrap();
        list.iter().any(|s| s.state == "unready").then_some(())
    });
    assert_eq!(svc(dir, &["shutdown", "exit"]).status.code(), Some(0));
    assert_eq!(asks.join().unwrap().unwrap().effect, Effect::Failed);
    until("it ends", || {
        // refused, or already gone
        let code = svc(dir, &["shutdown", "exit", "--force"]).status.code();
        (code == Some(3)).then_some(())
    });
    let out = supervisor.out();
    assert!(out.contains("shutdown forced by request"), "{out}");
    assert!(out.contains("all services stopped: exit"), "{out}");
}

const MANY: usize = 500;

pub(crate) fn many_run(dir: &Path) {
    let specs = (0..MANY).map(|number| {
        let mut spec = sh(&format!("{:->60}", number), "exit 0");
        (spec.enabled, spec.log) = (false, Log::Auto);
        spec
    });
    supervise(specs.collect(), options(dir));
}

/// What is made of an answer at a time is less than a socket takes: nobody is told that there is room
/// for the rest.
pub(crate) fn many_test(dir: &Path) {
    let supervisor = Supervisor::start("long_answers_come_to_their_end", dir);
    let mut client = supervisor.client();
    assert_eq!(client.status(None).unwrap().len(), MANY);
    assert_eq!(client.tree().unwrap().len(), MANY);
    let name = format!("{:->60}", 7);
    let written = "what was written\n".repeat(20_000);
    std::fs::write(dir.join(format!("{name}.log")), &written).unwrap();
    let length = written.len().to_string();
    let (code, read) = svc_out(dir, &["logs", "--bytes", &length, "--", &name]);
    assert!(code == 0 && read == written, "{code}: {} bytes", read.len());
    supervisor.end();
}
