//! The Kurma-like system under test: built by its own steps, with what an OEM says, and asked by its own
//! command.

mod life;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kiln::definition::Format;
use kiln::pipeline::Options;
use kiln::sign::Key;
use kiln::{Cache, Progress, cache, debian};
use kiln_diskimg::slots::Release;
use kiln_oci::Compression;
use kiln_oci::appc::{self, App, ImageManifest};
use kiln_tree::{Node, Tree};
use kurma::build::{self, Choices};

pub use life::{Life, enrolled, port, replaced};

use crate::LONG;

/// The port of the interface over the network.
pub const API: u16 = 12312;
/// The system's second version.
pub const SECOND: &str = "v0.2.0";
/// Below a test's directory: who became known first.
const OPERATOR: &str = "operator";

/// What the steps have made.
#[derive(Debug)]
pub struct System {
    /// Where all of it is.
    pub out: PathBuf,
    /// The second version, signed.
    pub second: PathBuf,
    key: PathBuf,
}

/// The system and its second version, built once.
///
/// # Errors
/// When they cannot be built.
pub fn system() -> Result<&'static System> {
    static BUILT: OnceLock<Result<System, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| System::build().map_err(|error| format!("{error:#}")));
    built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

impl System {
    fn build() -> Result<Self> {
        let home = cache::workspace_root().join("target/e2e/kurma");
        fs::create_dir_all(&home)?;
        let key = home.join("release.key");
        if !key.exists() {
            Key::make(&key)?;
        }
        let mut choices = Choices::default();
        choices.key = Some(key.clone());
        let (out, progress) = (home.join("first"), Progress::on_stderr());
        build::pipeline(&choices)?.run(&["cli", "disk"], &out, &Options::default(), &progress)?;
        // the same parts, put together as another version
        choices.version = Some(SECOND.into());
        let mut options = Options::default();
        for (step, file) in [
            ("kernel", "kernel.deb"),
            ("cli", "kurma-cli-linux-amd64.tar.gz"),
            ("console", "console.aci"),
            ("kurma-api", "kurma-api.aci"),
            ("ntp", "ntp.aci"),
            ("udev", "udev.aci"),
        ] {
            options.supplied.insert(step.into(), out.join(file));
        }
        let second = home.join("second");
        build::pipeline(&choices)?.run(&["init"], &second, &options, &progress)?;
        unpack(&out.join("kurma-cli-linux-amd64.tar.gz"), &out)?;
        Ok(Self { out, second: second.join("kurma-init.tar"), key })
    }

    /// The first version, as an archive that is signed.
    #[must_use]
    pub fn first(&self) -> PathBuf {
        self.out.join("kurma-init.tar")
    }

    /// A disk with files of an OEM's, larger than it was made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn disk(&self, oem: &Path, path: &Path) -> Result<()> {
        let file = cache::workspace_root().join("examples/kurma/image.toml");
        let definition = kiln::definition::Definition::read(&file)?;
        let options = kiln::build::Options::default();
        let (from, files) = (self.out.join("kurma.raw"), Some(("OEM", oem)));
        kiln::build::convert(&definition, &from, files, Format::Raw, &options, path)?;
        fs::OpenOptions::new().write(true).open(path)?.set_len(3 << 30)?;
        Ok(())
    }

    /// The second version by another number and with words more on its command line, signed by this system's
    /// key, or by somebody else's.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn other(
        &self,
        version: &str,
        words: &str,
        key: Option<&Path>,
        directory: &Path,
    ) -> Result<PathBuf> {
        let parts = directory.join(version);
        unpack(&self.second, &parts)?;
        let mut release = Release::parse(&fs::read(parts.join("release"))?)?;
        version.clone_into(&mut release.version);
        release.command_line += &format!(" {words}");
        let text = release.to_string();
        let key = Key::read(key.unwrap_or(&self.key))?;
        fs::write(parts.join("release"), &text)?;
        fs::write(parts.join("release.sig"), key.sign(text.as_bytes()))?;
        let path = directory.join(format!("{version}.tar"));
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(&path).arg("-C").arg(&parts);
        succeeded(&tar.args(["release", "release.sig", "vmlinuz", "initramfs"]).output()?)?;
        fs::remove_dir_all(&parts)?;
        Ok(path)
    }
}

fn unpack(archive: &Path, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mut tar = Command::new("tar");
    succeeded(&tar.arg("-xf").arg(archive).arg("-C").arg(directory).output()?).map(drop)
}

