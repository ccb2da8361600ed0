//! Images: ours beside umoci, skopeo and podman.
//!
//! An image of five layers with 20,000 files and about 200 MB is made, whose upper layers take files
//! away, replace them, and give them further names; with gzip and with zstd (which Debian 12's umoci
//! does not read). It is unpacked by programs of their own: our example `unpack`, `umoci unpack`, and
//! for an archive of `docker save` skopeo and umoci one after the other, since umoci reads layouts
//! alone. umoci besides writes a list of all files with their digests, which `umoci repack` compares
//! with; podman keeps each layer for itself, and what it keeps is not put together before a container
//! starts. Ours checks both digests of each layer, as theirs do. As somebody else than root nobody gets
//! owners from the image. Then an image is built of a directory: our example `pack`, and `umoci insert`.
//! Directories are removed between the measured times.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::noise::Noise;
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, spent, take_turns};
use kiln_benches::{Result, machine, peak};
use kiln_oci::{Compression, Difference, Image, Layer, Layout, Limits, Settings, docker};
use kiln_tree::{Kind, Node, Tree, TreePath};

/// Images unpacked and built beside umoci, skopeo and podman
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<5>,
    /// Where to work, about 2 GiB; best a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Build an image of this directory too
    #[arg(long)]
    tree: Option<PathBuf>,
    /// Measure only what has this in its name: `unpack`, `build`
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("oci", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let n = arguments.common.n;
    // podman makes a name of the path, which has to be in small letters.
    let name = format!("kiln-oci-{}", std::process::id());
    let work = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(&arguments.dir)?;
    let place = Place { dir: work.path().into(), root: nix::unistd::geteuid().is_root() };
    fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o777))?;
    let trees = trees()?;
    for (name, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
        let image = image(&trees, compression)?;
        let bytes: u64 = image.layers.iter().map(|layer| layer.descriptor.size()).sum();
        let (layers, last) = (image.layers.len(), trees.last().ok_or("no tree")?);
        let (files, content) = (last.len(), last.content_len());
        println!(
            "{name}: {layers} layers with {bytes} bytes; {files} entries with {content} bytes"
        );
        Layout::create(place.at(name), Limits::default())?.add(&image, Some("a"))?;
        if name == "gzip" {
            let tagged = [(vec!["a:1".to_owned()], &image)];
            let file = std::io::BufWriter::new(fs::File::create(place.at("docker.tar"))?);
            docker::write(file, &tagged, docker::Form::Legacy)?
                .into_inner()
                .map_err(|error| error.into_error())?;
        }
    }
    drop(trees);

    let umoci = machine::are_installed(&["umoci"]);
    let skopeo = machine::are_installed(&["skopeo"]);
    let podman = machine::are_installed(&["podman"]) && place.root;
    let mut report = Report::new();
    let mut contest = |what: &str, ways: &[Way]| -> Result<()> {
        if !what.contains(&arguments.only) {
            return Ok(());
        }
        let one = |way: &'static str, run: &Run| {
            let (place, run) = (&place, *run);
            Contender::new(way, move || {
                let spent = spent(|| place.run(run, None).map(drop));
                place.clean()?;
                spent
            })
        };
        report.spent(what, n, ways.iter().map(|(who, run)| one(who, run)).collect())?;
        let one = |way: &'static str, run: &Run| {
            let (place, run) = (&place, *run);
            Contender::new(way, move || {
                let mut highest = 0.0;
                place.run(run, Some(&mut highest))?;
                place.clean()?;
                Ok(highest)
            })
        };
        let mut turns: Vec<_> = ways.iter().map(|(who, run)| one(who, run)).collect();
        let samples = take_turns(n, &mut turns)?;
        report.contest(&format!("{what}: memory"), Unit::Mebibytes, &turns, samples);
        Ok(())
    };
    let gzip = [
        ("kiln-oci", Run::Unpack { from: "gzip", rootless: false }),
        ("umoci", Run::Umoci { rootless: false }),
        ("podman pull", Run::Podman { from: "gzip" }),
    ];
    let has = |who: &str| match who {
        "umoci" => umoci,
        "skopeo and umoci" => umoci && skopeo,
        "podman pull" => podman,
        _ => true,
    };
    let there = |ways: &[Way]| ways.iter().filter(|way| has(way.0)).copied().collect::<Vec<_>>();
    if place.root {
        contest("unpack, gzip, as root", &there(&gzip))?;
        let zstd = [
            ("kiln-oci", Run::Unpack { from: "zstd", rootless: false }),
            ("podman pull", Run::Podman { from: "zstd" }),
        ];
        contest("unpack, zstd, as root", &there(&zstd))?;
    }
    let rootless = [
        ("kiln-oci", Run::Unpack { from: "gzip", rootless: true }),
        ("umoci", Run::Umoci { rootless: true }),
    ];
    contest("unpack, gzip, not as root", &there(&rootless))?;
    let docker = [
        ("kiln-oci", Run::Unpack { from: "docker.tar", rootless: false }),
        ("skopeo and umoci", Run::SkopeoUmoci),
    ];
    contest("unpack an archive of docker save", &there(&docker))?;

    // What is built is what was unpacked.
    place.unpack("gzip", "tree", false, None)?;
    let build = [("kiln-oci", Run::Pack), ("umoci", Run::UmociInsert)];
    let given = arguments.tree.as_deref();
    for from in [None, given].into_iter().take(if given.is_some() { 2 } else { 1 }) {
        let what = from.map_or_else(
            || "build, gzip".into(),
            |from| format!("build, gzip, {}", from.display()),
        );
        if let Some(from) = from {
            fs::remove_dir_all(place.at("tree"))?;
            machine::run("cp", |it| it.arg("-a").arg(from).arg(place.at("tree")))?;
        }
        contest(&what, &there(&build))?;
        for (who, run) in there(&build) {
            place.run(run, None)?;
            println!("{what}: {who} makes {} bytes", blobs(&place.at("out/layout"))?);
            place.clean()?;
        }
    }
    Ok(report)
}

