//! The sizes of this machine's caches, from which the copy engine takes its thresholds.
//!
//! They come from the `CPUID` instruction on x86-64, and from the system's files on Linux on other
//! processors. A value that is missing or impossible (a hypervisor may hide caches) is replaced by
//! a default, so every size is usable without a check.
//!
//! ```text
//!   core 0: L1d, L2 ─┐
//!   core 1: L1d, L2 ─┼─ L3, shared by several cores
//!   core 2: L1d, L2 ─┘
//! ```

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Sizes of caches in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caches {
    /// The first level of one core, for data.
    pub(super) l1d: usize,
    /// The second level of one core.
    pub(super) l2: usize,
    /// The third level, which cores share. As large as the second where there is none.
    pub(super) l3: usize,
}

/// Sizes for machines that do not tell theirs: the smallest of the x86-64 servers and laptops of
/// the last years (AMD Zen 2 and 3: 32 KiB and 512 KiB; 8 MiB is the L3 of a laptop).
const DEFAULTS: Caches = Caches { l1d: 32 << 10, l2: 512 << 10, l3: 8 << 20 };

/// Sizes that exist.
const L1D_RANGE: RangeInclusive<usize> = 8 << 10..=1 << 20;
const L2_RANGE: RangeInclusive<usize> = 64 << 10..=64 << 20;
const L3_RANGE: RangeInclusive<usize> = 256 << 10..=4 << 30;

/// The caches of this machine. Their sizes are read once, or by several threads that ask for them
/// first.
///
/// No thread waits for another one: the child of a fork would wait without end for a thread of its
/// parent that was reading them.
#[inline]
pub(super) fn caches() -> Caches {
    /// 0 if not read yet. Relaxed: other memory does not depend on the sizes.
    static SIZES: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
    match SIZES.each_ref().map(|size| size.load(Ordering::Relaxed)) {
        [0, ..] | [_, 0, _] | [.., 0] => {}
        [l1d, l2, l3] => return Caches { l1d, l2, l3 },
    }
    let caches = Caches::from_list(machine::caches());
    for (size, bytes) in SIZES.iter().zip([caches.l1d, caches.l2, caches.l3]) {
        size.store(bytes, Ordering::Relaxed);
    }
    caches
}

/// What a processor or a system says of one cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cache {
    level: u32,
    /// Whether it is for instructions only.
    instructions: bool,
    bytes: usize,
}

impl Caches {
    /// The sizes in a list of caches.
    fn from_list(list: impl IntoIterator<Item = Cache>) -> Self {
        let mut found = [None; 3];
        for cache in list.into_iter().filter(|cache| !cache.instructions) {
            if let Some(level @ None) = found.get_mut(cache.level as usize - 1) {
                *level = Some(cache.bytes);
            }
        }
        let [l1d, l2, l3] = found;
        let possible = |size: Option<usize>, range: &RangeInclusive<usize>| {
            size.filter(|size| range.contains(size))
        };
        let l1d = possible(l1d, &L1D_RANGE).unwrap_or(DEFAULTS.l1d);
        // A second level tells that the list is right. If it has no third level, there is none.
        let (l2, without_l3) = match possible(l2, &L2_RANGE) {
            Some(l2) => (l2, l2),
            None => (DEFAULTS.l2, DEFAULTS.l3),
        };
        let l3 = possible(l3, &L3_RANGE).unwrap_or(without_l3);
        Self { l1d, l2, l3: l3.max(l2) }
    }
}

/// What `CPUID` answers to a leaf and a subleaf: `eax`, `ebx`, `ecx`, `edx`.
#[cfg(any(test, target_arch = "x86_64"))]
mod cpuid {
    use super::Cache;

    /// Leaf of Intel's processors that lists caches, one for each subleaf.
    const INTEL: u32 = 4;

    /// Leaf of AMD's processors that lists caches in the same form, and the bit of `ecx` in
    /// 0x8000_0001 that says that it exists.
    const AMD: u32 = 0x8000_001D;
    const AMD_BIT: u32 = 1 << 22;

    /// No processor has as many caches.
    const SUBLEAVES_MAX: u32 = 8;

    /// The caches of the processor that answers `cpuid`.
    pub(super) fn caches(cpuid: impl Fn(u32, u32) -> [u32; 4]) -> Vec<Cache> {
        let [leaf_max, ..] = cpuid(0, 0);
        let [extended_max, ..] = cpuid(0x8000_0000, 0);
        let is_amd = extended_max >= AMD && cpuid(0x8000_0001, 0)[2] & AMD_BIT != 0;
        let leaf = if is_amd { AMD } else { INTEL };
        if !is_amd && leaf_max < INTEL {
            return Vec::new();
        }
        (0..SUBLEAVES_MAX).map_while(|subleaf| cache(cpuid(leaf, subleaf))).collect()
    }

    /// The cache of a subleaf, `None` after the last one.
    fn cache([eax, ebx, ecx, _]: [u32; 4]) -> Option<Cache> {
        let (kind, level) = (eax & 0x1F, eax >> 5 & 7);
        let factor = |field: u32| field as usize + 1;
        let line = factor(ebx & 0xFFF);
        let (partitions, ways) = (factor(ebx >> 12 & 0x3FF), factor(ebx >> 22));
        let bytes = line.saturating_mul(partitions * ways).saturating_mul(factor(ecx));
        (kind != 0 && level != 0).then_some(Cache { level, instructions: kind == 2, bytes })
    }
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use std::arch::x86_64::__cpuid_count;

    use super::{Cache, cpuid};

