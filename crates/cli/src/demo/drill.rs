//! What happens in the demo, in order: all counters open, Sukajadi loses its power, it comes back, the books close.

use std::time::Duration;

use estafet_admin::v1;
use estafet_model::NodeId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::books::{Books, audit_by_origins, audit_of, obstacles};
use super::comparison::compare;
use super::counter::Counter;
use super::event::Event;
use super::fleet::Fleet;
use super::intake::Intake;
use super::ledger::Ledger;
use super::map::way;
use super::observers::{watch_commits, watch_move, watch_state};
use super::paper::Stacks;
use super::screen::Screen;
use super::summary::Summary;
use crate::city::CityFolder;
use crate::failure::Failure;
use crate::init::NewCity;
use crate::reach::Reach;

/// The main server.
pub(super) const HUB: &str = "induk";
/// The branch whose power goes.
const CUT: &str = "sukajadi";
/// The offices that usually go through it.
pub(super) const BEHIND_CUT: [&str; 2] = ["rumbai", "rumbai-pesisir"];

/// One run of the demo. All its tasks end with it.
pub(super) struct Drill<'a> {
    city: &'a NewCity,
    folder: &'a CityFolder,
    fleet: &'a mut Fleet,
    screen: Screen,
    stacks: Stacks,
    ledger: Ledger,
    tasks: JoinSet<()>,
    events: mpsc::Receiver<Event>,
    /// For the tasks; kept, so that `events` never ends.
    sender: mpsc::Sender<Event>,
    hurry: watch::Sender<bool>,
    network: v1::Network,
    audit: v1::AuditReport,
    /// The offices whose failover has been told.
    told: Vec<&'static str>,
    /// When the branch was started again; nothing once its return has been told.
    restored_at: Option<Instant>,
    next_look: Instant,
    next_tally: Instant,
}

/// How the city came to rest.
pub(super) enum Settlement {
    /// Every slip has its receipt, by the demo's books and by the main server's.
    Complete,
    /// Nothing moves any more, and this is why it is not complete.
    Stuck(Vec<String>),
}

