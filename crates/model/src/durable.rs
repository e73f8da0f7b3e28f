//! The proof that something is on disk.

/// `T` speaks of bytes that a completed sync has put on this node's disk.
///
/// Promise P1 in a type: slips, custody acceptances and receipts are built from a `Durable`, and only a store may
/// make one, after its sync has returned. The `clippy.toml` of every pure crate refuses [`Durable::after_sync`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    /// To be called by a store, after the sync that covers `value` has succeeded, and by nobody else.
    pub fn after_sync(value: T) -> Self {
        Self(value)
    }

    /// What is durable.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// What is durable, by value. The proof is gone with it.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// The same proof for a part of it, or for what it stands for.
    pub fn map<U>(self, part: impl FnOnce(T) -> U) -> Durable<U> {
        Durable(part(self.0))
    }
}
