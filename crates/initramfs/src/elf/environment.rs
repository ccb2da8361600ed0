//! What a dynamic loader knows before it reads a program: its directories, its tokens, its cache.

use std::path::PathBuf;

use super::cache;
use super::object::Arch;
use super::sysroot::Sysroot;

/// No loader, cache or configuration file is larger than this many bytes.
const FILE_MAX: u64 = 64 << 20;
/// How deep `include` lines of ld.so.conf may nest.
const INCLUDE_MAX: usize = 8;

/// Which C library's loader it is: they search in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Family {
    Glibc,
    Musl,
}

/// A loader as far as it decides where libraries come from.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) arch: Arch,
    pub(super) family: Family,
    /// What `$LIB` stands for.
    pub(super) lib: Vec<u8>,
    /// What `$PLATFORM` stands for.
    pub(super) platform: Option<Vec<u8>>,
    /// Directories that are searched last.
    pub(super) system: Vec<Vec<u8>>,
    /// The directories of `ld.so.conf`, when there is no cache made of them.
    pub(super) configured: Vec<Vec<u8>>,
    /// `ld.so.cache`, as far as it is about this machine.
    pub(super) cache: Option<cache::Cache>,
    /// glibc-hwcaps subdirectories, best first.
    pub(super) hwcaps: Vec<Vec<u8>>,
}

/// What the caller decides.
#[derive(Debug)]
pub(super) struct Choices<'choices> {
    pub(super) use_cache: bool,
    pub(super) hwcaps: &'choices [String],
    pub(super) system: Option<&'choices [PathBuf]>,
    pub(super) platform: Option<&'choices str>,
}

impl Environment {
    pub(super) fn new(
        sysroot: &mut Sysroot,
        arch: Arch,
        interp: Option<&[u8]>,
        choices: &Choices<'_>,
    ) -> Self {
        let interp = interp.map_or_else(|| usual_loader(sysroot, arch), |path| Some(path.to_vec()));
        let name = interp.as_deref().and_then(|path| path.rsplit(|byte| *byte == b'/').next());
        let musl = name.and_then(|name| name.strip_prefix(b"ld-musl-"));
        let chosen = choices.system.map(|paths| {
            use std::os::unix::ffi::OsStrExt as _;
            paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect::<Vec<_>>()
        });
        let platform = choices.platform.or_else(|| arch.machine_name());
        let platform = platform.map(|name| name.as_bytes().to_vec());
        if let Some(rest) = musl {
            let end = rest.windows(3).position(|part| part == b".so").unwrap_or(rest.len());
            let path = [b"/etc/ld-musl-", rest.get(..end).unwrap_or_default(), b".path"].concat();
            let system = chosen.unwrap_or_else(|| match sysroot.read(&path, FILE_MAX) {
                Some(text) => split(&text, |byte| matches!(byte, b'\n' | b':')),
                None => ["/lib", "/usr/local/lib", "/usr/lib"].map(Vec::from).to_vec(),
            });
            return Self {
                arch,
                family: Family::Musl,
                lib: Vec::new(),
                platform: None,
                system,
                configured: Vec::new(),
                cache: None,
                hwcaps: Vec::new(),
            };
        }
        let loader = interp.as_deref().and_then(|path| sysroot.read(path, FILE_MAX));
        let compiled_in = loader.as_deref().and_then(system_directories);
        let system = chosen.or(compiled_in).unwrap_or_else(|| usual_directories(sysroot, arch));
        let lib = system.first().map_or(&b"lib"[..], |path| {
            let path = path.strip_prefix(b"/").unwrap_or(path);
            path.strip_prefix(b"usr/").unwrap_or(path)
        });
        let x86_64 = arch.machine == 62 && arch.is_64;
        let hwcaps: Vec<Vec<u8>> = choices
            .hwcaps
            .iter()
            .filter(|name| x86_64 || !name.starts_with("x86-64-"))
            .map(|name| name.as_bytes().to_vec())
            .collect();
        let (mut found, mut configured) = (None, Vec::new());
        if choices.use_cache {
            found = sysroot
                .read(b"/etc/ld.so.cache", FILE_MAX)
                .and_then(|bytes| cache::parse(&bytes, arch, &hwcaps));
            if found.is_none() {
                configuration(sysroot, b"/etc/ld.so.conf", 0, &mut configured);
            }
        }
        Self {
            arch,
            family: Family::Glibc,
            lib: lib.to_vec(),
            platform,
            system,
            configured,
            cache: found,
            hwcaps,
        }
    }

