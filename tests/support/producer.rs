//! A DLPack producer whose struct has whatever fields a test gives it, and which counts the calls
//! of its deleter.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlbridge::ffi::{
    DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor,
};

/// The fields of the struct. `Default` is a valid `f32` vector of three elements.
pub(crate) struct HostileProducer {
    pub(crate) version: (u32, u32),
    pub(crate) flags: u64,
    pub(crate) device: (u32, i32),
    pub(crate) dtype: (u8, u8, u16),
    pub(crate) shape: Option<Vec<i64>>,
    pub(crate) strides: Option<Vec<i64>>,
    pub(crate) ndim: Option<i32>,
    pub(crate) data: *mut c_void,
    pub(crate) byte_offset: u64,
}

pub(crate) static VALUES: [f32; 16] =
    [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

impl Default for HostileProducer {
    fn default() -> Self {
        Self {
            version: (1, 3),
            flags: 0,
            device: (1, 0),
            dtype: (2, 32, 1),
            shape: Some(vec![3]),
            strides: Some(vec![1]),
            ndim: None,
            data: VALUES.as_ptr().cast_mut().cast(),
            byte_offset: 0,
        }
    }
}

/// How often a deleter was called.
#[derive(Clone)]
pub(crate) struct Deleted(Arc<AtomicUsize>);

impl Deleted {
    pub(crate) fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A struct and what it points to. The struct comes first, so that its address is that of the
/// allocation.
#[repr(C)]
struct Allocation<M> {
    managed: M,
    shape: Vec<i64>,
    strides: Vec<i64>,
    deleted: Deleted,
}

unsafe extern "C" fn delete<M>(managed: *mut M) {
    // SAFETY: `build` allocated the struct as the first field of an `Allocation`, and the deleter
    // is called once.
    let allocation = unsafe { Box::from_raw(managed.cast::<Allocation<M>>()) };
    allocation.deleted.0.fetch_add(1, Ordering::SeqCst);
}

impl HostileProducer {
    pub(crate) fn shaped(shape: &[i64], strides: &[i64]) -> Self {
        Self { shape: Some(shape.into()), strides: Some(strides.into()), ..Self::default() }
    }

    pub(crate) fn make(self) -> (NonNull<DLManagedTensorVersioned>, Deleted) {
        let (major, minor) = self.version;
        let flags = self.flags;
        self.build(|dl_tensor, manager_ctx| DLManagedTensorVersioned {
            version: DLPackVersion { major, minor },
            manager_ctx,
            deleter: Some(delete::<DLManagedTensorVersioned>),
            flags,
            dl_tensor,
        })
    }

    pub(crate) fn make_legacy(self) -> (NonNull<DLManagedTensor>, Deleted) {
        self.build(|dl_tensor, manager_ctx| DLManagedTensor {
            dl_tensor,
            manager_ctx,
            deleter: Some(delete::<DLManagedTensor>),
        })
    }

    fn build<M>(mut self, wrap: impl FnOnce(DLTensor, *mut c_void) -> M) -> (NonNull<M>, Deleted) {
        let deleted = Deleted(Arc::new(AtomicUsize::new(0)));
        let (has_shape, has_strides) = (self.shape.is_some(), self.strides.is_some());
        let mut shape = self.shape.take().unwrap_or_default();
        let mut strides = self.strides.take().unwrap_or_default();
        let (code, bits, lanes) = self.dtype;
        let tensor = DLTensor {
            data: self.data,
            device: DLDevice { device_type: self.device.0, device_id: self.device.1 },
            ndim: self.ndim.unwrap_or(shape.len() as i32),
            dtype: DLDataType { code, bits, lanes },
            shape: if has_shape { shape.as_mut_ptr() } else { null_mut() },
            strides: if has_strides { strides.as_mut_ptr() } else { null_mut() },
            byte_offset: self.byte_offset,
        };
        let managed = wrap(tensor, null_mut());
        let allocation = Box::new(Allocation { managed, shape, strides, deleted: deleted.clone() });
        let allocation = NonNull::new(Box::into_raw(allocation)).expect("a box has an address");
        (allocation.cast(), deleted)
    }
}
