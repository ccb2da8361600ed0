//! What a cloud-config says, and what is said about one that is wrong.

use std::fmt::Write as _;

use kiln_cloudconfig::schema::{Command, PowerMode};
use kiln_cloudconfig::{CloudConfig, Findings, Kind, Limits, decode, document};

fn read(text: &str) -> (CloudConfig, Findings) {
    let limits = Limits::default();
    let (root, mut findings) = document::read("cc.yml", text.as_bytes(), &limits);
    let (config, more) = decode(&root, &limits);
    findings.append(more);
    (config, findings)
}

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHFZDvJJUVn2uUaRPVuKLtNPbVPHzJfNYJ9VZpn0xg5e ada@lab";

#[test]
fn a_config_with_every_section_is_read_without_a_finding() {
    let text = include_str!("samples/full.yml");
    let (config, findings) = read(text);
    assert_eq!(findings.to_string(), "");
    insta::assert_debug_snapshot!("full", config);
}

/// Documents that are wrong, one after the other in a file: the name of each is its first line.
#[test]
fn every_problem_has_its_file_line_and_path() {
    let mut report = String::new();
    for sample in include_str!("samples/bad.txt").split("\n%%%% ").skip(1) {
        let (name, text) = sample.split_once('\n').unwrap();
        let (_, findings) = read(text);
        assert!(!findings.is_empty(), "{name}");
        writeln!(report, "{name}\n{findings}\n").unwrap();
    }
    insta::assert_snapshot!("bad", report);
}

#[test]
fn what_is_valid_is_kept() {
    let text = format!(
        "hostname: bad_name\nssh_authorized_keys:\n- {KEY}\n- nonsense\nwrite_files:\n\
         - {{path: /etc/good, content: a}}\n- {{path: /etc/secret, content: b, permisions: '0600'}}\n\
         - {{path: relative, content: c}}\nruncmd: [[echo, 1], true, 'echo 2']\n\
         users:\n- default\n- name: ada\n  lock_passwd: false\n  snapuser: x\n  ssh_authorized_keys: [oops, {KEY}]\n\
         - name: eve\n  uid: -1\nsysctl: {{vm.swappiness: 10, '../x': 1}}\npackages: [vim]\n"
    );
    let (config, findings) = read(&text);
    assert_eq!(config.hostname, None);
    assert_eq!(config.ssh_authorized_keys, [KEY]);
    let paths: Vec<&str> = config.write_files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["/etc/good"]);
    assert_eq!(
        config.runcmd,
        [Command::Program(vec!["echo".into(), "1".into()]), Command::Shell("echo 2".into())]
    );
    assert!(config.users.default);
    assert_eq!(config.users.list.len(), 1, "eve has a fault, so she is left out");
    assert_eq!(config.users.list[0].ssh_authorized_keys, [KEY]);
    assert_eq!(config.sysctl.len(), 1);
    let of = |kind| findings.iter().filter(|finding| finding.kind == kind).count();
    assert_eq!((of(Kind::NotSupported), of(Kind::Unknown)), (2, 1), "{findings}");
}

#[test]
fn a_billion_laughs_are_refused() {
    let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(text, "a{level}: &a{level} [{below}]").unwrap();
    }
    let (_, findings) = read(&text);
    assert_eq!(findings.to_string(), "cc.yml:6: more than 100000 values, aliases included");
    // The same by one long text.
    let long = "x".repeat(100_000);
    let aliases = "- *a\n".repeat(1000);
    let (_, findings) = read(&format!("- &a {long}\n{aliases}"));
    assert!(
        findings.to_string().contains("aliases that add more than 4194304 bytes"),
        "{findings}"
    );
}

#[test]
fn depth_and_size_are_bounded() {
    let (_, findings) = read(&"[".repeat(100));
    assert_eq!(findings.to_string(), "cc.yml:1: lists and maps nested deeper than 32");
    let (_, findings) = read(&format!("services: {}1{}", "[".repeat(31), "]".repeat(31)));
    assert_eq!(findings.to_string(), "cc.yml:1: services: expected a map, found a list");
    let (_, findings) = read(&" ".repeat(5 << 20));
    assert_eq!(findings.to_string(), "cc.yml: 5242880 bytes, of which at most 4194304 are read");
}

#[test]
fn one_file_with_very_many_problems_is_told_in_bounds() {
    let text: String = (0..5000).map(|n| format!("unknown{n}: 1\n")).collect();
    let (_, findings) = read(&text);
    assert_eq!(findings.iter().count(), 101);
    assert_eq!(findings.0[100].to_string(), "cc.yml: and 4900 more problems");
}

#[test]
fn modes_are_octal_and_say_so() {
    let mode = |mode: &str| {
        let (config, findings) = read(&format!("write_files: [{{path: /a, permissions: {mode}}}]"));
        config.write_files.first().map(|file| file.mode).ok_or_else(|| findings.to_string())
    };
    assert_eq!(mode("'0644'"), Ok(0o644));
    assert_eq!(mode("'755'"), Ok(0o755));
    assert_eq!(mode("0600"), Ok(0o600));
    assert_eq!(mode("0o4755"), Ok(0o4755));
    for bad in ["644", "420", "'0888'", "rw", "1.5", "'017777'", "-0644", "'-644'", "true"] {
        assert!(mode(bad).is_err(), "{bad}");
    }
}

#[test]
fn fields_of_a_mount_may_be_empty() {
    let (config, findings) =
        read("mounts:\n- [/dev/vdb, '', swap, '']\n- [/dev/vdc, /mnt/s, ext4, '']\n");
    assert!(findings.is_empty(), "{findings}");
    let [swap, disk] = config.mounts.as_slice() else { panic!("{:?}", config.mounts) };
    assert_eq!((swap.target.as_str(), swap.fstype.as_str()), ("none", "swap"));
    assert_eq!((disk.target.as_str(), disk.options.as_str()), ("/mnt/s", "defaults,nofail"));
    let (_, findings) = read("mounts:\n- ['', /a]\n- [/dev/vdb, '', ext4]\n");
    assert_eq!(
        findings.to_string(),
        "cc.yml:2: mounts[0]: what to mount is missing\n\
         cc.yml:3: mounts[1]: where to mount it is missing"
    );
}

#[test]
fn power_states() {
    let (config, findings) = read("power_state: {mode: reboot, delay: +5, condition: true}");
    assert!(findings.is_empty(), "{findings}");
    let power = config.power_state.unwrap();
    assert_eq!((power.mode, power.delay.as_secs()), (PowerMode::Reboot, 300));
    let (config, _) = read("power_state: {mode: reboot, condition: test -e /x}");
    assert_eq!(config.power_state, None);
}
