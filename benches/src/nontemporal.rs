//! A copy with non-temporal stores: what a copy that bypasses the caches reaches.

/// Bytes of a cache line, which the stores fill in one go.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// Copies `source` to `target` with non-temporal stores on x86-64, and with memcpy on other
/// processors. Lines that `target` covers only in part are written with ordinary stores.
///
/// # Panics
/// If the lengths differ.
pub fn copy_nontemporal(source: &[u8], target: &mut [u8]) {
    assert_eq!(source.len(), target.len());
    #[cfg(target_arch = "x86_64")]
    {
        let head = target.as_ptr().align_offset(LINE_BYTES).min(target.len());
        let (source_head, source) = source.split_at(head);
        let (target_head, target) = target.split_at_mut(head);
        target_head.copy_from_slice(source_head);
        let (source_lines, source_tail) = source.as_chunks::<LINE_BYTES>();
        let (target_lines, target_tail) = target.as_chunks_mut::<LINE_BYTES>();
        for (from, to) in source_lines.iter().zip(target_lines) {
            store_line(from, to);
        }
        target_tail.copy_from_slice(source_tail);
        // SAFETY: every x86-64 processor has SSE.
        unsafe { std::arch::x86_64::_mm_sfence() };
    }
    #[cfg(not(target_arch = "x86_64"))]
    target.copy_from_slice(source);
}

/// Writes one line. `target` begins on a cache line.
#[cfg(target_arch = "x86_64")]
fn store_line(source: &[u8; LINE_BYTES], target: &mut [u8; LINE_BYTES]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    debug_assert!(target.as_ptr().addr().is_multiple_of(LINE_BYTES));
    let (from, to) = (source.as_ptr().cast::<__m128i>(), target.as_mut_ptr().cast::<__m128i>());
    for part in 0..LINE_BYTES / size_of::<__m128i>() {
        // SAFETY: the 16 bytes are part `part` of the four parts of `source`.
        let bytes = unsafe { _mm_loadu_si128(from.wrapping_add(part)) };
        // SAFETY: the 16 bytes are part `part` of the four parts of `target`, which begins on a
        // cache line, as `copy_nontemporal` made sure.
        unsafe { _mm_stream_si128(to.wrapping_add(part), bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::copy_nontemporal;

    #[test]
    fn every_byte_is_copied_at_every_alignment() {
        let source: Vec<u8> = (0..=255).cycle().skip(1).take(400).collect();
        for (begin, length) in (0..70).flat_map(|begin| [(begin, 0), (begin, 3), (begin, 300)]) {
            let mut target = vec![0_u8; 400];
            let end = begin + length;
            copy_nontemporal(&source[7..7 + length], &mut target[begin..end]);
            for (index, byte) in target.into_iter().enumerate() {
                let copied = (begin..end).contains(&index);
                let expected = if copied { (index - begin + 8) as u8 } else { 0 };
                assert_eq!(byte, expected, "{begin}, {length}, {index}");
            }
        }
    }
}
