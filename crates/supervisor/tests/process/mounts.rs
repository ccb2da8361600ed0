//! What can only be read, with real mounts in a namespace that the test has for itself.

use rustix::mount::{MountFlags, MountPropagationFlags, mount_change};

use super::*;

const NAME: &str = "read_only_is_read_only_below_too";

/// The place of before, without the mount that hides another.
pub(crate) const UNCOVERED: &str = "stacked/.";

/// Where the service tries to write, and what is said of the mounts that are there.
pub(crate) const PLACES: [(&str, &str); 10] = [
    (".", "refused: NODEV NOSUID RDONLY"),
    ("below", "refused: NODEV NOEXEC NOSUID RDONLY"),
    ("below/deep", "refused: NOATIME RDONLY"),
    ("open", "written: NODEV NOSUID"),
    ("open/mounted", "written: NOSUID"),
    // nobody gets a right that is not there
    ("open/was", "refused: NODEV RDONLY"),
    ("open/shut", "refused: NODEV NOSUID RDONLY"),
    ("open/shut/below", "refused: NOEXEC RDONLY"),
    ("stacked", "refused: NODEV RDONLY"),
    // what was hidden by it
    (UNCOVERED, "refused: RDONLY"),
];

fn tmpfs(path: &Path, flags: MountFlags) {
    std::fs::create_dir_all(path).unwrap();
    rustix::mount::mount("kiln-test", path, c"tmpfs", flags, None).unwrap();
}

/// The mounts below a directory; others come and go with the tests that run meanwhile.
fn table(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines = text.lines().filter(|line| line.contains(dir.to_str().unwrap()));
    lines.map(str::to_owned).collect()
}

/// In a mount namespace that nothing goes out of.
pub(crate) fn run(dir: &Path) {
    let base = dir.join("base");
    let flags = MountFlags::empty();
    tmpfs(&base, MountFlags::NOSUID | MountFlags::NODEV);
    // what is mounted in one place of it is mounted in all, unless somebody sees to it
    mount_change(&base, MountPropagationFlags::SHARED).unwrap();
    tmpfs(&base.join("below"), MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC);
    tmpfs(&base.join("below/deep"), MountFlags::NOATIME);
    tmpfs(&base.join("open/mounted"), MountFlags::NOSUID);
    tmpfs(&base.join("open/was"), MountFlags::NODEV | MountFlags::RDONLY);
    tmpfs(&base.join("open/shut/below"), MountFlags::NOEXEC);
    tmpfs(&dir.join("two/stacked"), flags);
    tmpfs(&dir.join("two/stacked"), MountFlags::NODEV);
    let own = std::env::current_exe().unwrap();
    let own = own.to_str().unwrap();
    let shot = |name: &str, at: &Path| {
        let mut spec = ServiceSpec::one_shot(name, [own, "--rights", at.to_str().unwrap()]);
        spec.log = Log::File(plain(dir.join(format!("{name}.log"))));
        spec
    };
    let mut inside = shot("inside", &base);
    let link = dir.join("link");
    std::os::unix::fs::symlink(&base, &link).unwrap();
    // by another name, and in any order
    inside.isolation.read_only = vec![base.join("open/shut"), link, "-/no/such/path".into()];
    inside.isolation.writable = vec!["-/no/such/path".into(), base.join("open")];
    let mut stacked = shot("stacked", &dir.join("two"));
    stacked.isolation.read_only = vec![dir.join("two")];
    let before = table(dir);
    super::run(vec![inside, stacked], options(), &mut |_| {});
    println!("0 outside: {}", if table(dir) == before { "the same" } else { "changed" });
    for place in [".", "below", "below/deep", "open/shut", "open/shut/below"] {
        std::fs::write(base.join(place).join("outside"), "").unwrap();
    }
}

/// Whether there are rights for it; else the test is skipped, which CI does not take.
fn may() -> bool {
    let may = rustix::process::geteuid().is_root();
    if !may {
        assert!(std::env::var_os("CI").is_none(), "this takes root");
        println!("skipped: mounts, without root");
    }
    may
}

/// A case's supervisor in a mount namespace of its own.
fn command(dir: &Path) -> Vec<String> {
    let own = std::env::current_exe().unwrap();
    let (own, dir) = (own.to_str().unwrap(), dir.to_str().unwrap());
    let words = ["unshare", "--mount", "--propagation", "private", own, "--case", NAME, dir];
    words.map(str::to_owned).to_vec()
}

fn check(dir: &Path, lines: &[String], without: &[&str]) {
    assert_eq!(count(lines, "outside: the same"), 1, "{lines:#?}");
    let log = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    let found = log("inside.log") + &log("stacked.log");
    for (place, expected) in PLACES {
        let line = format!("{place} {expected}");
        let is_there = found.lines().any(|found| found == line);
        assert_eq!(is_there, !without.contains(&place), "{line}: {found} {lines:#?}");
    }
    assert_eq!(table(dir), [""; 0]);
}

pub(crate) fn test(dir: &Path) {
    if !may() {
        return;
    }
    let words = command(dir);
    let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<_> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    check(dir, &lines, &[]);
}

/// The same where the kernel seems to be older than what is used of it.
#[cfg(feature = "seccomp")]
pub(crate) fn older_run(dir: &Path) {
    use kiln_supervisor::{Seccomp, Violation};
    let mut spec = ServiceSpec::one_shot("older", command(dir));
    spec.log = Log::File(plain(dir.join("older.log")));
    let calls = ["mount_setattr", "open_tree", "move_mount"];
    let calls = calls.map(|name| name.parse().unwrap()).to_vec();
    // ENOSYS
    spec.isolation.seccomp = Some(Seccomp::Deny { calls, otherwise: Violation::Errno(38) });
    super::run(vec![spec], options(), &mut |_| {});
}

#[cfg(feature = "seccomp")]
pub(crate) fn older_test(dir: &Path) {
    if !may() {
        return;
    }
    let outer = supervise("read_only_is_read_only_on_an_older_kernel", dir);
    assert_eq!(count(&outer, "older: done"), 1, "{outer:#?}");
    let log = std::fs::read_to_string(dir.join("older.log")).unwrap();
    let lines: Vec<_> = log.lines().map(str::to_owned).collect();
    // what has no path is not left as it is in silence
    check(dir, &lines, &["stacked", UNCOVERED]);
    let refused = format!(
        "stacked: failed: cannot prepare read-only paths by /proc/self/mountinfo (a mount at {} is hidden by \
         another), without which it takes Linux 5.12 (this is {}): ENOSYS",
        dir.join("two/stacked").display(),
        rustix::system::uname().release().to_str().unwrap(),
    );
    assert_eq!(count(&lines, &refused), 1, "{refused}: {lines:#?}");
}
