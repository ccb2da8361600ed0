//! Who asks.

pub use kurma_client::Role;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caller {
    /// For the log: `uid 0`, or what a certificate says.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whether it asks from this machine: only then may its pods have rights over the machine.
    pub local: bool,
}

impl Caller {
    /// Somebody at the machine's own socket.
    #[must_use]
    pub fn local(name: impl Into<String>, role: Role) -> Self {
        Self { name: name.into(), role, local: true }
    }

    /// Somebody from elsewhere.
    #[must_use]
    pub fn remote(name: impl Into<String>, role: Role) -> Self {
        Self { name: name.into(), role, local: false }
    }
}
