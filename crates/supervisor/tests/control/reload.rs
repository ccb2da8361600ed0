//! Other services while the old ones run: asked for on the socket and by `SIGHUP`, with files that
//! change, break and are right again, and a panic in between.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_supervisor::unix::{self, OnPanic, SpecSource};
use kiln_supervisor::{Outcome, ServiceSpec, service_file};

use crate::supervised::{Supervisor, options, supervise, svc, svc_out, until};
use crate::survival::{fifo, panics};

#[derive(Debug)]
struct Files(PathBuf);

impl SpecSource for Files {
    fn load(&mut self) -> Result<Vec<ServiceSpec>, String> {
        // as slow as the test wants
        while self.0.join("slow").exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let read = service_file::read(&[self.0.join("services")]);
        read.map(|definitions| definitions.specs).map_err(|findings| findings.to_string())
    }
}

pub(crate) fn run(dir: &Path) {
    let mut options = options(dir);
    options.on_panic = OnPanic::Reexec { limit: 5 };
    options.sources.push(panics(dir));
    let mut files = Files(dir.to_owned());
    // after a panic those that run are known from before
    let specs = files.load().unwrap_or_else(|why| {
        assert!(unix::resumed(), "{why}");
        Vec::new()
    });
    options.spec_source = Some(Box::new(files));
    assert_eq!(supervise(specs, options), Outcome::Exit);
}

fn service(name: &str, line: &str, more: &str) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\ncommand = [\"/bin/sh\", \"-c\", '''{line}''']\n\
         log = \"null\"\n{more}\n"
    )
}

fn sleeper(name: &str, more: &str) -> String {
    service(name, "exec sleep 1000", more)
}

fn write(dir: &Path, file: &str, text: &str) {
    std::fs::write(dir.join("services").join(file), text).unwrap();
}

/// The processes of those that are up; waits until just these are.
fn pids(dir: &Path, supervisor: &Supervisor, names: &[&str]) -> BTreeMap<String, i32> {
    let mut client = supervisor.client();
    until(&format!("{names:?} are up in {}", dir.display()), || {
        let up = client.status(None).ok()?.into_iter().map(|status| (status.name, status.pid));
        let up: BTreeMap<String, i32> = up.filter_map(|(name, pid)| Some((name, pid?))).collect();
        (up.len() == names.len() && names.iter().all(|name| up.contains_key(*name))).then_some(up)
    })
}

