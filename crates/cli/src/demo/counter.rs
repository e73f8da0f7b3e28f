//! An office's counter: hands in one paper after the other, and does not let go of one before it has a slip.

use std::future::pending;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::error::DemoFailure;
use super::event::Event;
use super::intake::{Accepted, Intake, NotAccepted, Submission};
use super::ledger::Promise;
use super::paper::Paper;

pub(super) struct Counter {
    pub(super) office: String,
    pub(super) intake: Intake,
    pub(super) papers: Vec<Paper>,
    /// The papers come evenly over this time, as citizens do.
    pub(super) flow: Duration,
    /// Where in its slot of that time each paper comes, 0 to 1: offices do not act in step.
    pub(super) phase: f64,
    /// When it changes, the next paper comes at once: the demo wants one that is captured just after the cut.
    pub(super) hurry: Option<watch::Receiver<bool>>,
    pub(super) events: mpsc::Sender<Event>,
}

impl Counter {
    /// Serves until the last paper has its slip.
    pub(super) async fn serve(mut self) {
        let began = Instant::now();
        let slots = count(self.papers.len());
        for (index, paper) in std::mem::take(&mut self.papers).into_iter().enumerate() {
            let due = began + self.flow.mul_f64((count(index) + self.phase) / slots);
            tokio::select! {
                () = sleep_until(due) => {}
                () = hurried(&mut self.hurry) => {}
            }
            let event = match self.hand_in(index, paper).await {
                Ok(promise) => Event::Promised(promise),
                Err(failure) => Event::CounterFailed(failure),
            };
            // Without a listener the demo is over.
            let _ = self.events.send(event).await;
        }
    }

    /// Tries with one and the same key until the relay has answered: whether it had the record already when it died is
    /// for the relay to know.
    async fn hand_in(&self, index: usize, paper: Paper) -> Result<Promise, DemoFailure> {
        let captured_from = Instant::now();
        let body = paper.read().await?;
        let (blake3, bytes) = (blake3::hash(&body).to_hex().to_string(), body.len() as u64);
        let key = format!("demo-{}-{index}", self.office);
        let submission =
            Submission { body, media_type: "application/octet-stream", kind: "ktp-el", idempotency_key: &key };
        let accepted = self.submit(&submission).await?;
        Ok(Promise { office: self.office.clone(), paper, blake3, bytes, captured_from, accepted })
    }

    async fn submit(&self, submission: &Submission<'_>) -> Result<Accepted, DemoFailure> {
        let mut is_first = true;
        loop {
            match self.intake.submit(submission).await {
                Ok(accepted) => return Ok(accepted),
                Err(NotAccepted::Never(reason)) => {
                    return Err(DemoFailure::RecordRefused { office: self.office.clone(), reason });
                }
                Err(error @ (NotAccepted::NoAnswer(_) | NotAccepted::NotNow(_))) if is_first => {
                    let event = Event::CounterWaits { office: self.office.clone(), reason: error.to_string() };
                    let _ = self.events.send(event).await;
                    is_first = false;
                }
                Err(_) => {}
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Returns once for each change; never where nobody will hurry.
async fn hurried(hurry: &mut Option<watch::Receiver<bool>>) {
    let changed = match hurry {
        Some(hurry) => hurry.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        pending::<()>().await;
    }
}

fn count(papers: usize) -> f64 {
    u32::try_from(papers).unwrap_or(u32::MAX).into()
}

const RETRY_PAUSE: Duration = Duration::from_millis(100);
