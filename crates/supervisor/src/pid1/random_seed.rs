//! What the kernel's random generator begins with: a secret that an earlier boot has left, credited
//! once, and a new one for the next boot.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};

use super::{file, sys};

/// Bytes of a seed: what the kernel's generator has as state (drivers/char/random.c).
pub const LEN: usize = 32;

type Seed = [u8; LEN];

/// What [`load`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// No seed, or none that can be used; the first one is kept now.
    First,
    /// A seed, which the kernel has now. Another one is kept.
    Credited,
}

/// Gives the kernel the seed of a file, with all its bits credited, after a new one is on the disk in
/// its place: no seed is credited twice, whenever the machine stops. Where there is none, one is
/// kept for the next boot, if the generator is seeded by something else within `patience`.
///
/// # Errors
/// The file cannot be read or replaced (the seed is then not used), the kernel does not take it
/// (`CAP_SYS_ADMIN`), or the generator has no seed in time.
pub fn load(path: &Path, patience: Duration) -> io::Result<Loaded> {
    load_into(path, patience, |seed| {
        sys::add_entropy(OpenOptions::new().write(true).open("/dev/urandom")?, seed)
    })
}

fn load_into(
    path: &Path,
    patience: Duration,
    credit: impl FnOnce(&Seed) -> io::Result<()>,
) -> io::Result<Loaded> {
    let old = file::read(path)?.and_then(|bytes| Seed::try_from(bytes).ok());
    let Some(old) = old else {
        file::replace(path, &random(patience)?, 0o600)?;
        return Ok(Loaded::First);
    };
    // Of the generator as it is, seeded or not: together with the old seed it is no worse than that.
    let mut fresh: Seed = [0; LEN];
    getrandom(&mut fresh, GetRandomFlags::INSECURE)?;
    let derive = |purpose: &str| -> Seed {
        Sha256::new().chain_update(purpose).chain_update(old).chain_update(fresh).finalize().into()
    };
    file::replace(path, &derive("next"), 0o600)?;
    credit(&derive("now"))?;
    // Now that the generator is seeded, a better one for the next time; without it there is one.
    let _ = save(path);
    Ok(Loaded::Credited)
}

/// Keeps a new seed for the next boot, at the end of this one.
///
/// # Errors
/// The generator has no seed itself, or the file cannot be replaced; what was kept stays.
pub fn save(path: &Path) -> io::Result<()> {
    file::replace(path, &random(Duration::ZERO)?, 0o600)
}

/// Random bytes of a generator that has a seed.
fn random(patience: Duration) -> io::Result<Seed> {
    let began = Instant::now();
    let mut seed = [0; LEN];
    loop {
        // Of up to 256 bytes, all are given or none (getrandom(2)).
        match getrandom(&mut seed, GetRandomFlags::NONBLOCK) {
            Ok(LEN) => return Ok(seed),
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if began.elapsed() >= patience {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "the kernel's random generator has no seed yet",
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_used_once_and_only_after_it_was_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed");
        let read = || Seed::try_from(std::fs::read(&path).unwrap()).unwrap();
        let unused = |_: &Seed| -> io::Result<()> { unreachable!() };
        assert_eq!(load_into(&path, Duration::from_secs(60), unused).unwrap(), Loaded::First);
        let first = read();
        let mut given = [0; LEN];
        let done = load_into(&path, Duration::ZERO, |seed| {
            given = *seed;
            assert_ne!(read(), first, "it must be replaced before it is used");
            Ok(())
        });
        assert_eq!(done.unwrap(), Loaded::Credited);
        assert!(given != first && given != read() && read() != first);
        // What was not taken is not kept either.
        let before = read();
        load_into(&path, Duration::ZERO, |_| Err(io::ErrorKind::PermissionDenied.into()))
            .unwrap_err();
        assert_ne!(read(), before);
        // A place that cannot be written: not used.
        std::fs::create_dir(dir.path().join("seed.new")).unwrap();
        assert!(load_into(&path, Duration::ZERO, unused).is_err());
        std::fs::remove_dir(dir.path().join("seed.new")).unwrap();
        // What is no seed is replaced by one.
        std::fs::write(&path, "short").unwrap();
        assert_eq!(load_into(&path, Duration::from_secs(60), unused).unwrap(), Loaded::First);
        let kept = read();
        save(&path).unwrap();
        assert_ne!(read(), kept);
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
