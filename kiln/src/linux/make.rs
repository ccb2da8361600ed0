//! The kernel's own build system, run with an environment that is the same everywhere.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::num::NonZero;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use kiln_kconfig::{DotConfig, Value};

use crate::{Error, Result, Step, command};

/// How long a build may take: a big configuration on a small and busy machine.
const BUILD: Duration = Duration::from_secs(4 * 60 * 60);
/// How long a question to a tool may take.
const ASK: Duration = Duration::from_secs(60);
/// How many lines of the output are kept for the case that it fails, and how long they may be.
const KEPT_LINES: usize = 40;
const KEPT_BYTES: usize = 2000;

/// What the kernel calls itself in `uname -v`: the same whoever builds it, and when.
const IDENTITY: [(&str, &str); 4] = [
    ("KBUILD_BUILD_USER", "kiln"),
    ("KBUILD_BUILD_HOST", "kiln"),
    ("KBUILD_BUILD_VERSION", "1"),
    ("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970"),
];

/// The compiler and what goes with it.
#[derive(Debug, Clone)]
pub(super) struct Toolchain {
    /// The versions of compiler and linker: they are part of what a build gives.
    pub(super) identity: String,
}

impl Toolchain {
    pub(super) fn find() -> Result<Self> {
        let purpose = "to configure a kernel from source";
        require_all([
            has_program("make", purpose, "make"),
            has_program("gcc", purpose, "gcc"),
            has_program("ld", purpose, "binutils"),
            has_program("flex", purpose, "flex"),
            has_program("bison", purpose, "bison"),
            has_header("stdlib.h", purpose, "libc6-dev"),
        ])?;
        let mut identity = String::new();
        for tool in ["gcc", "ld"] {
            let output = command::run(environment(Command::new(tool)).arg("--version"), ASK)?;
            let text = String::from_utf8_lossy(&output.stdout);
            identity.push_str(text.lines().next().unwrap_or_default());
            identity.push('\n');
        }
        Ok(Self { identity })
    }
}

/// Sees to it that the tools are there that a build of this configuration uses.
pub(super) fn require_for(config: &DotConfig) -> Result<()> {
    let purpose = "to build a kernel from source";
    let is_on = |option: &str| config.get(option) == Some(Value::YES);
    let mut found = vec![
        has_program("bc", purpose, "bc"),
        has_program("perl", purpose, "perl-base"),
        has_program("gzip", purpose, "gzip"),
    ];
    for (option, tool, package) in [
        ("KERNEL_ZSTD", "zstd", "zstd"),
        ("KERNEL_XZ", "xz", "xz-utils"),
        ("KERNEL_LZMA", "xz", "xz-utils"),
        ("KERNEL_LZ4", "lz4", "lz4"),
        ("KERNEL_LZO", "lzop", "lzop"),
        ("KERNEL_BZIP2", "bzip2", "bzip2"),
        ("DEBUG_INFO_BTF", "pahole", "pahole"),
        ("IKHEADERS", "cpio", "cpio"),
    ] {
        if is_on(option) {
            found.push(has_program(tool, purpose, package));
        }
    }
    if is_on("OBJTOOL") || is_on("STACK_VALIDATION") {
        let purpose = "to build a kernel with objtool, which CONFIG_OBJTOOL=y asks for";
        found.push(has_header("gelf.h", purpose, "libelf-dev"));
    }
    if is_on("MODULE_SIG") || is_on("SYSTEM_TRUSTED_KEYRING") {
        let purpose = "to build a kernel that checks signatures";
        found.push(has_header("openssl/opensslv.h", purpose, "libssl-dev"));
        found.push(has_program("openssl", purpose, "openssl"));
    }
    require_all(found)
}

/// All that is missing, at once.
fn require_all(found: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let mut missing: Vec<Error> = found.into_iter().filter_map(Result::err).collect();
    match missing.len() {
        0 => Ok(()),
        1 => Err(missing.remove(0)),
        _ => Err(Error::Plan(missing.iter().map(ToString::to_string).collect())),
    }
}

fn has_program(program: &str, purpose: &'static str, package: &str) -> Result<()> {
    command::require(program, purpose, package).map(drop)
}

fn has_header(header: &str, purpose: &'static str, package: &str) -> Result<()> {
    let mut ask = environment(Command::new("gcc"));
    ask.args(["-fsyntax-only", "-x", "c", "-include", header, "/dev/null"]);
    command::run(&mut ask, ASK).map(drop).map_err(|_| Error::MissingTool {
        tool: header.into(),
        purpose,
        remedy: format!(
            "`apt-get install {package}`, or `cargo xtask setup` for all that is needed"
        ),
    })
}

