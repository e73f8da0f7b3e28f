//! Which life of a spool this is.

use std::collections::BTreeMap;

use bytes::Bytes;
use estafet_model::Epoch;
use estafet_spool::Append;

const EPOCH_KEY: &[u8] = b"epoch";
const STARTS_KEY: &[u8] = b"starts";

/// What a spool says of itself, and what each start writes into it before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its epoch: the numbers of captures begin again only under another.
    pub epoch: Epoch,
    /// How often it was opened, this time included.
    pub starts: u64,
}

impl Identity {
    /// The identity at the next start of a spool with these values. A spool without an epoch is new and takes the one
    /// that `draw` gives. It is to be random: a spool that was lost must not give the same numbers again, and offline
    /// nobody can be asked.
    #[must_use]
    pub fn at_start(puts: &BTreeMap<Bytes, Bytes>, draw: impl FnOnce() -> Epoch) -> Self {
        let epoch = number(puts, EPOCH_KEY).and_then(|epoch| u16::try_from(epoch).ok()).and_then(Epoch::new);
        Self { epoch: epoch.unwrap_or_else(draw), starts: number(puts, STARTS_KEY).unwrap_or(0) + 1 }
    }

    /// The entries to make durable before the node starts.
    #[must_use]
    pub fn appends(&self) -> Vec<Append> {
        let put = |key: &'static [u8], value: &[u8]| Append::Put {
            key: Bytes::from_static(key),
            value: Bytes::copy_from_slice(value),
        };
        vec![put(EPOCH_KEY, &self.epoch.get().to_be_bytes()), put(STARTS_KEY, &self.starts.to_be_bytes())]
    }
}

fn number(puts: &BTreeMap<Bytes, Bytes>, key: &[u8]) -> Option<u64> {
    puts.get(key).map(|value| value.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u16) -> Epoch {
        Epoch::new(number).unwrap()
    }

    #[test]
    fn a_spool_keeps_its_epoch_and_counts_its_starts() {
        let mut puts = BTreeMap::new();
        for starts in 1..4 {
            // Only a new spool draws.
            let identity = Identity::at_start(&puts, || epoch(if starts == 1 { 700 } else { 9 }));
            assert_eq!(identity, Identity { epoch: epoch(700), starts });
            for append in identity.appends() {
                let Append::Put { key, value } = append else { panic!("an identity is values") };
                puts.insert(key, value);
            }
        }
    }
}
