//! One run: first everything fails, and every promise is held against the disks; then everything is healed, and
//! everything must arrive.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use estafet_model::{Class, Now};
use estafet_topology::Template;

use crate::city::{City, Violation};
use crate::plan::Place;
use crate::seeded::Seeded;
use crate::trouble::{Fault, Repair, Trouble};

/// How long a short run fails for.
const SHORT_SPAN: Duration = Duration::from_secs(12);

/// What a healed city has to bring home the last record in, beside what its slowest link takes for the bytes: a
/// refused record rests a minute, a session that died is noticed after two seconds, routes settle in ten.
const SETTLING: Duration = Duration::from_secs(120);

/// The slowest link that a plan has, in bits a second.
const SLOWEST_LINK: u64 = 2_000_000;

/// What a fresh record has in a city where everything is well.
const FRESH: Duration = Duration::from_secs(30);

/// A capture gap of one office in a run of hours: light traffic.
const CAPTURE_GAP: Duration = Duration::from_secs(300);

/// What an office and a link have of faults in a day.
const FAULTS_A_DAY: u32 = 6;

/// Empty, inline, offered, and in up to nineteen chunks.
const SIZES: [usize; 6] = [0, 1 << 10, 4 << 10, 20 << 10, 64 << 10, 600 << 10];

/// One seed, and where it plays.
#[derive(Debug, Clone)]
pub struct Run {
    /// What decides everything.
    pub seed: u64,
    /// Where.
    pub place: Place,
    /// So many hours of light traffic and faults at the rate of a bad year; nothing for a short, dense run.
    pub hours: Option<u32>,
    /// Write down everything that mentions this: a record, a node.
    pub watched: Option<String>,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Where it played.
    pub place: Place,
    /// How much time passed in the city.
    pub virtual_time: Duration,
    /// How long it took to be at rest after it was healed.
    pub settled_in: Duration,
    /// How many slips were given.
    pub records: u64,
    /// How many records were lost with the only disk that held them, which is not a fault.
    pub lost_with_disks: u64,
    /// How often each fault struck.
    pub faults: BTreeMap<Fault, u64>,
    /// The hash of everything that was sent, promised and said.
    pub digest: String,
    /// What was written down of what was watched.
    pub sightings: Vec<String>,
    /// Which promise was broken, if one was.
    pub failure: Option<String>,
}

/// What happens next.
enum Happening {
    Capture,
    Fault,
    Repair(Repair),
}

