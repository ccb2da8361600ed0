//! What counts when several documents say something, and where it is said to be from.

use kiln_cloudconfig::layer::{CommandLine, Prefix, Rules, merge};
use kiln_cloudconfig::{Limits, Node, decode, document};
use proptest::prelude::*;

fn doc(name: &str, text: &str) -> Node {
    let (root, findings) = document::read(name, text.as_bytes(), &Limits::default());
    assert!(findings.is_empty(), "{findings}");
    root
}

#[test]
fn six_layers_and_where_each_value_is_from() {
    let mut rancher = CommandLine::with_key("rancher");
    rancher.prefixes.push(Prefix { name: "os.cc".into(), is_key: false });
    let line = "console=ttyS0 rancher.debug rancher.state.dev=LABEL=S rancher.disable=[a,b] \
                rancher.ssh.port=2222 rancher.url=http://192.0.2.1/a?b=c os.cc.hostname=line \
                rancher.message=\"two words\" rancher.debug.more=1 rancher..x=1 -- rancher.password=p";
    let (line, findings) = rancher.read(line, &Limits::default());
    let layers = [
        doc(
            "os-config.yml",
            "hostname: built-in\nrancher:\n  debug: false\n  console: default\n  disable: [c]\n",
        ),
        doc(
            "oem.yml",
            "hostname: oem\nrancher:\n  environment: {A: '1', B: '2'}\n  ssh: {port: 22, daemon: true}\n",
        ),
        doc("cloud-config.d/a.yml", "# nothing\n"),
        doc(
            "cloud-config.yml",
            "rancher:\n  environment: {B: '3', C: '4'}\n  console: null\nssh_authorized_keys:\n- one\n",
        ),
        doc("metadata", "{\"ssh_authorized_keys\": [\"two\", \"one\"], \"hostname\": \"meta\"}"),
        line,
    ];
    let merged = merge(layers, &Rules::default());
    insta::assert_snapshot!("explain", format!("{}\n{findings}", merged.explain()));
    insta::assert_snapshot!("export", merged.root.to_yaml());
}

#[test]
fn a_finding_about_a_merged_document_names_the_file_that_is_wrong() {
    let layers = [
        doc("a.yml", "hostname: good\nservices:\n  sshd: true"),
        doc("b.yml", "\nservices: {ntp: maybe}"),
    ];
    let merged = merge(layers, &Rules::default());
    let (config, findings) = decode(&merged.root, &Limits::default());
    assert_eq!(config.services.len(), 1);
    assert_eq!(
        findings.to_string(),
        "b.yml:2: services.ntp: expected true or false, found the text \"maybe\""
    );
}

#[test]
fn limits_hold_for_a_whole_line() {
    let mut limits = Limits::default();
    limits.depth = 4;
    limits.nodes = 20;
    let read = |line: &str| CommandLine::default().read(line, &limits);
    // Found by fuzzing: keys and value each kept the depth, and together went beyond it.
    for (line, is_list) in
        [("cc.a.b=[[x]]", true), ("cc.a.b=[[[x]]]", false), ("cc.a.b.c.d=[]", false)]
    {
        let (root, findings) = read(line);
        assert!(findings.is_empty(), "{line}: {findings}");
        let (again, findings) = document::read("x", root.to_yaml().as_bytes(), &limits);
        assert!(findings.is_empty() && again.says(&root), "{line}: {findings}");
        assert_eq!(root.to_yaml().contains("- "), is_list, "{line}: {}", root.to_yaml());
    }
    let (_, findings) = read("cc.a.b.c.d.e=1");
    assert!(findings.to_string().contains("keys nested deeper than 4"), "{findings}");
    // Each list is small enough, all of them are not.
    let list = "[a,b,c,d,e,f]";
    let (root, findings) =
        read(&format!("cc.a={list} cc.b={list} cc.c={list} cc.d cc.e cc.f cc.g"));
    assert!(root.at(["b"]).unwrap().to_yaml().starts_with("- a"), "{}", root.to_yaml());
    assert!(!root.at(["c"]).unwrap().to_yaml().contains("- a"), "{}", root.to_yaml());
    assert!(root.at(["g"]).is_none());
    assert!(findings.to_string().contains("too many values, aliases included"), "{findings}");
}

