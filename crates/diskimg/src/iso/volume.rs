//! An image planned from a tree, and written.

use std::sync::Arc;

use kiln_tree::{Source, Tree, TreePath};

use super::boot::{self, Image, PLATFORM_BIOS, PLATFORM_EFI};
use super::descriptor::{self, PathTables, TYPE_TERMINATOR};
use super::hierarchy::{Form, Hierarchy, MAX_DIRECTORIES};
use super::hybrid::{self, ALIGNMENT, CODE_LEN, Places, RATIO};
use super::names;
use super::outline::{Outline, What};
use super::{Bios, Hybrid, Joliet, Options, SECTOR, SECTOR_LEN, SYSTEM_AREA};
use crate::content::{Content, Sink, copy_source};
use crate::error::Problems;
use crate::field::index;
use crate::plan::Table;
use crate::units::Lba;
use crate::{Error, Result, gpt, mbr};

/// The longest BIOS boot image: real mode reaches no further than 640 KiB.
const MAX_BIOS: u64 = 640 << 10;

/// An image of which every byte is decided, except those inside of the files, which are read when it
/// is written.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Everything before the files.
    head: Vec<u8>,
    /// In the order of their sectors, without gaps; none of them is empty.
    files: Vec<(u64, Source)>,
    /// Where the ISO volume ends.
    volume_end: u64,
    efi: Option<(u64, Arc<dyn Content>)>,
    /// The backup GPT.
    tail: Vec<u8>,
    /// Sectors of the image.
    end: u64,
}

impl Volume {
    /// Decides where everything goes.
    ///
    /// Names of one file (hard links) share its content. Joliet leaves out symbolic links, devices,
    /// pipes and sockets, which it cannot hold.
    ///
    /// # Errors
    /// [`Error::Plan`] with everything that is wrong: nodes that cannot be stored, Joliet names that
    /// are too long, texts of the volume descriptor, boot images that are not in the tree, too long
    /// or not what they are said to be, an EFI system partition that was made for another place, an
    /// image beyond 8 TiB. [`Error::Io`] when the BIOS boot image cannot be read.
    pub fn plan(tree: &Tree, options: &Options) -> Result<Self> {
        let mut problems = Vec::new();
        descriptor::check(options, &mut problems);
        let outline = Outline::new(tree, options.rock_ridge, &mut problems);
        let count = outline.directories.len();
        if count > MAX_DIRECTORIES {
            problems.push(format!("{count} directories, a path table holds {MAX_DIRECTORIES}"));
        }
        let bios = match &options.bios {
            Some(bios) => bios_image(&outline, bios, &mut problems)?,
            None => None,
        };
        check_boot(options, bios.as_ref().map(|image| image.bytes.as_slice()), &mut problems);
        let joliet = options.joliet.map(|joliet| joliet_names(&outline, joliet, &mut problems));
        let places = Plan::new(&outline, options, joliet);
        places.check(options, &mut problems);
        Problems(problems).check("iso 9660 image")?;
        places.emit(&outline, options, bios)
    }

    /// Where the EFI system partition begins, in sectors of 512 bytes of the image as a disk; `None`
    /// when there is none.
    #[must_use]
    pub fn efi_lba(&self) -> Option<Lba> {
        self.efi.as_ref().map(|(sector, _)| Lba(sector * RATIO))
    }

    /// Bytes of the ISO volume. It ends before the EFI system partition, unless that is longer than
    /// [`MAX_EFI`](super::MAX_EFI).
    #[must_use]
    pub fn volume_len(&self) -> u64 {
        self.volume_end * SECTOR
    }
}

impl Content for Volume {
    fn len(&self) -> u64 {
        self.end * SECTOR
    }

