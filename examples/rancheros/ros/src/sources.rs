//! Where user-data comes from: media and files at once, the network when it is there. The first source of
//! the list that has something counts, and what it has is kept for boots without it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use kiln_cloudconfig::Limits;
use kiln_cloudconfig::datasource::{
    self, Answer, Candidate, Outcome, Progress, Provided, Selection, Step, http,
};
use kiln_supervisor::pid1::block;

use crate::boot::Problems;
use crate::reach::Reach;
use crate::{configuration, files, places};

/// How long a drive may take to show its medium.
const SPIN_UP: Duration = Duration::from_secs(3);
/// How long the network and who is asked over it may take together.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Where clouds have their metadata (RFC 3927).
const METADATA: &str = "http://169.254.169.254/";

/// A source as the configuration names it: `NAME`, or `NAME:WHERE`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A medium with one of these labels.
    Medium(&'static [&'static str]),
    File(PathBuf),
    Network(Service),
}

/// Who is asked over the network, each at its address.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Service {
    /// One file of user-data.
    Url(String),
    /// What a medium would have, on a web server.
    ConfigDrive(String),
    NoCloud(String),
    Ec2(String),
    DigitalOcean(String),
}

/// Reads a source's name.
fn source(text: &str) -> Result<Source, String> {
    let (name, place) = text.split_once(':').unwrap_or((text, ""));
    let is_http = place.starts_with("http://") || place.starts_with("https://");
    let address = || if place.is_empty() { METADATA.to_owned() } else { place.to_owned() };
    let service = match name {
        "file" if place.starts_with('/') => return Ok(Source::File(place.into())),
        "configdrive" if !is_http => return Ok(Source::Medium(&["config-2"])),
        "nocloud" if !is_http => return Ok(Source::Medium(&["cidata", "CIDATA"])),
        "url" => Service::Url(place.to_owned()),
        "configdrive" | "openstack" => Service::ConfigDrive(address()),
        "nocloud" => Service::NoCloud(address()),
        "ec2" => Service::Ec2(address()),
        "digitalocean" => Service::DigitalOcean(address()),
        _ => return Err("is not known here".into()),
    };
    // An address that nobody can ask is no reason to wait.
    http::Server::new(service.address(), http::Bounds::default()).map_err(|error| error.why)?;
    Ok(Source::Network(service))
}

impl Service {
    fn address(&self) -> &str {
        match self {
            Self::Url(url)
            | Self::ConfigDrive(url)
            | Self::NoCloud(url)
            | Self::Ec2(url)
            | Self::DigitalOcean(url) => url,
        }
    }

    /// Asks once.
    fn read(
        &self,
        name: &str,
        patience: Duration,
        reach: &Arc<Reach>,
    ) -> Result<Option<Provided>, datasource::ReadError> {
        let limits = Limits::default();
        let mut bounds = http::Bounds::default();
        bounds.patience = bounds.patience.min(patience);
        let server = || {
            let server = http::Server::new(self.address(), bounds.clone());
            server.map(|server| server.reached_by(Arc::<Reach>::clone(reach)))
        };
        match self {
            Self::Url(url) => {
                let found = http::get(url, limits.user_data_bytes, &bounds, Some(&**reach));
                Ok(found?.map(user_data))
            }
            Self::ConfigDrive(_) => datasource::config_drive(&server()?, name, &limits),
            Self::NoCloud(_) => datasource::nocloud(&server()?, name, &limits),
            Self::Ec2(_) => datasource::ec2(&http::imds(server()?)?, name, &limits),
            Self::DigitalOcean(_) => datasource::digital_ocean(&server()?, name, &limits),
        }
    }

    /// Asks until somebody answers, in time for whoever waits that long: the network may not be there yet.
    fn ask(&self, name: &str, until: Instant, reach: &Arc<Reach>) -> Answer<Provided> {
        let mut pause = PAUSES.0;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let why = match self.read(name, left.max(pause), reach) {
                Ok(Some(provided)) => return Answer::Found(provided),
                Ok(None) => return Answer::Absent,
                Err(error) => error.to_string(),
            };
            if until.saturating_duration_since(Instant::now()) < pause {
                return Answer::Failed(why);
            }
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2).min(PAUSES.1);
        }
    }
}