/// An environment in which nothing of the user's can change a build.
fn environment(mut command: Command) -> Command {
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(IDENTITY).envs([("LC_ALL", "C"), ("TZ", "UTC")]);
    command
}

/// `make` for a source tree, with everything that it makes elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Make<'a> {
    pub(super) source: &'a Path,
    pub(super) objects: &'a Path,
    pub(super) jobs: Option<NonZero<usize>>,
}

impl Make<'_> {
    /// Makes targets, and tells `step` of what is being made. Gives the last lines of the output.
    pub(super) fn run(&self, targets: &[&str], step: Option<&Step>) -> Result<Vec<String>> {
        let jobs = self.jobs.or_else(|| std::thread::available_parallelism().ok());
        let jobs = jobs.map_or(1, NonZero::get);
        let mut make = environment(Command::new("make"));
        make.arg("-C").arg(self.source).arg(format!("O={}", self.objects.display()));
        // An empty LOCALVERSION keeps a `+` for changed git trees out of the release.
        make.args(["ARCH=x86_64", "LOCALVERSION=", &format!("-j{jobs}")]).args(targets);
        let line = command::describe(&make);
        let failed = |outcome: String, output: String| Error::Command {
            command: line.clone(),
            outcome,
            output,
        };
        // One pipe for both, or a compiler's last words could come before what it said first.
        let (mut child, output) = std::io::pipe()
            .and_then(|(output, input)| {
                let child =
                    make.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input).spawn()?;
                Ok((child, output))
            })
            .map_err(|error| failed(format!("could not be started: {error}"), String::new()))?;
        // It holds the pipe's other end, which must be the child's alone.
        drop(make);
        let (said, lines) = channel();
        follow(output, said);
        let deadline = Instant::now() + BUILD;
        let mut kept = VecDeque::with_capacity(KEPT_LINES);
        let status = loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(text) => {
                    if let Some(step) = step {
                        step.update(text.trim());
                    }
                    if kept.len() == KEPT_LINES {
                        kept.pop_front();
                    }
                    kept.push_back(text);
                }
                Err(RecvTimeoutError::Disconnected) => break child.wait(),
                Err(RecvTimeoutError::Timeout) => {
                    end(&mut child);
                    let outcome = format!("took longer than {} s and was ended", BUILD.as_secs());
                    return Err(failed(outcome, Vec::from(kept).join("\n")));
                }
            }
        };
        match status {
            Ok(status) if status.success() => Ok(kept.into()),
            Ok(status) => Err(failed(format!("ended with {status}"), Vec::from(kept).join("\n"))),
            Err(error) => Err(failed(format!("could not be waited for: {error}"), String::new())),
        }
    }
}

/// Sends the lines of a stream, as long as anybody wants them.
fn follow(stream: impl Read + Send + 'static, said: Sender<String>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            // The end, or nothing more can be had, which the status tells of.
            match reader.by_ref().take(KEPT_BYTES as u64).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if said.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
}

/// Ends a `make`: asked to, it ends the programs that it started too.
fn end(child: &mut Child) {
    if let Ok(id) = i32::try_from(child.id())
        && let Some(id) = rustix::process::Pid::from_raw(id)
    {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_build_says_its_last_lines_and_what_was_run() {
        if command::find("make").is_none() {
            println!("skipped: make");
            assert!(std::env::var_os("CI").is_none(), "make is not there");
            return;
        }
        let work = tempfile::tempdir().unwrap();
        let makefile = "all:\n\t@seq 1 100\n\t@echo the compiler is sorry >&2; exit 3\n";
        std::fs::write(work.path().join("Makefile"), makefile).unwrap();
        let make = Make { source: work.path(), objects: work.path(), jobs: None };
        let error = make.run(&["all"], None).unwrap_err().to_string();
        assert!(error.contains("sorry") && error.contains("ARCH=x86_64"), "{error}");
        assert!(error.contains("\n    100") && !error.contains("\n    50\n"), "{error}");
    }

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let missing = |tool| has_program(tool, "to test", "nothing");
        let error = require_all([missing("no-such-a"), missing("no-such-b")]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no-such-a") && text.contains("no-such-b"), "{text}");
        assert!(has_header("no/such/header.h", "to test", "nothing-dev").is_err());
    }
}
