//! Where the files of a layout are: in a directory, or in a tar archive that is read where it lies.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use kiln_tree::Source;
use oci_spec::image::{Descriptor, Digest};

use crate::digest::Checked;
use crate::error::shown;
use crate::limits::Limits;
use crate::tar::{self, Type};
use crate::{Error, Result, json};

/// Files by name.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    /// The members of an archive.
    members: Option<BTreeMap<Vec<u8>, Member>>,
}

#[derive(Debug, Clone)]
enum Member {
    File {
        offset: u64,
        len: u64,
    },
    /// Docker has put the layers of several images once, and links in the other places.
    Link(Vec<u8>),
}

impl Store {
    /// A directory, or an archive that is not compressed.
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let found = std::fs::metadata(path).map_err(Error::io("open", path))?;
        if found.is_dir() {
            return Ok(Self { path: path.into(), members: None });
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        Self::index(path, file, limits)
    }

    fn index(path: &Path, file: File, limits: &Limits) -> Result<Self> {
        let name = path.display().to_string();
        let wrong = |broken: tar::Broken| match broken.source {
            Some(source) => Error::io("read", path)(source),
            None => Error::Entry {
                layer: name.clone(),
                entry: broken.entry,
                offset: broken.offset,
                reason: broken.reason,
            },
        };
        let mut members = BTreeMap::new();
        let length = file.metadata().map_err(Error::io("stat", path))?.len();
        let skipping = Skipping { file: BufReader::new(file), length, at: 0 };
        let mut reader = tar::Reader::new(skipping, limits.extension);
        let mut names = 0_u64;
        while let Some(entry) = reader.next().map_err(wrong)? {
            names = names.saturating_add(entry.path.len() as u64 + entry.link.len() as u64);
            if members.len() as u64 >= limits.entries || names > limits.names {
                return Err(wrong(reader.broken("it is one entry too many")));
            }
            let key = clean(&entry.path);
            let member = match entry.kind {
                Type::File => {
                    let offset = reader.offset();
                    let end = offset.saturating_add(entry.size);
                    if end > length {
                        return Err(wrong(reader.broken("the archive ends before it does")));
                    }
                    // Nothing of it is read: the next header is found by its place.
                    reader.jump(|skipping| skipping.skip(entry.size)).map_err(wrong)?;
                    Member::File { offset, len: entry.size }
                }
                Type::Symlink => {
                    let parent = key.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                    let parent = key.get(..parent).unwrap_or_default();
                    Member::Link(clean(&[parent, b"/", &entry.link].concat()))
                }
                Type::Hardlink => Member::Link(clean(&entry.link)),
                _ => continue,
            };
            members.insert(key, member);
        }
        Ok(Self { path: path.into(), members: Some(members) })
    }

    /// Whether it is an archive.
    pub(crate) fn is_archive(&self) -> bool {
        self.members.is_some()
    }

    /// A file, if it is there. Names come from documents of strangers.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Source>> {
        let Some(members) = &self.members else {
            let sound = !name.starts_with('/')
                && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if !sound || name.contains('\0') {
                return Err(Error::invalid(shown(name.as_bytes()), "a name that leads elsewhere"));
            }
            let path = self.path.join(name);
            return match std::fs::metadata(&path) {
                Ok(found) if found.is_file() => Ok(Some(Source::File { path, len: found.len() })),
                Ok(_) => Ok(None),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Error::io("stat", &path)(error)),
            };
        };
        let mut key = clean(name.as_bytes());
        for _ in 0..8 {
            match members.get(&key) {
                Some(Member::File { offset, len }) => {
                    let path = self.path.clone();
                    return Ok(Some(Source::Range { path, offset: *offset, len: *len }));
                }
                Some(Member::Link(target)) => key.clone_from(target),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    pub(crate) fn get(&self, name: &str) -> Result<Source> {
        let there = Vec::new();
        let place = self.path.display().to_string();
        self.find(name)?.ok_or_else(|| Error::Missing {
            place,
            what: shown(name.as_bytes()),
            there,
        })
    }

    /// A document.
    pub(crate) fn document(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let origin = format!("{}: {name}", self.path.display());
        let mut reader = self.get(name)?.open().map_err(Error::stream(&origin))?;
        json::read(&origin, &mut reader, limit)
    }

    /// Where the bytes of a blob are, if they are as many as they should be.
    pub(crate) fn blob(&self, descriptor: &Descriptor) -> Result<Source> {
        let digest = descriptor.digest();
        let Some(source) = self.find(&blob_name(digest))? else {
            let (place, there) = (self.path.display().to_string(), Vec::new());
            return Err(Error::Missing { place, what: format!("blob {digest}"), there });
        };
        if source.len() != descriptor.size() {
            let reason = format!("it has {} bytes, not {}", source.len(), descriptor.size());
            return Err(Error::blob(digest, reason));
        }
        Ok(source)
    }

    /// A blob that is a document, checked.
    pub(crate) fn blob_document(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        checked_document(&self.blob(descriptor)?, descriptor, limit)
    }
}

pub(crate) fn checked_document(source: &Source, about: &Descriptor, limit: u64) -> Result<Vec<u8>> {
    let digest = about.digest();
    if about.size() > limit {
        return Err(Error::document(digest, format!("it is longer than {limit} bytes")));
    }
    let reader = source.open().map_err(Error::stream(digest))?;
    let mut reader = Checked::new(reader, digest, Some(about.size()))?;
    json::read(digest.as_ref(), &mut reader, limit)
}

/// The name of a blob in a layout (image-layout.md, "Blobs").
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.digest())
}

/// A name without what means nothing. An archive is not the file system: `..` goes up inside of it.
fn clean(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// A file of which parts can be passed over.
pub(crate) struct Skipping {
    file: BufReader<File>,
    length: u64,
    at: u64,
}

impl Skipping {
    fn skip(&mut self, count: u64) -> std::io::Result<()> {
        self.at = self.at.saturating_add(count).min(self.length);
        match i64::try_from(count) {
            Ok(count) => self.file.seek_relative(count),
            Err(_) => self.file.seek(SeekFrom::Start(self.at)).map(drop),
        }
    }
}

impl Read for Skipping {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}
