//! The dynamic loader itself as the oracle of `elf`.
#![cfg(feature = "elf")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_initramfs::Error;
use kiln_initramfs::elf::{
    ClosureKind, Hwcaps, Options, Problem, Resolver, Root, X86Level,
};

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// Says that a test cannot run here; in CI that is a failure.
fn skipped(tool: &str) {
    assert!(std::env::var_os("CI").is_none(), "{tool} is missing");
    println!("skipped: {tool}");
}

fn as_this_machine() -> Options {
    let mut options = Options::default();
    if let Some(level) = X86Level::of_this_machine() {
        options.hwcaps = Hwcaps::up_to(level);
    }
    options
}

/// `name => path (0x…)` and `path (0x…)` lines as pairs; vdso and interpreter left out.
fn parse_listing(text: &str, interp: &str) -> BTreeSet<(String, Option<String>)> {
    let mut listed = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        let (name, path) = match line.split_once(" => ") {
            Some((name, "not found")) => (name, None),
            Some((name, path)) => (name, path.split(" (0x").next()),
            None => match line.split_once(" (0x") {
                Some((path, _)) => (path, Some(path)),
                None => continue,
            },
        };
        if name.starts_with("linux-vdso") || name == interp || path == Some(interp) {
            continue;
        }
        listed.insert((name.to_owned(), path.map(str::to_owned)));
    }
    listed
}

fn ours(resolver: &mut Resolver, path: &Path) -> BTreeSet<(String, Option<String>)> {
    let listed = resolver.list(&Root::in_sysroot(path)).unwrap();
    listed.into_iter().map(|library| (library.name, library.path)).collect()
}

fn is_dynamic_elf(path: &Path) -> bool {
    let Ok(bytes) = fs::read(path) else { return false };
    bytes.starts_with(b"\x7fELF\x02\x01") && bytes.windows(27).any(|part| part == LOADER.as_bytes())
}

#[test]
fn every_program_of_this_machine_lists_as_the_loader_lists_it() {
    if !Path::new(LOADER).exists() {
        return skipped(LOADER);
    }
    let mut programs: Vec<PathBuf> = ["/usr/bin", "/usr/sbin"]
        .iter()
        .flat_map(|directory| fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.metadata().is_ok_and(|data| data.is_file()))
        .filter_map(|path| path.canonicalize().ok())
        .filter(|path| is_dynamic_elf(path))
        .collect();
    programs.sort();
    programs.dedup();
    let mut resolver = Resolver::new(as_this_machine()).unwrap();
    let mut mismatches = Vec::new();
    let mut union = BTreeSet::new();
    for path in &programs {
        let truth = Command::new(LOADER).arg("--list").arg(path).output().unwrap();
        let truth = parse_listing(&String::from_utf8_lossy(&truth.stdout), LOADER);
        let ours = ours(&mut resolver, path);
        if truth != ours {
            mismatches.push(format!("{}:\n  loader {truth:?}\n  ours   {ours:?}", path.display()));
        }
        union.extend(ours);
    }
    println!("{} programs, {} libraries, {} mismatches", programs.len(), union.len(), mismatches.len());
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
    assert!(programs.len() > 50, "only {} programs were compared", programs.len());
}
