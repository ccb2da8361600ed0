//! What a service may do and see (systemd.exec(5), "CAPABILITIES" and after).

use std::path::PathBuf;

use kiln_unit_file::value;

use super::unit::{Notes, Setting, Text};
use crate::spec::{Capability, Isolation, Namespace, Seccomp, ServiceSpec, SystemCall, Violation};

/// What the manual says is allowed with any list of what is, besides what the supervisor always
/// allows: time and sleep, limits, the return from signals.
const IMPLIED: [&str; 12] = [
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "getrlimit",
    "gettimeofday",
    "nanosleep",
    "pause",
    "restart_syscall",
    "rt_sigreturn",
    "time",
    "sigreturn",
    "ugetrlimit",
];

/// Fills in the isolation.
pub(super) fn convert(spec: &mut ServiceSpec, unit: &Text, notes: &mut Notes<'_>) {
    let mut isolation = Isolation::default();
    isolation.no_new_privs = notes.switch(unit, "NoNewPrivileges");
    isolation.capabilities = capabilities(spec, unit, isolation.no_new_privs, notes);
    namespaces(&mut isolation, unit, notes);
    paths(&mut isolation.read_only, unit, ["ReadOnlyPaths", "ReadOnlyDirectories"], notes);
    paths(&mut isolation.writable, unit, ["ReadWritePaths", "ReadWriteDirectories"], notes);
    system(&mut isolation, unit, notes);
    if !isolation.read_only.is_empty() {
        directories(&mut isolation, unit, notes);
    }
    paths(&mut isolation.hidden, unit, ["InaccessiblePaths", "InaccessibleDirectories"], notes);
    isolation.private_tmp = private_tmp(unit, notes);
    credentials(&mut isolation, unit, notes);
    isolation.seccomp = system_calls(unit, isolation.no_new_privs, notes);
    spec.isolation = isolation.into();
}

/// Bits of all capabilities that assignments to one key name; `None` where there is none.
fn set(unit: &Text, key: &str, notes: &mut Notes<'_>) -> Option<u64> {
    let all = Capability::all().map(Capability::bit).fold(0, |a, b| a | b);
    let mut sum = None;
    let settings = unit.settings.iter().filter(|it| it.section == "Service" && it.key == key);
    for setting in settings {
        let (words, inverted) = match setting.value.strip_prefix('~') {
            Some(words) => (words, true),
            None => (setting.value.as_str(), false),
        };
        let mut bits = 0;
        for word in words.split_whitespace() {
            match word.parse::<Capability>() {
                Ok(capability) => bits |= capability.bit(),
                Err(why) => notes.refuse(setting, &why),
            }
        }
        sum = Some(match (sum, inverted) {
            // nothing takes back what was there before
            _ if setting.value.is_empty() => 0,
            (_, true) if bits == 0 => all,
            (None, true) => all & !bits,
            (None, false) => bits,
            (Some(sum), true) => sum & !bits,
            (Some(sum), false) => sum | bits,
        });
    }
    sum
}

/// The supervisor gives to a service exactly what it can ever get.
fn capabilities(
    spec: &ServiceSpec,
    unit: &Text,
    no_new_privs: bool,
    notes: &mut Notes<'_>,
) -> Option<Vec<Capability>> {
    let bounding = set(unit, "CapabilityBoundingSet", notes);
    let ambient = set(unit, "AmbientCapabilities", notes);
    let place = unit.of("CapabilityBoundingSet").or_else(|| unit.of("AmbientCapabilities"));
    let root = spec.user.as_ref().is_none_or(|user| ["0", "root"].contains(&&*user.to_string()));
    let bits = match (bounding, ambient) {
        (None, None) => return None,
        // root has what is in bounds; what it may pass on to others besides is lost
        (Some(bounding), _) if root => bounding,
        (None, Some(_)) if root => {
            if let Some(setting) = place {
                notes.list(setting, "a service of root has them all, and its helpers none of them");
            }
            return None;
        }
        (Some(bounding), ambient) => {
            let ambient = ambient.unwrap_or(0) & bounding;
            if ambient != bounding && !no_new_privs {
                let why = "what it can get is what it has, unless NoNewPrivileges=yes";
                match place {
                    Some(setting) => notes.list(setting, format!("more confined: {why}")),
                    None => notes.at(&unit.place, why),
                }
            }
            ambient
        }
        (None, Some(ambient)) => {
            if let Some(setting) = place.filter(|_| !no_new_privs) {
                notes.list(setting, "more confined: programs with a set-user-ID bit get no others");
            }
            ambient
        }
    };
    Some(Capability::all().filter(|capability| capability.bit() & bits != 0).collect())
}

fn namespaces(isolation: &mut Isolation, unit: &Text, notes: &mut Notes<'_>) {
    for (key, namespace) in [
        ("PrivateNetwork", Namespace::Net),
        ("PrivateIPC", Namespace::Ipc),
        ("ProtectHostname", Namespace::Uts),
        ("PrivateMounts", Namespace::Mount),
    ] {
        if notes.switch(unit, key) {
            isolation.namespaces.push(namespace);
            if let Some(setting) = unit.of(key).filter(|_| namespace == Namespace::Net) {
                notes.list(setting, "its own loopback interface is down");
            }
        }
    }
}

/// Newer versions know `disconnected`, which is what there is here.
fn private_tmp(unit: &Text, notes: &mut Notes<'_>) -> bool {
    let newer = unit.of("PrivateTmp").is_some_and(|setting| setting.value == "disconnected");
    newer || notes.switch(unit, "PrivateTmp")
}

