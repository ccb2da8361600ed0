//! Scripts for iPXE.

use core::fmt;

/// What iPXE is to start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Script {
    /// The URL of the kernel; one without a scheme is relative to the script's own.
    pub kernel: String,
    /// URLs of what the kernel finds in its initramfs, in order.
    pub initrds: Vec<String>,
    /// Words for the kernel, of which `${net0/mac:hexhyp}` and the like are iPXE's to fill in.
    pub arguments: Vec<String>,
}

/// Why something cannot stand in a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?}: {why}")]
pub struct NoScript {
    what: &'static str,
    text: String,
    why: &'static str,
}

impl Script {
    /// Starts a kernel.
    #[must_use]
    pub fn new(kernel: impl Into<String>) -> Self {
        Self { kernel: kernel.into(), ..Self::default() }
    }

    /// The script. Each initrd is named to the kernel too: by UEFI it finds none without `initrd=` (BIOS does not mind).
    ///
    /// # Errors
    /// A text that would be another line or another word.
    pub fn text(&self) -> Result<String, NoScript> {
        let one = |what, text: &str| word(what, text).map(str::to_owned);
        let mut text = format!("#!ipxe\nkernel {}", one("the kernel", &self.kernel)?);
        for initrd in &self.initrds {
            text += &format!(" initrd={}", one("the initrd", file_name(initrd))?);
        }
        for argument in &self.arguments {
            text += &format!(" {}", one("the argument", argument)?);
        }
        text.push('\n');
        for initrd in &self.initrds {
            text += &format!("initrd {}\n", one("the initrd", initrd)?);
        }
        text.push_str("boot\n");
        Ok(text)
    }
}

/// The last part of a URL, as iPXE names what it has loaded.
fn file_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path)
}

/// One word for iPXE: quotes and comments have a meaning to it.
fn word<'a>(what: &'static str, text: &'a str) -> Result<&'a str, NoScript> {
    let bad = |why| Err(NoScript { what, text: text.to_owned(), why });
    if text.is_empty() {
        return bad("there is none");
    }
    let mut signs = text.chars();
    if signs.any(|sign| sign.is_whitespace() || sign.is_control()) {
        return bad("it has a space or a line's end");
    }
    if text.contains(['"', '\'', '\\']) || text.starts_with('#') {
        return bad("iPXE takes quotes, \\ and a # at the beginning for its own");
    }
    if matches!(text, "&&" | "||" | ";") {
        return bad("iPXE takes it for the end of the command");
    }
    Ok(text)
}

impl fmt::Display for Script {
    /// The script; what cannot stand in one is left to [`Script::text`] to tell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text().map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_initrd_is_named_to_the_kernel() {
        let mut script = Script::new("http://192.0.2.1/hashios-vmlinuz");
        script.initrds = vec!["http://192.0.2.1/hashios-initrd.img?v=1".into(), "extra.img".into()];
        script.arguments = vec!["boot=ramdisk".into(), "BOOTIF=01-${netX/mac:hexhyp}".into()];
        assert_eq!(
            script.text().unwrap(),
            "#!ipxe\n\
             kernel http://192.0.2.1/hashios-vmlinuz initrd=hashios-initrd.img initrd=extra.img \
             boot=ramdisk BOOTIF=01-${netX/mac:hexhyp}\n\
             initrd http://192.0.2.1/hashios-initrd.img?v=1\n\
             initrd extra.img\n\
             boot\n"
        );
    }

    #[test]
    fn what_would_be_another_line_is_refused() {
        for bad in ["", "a b", "a\nboot", "a\"b", "\\", "#", "||"] {
            let mut script = Script::new("k");
            script.arguments = vec![bad.into()];
            assert!(script.text().is_err(), "{bad:?}");
            assert!(Script::new(bad).text().is_err(), "{bad:?}");
        }
    }
}