    /// Replaces `$ORIGIN`, `$LIB` and `$PLATFORM`. `None` when one of them has no meaning, which
    /// makes the loader leave out the whole path.
    pub(super) fn expand(&self, text: &[u8], origin: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
            let (before, token) = rest.split_at(at);
            out.extend_from_slice(before);
            let after = token.get(1..).unwrap_or_default();
            let tokens: [(&[u8], Option<&[u8]>); 3] = [
                (b"ORIGIN", Some(origin)),
                (b"PLATFORM", self.platform.as_deref()),
                (b"LIB", Some(&self.lib)),
            ];
            let found = tokens.iter().find_map(|(name, value)| {
                let plain = after.strip_prefix(*name);
                let curly = || after.strip_prefix(b"{")?.strip_prefix(*name)?.strip_prefix(b"}");
                plain.or_else(curly).map(|rest| (rest, *value))
            });
            match found {
                // musl knows $ORIGIN alone and takes a path with any other token for none.
                _ if self.family == Family::Musl
                    && !after.starts_with(b"ORIGIN")
                    && !after.starts_with(b"{ORIGIN}") =>
                {
                    return None;
                }
                Some((after, value)) => {
                    out.extend_from_slice(value?);
                    rest = after;
                }
                None => {
                    out.push(b'$');
                    rest = after;
                }
            }
        }
        out.extend_from_slice(rest);
        Some(out)
    }
}

/// The loader that a shared object without `PT_INTERP` would be loaded by.
fn usual_loader(sysroot: &mut Sysroot, arch: Arch) -> Option<Vec<u8>> {
    let glibc: &[&str] = match (arch.machine, arch.is_64, arch.big_endian) {
        (3, ..) => &["/lib/ld-linux.so.2"],
        (21, _, true) => &["/lib64/ld64.so.1"],
        (21, _, false) => &["/lib64/ld64.so.2"],
        (22, true, _) => &["/lib/ld64.so.1"],
        (40, ..) => &["/lib/ld-linux-armhf.so.3", "/lib/ld-linux.so.3"],
        (62, true, _) => &["/lib64/ld-linux-x86-64.so.2"],
        (62, false, _) => &["/libx32/ld-linux-x32.so.2"],
        (183, ..) => &["/lib/ld-linux-aarch64.so.1"],
        (243, ..) => &["/lib/ld-linux-riscv64-lp64d.so.1"],
        (258, ..) => &["/lib64/ld-linux-loongarch-lp64d.so.1"],
        _ => &[],
    };
    let musl = match (arch.machine, arch.is_64) {
        (3, _) => "i386",
        (40, _) => "armhf",
        _ => arch.machine_name().unwrap_or_default(),
    };
    let musl = format!("/lib/ld-musl-{musl}.so.1");
    glibc
        .iter()
        .copied()
        .chain([musl.as_str()])
        .find(|path| sysroot.resolve(path.as_bytes()).is_some())
        .map(|path| path.as_bytes().to_vec())
}

