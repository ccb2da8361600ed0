//! JSON-RPC 2.0, as far as it is spoken here: one call in one request, its parameters an object or a list
//! with one.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The bytes are no JSON.
pub const PARSE_ERROR: i64 = -32_700;
/// The JSON is no call.
pub const INVALID_REQUEST: i64 = -32_600;
/// There is no such method.
pub const METHOD_NOT_FOUND: i64 = -32_601;
/// The parameters are not what the method takes.
pub const INVALID_PARAMS: i64 = -32_602;
/// It failed, and the caller is not to blame.
pub const INTERNAL_ERROR: i64 = -32_603;
/// There is no such pod or image.
pub const NOT_FOUND: i64 = -32_001;
/// The caller may not do this.
pub const DENIED: i64 = -32_002;
/// It cannot be done as things are: a name is taken, an image is in use.
pub const CONFLICT: i64 = -32_003;

/// A call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Call {
    /// `2.0`.
    #[serde(default)]
    pub jsonrpc: String,
    /// Which method.
    pub method: String,
    /// What it is given.
    #[serde(default)]
    pub params: Value,
    /// What its answer has as well. Absent: nobody waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
}

impl Call {
    /// A call of a method.
    #[must_use]
    pub fn new(method: &str, params: Value) -> Self {
        let (jsonrpc, method) = ("2.0".to_owned(), method.to_owned());
        Self { jsonrpc, method, params, id: Some(1.into()) }
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Response {
    /// `2.0`.
    pub jsonrpc: String,
    /// What it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
    /// The call's.
    #[serde(default)]
    pub id: Value,
}

impl Response {
    /// The answer to a call.
    #[must_use]
    pub fn new(id: Value, result: Result<Value, Fault>) -> Self {
        let (result, error) = match result {
            Ok(value) => (Some(value), None),
            Err(fault) => (None, Some(fault)),
        };
        Self { jsonrpc: "2.0".to_owned(), result, error, id }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Fault {
    /// For programs: one of the constants of this module.
    pub code: i64,
    /// For people.
    pub message: String,
}

impl Fault {
    /// A reason.
    #[must_use]
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}
