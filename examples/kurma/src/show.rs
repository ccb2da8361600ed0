//! Answers, for people and for programs.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use kurma_client::enroll::{Enrolled, Issued, Known};
use kurma_client::{App, AppState, Client, HostInfo, Image, Pod, Upgraded};
use serde_json::json;

use crate::access::left;
use crate::problem::Problem;

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

fn say_json(value: &impl serde::Serialize) -> io::Result<()> {
    say(&serde_json::to_string_pretty(value)?)
}

/// Lines of columns, as wide as the widest entry.
fn table(head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let head: Vec<String> = head.iter().map(|&text| text.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |at: usize| {
        lines.iter().filter_map(|row| row.get(at)).map(|text| text.chars().count()).max()
    };
    for row in &lines {
        let mut line = String::new();
        for (at, text) in row.iter().enumerate() {
            line += &format!("{text:<width$}  ", width = width(at).unwrap_or_default());
        }
        say(line.trim_end())?;
    }
    Ok(())
}

fn addresses(pod: &Pod) -> String {
    let all = pod.networks.iter().flat_map(|network| &network.addresses);
    let plain = all.map(|address| address.split('/').next().unwrap_or(address));
    plain.collect::<Vec<_>>().join(" ")
}

fn age(seconds: u64) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let passed = SystemTime::now().duration_since(then).unwrap_or_default().as_secs();
    match passed {
        0..60 => format!("{passed} s"),
        60..3600 => format!("{} min", passed / 60),
        3600..86400 => format!("{} h", passed / 3600),
        _ => format!("{} d", passed / 86400),
    }
}

fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

pub(crate) fn upgraded(done: &Upgraded, json: bool) -> io::Result<()> {
    if json {
        return say_json(done);
    }
    say(&done.message)?;
    if done.restarts { say("the machine starts anew") } else { Ok(()) }
}

pub(crate) fn pods(pods: &[Pod], json: bool) -> io::Result<()> {
    if json {
        return say_json(&pods);
    }
    let row = |pod: &Pod| {
        let apps: Vec<&str> = pod.apps.iter().map(|app| app.name.as_str()).collect();
        let short = pod.uuid.get(..8).unwrap_or(&pod.uuid).to_owned();
        vec![
            short,
            pod.name.clone(),
            pod.state.to_string(),
            age(pod.created),
            apps.join(","),
            addresses(pod),
        ]
    };
    table(
        &["UUID", "NAME", "STATE", "AGE", "APPS", "ADDRESSES"],
        &pods.iter().map(row).collect::<Vec<_>>(),
    )
}

