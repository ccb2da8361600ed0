//! Durations as text in specs: `"500ms"`, `"5s"`, `"2m"`, `"1h"`, or a whole number of seconds.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a duration such as \"500ms\", \"5s\", \"2m\", \"1h\", or a number of seconds"
)]
enum Text {
    Seconds(u64),
    Text(String),
}

fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("bad duration {text:?}, expected a number and ms, s, m or h"))?;
    let scale = match unit.trim() {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("bad duration {text:?}, expected a unit of ms, s, m or h")),
    };
    let seconds = number.checked_mul(scale);
    seconds.map(Duration::from_secs).ok_or_else(|| format!("duration {text:?} is too long"))
}

impl Text {
    fn value<E: de::Error>(self) -> Result<Duration, E> {
        match self {
            Self::Seconds(seconds) => Ok(Duration::from_secs(seconds)),
            Self::Text(text) => parse(&text).map_err(E::custom),
        }
    }
}

pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{}ms", value.as_millis()))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    Text::deserialize(from)?.value()
}

/// The same for a duration that may be absent.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer, Text};

    #[expect(clippy::ref_option, reason = "serde's `with` passes a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<Text>::deserialize(from)?.map(Text::value).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        for bad in
            ["", "s", "5", "5 parsecs", "-1s", "99999999999999999999s", "6000000000000000000h"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
