//! Small made-up kernels: each rule by itself, and input that means harm.

use kiln_kmod::{Index, IndexFiles, Reason, Resolution};

#[cfg(feature = "modinfo")]
mod support;

fn files<'a>(dep: &'a str, alias: &'a str, softdep: &'a str, builtin: &'a str) -> IndexFiles<'a> {
    let mut files = IndexFiles::new(dep);
    files.alias = alias;
    files.softdep = softdep;
    files.builtin = builtin;
    files
}

fn names(found: &Resolution) -> Vec<&str> {
    found.load.iter().map(|module| module.name.as_str()).collect()
}

fn order(index: &Index, wanted: &[&str]) -> String {
    names(&index.resolve(wanted)).join(" ")
}

#[test]
fn names_dependencies_and_reasons() {
    let index = Index::parse(files(
        "kernel/net/virtio-net.ko.xz: kernel/failover.ko.xz kernel/virtio_ring.ko.xz\n\
         kernel/failover.ko.xz: kernel/virtio_ring.ko.xz\nkernel/virtio_ring.ko.xz:\n",
        "# comment\nalias virtio:d00000001v* virtio_net\nalias pci:v*d00001000* virtio-net\n",
        "",
        "kernel/fs/proc/vmcore.ko\n",
    ))
    .unwrap();
    assert_eq!(index.problems(), &[]);
    let found = index.resolve(&["virtio:d00000001v00001AF4", "virtio-net", "vmcore", "tun", "tun"]);
    assert_eq!(names(&found), ["virtio_ring", "failover", "virtio_net"]);
    assert_eq!(found.load[0].reason, Reason::Dependency("virtio_net".into()));
    assert_eq!(found.load[2].path, "kernel/net/virtio-net.ko.xz");
    assert_eq!(
        found.load[2].reason.to_string(),
        "asked for as virtio:d00000001v00001AF4, which is virtio:d00000001v*"
    );
    assert_eq!(found.builtin, ["vmcore"]);
    assert_eq!(found.unknown, ["tun"]);
    assert!(index.get("vmcore").unwrap().is_builtin());
}

#[test]
fn nothing_at_all_is_an_index() {
    let index = Index::parse(IndexFiles::default()).unwrap();
    assert_eq!(index.resolve(&["x", ""]).unknown, ["x", ""]);
    let missing = std::path::Path::new("/nonexistent/lib/modules/0");
    assert_eq!(Index::read_dir(missing).unwrap().loadable(), 0);
}

#[test]
fn only_direct_dependencies_will_do() {
    let index =
        Index::parse(IndexFiles::new("a.ko: b.ko\nb.ko: c.ko\nc.ko: d.ko\nd.ko:\n")).unwrap();
    assert_eq!(order(&index, &["a"]), "d c b a");
}

#[test]
fn an_alias_may_mean_several_modules_in_file_order() {
    let dep = "z.ko:\na.ko:\nm.ko:\n";
    let alias = "alias usb:v* z\nalias usb:v1* a\nalias usb:v2* m\nalias usb:v1* a\n";
    let index = Index::parse(files(dep, alias, "", "")).unwrap();
    assert_eq!(order(&index, &["usb:v1p1"]), "z a");
}

#[test]
fn aliases_of_builtins_need_no_loading() {
    let mut files = IndexFiles::new("");
    files.builtin_modinfo = b"unix.alias=net-pf-1\0unix.firmware=x.bin\0unix.license=GPL\0";
    let index = Index::parse(files).unwrap();
    let found = index.resolve(&["net-pf-1", "net_pf_1"]);
    assert_eq!(found.builtin, ["unix"]);
    assert!(found.load.is_empty() && found.unknown.is_empty());
    assert_eq!(index.firmware(["unix"]), ["x.bin"]);
}

#[test]
fn soft_dependencies() {
    let dep = "a.ko: lib.ko\nlib.ko:\npre.ko:\npost.ko: p2.ko\np2.ko:\ncrc.ko:\n";
    let softdep = "softdep a pre: pre nowhere crypto-crc built post: post\n\
                   softdep lib pre: crypto-crc\n";
    let index =
        Index::parse(files(dep, "alias crypto-crc crc\n", softdep, "kernel/built.ko\n")).unwrap();
    let found = index.resolve(&["a", "p2"]);
    assert_eq!(names(&found), ["crc", "lib", "pre", "a", "p2", "post"]);
    assert_eq!(found.load[0].reason, Reason::SoftDependency("lib".into()));
    assert_eq!(found.ignored_softdeps, [("a".to_owned(), "nowhere".to_owned())]);
}

/// As f2fs wants `crc32`, which Debian's kernel has built in, and as modules with that alias.
#[test]
fn a_built_in_name_that_is_an_alias_too() {
    let dep = "f2fs.ko:\ncrc32_generic.ko:\n";
    let index =
        files(dep, "alias crc32 crc32_generic\n", "softdep f2fs pre: crc32\n", "l/crc32.ko\n");
    let index = Index::parse(index).unwrap();
    assert_eq!(order(&index, &["f2fs"]), "crc32_generic f2fs");
    assert_eq!(index.resolve(&["crc32"]).builtin, ["crc32"]);
}

