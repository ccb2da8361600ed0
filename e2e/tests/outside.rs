//! A package outside of the workspace can depend on each crate by its path, with each set of
//! features, and compiles.

use std::fmt::Write;
use std::process::Command;

use kiln::cache;

#[test]
fn every_crate_can_be_depended_on_from_outside() {
    let root = cache::workspace_root();
    let directory = tempfile::tempdir().unwrap();
    let mut manifest = String::from(
        "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n",
    );
    let features = [
        ("tree", ""),
        ("kmod", "\"modinfo\""),
        ("initramfs", "\"elf\", \"zstd\""),
        ("diskimg", ""),
        ("dhcp", "\"linux\""),
        ("supervisor", ""),
        ("kconfig", "\"requirements-toml\""),
        ("debroot", ""),
        ("network", "\"toml\""),
    ];
    for (name, features) in features {
        let path = root.join("crates").join(name);
        let path = path.display();
        writeln!(manifest, "kiln-{name} = {{ path = \"{path}\", features = [{features}] }}")
            .unwrap();
    }
    std::fs::write(directory.path().join("Cargo.toml"), manifest).unwrap();
    std::fs::create_dir(directory.path().join("src")).unwrap();
    std::fs::write(directory.path().join("src/main.rs"), include_str!("../fixtures/outside.rs"))
        .unwrap();
    // The same versions as ours, so that nothing is fetched that is not there.
    std::fs::copy(root.join("Cargo.lock"), directory.path().join("Cargo.lock")).unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["check", "--quiet", "--offline"])
        .current_dir(directory.path())
        .env("CARGO_TARGET_DIR", root.join("target/e2e/outside"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
