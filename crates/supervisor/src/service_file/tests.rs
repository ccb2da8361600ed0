use proptest::prelude::*;

use super::*;

fn said(text: &str) -> Vec<String> {
    match parse(&[Source::new("f", text)]) {
        Ok(_) => Vec::new(),
        Err(findings) => findings.0.iter().map(ToString::to_string).collect(),
    }
}

const GOOD: &str = "[[service]]\nname = \"a\"\ncommand = [\"/a\"]\n";

#[test]
fn everything_wrong_is_said_at_once_with_its_line() {
    let text = r#"
[[service]]
name = "web"
comand = ["/bin/web"]
command = "/bin/web"
restart = "allways"
readiness = { notify-fdd = 3 }
stop-signal = "TREM"
backoff = { initail = "1s", max = "long", healthy = true }
env = { A = 1, B = "b" }
sockets = [{ listen = "tcp:1.2.3.4:80" }, { listen = "tcp:host:80" }, { name = "x" }]
cgroup = { memory-max = "1.5G", pids-max = -1 }
user = true
timer = { evry = "1s" }
requires = ["databse", 5, "web"]

[service.limits]
resources = [{ resource = "nofiles", soft = 5 }]
nise = 3

[[service]]
name = "database"
kind = "one-shot"
after = ["late"]

[[service]]
name = "late"
command = ["/late"]
wants = ["database"]
readiness = "connect"

[[service]]
command = ["/nameless"]

[[service]]
name = "web"
command = ["/other"]

[[service]]
name = "lazy"
command = []
on-demand = true
"#;
    let expected = [
        "f:4: unknown key \"comand\", did you mean \"command\"?",
        "f:5: command: expected a sequence, found string \"/bin/web\"",
        "f:6: restart: unknown value \"allways\", did you mean \"always\"?",
        "f:7: readiness: unknown value \"notify-fdd\", did you mean \"notify-fd\"?",
        "f:8: stop-signal: unknown signal \"TREM\", expected a name such as TERM",
        "f:9: healthy: expected a duration such as \"500ms\", \"5s\", \"2m\", \"1h\", or a number of seconds",
        "f:9: max: bad duration \"long\", expected a number and ms, s, m or h",
        "f:9: unknown key \"initail\", did you mean \"initial\"?",
        "f:10: A: expected a string, found integer `1`",
        "f:11: listen: bad address \"tcp:host:80\", expected tcp:IP:PORT, udp:IP:PORT, unix:/PATH or unix:@NAME",
        "f:11: sockets: listen is missing",
        "f:12: memory-max: bad size \"1.5G\", expected bytes, or a number with K, M, G or T",
        "f:12: pids-max: expected u32, found integer `-1`",
        "f:13: user: expected a number or a name",
        "f:14: unknown key \"evry\", did you mean \"every\"?",
        "f:15: requires: expected a string, found integer `5`",
        "f:15: web requires \"databse\", which does not exist, did you mean \"database\"?",
        "f:15: web requires itself",
        "f:18: resource: unknown value \"nofiles\", did you mean \"nofile\"?",
        "f:19: unknown key \"nise\", did you mean \"nice\"?",
        "f:21: service database: no command",
        "f:24: dependency cycle: database -> late -> database",
        "f:30: readiness: \"connect\" takes a value: { connect = … }",
        "f:32: a service without a name",
        "f:36: web is defined twice, first at f:3",
        "f:39: service lazy: it is started on demand and has no socket on which there could be any",
        "f:41: service lazy: no command",
    ];
    let found = said(text);
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn files_are_one_list_and_clashes_have_both_places() {
    let other = "\n[[service]]\nname = \"b\"\ncommand = [\"/b\"]\nrequires = [\"a\"]\n";
    let sources = [Source::new("d/1.toml", other), Source::new("d/2.toml", GOOD)];
    let definitions = parse(&sources).unwrap();
    let names: Vec<&str> = definitions.specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(definitions.places[0].to_string(), "d/1.toml:2");
    let twice = [Source::new("d/1.toml", GOOD), Source::new("d/2.toml", GOOD)];
    let findings = parse(&twice).unwrap_err().to_string();
    assert_eq!(findings, "d/2.toml:2: a is defined twice, first at d/1.toml:2");
}

#[test]
fn what_a_program_has_may_be_named_and_not_redefined() {
    let others = [ServiceSpec::daemon("network", ["/init"])];
    let text = format!("{GOOD}requires = [\"network\"]\n");
    let parsed = parse_with(&[Source::new("f", text)], Context::with(&others)).unwrap();
    assert_eq!(parsed.specs.len(), 1);
    let text = "[[service]]\nname = \"network\"\ncommand = [\"/x\"]\n";
    let findings = parse_with(&[Source::new("f", text)], Context::with(&others)).unwrap_err();
    assert_eq!(findings.to_string(), "f:2: network is defined twice, first at the program itself");
}

#[test]
fn what_is_no_text_is_refused_with_its_line() {
    let refused = |bytes: Vec<u8>| parse(&[Source::new("f", bytes)]).unwrap_err().to_string();
    assert_eq!(refused(b"a = 1\n\xff".to_vec()), "f:2: not UTF-8, which TOML is");
    assert!(refused(b"[[service]]\nname = \"a\0\"\n".to_vec()).starts_with("f:2: "));
    let huge = vec![b'\n'; MAX_FILE_BYTES + 1];
    assert_eq!(refused(huge), "f: longer than 8388608 bytes, which no service file needs");
    assert!(refused(format!("a = {}", "[".repeat(100_000)).into_bytes()).starts_with("f:1: "));
    assert_eq!(said("[service]\nname = \"a\"\n"), ["f:1: write [[service]]: there may be several"]);
    assert_eq!(
        said("[[servce]]\n"),
        ["f:1: unknown key \"servce\" at the top, did you mean \"service\"?"]
    );
}

#[test]
fn endless_mistakes_are_counted() {
    let mut text = String::new();
    for n in 0..500 {
        text += &format!("[[service]]\nname = \"s{n}\"\ncommand = [\"/x\"]\nbad = 1\n");
    }
    let found = said(&text);
    assert_eq!(found.len(), MAX_FINDINGS + 1);
    assert_eq!(found[MAX_FINDINGS], "f: and 400 more problems");
    // one table with more mistakes than are looked for
    let many: String = (0..300).map(|n| format!("K{n} = {n}\n")).collect();
    let found = said(&format!("{GOOD}[service.env]\n{many}"));
    assert!((64..=101).contains(&found.len()), "{}", found.len());
}

#[test]
fn a_directory_is_its_toml_files_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("20-a.toml", GOOD);
    write("10-b.toml", "[[service]]\nname = \"b\"\ncommand = [\"/b\"]\n");
    write(".hidden.toml", "garbage");
    write("README", "garbage");
    std::fs::create_dir(dir.path().join("below")).unwrap();
    let read = |paths: &[PathBuf]| super::read(paths);
    let definitions = read(&[dir.path().to_path_buf()]).unwrap();
    let names: Vec<&str> = definitions.specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    std::fs::create_dir(dir.path().join("30.toml")).unwrap();
    let findings = read(&[dir.path().to_path_buf(), dir.path().join("none")]).unwrap_err();
    let said: Vec<&str> = findings.0.iter().map(|finding| finding.text.as_str()).collect();
    assert_eq!(said, ["not a regular file", "No such file or directory (os error 2)"]);
}

