//! The keys of systemd's units with what becomes of them, as `docs/systemd-units.md` has them, or
//! written into that file in place of what it ends with:
//! `cargo run -p kiln-supervisor --features systemd --example unit_keys -- [docs/systemd-units.md]`.

use std::fs;

fn main() -> std::io::Result<()> {
    let tables = kiln_supervisor::systemd::reference();
    let Some(path) = std::env::args_os().nth(1) else {
        print!("{tables}");
        return Ok(());
    };
    let text = fs::read_to_string(&path)?;
    let head = text.split("\n## `[Unit]`").next().unwrap_or_default();
    fs::write(path, format!("{head}{tables}"))
}
