//! kiln-initramfs beside its peers: packing a large tree, finding the closure of many programs.
//!
//! CPU time is user and system time of the process and its children. The first round of each
//! contest warms the caches and does not count.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, Spent, spent, take_turns};
use kiln_benches::{Result, machine};
use kiln_initramfs::elf::{Hwcaps, Options, Resolver, X86Level};
use kiln_initramfs::{Compression, write_image};
use kiln_tree::{Tree, host};

/// Packing a large tree and finding the closure of many programs, beside the peers
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<5>,
    /// The tree that is packed
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/x86_64-linux-gnu")]
    tree: PathBuf,
}

/// What a run took, and what it came to.
struct Sample {
    spent: Spent,
    result: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("initramfs", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let scratch = tempfile::tempdir()?;
    let mut report = Report::new();
    let (n, tree) = (arguments.common.n, &arguments.tree);
    contest(&mut report, &format!("pack {}", tree.display()), n, packers(tree, scratch.path())?)?;
    let programs = programs()?;
    let what = format!("closure of {} ELF files of /usr/bin and /usr/sbin", programs.len());
    contest(&mut report, &what, n, closures(&programs))?;
    Ok(report)
}

fn contest(
    report: &mut Report,
    what: &str,
    n: u32,
    mut contenders: Vec<Contender<'_, Sample>>,
) -> Result<()> {
    take_turns(1, &mut contenders)?;
    let samples = take_turns(n, &mut contenders)?;
    for kind in ["CPU time", "wall time"] {
        for (contender, samples) in contenders.iter().zip(&samples) {
            let what = format!("{what}: {kind}");
            let figure = |sample: &Sample| {
                if kind == "CPU time" { sample.spent.cpu } else { sample.spent.wall }
            };
            let figures = samples.iter().map(figure).collect();
            report.add(&what, contender.who(), Unit::Seconds, figures);
            report.note(samples.last().map_or("", |sample| &sample.result));
        }
    }
    Ok(())
}

/// A contender whose run says what it came to.
fn contender<'run>(
    who: &str,
    mut run: impl FnMut() -> Result<String> + 'run,
) -> Contender<'run, Sample> {
    Contender::new(who, move || {
        let mut result = String::new();
        let spent = spent(|| {
            result = run()?;
            Ok(())
        })?;
        Ok(Sample { spent, result })
    })
}

