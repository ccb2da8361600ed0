//! A copy of the workspace, of which a source can be changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln::guest;

use crate::Result;
use crate::bootstrap::run;

/// What cargo needs of the workspace.
const PARTS: [&str; 10] = [
    ".cargo",
    "Cargo.lock",
    "Cargo.toml",
    "benches",
    "crates",
    "e2e",
    "examples",
    "guest",
    "kiln",
    "xtask",
];
/// What is changed: the name that process 1 has on the console.
const FILE: &str = "examples/kurma/init/src/main.rs";
const LINE: &str = "const NAME: &str = \"kurma\";";

/// The copy, with what is compiled in it.
#[derive(Debug)]
pub struct Source {
    root: PathBuf,
    text: String,
    changes: u32,
}

impl Source {
    /// A copy at `root`. What is there already stays where it is the same, so that cargo knows it again.
    ///
    /// # Errors
    /// What the file system refuses; without the line that is changed.
    pub fn copy(root: &Path) -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = here.parent().unwrap_or(here);
        for part in PARTS {
            same(&workspace.join(part), &root.join(part))?;
        }
        let text = fs::read_to_string(root.join(FILE))?;
        if !text.contains(LINE) {
            return Err(format!("{FILE} has no line {LINE:?} to change").into());
        }
        Ok(Self { root: root.to_owned(), text, changes: 0 })
    }

    /// Where cargo puts its output.
    fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Compiles `kurma` with its builder. It and the programs that it compiles know no other workspace
    /// than the copy.
    ///
    /// # Errors
    /// Those of the compiler.
    pub fn kurma(&self) -> Result<PathBuf> {
        let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--release", "--locked", "--package", "kurma"]);
        build.args(["--features", "build", "--target-dir"]).arg(self.target());
        run(build.current_dir(&self.root))?;
        Ok(self.target().join("release/kurma"))
    }

    /// A program of the copy that is to have its output there.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("CARGO_TARGET_DIR", self.target());
        command
    }

    /// Changes a text of kurma-init: its program is another one afterwards.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn change(&mut self) -> Result<()> {
        self.changes += 1;
        // a bench that ran before has left its programs
        let name = format!("kurma-{}-{}", std::process::id(), self.changes);
        let line = format!("const NAME: &str = \"{name}\";");
        Ok(fs::write(self.root.join(FILE), self.text.replace(LINE, &line))?)
    }

    /// Compiles kurma-init as `kurma build` does, for those who make an image of it without that.
    ///
    /// # Errors
    /// Those of the compiler.
    pub fn init(&self) -> Result<PathBuf> {
        let program = ("kurma-init", "kurma-init");
        let (mut build, file) = guest::compilation(&self.root, &self.target(), program, &[]);
        run(&mut build)?;
        Ok(file)
    }
}

/// Makes a copy the same as a file or directory, and touches nothing that is so already.
fn same(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        let bytes = fs::read(from).map_err(|error| format!("{}: {error}", from.display()))?;
        if fs::read(to).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        return Ok(fs::write(to, bytes)?);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if from.join(entry.file_name()).exists() {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        same(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_and_leaves_what_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/stays"), "1").unwrap();
        fs::write(from.join("a/changes"), "1").unwrap();
        fs::write(from.join("goes"), "1").unwrap();
        same(&from, &to).unwrap();
        let stays = || fs::metadata(to.join("a/b/stays")).unwrap().modified().unwrap();
        let before = stays();
        fs::write(from.join("a/changes"), "2").unwrap();
        fs::remove_file(from.join("goes")).unwrap();
        same(&from, &to).unwrap();
        assert_eq!(stays(), before);
        assert_eq!(fs::read_to_string(to.join("a/changes")).unwrap(), "2");
        assert!(!to.join("goes").exists());
    }

    #[test]
    fn process_1_has_the_line_that_is_changed() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(here.parent().unwrap().join(FILE)).unwrap();
        assert_eq!(text.matches(LINE).count(), 1);
    }
}
