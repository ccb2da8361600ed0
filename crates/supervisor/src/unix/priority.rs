//! The loop's share of a busy machine: it has little to do, and others wait for it.
//!
//! Niceness counts between the threads of one autogroup (sched(7)), and a session is one; so the loop
//! has its niceness, and its session too, if it leads one. Services lead sessions of their own, and
//! their processes are started by a thread that has the niceness of before.

use std::io::Write;

use rustix::process::{getpid, getpriority_process, getsid, setpriority_process, setsid};

/// The niceness of this thread, which is that of before if an earlier process image has changed it.
pub(super) fn original(known: Option<i32>) -> Option<i32> {
    if let Some(nice) = known {
        let _ = setpriority_process(None, nice);
    }
    getpriority_process(None).ok()
}

/// Gives this thread a niceness, and the session if it is ours: PID 1 gets one first. Gives why the
/// thread could not have it.
pub(super) fn prefer(nice: i32) -> rustix::io::Result<()> {
    if getpid().is_init() {
        // at a later image it leads one already
        let _ = setsid();
    }
    setpriority_process(None, nice)?;
    if getsid(None).is_ok_and(|session| session == getpid())
        && let Ok(mut file) = std::fs::OpenOptions::new().write(true).open("/proc/self/autogroup")
    {
        // a kernel without autogroups has no such file, and one that refuses leaves us as we were
        let _ = file.write_all(nice.to_string().as_bytes());
    }
    Ok(())
}
