//! The requirement set of an example against the kernels that Debian ships.
#![cfg(feature = "requirements-toml")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what it calls")]

mod debian_configs;

use std::path::Path;

use debian_configs::debian_config;
use kiln_kconfig::{DotConfig, Requirements, Severity, Value};

fn requirements() -> Requirements {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/nomados/etc");
    let mut all = Requirements::read(folder.join("kernel-requirements.toml")).unwrap();
    all.extend(Requirements::read(folder.join("machine-requirements.toml")).unwrap());
    all
}

#[test]
fn debians_generic_kernel_has_all_that_is_required() {
    let Some(path) = debian_config("amd64") else { return };
    let config = DotConfig::read(path).unwrap();
    assert_eq!(config.problems(), []);
    let report = requirements().check(&config);
    assert!(report.is_satisfied(), "{report}");
    assert_eq!(report.findings, [], "{report}");
    // The drivers that a machine with virtio cannot boot without are modules there.
    for module in ["virtio_pci", "virtio_net", "virtio_blk", "e1000", "ahci", "overlay", "evdev"] {
        assert!(
            report.modules().iter().any(|wanted| wanted.module.as_deref() == Some(module)),
            "{module} in {report}"
        );
    }
}

#[test]
fn debians_cloud_kernel_lacks_the_drivers_of_other_machines() {
    let Some(path) = debian_config("cloud-amd64") else { return };
    let report = requirements().check(&DotConfig::read(path).unwrap());
    assert!(!report.is_satisfied());
    let names = |severity: Severity| -> Vec<&str> {
        report
            .findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .flat_map(|finding| finding.options.iter().map(|state| &*state.option))
            .collect()
    };
    assert_eq!(names(Severity::Required), ["E1000", "SATA_AHCI"], "{report}");
    assert_eq!(names(Severity::Recommended), ["E1000E", "PCNET32"], "{report}");
    let text = report.into_result().unwrap_err().to_string();
    assert!(text.contains("CONFIG_E1000 is not as needed"), "{text}");
    assert!(text.contains("linux-image-amd64"), "{text}");
}

/// Any one option that is taken away is found, whatever it is.
#[test]
fn each_required_option_is_missed_when_it_is_off() {
    let Some(path) = debian_config("amd64") else { return };
    let complete = DotConfig::read(path).unwrap();
    let requirements = requirements();
    for requirement in requirements.as_slice() {
        let mut config = complete.clone();
        for want in &requirement.any_of {
            config.set(&want.option, &Value::NO).unwrap();
        }
        let report = requirements.check(&config);
        let finding = report.findings.iter().find(|f| f.declared == requirement.declared);
        assert_eq!(finding.map(|f| &f.reason), Some(&requirement.reason));
        assert_eq!(report.is_satisfied(), requirement.severity == Severity::Recommended);
    }
}
