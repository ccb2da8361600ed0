//! A list of services of which some are not sound, as process 1 and from one program to the next.

use std::collections::BTreeMap;
use std::path::Path;

use kiln_supervisor::ServiceSpec;
use kiln_supervisor::control::{Client, Effect};
use kiln_supervisor::unix::{Reexec, Unsound};

use crate::supervised::{PATIENCE, options, sh, supervise, until};
use crate::{first_process, is_root};

/// A ring, one that requires itself, an unknown name, what stands on these, and what does not.
fn services() -> Vec<ServiceSpec> {
    let spec = |name: &str, requires: &[&str], wants: &[&str], after: &[&str]| {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let mut spec = sh(name, "exec sleep 1000");
        (spec.requires, spec.wants) = (names(requires), names(wants));
        spec.after = names(after);
        spec
    };
    vec![
        spec("first", &["base"], &["one"], &["self", "last"]),
        spec("one", &["two"], &[], &[]),
        spec("two", &[], &["three"], &[]),
        spec("three", &[], &[], &["one"]),
        spec("self", &["self"], &[], &[]),
        spec("lost", &["nowhere"], &[], &[]),
        spec("needs", &["base", "lost"], &[], &[]),
        spec("base", &[], &[], &[]),
        spec("last", &["base"], &["nobody"], &["last"]),
    ]
}

const SOUND: [&str; 3] = ["base", "first", "last"];

pub(crate) fn run(dir: &Path) {
    let mut services = services();
    let is_new = std::env::current_exe().unwrap() == dir.join("program");
    if is_new && dir.join("worse").exists() {
        services[7].requires = vec!["nowhere".into()];
    }
    let mut options = options(dir);
    options.unsound = Unsound::LeaveOut;
    options.reexec = Some(Reexec::new(dir.join("program")));
    supervise(services, options);
}

fn up(client: &mut Client) -> BTreeMap<String, i32> {
    let all = client.status(None).unwrap().into_iter();
    all.filter_map(|status| Some((status.name, status.pid?))).collect()
}

pub(crate) fn test(dir: &Path) {
    if !is_root() {
        return;
    }
    let supervisor = first_process("process_1_starts_what_is_sound", dir);
    let mut client = supervisor.client();
    let all = |client: &mut Client| Some(up(client)).filter(|found| found.keys().eq(SOUND));
    let before = until("those are up, and no others", || all(&mut client));
    assert_eq!(client.status(None).unwrap().len(), SOUND.len());
    let out = supervisor.out();
    let lines: Vec<&str> = out.lines().collect();
    let ring = "dependency cycle: one -> two -> three -> one";
    assert_eq!(
        lines[..10],
        [
            "dropped: service first: wants one, which is left out".to_owned(),
            "dropped: service first: after self, which is left out".to_owned(),
            format!("left out: service one: requires two, which depends on one: {ring}"),
            format!("left out: service two: wants three, which depends on two: {ring}"),
            format!("left out: service three: after one, which depends on three: {ring}"),
            "left out: service self: requires itself".to_owned(),
            "left out: service lost: requires \"nowhere\", which does not exist".to_owned(),
            "left out: service needs: requires lost, which is left out".to_owned(),
            "dropped: service last: wants \"nobody\", which does not exist".to_owned(),
            "dropped: service last: after itself".to_owned(),
        ],
        "before anything starts"
    );
    assert!(lines[10].starts_with("base: started as "), "{out}");
    // places in the list of all services mean nothing any more
    client.restart("first", PATIENCE).unwrap();
    let restarted = until("it is another process", || {
        all(&mut client).filter(|now| now["first"] != before["first"])
    });
    assert_eq!((restarted["base"], restarted["last"]), (before["base"], before["last"]));

    // another program with the same list, and one in which one that runs is not sound
    std::fs::copy(std::env::current_exe().unwrap(), dir.join("program")).unwrap();
    assert_eq!(client.reexec().unwrap().effect, Effect::Done);
    assert_eq!(all(&mut client), Some(restarted.clone()));
    let third = dir.join("third");
    std::fs::copy(dir.join("program"), &third).unwrap();
    std::fs::write(dir.join("worse"), "").unwrap();
    std::fs::rename(&third, dir.join("program")).unwrap();
    let result = client.reexec().unwrap();
    assert_eq!(result.effect, Effect::Failed, "{result:?}");
    assert!(result.text.contains("the new program cannot go on"), "{result:?}");
    assert_eq!(all(&mut client), Some(restarted));
    drop(client);
    let out = supervisor.end();
    assert_eq!(out.matches("base: started as ").count(), 1, "{out}");
}
