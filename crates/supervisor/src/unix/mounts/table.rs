//! Mounts by `/proc/self/mountinfo` (proc_pid_mountinfo(5)): which are to be made read-only, where the
//! kernel cannot be asked for all below a path.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use super::rights::is_read_only;

#[derive(Debug)]
struct Mount {
    number: u32,
    parent: u32,
    point: PathBuf,
    flags: MountFlags,
}

/// The mounts that become read-only if these paths do (`true`) or stay as they are, and what else is to
/// be said of them again.
///
/// # Errors
/// Why they cannot be made so one by one: a mount that another one hides has no path, and would be seen
/// when that one goes.
pub(super) fn points(
    text: &[u8],
    borders: &[(PathBuf, bool)],
) -> Result<Vec<(CString, MountFlags)>, String> {
    let mounts = parse(text)?;
    let mut points = Vec::new();
    let mut add = |path: &Path, flags| {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        points.push((path, flags));
        Ok::<_, String>(())
    };
    for (path, _) in borders.iter().filter(|(_, read_only)| *read_only) {
        let holds = |mount: &&Mount| path.starts_with(&mount.point) && !is_hidden(mount, &mounts);
        let holder =
            mounts.iter().filter(holds).max_by_key(|mount| mount.point.components().count());
        let holder = holder.ok_or_else(|| format!("no mount has {}", path.display()))?;
        add(path, holder.flags)?;
    }
    for mount in &mounts {
        if !is_read_only(&mount.point, borders) {
            continue;
        }
        if is_hidden(mount, &mounts) {
            return Err(format!("a mount at {} is hidden by another", mount.point.display()));
        }
        if !borders.iter().any(|(path, _)| *path == mount.point) {
            add(&mount.point, mount.flags)?;
        }
    }
    Ok(points)
}

/// Whether a mount's path leads to another mount.
fn is_hidden(mount: &Mount, mounts: &[Mount]) -> bool {
    let (mut holder, mut point, mut below) = (mount, &mount.point, None);
    // no path has more mounts than there are
    for _ in mounts {
        let covers = |other: &Mount| {
            other.parent == holder.number
                && other.number != holder.number
                && Some(other.number) != below
                && point.starts_with(&other.point)
        };
        if mounts.iter().any(covers) {
            return true;
        }
        (point, below) = (&holder.point, Some(holder.number));
        match mounts.iter().find(|other| other.number == holder.parent) {
            Some(parent) if parent.number != holder.number => holder = parent,
            // that of the root directory
            _ => return false,
        }
    }
    true
}

fn parse(text: &[u8]) -> Result<Vec<Mount>, String> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
            let (id, parent) = (number(), number());
            let (point, options) = (fields.nth(2), fields.next());
            let (Some(number), Some(parent), Some(point), Some(options)) =
                (id, parent, point, options)
            else {
                return Err(format!("it has {:?}", String::from_utf8_lossy(line)));
            };
            let point = OsString::from_vec(unescape(point)).into();
            Ok(Mount { number, parent, point, flags: flags(options)? })
        })
        .collect()
}

/// The flags that a remount would take away if it did not name them. What is said of times stays as it
/// is when nothing is said of them.
fn flags(options: &[u8]) -> Result<MountFlags, String> {
    let options = String::from_utf8_lossy(options);
    options.split(',').try_fold(MountFlags::empty(), |flags, word| {
        let flag = match word {
            "nosuid" => MountFlags::NOSUID,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "nosymfollow" => MountFlags::NOSYMFOLLOW,
            "rw" | "ro" | "noatime" | "nodiratime" | "relatime" => MountFlags::empty(),
            word => return Err(format!("a mount is {word:?}, which is not known")),
        };
        Ok(flags | flag)
    })
}

/// Blanks and backslashes are octal numbers of three digits after a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.split_at_checked(3).filter(|_| *first == b'\\');
        let number = |digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match digits.and_then(|(digits, after)| Some((number(digits)?, after))) {
            Some((byte, after)) => {
                bytes.push(byte);
                rest = after;
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
30 27 0:30 / /srv rw,nosuid,noatime - tmpfs tmpfs rw
31 30 0:31 / /srv/a\\040b ro,nodev,noexec - tmpfs tmpfs rw
32 30 0:32 / /srv/open rw - tmpfs tmpfs rw
33 32 0:33 / /srv/open/in rw,nosymfollow - tmpfs tmpfs rw
40 27 0:40 / /dev rw - devtmpfs dev rw
41 40 0:41 / /dev/pts rw - devpts devpts rw
42 41 0:42 / /dev/pts rw,nosuid - devpts devpts rw
50 27 0:50 / /deep/er rw - tmpfs tmpfs rw
51 27 0:51 / /deep rw - tmpfs tmpfs rw
";

    fn of(table: &str, borders: &[(&str, bool)]) -> Result<Vec<String>, String> {
        let borders: Vec<_> = borders.iter().map(|(path, is)| (path.into(), *is)).collect();
        let points = points(table.as_bytes(), &borders)?;
        let shown = |(path, flags): &(CString, MountFlags)| {
            let names = flags.iter_names().map(|(name, _)| format!(" {name}"));
            path.to_str().unwrap().to_owned() + &names.collect::<String>()
        };
        Ok(points.iter().map(shown).collect())
    }

    #[test]
    fn all_below_a_path_but_the_exceptions() {
        let borders = [("/srv", true), ("/srv/open", false), ("/srv/open/in/x", true)];
        assert_eq!(
            of(TABLE, &borders).unwrap(),
            ["/srv NOSUID", "/srv/open/in/x NOSYMFOLLOW", "/srv/a b NODEV NOEXEC"]
        );
        // one that is no mount has what is said of the mount that it is in
        assert_eq!(of(TABLE, &[("/proc/sys", true)]).unwrap(), ["/proc/sys NODEV NOEXEC NOSUID"]);
        assert_eq!(of(TABLE, &[("/dev/pts/x", true)]).unwrap(), ["/dev/pts/x NOSUID"]);
        assert_eq!(of(TABLE, &[("/usr", true)]).unwrap(), ["/usr"]);
    }

    #[test]
    fn what_cannot_be_named_is_refused() {
        let complaint = |path: &str| of(TABLE, &[(path, true)]).unwrap_err();
        assert_eq!(complaint("/dev"), "a mount at /dev/pts is hidden by another");
        assert_eq!(complaint("/dev/pts"), "a mount at /dev/pts is hidden by another");
        assert_eq!(complaint("/deep"), "a mount at /deep/er is hidden by another");
        assert!(complaint("/").contains("hidden"));
        let odd = "27 1 254:0 / / rw,relatime,idmapped - ext4 /dev/vda rw\n";
        assert_eq!(
            of(odd, &[("/", true)]).unwrap_err(),
            "a mount is \"idmapped\", which is not known"
        );
        assert!(of("27 x\n", &[("/", true)]).unwrap_err().contains("has \"27 x\""));
        assert_eq!(of("", &[("/", true)]).unwrap_err(), "no mount has /");
    }

    #[test]
    fn octal_numbers() {
        assert_eq!(unescape(b"a\\040\\134b\\"), b"a \\b\\");
        assert_eq!(unescape(b"\\0\\999"), b"\\0\\999");
    }
}
