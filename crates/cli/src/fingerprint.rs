//! Keys that come by mail are believed when somebody has compared their fingerprint by telephone.

use std::io::{self, BufRead, IsTerminal, Write};

use estafet_model::Fingerprint;

use crate::failure::Failure;

/// Refuses what has the fingerprint `shown` unless that was `heard`, as it was read over the telephone. Without the person in
/// front of the screen is asked, if there is one.
pub(crate) fn compare(who: &str, shown: Fingerprint, heard: Option<Fingerprint>) -> Result<(), Failure> {
    match heard {
        Some(heard) if heard == shown => Ok(()),
        Some(heard) => Err(Failure::OtherFingerprint { who: who.to_owned(), shown, heard }),
        None if io::stdin().is_terminal() && is_confirmed(who, &shown).map_err(Failure::Output)? => Ok(()),
        None => Err(Failure::FingerprintNotCompared(who.to_owned())),
    }
}

fn is_confirmed(who: &str, shown: &Fingerprint) -> io::Result<bool> {
    let mut screen = io::stderr();
    writeln!(
        screen,
        "Let the fingerprint of {who} be read to you where the key was made. It must be\n\n    {shown}\n"
    )?;
    write!(screen, "Is it, all six groups? Type yes: ")?;
    screen.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
