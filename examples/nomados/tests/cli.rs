//! The `nomados` program on good and bad input. None of these boots anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use kiln::kernel::Kernel;
use kiln::{Cache, Progress, debian, digest, go, guest};
use tempfile::TempDir;

/// What a build takes when nothing is to be fetched or built any more.
struct Inputs {
    nomad: PathBuf,
    init: PathBuf,
    svc: PathBuf,
    kernel: Kernel,
}

fn inputs() -> &'static Inputs {
    static INPUTS: OnceLock<Inputs> = OnceLock::new();
    INPUTS.get_or_init(|| {
        let (cache, progress) = (Cache::of_workspace(), Progress::quiet());
        Inputs {
            nomad: go::build(&cache, &go::NOMAD, &progress).expect("a Nomad"),
            init: guest::build("nomados-init", "nomados-init", &progress).expect("an init"),
            svc: guest::build_with_features("kiln-supervisor", "svc", &["cli"], &progress)
                .expect("a svc"),
            kernel: debian::kernel(&cache, "linux-image-amd64").expect("a kernel"),
        }
    })
}

fn nomados() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nomados"))
}

/// A build from inputs that are all given, so that it neither fetches nor builds.
fn build(out: &Path) -> Command {
    let inputs = inputs();
    let mut command = nomados();
    command.arg("build").arg("--out").arg(out);
    command.arg("--nomad").arg(&inputs.nomad).arg("--init").arg(&inputs.init);
    command.arg("--svc").arg(&inputs.svc).arg("--kernel").arg(&inputs.kernel.image);
    command.arg("--modules").arg(inputs.kernel.modules.as_ref().expect("modules"));
    command.arg("--kernel-config").arg(&inputs.kernel.config);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails, says all of `words`, and leaves the output directory without an image.
fn refuses(command: &mut Command, out: &Path, words: &[&str]) {
    let output = command.output().expect("nomados starts");
    let said = stderr(&output);
    assert!(!output.status.success(), "it went well: {said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    let left: Vec<_> = std::fs::read_dir(out).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

fn temporary() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    (directory, out)
}

#[test]
fn the_same_build_anywhere_by_anybody_at_any_time_gives_the_same_bytes() {
    let formats = ["--format", "initramfs,raw,qcow2,vmdk"];
    let (_first, here) = temporary();
    let output = build(&here)
        .args(formats)
        .env("KILN_CACHE", with_packages(&here.join("cache")))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));

    // Another user, directory, umask, time zone and cache; inputs copied with other times.
    let other = tempfile::tempdir().unwrap();
    open_to_all(other.path());
    let inputs = inputs();
    let copy = |path: &Path, name: &str| {
        let to = other.path().join(name);
        std::fs::copy(path, &to).unwrap();
        to
    };
    let program = copy(Path::new(env!("CARGO_BIN_EXE_nomados")), "nomados");
    let nomad = copy(&inputs.nomad, "nomad");
    let init = copy(&inputs.init, "init");
    let svc = copy(&inputs.svc, "svc");
    let there = other.path().join("out");
    std::fs::create_dir(&there).unwrap();
    open_to_all(&there);
    let is_root = std::fs::metadata("/proc/self")
        .is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0);
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c"]);
        command
    } else {
        println!("skipped: another user (needs root)");
        let mut command = Command::new("sh");
        command.arg("-c");
        command
    };
    command.arg("umask 077; exec \"$@\"").arg("sh").arg(&program).arg("build");
    command.arg("--out").arg(&there).args(formats).arg("--nomad").arg(&nomad);
    command
        .arg("--init")
        .arg(&init)
        .arg("--svc")
        .arg(&svc)
        .arg("--kernel")
        .arg(&inputs.kernel.image);
    command.arg("--modules").arg(inputs.kernel.modules.as_ref().expect("modules"));
    command.arg("--kernel-config").arg(&inputs.kernel.config);
    command.current_dir("/").env("TZ", "Pacific/Kiritimati").env("HOME", "/nonexistent");
    let cache = with_packages(&there.join("cache"));
    open_to_all(&cache);
    command.env("KILN_CACHE", cache).env("SOURCE_DATE_EPOCH", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));

    let (ours, theirs) = (digests(&here), digests(&there));
    assert_eq!(ours.len(), 6, "{ours:?}");
    assert_eq!(ours, theirs);
}

