//! Secure Boot with keys of one's own: what firmware is told to trust.
//!
//! Firmware keeps four databases as variables (UEFI 2.10, section 32): the platform key `PK` may
//! change `KEK`, the keys in `KEK` may change `db` and `dbx`, and a program starts when a
//! certificate or its image hash is in `db` and none is in `dbx`. They consist of signature lists
//! ([`signatures`]). A machine gets them in one of two ways:
//!
//! - a virtual machine from its variable store, a file beside OVMF: [`Enrollment::enroll`];
//! - any machine from signed updates (`Update`, `.auth` files), which systemd-boot, KeyTool and
//!   Linux (`/sys/firmware/efi/efivars`) take.
//!
//! # Example
//! This example shows how to make keys and the variable store of a virtual machine that starts only
//! what they sign.
//!
//! ```no_run
//! use kiln_diskimg::Guid;
//! use kiln_diskimg::boot::secure_boot::{Enrollment, Signature};
//! # #[cfg(feature = "sign")] {
//! use kiln_diskimg::boot::sign::{Certificate, PrivateKey, Profile};
//!
//! let owner: Guid = "3d2aa4b8-1c15-4b1e-8f4e-0f0a5c2a7b11".parse()?;
//! let certificate = |name: &str, key: &PrivateKey| {
//!     let certificate = Certificate::self_signed(key, &Profile::new(name))?;
//!     Ok::<_, kiln_diskimg::Error>(Signature::certificate(owner, certificate.to_der()))
//! };
//! let key = |name: &str| PrivateKey::parse(&std::fs::read(name)?).map_err(std::io::Error::other);
//! let mut keys = Enrollment::new(certificate("Platform Key", &key("PK.pem")?)?);
//! keys.key_exchange.push(certificate("Key Exchange Key", &key("KEK.pem")?)?);
//! keys.allowed.push(certificate("Signature Database", &key("db.pem")?)?);
//! std::fs::write("vars.fd", keys.enroll(&std::fs::read("OVMF_VARS_4M.fd")?)?)?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod signatures;
pub mod store;
mod time;
#[cfg(feature = "sign")]
mod update;

pub use signatures::Signature;
pub use store::{Store, Variable};
pub use time::Timestamp;
#[cfg(feature = "sign")]
pub use update::Update;

use crate::error::Problems;
use crate::guid::Guid;
use crate::{Limits, Result};

/// The vendor of the variables that the UEFI specification defines.
pub const GLOBAL_VARIABLE: Guid = Guid::from_u128(0x8be4df61_93ca_11d2_aa0d_00e098032b8c);
/// The vendor of `db` and `dbx`.
pub const IMAGE_SECURITY_DATABASE: Guid = Guid::from_u128(0xd719b2cb_3d3a_4596_a3bc_dad00e67656f);
/// The vendor of `SecureBootEnable` (EDK2).
const SECURE_BOOT_ENABLE: Guid = Guid::from_u128(0xf0a30bc7_af08_4556_99c4_001009c93a44);
/// The vendor of `CustomMode` (EDK2).
const CUSTOM_MODE: Guid = Guid::from_u128(0xc076ec0c_7028_4399_a072_71ee5c448b9f);

/// Bits of a variable's attributes (UEFI 2.10, section 8.2.1).
pub mod attribute {
    /// It is kept while the machine is off.
    pub const NON_VOLATILE: u32 = 1;
    /// Boot loaders can reach it.
    pub const BOOT_SERVICE: u32 = 2;
    /// Operating systems can reach it.
    pub const RUNTIME: u32 = 4;
    /// Changing it takes a signature with a time later than the last.
    pub const TIME_BASED_AUTHENTICATED: u32 = 0x20;
    /// Only in an update: what is written is added.
    pub const APPEND: u32 = 0x40;
    /// Those of the four databases.
    pub const DATABASE: u32 = NON_VOLATILE | BOOT_SERVICE | RUNTIME | TIME_BASED_AUTHENTICATED;
}

/// One of the four databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Database {
    /// `PK`: whose machine it is; exactly one certificate.
    PlatformKey,
    /// `KEK`: who may change the following two.
    KeyExchange,
    /// `db`: what may start.
    Allowed,
    /// `dbx`: what may not start, whatever `db` says.
    Forbidden,
}

