//! How much one neighbor may be handed without an answer: about as much as it takes in two seconds.
//!
//! More would only wait with it, or on the way to it, while other neighbors have nothing to do, urgent records queue
//! behind it, and all of it is offered anew when the neighbor dies. Less would leave a line idle between two answers.

use std::time::Duration;

use estafet_model::Class;

use crate::held::Micros;

/// The most, however quick the neighbor is. The count bounds the bookkeeping of small records.
const RECORDS_MAX: usize = 4096;
const BYTES_MAX: u64 = 16 << 20;

/// The least, however slow: in bytes, and in records of any size. While one is offered and one on its way to the disk, a
/// third uses the line; with fewer a line with a long queue would stand idle, and seem even slower.
const BYTES_MIN: u64 = 256 << 10;
const RECORDS_MIN: usize = 3;

/// What a neighbor may be handed of which nothing is known. A queue that fits takes the best way only.
const BYTES_FIRST: u64 = 2 << 20;

/// What it takes in so long is handed to it at once.
const WORTH: Duration = Duration::from_secs(2);

/// After so long it is judged by what it took, or sooner if that is a whole window.
const JUDGED_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Window {
    bytes: u64,
    unanswered_records: usize,
    unanswered_bytes: u64,
    /// Since when what it takes is counted. It has had something to take all that time.
    since: Micros,
    taken_bytes: u64,
    /// When it last took something.
    last_taken: Micros,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            bytes: BYTES_FIRST,
            unanswered_records: 0,
            unanswered_bytes: 0,
            since: Micros(0),
            taken_bytes: 0,
            last_taken: Micros(0),
        }
    }
}

impl Window {
    pub(crate) fn handed(&mut self, now: Micros, bytes: u32) {
        let had_nothing_to_take = self.unanswered_records == 0 && self.last_taken != now;
        if had_nothing_to_take {
            self.judge_from(now);
        }
        self.unanswered_records += 1;
        self.unanswered_bytes += u64::from(bytes);
    }

    /// The neighbor has the record now. To be told before [`Window::answered`].
    pub(crate) fn taken(&mut self, now: Micros, bytes: u32) {
        self.taken_bytes += u64::from(bytes);
        self.last_taken = now;
        let span = Duration::from_micros(now.0.saturating_sub(self.since.0));
        if span < JUDGED_AFTER && self.taken_bytes < self.bytes {
            return;
        }
        let micros = span.as_micros().max(1);
        let worth = u128::from(self.taken_bytes) * WORTH.as_micros() / micros;
        let worth = u64::try_from(worth).unwrap_or(u64::MAX).clamp(BYTES_MIN, BYTES_MAX);
        if worth >= self.bytes {
            self.bytes = worth.min(2 * self.bytes);
        } else if self.unanswered_bytes > worth {
            // Not when it only had nothing more to take.
            self.bytes = worth.midpoint(self.bytes);
        }
        self.judge_from(now);
    }

    fn judge_from(&mut self, now: Micros) {
        self.since = now;
        self.taken_bytes = 0;
    }

    /// Nothing more is awaited of a record of so many bytes.
    pub(crate) fn answered(&mut self, bytes: u32) {
        self.unanswered_records -= 1;
        self.unanswered_bytes -= u64::from(bytes);
    }

    pub(crate) fn unanswered_records(&self) -> usize {
        self.unanswered_records
    }

    /// True if a record may be handed over now. One that is larger than any window goes alone; what is urgent does not
    /// wait for a slow neighbor's answers.
    pub(crate) fn has_room(&self, class: Class, bytes: u32) -> bool {
        let few = class == Class::Urgent || self.unanswered_records < RECORDS_MIN;
        let window = if few { BYTES_MAX } else { self.bytes };
        let fits = self.unanswered_bytes + u64::from(bytes) <= window;
        self.unanswered_records == 0 || (fits && self.unanswered_records < RECORDS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u32 = 1 << 10;

    /// What a window has come to, in KiB, after `seconds` with a neighbor that takes so many KiB per second, in records
    /// of `record` bytes, and never has to wait for more.
    fn after(seconds: u64, kib_per_second: u64, record: u32) -> u64 {
        let (mut window, mut now) = (Window::default(), 0);
        while now < seconds * 1_000_000 {
            while window.has_room(Class::Normal, record) {
                window.handed(Micros(now), record);
            }
            now += u64::from(record) * 1_000_000 / (kib_per_second << 10);
            window.taken(Micros(now), record);
            window.answered(record);
        }
        window.bytes >> 10
    }

    #[test]
    fn a_window_follows_what_the_neighbor_takes() {
        for (seconds, rate, record, least, most) in [
            (1, 12_000, 64 * KIB, 8_192, 8_192),
            (10, 12_000, 64 * KIB, 16_384, 16_384),
            (10, 1_250, 512 * KIB, 2_048, 2_600),
            (10, 500, 64 * KIB, 960, 1_100),
            (10, 8, KIB, 256, 300),
        ] {
            let found = after(seconds, rate, record);
            assert!((least..=most).contains(&found), "{found} KiB at {rate} KiB/s after {seconds} s");
        }
    }

    #[test]
    fn a_window_that_is_not_used_up_stays() {
        let mut window = Window::default();
        for tenth in 0..100 {
            let now = Micros(tenth * 100_000);
            window.handed(now, 16 * KIB);
            window.handed(now, 16 * KIB);
            for _ in 0..2 {
                window.taken(Micros(now.0 + 99_000), 16 * KIB);
                window.answered(16 * KIB);
            }
        }
        assert_eq!(window.bytes, BYTES_FIRST);
    }

    #[test]
    fn what_is_urgent_has_room_where_nothing_else_has() {
        let mut window = Window::default();
        while window.has_room(Class::Normal, 512 * KIB) {
            window.handed(Micros(0), 512 * KIB);
        }
        assert!(!window.has_room(Class::Bulk, KIB) && window.has_room(Class::Urgent, 512 * KIB));
        while window.has_room(Class::Urgent, 512 * KIB) {
            window.handed(Micros(0), 512 * KIB);
        }
        assert_eq!(window.unanswered_bytes, BYTES_MAX);
    }
}
