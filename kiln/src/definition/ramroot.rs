//! A root that is fetched at boot.

use std::path::PathBuf;

use kiln_diskimg::ByteLen;

use super::Placed;
use super::decode::{Notes, Section};
use super::read::{parsed, paths};

/// A root that a machine fetches when it boots, into memory: the initramfs only leads to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ramroot {
    /// Paths of the image that the initramfs has too; a directory with all that is in it.
    pub carry: Vec<Placed<String>>,
    /// Files of public keys (PEM) that are trusted beside the one that roots are signed with.
    pub trust: Vec<Placed<PathBuf>>,
    /// Bytes of what is verified at once. Default: 1 MiB.
    pub chunk: Option<Placed<ByteLen>>,
    /// Where machines find it unless their command line says otherwise: the URL of a directory.
    pub server: Option<Placed<String>>,
}

pub(super) fn ramroot(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Ramroot {
    let found = Ramroot {
        carry: section.strings(notes, "carry"),
        trust: paths(section.strings(notes, "trust")),
        chunk: parsed(section.string(notes, "chunk"), notes),
        server: section.string(notes, "server"),
    };
    section.finish(notes);
    found
}
