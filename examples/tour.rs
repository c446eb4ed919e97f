//! What a Python user knows from NumPy and PyTorch, line by line, through dlbridge: `cargo xtask
//! demo`.
//!
//! Each step shows the Python line, does the same here, prints what Python prints, and proves what
//! is said about memory by address and by value.

use std::ptr::without_provenance_mut;

use dlbridge::{ArrayExt, ArrayTorchExt, DType, Descriptor, Device, Layout, Tensor, TorchExt};
use ndarray::{Array2, Ix2, array};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    array_to_tensor()?;
    tensor_to_array()?;
    tensor_to_list()?;
    leave_the_gpu()?;
    clone()?;
    println!("\nEvery address and value above was asserted, not only printed.");
    Ok(())
}

fn section(title: &str) {
    println!("\n── {title} ──");
}

fn python(line: &str) {
    println!("\n>>> {line}");
}

fn matrix() -> Array2<f32> {
    array![[1.0, 2.0], [3.0, 4.0]]
}

fn address(tensor: &tch::Tensor) -> usize {
    tensor.data_ptr().addr()
}

fn array_to_tensor() -> Outcome {
    section("1. Array to tensor: copy or share");
    let mut array = matrix();
    let start = array.as_ptr().addr();

    python("t = torch.tensor(a); a[0, 0] = 100; t            # a copy");
    let copy = array.to_torch()?;
    array[[0, 0]] = 100.0;
    println!("{}", copy.to_list()?);
    assert_ne!(address(&copy), start);
    assert_eq!(copy.double_value(&[0, 0]), 1.0);
    println!("    array at {start:#x}, tensor at {:#x}", address(&copy));

    python("t = torch.from_numpy(a); t[0, 0] = -1; a         # the same memory");
    let shared = array.into_torch()?; // the array moves in: O(1)
    assert_eq!(address(&shared), start);
    let _ = shared.get(0).get(0).fill_(-1.0);
    let array = shared.into_ndarray::<f32, Ix2>()?.into_array()?; // and is the old array again
    println!("{array}");
    assert_eq!((array.as_ptr().addr(), array[[0, 0]]), (start, -1.0));
    println!("    array, tensor and array again at {start:#x}; 0 bytes copied");

    println!("\n(in Rust only: lend the array to libtorch for a closure)");
    let mut array = array;
    array.lend_torch(|tensor| {
        let _ = tensor.abs_();
    })?;
    println!("{array}");
    assert_eq!((array.as_ptr().addr(), array.sum()), (start, 10.0));
    Ok(())
}

fn tensor_to_array() -> Outcome {
    section("2. Tensor to array");
    let tensor = matrix().to_torch()?; // memory of libtorch's own
    let start = address(&tensor);

    python("n = t.numpy(); n[0, 0] = 5; t                    # the same memory");
    let mut array = tensor.into_ndarray::<f32, Ix2>()?; // the tensor moves in: O(1)
    assert_eq!(array.as_ptr().addr(), start);
    array.get_mut()?[[0, 0]] = 5.0;
    let mut tensor = array.into_torch()?; // and is the old tensor again
    println!("{}", tensor.to_list()?);
    assert_eq!((address(&tensor), tensor.double_value(&[0, 0])), (start, 5.0));

    python("n = t.numpy(); t.add_(1); n                      # seen from both sides");
    tensor.as_ndarray_mut::<f32, Ix2>()?[[1, 1]] = 40.0; // a view for as long as it is borrowed
    let _ = tensor.g_add_scalar_(1.0); // libtorch sees what was written
    let view = tensor.as_ndarray_mut::<f32, Ix2>()?; // and so do we
    println!("{view}");
    assert_eq!(view, array![[6.0, 3.0], [4.0, 41.0]]);
    assert_eq!(view.as_ptr().addr(), start);

    python("t2 = t.view(4); t.numpy()                        # who else holds the memory?");
    let flat = tensor.view([4]);
    let refused = tensor.into_ndarray::<f32, Ix2>().expect_err("the view shares the memory");
    println!("refused: {refused}");
    drop(flat);
    println!("{}", refused.into_value().into_ndarray::<f32, Ix2>()?);
    Ok(())
}

fn tensor_to_list() -> Outcome {
    section("3. Tensor to list");
    python("t.tolist()");
    let list = matrix().to_torch()?.to_list()?;
    println!("{list}");
    assert_eq!(list.to_string(), "[[1.0, 2.0], [3.0, 4.0]]");
    python("torch.tensor(0.1).tolist()");
    let scalar = tch::Tensor::from(0.1_f32).to_list()?;
    println!("{scalar}");
    assert_eq!(scalar.to_string(), "0.10000000149011612");
    Ok(())
}

fn leave_the_gpu() -> Outcome {
    section("4. A tensor on the GPU");
    python("t.cuda().numpy()");
    let sentence = "can't convert cuda:0 device type tensor to ndarray. \
                    Use Tensor::cpu() to copy the tensor to host memory first.";
    let available = Device::cuda(0).check_available();
    if available.is_ok() {
        let cuda = matrix().into_tensor().cuda(0)?;
        let refused = cuda.into_ndarray::<f32, Ix2>().expect_err("not on the host");
        println!("{refused}");
        assert_eq!(refused.to_string(), sentence);
        python("t.cuda().cpu().numpy()");
        let array = refused.into_value().cpu()?.into_ndarray::<f32, Ix2>()?;
        println!("{array}");
        assert_eq!(*array, matrix());
    }
    if let Err(missing) = available {
        let descriptor = Descriptor::new(
            without_provenance_mut(0x1000),
            Layout::contiguous([2, 2])?,
            DType::F32,
            Device::cuda(0),
        )?;
        // SAFETY: memory of another device is carried, never read.
        let cuda = unsafe { Tensor::from_raw_parts(descriptor, false, ()) };
        let refused = cuda.into_ndarray::<f32, Ix2>().expect_err("not on the host");
        println!("{refused}");
        assert_eq!(refused.to_string(), sentence);
        println!("    (shown on a description of CUDA memory: {missing})");
        python("t.cpu().numpy()                                  # already there: nothing moves");
        let tensor = matrix().into_tensor();
        let start = tensor.data_ptr();
        let tensor = tensor.cpu()?;
        assert_eq!(tensor.data_ptr(), start);
        println!("{}", tensor.into_ndarray::<f32, Ix2>()?);
    }
    Ok(())
}

fn clone() -> Outcome {
    section("5. Clone");
    python("c = t.clone(); t[0, 0] = 100; c                  # untouched");
    let mut tensor = matrix().into_tensor();
    let clone = tensor.deep_clone()?;
    tensor.as_ndarray_mut::<f32, Ix2>()?[[0, 0]] = 100.0;
    println!("{clone:?}");
    assert_ne!(clone.data_ptr(), tensor.data_ptr());
    assert_eq!(clone.as_ndarray::<f32, Ix2>()?, matrix());

    python("c = t.t().clone(); c.stride()                    # the order of strides is kept");
    let transposed = matrix().reversed_axes().into_tensor().deep_clone()?;
    println!("{:?}", transposed.strides());
    assert_eq!(transposed.strides(), matrix().to_torch()?.tr().copy().stride());
    Ok(())
}
