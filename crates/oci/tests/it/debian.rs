//! Programs of Debian packages, which are unpacked and not installed: a registry would be started.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The packages of a program, with those of its libraries that few machines have.
const PACKAGES: &[(&str, &[&str])] = &[
    ("skopeo", &["skopeo", "libgpgme11", "libassuan0", "libgpg-error0", "libdevmapper1.02.1"]),
    ("umoci", &["umoci"]),
    ("docker-registry", &["docker-registry"]),
    ("crun", &["crun", "libyajl2", "libseccomp2", "libcap2", "libsystemd0"]),
    ("busybox", &["busybox-static"]),
];

/// A program by its name; `None` where it cannot be had, which is a failure in CI.
pub(crate) fn tool(name: &'static str) -> Option<Tool> {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match ROOT.get_or_init(root) {
        Ok(root) => {
            let program = ["usr/bin", "usr/sbin", "bin"]
                .iter()
                .map(|directory| root.join(directory).join(name))
                .find(|program| program.is_file());
            let program = program.expect(name);
            Some(Tool { program, root: root.clone() })
        }
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("skipped: {name} ({why})");
            None
        }
    }
}

/// The packages, unpacked below the workspace's cache, once.
fn root() -> Result<PathBuf, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cache");
    let cache = std::env::var_os("KILN_CACHE").map_or(here, PathBuf::from).join("oci");
    std::fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
    let mut names: Vec<&str> =
        PACKAGES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    names.sort_unstable();
    let root = cache.join(names.join("+"));
    if root.is_dir() {
        return Ok(root);
    }
    let beside = tempfile::Builder::new().prefix(".part-").tempdir_in(&cache).unwrap();
    let debs = beside.path().join("debs");
    std::fs::create_dir(&debs).unwrap();
    let mut download = Command::new("apt-get");
    run(download.arg("download").args(&names).current_dir(&debs))?;
    let made = beside.path().join("root");
    for deb in std::fs::read_dir(&debs).map_err(|error| error.to_string())? {
        let deb = deb.map_err(|error| error.to_string())?.path();
        run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&made))?;
    }
    // Another test run may have been faster, with the same.
    let _ = std::fs::rename(&made, &root);
    if root.is_dir() { Ok(root) } else { Err("packages could not be kept".into()) }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A program and its libraries.
pub(crate) struct Tool {
    pub(crate) program: PathBuf,
    root: PathBuf,
}

impl Tool {
    pub(crate) fn libraries(&self) -> std::ffi::OsString {
        let directories = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
        std::env::join_paths(directories.map(|directory| self.root.join(directory))).unwrap()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("LD_LIBRARY_PATH", self.libraries());
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    pub(crate) fn output<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// Runs it, which has to succeed; gives what it printed.
    pub(crate) fn expect<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        let output = self.output(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {text}", self.program.display());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
