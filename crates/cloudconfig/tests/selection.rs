//! Which source counts, in virtual time.

use std::time::Duration;

use kiln_cloudconfig::datasource::{Answer, Candidate, Progress, Selection, Step};
use proptest::prelude::*;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What a source says and when, if at all.
#[derive(Debug, Clone)]
struct Script {
    patience: u64,
    says: Option<(u64, Says)>,
    allowed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Found,
    Absent,
    Failed,
}

fn script() -> impl Strategy<Value = Script> {
    let says = prop_oneof![Just(Says::Found), Just(Says::Absent), Just(Says::Failed)];
    (1_u64..50, prop::option::of((0_u64..60, says)), prop::bool::weighted(0.8))
        .prop_map(|(patience, says, allowed)| Script { patience, says, allowed })
}

/// Runs scripts; answers of the same moment arrive in an order of their own. Gives the winner and
/// when it was decided.
fn run(scripts: &[Script], order: &[usize]) -> (Option<usize>, u64, Vec<Progress>) {
    let candidates = scripts.iter().enumerate();
    let candidates = candidates.map(|(at, it)| Candidate::new(at.to_string(), ms(it.patience)));
    let names: Vec<String> = (0..scripts.len()).map(|at| at.to_string()).collect();
    let allowed: Vec<&str> =
        (0..scripts.len()).filter(|at| scripts[*at].allowed).map(|at| names[at].as_str()).collect();
    let mut selection = Selection::new(candidates.collect(), Some(&allowed), ms(1000));
    let asked: Vec<usize> = selection.to_ask().collect();
    let mut answers: Vec<(u64, usize, usize, Says)> = asked
        .iter()
        .filter_map(|at| scripts[*at].says.map(|(when, says)| (when, order[*at], *at, says)))
        .collect();
    answers.sort_by_key(|(when, rank, ..)| (*when, *rank));
    let mut now = 0;
    let mut answers = answers.into_iter().peekable();
    loop {
        match selection.step(ms(1000 + now)) {
            Step::Decided => break,
            Step::WaitUntil(deadline) => {
                assert!(deadline > ms(1000 + now), "it would wait for what is over");
                let deadline = u64::try_from(deadline.as_millis()).expect("a short time") - 1000;
                match answers.next_if(|(when, ..)| *when <= deadline) {
                    Some((when, _, at, says)) => {
                        now = when;
                        let answer = match says {
                            Says::Found => Answer::Found(at),
                            Says::Absent => Answer::Absent,
                            Says::Failed => Answer::Failed("damaged".into()),
                        };
                        selection.answer(at, answer, ms(1000 + now));
                    }
                    None => now = deadline,
                }
            }
        }
    }
    let outcome = selection.finish();
    let winner = outcome.winner.map(|(at, content)| {
        assert_eq!(at, content);
        at
    });
    (winner, now, outcome.sources.into_iter().map(|(_, progress)| progress).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn precedence_decides_and_not_who_is_first(
        scripts in prop::collection::vec(script(), 0..7),
        order in Just((0..7).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let (winner, decided, _) = run(&scripts, &order);
        let in_time = |it: &Script, says: Says| {
            it.allowed && it.says.is_some_and(|(when, said)| said == says && when < it.patience)
        };
        prop_assert_eq!(winner, scripts.iter().position(|it| in_time(it, Says::Found)));
        let plain: Vec<usize> = (0..7).collect();
        prop_assert_eq!(run(&scripts, &plain).0, winner);

        // It waits for the winner and for those above it, and for no other.
        let upto = winner.map_or(scripts.len(), |at| at + 1);
        let latest = scripts[..upto].iter().filter(|it| it.allowed).map(|it| match it.says {
            Some((when, _)) if when < it.patience => when,
            _ => it.patience,
        });
        prop_assert_eq!(decided, latest.max().unwrap_or(0));
    }
}

#[test]
fn what_became_of_each_is_told() {
    let quick = |says| Script { patience: 10, says: Some((1, says)), allowed: true };
    let scripts = [
        quick(Says::Failed),
        Script { patience: 5, says: Some((5, Says::Found)), allowed: true },
        Script { allowed: false, ..quick(Says::Found) },
        quick(Says::Absent),
        quick(Says::Found),
        Script { patience: 10_000, says: None, allowed: true },
    ];
    let (winner, decided, progress) = run(&scripts, &[0, 1, 2, 3, 4, 5]);
    // An answer at the deadline is too late; the last one is below the winner and not waited for.
    assert_eq!((winner, decided), (Some(4), 5));
    assert_eq!(
        progress,
        [
            Progress::Failed("damaged".into()),
            Progress::TimedOut,
            Progress::NotAllowed,
            Progress::Absent,
            Progress::Found,
            Progress::Waiting
        ]
    );
}

#[test]
fn without_sources_it_is_decided_at_once() {
    let mut selection = Selection::<()>::new(Vec::new(), None, ms(0));
    assert_eq!(selection.step(ms(0)), Step::Decided);
    assert_eq!(selection.finish().winner, None);
}
