//! Memory: of the devices, and page-locked.
//!
//! A device's addresses lie in a reserved range that nobody may touch; what they stand for is elsewhere.

use std::collections::BTreeMap;
use std::ptr;

use crate::error::{Code, INVALID_VALUE, OUT_OF_MEMORY};

/// How many bytes of addresses a device has.
const REGION: u64 = 1 << 38;
/// How many bytes of memory a device has.
const CAPACITY: usize = 1 << 30;
const ALIGNMENT: u64 = 512;
const PAGE: usize = 4096;

const NEW: u8 = 0xCD;
const FREED: u8 = 0xDD;
const CANARY: u8 = 0xCA;
/// How much lies around the memory, to see whether it is overwritten.
const MARGIN: usize = 256;

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Its allocation is still queued.
    Promised,
    Live,
    Freed,
}

struct Allocation {
    device: usize,
    size: usize,
    state: State,
    /// The memory between two margins; in 16 bytes, so that all units of the kernels are aligned.
    /// Empty once it is freed.
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

/// Whose memory it is that is at an address.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Owner {
    /// Memory of a device.
    Device(usize),
    /// Page-locked memory, made with a device's context.
    Pinned(usize),
}

/// What host memory is.
#[derive(PartialEq)]
pub(crate) enum Host {
    Pinned,
    Pageable,
}

impl Memory {
    /// Gives another device its addresses.
    pub(crate) fn add_device(&mut self) {
        let start = reserve(REGION as usize).expect("addresses for a device") as u64;
        self.regions.push(Region { start, next: start, used: 0 });
    }

    /// Finds an address for new memory, which exists once [`begin`](Self::begin) is called for it.
    pub(crate) fn promise(&mut self, device: usize, size: usize) -> Result<u64, Code> {
        let region = &mut self.regions[device];
        if size == 0 {
            return Err(INVALID_VALUE);
        }
        // The addresses behind the memory stay unused.
        let end = region.next + (size as u64).min(REGION).next_multiple_of(ALIGNMENT) + ALIGNMENT;
        if size > CAPACITY - region.used || end > region.start + REGION {
            return Err(OUT_OF_MEMORY);
        }
        let address = std::mem::replace(&mut region.next, end);
        region.used += size;
        let backing = vec![u128::from_ne_bytes([CANARY; 16]); (MARGIN + size + MARGIN).div_ceil(16)];
        let mut allocation = Allocation { device, size, state: State::Promised, backing };
        allocation.bytes()[MARGIN..MARGIN + size].fill(NEW);
        self.allocations.insert(address, allocation);
        Ok(address)
    }

    /// The allocation has run.
    pub(crate) fn begin(&mut self, address: u64) -> Result<(), String> {
        let allocation = self.allocations.get_mut(&address).ok_or("no such memory")?;
        allocation.state = State::Live;
        Ok(())
    }

    /// Whether there is memory to free at just this address.
    pub(crate) fn can_free(&self, address: u64) -> Result<(), String> {
        match self.allocations.get(&address) {
            Some(allocation) if allocation.state == State::Freed => {
                Err(format!("{address:#x} was freed before"))
            }
            Some(_) => Ok(()),
            None => Err(format!("{address:#x} is not the start of device memory")),
        }
    }

    pub(crate) fn free(&mut self, address: u64, device: usize) -> Result<(), String> {
        self.on_device(device, address, 1)?;
        let allocation = self.allocations.get_mut(&address).ok_or("no such memory")?;
        let intact = allocation.is_intact();
        allocation.state = State::Freed;
        allocation.backing = Vec::new();
        self.regions[device].used -= allocation.size;
        if intact { Ok(()) } else { Err(overrun(address)) }
    }

    /// Where the bytes of a range of device memory are.
    pub(crate) fn on_device(&mut self, device: usize, address: u64, size: usize) -> Result<*mut u8, String> {
        let Some((start, allocation)) = self.allocations.range_mut(..=address).next_back() else {
            return Err(format!("{address:#x} was never allocated"));
        };
        let offset = (address - start) as usize;
        match allocation.state {
            _ if offset >= allocation.size => Err(format!("{address:#x} is not in device memory")),
            _ if allocation.device != device => Err(format!("{address:#x} is not of device {device}")),
            _ if size > allocation.size - offset => Err(format!(
                "{size} bytes at {address:#x} exceed memory of {} bytes at {start:#x}",
                allocation.size
            )),
            State::Promised => {
                Err(format!("the allocation of {start:#x} has not run: nothing orders it before this"))
            }
            State::Freed => Err(format!("{start:#x} is freed")),
            State::Live => Ok(allocation.backing.as_mut_ptr().cast::<u8>().wrapping_add(MARGIN + offset)),
        }
    }

