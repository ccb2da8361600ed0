//! `.config` files: nothing is lost, nothing panics, the last line counts.

use kiln_kconfig::{DotConfig, Limits, Tristate, Value, merge};
use proptest::prelude::*;

fn problems(text: &[u8]) -> Vec<String> {
    DotConfig::parse(text, "f").problems().iter().map(ToString::to_string).collect()
}

#[test]
fn odd_lines_are_kept_and_reported() {
    let text = b"#\r\n\r\nCONFIG_A=y\r\n# CONFIG_B is not set\r\n#CONFIG_C is not set\n\
        CONFIG_D\nCONFIG_=y\nCONFIG_E F=y\n CONFIG_G=y\nCONFIG_H=\"open\nCONFIG_I=y # why\n\
        #\tCONFIG_J is not set\n# CONFIG_K is not set yet\n\xff\xfe\nCONFIG_L=\n# CONFIG_M is set\n\
        CONFIG_N=n\n# CONFIG_N is not set\nCONFIG_O=1\nCONFIG_O=2";
    let config = DotConfig::parse(text, "f");
    assert_eq!(config.as_bytes(), text);
    let no = Some(Value::Tristate(Tristate::No));
    for (name, value) in [
        ("A", Some(Value::YES)),
        ("B", no.clone()),
        ("C", None),
        ("D", None),
        ("G", None),
        ("H", None),
        ("I", Some(Value::YES)),
        ("J", no.clone()),
        ("K", no.clone()),
        ("L", None),
        ("M", None),
        ("N", no),
        ("O", Some(Value::Int(2))),
    ] {
        assert_eq!(config.get(name), value, "{name}");
    }
    insta::assert_snapshot!(problems(text).join("\n"));
}

#[test]
fn values_are_set_in_place_and_read_back() {
    let mut config = DotConfig::parse(b"# top\nCONFIG_A=m\r\nCONFIG_B=y", "f");
    config.set("CONFIG_A", &Value::NO).unwrap();
    config.set("C", &Value::string("say \"hi\"\\")).unwrap();
    config.set("D", &Value::Hex(255)).unwrap();
    config.set("B", &Value::Int(-4)).unwrap();
    let expected: &[u8] =
        b"# top\n# CONFIG_A is not set\r\nCONFIG_B=-4\nCONFIG_C=\"say \\\"hi\\\"\\\\\"\nCONFIG_D=0xff\n";
    assert_eq!(config.as_bytes().escape_ascii().to_string(), expected.escape_ascii().to_string());
    assert_eq!(config.get("C"), Some(Value::string("say \"hi\"\\")));
    assert!(config.set("A B", &Value::YES).is_err());
    assert!(config.set("A", &Value::string("two\nlines")).is_err());
    assert_eq!(config.as_bytes(), expected);
}

#[test]
fn files_are_read_and_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    DotConfig::parse(b"CONFIG_A=y", "f").save(&path).unwrap();
    assert_eq!(DotConfig::read(&path).unwrap().as_bytes(), b"CONFIG_A=y");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let missing = DotConfig::read(folder.path().join("none")).unwrap_err().to_string();
    assert!(missing.contains("none: "), "{missing}");
    let nowhere = DotConfig::parse(b"", "f").save(folder.path().join("no/config")).unwrap_err();
    assert!(nowhere.to_string().starts_with("cannot write"), "{nowhere}");
}

#[test]
fn limits_bound_what_is_looked_at_and_never_what_is_kept() {
    let mut limits = Limits::default();
    (limits.max_lines, limits.max_problems, limits.max_name) = (3, 1, 4);
    let text = b"odd\nodd\nCONFIG_ABCDE=y\nCONFIG_B=y\nCONFIG_C=y\n";
    let config = DotConfig::parse_within(text, "f", &limits);
    assert_eq!(config.as_bytes(), text);
    assert!(config.is_empty());
    assert_eq!((config.problems().len(), config.unlisted_problems()), (1, 3));
    assert_eq!(merge(&config, &[]).config.as_bytes(), text);
}

