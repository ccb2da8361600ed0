//! Disk images: ours beside mkfs.vfat + mcopy, the fatfs crate, qemu-img and sfdisk + dd.
//!
//! Every round runs each contender once, so that a change of the machine's load hits all of them.
//! Figures are medians of wall time; `ratio` is the contender's median over ours.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::fat::{Options, Volume, VolumeSize};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{ByteLen, DiskPlan, Layout, Limits, Partition, Seed, Table};
use kiln_tree::{Tree, host};

type Failure = Box<dyn std::error::Error>;
type Contender<'run> = (&'static str, Box<dyn Fn() -> Result<(), Failure> + 'run>);

/// Runs ours and the peers, and prints medians and ratios.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Rounds of the fatfs crate with many files, which takes most of a minute each.
    #[arg(long, default_value_t = 1)]
    slow_rounds: usize,
    /// Where to work, about 1 GiB; best a tmpfs.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Also write the rows as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let dir = dir.path();
    let mut bench = Bench { rounds: arguments.rounds, rows: Vec::new() };

    let (big, many) = (dir.join("big"), dir.join("many"));
    fill(&big, 1, 4, 25_000_000)?;
    fill(&many, 80, 100, 16_000)?;
    for (name, from, slow) in [
        ("FAT32 256 MiB, 4 files of 25 MB", &big, arguments.rounds),
        ("FAT32 256 MiB, 8000 files of 16 kB", &many, arguments.slow_rounds),
    ] {
        let out = |name: &str| dir.join(name);
        bench.group(
            name,
            vec![
                ("kiln-diskimg", Box::new(|| ours_fat(from, &out("ours")))),
                ("mkfs.vfat + mcopy", Box::new(|| mtools_fat(from, &out("mtools"), 256))),
            ],
        )?;
        // The fatfs crate on its own: it takes so long that its rounds would outweigh the others.
        bench.alone("fatfs 0.3.6", slow, &|| fatfs_fat(from, &out("fatfs")))?;
        for leftover in ["ours", "mtools", "fatfs"] {
            let _ = fs::remove_file(out(leftover));
        }
    }

    let raw = dir.join("disk.raw");
    let layout = disk(&big)?;
    container::write_file(Format::Raw, &layout, &raw)?;
    for format in [Format::Qcow2, Format::Vmdk] {
        let (ours, theirs) = (dir.join("ours"), dir.join("theirs"));
        bench.group(
            match format {
                Format::Qcow2 => "qcow2 of a 1 GiB disk with 100 MB",
                _ => "vmdk of a 1 GiB disk with 100 MB",
            },
            vec![
                (
                    "kiln-diskimg, from the tree",
                    Box::new(|| Ok(container::write_file(format, &disk(&big)?, &ours)?)),
                ),
                ("kiln-diskimg, from raw", Box::new(|| convert(&raw, format, &ours))),
                (
                    "qemu-img convert",
                    Box::new(|| {
                        tool("qemu-img", |it| {
                            it.args(["convert", "-f", "raw", "-O", format.name()])
                                .arg(&raw)
                                .arg(&theirs)
                        })
                    }),
                ),
            ],
        )?;
        fs::remove_file(&ours)?;
        fs::remove_file(&theirs)?;
    }

    let (ours, theirs) = (dir.join("ours"), dir.join("theirs"));
    bench.group(
        "GPT + FAT32 of 256 MiB in a 1 GiB raw disk, 100 MB",
        vec![
            (
                "kiln-diskimg",
                Box::new(|| Ok(container::write_file(Format::Raw, &disk(&big)?, &ours)?)),
            ),
            ("sfdisk + mkfs.vfat + mcopy + dd", Box::new(|| plain_disk(&big, dir, &theirs))),
        ],
    )?;
    bench.print();
    if let Some(path) = arguments.json {
        fs::write(path, serde_json::to_string_pretty(&bench.json())?)?;
    }
    Ok(())
}

struct Row {
    group: String,
    name: &'static str,
    times: Vec<Duration>,
}

struct Bench {
    rounds: usize,
    rows: Vec<Row>,
}

impl Bench {
    fn group(&mut self, group: &str, contenders: Vec<Contender<'_>>) -> Result<(), Failure> {
        let mut times = vec![Vec::new(); contenders.len()];
        for _ in 0..self.rounds {
            for ((_, run), times) in contenders.iter().zip(&mut times) {
                let start = Instant::now();
                run()?;
                times.push(start.elapsed());
            }
        }
        for ((name, _), times) in contenders.iter().zip(times) {
            self.rows.push(Row { group: group.to_owned(), name, times });
        }
        Ok(())
    }

