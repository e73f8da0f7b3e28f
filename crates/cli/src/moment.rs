//! Times as people and programs read them.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use estafet_topology::unix_seconds;
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

/// A moment as it is typed: `now`, or RFC 3339 with the offset from UTC, `2013-08-06T18:00:00+07:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// When the command runs, by the clock of this machine.
    Now,
    /// This second of Unix time.
    At(i64),
}

/// It is neither `now` nor RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write `now`, or the moment with its offset from UTC: 2013-08-06T18:00:00+07:00")]
pub struct NoMoment;

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        if text == "now" { Ok(Self::Now) } else { unix_seconds(text).map(Self::At).ok_or(NoMoment) }
    }
}

impl Moment {
    /// The moment in Unix seconds.
    pub(crate) fn unix_s(self) -> i64 {
        match self {
            Self::Now => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                i64::try_from(now).unwrap_or(i64::MAX)
            }
            Self::At(unix_s) => unix_s,
        }
    }
}

/// A moment that is shown: to programs in RFC 3339, UTC, with milliseconds; to people in RFC 3339 by the time zone of this
/// machine (or of `TZ`), in whole seconds, so that it can be typed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp {
    unix_ms: u64,
}

impl Timestamp {
    pub(crate) fn of_millis(unix_ms: u64) -> Self {
        // A clock that claims a year beyond 9999 is shown at that bound.
        Self { unix_ms: unix_ms.min(UNIX_MS_MAX) }
    }

    /// What was before 1970 is shown as its beginning.
    pub(crate) fn of_seconds(unix_s: i64) -> Self {
        Self::of_millis(u64::try_from(unix_s).unwrap_or(0).saturating_mul(1000))
    }

    fn in_zone(self, zone: TimeZone) -> String {
        let unix_ms = i64::try_from(self.unix_ms).unwrap_or(i64::MAX);
        let shown = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::MAX);
        shown.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = UNIX_EPOCH + Duration::from_millis(self.unix_ms);
        serializer.collect_str(&humantime::format_rfc3339_millis(shown))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.in_zone(TimeZone::system()))
    }
}

/// This moment as people write it into a topology: RFC 3339 in whole seconds, UTC.
pub(crate) fn now_in_whole_seconds() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// An age in its largest whole unit: `3 s ago`.
pub(crate) fn age(age_ms: u64) -> String {
    if age_ms < 1_000 { "now".to_owned() } else { format!("{} ago", span(age_ms)) }
}

/// A time ahead in its largest whole unit: `in 3 s`.
pub(crate) fn ahead(left_ms: u64) -> String {
    if left_ms < 1_000 { "now".to_owned() } else { format!("in {}", span(left_ms)) }
}

/// A time in its largest whole unit: `3 s`.
pub(crate) fn span(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A time in whole days, hours, minutes and seconds, as it can be typed: `1h 30m`.
pub(crate) fn typed(seconds: u64) -> String {
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// The last millisecond of the year 9999.
const UNIX_MS_MAX: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_typed_with_their_offset() {
        assert_eq!("2013-08-06T18:00:00+07:00".parse(), Ok(Moment::At(1_375_786_800)));
        assert_eq!("now".parse(), Ok(Moment::Now));
        for bad in ["", "soon", "2013-08-06", "2013-08-06T18:00:00"] {
            assert_eq!(bad.parse::<Moment>(), Err(NoMoment), "{bad}");
        }
    }

    #[test]
    fn moments_and_ages() {
        let told = |time: Timestamp| serde_json::to_value(time).unwrap();
        assert_eq!(told(Timestamp::of_millis(1_375_786_800_123)), "2013-08-06T11:00:00.123Z");
        assert_eq!(told(Timestamp::of_seconds(1_375_786_800)), "2013-08-06T11:00:00.000Z");
        assert_eq!(told(Timestamp::of_seconds(-1)), "1970-01-01T00:00:00.000Z");
        assert_eq!(told(Timestamp::of_millis(u64::MAX)), "9999-12-31T23:59:59.999Z");
        let jakarta = || TimeZone::fixed(jiff::tz::offset(7));
        let shown = Timestamp::of_millis(1_375_786_800_999).in_zone(jakarta());
        assert_eq!(shown, "2013-08-06T18:00:00+07:00");
        assert_eq!(shown.parse(), Ok(Moment::At(1_375_786_800)), "it can be typed back");
        Timestamp::of_millis(u64::MAX).in_zone(jakarta());
        let rows = [(999, "now"), (3_000, "3 s ago"), (180_000, "3 min ago"), (7_200_000, "2 h ago")];
        for (age_ms, text) in rows {
            assert_eq!(age(age_ms), text);
        }
        for (seconds, text) in [(0, "0s"), (45, "45s"), (5_400, "1h 30m"), (86_400, "1d"), (31_622_400, "366d")] {
            assert_eq!(typed(seconds), text);
            assert_eq!(humantime::parse_duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        assert_eq!(age(86_400_000 * 3), "3 d ago");
        assert_eq!((ahead(10), ahead(240_000)), ("now".to_owned(), "in 4 min".to_owned()));
    }
}
