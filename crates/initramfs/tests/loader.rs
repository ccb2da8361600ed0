//! The dynamic loader itself as the oracle of `elf`.
#![cfg(feature = "elf")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_initramfs::Error;
use kiln_initramfs::elf::{ClosureKind, Hwcaps, Options, Problem, Resolver, Root, X86Level};

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
    println!(
        "{} programs, {} libraries, {} mismatches",
        programs.len(),
        union.len(),
        mismatches.len()
    );
    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
    assert!(programs.len() > 50, "only {} programs were compared", programs.len());
}

/// A directory with libraries and programs made by gcc.
struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    /// `None` without a compiler.
    fn new() -> Option<Self> {
        if Command::new("gcc").arg("--version").output().is_err() {
            skipped("gcc");
            return None;
        }
        Some(Self { dir: tempfile::tempdir().unwrap() })
    }

    fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    fn gcc(&self, out: &str, source: &str, arguments: &[&str]) {
        let out = self.root().join(out);
        fs::create_dir_all(out.parent().unwrap()).unwrap();
        let text = out.with_extension("c");
        fs::write(&text, source).unwrap();
        let done = Command::new("gcc")
            .current_dir(self.root())
            .args(["-O0", "-w", "-o"])
            .args([&out, &text])
            .args(["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "gcc: {}", String::from_utf8_lossy(&done.stderr));
        fs::remove_file(text).unwrap();
    }

    fn library(&self, out: &str, arguments: &[&str]) {
        let soname = format!("-Wl,-soname,{}", out.rsplit('/').next().unwrap());
        let mut all = vec!["-shared", "-fPIC", soname.as_str()];
        all.extend(arguments);
        self.gcc(out, "int one(void) { return 1; }", &all);
    }

    fn program(&self, out: &str, arguments: &[&str]) {
        self.gcc(out, "int main(void) { return 0; }", arguments);
    }

    /// Runs a program as its loader would, without running it, and compares.
    fn check(&self, program: &str) -> BTreeSet<(String, Option<String>)> {
        let path = self.root().join(program);
        let traced = Command::new(&path).env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
        let truth = parse_listing(&String::from_utf8_lossy(&traced.stdout), LOADER);
        let mut resolver = Resolver::new(as_this_machine()).unwrap();
        let found = ours(&mut resolver, &path);
        assert_eq!(found, truth, "{program}: ours is left");
        found
    }
}

fn is_found(listed: &BTreeSet<(String, Option<String>)>, name: &str) -> bool {
    listed.iter().any(|(listed, path)| listed == name && path.is_some())
}

#[test]
fn t1_an_rpath_is_inherited_by_dependencies() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.library("deep/libt1b.so", &[]);
    fixture.library("lib/libt1a.so", &["deep/libt1b.so"]);
    let rpath = "-Wl,--disable-new-dtags,-rpath,$ORIGIN/lib:$ORIGIN/deep";
    fixture.program("t1", &["lib/libt1a.so", rpath]);
    assert!(is_found(&fixture.check("t1"), "libt1b.so"));
}

#[test]
fn t2_a_runpath_is_not() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.library("deep/libt2b.so", &[]);
    fixture.library("lib/libt2a.so", &["deep/libt2b.so"]);
    let runpath = "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib:$ORIGIN/deep";
    fixture.program("t2", &["lib/libt2a.so", runpath]);
    assert!(!is_found(&fixture.check("t2"), "libt2b.so"));
    // The error says who needs what, and where it was searched.
    let error = Resolver::new(as_this_machine()).unwrap().closure(&[fixture.root().join("t2")]);
    let Err(Error::Unresolved(problems)) = error else { unreachable!("{error:?}") };
    let [Problem::Missing { library, needed_by, program, searched, .. }] = problems.as_slice()
    else {
        unreachable!("{problems:?}")
    };
    assert_eq!(library, "libt2b.so");
    assert!(needed_by.ends_with("lib/libt2a.so") && program.ends_with("/t2"));
    assert!(searched.iter().any(|place| place == "/etc/ld.so.cache"), "{searched:?}");
}

