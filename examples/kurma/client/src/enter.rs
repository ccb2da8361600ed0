//! What goes over the websocket of `/containers/enter`.
//!
//! The client begins with a text message, an [`Enter`]. Then binary messages go both ways, each with a
//! byte in front that says what it is part of ([`INPUT`], [`OUTPUT`], [`ERRORS`]), and text messages: a
//! [`Said`] of the client, and last an [`Ended`] of the server.

use serde::{Deserialize, Serialize};

/// What the process reads.
pub const INPUT: u8 = 0;
/// What it writes. With a terminal, all of it.
pub const OUTPUT: u8 = 1;
/// What it complains of.
pub const ERRORS: u8 = 2;

/// A process to be started beside an app, in all that the app has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Enter {
    /// The pod's name or UUID.
    pub pod: String,
    /// The app's name. Absent: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The command. Empty: a shell.
    #[serde(default)]
    pub exec: Vec<String>,
    /// As who: a name or number of the app's image. Absent: as the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The size of the client's terminal. Absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Size>,
}

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// What a client says besides input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Said {
    /// Its terminal has another size.
    Resize(Size),
    /// There is no more input.
    End,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Ended {
    /// With this code; 128 and more for a signal, as shells have it.
    Exit(i32),
    /// It could not be started.
    Error(String),
}
