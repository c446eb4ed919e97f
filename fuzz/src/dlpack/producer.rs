//! DLPack structs made from a description, which count the calls of their deleters.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut, without_provenance_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlbridge::ffi::{
    DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor,
};
use dlbridge::{Exported, Imported, ManagedStruct, Rejected, Tensor};

use super::description::{Data, Description, Numbers};
use crate::memory::{Block, Fill};

/// A struct and everything behind it. Its deleter frees all of it.
pub(crate) struct Product<M> {
    managed: M,
    numbers: [Vec<i64>; 2],
    /// The elements.
    block: Block,
    deleted: Arc<AtomicUsize>,
}

/// The harness's view of a struct that it gave away.
pub(crate) struct Given<M> {
    pub(crate) source: NonNull<M>,
    /// The first element, if there is memory.
    pub(crate) first: *mut c_void,
    /// The bytes from the lowest element to the highest.
    pub(crate) bytes: Vec<u8>,
    /// Position of the first element among them.
    pub(crate) position: usize,
    deleted: Arc<AtomicUsize>,
    has_deleter: bool,
}

impl<M: Kind> Given<M> {
    /// Makes the struct.
    pub(crate) fn new(description: &Description) -> Self {
        let (low, end) = description.byte_extent().unwrap_or((0, 0));
        let (position, bytes) = match description.data {
            Data::Allocated if end - low <= 1 << 16 => {
                (low.unsigned_abs() as usize, (end - low) as usize)
            }
            _ => (0, 0),
        };
        let is_bool = description.dtype.code == 6 && description.flags & 8 == 0;
        let block = Block::new(bytes, if is_bool { Fill::Bools } else { Fill::Pattern });
        let first = match description.data {
            Data::Allocated => block.at(position),
            Data::Null => null_mut(),
            Data::Address(address) => without_provenance_mut(address),
        };
        // One number more than needed: a misaligned address is followed by as many bytes.
        let mut numbers = [&description.grid.shape, &description.grid.strides]
            .map(|numbers| numbers.iter().copied().chain([0]).collect::<Vec<i64>>());
        let offset = description.byte_offset as usize;
        let mut tensor = DLTensor {
            data: match description.data {
                Data::Allocated => first.wrapping_byte_sub(offset),
                _ => first,
            },
            device: DLDevice {
                device_type: description.device.device_type.cast_unsigned(),
                device_id: description.device.index,
            },
            ndim: description.ndim,
            dtype: DLDataType {
                code: description.dtype.code,
                bits: description.dtype.bits,
                lanes: description.dtype.lanes,
            },
            shape: address(&mut numbers[0], description.shape),
            strides: address(&mut numbers[1], description.strides),
            byte_offset: description.byte_offset,
        };
        if M::VERSIONED && description.version.0 != 1 {
            // Of another major version nothing is read beyond the deleter: reading this crashes.
            let nowhere = without_provenance_mut(8);
            (tensor.ndim, tensor.shape, tensor.strides) = (i32::MAX, nowhere, nowhere);
        }
        let deleted = Arc::new(AtomicUsize::new(0));
        let managed = M::make(tensor, description);
        let (bytes, copy) = (block.bytes()[..bytes].to_vec(), Arc::clone(&deleted));
        let product = Box::new(Product { managed, numbers, block, deleted: copy });
        let product = NonNull::from(Box::leak(product));
        // SAFETY: the product was made just above.
        let source = unsafe { &raw mut (*product.as_ptr()).managed };
        let source = NonNull::new(source).expect("a field has an address");
        // SAFETY: `source` is the struct in the product that was made above.
        unsafe { M::set_product(source, product.as_ptr().cast()) };
        let has_deleter = description.has_deleter;
        Self { source, first, bytes, position, deleted, has_deleter }
    }

    /// How often the deleter was called.
    pub(crate) fn deletions(&self) -> usize {
        self.deleted.load(Ordering::SeqCst)
    }

    /// Counts the calls of the deleter.
    pub(crate) fn counter(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.deleted)
    }

    /// Frees a struct that the harness still owns.
    ///
    /// # Safety
    /// * Nothing else has the struct.
    pub(crate) unsafe fn release(self) {
        // SAFETY: the caller guarantees that no other code has the struct.
        unsafe { free(self.source) };
    }

    pub(crate) fn has_deleter(&self) -> bool {
        self.has_deleter
    }

    /// Checks that the deleter was called once. A struct without one is freed here.
    pub(crate) fn close(self) {
        if !self.has_deleter {
            assert_eq!(self.deletions(), 0, "a deleter that does not exist was called");
            // SAFETY: the library holds the struct no more, and there is no deleter.
            unsafe { free(self.source) };
        }
        assert_eq!(self.deletions(), 1, "the deleter was not called once");
    }
}

