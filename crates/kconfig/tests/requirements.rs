//! Requirement sets: how they are written, and what their reports say.
#![cfg(feature = "requirements-toml")]

use kiln_kconfig::{DotConfig, Requirements};

const SET: &str = r#"
[[requirement]]
option = "CONFIG_VIRTIO_NET"
need = "y|m"
module = "virtio_net"
group = "virtio"
reason = "the network card"

[[requirement]]
option = "DEVTMPFS"
need = "y"
reason = "the devices in /dev"
remedy = "add CONFIG_DEVTMPFS=y to the fragment"

[[requirement]]
any_of = [{ option = "RD_ZSTD", need = "y" }, { option = "RD_GZIP", need = "y" }]
group = "start"
reason = "unpacks the initrd"

[[requirement]]
option = "NR_CPUS"
min = 2
max = 512
reason = "all CPUs"

[[requirement]]
option = "PHYSICAL_START"
value = [0x1000000, 0x200000]
reason = "where the loader puts it"

[[requirement]]
option = "LSM"
contains = "landlock"
severity = "recommended"
reason = "confined downloads"

[[requirement]]
option = "MODULE_SIG_FORCE"
need = "n"
reason = "our modules are not signed"

[[requirement]]
option = "LOCALVERSION"
value = "-kiln"
severity = "recommended"
reason = "to tell our kernel from others"
"#;

#[test]
fn a_report_names_option_line_reason_and_remedy() {
    let set = Requirements::parse(SET, "needs.toml").unwrap();
    let config = DotConfig::parse(
        b"CONFIG_VIRTIO_NET=m\nCONFIG_DEVTMPFS=yes\n# CONFIG_RD_ZSTD is not set\n\
          CONFIG_NR_CPUS=1\nCONFIG_PHYSICAL_START=0x1000000\nCONFIG_LSM=\"yama,landlocked\"\n\
          CONFIG_MODULE_SIG_FORCE=y\nCONFIG_LOCALVERSION=\"\"\n",
        "a.config",
    );
    let report = set.check(&config);
    insta::assert_snapshot!(report.to_string());
    assert!(!report.is_satisfied());
    assert_eq!((report.missing().count(), report.recommended().count()), (4, 2));
    assert_eq!(report.modules().len(), 1);
    assert_eq!(report.modules()[0].module.as_deref(), Some("virtio_net"));
}

#[test]
fn what_is_needed_and_there_is_not_mentioned() {
    let set = Requirements::parse(SET, "needs.toml").unwrap();
    let config = DotConfig::parse(
        b"CONFIG_VIRTIO_NET=y\nCONFIG_DEVTMPFS=y\nCONFIG_RD_GZIP=y\nCONFIG_NR_CPUS=64\n\
          CONFIG_PHYSICAL_START=0x200000\nCONFIG_LSM=\"yama,landlock\"\nCONFIG_LOCALVERSION=\"-kiln\"\n",
        "a.config",
    );
    let report = set.check(&config).into_result().unwrap();
    assert_eq!(report.to_string(), "a.config: 8 requirements of needs.toml, 0 missing");
}

#[test]
fn a_wrong_set_tells_all_that_is_wrong() {
    let wrong = r#"
[[requirement]]
option = "A"
need = "yes"
reason = "r"

[[requirement]]
option = "A B"
need = "y"
raeson = "typo"

[[requirement]]
option = "C"
need = "y"
value = 3
reason = "r"

[[requirement]]
any_of = []
reason = "r"
severity = "high"

[[requirement]]
any_of = [{ option = "D", need = "y", extra = 1 }, 5]
option = "E"
reason = "r"

[[requirement]]
option = "F"
min = 5
max = 2
reason = "r"

[[requirement]]
option = "G"
need = "y"
reason = "r"

[[requirement]]
option = "CONFIG_G"
need = "n"
reason = "r"
"#;
    insta::assert_snapshot!(Requirements::parse(wrong, "needs.toml").unwrap_err().to_string());
    let no_toml = Requirements::parse("\n\n[[requirement\n", "needs.toml").unwrap_err();
    assert!(no_toml.to_string().contains("needs.toml:3: "), "{no_toml}");
    let unknown = Requirements::parse("\n[requirements]\n", "needs.toml").unwrap_err();
    assert!(unknown.to_string().contains("needs.toml:2: unknown field"), "{unknown}");
}

#[cfg(feature = "serde")]
#[test]
fn a_report_is_data_too() {
    let set = Requirements::parse(SET, "needs.toml").unwrap();
    let report = set.check(&DotConfig::parse(b"CONFIG_DEVTMPFS=m\n", "a.config"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["checked"], 8);
    assert_eq!(json["findings"][0]["options"][0]["state"]["is"], "absent");
    let devtmpfs = &json["findings"][1];
    assert_eq!(devtmpfs["severity"], "required");
    assert_eq!(devtmpfs["options"][0]["state"]["value"], "m");
    assert_eq!(devtmpfs["options"][0]["state"]["site"]["line"], 1);
    assert_eq!(devtmpfs["declared"]["file"], "needs.toml");
}

#[test]
fn a_condition_decides_whether_a_requirement_is_asked_at_all() {
    let set = "[[requirement]]\noption = \"MODPROBE_PATH\"\nvalue = \"/sbin/modprobe\"\n\
               when = { option = \"MODULES\", need = \"y\" }\nreason = \"drivers on demand\"\n";
    let set = Requirements::parse(set, "set").unwrap();
    let check = |text: &str| set.check(&DotConfig::parse(text.as_bytes(), "config"));
    assert!(check("# CONFIG_MODULES is not set\n").is_satisfied());
    assert!(check("CONFIG_MODULES=y\nCONFIG_MODPROBE_PATH=\"/sbin/modprobe\"\n").is_satisfied());
    assert!(!check("CONFIG_MODULES=y\nCONFIG_MODPROBE_PATH=\"/bin/x\"\n").is_satisfied());

    let wrong = "[[requirement]]\noption = \"A\"\nneed = \"y\"\nreason = \"r\"\nwhen = 5\n";
    let error = Requirements::parse(wrong, "set").unwrap_err().to_string();
    assert!(error.contains("set:1: 'when': expected a table"), "{error}");
}
