//! What can be wrong with a definition as a whole, judged without looking at any file.

use std::collections::BTreeMap;

use kiln_supervisor::{Graph, ServiceSpec};

use super::place::{Place, Problem, hint};
use super::{
    Content, Definition, Files, Firmware, Format, InitSource, PartitionContent, PartitionSize, Root,
};

/// Longest name of a system: it becomes a host name and, in capitals, a volume label.
const NAME_MAX: usize = 11;

pub(super) fn problems(definition: &Definition) -> Vec<Problem> {
    let mut problems = Vec::new();
    name(definition, &mut problems);
    packages(definition, &mut problems);
    files(definition, &mut problems);
    users(definition, &mut problems);
    services(definition, &mut problems);
    disk(definition, &mut problems);
    ramroot(definition, &mut problems);
    boot(definition, &mut problems);
    problems
}

/// What is asked for and would be of no use without a kernel, or without a process 1.
fn boot(definition: &Definition, problems: &mut Vec<Problem>) {
    if definition.kernel.is_none() {
        for format in &definition.formats {
            if let Some(text) = definition.refusal(format.value) {
                problems.push(Problem::new(format.at, text));
            }
        }
        let disk = &definition.disk;
        if *disk != super::Disk::default() {
            let partition = disk.partitions.first().and_then(|partition| partition.name.at);
            let at = disk.size.as_ref().and_then(|size| size.at).or(partition);
            let text = "[disk] without [kernel]: nothing could be started from it";
            problems.push(Problem::new(at, text));
        }
    }
    if definition.init.is_none() {
        let service = definition.services.first();
        let service = service.map(|service| (service.at, "[[service]]"));
        let network = definition.network.as_ref().map(|network| (network.at, "[network]"));
        for (at, what) in service.into_iter().chain(network) {
            let text = format!("{what} without [init]: no process 1 would read it");
            problems.push(Problem::new(at, text));
        }
    }
}

/// Notes each value that was there before, with the place of the first.
fn twice<'a, T: Ord + ToString + 'a>(
    what: &str,
    values: impl IntoIterator<Item = (T, Option<Place>)>,
    problems: &mut Vec<Problem>,
) {
    let mut seen: BTreeMap<T, Option<Place>> = BTreeMap::new();
    for (value, at) in values {
        let text = value.to_string();
        if let Some(first) = seen.get(&value) {
            let before = first.map(|place| format!(" (first in line {})", place.line));
            let before = before.unwrap_or_default();
            problems.push(Problem::new(at, format!("{what} {text} is there twice{before}")));
        } else {
            seen.insert(value, at);
        }
    }
}

fn name(definition: &Definition, problems: &mut Vec<Problem>) {
    let name = &definition.name;
    let fits = !name.is_empty()
        && name.len() <= NAME_MAX
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.starts_with(|c: char| c.is_ascii_lowercase());
    if !fits {
        problems.push(Problem::new(
            name.at,
            format!(
                "name {:?} must be 1 to {NAME_MAX} lower-case letters, digits and hyphens, a letter \
                 first: it becomes host name and volume label",
                name.value
            ),
        ));
    }
}

fn packages(definition: &Definition, problems: &mut Vec<Problem>) {
    let packages = &definition.packages;
    for list in [&packages.install, &packages.pick] {
        let names = list.iter().map(|package| (package.value.as_str(), package.at));
        twice("package", names, problems);
        for package in list {
            // Debian Policy 5.6.7; a version may follow.
            let (name, _) = package.split_once('=').unwrap_or((package, ""));
            let fits = name.len() >= 2
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
            if !fits {
                let text = format!("{:?} is no name of a Debian package", package.value);
                problems.push(Problem::new(package.at, text));
            }
        }
    }
}

/// Whether a path of the image is absolute and without `.`, `..` and empty parts.
fn is_plain(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        !rest.is_empty() && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
    })
}

