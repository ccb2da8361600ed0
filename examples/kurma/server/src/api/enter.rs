//! The websocket `/containers/enter`: a process beside an app, with a terminal or without.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use kurma_client::AppState;
use kurma_client::enter::{ERRORS, Ended, Enter, INPUT, OUTPUT, Said, Size};
use kurma_client::rpc::{CONFLICT, Fault, INTERNAL_ERROR, INVALID_PARAMS};
use rustix::termios::Winsize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::mpsc;

use super::{Api, Asking, Refused, Shared, aside, operator, refused};
use crate::caller::Caller;
use crate::pods::entry::{Entrance, directions};

/// Bytes of a message, and of a piece of output.
const PIECE: usize = 32 << 10;
/// How long a process whose client has gone may take to end of a hang-up.
const HANG_UP: Duration = Duration::from_secs(5);

pub(super) async fn answer(
    State(api): Shared,
    Extension(caller): Asking,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    if let Err(fault) = operator(&caller) {
        api.audit.write::<()>(&caller, "Containers.Enter", "", Err(&fault));
        return Refused(fault).into_response();
    }
    let upgrade = upgrade.max_message_size(PIECE * 4).max_frame_size(PIECE * 4);
    upgrade.on_upgrade(move |socket| async move { talk(api, caller, socket).await })
}

async fn talk(api: Arc<Api>, caller: Caller, mut socket: WebSocket) {
    let ended = match begin(&api, &caller, &mut socket).await {
        Ok(process) => run(process, &mut socket).await,
        Err(fault) => Some(Ended::Error(fault.message)),
    };
    if let Some(text) = ended.and_then(|ended| serde_json::to_string(&ended).ok()) {
        let _ = socket.send(Message::text(text)).await;
    }
    let _ = socket.send(Message::Close(None)).await;
}

