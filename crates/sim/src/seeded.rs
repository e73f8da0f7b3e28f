//! The only chance in the city: the same seed makes the same run.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// A sequence of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw() % end as u64).expect("below a usize")
    }

    /// One of these.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// A span between two numbers of microseconds.
    pub fn micros(&mut self, first: u64, end: u64) -> Duration {
        Duration::from_micros(first + self.draw() % (end - first))
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.draw().is_multiple_of(n)
    }

    /// A span between two others, short ones as likely as long ones: each doubling has the same share.
    pub fn span(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let doublings = (longest.as_micros() / shortest.as_micros().max(1)).max(1).ilog2();
        let low = shortest * (1 << (self.draw() % u64::from(doublings.max(1))));
        low + Duration::from_micros(self.draw() % u64::try_from(low.as_micros()).unwrap_or(u64::MAX).max(1))
    }
}