    /// A hybrid image is a whole disk, and begins where that does.
    fn placed_at(&self) -> Option<Lba> {
        None
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        sink.data(&self.head)?;
        let mut position = self.head.len() as u64;
        let mut buffer = Vec::new();
        for (_, source) in &self.files {
            copy_source(source, &mut buffer, sink)?;
            let len = source.len();
            let whole = len.next_multiple_of(SECTOR);
            if whole > len {
                sink.data(ZEROES.get(..index(whole - len)).unwrap_or_default())?;
            }
            position += whole;
        }
        if let Some((sector, content)) = &self.efi {
            sink.hole((sector * SECTOR).saturating_sub(position))?;
            content.write_to(sink)?;
            position = sector * SECTOR + content.len();
        }
        let tail = (self.end * SECTOR).saturating_sub(self.tail.len() as u64);
        sink.hole(tail.saturating_sub(position))?;
        sink.data(&self.tail)
    }
}

static ZEROES: [u8; SECTOR_LEN] = [0; SECTOR_LEN];

/// The BIOS boot image as it is in the tree.
struct BiosImage {
    /// Its number among the files.
    file: usize,
    bytes: Vec<u8>,
}

fn bios_image(
    outline: &Outline<'_>,
    bios: &Bios,
    problems: &mut Vec<String>,
) -> Result<Option<BiosImage>> {
    let path = &bios.image;
    let Some((number, file)) =
        outline.file(path).and_then(|number| Some((number, outline.files.get(number)?)))
    else {
        problems.push(format!("the BIOS boot image {path} is no file of the tree"));
        return Ok(None);
    };
    let len = file.source.len();
    if len > MAX_BIOS {
        problems.push(format!("{path}: {len} bytes, a BIOS boot image has at most {MAX_BIOS}"));
        return Ok(None);
    }
    let bytes = file.source.read().map_err(Error::io("read the BIOS boot image"))?.to_vec();
    if bios.info_table && bytes.len() < boot::MIN_WITH_TABLE {
        problems.push(format!("{path}: {len} bytes, too short for a boot information table"));
    } else if bytes.is_empty() {
        problems.push(format!("{path}: the BIOS boot image is empty"));
    }
    Ok(Some(BiosImage { file: number, bytes }))
}

fn check_boot(options: &Options, bios: Option<&[u8]>, problems: &mut Vec<String>) {
    if let Some(efi) = &options.efi {
        let len = efi.len();
        if len == 0 {
            problems.push("the EFI system partition is empty".to_owned());
        }
    }
    let Some(hybrid) = &options.hybrid else { return };
    let Hybrid { code, .. } = hybrid;
    if !code.is_empty() && code.len() != CODE_LEN {
        problems.push(format!("boot code of {} bytes, expected {CODE_LEN} or none", code.len()));
    }
    if !code.is_empty() && options.bios.is_none() {
        problems.push("there is boot code for a disk, but no BIOS boot image".to_owned());
    }
    if !code.is_empty() && bios.is_some_and(|image| !boot::is_hybrid_isolinux(image)) {
        problems.push(
            "the BIOS boot image is no ISOLINUX that starts from a disk; leave out the boot code"
                .to_owned(),
        );
    }
}

/// Identifiers of all directories.
type Identifiers = Vec<Vec<Vec<u8>>>;

fn joliet_names(outline: &Outline<'_>, joliet: Joliet, problems: &mut Vec<String>) -> Identifiers {
    let mut all = Vec::with_capacity(outline.directories.len());
    let most = joliet.units();
    for directory in &outline.directories {
        let names = item_names(&directory.items);
        match names::joliet(&names, most) {
            Ok(names) => all.push(names),
            Err(long) => {
                all.push(Vec::new());
                for (at, units) in long {
                    let name = names.get(at).map_or(&[][..], |(name, _)| name);
                    let path = directory.path.join(name).unwrap_or_default();
                    let longer = match joliet {
                        Joliet::Standard => "; the long form has 103",
                        Joliet::Long => "",
                    };
                    problems.push(format!(
                        "{path}: the name has {units} UTF-16 units, Joliet's at most {most}{longer}"
                    ));
                }
            }
        }
    }
    all
}

