//! The control socket, with real supervisors and real clients: those that must be somebody else are
//! this program again.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test says so by panicking")]

mod harness;
#[path = "control/hostile.rs"]
mod hostile;
#[path = "control/logs.rs"]
mod logs;
#[path = "control/reexec.rs"]
mod reexec;
#[path = "control/reload.rs"]
mod reload;
#[path = "control/rights.rs"]
mod rights;
#[path = "harness/supervised.rs"]
mod supervised;
#[path = "control/survival.rs"]
mod survival;
#[path = "control/verbs.rs"]
mod verbs;

use std::process::ExitCode;

use harness::{Case, Order};

const CASES: &[Case] = &[
    ("every_verb_does_what_it_says", verbs::run, verbs::test),
    ("long_answers_come_to_their_end", verbs::many_run, verbs::many_test),
    ("waiting_ends_with_what_came_of_it", verbs::waits_run, verbs::waits_test),
    ("strangers_are_refused", rights::run, rights::test),
    ("readers_may_not_act", rights::readers_run, rights::readers_test),
    (
        "a_client_outside_of_the_pid_namespace_is_answered",
        rights::outside_run,
        rights::outside_test,
    ),
    ("garbage_and_half_frames_hurt_nobody_else", hostile::run, hostile::garbage_test),
    ("slow_readers_hurt_nobody_else", hostile::run, hostile::slow_test),
    ("ten_thousand_connections_hurt_nobody_else", hostile::run, hostile::crowd_test),
    ("few_descriptors_still_answer", hostile::few_run, hostile::few_test),
    ("answers_while_orphans_are_reaped", hostile::orphans_run, hostile::orphans_test),
    ("logs_are_followed_through_restarts_and_rotations", logs::run, logs::test),
    ("a_panic_keeps_the_socket_and_the_times", survival::panic_run, survival::panic_test),
    ("reexecution_on_request_keeps_everything", reexec::run, reexec::test),
    ("reexecution_as_another_program", reexec::other_run, reexec::other_test),
    ("reexecution_is_refused_unless_allowed", reexec::refused_run, reexec::refused_test),
    ("a_reload_does_what_is_different", reload::run, reload::test),
    ("reloads_that_overlap_are_all_answered", reload::run, reload::slow_test),
    ("sockets_follow_their_services", reload::run, reload::sockets_test),
    ("nobody_connected_means_no_wakeups", survival::idle_run, survival::idle_test),
    ("a_first_process_goes_on_without_its_socket", survival::late_run, survival::late_test),
    ("a_lost_socket_is_made_anew_and_a_live_one_kept", survival::lost_run, survival::lost_test),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [word, name, dir] if word == "--client" => {
            match name.as_str() {
                "crowd" => hostile::crowd(dir.as_ref()),
                "stranger" => rights::stranger(dir.as_ref()),
                "reader" => rights::reader(dir.as_ref()),
                "member" => rights::member(dir.as_ref()),
                other => panic!("no client {other}"),
            }
            ExitCode::SUCCESS
        }
        _ => harness::main(CASES, &arguments, Order::OneByOne),
    }
}
