//! Sockets and timers, which start services (systemd.socket(5), systemd.timer(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kiln_unit_file::value;

use super::service::FOREVER;
use super::unit::{Notes, Setting, Text};
use crate::service_file::Place;
use crate::spec::{Address, Socket, Timer};

/// What starts a service.
#[derive(Debug)]
pub(super) struct Trigger {
    /// The unit that it starts.
    pub(super) service: String,
    pub(super) place: Place,
    pub(super) sockets: Vec<Socket>,
    pub(super) timer: Option<Timer>,
}

/// All of them by name.
pub(super) fn read(
    texts: &BTreeMap<String, Text>,
    notes: &mut Notes<'_>,
) -> BTreeMap<String, Trigger> {
    let mut found = BTreeMap::new();
    for (name, unit) in texts {
        notes.about(name.as_str());
        let trigger = match name.rsplit_once('.') {
            Some((stem, "socket")) => {
                let (service, place) =
                    (target(unit, stem, ["Socket", "Service"], notes), unit.place.clone());
                Trigger { service, place, sockets: sockets(unit, notes), timer: None }
            }
            Some((stem, "timer")) => {
                let (service, place) =
                    (target(unit, stem, ["Timer", "Unit"], notes), unit.place.clone());
                Trigger { service, place, sockets: Vec::new(), timer: timer(unit, notes) }
            }
            _ => continue,
        };
        found.insert(name.clone(), trigger);
    }
    found
}

/// The services of sockets and timers of which not everything is understood, or nothing was read.
pub(super) fn without(triggers: &BTreeMap<String, Trigger>, notes: &Notes<'_>) -> BTreeSet<String> {
    let read = triggers.iter().filter(|(name, _)| notes.is_spoiled(name));
    let read = read.map(|(_, trigger)| trigger.service.clone());
    let others = notes.spoiled_triggers().filter(|name| !triggers.contains_key(*name));
    let others = others.filter_map(|name| name.rsplit_once('.'));
    read.chain(others.map(|(stem, _)| format!("{stem}.service"))).collect()
}

fn target(unit: &Text, stem: &str, [section, key]: [&str; 2], notes: &mut Notes<'_>) -> String {
    let said = unit.last(section, &[key]).and_then(|setting| notes.text(unit, setting));
    said.unwrap_or_else(|| format!("{stem}.service"))
}

fn sockets(unit: &Text, notes: &mut Notes<'_>) -> Vec<Socket> {
    if let Some(setting) = unit.last("Socket", &["Accept"])
        && notes.boolean(setting) == Some(true)
    {
        notes.refuse(setting, "a service for each connection is not started");
    }
    let mode = unit.last("Socket", &["SocketMode"]).and_then(|setting| {
        let mode = u32::from_str_radix(&setting.value, 8).ok().filter(|mode| *mode <= 0o777);
        if mode.is_none() {
            notes.refuse(setting, "expected an octal number up to 0777");
        }
        mode
    });
    let named = unit.last("Socket", &["FileDescriptorName"]);
    let name = named.and_then(|setting| notes.text(unit, setting));
    let mut found = Vec::new();
    let listens = unit.settings.iter().filter(|it| it.section == "Socket");
    for setting in listens {
        let stream = match setting.key.as_str() {
            "ListenStream" => true,
            "ListenDatagram" => false,
            _ => continue,
        };
        if setting.value.is_empty() {
            found.clear();
            continue;
        }
        let Some(text) = notes.text(unit, setting) else { continue };
        match address(&text, stream) {
            Ok(listen) => {
                let mut socket = Socket::new(listen);
                socket.name = name.clone().unwrap_or_else(|| unit.name.clone());
                socket.mode = mode.unwrap_or(0o666);
                found.push(socket);
            }
            Err(why) => notes.refuse(setting, &why),
        }
    }
    // those of other kinds are told already
    let listens = unit.settings.iter().any(|it| it.key.starts_with("Listen"));
    if found.is_empty() && !listens {
        notes.at(&unit.place, "a socket that listens nowhere");
    }
    found
}

/// A port alone is one of all addresses, of both kinds.
fn address(text: &str, stream: bool) -> Result<Address, String> {
    let text = text.trim();
    let kind = if stream { "tcp" } else { "udp" };
    if text.starts_with(['/', '@']) {
        return match stream {
            true => format!("unix:{text}").parse(),
            false => Err("there are no datagrams of Unix sockets".into()),
        };
    }
    let address = match text.parse::<u16>() {
        Ok(port) => format!("{kind}:[::]:{port}"),
        Err(_) => format!("{kind}:{text}"),
    };
    address.parse()
}

fn timer(unit: &Text, notes: &mut Notes<'_>) -> Option<Timer> {
    let mut first = None;
    for key in ["OnActiveSec", "OnBootSec", "OnStartupSec"] {
        for setting in unit.list("Timer", key) {
            let span = span(setting, notes)?;
            // each of several elapses once
            if first.is_some() {
                notes.list(setting, "the earliest of the first times alone counts");
            }
            first = Some(first.map_or(span, |first: Duration| first.min(span)));
        }
    }
    let mut every = None;
    for setting in unit.list("Timer", "OnUnitActiveSec") {
        let span = span(setting, notes)?;
        if span.is_zero() {
            notes.refuse(setting, "a timer of no time would run without end");
        }
        every = Some(every.map_or(span, |every: Duration| every.min(span)));
    }
    match (first, every) {
        (Some(first), every) => {
            let mut timer = Timer::every(every.unwrap_or(FOREVER));
            timer.first = first;
            Some(timer)
        }
        (None, Some(_)) => {
            if let Some(setting) = unit.last("Timer", &["OnUnitActiveSec"]) {
                notes.list(setting, "without OnBootSec= or OnActiveSec= there is no first run");
            }
            None
        }
        (None, None) => None,
    }
}

fn span(setting: &Setting, notes: &mut Notes<'_>) -> Option<Duration> {
    match value::duration(&setting.value) {
        Ok(span) => Some(span.unwrap_or(FOREVER)),
        Err(why) => {
            notes.refuse(setting, &why);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_manual() {
        for (text, stream, expected) in [
            ("8080", true, "tcp:[::]:8080"),
            ("127.0.0.1:80", true, "tcp:127.0.0.1:80"),
            ("[::1]:53", false, "udp:[::1]:53"),
            ("/run/a.sock", true, "unix:/run/a.sock"),
            ("@name", true, "unix:@name"),
        ] {
            assert_eq!(address(text, stream).map(|it| it.to_string()), Ok(expected.into()));
        }
        for (text, stream) in
            [("/run/a", false), ("vsock:2:1", true), ("eth0:80", true), ("", true)]
        {
            assert!(address(text, stream).is_err(), "{text}");
        }
    }
}
