//! How much a service may take (systemd.exec(5), "PROCESS PROPERTIES"; systemd.resource-control(5)).

use kiln_unit_file::value;

use super::unit::{Notes, Setting, Text};
use crate::spec::{Bytes, Resource, ResourceLimit, ServiceSpec};

/// How the values of a resource's limit are written.
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Bytes,
    Seconds,
    Microseconds,
    /// `+5` and `-5` stand for niceness.
    Nice,
    Count,
}

const RESOURCES: [(&str, Resource, Unit); 14] = [
    ("LimitAS", Resource::As, Unit::Bytes),
    ("LimitCORE", Resource::Core, Unit::Bytes),
    ("LimitCPU", Resource::Cpu, Unit::Seconds),
    ("LimitDATA", Resource::Data, Unit::Bytes),
    ("LimitFSIZE", Resource::Fsize, Unit::Bytes),
    ("LimitMEMLOCK", Resource::Memlock, Unit::Bytes),
    ("LimitMSGQUEUE", Resource::Msgqueue, Unit::Bytes),
    ("LimitNICE", Resource::Nice, Unit::Nice),
    ("LimitNOFILE", Resource::Nofile, Unit::Count),
    ("LimitNPROC", Resource::Nproc, Unit::Count),
    ("LimitRTPRIO", Resource::Rtprio, Unit::Count),
    ("LimitRTTIME", Resource::Rttime, Unit::Microseconds),
    ("LimitSIGPENDING", Resource::Sigpending, Unit::Count),
    ("LimitSTACK", Resource::Stack, Unit::Bytes),
];

/// Fills in all of them.
pub(super) fn convert(spec: &mut ServiceSpec, unit: &Text, notes: &mut Notes<'_>) {
    for (key, resource, written) in RESOURCES {
        let Some(setting) = unit.of(key) else { continue };
        let (soft, hard) =
            setting.value.split_once(':').unwrap_or((&setting.value, &setting.value));
        match (limit(soft, written), limit(hard, written)) {
            (Some(soft), Some(hard)) if soft.unwrap_or(u64::MAX) <= hard.unwrap_or(u64::MAX) => {
                spec.limits.resources.push(ResourceLimit { resource, soft, hard });
            }
            _ => notes.refuse(setting, "expected LIMIT or SOFT:HARD"),
        }
    }
    spec.limits.nice = integer(unit, "Nice", -20..=19, notes);
    spec.limits.oom_score_adj = integer(unit, "OOMScoreAdjust", -1000..=1000, notes);
    if let Some(setting) = unit.of("UMask") {
        match u32::from_str_radix(&setting.value, 8) {
            Ok(mask) if mask <= 0o777 => spec.limits.umask = Some(mask),
            _ => notes.refuse(setting, "expected an octal number up to 0777"),
        }
    }
    // the manager's own, whatever the supervisor has
    spec.limits.umask = spec.limits.umask.or(Some(0o022));
    if let Some(setting) = unit.of("FileDescriptorStoreMax") {
        match setting.value.parse() {
            Ok(most) => spec.fd_store = most,
            Err(_) => notes.refuse(setting, "expected a number"),
        }
    }
    group(spec, unit, notes);
}

/// One limit; `Some(None)` is none.
#[expect(clippy::option_option, reason = "no limit is a value, too")]
fn limit(text: &str, written: Unit) -> Option<Option<u64>> {
    let text = text.trim();
    if text == "infinity" {
        return Some(None);
    }
    let number = match written {
        Unit::Count => text.parse().ok(),
        Unit::Bytes => size(text),
        Unit::Nice => match text.parse::<i64>() {
            Ok(nice) if text.starts_with(['+', '-']) => {
                let ceiling = 20_i64.checked_sub(nice)?;
                u64::try_from(ceiling).ok().filter(|it| (1..=40).contains(it))
            }
            Ok(raw) => u64::try_from(raw).ok().filter(|it| *it <= 40),
            Err(_) => None,
        },
        Unit::Seconds | Unit::Microseconds => match (text.parse().ok(), value::duration(text)) {
            (Some(number), _) => Some(number),
            (None, Ok(Some(span))) if written == Unit::Seconds => {
                // the kernel counts whole ones
                Some(span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0)))
            }
            (None, Ok(Some(span))) => u64::try_from(span.as_micros()).ok(),
            _ => None,
        },
    };
    number.map(Some)
}