fn item_names<'a>(items: &[super::outline::Item<'a>]) -> Vec<(&'a [u8], bool)> {
    let directory = |what| matches!(what, What::Directory(_));
    items.iter().map(|item| (item.name, directory(item.what))).collect()
}

/// Where everything is, in sectors.
struct Plan {
    iso: Hierarchy,
    joliet: Option<Hierarchy>,
    iso_tables: PathTables,
    joliet_tables: PathTables,
    /// Of the boot catalog.
    catalog: Option<u64>,
    /// First sectors of the outline's files.
    files: Vec<u64>,
    places: Places,
}

impl Plan {
    fn new(outline: &Outline<'_>, options: &Options, joliet: Option<Identifiers>) -> Self {
        let identifiers: Identifiers = outline
            .directories
            .iter()
            .map(|directory| names::iso(&item_names(&directory.items), options.names))
            .collect();
        let rock_ridge = options.rock_ridge;
        let form = Form { identifiers: &identifiers, joliet: false, rock_ridge };
        let mut iso = Hierarchy::new(outline, &form);
        let mut joliet = joliet.map(|identifiers| {
            let form = Form { identifiers: &identifiers, joliet: true, rock_ridge: false };
            Hierarchy::new(outline, &form)
        });
        let boots = options.bios.is_some() || options.efi.is_some();
        let descriptors = 2 + u64::from(boots) + u64::from(joliet.is_some());
        let mut next = SYSTEM_AREA + descriptors;
        let mut take = |sectors: u64| {
            let first = next;
            next = next.saturating_add(sectors);
            first
        };
        let catalog = boots.then(|| take(1));
        let mut tables = |sectors: u64| PathTables { little: take(sectors), big: take(sectors) };
        let iso_tables = tables(iso.path_table_sectors());
        let joliet_tables = tables(joliet.as_ref().map_or(0, Hierarchy::path_table_sectors));
        iso.place(take(iso.sectors()));
        if let Some(joliet) = &mut joliet {
            joliet.place(take(joliet.sectors()));
        }
        // An empty file has no sector; it is said to be where the descriptors end.
        let nowhere = SYSTEM_AREA + descriptors - 1;
        let files: Vec<u64> = outline
            .files
            .iter()
            .map(|file| match file.source.len().div_ceil(SECTOR) {
                0 => nowhere,
                sectors => take(sectors),
            })
            .collect();
        let files_end = next;
        let mut volume_end = next;
        let efi = options
            .efi
            .as_ref()
            .map(|content| (next.next_multiple_of(ALIGNMENT), content.len().div_ceil(SECTOR)));
        if let Some((first, count)) = efi {
            next = first.saturating_add(count);
            // Firmware takes the volume's end for that of an image whose length the catalog cannot
            // hold.
            if options.efi.as_ref().is_some_and(|content| content.len() > boot::MAX_EFI) {
                volume_end = next;
            }
        }
        if let Some(hybrid) = &options.hybrid {
            if hybrid.table == Table::Gpt {
                next = next.saturating_add(gpt::TAIL_SECTORS.div_ceil(RATIO));
            }
            // Cylinders of old BIOSes: 64 heads, 32 sectors.
            next = next.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
        }
        let bios =
            options.bios.as_ref().and_then(|bios| files.get(outline.file(&bios.image)?).copied());
        let places = Places { files_end, volume_end, efi, bios, end: next };
        Self { iso, joliet, iso_tables, joliet_tables, catalog, files, places }
    }

