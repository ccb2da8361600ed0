//! kiln-initramfs beside its peers: packing a large tree, finding the closure of many programs.
//!
//! `cargo run --release -p kiln-benches --bin initramfs -- [--rounds N] [--tree DIR] [--json FILE]`
//!
//! Contestants run in turns, so that load on the machine hits all alike. CPU time is user and
//! system time of the process and its children.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use kiln_initramfs::elf::{Hwcaps, Options, Resolver, X86Level};
use kiln_initramfs::{Compression, write_image};
use kiln_tree::{Tree, host};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
type Run<'run> = Box<dyn Fn() -> Outcome<String> + 'run>;

struct Contestant<'run> {
    name: &'static str,
    run: Run<'run>,
}

#[derive(Default)]
struct Figures {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    result: String,
}

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("initramfs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Outcome<()> {
    let mut rounds = 5;
    let mut directory = PathBuf::from("/usr/lib/x86_64-linux-gnu");
    let mut json = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or("each option takes a value")?;
        match argument.as_str() {
            "--rounds" => rounds = value.parse()?,
            "--tree" => directory = value.into(),
            "--json" => json = Some(PathBuf::from(value)),
            other => return Err(format!("{other}: expected --rounds, --tree or --json").into()),
        }
    }
    let scratch = tempfile::tempdir()?;
    let mut report = serde_json::Map::new();

    let pack = packers(&directory, scratch.path())?;
    let figures = contest(&pack, rounds)?;
    table(&format!("pack {}", directory.display()), &pack, &figures, rounds, &mut report);

    let programs = programs()?;
    let closure = closures(&programs);
    let figures = contest(&closure, rounds)?;
    let title = format!("closure of {} ELF files of /usr/bin and /usr/sbin", programs.len());
    table(&title, &closure, &figures, rounds, &mut report);

    if let Some(path) = json {
        fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}

fn packers<'run>(directory: &'run Path, scratch: &'run Path) -> Outcome<Vec<Contestant<'run>>> {
    let mut all: Vec<Contestant<'run>> = Vec::new();
    let size =
        |path: &Path| -> Outcome<String> { Ok(format!("{} MiB", fs::metadata(path)?.len() >> 20)) };
    all.push(Contestant {
        name: "kiln-initramfs",
        run: Box::new(move || {
            let out = scratch.join("kiln");
            let mut policy = host::Policy::default();
            policy.hardlinks = true;
            let mut tree = Tree::new();
            host::import(&mut tree, directory, "", &policy)?;
            write_image(&tree, &Compression::None, File::create(&out)?)?;
            size(&out)
        }),
    });
    all.push(Contestant {
        name: "cpio crate (no hard links)",
        run: Box::new(move || {
            let out = scratch.join("crate");
            cpio_crate(directory, File::create(&out)?)?;
            size(&out)
        }),
    });
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
        if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: {program}");
            continue;
        }
        all.push(Contestant {
            name,
            run: Box::new(move || {
                let out = scratch.join("tool");
                let status = Command::new(program)
                    .args(arguments)
                    .current_dir(directory)
                    .stdin(File::open(scratch.join("names"))?)
                    .stdout(File::create(&out)?)
                    .status()?;
                if !status.success() {
                    return Err(format!("{program}: {status}").into());
                }
                size(&out)
            }),
        });
    }
    Ok(all)
}

/// What the `cpio` crate offers: entries one after the other, each its own file.
fn cpio_crate(directory: &Path, file: File) -> Outcome<()> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    let mut out = io::BufWriter::with_capacity(128 * 1024, file);
    let mut failure = None;
    walk(directory, &mut |path| {
        let mut add = || -> Outcome<()> {
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
fn programs() -> Outcome<Vec<PathBuf>> {
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

fn closures(programs: &[PathBuf]) -> Vec<Contestant<'_>> {
    vec![
        Contestant {
            name: "kiln-initramfs",
            run: Box::new(move || {
                let mut options = Options::default();
                if let Some(level) = X86Level::of_this_machine() {
                    options.hwcaps = Hwcaps::up_to(level);
                }
                let closure = Resolver::new(options)?.closure(programs)?;
                Ok(format!("{} files", closure.files.len()))
            }),
        },
        Contestant {
            name: "lddtree crate",
            run: Box::new(move || {
                let mut union = BTreeSet::new();
                for program in programs {
                    let analyzer = lddtree::DependencyAnalyzer::default();
                    let tree = analyzer.analyze(program)?;
                    union.extend(tree.libraries.into_values().filter_map(|found| found.realpath));
                }
                Ok(format!("{} libraries", union.len()))
            }),
        },
        Contestant {
            name: "ld.so --list per file",
            run: Box::new(move || {
                let mut union = BTreeSet::new();
                for program in programs {
                    let output = Command::new("/lib64/ld-linux-x86-64.so.2")
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
            }),
        },
    ]
}

fn contest(contestants: &[Contestant<'_>], rounds: usize) -> Outcome<Vec<Figures>> {
    let mut figures: Vec<Figures> = contestants.iter().map(|_| Figures::default()).collect();
    // The first round warms the caches and does not count.
    for round in 0..=rounds {
        for (contestant, figures) in contestants.iter().zip(&mut figures) {
            let (start, cpu) = (Instant::now(), cpu_seconds()?);
            figures.result =
                (contestant.run)().map_err(|error| format!("{}: {error}", contestant.name))?;
            if round > 0 {
                figures.wall.push(start.elapsed().as_secs_f64());
                figures.cpu.push(cpu_seconds()? - cpu);
            }
        }
    }
    Ok(figures)
}

/// User and system time of this process and the children it has waited for (`proc(5)`, ticks of
/// 10 ms; `schedstat` is finer for ourselves and used where there were no children).
fn cpu_seconds() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| -> f64 {
        fields.get(index).and_then(|field| field.parse().ok()).unwrap_or(0.0)
    };
    let children = ticks(13) + ticks(14);
    let own = fs::read_to_string("/proc/self/schedstat")?;
    let own: f64 = own.split_whitespace().next().unwrap_or("0").parse()?;
    Ok(own / 1e9 + children / 100.0)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 }
}

fn table(
    title: &str,
    contestants: &[Contestant<'_>],
    figures: &[Figures],
    rounds: usize,
    report: &mut serde_json::Map<String, serde_json::Value>,
) {
    println!("\n### {title} (n = {rounds}, medians)\n");
    println!("| who | CPU s | × | wall s | × | result |\n|---|---|---|---|---|---|");
    let ours = figures.first().map(|first| (median(&first.cpu), median(&first.wall)));
    let (our_cpu, our_wall) = ours.unwrap_or((f64::NAN, f64::NAN));
    let mut rows = Vec::new();
    for (contestant, figures) in contestants.iter().zip(figures) {
        let (cpu, wall) = (median(&figures.cpu), median(&figures.wall));
        let (name, result) = (contestant.name, &figures.result);
        println!(
            "| {name} | {cpu:.3} | {:.1} | {wall:.3} | {:.1} | {result} |",
            cpu / our_cpu,
            wall / our_wall
        );
        rows.push(serde_json::json!({
            "name": name, "cpu": cpu, "wall": wall, "result": result,
            "cpu_all": figures.cpu, "wall_all": figures.wall,
        }));
    }
    report.insert(title.into(), serde_json::json!({ "rounds": rounds, "contestants": rows }));
}