fn ramroot(definition: &Definition, problems: &mut Vec<Problem>) {
    let Some(ramroot) = &definition.ramroot else { return };
    for path in ramroot.carry.iter().filter(|path| !is_plain(path)) {
        let text = format!(
            "{:?} must be an absolute path without \".\", \"..\" and empty parts",
            path.value
        );
        problems.push(Problem::new(path.at, text));
    }
    if let Some(chunk) = &ramroot.chunk
        && !(4 << 10..=16 << 20).contains(&chunk.value.0)
    {
        problems.push(Problem::new(chunk.at, "chunks have 4KiB to 16MiB"));
    }
    if let Some(server) = &ramroot.server {
        let known = ["http://", "https://"].iter().any(|scheme| server.starts_with(scheme));
        if !known || server.contains(char::is_whitespace) {
            let text = "server must be a URL that begins with http:// or https://";
            problems.push(Problem::new(server.at, text));
        }
    }
    if definition.version.is_none() {
        let text = "[ramroot] needs a version: no machine takes an older root than its initramfs";
        problems.push(Problem::new(definition.name.at, text));
    }
    if let Some(root) = definition.disk.partitions.iter().find(|partition| {
        matches!(&partition.content.value, PartitionContent::Files { root: Some(_), .. })
    }) {
        let text = "a root on the disk beside [ramroot]: there is one root";
        problems.push(Problem::new(root.name.at, text));
    }
}

fn files(definition: &Definition, problems: &mut Vec<Problem>) {
    let entries = &definition.files;
    let paths = entries
        .iter()
        .filter(|entry| !matches!(entry.content.value, Content::Tree(_)))
        .flat_map(|entry| entry.paths.iter().map(|path| (path.value.as_str(), path.at)));
    twice("path", paths, problems);
    for entry in entries {
        for path in &entry.paths {
            if !is_plain(path) {
                let text = format!(
                    "{:?} must be an absolute path without \".\", \"..\" and empty parts",
                    path.value
                );
                problems.push(Problem::new(path.at, text));
            }
        }
        if let Content::Input(name) = &entry.content.value
            && !definition.inputs.contains_key(name)
        {
            let hint = hint(name, definition.inputs.keys().map(String::as_str));
            let text = format!("there is no [input.{name}]{hint}");
            problems.push(Problem::new(entry.content.at, text));
        }
        let picks = match &entry.content.value {
            Content::Pick(path) | Content::Concatenate(path) => Some(path),
            _ => None,
        };
        if let Some(path) = picks
            && !path.starts_with('/')
        {
            let text = format!("{path:?} must begin with /: it is a path of a package");
            problems.push(Problem::new(entry.content.at, text));
        }
    }
    let picking = entries
        .iter()
        .find(|entry| matches!(entry.content.value, Content::Pick(_) | Content::Concatenate(_)));
    let nothing = definition.packages.pick.is_empty() && definition.packages.install.is_empty();
    if let (Some(entry), true) = (picking, nothing) {
        let text = "there is no package to pick from: name it in [packages] pick";
        problems.push(Problem::new(entry.content.at, text));
    }
    if let Some(init) = &definition.init
        && let InitSource::Link(path) = &init.source.value
        && !path.starts_with('/')
    {
        let text = format!("{path:?} must begin with /: it is a path of the image");
        problems.push(Problem::new(init.source.at, text));
    }
}

