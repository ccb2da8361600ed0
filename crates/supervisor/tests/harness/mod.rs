//! A harness of its own: each case's supervisor is a fresh process (the test's program again, with the
//! case's name), because signals, reaping and limits belong to whole processes.

use std::path::Path;
use std::process::ExitCode;

/// Name, what the supervising process does, what the test does.
pub(crate) type Case = (&'static str, fn(&Path), fn(&Path));

/// Which cases run at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each target has one of them")]
pub(crate) enum Order {
    /// All of them.
    Together,
    /// One, because some measure how long things take.
    OneByOne,
}

/// Is a case's supervisor, or runs the cases that the arguments choose.
pub(crate) fn main(cases: &'static [Case], arguments: &[String], order: Order) -> ExitCode {
    if let [word, name, dir] = arguments
        && word == "--case"
    {
        let case = cases.iter().find(|(known, ..)| known == name).unwrap();
        case.1(dir.as_ref());
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|a| a == "--list") {
        cases.iter().for_each(|(name, ..)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<_> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let chosen: Vec<&Case> = cases
        .iter()
        .filter(|(name, ..)| filters.is_empty() || filters.iter().any(|f| name.contains(*f)))
        .collect();
    let width = if order == Order::Together { chosen.len().max(1) } else { 1 };
    let mut failed = 0;
    for group in chosen.chunks(width) {
        let threads: Vec<_> = group
            .iter()
            .map(|(name, _, test)| {
                let run = move || {
                    let dir = tempfile::Builder::new().prefix("kiln-case").tempdir().unwrap();
                    test(dir.path());
                };
                (name, std::thread::Builder::new().name((*name).to_owned()).spawn(run).unwrap())
            })
            .collect();
        for (name, thread) in threads {
            let good = thread.join().is_ok();
            failed += usize::from(!good);
            println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        }
    }
    // The line of the usual harness, so that what counts its cases counts these.
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out",
        if failed == 0 { "ok" } else { "FAILED" },
        chosen.len() - failed,
        cases.len() - chosen.len()
    );
    ExitCode::from(u8::from(failed != 0))
}
