//! The first minute with dlbridge, without libtorch and Python: `cargo run --example quick`.
//!
//! An array moves into a tensor and back. Then come a view, a DLPack struct, a copy, and an error
//! that gives the tensor back. The program asserts which memory is shared.

#![allow(unsafe_code, reason = "a DLPack struct's pointer and bounds cannot be validated")]

use dlbridge::{ArrayExt, Error, MemoryFormat, Tensor};
use ndarray::{Array2, Ix2, array};

fn main() -> Result<(), Error> {
    moves()?;
    views()?;
    through_dlpack()?;
    copies()?;
    errors()
}

/// A move takes the memory along: the address stays.
fn moves() -> Result<(), Error> {
    let matrix = array![[1.0_f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let address = matrix.as_ptr();
    let tensor = matrix.into_tensor();
    println!("array → tensor: {} of shape {:?}", tensor.dtype(), tensor.shape());
    let matrix = tensor.into_ndarray::<f32, Ix2>()?.into_array()?;
    assert_eq!(matrix.as_ptr(), address);
    println!("tensor → array: at the same address, {address:p}\n");
    Ok(())
}

/// A view has other strides, and the same memory.
fn views() -> Result<(), Error> {
    let tensor = Tensor::from_vec(vec![0_u8, 1, 2, 3, 4, 5], (2, 3))?;
    let address = tensor.data_ptr();
    let view = tensor.transpose(0, 1)?.flip([0])?;
    assert_eq!(view.data_ptr(), address.wrapping_byte_add(2)); // the element 2 comes first
    println!("a transposed and reversed view of 0 to 5:\n{view}\n");
    Ok(())
}

/// A DLPack struct passes memory to a library in any language.
fn through_dlpack() -> Result<(), Error> {
    let tensor = Tensor::from_vec(vec![1_i64, 2, 3, 4], [2, 2])?;
    let exported = tensor.share_dlpack().into_raw();
    // SAFETY: the struct was just made, and no other code consumes it.
    let imported = unsafe { Tensor::from_dlpack(exported) }?;
    assert_eq!(imported.data_ptr(), tensor.data_ptr());
    println!("through a DLPack struct: {}, the same memory\n", imported.to_list()?);
    Ok(())
}

/// A method that copies says so with its name: `to_…` or `deep_clone`.
fn copies() -> Result<(), Error> {
    let pixels = Array2::from_shape_fn((3, 4), |(row, column)| (10 * row + column) as f32);
    let copy = pixels.t().to_tensor()?.deep_clone_with(MemoryFormat::Contiguous)?;
    assert_eq!(*copy.to_ndarray::<f32, Ix2>()?, pixels.t());
    println!("a row-major copy of a transposed array:\n{copy}\n");
    Ok(())
}

/// An error says what is wrong and what to do, and contains the tensor.
fn errors() -> Result<(), Error> {
    let tensor = Tensor::from_vec(vec![1.0_f64, 2.0], [2])?;
    let Err(rejected) = tensor.into_vec::<f32>() else {
        unreachable!("a tensor of float64 is no Vec<f32>")
    };
    println!("an error: {rejected}");
    let values = rejected.into_value().into_vec::<f64>()?;
    println!("and the Vec comes back: {values:?}");
    Ok(())
}

#[test]
fn the_example_runs() -> Result<(), Error> {
    main()
}
