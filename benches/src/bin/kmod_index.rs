//! Making the module indexes of a kernel: kiln-kmod beside depmod, and resolving modaliases.
//!
//! On the same files, with a warm page cache. depmod does more: it looks at every symbol, and writes
//! `modules.symbols` and the binary indexes too. Our time is that of the library in this process,
//! with its files written; depmod's has its start in it.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, seconds, take_turns};
use kiln_benches::{Result, machine};
use kiln_kmod::Index;

/// Making the module indexes of a kernel beside depmod, and resolving modaliases
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<7>,
    /// lib/modules/RELEASE of an unpacked kernel package [default: one found in target/cache]
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("kmod_index", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new();
    let cache = machine::cache();
    let Some(tree) = arguments.dir.clone().or_else(|| machine::kernel_modules(&cache)) else {
        println!(
            "skipped: kernel package (no lib/modules/RELEASE below {}: building NomadOS unpacks \
             one there, or name one with --dir)",
            cache.display()
        );
        return Ok(report);
    };
    let tree = tree.canonicalize().map_err(|error| format!("{}: {error}", tree.display()))?;
    let release = tree.file_name().and_then(|name| name.to_str()).ok_or("--dir has no name")?;
    let root = tempfile::tempdir()?;
    let dir = root.path().join("lib/modules").join(release);
    fs::create_dir_all(&dir)?;
    symlink(tree.join("kernel"), dir.join("kernel"))?;
    for file in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::copy(tree.join(file), dir.join(file))?;
    }
    let out = root.path().join("ours");
    fs::create_dir_all(&out)?;

    let modules = Cell::new(0);
    let has_depmod = machine::are_installed(&["depmod"]);
    let mut scans = vec![Contender::timed("kiln-kmod", || {
        let index = Index::scan(&tree)?;
        for (name, bytes) in index.files() {
            fs::write(out.join(name), bytes)?;
        }
        modules.set(index.loadable());
        Ok(())
    })];
    if has_depmod {
        scans.push(Contender::timed("depmod", || {
            let mut depmod = machine::command("depmod");
            let status = depmod.arg("-b").arg(root.path()).arg(release).status()?;
            if status.success() { Ok(()) } else { Err(format!("depmod: {status}").into()) }
        }));
    }
    // depmod's files where they are.
    let written = if has_depmod { &dir } else { &out };
    let index = RefCell::new(None);
    let read = Contender::timed("kiln-kmod", || {
        index.replace(Some(Index::read_dir(written)?));
        Ok(())
    });
    let resolve = Contender::new("kiln-kmod", || {
        let index = index.take().ok_or("no index was read")?;
        let wanted = modaliases();
        let mut found = None;
        let took = seconds(|| {
            found = Some(index.resolve(&wanted));
            Ok(())
        })?;
        match found {
            Some(found) if !found.load.is_empty() => Ok(took),
            _ => Err("no modalias matched".into()),
        }
    });

    let mut whats = vec!["scan and write indexes"; scans.len()];
    whats.extend(["read the text indexes", "resolve 100 modaliases"]);
    let mut contenders = scans;
    contenders.extend([read, resolve]);
    let samples = take_turns(arguments.common.n, &mut contenders)?;
    for ((what, contender), samples) in whats.into_iter().zip(&contenders).zip(samples) {
        let what = format!("{} modules: {what}", modules.get());
        report.add(&what, contender.who(), Unit::Milliseconds, samples);
    }
    Ok(report)
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
