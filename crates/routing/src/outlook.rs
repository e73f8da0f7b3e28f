//! How long a node can go on taking captures: a part of what it says of itself, for people.

use estafet_model::ByteCount;

const KIBIBYTE: u64 = 1 << 10;
const MEBIBYTE: u64 = 1 << 20;

/// What room a node has for its own captures, and how fast they take it. Nothing is routed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// How much its own captures may still bring until they are refused.
    pub capture_room: ByteCount,
    /// How much of its disk its own captures of the last day took, per hour.
    pub captured_per_hour: ByteCount,
}

impl Outlook {
    /// In steps of a thirty-second of each figure, so that not every record makes news. Room is rounded down, at least to
    /// whole MiB, and the pace up, at least to whole KiB: there is rather more time left than this says.
    #[must_use]
    pub fn rounded(capture_room: ByteCount, captured_per_hour: ByteCount) -> Self {
        let (room, pace) = (capture_room.0, captured_per_hour.0);
        Self {
            capture_room: ByteCount(room - room % step(room, MEBIBYTE)),
            captured_per_hour: ByteCount(pace.checked_next_multiple_of(step(pace, KIBIBYTE)).unwrap_or(u64::MAX)),
        }
    }
}

/// At most a thirty-second of these bytes, unless that is too little to tell.
fn step(bytes: u64, least: u64) -> u64 {
    bytes.checked_ilog2().map_or(least, |exponent| ((1 << exponent) / 32).max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_rather_more_time_left_than_it_says() {
        for (exact, room, pace) in [
            (0, 0, 0),
            (1, 0, KIBIBYTE),
            (MEBIBYTE - 1, 0, MEBIBYTE),
            (MEBIBYTE, MEBIBYTE, MEBIBYTE),
            (33 * MEBIBYTE + 7, 33 * MEBIBYTE, 34 * MEBIBYTE),
            (1_000 * MEBIBYTE + 7, 992 * MEBIBYTE, 1_008 * MEBIBYTE),
            (16_128 * MEBIBYTE, 16_128 * MEBIBYTE, 16_128 * MEBIBYTE),
            (u64::MAX, 63 << 58, u64::MAX),
        ] {
            let told = Outlook::rounded(ByteCount(exact), ByteCount(exact));
            assert_eq!((told.capture_room.0, told.captured_per_hour.0), (room, pace), "{exact}");
        }
    }
}
