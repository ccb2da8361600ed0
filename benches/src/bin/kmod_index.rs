//! Making the module indexes of a kernel: kiln-kmod beside depmod, and resolving modaliases.
//!
//! `kmod_index DIR [--rounds N] [--json]`, where DIR is `lib/modules/RELEASE` of an unpacked kernel
//! package. The two take turns, on the same files, with a warm page cache. depmod does more: it
//! looks at every symbol, and writes `modules.symbols` and the binary indexes too. Our time is
//! that of the library in this process, with its files written; depmod's has its start in it.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use kiln_kmod::Index;

#[derive(Parser)]
struct Arguments {
    /// The directory lib/modules/RELEASE of an unpacked kernel package.
    dir: PathBuf,
    /// How often each is run.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let tree = arguments.dir.canonicalize()?;
    let release = tree.file_name().and_then(|name| name.to_str()).ok_or("DIR has no name")?;
    let root = tempfile::tempdir()?;
    let dir = root.path().join("lib/modules").join(release);
    fs::create_dir_all(&dir)?;
    symlink(tree.join("kernel"), dir.join("kernel"))?;
    for file in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::copy(tree.join(file), dir.join(file))?;
    }
    let out = root.path().join("ours");
    fs::create_dir_all(&out)?;

    let (mut ours, mut depmods, mut reads, mut resolves) = (vec![], vec![], vec![], vec![]);
    let mut modules = 0;
    for _ in 0..arguments.rounds.max(1) {
        let start = Instant::now();
        let index = Index::scan(&tree)?;
        for (name, bytes) in index.files() {
            fs::write(out.join(name), bytes)?;
        }
        ours.push(start.elapsed());
        modules = index.loadable();

        let start = Instant::now();
        let status = Command::new("depmod").arg("-b").arg(root.path()).arg(release).status()?;
        depmods.push(start.elapsed());
        if !status.success() {
            return Err("depmod failed".into());
        }

        let start = Instant::now();
        let index = Index::read_dir(&dir)?;
        reads.push(start.elapsed());
        let wanted = modaliases();
        let start = Instant::now();
        let found = index.resolve(&wanted);
        resolves.push(start.elapsed());
        if found.load.is_empty() {
            return Err("no modalias matched".into());
        }
    }
    let rows = [
        ("scan and write indexes, kiln-kmod", median(ours)),
        ("scan and write indexes, depmod", median(depmods)),
        ("read the text indexes, kiln-kmod", median(reads)),
        ("resolve 100 modaliases, kiln-kmod", median(resolves)),
    ];
    let rounds = arguments.rounds.max(1);
    let ratio = rows[1].1.as_secs_f64() / rows[0].1.as_secs_f64();
    if arguments.json {
        let items: Vec<String> = rows
            .iter()
            .map(|(name, time)| format!("\"{name}\":{:.6}", time.as_secs_f64()))
            .collect();
        println!(
            "{{\"n\":{rounds},\"modules\":{modules},\"unit\":\"s, median\",{},\"depmod/kiln\":{ratio:.2}}}",
            items.join(",")
        );
    } else {
        println!("{modules} modules, medians of n={rounds}, interleaved");
        for (name, time) in rows {
            println!("{name:<36} {:>10.3} ms", time.as_secs_f64() * 1e3);
        }
        println!("depmod / kiln-kmod                   {ratio:>10.2} x");
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// What a machine's `/sys` has: half of them PCI and ACPI devices that match, half that do not.
fn modaliases() -> Vec<String> {
    let one = |n: u32| match n % 5 {
        0 => format!("pci:v00008086d{:08X}sv00001AF4sd00001100bc02sc00i00", 0x1000 + n),
        1 => format!("pci:v00001AF4d{:08X}sv00001AF4sd00001100bc01sc00i00", 0x1000 + n / 5),
        2 => format!("acpi:PNP{:04X}:", 0x0C00 + n),
        3 => format!("usb:v{:04X}p5581d0100dc00dsc00dp00ic08isc06ip50in00", 0x700 + n),
        _ => format!("platform:device-{n}"),
    };
    (0..100).map(one).collect()
}