fn address(numbers: &mut [i64], given: Numbers) -> *mut i64 {
    match given {
        Numbers::There => numbers.as_mut_ptr(),
        Numbers::Null => null_mut(),
        Numbers::Misaligned => numbers.as_mut_ptr().wrapping_byte_add(1),
    }
}

/// # Safety
/// * `source` is the struct of a product that is not used afterwards.
unsafe fn free<M: Kind>(source: NonNull<M>) {
    // SAFETY: `Given::new` put the product's address there.
    let product = unsafe { M::product_of(source) }.cast::<Product<M>>();
    // SAFETY: the product is a box that the caller gives up.
    let Product { managed, numbers, block, deleted } = *unsafe { Box::from_raw(product) };
    deleted.fetch_add(1, Ordering::SeqCst);
    drop((managed, numbers, block));
}

unsafe extern "C" fn delete<M: Kind>(source: *mut M) {
    if let Some(source) = NonNull::new(source) {
        // SAFETY: a deleter is called once, with the struct that it stands in.
        unsafe { free(source) };
    }
}

/// A struct of DLPack: made, imported and exported in the same way.
pub(crate) trait Kind: ManagedStruct {
    const VERSIONED: bool;

    fn make(tensor: DLTensor, description: &Description) -> Self;

    /// # Safety
    /// * As for [`Tensor::from_dlpack`].
    unsafe fn import(source: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>>;

    /// What the deleter finds the product by.
    ///
    /// # Safety
    /// * `source` points to a struct of this harness.
    unsafe fn product_of(source: NonNull<Self>) -> *mut c_void;

    /// # Safety
    /// * As for `product_of`.
    unsafe fn set_product(source: NonNull<Self>, context: *mut c_void);

    /// # Safety
    /// * `source` points to a struct.
    unsafe fn description_of(source: NonNull<Self>) -> *mut DLTensor;

    /// Consumes the struct at the least cost.
    ///
    /// # Safety
    /// * As for [`Tensor::from_dlpack`].
    unsafe fn import_managed(
        source: NonNull<Self>,
    ) -> Result<Imported<Self>, Rejected<Exported<Self>>> {
        // SAFETY: the caller guarantees what `Tensor::from_dlpack` requires.
        unsafe { Imported::new(source) }
    }
}

impl Kind for DLManagedTensorVersioned {
    const VERSIONED: bool = true;

    fn make(dl_tensor: DLTensor, description: &Description) -> Self {
        let (major, minor) = description.version;
        Self {
            version: DLPackVersion { major, minor },
            manager_ctx: null_mut(),
            deleter: description.has_deleter.then_some(delete::<Self>),
            flags: description.flags,
            dl_tensor,
        }
    }

    unsafe fn import(source: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>> {
        // SAFETY: the caller guarantees what `Tensor::from_dlpack` requires.
        unsafe { Tensor::from_dlpack(source) }
    }

    unsafe fn product_of(source: NonNull<Self>) -> *mut c_void {
        // SAFETY: the caller guarantees a valid struct.
        unsafe { (*source.as_ptr()).manager_ctx }
    }

    unsafe fn set_product(source: NonNull<Self>, context: *mut c_void) {
        // SAFETY: the caller guarantees a valid struct.
        unsafe { (*source.as_ptr()).manager_ctx = context };
    }

    unsafe fn description_of(source: NonNull<Self>) -> *mut DLTensor {
        // SAFETY: the caller guarantees a valid struct.
        unsafe { &raw mut (*source.as_ptr()).dl_tensor }
    }
}

impl Kind for DLManagedTensor {
    const VERSIONED: bool = false;

    fn make(dl_tensor: DLTensor, description: &Description) -> Self {
        let deleter: Option<unsafe extern "C" fn(*mut Self)> =
            description.has_deleter.then_some(delete::<Self>);
        Self { dl_tensor, manager_ctx: null_mut(), deleter }
    }

    unsafe fn import(source: NonNull<Self>) -> Result<Tensor, Rejected<Exported<Self>>> {
        // SAFETY: the caller guarantees what `Tensor::from_dlpack_legacy` requires.
        unsafe { Tensor::from_dlpack_legacy(source) }
    }

    unsafe fn product_of(source: NonNull<Self>) -> *mut c_void {
        // SAFETY: the caller guarantees a valid struct.
        unsafe { (*source.as_ptr()).manager_ctx }
    }

    unsafe fn set_product(source: NonNull<Self>, context: *mut c_void) {
        // SAFETY: the caller guarantees a valid struct.
        unsafe { (*source.as_ptr()).manager_ctx = context };
    }

    unsafe fn description_of(source: NonNull<Self>) -> *mut DLTensor {
        // SAFETY: the caller guarantees a valid struct.
        unsafe { &raw mut (*source.as_ptr()).dl_tensor }
    }
}
