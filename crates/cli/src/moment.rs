//! Times as people and programs read them.

use std::time::{Duration, UNIX_EPOCH};

/// A moment in RFC 3339, UTC, with milliseconds.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    // A clock that claims a year beyond 9999 is shown at that bound: the formatter has no room for more.
    let shown = Duration::from_millis(unix_ms.min(UNIX_MS_MAX));
    humantime::format_rfc3339_millis(UNIX_EPOCH + shown).to_string()
}

/// An age in its largest whole unit: `3 s ago`.
pub(crate) fn age(age_ms: u64) -> String {
    if age_ms < 1_000 { "now".to_owned() } else { format!("{} ago", span(age_ms)) }
}

/// A time ahead in its largest whole unit: `in 3 s`.
pub(crate) fn ahead(left_ms: u64) -> String {
    if left_ms < 1_000 { "now".to_owned() } else { format!("in {}", span(left_ms)) }
}

fn span(millis: u64) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The last millisecond of the year 9999.
const UNIX_MS_MAX: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_ages() {
        assert_eq!(rfc3339(1_375_786_800_123), "2013-08-06T11:00:00.123Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
        let rows = [(999, "now"), (3_000, "3 s ago"), (180_000, "3 min ago"), (7_200_000, "2 h ago")];
        for (age_ms, text) in rows {
            assert_eq!(age(age_ms), text);
        }
        assert_eq!(age(86_400_000 * 3), "3 d ago");
        assert_eq!((ahead(10), ahead(240_000)), ("now".to_owned(), "in 4 min".to_owned()));
    }
}
