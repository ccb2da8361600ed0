//! Values that files give as text: what `FromStr` understands, and where it is so, what `Display` shows.

/// `Deserialize` by `FromStr`.
macro_rules! parsed {
    ($type:ty) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// And `Serialize` by `Display`.
macro_rules! shown_and_parsed {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        $crate::spec::text::parsed!($type);
    };
}

pub(super) use {parsed, shown_and_parsed};
