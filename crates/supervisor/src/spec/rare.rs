//! Parts of a spec that most services leave as they are.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use super::{Cgroup, Isolation, Limits};

/// A part of a spec that takes room only where it is not the default one: supervisors of thousands
/// of services have as many specs. It is used as what it holds.
///
/// ```
/// let mut spec = kiln_supervisor::ServiceSpec::daemon("web", ["/bin/web"]);
/// assert!(spec.limits.nice.is_none());
/// spec.limits.nice = Some(5);
/// ```
pub struct Rare<T>(Option<Box<T>>);

/// What a [`Rare`] part may be.
pub trait Part: Default + PartialEq + 'static {
    /// That of services that say nothing.
    fn unset() -> &'static Self;
}

macro_rules! part {
    ($type:ty) => {
        impl Part for $type {
            fn unset() -> &'static Self {
                static UNSET: OnceLock<$type> = OnceLock::new();
                UNSET.get_or_init(Self::default)
            }
        }
    };
}

part!(Cgroup);
part!(Isolation);
part!(Limits);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Part> From<T> for Rare<T> {
    fn from(part: T) -> Self {
        Self((part != *T::unset()).then(|| Box::new(part)))
    }
}

impl<T: Part> Deref for Rare<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::unset())
    }
}

impl<T: Part> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Clone> Clone for Rare<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// As what they hold, which may be the default one in either way.
impl<T: Part> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Part + Eq> Eq for Rare<T> {}

impl<T: Part + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(feature = "serde")]
impl<T: Part + serde::Serialize> serde::Serialize for Rare<T> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(to)
    }
}

#[cfg(feature = "serde")]
impl<'de, T: Part + serde::Deserialize<'de>> serde::Deserialize<'de> for Rare<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::deserialize(from).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServiceSpec;

    #[test]
    fn what_says_nothing_takes_no_room_and_is_the_same() {
        let plain = ServiceSpec::daemon("a", ["/bin/a"]);
        let mut touched = plain.clone();
        touched.limits.nice = Some(1);
        assert_ne!(plain, touched);
        touched.limits.nice = None;
        assert_eq!(plain, touched);
        assert!(plain.limits.0.is_none() && Rare::from(Limits::default()).0.is_none());
        assert_eq!(format!("{:?}", plain.cgroup), format!("{:?}", Cgroup::default()));
    }

    /// Each of 16,384 services has one.
    #[test]
    fn specs_are_small() {
        assert!(size_of::<ServiceSpec>() <= 704, "{}", size_of::<ServiceSpec>());
    }
}
