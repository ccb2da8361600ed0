//! Oracle: `merge` against the kernel's own `merge_config.sh`, byte for byte.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in what it calls"
)]

mod debian_configs;
mod kernel_source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kernel_source::{fragments, kernel_source};
use kiln_kconfig::{DotConfig, MergeOptions};

/// What the script wrote (nothing if it refused) and printed.
struct Script {
    merged: Option<Vec<u8>>,
    log: Vec<u8>,
}

fn script(source: &Path, flags: &[&str], base: &Path, fragments: &[PathBuf]) -> Script {
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("merged");
    let output = Command::new("timeout")
        .args(["60", "sh"])
        .arg(source.join("scripts/kconfig/merge_config.sh"))
        .arg("-m")
        .args(flags)
        .arg(base)
        .args(fragments)
        // In another locale `sed` would not match what is no text there.
        .env("LC_ALL", "C")
        .env("KCONFIG_CONFIG", &out)
        .env_remove("CONFIG_")
        .current_dir(work.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let merged = output.status.success().then(|| fs::read(&out).unwrap());
    Script { merged, log: output.stdout }
}

/// The log without what the shell's word splitting changes, and without its last lines.
fn squeezed(log: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(log)
        .lines()
        .take_while(|line| *line != "#")
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect()
}

/// Merges with both, and compares bytes and messages.
fn compare(source: &Path, base: &Path, paths: &[PathBuf]) {
    let theirs = script(source, &["-r"], base, paths);
    let ours_base = DotConfig::read(base).unwrap();
    let ours_fragments: Vec<_> = paths.iter().map(|p| DotConfig::read(p).unwrap()).collect();
    let ours = kiln_kconfig::merge(&ours_base, &ours_fragments);
    let expected = theirs.merged.expect("the script succeeds");
    if ours.config.as_bytes() != expected {
        let (ours, theirs) = (
            String::from_utf8_lossy(ours.config.as_bytes()),
            String::from_utf8_lossy(&expected).into_owned(),
        );
        panic!("{base:?} {paths:?}\n-- ours\n{ours}\n-- theirs\n{theirs}");
    }
    let log = ours.script_log(&ours_base, &ours_fragments, true);
    assert_eq!(squeezed(&log), squeezed(&theirs.log), "{base:?} {paths:?}");
}

/// An `allnoconfig`-like base: every option that any fragment names, off.
fn all_off(work: &Path, fragments: &[PathBuf]) -> PathBuf {
    let mut names = std::collections::BTreeSet::new();
    for path in fragments {
        let fragment = DotConfig::read(path).unwrap();
        names.extend(fragment.settings().map(|setting| setting.name.to_owned()));
    }
    let text: String = names.iter().map(|name| format!("# CONFIG_{name} is not set\n")).collect();
    let path = work.join("all-off");
    fs::write(&path, text).unwrap();
    path
}

/// The generic and x86 fragments in pairs, the base in turn: of each two one order. With
/// `KILN_KCONFIG_ALL_PAIRS` set, every ordered pair of all fragments of all architectures.
#[test]
fn pairs_of_kernel_fragments_merge_as_the_script_does() {
    let Some(source) = kernel_source() else { return };
    let work = tempfile::tempdir().unwrap();
    let all = fragments(source);
    assert!(all.len() >= 50, "{} fragments in {source:?}", all.len());
    let whole = std::env::var_os("KILN_KCONFIG_ALL_PAIRS").is_some();
    let chosen: Vec<_> = all
        .iter()
        .filter(|path| {
            let place = path.strip_prefix(source).unwrap();
            whole || place.starts_with("kernel") || place.starts_with("arch/x86")
        })
        .collect();
    let empty = work.path().join("empty");
    fs::write(&empty, "").unwrap();
    let Some(debian) = debian_configs::debian_config("amd64") else { return };
    let bases = [
        debian,
        all_off(work.path(), &all),
        source.join("arch/x86/configs/x86_64_defconfig"),
        empty,
        source.join("arch/x86/configs/i386_defconfig"),
    ];
    let mut pairs = Vec::new();
    for (i, first) in chosen.iter().enumerate() {
        for (j, second) in chosen.iter().enumerate() {
            // Half of the pairs, not always with the first of the two in front.
            if i == j || (!whole && (i < j) != ((i + j) % 2 == 0)) {
                continue;
            }
            let base = bases[pairs.len() % bases.len()].clone();
            pairs.push((base, vec![(*first).clone(), (*second).clone()]));
        }
    }
    in_parallel(&pairs, |(base, pair)| compare(source, base, pair));
    println!("{} pairs, all the same", pairs.len());
}

/// All of the kernel's fragments one after the other, which makes overrides of overrides.
#[test]
fn all_kernel_fragments_in_a_row_merge_as_the_script_does() {
    let Some(source) = kernel_source() else { return };
    let mut all = fragments(source);
    compare(source, &source.join("arch/x86/configs/x86_64_defconfig"), &all);
    all.reverse();
    compare(source, &source.join("arch/x86/configs/i386_defconfig"), &all);
}

/// xorshift64*: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % bound
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

/// A file of lines that lie in wait for a merge: names within names, names in comments and in
/// strings, `=n`, CRLF, no last line break, bytes that are no text.
fn nasty(random: &mut Random) -> Vec<u8> {
    const NAMES: [&str; 8] = ["A", "AB", "A_B", "B", "BA", "LONG_NAME", "9P", ""];
    let mut text = Vec::new();
    for _ in 0..random.below(14) {
        let (a, b) = (random.pick(&NAMES), random.pick(&NAMES));
        let value = random.pick(&["y", "m", "n", "64", "0x10", "\"text\"", "", "-1", "yes"]);
        let line: Vec<u8> = match random.below(16) {
            0..=4 => format!("CONFIG_{a}={value}").into(),
            5..=7 => format!("# CONFIG_{a} is not set").into(),
            8 => format!("# CONFIG_{a} for CONFIG_{b}, and more").into(),
            9 => format!("CONFIG_{a}=\"x CONFIG_{b}=y CONFIG_{b}\"").into(),
            10 => format!("XCONFIG_{a}=y CONFIG_{b}\t= z").into(),
            11 => format!("# CONFIG_{a} is not set{}", random.pick(&["\r", " ", "x"])).into(),
            12 => format!("CONFIG_{a}CONFIG_{b}=y").into(),
            13 => format!("  CONFIG_{a} = y").into(),
            14 => [b"CONFIG_", a.as_bytes(), b"=\"\xff\xfe\xc3\""].concat(),
            _ => random.pick(&["", "# a comment", "#", "CONFIG_", "-CONFIG_A-"]).into(),
        };
        text.extend(line);
        text.extend_from_slice(random.pick(&[&b"\n"[..], b"\n", b"\n", b"\r\n"]));
    }
    if random.below(3) == 0 && text.ends_with(b"\n") {
        text.pop();
    }
    text
}

/// Does the script say the same of an option twice, because a fragment lists it twice and a line
/// that only mentions it stays? Then only the bytes are compared.
fn says_it_twice(log: &[u8]) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    squeezed(log).into_iter().filter(|line| line.starts_with("Value of ")).any(|l| !seen.insert(l))
}