fn users(definition: &Definition, problems: &mut Vec<Problem>) {
    let (users, groups) = (&definition.users, &definition.groups);
    let built_in = [("root", None), ("nobody", None)];
    let names = users.iter().map(|user| (user.name.as_str(), user.name.at));
    twice("user", built_in.into_iter().chain(names), problems);
    let numbers = users.iter().map(|user| (user.uid.value, user.uid.at));
    twice("uid", [(0, None), (65534, None)].into_iter().chain(numbers), problems);
    let names = groups.iter().map(|group| (group.name.as_str(), group.name.at));
    twice("group", [("root", None), ("nogroup", None)].into_iter().chain(names), problems);
    let numbers = groups.iter().map(|group| (group.gid.value, group.gid.at));
    twice("gid", [(0, None), (65534, None)].into_iter().chain(numbers), problems);
    let texts = users.iter().flat_map(|user| {
        [&user.name.value, &user.home, &user.shell, &user.comment].map(|text| (text, user.name.at))
    });
    for (text, at) in texts.chain(groups.iter().map(|group| (&group.name.value, group.name.at))) {
        if text.contains([':', '\n', '\0']) {
            let text =
                format!("{text:?} cannot stand in /etc/passwd: it has a colon or line break");
            problems.push(Problem::new(at, text));
        }
    }
    for user in users {
        for group in &user.groups {
            if definition.group_id(group).is_none() {
                let known = groups.iter().map(|group| group.name.as_str());
                let hint = hint(group, known);
                let text = format!("there is no [[group]] {:?}{hint}", group.value);
                problems.push(Problem::new(group.at, text));
            }
        }
    }
    let owners =
        definition.files.iter().flat_map(|file| [(&file.owner, true), (&file.group, false)]);
    let runs = definition.services.iter();
    let runs = runs.flat_map(|service| [(&service.user, true), (&service.group, false)]);
    for (name, is_user) in owners.chain(runs) {
        let Some(name) = name else { continue };
        let (known, what) = if is_user {
            (definition.user_id(name).is_some(), "user")
        } else {
            (definition.group_id(name).is_some(), "group")
        };
        if !known {
            let names = users.iter().map(|user| user.name.as_str());
            let hint = if is_user { hint(name, names) } else { String::new() };
            let text = format!(
                "there is no {what} {:?}: give a number or add a [[{what}]]{hint}",
                name.value
            );
            problems.push(Problem::new(name.at, text));
        }
    }
}

fn services(definition: &Definition, problems: &mut Vec<Problem>) {
    let services = &definition.services;
    let provides = definition.init.iter().flat_map(|init| &init.provides);
    let names = provides.clone().map(|name| (name.as_str(), None));
    let own = services.iter().map(|service| (service.spec.name.as_str(), service.at));
    twice("service", names.chain(own), problems);
    // Judged together with what process 1 has by itself.
    let mut specs: Vec<ServiceSpec> = services.iter().map(|it| it.spec.clone()).collect();
    specs.extend(provides.map(|name| ServiceSpec::one_shot(&name.value, ["/init"])));
    let Err(found) = Graph::new(&specs) else { return };
    for problem in found.0 {
        if matches!(problem, kiln_supervisor::Problem::Duplicate { .. }) {
            continue;
        }
        let named = problem.services();
        let at = services
            .iter()
            .find(|service| named.contains(&service.spec.name.as_str()))
            .and_then(|service| service.at);
        let hint = match &problem {
            kiln_supervisor::Problem::UnknownDependency { unknown, .. } => {
                hint(unknown, specs.iter().map(|spec| spec.name.as_str()))
            }
            _ => String::new(),
        };
        problems.push(Problem::new(at, format!("{problem}{hint}")));
    }
}

