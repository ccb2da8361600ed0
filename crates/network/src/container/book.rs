//! What a network of containers has given to whom: a value, and the file that keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Forward, Pool};

/// A book is no longer than this.
const LONGEST: u64 = 16 << 20;
/// Who has the lock does a few requests to the kernel; after so long something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// The form that is written.
const VERSION: u32 = 1;

/// What a container has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Lease {
    /// The container.
    pub owner: String,
    /// Its addresses, one of each of the network's.
    pub addresses: Vec<IpNet>,
    /// The host's end of its link.
    pub link: String,
    /// The host's ports that lead to it.
    pub forwards: Vec<Forward>,
}

/// Everything that a network has given, in order of owners.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Book {
    version: u32,
    /// The address given last, of each pool in order.
    last: Vec<Option<IpAddr>>,
    leases: BTreeMap<String, Lease>,
}

/// Why a lease is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// All addresses are taken.
    #[error("no address of {0} is free")]
    Full(IpNet),
    /// A port of the host leads elsewhere.
    #[error("{forward}: the port leads to {owner} already")]
    Port {
        /// What was asked for.
        forward: Forward,
        /// Who has it.
        owner: String,
    },
}

impl Book {
    /// The leases, in order of owners.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// What an owner has.
    #[must_use]
    pub fn lease(&self, owner: &str) -> Option<&Lease> {
        self.leases.get(owner)
    }

    /// Gives an owner an address of each network (by their gateways), and ports of the host. What it
    /// has it keeps, as long as it is of these networks.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing is changed.
    pub fn take(
        &mut self,
        owner: &str,
        gateways: &[IpNet],
        forwards: &[Forward],
    ) -> Result<Lease, Refusal> {
        for (at, forward) in forwards.iter().enumerate() {
            let others = self.leases.values().filter(|lease| lease.owner != owner);
            let mut taken =
                others.flat_map(|lease| lease.forwards.iter().map(|f| (f, &lease.owner)));
            let own = forwards.iter().take(at).find(|before| before.meets(forward));
            let holder = taken
                .find(|(other, _)| other.meets(forward))
                .map(|(_, holder)| holder.clone())
                .or_else(|| own.map(|_| owner.to_owned()));
            if let Some(owner) = holder {
                return Err(Refusal::Port { forward: forward.clone(), owner });
            }
        }
        let mut addresses = Vec::new();
        let mut last = Vec::new();
        for (at, gateway) in gateways.iter().enumerate() {
            let before = self.last.get(at).copied().flatten();
            let mut pool = Pool::with(*gateway, self.taken(), before);
            let address = pool.take(owner).ok_or(Refusal::Full(*gateway))?;
            last.push(pool.last());
            // Of one family and shorter than that: it comes from a network.
            addresses.extend(IpNet::new(address, gateway.prefix_len()));
        }
        self.version = VERSION;
        self.last = last;
        let link = self.lease(owner).map_or_else(|| self.free_name(owner), |had| had.link.clone());
        let owner = owner.to_owned();
        let lease = Lease { owner: owner.clone(), addresses, link, forwards: forwards.to_vec() };
        self.leases.insert(owner, lease.clone());
        Ok(lease)
    }

    /// Every address with its owner.
    fn taken(&self) -> impl Iterator<Item = (IpAddr, String)> {
        self.leases
            .values()
            .flat_map(|lease| lease.addresses.iter().map(|net| (net.addr(), lease.owner.clone())))
    }

    /// A name for the host's end of a link: by the owner's, so that it is the same again after a
    /// crash, and no other's.
    fn free_name(&self, owner: &str) -> String {
        let taken: BTreeSet<&str> = self.leases.values().map(|lease| lease.link.as_str()).collect();
        // FNV-1a.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in owner.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        loop {
            let name = format!("kv{:011x}", hash & 0xfff_ffff_ffff);
            if !taken.contains(name.as_str()) {
                return name;
            }
            hash = hash.wrapping_add(1);
        }
    }

    /// Gives back all that an owner has.
    pub fn give_back(&mut self, owner: &str) -> Option<Lease> {
        self.leases.remove(owner)
    }
}

/// A book on a disk (better: a tmpfs, for none of what it says outlives the kernel), locked for as
/// long as this lives.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    pub(super) book: Book,
    /// Closing it unlocks.
    _lock: File,
}

impl Kept {
    /// Locks and reads the book of a network; an empty one where there is none.
    pub(super) fn open(directory: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let lock = directory.join(format!("{name}.lock"));
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock)?;
        let end = Instant::now() + PATIENCE;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::AGAIN) => {
                    let what = "another process has the lock all the time";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, what));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let path = directory.join(format!("{name}.json"));
        let book = read(&path)?.unwrap_or_default();
        Ok(Self { path, book, _lock: lock })
    }

    /// Writes the book: after a crash the file is the old or the new one.
    pub(super) fn save(&self) -> io::Result<()> {
        let new = self.path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(&self.book)?;
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        match self.path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Removes the file; the lock stays, for others may wait for it.
    pub(super) fn forget(self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A book that cannot be read is an error: who begins a new one gives addresses twice.
pub(super) fn read(path: &Path) -> io::Result<Option<Book>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let book: Book = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if book.version != VERSION {
        return Err(wrong(format!("version {} of it, expected {VERSION}", book.version)));
    }
    let mut seen = BTreeSet::new();
    for (owner, lease) in &book.leases {
        let twice = lease.addresses.iter().find(|net| !seen.insert(net.addr()));
        if let Some(net) = twice {
            return Err(wrong(format!("{} is there twice", net.addr())));
        }
        if lease.owner != *owner {
            return Err(wrong(format!("what {owner} has is said to be of {}", lease.owner)));
        }
    }
    Ok(Some(book))
}
