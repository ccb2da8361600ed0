//! Logs, read and followed.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use kiln_supervisor::control::{ClientError, RefusalCode, Request};
use kiln_supervisor::{Log, LogFile};

use crate::supervised::{Supervisor, options, sh, socket, supervise, svc, svc_out};

/// So many lines are written by so many runs each, one after the other.
const LINES: usize = 300;
const RUNS: usize = 4;

pub(crate) fn run(dir: &Path) {
    // goes on counting where the run before stopped; waits to be asked for the first line
    let text = format!(
        "cd {dir}; until [ -e go ]; do sleep 0.01; done; \
         i=$(cat count 2>/dev/null || echo 0); end=$((i+{LINES})); \
         [ $end -le {all} ] || exec sleep 1000; \
         while [ $i -lt $end ]; do echo line $i; i=$((i+1)); done; echo $i >count; exit 1",
        dir = dir.display(),
        all = LINES * RUNS
    );
    let mut writer = sh("writer", &text);
    let mut file = LogFile::new(dir.join("sub/writer.log"));
    file.timestamps = false;
    (file.max_bytes, file.keep) = (1024, 40);
    writer.log = Log::File(file);
    supervise(vec![writer, sh("silent", "exec sleep 1000")], options(dir));
}

pub(crate) fn test(dir: &Path) {
    let supervisor = Supervisor::start("logs_are_followed_through_restarts_and_rotations", dir);
    let mut client = supervisor.client();
    let request = |follow, lines| Request::Logs {
        service: "writer".into(),
        lines: Some(lines),
        bytes: None,
        follow,
    };
    // nothing has been written
    match client.logs(&request(false, 10), &mut |_| ControlFlow::Continue(())) {
        Err(ClientError::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::Unavailable),
        other => panic!("{other:?}"),
    }
    assert_eq!(svc(dir, &["logs", "silent"]).status.code(), Some(7));

    // two follow, one of them by the program
    let mut program = Command::new(env!("CARGO_BIN_EXE_svc"));
    program.arg("--socket").arg(socket(dir)).args(["logs", "-f", "writer"]);
    let mut program = program.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut follower = supervisor.client();
    let mut text = Vec::new();
    let last = format!("line {}\n", LINES * RUNS - 1);
    // it is certainly followed once the gate is open: the request is sent before
    let go = dir.join("go");
    let thread = std::thread::spawn({
        let request = request(true, 0);
        move || {
            let result = follower.logs(&request, &mut |piece| {
                text.extend_from_slice(piece.expect("nothing is lost"));
                match text.ends_with(last.as_bytes()) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            result.unwrap();
            String::from_utf8(text).unwrap()
        }
    });
    // inotify instances of the supervisor: one for each who follows
    crate::supervised::until("both follow", || {
        let links = std::fs::read_dir(format!("/proc/{}/fd", supervisor.pid())).unwrap();
        let watching = links
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter(|target| target.to_string_lossy().contains("inotify"));
        (watching.count() == 2).then_some(())
    });
    std::fs::write(go, "").unwrap();
    let followed = thread.join().unwrap();
    let expected: String = (0..LINES * RUNS).map(|n| format!("line {n}\n")).collect();
    assert_eq!(followed, expected, "each line once and in order");
    let mut read = std::io::BufReader::new(program.stdout.take().unwrap());
    let mut lines = String::new();
    while lines.lines().count() < LINES * RUNS {
        assert_ne!(std::io::BufRead::read_line(&mut read, &mut lines).unwrap(), 0);
    }
    assert_eq!(lines, expected);
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(std::fs::read_dir(dir.join("sub")).unwrap().count() > 10, "it was rotated");

    // the end of it, across rotations
    let (code, tail) = svc_out(dir, &["logs", "writer", "-n", "250"]);
    let from = LINES * RUNS - 250;
    let expected: String = (from..LINES * RUNS).map(|n| format!("line {n}\n")).collect();
    assert_eq!((code, tail), (0, expected.clone()));
    let bytes = svc_out(dir, &["logs", "writer", "--bytes", "100"]).1;
    assert!(bytes.len() == 100 && expected.ends_with(&bytes), "{bytes}");
    supervisor.end();
}
