//! `kurma enter`: a process beside an app, at this terminal.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use futures_util::{SinkExt as _, StreamExt as _};
use kurma_client::Client;
use kurma_client::enter::{ERRORS, Ended, Enter, INPUT, Said, Size};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::tungstenite::Message;

use crate::arguments;
use crate::problem::Problem;

/// The terminal, as it was before.
struct Raw(Termios);

impl Raw {
    fn new() -> std::io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

fn size() -> Option<Size> {
    let size = tcgetwinsize(rustix::stdio::stdin()).ok()?;
    Some(Size { rows: size.ws_row, columns: size.ws_col })
}

fn text(value: &impl serde::Serialize) -> Message {
    Message::text(serde_json::to_string(value).unwrap_or_default())
}

fn broken(problem: impl ToString) -> Problem {
    Problem::Enter(format!("the server broke off: {}", problem.to_string()))
}

/// Starts the process, and gives what it ended with.
pub(crate) async fn run(client: &Client, asked: &arguments::Enter) -> Result<ExitCode, Problem> {
    let terminal =
        !asked.no_terminal && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut enter = Enter::default();
    enter.pod.clone_from(&asked.pod);
    enter.app.clone_from(&asked.app);
    enter.user.clone_from(&asked.user);
    enter.exec.clone_from(&asked.command);
    enter.terminal = if terminal { size() } else { None };
    let mut socket = client.enter(&enter).await?;
    let _raw = enter.terminal.map(|_| Raw::new()).transpose()?;
    let mut sizes = signal(SignalKind::window_change())?;
    let mut input = tokio::io::stdin();
    let (mut piece, mut is_open) = (vec![0; 16 << 10], true);
    loop {
        tokio::select! {
            count = input.read(&mut piece), if is_open => match count {
                Ok(count) if count > 0 => {
                    let mut bytes = vec![INPUT];
                    bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
                    socket.send(Message::binary(bytes)).await.map_err(broken)?;
                }
                _ => {
                    is_open = false;
                    socket.send(text(&Said::End)).await.map_err(broken)?;
                }
            },
            _ = sizes.recv(), if enter.terminal.is_some() => {
                if let Some(size) = size() {
                    socket.send(text(&Said::Resize(size))).await.map_err(broken)?;
                }
            }
            message = socket.next() => {
                let message = message.ok_or_else(|| broken("no end"))?.map_err(broken)?;
                if let Some(code) = take(&message)? {
                    return Ok(code);
                }
            }
        }
    }
}

/// Shows what the process says; gives its code when it has ended.
fn take(message: &Message) -> Result<Option<ExitCode>, Problem> {
    match message {
        Message::Binary(bytes) => {
            let Some((kind, said)) = bytes.split_first() else { return Ok(None) };
            if *kind == ERRORS {
                std::io::stderr().lock().write_all(said)?;
            } else {
                let mut out = std::io::stdout().lock();
                out.write_all(said)?;
                out.flush()?;
            }
            Ok(None)
        }
        Message::Text(text) => match serde_json::from_str(text).map_err(broken)? {
            Ended::Exit(code) => Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))),
            Ended::Error(problem) => Err(Problem::Enter(problem)),
            _ => Ok(None),
        },
        Message::Close(_) => Err(broken("it closed the connection")),
        _ => Ok(None),
    }
}
