//! `POST /system/upgrade`: another version of the machine's system, as an archive that comes as a stream. A
//! program of the system's judges it and puts it into its place; here it is only passed on.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use kurma_client::rpc::{CONFLICT, DENIED, Fault, INTERNAL_ERROR, INVALID_PARAMS, NOT_FOUND};
use kurma_client::{Upgrade, Upgraded};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, Command};
use tokio::sync::SemaphorePermit;

use super::{Api, Asking, Refused, Shared, operator};
use crate::caller::Caller;

/// Bytes of the longest archive: what comes beyond is not passed on.
const LONGEST: u64 = 4 << 30;
/// How long the program may take once it has all.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long whoever asked has to read the answer, before the machine starts anew.
const FAREWELL: Duration = Duration::from_secs(1);
/// Characters of what the program says.
const SHOWN: usize = 2000;

pub(super) async fn take(
    State(api): Shared,
    Extension(caller): Asking,
    asked: Result<Query<Upgrade>, QueryRejection>,
    body: Body,
) -> Response {
    let done = match asked {
        Ok(Query(how)) => upgrade(&api, &caller, &how, body).await,
        Err(error) => Err(Fault::new(INVALID_PARAMS, error.body_text())),
    };
    let whom = done.as_ref().map_or("", |done| done.message.as_str());
    api.audit.write(&caller, "System.Upgrade", whom, done.as_ref());
    match done {
        Ok(done) => super::json(&done).into_response(),
        Err(fault) => Refused(fault).into_response(),
    }
}

/// Sees that somebody may have it done.
fn may(caller: &Caller, how: &Upgrade) -> Result<(), Fault> {
    operator(caller)?;
    // words of a command line can start anything, and an older version has its errors back
    if !caller.local && (how.force || how.append.is_some()) {
        let what =
            "an older version, or words of the command line, are for the machine itself alone";
        return Err(Fault::new(DENIED, what));
    }
    Ok(())
}

async fn upgrade(
    api: &Arc<Api>,
    caller: &Caller,
    how: &Upgrade,
    body: Body,
) -> Result<Upgraded, Fault> {
    may(caller, how)?;
    let Some(program) = &api.options.upgrades else {
        let what = "the system of this machine is not the server's to replace";
        return Err(Fault::new(NOT_FOUND, what));
    };
    let _turn: SemaphorePermit<'_> = api
        .upgrade
        .try_acquire()
        .map_err(|_| Fault::new(CONFLICT, "another version comes in already"))?;
    let output = passed_on(program, how, body, api.options.patience).await?;
    let said = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes).trim().chars().take(SHOWN).collect::<String>()
    };
    if !output.status.success() {
        let why = said(&output.stderr);
        let why = if why.is_empty() { output.status.to_string() } else { why };
        return Err(Fault::new(INVALID_PARAMS, why));
    }
    if !how.stay {
        let program = program.clone();
        tokio::spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            let mut command = Command::new(&program);
            let asked = command.arg("restart").stdin(Stdio::null()).status().await;
            if !matches!(&asked, Ok(status) if status.success()) {
                eprintln!("kurma-server: {} restart: {asked:?}", program.display());
            }
        });
    }
    Ok(Upgraded::new(said(&output.stdout), !how.stay))
}

/// Gives the program all that comes. One that has heard enough still has the rest taken, so that whoever sends
/// it reads the answer.
async fn passed_on(
    program: &Path,
    how: &Upgrade,
    mut body: Body,
    patience: Duration,
) -> Result<Output, Fault> {
    let failed = |problem: std::io::Error| {
        Fault::new(INTERNAL_ERROR, format!("{}: {problem}", program.display()))
    };
    let mut command = Command::new(program);
    command.arg("upgrade");
    command.args(how.force.then_some("--force")).args(how.kexec.then_some("--kexec"));
    command.args(how.append.iter().map(|words| format!("--append={words}"))).arg("-");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let mut input = child.stdin.take();
    let mut count = 0_u64;
    loop {
        let frame = tokio::time::timeout(patience, body.frame()).await.map_err(|_| {
            Fault::new(INVALID_PARAMS, format!("nothing came for {} s", patience.as_secs()))
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Fault::new(INVALID_PARAMS, format!("it does not come to its end: {error}"))
        })?;
        let Ok(bytes) = frame.into_data() else { continue };
        count = count.saturating_add(bytes.len() as u64);
        if count > LONGEST {
            return Err(Fault::new(INVALID_PARAMS, format!("it has more than {LONGEST} bytes")));
        }
        input = given(input, &bytes, patience).await;
    }
    drop(input);
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    ended
        .map_err(|_| Fault::new(INTERNAL_ERROR, "it takes too long, and was ended"))?
        .map_err(failed)
}

/// Gives bytes to who still takes them.
async fn given(input: Option<ChildStdin>, bytes: &[u8], patience: Duration) -> Option<ChildStdin> {
    let mut input = input?;
    let written = tokio::time::timeout(patience, input.write_all(bytes)).await;
    matches!(written, Ok(Ok(()))).then_some(input)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Role;

    #[test]
    fn what_is_for_the_machine_alone() {
        let (plain, mut older, mut words) = <(Upgrade, Upgrade, Upgrade)>::default();
        older.force = true;
        words.append = Some("init=/bin/sh".into());
        let here = Caller::local("uid 0", Role::Operator);
        let there = Caller::remote("ann", Role::Operator);
        for how in [&plain, &older, &words] {
            may(&here, how).unwrap();
            assert_eq!(may(&there, how).is_ok(), how == &plain);
            may(&Caller::local("uid 1", Role::ReadOnly), how).unwrap_err();
        }
    }
}
