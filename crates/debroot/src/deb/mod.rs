//! Package files (`deb(5)`): the control data, and the files as a stream.

mod ar;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::{Error, Result, control};

/// How much a package may ask of who opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The bytes of its control data, unpacked. Default: 64 MiB.
    pub control: u64,
    /// The bytes of its files, unpacked, headers included. Default: 16 GiB.
    pub data: u64,
    /// Its files, directories and links. Default: one million.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { control: 64 << 20, data: 16 << 30, entries: 1_000_000 }
    }
}

/// A package file whose control data is read.
#[derive(Debug, Clone)]
pub struct Deb {
    path: PathBuf,
    limits: Limits,
    /// The files of the control archive by name: `control`, `conffiles`, `postinst`.
    files: BTreeMap<String, Vec<u8>>,
    control: String,
    data: ar::Member,
}

/// A stream of the package's files.
pub type Data = tar::Archive<Box<dyn Read>>;

impl Deb {
    /// Opens a package file and reads its control data.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Deb`] with what is wrong.
    pub fn open(path: &Path, limits: Limits) -> Result<Self> {
        let wrong = |reason: String| Error::Deb { path: path.into(), reason };
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("stat", path))?.len();
        let members = ar::members(&mut file, length).map_err(wrong)?;
        // Members that start with an underscore are for others; what they are is not fixed.
        let mut members = members.into_iter().filter(|member| !member.name.starts_with('_'));
        let (Some(version), Some(control), Some(data)) =
            (members.next(), members.next(), members.next())
        else {
            return Err(wrong("it lacks debian-binary, control.tar or data.tar".into()));
        };
        if version.name != "debian-binary"
            || !control.name.starts_with("control.tar")
            || !data.name.starts_with("data.tar")
        {
            let names = [&version.name, &control.name, &data.name].map(|name| format!("{name:?}"));
            return Err(wrong(format!(
                "its members are {}, not debian-binary, control.tar and data.tar",
                names.join(", ")
            )));
        }
        let mut format = String::new();
        part(&file, &version)
            .and_then(|reader| reader.take(16).read_to_string(&mut format))
            .map_err(Error::io("read", path))?;
        if !format.starts_with("2.") {
            return Err(wrong(format!("its format is {:?}, and only 2 is known", format.trim())));
        }
        let files = read_control(&file, &control, limits).map_err(wrong)?;
        let text = files.get("control").cloned().unwrap_or_default();
        let text = String::from_utf8(text)
            .map_err(|error| wrong(format!("its control file is no UTF-8 text: {error}")))?;
        let deb = Self { path: path.into(), limits, files, control: text, data };
        let paragraphs: Vec<_> = control::paragraphs(&deb.control, &path.display().to_string())
            .map(|paragraph| paragraph.map(|paragraph| paragraph.get("Package").is_some()))
            .collect::<Result<_>>()?;
        if paragraphs != [true] {
            return Err(wrong("its control file describes no package, or several".into()));
        }
        Ok(deb)
    }

    /// A field of its control file.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        control::paragraphs(&self.control, "control").next()?.ok()?.get(name)
    }

    /// The text of its control file.
    #[must_use]
    pub fn control(&self) -> &str {
        &self.control
    }

    /// Another file of its control archive: `postinst`, `md5sums`, `templates`.
    #[must_use]
    pub fn control_file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// The configuration files that belong to whoever runs the system, as absolute paths.
    #[must_use]
    pub fn conffiles(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(self.control_file("conffiles").unwrap_or_default());
        // A word before the path is a flag (`remove-on-upgrade`): not a file of this package.
        text.lines()
            .map(str::trim)
            .filter(|line| line.starts_with('/'))
            .map(str::to_owned)
            .collect()
    }

    /// Its files, in the order of the package. The stream ends with an error when the limits are
    /// passed.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Deb`] for a compression that is not known.
    pub fn data(&self) -> Result<Data> {
        let wrong = |reason: String| Error::Deb { path: self.path.clone(), reason };
        let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        let reader = decompressed(&file, &self.data, self.limits.data).map_err(wrong)?;
        Ok(tar::Archive::new(reader))
    }

    /// The limits that it was opened with.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

/// The bytes of one member.
fn part(file: &File, member: &ar::Member) -> io::Result<io::Take<File>> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(member.offset))?;
    Ok(file.take(member.size))
}

fn decompressed(file: &File, member: &ar::Member, limit: u64) -> Result<Box<dyn Read>, String> {
    let raw = part(file, member).map_err(|error| format!("it cannot be read: {error}"))?;
    let buffered = |raw| BufReader::with_capacity(1 << 16, raw);
    let inner: Box<dyn Read> = match member.name.split_once(".tar").map(|(_, suffix)| suffix) {
        Some("") => Box::new(buffered(raw)),
        Some(".gz") => Box::new(flate2::bufread::MultiGzDecoder::new(buffered(raw))),
        Some(".xz") => Box::new(crate::xz::Reader::new(raw)),
        Some(".zst") => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered(raw))
                .map_err(|error| format!("{}: {error}", member.name))?;
            // 128 MiB, which is what dpkg-deb's highest levels ask for.
            decoder.window_log_max(27).map_err(|error| format!("{}: {error}", member.name))?;
            Box::new(decoder)
        }
        _ => {
            return Err(format!(
                "{}: this compression is not known (xz, gz, zst or none are)",
                member.name
            ));
        }
    };
    Ok(Box::new(Bounded { inner, left: limit }))
}

/// A stream that fails when it gives more than it may, instead of ending.
struct Bounded {
    inner: Box<dyn Read>,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other("it unpacks to more bytes than any package that is taken here")
        })?;
        Ok(count)
    }
}

fn read_control(
    file: &File,
    member: &ar::Member,
    limits: Limits,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let broken = |error: io::Error| format!("{}: {error}", member.name);
    let mut archive = tar::Archive::new(decompressed(file, member, limits.control)?);
    let mut files = BTreeMap::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = path.strip_prefix("./").unwrap_or(&path).to_owned();
        // Only names are wanted; nothing of this is written anywhere.
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(broken)?;
        if content.len() as u64 != entry.size() {
            return Err(format!("{}: it ends within {name:?}", member.name));
        }
        files.insert(name, content);
    }
    Ok(files)
}
