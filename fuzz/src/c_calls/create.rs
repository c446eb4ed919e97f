//! New handles: memory of the harness's own, structs of another library, new memory.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use capi::dlpack::{dlb_tensor_from_dlpack, dlb_tensor_from_dlpack_legacy};
use capi::handle::dlb_tensor;
use capi::memory::{dlb_tensor_empty, dlb_tensor_from_memory};
use dlbridge::ffi::{DLDataType, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLTensor};

use super::call::new_object;
use super::{Handle, Object, READ_ONLY, World};
use crate::dlpack::description::{Data, Description, Verdict};
use crate::dlpack::producer::{Given, Kind};
use crate::elements::Grid;
use crate::handles::model::{DTYPES, Keeper, Memory, Place, State};
use crate::input::Input;
use crate::memory::{Block, Fill};

/// What `release` frees.
struct Owner {
    _block: Block,
    released: Arc<AtomicUsize>,
}

unsafe extern "C" fn release(owner: *mut c_void) {
    // SAFETY: `create_from_memory` gave the box for this one call.
    let owner = unsafe { Box::from_raw(owner.cast::<Owner>()) };
    owner.released.fetch_add(1, Ordering::SeqCst);
}

/// A small layout: row-major, or with any strides.
pub(super) fn grid(input: &mut Input<'_>) -> Grid {
    let rank = input.below(4);
    let mut grid = Grid::row_major((0..rank).map(|_| i64::from(input.byte() % 4)).collect());
    if input.flag() {
        grid.strides.iter_mut().for_each(|stride| *stride = i64::from(input.byte() % 8) - 3);
    }
    grid
}

/// A description of host memory, valid as long as the grid.
pub(super) fn describe(grid: &mut Grid, dtype: dlbridge::DType, data: *mut c_void) -> DLTensor {
    DLTensor {
        data,
        device: DLDevice { device_type: 1, device_id: 0 },
        ndim: grid.shape.len() as i32,
        dtype: DLDataType { code: dtype.code, bits: dtype.bits, lanes: dtype.lanes },
        shape: grid.shape.as_mut_ptr(),
        strides: grid.strides.as_mut_ptr(),
        byte_offset: 0,
    }
}

impl World {
    pub(super) fn create(&mut self, input: &mut Input<'_>) {
        match input.byte() % 4 {
            0 | 1 => self.create_from_memory(input),
            2 => self.create_empty(input),
            _ if input.seldom(4) => self.import::<DLManagedTensor>(input),
            _ => self.import::<DLManagedTensorVersioned>(input),
        }
    }

    fn create_from_memory(&mut self, input: &mut Input<'_>) {
        let (dtype, mut grid) = (input.one_of(&DTYPES), grid(input));
        let item = dtype.itemsize().expect("whole bytes");
        let (low, high) = grid.extent().unwrap_or((0, -1));
        let first = low.unsigned_abs() as usize * item;
        let block = Block::new((high - low + 1) as usize * item, Fill::Pattern);
        let base = block.at(0);
        let desc = describe(&mut grid, dtype, base.wrapping_byte_add(first));
        let flags = match input.byte() {
            byte @ 240.. => u64::from(byte) << (byte % 50),
            byte => u64::from(byte & 3),
        };
        let desc = if input.seldom(32) { None } else { Some(&desc) };
        let released = Arc::new(AtomicUsize::new(0));
        let mut memory = Memory::new(block.bytes().to_vec(), base.addr(), Keeper::Other);
        let read_only = flags & READ_ONLY != 0;
        memory.state = State::Aliased { writable: !read_only };
        let has_release = !input.seldom(8);
        let (owner, callback) = if has_release {
            let owner = Owner { _block: block, released: Arc::clone(&released) };
            memory.drops = Some(released);
            let callback: unsafe extern "C" fn(*mut c_void) = release;
            (Box::into_raw(Box::new(owner)).cast(), Some(callback))
        } else {
            memory.outside = Some(Box::new(block));
            (null_mut(), None)
        };
        let tensor = new_object(input, |out, error| {
            dlb_tensor_from_memory(desc, flags, owner, callback, out, error)
        });
        match tensor {
            Ok(tensor) => {
                assert!(desc.is_some() && flags & !7 == 0);
                let place = Place { memory: 0, grid, first, dtype, trusted: false };
                self.add_memory(
                    memory,
                    Handle { object: Object::Tensor(tensor), place, read_only },
                );
            }
            Err(_) if has_release => {
                // The caller still owns it.
                // SAFETY: the box that was made above.
                unsafe { release(owner) };
            }
            Err(_) => {}
        }
    }