/// `pre:` of what needs the module itself can only come after it.
#[test]
fn soft_dependencies_never_break_hard_ones() {
    let dep = "a.ko:\nb.ko: a.ko\nc.ko:\n";
    let softdep = "softdep a pre: b c\nsoftdep c pre: a post: c\n";
    let index = Index::parse(files(dep, "", softdep, "")).unwrap();
    assert_eq!(order(&index, &["a"]), "c a b");
    assert_eq!(order(&index, &["b"]), "c a b");
    assert_eq!(order(&index, &["c"]), "a c b");
}

#[test]
fn rings_end_and_are_reported() {
    let index =
        Index::parse(IndexFiles::new("a.ko: b.ko\nb.ko: c.ko\nc.ko: a.ko\nd.ko: d.ko c.ko\n"));
    let index = index.unwrap();
    assert_eq!(index.resolve(&["d"]).load.len(), 4);
    let rings: Vec<String> = index.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        rings,
        ["modules need each other in a ring: a -> b -> c", "modules need each other in a ring: d"]
    );
}

#[test]
fn bad_lines_are_skipped_and_named() {
    let dep = "nonsense\ngood.ko: missing.ko\nkernel/readme.txt:\nup/good.ko:\nupdates/good.ko:\n";
    let alias = "alias\nalias x\nalias p* nobody\nfoo\n";
    let long = format!("alias {} good\n", "x".repeat(5000));
    let text = format!("{alias}{long}");
    let index = Index::parse(files(dep, &text, "softdep\n", "")).unwrap();
    let problems: String = index.problems().iter().map(|problem| format!("{problem}\n")).collect();
    insta::assert_snapshot!(problems, @r"
    good.ko: left out, updates/good.ko has the same name
    up/good.ko: left out, updates/good.ko has the same name
    modules.dep:1: expected PATH.ko: DEPENDENCY.ko …; the line was skipped
    modules.dep:3: expected PATH.ko: DEPENDENCY.ko …; the line was skipped
    modules.alias:1: expected alias PATTERN NAME; the line was skipped
    modules.alias:2: expected alias PATTERN NAME; the line was skipped
    modules.alias:4: expected alias PATTERN NAME; the line was skipped
    modules.alias:3: `nobody` is not in modules.dep; the line was skipped
    modules.alias:5: expected a pattern of at most 4096 bytes; the line was skipped
    modules.softdep:1: expected softdep NAME pre: … post: …; the line was skipped
    ");
    assert_eq!(index.get("good").unwrap().path(), "updates/good.ko");
}

/// A long chain of direct dependencies asks for lists of quadratic length: refused, quickly.
#[test]
fn quadratic_closures_are_refused() {
    let chain: String = (0..60_000).map(|n| format!("m{n}.ko: m{}.ko\n", n + 1)).collect();
    let error = Index::parse(IndexFiles::new(&chain)).unwrap_err();
    assert!(error.to_string().contains("too many"), "{error}");
    let many: String = (0..70_000).map(|n| format!("m{n}.ko:\n")).collect();
    assert!(Index::parse(IndexFiles::new(&many)).is_err());
}

#[test]
fn subset_and_files() {
    let mut all = files(
        "a.ko: b.ko\nb.ko:\nc.ko:\nw.ko:\ns.ko:\n",
        "alias x* a\nalias y c\nalias devname:fuse b\nalias char-major-10-229 b\n",
        "softdep b pre: s\n",
        "kernel/built.ko\n",
    );
    all.weakdep = "weakdep a w\n";
    all.builtin_modinfo = b"built.alias=z*\0";
    let index = Index::parse(all).unwrap();
    let subset = index.subset(&["x1"]);
    let dump: String = subset
        .files()
        .into_iter()
        .map(|(name, bytes)| format!("== {name}\n{}", String::from_utf8(bytes).unwrap()))
        .collect();
    insta::assert_snapshot!(dump.replace('\0', "\n"), @r"
    == modules.dep
    a.ko: b.ko
    b.ko:
    w.ko:
    s.ko:
    == modules.alias
    # Aliases extracted from modules themselves.
    alias x* a
    alias devname:fuse b
    alias char-major-10-229 b
    == modules.softdep
    # Soft dependencies extracted from modules themselves.
    softdep b pre: s
    == modules.devname
    # Device nodes to trigger on-demand module loading.
    b fuse c10:229
    == modules.order
    a.ko
    b.ko
    w.ko
    s.ko
    == modules.builtin
    kernel/built.ko
    == modules.builtin.modinfo
    built.alias=z*
    == modules.weakdep
    weakdep a w
    ");
    assert_eq!(subset.resolve(&["z1"]).builtin, ["built"]);
    assert_eq!(subset.resolve(&["c"]).unknown, ["c"]);
}

#[cfg(feature = "modinfo")]
mod modinfo {
    use kiln_kmod::Problem;

    use super::*;
    use crate::support::{elf, ko};

    #[test]
    fn from_modules_reads_what_modules_say() {
        let tun = ko(&["license=GPL", "alias=devname:net/tun", "depends=tap,x-y", "name=tun"]);
        let tap = ko(&["depends=", "firmware=tap.bin", "softdep=pre: x_y", "weakdep=tun"]);
        let modules = [("b/tun.ko", &tun[..]), ("a/tap.ko.zst", &tap[..])];
        let index =
            Index::from_modules(modules, "k/x_y.ko\n", b"", "b/tun.ko\na/tap.ko\n").unwrap();
        assert_eq!(index.problems(), &[]);
        let order: Vec<&str> = index.modules().map(|module| module.name()).collect();
        assert_eq!(order, ["tun", "tap", "x_y"]);
        assert_eq!(index.get("tun").unwrap().dependencies().collect::<Vec<_>>(), ["tap"]);
        assert_eq!(index.get("tun").unwrap().aliases(), ["devname:net/tun"]);
        assert_eq!(index.firmware(["tap", "tun"]), ["tap.bin"]);
        assert_eq!(index.get("tap").unwrap().weak().collect::<Vec<_>>(), ["tun"]);
    }

    /// System V ABI, chapter 4: both classes, both byte orders.
    #[test]
    fn every_class_and_byte_order() {
        for (wide, big) in [(true, false), (true, true), (false, false), (false, true)] {
            let file = elf(wide, big, &["depends=", "alias=one", "alias=two"]);
            let info = kiln_kmod::Modinfo::of_elf(&file).unwrap();
            assert_eq!(info.aliases, ["one", "two"], "{wide} {big}");
            for len in 0..file.len() {
                let _ = kiln_kmod::Modinfo::of_elf(&file[..len]);
            }
        }
    }

    #[test]
    fn problems_are_named() {
        let good = ko(&["depends=gone", "vermagic=6.1.0 SMP"]);
        let old = ko(&["vermagic=5.10.0 SMP"]);
        let modules = [
            ("a.ko", &good[..]),
            ("b.ko", &good[..]),
            ("old.ko", &old[..]),
            ("text.ko", b"hello"),
            ("updates/a.ko", &good[..]),
        ];
        let index = Index::from_modules(modules, "", b"", "").unwrap();
        let text: String = index.problems().iter().map(|problem| format!("{problem}\n")).collect();
        insta::assert_snapshot!(text, @r"
        a.ko: left out, updates/a.ko has the same name
        text.ko: not a kernel module: expected an ELF file
        old.ko: made for kernel 5.10.0, the others are for 6.1.0
        old.ko: has no depends= record; taken to need nothing
        b: needs `gone`, which is neither a module here nor built in
        a: needs `gone`, which is neither a module here nor built in
        ");
        assert!(index.problems().iter().any(|p| matches!(p, Problem::OtherKernel { .. })));
    }

    #[test]
    fn scan_walks_and_leaves_out_build_trees() {
        let dir = tempfile::tempdir().unwrap();
        for (path, file) in [
            ("kernel/a.ko", ko(&["depends=b"])),
            ("extra/b.ko", ko(&["depends="])),
            ("build/c.ko", ko(&["depends="])),
            ("kernel/README", b"text".to_vec()),
        ] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        let index = Index::scan(dir.path()).unwrap();
        assert_eq!(order(&index, &["a"]), "b a");
        assert_eq!(index.loadable(), 2);
        assert!(Index::scan(&dir.path().join("none")).is_err());
    }

    /// The same module by each compressor that the kernel's build knows.
    #[cfg(all(feature = "gzip", feature = "xz", feature = "zstd"))]
    #[test]
    fn compressed_modules() {
        use std::process::Command;
        let dir = tempfile::tempdir().unwrap();
        let aliases: Vec<String> = (0..5000).map(|n| format!("alias=pci:v{n:08X}*")).collect();
        let mut records: Vec<&str> = aliases.iter().map(String::as_str).collect();
        records.push("depends=");
        let mut made = 0;
        for (program, arguments) in [
            ("gzip", &["-n"][..]),
            ("xz", &["--check=crc32", "--lzma2=dict=1MiB"]),
            ("zstd", &["-q", "--rm"]),
        ] {
            if !crate::support::has(program) {
                crate::support::skip(program);
                continue;
            }
            let path = dir.path().join(format!("{program}.ko"));
            std::fs::write(&path, ko(&records)).unwrap();
            assert!(Command::new(program).args(arguments).arg(&path).status().unwrap().success());
            made += 1;
        }
        std::fs::write(dir.path().join("bad.ko.xz"), b"\xfd7zXZ\0rest").unwrap();
        let index = Index::scan(dir.path()).unwrap();
        assert_eq!(index.loadable(), made);
        assert_eq!(index.aliases(), made * 5000);
        assert_eq!(index.problems().len(), 1, "{:?}", index.problems());
    }

    #[cfg(not(feature = "xz"))]
    #[test]
    fn a_missing_feature_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.ko.xz"), b"x").unwrap();
        let error = Index::scan(dir.path()).unwrap_err();
        assert!(error.to_string().contains("`xz`"), "{error}");
    }
}
