//! GRUB's configuration, and the chain with which distributions' kernels start under Secure Boot.
//!
//! Firmware that trusts Microsoft's certificate starts shim (`shimx64.efi.signed`); shim trusts the
//! distribution's certificate and starts `grubx64.efi` from its own directory; GRUB, as it is signed,
//! knows the directory of its configuration (Debian's: `EFI/debian/grub.cfg` on the partition it was
//! started from) and asks shim about the kernel. Configuration, initramfs and command line are not
//! signed: whoever can write the partition can change them. A signed [unified kernel
//! image](super::uki) has no such gap.

use crate::Result;
use crate::error::Problems;

/// An entry of GRUB's menu that starts a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MenuEntry {
    /// What the menu shows.
    pub title: String,
    /// Its identifier, which [`Config::default`] can name.
    pub id: String,
    /// The kernel, from the root of the partition: `/kiln/vmlinuz`.
    pub linux: String,
    /// Initial file systems in their order.
    pub initrds: Vec<String>,
    /// The kernel's arguments, each one of them: what has a space reaches the kernel in quotes.
    pub arguments: Vec<String>,
}

impl MenuEntry {
    /// An entry without arguments and initial file systems.
    #[must_use]
    pub fn new(title: impl Into<String>, id: impl Into<String>, linux: impl Into<String>) -> Self {
        let (title, id, linux) = (title.into(), id.into(), linux.into());
        Self { title, id, linux, initrds: Vec::new(), arguments: Vec::new() }
    }
}

/// A configuration of GRUB (`grub.cfg`).
#[derive(Debug, Clone, PartialEq, Eq, std::default::Default)]
#[non_exhaustive]
pub struct Config {
    /// The menu, at least one entry.
    pub entries: Vec<MenuEntry>,
    /// Seconds that the menu is shown. Default: 0.
    pub timeout: u32,
    /// The identifier of the entry that is started; the first when absent.
    pub default: Option<String>,
    /// The serial console that GRUB shows its menu on beside the screen: its number and speed.
    pub serial: Option<(u8, u32)>,
    /// A file of the partition with the kernels, by which GRUB looks for it. Without one they are on
    /// the partition that GRUB was started from.
    pub search_file: Option<String>,
}

impl Config {
    /// The text of the file.
    ///
    /// # Errors
    /// [`Error::Plan`](crate::Error::Plan) with everything that GRUB or the kernel would understand
    /// differently.
    pub fn to_text(&self) -> Result<String> {
        let mut problems = Problems(Vec::new());
        self.check(&mut problems);
        problems.check("grub configuration")?;
        let mut text = String::new();
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        if let Some((unit, speed)) = self.serial {
            line(format!("serial --unit={unit} --speed={speed}"));
            line("terminal_input console serial".to_owned());
            line("terminal_output console serial".to_owned());
        }
        line(format!("set timeout={}", self.timeout));
        if let Some(default) = &self.default {
            line(format!("set default={}", quoted(default)));
        }
        if let Some(file) = &self.search_file {
            line(format!("search --no-floppy --set=root --file {}", quoted(file)));
        }
        for entry in &self.entries {
            line(format!("menuentry {} --id {} {{", quoted(&entry.title), quoted(&entry.id)));
            let words = std::iter::once(&entry.linux).chain(&entry.arguments);
            line(format!("  linux{}", listed(words)));
            if !entry.initrds.is_empty() {
                line(format!("  initrd{}", listed(entry.initrds.iter())));
            }
            line("}".to_owned());
        }
        Ok(text)
    }

    pub(crate) fn check(&self, problems: &mut Problems) {
        if self.entries.is_empty() {
            problems.0.push("the menu is empty".to_owned());
        }
        let mut text = |what: &str, text: &str, may_be_empty: bool| {
            if text.chars().any(char::is_control) || (text.is_empty() && !may_be_empty) {
                problems.0.push(format!("{what} {text:?} is empty or has a control character"));
            }
        };
        for entry in &self.entries {
            text("the title", &entry.title, false);
            text("the identifier", &entry.id, false);
            for path in std::iter::once(&entry.linux).chain(&entry.initrds) {
                text("the path", path, false);
            }
            for argument in &entry.arguments {
                text("the argument", argument, false);
            }
        }
        if let Some(file) = &self.search_file {
            text("the path", file, false);
        }
        for entry in &self.entries {
            for path in std::iter::once(&entry.linux).chain(&entry.initrds) {
                if !path.starts_with('/') {
                    problems.0.push(format!("the path {path:?} does not begin with /"));
                }
            }
            for argument in &entry.arguments {
                // GRUB puts a backslash before each of these, which the kernel takes for a part of
                // the argument.
                if argument.contains(['"', '\'', '\\']) {
                    problems.0.push(format!(
                        "the argument {argument:?} has a quote or backslash, which GRUB cannot hand \
                         to a kernel unchanged"
                    ));
                }
            }
        }
        for (at, entry) in self.entries.iter().enumerate() {
            if self.entries.iter().take(at).any(|other| other.id == entry.id) {
                problems
                    .0
                    .push(format!("there are two entries with the identifier {:?}", entry.id));
            }
        }
        if let Some(default) = &self.default
            && !self.entries.iter().any(|entry| entry.id == *default)
        {
            problems.0.push(format!("there is no entry {default:?}, which is to be the default"));
        }
    }
}

/// Words, each with a space in front.
fn listed<'words>(words: impl Iterator<Item = &'words String>) -> String {
    words.map(|word| format!(" {}", quoted(word))).collect()
}

/// A word as GRUB's shell reads it: between single quotes nothing has a meaning.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