fn paths(into: &mut Vec<PathBuf>, unit: &Text, keys: [&str; 2], notes: &mut Notes<'_>) {
    let settings = keys.into_iter().flat_map(|key| unit.list("Service", key));
    for setting in settings {
        let Some(text) = notes.text(unit, setting) else { continue };
        for word in text.split_whitespace() {
            let (may_be_absent, path) = match word.strip_prefix('-') {
                Some(path) => ("-", path),
                None => ("", word),
            };
            // relative to the root directory, which is the same one
            let path = path.strip_prefix('+').unwrap_or(path);
            match path.starts_with('/') {
                true => into.push(format!("{may_be_absent}{path}").into()),
                false => notes.refuse(setting, "expected absolute paths"),
            }
        }
    }
}

/// The machine's own files, as systemd divides them.
fn system(isolation: &mut Isolation, unit: &Text, notes: &mut Notes<'_>) {
    let Some(setting) = unit.of("ProtectSystem") else { return };
    let (read_only, writable): (&[&str], &[&str]) = match setting.value.as_str() {
        // homes are left to ProtectHome=
        "strict" => (&["/"], &["/dev", "/proc", "/sys", "-/home", "-/root", "-/run/user"]),
        "full" => (&["/usr", "-/boot", "-/efi", "/etc"], &[]),
        text => match value::boolean(text) {
            Some(true) => (&["/usr", "-/boot", "-/efi"], &[]),
            Some(false) => return,
            None => return notes.refuse(setting, "expected yes, no, full or strict"),
        },
    };
    isolation.read_only.extend(read_only.iter().map(PathBuf::from));
    isolation.writable.extend(writable.iter().map(PathBuf::from));
}

/// What is made for it is its own to write to. Here it is not made, and may be there all the same.
fn directories(isolation: &mut Isolation, unit: &Text, notes: &mut Notes<'_>) {
    for (key, place) in [
        ("RuntimeDirectory", "/run"),
        ("StateDirectory", "/var/lib"),
        ("CacheDirectory", "/var/cache"),
        ("LogsDirectory", "/var/log"),
        ("ConfigurationDirectory", "/etc"),
    ] {
        for setting in unit.list("Service", key) {
            let Some(text) = notes.text(unit, setting) else { continue };
            let names = text.split_whitespace().filter_map(|word| word.split(':').next());
            isolation.writable.extend(names.map(|name| format!("-{place}/{name}").into()));
        }
    }
}

fn credentials(isolation: &mut Isolation, unit: &Text, notes: &mut Notes<'_>) {
    for setting in unit.list("Service", "LoadCredential") {
        let Some(text) = notes.text(unit, setting) else { continue };
        match text.split_once(':') {
            Some((name, path)) if path.starts_with('/') => {
                isolation.credentials.insert(name.into(), path.into());
            }
            _ => notes.list(setting, "nobody hands credentials down: it has none of this name"),
        }
    }
}

fn system_calls(unit: &Text, no_new_privs: bool, notes: &mut Notes<'_>) -> Option<Seccomp> {
    let settings = unit.list("Service", "SystemCallFilter");
    let native = unit.list("Service", "SystemCallArchitectures");
    for setting in native.iter().filter(|setting| setting.value != "native") {
        notes.confine(setting, "calls of this architecture alone are filtered");
    }
    let native = native.iter().any(|setting| setting.value == "native");
    let violation = match unit.of("SystemCallErrorNumber") {
        Some(setting) => violation(setting, notes),
        None => Violation::Kill,
    };
    let first = settings.first().copied().or_else(|| unit.of("SystemCallArchitectures"))?;
    if settings.is_empty() && !native {
        return None;
    }
    if !no_new_privs {
        notes.list(first, "more confined: no new privileges come with it");
    }
    let mut calls: Vec<SystemCall> = Vec::new();
    let deny = settings.first().is_none_or(|setting| setting.value.starts_with('~'));
    for setting in &settings {
        let (words, inverted) = match setting.value.strip_prefix('~') {
            Some(words) => (words, true),
            None => (setting.value.as_str(), false),
        };
        for word in words.split_whitespace() {
            if word.starts_with('@') || word.contains(':') {
                notes.confine(setting, "groups of calls and errors of single ones are not known");
                continue;
            }
            match word.parse::<SystemCall>() {
                // the first assignment says what the list is of, others add to it and take from it
                Ok(call) if inverted == deny => calls.push(call),
                Ok(call) => calls.retain(|known| *known != call),
                Err(why) => notes.list(setting, why),
            }
        }
    }
    if deny {
        return Some(Seccomp::Deny { calls, otherwise: violation });
    }
    calls.extend(IMPLIED.iter().filter_map(|name| name.parse::<SystemCall>().ok()));
    Some(Seccomp::Allow { calls, otherwise: violation })
}

/// The error of a call that is not allowed.
fn violation(setting: &Setting, notes: &mut Notes<'_>) -> Violation {
    match setting.value.as_str() {
        "kill" => return Violation::Kill,
        "EPERM" => return Violation::Fail,
        "EACCES" => return Violation::Errno(13),
        "ENOSYS" => return Violation::Errno(38),
        _ => {}
    }
    match setting.value.parse() {
        Ok(number) => Violation::Errno(number),
        Err(_) => {
            notes.refuse(setting, "expected EPERM, EACCES, ENOSYS, kill or a number");
            Violation::Kill
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_implied_is_known_by_name() {
        let known = IMPLIED.iter().filter(|name| name.parse::<SystemCall>().is_ok()).count();
        // other architectures lack some of the old ones
        assert!(known >= 9, "{known}");
    }
}
