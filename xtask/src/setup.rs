//! The programs of the host that the commands use, and their installation from Debian packages.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::program;

/// Something of the host that is used, and the package that has it.
struct Need {
    /// A program, or the path of a file.
    what: &'static str,
    package: &'static str,
    why: &'static str,
    of: Purpose,
}

/// What is going to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Purpose {
    /// Build NomadOS and boot it
    Nomados,
    /// Run all tests (their oracles are the field's own tools and servers)
    Test,
    /// Measure beside the peers
    Bench,
}

#[rustfmt::skip]
const NEEDS: &[Need] = &[
    need("qemu-system-x86_64", "qemu-system-x86", "runs the images", Purpose::Nomados),
    need("cc", "gcc", "links Rust programs and Nomad's C part", Purpose::Nomados),
    need("/usr/include/stdlib.h", "libc6-dev", "links static programs", Purpose::Nomados),
    need("dpkg-deb", "dpkg", "unpacks packages beside us", Purpose::Test),
    need("tar", "tar", "unpacks a kernel's source", Purpose::Test),
    need("/etc/ssl/certs/ca-certificates.crt", "ca-certificates", "reaches registries", Purpose::Nomados),
    need("qemu-img", "qemu-utils", "checks qcow2 and VMDK images", Purpose::Test),
    need("sgdisk", "gdisk", "checks partition tables", Purpose::Test),
    need("sfdisk", "fdisk", "checks partition tables", Purpose::Test),
    need("fsck.vfat", "dosfstools", "checks FAT volumes", Purpose::Test),
    need("mcopy", "mtools", "reads FAT volumes", Purpose::Test),
    need("7zz", "7zip", "reads disk images beside QEMU", Purpose::Test),
    need("vhdiinfo", "libvhdi-utils", "reads VHD images", Purpose::Test),
    need("vmdkinfo", "libvmdk-utils", "reads VMDK images", Purpose::Test),
    need("bmaptool", "bmap-tools", "copies raw images by their block map", Purpose::Test),
    need("unzip", "unzip", "unpacks zip archives", Purpose::Test),
    need("xmllint", "libxml2-utils", "checks OVF descriptors", Purpose::Test),
    need("mkfs.ext4", "e2fsprogs", "makes data disks for guests and checks ext4 volumes", Purpose::Test),
    need("mkfs.xfs", "xfsprogs", "makes file systems that guests tell apart", Purpose::Test),
    need("mkfs.btrfs", "btrfs-progs", "makes file systems that guests tell apart", Purpose::Test),
    need("syslinux", "syslinux", "installs the loader that ours is compared with", Purpose::Test),
    need("/usr/lib/syslinux/mbr/gptmbr.bin", "syslinux-common", "has the loader's parts", Purpose::Test),
    need("xorriso", "xorriso", "reads ISO images and their boot records", Purpose::Test),
    need("isoinfo", "genisoimage", "reads ISO images, and makes them beside ours", Purpose::Test),
    need("bsdtar", "libarchive-tools", "reads ISO images", Purpose::Test),
    need("fsck.erofs", "erofs-utils", "checks EROFS volumes, and makes them beside us", Purpose::Test),
    need("veritysetup", "cryptsetup-bin", "checks hash trees, and makes them beside us", Purpose::Test),
    need("unsquashfs", "squashfs-tools", "reads SquashFS images, and makes them beside us", Purpose::Test),
    need("rdsquashfs", "squashfs-tools-ng", "reads attributes of SquashFS images", Purpose::Test),
    need("cpio", "cpio", "reads and writes archives beside ours", Purpose::Test),
    need("zstd", "zstd", "decompresses archives beside ours", Purpose::Test),
    need("gzip", "gzip", "decompresses archives beside ours", Purpose::Test),
    need("depmod", "kmod", "indexes kernel modules beside ours", Purpose::Test),
    need("ssh", "openssh-client", "logs in to guests", Purpose::Test),
    need("ip", "iproute2", "makes network namespaces", Purpose::Test),
    need("nft", "nftables", "reads the firewall's tables beside ours", Purpose::Test),
    need("crun", "crun", "runs the containers of pods", Purpose::Test),
    need("/bin/busybox", "busybox-static", "is what pods run, and is measured beside our init", Purpose::Test),
    need("sysctl", "procps", "does what a dry run says", Purpose::Test),
    need("wg", "wireguard-tools", "reads tunnels beside us, in a guest", Purpose::Test),
    need("dhclient", "isc-dhcp-client", "is a DHCP client", Purpose::Test),
    need("curl", "curl", "loads files by TFTP and HTTP", Purpose::Test),
    need("/usr/lib/ipxe/ipxe.efi", "ipxe", "starts machines over a network", Purpose::Test),
    need("dnsmasq", "dnsmasq-base", "is a DHCP server", Purpose::Test),
    need("dhcpd", "isc-dhcp-server", "is a DHCP server", Purpose::Test),
    need("udhcpd", "udhcpd", "is a DHCP server", Purpose::Test),
    need("objdump", "binutils", "reads the sections of executables", Purpose::Test),
    need("sbverify", "sbsigntool", "checks and makes signatures of executables", Purpose::Test),
    need("osslsigncode", "osslsigncode", "checks and makes signatures of executables", Purpose::Test),
    need("pesign", "pesign", "computes the hash of executables", Purpose::Test),
    need("cert-to-efi-sig-list", "efitools", "makes Secure Boot's variables", Purpose::Test),
    need("grub-script-check", "grub-common", "checks GRUB's configuration", Purpose::Test),
    need("/usr/lib/systemd/boot/efi/linuxx64.efi.stub", "systemd-boot-efi", "is a stub for kernels", Purpose::Test),
    need("/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf", "has a variable store", Purpose::Test),
    need("musl-gcc", "musl-tools", "makes programs for another loader", Purpose::Test),
    need("systemd-analyze", "systemd", "knows the keys of units", Purpose::Test),
    need("python3", "python3-minimal", "speaks sd_notify and runs the kernel's diffconfig", Purpose::Test),
    need("pip3", "python3-pip", "gets the validators of bills of materials", Purpose::Test),
    need("openssl", "openssl", "judges the certificates of a cluster", Purpose::Test),
    need("xz", "xz-utils", "unpacks the kernel's source", Purpose::Test),
    need("gpg", "gpg", "signs archives that tests make", Purpose::Test),
    need("gpg-agent", "gpg-agent", "holds the keys of archives that tests make", Purpose::Test),
    need("gpgv", "gpgv", "checks release files beside us", Purpose::Test),
    need("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring", "is whose packages are trusted", Purpose::Nomados),
    need("/usr/lib/apt/apt-helper", "apt", "downloads packages with the host's proxy settings", Purpose::Nomados),
    need("make", "make", "configures and builds a kernel from source", Purpose::Test),
    need("flex", "flex", "configures a kernel from source", Purpose::Test),
    need("bison", "bison", "configures a kernel from source", Purpose::Test),
    need("bc", "bc", "builds a kernel from source", Purpose::Test),
    need("perl", "perl-base", "builds a kernel from source", Purpose::Test),
    need("/usr/include/gelf.h", "libelf-dev", "builds a kernel from source, with objtool", Purpose::Test),
    need("setpriv", "util-linux", "runs a build as another user", Purpose::Test),
    need("udhcpc", "udhcpc", "is measured beside our client", Purpose::Bench),
    need("genext2fs", "genext2fs", "is measured beside our ext4 volumes", Purpose::Bench),
    need("genimage", "genimage", "is measured beside our disk images", Purpose::Bench),
    need("mkfs.vfat", "dosfstools", "is measured beside our disk images", Purpose::Bench),
    need("mmdebstrap", "mmdebstrap", "is measured beside our images", Purpose::Bench),
    need("zip", "zip", "is measured beside our appliances", Purpose::Bench),
    need("pydoc3", "python3", "runs mkosi, which is measured beside our images", Purpose::Bench),
    need("umoci", "umoci", "is measured beside our unpacking of images", Purpose::Bench),
    need("skopeo", "skopeo", "is measured beside our unpacking of images", Purpose::Bench),
    need("podman", "podman", "is measured beside our unpacking of images", Purpose::Bench),
    need("nginx", "nginx-light", "is measured beside our server for labs", Purpose::Bench),
    need("bsdcpio", "libarchive-tools", "is measured beside our packer", Purpose::Bench),
];

