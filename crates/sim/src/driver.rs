//! Drives one office's node: hands in inputs, does what its outputs ask for, wakes it.

use std::iter;
use std::time::Duration;

use estafet_model::{NodeId, Now};
use estafet_node::{Input, Output};
use estafet_spool::{Command, Recall};
use estafet_store::{begin_append, chunk_append, conflicts_append, epoch_appends, losses_append, transfer_id};
use estafet_wire::Frame;

use crate::city::{City, Event, Office, refusals};
use crate::session::{Carry, Message};

/// How often a daemon looks at its room and its round trips.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// More outputs of one input than this are a queue without a bound.
const OUTPUTS_MAX: usize = 32_768;

impl City {
    /// Hands the node an input, if it is running.
    pub fn input(&mut self, id: &NodeId, input: Input) {
        self.inputs(id, [input]);
    }

    /// Hands the node what comes in one moment, if it is running, and then does what it asks for.
    fn inputs(&mut self, id: &NodeId, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            self.watch(id, &input);
            let Some(office) = self.offices.get_mut(id) else { return };
            let now = Now(self.now.since(office.booted));
            let Some(node) = office.node.as_mut() else { return };
            node.handle_input(now, input);
        }
        self.poll(id);
    }

    /// Takes all outputs, then the timeout.
    pub(crate) fn poll(&mut self, id: &NodeId) {
        let Some(node) = self.offices.get_mut(id).and_then(|office| office.node.as_mut()) else { return };
        let outputs: Vec<Output> = iter::from_fn(|| node.poll_output()).collect();
        let timeout = node.poll_timeout();
        if outputs.len() > OUTPUTS_MAX {
            self.violated(format!("{id} had {} outputs for one input", outputs.len()));
        }
        for output in outputs {
            self.watch(id, &output);
            self.output(id, output);
        }
        let office = self.offices.get_mut(id).expect("offices stay");
        let wake_at = timeout.map(|(at, _)| (office.booted + at.0).max(self.now));
        if office.wake_at != wake_at {
            office.wake_at = wake_at;
            if let Some(at) = wake_at {
                self.schedule(at, Event::Wake(id.clone()));
            }
        }
    }

    pub(crate) fn wake(&mut self, id: &NodeId) {
        let office = self.offices.get_mut(id).expect("offices stay");
        if office.wake_at.is_some_and(|at| at <= self.now) {
            office.wake_at = None;
            let acknowledged = self.acknowledged_bearers(id).into_iter().map(Input::Acknowledged);
            self.inputs(id, acknowledged.chain([Input::Timeout]));
        }
    }

    fn output(&mut self, id: &NodeId, output: Output) {
        match output {
            Output::Send { to, frame } => {
                let bytes = frame.encode();
                self.promised(id, &frame);
                self.refusals.extend(refusals(&frame).map(|answer| (id.clone(), to.neighbor.clone(), answer.clone())));
                self.digest_of(id, &bytes);
                let of_routing = matches!(frame, Frame::Heartbeat { .. } | Frame::LsdbSummary(_) | Frame::Lsas(_));
                self.send(id, &to, Message::Control { bytes, of_routing });
            }
            Output::Carry { to, id: record, class, chunks, first_chunk } => {
                self.carry(id, &to, Carry { id: record, class, chunks, next_chunk: first_chunk });
            }
            Output::Try { over, bytes, within } => self.begin_trial(id, &over, bytes as usize, within),
            Output::Disconnect(bearer) => self.disconnect(id, &bearer),
            Output::Store(record) => {
                let now = self.now;
                let office = self.office_mut(id);
                let numbered = &record.header.header().id;
                if numbered.origin == *id {
                    let given = office.given.entry(numbered.epoch).or_default();
                    *given = numbered.seq.get().max(*given);
                }
                let wall_clock = office.clock.read(now);
                office.store.store(*record, wall_clock);
                self.sync(id);
            }
            Output::BeginTransfer { transfer, header, chunks } => {
                self.command(id, Command::Append(begin_append(transfer, *header, chunks)));
            }
            Output::StoreChunk { transfer, index, data, hash } => {
                self.command(id, Command::Append(chunk_append(transfer, index, data, hash)));
            }
            Output::AbortTransfer(transfer) => self.command(id, Command::Abort(transfer_id(transfer))),
            Output::KeepReceipt(receipt) => {
                self.office_mut(id).store.keep_receipt(receipt);
                self.sync(id);
            }
            Output::KeepEpoch { epoch, former } => {
                for append in epoch_appends(epoch, &former) {
                    self.command(id, Command::Append(append));
                }
            }
            Output::KeepConflicts { epoch, seqs } => {
                self.command(id, Command::Append(conflicts_append(epoch, &seqs)));
            }
            Output::KeepLosses { origin, epoch, losses } => {
                self.command(id, Command::Append(losses_append(&origin, epoch, &losses)));
            }
            Output::Recall { origin, epoch, seqs } if self.is_hub(id) => {
                let found = self.offices[id].store.committed(&origin, epoch, &seqs);
                self.hear(id, Input::Recalled(found));
            }
            Output::Recall { origin, epoch, seqs } => self.command(id, Command::Recall(Recall { origin, epoch, seqs })),
            Output::Release(ids) => {
                self.released(id, &ids);
                self.office_mut(id).store.release(ids);
                self.sync(id);
            }
            Output::Compare { id: record, digest, from } => {
                let same = self.offices[id].store.committed_digest(&record).is_none_or(|here| here == digest);
                self.hear(id, Input::Compared { id: record, from, same });
            }
            // The simulator's hubs keep no ledger, and publish nothing.
            Output::Published(_) => {}
            Output::Captured { token, captured } => self.answered(id, token, Ok(captured.into_inner())),
            Output::CaptureRefused { token, why } => self.answered(id, token, Err(why)),
            Output::Event(event) => self.said(id, event),
        }
    }

    /// The node hears something now, after what it is doing.
    pub(crate) fn hear(&mut self, id: &NodeId, input: Input) {
        let life = self.offices[id].life;
        self.schedule(self.now, Event::Input { node: id.clone(), life, input: Box::new(input) });
    }

    /// Hands the store something to do.
    pub(crate) fn command(&mut self, id: &NodeId, command: Command) {
        self.office_mut(id).store.command(command);
        self.sync(id);
    }

    fn sync(&mut self, id: &NodeId) {
        if self.office_mut(id).store.begin_round() {
            let (life, node) = (self.offices[id].life, id.clone());
            let delay = self.seeded.micros(500, 15_000);
            self.schedule(self.now + delay, Event::Synced { node, life });
        }
    }

    pub(crate) fn synced(&mut self, id: &NodeId, life: u32) {
        if !self.is_alive(id, life) {
            return;
        }
        match self.office_mut(id).store.end_round() {
            Ok(inputs) => {
                self.sync(id);
                inputs.into_iter().for_each(|input| self.input(id, input));
            }
            Err(what) => self.violated(format!("{id}: {what}")),
        }
    }

    pub(crate) fn housekeeping(&mut self, id: &NodeId, life: u32) {
        if !self.is_alive(id, life) {
            return;
        }
        self.schedule(self.now + HOUSEKEEPING, Event::Housekeeping { node: id.clone(), life });
        let room = self.offices[id].store.room();
        let samples = self.samples(id).into_iter();
        let measured = samples.map(|(bearer, sample)| Input::Measured { bearer, sample });
        self.inputs(id, [Input::Room(room)].into_iter().chain(measured));
        self.scrub(id);
        self.check_windows(id);
    }

    /// Now and then the main server's daemon finds what has rotted.
    fn scrub(&mut self, id: &NodeId) {
        if self.offices[id].store.has_rotten() && self.seeded.one_in(4) {
            for record in self.office_mut(id).store.find_rotten() {
                self.input(id, Input::CommittedUnreadable(Box::new(record)));
            }
        }
    }

    fn is_alive(&self, id: &NodeId, life: u32) -> bool {
        self.offices[id].life == life && self.is_running(id)
    }

    pub(crate) fn office_mut(&mut self, id: &NodeId) -> &mut Office {
        self.offices.get_mut(id).expect("offices stay")
    }
}