#[test]
fn t3_a_library_in_the_scope_of_the_program_answers_to_its_soname() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.library("hidden/libt3b.so", &[]);
    fixture.library("lib/libt3a.so", &["hidden/libt3b.so"]);
    let runpath = "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib:$ORIGIN/hidden";
    fixture.program("t3", &["lib/libt3a.so", "hidden/libt3b.so", runpath]);
    assert!(is_found(&fixture.check("t3"), "libt3b.so"));
}

#[test]
fn t4_hwcaps_count_in_a_runpath() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.library("lib/libt4.so", &[]);
    for level in ["x86-64-v2", "x86-64-v3", "x86-64-v4"] {
        fixture.library(&format!("lib/glibc-hwcaps/{level}/libt4.so"), &[]);
    }
    fixture.program("t4", &["lib/libt4.so", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib"]);
    fixture.check("t4");
    let mut generic = Resolver::new(Options::default()).unwrap();
    let found = ours(&mut generic, &fixture.root().join("t4"));
    let expected = fixture.root().join("lib/libt4.so").display().to_string();
    assert!(found.contains(&("libt4.so".into(), Some(expected))), "{found:?}");
}

#[test]
fn t5_origin_is_that_of_the_program_behind_a_link() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.library("app/lib/libt5.so", &[]);
    fixture.program("app/t5", &["app/lib/libt5.so", "-Wl,-rpath,$ORIGIN/lib"]);
    fs::create_dir(fixture.root().join("bin")).unwrap();
    symlink("../app/t5", fixture.root().join("bin/t5")).unwrap();
    assert!(is_found(&fixture.check("bin/t5"), "libt5.so"));
}

#[test]
fn t6_a_needed_path_is_that_path() {
    let Some(fixture) = Fixture::new() else { return };
    let path = fixture.root().join("odd/libt6.so");
    let soname = format!("-Wl,-soname,{}", path.display());
    fixture.gcc("odd/libt6.so", "int one(void) { return 1; }", &["-shared", "-fPIC", &soname]);
    fixture.program("t6", &["odd/libt6.so"]);
    assert!(is_found(&fixture.check("t6"), &path.display().to_string()));
}

#[test]
fn t7_lib_and_platform_tokens() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.library("lib/x86_64-linux-gnu/libt7.so", &[]);
    fixture.library("lib64/libt7.so", &[]);
    fixture.library("x86_64/libt7p.so", &[]);
    let libraries = ["lib64/libt7.so", "x86_64/libt7p.so"];
    let runpath = "-Wl,--enable-new-dtags,-rpath,$ORIGIN/$LIB:$ORIGIN/${PLATFORM}";
    fixture.program("t7", &[libraries[0], libraries[1], runpath]);
    assert!(is_found(&fixture.check("t7"), "libt7.so"));
}

#[test]
fn t8_a_library_of_another_machine_is_passed_over() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.library("good/libt8.so", &[]);
    let other = fixture.root().join("bad/libt8.so");
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    let mut bytes = fs::read(fixture.root().join("good/libt8.so")).unwrap();
    bytes[18] = 183; // e_machine: AArch64
    fs::write(&other, bytes).unwrap();
    fixture.program("t8", &["good/libt8.so", "-Wl,-rpath,$ORIGIN/bad:$ORIGIN/good"]);
    assert!(is_found(&fixture.check("t8"), "libt8.so"));
    // With nothing but the wrong one, the error names it.
    fs::remove_file(fixture.root().join("good/libt8.so")).unwrap();
    let error = Resolver::new(as_this_machine()).unwrap().closure(&[fixture.root().join("t8")]);
    let message = error.unwrap_err().to_string();
    assert!(message.contains("bad/libt8.so (64-bit aarch64)"), "{message}");
}