/// A cache that has nothing but the downloaded packages.
fn with_packages(cache: &Path) -> PathBuf {
    // Whoever comes first downloads them.
    static DOWNLOADED: OnceLock<()> = OnceLock::new();
    DOWNLOADED.get_or_init(|| {
        let (_directory, out) = temporary();
        let output = build(&out).args(["--format", "initramfs"]).output().expect("nomados starts");
        assert!(output.status.success(), "{}", stderr(&output));
    });
    std::fs::create_dir_all(cache).expect("a cache");
    let packages = Cache::of_workspace().root().join("debian");
    std::os::unix::fs::symlink(packages, cache.join("debian")).expect("a link");
    cache.to_path_buf()
}

fn open_to_all(directory: &Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(directory, mode).expect("a directory of ours");
}

fn digests(directory: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(directory)
        .expect("the output directory")
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, digest::of_file(&entry.path()).expect("a digest"))
        })
        .collect()
}

#[test]
fn a_missing_or_foreign_nomad_is_named() {
    let (directory, out) = temporary();
    let missing = directory.path().join("no-nomad");
    refuses(build(&out).arg("--nomad").arg(&missing), &out, &["cannot be used multiple times"]);
    let mut command = nomados();
    command.args(["build", "--nomad"]).arg(&missing).arg("--out").arg(&out);
    refuses(&mut command, &out, &["--nomad", "no-nomad", "No such file"]);

    let text = directory.path().join("text");
    std::fs::write(&text, "not a program at all\n").unwrap();
    refuses(&mut with(&out, "--nomad", &text), &out, &["text", "ELF"]);
}

/// The build with one of its inputs exchanged.
fn with(out: &Path, option: &str, path: &Path) -> Command {
    let whole = build(out);
    let mut command = nomados();
    let mut skip = false;
    for word in whole.get_args() {
        if !std::mem::take(&mut skip) {
            command.arg(word);
        }
        skip = word == option;
        if skip {
            command.arg(path);
        }
    }
    command
}

#[test]
fn a_missing_library_is_named_with_who_needs_it() {
    let (directory, out) = temporary();
    let source = directory.path().join("needy.c");
    let (library, program) =
        (directory.path().join("libneeded.so"), directory.path().join("needy"));
    std::fs::write(&source, "int f(void); int main(void) { return f(); }").unwrap();
    std::fs::write(directory.path().join("f.c"), "int f(void) { return 0; }").unwrap();
    let compile = |arguments: &[&str]| {
        Command::new("cc").args(arguments).current_dir(directory.path()).status().unwrap().success()
    };
    assert!(compile(&["-shared", "-fPIC", "-o", "libneeded.so", "f.c"]));
    assert!(compile(&["-o", "needy", "needy.c", "-L.", "-lneeded"]));
    std::fs::remove_file(library).unwrap();
    refuses(&mut with(&out, "--nomad", &program), &out, &["libneeded.so", "nomad"]);
}

