//! Lists everything that programs need to run, one path a line.
//!
//! `cargo run -p kiln-initramfs --features elf --example closure -- --why /usr/bin/mount`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kiln_initramfs::Result;
use kiln_initramfs::elf::{Closure, Options, Resolver};

#[derive(Parser)]
struct Arguments {
    /// The directory that is the root of all paths.
    #[arg(long, default_value = "/")]
    sysroot: PathBuf,
    /// Say with each path why it is there.
    #[arg(long)]
    why: bool,
    /// Programs and libraries, as paths of the sysroot.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

fn closure(arguments: &Arguments) -> Result<Closure> {
    Resolver::new(Options::new(&arguments.sysroot))?.closure(&arguments.paths)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let closure = match closure(&arguments) {
        Ok(closure) => closure,
        Err(error) => {
            eprintln!("closure: {error}");
            return ExitCode::FAILURE;
        }
    };
    for file in &closure.files {
        if arguments.why {
            println!("/{}\t{}", file.path, file.why);
        } else {
            println!("/{}", file.path);
        }
    }
    for library in &closure.needs_ldconfig {
        eprintln!("closure: /{library} is found only with an ld.so.cache in the image");
    }
    ExitCode::SUCCESS
}
