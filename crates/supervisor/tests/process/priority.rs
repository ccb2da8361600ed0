//! The loop's niceness, and who has it not.

use std::os::fd::{AsFd, BorrowedFd};

use super::*;

/// Has the niceness of the test, whatever it is.
const BEFORE: &str = "KILN_TEST_NICENESS";

/// Asks for a new process image at once.
#[derive(Debug)]
struct Again(std::io::PipeReader);

impl Source for Again {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
    fn take(&mut self) -> std::io::Result<Vec<Request>> {
        std::io::Read::read(&mut self.0, &mut [0])?;
        Ok(vec![Request::Reexec])
    }
}

pub(super) fn run(_: &Path) {
    // a session of its own, as PID 1 has
    let _ = rustix::process::setsid();
    let mut options = options();
    options.nice = Some(-5);
    options.reexec = Some(unix::Reexec::new("/proc/self/exe"));
    let (reader, mut writer) = std::io::pipe().unwrap();
    options.sources.push(Box::new(Again(reader)));
    let resumed = unix::resumed();
    let before = std::env::var(BEFORE).unwrap();
    let mut specs = vec![sh("first", "exec sleep 100")];
    if resumed {
        specs.push(sh("second", "exec sleep 100"));
    }
    super::run(specs, options, &mut |event| {
        if let Event::Ready { service, .. } = event {
            let service = service.to_string();
            println!("0 loop {} {}", nice("self"), group("self"));
            let all = std::fs::read_dir("/proc/self/task").unwrap().count();
            let same = std::fs::read_dir("/proc/self/task").unwrap().filter(|task| {
                let id = task.as_ref().unwrap().file_name().into_string().unwrap();
                nice(&format!("self/task/{id}")) == before
            });
            println!("0 {} of {all} threads are as before", same.count());
            match resumed {
                true => term_self(),
                false => std::io::Write::write_all(&mut writer, b"x").unwrap(),
            }
            println!("0 up: {service}");
        }
        if let Event::Started { service, pid } = event {
            println!("0 {service} {} {}", nice(&pid.to_string()), group(&pid.to_string()));
        }
    });
}

/// Field 19 of proc_pid_stat(5).
fn nice(process: &str) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().to_owned()
}

/// The niceness of its session, where the kernel has autogroups.
fn group(process: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{process}/autogroup")).unwrap_or_default();
    text.split_once(' ').map_or("none", |(_, rest)| rest.trim()).to_owned()
}

pub(super) fn test(dir: &Path) {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "less niceness needs root");
        return println!("skipped: root");
    }
    let before = nice("self");
    let output = supervise_with("niceness_is_the_loops_alone", dir, |command| {
        command.env(BEFORE, &before);
    });
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let has_groups = Path::new("/proc/self/autogroup").exists();
    let of = |nice: &str| if has_groups { format!("nice {nice}") } else { "none".to_owned() };
    // in both images
    assert_eq!(count(&lines, &format!("loop -5 {}", of("-5"))), 2, "{lines:#?}");
    assert_eq!(count(&lines, "2 of 3 threads are as before"), 2, "{lines:#?}");
    for service in ["first", "second"] {
        let line = format!("{service} {before} {}", of("0"));
        assert_eq!(count(&lines, &line), 1, "{lines:#?}");
    }
}
