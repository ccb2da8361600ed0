//! From TOML to a [`Definition`], key by key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use kiln_diskimg::ByteLen;
use kiln_diskimg::gpt::PartitionType;
use toml::de::DeTable;

use super::container::container;
use super::decode::{Notes, Section};
use super::place::{Place, Placed, Problem, hint};
use super::ramroot::ramroot;
use super::{
    CargoProgram, Content, Debian, Definition, Disk, EPOCH, FileEntry, Files, Filesystem, Firmware,
    Format, Group, Init, InitSource, Input, Kernel, KernelSource, Packages, PartitionContent,
    PartitionEntry, PartitionSize, Root, Run, Service, User,
};

/// The definition as far as it could be read, and everything that is wrong with the text.
pub(super) fn definition(text: &str, file: &Path) -> (Option<Definition>, Vec<Problem>) {
    let mut notes = Notes { text, problems: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map(|span| notes.place(&span));
        notes.note(at, error.message().to_owned());
    }
    // What stands behind a syntax error is not judged: it may belong elsewhere.
    if !notes.problems.is_empty() {
        return (None, notes.problems);
    }
    let top = Section::new("", Place { line: 1, column: 1 }, table.get_ref());
    let definition = top_level(top, &mut notes, file);
    (definition, notes.problems)
}

fn top_level(mut top: Section<'_, '_>, notes: &mut Notes<'_>, file: &Path) -> Option<Definition> {
    let name = top.required(notes, "name");
    let title = top.string(notes, "title").map(|title| title.value);
    let version = top.string(notes, "version").map(|version| version.value);
    let seed = top.string(notes, "seed").map(|seed| seed.value);
    let epoch = top.number(notes, "epoch").map_or(EPOCH, |epoch| epoch.value);
    let formats = formats(&mut top, notes);
    let debian = top.table(notes, "debian").map(|section| debian(section, notes));
    let packages = top.table(notes, "packages").map(|section| packages(section, notes));
    let inputs: BTreeMap<_, _> = top
        .tables(notes, "input")
        .into_iter()
        .map(|(name, section)| (name.value, input(section, notes)))
        .collect();
    let init = top.table(notes, "init").map(|section| init(section, notes));
    let kernel = top.table(notes, "kernel").map(|section| kernel(section, notes));
    let container = top.table(notes, "container").map(|section| container(section, notes));
    let formats = formats.unwrap_or_else(|| {
        let usual = match (&kernel, &container) {
            (Some(_), _) => Format::Raw,
            (None, Some(_)) => Format::Oci,
            (None, None) => Format::TarGz,
        };
        vec![Placed::nowhere(usual)]
    });
    let files = top.array(notes, "file");
    let files = files.into_iter().flat_map(|section| file_entries(section, notes)).collect();
    let users = top.array(notes, "user");
    let users = users.into_iter().filter_map(|section| user(section, notes)).collect();
    let groups = top.array(notes, "group");
    let groups = groups.into_iter().filter_map(|section| group(section, notes)).collect();
    let services = top.array(notes, "service");
    let services = services.into_iter().filter_map(|section| service(section, notes)).collect();
    let network = top.table(notes, "network").and_then(|section| network(section, notes));
    let disk = top.table(notes, "disk").map(|section| disk(section, notes));
    let ramroot = top.table(notes, "ramroot").map(|section| ramroot(section, notes));
    let run = top.table(notes, "run").map(|section| run(section, notes));
    top.finish(notes);
    // A section that is there and cannot be read is noted; one that is not there is none.
    let (init, kernel) = match (init, kernel) {
        (Some(None), _) | (_, Some(None)) => return None,
        (init, kernel) => (init.flatten(), kernel.flatten()),
    };
    Some(Definition {
        file: file.to_path_buf(),
        name: name?,
        title,
        version,
        seed,
        epoch,
        formats,
        debian: debian.unwrap_or_default(),
        packages: packages.unwrap_or_default(),
        inputs,
        init,
        kernel,
        container: container.unwrap_or_default(),
        files,
        users,
        groups,
        services,
        network,
        disk: disk.unwrap_or_default(),
        ramroot,
        run: run.unwrap_or_default(),
    })
}

fn formats(top: &mut Section<'_, '_>, notes: &mut Notes<'_>) -> Option<Vec<Placed<Format>>> {
    let names = top.strings(notes, "formats");
    let known = || Format::ALL.map(Format::name);
    let given = !names.is_empty();
    given.then(|| choices(names, notes, "format", |name| name.parse().ok(), &known()))
}