/// The system directories that were compiled into a glibc loader: `system_dirs` of `elf/dl-load.c`
/// is a row of strings, each with a slash at both ends and the NUL of a string.
fn system_directories(loader: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut best: Vec<Vec<u8>> = Vec::new();
    let mut row: Vec<Vec<u8>> = Vec::new();
    for string in loader.split(|byte| *byte == 0) {
        let is_directory = string.len() > 2
            && string.starts_with(b"/")
            && string.ends_with(b"/")
            && string.iter().all(|byte| byte.is_ascii_graphic())
            && string.windows(4).any(|part| part == b"/lib");
        if is_directory {
            row.push(string.get(..string.len() - 1).unwrap_or_default().to_vec());
        } else if row.len() > best.len() {
            best = std::mem::take(&mut row);
        } else {
            row.clear();
        }
    }
    (best.len() >= 2).then_some(best)
}

/// The directories of a sysroot without a loader: those that distributions compile in.
fn usual_directories(sysroot: &mut Sysroot, arch: Arch) -> Vec<Vec<u8>> {
    let triplet = match (arch.machine, arch.is_64, arch.big_endian) {
        (3, ..) => "i386-linux-gnu",
        (21, _, false) => "powerpc64le-linux-gnu",
        (22, true, _) => "s390x-linux-gnu",
        (40, ..) => "arm-linux-gnueabihf",
        (62, true, _) => "x86_64-linux-gnu",
        (183, ..) => "aarch64-linux-gnu",
        (243, true, _) => "riscv64-linux-gnu",
        (258, true, _) => "loongarch64-linux-gnu",
        _ => "",
    };
    let multiarch = format!("/usr/lib/{triplet}");
    let mut directories = Vec::new();
    if !triplet.is_empty() && sysroot.resolve(multiarch.as_bytes()).is_some() {
        directories.extend([format!("/lib/{triplet}"), multiarch]);
    } else if arch.is_64 && sysroot.resolve(b"/usr/lib64").is_some() {
        directories.extend(["/lib64", "/usr/lib64"].map(String::from));
    }
    directories.extend(["/lib", "/usr/lib"].map(String::from));
    directories.into_iter().map(String::into_bytes).collect()
}

/// Reads the directories of an ld.so.conf, files that it includes with them.
fn configuration(sysroot: &mut Sysroot, path: &[u8], depth: usize, out: &mut Vec<Vec<u8>>) {
    let Some(text) = sysroot.read(path, FILE_MAX).filter(|_| depth < INCLUDE_MAX) else { return };
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        let mut words = split(line, |byte| matches!(byte, b' ' | b'\t')).into_iter();
        match words.next().as_deref() {
            Some(b"include") => {
                for pattern in words {
                    let pattern = if pattern.starts_with(b"/") {
                        pattern
                    } else {
                        let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                        [path.get(..end).unwrap_or_default(), b"/", &pattern].concat()
                    };
                    for file in glob(sysroot, &pattern) {
                        configuration(sysroot, &file, depth + 1, out);
                    }
                }
            }
            Some(b"hwcap") | None => {}
            Some(_) => {
                for directory in split(line, |byte| matches!(byte, b' ' | b'\t' | b':' | b',')) {
                    // "DIR=TYPE" names the C library that the directory is for.
                    let end = directory.iter().position(|byte| *byte == b'=');
                    let directory = directory.get(..end.unwrap_or(directory.len()));
                    let directory = directory.unwrap_or_default().to_vec();
                    if directory.starts_with(b"/") && !out.contains(&directory) {
                        out.push(directory);
                    }
                }
            }
        }
    }
}

fn split(text: &[u8], separator: impl Fn(u8) -> bool) -> Vec<Vec<u8>> {
    text.split(|byte| separator(*byte))
        .map(<[u8]>::trim_ascii)
        .filter(|part| !part.is_empty())
        .map(|part| {
            part.strip_suffix(b"/").filter(|part| !part.is_empty()).unwrap_or(part).to_vec()
        })
        .collect()
}

/// The files that a pattern with `*` and `?` names, sorted.
fn glob(sysroot: &mut Sysroot, pattern: &[u8]) -> Vec<Vec<u8>> {
    let mut paths = vec![Vec::new()];
    for part in pattern.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let wild = part.iter().any(|byte| matches!(byte, b'*' | b'?'));
        let mut next = Vec::new();
        for path in paths {
            if wild {
                let names = sysroot.list(&path).into_iter();
                let names = names.filter(|name| !name.starts_with(b".") && matches(part, name));
                next.extend(names.map(|name| [&path, &b"/"[..], &name].concat()));
            } else {
                next.push([&path, &b"/"[..], part].concat());
            }
        }
        paths = next;
    }
    paths
}