fn disk(definition: &Definition, problems: &mut Vec<Problem>) {
    let disk = &definition.disk;
    let partitions = &disk.partitions;
    let names = partitions.iter().map(|partition| (partition.name.as_str(), partition.name.at));
    twice("partition", names, problems);
    let boots = partitions
        .iter()
        .filter(|partition| partition.content.value == PartitionContent::Boot)
        .map(|partition| partition.content.at);
    let boots: Vec<_> = boots.collect();
    match boots.len() {
        0 if !partitions.is_empty() => {
            let at = partitions.first().and_then(|partition| partition.name.at);
            let text = "no partition has boot = true: nothing could be started from the disk";
            problems.push(Problem::new(at, text));
        }
        0 | 1 => {}
        _ => {
            let text = "only one partition can have boot = true";
            problems.push(Problem::new(boots.last().copied().flatten(), text));
        }
    }
    root(definition, problems);
    let is_uefi =
        disk.firmware.is_empty() || disk.firmware.iter().any(|it| it.value == Firmware::Uefi);
    if let (Some(keys), false) = (&disk.secure_boot, is_uefi) {
        let text = "secure-boot is UEFI's: give firmware = [\"uefi\"]";
        problems.push(Problem::new(keys.at, text));
    }
    if let Some(slots) = &disk.slots {
        if disk.secure_boot.is_some() {
            let text = "slots are started by SYSLINUX and systemd-boot, which verify nothing: they \
                        go without secure-boot";
            problems.push(Problem::new(slots.at, text));
        }
        if definition.version.is_none() {
            let text = "slots need a version, by which a system that replaces another is compared";
            problems.push(Problem::new(slots.at, text));
        }
    }
    for (index, partition) in partitions.iter().enumerate() {
        let last = index + 1 == partitions.len();
        if partition.size.value == PartitionSize::Rest {
            if !last {
                let text = "only the last partition can have the rest of the disk";
                problems.push(Problem::new(partition.size.at, text));
            }
            if disk.size.is_none() {
                let text = "the rest of what? Give [disk] size";
                problems.push(Problem::new(partition.size.at, text));
            }
        }
        let is_sized = match partition.size.value {
            PartitionSize::Content { headroom } => headroom.0 > 0,
            _ => true,
        };
        let is_bare = match &partition.content.value {
            PartitionContent::Boot => false,
            PartitionContent::Empty => true,
            PartitionContent::Files { files, .. } => *files == Files::None,
        };
        if is_bare && !is_sized {
            let text =
                format!("partition {:?} has no content: give its size", partition.name.value);
            problems.push(Problem::new(partition.name.at, text));
        }
    }
}

/// The partition that is the system's root.
fn root(definition: &Definition, problems: &mut Vec<Problem>) {
    let mut roots =
        definition.disk.partitions.iter().filter_map(|partition| match &partition.content.value {
            PartitionContent::Files { root, .. } => Some((partition, (*root)?)),
            PartitionContent::Boot | PartitionContent::Empty => None,
        });
    let Some((first, how)) = roots.next() else { return };
    if let Some((second, _)) = roots.next() {
        problems.push(Problem::new(second.name.at, "only one partition can have root = true"));
    }
    if how == Root::Verified && first.size.value == PartitionSize::Rest {
        let text = "verity and the rest of the disk: its hashes have to come after it";
        problems.push(Problem::new(first.size.at, text));
    }
    // The same program finds the root and is process 1 in it.
    let init = definition.init.as_ref().map(|init| &init.source);
    if init.is_none_or(|init| matches!(init.value, InitSource::Link(_))) {
        let at = init.and_then(|init| init.at).or(first.name.at);
        let text = "root = true needs an [init] that finds the root, as kiln-guest does: give cargo, \
                    file or pick";
        problems.push(Problem::new(at, text));
    }
}

impl Definition {
    /// Why a format cannot be made of this definition, if it cannot.
    pub(crate) fn refusal(&self, format: Format) -> Option<String> {
        let needs = |what| Some(format!("{} needs {what}, and there is none", format.name()));
        match format.root() {
            Some(_) if self.ramroot.is_none() => needs("a [ramroot]"),
            Some(_) if self.version.is_none() => needs("a version"),
            Some(_) if self.init.is_none() => needs("an [init]"),
            _ if self.kernel.is_none() && (!format.is_archive() || format.root().is_some()) => {
                needs("a [kernel]")
            }
            _ => None,
        }
    }

    /// A user's number, by name or as digits.
    #[must_use]
    pub fn user_id(&self, name: &str) -> Option<u32> {
        match name {
            "root" => Some(0),
            "nobody" => Some(65534),
            _ => name.parse().ok().or_else(|| {
                Some(self.users.iter().find(|user| user.name.value == name)?.uid.value)
            }),
        }
    }

    /// A group's number, by name or as digits. A user's own group has the user's name.
    #[must_use]
    pub fn group_id(&self, name: &str) -> Option<u32> {
        match name {
            "root" => Some(0),
            "nogroup" => Some(65534),
            _ => name.parse().ok().or_else(|| {
                let group = self.groups.iter().find(|group| group.name.value == name);
                let own = || self.users.iter().find(|user| user.name.value == name);
                group.map(|group| group.gid.value).or_else(|| Some(own()?.gid))
            }),
        }
    }
}