impl<'a> Drill<'a> {
    pub(super) fn new(
        city: &'a NewCity,
        folder: &'a CityFolder,
        fleet: &'a mut Fleet,
        screen: Screen,
        stacks: Stacks,
    ) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let now = Instant::now();
        Self {
            city,
            folder,
            fleet,
            screen,
            stacks,
            ledger: Ledger::default(),
            tasks: JoinSet::new(),
            events,
            sender,
            hurry: watch::Sender::new(false),
            network: v1::Network::default(),
            audit: v1::AuditReport::default(),
            told: Vec::new(),
            restored_at: None,
            next_look: now,
            next_tally: now + TALLY_EVERY,
        }
    }

    pub(super) async fn run(&mut self) -> Result<Settlement, Failure> {
        self.open_counters()?;
        self.go_on(CUT_AFTER).await?;
        self.cut()?;
        self.go_on(DARK_FOR).await?;
        self.restore()?;
        self.settle().await
    }

    fn open_counters(&mut self) -> Result<(), Failure> {
        let hub = self.reach(HUB)?;
        self.tasks.spawn(watch_commits(hub.clone(), self.sender.clone()));
        self.tasks.spawn(watch_state(hub, self.sender.clone()));
        let mut phases = (0..).map(|number: u32| FIRST_PHASE + (1.0 - FIRST_PHASE) * f64::from(number % 12) / 12.0);
        for ((office, papers), phase) in self.stacks.offices().zip(&mut phases) {
            let Some(node) = self.city.nodes.get(office) else { continue };
            let counter = Counter {
                office: office.clone(),
                intake: Intake::new(&node.intake),
                papers: papers.clone(),
                flow: FLOW,
                phase,
                hurry: BEHIND_CUT.contains(&office.as_str()).then(|| self.hurry.subscribe()),
                events: self.sender.clone(),
            };
            self.tasks.spawn(counter.serve());
        }
        let (papers, offices) = (self.stacks.total(), self.stacks.offices().count());
        self.screen.say(format_args!("{offices} counters open, {papers} records to capture"));
        Ok(())
    }

    fn cut(&mut self) -> Result<(), Failure> {
        let cut_at = Instant::now();
        self.ledger.cut(cut_at);
        self.fleet.kill(CUT);
        self.hurry.send_replace(true);
        self.screen.say(format_args!("SIGKILL {CUT}"));
        for office in BEHIND_CUT {
            let reach = self.reach(office)?;
            self.tasks.spawn(watch_move(office.to_owned(), reach, CUT, cut_at, self.sender.clone()));
        }
        Ok(())
    }

    fn restore(&mut self) -> Result<(), Failure> {
        for office in BEHIND_CUT {
            let account = self.ledger.account(office);
            if account.failover.is_none() {
                let held = account.captured - account.committed;
                self.screen.say(format_args!("{office} still captures, and holds {held} records"));
            }
        }
        self.screen.say(format_args!("{CUT} has power again and starts"));
        self.fleet.start(CUT, &self.city.nodes[CUT].config)?;
        self.restored_at = Some(Instant::now());
        Ok(())
    }

    /// Goes on until every slip has its receipt, or nothing has moved for [`STUCK_AFTER`].
    async fn settle(&mut self) -> Result<Settlement, Failure> {
        let mut progress = self.progress();
        let mut moved_at = Instant::now();
        loop {
            let obstacles = obstacles(&self.stacks, &self.ledger, &self.audit);
            if obstacles.is_empty() {
                self.screen.say("every slip has its receipt");
                return Ok(Settlement::Complete);
            }
            if progress != self.progress() {
                progress = self.progress();
                moved_at = Instant::now();
            }
            if moved_at.elapsed() > STUCK_AFTER {
                let stuck = obstacles.join("; ");
                self.screen.say(format_args!("nothing has moved for {} s: {stuck}", STUCK_AFTER.as_secs()));
                return Ok(Settlement::Stuck(obstacles));
            }
            self.step(Instant::now() + LOOK_EVERY).await?;
        }
    }

    async fn go_on(&mut self, span: Duration) -> Result<(), Failure> {
        let until = Instant::now() + span;
        while Instant::now() < until {
            self.step(until).await?;
        }
        Ok(())
    }

    /// Takes the next event, if one comes before `until`, and looks after relays and screen when it is time.
    async fn step(&mut self, until: Instant) -> Result<(), Failure> {
        tokio::select! {
            Some(event) = self.events.recv() => self.take(event)?,
            () = sleep_until(until.min(self.next_look)) => {}
        }
        if Instant::now() >= self.next_look {
            self.next_look = Instant::now() + LOOK_EVERY;
            self.fleet.check()?;
            self.draw();
        }
        Ok(())
    }

    fn take(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Promised(promise) => self.ledger.promise(promise),
            Event::Committed(commit) => self.ledger.commit(commit),
            Event::CounterFailed(failure) => return Err(failure.into()),
            Event::CounterWaits { office, reason } => {
                self.screen.say(format_args!("the counter of {office} waits and tries again ({reason})"));
            }
            Event::Network(network) => {
                self.network = network;
                self.tell_return();
            }
            Event::Audit(report) => self.audit = report,
            Event::Moved { office, next_hop: Some(next_hop), after } => {
                self.screen.say(format_args!("{office} moved to {next_hop} after {} ms", after.as_millis()));
            }
            Event::Moved { office, next_hop: None, after } => {
                self.screen.say(format_args!("{office} has no way left after {} ms", after.as_millis()));
            }
        }
        self.tell_failover();
        Ok(())
    }

    fn tell_failover(&mut self) {
        for office in BEHIND_CUT {
            if !self.told.contains(&office)
                && let Some(after) = self.ledger.account(office).failover
            {
                self.told.push(office);
                let after_ms = after.as_millis();
                self.screen.say(format_args!(
                    "{office}: a record captured after the cut is committed, {after_ms} ms after it"
                ));
            }
        }
    }

    /// Says when the main server's map has a way from the branch again.
    fn tell_return(&mut self) {
        if let Some(restored_at) = self.restored_at
            && self.network.nodes.iter().any(|node| node.id == CUT && node.state == "serving")
        {
            self.restored_at = None;
            self.screen.say(format_args!("{CUT} serves again after {} ms", restored_at.elapsed().as_millis()));
        }
    }

    fn progress(&self) -> (usize, usize, u64) {
        (self.ledger.captured(), self.ledger.committed(), self.audit.receipted)
    }

    fn draw(&mut self) {
        for (office, _) in self.stacks.offices() {
            let account = self.ledger.account(office);
            let receipted = audit_of(&self.audit, office).receipted;
            let way = way(&self.network, office);
            let state = match (self.fleet.is_running(office), account.captured - account.committed) {
                (false, _) => "no power".to_owned(),
                (true, held) if way.len() < 2 => format!("cut off, holds {held}"),
                (true, held) => format!("holds {held}"),
            };
            let words = format!("captured {}, {state}", account.captured);
            self.screen.office(office, way.join(" → "), receipted, words);
        }
        if self.screen.is_plain() && Instant::now() >= self.next_tally {
            self.next_tally = Instant::now() + TALLY_EVERY;
            let (captured, committed, receipted) = self.progress();
            self.screen.say(format_args!("captured {captured}, committed {committed}, receipted {receipted}"));
        }
    }

    /// Compares what was promised with what the main server has.
    pub(super) async fn close_books(mut self, settlement: Settlement) -> Result<Summary, Failure> {
        self.draw();
        let comparison = compare(&self.ledger, &self.reach(HUB)?).await;
        let obstacles = match settlement {
            Settlement::Complete => Vec::new(),
            Settlement::Stuck(obstacles) => {
                self.audit = audit_by_origins(self.audit, &Reach::city(self.folder)?).await;
                obstacles
            }
        };
        let books = Books {
            nodes: self.city.nodes.len(),
            stacks: &self.stacks,
            ledger: &self.ledger,
            audit: &self.audit,
            comparison,
            obstacles,
            elapsed: self.screen.began().elapsed(),
        };
        Ok(books.close())
    }

    fn reach(&self, node: &'static str) -> Result<Reach, Failure> {
        Reach::node(self.folder, &node_id(node))
    }
}

/// The id of a node that stands in this module.
pub(super) fn node_id(node: &'static str) -> NodeId {
    node.parse().expect("the names in this module are node ids")
}

/// How long the counters are open.
const FLOW: Duration = Duration::from_secs(26);
/// An office with a single paper gets it after the cut.
const FIRST_PHASE: f64 = 0.4;
/// After about a third of the records.
const CUT_AFTER: Duration = Duration::from_secs(8);
/// Much longer than any failover, so that the table shows the other way in use.
const DARK_FOR: Duration = Duration::from_secs(6);
/// The slowest thing that may still help is a neighbor dialing again, every 2 s.
const STUCK_AFTER: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(200);
const TALLY_EVERY: Duration = Duration::from_secs(3);
/// The loop takes an event in microseconds; where it does not, counters and observers wait.
const EVENTS_WAITING_MAX: usize = 1_024;