impl Database {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::PlatformKey, Self::KeyExchange, Self::Allowed, Self::Forbidden];

    /// The variable's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PlatformKey => "PK",
            Self::KeyExchange => "KEK",
            Self::Allowed => "db",
            Self::Forbidden => "dbx",
        }
    }

    /// The variable's vendor.
    #[must_use]
    pub const fn vendor(self) -> Guid {
        match self {
            Self::PlatformKey | Self::KeyExchange => GLOBAL_VARIABLE,
            Self::Allowed | Self::Forbidden => IMAGE_SECURITY_DATABASE,
        }
    }
}

/// What a machine is to trust.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Enrollment {
    /// The certificate of the platform key.
    pub platform_key: Signature,
    /// The certificates of those who may change what follows.
    pub key_exchange: Vec<Signature>,
    /// Certificates and image hashes of what may start.
    pub allowed: Vec<Signature>,
    /// Certificates and image hashes of what may not.
    pub forbidden: Vec<Signature>,
    /// The time of the databases in seconds since 1970; signed updates must be later. Default: the
    /// year 2000.
    pub time: u64,
}

impl Enrollment {
    /// A platform key and nothing that may start yet.
    #[must_use]
    pub fn new(platform_key: Signature) -> Self {
        let (key_exchange, allowed, forbidden) = (Vec::new(), Vec::new(), Vec::new());
        Self { platform_key, key_exchange, allowed, forbidden, time: 946_684_800 }
    }

    /// The signatures of a database.
    #[must_use]
    pub fn database(&self, database: Database) -> &[Signature] {
        match database {
            Database::PlatformKey => std::slice::from_ref(&self.platform_key),
            Database::KeyExchange => &self.key_exchange,
            Database::Allowed => &self.allowed,
            Database::Forbidden => &self.forbidden,
        }
    }

    /// Puts the databases into a variable store (`OVMF_VARS_4M.fd`), in place of those that are
    /// there, and switches Secure Boot on. All other variables are kept.
    ///
    /// # Errors
    /// [`Error::Plan`](crate::Error::Plan) when the machine could not start anything with it or the
    /// store is too small; [`Error::Malformed`](crate::Error::Malformed) when the store is none.
    pub fn enroll(&self, store: &[u8]) -> Result<Vec<u8>> {
        let mut store = Store::parse(store, &Limits::default())?;
        let mut problems = Problems(Vec::new());
        self.check(&mut problems);
        let time = Timestamp::from_unix(self.time);
        if time.is_none() {
            problems.0.push(format!("the time {} is after the year 9999", self.time));
        }
        problems.check("secure boot")?;
        let time = time.unwrap_or_default();
        for database in Database::ALL {
            let list = self.database(database);
            store.remove(database.vendor(), database.name());
            if !list.is_empty() {
                let mut variable =
                    Variable::new(database.vendor(), database.name(), signatures::emit(list));
                variable.attributes = attribute::DATABASE;
                variable.timestamp = time;
                store.set(variable);
            }
        }
        store.set(Variable::new(SECURE_BOOT_ENABLE, "SecureBootEnable", vec![1]));
        store.set(Variable::new(CUSTOM_MODE, "CustomMode", vec![0]));
        store.to_bytes()
    }

    fn check(&self, problems: &mut Problems) {
        if self.allowed.is_empty() {
            problems.0.push("db is empty: the machine would start nothing".to_owned());
        }
        for database in [Database::PlatformKey, Database::KeyExchange] {
            if self.database(database).iter().any(|it| it.kind != signatures::X509) {
                let name = database.name();
                problems.0.push(format!("{name} has something other than a certificate"));
            }
        }
        for database in Database::ALL {
            for signature in self.database(database) {
                if let Some(problem) = signature.problem() {
                    problems.0.push(format!("{}: {problem}", database.name()));
                }
            }
        }
        for forbidden in &self.forbidden {
            let same = |it: &Signature| it.kind == forbidden.kind && it.data == forbidden.data;
            if self.allowed.iter().any(same) {
                problems.0.push("something is both in db and in dbx".to_owned());
            }
        }
    }
}
