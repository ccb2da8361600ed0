//! Debian's own archive beside the tools that Debian has for it: gpgv, apt, dpkg-deb, dpkg.
//!
//! What is downloaded is kept in the workspace's cache.
#![cfg(all(feature = "apt", feature = "archive", feature = "unpack"))]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_debroot::fetch::{AptHelper, Fetch};
use kiln_debroot::root::Options;
use kiln_debroot::{Archive, Index, Lock, Request, Root, archive, download, openpgp, resolve};
use kiln_tree::{Kind, TreePath};

const SUITE: &str = "bookworm";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What images are made of.
const SETS: &[&str] = &[
    "nginx-light",
    "podman",
    "iptables",
    "containernetworking-plugins",
    "ca-certificates",
    "busybox-static",
    "docker.io",
    "chrony",
    "openssh-server",
    "python3-minimal",
    "linux-image-amd64",
    "syslinux",
];

fn cache() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cache");
    std::env::var_os("KILN_CACHE").map_or(here, PathBuf::from).join("debroot")
}

struct Debian {
    archives: Vec<Archive>,
    index: Index,
}

/// Debian as it is now, or nothing where it cannot be reached (which is a failure in CI).
fn debian() -> Option<&'static Debian> {
    static FOUND: OnceLock<Result<Debian, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let keyring = std::fs::read(KEYRING).map_err(|error| format!("{KEYRING}: {error}"))?;
        let archives = archive::debian(SUITE, "amd64", &keyring);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?;
        let store = cache().join("indexes");
        let index = archive::read(&archives, now.as_secs(), &store, &AptHelper::default())
            .map_err(|error| error.to_string())?;
        Ok(Debian { archives, index })
    });
    match found {
        Ok(debian) => Some(debian),
        Err(why) => {
            println!("skipped: Debian's archive ({why})");
            assert!(std::env::var_os("CI").is_none(), "Debian's archive cannot be read: {why}");
            None
        }
    }
}

fn output(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").env("TZ", "UTC").output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_release_file_is_signed_as_gpgv_says() {
    let work = tempfile::tempdir().unwrap();
    let at = work.path().join("InRelease");
    let Some(debian) = debian() else { return };
    for archive in &debian.archives {
        let uri = format!("{}/dists/{}/InRelease", archive.uri, archive.suite);
        AptHelper::default().fetch(&uri, &at, 1 << 26).unwrap();
        let message = std::fs::read(&at).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let ours = openpgp::verify(&message, &archive.keyring, now, &uri).unwrap();
        let status =
            output(Command::new("gpgv").args(["--status-fd", "1", "--keyring", KEYRING]).arg(&at));
        let mut theirs: Vec<&str> = status
            .lines()
            .filter_map(|line| line.strip_prefix("[GNUPG:] VALIDSIG ")?.split(' ').next())
            .collect();
        let mut ours: Vec<&str> = ours.signers.iter().map(String::as_str).collect();
        theirs.sort_unstable();
        ours.sort_unstable();
        assert_eq!(ours, theirs, "{uri}");

        let end = message.len() / 3;
        let mut changed = message.clone();
        changed[end] ^= 1;
        assert!(openpgp::verify(&changed, &archive.keyring, now, &uri).is_err());
    }
}

/// apt with these archives, on a system that has nothing installed.
struct Apt {
    directory: tempfile::TempDir,
}

impl Apt {
    fn new(archives: &[Archive]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |path: &str| directory.path().join(path);
        for path in ["state/lists/partial", "cache/archives/partial", "parts", "preferences"] {
            std::fs::create_dir_all(at(path)).expect("made");
        }
        let sources: String = archives
            .iter()
            .map(|archive| {
                let Archive { uri, suite, components, .. } = archive;
                format!("deb [signed-by={KEYRING}] {uri} {suite} {}\n", components.join(" "))
            })
            .collect();
        std::fs::write(at("sources.list"), sources).expect("written");
        std::fs::write(at("status"), "").expect("written");
        let apt = Self { directory };
        output(apt.command("apt-get").args(["-qq", "update"]));
        apt
    }

