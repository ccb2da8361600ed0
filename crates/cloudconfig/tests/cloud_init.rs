//! What cloud-init's own schema refuses is refused here. It is not installed for tests, because it would
//! configure the machine at its next start; unpack Debian's package anywhere and run
//! `KILN_CLOUD_INIT='env PYTHONPATH=DIR/usr/lib/python3/dist-packages python3 -m cloudinit.cmd.main'
//! cargo test -p kiln-cloudconfig --test cloud_init -- --ignored`.

mod random;

use std::process::Command;

use kiln_cloudconfig::{Limits, decode, document};

/// Whether cloud-init takes a document, and what it says.
fn theirs(text: &str) -> (bool, String) {
    let said = std::env::var("KILN_CLOUD_INIT").expect("KILN_CLOUD_INIT, the command");
    let mut words = said.split_ascii_whitespace();
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("cc.yml");
    std::fs::write(&path, text).expect("written");
    let mut command = Command::new(words.next().expect("a command"));
    command.args(words).args(["schema", "--config-file"]).arg(&path);
    let output = command.output().expect("cloud-init runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("loud") || text.contains("YAML"), "this is not cloud-init: {text}");
    (output.status.success(), text)
}

fn ours(text: &str) -> (bool, String) {
    let (root, mut findings) = document::read("cc.yml", text.as_bytes(), &Limits::default());
    findings.append(decode(&root, &Limits::default()).1);
    (findings.is_empty(), findings.to_string())
}

#[test]
#[ignore = "needs cloud-init in KILN_CLOUD_INIT"]
fn what_cloud_init_refuses_is_refused() {
    let full = include_str!("samples/full.yml");
    let (taken, said) = theirs(full);
    assert!(taken, "{said}");
    let bad = include_str!("samples/bad.txt").split("\n%%%% ").skip(1);
    let bad = bad.map(|sample| format!("#cloud-config\n{}", sample.split_once('\n').unwrap().1));
    let (mut refused, mut stricter, mut dialect) = (0, 0, 0);
    let mut apart = String::new();
    // Without its first line a file is none of cloud-init's.
    let whole = |text: &String| text.starts_with("#cloud-config\n");
    for text in bad.chain((0..300).map(random::config).filter(whole)) {
        let ((there, why), (here, findings)) = (theirs(&text), ours(&text));
        if !there && here && why.contains("is not valid yaml") {
            // PyYAML reads 1.1: a key of several lines in braces is none for it, for one.
            dialect += 1;
        } else if !there && here {
            apart += &format!("{text}\n{why}\n{findings}\n\n");
        }
        refused += u32::from(!there);
        stricter += u32::from(there && !here);
    }
    assert!(apart.is_empty(), "only cloud-init refuses:\n{apart}");
    assert!(dialect < 10, "{dialect} documents are YAML here and not there");
    println!("{refused} refused there, {stricter} only here, {dialect} other YAML");
}
