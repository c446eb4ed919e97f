use super::*;
use pages::HUGE_PAGE_BYTES;

const SIZES: [usize; 7] =
    [0, 3, 1000, LARGE_MIN_BYTES - 1, LARGE_MIN_BYTES, LARGE_MIN_BYTES + 1, 5 << 20];

fn written(buffer: &Buffer, bytes: usize, value: u8) {
    // SAFETY: the buffer has `bytes` bytes, and no other code reaches them.
    unsafe { buffer.as_ptr().write_bytes(value, bytes) };
}

#[test]
#[cfg_attr(miri, ignore = "Miri ends where memory cannot be had")]
fn buffers_are_aligned_and_refuse_the_impossible() {
    for make in [Buffer::uninit, Buffer::zeroed] {
        for bytes in SIZES {
            let buffer = make(bytes).expect("a little memory");
            let is_large = buffer.block.bytes() >= LARGE_MIN_BYTES;
            let alignment = if is_large { HUGE_PAGE_BYTES } else { 256 };
            assert_eq!(buffer.as_ptr().addr() % alignment, 0, "{bytes}");
            written(&buffer, bytes, 1);
        }
        for bytes in [isize::MAX as usize, usize::MAX] {
            assert_eq!(make(bytes).err(), Some(Error::OutOfMemory { bytes }));
        }
    }
}

#[test]
fn blocks_are_hardly_larger_than_buffers() {
    for bytes in (0..20 << 20).step_by(99_991).chain(SIZES) {
        let size = Block::size_for(bytes);
        assert!(size >= bytes.max(1), "{bytes}: {size}");
        assert!(size <= bytes.max(1) + bytes / 8, "{bytes}: {size}");
    }
    assert_eq!(Block::size_for(31 << 20), 32 << 20);
    assert_eq!(Block::size_for(5 << 20), 5 << 20);
    assert_eq!(Block::size_for(usize::MAX), usize::MAX);
}

#[test]
fn zeros_are_zeros_in_used_memory_too() {
    for bytes in SIZES {
        let dirty = Buffer::uninit(bytes).expect("a little memory");
        written(&dirty, bytes, 0xff);
        drop(dirty);
        let buffer = Buffer::zeroed(bytes).expect("a little memory");
        // SAFETY: these bytes were allocated, and zeroed.
        let zeros = unsafe { std::slice::from_raw_parts(buffer.as_ptr(), bytes) };
        assert!(zeros.iter().all(|&byte| byte == 0));
    }
}