/// Words out of a known set.
fn choices<T>(
    words: Vec<Placed<String>>,
    notes: &mut Notes<'_>,
    what: &str,
    parse: impl Fn(&str) -> Option<T>,
    known: &[&str],
) -> Vec<Placed<T>> {
    let mut found = Vec::new();
    for word in words {
        match parse(&word) {
            Some(value) => found.push(Placed { value, at: word.at }),
            None => {
                let hint = hint(&word, known.iter().copied());
                notes.note(word.at, format!("unknown {what} {:?}{hint}", word.value));
            }
        }
    }
    found
}

/// A text that a type reads by itself.
pub(super) fn parsed<T: FromStr<Err: ToString>>(
    text: Option<Placed<String>>,
    notes: &mut Notes<'_>,
) -> Option<Placed<T>> {
    let text = text?;
    match text.parse() {
        Ok(value) => Some(Placed { value, at: text.at }),
        Err(error) => {
            notes.note(text.at, ToString::to_string(&error));
            None
        }
    }
}

fn path(text: Placed<String>) -> Placed<PathBuf> {
    Placed { value: PathBuf::from(text.value), at: text.at }
}

pub(super) fn paths(texts: Vec<Placed<String>>) -> Vec<Placed<PathBuf>> {
    texts.into_iter().map(path).collect()
}

