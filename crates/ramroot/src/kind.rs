use std::fmt;
use std::str::FromStr;

/// How a root is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// An archive, as it is.
    Tar,
    /// The same through gzip (RFC 1952).
    TarGz,
    /// The same through xz.
    TarXz,
    /// The same through zstd (RFC 8878).
    TarZst,
    /// A file system that is only read, and stays as it is in memory.
    Erofs,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tar, Self::TarGz, Self::TarXz, Self::TarZst, Self::Erofs];

    /// What the name of its file ends in.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
            Self::TarXz => "tar.xz",
            Self::TarZst => "tar.zst",
            Self::Erofs => "erofs",
        }
    }

    /// What a path or URL says by its ending. Also the short ones: `.xz`, `.gz`, `.zst`.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.split(['?', '#']).next().unwrap_or_default();
        let (_, ending) = name.rsplit_once('.')?;
        Some(match ending {
            "tar" => Self::Tar,
            "gz" | "tgz" => Self::TarGz,
            "xz" | "txz" => Self::TarXz,
            "zst" | "tzst" => Self::TarZst,
            "erofs" => Self::Erofs,
            _ => return None,
        })
    }

    /// Whether it is an archive, and not a file system.
    #[must_use]
    pub fn is_archive(self) -> bool {
        self != Self::Erofs
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.ending())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.ending() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::ending).join(", ");
            format!("{text:?} is no kind of root; known are {known}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            let url = format!("http://192.0.2.1/a.b/root.{kind}");
            assert_eq!(Kind::of_name(&url), Some(kind));
            assert_eq!(Kind::of_name(&format!("{url}?x=y.z")), Some(kind));
        }
        assert_eq!(Kind::of_name("/ramroot.xz"), Some(Kind::TarXz));
        assert_eq!(Kind::of_name("/ramroot"), None);
        assert_eq!(Kind::of_name("http://192.0.2.1/root.squashfs"), None);
        assert!("tar.bz2".parse::<Kind>().unwrap_err().contains("known are tar, tar.gz"));
    }
}
