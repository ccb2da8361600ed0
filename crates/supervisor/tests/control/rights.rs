//! Who may do what: clients that are somebody else, as the kernel says.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kiln_supervisor::control::{Access, Client, ClientError, RefusalCode, Request};
use rustix::process::{Gid, Uid};

use crate::supervised::{Supervisor, options, sh, socket, supervise, until};

/// The traditional number of `nobody`.
const NOBODY: u32 = 65_534;
const GROUP: u32 = 54_321;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "becoming nobody needs root");
        println!("skipped: root");
    }
    root
}

/// Runs this program as another client process and expects it to be content.
fn client(name: &str, dir: &Path) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--client", name]).arg(dir).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn open_directory(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Becomes nobody, in these groups. The process does nothing else.
fn drop_rights(groups: &[u32]) {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&groups).unwrap();
    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
}

fn code<T>(result: Result<T, ClientError>) -> Option<RefusalCode> {
    match result {
        Err(ClientError::Refused(refusal)) => Some(refusal.code),
        _ => None,
    }
}

pub(crate) fn run(dir: &Path) {
    // as it is without a word: the file is for its owner
    supervise(vec![sh("a", "exec sleep 1000")], options(dir));
}

pub(crate) fn test(dir: &Path) {
    if !is_root() {
        return;
    }
    open_directory(dir);
    let supervisor = Supervisor::start("strangers_are_refused", dir);
    supervisor.client();
    client("stranger", dir);
    supervisor.end();
}

pub(crate) fn stranger(dir: &Path) {
    drop_rights(&[]);
    let error = Client::connect(socket(dir)).unwrap_err();
    assert!(matches!(error, ClientError::Denied(_)), "{error}");
}

pub(crate) fn readers_run(dir: &Path) {
    let mut options = options(dir);
    let control = options.control.as_mut().unwrap();
    control.mode = 0o666;
    let mut act = Access::users([0]);
    act.gids = vec![GROUP];
    control.act = act;
    let mut a = sh("a", "exec sleep 1000");
    a.log = kiln_supervisor::Log::Auto;
    supervise(vec![a], options);
}

pub(crate) fn readers_test(dir: &Path) {
    if !is_root() {
        return;
    }
    open_directory(dir);
    let supervisor = Supervisor::start("readers_may_not_act", dir);
    let pid = || supervisor.client().status(Some("a")).unwrap().remove(0).pid;
    let pid = Some(until("a runs", pid));
    client("reader", dir);
    let now = supervisor.client().status(Some("a")).unwrap().remove(0).pid;
    assert_eq!(pid, now, "nothing was done");
    client("member", dir);
    supervisor.end();
}

/// May ask everything and change nothing; being refused ends nothing.
pub(crate) fn reader(dir: &Path) {
    drop_rights(&[]);
    let mut client = Client::connect(socket(dir)).unwrap();
    assert!(!client.may_act());
    let service = || "a".to_owned();
    for request in [
        Request::Start { service: service(), wait_ms: None },
        Request::Reexec {},
        Request::Stop { service: service(), wait_ms: Some(1000) },
        Request::Restart { service: service(), wait_ms: None },
        Request::Reload { service: Some(service()), wait_ms: None },
        Request::Reload { service: None, wait_ms: None },
        // not even whether there is such a service
        Request::Start { service: "nobody".to_owned(), wait_ms: None },
        Request::Shutdown {
            outcome: kiln_supervisor::Outcome::Exit,
            force: true,
            timeout_ms: None,
        },
    ] {
        assert_eq!(code(client.act(&request)), Some(RefusalCode::Forbidden), "{request:?}");
        assert_eq!(client.status(None).unwrap().len(), 1);
    }
}

/// In a group that may act, as a supplementary one.
pub(crate) fn member(dir: &Path) {
    drop_rights(&[GROUP, 7]);
    let mut client = Client::connect(socket(dir)).unwrap();
    assert!(client.may_act());
    client.restart("a", Duration::from_secs(60)).unwrap();
}

pub(crate) fn outside_run(dir: &Path) {
    assert!(rustix::process::getpid().is_init());
    supervise(vec![sh("a", "exec sleep 1000")], options(dir));
}

/// To a supervisor that is PID 1 of a namespace of its own, we have no number.
pub(crate) fn outside_test(dir: &Path) {
    if !is_root() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).arg(std::env::current_exe().unwrap());
    let name = "a_client_outside_of_the_pid_namespace_is_answered";
    let supervisor = Supervisor::start_by(command, name, dir);
    let mut client = supervisor.client();
    assert_eq!(client.supervisor(), 1);
    assert_eq!(client.status(None).unwrap().len(), 1);
    client.restart("a", Duration::from_secs(60)).unwrap();
    supervisor.end();
}