const fn need(what: &'static str, package: &'static str, why: &'static str, of: Purpose) -> Need {
    Need { what, package, why, of }
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For which commands
    #[arg(value_enum, default_value = "bench")]
    purpose: Purpose,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure(arguments.purpose)?;
    println!("everything is installed");
    Ok(())
}

/// Sees to it that what `purpose` uses is installed: installs it as root, otherwise prints the one
/// command that does and stops.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    ensure_with(purpose, true)
}

/// The same, with or without what builds a Nomad.
pub(crate) fn ensure_with(purpose: Purpose, builds_nomad: bool) -> Result<()> {
    if !program::is_installed("apt-get") {
        bail!("this is not a Debian system: there is no apt-get to get packages with");
    }
    tell_of_little_room(purpose);
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| need.of <= purpose && !program::is_installed(need.what))
        .collect();
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let has_nomad = std::env::var_os("NOMAD").is_some() || program::is_installed("nomad");
    if builds_nomad && !has_nomad && !has_go() && !has_pip() {
        packages.push("python3-pip");
    }
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() {
        println!("needed and not installed:");
        for need in &missing {
            println!("  {:16} {}", need.package, need.why);
        }
        if packages.contains(&"python3-pip") {
            println!("  {:16} gets a Go toolchain, to build Nomad with", "python3-pip");
        }
    }
    if !is_root() {
        if packages.is_empty() {
            return Ok(());
        }
        bail!(
            "install them with\n\n    sudo sh -c 'apt-get update && apt-get install -y \
             --no-install-recommends {}'\n\nand run this again",
            packages.join(" ")
        );
    }
    if !packages.is_empty() || index_is_old() {
        apt(&["update", "-qq"])?;
    }
    if !packages.is_empty() {
        let mut words = vec!["install", "-y", "-qq", "--no-install-recommends"];
        words.extend(&packages);
        apt(&words)?;
    }
    Ok(())
}