    /// What a range of host memory is; refuses freed memory and such that is not the host's.
    pub(crate) fn on_host(&self, address: usize, size: usize) -> Result<Host, String> {
        if self.region_of(address as u64).is_some() {
            return Err(format!("{address:#x} is an address of a device, where one of the host belongs"));
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
                    Ok(Host::Pinned)
                }
            }
            _ => Ok(Host::Pageable),
        }
    }

    /// New page-locked memory, with addresses behind it that nobody may touch.
    pub(crate) fn pin(&mut self, device: usize, size: usize) -> Result<usize, Code> {
        if size == 0 {
            return Err(INVALID_VALUE);
        }
        if size > CAPACITY {
            return Err(OUT_OF_MEMORY);
        }
        let address = reserve(size.next_multiple_of(PAGE) + PAGE).ok_or(OUT_OF_MEMORY)?;
        let start = ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: the range was just reserved.
        if unsafe { libc::mprotect(start.cast(), size, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return Err(OUT_OF_MEMORY);
        }
        // SAFETY: the range may be written now.
        unsafe { start.write_bytes(NEW, size) };
        self.pinned.insert(address, Pinned { device, size, freed: false });
        Ok(address)
    }

    /// How much page-locked memory begins at this address.
    pub(crate) fn pinned_size(&self, address: usize) -> Option<usize> {
        self.pinned.get(&address).filter(|pinned| !pinned.freed).map(|pinned| pinned.size)
    }

    /// Gives page-locked memory back, but not its addresses.
    pub(crate) fn unpin(&mut self, address: usize) {
        let Some(pinned) = self.pinned.get_mut(&address) else { return };
        pinned.freed = true;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let start = ptr::with_exposed_provenance_mut(address);
        // SAFETY: replaces what `pin` mapped, which its user has freed.
        unsafe { libc::mmap(start, pinned.size, libc::PROT_NONE, flags, -1, 0) };
    }

    /// Whose memory it is, if it is of a device or page-locked, and not freed.
    pub(crate) fn owner(&self, address: u64) -> Option<Owner> {
        let device = self.allocations.range(..=address).next_back();
        let device = device
            .filter(|(start, found)| found.state != State::Freed && address - *start < found.size as u64);
        let pinned = self.pinned.range(..=address as usize).next_back();
        let pinned = pinned.filter(|(start, found)| !found.freed && address as usize - *start < found.size);
        let device = device.map(|(_, found)| Owner::Device(found.device));
        device.or_else(|| pinned.map(|(_, found)| Owner::Pinned(found.device)))
    }

    /// The device that has this address, whether there is memory or not.
    pub(crate) fn region_of(&self, address: u64) -> Option<usize> {
        self.regions
            .iter()
            .position(|region| address.checked_sub(region.start).is_some_and(|offset| offset < REGION))
    }

    /// What device memory holds now; `None` where there is none.
    pub(crate) fn peek(&mut self, address: u64, size: usize) -> Option<Vec<u8>> {
        let (start, allocation) = self.allocations.range_mut(..=address).next_back()?;
        let offset = (address - start) as usize;
        let end = offset.checked_add(size).filter(|&end| end <= allocation.size)?;
        Some(match allocation.state {
            State::Freed => vec![FREED; size],
            State::Promised | State::Live => allocation.bytes()[MARGIN + offset..MARGIN + end].to_vec(),
        })
    }

    /// The live memory around which something was overwritten.
    pub(crate) fn overruns(&mut self) -> Vec<String> {
        let broken =
            self.allocations.iter_mut().filter_map(|(start, found)| (!found.is_intact()).then_some(start));
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
        // SAFETY: the vector's own memory, borrowed with it; bytes have no invalid values.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), size) }
    }

    fn is_intact(&mut self) -> bool {
        let size = self.size;
        let bytes = self.bytes();
        let behind = bytes.get(MARGIN + size..).unwrap_or_default();
        bytes.iter().take(MARGIN).chain(behind).all(|&byte| byte == CANARY)
    }
}

fn overrun(address: u64) -> String {
    format!("a kernel wrote outside the memory at {address:#x}")
}

/// Reserves addresses that nobody may touch.
fn reserve(size: usize) -> Option<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: new addresses, wherever there are any.
    let start = unsafe { libc::mmap(ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
    (start != libc::MAP_FAILED).then(|| start.expose_provenance())
}
