//! A bound on what a piece of work may allocate.

/// Twice the longest list that fits in nothing, error texts, and what a hash map begins with.
const ALWAYS: usize = 64 << 10;

/// Counts every allocation, and refuses those beyond a limit: the process then aborts, which the engine reports.
#[cfg(fuzzing)]
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// Does `work` with at most `times` the bytes of its input, and 64 KiB, in use beyond what is in use now. Only builds
/// for fuzzing hold it to that.
pub(crate) fn bounded<T>(input: &[u8], times: usize, work: impl FnOnce() -> T) -> T {
    let limit = Limit::set(input.len() * times + ALWAYS);
    let result = work();
    drop(limit);
    result
}

struct Limit;

impl Limit {
    #[cfg(fuzzing)]
    fn set(bytes_max: usize) -> Self {
        ALLOCATOR.set_limit(ALLOCATOR.allocated() + bytes_max).expect("a limit above what is in use can be set");
        Self
    }

    #[cfg(not(fuzzing))]
    fn set(_bytes_max: usize) -> Self {
        Self
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        #[cfg(fuzzing)]
        ALLOCATOR.set_limit(usize::MAX).expect("there is always room for no limit");
    }
}
