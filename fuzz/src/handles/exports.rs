//! Steps of DLPack structs that dlbridge made.

use dlbridge::ffi::{DLManagedTensor, DLTensor};
use dlbridge::{Exported, Tensor};

use super::arrays::element;
use super::library::Library;
use super::model::{Place, State};
use super::objects::Object;
use super::{Handle, World};
use crate::input::Input;

const READ_ONLY: u64 = 1;
const IS_COPIED: u64 = 2;

/// The bytes of a struct's elements in row-major order; all else is compared.
pub(crate) fn read(tensor: &DLTensor, place: &Place) -> Vec<u8> {
    let rank = place.grid.shape.len();
    assert_eq!((tensor.ndim as usize, tensor.byte_offset), (rank, 0));
    if rank > 0 {
        // SAFETY: the struct has as many numbers.
        let shape = unsafe { std::slice::from_raw_parts(tensor.shape, rank) };
        assert_eq!(shape, place.grid.shape);
        // SAFETY: the struct has `rank` strides as well.
        assert!(place.has_strides(unsafe { std::slice::from_raw_parts(tensor.strides, rank) }));
    }
    let item = place.item();
    let mut bytes = Vec::new();
    for position in place.positions() {
        let distance = position as isize - place.first as isize;
        let element = tensor.data.cast::<u8>().wrapping_offset(distance);
        // SAFETY: an element of the struct, whose memory lives.
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(element, item) });
    }
    bytes
}

impl<L: Library> World<L> {
    /// Checks the flags of an export: of one more owner, or of a handle that moved.
    pub(super) fn check_flags(&mut self, exported: &Exported, place: &Place, moved: bool) {
        // SAFETY: dlbridge made the struct, and no code has released it yet.
        let flags = unsafe { exported.as_ptr().as_ref() }.flags;
        let memory = self.memory(place);
        let exclusive = moved && memory.is_exclusive();
        let writable = exclusive || memory.state == State::Aliased { writable: true };
        assert_eq!(flags & READ_ONLY == 0, writable, "{flags} {place:?}");
        assert_eq!(flags & IS_COPIED != 0, exclusive && memory.copied, "{flags} {place:?}");
    }

    pub(super) fn step_exported(
        &mut self,
        input: &mut Input<'_>,
        exported: Exported,
        place: Place,
    ) {
        match input.byte() % 8 {
            0 => self.release(Handle { object: Object::Exported(exported), place }),
            1 | 2 => {
                // SAFETY: dlbridge made the struct, and no code has released it yet.
                let writable = unsafe { exported.as_ptr().as_ref() }.flags & READ_ONLY == 0;
                if writable && !self.has_view(place.memory) {
                    // SAFETY: dlbridge made the struct, and no code has released it yet.
                    let tensor = unsafe { exported.as_ptr().as_ref() }.dl_tensor;
                    self.write_through(input, &tensor, &place);
                }
                self.put(Object::Exported(exported), place);
            }
            _ => {
                // SAFETY: dlbridge made the struct, and the harness gives it up here.
                let tensor = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("ours");
                self.put(Object::Tensor(tensor), Place { trusted: true, ..place });
            }
        }
    }

    pub(super) fn step_legacy(&mut self, exported: Exported<DLManagedTensor>, place: Place) {
        // SAFETY: dlbridge made the struct, and the harness gives it up here.
        let tensor = unsafe { Tensor::from_dlpack_legacy(exported.into_raw()) }.expect("ours");
        self.put(Object::Tensor(tensor), Place { trusted: true, ..place });
    }

    /// Writes an element as a consumer of the struct may.
    fn write_through(&mut self, input: &mut Input<'_>, tensor: &DLTensor, place: &Place) {
        let Some((index, value)) = element(input, place) else { return };
        self.write(place, index, value);
        let position = place.positions()[index];
        let distance = position as isize - place.first as isize;
        let bytes = &self.memory(place).bytes[position..position + place.item()];
        let element = tensor.data.cast::<u8>().wrapping_offset(distance);
        // SAFETY: an element of the struct, whose memory may be written, and of which no Rust view
        // lives.
        unsafe { element.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}
