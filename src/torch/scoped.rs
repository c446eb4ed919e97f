//! An array's memory in libtorch for the duration of a closure.
//!
//! ```text
//!  array ──take──► memory (a Tensor) ──share──► tensor (tch::Tensor) ──► closure
//!                     │                            │
//!                     │                            └─ dropped when the closure returns or panics
//!                     ├─ the only handle again: the array gets the memory back
//!                     └─ a tensor that the closure kept still holds it: the array gets a copy
//! ```
//!
//! The memory moves; the pointer of a tensor that a thread may be using is never replaced. The
//! array has no elements while the closure runs.
//!
//! A view does not own its memory, so it cannot leave the memory to a tensor that the closure kept.
//! [`lend_view`] therefore ends the process if there is such a tensor. At that time the view is
//! still borrowed, so only libtorch has used the memory. libtorch reaches every byte from
//! the lowest to the highest element, so a view that shares this range with others is refused.

use std::io::Write;

use super::bindings::dlb_torch_copy;
use super::blob::from_buffer;
use super::shim::{check, handle};
use super::tensor::require_movable;
use crate::ndarray::{OwnedArray, Token};
use crate::shared_buffer::SharedBuffer;
use crate::tuple::Tuple;
use crate::{DType, Descriptor, Element, Error, Layout, Result, Tensor};

/// Gives the memory of a view to libtorch while `run` runs. Ends the process if a tensor of the
/// memory is left afterwards.
///
/// # Safety
/// * As long as the call lasts, the elements of `descriptor` are valid, and no other code reads or
///   writes them.
pub(super) unsafe fn lend_view<R>(
    descriptor: Descriptor,
    run: impl FnOnce(&mut tch::Tensor) -> R,
) -> Result<R> {
    require_dense(descriptor.layout())?;
    // SAFETY: the caller guarantees that only this call reaches the elements. There are no bytes
    // between them: `require_dense` passed. The buffer's storage does not outlive the call: before
    // it ends, `EscapeCheck` finds that `memory` is the only handle, or ends the process.
    let mut memory = Tensor::from_buffer(unsafe { SharedBuffer::exclusive((), descriptor) });
    let tensor = share_with_libtorch(&mut memory)?;
    // The fields are dropped in this order, also if the closure or the first drop panics.
    let mut scope = ViewScope { tensor, _check: EscapeCheck { memory } };
    Ok(run(&mut scope.tensor))
}

struct ViewScope {
    tensor: tch::Tensor,
    _check: EscapeCheck,
}

/// Ends the process, when dropped, unless `memory` is the only handle to its elements.
struct EscapeCheck {
    memory: Tensor,
}

impl Drop for EscapeCheck {
    fn drop(&mut self) {
        if !self.memory.is_empty() && self.memory.require_exclusive().is_err() {
            let text = "dlbridge: a tensor that shares the memory of a view outlived the closure \
                        of lend_torch_or_abort. The process ends, because the tensor could use \
                        the memory after the view.";
            // A panic would let the caller continue, so an error of the output is ignored.
            let _ = writeln!(std::io::stderr(), "{text}");
            std::process::abort();
        }
        self.memory.normalise_bools();
    }
}

/// Refuses elements with bytes between them.
fn require_dense(layout: &Layout) -> Result<()> {
    let bytes_between = layout.extent().is_some_and(|(low, high)| {
        let positions = high.wrapping_sub(low).cast_unsigned().saturating_add(1);
        positions != layout.len() as u64
    });
    if !bytes_between {
        return Ok(());
    }
    Err(Error::InvalidDescriptor {
        field: "strides".into(),
        value: format!("{} for shape {}", Tuple(layout.strides()), Tuple(layout.shape())),
        reason: "libtorch would also reach the memory between the elements, which the view does \
                 not borrow; copy with to_torch()",
    })
}

/// Gives the memory of `array` to libtorch while `run` runs.
pub(super) fn lend<A: OwnedArray, R>(
    array: &mut A,
    run: impl FnOnce(&mut tch::Tensor) -> R,
) -> Result<R> {
    let mut memory: Tensor = array.take(Token(())).into();
    match share_with_libtorch(&mut memory) {
        Ok(tensor) => {
            let mut scope = Scope { array, tensor: Some(tensor), memory: Some(memory) };
            let result = match &mut scope.tensor {
                Some(tensor) => run(tensor),
                None => unreachable!("set just above"),
            };
            scope.give_back()?;
            Ok(result)
        }
        Err(error) => {
            *array = A::recover(memory, Token(()));
            Err(error)
        }
    }
}

/// A libtorch tensor over memory that this handle keeps as well.
fn share_with_libtorch(memory: &mut Tensor) -> Result<tch::Tensor> {
    require_movable(memory)?;
    // SAFETY: `require_movable` passed; `memory` is the only other handle, and is not used before
    // the closure has ended.
    unsafe { from_buffer(memory.buffer().share()) }.map_err(|(_, error)| error)
}

/// The time in which libtorch has an array's memory. It ends once: in
/// [`give_back`](Self::give_back), or when a panic of the closure drops this.
struct Scope<'a, A: OwnedArray> {
    array: &'a mut A,
    tensor: Option<tch::Tensor>,
    memory: Option<Tensor>,
}

impl<A: OwnedArray> Scope<'_, A> {
    fn give_back(&mut self) -> Result<()> {
        drop(self.tensor.take());
        let Some(mut memory) = self.memory.take() else { return Ok(()) };
        if memory.require_exclusive().is_ok() {
            memory.normalise_bools();
            *self.array = A::recover(memory, Token(()));
            return Ok(());
        }
        let layout = memory.layout().clone();
        *self.array = A::from_elements(copy_shared(memory)?, &layout, Token(()))?;
        Ok(())
    }
}

impl<A: OwnedArray> Drop for Scope<'_, A> {
    fn drop(&mut self) {
        // Does something only after a panic of the closure. No error can be returned here.
        let _ = self.give_back();
    }
}

/// Copies elements that libtorch still holds and may be writing on another thread. libtorch itself
/// copies them, so if there is a race it is between two threads of libtorch.
fn copy_shared<T: Element>(memory: Tensor) -> Result<Vec<T>> {
    let len = memory.len();
    let mut elements = Vec::new();
    elements
        .try_reserve_exact(len)
        .map_err(|_| Error::OutOfMemory { bytes: len * size_of::<T>() })?;
    elements.resize(len, T::default());
    let mut copy = Tensor::from_vec(elements, memory.shape())?;
    // SAFETY: `require_movable` passed before the closure ran; libtorch only reads.
    let source = unsafe { from_buffer(memory.buffer().share()) }.map_err(|(_, error)| error)?;
    let mut target = share_with_libtorch(&mut copy)?;
    let target_handle = target.as_mut_ptr().cast();
    // SAFETY: two valid tensors of one shape and type.
    check(unsafe { dlb_torch_copy(handle(&source), target_handle) })?;
    drop(target);
    if T::DTYPE == DType::BOOL {
        copy.normalise_bools();
    }
    Ok(copy.into_vec()?)
}
