//! Drives one office's node: hands in inputs, does what its outputs ask for, wakes it.

use std::iter;

use estafet_model::{NodeId, Now};

use super::session::{Carry, Message};
use super::{City, Entry, Event, refusals};
use crate::{Input, Output};

impl City {
    /// Hands the node an input, if it is running.
    pub(crate) fn input(&mut self, id: &NodeId, input: Input) {
        let Some(office) = self.offices.get_mut(id) else { return };
        let now = Now(self.now.since(office.booted));
        let Some(node) = office.node.as_mut() else { return };
        node.handle_input(now, input);
        self.poll(id);
    }

    /// Takes all outputs, then the timeout.
    pub(super) fn poll(&mut self, id: &NodeId) {
        let Some(node) = self.offices.get_mut(id).and_then(|office| office.node.as_mut()) else { return };
        let outputs: Vec<Output> = iter::from_fn(|| node.poll_output()).collect();
        let timeout = node.poll_timeout();
        for output in outputs {
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

    pub(super) fn wake(&mut self, id: &NodeId) {
        let office = self.offices.get_mut(id).expect("offices stay");
        if office.wake_at.is_some_and(|at| at <= self.now) {
            office.wake_at = None;
            self.input(id, Input::Timeout);
        }
    }

    fn output(&mut self, id: &NodeId, output: Output) {
        match output {
            Output::Send { to, frame } => {
                let hub = &self.offices[&self.hub].store;
                self.oracle.sent(self.seed, id, &frame, &self.offices[id].store, hub);
                self.refusals.extend(refusals(&frame).map(|answer| (id.clone(), to.clone(), answer.clone())));
                self.send(id, &to, Message::Control(frame.encode()));
            }
            Output::Carry { to, id: record, class, chunks: _, first_chunk } => {
                self.carry(id, &to, Carry { id: record, class, next_chunk: first_chunk });
            }
            Output::BeginTransfer { .. } => {}
            Output::Disconnect(neighbor) => self.disconnect(id, &neighbor),
            Output::Store(record) => self.append(id, Entry::Record(record)),
            Output::StoreChunk { transfer, data, .. } => self.append(id, Entry::Chunk { transfer, data }),
            Output::AbortTransfer(transfer) => self.append(id, Entry::Abort(transfer)),
            Output::KeepReceipt(receipt) => self.append(id, Entry::Receipt(receipt)),
            Output::Release(ids) => {
                self.oracle.released(self.seed, id, &ids, self.hub_store());
                self.append(id, Entry::Release(ids));
            }
            Output::Compare { id: record, digest, from } => {
                let same = self.offices[id].store.record(&record).is_some_and(|found| found.digest() == digest);
                self.hear(id, Input::Compared { id: record, from, same });
            }
            Output::Captured { token, captured } => {
                let hub = &self.offices[&self.hub].store;
                self.oracle.slip_given(self.seed, token, captured.get(), &self.offices[id].store, hub);
                self.oracle.answered(self.seed, token);
                self.answers.insert(token, Ok(captured.into_inner()));
            }
            Output::CaptureRefused { token, why } => {
                self.oracle.answered(self.seed, token);
                self.answers.insert(token, Err(why));
            }
            Output::Event(event) => self.events.push((self.now, id.clone(), event)),
        }
    }

    /// The node hears something now, after what it is doing.
    pub(super) fn hear(&mut self, id: &NodeId, input: Input) {
        let life = self.offices[id].life;
        self.schedule(self.now, Event::Input { node: id.clone(), life, input });
    }

    pub(super) fn append(&mut self, id: &NodeId, entry: Entry) {
        self.offices.get_mut(id).expect("offices stay").store.append(entry);
        self.sync(id);
    }

    fn sync(&mut self, id: &NodeId) {
        let office = self.offices.get_mut(id).expect("offices stay");
        if office.store.begin_sync() {
            let (life, node) = (office.life, id.clone());
            let delay = self.seeded.micros(500, 15_000);
            self.schedule(self.now + delay, Event::Synced { node, life });
        }
    }

    pub(super) fn synced(&mut self, id: &NodeId, life: u32) {
        let office = self.offices.get_mut(id).expect("offices stay");
        if office.life != life || office.node.is_none() {
            return;
        }
        let inputs = office.store.end_sync(&mut self.seeded);
        self.sync(id);
        for input in inputs {
            self.input(id, input);
        }
    }
}
