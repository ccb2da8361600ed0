//! Read-only devices whose every block is checked when it is read: dm-verity
//! (`Documentation/admin-guide/device-mapper/verity.rst`), set up without libdevmapper.
//!
//! One hash, the root hash, vouches for all of a device: it is the hash of a block of hashes of blocks
//! and so on. Who knows it from a trusted place (a signed kernel's command line) need trust neither
//! the device nor the hashes beside it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::sys::{self, Command, LEN, Request};

const CONTROL: &str = "/dev/mapper/control";
/// Major and minor version of the interface that is spoken; kernels speak all older ones.
const VERSION: [u32; 3] = [4, 0, 0];
const READ_ONLY: u32 = 1;
/// Bytes of a device's name, with the zero behind it.
const NAME_LEN: usize = 128;
/// Where `struct dm_target_spec` begins.
const HEADER: usize = sys::HEADER as usize;
/// Its bytes.
const TARGET: usize = 40;
/// Bytes of a verity superblock (cryptsetup, `lib/verity/verity.c`).
const SUPERBLOCK: usize = 512;
/// How long a device's node may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the hash device says of itself. Nothing of it is trusted: with other values no block has the
/// hash that it should have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Superblock {
    algorithm: String,
    data_block: u32,
    hash_block: u32,
    data_blocks: u64,
    salt: Vec<u8>,
}

