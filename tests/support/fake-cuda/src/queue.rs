//! Queues of work. Each stream has one.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use crate::work::Work;

/// A position in a queue, and with it all operations before that position.
#[derive(Clone, Copy)]
pub(crate) struct Point {
    queue: usize,
    /// How many operations of the queue have run once the point is passed.
    position: u64,
}

/// One queued operation.
pub(crate) struct Operation {
    pub(crate) device: usize,
    /// The log line of the call that queued it, for faults.
    pub(crate) line: String,
    waits: Vec<Point>,
    pub(crate) work: Work,
}

/// How a queue is ordered against the legacy default stream of its device.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum QueueKind {
    Legacy,
    Blocking,
    NonBlocking,
}

struct Queue {
    device: usize,
    kind: QueueKind,
    waiting: VecDeque<Operation>,
    done: u64,
}

/// All queues that were ever made.
#[derive(Default)]
pub(crate) struct Queues(Vec<Queue>);

impl Queues {
    pub(crate) fn add(&mut self, device: usize, kind: QueueKind) -> usize {
        self.0.push(Queue { device, kind, waiting: VecDeque::new(), done: 0 });
        self.0.len() - 1
    }

    pub(crate) fn device(&self, queue: usize) -> usize {
        self.0[queue].device
    }

    /// The point behind everything that is in a queue now.
    pub(crate) fn end(&self, queue: usize) -> Point {
        Point { queue, position: self.0[queue].done + self.0[queue].waiting.len() as u64 }
    }

    /// The points behind everything that is in the queues of a device now.
    pub(crate) fn ends(&self, device: usize) -> Vec<Point> {
        self.of_device(device).map(|queue| self.end(queue)).collect()
    }

    /// Whether everything before a point has run.
    pub(crate) fn is_past(&self, point: Point) -> bool {
        self.0[point.queue].done >= point.position
    }

    /// Queues an operation. It waits for the point `after`, if there is one, and for the queues
    /// that CUDA's rule for the legacy default stream names.
    pub(crate) fn push(
        &mut self,
        queue: usize,
        line: String,
        after: Option<Point>,
        work: Work,
    ) -> Point {
        let Queue { device, kind, .. } = self.0[queue];
        let before = match kind {
            QueueKind::Legacy => Some(QueueKind::Blocking),
            QueueKind::Blocking => Some(QueueKind::Legacy),
            QueueKind::NonBlocking => None,
        };
        let others = self.of_device(device).filter(|&other| Some(self.0[other].kind) == before);
        let points = others.map(|other| self.end(other)).chain(after);
        let waits = points.filter(|&point| !self.is_past(point)).collect();
        self.0[queue].waiting.push_back(Operation { device, line, waits, work });
        self.end(queue)
    }

    /// A point that the next operation before `point` must wait for, if there is one left.
    pub(crate) fn next_wait(&mut self, point: Point) -> Option<Point> {
        let waits = &mut self.0[point.queue].waiting.front_mut()?.waits;
        waits.pop()
    }

    /// Takes the next operation before `point` out of its queue. The caller runs it.
    pub(crate) fn take(&mut self, point: Point) -> Option<Operation> {
        let queue = &mut self.0[point.queue];
        queue.done += 1;
        queue.waiting.pop_front()
    }

    /// All work that has not run.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Work> {
        self.0.iter().flat_map(|queue| &queue.waiting).map(|operation| &operation.work)
    }

    fn of_device(&self, device: usize) -> impl Iterator<Item = usize> {
        (0..self.0.len()).filter(move |&queue| self.0[queue].device == device)
    }
}