#[test]
fn values_of_the_command_line() {
    let value = |word: &str| {
        let (root, findings) = CommandLine::with_key("k").read(word, &Limits::default());
        (root.to_yaml(), findings.to_string())
    };
    for (word, yaml) in [
        ("k.a", "k:\n  a: true\n"),
        ("k.a=", "k:\n  a: null\n"),
        ("k.a=1", "k:\n  a: 1\n"),
        ("k.a=[]", "k:\n  a: []\n"),
        ("k.a={b:1}", "k:\n  a:\n    \"b:1\": null\n"),
        ("k.a={\"b\":1}", "k:\n  a:\n    b: 1\n"),
        ("k.a=[a", "k:\n  a: \"[a\"\n"),
        ("k.a=\"b c\"", "k:\n  a: \"b c\"\n"),
        ("k.a='1'", "k:\n  a: \"1\"\n"),
        ("k.a=1 k.a=2", "k:\n  a: 2\n"),
        ("k.a=*x", "k:\n  a: \"*x\"\n"),
        ("kk.a=1 k=1 K.a=1 x.k.a=1", "null\n"),
    ] {
        assert_eq!(value(word), (yaml.to_owned(), String::new()), "{word}");
    }
    assert_eq!(
        value("k.=1").1,
        "the kernel's command line: k.: expected keys with dots between them"
    );
    let deep = format!("k{}=1", ".a".repeat(100));
    assert!(value(&deep).1.contains("keys nested deeper than 32"));
}

#[test]
fn what_follows_the_dashes_can_be_hidden() {
    for (line, shown) in [
        ("a b -- c", "a b"),
        ("a --b c", "a --b c"),
        ("a \"-- b\" -- c", "a \"-- b\""),
        ("-- c", ""),
        ("a b\n", "a b"),
    ] {
        assert_eq!(CommandLine::elided(line), shown, "{line}");
    }
}

proptest! {
    #[test]
    fn any_command_line_is_read(line in "(k\\.|cc\\.|[a-z.=\\[\\]{}\"' :,&*-]){0,40}") {
        let reader = CommandLine::with_key("k");
        let (root, _) = reader.read(&line, &Limits::default());
        let merged = merge([root.clone(), root], &Rules::default());
        let _ = merged.explain();
        prop_assert!(CommandLine::elided(&line).len() <= line.len());
    }

    /// What the top says counts, and a value is where its place says that it is from.
    #[test]
    fn places_are_true(
        texts in prop::collection::vec(
            prop::collection::btree_map(
                "[a-c]", prop_oneof!["1", "2", "\\{x: (1|2|\\{y: 3\\})\\}", "\\[1, 2\\]", "null"], 0..4,
            ), 1..5),
    ) {
        let yaml = |entries: &std::collections::BTreeMap<String, String>| {
            entries.iter().map(|(key, value)| format!("{key}: {value}\n")).collect::<String>()
        };
        let docs: Vec<Node> =
            texts.iter().enumerate().map(|(at, it)| doc(&at.to_string(), &yaml(it))).collect();
        let merged = merge(docs.clone(), &Rules::default());
        for (path, node) in leaves(&merged.root) {
            let from: usize = node.place.source.parse().unwrap();
            let keys = || path.iter().map(String::as_str);
            let there = docs[from].at(keys());
            prop_assert_eq!(there, Some(&node), "{}", merged.explain());
            // None above it says anything about it.
            for above in &docs[from + 1..] {
                prop_assert!(above.at(keys()).is_none(), "{}", merged.explain());
            }
        }
        let last = docs.iter().rfind(|doc| !doc.is_null());
        for (path, node) in last.map(leaves).unwrap_or_default() {
            prop_assert_eq!(merged.root.at(path.iter().map(String::as_str)), Some(&node));
        }
    }
}

/// Values that are no maps, with their paths.
fn leaves(root: &Node) -> Vec<(Vec<String>, Node)> {
    let Some(map) = root.as_map() else { return vec![(Vec::new(), root.clone())] };
    let below = map.iter().flat_map(|entry| {
        leaves(&entry.node).into_iter().map(|(mut path, node)| {
            path.insert(0, entry.key.clone());
            (path, node)
        })
    });
    below.collect()
}