fn succeeded(output: &Output) -> Result<String> {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "{}: {}", output.status, said(&output.stderr).trim());
    Ok(said(&output.stdout))
}

/// Makes an image of busybox that serves a file.
///
/// # Errors
/// When it cannot be made.
pub fn web(path: &Path) -> Result<()> {
    let mut app =
        App::new(["/bin/httpd", "-f", "-p", "80", "-h", "/www"].map(str::to_owned).to_vec());
    app.working_directory = Some("/www".into());
    let mut manifest = ImageManifest::new("example.com/web".parse()?);
    manifest.app = Some(app);
    let root = debian::sysroot(&Cache::of_workspace(), &["busybox-static"])?;
    let busybox =
        fs::read(root.join("usr/bin/busybox")).or_else(|_| fs::read(root.join("bin/busybox")))?;
    let mut tree = Tree::new();
    tree.insert("bin/busybox", Node::executable(busybox))?;
    for name in ["cat", "httpd", "nc", "sh", "wget"] {
        tree.insert(format!("bin/{name}").as_str(), Node::symlink("busybox"))?;
    }
    tree.insert("www/index.html", Node::file("served by a pod\n"))?;
    tree.insert("etc/passwd", Node::file("root:x:0:0::/:/bin/sh\n"))?;
    tree.insert("etc/group", Node::file("root:x:0:\n"))?;
    let (bytes, _) = appc::write(&manifest, &tree, Compression::Gzip, Vec::new())?;
    Ok(cache::write_file(path, &bytes)?)
}

/// The command on this host, as somebody.
#[derive(Debug)]
pub struct Cli {
    program: PathBuf,
    home: PathBuf,
    host: String,
}

impl Cli {
    /// Somebody whose files are in a directory, who asks at a port of this host.
    #[must_use]
    pub fn new(system: &System, home: &Path, port: u16) -> Self {
        let host = format!("https://127.0.0.1:{port}");
        Self { program: system.out.join("kurma"), home: home.into(), host }
    }

    /// Somebody who became known at another port of this host.
    ///
    /// # Errors
    /// When nobody did.
    pub fn known(system: &System, place: &Path, port: u16) -> Result<Self> {
        let cli = Self::new(system, &place.join(OPERATOR), port);
        let mut entries = fs::read_dir(&cli.home)?;
        let own = cli.host.trim_start_matches("https://").replace(':', "_");
        fs::rename(entries.next().context("nobody is known")??.path(), cli.home.join(own))?;
        Ok(cli)
    }

    fn output(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.env("KURMA_CONFIG", &self.home).env("KURMA_HOST", &self.host).args(words);
        command.output().with_context(|| self.program.display().to_string())
    }

    /// What the command says, if it succeeds.
    ///
    /// # Errors
    /// What it says if not.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        succeeded(&self.output(words)?).with_context(|| format!("kurma {}", words.join(" ")))
    }

    /// What the command says against something.
    ///
    /// # Errors
    /// When it does not.
    pub fn refused(&self, words: &[&str]) -> Result<String> {
        match succeeded(&self.output(words)?) {
            Ok(said) => bail!("kurma {} was not refused: {said}", words.join(" ")),
            Err(error) => Ok(error.to_string()),
        }
    }

    /// Becomes known to the server by a code.
    ///
    /// # Errors
    /// When it does not.
    pub fn enroll(&self, code: &str) -> Result<String> {
        self.run(&["enroll", &self.host, "--code", code, "--name", "tester"])
    }

    /// What becomes of somebody with a wrong code.
    ///
    /// # Errors
    /// When it is taken.
    pub fn not_enrolled(&self, code: &str) -> Result<String> {
        self.refused(&["enroll", &self.host, "--code", code])
    }

    /// Asks again until what is said is as it should be.
    ///
    /// # Errors
    /// After [`LONG`], with what was said last.
    pub fn until(&self, words: &[&str], expected: &str) -> Result<String> {
        let deadline = Instant::now() + LONG;
        loop {
            let said = self.run(words);
            match said {
                Ok(said) if said.contains(expected) => return Ok(said),
                said if Instant::now() > deadline => {
                    bail!("kurma {}: no {expected:?} in {said:?}", words.join(" "));
                }
                _ => std::thread::sleep(Duration::from_millis(300)),
            }
        }
    }
}