fn packers<'run>(
    directory: &'run Path,
    scratch: &'run Path,
) -> Result<Vec<Contender<'run, Sample>>> {
    let mut all: Vec<Contender<'run, Sample>> = Vec::new();
    let size =
        |path: &Path| -> Result<String> { Ok(format!("{} MiB", fs::metadata(path)?.len() >> 20)) };
    all.push(contender("kiln-initramfs", move || {
        let out = scratch.join("kiln");
        let mut policy = host::Policy::default();
        policy.hardlinks = true;
        let mut tree = Tree::new();
        host::import(&mut tree, directory, "", &policy)?;
        write_image(&tree, &Compression::None, File::create(&out)?)?;
        size(&out)
    }));
    all.push(contender("cpio crate (no hard links)", move || {
        let out = scratch.join("crate");
        cpio_crate(directory, File::create(&out)?)?;
        size(&out)
    }));
    let mut names = Vec::new();
    walk(directory, &mut |path| {
        use std::os::unix::ffi::OsStrExt as _;
        names
            .extend_from_slice(path.strip_prefix(directory).unwrap_or(path).as_os_str().as_bytes());
        names.push(0);
    })?;
    let list = scratch.join("names");
    fs::write(&list, names)?;
    let tools: [(&'static str, &'static [&'static str]); 3] = [
        ("GNU cpio", &["cpio", "-o0", "-H", "newc", "--quiet"]),
        (
            "GNU cpio --reproducible -C 1M",
            &["cpio", "-o0", "-H", "newc", "--quiet", "--reproducible", "-C", "1048576"],
        ),
        ("bsdcpio", &["bsdcpio", "-o0", "-H", "newc", "--quiet"]),
    ];
    for (name, command) in tools {
        let [program, arguments @ ..] = command else { continue };
        if !machine::are_installed(&[program]) {
            continue;
        }
        all.push(contender(name, move || {
            let out = scratch.join("tool");
            let status = machine::command(program)
                .args(arguments)
                .current_dir(directory)
                .stdin(File::open(scratch.join("names"))?)
                .stdout(File::create(&out)?)
                .status()?;
            if !status.success() {
                return Err(format!("{program}: {status}").into());
            }
            size(&out)
        }));
    }
    Ok(all)
}

/// What the `cpio` crate offers: entries one after the other, each its own file.
fn cpio_crate(directory: &Path, file: File) -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    let mut out = io::BufWriter::with_capacity(128 * 1024, file);
    let mut failure = None;
    walk(directory, &mut |path| {
        let mut add = || -> Result<()> {
            let data = fs::symlink_metadata(path)?;
            let name = path.strip_prefix(directory)?.to_string_lossy();
            let builder = cpio::newc::Builder::new(&name).mode(data.mode());
            if data.is_symlink() {
                let target = fs::read_link(path)?;
                let bytes = target.as_os_str().as_bytes();
                let mut writer = builder.write(&mut out, u32::try_from(bytes.len())?);
                io::Write::write_all(&mut writer, bytes)?;
                writer.finish()?;
            } else if data.is_file() {
                let mut writer = builder.write(&mut out, u32::try_from(data.len())?);
                io::copy(&mut File::open(path)?, &mut writer)?;
                writer.finish()?;
            } else {
                builder.write(&mut out, 0).finish()?;
            }
            Ok(())
        };
        if let Err(error) = add() {
            failure = Some(error);
        }
    })?;
    cpio::newc::trailer(out)?;
    failure.map_or(Ok(()), Err)
}

/// Every path below a directory, parents first, sorted.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) -> io::Result<()> {
    let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        visit(&path);
        if entry.file_type()?.is_dir() {
            walk(&path, visit)?;
        }
    }
    Ok(())
}

/// The dynamic programs of this machine, each once.
fn programs() -> Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    for directory in ["/usr/bin", "/usr/sbin"] {
        for entry in fs::read_dir(directory)? {
            let Ok(path) = entry?.path().canonicalize() else { continue };
            let mut head = [0; 5];
            let is_elf = path.is_file()
                && File::open(&path).and_then(|mut file| file.read_exact(&mut head)).is_ok()
                && head == *b"\x7fELF\x02";
            if is_elf {
                found.insert(path);
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// The loader of x86-64 programs (System V ABI, AMD64 supplement), which can list what it would load.
const LD_SO: &str = "/lib64/ld-linux-x86-64.so.2";

fn closures(programs: &[PathBuf]) -> Vec<Contender<'_, Sample>> {
    let mut all = vec![
        contender("kiln-initramfs", move || {
            let mut options = Options::default();
            if let Some(level) = X86Level::of_this_machine() {
                options.hwcaps = Hwcaps::up_to(level);
            }
            let closure = Resolver::new(options)?.closure(programs)?;
            Ok(format!("{} files", closure.files.len()))
        }),
        contender("lddtree crate", move || {
            let mut union = BTreeSet::new();
            for program in programs {
                let analyzer = lddtree::DependencyAnalyzer::default();
                let tree = analyzer.analyze(program)?;
                union.extend(tree.libraries.into_values().filter_map(|found| found.realpath));
            }
            Ok(format!("{} libraries", union.len()))
        }),
    ];
    if machine::are_installed(&[LD_SO]) {
        all.push(contender("ld.so --list per file", move || {
            let mut union = BTreeSet::new();
            for program in programs {
                let output = machine::command(LD_SO)
                    .arg("--list")
                    .arg(program)
                    .stderr(Stdio::null())
                    .output()?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                for line in text.lines().filter_map(|line| line.split_once(" => ")) {
                    union.insert(line.1.split(" (0x").next().unwrap_or_default().to_owned());
                }
            }
            Ok(format!("{} libraries", union.len()))
        }));
    }
    all
}