    fn create_empty(&mut self, input: &mut Input<'_>) {
        let (dtype, mut grid) = (input.one_of(&DTYPES), grid(input));
        let mut desc = describe(&mut grid, dtype, null_mut());
        if input.seldom(16) {
            desc.device = DLDevice {
                device_type: u32::from(input.byte()),
                device_id: i32::from(input.byte()),
            };
        }
        let is_cpu = desc.device.device_type == 1 && desc.device.device_id == 0;
        let tensor = new_object(input, |out, error| dlb_tensor_empty(Some(&desc), out, error));
        if let Ok(tensor) = tensor {
            assert!(is_cpu && !grid.repeats(), "made {grid:?} on {:?}", desc.device);
            let (low, high) = grid.extent().unwrap_or((0, -1));
            let item = dtype.itemsize().expect("whole bytes");
            let bytes = vec![0; (high - low + 1) as usize * item];
            let first = low.unsigned_abs() as usize * item;
            // SAFETY: the handle was made just above.
            let view = capi::tensor::dlb_tensor_view(Some(unsafe { tensor.as_ref() }));
            let base = view.expect("not NULL").data.addr().wrapping_sub(first);
            let mut memory = Memory::new(bytes, base, Keeper::Other);
            memory.state = State::Aliased { writable: true };
            let place = Place { memory: 0, grid, first, dtype, trusted: false };
            let object = Object::Tensor(tensor);
            self.add_memory(memory, Handle { object, place, read_only: false });
        }
    }

    /// A struct with any fields. Its elements take part if the model can follow them.
    fn import<M: Importable>(&mut self, input: &mut Input<'_>) {
        let mut description = Description::read(input);
        if !M::VERSIONED {
            (description.version, description.flags) = ((1, 3), 1);
        }
        let verdict = description.verdict(M::VERSIONED);
        if verdict == Verdict::Untrue {
            return;
        }
        let given = Given::<M>::new(&description);
        let Ok(tensor) = new_object(input, |out, error| M::call(given.source, out, error)) else {
            assert_eq!(given.deletions(), 0, "a refused struct was released");
            // SAFETY: the harness still owns the struct.
            unsafe { given.release() };
            return;
        };
        assert_ne!(verdict, Verdict::Refuse, "accepted {description:?}");
        let is_followed = DTYPES.contains(&description.dtype)
            && description.device == dlbridge::Device::CPU
            && (description.data == Data::Allocated || description.described().extent().is_none())
            && description.described().count().is_some_and(|count| count <= 256)
            && given.has_deleter();
        if !is_followed {
            // SAFETY: the handle was made just above.
            let shared = capi::tensor::dlb_tensor_share(Some(unsafe { tensor.as_ref() }));
            capi::tensor::dlb_tensor_free(Some(tensor));
            capi::tensor::dlb_tensor_free(shared);
            given.close();
            return;
        }
        let read_only = description.flags & READ_ONLY != 0;
        let grid = description.described();
        let base = given.first.addr().wrapping_sub(given.position);
        let mut memory = Memory::new(given.bytes.clone(), base, Keeper::Other);
        memory.state = State::Aliased { writable: !read_only };
        memory.drops = Some(given.counter());
        let dtype = description.dtype;
        let place = Place { memory: 0, grid, first: given.position, dtype, trusted: false };
        self.add_memory(memory, Handle { object: Object::Tensor(tensor), place, read_only });
    }
}

/// A struct that one of the C functions imports.
trait Importable: Kind {
    fn call(
        source: NonNull<Self>,
        out: super::call::Out<'_, NonNull<dlb_tensor>>,
        error: super::call::ErrorOut<'_>,
    ) -> i32;
}

impl Importable for DLManagedTensorVersioned {
    fn call(
        source: NonNull<Self>,
        out: super::call::Out<'_, NonNull<dlb_tensor>>,
        error: super::call::ErrorOut<'_>,
    ) -> i32 {
        dlb_tensor_from_dlpack(Some(source), out, error)
    }
}

impl Importable for DLManagedTensor {
    fn call(
        source: NonNull<Self>,
        out: super::call::Out<'_, NonNull<dlb_tensor>>,
        error: super::call::ErrorOut<'_>,
    ) -> i32 {
        dlb_tensor_from_dlpack_legacy(Some(source), out, error)
    }
}
