//! The custody machine: any neighbors, a disk and a clock that do as the bytes say, against a model of what it owes.

mod duty;
mod play;

use arbitrary::Unstructured;

use super::Target;
use play::Play;

pub(super) const TARGET: Target = Target { name: "custody", check, seeds, words: &[] };

/// Steps in one play: enough for a record's whole life several times over.
const STEPS_MAX: usize = 300;

fn check(input: &[u8]) {
    let mut bytes = Unstructured::new(input);
    let Ok(hub) = bytes.ratio(1, 4) else { return };
    let mut play = Play::begin(hub);
    for _ in 0..STEPS_MAX {
        if bytes.is_empty() || play.step(&mut bytes).is_err() {
            break;
        }
        play.check();
    }
    play.heal();
}

fn seeds() -> Vec<Vec<u8>> {
    let every_step: Vec<u8> = (0..=255).flat_map(|byte: u8| [byte, byte % 16, byte % 4]).collect();
    let mixed: Vec<u8> = (0..512u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
    vec![every_step, mixed, vec![0; 64], vec![9; 64]]
}
