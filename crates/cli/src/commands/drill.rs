//! `topology drill`: an outage that happened, played on the network as it was and with Estafet.

use std::collections::BTreeMap;
use std::fmt::Write;

use estafet_sim::{Drill, Outcome as Played, Row};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::Output;

#[derive(Serialize)]
struct Told {
    drill: &'static str,
    seed: u64,
    days: u32,
    pass: bool,
    /// Captures that were tried at counters with power.
    attempts: u64,
    /// How much of the time was played; in the rest nothing went on.
    played_hours: f64,
    rows: BTreeMap<&'static str, Cells>,
    /// The figures that were missed, and the first promise that was broken.
    faults: Vec<String>,
}

/// A row: null is what the system has not, or what nothing was measured of.
#[derive(Serialize)]
struct Cells {
    as_it_was: Option<f64>,
    with_estafet: Option<f64>,
    at_most: Option<f64>,
}

/// Plays a drill. Bad news if it is not passed.
pub fn drill(drill: Drill, seed: u64, days: Option<u32>, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let days = days.unwrap_or(drill.days());
    let bar = progress_bar(days);
    let played = drill.play(seed, days, &mut |day| bar.set_position(day.into()));
    bar.finish_and_clear();
    output.answer(&Told::from(&played), print)?;
    Ok(if played.is_pass() { Outcome::Good } else { Outcome::Bad })
}

/// Shown on a terminal only.
fn progress_bar(days: u32) -> ProgressBar {
    let bar = ProgressBar::new(days.into());
    if let Ok(style) = ProgressStyle::with_template("day {pos} of {len} [{elapsed}]") {
        bar.set_style(style);
    }
    bar
}

/// What `--help` tells of each drill: what happens, and the figures it is held to.
#[must_use]
pub fn help() -> String {
    let mut text = String::from("Drills:\n");
    for drill in Drill::ALL {
        let _ = writeln!(text, "  {drill}, {} days by default", drill.days());
        for line in drill.story().lines() {
            let _ = writeln!(text, "    {line}");
        }
        text.push_str("    Passed if every promise is kept, and:\n");
        for figure in drill.figures() {
            let _ = writeln!(text, "      {} <= {}", figure.row.label(), figure.row.show(figure.at_most));
        }
    }
    text.push('\n');
    text.push_str(MEASURED);
    text
}

const MEASURED: &str = "\
How it is measured:
  Counters are open from 8 to 15 and from 18 to 21. Each tries in every slot (15, 1 and 3 minutes): a
  message of 1 KiB, or an enrollment of 64 KiB to 2 MiB. It is refused if there is no slip after 5 s,
  and stands for the minutes of its slot. Who has no power does not try. A power cut loses what was
  not synced; the machine is back with the power.
  As it was is a live client with one way. It captures only while every site and line on its way is
  up, and begins a transfer again from nothing when the way breaks. Only what it could capture counts
  in its times.
  Bytes on the wire are those of all hops, with the headers of QUIC, UDP and IP and what was lost and
  sent again, without QUIC's acknowledgements. Heartbeats and the map stand apart, as routing. What is
  lost takes the line again, and a sender that loses has the window of Mathis's formula. A route change
  is another first way of a site, or none.
  Left out are stretches in which nobody captures and nothing is on its way while nothing changes
  (pekanbaru-2013) or lines come and go (ambon-2019): neither bytes nor route changes count there.";

impl From<&Played> for Told {
    fn from(played: &Played) -> Self {
        let Played { drill, seed, days, as_it_was, with_estafet, faults } = played;
        let cells = |row: Row| Cells {
            as_it_was: row.value(as_it_was),
            with_estafet: row.value(with_estafet),
            at_most: drill.figures().iter().find(|figure| figure.row == row).map(|figure| figure.at_most),
        };
        Self {
            drill: drill.name(),
            seed: *seed,
            days: *days,
            pass: played.is_pass(),
            attempts: with_estafet.attempts,
            played_hours: with_estafet.played.as_secs_f64() / 3600.0,
            rows: Row::ALL.into_iter().map(|row| (row.name(), cells(row))).collect(),
            faults: faults.clone(),
        }
    }
}

fn print(told: &Told, output: &mut Output<'_>) -> Result<(), Failure> {
    let Told { drill, seed, days, attempts, played_hours, rows, .. } = told;
    output.line(format_args!(
        "{drill}, seed {seed}, {days} days: {attempts} captures tried, {played_hours:.0} h played\n"
    ))?;
    let table = Row::ALL.into_iter().map(|row| {
        let Cells { as_it_was, with_estafet, at_most } = &rows[row.name()];
        let shown = |value: &Option<f64>, nothing: &str| value.map_or(nothing.to_owned(), |value| row.show(value));
        [row.label().to_owned(), shown(as_it_was, "n/a"), shown(with_estafet, "n/a"), shown(at_most, "-")]
    });
    output.table(["", "as it was", "with Estafet", "at most"], table.collect(), "nothing was measured")?;
    output.line("")?;
    for fault in &told.faults {
        output.line(format_args!("missed: {fault}"))?;
    }
    output.line(if told.pass { "pass" } else { "FAIL" })
}
