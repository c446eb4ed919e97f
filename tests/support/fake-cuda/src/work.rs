//! What operations do when they run.

use crate::kernel::Launch;
use crate::memory::Memory;

/// One end of a copy.
pub(crate) enum Place {
    /// Memory of a device.
    Device { device: usize, address: u64 },
    /// Page-locked memory.
    Pinned(usize),
    /// Other memory of the host, which is touched before the call returns.
    Pageable(usize),
    /// What pageable memory held at the call.
    Captured(Vec<u8>),
}

pub(crate) enum Work {
    /// An event's mark, or a wait.
    Nothing,
    Allocate(u64),
    Free(u64),
    Copy {
        from: Place,
        to: Place,
        bytes: usize,
    },
    Fill {
        to: u64,
        value: u8,
        bytes: usize,
    },
    Launch(Box<Launch>),
}

impl Work {
    /// Does it on a device; or says why that breaks a rule, and has touched nothing.
    pub(crate) fn run(mut self, device: usize, memory: &mut Memory) -> Result<(), String> {
        match &mut self {
            Self::Nothing => Ok(()),
            Self::Allocate(address) => memory.begin(*address),
            Self::Free(address) => memory.free(*address, device),
            Self::Copy { from, to, bytes } => {
                let (from, to) = (from.find(*bytes, memory)?, to.find(*bytes, memory)?);
                // SAFETY: both ends were found to have that many bytes; pageable ones are the caller's,
                // who waits in the driver.
                unsafe { std::ptr::copy(from, to, *bytes) };
                Ok(())
            }
            Self::Fill { to, value, bytes } => {
                let to = memory.on_device(device, *to, *bytes)?;
                // SAFETY: memory of that many bytes.
                unsafe { to.write_bytes(*value, *bytes) };
                Ok(())
            }
            Self::Launch(launch) => launch.run(device, memory),
        }
    }

    /// Whether it touches page-locked memory in this range.
    pub(crate) fn touches_pinned(&self, start: usize, size: usize) -> bool {
        let Self::Copy { from, to, .. } = self else { return false };
        [from, to]
            .into_iter()
            .any(|place| matches!(place, Place::Pinned(at) if (start..start + size).contains(at)))
    }
}

impl Place {
    fn find(&mut self, bytes: usize, memory: &mut Memory) -> Result<*mut u8, String> {
        match self {
            Self::Device { device, address } => memory.on_device(*device, *address, bytes),
            Self::Pinned(address) => memory.on_host(*address, bytes).map(|_| at(*address)),
            Self::Pageable(address) => Ok(at(*address)),
            Self::Captured(data) => Ok(data.as_mut_ptr()),
        }
    }
}

fn at(address: usize) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(address)
}