/// Whether a name fits a pattern, in time proportional to the product of their lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let mut fits = vec![false; name.len() + 1];
    if let Some(first) = fits.first_mut() {
        *first = true;
    }
    for wanted in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            let before = at.checked_sub(1);
            let skipped = before.and_then(|at| fits.get(at).copied()).unwrap_or(false);
            let value = match wanted {
                b'*' => {
                    fits.get(at).copied().unwrap_or(false)
                        || before.and_then(|at| next.get(at).copied()).unwrap_or(false)
                }
                b'?' => skipped,
                byte => skipped && before.and_then(|at| name.get(at)) == Some(byte),
            };
            if let Some(place) = next.get_mut(at) {
                *place = value;
            }
        }
        fits = next;
    }
    fits.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCH: Arch = Arch { is_64: true, big_endian: false, machine: 62 };

    fn environment(family: Family) -> Environment {
        Environment {
            arch: ARCH,
            family,
            lib: b"lib64".to_vec(),
            platform: None,
            system: Vec::new(),
            configured: Vec::new(),
            cache: None,
            hwcaps: Vec::new(),
        }
    }

    #[test]
    fn tokens() {
        let glibc = environment(Family::Glibc);
        let expand = |text: &str| {
            let expanded = glibc.expand(text.as_bytes(), b"/opt/bin")?;
            Some(String::from_utf8(expanded).unwrap())
        };
        assert_eq!(expand("$ORIGIN/../${LIB}").as_deref(), Some("/opt/bin/../lib64"));
        assert_eq!(expand("/$LIBx/${ORIGIN").as_deref(), Some("/lib64x/${ORIGIN"));
        assert_eq!(expand("/$OTHER").as_deref(), Some("/$OTHER"));
        assert_eq!(expand("/$PLATFORM"), None);
        assert_eq!(environment(Family::Musl).expand(b"/$LIB", b"/"), None);
        let origin = environment(Family::Musl).expand(b"${ORIGIN}/x", b"/opt");
        assert_eq!(origin.as_deref(), Some(&b"/opt/x"[..]));
    }

    #[test]
    fn patterns() {
        assert!(matches(b"*.conf", b"a.conf") && matches(b"a?c*", b"abc") && matches(b"*", b""));
        assert!(!matches(b"*.conf", b"a.config") && !matches(b"?", b""));
    }

    #[test]
    fn the_configuration_is_read_with_what_it_includes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/ld.so.conf.d")).unwrap();
        let write = |path: &str, text: &str| std::fs::write(dir.path().join(path), text).unwrap();
        write("etc/ld.so.conf", "include ld.so.conf.d/*.conf # all\n/last\n");
        write("etc/ld.so.conf.d/b.conf", "/b/ /c\n/a\n");
        write("etc/ld.so.conf.d/a.conf", "/a=libc6\nhwcap 0 nosegneg\nrelative\n");
        let mut found = Vec::new();
        configuration(&mut Sysroot::new(dir.path().into()), b"/etc/ld.so.conf", 0, &mut found);
        assert_eq!(found, ["/a", "/b", "/c", "/last"].map(Vec::from));
    }

    #[test]
    fn the_loader_knows_its_directories() {
        let loader = b"junk\0/proc/self/\0x\0/lib/x86_64-linux-gnu/\0/usr/lib/\0/lib/\0\0more";
        let expected = ["/lib/x86_64-linux-gnu", "/usr/lib", "/lib"].map(Vec::from);
        assert_eq!(system_directories(loader), Some(expected.to_vec()));
        assert_eq!(system_directories(b"/lib/\0"), None);
    }
}