impl Superblock {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let field = |at: usize, len: usize| bytes.get(at..at + len).unwrap_or_default();
        let number = |at: usize, len: usize| {
            field(at, len).iter().rev().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte))
        };
        if field(0, 8) != b"verity\0\0" {
            return Err("it does not begin as one with hashes does".into());
        }
        if (number(8, 4), number(12, 4)) != (1, 1) {
            return Err("it is of another version".into());
        }
        let algorithm = field(32, 32).split(|byte| *byte == 0).next().unwrap_or_default();
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        if algorithm.is_empty() || !algorithm.iter().all(is_name) {
            return Err("its hash algorithm has no name".into());
        }
        let block = |at| u32::try_from(number(at, 4)).ok().filter(|size| size.is_power_of_two());
        let (data_block, hash_block) =
            block(64).zip(block(68)).ok_or("its block sizes are no powers of two")?;
        let salt_len = usize::try_from(number(80, 2)).ok().filter(|len| *len <= 256);
        let salt_len = salt_len.ok_or("its salt is too long")?;
        Ok(Self {
            algorithm: String::from_utf8_lossy(algorithm).into_owned(),
            data_block,
            hash_block,
            data_blocks: number(72, 8),
            salt: field(88, salt_len).to_vec(),
        })
    }

    /// How many sectors of 512 bytes are vouched for.
    fn sectors(&self) -> Result<u64, String> {
        let sectors = u64::from(self.data_block) / 512;
        self.data_blocks
            .checked_mul(sectors)
            .filter(|sectors| *sectors > 0)
            .ok_or_else(|| "it vouches for no block, or for too many".into())
    }

    /// The target's parameters, as the kernel takes them.
    fn parameters(&self, data: &Path, hashes: &Path, root: &[u8]) -> String {
        // The superblock takes the first block of hashes.
        let first = SUPERBLOCK.div_ceil(self.hash_block as usize);
        let salt = if self.salt.is_empty() { "-".into() } else { hex(&self.salt) };
        format!(
            "1 {} {} {} {} {} {first} {} {} {salt}",
            data.display(),
            hashes.display(),
            self.data_block,
            self.hash_block,
            self.data_blocks,
            self.algorithm,
            hex(root)
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A header for a device of this name.
fn request(name: &str, flags: u32) -> Result<Request, String> {
    let mut request = Request([0; LEN]);
    let fits = !name.is_empty() && name.len() < NAME_LEN && !name.contains(['/', '\0']);
    if !fits {
        return Err(format!("{name:?} is no name for a device"));
    }
    for (at, number) in [(0, VERSION[0]), (4, VERSION[1]), (8, VERSION[2])] {
        put(&mut request, at, &number.to_ne_bytes());
    }
    put(&mut request, 16, &sys::HEADER.to_ne_bytes());
    put(&mut request, 28, &flags.to_ne_bytes());
    put(&mut request, 48, name.as_bytes());
    Ok(request)
}

/// The same with a table of one target.
fn table(name: &str, sectors: u64, kind: &str, parameters: &str) -> Result<Request, String> {
    let mut request = request(name, READ_ONLY)?;
    let end = HEADER + TARGET + parameters.len() + 1;
    if end > LEN || kind.len() >= 16 || parameters.contains('\0') {
        return Err("the parameters are too long".into());
    }
    put(&mut request, 20, &1_u32.to_ne_bytes());
    put(&mut request, HEADER + 8, &sectors.to_ne_bytes());
    let next = u32::try_from((end - HEADER).next_multiple_of(8)).unwrap_or_default();
    put(&mut request, HEADER + 20, &next.to_ne_bytes());
    put(&mut request, HEADER + 24, kind.as_bytes());
    put(&mut request, HEADER + TARGET, parameters.as_bytes());
    Ok(request)
}

fn put(request: &mut Request, at: usize, bytes: &[u8]) {
    if let Some(place) = request.0.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// The minor number that the answer to a creation says (`huge_encode_dev` of linux/kdev_t.h).
fn minor(answer: &Request) -> u64 {
    let bytes = answer.0.get(40..48).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    let device = u64::from_ne_bytes(bytes);
    (device & 0xff) | ((device >> 12) & 0xffff_ff00)
}

/// Sets up a device of which only blocks can be read that `root` vouches for, and gives its node. The
/// drivers `dm-verity` and of the hash must be there.
///
/// # Errors
/// A sentence, also when the first block of hashes is not the one that `root` is the hash of. Nothing
/// stays of a device that could not be set up.
pub fn open(name: &str, data: &Path, hashes: &Path, root: &[u8]) -> Result<PathBuf, String> {
    let about = |error: &dyn std::fmt::Display| format!("{}: {error}", hashes.display());
    let mut head = [0; SUPERBLOCK];
    let mut file = File::open(hashes).map_err(|error| about(&error))?;
    file.read_exact(&mut head).map_err(|error| about(&error))?;
    let superblock = Superblock::parse(&head).map_err(|error| about(&error))?;
    let sectors = superblock.sectors().map_err(|error| about(&error))?;
    let parameters = superblock.parameters(data, hashes, root);
    let mut load = table(name, sectors, "verity", &parameters)?;

    let control = OpenOptions::new().read(true).write(true).open(CONTROL);
    let control = control.map_err(|error| format!("{CONTROL}: {error}"))?;
    let failed = |what: &str, error: io::Error| format!("{what} the device {name}: {error}");
    let mut create = request(name, READ_ONLY)?;
    sys::ask(&control, Command::Create, &mut create).map_err(|error| failed("make", error))?;
    let mut start = request(name, 0)?;
    let done = sys::ask(&control, Command::LoadTable, &mut load)
        .map_err(|error| failed("load the table of", error))
        .and_then(|()| {
            sys::ask(&control, Command::Suspend, &mut start).map_err(|error| failed("start", error))
        })
        .and_then(|()| appeared(&PathBuf::from(format!("/dev/dm-{}", minor(&create)))));
    if done.is_err() {
        // The first error is the one to tell.
        if let Ok(mut remove) = request(name, 0) {
            let _ = sys::ask(&control, Command::Remove, &mut remove);
        }
    }
    done
}

/// Waits until a node can be read from, at its beginning.
fn appeared(node: &Path) -> Result<PathBuf, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let read = File::open(node).and_then(|mut file| file.read_exact(&mut [0; 512]));
        match read {
            Ok(()) => return Ok(node.to_path_buf()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(format!("{}: {error}", node.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As veritysetup writes it: fields at the places that cryptsetup's `struct verity_sb` has.
    fn superblock() -> Vec<u8> {
        let mut bytes = vec![0; SUPERBLOCK];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, b"verity\0\0");
        put(8, &1_u32.to_le_bytes());
        put(12, &1_u32.to_le_bytes());
        put(32, b"sha256");
        put(64, &4096_u32.to_le_bytes());
        put(68, &4096_u32.to_le_bytes());
        put(72, &1000_u64.to_le_bytes());
        put(80, &2_u16.to_le_bytes());
        put(88, &[0xab, 0xcd]);
        bytes
    }

    #[test]
    fn a_table_line_is_what_the_kernel_documents() {
        let parsed = Superblock::parse(&superblock()).unwrap();
        assert_eq!(parsed.sectors(), Ok(8000));
        assert_eq!(
            parsed.parameters(Path::new("/dev/vda2"), Path::new("/dev/vda3"), &[1, 0x23]),
            "1 /dev/vda2 /dev/vda3 4096 4096 1000 1 sha256 0123 abcd"
        );
    }

    #[test]
    fn a_superblock_that_is_none_is_refused() {
        for (at, byte) in [(0, b'x'), (8, 2), (32, 0), (32, b' '), (64, 1), (81, 2)] {
            let mut bytes = superblock();
            bytes[at] = byte;
            assert!(Superblock::parse(&bytes).is_err(), "byte {at} as {byte}");
        }
        let mut none = superblock();
        none[72..80].fill(0);
        assert!(Superblock::parse(&none).unwrap().sectors().is_err());
        none[72..80].fill(0xff);
        assert!(Superblock::parse(&none).unwrap().sectors().is_err());
        assert!(Superblock::parse(&[]).is_err());
    }

    #[test]
    fn requests_have_their_fields_where_the_kernel_reads_them() {
        let request = table("root", 8000, "verity", "1 a b").unwrap().0;
        assert_eq!(request[0..4], 4_u32.to_ne_bytes());
        assert_eq!(request[16..20], 312_u32.to_ne_bytes());
        assert_eq!(request[20..24], 1_u32.to_ne_bytes());
        assert_eq!(&request[48..53], b"root\0");
        assert_eq!(request[320..328], 8000_u64.to_ne_bytes());
        assert_eq!(&request[336..343], b"verity\0");
        assert_eq!(&request[352..358], b"1 a b\0");
        assert!(table("a/b", 1, "verity", "").is_err());
        assert!(table("root", 1, "verity", &"x".repeat(5000)).is_err());
        let mut answer = Request([0; LEN]);
        // Major 253, minor 0x12345.
        put(&mut answer, 40, &(0x45 | 253 << 8 | 0x123_u64 << 20).to_ne_bytes());
        assert_eq!(minor(&answer), 0x12345);
    }
}