/// Says so before a build fails for want of room in the middle.
fn tell_of_little_room(purpose: Purpose) {
    // What target/ has after a first run, in MiB.
    let takes = match purpose {
        Purpose::Nomados => 4_000,
        Purpose::Test => 12_000,
        Purpose::Bench => 112_000,
    };
    let target = program::target();
    let here = if target.exists() { &target } else { &program::workspace() };
    let Some(free) = mebibytes("df", &["-BM", "--output=avail"], here) else { return };
    if free >= takes {
        return;
    }
    // Only now: it looks at every file.
    let has = mebibytes("du", &["-sm"], &target).unwrap_or(0);
    if has + free < takes {
        eprintln!(
            "warning: {free} MiB free where {} is, which has {has} MiB; this takes about {takes} \
             MiB together (`cargo clean` removes all, `cargo clean --profile dev` the tests)",
            here.display()
        );
    }
}

/// The number in the last line that a program prints about a path.
fn mebibytes(program: &str, words: &[&str], path: &Path) -> Option<u64> {
    let output = Command::new(program).args(words).arg(path).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let digits = said.lines().last()?.trim_start();
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

fn apt(words: &[&str]) -> Result<()> {
    let mut tries = 0;
    loop {
        let mut command = Command::new("apt-get");
        // Another apt may be at work: wait for its lock instead of failing at once.
        command.args(["-o", "DPkg::Lock::Timeout=300"]).args(words);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        tries += 1;
        match program::run(&mut command) {
            Ok(()) => return Ok(()),
            Err(error) if tries == 3 => return Err(error).context("after three tries"),
            Err(error) => eprintln!("{error:#}; again"),
        }
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// A package index older than this names files that the archive may have dropped.
const INDEX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

fn index_is_old() -> bool {
    let newest =
        std::fs::read_dir("/var/lib/apt/lists").into_iter().flatten().filter_map(|entry| {
            let entry = entry.ok()?;
            let is_index = entry.file_name().to_string_lossy().ends_with("_Packages")
                || entry.file_name().to_string_lossy().contains("Release");
            if is_index { entry.metadata().ok()?.modified().ok() } else { None }
        });
    // A list keeps the archive's own time; the directory's tells when the last update was.
    let updated = std::fs::metadata("/var/lib/apt/lists/partial")
        .and_then(|found| found.modified())
        .ok()
        .max(newest.max());
    updated
        .is_none_or(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > INDEX_AGE))
}

/// Whether there is a Go that builds Nomad (1.21 or later), where `kiln::go` looks for one.
fn has_go() -> bool {
    if std::env::var_os("KILN_GO").is_some() {
        return true;
    }
    let mut candidates: Vec<PathBuf> = vec!["go".into(), "/usr/local/go/bin/go".into()];
    let versions = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    candidates.extend(versions.map(|entry| entry.path().join("bin/go")));
    candidates.iter().any(|go| {
        let output =
            Command::new(go).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output();
        output.is_ok_and(|output| {
            let version = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut numbers = version.trim().trim_start_matches("go").split('.');
            let mut number = || numbers.next().and_then(|number| number.parse::<u32>().ok());
            (number(), number()) >= (Some(1), Some(21))
        })
    })
}

fn has_pip() -> bool {
    Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
}
