//! Device memory and page-locked memory.
//!
//! A device's addresses lie in a reserved range that host code cannot touch. The bytes of the
//! memory at those addresses are elsewhere, in the allocation's `backing`.

use std::collections::BTreeMap;
use std::ptr;

use crate::error::{Code, INVALID_VALUE, OUT_OF_MEMORY};

/// How many bytes of addresses a device has.
const REGION_BYTES: u64 = 1 << 38;
/// How many bytes of memory a device has, and the host for page-locked memory.
const CAPACITY_BYTES: usize = 1 << 30;
const ALIGNMENT_BYTES: u64 = 512;
const PAGE_BYTES: usize = 4096;

/// The value of every byte of new memory.
const NEW: u8 = 0xCD;
/// The value that tests see in freed memory.
const FREED: u8 = 0xDD;
/// The value of every byte of the margins.
const CANARY: u8 = 0xCA;
/// How many bytes lie before and behind the memory, to detect that they are overwritten.
const MARGIN_BYTES: usize = 256;

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// The operation that allocates it is still queued.
    Queued,
    Live,
    Freed,
}

struct Allocation {
    device: usize,
    size: usize,
    state: State,
    /// The memory between two margins, as 16-byte elements, so that all units of the kernels are
    /// aligned. Empty after the memory is freed.
    backing: Vec<u128>,
}

struct Pinned {
    device: usize,
    size: usize,
    freed: bool,
}

#[derive(Default)]
struct Region {
    start: u64,
    next: u64,
    used: usize,
}

#[derive(Default)]
pub(crate) struct Memory {
    regions: Vec<Region>,
    allocations: BTreeMap<u64, Allocation>,
    pinned: BTreeMap<usize, Pinned>,
}

/// The memory that an address is in.
#[derive(Clone, Copy)]
pub(crate) enum Location {
    /// Memory of a device.
    Device(usize),
    /// Page-locked memory that was made in a device's context.
    Pinned(usize),
}

/// How host memory is mapped.
#[derive(PartialEq)]
pub(crate) enum HostMemory {
    Pinned,
    Pageable,
}

impl Memory {
    /// Adds a device: reserves addresses for it.
    pub(crate) fn add_device(&mut self) {
        let start = reserve(REGION_BYTES as usize).expect("addresses for a device") as u64;
        self.regions.push(Region { start, next: start, used: 0 });
    }

    /// Finds an address for new memory, which may be used after [`make_live`](Self::make_live).
    pub(crate) fn allocate(&mut self, device: usize, size: usize) -> Result<u64, Code> {
        let region = &mut self.regions[device];
        if size == 0 {
            return Err(INVALID_VALUE);
        }
        // The addresses behind the memory stay unused.
        let end = region.next
            + (size as u64).min(REGION_BYTES).next_multiple_of(ALIGNMENT_BYTES)
            + ALIGNMENT_BYTES;
        if size > CAPACITY_BYTES - region.used || end > region.start + REGION_BYTES {
            return Err(OUT_OF_MEMORY);
        }
        let address = std::mem::replace(&mut region.next, end);
        region.used += size;
        let backing = vec![
            u128::from_ne_bytes([CANARY; 16]);
            (MARGIN_BYTES + size + MARGIN_BYTES).div_ceil(16)
        ];
        let mut allocation = Allocation { device, size, state: State::Queued, backing };
        allocation.bytes()[MARGIN_BYTES..MARGIN_BYTES + size].fill(NEW);
        self.allocations.insert(address, allocation);
        Ok(address)
    }

    /// Marks new memory as usable: its allocation has run.
    pub(crate) fn make_live(&mut self, address: u64) -> Result<(), String> {
        let allocation = self.allocations.get_mut(&address).ok_or("no such memory")?;
        allocation.state = State::Live;
        Ok(())
    }

