//! Debian packages with all that they need, unpacked into a directory without root.
//!
//! `sysroot --suite bookworm --out DIR nginx-light`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use kiln_debroot::fetch::{AptHelper, Fetch};
use kiln_debroot::root::{Filter, Options};
use kiln_debroot::{Archive, Lock, Request, Root, archive, download, resolve};

/// Debian packages with all that they need, unpacked into a directory without root
#[derive(Debug, Parser)]
struct Arguments {
    /// Packages: NAME or NAME=VERSION
    #[arg(required = true)]
    packages: Vec<String>,
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The release of Debian
    #[arg(long, default_value = "bookworm")]
    suite: String,
    /// The architecture, as Debian calls it
    #[arg(long, default_value = "amd64")]
    architecture: String,
    /// Another archive than Debian's, with this suite and the component main
    #[arg(long, value_name = "URI")]
    archive: Option<String>,
    /// Whose signatures are trusted
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/usr/share/keyrings/debian-archive-keyring.gpg"
    )]
    keyring: PathBuf,
    /// Take recommended packages too
    #[arg(long)]
    recommends: bool,
    /// Take the packages that every Debian system has too
    #[arg(long)]
    essential: bool,
    /// Leave out documentation, manual pages and translations
    #[arg(long)]
    no_documentation: bool,
    /// Choose an alternative
    #[arg(long, value_name = "NAME=PATH")]
    alternative: Vec<String>,
    /// The lock: made, or brought up to date
    #[arg(long, value_name = "FILE", default_value = "kiln.lock")]
    lock: PathBuf,
    /// Take what the lock says, and fail if it answers another question
    #[arg(long)]
    locked: bool,
    /// Take nothing but what is in the cache (needs --locked)
    #[arg(long, requires = "locked")]
    offline: bool,
    /// Where downloads are kept
    #[arg(long, value_name = "DIR", default_value = "target/cache/debroot")]
    cache: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sysroot: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let start = Instant::now();
    let fetch = AptHelper::default();
    let fetch: Option<&dyn Fetch> = (!arguments.offline).then_some(&fetch);
    let choices = choices(&arguments.alternative)?;
    let archives = archives(arguments)?;
    let request = Request::new(arguments.packages.clone())
        .with_recommends(arguments.recommends)
        .with_essential(arguments.essential);
    let lock = lock(arguments, &archives, &request)?;
    let bytes: u64 = lock.packages.iter().map(|package| package.size).sum();
    eprintln!("{} packages, {:.1} MB", lock.packages.len(), mega(bytes));

    let bar = ProgressBar::new(lock.packages.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
    let place = download::by_digest(arguments.cache.join("packages"));
    let paths = download::download_with(&lock, &place, fetch, &|package, left| {
        bar.set_position((lock.packages.len() - left) as u64);
        bar.set_message(package.name.clone());
    })?;
    bar.finish_and_clear();
    let packages: Vec<_> = lock.packages.iter().cloned().zip(paths).collect();
    let mut options = Options::default();
    options.choices = choices;
    if arguments.no_documentation {
        options.filter = Filter::without_documentation();
    }
    let root = Root::unpack(&packages, &arguments.out, &options)?;
    for alternative in &root.alternatives {
        println!("alternative {}: {}", alternative.name, alternative.path);
    }
    for note in &root.notes {
        println!("note: {note}");
    }
    println!(
        "{}: {} paths, {:.1} MB, in {:.1} s",
        arguments.out.display(),
        root.tree.len(),
        mega(root.tree.content_len()),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn archives(arguments: &Arguments) -> Result<Vec<Archive>> {
    let keyring = std::fs::read(&arguments.keyring)
        .with_context(|| format!("keyring {}", arguments.keyring.display()))?;
    let (suite, architecture) = (&arguments.suite, &arguments.architecture);
    Ok(match &arguments.archive {
        None => archive::debian(suite, architecture, &keyring),
        Some(uri) => vec![Archive::new(uri, suite, architecture, keyring)],
    })
}

fn lock(arguments: &Arguments, archives: &[Archive], request: &Request) -> Result<Lock> {
    let path = &arguments.lock;
    let old = match std::fs::read_to_string(path) {
        Ok(text) => Some(Lock::parse(&text, &path.display().to_string())?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(path.display().to_string()),
    };
    if arguments.locked {
        let Some(lock) = old else { bail!("{}: no such lock (--locked)", path.display()) };
        if !lock.answers(archives, request) {
            bail!("{}: it locks other packages or archives; run without --locked", path.display());
        }
        return Ok(lock);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let store = arguments.cache.join("indexes");
    let index = archive::read(archives, now, &store, &AptHelper::default())?;
    let new = Lock::new(archives, request, &resolve(&index, request)?);
    match &old {
        None => eprintln!("{}: new", path.display()),
        Some(old) => eprint!("{}: {}", path.display(), Lock::diff(old, &new)),
    }
    write(path, &new.to_string())?;
    Ok(new)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, path))
        .with_context(|| format!("write {}", path.display()))
}

fn choices(words: &[String]) -> Result<BTreeMap<String, String>> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((name, path)) => Ok((name.to_owned(), path.to_owned())),
            None => bail!("--alternative {word}: it has the form NAME=PATH"),
        })
        .collect()
}

/// Bytes in millions, for people.
#[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
