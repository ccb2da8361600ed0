//! Changing single options, with all other bytes left as they are.

use std::io::{self, Write};
use std::sync::Arc;

use super::{DotConfig, Limits};
use crate::error::{Error, Result};
use crate::value::Value;

impl DotConfig {
    /// Writes the bytes exactly as they are.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn write_to(&self, mut out: impl Write) -> io::Result<()> {
        out.write_all(&self.bytes)
    }

    /// Sets `option`: in the line that counts so far, or else in a new last line. `n` is written
    /// as the kernel does, `# CONFIG_X is not set`.
    ///
    /// In a merged configuration the changed line is from then on a line of its own, no longer
    /// one of a fragment.
    ///
    /// # Errors
    ///
    /// [`Error::OptionName`], [`Error::OptionValue`].
    pub fn set(&mut self, option: &str, value: &Value) -> Result<()> {
        let name = option.strip_prefix("CONFIG_").unwrap_or(option);
        if name.is_empty() || !name.bytes().all(super::parse::is_word) {
            return Err(Error::OptionName(option.to_owned()));
        }
        let text = value.to_bytes();
        if text.iter().any(|b| matches!(b, b'\n' | b'\r' | 0)) {
            return Err(Error::OptionValue(name.to_owned()));
        }
        let mut line = Vec::new();
        if *value == Value::NO {
            line.extend_from_slice(format!("# CONFIG_{name} is not set").as_bytes());
        } else {
            line.extend_from_slice(format!("CONFIG_{name}=").as_bytes());
            line.extend_from_slice(&text);
        }
        let place = self.setting(name).map(|setting| setting.line - 1);
        let range = match place.and_then(|index| self.lines.get(index)) {
            Some(range) => {
                if self.bytes.get(range.clone()).is_some_and(|old| old.ends_with(b"\r")) {
                    line.push(b'\r');
                }
                range.clone()
            }
            None => {
                if self.bytes.last().is_some_and(|&b| b != b'\n') {
                    self.bytes.push(b'\n');
                }
                line.push(b'\n');
                self.bytes.len()..self.bytes.len()
            }
        };
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.splice(range, line);
        let mut sites = self.sites.take();
        if let (Some(sites), Some(index)) = (&mut sites, place)
            && let Some(site) = sites.get_mut(index)
        {
            *site = None;
        }
        *self = Self::build(bytes, Arc::clone(&self.origin), sites, &Limits::default());
        Ok(())
    }
}