    fn command(&self, program: &str) -> Command {
        let at = |path: &str| self.directory.path().join(path).display().to_string();
        let mut command = Command::new(program);
        for (key, value) in [
            ("Dir::State", at("state")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("cache")),
            ("Dir::Etc::SourceList", at("sources.list")),
            ("Dir::Etc::SourceParts", at("parts")),
            ("Dir::Etc::Preferences", at("none")),
            ("Dir::Etc::PreferencesParts", at("preferences")),
            ("APT::Architecture", "amd64".into()),
            ("APT::Architectures", "amd64".into()),
            // Only root could be anybody else.
            ("APT::Sandbox::User", "root".into()),
        ] {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        command
    }

    /// Name and version of everything that would be installed.
    fn resolve(&self, package: &str, recommends: bool) -> BTreeSet<String> {
        let option = if recommends { "--install-recommends" } else { "--no-install-recommends" };
        let text = output(
            self.command("apt-get").args(["install", "-s", "-qq", "-y", option]).arg(package),
        );
        text.lines()
            .filter_map(|line| {
                let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
                Some(format!("{name} {}", rest.split(' ').next()?))
            })
            .collect()
    }
}

#[test]
fn the_same_packages_as_apt_takes() {
    let Some(debian) = debian() else { return };
    let apt = Apt::new(&debian.archives);
    let mut differences = Vec::new();
    let mut compared = 0;
    for recommends in [false, true] {
        for package in SETS {
            let theirs = apt.resolve(package, recommends);
            let request = Request::new([*package]).with_recommends(recommends);
            let chosen =
                resolve(&debian.index, &request).unwrap_or_else(|e| panic!("{package}: {e}"));
            let ours: BTreeSet<String> = chosen
                .iter()
                .map(|chosen| format!("{} {}", chosen.package.name(), chosen.package.version()))
                .collect();
            compared += ours.len();
            let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
                a.difference(b).cloned().collect::<Vec<_>>().join(", ")
            };
            if ours != theirs {
                let line = format!(
                    "{package} (recommends {recommends}): only ours: {}; only apt's: {}",
                    only(&ours, &theirs),
                    only(&theirs, &ours)
                );
                println!("{line}");
                differences.push(line);
            }
        }
    }
    println!("{compared} packages compared");
    assert!(compared > 100);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// One package set, downloaded and unpacked below `work`.
fn unpacked(debian: &Debian, wanted: &[&str], work: &Path) -> (Lock, Vec<PathBuf>, Root) {
    let request = Request::new(wanted.iter().copied());
    let lock =
        Lock::new(&debian.archives, &request, &resolve(&debian.index, &request).expect("resolved"));
    let place = download::by_digest(cache().join("packages"));
    let paths = download::download(&lock, &place, Some(&AptHelper::default())).expect("downloaded");
    let packages: Vec<_> = lock.packages.iter().cloned().zip(paths.clone()).collect();
    let root = Root::unpack(&packages, &work.join("root"), &Options::default()).expect("unpacked");
    (lock, paths, root)
}

#[test]
fn every_file_is_what_dpkg_deb_lists() {
    let Some(debian) = debian() else { return };
    let work = tempfile::tempdir().unwrap();
    let (lock, paths, root) = unpacked(debian, SETS, work.path());
    let mut seen = BTreeSet::new();
    let mut entries = 0;
    for (package, path) in lock.packages.iter().zip(&paths) {
        for line in listing(path) {
            entries += 1;
            compare(&root, package, &line, &mut seen);
        }
    }
    // And nothing else, but for the alternatives and the links of the merged /usr.
    for (path, node) in &root.tree {
        let why = node.why.as_deref().unwrap_or_default();
        let alias = !path.as_bytes().contains(&b'/') && matches!(node.kind, Kind::Symlink(_));
        let parent = node.is_directory() && root.tree.children(path).next().is_some();
        assert!(
            seen.contains(path) || why.starts_with("alternative ") || alias || parent,
            "{path} is of no package"
        );
    }
    println!("{} packages, {entries} entries, {} paths", paths.len(), root.tree.len());
    for problem in root.notes.iter().filter(|note| note.text.starts_with("alternative")) {
        println!("note: {problem}");
    }
}

/// An entry as tar lists it.
struct Line {
    mode: String,
    owner: String,
    size: String,
    time: String,
    path: String,
    target: Option<String>,
}

fn listing(deb: &Path) -> Vec<Line> {
    let mut data = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .expect("dpkg-deb runs");
    let text = output(
        Command::new("tar")
            .args(["--list", "--verbose", "--numeric-owner", "--full-time"])
            .args(["--quoting-style=literal", "--file=-"])
            .stdin(data.stdout.take().expect("a pipe")),
    );
    assert!(data.wait().expect("it ends").success());
    text.lines()
        .map(|line| {
            let mut words = line.split_ascii_whitespace();
            let mut next = || words.next().expect("a word").to_owned();
            let (mode, owner, size, day, hour) = (next(), next(), next(), next(), next());
            let rest = line.split_once(&format!("{day} {hour} ")).expect("a name").1;
            let separator = if mode.starts_with('h') { " link to " } else { " -> " };
            let (path, target) = match rest.split_once(separator) {
                Some((path, target)) => (path, Some(target.to_owned())),
                None => (rest, None),
            };
            Line { mode, owner, size, time: format!("{day} {hour}"), path: path.into(), target }
        })
        .collect()
}

fn compare(
    root: &Root,
    package: &kiln_debroot::LockedPackage,
    line: &Line,
    seen: &mut BTreeSet<TreePath>,
) {
    let named = || format!("{package}: {}", line.path);
    let aliased = |path: &str| {
        let path = path.trim_start_matches("./").trim_end_matches('/');
        let first = path.split('/').next().unwrap_or_default();
        let old = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"].contains(&first);
        TreePath::new(if old { format!("usr/{path}") } else { path.to_owned() }).expect("a path")
    };
    let path = aliased(&line.path);
    if path.is_root() {
        return;
    }
    let (node, owner) = (root.tree.get(&path), root.owner_of(path.as_bytes()));
    assert!(node.is_some(), "{} is not there", named());
    assert!(owner.is_some(), "{} has no owner", named());
    let (Some(node), Some(owner)) = (node, owner) else { return };
    assert!(seen.insert(path.clone()) || node.is_directory() || line.mode.starts_with('-'));
    if owner != package {
        // Directories and equal files that several packages have.
        assert!(node.is_directory() || matches!(node.kind, Kind::File(_)), "{}", named());
        return;
    }
    assert_eq!(mode_text(node), line.mode, "{}", named());
    assert_eq!(format!("{}/{}", node.meta.uid, node.meta.gid), line.owner, "{}", named());
    assert_eq!(time_text(node.meta.mtime), line.time, "{}", named());
    match (&node.kind, &line.target) {
        (Kind::File(source), None) => {
            assert_eq!(source.len().to_string(), line.size, "{}", named());
            let disk = std::fs::symlink_metadata(root.host_path(&path)).expect("on disk");
            assert_eq!(disk.len(), source.len(), "{}", named());
        }
        (Kind::Symlink(target), Some(expected)) => {
            assert_eq!(String::from_utf8_lossy(target), *expected, "{}", named());
            let disk = std::fs::read_link(root.host_path(&path)).expect("on disk");
            assert_eq!(disk, Path::new(expected), "{}", named());
        }
        (Kind::Hardlink(target), Some(expected)) => assert_eq!(*target, aliased(expected)),
        (kind, target) => {
            let directory = matches!(kind, Kind::Directory) && target.is_none();
            assert!(directory, "{} is a {}", named(), kind.name());
        }
    }
}

/// As `ls -l` shows it.
fn mode_text(node: &kiln_tree::Node) -> String {
    let kind = match node.kind {
        Kind::Directory => 'd',
        Kind::Symlink(_) => 'l',
        Kind::Hardlink(_) => 'h',
        _ => '-',
    };
    let mut text = String::from(kind);
    let mode = node.meta.mode;
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// As `date --utc '+%F %T'` shows it.
fn time_text(seconds: u32) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u32| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u32::from(leap(year)) {
        days -= 365 + u32::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u32::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{month:02}-{:02} {hours:02}:{minutes:02}:{seconds:02}", days + 1)
}

#[test]
fn owners_are_those_of_dpkg() {
    let Some(debian) = debian() else { return };
    // The programs of this host's packages, as far as the archive still has these versions.
    let query = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${Version} ${Architecture}\n"])
        .output();
    let Ok(query) = query else {
        println!("skipped: dpkg-query");
        assert!(std::env::var_os("CI").is_none(), "CI has all tools");
        return;
    };
    let installed: BTreeMap<String, String> = String::from_utf8(query.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect();
    let wanted = ["bash", "coreutils", "util-linux", "grep", "sed", "tar", "gzip", "dash", "mawk"];
    let work = tempfile::tempdir().unwrap();
    let (lock, _, root) = unpacked(debian, &wanted, work.path());
    let same: Vec<_> = lock
        .packages
        .iter()
        .filter(|package| installed.get(&package.name) == Some(&package.version))
        .collect();
    let mut compared = 0;
    for package in same {
        let list = [format!("{}:{}", package.name, package.architecture), package.name.clone()]
            .iter()
            .map(|name| format!("/var/lib/dpkg/info/{name}.list"))
            .find_map(|path| std::fs::read_to_string(path).ok())
            .unwrap_or_default();
        // dpkg-query --listfiles, which is this list: the names of old and the new ones.
        for path in list.lines().filter(|path| path.len() > 2) {
            let found = root.owner_of(path).unwrap_or_else(|| panic!("{path} has no owner"));
            let shared = root.tree.resolve(path).is_some_and(|(_, node)| node.is_directory());
            assert!(found == package || shared, "{path}: {found} instead of {package}");
            compared += 1;
        }
    }
    println!("{compared} paths of {} packages compared", lock.packages.len());
    assert!(compared > 0 || installed.is_empty());
}
