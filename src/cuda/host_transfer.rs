//! Copies between host memory and packed memory of a device, over the bus.
//!
//! If the host memory is page-locked and has the layout of the packed memory, the device reads or
//! writes it directly, and may continue after the call returns. Otherwise the elements go chunk by
//! chunk through a pair of bounce buffers, 0 and 1 (`put 0`: a copy to buffer 0 is put on the
//! stream):
//!
//! ```text
//! upload     host   pack 0   pack 1   wait 0, pack 0   wait 1, pack 1   ...
//!            device          copy 0   copy 1           copy 0           ...
//!
//! download   host   put 0    put 1, wait 0, unpack 0   put 0, wait 1, unpack 1   ...
//!            device          copy 0                    copy 1                    ...
//! ```

use super::bounce_buffers::{BOUNCE_BUFFER_BYTES, BounceBuffer, with_bounce_buffers};
use super::chunks::{Chunk, for_each_chunk};
use super::driver::address;
use super::elements::{Elements, have_equal_offsets};
use super::memory;
use super::stream::Stream;
use crate::Result;
use crate::copy::{self, Memory, Strided};

/// Copies elements on the host, each to its index in `target`, which has the same shape.
///
/// # Safety
/// * Both are host memory: every element of `source` may be read and every element of `target`
///   written until the call returns.
/// * No byte of `target` belongs to two of its elements, or to an element of `source`.
pub(super) unsafe fn copy_on_host(
    source: Elements<'_>,
    target: Elements<'_>,
    itemsize: usize,
    memory: Memory,
) {
    let from = Strided { data: source.data.cast_const(), layout: source.layout };
    let to = Strided { data: target.data, layout: target.layout };
    // SAFETY: the caller guarantees all that `strided` requires.
    unsafe { copy::strided(from, to, itemsize, memory) };
}

/// A copy between the host and a device, in one direction or the other.
pub(super) struct HostTransfer<'a> {
    pub(super) host: Elements<'a>,
    /// Memory of the stream's device, with a dense layout of the shape of `host`.
    pub(super) packed: Elements<'a>,
    /// Size of one element in bytes.
    pub(super) itemsize: usize,
    pub(super) stream: &'a Stream,
}

