//! Which modules a device needs, and the index files that depmod would write.
//!
//! ```text
//! modules /lib/modules/6.1.0-56-amd64 resolve virtio-net "acpi:PNP0C0C:"
//! modules UNPACKED/lib/modules/6.1.0-56-amd64 index OUT [--only virtio_net …]
//! ```

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use kiln_kmod::{Index, Resolution};

#[derive(Parser)]
#[command(about = "Kernel modules as data")]
struct Arguments {
    /// The directory /lib/modules/RELEASE, with or without index files.
    dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Shows what to load for names or modaliases, in order, with reasons.
    Resolve {
        /// Names such as virtio-net, or modaliases such as acpi:PNP0C0C:.
        #[arg(required = true)]
        wanted: Vec<String>,
    },
    /// Writes index files.
    Index {
        /// Where to write them.
        out: PathBuf,
        /// Only what these names or modaliases need.
        #[arg(long, num_args = 1..)]
        only: Vec<String>,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let index = open(&arguments.dir)?;
    for problem in index.problems() {
        eprintln!("modules: {problem}");
    }
    match arguments.verb {
        Verb::Resolve { wanted } => {
            let found = index.resolve(&wanted);
            show(&index, &found);
            if !found.unknown.is_empty() {
                return Err(format!("not found: {}", found.unknown.join(", ")).into());
            }
        }
        Verb::Index { out, only } => {
            let index = if only.is_empty() { index } else { index.subset(&only) };
            fs::create_dir_all(&out)?;
            for (name, bytes) in index.files() {
                let beside = out.join(format!(".{name}.new"));
                fs::write(&beside, bytes)?;
                fs::rename(&beside, out.join(name))?;
            }
            println!(
                "{} modules, {} built in, {} aliases",
                index.loadable(),
                index.builtin(),
                index.aliases()
            );
        }
    }
    Ok(())
}

/// Takes the index files where they are, else looks at the modules.
fn open(dir: &Path) -> kiln_kmod::Result<Index> {
    #[cfg(feature = "modinfo")]
    if !dir.join("modules.dep").exists() {
        return Index::scan(dir);
    }
    Index::read_dir(dir)
}

fn show(index: &Index, found: &Resolution) {
    for module in &found.load {
        println!("load     {}  ({})", module.path, module.reason);
    }
    for name in &found.builtin {
        println!("built in {name}");
    }
    for (module, missing) in &found.ignored_softdeps {
        println!("ignored  {missing}  (wanted by {module}, not in this kernel)");
    }
    for file in index.firmware(found.load.iter().map(|module| &module.name)) {
        println!("firmware {file}");
    }
}