fn debian(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Debian {
    let default = Debian::default();
    let components = section.strings(notes, "components");
    let debian = Debian {
        suite: section.string(notes, "suite").unwrap_or(default.suite),
        mirror: section.string(notes, "mirror"),
        security_mirror: section.string(notes, "security-mirror"),
        components: if components.is_empty() { default.components } else { components },
        keyring: section.string(notes, "keyring").map(path),
    };
    section.finish(notes);
    debian
}

fn packages(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Packages {
    let packages = Packages {
        install: section.strings(notes, "install"),
        pick: section.strings(notes, "pick"),
        recommends: section.boolean(notes, "recommends").is_some_and(|yes| yes.value),
        exclude: section.get("exclude").is_some().then(|| section.strings(notes, "exclude")),
        alternatives: section.dictionary(notes, "alternatives").into_iter().collect(),
    };
    section.finish(notes);
    packages
}

fn input(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Placed<Input> {
    let at = section.at;
    let input = Input {
        file: section.string(notes, "file").map(path),
        variable: section.string(notes, "variable").map(|name| name.value),
        program: section.string(notes, "program").map(|name| name.value),
        go: section.string(notes, "go"),
        cargo: cargo_program(&mut section, notes),
        images: paths(section.strings(notes, "images")),
    };
    let name = section.name().to_owned();
    let made = [
        (input.go.is_some(), "go"),
        (input.cargo.is_some(), "cargo"),
        (!input.images.is_empty(), "images"),
    ];
    let made: Vec<&str> = made.iter().filter(|(given, _)| *given).map(|(_, key)| *key).collect();
    if made.len() > 1 {
        let keys = made.join(" and ");
        notes.note(Some(at), format!("{name} has {keys}: only one of them can be built"));
    }
    if input.file.is_none() && input.program.is_none() && made.is_empty() {
        notes.note(
            Some(at),
            format!("{name} says nowhere to take it from: give file, program, go, cargo or images"),
        );
    }
    section.finish(notes);
    Placed::new(input, at)
}

fn cargo_program(section: &mut Section<'_, '_>, notes: &mut Notes<'_>) -> Option<CargoProgram> {
    let package = section.string(notes, "cargo");
    let binary = section.string(notes, "binary");
    let features = section.strings(notes, "features");
    if package.is_none()
        && let Some(at) = binary.as_ref().or_else(|| features.first()).map(|value| value.at)
    {
        let text = format!("{}: binary and features are of a cargo package", section.name());
        notes.note(at, text);
    }
    Some(CargoProgram {
        package: package?,
        binary: binary.map(|name| name.value),
        features: features.into_iter().map(|name| name.value).collect(),
    })
}

/// The one key of several that a section must have.
fn one_of(
    section: &mut Section<'_, '_>,
    notes: &mut Notes<'_>,
    keys: &[&'static str],
) -> Option<(&'static str, Placed<String>)> {
    let mut given = Vec::new();
    for key in keys {
        if section.get(key).is_some() {
            given.push((*key, section.string(notes, key)));
        }
    }
    let (name, at) = (section.name().to_owned(), section.at);
    match given.len() {
        0 => {
            notes.note(Some(at), format!("{name} needs one of {}", keys.join(", ")));
            None
        }
        1 => given.pop().and_then(|(key, value)| Some((key, value?))),
        _ => {
            let names: Vec<&str> = given.iter().map(|(key, _)| *key).collect();
            let at = given.last().and_then(|(_, value)| value.as_ref()?.at).or(Some(at));
            notes.note(at, format!("{name} has {}: only one of them can be", names.join(" and ")));
            None
        }
    }
}

fn init(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Option<Init> {
    let source = one_of(&mut section, notes, &["cargo", "file", "pick", "link"]);
    let provides = section.strings(notes, "provides");
    section.finish(notes);
    let (key, text) = source?;
    let value = match key {
        "cargo" => InitSource::Cargo(text.value),
        "file" => InitSource::File(text.value.into()),
        "pick" => InitSource::Pick(text.value),
        _ => InitSource::Link(text.value),
    };
    Some(Init { source: Placed { value, at: text.at }, provides })
}

fn kernel(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Option<Kernel> {
    let source = one_of(&mut section, notes, &["package", "source", "tree", "image"]);
    let modules_dir = section.string(notes, "modules-directory");
    let config = section.string(notes, "config");
    let fragments = paths(section.strings(notes, "fragments"));
    let requirements = paths(section.strings(notes, "requirements"));
    let modules = section.strings(notes, "modules");
    let command_line = section.string(notes, "command-line");
    section.finish(notes);
    let (key, text) = source?;
    let from_source = matches!(key, "source" | "tree");
    if let (false, Some(fragment)) = (from_source, fragments.first()) {
        let text = "fragments configure a kernel that is built: give source or tree";
        notes.note(fragment.at, text);
    }
    for given in [&modules_dir, &config] {
        if let (true, Some(given)) = (key != "image", given) {
            notes.note(given.at, "modules-directory and config belong to a kernel given by image");
        }
    }
    let at = text.at;
    let value = match key {
        "package" => KernelSource::Package(text.value),
        "source" => KernelSource::Source(text.value),
        "tree" => KernelSource::Tree(text.value.into()),
        _ => KernelSource::Files {
            image: text.value.into(),
            modules: modules_dir.map(|path| path.value.into()),
            config: config.map(|path| path.value.into()),
        },
    };
    let command_line = command_line.map_or_else(|| "console=ttyS0".to_owned(), |line| line.value);
    let source = Placed { value, at };
    Some(Kernel { source, fragments, requirements, modules, command_line })
}

fn network(section: Section<'_, '_>, notes: &mut Notes<'_>) -> Option<Placed<String>> {
    let config: Placed<kiln_network::Config> = section.rest(notes, &[])?;
    for problem in config.check() {
        notes.note(config.at, format!("[network] {problem}"));
    }
    match kiln_network::to_toml(&config) {
        Ok(text) => Some(Placed { value: text, at: config.at }),
        Err(error) => {
            notes.note(config.at, format!("[network] {error}"));
            None
        }
    }
}

const CONTENTS: &[&str] = &["text", "file", "tree", "pick", "concatenate", "input", "link"];

fn file_entries(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Vec<FileEntry> {
    let at = section.at;
    let paths = section.strings(notes, "path");
    let directory = section.boolean(notes, "directory").filter(|yes| yes.value);
    // Several files of packages, each at the path that it has there.
    let picks = section.get("pick").is_some_and(|value| value.get_ref().is_array());
    let contents: Vec<(Vec<Placed<String>>, Placed<Content>)> = match directory {
        Some(yes) => {
            for key in CONTENTS {
                if section.get(key).is_some() {
                    notes.note(yes.at, format!("a directory has no {key}"));
                }
            }
            vec![(paths, Placed { value: Content::Directory, at: yes.at })]
        }
        None if picks => {
            if let Some(path) = paths.first() {
                let text = "several files are picked to the paths that they have: leave path out";
                notes.note(path.at, text);
            }
            let picked = section.strings(notes, "pick").into_iter();
            picked
                .map(|path| {
                    let at = path.at;
                    (vec![path.clone()], Placed { value: Content::Pick(path.value), at })
                })
                .collect()
        }
        None => content(&mut section, notes)
            .map(|content| match &content.value {
                Content::Pick(path) if paths.is_empty() => {
                    (vec![Placed { value: path.clone(), at: content.at }], content)
                }
                _ => (paths, content),
            })
            .into_iter()
            .collect(),
    };
    if contents.iter().any(|(paths, _)| paths.is_empty()) {
        notes.note(Some(at), "[[file]] needs a path");
    }
    let mode = section.string(notes, "mode").and_then(|text| {
        let given = text.at;
        let mode = u16::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
        if mode.is_none() {
            let text = format!("mode {:?} is not octal digits such as \"0755\"", text.value);
            notes.note(given, text);
        }
        Some(Placed { value: mode?, at: given })
    });
    let owner = section.string(notes, "owner");
    let group = section.string(notes, "group");
    let why = section.string(notes, "why").map(|why| why.value);
    section.finish(notes);
    let entry = |(paths, content)| FileEntry {
        paths,
        content,
        mode: mode.clone(),
        owner: owner.clone(),
        group: group.clone(),
        why: why.clone(),
    };
    contents.into_iter().map(entry).collect()
}

fn content(section: &mut Section<'_, '_>, notes: &mut Notes<'_>) -> Option<Placed<Content>> {
    let (key, text) = one_of(section, notes, CONTENTS)?;
    let value = match key {
        "text" => Content::Text(text.value),
        "file" => Content::File(text.value.into()),
        "tree" => Content::Tree(text.value.into()),
        "pick" => Content::Pick(text.value),
        "concatenate" => Content::Concatenate(text.value),
        "input" => Content::Input(text.value),
        _ => Content::Link(text.value),
    };
    Some(Placed { value, at: text.at })
}

/// A user's or group's number.
fn id(
    section: &mut Section<'_, '_>,
    notes: &mut Notes<'_>,
    key: &'static str,
) -> Option<Placed<u32>> {
    let number = section.number(notes, key)?;
    // The last number means "nobody" to the kernel's calls.
    let id = u32::try_from(number.value).ok().filter(|id| *id < u32::MAX);
    if id.is_none() {
        notes.note(number.at, format!("{key} {} is too large", number.value));
    }
    Some(Placed { value: id?, at: number.at })
}

fn user(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Option<User> {
    let name = section.required(notes, "name");
    if section.get("uid").is_none() {
        notes.note(Some(section.at), "[[user]] uid is missing: numbers are fixed in an image");
    }
    let uid = id(&mut section, notes, "uid");
    let gid = id(&mut section, notes, "gid");
    let mut text = |key, default: &str| {
        section.string(notes, key).map_or_else(|| default.to_owned(), |text| text.value)
    };
    let home = text("home", "/nonexistent");
    let shell = text("shell", "/usr/sbin/nologin");
    let comment = text("comment", "");
    let groups = section.strings(notes, "groups");
    section.finish(notes);
    let uid = uid?;
    let gid = gid.map_or(uid.value, |gid| gid.value);
    Some(User { name: name?, uid, gid, groups, home, shell, comment })
}

fn group(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Option<Group> {
    let name = section.required(notes, "name");
    if section.get("gid").is_none() {
        notes.note(Some(section.at), "[[group]] gid is missing: numbers are fixed in an image");
    }
    let gid = id(&mut section, notes, "gid");
    section.finish(notes);
    Some(Group { name: name?, gid: gid? })
}

fn service(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Option<Placed<Service>> {
    // Names are resolved here; the guest, which asks no name service, gets numbers.
    let user = section.string(notes, "user");
    let group = section.string(notes, "group");
    let spec = section.rest(notes, &["user", "group"])?;
    Some(Placed { value: Service { spec: spec.value, user, group }, at: spec.at })
}

fn disk(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Disk {
    let size = section.string(notes, "size");
    let size = parsed(size, notes);
    let firmware = section.strings(notes, "firmware");
    let known = |word: &str| Firmware::ALL.into_iter().find(|it| it.name() == word);
    let firmware = choices(firmware, notes, "firmware", known, &Firmware::ALL.map(Firmware::name));
    let secure_boot = parsed(section.string(notes, "secure-boot"), notes);
    let slots = parsed(section.string(notes, "slots"), notes);
    let partitions = section.array(notes, "partition");
    let partitions =
        partitions.into_iter().filter_map(|section| partition(section, notes)).collect();
    section.finish(notes);
    Disk { size, firmware, secure_boot, slots, partitions }
}

fn partition(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Option<PartitionEntry> {
    let name = section.required(notes, "name");
    let label = section.string(notes, "label");
    let content = partition_content(&mut section, notes);
    let is_boot = content.value == PartitionContent::Boot;
    let (is_root, grows) = match &content.value {
        PartitionContent::Files { filesystem, files, root } => {
            (root.is_some(), *filesystem == Filesystem::Ext4 && *files != Files::None)
        }
        PartitionContent::Boot | PartitionContent::Empty => (false, false),
    };
    let kind = match section.string(notes, "type") {
        Some(text) => match PartitionType::parse(&text) {
            Some(value) => Some(Placed { value, at: text.at }),
            None => {
                let known: Vec<&str> = PartitionType::names().collect();
                let hint = hint(&text, known.iter().copied());
                notes.note(text.at, format!("unknown partition type {:?}{hint}", text.value));
                None
            }
        },
        None if is_boot => Some(Placed::nowhere(PartitionType::EFI_SYSTEM)),
        None if is_root => Some(Placed::nowhere(PartitionType::LINUX_ROOT_X86_64)),
        None => Some(Placed::nowhere(PartitionType::LINUX)),
    };
    let size = match section.string(notes, "size") {
        Some(text) => size(&text, notes),
        None => {
            let headroom = match (is_boot, grows) {
                (true, _) => ByteLen::mib(4),
                (_, true) => ByteLen::mib(64),
                _ => ByteLen::ZERO,
            };
            Some(Placed::nowhere(PartitionSize::Content { headroom }))
        }
    };
    section.finish(notes);
    Some(PartitionEntry { name: name?, kind: kind?, size: size?, content, label })
}

fn partition_content(
    section: &mut Section<'_, '_>,
    notes: &mut Notes<'_>,
) -> Placed<PartitionContent> {
    let mut yes = |key| section.boolean(notes, key).filter(|yes| yes.value);
    let (boot, root, verity) = (yes("boot"), yes("root"), yes("verity"));
    let tree = section.string(notes, "tree");
    let filesystem = section.string(notes, "filesystem");
    if let Some(boot) = &boot {
        let others = [
            (tree.is_some(), "tree"),
            (root.is_some(), "root"),
            (verity.is_some(), "verity"),
            (filesystem.as_ref().is_some_and(|it| it.value != "fat"), "filesystem but fat"),
        ];
        for (_, what) in others.into_iter().filter(|(given, _)| *given) {
            notes.note(boot.at, format!("the boot partition has no {what}"));
        }
        return Placed { value: PartitionContent::Boot, at: boot.at };
    }
    if let (Some(verity), None) = (&verity, &root) {
        notes.note(verity.at, "verity is for the partition with root = true");
    }
    if let (Some(root), Some(_)) = (&root, &tree) {
        notes.note(root.at, "the root partition has the image's files and no tree of its own");
    }
    let kind = filesystem.as_ref().and_then(|name| {
        let found = Filesystem::ALL.into_iter().find(|known| known.name() == name.value);
        if found.is_none() && name.value != "none" {
            let known = Filesystem::ALL.map(Filesystem::name).into_iter().chain(["none"]);
            let hint = hint(name, known);
            notes.note(name.at, format!("unknown file system {:?}{hint}", name.value));
        }
        found
    });
    let given = filesystem.as_ref().and_then(|name| name.at);
    let files = match (&root, tree) {
        (Some(_), _) => Files::Image,
        (None, Some(tree)) => Files::Tree(tree.value.into()),
        (None, None) => Files::None,
    };
    let filesystem = match (kind, &root) {
        (Some(kind), _) => kind,
        (None, None) if files == Files::None => {
            return Placed { value: PartitionContent::Empty, at: given.or(Some(section.at)) };
        }
        (None, None) => Filesystem::Fat,
        (None, Some(_)) => Filesystem::Erofs,
    };
    let at = given.or(Some(section.at));
    if root.is_some() && filesystem == Filesystem::Fat {
        notes.note(at, "fat holds no owners and links: give the root another file system");
    }
    let root = root.map(|_| if verity.is_some() { Root::Verified } else { Root::Plain });
    Placed { value: PartitionContent::Files { filesystem, files, root }, at }
}

fn size(text: &Placed<String>, notes: &mut Notes<'_>) -> Option<Placed<PartitionSize>> {
    let at = text.at;
    let value = match text.split_once('+') {
        _ if text.trim() == "rest" => Some(PartitionSize::Rest),
        _ if text.trim() == "content" => Some(PartitionSize::Content { headroom: ByteLen::ZERO }),
        Some((start, headroom)) if start.trim() == "content" => {
            headroom.parse().ok().map(|headroom| PartitionSize::Content { headroom })
        }
        _ => text.parse().ok().map(PartitionSize::Fixed),
    };
    if value.is_none() {
        let text = format!(
            "{:?} is no size; expected bytes (64MiB), content, content+16MiB or rest",
            text.value
        );
        notes.note(at, text);
    }
    Some(Placed { value: value?, at })
}

fn run(mut section: Section<'_, '_>, notes: &mut Notes<'_>) -> Run {
    let memory = section.string(notes, "memory");
    let memory = parsed(memory, notes);
    let forwards = section.strings(notes, "forward");
    let forwards = forwards.into_iter().filter_map(|text| parsed(Some(text), notes)).collect();
    section.finish(notes);
    Run { memory, forwards }
}
