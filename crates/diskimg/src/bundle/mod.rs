//! What is more than an image: a disk with its description, or packed for one place to import it.
//!
//! | bundle | what | for |
//! |---|---|---|
//! | [`write_ova`] | tar: OVF, manifest, stream-optimized VMDK | VMware, VirtualBox, Proxmox |
//! | [`write_vbox_zip`] | zip: OVF and stream-optimized VMDK | VirtualBox, by hand or Vagrant |
//! | [`write_vmx_zip`] | zip: VMX and a VMDK to run on | VMware's desktop programs |
//! | [`write_raw_zst`] | zstd frames with a seek table, and a `.bmap` | `bmaptool copy`, `zstd -d` |
//! | [`write_gce`] | `disk.raw` in a gzipped sparse tar | Google Compute Engine |
//!
//! All are written in one pass over the disk (Google's in two, because a sparse archive begins with
//! its map), with no more memory than the image formats take, and their bytes depend on nothing but
//! the disk and the options.
//!
//! Those with a VMDK or gzip need the feature `zlib`, the other one `zstd`.
//!
//! # Example: an appliance
//!
//! ```
//! # #[cfg(feature = "zlib")] {
//! use std::io::Cursor;
//! use kiln_diskimg::bundle::{self, Machine};
//! use kiln_diskimg::container::Options;
//!
//! let mut machine = Machine::new("appliance");
//! machine.memory_mib = 2048;
//! let disk = vec![7; 1 << 20];
//! let ova = bundle::write_ova(&machine, &disk, Cursor::new(Vec::new()), &Options::default())?;
//! assert_eq!(&ova.get_ref()[..13], b"appliance.ovf");
//! # }
//! # Ok::<(), kiln_diskimg::Error>(())
//! ```

#[cfg(feature = "zstd")]
mod bmap;
#[cfg(feature = "zlib")]
mod gce;
#[cfg(feature = "zlib")]
mod machine;
#[cfg(feature = "zlib")]
mod ova;
#[cfg(feature = "zlib")]
mod ovf;
#[cfg(feature = "zstd")]
mod raw_zst;
#[cfg(feature = "zlib")]
mod tar;
#[cfg(feature = "zlib")]
mod vmware;
#[cfg(feature = "zlib")]
mod vmx;
#[cfg(feature = "zlib")]
mod zip;

#[cfg(feature = "zlib")]
pub use gce::write_gce;
#[cfg(feature = "zlib")]
pub use machine::{Firmware, Machine, Nic};
#[cfg(feature = "zlib")]
pub use ova::{write_ova, write_vbox_zip};
#[cfg(feature = "zstd")]
pub use raw_zst::write_raw_zst;
#[cfg(feature = "zlib")]
pub use vmware::write_vmx_zip;
