//! PyTorch moves and frees memory that a Rust program keeps.

use dlbridge::{Error, MemoryFormat, Tensor};
use dlbridge_pyo3::PyTensor;
use pyo3::prelude::*;

use super::support::{Code, described};

/// Python code that moves the memory of the tensor `x`.
const MOVES: [&str; 3] =
    ["x.share_memory_()", "x.resize_(1 << 20)", "x.untyped_storage().resize_(1 << 24)"];

fn is_moved<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::InvalidDescriptor { field, .. }) if field == "data")
}

#[test]
fn a_tensor_that_rust_keeps_is_not_read_after_pytorch_moved_the_memory() {
    Python::attach(|py| {
        for moves in MOVES {
            let code = Code::new(py);
            code.run("x = torch.arange(100000.0)");
            let kept: PyTensor = code.eval("x").extract().unwrap();
            let kept = kept.into_tensor(py).unwrap();
            let other = kept.share();
            let mut target = Tensor::zeros::<f32>([100_000]).unwrap();
            assert_eq!(kept.to_vec::<f32>().unwrap()[7], 7.0);
            code.run(moves);
            assert!(is_moved(kept.to_vec::<f32>()), "{moves}");
            assert!(is_moved(kept.to_list()), "{moves}");
            assert!(is_moved(kept.to_ndarray::<f32, ndarray::Ix1>()), "{moves}");
            assert!(is_moved(kept.deep_clone()), "{moves}");
            assert!(is_moved(kept.deep_clone_with(MemoryFormat::Contiguous)), "{moves}");
            assert!(is_moved(kept.to_device(dlbridge::Device::CPU)), "{moves}");
            assert!(is_moved(kept.copy_into(&mut target)), "{moves}");
            // Also where the thread is detached, and through another handle.
            py.detach(|| assert!(is_moved(other.to_vec::<f32>()), "{moves}"));
            // And through an object of Python.
            let object = PyTensor::from(other).into_pyobject(py).unwrap();
            let error = object.call_method0("tolist").unwrap_err();
            assert!(described(py, &error).contains("PyTorch moved the memory"), "{error}");
        }
    });
}

#[test]
fn handles_of_every_kind_see_the_move() {
    Python::attach(|py| {
        let code = Code::new(py);
        code.run("x = torch.arange(100000.0)");
        let x: PyTensor = code.eval("x").extract().unwrap();
        // SAFETY: no other thread has the tensor, and no view is read after the move.
        let promised = unsafe { x.assume_read_only(py) }.unwrap();
        code.run("x.share_memory_()");
        let error = x.tensor(py).map(drop).unwrap_err();
        assert!(described(py, &error).starts_with("BufferError: PyTorch moved the memory"));
        assert!(x.to_vec::<f32>(py).is_err() && x.deep_clone(py).is_err());
        // SAFETY: refused, because the memory moved.
        assert!(unsafe { x.assume_read_only(py) }.is_err());
        // SAFETY: refused, because the memory moved.
        assert!(unsafe { x.assume_exclusive(py) }.is_err());
        // Nor are the elements copied through the handle that relies on a promise.
        assert!(is_moved(promised.to_vec::<f32>()));
        // The same memory after the import through DLPack's struct of this crate.
        let code = code.with("moved", PyTensor::from(promised));
        assert!(code.try_eval("moved.tolist()").is_err());
    });
}

#[test]
fn memory_that_is_smaller_at_the_same_address_counts_as_moved() {
    Python::attach(|py| {
        let code = Code::new(py);
        code.run("x = torch.arange(100.0)");
        let kept: PyTensor = code.eval("x").extract().unwrap();
        let kept = kept.into_tensor(py).unwrap();
        code.run("x.untyped_storage().resize_(0)");
        assert!(is_moved(kept.to_vec::<f32>()));
    });
}

#[test]
fn tensors_without_elements_do_not_move() {
    Python::attach(|py| {
        let code = Code::new(py);
        code.run("x = torch.zeros(0)");
        let kept: PyTensor = code.eval("x").extract().unwrap();
        let kept = kept.into_tensor(py).unwrap();
        code.run("x.resize_(10)");
        assert_eq!(kept.to_vec::<f32>(), Ok(vec![]));
    });
}
