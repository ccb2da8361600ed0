//! Read-only devices that the kernel's device mapper makes of others
//! (`Documentation/admin-guide/device-mapper`), set up without libdevmapper: dm-verity, dm-linear.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
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
/// Where its parameters begin.
const PARAMETERS: usize = HEADER + TARGET;
/// How long a device's node may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// A device of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target<'line> {
    sectors: u64,
    kind: &'line str,
    parameters: &'line str,
}

impl<'line> Target<'line> {
    /// Reads a line as `dmsetup` takes it: first sector (0), sectors, target, its parameters.
    fn parse(line: &'line str) -> Result<Self, String> {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().filter(|word| !word.is_empty());
        let (first, sectors, kind) = (word(), word(), word());
        let mut target = || {
            let sectors = sectors.and_then(|text| u64::from_str(text).ok()).filter(|it| *it > 0)?;
            let parameters = words.next().unwrap_or_default();
            (first == Some("0")).then_some(Self { sectors, kind: kind?, parameters })
        };
        target().ok_or_else(|| format!("{line:?} is no line of a device's table"))
    }
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
fn table(name: &str, target: &Target<'_>) -> Result<Request, String> {
    let Target { sectors, kind, parameters } = target;
    let mut request = request(name, READ_ONLY)?;
    let end = PARAMETERS.saturating_add(parameters.len()).saturating_add(1);
    if end > LEN || kind.len() >= 16 || parameters.contains('\0') {
        return Err("the parameters are too long".into());
    }
    put(&mut request, 20, &1_u32.to_ne_bytes());
    put(&mut request, HEADER + 8, &sectors.to_ne_bytes());
    let next = end.saturating_sub(HEADER).checked_next_multiple_of(8);
    let next = next.and_then(|next| u32::try_from(next).ok()).unwrap_or_default();
    put(&mut request, HEADER + 20, &next.to_ne_bytes());
    put(&mut request, HEADER + 24, kind.as_bytes());
    put(&mut request, PARAMETERS, parameters.as_bytes());
    Ok(request)
}

fn put(request: &mut Request, at: usize, bytes: &[u8]) {
    if let Some(place) = request.0.get_mut(at..at.saturating_add(bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

/// The minor number that the answer to a creation says (`huge_encode_dev` of linux/kdev_t.h).
fn minor(answer: &Request) -> u64 {
    let bytes = answer.0.get(40..48).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    let device = u64::from_ne_bytes(bytes);
    (device & 0xff) | ((device >> 12) & 0xffff_ff00)
}

/// Sets up a read-only device by a line as `dmsetup` takes it (`0 8000 verity 1 /dev/vda2 …`), and
/// gives its node. The drivers must be there.
///
/// # Errors
/// A sentence, also when the first bytes of the device cannot be read. Nothing stays of a device that
/// could not be set up.
pub fn open(name: &str, line: &str) -> Result<PathBuf, String> {
    let mut load = table(name, &Target::parse(line)?)?;
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

/// Takes a device away that nobody uses.
pub(super) fn remove(name: &str) -> Result<(), String> {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL);
    let control = control.map_err(|error| format!("{CONTROL}: {error}"))?;
    sys::ask(&control, Command::Remove, &mut request(name, 0)?)
        .map_err(|error| format!("remove the device {name}: {error}"))
}

/// Waits until a node can be read from, at its beginning.
fn appeared(node: &Path) -> Result<PathBuf, String> {
    let began = Instant::now();
    loop {
        let read = File::open(node).and_then(|mut file| file.read_exact(&mut [0; 512]));
        match read {
            Ok(()) => return Ok(node.to_path_buf()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(format!("{}: {error}", node.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_dmsetup_takes_it() {
        let target = Target::parse("0 8000 verity 1 /dev/vda2 /dev/vda3").unwrap();
        assert_eq!((target.sectors, target.kind), (8000, "verity"));
        assert_eq!(target.parameters, "1 /dev/vda2 /dev/vda3");
        for wrong in ["", "0", "0 8000", "8 8000 linear a 0", "0 0 zero", "0 x zero", "0  8 zero"] {
            assert!(Target::parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(Target::parse("0 8 zero").unwrap().parameters, "");
    }

    #[test]
    fn requests_have_their_fields_where_the_kernel_reads_them() {
        let target = |parameters| Target { sectors: 8000, kind: "verity", parameters };
        let request = table("root", &target("1 a b")).unwrap().0;
        assert_eq!(request[0..4], 4_u32.to_ne_bytes());
        assert_eq!(request[16..20], 312_u32.to_ne_bytes());
        assert_eq!(request[20..24], 1_u32.to_ne_bytes());
        assert_eq!(&request[48..53], b"root\0");
        assert_eq!(request[320..328], 8000_u64.to_ne_bytes());
        assert_eq!(&request[336..343], b"verity\0");
        assert_eq!(&request[352..358], b"1 a b\0");
        assert!(table("a/b", &target("")).is_err());
        assert!(table("root", &target(&"x".repeat(5000))).is_err());
        let mut answer = Request([0; LEN]);
        // Major 253, minor 0x12345.
        put(&mut answer, 40, &(0x45 | 253 << 8 | 0x123_u64 << 20).to_ne_bytes());
        assert_eq!(minor(&answer), 0x12345);
    }
}