type Way = (&'static str, Run);

/// Something that is measured.
#[derive(Debug, Clone, Copy)]
enum Run {
    Unpack { from: &'static str, rootless: bool },
    Umoci { rootless: bool },
    SkopeoUmoci,
    Podman { from: &'static str },
    Pack,
    UmociInsert,
}

/// Where the images are, and everything else.
struct Place {
    dir: PathBuf,
    root: bool,
}

impl Place {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Does it, in `out`; with a place for it, finds out the most memory that a program held.
    fn run(&self, run: Run, memory: Option<&mut f64>) -> Result<()> {
        let out = self.at("out");
        fs::create_dir_all(&out)?;
        fs::set_permissions(&out, fs::Permissions::from_mode(0o777))?;
        match run {
            Run::Unpack { from, rootless } => self.unpack(from, "out/root", rootless, memory),
            Run::Umoci { rootless } => self.umoci("gzip:a", rootless, memory),
            Run::SkopeoUmoci => {
                let mut highest = 0.0;
                let mut command = machine::command("skopeo");
                command.args(["--insecure-policy", "--tmpdir"]).arg(&out).arg("copy");
                command.arg(format!("docker-archive:{}", self.at("docker.tar").display()));
                command.arg(format!("oci:{}:a", self.at("out/layout").display()));
                let wanted = memory.is_some();
                go(command, wanted.then_some(&mut highest))?;
                let mut second = 0.0;
                self.umoci("out/layout:a", false, wanted.then_some(&mut second))?;
                if let Some(memory) = memory {
                    *memory = highest.max(second);
                }
                Ok(())
            }
            Run::Podman { from } => {
                let mut command = self.podman();
                command.args(["pull", "--quiet"]);
                command.arg(format!("oci:{}:a", self.at(from).display()));
                go(command, memory)
            }
            Run::Pack => {
                let mut command = Command::new(machine::example("kiln-oci", "pack")?);
                command.arg(self.at("tree")).arg(self.at("out/layout")).arg("a");
                go(command, memory)
            }
            Run::UmociInsert => {
                let layout = self.at("out/layout").display().to_string();
                let image = format!("{layout}:a");
                machine::run("umoci", |it| it.args(["init", "--layout", &layout]))?;
                machine::run("umoci", |it| it.args(["new", "--image", &image]))?;
                let mut command = machine::command("umoci");
                command.args(["insert", "--image", &image]).arg(self.at("tree")).arg("/");
                go(command, memory)
            }
        }
    }

    fn unpack(&self, from: &str, to: &str, rootless: bool, memory: Option<&mut f64>) -> Result<()> {
        let program = machine::example("kiln-oci", "unpack")?;
        let mut command = self.as_whom(rootless, &program);
        let name = if from.ends_with(".tar") { "a:1" } else { "a" };
        command.arg(self.at(from)).arg(name).arg(self.at(to));
        go(command, memory)
    }

    fn umoci(&self, image: &str, rootless: bool, memory: Option<&mut f64>) -> Result<()> {
        let program = machine::find_program("umoci").ok_or("no umoci")?;
        let mut command = self.as_whom(rootless, &program);
        command.arg("unpack");
        if rootless {
            command.arg("--rootless");
        }
        command.arg("--image").arg(self.at(image)).arg(self.at("out/bundle"));
        go(command, memory)
    }

    /// A program, as nobody where that is asked for and can be.
    fn as_whom(&self, rootless: bool, program: &Path) -> Command {
        if !rootless || !self.root {
            return Command::new(program);
        }
        let mut command = machine::command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command
    }

    fn podman(&self) -> Command {
        let mut command = machine::command("podman");
        command.arg("--root").arg(self.at("out/storage"));
        command.arg("--runroot").arg(self.at("out/run"));
        command.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]);
        command
    }

    /// Takes away what a run has made.
    fn clean(&self) -> Result<()> {
        let storage = self.at("out/storage/overlay");
        if storage.is_dir() {
            // It may be mounted over itself.
            let mut command = machine::command("umount");
            command.arg(&storage).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        }
        Ok(fs::remove_dir_all(self.at("out"))?)
    }
}

/// Runs a program, quietly.
fn go(mut command: Command, memory: Option<&mut f64>) -> Result<()> {
    if let Some(memory) = memory {
        command.stderr(Stdio::null());
        *memory = peak::mebibytes(command)?;
        return Ok(());
    }
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

fn blobs(layout: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(layout.join("blobs/sha256"))? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum)
}

/// What the image is after each layer.
fn trees() -> Result<Vec<Tree>> {
    let mut noise = Noise::default();
    let mut tree = Tree::new();
    let mut trees = Vec::new();
    for (layer, count) in [12_000_usize, 4_000, 2_500, 2_000, 1_500].into_iter().enumerate() {
        if layer > 0 {
            // Of what is there something goes, and something gets another name or content.
            let files: Vec<TreePath> = tree
                .iter()
                .filter(|(_, node)| !node.is_directory())
                .map(|(path, _)| path.clone())
                .collect();
            let named: BTreeSet<TreePath> = tree
                .iter()
                .filter_map(|(_, node)| match &node.kind {
                    Kind::Hardlink(target) => Some(target.clone()),
                    _ => None,
                })
                .collect();
            for path in files.iter().skip(layer).step_by(32) {
                if !named.contains(path) {
                    tree.remove(path);
                }
            }
            for (at, path) in files.iter().enumerate().skip(layer + 10).step_by(40) {
                if tree.contains(path.as_bytes()) && is_file(&tree, path) {
                    let name = format!("usr/share/names/{layer}/{at}");
                    tree.insert(name, Node::hardlink(path.clone()))?;
                }
            }
        }
        for number in 0..count {
            let (group, file) = (number / 100, number % 100);
            let path =
                format!("usr/lib/layer-{layer}/group-{group}/part-{}/file-{file}", file / 20);
            let len = match file {
                0 => 200_000,
                1..=9 => 30_000,
                99 => 0,
                _ => 4_000 + usize::try_from(noise.number() % 2_000)?,
            };
            let bytes =
                if number.is_multiple_of(2) { noise.text(len) } else { noise.sparse_words(len) };
            if number.is_multiple_of(50) {
                tree.insert(format!("{path}.link"), Node::symlink(format!("file-{file}")))?;
            }
            let node = if file % 7 == 3 { Node::executable(bytes) } else { Node::file(bytes) };
            tree.insert(path, node)?;
        }
        trees.push(tree.clone());
    }
    Ok(trees)
}

fn is_file(tree: &Tree, path: &TreePath) -> bool {
    tree.get(path).is_some_and(|node| matches!(node.kind, Kind::File(_)))
}

fn image(trees: &[Tree], compression: Compression) -> Result<Image> {
    let mut lower = Tree::new();
    let mut layers = Vec::new();
    for tree in trees {
        let difference = Difference::between(&lower, tree)?;
        layers.push(Layer::pack_difference(&difference, compression)?);
        lower = tree.clone();
    }
    Ok(Image::build(layers, &Settings::default())?)
}