    /// A further contender of the last group.
    fn alone(
        &mut self,
        name: &'static str,
        rounds: usize,
        run: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let start = Instant::now();
            run()?;
            times.push(start.elapsed());
        }
        let group = self.rows.last().map_or_else(String::new, |row| row.group.clone());
        if !times.is_empty() {
            self.rows.push(Row { group, name, times });
        }
        Ok(())
    }

    /// Each row with its median in seconds and its ratio to the first of its group.
    fn figures(&self) -> Vec<(&Row, f64, f64)> {
        self.rows
            .iter()
            .map(|row| {
                let first = self.rows.iter().find(|other| other.group == row.group);
                let ours = first.map_or(f64::NAN, |first| median(&first.times));
                (row, median(&row.times), median(&row.times) / ours)
            })
            .collect()
    }

    fn print(&self) {
        let mut group = "";
        for (row, median, ratio) in self.figures() {
            if row.group != group {
                group = &row.group;
                println!("{group}");
            }
            let (name, n) = (row.name, row.times.len());
            println!("  {name:<34} {median:>9.3} s  {ratio:>7.2}x  n={n}");
        }
    }

    fn json(&self) -> serde_json::Value {
        self.figures()
            .into_iter()
            .map(|(row, median, ratio)| {
                serde_json::json!({
                    "group": row.group, "name": row.name, "n": row.times.len(),
                    "median_s": median, "ratio": ratio,
                    "times_s": row.times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
                })
            })
            .collect()
    }
}

fn median(times: &[Duration]) -> f64 {
    let mut times: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Fills directories with files of bytes that do not compress and are nowhere zero for long.
fn fill(dir: &Path, directories: usize, files: usize, len: usize) -> Result<(), Failure> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for directory in 0..directories {
        let dir = dir.join(format!("directory {directory}"));
        fs::create_dir_all(&dir)?;
        for file in 0..files {
            let mut bytes = Vec::with_capacity(len + 8);
            while bytes.len() < len {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend_from_slice(&state.to_le_bytes());
            }
            bytes.truncate(len);
            fs::write(dir.join(format!("kernel-module-{file}.ko")), bytes)?;
        }
    }
    Ok(())
}

fn volume(from: &Path) -> Result<Volume, Failure> {
    let mut tree = Tree::new();
    host::import(&mut tree, from, "", &host::Policy::default())?;
    let mut options = Options::default();
    options.size = VolumeSize::Fixed(ByteLen::mib(256));
    options.cluster = Some(512);
    Ok(Volume::plan(&tree, &options)?)
}

fn disk(from: &Path) -> Result<Layout, Failure> {
    let partition = Partition::new("esp", PartitionType::EFI_SYSTEM, volume(from)?);
    let mut plan = DiskPlan::new(Table::Gpt, Seed::new("bench")).with(partition);
    plan.size = Some(ByteLen::gib(1));
    Ok(plan.layout()?)
}

fn ours_fat(from: &Path, out: &Path) -> Result<(), Failure> {
    Ok(container::write_file(Format::Raw, &volume(from)?, out)?)
}

fn convert(raw: &Path, format: Format, out: &Path) -> Result<(), Failure> {
    let mut image = container::open(File::open(raw)?, &Limits::default())?;
    container::convert(&mut image, format, File::create(out)?)?;
    Ok(())
}

fn mtools_fat(from: &Path, out: &Path, mib: u64) -> Result<(), Failure> {
    let _ = fs::remove_file(out);
    File::create(out)?.set_len(mib << 20)?;
    tool("mkfs.vfat", |it| it.args(["-F", "32", "-s", "1", "-h", "2048"]).arg(out))?;
    let mut names: Vec<PathBuf> =
        fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    names.sort();
    tool("mcopy", |it| it.args(["-s", "-Q", "-i"]).arg(out).args(names).arg("::"))
}

fn fatfs_fat(from: &Path, out: &Path) -> Result<(), Failure> {
    let _ = fs::remove_file(out);
    let mut file = File::options().read(true).write(true).create_new(true).open(out)?;
    file.set_len(256 << 20)?;
    let format =
        fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32).bytes_per_cluster(512);
    fatfs::format_volume(&mut file, format)?;
    let disk = fatfs::FileSystem::new(file, fatfs::FsOptions::new())?;
    for directory in fs::read_dir(from)? {
        let directory = directory?;
        let name = directory.file_name().to_string_lossy().into_owned();
        let target = disk.root_dir().create_dir(&name)?;
        for file in fs::read_dir(directory.path())? {
            let file = file?;
            let bytes = fs::read(file.path())?;
            target.create_file(&file.file_name().to_string_lossy())?.write_all(&bytes)?;
        }
    }
    disk.unmount()?;
    Ok(())
}

fn plain_disk(from: &Path, dir: &Path, out: &Path) -> Result<(), Failure> {
    let _ = fs::remove_file(out);
    File::create(out)?.set_len(1 << 30)?;
    let mut child = Command::new("sfdisk")
        .env("PATH", path())
        .arg("-q")
        .arg(out)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(b"label: gpt\nstart=2048, size=524288, type=U, name=esp\n")?;
    }
    if !child.wait()?.success() {
        return Err("sfdisk failed".into());
    }
    let esp = dir.join("esp.img");
    mtools_fat(from, &esp, 256)?;
    tool("dd", |it| {
        it.arg(format!("if={}", esp.display())).arg(format!("of={}", out.display())).args([
            "bs=1M",
            "seek=1",
            "conv=notrunc,sparse",
        ])
    })?;
    fs::remove_file(esp)?;
    Ok(())
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin"
}

fn tool(name: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<(), Failure> {
    let mut command = Command::new(name);
    command.env("PATH", path()).env("MTOOLS_SKIP_CHECK", "1");
    let output = arguments(&mut command).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