impl Run {
    /// The run that a seed stands for when nothing else is said: the known cities, and drawn ones, every other of them with
    /// more bearers.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let place = match seed % 4 {
            0 => Place::Known(Template::Pekanbaru),
            1 => Place::Known(Template::PekanbaruCadangan),
            2 => Place::Known(Template::Pekanbaru2013),
            _ if seed % 8 == 7 => Place::Doubled(2 + Seeded::new(seed).below(20)),
            _ => Place::Drawn(2 + Seeded::new(seed).below(20)),
        };
        Self { seed, place, hours: None, watched: None }
    }

    /// The command that repeats it.
    #[must_use]
    pub fn command(&self) -> String {
        let place = match self.place {
            Place::Known(template) => format!("--template {template}"),
            Place::Drawn(nodes) => format!("--nodes {nodes}"),
            Place::Doubled(nodes) => format!("--nodes {nodes} --bearers"),
        };
        let hours = self.hours.map(|hours| format!(" --hours {hours}")).unwrap_or_default();
        format!("cargo sim --seed {} {place}{hours}", self.seed)
    }

    /// Runs it. A panic of the code under test is a failure like any other.
    #[must_use]
    pub fn run(&self) -> Report {
        let mut city = City::new(self.place, self.seed);
        city.watched.clone_from(&self.watched);
        let mut trouble = self.trouble(&city);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.play(&mut city, &mut trouble)));
        let (settled_in, failure) = match outcome {
            Ok(Ok(settled_in)) => (settled_in, None),
            Ok(Err(violation)) => (Duration::ZERO, Some(violation.to_string())),
            Err(panic) => (Duration::ZERO, Some(format!("at {:?}: {}", city.now.0, words_of(&*panic)))),
        };
        Report {
            seed: self.seed,
            place: self.place,
            virtual_time: city.now.0,
            settled_in,
            records: city.oracle().slip_count() as u64,
            lost_with_disks: city.oracle().excused().len() as u64,
            faults: trouble.counts,
            digest: city.digest.finalize().to_hex()[..16].to_owned(),
            sightings: city.sightings,
            failure,
        }
    }

    fn trouble(&self, city: &City) -> Trouble {
        let (shortest, longest) = match self.hours {
            None => (Duration::from_millis(20), Duration::from_secs(8)),
            Some(_) => (Duration::from_secs(1), Duration::from_secs(7200)),
        };
        Trouble {
            // Most runs lose nothing at all, and are held to it.
            loses_disks: self.seed % 5 == 3 && city.node_ids().len() > 1,
            restores_backups: self.seed % 10 == 6,
            spoils_hub: self.seed % 5 == 4,
            shortest,
            longest,
            counts: BTreeMap::new(),
            backups: BTreeMap::new(),
        }
    }

    /// Both phases. Returns how long the second took.
    fn play(&self, city: &mut City, trouble: &mut Trouble) -> Result<Duration, Violation> {
        self.fail(city, trouble)?;
        let healed = city.now;
        city.heal_all();
        let backlog = Duration::from_secs(city.uncommitted_bytes() * 8 * 2 / SLOWEST_LINK);
        city.deliver_within(SETTLING + backlog)?;
        let settled_in = city.now.since(healed);
        for node in city.node_ids() {
            city.capture(node.as_str(), Class::Normal, 4 << 10);
        }
        city.deliver_within(FRESH)?;
        city.check_archives()?;
        city.check_nobody_refused()?;
        Ok(settled_in)
    }

    /// Phase 1: captures and faults, each with its repair.
    fn fail(&self, city: &mut City, trouble: &mut Trouble) -> Result<(), Violation> {
        let mut seeded = Seeded::new(self.seed ^ 0xfa17);
        let (span, capture_gap, fault_gap) = self.pace(city);
        let end = city.now + span;
        let mut agenda = BTreeMap::from([((city.now, 0), Happening::Capture), ((city.now, 1), Happening::Fault)]);
        let mut count = 2;
        let mut schedule = |agenda: &mut BTreeMap<(Now, u64), Happening>, at, happening| {
            count += 1;
            agenda.insert((at, count), happening);
        };
        while let Some(((at, _), happening)) = agenda.pop_first().filter(|((at, _), _)| *at < end) {
            city.advance(at.since(city.now))?;
            match happening {
                Happening::Capture => {
                    self.capture(city, &mut seeded);
                    schedule(&mut agenda, at + around(capture_gap, &mut seeded), Happening::Capture);
                }
                Happening::Fault => {
                    let (lasts, repair) = trouble.strike(city, &mut seeded);
                    schedule(&mut agenda, at + lasts, Happening::Repair(repair));
                    schedule(&mut agenda, at + around(fault_gap, &mut seeded), Happening::Fault);
                }
                Happening::Repair(repair) => repair.apply(city),
            }
            city.check_nothing_missing();
        }
        city.advance(end.since(city.now))
    }

    /// How long it goes on, and how far captures and faults are apart.
    fn pace(&self, city: &City) -> (Duration, Duration, Duration) {
        let nodes = u32::try_from(city.node_ids().len()).unwrap_or(u32::MAX);
        let links = u32::try_from(city.link_count()).unwrap_or(u32::MAX);
        match self.hours {
            None => (SHORT_SPAN, Duration::from_millis(220), Duration::from_millis(330)),
            Some(hours) => {
                let day = Duration::from_secs(86_400);
                (Duration::from_secs(3600) * hours, CAPTURE_GAP / nodes, day / (FAULTS_A_DAY * (nodes + links)))
            }
        }
    }

    fn capture(&self, city: &mut City, seeded: &mut Seeded) {
        let node = seeded.pick(&city.node_ids());
        let (class, bytes) = (seeded.pick(&Class::ALL), seeded.pick(&SIZES));
        let burst = if self.hours.is_some() { 1 } else { 1 + seeded.below(5) };
        for _ in 0..burst {
            city.capture(node.as_str(), class, bytes);
        }
    }
}

impl Report {
    /// How often the power of something went.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        let cuts = [Fault::PowerCut, Fault::HubPowerCut, Fault::Blackout, Fault::TotalBlackout, Fault::Kill];
        cuts.iter().filter_map(|fault| self.faults.get(fault)).sum()
    }
}

/// Half as long, or half as long again, or anything between.
fn around(gap: Duration, seeded: &mut Seeded) -> Duration {
    let micros = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX).max(2);
    seeded.micros(1, micros * 2)
}

pub(crate) fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the code under test panicked: {}", words.unwrap_or("without words"))
}
