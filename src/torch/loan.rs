//! Loans: an array's memory goes to libtorch for the duration of a closure, and comes back.
//!
//! The memory moves; no pointer is swapped behind a tensor that a thread may be working on. Whatever
//! became of the tensor, the array gets back the memory that it lent, if libtorch holds it no more.

use super::bindings::dlb_torch_copy;
use super::blob::from_storage;
use super::{check, handle};
use crate::ndarray::{OwnedArray, Token};
use crate::{DType, Element, Error, Result, Tensor};

/// Lends the memory of `array` to libtorch while `run` runs.
pub(crate) fn lend<A: OwnedArray, R>(array: &mut A, run: impl FnOnce(&mut tch::Tensor) -> R) -> Result<R> {
    let mut memory: Tensor = array.take(Token(())).into();
    match lent(&mut memory) {
        Ok(tensor) => {
            let mut loan = Loan { array, tensor: Some(tensor), memory: Some(memory) };
            let result = match &mut loan.tensor {
                Some(tensor) => run(tensor),
                None => unreachable!("lent just above"),
            };
            loan.take_back()?;
            Ok(result)
        }
        Err(error) => {
            *array = A::recover(memory, Token(()));
            Err(error)
        }
    }
}

/// A libtorch tensor over memory that this handle keeps as well.
fn lent(memory: &mut Tensor) -> Result<tch::Tensor> {
    memory.check_torch()?;
    // SAFETY: checked; the memory has one handle, which is not used until libtorch is done.
    unsafe { from_storage(memory.storage.share(), &memory.descriptor) }.map_err(|(_, error)| error)
}

/// A running loan. Taking back happens once: by name, or on the way out of a panic.
struct Loan<'a, A: OwnedArray> {
    array: &'a mut A,
    tensor: Option<tch::Tensor>,
    memory: Option<Tensor>,
}

impl<A: OwnedArray> Loan<'_, A> {
    fn take_back(&mut self) -> Result<()> {
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

impl<A: OwnedArray> Drop for Loan<'_, A> {
    fn drop(&mut self) {
        // Only on the way out of a panic is there anything left to do, and nobody to tell.
        let _ = self.take_back();
    }
}

/// Copies elements that libtorch still holds and may be writing on another thread: libtorch itself
/// copies them, so that the race, if there is one, is its own.
fn copy_shared<T: Element>(memory: Tensor) -> Result<Vec<T>> {
    let len = memory.len();
    let mut elements = Vec::new();
    elements.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes: len * size_of::<T>() })?;
    elements.resize(len, T::default());
    let mut copy = Tensor::from_vec(elements, memory.shape())?;
    // SAFETY: `check_torch` was passed when the loan began; libtorch only reads.
    let source =
        unsafe { from_storage(memory.storage.share(), &memory.descriptor) }.map_err(|(_, error)| error)?;
    let mut target = lent(&mut copy)?;
    let target_handle = target.as_mut_ptr().cast();
    // SAFETY: two valid tensors of one shape and type.
    check(unsafe { dlb_torch_copy(handle(&source), target_handle) })?;
    drop(target);
    if T::DTYPE == DType::BOOL {
        copy.normalise_bools();
    }
    Ok(copy.into_vec()?)
}
