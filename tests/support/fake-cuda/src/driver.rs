//! The state of the fake driver, behind one lock.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};

use crate::error::{CAPTURE_UNSUPPORTED, Code, INVALID_CONTEXT, INVALID_HANDLE};
use crate::handle::HandleKind;
use crate::log::Log;
use crate::memory::Memory;
use crate::queue::{Point, QueueKind, Queues};
use crate::work::Work;

pub(crate) struct Device {
    /// How often the primary context is retained.
    pub(crate) retained: u64,
    /// The queue of the legacy default stream.
    legacy: usize,
    /// The queues of the threads' default streams, by thread.
    per_thread: HashMap<u64, usize>,
}

/// A stream that `cuStreamCreate` made.
pub(crate) struct Stream {
    pub(crate) queue: usize,
    pub(crate) destroyed: bool,
    /// Whether a graph is being captured on the stream. The fake captures nothing, but refuses the
    /// calls that a capture forbids.
    pub(crate) captures: bool,
}

pub(crate) struct Event {
    pub(crate) device: usize,
    /// The point that the event was last recorded at.
    pub(crate) point: Option<Point>,
    /// How often `cuEventQuery` returned that it is not ready.
    pub(crate) queries: u32,
    pub(crate) destroyed: bool,
}

/// A loaded module.
pub(crate) struct Module {
    pub(crate) device: usize,
    pub(crate) image: String,
}

#[derive(Default)]
pub(crate) struct Driver {
    pub(crate) initialised: bool,
    /// How many devices `cuDeviceGetCount` reports.
    pub(crate) count: usize,
    /// As many as were ever reported.
    pub(crate) devices: Vec<Device>,
    /// The devices of the threads' context stacks, by thread.
    stacks: HashMap<u64, Vec<usize>>,
    pub(crate) queues: Queues,
    pub(crate) streams: Vec<Stream>,
    pub(crate) events: Vec<Event>,
    pub(crate) modules: Vec<Module>,
    pub(crate) memory: Memory,
    pub(crate) log: Log,
}

/// Locks the driver.
pub(crate) fn driver() -> MutexGuard<'static, Driver> {
    static DRIVER: LazyLock<Mutex<Driver>> = LazyLock::new(|| {
        let mut driver = Driver::default();
        driver.set_count(2);
        Mutex::new(driver)
    });
    DRIVER.lock().expect("panics end the process")
}

/// This thread's number. Numbers are not used again.
fn thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(0) });
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

impl Driver {
    pub(crate) fn set_count(&mut self, count: usize) {
        self.count = count;
        while self.devices.len() < count {
            let legacy = self.queues.add(self.devices.len(), QueueKind::Legacy);
            self.devices.push(Device { retained: 0, legacy, per_thread: HashMap::new() });
            self.memory.add_device();
        }
    }

    /// Records a fault of the call that is being served, and returns the code that the call fails
    /// with.
    pub(crate) fn fault(&mut self, code: Code, text: impl Display) -> Code {
        self.log.fault(text);
        code
    }

    /// The devices of this thread's contexts, the current one last.
    pub(crate) fn stack(&mut self) -> &mut Vec<usize> {
        self.stacks.entry(thread()).or_default()
    }

    /// The device of a context that is retained.
    pub(crate) fn device_of_context(&mut self, context: usize) -> Result<usize, Code> {
        let is_retained =
            |&device: &usize| self.devices.get(device).is_some_and(|device| device.retained > 0);
        match HandleKind::Context.index(context).filter(is_retained) {
            Some(device) => Ok(device),
            None => {
                let text = format_args!("{context:#x} is not a retained context");
                Err(self.fault(INVALID_CONTEXT, text))
            }
        }
    }
}

/// Streams and events, by handle.
impl Driver {
    /// A stream that was made and not destroyed.
    pub(crate) fn stream(&mut self, stream: usize) -> Result<&mut Stream, Code> {
        let is_usable =
            |&index: &usize| self.streams.get(index).is_some_and(|stream| !stream.destroyed);
        match HandleKind::Stream.index(stream).filter(is_usable) {
            Some(index) => Ok(&mut self.streams[index]),
            None => Err(self.fault(INVALID_HANDLE, "there is no such stream")),
        }
    }

    /// An event that was made and not destroyed.
    pub(crate) fn event(&mut self, event: usize) -> Result<&mut Event, Code> {
        let is_usable =
            |&index: &usize| self.events.get(index).is_some_and(|event| !event.destroyed);
        match HandleKind::Event.index(event).filter(is_usable) {
            Some(index) => Ok(&mut self.events[index]),
            None => Err(self.fault(INVALID_HANDLE, "there is no such event")),
        }
    }

    /// Whether a graph is being captured on a stream.
    pub(crate) fn captures(&self, stream: usize) -> bool {
        let index = HandleKind::Stream.index(stream);
        index.and_then(|index| self.streams.get(index)).is_some_and(|stream| stream.captures)
    }

    /// The queue of a stream. `device` is that of the current context, which the default streams
    /// belong to; other streams may be of another device.
    pub(crate) fn queue_of(&mut self, device: usize, stream: usize) -> Result<usize, Code> {
        match stream {
            0 | 1 => Ok(self.devices[device].legacy),
            2 => {
                let queues = &mut self.queues;
                let new = || queues.add(device, QueueKind::Blocking);
                Ok(*self.devices[device].per_thread.entry(thread()).or_insert_with(new))
            }
            _ => self.stream(stream).map(|stream| stream.queue),
        }
    }

    /// The queue of a stream that work may be put on in the context of `device`.
    pub(crate) fn queue_for_work(&mut self, device: usize, stream: usize) -> Result<usize, Code> {
        let queue = self.queue_of(device, stream)?;
        if self.captures(stream) {
            let text = "this would go into the graph that is being captured";
            return Err(self.fault(CAPTURE_UNSUPPORTED, text));
        }
        match self.queues.device(queue) {
            other if other == device => Ok(queue),
            other => {
                let text = format_args!("the stream is of device {other}");
                Err(self.fault(INVALID_HANDLE, text))
            }
        }
    }
}

/// Queued work.
impl Driver {
    /// Queues work of the call that is being served.
    pub(crate) fn push(&mut self, queue: usize, work: Work) -> Point {
        self.push_after(queue, None, work)
    }

    /// Queues work that waits for a point of another queue too, if there is one.
    pub(crate) fn push_after(&mut self, queue: usize, after: Option<Point>, work: Work) -> Point {
        self.queues.push(queue, self.log.line(), after, work)
    }

    /// Runs everything before a point, and what that waits for.
    pub(crate) fn finish(&mut self, point: Point) {
        let mut path = vec![point];
        while let Some(&point) = path.last() {
            if self.queues.is_past(point) {
                path.pop();
            } else if let Some(earlier) = self.queues.next_wait(point) {
                path.push(earlier);
            } else if let Some(operation) = self.queues.take(point)
                && let Err(fault) = operation.work.run(operation.device, &mut self.memory)
            {
                self.log.fault_of(&operation.line, fault);
            }
        }
    }

    /// Runs everything that is queued on a device.
    pub(crate) fn finish_device(&mut self, device: usize) {
        for point in self.queues.ends(device) {
            self.finish(point);
        }
    }
}
