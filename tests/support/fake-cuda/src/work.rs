//! What queued operations do when they run.

use crate::kernel::Launch;
use crate::memory::Memory;

/// One end of a copy.
pub(crate) enum Endpoint {
    /// Memory of a device.
    Device { device: usize, address: u64 },
    /// Page-locked memory.
    Pinned(usize),
    /// Other memory of the host, which is read or written before the call returns.
    Pageable(usize),
    /// The bytes that pageable memory held at the call.
    Captured(Vec<u8>),
}

pub(crate) enum Work {
    /// An event's mark, or a wait for another queue.
    Nothing,
    Allocate(u64),
    Free(u64),
    Memcpy {
        from: Endpoint,
        to: Endpoint,
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
    /// Runs on a device. An error says which rule that would break; nothing was touched then.
    pub(crate) fn run(mut self, device: usize, memory: &mut Memory) -> Result<(), String> {
        match &mut self {
            Self::Nothing => Ok(()),
            Self::Allocate(address) => memory.make_live(*address),
            Self::Free(address) => memory.free(*address, device),
            Self::Memcpy { from, to, bytes } => {
                let (from, to) = (from.find(*bytes, memory)?, to.find(*bytes, memory)?);
                // SAFETY: `find` checked that device memory and page-locked memory have `bytes`
                // bytes. Pageable memory is the argument of a call that waits for this copy, and
                // whose caller guarantees `bytes` bytes.
                unsafe { std::ptr::copy(from, to, *bytes) };
                Ok(())
            }
            Self::Fill { to, value, bytes } => {
                let to = memory.device_ptr(device, *to, *bytes)?;
                // SAFETY: `device_ptr` checked that the memory has `bytes` bytes.
                unsafe { to.write_bytes(*value, *bytes) };
                Ok(())
            }
            Self::Launch(launch) => launch.run(device, memory),
        }
    }

    /// Whether this is a copy or a fill of 0 bytes.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Memcpy { bytes: 0, .. } | Self::Fill { bytes: 0, .. })
    }

    /// Whether this touches page-locked memory in a range.
    pub(crate) fn touches_pinned(&self, start: usize, size: usize) -> bool {
        let Self::Memcpy { from, to, .. } = self else { return false };
        let is_inside = |address: &usize| (start..start + size).contains(address);
        [from, to]
            .into_iter()
            .any(|endpoint| matches!(endpoint, Endpoint::Pinned(address) if is_inside(address)))
    }
}

impl Endpoint {
    /// The address on the host of `bytes` bytes.
    fn find(&mut self, bytes: usize, memory: &mut Memory) -> Result<*mut u8, String> {
        match self {
            Self::Device { device, address } => memory.device_ptr(*device, *address, bytes),
            Self::Pinned(address) => {
                memory.host_memory(*address, bytes).map(|_| host_ptr(*address))
            }
            Self::Pageable(address) => Ok(host_ptr(*address)),
            Self::Captured(data) => Ok(data.as_mut_ptr()),
        }
    }
}

fn host_ptr(address: usize) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(address)
}
