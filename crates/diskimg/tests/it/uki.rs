//! Unified kernel images: binutils, pefile and our own reader see what was put in.

use kiln_diskimg::boot::pe::{Checksum, Headers, Image, read_sections};
use kiln_diskimg::boot::uki::{self, Uki, kernel_release};
use kiln_diskimg::{Content, Limits, Sink};
use kiln_tree::Source;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::tools::{bytes, expect};

/// Debian's stub, and a program that stands for a kernel.
pub(crate) fn stub_and_kernel() -> Option<(Vec<u8>, Vec<u8>)> {
    let read = |name: &str| std::fs::read(format!("/usr/lib/systemd/boot/efi/{name}"));
    match (read("linuxx64.efi.stub"), read("systemd-bootx64.efi")) {
        (Ok(stub), Ok(kernel)) => Some((stub, kernel)),
        _ => {
            assert!(std::env::var_os("CI").is_none(), "systemd-boot-efi is not installed");
            eprintln!("skipped: systemd-boot-efi");
            None
        }
    }
}

pub(crate) fn uki(stub: Vec<u8>, kernel: Vec<u8>) -> Uki {
    let mut uki = Uki::new(stub, kernel);
    uki.command_line = Some("console=ttyS0 panic=1".to_owned());
    uki.os_release = Some("ID=kiln\nVERSION_ID=1\n".to_owned());
    uki.uname = Some("6.1.0-56-cloud-amd64".to_owned());
    uki.initrds = vec![Source::from(vec![1; 100_001]), Source::from(vec![2; 4095])];
    uki
}

