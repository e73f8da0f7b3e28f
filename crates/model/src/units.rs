//! Numbers with their unit.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Monotonic time since the process (or the simulation) began. The only time that decides anything (P8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now(pub Duration);

impl Now {
    /// The time between `earlier` and now, zero if `earlier` lies ahead.
    #[must_use]
    pub fn since(self, earlier: Now) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Now {
    type Output = Now;

    fn add(self, span: Duration) -> Now {
        Now(self.0 + span)
    }
}

/// The wall clock in milliseconds since 1970. Shown to people, never used to decide (P8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct UnixMillis(pub u64);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteCount(pub u64);

impl ByteCount {
    /// `count` mebibytes.
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }
}

impl Add for ByteCount {
    type Output = ByteCount;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for ByteCount {
    type Output = ByteCount;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for ByteCount {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self(0), Add::add)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut whole, mut unit) = (self.0, "B");
        for next in ["KiB", "MiB", "GiB"] {
            if whole < 10 * 1024 {
                break;
            }
            whole /= 1024;
            unit = next;
        }
        write!(formatter, "{whole} {unit}")
    }
}

/// The routing metric of a link, or the sum of them along a path. Never zero for a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LinkCost(pub u32);

impl Add for LinkCost {
    type Output = LinkCost;

    /// Saturates: an absurd cost stays absurd instead of wrapping to a good one.
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for LinkCost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}