/// Asks media and files, in order. Gives whether sources of the network are to be asked yet: those that
/// stand above what was found.
pub(crate) fn local(allowed: &[String], problems: &mut Problems) -> bool {
    let mut sources = Vec::new();
    for name in allowed {
        match source(name) {
            Ok(source) => sources.push((name.as_str(), source)),
            Err(why) => problems.note(format_args!("datasource {name:?}: {why}")),
        }
    }
    wait_for_media(&sources);
    let mut open = Vec::new();
    for (name, source) in sources {
        let read = match source {
            Source::Network(_) => {
                open.push(name);
                continue;
            }
            Source::Medium(labels) => medium(name, labels),
            Source::File(path) => file(&path),
        };
        if let Some(Some(provided)) = problems.take(name, read) {
            keep(name, &provided, problems);
            break;
        }
    }
    let text: String = open.iter().map(|name| format!("{name}\n")).collect();
    let noted = problems.take(places::OPEN, files::replace(places::OPEN, text.as_bytes(), 0o600));
    noted.is_some() && !open.is_empty()
}

fn find(labels: &[&str]) -> Option<block::Found> {
    labels.iter().find_map(|label| block::find_labelled(label))
}

/// A drive that is slow to spin up is waited for, where there is one that could be.
fn wait_for_media(sources: &[(&str, Source)]) {
    let media = || {
        sources.iter().filter_map(|(_, source)| match source {
            Source::Medium(labels) => Some(labels),
            _ => None,
        })
    };
    let drives = ["/sys/class/ata_port", "/sys/class/scsi_host"].map(Path::new);
    let may_come = || {
        let mut drives = drives.iter().filter_map(|class| fs::read_dir(class).ok());
        drives.any(|mut entries| entries.next().is_some())
    };
    let began = Instant::now();
    while media().next().is_some()
        && media().all(|labels| find(labels).is_none())
        && may_come()
        && began.elapsed() < SPIN_UP
    {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn medium(name: &str, labels: &[&str]) -> Result<Option<Provided>, String> {
    let Some(found) = find(labels) else { return Ok(None) };
    let place = Path::new(places::NOW).join("medium");
    let kind = name.split(':').next().unwrap_or(name);
    block::look_into(&found, &place, |directory| configuration::look(kind, directory))
}

fn file(path: &Path) -> Result<Option<Provided>, String> {
    let bytes = files::read(path).map_err(|error| error.to_string())?;
    Ok(bytes.map(user_data))
}

/// What a source has that has user-data alone.
fn user_data(bytes: Vec<u8>) -> Provided {
    let mut provided = Provided::default();
    provided.user_data = Some(bytes);
    provided
}

/// Asks those that [`local`] has left open, all at once.
pub(crate) fn network(problems: &mut Problems) {
    let text = problems.take(places::OPEN, files::read(places::OPEN)).flatten();
    let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
    let services = text.lines().filter_map(|name| match source(name) {
        Ok(Source::Network(service)) => Some((name.to_owned(), service)),
        _ => None,
    });
    let services: Vec<(String, Service)> = services.collect();
    let names: Vec<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
    kiln_supervisor::unix::console_line(format_args!(
        "config: asking {}, for at most {} s",
        names.join(", "),
        PATIENCE.as_secs()
    ));
    let reach = Reach { authorities: configuration::sources().authorities };
    let outcome = select(services.clone(), PATIENCE, reach);
    for (name, progress) in outcome.sources {
        match progress {
            Progress::Failed(why) => problems.note(format_args!("datasource {name:?}: {why}")),
            Progress::TimedOut => problems.note(format_args!("datasource {name:?}: no answer")),
            Progress::Absent => problems.note(format_args!("datasource {name:?} has nothing")),
            _ => {}
        }
    }
    if let Some((at, provided)) = outcome.winner
        && let Some((name, _)) = services.get(at)
    {
        keep(name, &provided, problems);
    }
}

/// Which of them counts, and what became of each.
fn select(services: Vec<(String, Service)>, patience: Duration, reach: Reach) -> Outcome<Provided> {
    let reach = Arc::new(reach);
    let began = Instant::now();
    let candidate = |(name, _): &(String, Service)| Candidate::new(name.as_str(), patience);
    let candidates = services.iter().map(candidate).collect();
    let mut selection = Selection::new(candidates, None, began.elapsed());
    let (sender, answers) = mpsc::channel();
    // Whoever gives up tells why before nobody listens any more.
    let until = began.checked_add(patience.mul_f32(0.95)).unwrap_or(began);
    for (at, (name, service)) in services.into_iter().enumerate() {
        let (sender, reach) = (sender.clone(), Arc::clone(&reach));
        let ask = move || {
            // By then it may have been decided.
            let _ = sender.send((at, service.ask(&name, until, &reach)));
        };
        if let Err(error) = std::thread::Builder::new().spawn(ask) {
            selection.answer(at, Answer::Failed(error.to_string()), began.elapsed());
        }
    }
    while let Step::WaitUntil(deadline) = selection.step(began.elapsed()) {
        if let Ok((at, answer)) = answers.recv_timeout(deadline.saturating_sub(began.elapsed())) {
            selection.answer(at, answer, began.elapsed());
        }
    }
    selection.finish()
}

/// Keeps what a source has in place of what was kept before.
fn keep(name: &str, provided: &Provided, problems: &mut Problems) {
    let (parts, findings) = configuration::parts(name, provided);
    findings.iter().for_each(|finding| problems.note(finding));
    let kept = [
        (places::USER_DATA, &parts.config, 0o600),
        (places::SCRIPT, &parts.script, 0o700),
        (places::META_DATA, &parts.meta_data, 0o600),
    ];
    for (path, bytes, mode) in kept {
        let done = match bytes {
            Some(bytes) => files::replace(path, bytes, mode),
            None => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        problems.take(path, done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    #[test]
    fn sources_are_names_with_a_place_behind_them() {
        let media = |labels| Ok(Source::Medium(labels));
        assert_eq!(source("configdrive"), media(&["config-2"][..]));
        // the original names a place where it is mounted
        assert_eq!(source("configdrive:/media/config-2"), media(&["config-2"][..]));
        assert_eq!(source("file:/var/lib/x.yml"), Ok(Source::File("/var/lib/x.yml".into())));
        let network = |service| Ok(Source::Network(service));
        let url = || "http://192.0.2.1/a".to_owned();
        assert_eq!(source("url:http://192.0.2.1/a"), network(Service::Url(url())));
        assert_eq!(source("nocloud:http://192.0.2.1/a"), network(Service::NoCloud(url())));
        assert_eq!(source("ec2"), network(Service::Ec2(METADATA.into())));
        assert_eq!(source("openstack"), network(Service::ConfigDrive(METADATA.into())));
        for (text, why) in [
            ("vmware", "is not known here"),
            ("file:x", "is not known here"),
            ("url:ftp://192.0.2.1/", "expected http://HOST/PATH or https://HOST/PATH"),
            ("nocloud:https://a_b/", "no name, address or port"),
        ] {
            assert!(source(text).unwrap_err().starts_with(why), "{text}");
        }
    }

    /// A web server that hangs up so many times before it answers.
    fn server(failures: usize, answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for (count, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request);
                if count >= failures {
                    let _ = stream.write_all(answer.as_bytes());
                }
            }
        });
        format!("http://{address}/")
    }

    #[test]
    fn the_first_that_has_something_counts_and_who_fails_is_asked_again() {
        const DATA: &str = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n#cloud-config";
        const NOTHING: &str = "HTTP/1.1 404 Not Found\r\n\r\n";
        let url = |url: String| (url.clone(), Service::Url(url));
        let services = vec![url(server(0, NOTHING)), url(server(2, DATA)), url(server(0, DATA))];
        let Outcome { winner, sources, .. } =
            select(services, Duration::from_secs(60), Reach::default());
        let (at, provided) = winner.unwrap();
        assert_eq!((at, provided.user_data.as_deref()), (1, Some(&b"#cloud-config"[..])));
        assert_eq!((&sources[0].1, &sources[1].1), (&Progress::Absent, &Progress::Found));
    }

    #[test]
    fn nobody_there_is_told_with_the_reason() {
        // a port that was free a moment ago
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{address}/");
        let began = Instant::now();
        let services = vec![(url.clone(), Service::Ec2(url))];
        let Outcome { winner, sources, .. } =
            select(services, Duration::from_millis(800), Reach::default());
        assert_eq!(winner, None);
        assert!(
            matches!(&sources[0].1, Progress::Failed(why) if why.contains("refused")),
            "{sources:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
