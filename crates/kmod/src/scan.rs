//! The shell around the modinfo reader: walks a directory of modules.

use std::fs::{self, File};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use crate::draft::MAX_MODULES;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::modinfo::{Modinfo, Parts, section};
use crate::name;
use crate::read::{into_text, read_file};
use crate::text;

/// Deepest directory below the module directory that is looked into.
const MAX_DEPTH: usize = 32;
/// Most threads; beyond these the file system is what takes the time.
const MAX_THREADS: usize = 8;
/// Largest module when no longer compressed, in bytes.
#[cfg(any(feature = "gzip", feature = "xz", feature = "zstd"))]
const MAX_MODULE: u64 = 512 << 20;

impl Index {
    /// Makes the index of the modules below `dir`, which is `/lib/modules/RELEASE` of an unpacked
    /// kernel package: what depmod would say after its installation.
    ///
    /// All of `*.ko`, `*.ko.gz`, `*.ko.xz` and `*.ko.zst` below it counts, except below `build` and
    /// `source` at the top; symbolic links to directories are not followed. Of a module that
    /// is not compressed, only its headers and its `.modinfo` section are read. See
    /// `Index::from_modules` for where dependencies come from.
    ///
    /// # Errors
    /// [`Error::Io`] where something cannot be read, [`Error::Compressed`] where the feature for a
    /// module's compression is off, [`Error::Limit`] as in `Index::from_modules`.
    pub fn scan(dir: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut pending = vec![(dir.to_owned(), String::new(), 0)];
        while let Some((path, relative, depth)) = pending.pop() {
            list(&path, &relative, depth, &mut files, &mut pending)?;
            if files.len() > MAX_MODULES {
                return Err(Error::limit("too many modules", MAX_MODULES));
            }
        }
        // Directories list their entries in no order.
        files.sort_unstable();

        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
        let share = files.len().div_ceil(threads).max(1);
        let parts = thread::scope(|scope| {
            let workers: Vec<_> = files
                .chunks(share)
                .map(|part| scope.spawn(|| part.iter().map(|file| read(dir, file)).collect()))
                .collect();
            let join = |worker: thread::ScopedJoinHandle<'_, _>| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            workers.into_iter().map(join).collect::<Result<Vec<Vec<_>>>>()
        })?;
        let modules = parts.into_iter().flatten().collect();
        Self::from_modinfo(
            modules,
            &into_text(read_file(&dir.join(text::BUILTIN))?),
            &read_file(&dir.join(text::BUILTIN_MODINFO))?,
            &into_text(read_file(&dir.join(text::ORDER))?),
        )
    }
}

/// Adds the modules of one directory, as paths relative to the top, and its directories.
fn list(
    path: &Path,
    relative: &str,
    depth: usize,
    files: &mut Vec<String>,
    pending: &mut Vec<(PathBuf, String, usize)>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::limit("module directories are nested too deeply", MAX_DEPTH));
    }
    for entry in fs::read_dir(path).map_err(Error::io(path))? {
        let entry = entry.map_err(Error::io(path))?;
        let file_name = entry.file_name();
        // No index could say a name that is not text.
        let Some(file_name) = file_name.to_str() else { continue };
        let below =
            if depth == 0 { file_name.to_owned() } else { format!("{relative}/{file_name}") };
        let kind = entry.file_type().map_err(Error::io(entry.path()))?;
        if kind.is_dir() {
            if depth > 0 || !matches!(file_name, "build" | "source") {
                pending.push((entry.path(), below, depth.saturating_add(1)));
            }
        } else if name::of_path(file_name).is_some()
            && (kind.is_file() || fs::metadata(entry.path()).is_ok_and(|found| found.is_file()))
        {
            files.push(below);
        }
    }
    Ok(())
}

fn read(dir: &Path, relative: &str) -> Result<(String, Result<Modinfo, String>)> {
    let path = dir.join(relative);
    let file = File::open(&path).map_err(Error::io(&path))?;
    let feature = match relative.rsplit('.').next() {
        Some("gz") => "gzip",
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => {
            let info = section(&file).map(|section| Modinfo::parse(&section));
            return Ok((relative.to_owned(), info));
        }
    };
    let info = match decompress(feature, file) {
        None => return Err(Error::Compressed { path, feature }),
        Some(bytes) => bytes.and_then(|bytes| Modinfo::of_elf(&bytes)),
    };
    Ok((relative.to_owned(), info))
}

impl Parts for File {
    #[cfg(unix)]
    fn part(&self, offset: u64, len: usize) -> Result<Vec<u8>, String> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; len];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            match self.read_at(rest, at) {
                Ok(0) => break,
                Ok(n) => done = done.saturating_add(n),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    #[cfg(not(unix))]
    fn part(&self, offset: u64, len: usize) -> Result<Vec<u8>, String> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset)).map_err(|error| error.to_string())?;
        let most = u64::try_from(len).unwrap_or(u64::MAX);
        file.take(most).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

/// The whole of a compressed module; `None` where this build cannot read it.
fn decompress(feature: &'static str, file: File) -> Option<Result<Vec<u8>, String>> {
    match feature {
        #[cfg(feature = "gzip")]
        "gzip" => Some(bounded(flate2::read::MultiGzDecoder::new(file))),
        #[cfg(feature = "xz")]
        "xz" => Some(bounded(lzma_rust2::XzReader::new(std::io::BufReader::new(file), true))),
        #[cfg(feature = "zstd")]
        "zstd" => Some(
            zstd::stream::read::Decoder::new(file)
                .map_err(|error| error.to_string())
                .and_then(bounded),
        ),
        _ => {
            drop(file);
            None
        }
    }
}

#[cfg(any(feature = "gzip", feature = "xz", feature = "zstd"))]
fn bounded(reader: impl std::io::Read) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = reader.take(MAX_MODULE + 1).read_to_end(&mut bytes);
    match read {
        Err(error) => Err(format!("bad compressed data: {error}")),
        Ok(len) if u64::try_from(len).unwrap_or(u64::MAX) > MAX_MODULE => {
            Err(format!("more than {MAX_MODULE} bytes when not compressed"))
        }
        Ok(_) => Ok(bytes),
    }
}
