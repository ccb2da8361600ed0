//! Sockets that start a service.

use super::*;

/// A service that is started by the first connection, ends, and is started by the next one.
pub(crate) fn run(dir: &Path) {
    let own = std::env::current_exe().unwrap().display().to_string();
    let mut spec = ServiceSpec::daemon("web", [own.as_str(), "--answer"]);
    spec.log = Log::File(plain(dir.join("log")));
    let path = dir.join("sub/socket");
    let mut socket = Socket::new(format!("unix:{}", path.display()).parse().unwrap());
    socket.name = "front".into();
    spec.sockets = vec![socket];
    spec.on_demand = true;
    let mut other = sh("other", "exec sleep 100");
    other.requires = vec!["web".into()];
    let mut asked = Vec::new();
    let mut done = 0;
    crate::run(vec![spec, other], options(), &mut |event| match event {
        Event::Started { service, .. } if *service == "other" => {
            // it required the one that has only listened so far
            asked.push(ask(path.clone()));
        }
        Event::Done { service } if *service == "web" => {
            done += 1;
            if done == 2 { term_self() } else { asked.push(ask(path.clone())) }
        }
        _ => {}
    });
    for thread in asked {
        println!("0 answer {}", thread.join().unwrap());
    }
    println!("0 socket left: {}", path.exists());
}
pub(crate) fn test(dir: &Path) {
    let lines = supervise("sockets_are_opened_and_start_on_demand", dir);
    let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    assert_eq!(count(&lines, "web: started"), 2, "{lines:#?} {log}");
    assert!(place(&lines, "web: listening") < place(&lines, "other: started"));
    assert!(place(&lines, "other: started") < place(&lines, "web: started"));
    assert_eq!(count(&lines, "answer front 1 true"), 2, "{lines:#?} {log}");
    assert_eq!(count(&lines, "socket left: false"), 1, "{lines:#?}");
}

/// A service that ends well each time, and takes no connection.
pub(crate) fn left_run(dir: &Path) {
    let mut spec = sh("rude", "exit 0");
    let path = dir.join("socket");
    spec.sockets = vec![Socket::new(format!("unix:{}", path.display()).parse().unwrap())];
    spec.on_demand = true;
    spec.backoff.initial = Duration::from_millis(50);
    spec.backoff.burst = 3;
    let mut waiting = None;
    let mut starts = Vec::new();
    crate::run(vec![spec], options(), &mut |event| match event {
        Event::Listening { .. } if waiting.is_none() => {
            waiting = Some(std::os::unix::net::UnixStream::connect(&path).unwrap());
        }
        Event::Started { .. } => starts.push(Instant::now()),
        _ => {}
    });
    let apart: Vec<_> = starts.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    // The pauses are 50, 100 and 200 ms. These times are of hearing of a start, which may be late.
    println!(
        "0 apart {apart:?} {}",
        apart.iter().zip([25, 50, 100]).all(|(is, least)| *is >= least)
    );
}
pub(crate) fn left_test(dir: &Path) {
    let lines = supervise("callers_that_are_left_waiting_start_no_storm", dir);
    assert_eq!(count(&lines, "rude: started"), 4, "{lines:#?}");
    assert_eq!(count(&lines, "rude: failed: restarted too often"), 1, "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("apart") && line.ends_with("true")),
        "{lines:#?}"
    );
}

/// Connects and reads to the end.
fn ask(path: std::path::PathBuf) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        text
    })
}