impl HostTransfer<'_> {
    fn bytes(&self) -> usize {
        self.packed.layout.len() * self.itemsize
    }

    /// Whether the device can copy all bytes by itself, from or to the host's memory.
    fn is_direct(&self) -> bool {
        have_equal_offsets(self.host.layout, self.packed.layout)
            && memory::is_pinned(self.host.data, self.bytes())
    }

    /// Copies to the device. Returns whether the device still reads the host's memory afterwards.
    ///
    /// # Safety
    /// * The elements on the host may be read until the call returns, or, if it returns true, until
    ///   the work that was put on the stream is done.
    /// * The packed memory may be written in the order of the stream.
    pub(super) unsafe fn upload(&self) -> Result<bool> {
        let Self { host, packed, stream, .. } = *self;
        if self.is_direct() {
            let driver = stream.context.driver;
            let (target, source) = (address(packed.data), host.data.cast_const().cast());
            let _entered = stream.context.enter()?;
            // SAFETY: both layouts are the same and dense, so that these are the bytes of the
            // elements. The caller lets the device read and write them in the order of the stream.
            unsafe { driver.copy_to_device(target, source, self.bytes(), stream.raw()) }?;
            return Ok(true);
        }
        with_bounce_buffers(stream, |buffers| {
            let mut turns = buffers.iter().cycle();
            for_each_chunk(host.layout, packed.layout, self.chunk_len(), |chunk| {
                let Some(buffer) = turns.next() else { unreachable!("a cycle does not end") };
                // SAFETY: the caller guarantees it for all elements, and a chunk is a part of them.
                unsafe { self.upload_chunk(&chunk, buffer) }
            })
        })?;
        Ok(false)
    }

    /// # Safety
    /// * As for [`upload`](Self::upload), for the elements of `chunk`.
    unsafe fn upload_chunk(&self, chunk: &Chunk, buffer: &BounceBuffer) -> Result<()> {
        let Self { itemsize, stream, .. } = *self;
        // The device may still be reading the chunk before the last one from this buffer.
        buffer.wait()?;
        let target = Elements { data: buffer.as_ptr(), layout: &chunk.packed };
        // SAFETY: the caller lets the elements on the host be read. The buffer has room for a
        // chunk, and the device is done with it.
        unsafe { copy_on_host(self.host_part(chunk), target, itemsize, Memory::Used) };
        let bytes = chunk.len * itemsize;
        let (target, source) = (address(self.packed_part(chunk)), buffer.as_ptr().cast());
        let _entered = stream.context.enter()?;
        // SAFETY: a chunk is contiguous in packed memory, which the caller lets the stream write.
        // The buffer is not written before `wait`, which the event below makes wait for this copy.
        unsafe { stream.context.driver.copy_to_device(target, source, bytes, stream.raw()) }?;
        buffer.record_use(stream)
    }

    /// Copies to the host. Returns whether the device still writes the host's memory afterwards.
    ///
    /// # Safety
    /// * The elements on the host may be written, and no byte belongs to two of them: until the
    ///   call returns, or, if it returns true, until the work that was put on the stream is done.
    /// * The packed memory may be read in the order of the stream.
    pub(super) unsafe fn download(&self, memory: Memory) -> Result<bool> {
        let Self { host, packed, stream, .. } = *self;
        if self.is_direct() {
            let driver = stream.context.driver;
            let (target, source) = (host.data.cast(), address(packed.data));
            let _entered = stream.context.enter()?;
            // SAFETY: both layouts are the same and dense, so that these are the bytes of the
            // elements. The caller lets the device read and write them in the order of the stream.
            unsafe { driver.copy_to_host(target, source, self.bytes(), stream.raw()) }?;
            return Ok(true);
        }
        // SAFETY: the caller lets the host's elements be written and the packed ones be read.
        unsafe { self.download_through_buffers(memory) }?;
        Ok(false)
    }

    /// Copies to the host through bounce buffers: all elements are there when the call returns.
    ///
    /// # Safety
    /// * As for [`download`](Self::download), if that returns false.
    pub(super) unsafe fn download_through_buffers(&self, memory: Memory) -> Result<()> {
        let Self { host, packed, stream, .. } = *self;
        with_bounce_buffers(stream, |buffers| {
            let mut turns = buffers.iter().cycle();
            // The chunk that the device is copying to a buffer, or has copied.
            let mut pending = None;
            for_each_chunk(host.layout, packed.layout, self.chunk_len(), |chunk| {
                let Some(buffer) = turns.next() else { unreachable!("a cycle does not end") };
                // SAFETY: the caller lets all packed elements be read. The host unpacked the last
                // chunk of this buffer one turn ago.
                unsafe { self.download_chunk(&chunk, buffer) }?;
                match pending.replace((chunk, buffer)) {
                    // SAFETY: the caller lets all elements on the host be written; `download_chunk`
                    // put this chunk into `buffer` one turn ago.
                    Some((chunk, buffer)) => unsafe { self.unpack_on_host(&chunk, buffer, memory) },
                    None => Ok(()),
                }
            })?;
            match pending {
                // SAFETY: the caller lets all elements on the host be written; `download_chunk` put
                // this chunk, the last one, into `buffer`.
                Some((chunk, buffer)) => unsafe { self.unpack_on_host(&chunk, buffer, memory) },
                None => Ok(()),
            }
        })
    }

    /// Puts the copy of a chunk to a buffer on the stream.
    ///
    /// # Safety
    /// * As for [`download`](Self::download), for the elements of `chunk`; the host has copied what
    ///   was in the buffer.
    unsafe fn download_chunk(&self, chunk: &Chunk, buffer: &BounceBuffer) -> Result<()> {
        let Self { itemsize, stream, .. } = *self;
        buffer.wait()?;
        let (target, source) = (buffer.as_ptr().cast(), address(self.packed_part(chunk)));
        let bytes = chunk.len * itemsize;
        // Entered for this call only: the host copies of other chunks may run other code on this
        // thread.
        let entered = stream.context.enter()?;
        // SAFETY: a chunk is contiguous in packed memory, which the caller lets the stream read.
        // The buffer has room for it, and neither the host nor the device uses it.
        unsafe { stream.context.driver.copy_to_host(target, source, bytes, stream.raw()) }?;
        drop(entered);
        buffer.record_use(stream)
    }

    /// Waits until a chunk is in its buffer, and copies it from there.
    ///
    /// # Safety
    /// * As for [`download`](Self::download), for the elements of `chunk`, which
    ///   [`download_chunk`](Self::download_chunk) put into `buffer`.
    unsafe fn unpack_on_host(
        &self,
        chunk: &Chunk,
        buffer: &BounceBuffer,
        memory: Memory,
    ) -> Result<()> {
        buffer.wait()?;
        let source = Elements { data: buffer.as_ptr(), layout: &chunk.packed };
        // SAFETY: the device has written the chunk to the buffer, and is done with it; the caller
        // lets the elements on the host be written.
        unsafe { copy_on_host(source, self.host_part(chunk), self.itemsize, memory) };
        Ok(())
    }

    /// The number of elements that fit a bounce buffer.
    fn chunk_len(&self) -> usize {
        BOUNCE_BUFFER_BYTES / self.itemsize
    }

    /// The elements of a chunk on the host.
    fn host_part<'a>(&self, chunk: &'a Chunk) -> Elements<'a> {
        let offset = chunk.host_offset * self.itemsize as isize;
        Elements { data: self.host.data.wrapping_offset(offset), layout: &chunk.host }
    }

    /// Where a chunk begins in packed memory.
    fn packed_part(&self, chunk: &Chunk) -> *mut u8 {
        self.packed.data.wrapping_add(chunk.packed_offset * self.itemsize)
    }
}
