//! Conversions of every kind of array.

use super::description::describe;
use super::nd::{ArrayBase, Data, Dimension};
use crate::ndarray::ArrayExt;
use crate::{Element, List, MemoryFormat, Result, Tensor, host_copy};

impl<T, S: Data<Elem = T>, D: Dimension> ArrayExt for ArrayBase<S, D> {
    type Elem = T;

    fn to_tensor(&self) -> Result<Tensor>
    where
        T: Element,
    {
        // SAFETY: `deep_copy` requires readable elements. They belong to the array, which is
        // borrowed during the call.
        let copied = unsafe { host_copy::deep_copy(&describe(self), MemoryFormat::Preserve) };
        copied.map(Tensor::from_buffer)
    }

    fn to_list(&self) -> Result<List>
    where
        T: Element,
    {
        List::nest(describe(self).layout(), self.iter().copied())
    }
}
