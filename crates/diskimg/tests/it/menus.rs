//! Boot menus: entries, their order, and the partitions that they are on.

use kiln_diskimg::Limits;
use kiln_diskimg::boot::bls::{DefaultEntry, Entry, FileName, LoaderConf, Timeout, menu_order};
use kiln_diskimg::boot::esp::{Architecture, Esp};
use kiln_diskimg::boot::grub::{Config, MenuEntry};
use kiln_tree::Tree;
use proptest::prelude::*;

use crate::tools::expect;

fn entry(title: &str) -> Entry {
    let mut entry = Entry::new(title);
    entry.linux = Some("/kiln/vmlinuz".to_owned());
    entry.initrds = vec!["/kiln/ucode".to_owned(), "/kiln/initrd".to_owned()];
    entry.options = "root=/dev/vda2 quiet".to_owned();
    entry
}

#[test]
fn entries_are_read_back() {
    let mut entry = entry("Kiln Linux");
    entry.version = Some("6.1.0-56".to_owned());
    entry.machine_id = Some("0123456789abcdef0123456789abcdef".to_owned());
    entry.sort_key = Some("kiln".to_owned());
    entry.architecture = Some("x64".to_owned());
    entry.other = vec![("grub_users".to_owned(), "$grub_users".to_owned())];
    let text = entry.to_text().unwrap();
    insta::assert_snapshot!(text, @"
    title Kiln Linux
    version 6.1.0-56
    machine-id 0123456789abcdef0123456789abcdef
    sort-key kiln
    architecture x64
    linux /kiln/vmlinuz
    initrd /kiln/ucode
    initrd /kiln/initrd
    options root=/dev/vda2 quiet
    grub_users $grub_users
    ");
    assert_eq!(Entry::parse(text.as_bytes(), &Limits::default()).unwrap(), entry);
    let theirs = "# comment\n\n  title\tOther \noptions a\noptions b\nunknown\r\n";
    let theirs = Entry::parse(theirs.as_bytes(), &Limits::default()).unwrap();
    assert_eq!((theirs.title.as_deref(), theirs.options.as_str()), (Some("Other"), "a b"));
    assert_eq!(theirs.other, [("unknown".to_owned(), String::new())]);
    let error = Entry::parse(b"title \xff", &Limits::default()).unwrap_err().to_string();
    assert_eq!(error, "boot entry: byte 6: this is no UTF-8");

    let mut wrong = entry;
    wrong.efi = Some("shell.efi".to_owned());
    wrong.title = Some("two\nlines".to_owned());
    wrong.machine_id = Some("XYZ".to_owned());
    insta::assert_snapshot!(wrong.to_text().unwrap_err(), @r#"
    boot entry: 4 problems
      an entry starts one of linux, efi and uki, but this one has 2 of them
      title: "two\nlines" is empty, has a control character, or space around it
      the path "shell.efi" does not begin with /
      machine-id: "XYZ" is not 32 hexadecimal digits
    "#);
}

#[test]
fn names_count_and_menus_are_sorted() {
    for (name, id, left, done) in [
        ("kiln-6.1+3.conf", "kiln-6.1", Some(3), None),
        ("kiln-6.1+2-1.conf", "kiln-6.1", Some(2), Some(1)),
        ("kiln+0-3.efi", "kiln", Some(0), Some(3)),
        ("c++.conf", "c++", None, None),
        ("kiln+x.conf", "kiln+x", None, None),
        ("kiln+3+4.conf", "kiln+3", Some(4), None),
    ] {
        let parsed = FileName::parse(name).unwrap();
        let found = (parsed.id.as_str(), parsed.tries_left, parsed.tries_done);
        assert_eq!(found, (id, left, done), "{name}");
        assert_eq!(parsed.to_string(), name);
    }
    for bad in ["kiln", "kiln.txt", ".conf", "+3.conf"] {
        assert!(FileName::parse(bad).is_err(), "{bad}");
    }
    let named = |name: &str, key: Option<&str>, version: &str| {
        let mut entry = entry(name);
        entry.sort_key = key.map(str::to_owned);
        entry.version = Some(version.to_owned());
        (FileName::parse(name).unwrap(), entry)
    };
    let mut menu = [
        named("z-1.conf", None, ""),
        named("tried+0-3.conf", Some("a"), "9"),
        named("old.conf", Some("kiln"), "6.1.9"),
        named("new+3.conf", Some("kiln"), "6.1.10"),
        named("z-10.conf", None, ""),
        named("first.conf", Some("a"), "1"),
    ];
    menu.sort_by(|(a, b), (c, d)| menu_order((a, b), (c, d)));
    let order: Vec<String> = menu.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(
        order,
        ["first.conf", "new+3.conf", "old.conf", "z-10.conf", "z-1.conf", "tried+0-3.conf"]
    );
}

fn paths(tree: &Tree) -> String {
    let files = tree.iter().filter(|(_, node)| !node.is_directory());
    files.map(|(path, _)| format!("{path}\n")).collect()
}

#[test]
fn a_partition_with_systemd_boot() {
    let mut conf = LoaderConf::default();
    conf.timeout = Some(Timeout::Seconds(3));
    conf.default = Some(DefaultEntry::Pattern("kiln-*".to_owned()));
    conf.editor = Some(false);
    let mut esp = Esp::new(Architecture::X64);
    esp.systemd_boot("loader", &conf);
    esp.uki(&FileName::efi("kiln-2").with_tries(3), "image");
    esp.entry(&FileName::conf("kiln-1"), &entry("Kiln"));
    for name in ["vmlinuz", "UCODE", "initrd"] {
        esp.file(&format!("kiln/{name}"), name);
    }
    let mut bad = esp.clone();
    let tree = esp.tree().unwrap();
    insta::assert_snapshot!(paths(&tree), @"
    EFI/BOOT/BOOTX64.EFI
    EFI/Linux/kiln-2+3.efi
    EFI/systemd/systemd-bootx64.efi
    kiln/UCODE
    kiln/initrd
    kiln/vmlinuz
    loader/entries.srel
    loader/entries/kiln-1.conf
    loader/loader.conf
    ");
    let text = conf.to_text().unwrap();
    assert_eq!(text, "timeout 3\ndefault kiln-*\neditor no\n");
    assert_eq!(LoaderConf::parse(text.as_bytes(), &Limits::default()).unwrap(), conf);

    let mut other = entry("Other");
    other.linux = Some("/elsewhere/vmlinuz".to_owned());
    bad.entry(&FileName::efi("bad name"), &other);
    bad.uki(&FileName::efi("kiln+3"), "image");
    bad.start("another program");
    let mut conf = LoaderConf::default();
    conf.console_mode = Some("max\n".to_owned());
    bad.systemd_boot("loader", &conf);
    let said = bad.tree().unwrap_err().to_string();
    for part in [
        "efi system partition: 7 problems",
        "\"bad name\": its identifier may have",
        "is no .efi file here",
        "\"kiln+3.efi\" would be taken for something else",
        "EFI/BOOT/BOOTX64.EFI",
        "loader.conf: \"console-mode\" with \"max\\n\" is no setting",
        "the entry \"bad name\" names /elsewhere/vmlinuz, which is not on the partition",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

fn config() -> Config {
    let mut kiln = MenuEntry::new("Kiln's \"own\" $menu", "kiln", "/kiln/vm linuz");
    kiln.initrds = vec!["/kiln/initrd".to_owned()];
    kiln.arguments = vec!["quiet".to_owned(), "text=two words; $x `y`".to_owned()];
    let mut config = Config::default();
    config.default = Some("kiln".to_owned());
    config.serial = Some((0, 115_200));
    config.entries.push(kiln);
    config
}

#[test]
fn a_partition_with_shim_and_grub() {
    insta::assert_snapshot!(config().to_text().unwrap(), @r#"
    serial --unit=0 --speed=115200
    terminal_input console serial
    terminal_output console serial
    set timeout=0
    set default=kiln
    menuentry 'Kiln'\''s "own" $menu' --id kiln {
      linux '/kiln/vm linuz' quiet 'text=two words; $x `y`'
      initrd /kiln/initrd
    }
    "#);
    let mut esp = Esp::new(Architecture::X64);
    esp.shim_and_grub("shim", "grub", "debian", &config());
    esp.file("kiln/initrd", "initrd");
    let said = esp.clone().tree().unwrap_err().to_string();
    assert!(said.contains("names /kiln/vm linuz, which is not on the partition"), "{said}");
    esp.file("kiln/vm linuz", "kernel");
    insta::assert_snapshot!(paths(&esp.tree().unwrap()), @"
    EFI/BOOT/BOOTX64.EFI
    EFI/BOOT/grubx64.efi
    EFI/debian/grub.cfg
    kiln/initrd
    kiln/vm linuz
    ");

    let mut wrong = config();
    wrong.default = Some("other".to_owned());
    wrong.entries[0].arguments.push("dyndbg=\"file x +p\"".to_owned());
    wrong.entries[0].title = "\n".to_owned();
    wrong.entries.push(MenuEntry::new("again", "kiln", "vmlinuz"));
    insta::assert_snapshot!(wrong.to_text().unwrap_err(), @r#"
    grub configuration: 5 problems
      the title "\n" is empty or has a control character
      the argument "dyndbg=\"file x +p\"" has a quote or backslash, which GRUB cannot hand to a kernel unchanged
      the path "vmlinuz" does not begin with /
      there are two entries with the identifier "kiln"
      there is no entry "other", which is to be the default
    "#);
}

#[test]
fn grubs_own_parser_takes_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("grub.cfg");
    std::fs::write(&path, config().to_text().unwrap()).unwrap();
    expect("grub-script-check", &[&path]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// A shell reads single quotes as GRUB does: what comes out is what went in.
    #[test]
    fn any_word_survives_quoting(words in proptest::collection::vec("[ -~äö]{1,12}", 1..5)) {
        let mut config = config();
        config.entries[0].title = words.join(" ");
        let text = config.to_text().unwrap();
        let line = text.lines().find(|line| line.starts_with("menuentry ")).unwrap();
        let script = line.replacen("menuentry", "printf %s", 1).replace(" --id kiln {", "");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), words.join(" "));
    }

    #[test]
    fn any_file_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Entry::parse(&bytes, &Limits::default());
        let _ = LoaderConf::parse(&bytes, &Limits::default());
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(name) = FileName::parse(&text) {
            let _ = FileName::parse(&name.to_string());
        }
    }
}