#[test]
fn random_files_merge_as_the_script_does() {
    let Some(source) = kernel_source() else { return };
    let rounds: u64 =
        std::env::var("KILN_KCONFIG_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let seeds: Vec<u64> = (1..=rounds).collect();
    in_parallel(&seeds, |&seed| {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let work = tempfile::tempdir().unwrap();
        let count = 1 + random.below(3);
        let paths: Vec<PathBuf> = (0..=count)
            .map(|number| {
                let path = work.path().join(format!("f{number}"));
                fs::write(&path, nasty(&mut random)).unwrap();
                path
            })
            .collect();
        let (base, fragments) = paths.split_first().unwrap();
        let theirs = script(source, &["-r"], base, fragments);
        let ours_base = DotConfig::read(base).unwrap();
        let ours_fragments: Vec<_> =
            fragments.iter().map(|p| DotConfig::read(p).unwrap()).collect();
        let ours = kiln_kconfig::merge(&ours_base, &ours_fragments);
        let expected = theirs.merged.expect("the script succeeds");
        assert_eq!(
            String::from_utf8_lossy(ours.config.as_bytes()),
            String::from_utf8_lossy(&expected),
            "seed {seed}"
        );
        assert_eq!(ours.config.as_bytes(), expected, "seed {seed}");
        if !says_it_twice(&theirs.log) {
            let log = ours.script_log(&ours_base, &ours_fragments, true);
            assert_eq!(squeezed(&log), squeezed(&theirs.log), "seed {seed}");
        }
    });
}

#[test]
fn built_in_wins_as_with_the_scripts_y() {
    let Some(source) = kernel_source() else { return };
    let work = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = work.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let base = write("base", "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=y\n");
    let paths =
        [write("f", "CONFIG_A=m\nCONFIG_B=y\nCONFIG_C=m\n# CONFIG_D is not set\nCONFIG_E=m\n")];
    let theirs = script(source, &["-y"], &base, &paths);
    let mut options = MergeOptions::default();
    options.builtin_wins = true;
    let base = DotConfig::read(base).unwrap();
    let fragments = [DotConfig::read(&paths[0]).unwrap()];
    let ours = options.merge(&base, &fragments);
    assert_eq!(Some(ours.config.as_bytes()), theirs.merged.as_deref());
    assert_eq!(squeezed(&ours.script_log(&base, &fragments, false)), squeezed(&theirs.log));
    assert_eq!(ours.kept_builtin.len(), 1);
    assert_eq!(ours.kept_builtin[0].option, "A");
}

/// The script's `-s` refuses exactly when a value changes.
#[test]
fn strict_refuses_where_the_scripts_s_does() {
    let Some(source) = kernel_source() else { return };
    let all = fragments(source);
    let base = source.join("arch/x86/configs/x86_64_defconfig");
    let mut refused = 0;
    for path in all.iter().filter(|path| path.strip_prefix(source).unwrap().starts_with("kernel")) {
        let theirs = script(source, &["-s"], &base, std::slice::from_ref(path));
        let ours = kiln_kconfig::merge(
            &DotConfig::read(&base).unwrap(),
            &[DotConfig::read(path).unwrap()],
        );
        assert_eq!(ours.is_strict(), theirs.merged.is_some(), "{path:?}");
        refused += usize::from(theirs.merged.is_none());
    }
    assert!(refused > 0, "some fragment changes something");
}

#[test]
fn differences_print_as_diffconfig_prints_them() {
    let Some(source) = kernel_source() else { return };
    let configs = source.join("arch/x86/configs");
    let (left, right) = (configs.join("i386_defconfig"), configs.join("x86_64_defconfig"));
    let output = Command::new("python3")
        .arg(source.join("scripts/diffconfig"))
        .args([&left, &right])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        println!("skipped: python3");
        assert!(std::env::var_os("CI").is_none(), "python3 is not there");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ours =
        kiln_kconfig::diff(&DotConfig::read(left).unwrap(), &DotConfig::read(right).unwrap());
    assert_eq!(ours.to_string(), String::from_utf8_lossy(&output.stdout));
    assert!(!ours.is_empty());
}

/// Runs `each` over `list` in a few threads; a panic in one is a panic of the test.
fn in_parallel<T: Sync>(list: &[T], each: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(item) =
                    list.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    each(item);
                }
            });
        }
    });
}
