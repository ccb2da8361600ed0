//! SquashFS images: ours beside the `backhand` crate and mksquashfs.
//!
//! All three pack the same directory with LZ4 and blocks of 128 KiB, the files being read in the
//! measured time. The table has wall and CPU time, that of mksquashfs with its start, and the most
//! memory that a process held, each in a process of its own. mksquashfs and backhand look for equal
//! files, which ours does not. backhand writes with one thread; ours and mksquashfs have two.

use std::fs::{self, File};
use std::io::Read;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use backhand::compression::{CompressionOptions, Compressor, Lz4};
use backhand::{FilesystemCompressor, FilesystemWriter, NodeHeader};
use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, spent, take_turns};
use kiln_benches::{Result, machine, noise, peak};
use kiln_diskimg::squashfs::{Image, Options};
use kiln_tree::{Kind, Source, Tree, host};

/// SquashFS with LZ4 beside backhand and mksquashfs
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<5>,
    /// Pack this directory instead of 338 MB in 10,000 files that are made up
    #[arg(long)]
    tree: Option<PathBuf>,
    /// Where to work, about 2 GiB; best a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Pack the tree once, by `kiln` or `backhand`, into this file and end: what is measured
    #[arg(long, num_args = 2, value_names = ["WHO", "FILE"], hide = true, requires = "tree")]
    write: Option<Vec<String>>,
}

const THREADS: &str = "2";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let (Some([who, file]), Some(tree)) = (arguments.write.as_deref(), &arguments.tree) {
        let write = if who == "kiln" { ours } else { backhand };
        return match write(tree, Path::new(file)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("squashfs: {error}");
                ExitCode::FAILURE
            }
        };
    }
    kiln_benches::run("squashfs", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let n = arguments.common.n;
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let dir = dir.path();
    let from = noise::root(arguments.tree.as_deref(), dir)?;
    let paths = ["kiln", "backhand", "mksquashfs"].map(|name| dir.join(name));
    let [kiln, crates, tool] = &paths;
    let has_tool = machine::are_installed(&["mksquashfs"]);
    let mut report = Report::new();

    let mut turns = vec![
        Contender::new("kiln-diskimg", || spent(|| ours(&from, kiln))),
        Contender::new("backhand", || spent(|| backhand(&from, crates))),
    ];
    if has_tool {
        turns.push(Contender::new("mksquashfs", || {
            spent(|| machine::run("mksquashfs", |it| mksquashfs(it, &from, tool, &[])))
        }));
    }
    report.spent("SquashFS, LZ4", n, turns)?;

    let own = std::env::current_exe()?;
    let memory = |who: &str, file: &Path| {
        let mut command = Command::new(&own);
        command.arg("--tree").arg(&from).args(["--write", who]).arg(file);
        peak::mebibytes(command)
    };
    let mut turns = vec![
        Contender::new("kiln-diskimg", || memory("kiln", kiln)),
        Contender::new("backhand", || memory("backhand", crates)),
    ];
    if has_tool {
        turns.push(Contender::new("mksquashfs", || {
            let mut command = machine::command("mksquashfs");
            mksquashfs(&mut command, &from, tool, &[]);
            peak::mebibytes(command)
        }));
    }
    let samples = take_turns(n, &mut turns)?;
    report.contest("SquashFS, LZ4: memory", Unit::Mebibytes, &turns, samples);
    drop(turns);

    let first = fs::metadata(kiln)?.len();
    let length = |who: &str, path: &Path| -> Result<()> {
        let len = fs::metadata(path)?.len();
        println!("{who}: {len} bytes, {:.3} of ours", len as f64 / first as f64);
        Ok(())
    };
    for path in paths.iter().filter(|path| path.exists()) {
        length(&path.file_name().unwrap_or_default().to_string_lossy(), path)?;
    }
    if has_tool {
        for options in [&["-no-fragments"][..], &["-always-use-fragments"]] {
            machine::run("mksquashfs", |it| mksquashfs(it, &from, tool, options))?;
            length(&format!("mksquashfs {}", options.concat()), tool)?;
        }
    }
    Ok(report)
}

fn import(from: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    host::import(&mut tree, from, "", &host::Policy::default())?;
    Ok(tree)
}

fn create(path: &Path) -> Result<File> {
    Ok(File::options().read(true).write(true).create(true).truncate(true).open(path)?)
}

fn ours(from: &Path, out: &Path) -> Result<()> {
    let mut options = Options::default();
    options.threads = NonZeroUsize::new(THREADS.parse()?);
    Image::plan(&import(from)?, &options, create(out)?)?.into_image()?;
    Ok(())
}

fn backhand(from: &Path, out: &Path) -> Result<()> {
    let tree = import(from)?;
    let mut writer = FilesystemWriter::default();
    let lz4 = CompressionOptions::Lz4(Lz4 { version: 1, flags: 0 });
    writer.set_compressor(FilesystemCompressor::new(Compressor::Lz4, Some(lz4))?);
    writer.set_block_size(128 << 10);
    for (path, node) in &tree {
        let path = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
        let meta = &node.meta;
        let header = NodeHeader::new(meta.mode, meta.uid, meta.gid, meta.mtime);
        match &node.kind {
            Kind::Directory => writer.push_dir(path, header)?,
            Kind::File(Source::File { path: from, .. }) => {
                let late = Late { path: Some(from.clone()), file: None };
                writer.push_file(late, path, header)?;
            }
            Kind::Symlink(target) => {
                writer.push_symlink(std::ffi::OsStr::from_bytes(target), path, header)?;
            }
            other => println!("backhand: {} is left out, {other:?}", path.display()),
        }
    }
    writer.write(create(out)?)?;
    Ok(())
}

fn mksquashfs<'it>(
    command: &'it mut Command,
    from: &Path,
    out: &Path,
    options: &[&str],
) -> &'it mut Command {
    command
        .arg(from)
        .arg(out)
        .args(["-comp", "lz4", "-b", "131072", "-processors", THREADS, "-noappend", "-quiet"])
        .args(["-no-progress", "-mkfs-time", "0", "-all-time", "0", "-all-root", "-no-xattrs"])
        .args(options)
}

/// A file that is open only while it is read, once.
struct Late {
    path: Option<PathBuf>,
    file: Option<File>,
}

impl Read for Late {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(path) = self.path.take() {
            self.file = Some(File::open(path)?);
        }
        let Some(file) = &mut self.file else { return Ok(0) };
        let count = file.read(buffer)?;
        if count == 0 {
            self.file = None;
        }
        Ok(count)
    }
}
