//! Everything that is known, behind one lock, and how a call is served.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Display;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};

use crate::error::{Code, INVALID_CONTEXT, NOT_INITIALIZED, SUCCESS};
use crate::event::Event;
use crate::log::Log;
use crate::memory::Memory;
use crate::queue::{Kind, Point, Queues};
use crate::stream::Stream;
use crate::work::Work;

/// Where a call puts a result. NULL is an invalid value.
pub(crate) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

pub(crate) struct Device {
    /// How often the primary context is retained.
    pub(crate) retained: u64,
    /// The legacy default stream.
    pub(crate) legacy: usize,
    /// The threads' default streams, by thread.
    pub(crate) per_thread: HashMap<u64, usize>,
}

#[derive(Default)]
pub(crate) struct Driver {
    pub(crate) initialised: bool,
    /// How many devices there are said to be.
    pub(crate) count: usize,
    /// As many as there ever were.
    pub(crate) devices: Vec<Device>,
    /// The devices of the current contexts, by thread.
    stacks: HashMap<u64, Vec<usize>>,
    pub(crate) queues: Queues,
    pub(crate) streams: Vec<Stream>,
    pub(crate) events: Vec<Event>,
    /// A device and an image each.
    pub(crate) modules: Vec<(usize, String)>,
    pub(crate) memory: Memory,
    pub(crate) log: Log,
}

/// The driver, for this thread alone.
pub(crate) fn driver() -> MutexGuard<'static, Driver> {
    static DRIVER: LazyLock<Mutex<Driver>> = LazyLock::new(|| {
        let mut driver = Driver::default();
        driver.set_count(2);
        Mutex::new(driver)
    });
    DRIVER.lock().expect("panics end the process")
}

/// Serves a call that needs no context.
pub(crate) fn free_call(
    name: &str,
    arguments: impl Display,
    serve: impl FnOnce(&mut Driver) -> Result<(), Code>,
) -> Code {
    driver().serve(name, arguments, serve)
}

/// Serves a call that needs a context: that of the device that `serve` is given.
pub(crate) fn call(
    name: &str,
    arguments: impl Display,
    serve: impl FnOnce(&mut Driver, usize) -> Result<(), Code>,
) -> Code {
    let mut driver = driver();
    let current = driver.stack().last().copied();
    let device = current.map_or_else(|| "none".to_owned(), |device| device.to_string());
    driver.serve(name, format_args!("device={device} {arguments}"), |driver| match current {
        Some(device) if driver.devices[device].retained > 0 => serve(driver, device),
        Some(_) => Err(driver.fault(INVALID_CONTEXT, "the current context was released")),
        None => Err(driver.fault(INVALID_CONTEXT, "no context is current")),
    })
}

/// This thread's number. Numbers are not used again.
pub(crate) fn thread() -> u64 {
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
    fn serve(
        &mut self,
        name: &str,
        arguments: impl Display,
        serve: impl FnOnce(&mut Self) -> Result<(), Code>,
    ) -> Code {
        const BEFORE_INIT: [&str; 4] = ["cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString"];
        let result = match self.log.begin(name, arguments) {
            Some(code) => Err(code),
            None if !self.initialised && !BEFORE_INIT.contains(&name) => Err(NOT_INITIALIZED),
            None => serve(self),
        };
        let code = result.err().unwrap_or(SUCCESS);
        self.log.end(code);
        code
    }

    pub(crate) fn set_count(&mut self, count: usize) {
        self.count = count;
        while self.devices.len() < count {
            let legacy = self.queues.add(self.devices.len(), Kind::Legacy);
            self.devices.push(Device { retained: 0, legacy, per_thread: HashMap::new() });
            self.memory.add_device();
        }
    }

    /// Records a fault, for which the call gives this code.
    pub(crate) fn fault(&mut self, code: Code, text: impl Display) -> Code {
        self.log.fault(text);
        code
    }

    /// This thread's contexts, the current one last.
    pub(crate) fn stack(&mut self) -> &mut Vec<usize> {
        self.stacks.entry(thread()).or_default()
    }

    /// Queues work of the call that is being served.
    pub(crate) fn push(&mut self, queue: usize, after: Option<Point>, work: Work) -> Point {
        self.queues.push(queue, self.log.line(), after, work)
    }

    /// Runs everything up to a point, and what that waits for.
    pub(crate) fn finish(&mut self, point: Point) {
        let mut path = vec![point];
        while let Some(&point) = path.last() {
            if self.queues.is_past(point) {
                path.pop();
            } else if let Some(earlier) = self.queues.wait_before(point) {
                path.push(earlier);
            } else if let Some(operation) = self.queues.take(point)
                && let Err(fault) = operation.work.run(operation.device, &mut self.memory)
            {
                self.log.fault_of(&operation.line, fault);
            }
        }
    }
}
