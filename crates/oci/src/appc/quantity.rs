//! Quantities of resources (ace.md, "Resource Isolators").

use std::fmt;
use std::str::FromStr;

use crate::error::shown;
use crate::{Error, Result};

/// Digits that a number may have.
const MOST_DIGITS: usize = 24;

const SUFFIXES: [(&str, u128); 14] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("E", 1_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("K", 1_000),
    // As Kubernetes writes it.
    ("k", 1_000),
    ("", 1),
];

/// How much of a resource, in thousandths of its unit: `500m`, `1G`, `512Mi`, `0.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(u128);

impl Quantity {
    /// So many whole ones.
    #[must_use]
    pub fn units(units: u64) -> Self {
        Self(u128::from(units).saturating_mul(1000))
    }

    /// So many thousandths.
    #[must_use]
    pub fn thousandths(thousandths: u64) -> Self {
        Self(u128::from(thousandths))
    }

    /// How many whole ones hold it: a part of one counts as one. What is beyond 2^64 is 2^64 - 1.
    #[must_use]
    pub fn whole(self) -> u64 {
        u64::try_from(self.0.div_ceil(1000)).unwrap_or(u64::MAX)
    }

    /// How many thousandths it is. What is beyond 2^64 is 2^64 - 1.
    #[must_use]
    pub fn in_thousandths(self) -> u64 {
        u64::try_from(self.0).unwrap_or(u64::MAX)
    }
}

impl FromStr for Quantity {
    type Err = Error;

    /// A number of digits with a point in it or without, then a suffix. A part of a thousandth counts as
    /// one, as in Kubernetes.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: &str| Error::invalid(shown(text.as_bytes()), reason);
        let none =
            || invalid("a quantity is a number and m, K, M, G, T, P, E, Ki to Ei or nothing");
        let end = text
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at_checked(end).ok_or_else(none)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = [whole, part].concat();
        if digits.is_empty() || part.contains('.') {
            return Err(none());
        }
        if digits.len() > MOST_DIGITS {
            return Err(invalid("a quantity has at most 24 digits"));
        }
        let digits: u128 = digits.parse().map_err(|_| none())?;
        let scale = match suffix {
            "m" => 1,
            _ => {
                let found = SUFFIXES.iter().find(|(name, _)| *name == suffix);
                found.map(|(_, scale)| scale.saturating_mul(1000)).ok_or_else(none)?
            }
        };
        let value =
            digits.checked_mul(scale).ok_or_else(|| invalid("it is beyond any resource"))?;
        let below = u32::try_from(part.len()).unwrap_or(u32::MAX);
        let value = value.div_ceil(10_u128.saturating_pow(below));
        Ok(Self(value))
    }
}

impl fmt::Display for Quantity {
    /// The shortest of the texts that are exactly this and that everybody reads: appc's own reader has
    /// not `K`, but `k`, which its specification has not.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_multiple_of(1000) {
            return write!(out, "{}m", self.0);
        }
        let whole = self.0 / 1000;
        let fitting = SUFFIXES
            .iter()
            .filter(|(suffix, scale)| {
                !matches!(*suffix, "K" | "k") && whole >= *scale && whole.is_multiple_of(*scale)
            })
            .map(|(suffix, scale)| format!("{}{suffix}", whole / scale))
            .min_by_key(String::len);
        out.write_str(fitting.as_deref().unwrap_or("0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    /// ace.md, "Resource Isolators": "128974848", "125952Ki" and "123Mi" are the same.
    #[test]
    fn quantities_are_those_of_the_specification() {
        assert_eq!(of("128974848"), of("125952Ki"));
        assert_eq!(of("128974848"), of("123Mi"));
        assert_eq!(of("0.3"), of("300m"));
        assert_eq!(of("500m").in_thousandths(), 500);
        assert_eq!(of("1500m").whole(), 2);
        assert_eq!(of("1.5Gi").whole(), 3 << 29);
        assert_eq!(of("2K"), of("2k"));
        assert_eq!(of(".5"), of("500m"));
        assert_eq!(of("0.0001").in_thousandths(), 1);
        assert_eq!(of("15Ei").whole(), 15 << 60);
        assert_eq!(of("16Ei").whole(), u64::MAX);
        for (text, shown) in [
            ("1G", "1G"),
            ("1024M", "1024M"),
            ("512Mi", "512Mi"),
            ("125952Ki", "123Mi"),
            ("0", "0"),
            ("250m", "250m"),
            ("1000m", "1"),
            ("1000", "1000"),
            ("1024", "1Ki"),
            ("1001", "1001"),
        ] {
            assert_eq!(of(text).to_string(), shown);
        }
        for bad in ["", "m", "1g", "-1", "+1", "1 G", "1.2.3", ".", "1e", "Gi", "1GiB", "ä"] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
        assert!("1".repeat(25).parse::<Quantity>().is_err());
        let error = "999999999999999999Ei".parse::<Quantity>().unwrap_err().to_string();
        assert_eq!(error, "999999999999999999Ei: it is beyond any resource");
    }
}
