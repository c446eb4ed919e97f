//! A DLPack producer that says whatever a test wants, and counts calls of its deleter.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test uses a part of it")]

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlbridge::ffi::{
    DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPackVersion, DLTensor,
};

/// What the producer says. `Default` is a valid `f32` vector of three elements.
pub struct HostileProducer {
    pub version: (u32, u32),
    pub flags: u64,
    pub device: (u32, i32),
    pub dtype: (u8, u8, u16),
    pub shape: Option<Vec<i64>>,
    pub strides: Option<Vec<i64>>,
    pub ndim: Option<i32>,
    pub data: *mut c_void,
    pub byte_offset: u64,
    pub deleter: bool,
}

pub static VALUES: [f32; 16] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

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
            deleter: true,
        }
    }
}

/// Counts calls of a deleter.
#[derive(Clone)]
pub struct Deleted(Arc<AtomicUsize>);

impl Deleted {
    pub fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// The struct first, so that its address is the block's.
#[repr(C)]
struct Made<M> {
    managed: M,
    shape: Vec<i64>,
    strides: Vec<i64>,
    deleted: Deleted,
}

unsafe extern "C" fn delete<M>(managed: *mut M) {
    // SAFETY: allocated by `make` as the first field of this block; called once, or the test fails.
    let made = unsafe { Box::from_raw(managed.cast::<Made<M>>()) };
    made.deleted.0.fetch_add(1, Ordering::SeqCst);
}

/// Frees a struct that has no deleter.
///
/// # Safety
/// * `managed` was made by a [`HostileProducer`] and is not used afterwards.
pub unsafe fn free<M>(managed: NonNull<M>) {
    // SAFETY: the caller's promise.
    unsafe { delete(managed.as_ptr()) };
}

impl HostileProducer {
    pub fn shaped(shape: &[i64], strides: &[i64]) -> Self {
        Self { shape: Some(shape.into()), strides: Some(strides.into()), ..Self::default() }
    }

    pub fn make(self) -> (NonNull<DLManagedTensorVersioned>, Deleted) {
        let (major, minor) = self.version;
        let (flags, deleter) = (self.flags, self.deleter);
        self.build(|dl_tensor, manager_ctx| DLManagedTensorVersioned {
            version: DLPackVersion { major, minor },
            manager_ctx,
            deleter: deleter.then_some(delete::<DLManagedTensorVersioned> as _),
            flags,
            dl_tensor,
        })
    }

    pub fn make_legacy(self) -> (NonNull<DLManagedTensor>, Deleted) {
        let deleter = self.deleter;
        self.build(|dl_tensor, manager_ctx| DLManagedTensor {
            dl_tensor,
            manager_ctx,
            deleter: deleter.then_some(delete::<DLManagedTensor> as _),
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
        let made = Box::new(Made { managed, shape, strides, deleted: deleted.clone() });
        let made = NonNull::new(Box::into_raw(made)).expect("a box has an address");
        (made.cast(), deleted)
    }
}