    /// Checks that memory which is not freed starts at this address.
    pub(crate) fn can_free(&self, address: u64) -> Result<(), String> {
        match self.allocations.get(&address) {
            Some(allocation) if allocation.state == State::Freed => {
                Err(format!("{address:#x} was freed before"))
            }
            Some(_) => Ok(()),
            None => Err(format!("{address:#x} is not the start of device memory")),
        }
    }

    /// Frees memory of a device. An error says which rule was broken.
    pub(crate) fn free(&mut self, address: u64, device: usize) -> Result<(), String> {
        self.device_ptr(device, address, 1)?;
        let allocation = self.allocations.get_mut(&address).ok_or("no such memory")?;
        let intact = allocation.is_intact();
        allocation.state = State::Freed;
        allocation.backing = Vec::new();
        self.regions[device].used -= allocation.size;
        if intact { Ok(()) } else { Err(overrun(address)) }
    }

    /// The host's address of `size` bytes of a device's memory, all of them live.
    pub(crate) fn device_ptr(
        &mut self,
        device: usize,
        address: u64,
        size: usize,
    ) -> Result<*mut u8, String> {
        let Some((start, allocation)) = self.allocations.range_mut(..=address).next_back() else {
            return Err(format!("{address:#x} was never allocated"));
        };
        let offset = (address - start) as usize;
        match allocation.state {
            _ if offset >= allocation.size => Err(format!("{address:#x} is not in device memory")),
            _ if allocation.device != device => {
                Err(format!("{address:#x} is not of device {device}"))
            }
            _ if size > allocation.size - offset => Err(format!(
                "{size} bytes at {address:#x} exceed memory of {} bytes at {start:#x}",
                allocation.size
            )),
            State::Queued => Err(format!(
                "the allocation of {start:#x} has not run: nothing orders it before this"
            )),
            State::Freed => Err(format!("{start:#x} is freed")),
            State::Live => {
                Ok(allocation.backing.as_mut_ptr().cast::<u8>().wrapping_add(MARGIN_BYTES + offset))
            }
        }
    }

    /// How a range of host memory is mapped. Freed page-locked memory, NULL and a device's
    /// addresses are errors.
    pub(crate) fn host_memory(&self, address: usize, size: usize) -> Result<HostMemory, String> {
        if self.device_at(address as u64).is_some() {
            return Err(format!(
                "{address:#x} is an address of a device, where one of the host belongs"
            ));
        }
        if address == 0 && size > 0 {
            return Err("NULL, where an address of the host belongs".to_owned());
        }
        let end = address.saturating_add(size);
        match self.pinned.range(..end).next_back() {
            Some((&start, pinned)) if start + pinned.size > address => {
                if pinned.freed {
                    Err(format!("the page-locked memory at {start:#x} is freed"))
                } else if address < start || end > start + pinned.size {
                    Err(format!(
                        "{size} bytes at {address:#x} exceed page-locked memory of {} bytes",
                        pinned.size
                    ))
                } else {
                    Ok(HostMemory::Pinned)
                }
            }
            _ => Ok(HostMemory::Pageable),
        }
    }

