//! A machine whose process 1 panics at a hundred points that chance has chosen.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kiln::{Cache, Progress, debian, guest};
use kiln_e2e::{LONG, alone, said};
use kiln_tree::{Node, Tree};

#[test]
fn a_hundred_panics_of_process_1_lose_and_double_nothing() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cache = Cache::of_workspace();
    let kernel = debian::kernel(&cache, "linux-image-amd64")?;
    let busybox = debian::sysroot(&cache, &["busybox-static"])?.join("bin/busybox");
    let init =
        guest::build_with_features("kiln-e2e-init", "panics", &["fault"], &Progress::on_stderr())?;
    let mut tree = Tree::new();
    tree.insert("init", Node::executable(std::fs::read(init)?))?;
    tree.insert("bin/busybox", Node::executable(std::fs::read(busybox)?))?;
    let mut machine = alone::machine(kernel.image, &tree, directory.path())?;
    (machine.memory, machine.processors) = (512, 1);
    let began = Instant::now();
    let mut vm = machine.start()?;
    let done = vm.wait_for("the end", LONG).and_then(|_| vm.wait_exit(LONG));
    let console = vm.console().tail(400);
    done.with_context(|| console.clone())?;
    let lines = said(&vm, "proof: ");
    println!("{:.1?}\n{}", began.elapsed(), lines.join("\n"));
    for expected in [
        "100 panics",
        "steady: 1 starts, 1 alive",
        "ready: 1 starts, 1 alive",
        "other: 1 starts, 1 alive",
        "once: 1 starts, 0 alive",
        "doubled: \"\"",
    ] {
        ensure!(lines.iter().any(|line| line.contains(expected)), "no {expected:?} in\n{console}");
    }
    Ok(())
}