fn ended(app: &App) -> String {
    match (app.state, app.exit_code, app.signal, &app.error) {
        (AppState::Waiting, ..) => "waiting".to_owned(),
        (AppState::Running, ..) => "running".to_owned(),
        (AppState::Failed, .., Some(error)) => format!("failed: {error}"),
        (_, Some(code), ..) => format!("ended with {code}"),
        (_, _, Some(signal), _) => format!("ended by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

pub(crate) fn pod(pod: &Pod, json: bool) -> io::Result<()> {
    if json {
        return say_json(pod);
    }
    say(&format!("uuid:    {}", pod.uuid))?;
    say(&format!("name:    {}", pod.name))?;
    say(&format!("state:   {}", pod.state))?;
    say(&format!("age:     {}", age(pod.created)))?;
    for network in &pod.networks {
        say(&format!("network: {}  {}", network.network, network.addresses.join(" ")))?;
        for port in &network.ports {
            say(&format!("port:    {port}"))?;
        }
    }
    for app in &pod.apps {
        say(&format!(
            "app:     {}  {}  {}",
            app.name,
            app.image.get(..19).unwrap_or(&app.image),
            ended(app)
        ))?;
    }
    if let Some(error) = &pod.error {
        say(&format!("error:   {error}"))?;
    }
    Ok(())
}

pub(crate) fn created(pod: &Pod, json: bool) -> io::Result<()> {
    if json { say_json(pod) } else { say(&pod.uuid) }
}

pub(crate) fn state(pod: &Pod, json: bool) -> io::Result<()> {
    if json { say_json(pod) } else { say(&format!("{} {}", pod.name, pod.state)) }
}

pub(crate) fn images(images: &[Image], json: bool) -> io::Result<()> {
    if json {
        return say_json(&images);
    }
    let row = |image: &Image| {
        let version = image.label("version").unwrap_or("-").to_owned();
        let short = image.hash.get(..19).unwrap_or(&image.hash).to_owned();
        vec![short, image.name().to_owned(), version, bytes(image.size)]
    };
    table(&["DIGEST", "NAME", "VERSION", "SIZE"], &images.iter().map(row).collect::<Vec<_>>())
}

pub(crate) fn image(image: &Image, json: bool) -> io::Result<()> {
    if json {
        return say_json(image);
    }
    say(&format!("digest:   {}", image.hash))?;
    say(&format!("size:     {}", bytes(image.size)))?;
    say(&format!("manifest: {}", serde_json::to_string_pretty(&image.manifest)?))
}

pub(crate) fn uploaded(image: &Image, json: bool) -> io::Result<()> {
    if json { say_json(image) } else { say(&image.hash) }
}

pub(crate) fn enrolled(
    enrolled: &Enrolled,
    host: &str,
    directory: &Path,
    json: bool,
) -> io::Result<()> {
    if json {
        return say_json(&json!({
            "host": host, "name": enrolled.name, "role": enrolled.role, "directory": directory,
        }));
    }
    say(&format!("{host} knows this program as {} ({})", enrolled.name, enrolled.role))?;
    say(&format!("kurma --host {host} list"))
}

pub(crate) fn issued(issued: &Issued, host: &str, json: bool) -> io::Result<()> {
    if json {
        return say_json(issued);
    }
    let minutes = left(issued.expires).div_ceil(60);
    say(&format!("to be known as {} within {minutes} minutes:", issued.role))?;
    say(&format!("kurma enroll {host} --code {}", issued.code))
}

pub(crate) fn known(known: &[Known], json: bool) -> io::Result<()> {
    if json {
        return say_json(&known);
    }
    let row = |one: &Known| {
        let counts = match (one.revoked, left(one.expires)) {
            (true, _) => "revoked".to_owned(),
            (_, 0) => "expired".to_owned(),
            (_, left) => format!("{} d left", left / 86400),
        };
        vec![one.name.clone(), one.role.to_string(), age(one.since), counts]
    };
    table(&["NAME", "ROLE", "AGE", "STATE"], &known.iter().map(row).collect::<Vec<_>>())
}

pub(crate) fn info(info: &HostInfo, json: bool) -> io::Result<()> {
    if json {
        return say_json(info);
    }
    say(&format!("hostname: {}", info.hostname))?;
    say(&format!("system:   {}", info.system))?;
    say(&format!("kernel:   {} {} {}", info.platform, info.kernel_version, info.arch))?;
    say(&format!("cpus:     {}", info.cpus))?;
    say(&format!("memory:   {}", bytes(info.memory)))?;
    say(&format!("appc:     {}", info.ac_version))?;
    say(&format!("server:   {}", info.kurma_version))
}

pub(crate) async fn version(client: &Client, json: bool) -> Result<(), Problem> {
    let own = env!("CARGO_PKG_VERSION");
    let server = client.info().await;
    if json {
        let server = server.ok().map(|info| info.kurma_version);
        return Ok(say_json(&json!({ "client": own, "server": server }))?);
    }
    say(&format!("client: {own}"))?;
    match server {
        Ok(info) => say(&format!("server: {}", info.kurma_version))?,
        Err(error) => say(&format!("server: {error}"))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_apps_end() {
        let mut app = App::new("a", "i");
        assert_eq!(ended(&app), "waiting");
        app.state = AppState::Ended;
        assert_eq!(ended(&app), "ended");
        app.signal = Some(9);
        assert_eq!(ended(&app), "ended by signal 9");
        app.exit_code = Some(3);
        assert_eq!(ended(&app), "ended with 3");
        (app.state, app.error) = (AppState::Failed, Some("no file".into()));
        assert_eq!(ended(&app), "failed: no file");
    }
}