#[test]
fn t9_an_rpath_chain_ends_at_a_runpath_and_the_rest_is_missing() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.library("far/libt9c.so", &[]);
    fixture.library("far/libt9d.so", &[]);
    // b has a RUNPATH, so that nobody's RPATH counts for what it needs; a has an RPATH.
    let runpath = "-Wl,--enable-new-dtags,-rpath,/nowhere";
    fixture.library("lib/libt9b.so", &["far/libt9c.so", runpath]);
    let rpath = "-Wl,--disable-new-dtags,-rpath,$ORIGIN/../far";
    fixture.library("lib/libt9a.so", &["lib/libt9b.so", "far/libt9d.so", rpath]);
    fixture.program("t9", &["lib/libt9a.so", "-Wl,--disable-new-dtags,-rpath,$ORIGIN/lib"]);
    let listed = fixture.check("t9");
    assert!(is_found(&listed, "libt9d.so"));
    assert!(listed.contains(&("libt9c.so".into(), None)) || is_found(&listed, "libt9c.so"));
}

#[test]
fn a_closure_in_a_sysroot_is_complete_and_stays_there() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.library("build/libs.so.1", &[]);
    fixture.program("build/prog", &["build/libs.so.1", "-nostdlib", "-Wl,-e,main"]);
    let root = fixture.root().join("root");
    for directory in ["usr/bin", "usr/lib64", "lib64", "etc", "opt/libs"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("/opt/libs/libs.so.1.0", root.join("usr/lib64/libs.so.1")).unwrap();
    let install = |from: &str, to: &str| {
        fs::copy(fixture.root().join(from), root.join(to)).unwrap();
    };
    install("build/libs.so.1", "opt/libs/libs.so.1.0");
    install("build/prog", "usr/bin/prog");
    fs::copy(LOADER, root.join("lib64/ld-linux-x86-64.so.2")).unwrap();
    fs::write(root.join("etc/ld.so.conf"), "/usr/lib64\n").unwrap();
    fs::write(root.join("usr/bin/script"), "#!/bin/prog -x\n").unwrap();
    fs::set_permissions(root.join("usr/bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
    // libc is for the library that gcc made; it comes from the machine.
    let mut options = Options::new(&root);
    let mut resolver = Resolver::new(options.clone()).unwrap();
    let error = resolver.closure(&["/bin/script", "/bin/nothing", "/etc/ld.so.conf"]).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("libc.so.6: needed by /opt/libs/libs.so.1.0"), "{message}");
    assert!(message.contains("/bin/nothing: not in the sysroot"), "{message}");
    assert!(message.contains("/etc/ld.so.conf: neither an ELF file"), "{message}");

    let libc = resolver_path("libc.so.6");
    fs::copy(libc, root.join("usr/lib64/libc.so.6")).unwrap();
    let mut resolver = Resolver::new(options.clone()).unwrap();
    let closure = resolver.closure(&["/bin/script"]).unwrap();
    let text: Vec<String> = closure
        .files
        .iter()
        .map(|file| format!("{} ({}): {}", file.path, file.kind.name(), file.why))
        .collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    bin (symbolic link): symbolic link on the way to /usr/bin/script
    lib64/ld-linux-x86-64.so.2 (regular file): ELF interpreter of /usr/bin/prog
    opt/libs/libs.so.1.0 (regular file): needed by /usr/bin/prog as libs.so.1
    usr/bin/prog (regular file): interpreter of the script /bin/script
    usr/bin/script (regular file): asked for
    usr/lib64/libc.so.6 (regular file): needed by /opt/libs/libs.so.1.0 as libc.so.6
    usr/lib64/libs.so.1 (symbolic link): symbolic link on the way to /opt/libs/libs.so.1.0
    ");
    let needs: Vec<String> = closure.needs_ldconfig.iter().map(ToString::to_string).collect();
    assert_eq!(needs, ["opt/libs/libs.so.1.0", "usr/lib64/libc.so.6"]);
    assert!(closure.files.iter().all(|file| match &file.kind {
        ClosureKind::File { host_path } => host_path.starts_with(&root),
        _ => true,
    }));

    // A program from elsewhere, placed; and a tree of it all.
    let elsewhere = Root::placed(fixture.root().join("build/prog"), "/bin/other").because("mine");
    let closure = resolver.closure_of(&[elsewhere, Root::in_sysroot("/bin/script")]).unwrap();
    let mut tree = kiln_tree::Tree::new();
    closure.add_to(&mut tree, &kiln_tree::host::Policy::default()).unwrap();
    let (path, node) = tree.resolve("/bin/other").unwrap();
    assert_eq!(path.to_string(), "usr/bin/other");
    assert_eq!((node.meta.mode, node.why.as_deref()), (0o755, Some("mine")));
    assert!(tree.resolve("/usr/lib64/libs.so.1").is_some());
    assert!(tree.check().is_empty());

    // Without the configuration, only what the loader finds by itself counts.
    options.ld_cache = false;
    let error = Resolver::new(options).unwrap().closure(&["/bin/prog"]).unwrap_err();
    assert!(error.to_string().contains("libs.so.1: needed by /usr/bin/prog"), "{error}");
}

/// Where this machine's loader finds a library.
fn resolver_path(name: &str) -> PathBuf {
    let mut resolver = Resolver::new(Options::default()).unwrap();
    let listed = resolver.list(&Root::in_sysroot("/bin/sh")).unwrap();
    listed
        .into_iter()
        .find(|listed| listed.name == name)
        .and_then(|found| found.path)
        .unwrap()
        .into()
}

#[test]
fn damaged_files_are_told_and_never_panic() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.library("libx.so", &[]);
    let whole = fs::read(fixture.root().join("libx.so")).unwrap();
    let path = fixture.root().join("damaged");
    for len in [0, 1, 4, 16, 20, 63, 64, 100, 600, 4095, 4096, whole.len() / 2] {
        fs::write(&path, &whole[..len.min(whole.len())]).unwrap();
        let result = Resolver::new(Options::default()).unwrap().closure(&[&path]);
        let message = result.unwrap_err().to_string();
        assert!(message.contains("damaged: "), "{len}: {message}");
    }
    // Every byte of the headers in turn.
    for at in 0..512 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        fs::write(&path, bytes).unwrap();
        let _ = Resolver::new(Options::default()).unwrap().closure(&[&path]);
    }
}