#[test]
fn sections_are_where_the_stub_looks_for_them() {
    let Some((stub, kernel)) = stub_and_kernel() else { return };
    let original = Headers::parse(&stub, stub.len() as u64).unwrap();
    let kernel_headers = Headers::parse(&kernel, kernel.len() as u64).unwrap();
    let mut uki = uki(stub.clone(), kernel.clone());
    uki.sbat = Some("kiln,1,Kiln,kiln,1,https://example.org/\n".to_owned());
    uki.splash = Some("BM, more or less".into());
    uki.extra = vec![(".ucode".to_owned(), Source::from(vec![3; 513]))];
    let image = uki.plan().unwrap().checksummed().unwrap();
    let mut file = bytes(&image);
    assert_eq!(*image.source().read().unwrap(), *file);
    assert_eq!(file, bytes(&uki.plan().unwrap().checksummed().unwrap()));

    let (headers, sections) = read_sections(&mut file, &Limits::default()).unwrap();
    let names: Vec<&str> = headers.sections.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(
        names.join(" "),
        ".text .reloc .data .dynamic .rela .dynsym .sdmagic .osrel .cmdline .uname .splash \
         .initrd .ucode .linux .sbat"
    );
    let mut end_in_memory = 0;
    let mut end_in_file = u64::from(headers.size_of_headers);
    for section in &headers.sections {
        assert!(section.virtual_address >= end_in_memory, "{section:?}");
        assert_eq!(u64::from(section.offset), end_in_file, "{section:?}");
        end_in_memory = section.virtual_address + section.virtual_size;
        end_in_file += u64::from(section.len);
        if let Some(old) = original.section(&section.name).filter(|_| section.name != ".sbat") {
            assert_eq!(
                (old.virtual_address, old.virtual_size, old.characteristics),
                (section.virtual_address, section.virtual_size, section.characteristics)
            );
            let content = |of: &[u8], at: std::ops::Range<u64>| {
                of[usize::try_from(at.start).unwrap()..usize::try_from(at.end).unwrap()].to_vec()
            };
            assert_eq!(content(&stub, old.content()), content(&file, section.content()));
        } else {
            assert_eq!(section.virtual_address % 4096, 0, "{section:?}");
        }
    }
    assert_eq!(end_in_file, file.len() as u64);
    assert_eq!(headers.size_of_image, end_in_memory.next_multiple_of(4096));
    let linux = headers.section(".linux").unwrap();
    assert_eq!(linux.virtual_size, kernel_headers.size_of_image);
    let digest = |name: &str| {
        sections.iter().find(|it| it.section.name == name).map(|it| it.sha256).unwrap()
    };
    let mut initrd = vec![1; 100_001];
    initrd.resize(100_004, 0);
    initrd.extend([2; 4095]);
    initrd.push(0);
    assert_eq!(digest(".initrd"), <[u8; 32]>::from(Sha256::digest(&initrd)));
    assert_eq!(digest(".cmdline"), <[u8; 32]>::from(Sha256::digest("console=ttyS0 panic=1")));
    let sbat = image.headers().section(".sbat").unwrap().content();
    let sbat = &file[usize::try_from(sbat.start).unwrap()..usize::try_from(sbat.end).unwrap()];
    let sbat = std::str::from_utf8(sbat).unwrap();
    assert!(sbat.starts_with("sbat,1,") && sbat.matches("sbat,1,").count() == 2, "{sbat}");
    assert!(
        sbat.contains("\nsystemd,")
            && sbat.ends_with("\nkiln,1,Kiln,kiln,1,https://example.org/\n")
    );

    // The checksum, which nothing but tools looks at.
    let mut plain = file.clone();
    let at = 64 + u32::from_le_bytes(file[0x3c..0x40].try_into().unwrap()) as usize + 24;
    plain[at..at + 4].fill(0);
    let mut sum = Checksum::default();
    sum.data(&plain).unwrap();
    assert_eq!(headers.checksum, sum.finish());

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kiln.efi");
    std::fs::write(&path, &file).unwrap();
    let Some(said) = expect("objdump", &["-h".as_ref(), path.as_os_str()]) else { return };
    for section in &headers.sections {
        let line = said.lines().find(|line| line.contains(&format!(" {} ", section.name))).unwrap();
        let memory = format!("{:016x}", section.virtual_address);
        assert!(
            line.contains(&memory) && line.contains(&format!("{:08x}", section.offset)),
            "{line}"
        );
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let Some((stub, kernel)) = stub_and_kernel() else { return };
    let mut uki = uki(stub.clone(), b"\x1f\x8b compressed".to_vec());
    uki.command_line = Some("a\nb".to_owned());
    uki.splash = Some("PNG".into());
    uki.extra = vec![(".much-too-long".to_owned(), "x".into()), (".osrel".to_owned(), "".into())];
    uki.sbat = Some("nonsense".to_owned());
    insta::assert_snapshot!(uki.plan().unwrap_err(), @r#"
    unified kernel image: 7 problems
      .cmdline has a control character at byte 1
      .splash is no Windows bitmap: it does not begin with BM
      the kernel cannot be started by UEFI (is it an uncompressed image with CONFIG_EFI_STUB?): pe: byte 0: it does not begin with MZ, so it is no executable for UEFI
      .sbat: "nonsense" does not begin with a component and its generation
      the section ".much-too-long" needs a name of at most 8 ASCII characters after a dot in front
      .osrel is empty; leave it out
      there are two sections .osrel
    "#);

    let mut crowded = super::uki::uki(stub.clone(), kernel.clone());
    let first = Headers::parse(&stub, stub.len() as u64).unwrap().sections[0].virtual_address;
    for at in 0..first / 40 {
        crowded.extra.push((format!(".x{at}"), "x".into()));
    }
    let said = crowded.plan().unwrap_err().to_string();
    assert!(said.contains("the stub has no room for headers of"), "{said}");
    assert!(said.contains("sections out or take another stub"), "{said}");

    let mut arm = kernel.clone();
    let coff = u32::from_le_bytes(arm[0x3c..0x40].try_into().unwrap()) as usize + 4;
    arm[coff..coff + 2].copy_from_slice(&0xaa64_u16.to_le_bytes());
    let said = Uki::new(stub, arm).plan().unwrap_err().to_string();
    assert_eq!(said, "unified kernel image: the stub is for x86-64, the kernel for arm64");
    let said = Uki::new(b"MZ".to_vec(), kernel.clone()).plan().unwrap_err().to_string();
    assert!(said.contains("the stub: pe: byte 60"), "{said}");

    let mut long =
        Uki::new(std::fs::read("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").unwrap(), kernel);
    long.initrds = vec![Source::File { path: "/none".into(), len: 1 << 32 }];
    let said = long.plan().unwrap_err().to_string();
    assert!(said.contains("longer than the 4 GiB that its headers can express"), "{said}");
}

#[test]
fn hostile_executables_are_errors() {
    let Some((_, kernel)) = stub_and_kernel() else { return };
    for len in 0..2048 {
        let cut = Source::from(&kernel[..len]);
        assert!(Image::read(&cut, &Limits::default()).is_err(), "{len}");
    }
    // Every byte of the headers, changed: an error or something else, but no panic.
    for at in 0..1024 {
        for value in [0, 0x7f, 0xff] {
            let mut changed = kernel.clone();
            changed[at] = value;
            if let Ok(image) = Image::read(&Source::from(changed.as_slice()), &Limits::default()) {
                assert_eq!(bytes(&image), changed);
                #[cfg(feature = "sign")]
                let _ = kiln_diskimg::boot::sign::image_hash(&image);
            }
            let _ = read_sections(&mut changed, &Limits::default());
            let mut uki = Uki::new(changed, kernel.clone());
            uki.command_line = Some("x".to_owned());
            if let Ok(image) = uki.plan() {
                assert!(image.len() > kernel.len() as u64);
            }
        }
    }
}

#[test]
fn a_kernel_tells_its_release() {
    let mut kernel = vec![0; 0x1000];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x20e..0x210].copy_from_slice(&0x600_u16.to_le_bytes());
    kernel[0x800..0x810].copy_from_slice(b"6.1.0-56-amd64 (");
    assert_eq!(kernel_release(&kernel).as_deref(), Some("6.1.0-56-amd64"));
    kernel[0x20e..0x210].copy_from_slice(&0xffff_u16.to_le_bytes());
    assert_eq!(kernel_release(&kernel), None);
    assert_eq!(kernel_release(b"HdrS"), None);
}

/// The smallest stub: code, data that the debug directory in the code points to, and symbols behind
/// them. Its headers are full.
pub(crate) fn small_stub() -> Vec<u8> {
    let mut stub = vec![0; 0x200];
    stub[..2].copy_from_slice(b"MZ");
    let mut put = |at: usize, bytes: &[u8]| stub[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x3c, &0x60_u32.to_le_bytes());
    put(0x60, b"PE\0\0\x64\x86\x03\0");
    // Symbols and the optional header's length.
    put(0x60 + 12, &0x600_u32.to_le_bytes());
    put(0x60 + 16, &3_u32.to_le_bytes());
    put(0x60 + 20, &240_u16.to_le_bytes());
    let optional = 0x60 + 24;
    put(optional, &0x20b_u16.to_le_bytes());
    for (at, value) in [
        (16, 0x2000),
        (32, 0x1000),
        (36, 0x200),
        (56, 0x6000),
        (60, 0x200),
        (108, 16),
        (112 + 4 * 8, 0x600),
        (112 + 4 * 8 + 4, 8),
        (112 + 6 * 8, 0x2010),
        (112 + 6 * 8 + 4, 28),
    ] {
        put(optional + at, &u32::to_le_bytes(value));
    }
    // In the file, data comes first; the last section is in memory only.
    for (at, (name, memory, address, len, offset, kind)) in [
        (".text", 0x123_u32, 0x2000_u32, 0x200_u32, 0x400_u32, 0x6000_0020_u32),
        (".data", 0x200, 0x3000, 0x200, 0x200, 0xc000_0040),
        (".bss", 0x1234, 0x4000, 0, 0, 0xc000_0080),
    ]
    .into_iter()
    .enumerate()
    {
        let at = optional + 240 + at * 40;
        put(at, name.as_bytes());
        for (place, value) in [(8, memory), (12, address), (16, len), (20, offset), (36, kind)] {
            put(at + place, &value.to_le_bytes());
        }
    }
    stub.extend([0xdd; 0x200]);
    let mut text = vec![0xcc; 0x200];
    text[0x10..0x2c].fill(0);
    text[0x10 + 24..0x10 + 28].copy_from_slice(&0x280_u32.to_le_bytes());
    stub.extend(text);
    stub.extend(b"symbols ");
    stub
}

#[test]
fn a_report_says_what_is_in_it() {
    let mut uki = Uki::new(small_stub(), small_stub());
    uki.command_line = Some("console=ttyS0".to_owned());
    uki.uname = Some("6.1".to_owned());
    uki.os_release = Some("ID=kiln\n".to_owned());
    let report = uki::read(&mut bytes(&uki.plan().unwrap()), &Limits::default()).unwrap();
    assert_eq!(report.os_release.as_deref(), Some("ID=kiln"));
    insta::assert_snapshot!(report, @"
    executable for x86-64, not signed
      .text           291  42c32203d9002fda
      .data           512  1ebc91c71c8d985e
      .bss              0  e3b0c44298fc1c14
      .osrel            8  22c1269c20646ed2
      .cmdline         13  2b98586d9905a605
      .uname            3  5798758bbc833df0
      .linux         2048  a31084f8523a29e2
      command line: console=ttyS0
      kernel: 6.1
    ");
}

#[test]
fn headers_grow_and_what_points_into_the_file_follows() {
    let stub = small_stub();
    let mut uki = Uki::new(stub.clone(), stub.clone());
    uki.extra = (0..20).map(|at| (format!(".s{at}"), Source::from(vec![at; 700]))).collect();
    let image = uki.plan().unwrap();
    let file = bytes(&image);
    let headers = image.headers();
    assert_eq!(headers.size_of_headers, 0x600);
    assert_eq!((headers.certificates.is_empty(), headers.sections.len()), (true, 24));
    let section = |name: &str| headers.section(name).unwrap();
    let (data, text) = (section(".data"), section(".text"));
    assert_eq!((data.offset, text.offset, section(".bss").len), (0x600, 0x800, 0));
    assert_eq!(file[0x600..0x800], [0xdd; 0x200]);
    // The debug directory's entry lay in .text and meant a byte of .data.
    assert_eq!(file[0x828..0x82c], 0x680_u32.to_le_bytes());
    assert_eq!(file[0x60 + 12..0x60 + 20], [0; 8], "symbols");
    assert_eq!(section(".s0").virtual_address, 0x6000, "after what is in memory only");
    let linux = section(".linux");
    assert_eq!((linux.virtual_size, linux.len), (0x6000, 0x800));
    assert_eq!(linux.characteristics, 0x6000_0020);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the lengths: no two sections overlap, in memory or in the file, and each has its
    /// content.
    #[test]
    fn sections_of_any_length_are_read_back(
        lengths in proptest::collection::vec(1_usize..20_000, 0..12),
        initrds in proptest::collection::vec(1_usize..9000, 0..4),
    ) {
        let stub = small_stub();
        let mut uki = Uki::new(stub.clone(), stub);
        uki.initrds = initrds.iter().map(|len| Source::from(vec![9; *len])).collect();
        uki.extra = lengths
            .iter()
            .enumerate()
            .map(|(at, len)| (format!(".s{at}"), Source::from(vec![at.to_le_bytes()[0]; *len])))
            .collect();
        let image = uki.plan().unwrap();
        let mut file = bytes(&image);
        let (headers, digests) = read_sections(&mut file, &Limits::default()).unwrap();
        let mut memory = u64::from(headers.size_of_headers);
        let mut place = memory;
        let mut in_file = headers.sections.clone();
        in_file.sort_by_key(|section| section.offset);
        for section in in_file.iter().filter(|section| section.len > 0) {
            prop_assert_eq!(u64::from(section.offset), place);
            place += u64::from(section.len);
        }
        prop_assert_eq!(place, file.len() as u64);
        for section in &headers.sections {
            prop_assert!(u64::from(section.virtual_address) >= memory);
            memory = u64::from(section.virtual_address) + u64::from(section.virtual_size);
        }
        prop_assert!(u64::from(headers.size_of_image) >= memory);
        for (at, len) in lengths.iter().enumerate() {
            let name = format!(".s{at}");
            let found = digests.iter().find(|it| it.section.name == name).unwrap();
            let expected = Sha256::digest(vec![at.to_le_bytes()[0]; *len]);
            prop_assert_eq!(found.sha256.as_slice(), expected.as_slice());
        }
    }
}