/// A size with a suffix up to exabytes.
fn size(text: &str) -> Option<u64> {
    let shift = match text.as_bytes().last()? {
        b'P' => 50,
        b'E' => 60,
        _ => return value::size(text),
    };
    let digits = text.get(..text.len().checked_sub(1)?)?;
    digits.parse::<u64>().ok()?.checked_mul(1_u64.checked_shl(shift)?)
}

fn integer(
    unit: &Text,
    key: &str,
    range: std::ops::RangeInclusive<i32>,
    notes: &mut Notes<'_>,
) -> Option<i32> {
    let setting = unit.of(key)?;
    let number = setting.value.parse().ok().filter(|number| range.contains(number));
    if number.is_none() {
        let text = format!("expected a number from {} to {}", range.start(), range.end());
        notes.refuse(setting, &text);
    }
    number
}

/// The bounds of its control group.
fn group(spec: &mut ServiceSpec, unit: &Text, notes: &mut Notes<'_>) {
    let group = &mut spec.cgroup;
    let mut bytes = |key: &str| {
        let setting = unit.of(key)?;
        match size(&setting.value) {
            Some(bytes) => return Some(Bytes(bytes)),
            None if setting.value == "infinity" => {}
            None if setting.value.ends_with('%') => {
                notes.list(setting, "a share of the machine's memory is not known");
            }
            None => notes.refuse(setting, "expected a number of bytes"),
        }
        None
    };
    group.memory_min = bytes("MemoryMin");
    group.memory_high = bytes("MemoryHigh");
    group.memory_max = bytes("MemoryMax");
    group.memory_swap_max = bytes("MemorySwapMax");
    if let Some(setting) = unit.of("CPUQuota") {
        match value::percent(&setting.value).and_then(|it| u32::try_from(it).ok()) {
            Some(percent) if percent > 0 => group.cpu_percent = Some(percent),
            _ => notes.refuse(setting, "expected a percentage"),
        }
    }
    let weight = |key: &str, notes: &mut Notes<'_>| {
        let setting = unit.of(key)?;
        let weight = setting.value.parse().ok().filter(|it| (1..=10_000).contains(it));
        if weight.is_none() {
            notes.refuse(setting, "expected a number from 1 to 10000");
        }
        weight
    };
    group.cpu_weight = weight("CPUWeight", notes);
    group.io_weight = weight("IOWeight", notes);
    if let Some(setting) = unit.of("TasksMax") {
        match setting.value.parse() {
            Ok(most) if most > 0 => group.pids_max = Some(most),
            _ if setting.value == "infinity" => {}
            _ if setting.value.ends_with('%') => {
                notes.list(setting, "a share of the machine's tasks is not known");
            }
            _ => notes.refuse(setting, "expected a number of tasks"),
        }
    }
    if let Some(setting) = unit.of("Delegate") {
        group.delegate = value::boolean(&setting.value).unwrap_or_else(|| {
            notes.list(setting, "all controllers that there are, are handed on");
            true
        });
    }
    if let Some(setting) = unit.of("OOMPolicy") {
        match setting.value.as_str() {
            "kill" => group.oom_group = true,
            "continue" => {}
            _ => policy(setting, notes),
        }
    }
}

fn policy(setting: &Setting, notes: &mut Notes<'_>) {
    match setting.value.as_str() {
        "stop" => notes.list(setting, "it goes on when one of its processes was killed"),
        _ => notes.refuse(setting, "expected continue, stop or kill"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_manual() {
        // systemd.exec(5), "Limits": units, and niceness with a sign.
        assert_eq!(limit("4G", Unit::Bytes), Some(Some(4 << 30)));
        assert_eq!(limit("1P", Unit::Bytes), Some(Some(1 << 50)));
        assert_eq!(limit("infinity", Unit::Count), Some(None));
        assert_eq!(limit("1min 500ms", Unit::Seconds), Some(Some(61)));
        assert_eq!(limit("30", Unit::Microseconds), Some(Some(30)));
        assert_eq!(limit("2ms", Unit::Microseconds), Some(Some(2000)));
        assert_eq!(limit("-5", Unit::Nice), Some(Some(25)));
        assert_eq!(limit("+5", Unit::Nice), Some(Some(15)));
        assert_eq!(limit("7", Unit::Nice), Some(Some(7)));
        for (wrong, unit) in [("99E", Unit::Bytes), ("4G", Unit::Count), ("-99", Unit::Nice)] {
            assert_eq!(limit(wrong, unit), None, "{wrong}");
        }
    }
}