    pub(super) fn caches() -> Vec<Cache> {
        cpuid::caches(|leaf, subleaf| {
            #[allow(unused_unsafe, reason = "the function is safe in later versions of Rust")]
            // SAFETY: every x86-64 processor has the instruction.
            let answer = unsafe { __cpuid_count(leaf, subleaf) };
            [answer.eax, answer.ebx, answer.ecx, answer.edx]
        })
    }
}

/// The files in which Linux describes caches.
#[cfg(any(test, all(target_os = "linux", not(target_arch = "x86_64"))))]
mod files {
    use super::Cache;

    /// No processor has as many caches.
    const FILES_MAX: usize = 8;

    /// The caches of the first core. `read` returns a file of `/sys/devices/system/cpu/cpu0/cache`.
    pub(super) fn caches(read: impl Fn(String) -> Option<String>) -> Vec<Cache> {
        (0..FILES_MAX)
            .map_while(|index| {
                let file = |name: &str| read(format!("index{index}/{name}"));
                Some(Cache {
                    level: file("level")?.trim().parse().ok().filter(|&level| level > 0)?,
                    instructions: file("type")?.trim() == "Instruction",
                    bytes: bytes(file("size")?.trim())?,
                })
            })
            .collect()
    }

    /// The number of bytes of a size such as `48K` or `32M`.
    fn bytes(size: &str) -> Option<usize> {
        let (number, shift) = match size.split_at_checked(size.len().checked_sub(1)?)? {
            (number, "K") => (number, 10),
            (number, "M") => (number, 20),
            _ => (size, 0),
        };
        number.parse::<usize>().ok()?.checked_mul(1 << shift)
    }
}

#[cfg(all(target_os = "linux", not(target_arch = "x86_64")))]
mod machine {
    use super::{Cache, files};

    pub(super) fn caches() -> Vec<Cache> {
        let folder = std::path::Path::new("/sys/devices/system/cpu/cpu0/cache");
        files::caches(|name| std::fs::read_to_string(folder.join(name)).ok())
    }
}

#[cfg(not(any(target_os = "linux", target_arch = "x86_64")))]
mod machine {
    use super::Cache;

    pub(super) fn caches() -> Vec<Cache> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    /// A processor that answers one leaf, and says which leaves it has.
    fn processor(leaf: u32, subleaves: &[[u32; 4]]) -> Caches {
        Caches::from_list(cpuid::caches(|asked, subleaf| match asked {
            0 => [if leaf == 4 { 0x20 } else { 0x10 }, 0, 0, 0],
            0x8000_0000 => [if leaf == 4 { 0x8000_0008 } else { 0x8000_0023 }, 0, 0, 0],
            0x8000_0001 => [0, 0, if leaf == 4 { 0x121 } else { 0x75C2_37FF }, 0],
            _ if asked == leaf => subleaves.get(subleaf as usize).copied().unwrap_or_default(),
            _ => [0; 4],
        }))
    }

    #[test]
    fn an_intel_xeon_lists_its_caches_in_leaf_4() {
        let caches = processor(
            4,
            &[
                [0x0400_0121, 0x02C0_003F, 0x3F, 0],
                [0x0400_0122, 0x03C0_003F, 0x3F, 0],
                [0x0400_0143, 0x03C0_003F, 0x7FF, 0],
                [0x0400_4163, 0x03C0_003F, 0x7_7FFF, 0],
            ],
        );
        assert_eq!(caches, Caches { l1d: 48 * KIB, l2: 2 * MIB, l3: 480 * MIB });
    }

    #[test]
    fn an_amd_epyc_lists_its_caches_in_an_extended_leaf() {
        let caches = processor(
            0x8000_001D,
            &[
                [0x0000_4121, 0x01C0_003F, 0x3F, 0],
                [0x0000_4122, 0x01C0_003F, 0x3F, 0],
                [0x0000_4143, 0x01C0_003F, 0x3FF, 2],
                [0x0003_C163, 0x03C0_003F, 0x7FFF, 1],
            ],
        );
        assert_eq!(caches, Caches { l1d: 32 * KIB, l2: 512 * KIB, l3: 32 * MIB });
    }

    #[test]
    fn linux_lists_caches_in_files() {
        let files = [["1", "Data", "64K"], ["1", "Instruction", "64K"], ["2", "Unified", "1024K"]];
        let list = files::caches(|name| {
            let (index, file) = name.strip_prefix("index")?.split_once('/')?;
            let column = ["level", "type", "size"].iter().position(|&column| column == file)?;
            Some(format!("{}\n", files.get(index.parse::<usize>().ok()?)?[column]))
        });
        assert_eq!(list.len(), 3);
        assert_eq!(
            Caches::from_list(list),
            Caches { l1d: 64 * KIB, l2: MIB, l3: MIB },
            "there is no third level"
        );
    }

    #[test]
    fn missing_and_impossible_sizes_are_replaced() {
        let cache = |level, bytes| Cache { level, instructions: false, bytes };
        assert_eq!(Caches::from_list([]), DEFAULTS);
        assert_eq!(Caches::from_list([cache(1, 0), cache(2, 64), cache(7, 1)]), DEFAULTS);
        let smaller_l3 = Caches::from_list([cache(2, 2 * MIB), cache(3, MIB)]);
        assert_eq!(smaller_l3, Caches { l2: 2 * MIB, l3: 2 * MIB, ..DEFAULTS });
    }

    #[test]
    fn this_machine_has_caches() {
        let Caches { l1d, l2, l3 } = caches();
        assert!(l1d <= l2 && l2 <= l3, "{:?}", caches());
    }
}