#[test]
fn a_merge_knows_who_set_what() {
    let base =
        DotConfig::parse(b"CONFIG_A=y\nCONFIG_B=m\n# about CONFIG_B here\nCONFIG_C=1\n", "base");
    let one = DotConfig::parse(b"CONFIG_B=y\nCONFIG_S=\"x CONFIG_C=2\"\n", "one");
    let two = DotConfig::parse(b"CONFIG_B=m\nCONFIG_A=y\nCONFIG_C=1\n", "two");
    let merged = merge(&base, &[one, two]);
    let text = |list: &[kiln_kconfig::Override]| -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        text(&merged.overrides),
        ["CONFIG_B: y (one:1) after m (base:2)", "CONFIG_B: m (two:1) after y (one:1)"]
    );
    assert_eq!(
        text(&merged.redundant),
        ["CONFIG_A: y (two:2) after y (base:1)", "CONFIG_C: 1 (two:3) after 1 (base:4)"]
    );
    // A comment, and a setting of something else that merely mentions CONFIG_C.
    let lost: Vec<_> =
        merged.lost.iter().map(|l| (l.site.to_string(), l.setting.clone())).collect();
    assert_eq!(lost, [("base:3".to_owned(), None), ("one:2".to_owned(), Some("S".to_owned()))]);
    let b = &merged.provenance["B"];
    assert_eq!(b.set_by.to_string(), "m (two:1)");
    assert_eq!(
        b.overrode.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["m (base:2)", "y (one:1)"]
    );
    assert!(!merged.provenance.contains_key("S"));
    assert_eq!(merged.config.setting("B").unwrap().site.to_string(), "two:1");
}

/// Work grows with the input and not with its square: these would take minutes otherwise.
#[test]
fn hostile_fragments_merge_in_bounded_time() {
    let long = [b"CONFIG_".repeat(30_000), b"=y\n".to_vec()].concat();
    let many: Vec<u8> = (0..15_000).flat_map(|n| format!("CONFIG_A{n}=y\n").into_bytes()).collect();
    let same = b"CONFIG_A1=y\n".repeat(15_000);
    for base in [&long, &many, &same] {
        for fragment in [&long, &many, &same] {
            let base = DotConfig::parse(base, "base");
            let merged = merge(&base, &[DotConfig::parse(fragment, "fragment")]);
            assert!(!merged.config.as_bytes().is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_come_out_as_they_went_in(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let config = DotConfig::parse(&bytes, "f");
        let mut out = Vec::new();
        config.write_to(&mut out).unwrap();
        prop_assert_eq!(&out, &bytes);
        let merged = merge(&config, &[]);
        prop_assert_eq!(merged.config.as_bytes(), &bytes[..]);
    }

    #[test]
    fn lines_of_any_kind_do_no_harm(
        text in "((# )?CONFIG_[A-C]{0,2}(=[ymn0x1\"\\\\\\x00]{0,4}| is not set)?\r?\n?){0,12}",
        fragment in "((# )?CONFIG_[A-C]{0,2}(=[ymn0x1\"\\\\]{0,4}| is not set)?\r?\n?){0,12}",
    ) {
        let base = DotConfig::parse(text.as_bytes(), "base");
        prop_assert_eq!(base.as_bytes(), text.as_bytes());
        let fragment = DotConfig::parse(fragment.as_bytes(), "fragment");
        let merged = merge(&base, std::slice::from_ref(&fragment));
        // What the fragment sets is what the result says.
        for setting in fragment.effective() {
            let result = merged.config.setting(setting.name).unwrap();
            prop_assert!(result.same_value(&setting));
            prop_assert_eq!(&result.site, &setting.site);
        }
        for setting in merged.config.effective() {
            prop_assert_eq!(&merged.provenance[setting.name].set_by.site, &setting.site);
        }
    }

    #[test]
    fn strings_survive_quoting(text in proptest::collection::vec(any::<u8>(), 0..40)) {
        let value = Value::String(text);
        let mut config = DotConfig::parse(b"", "f");
        if config.set("X", &value).is_ok() {
            prop_assert_eq!(config.get("X"), Some(value));
            prop_assert_eq!(config.problems().len(), 0);
        }
    }
}