pub(crate) fn test(dir: &Path) {
    fifo(dir);
    std::fs::create_dir(dir.join("services")).unwrap();
    let order = dir.join("order");
    let stops = |name: &str, more: &str| {
        let order = order.display();
        let line = format!(
            "trap 'echo {name} >>{order}; exit' TERM; echo >&3; while :; do sleep 0.02; done"
        );
        service(name, &line, &format!("readiness = {{ notify-fd = 3 }}\n{more}"))
    };
    let base = sleeper("base", "") + &sleeper("same", "requires = ['base']");
    write(dir, "base.toml", &base);
    let first = stops("gone", "requires = ['base']")
        + &stops("gone-too", "requires = ['gone']")
        + &service("changed", "echo one; exec sleep 1000", "requires = ['same']")
        + &sleeper("updated", "restart = 'never'");
    write(dir, "other.toml", &first);
    let supervisor = Supervisor::start("a_reload_does_what_is_different", dir);
    let all = ["base", "same", "gone", "gone-too", "changed", "updated"];
    let before = pids(dir, &supervisor, &all);

    // what is not sound changes nothing, and all that is wrong is answered
    write(dir, "other.toml", &format!("{first}stop-timeuot = '5s'\nafter = ['nobody']\n"));
    let output = svc(dir, &["reload"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("nothing has changed:\n") && said.contains("did you mean \"stop-timeout\"?"),
        "{said}"
    );
    assert!(said.contains("updated after \"nobody\", which does not exist"), "{said}");
    assert_eq!(pids(dir, &supervisor, &all), before);

    // fault 23: what is gone is stopped in order; what has changed is another process
    let log = dir.join("elsewhere.log");
    let elsewhere =
        format!("log = {{ file = {{ path = \"{}\", timestamps = false }} }}", log.display());
    let changed = service("changed", "echo two; exec sleep 1000", "requires = ['same', 'new']");
    let second = changed.replace("log = \"null\"", &elsewhere)
        + &sleeper("updated", "restart = 'always'\nbackoff = { initial = '20ms' }")
        + &sleeper("new", "")
        + &sleeper("lazy", "enabled = false");
    write(dir, "other.toml", &second);
    let (code, said) = svc_out(dir, &["reload"]);
    let text = "2 added (new, lazy), 2 removed (gone, gone-too), 1 restarted (changed), \
        1 updated (updated), 2 unchanged\n";
    assert_eq!((code, said.as_str()), (0, text));
    let all = ["base", "same", "changed", "updated", "new"];
    // the old process may still be stopping
    let after = until("what has changed is another process", || {
        Some(pids(dir, &supervisor, &all)).filter(|now| now["changed"] != before["changed"])
    });
    for name in ["base", "same", "updated"] {
        assert_eq!(after[name], before[name], "{name}");
    }
    // whoever asked for the reload does not wait for that
    until("they are stopped, in order", || {
        let stopped = std::fs::read_to_string(&order).unwrap_or_default();
        assert!("gone-too\ngone\n".starts_with(&stopped), "{stopped}");
        (stopped.len() == 14).then_some(())
    });
    until("it is forgotten", || {
        (svc(dir, &["status", "gone"]).status.code() == Some(6)).then_some(())
    });
    let written = || std::fs::read_to_string(&log).ok().filter(|text| text == "two\n");
    until("its output goes elsewhere", written);
    let (_, tree) = svc_out(dir, &["tree", "changed"]);
    assert_eq!(tree, "changed up\n├─ same up\n│  └─ base up\n└─ new up\n");

    // the restart policy that came without a restart counts: it never came back before
    kill(after["updated"], "KILL");
    until("it is restarted", || {
        let now = supervisor.client().status(Some("updated")).ok()?.remove(0);
        now.pid.filter(|pid| *pid != after["updated"])
    });

    // a panic, with files that nobody could read: the services are those that were read last
    let before = pids(dir, &supervisor, &all);
    write(dir, "other.toml", "garbage");
    let mut old = supervisor.client();
    let mut fifo = std::fs::OpenOptions::new().write(true).open(dir.join("fifo")).unwrap();
    fifo.write_all(b"x").unwrap();
    until("the old connection ends", || old.status(None).is_err().then_some(()));
    assert_eq!(pids(dir, &supervisor, &all), before);
    assert_eq!(svc(dir, &["reload"]).status.code(), Some(1));
    assert_eq!(pids(dir, &supervisor, &all), before);

    // by a signal; what was removed may come again
    write(dir, "other.toml", &(second + &stops("gone", "")));
    kill(i32::try_from(supervisor.pid()).unwrap(), "HUP");
    let all = ["base", "same", "changed", "updated", "new", "gone"];
    let after = pids(dir, &supervisor, &all);
    assert!(before.iter().all(|(name, pid)| after[name] == *pid), "{before:?} {after:?}");
    let out = supervisor.end();
    assert!(out.contains("reloaded: 2 added, 2 removed, 1 restarted, 1 updated\n"), "{out}");
    assert!(out.contains("gone-too: removed\n"), "{out}");
}

fn kill(pid: i32, signal: &str) {
    let status = std::process::Command::new("kill").args(["-s", signal, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

/// One reload is being read while others are asked for: each is answered, by files that are as new
/// as its question.
pub(crate) fn slow_test(dir: &Path) {
    fifo(dir);
    std::fs::create_dir(dir.join("services")).unwrap();
    write(dir, "a.toml", &sleeper("a", ""));
    let supervisor = Supervisor::start("reloads_that_overlap_are_all_answered", dir);
    let before = pids(dir, &supervisor, &["a"]);
    std::fs::write(dir.join("slow"), "").unwrap();
    let ask = || {
        let dir = dir.to_owned();
        std::thread::spawn(move || svc_out(&dir, &["reload", "--wait", "60"]))
    };
    let first: Vec<_> = (0..3).map(|_| ask()).collect();
    // signals and statuses meanwhile: nobody waits for a slow disk
    for _ in 0..100 {
        kill(i32::try_from(supervisor.pid()).unwrap(), "HUP");
    }
    assert_eq!(svc(dir, &["status", "a"]).status.code(), Some(0));
    assert_eq!(
        svc(dir, &["reload", "--wait", "0.001"]).status.code(),
        Some(5),
        "it takes too long"
    );
    write(dir, "b.toml", &sleeper("b", ""));
    std::fs::remove_file(dir.join("slow")).unwrap();
    let said: Vec<_> = first.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(said.iter().all(|(code, _)| *code == 0), "{said:?}");
    let after = pids(dir, &supervisor, &["a", "b"]);
    assert_eq!(after["a"], before["a"]);
    let out = supervisor.end();
    let reloads = out.matches("reloaded: ").count();
    assert!((1..=8).contains(&reloads), "{reloads} reloads for a hundred signals");
}

/// The sockets of a service follow its spec, and stay open where they are as they were.
pub(crate) fn sockets_test(dir: &Path) {
    fifo(dir);
    std::fs::create_dir(dir.join("services")).unwrap();
    let (kept, old, new) = (dir.join("kept.sock"), dir.join("old.sock"), dir.join("new.sock"));
    let on = |path: &Path, more: &str| {
        format!("sockets = [{{ listen = \"unix:{}\" }}]\non-demand = true\n{more}", path.display())
    };
    write(dir, "kept.toml", &sleeper("kept", &on(&kept, "")));
    write(dir, "moved.toml", &sleeper("moved", &on(&old, "")));
    let supervisor = Supervisor::start("sockets_follow_their_services", dir);
    let inode = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).ok().map(|found| found.ino())
    };
    let before = until("both listen", || inode(&kept).zip(inode(&old)));
    write(dir, "kept.toml", &service("kept", "exec sleep 999", &on(&kept, "")));
    write(dir, "moved.toml", &sleeper("moved", &on(&new, "")));
    let (code, said) = svc_out(dir, &["reload"]);
    assert_eq!((code, said.as_str()), (0, "2 restarted (kept, moved), 0 unchanged\n"));
    until("it has moved", || (inode(&old).is_none() && inode(&new).is_some()).then_some(()));
    assert_eq!(inode(&kept), Some(before.0), "the same socket");
    let _client = std::os::unix::net::UnixStream::connect(&new).unwrap();
    pids(dir, &supervisor, &["moved"]);
    std::fs::remove_file(dir.join("services/moved.toml")).unwrap();
    assert_eq!(svc_out(dir, &["reload"]), (0, "1 removed (moved), 1 unchanged\n".to_owned()));
    until("its socket is gone with it", || inode(&new).is_none().then_some(()));
    supervisor.end();
}