/// Text that looks like a service file more often than not.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("name"),
        Just("command"),
        Just("requires"),
        Just("readiness"),
        Just("notify-fd"),
        Just("\"a\""),
        Just("env"),
        Just("timer"),
        Just("every"),
        Just("\"1s\""),
        Just("backoff"),
        Just("sockets"),
        Just("="),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just("\n"),
        Just("[[service]]\n"),
        Just("[service.limits]\n"),
        Just("3"),
        Just(","),
        Just("."),
        Just("true"),
        Just("#"),
        Just("1979-05-27"),
        Just("\u{0}"),
        Just("'''"),
        Just("1e9"),
    ];
    proptest::collection::vec(word, 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    /// Any bytes are a list of services, or problems each of which has the file and, within it, a line.
    #[test]
    fn any_bytes_are_services_or_have_problems(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        judge(bytes)?;
    }

    #[test]
    fn any_text_is_services_or_has_problems(text in text()) {
        judge(text.into_bytes())?;
    }

    /// Sound services come back as they were, whatever their names.
    #[test]
    fn one_more_key_is_one_more_problem(key in "[a-z]{1,12}", value in 0..9_u8) {
        let known = toml::from_str::<ServiceSpec>(&format!("{key} = {value}"));
        prop_assume!(known.is_err_and(|error| error.message().starts_with("unknown field")));
        let found = said(&format!("{GOOD}{key} = {value}\n"));
        prop_assert_eq!(found.len(), 1);
        let expected = format!("f:4: unknown key {key:?}");
        prop_assert!(found[0].starts_with(&expected), "{found:?}");
    }
}

fn judge(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    let source = [Source::new("f", bytes)];
    let (sound, left_out) = parse_sound(&source, Context::default());
    prop_assert!(crate::Graph::new(&sound.specs).is_ok());
    prop_assert_eq!(sound.specs.len(), sound.places.len());
    match parse(&source) {
        Ok(definitions) => prop_assert_eq!((definitions, Vec::new()), (sound, left_out.0)),
        Err(findings) => {
            prop_assert!(!left_out.0.is_empty());
            prop_assert!((1..=MAX_FINDINGS + 1).contains(&findings.0.len()));
            for finding in findings.0 {
                prop_assert!(!finding.text.is_empty() && !finding.text.contains(char::is_control));
                let line = finding.place.line;
                prop_assert!(line.is_some_and(|line| (1..=lines).contains(&(line as usize))));
            }
        }
    }
    Ok(())
}