#[test]
fn a_kernel_without_what_is_needed_is_told_with_reason_and_all_other_problems() {
    let (directory, out) = temporary();
    let text = std::fs::read_to_string(&inputs().kernel.config).unwrap();
    let config = directory.path().join("config");
    let text = text.replace("CONFIG_CGROUPS=y", "# CONFIG_CGROUPS is not set");
    std::fs::write(&config, text.replace("CONFIG_DEVTMPFS=y", "# CONFIG_DEVTMPFS is not set"))
        .unwrap();
    let init = directory.path().join("init.json");
    std::fs::write(&init, r#"{"data_dir": "/elsewhere"}"#).unwrap();
    let mut command = with(&out, "--kernel-config", &config);
    command.arg("--config").arg(init);
    refuses(&mut command, &out, &["CONFIG_CGROUPS", "CONFIG_DEVTMPFS", "/elsewhere"]);
}

#[test]
fn a_kernel_that_needs_modules_is_refused_without_them() {
    let (directory, out) = temporary();
    let inputs = inputs();
    // The configuration is beside the kernel, whose release is read from itself.
    let mut command = nomados();
    command.arg("build").arg("--out").arg(&out).arg("--kernel").arg(&inputs.kernel.image);
    command.arg("--nomad").arg(&inputs.nomad).arg("--init").arg(&inputs.init);
    refuses(&mut command, &out, &["virtio_net is a module", "e1000 is a module", "--modules"]);
    drop(directory);
}

#[test]
fn a_configuration_that_does_not_parse_or_holds_secrets_is_refused() {
    let (directory, out) = temporary();
    let config = directory.path().join("init.json");
    std::fs::write(&config, "{\n  \"data_dir\": oops\n}").unwrap();
    refuses(build(&out).arg("--config").arg(&config), &out, &["init.json:2:"]);
    std::fs::write(&config, r#"{"data_dir": "/var/lib/nomad", "server": {"encrypt": "c2VjcmV0"}}"#)
        .unwrap();
    let words = ["server.encrypt", "--allow-secrets"];
    refuses(build(&out).arg("--config").arg(&config), &out, &words);
    let mut allowed = build(&out);
    allowed.arg("--config").arg(&config).args(["--allow-secrets", "--format", "initramfs"]);
    let output = allowed.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn files_are_added_and_those_that_cannot_be_are_named() {
    let (directory, out) = temporary();
    let file = directory.path().join("hello");
    std::fs::write(&file, "hello").unwrap();
    let add = |path: &str| format!("{}={path}", file.display());
    refuses(build(&out).args(["--add", "/no/such=/x"]), &out, &["/no/such"]);
    refuses(build(&out).args(["--add", "nonsense"]), &out, &["FILE=PATH"]);
    refuses(build(&out).args(["--add", &add("/etc/nomad")]), &out, &["/etc/nomad", "directory"]);
    let mut command = build(&out);
    command.args(["--add", &add("/bin/hello"), "--format", "initramfs", "--json"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let manifest: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = manifest["files"].as_array().unwrap();
    let added = files.iter().find(|file| file["path"] == "usr/bin/hello").unwrap();
    assert_eq!(added["size"], 5);
    assert_eq!(added["sha256"].as_str(), Some(digest::of_bytes(b"hello").as_str()));
    assert!(files.iter().all(|file| file["why"].is_string()), "a file without a reason");

    let text = nomados().arg("inspect").arg(out.join("nomados.initramfs")).output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).contains("usr/bin/hello"));
}

#[test]
fn damaged_images_are_errors_that_say_where() {
    let (_directory, out) = temporary();
    let mut command = build(&out);
    let output = command.args(["--format", "initramfs,qcow2,vmdk,raw"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    for name in ["nomados.initramfs", "nomados.qcow2", "nomados.vmdk", "nomados.raw"] {
        let path = out.join(name);
        let inspect = || nomados().arg("inspect").arg("--json").arg(&path).output().unwrap();
        let whole = inspect();
        assert!(whole.status.success(), "{name}: {}", stderr(&whole));
        serde_json::from_slice::<serde_json::Value>(&whole.stdout).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(if name.ends_with("raw") { 1000 } else { 1_000_000 }).unwrap();
        let cut = inspect();
        assert!(!cut.status.success(), "{name} was cut and nothing was said");
        assert!(stderr(&cut).contains(name), "{}", stderr(&cut));
    }
}

#[test]
fn without_qemu_or_with_a_port_in_use_run_says_so() {
    let (directory, out) = temporary();
    let output = build(&out).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let image = out.join("nomados.raw");
    let missing = nomados().arg("run").arg(&image).env("PATH", directory.path()).output().unwrap();
    // Where it is installed, the administrator's directories are searched too, but it is not there.
    assert!(
        stderr(&missing).contains("qemu-system-x86_64 is not installed"),
        "{}",
        stderr(&missing)
    );
    let absent = nomados().arg("run").arg(out.join("absent.raw")).output().unwrap();
    assert!(!absent.status.success() && stderr(&absent).contains("absent.raw"));
    if let Ok(_taken) = std::net::TcpListener::bind("127.0.0.1:4646") {
        let taken = nomados().args(["run", "--stay"]).arg(&image).output().unwrap();
        assert!(stderr(&taken).contains("127.0.0.1:4646 is in use"), "{}", stderr(&taken));
    }
}
