//! Timers, and what a start waits for.

use super::*;

pub(crate) fn run(dir: &Path) {
    let mut tick = ServiceSpec::one_shot("tick", ["/bin/true"]);
    tick.timer = Some(Timer::every(Duration::from_millis(50)));
    let path = dir.join("a/b/flag");
    let mut waits = sh("waits", "exec sleep 100");
    waits.waits_for = vec![Condition::Path(path.clone())];
    let mut skipped = ServiceSpec::one_shot("skipped", ["/bin/false"]);
    skipped.only_if = vec!["/no/such/path".into()];
    let mut after = ServiceSpec::one_shot("after", ["/bin/true"]);
    after.requires = vec!["skipped".into()];
    let mut ticks = 0;
    crate::run(vec![tick, waits, skipped, after], options(), &mut |event| match event {
        Event::Done { service } if *service == "tick" => {
            ticks += 1;
            if ticks == 3 {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, "").unwrap();
            }
        }
        Event::Started { service, .. } if *service == "waits" => term_self(),
        _ => {}
    });
}
pub(crate) fn test(dir: &Path) {
    let lines = supervise("timers_and_conditions", dir);
    assert!(count(&lines, "tick: done") >= 3, "{lines:#?}");
    assert!(place(&lines, "tick: again in") < place(&lines, "waits: started"), "{lines:#?}");
    assert_eq!(count(&lines, "skipped: skipped"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "skipped: started"), 0, "{lines:#?}");
    assert_eq!(count(&lines, "after: done"), 1, "{lines:#?}");
}
