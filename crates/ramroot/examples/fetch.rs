//! Fetches a root as a machine that boots would: its list, what the list vouches for, unpacked or kept.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use ed25519_dalek::pkcs8::DecodePublicKey as _;
use ed25519_dalek::{Signature, VerifyingKey};
use kiln_ramroot::http::{Reach, Url};
use kiln_ramroot::{Policy, Reader, Source, list, list_beside, local, unpack};

/// Fetches the root of a system, verified by its signed list of chunks.
#[derive(Debug, Parser)]
struct Arguments {
    /// A path, file: or http: URL; the list is beside it, with `.chunks` behind the name.
    root: String,
    /// The public key (PEM, Ed25519) that must have signed it.
    key: PathBuf,
    /// A directory that is there and empty for what an archive has, or a new file for a file system.
    to: PathBuf,
}

fn source(url: &str) -> kiln_ramroot::Result<Box<dyn Source>> {
    Ok(match local(url) {
        Some(path) => Box::new(path.to_owned()),
        None => Box::new(Url::new(url, &Reach::default())?),
    })
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let key = VerifyingKey::from_public_key_pem(&std::fs::read_to_string(&arguments.key)?)?;
    let verify = |text: &[u8], signature: &[u8; 64]| {
        key.verify_strict(text, &Signature::from_bytes(signature)).is_ok()
    };
    let policy = Policy::default();
    let beside = list_beside(&arguments.root);
    let mut tell = |line: &str| eprintln!("{line}");
    let list = list(&beside, &mut *source(&beside)?, &policy, &verify, &mut tell)?;
    println!("{} {}: {} bytes, {}", list.system, list.version, list.size(), list.kind);
    let (kind, begun) = (list.kind, Instant::now());
    let tell = Box::new(|event: &_| eprintln!("{event}"));
    let mut reader = Reader::new(source(&arguments.root)?, Arc::new(list), policy, tell).ahead(4);
    if kind.is_archive() {
        let done = unpack(reader, kind, &arguments.to, false)?;
        println!("{} entries, {} bytes of files", done.entries, done.bytes);
    } else {
        std::io::copy(&mut reader, &mut std::fs::File::create_new(&arguments.to)?)?;
    }
    println!("{:.2} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
