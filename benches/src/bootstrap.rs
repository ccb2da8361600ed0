//! What people make a root directory of Debian packages with, and choose files of it: mmdebstrap, cpio.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Result, machine};

/// From `root` to `tree`, both below the working directory, with the files that are listed in `files`
/// (paths from `/`) and those of `add` over them. `/usr` is merged first, as it is in every image.
pub const TREE: &str = r"rm -rf tree
mkdir tree
cd root
for name in bin sbin lib lib64; do
  if [ ! -L $name ]; then
    mkdir -p usr/$name
    cp -al $name/. usr/$name/
    rm -r $name
    ln -s usr/$name $name
  fi
done
# What is in no package comes after it.
cpio --quiet -pdm ../tree < ../files 2> /dev/null || true
cd ..
cp -a add/. tree/
";

/// Packages that are kept, and the root directory that is made of them.
#[derive(Debug)]
pub struct Root {
    directory: PathBuf,
    /// Whether the archive's lists are kept too, below `lists`, and not asked for again. Default: no.
    pub keeps_lists: bool,
}

impl Root {
    /// Below a directory: `root`, and `debs` with the packages.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn below(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory.join("debs"))?;
        Ok(Self { directory: directory.to_owned(), keeps_lists: false })
    }

    /// Forgets the packages.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn forget(&self) -> Result<()> {
        fs::remove_dir_all(self.directory.join("debs"))?;
        Ok(fs::create_dir(self.directory.join("debs"))?)
    }

    /// Makes the directory of packages (names with commas), downloaded unless they are kept. The host's
    /// own sources and proxies are used.
    ///
    /// # Errors
    /// mmdebstrap fails, with what it said last.
    pub fn bootstrap(&self, packages: &str) -> Result<()> {
        let debs = self.directory.join("debs");
        let root = self.directory.join("root");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        let mut command = machine::command("mmdebstrap");
        command.args(["--variant=extract", "--quiet", "--mode=root"]);
        command.args(["--skip=download/empty", "--skip=essential/unlink"]);
        command.arg(format!("--include={packages}"));
        for entry in fs::read_dir("/etc/apt/apt.conf.d")?.filter_map(std::result::Result::ok) {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            if text.contains("Proxy") || text.contains("Acquire::http") {
                command.arg(format!("--aptopt={}", entry.path().display()));
            }
        }
        let debs = debs.display();
        command.arg("--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives");
        command.arg(format!("--setup-hook=sync-in {debs} /var/cache/apt/archives"));
        command.arg(format!("--extract-hook=sync-out /var/cache/apt/archives {debs}"));
        if self.keeps_lists {
            let lists = self.directory.join("lists");
            let (has, lists) = (lists.is_dir(), lists.display());
            let place = "/var/lib/apt/lists";
            if has {
                command.arg("--skip=update");
                command.arg(format!("--setup-hook=sync-in {lists} {place}"));
            } else {
                command.arg(format!("--extract-hook=mkdir -p {lists}"));
                command.arg(format!("--extract-hook=sync-out {place} {lists}"));
            }
        }
        command.arg("bookworm").arg(&root);
        command.args(sources());
        run(&mut command)
    }
}

/// Where the host gets Debian's packages from.
#[must_use]
pub fn sources() -> Vec<&'static Path> {
    let all = ["/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"];
    all.into_iter().map(Path::new).filter(|path| path.is_file()).collect()
}

/// Runs a program to its end.
///
/// # Errors
/// It cannot be started; it fails, with the last lines that it said.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(5).collect();
    Err(format!("{command:?}: {}: {}", output.status, last.join(" | ")).into())
}