#[test]
fn musl_lists_as_its_own_loader_does() {
    if Command::new("musl-gcc").arg("--version").output().is_err() {
        return skipped("musl-gcc (musl-tools)");
    }
    let Some(fixture) = Fixture::new() else { return };
    let root = fixture.root();
    let compile = |out: &str, source: &str, arguments: &[&str]| {
        fs::create_dir_all(root.join(out).parent().unwrap()).unwrap();
        fs::write(root.join("x.c"), source).unwrap();
        let all = ["-w", "-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined", "-o", out, "x.c"];
        let run = Command::new("musl-gcc").current_dir(&root).args(all).args(arguments).output();
        let run = run.unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    compile("deep/libmb.so", "int b;", &["-shared", "-fPIC", "-Wl,-soname,libmb.so"]);
    compile(
        "lib/libma.so",
        "int a;",
        &["-shared", "-fPIC", "deep/libmb.so", "-Wl,-soname,libma.so"],
    );
    let runpath = "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib:$ORIGIN/deep";
    compile("prog", "int main(void) { return 0; }", &["lib/libma.so", runpath]);
    let loader = "/lib/ld-musl-x86_64.so.1";
    let run = Command::new(loader).arg("--list").arg(root.join("prog")).output().unwrap();
    let truth: BTreeSet<_> = parse_listing(&String::from_utf8_lossy(&run.stdout), loader)
        .into_iter()
        .filter(|(_, path)| path.as_deref() != Some(loader))
        .collect();
    let found = ours(&mut Resolver::new(Options::default()).unwrap(), &root.join("prog"));
    assert_eq!(found, truth);
    assert!(found.len() == 2 && found.iter().all(|(_, path)| path.is_some()), "{found:?}");
}
