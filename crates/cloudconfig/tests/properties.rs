//! Rules that hold for any input.

mod random;

use kiln_cloudconfig::{Limits, Map, Node, Place, Scalar, Value, decode, document};
use proptest::prelude::*;

fn node() -> impl Strategy<Value = Node> {
    let text = prop_oneof![
        "[a-z/_.-]{0,8}",
        "[ \\t\\n:#'\"|>&*!%@`,?{}\\[\\]a-z0-9-]{0,12}",
        "([a-z #:]{0,6}\n){1,4}",
        "\\PC{0,8}",
        prop_oneof!["yes", "null", "~", "0644", "1e3", "<<", "-1", "0x1f", "---", "2001:db8::1"],
    ];
    let scalar = (text, any::<bool>()).prop_map(|(text, plain)| {
        // Plain only where it means something else than a text: else it would be one without quotes.
        let scalar = Scalar { text, plain };
        let is_text = matches!(scalar.meaning(), kiln_cloudconfig::Meaning::Text(_));
        let plain = plain && !is_text;
        Node { place: Place::whole("x"), value: Value::Scalar(Scalar { plain, ..scalar }) }
    });
    scalar.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6)
                .prop_map(|items| Node::list(Place::whole("x"), items)),
            prop::collection::vec(("\\PC{0,5}|[a-z]{1,5}|<<", inner), 0..6).prop_map(|entries| {
                let mut map = Map::new();
                for (key, node) in entries {
                    map.insert(key, Place::whole("x"), node);
                }
                Node::map(Place::whole("x"), map)
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_written_reads_back(node in node()) {
        let text = node.to_yaml();
        let (read, findings) = document::read("x", text.as_bytes(), &Limits::default());
        prop_assert!(findings.is_empty(), "{findings}\n{text}");
        prop_assert!(read.says(&node), "{text}\n{read:#?}");
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let (root, _) = document::read("x", &bytes, &Limits::default());
        let _ = decode(&root, &Limits::default());
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "[\\[\\]{}:,&*!|>'\"%@`#?\\- \\t\\na-z0-9<~]{0,80}") {
        let (root, _) = document::read("x", text.as_bytes(), &Limits::default());
        let _ = decode(&root, &Limits::default());
    }
}

#[test]
fn long_keys_read_back() {
    for len in [100, 1021, 1022, 1023, 1024, 1025, 5000] {
        for letter in ["a", "\u{fffd}", " "] {
            let place = Place::whole("x");
            let mut inner = Map::new();
            inner.insert(letter.repeat(len), place.clone(), Node::text(place.clone(), "b"));
            let inner = Node::map(place.clone(), inner);
            let list = Node::list(place.clone(), vec![inner.clone(), inner]);
            let mut outer = Map::new();
            outer.insert(letter.repeat(len), place.clone(), list);
            let node = Node::map(place, outer);
            let (read, findings) =
                document::read("x", node.to_yaml().as_bytes(), &Limits::default());
            assert!(findings.is_empty() && read.says(&node), "{len} {letter:?}: {findings}");
        }
    }
}

#[test]
fn only_a_key_without_quotes_merges() {
    let text = b"a: &a {x: 1}\nb: {<<: *a}\nc: {\"<<\": *a}\nd: {'<<': y}\n";
    let (root, findings) = document::read("x", text, &Limits::default());
    assert!(findings.is_empty(), "{findings}");
    assert!(root.at(["b", "x"]).is_some() && root.at(["b", "<<"]).is_none());
    assert!(root.at(["c", "x"]).is_none() && root.at(["c", "<<", "x"]).is_some());
    assert!(root.at(["d", "<<"]).is_some());
}

/// How many random configs: 10,000, or what `KILN_CLOUDCONFIG_CASES` says (a campaign).
fn cases() -> u64 {
    let said = std::env::var("KILN_CLOUDCONFIG_CASES").ok();
    said.map_or(10_000, |text| text.parse().expect("KILN_CLOUDCONFIG_CASES is no number"))
}

#[test]
fn random_configs_give_values_or_findings() {
    let limits = Limits::default();
    let (mut clean, mut sections) = (0_u64, 0_u64);
    for seed in 0..cases() {
        let text = random::config(seed);
        let (root, mut findings) = document::read("x", text.as_bytes(), &limits);
        let (config, more) = decode(&root, &limits);
        findings.append(more);
        clean += u64::from(findings.is_empty());
        sections += u64::from(config != kiln_cloudconfig::CloudConfig::default());
        for finding in &findings {
            assert!(!finding.to_string().contains(char::is_control), "seed {seed}: {finding:?}");
            let lines = u32::try_from(text.lines().count()).unwrap() + 1;
            let line = finding.place.line.unwrap_or(1);
            assert!((1..=lines).contains(&line), "seed {seed}: line {line} of {lines}");
        }
        // What was read is written and reads back to the same config.
        let again = document::read("x", root.to_yaml().as_bytes(), &limits).0;
        assert!(again.says(&root), "seed {seed}: {}", root.to_yaml());
        assert_eq!(decode(&again, &limits).0, config, "seed {seed}");
    }
    println!("{} configs, {clean} without a finding, {sections} with a value", cases());
    // Otherwise the generator has gone astray, and the test says nothing.
    assert!(clean * 20 > cases() && clean * 20 < cases() * 19, "{clean} are clean");
    assert!(sections * 2 > cases(), "{sections} have a value");
}
