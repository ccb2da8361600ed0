//! What is in a unified kernel image, for people and programs.

use std::fmt;

use super::machine;
use crate::boot::pe::{SectionDigest, read_sections};
use crate::container::BlockSource;
use crate::field::index;
use crate::{Limits, Result};

/// What was found in a unified kernel image, or in any executable for UEFI.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// For which machine it is (`x86-64`).
    pub machine: String,
    /// Its sections with their digests, in the order of the table.
    pub sections: Vec<SectionDigest>,
    /// The kernel's command line.
    pub command_line: Option<String>,
    /// The content of `/etc/os-release`.
    pub os_release: Option<String>,
    /// The kernel's release.
    pub uname: Option<String>,
    /// Bytes of its certificate table; 0 when it is not signed.
    pub certificates: u64,
}

/// Reads an image that may be hostile, piece by piece.
///
/// # Errors
/// Those of [`read_sections`].
pub fn read(file: &mut dyn BlockSource, limits: &Limits) -> Result<Report> {
    let (headers, sections) = read_sections(file, limits)?;
    let mut text = |name: &str| {
        let Some(section) = headers.section(name) else { return Ok(None) };
        let content = section.content();
        // A text that is longer than any kernel takes is cut.
        let len = (content.end - content.start).min(64 << 10);
        let mut bytes = vec![0; index(len)];
        file.read_at(content.start, &mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok::<_, crate::Error>(Some(text.trim_end_matches(['\0', '\n']).to_owned()))
    };
    Ok(Report {
        command_line: text(".cmdline")?,
        os_release: text(".osrel")?,
        uname: text(".uname")?,
        machine: machine(headers.machine),
        certificates: headers.certificates.end - headers.certificates.start,
        sections,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = if self.certificates > 0 { "signed" } else { "not signed" };
        writeln!(out, "executable for {}, {signed}", self.machine)?;
        for SectionDigest { section, sha256 } in &self.sections {
            let content = section.content();
            write!(out, "  {:8} {:>10}  ", section.name, content.end - content.start)?;
            for byte in sha256.iter().take(8) {
                write!(out, "{byte:02x}")?;
            }
            writeln!(out)?;
        }
        for (what, text) in [("command line", &self.command_line), ("kernel", &self.uname)] {
            if let Some(text) = text {
                writeln!(out, "  {what}: {}", text.escape_debug())?;
            }
        }
        Ok(())
    }
}
