//! The readers of kiln-kconfig. Also a module of that crate's tests.

use kiln_kconfig::{Declarations, DotConfig, dropped};

/// A `.config`.
pub fn dotconfig(input: &[u8]) {
    let config = DotConfig::parse(input, "input");
    let mut written = Vec::new();
    let _ = config.write_to(&mut written);
    assert_eq!(written, input, "it is not written as it was read");
    for setting in config.settings() {
        let _ = setting.text();
    }
}

/// Kconfig files, which may include themselves.
pub fn language(input: &[u8]) {
    let mut opened = 0;
    let tree = Declarations::load("Kconfig", &[("SRCARCH", "x86")], |_| {
        opened += 1;
        if opened > 5 { Err(std::io::ErrorKind::NotFound.into()) } else { Ok(input.to_vec()) }
    });
    let _ = (tree.len(), tree.problems().len(), tree.similar("VIRTIO_NET"));
    // Whether what was left out of a configuration can be explained.
    let wanted = DotConfig::parse(b"CONFIG_A=y\nCONFIG_B=m\nCONFIG_NET=y\n", "wanted");
    let got = DotConfig::parse(b"CONFIG_A=y\n", "got");
    for dropped in dropped(&wanted, &got, &tree) {
        let _ = dropped.to_string();
    }
}
