//! Queues of work: what is behind streams.

use std::collections::VecDeque;

use crate::work::Work;

/// Everything up to a place in a queue.
#[derive(Clone, Copy)]
pub(crate) struct Point {
    queue: usize,
    /// How many operations have run when it is past.
    position: u64,
}

/// One queued operation.
pub(crate) struct Operation {
    pub(crate) device: usize,
    /// The call that queued it, for faults.
    pub(crate) line: String,
    waits: Vec<Point>,
    pub(crate) work: Work,
}

/// How a queue stands to the legacy default stream of its device.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Legacy,
    Blocking,
    NonBlocking,
}

struct Queue {
    device: usize,
    kind: Kind,
    waiting: VecDeque<Operation>,
    done: u64,
}

/// All queues there ever were.
#[derive(Default)]
pub(crate) struct Queues(Vec<Queue>);

impl Queues {
    pub(crate) fn add(&mut self, device: usize, kind: Kind) -> usize {
        self.0.push(Queue { device, kind, waiting: VecDeque::new(), done: 0 });
        self.0.len() - 1
    }

    pub(crate) fn device(&self, queue: usize) -> usize {
        self.0[queue].device
    }

    /// Everything that is in the queue now.
    pub(crate) fn end(&self, queue: usize) -> Point {
        Point { queue, position: self.0[queue].done + self.0[queue].waiting.len() as u64 }
    }

    /// Everything that is in the queues of a device now.
    pub(crate) fn ends(&self, device: usize) -> Vec<Point> {
        self.of(device).map(|queue| self.end(queue)).collect()
    }

    /// Whether everything up to this point has run.
    pub(crate) fn is_past(&self, point: Point) -> bool {
        self.0[point.queue].done >= point.position
    }

    /// Queues an operation, behind a point of another queue too and behind what CUDA's rule for the
    /// legacy default stream says.
    pub(crate) fn push(&mut self, queue: usize, line: String, after: Option<Point>, work: Work) -> Point {
        let Queue { device, kind, .. } = self.0[queue];
        let before = match kind {
            Kind::Legacy => Some(Kind::Blocking),
            Kind::Blocking => Some(Kind::Legacy),
            Kind::NonBlocking => None,
        };
        let others = self.of(device).filter(|&other| Some(self.0[other].kind) == before);
        let waits = others.map(|other| self.end(other)).chain(after).filter(|&point| !self.is_past(point));
        let waits = waits.collect();
        self.0[queue].waiting.push_back(Operation { device, line, waits, work });
        self.end(queue)
    }

    /// What the next operation on the way to a point must wait for, if anything.
    pub(crate) fn wait_before(&mut self, point: Point) -> Option<Point> {
        let waits = &mut self.0[point.queue].waiting.front_mut()?.waits;
        waits.pop()
    }

    /// Takes the next operation on the way to a point out of its queue, to be run now.
    pub(crate) fn take(&mut self, point: Point) -> Option<Operation> {
        let queue = &mut self.0[point.queue];
        queue.done += 1;
        queue.waiting.pop_front()
    }

    /// All work that has not run.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Work> {
        self.0.iter().flat_map(|queue| &queue.waiting).map(|operation| &operation.work)
    }

    fn of(&self, device: usize) -> impl Iterator<Item = usize> {
        (0..self.0.len()).filter(move |&queue| self.0[queue].device == device)
    }
}