/// Hears what is to be started, and starts it.
async fn begin(api: &Arc<Api>, caller: &Caller, socket: &mut WebSocket) -> Result<Process, Fault> {
    let first = tokio::time::timeout(api.options.patience, socket.recv()).await;
    let Ok(Some(Ok(Message::Text(text)))) = first else {
        return Err(Fault::new(INVALID_PARAMS, "the first message says what is to be started"));
    };
    let enter: Enter = serde_json::from_str(&text)
        .map_err(|error| Fault::new(INVALID_PARAMS, error.to_string()))?;
    let whom = format!(
        "{} {}: {}",
        enter.pod,
        enter.app.as_deref().unwrap_or_default(),
        enter.exec.join(" ")
    );
    let pods = Arc::clone(&api.pods);
    let asked = enter.clone();
    let entrance = aside(move || {
        let (place, pod, app) = pods.app(&asked.pod, asked.app.as_deref())?;
        let runs = pod.apps.iter().any(|one| one.name == app && one.state == AppState::Running);
        if !runs {
            let what = format!("the app {app} of pod {} does not run", pod.name);
            return Err(Fault::new(CONFLICT, what));
        }
        Entrance::new(&place, &app, &asked).map_err(|error| Fault::new(INVALID_PARAMS, error))
    });
    let begun = match entrance.await {
        Ok(entrance) => Process::start(entrance, &enter).await,
        Err(fault) => Err(fault),
    };
    api.audit.write(caller, "Containers.Enter", &whom, begun.as_ref());
    begun
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A process beside an app.
struct Process {
    child: Child,
    input: Option<Writer>,
    outputs: Vec<(u8, Reader)>,
    /// The terminal, to be given another size.
    terminal: Option<File>,
    /// Gone with its files when the process has ended.
    _entrance: Entrance,
}

fn winsize(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn resize(terminal: &File, size: Size) -> io::Result<()> {
    Ok(rustix::termios::tcsetwinsize(terminal, winsize(size))?)
}

impl Process {
    async fn start(mut entrance: Entrance, enter: &Enter) -> Result<Self, Fault> {
        let failed = |error: io::Error| Fault::new(INTERNAL_ERROR, format!("enter: {error}"));
        let socket = entrance.terminal.take();
        let mut command = tokio::process::Command::from(entrance.command()?);
        let piped = || if socket.is_some() { Stdio::null() } else { Stdio::piped() };
        command.stdin(piped()).stdout(piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let Some((socket, size)) = socket.zip(enter.terminal) else {
            let input = child.stdin.take().map(|input| Box::new(input) as Writer);
            let out = child.stdout.take().map(|out| (OUTPUT, Box::new(out) as Reader));
            let errors = child.stderr.take().map(|errors| (ERRORS, Box::new(errors) as Reader));
            let outputs = out.into_iter().chain(errors).collect();
            return Ok(Self { child, input, outputs, terminal: None, _entrance: entrance });
        };
        // the runtime sends the terminal, or says why not and ends
        let terminal = tokio::select! {
            terminal = tokio::task::spawn_blocking(move || socket.take()) => {
                terminal.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)?
            }
            _ = child.wait() => {
                let mut said = String::new();
                if let Some(errors) = child.stderr.take() {
                    let _ = errors.take(4096).read_to_string(&mut said).await;
                }
                return Err(Fault::new(INVALID_PARAMS, format!("enter: {}", said.trim())));
            }
        };
        resize(&terminal, size).map_err(failed)?;
        let (read, write) = directions(&terminal).map_err(failed)?;
        let errors = child.stderr.take().map(|errors| (OUTPUT, Box::new(errors) as Reader));
        let mut outputs = vec![(OUTPUT, Box::new(read) as Reader)];
        outputs.extend(errors);
        let (input, terminal) = (Some(Box::new(write) as Writer), Some(terminal));
        Ok(Self { child, input, outputs, terminal, _entrance: entrance })
    }
}

/// Hands on what one side says to the other until the process has ended and all that it said is sent.
/// Nothing where the client has gone.
async fn run(mut process: Process, socket: &mut WebSocket) -> Option<Ended> {
    let (say, mut said) = mpsc::channel::<Bytes>(4);
    let mut readers = tokio::task::JoinSet::new();
    for (kind, mut output) in process.outputs.drain(..) {
        let say = say.clone();
        readers.spawn(async move {
            loop {
                let mut piece = vec![0; PIECE];
                piece[0] = kind;
                // a terminal whose other end is closed gives an error: that is the end
                match output.read(&mut piece[1..]).await {
                    Ok(count) if count > 0 => piece.truncate(count + 1),
                    _ => return,
                }
                if say.send(piece.into()).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(say);
    loop {
        tokio::select! {
            piece = said.recv() => match piece {
                Some(piece) => socket.send(Message::Binary(piece)).await.ok()?,
                None => break,
            },
            message = socket.recv() => {
                take(&mut process, message?.ok()?).await?;
            }
            // what it has left to others holds its output open: they are not waited for
            _ = process.child.wait() => break,
        }
    }
    // what is still on its way
    let rest = async {
        while let Some(piece) = said.recv().await {
            if socket.send(Message::Binary(piece)).await.is_err() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), rest).await;
    readers.abort_all();
    let Ok(ended) = tokio::time::timeout(HANG_UP, process.child.wait()).await else { return None };
    let ended = ended.ok()?;
    // as crun has it: 128 and more for signals
    Some(Ended::Exit(ended.code().unwrap_or(255)))
}

/// Takes what the client says. Nothing where it says that it goes.
async fn take(process: &mut Process, message: Message) -> Option<()> {
    match message {
        Message::Binary(bytes) if bytes.first() == Some(&INPUT) => {
            if let Some(input) = &mut process.input
                && (input.write_all(&bytes[1..]).await.is_err() || input.flush().await.is_err())
            {
                process.input = None;
            }
        }
        Message::Text(text) => match serde_json::from_str(&text) {
            Ok(Said::Resize(size)) => {
                let _ = process.terminal.as_ref().map(|terminal| resize(terminal, size));
            }
            // a terminal has no end of its input but what is typed there
            Ok(Said::End) if process.terminal.is_none() => process.input = None,
            _ => {}
        },
        Message::Close(_) => return None,
        _ => {}
    }
    Some(())
}