    fn check(&self, options: &Options, problems: &mut Vec<String>) {
        let end = self.places.end;
        if end > u64::from(u32::MAX) {
            problems.push(format!(
                "the image would have {end} sectors of 2048 bytes, at most {}",
                u32::MAX
            ));
        }
        if options.hybrid.as_ref().is_some_and(|hybrid| hybrid.table == Table::Mbr)
            && end.saturating_mul(RATIO) > mbr::MAX_SECTORS
        {
            problems.push("an mbr table reaches no further than 2 TiB; use gpt".to_owned());
        }
        if let (Some(content), Some((first, _))) = (&options.efi, self.places.efi)
            && let Some(expected) = content.placed_at()
            && expected.0 != first * RATIO
        {
            problems.push(format!(
                "the EFI system partition was made to begin at {expected} and would be at {}; a \
                 volume with no hidden sectors can be anywhere",
                Lba(first * RATIO)
            ));
        }
    }

    fn emit(
        &self,
        outline: &Outline<'_>,
        options: &Options,
        bios: Option<BiosImage>,
    ) -> Result<Volume> {
        let places = &self.places;
        let mut head = vec![0; index(SYSTEM_AREA * SECTOR)];
        let mut tail = Vec::new();
        if let Some(hybrid) = &options.hybrid {
            let tables = hybrid::emit(hybrid, places)?;
            crate::field::put(&mut head, 0, &tables.head);
            tail = tables.tail;
        }
        self.descriptors(outline, options, &mut head);
        if self.catalog.is_some() {
            head.extend_from_slice(&boot::catalog(&self.images(options)));
        }
        for hierarchy in [Some(&self.iso), self.joliet.as_ref()].into_iter().flatten() {
            for big_endian in [false, true] {
                head.extend(hierarchy.path_table(big_endian));
                head.resize(head.len().next_multiple_of(SECTOR_LEN), 0);
            }
        }
        for hierarchy in [Some(&self.iso), self.joliet.as_ref()].into_iter().flatten() {
            hierarchy.write(&self.files, &mut head);
        }
        let mut files: Vec<(u64, Source)> = outline
            .files
            .iter()
            .zip(&self.files)
            .map(|(file, sector)| (*sector, file.source.clone()))
            .collect();
        if let (Some(mut image), Some(settings)) = (bios, &options.bios)
            && let Some((sector, source)) = files.get_mut(image.file)
        {
            if settings.info_table {
                boot::set_info_table(&mut image.bytes, *sector);
            }
            *source = Source::from(image.bytes);
        }
        files.retain(|(_, source)| !source.is_empty());
        let efi = places.efi.zip(options.efi.clone()).map(|((first, _), content)| (first, content));
        let (volume_end, end) = (places.volume_end, places.end);
        Ok(Volume { head, files, volume_end, efi, tail, end })
    }

    fn descriptors(&self, outline: &Outline<'_>, options: &Options, head: &mut Vec<u8>) {
        let mtime = outline.directories.first().map_or(0, |root| root.meta.mtime);
        let end = self.places.volume_end;
        let tables = &self.iso_tables;
        head.extend(descriptor::emit(options, &self.iso, mtime, tables, end, false));
        if let Some(catalog) = self.catalog {
            head.extend(boot::record(catalog));
        }
        if let Some(joliet) = &self.joliet {
            let tables = &self.joliet_tables;
            head.extend(descriptor::emit(options, joliet, mtime, tables, end, true));
        }
        head.extend(descriptor::blank(TYPE_TERMINATOR));
    }

    fn images(&self, options: &Options) -> Vec<Image> {
        let bios = self.places.bios.zip(options.bios.as_ref()).map(|(sector, bios)| Image {
            platform: PLATFORM_BIOS,
            sector,
            count: u64::from(bios.load_sectors),
        });
        let efi = self.places.efi.zip(options.efi.as_ref()).map(|((sector, _), content)| Image {
            platform: PLATFORM_EFI,
            sector,
            count: if content.len() > boot::MAX_EFI { 0 } else { content.len().div_ceil(512) },
        });
        [bios, efi].into_iter().flatten().collect()
    }
}

/// The path of a boot image as people write it.
impl TryFrom<&str> for Bios {
    type Error = kiln_tree::Error;

    fn try_from(path: &str) -> Result<Self, Self::Error> {
        TreePath::new(path).map(Self::new)
    }
}