    /// Makes page-locked memory. The page behind it cannot be touched.
    pub(crate) fn allocate_pinned(&mut self, device: usize, size: usize) -> Result<usize, Code> {
        if size == 0 {
            return Err(INVALID_VALUE);
        }
        if size > CAPACITY_BYTES {
            return Err(OUT_OF_MEMORY);
        }
        let address =
            reserve(size.next_multiple_of(PAGE_BYTES) + PAGE_BYTES).ok_or(OUT_OF_MEMORY)?;
        let start = ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: `reserve` mapped this range just now, and nothing else knows of it.
        if unsafe { libc::mprotect(start.cast(), size, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(OUT_OF_MEMORY);
        }
        // SAFETY: `mprotect` made `size` bytes of the range writable.
        unsafe { start.write_bytes(NEW, size) };
        self.pinned.insert(address, Pinned { device, size, freed: false });
        Ok(address)
    }

    /// How many bytes of page-locked memory start at this address.
    pub(crate) fn pinned_size(&self, address: usize) -> Option<usize> {
        self.pinned.get(&address).filter(|pinned| !pinned.freed).map(|pinned| pinned.size)
    }

    /// Frees page-locked memory. Its addresses stay reserved.
    pub(crate) fn free_pinned(&mut self, address: usize) {
        let Some(pinned) = self.pinned.get_mut(&address) else { return };
        pinned.freed = true;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let start = ptr::with_exposed_provenance_mut(address);
        // SAFETY: `allocate_pinned` mapped this range, and its user called `cuMemFreeHost` for it.
        unsafe { libc::mmap(start, pinned.size, libc::PROT_NONE, flags, -1, 0) };
    }

    /// The memory that an address is in, if it is device memory or page-locked memory that is not
    /// freed.
    pub(crate) fn location(&self, address: u64) -> Option<Location> {
        let device = self.allocations.range(..=address).next_back();
        let device = device.filter(|(start, found)| {
            found.state != State::Freed && address - *start < found.size as u64
        });
        let pinned = self.pinned.range(..=address as usize).next_back();
        let pinned =
            pinned.filter(|(start, found)| !found.freed && address as usize - *start < found.size);
        let device = device.map(|(_, found)| Location::Device(found.device));
        device.or_else(|| pinned.map(|(_, found)| Location::Pinned(found.device)))
    }

    /// The device whose addresses have this one among them, with or without memory there.
    pub(crate) fn device_at(&self, address: u64) -> Option<usize> {
        self.regions.iter().position(|region| {
            address.checked_sub(region.start).is_some_and(|offset| offset < REGION_BYTES)
        })
    }

    /// The bytes of device memory now, freed or not; `None` where there never was any.
    pub(crate) fn peek(&mut self, address: u64, size: usize) -> Option<Vec<u8>> {
        let (start, allocation) = self.allocations.range_mut(..=address).next_back()?;
        let offset = (address - start) as usize;
        let end = offset.checked_add(size).filter(|&end| end <= allocation.size)?;
        Some(match allocation.state {
            State::Freed => vec![FREED; size],
            State::Queued | State::Live => {
                allocation.bytes()[MARGIN_BYTES + offset..MARGIN_BYTES + end].to_vec()
            }
        })
    }

    /// A fault for each live allocation whose margins were overwritten.
    pub(crate) fn overruns(&mut self) -> Vec<String> {
        let broken = self
            .allocations
            .iter_mut()
            .filter_map(|(start, found)| (!found.is_intact()).then_some(start));
        broken.map(|&start| overrun(start)).collect()
    }

    pub(crate) fn live_allocations(&self) -> usize {
        self.allocations.values().filter(|found| found.state != State::Freed).count()
    }

    pub(crate) fn live_pinned(&self) -> usize {
        self.pinned.values().filter(|found| !found.freed).count()
    }
}

impl Allocation {
    fn bytes(&mut self) -> &mut [u8] {
        let (start, size) = (self.backing.as_mut_ptr(), self.backing.len() * 16);
        // SAFETY: `start` and `size` are those of the vector's initialised elements, which stay
        // borrowed as long as the slice; every value of a byte is valid.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), size) }
    }

    fn is_intact(&mut self) -> bool {
        let size = self.size;
        let bytes = self.bytes();
        let behind = bytes.get(MARGIN_BYTES + size..).unwrap_or_default();
        bytes.iter().take(MARGIN_BYTES).chain(behind).all(|&byte| byte == CANARY)
    }
}

fn overrun(address: u64) -> String {
    format!("a kernel wrote outside the memory at {address:#x}")
}

/// Reserves addresses that no code can read or write.
fn reserve(size: usize) -> Option<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: without `MAP_FIXED` the kernel chooses addresses that are not in use.
    let start = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
    (start != libc::MAP_FAILED).then(|| start.expose_provenance())
}
