//! Who may read and write memory of Python.

use dlbridge::{Access, Error, Tensor};
use dlbridge_pyo3::{OrRaise, PyTensor, from_dlpack, from_numpy, tensor};
use ndarray::{ArrayD, Ix2, array};
use pyo3::prelude::*;

use super::support::{Code, described};

#[test]
fn safe_code_gets_no_view_of_memory_that_python_may_write() {
    Python::attach(|py| {
        let code = Code::new(py);
        for array in [
            "np.zeros(3, np.float32)",
            "torch.zeros(3)",
            "memoryview(bytearray(12)).cast('f')",
            "__import__('jax').numpy.zeros(3)",
            "type('Described', (), {'__array_interface__': np.zeros(3, np.float32).__array_interface__, 'keep': 1})()",
        ] {
            let array = code.eval(array);
            let shared: PyTensor = array.extract().expect("an array");
            let imported = from_dlpack(&array, None, None).expect("an array");
            for shared in [&shared, &imported] {
                let inner = shared.tensor(py).expect("not moved");
                assert_eq!(inner.as_slice::<f32>(), Err(Error::Aliased), "{array}");
                assert!(inner.as_ndarray::<f32, ndarray::Ix1>().is_err(), "{array}");
                assert!(inner.share().into_ndarray::<f32, ndarray::Ix1>().is_err(), "{array}");
                assert!(inner.share().as_slice_mut::<f32>().is_err(), "{array}");
            }
            let through_object = shared.into_pyobject(py).expect("an object");
            let shared: PyTensor = through_object.extract().expect("a tensor");
            let inner = shared.into_tensor(py).expect("not moved");
            assert_eq!(inner.as_slice::<f32>(), Err(Error::Aliased));
        }
        let numpy = from_numpy(&code.eval("np.zeros(3)")).expect("an array");
        assert_eq!(numpy.tensor(py).unwrap().as_slice::<f64>(), Err(Error::Aliased));
    });
}

#[test]
fn copies_are_the_elements_of_any_layout() {
    Python::attach(|py| {
        let code = Code::new(py);
        let x: PyTensor = code.eval("np.arange(6.0).reshape(2, 3).T[::-1]").extract().unwrap();
        assert_eq!(x.to_vec::<f64>(py).unwrap(), [2.0, 5.0, 1.0, 4.0, 0.0, 3.0]);
        let expected = array![[2.0, 5.0], [1.0, 4.0], [0.0, 3.0]];
        assert_eq!(x.to_ndarray::<f64, Ix2>(py).unwrap(), expected);
        let mut copy = x.deep_clone(py).unwrap();
        assert_eq!(copy.access(), Access::Exclusive);
        copy.as_ndarray_mut::<f64, Ix2>().unwrap().fill(0.0);
        assert_eq!(x.to_vec::<f64>(py).unwrap()[0], 2.0);
        let error = x.to_vec::<f32>(py).unwrap_err();
        assert_eq!(described(py, &error), "TypeError: expected float32, got float64");
        let error = x.to_ndarray::<f64, ndarray::Ix1>(py).unwrap_err();
        assert_eq!(described(py, &error), "ValueError: expected 1 dimension, got 2");
        let error = copy.as_ndarray::<f32, Ix2>().or_raise().unwrap_err();
        assert_eq!(described(py, &error), "TypeError: expected float32, got float64");
    });
}

#[test]
fn a_copy_from_python_is_exclusive() {
    Python::attach(|py| {
        let code = Code::new(py);
        let mut copy =
            tensor(&code.eval("np.arange(3)"), None, None).unwrap().into_tensor(py).unwrap();
        copy.as_slice_mut::<i64>().unwrap()[0] = 7;
        assert_eq!(copy.to_vec::<i64>().unwrap(), [7, 1, 2]);
    });
}

#[test]
fn the_author_may_promise_that_no_other_code_uses_the_memory() {
    Python::attach(|py| {
        let code = Code::new(py);
        for array in ["np.arange(4, dtype=np.float32)", "torch.arange(4.0)"] {
            let code = Code::new(py).with("x", code.eval(array));
            let x: PyTensor = code.eval("x").extract().unwrap();
            {
                // SAFETY: no other thread has the array.
                let reader = unsafe { x.assume_read_only(py) }.unwrap();
                assert_eq!(reader.as_slice::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0]);
                assert_eq!(reader.access(), Access::ReadOnly);
            }
            // SAFETY: no other thread has the array.
            let mut writer = unsafe { x.assume_exclusive(py) }.unwrap();
            py.detach(|| writer.as_slice_mut::<f32>().map(|all| all.fill(5.0))).or_raise().unwrap();
            drop(writer);
            code.check("list(x) == [5.0] * 4");
            // The state is that of the dropped handles only.
            assert_eq!(x.tensor(py).unwrap().as_slice::<f32>(), Err(Error::Aliased));
        }
        let x: PyTensor = code.eval("b'abc'").extract().unwrap();
        // SAFETY: `bytes` are never written.
        let bytes = unsafe { x.assume_read_only(py) }.unwrap();
        assert_eq!(bytes.as_slice::<u8>().unwrap(), b"abc");
        // SAFETY: never called with memory that may be written: it is refused.
        let error = unsafe { x.assume_exclusive(py) }.unwrap_err();
        assert_eq!(
            described(py, &error),
            "ValueError: the memory is read-only: write to a copy instead"
        );
    });
}

#[test]
fn memory_that_rust_still_views_is_read_only_in_python() {
    use dlbridge::{DType, Descriptor, Device, Layout, Tensor};
    Python::attach(|py| {
        let mut memory = vec![1_u8, 2];
        let layout = Layout::contiguous([2]).unwrap();
        let data = memory.as_mut_ptr().cast();
        let described = Descriptor::new(data, layout, DType::U8, Device::CPU).unwrap();
        // SAFETY: the `Vec` keeps the two bytes, and only the tensor has it.
        let trusted = unsafe { Tensor::from_raw_parts(described, true, memory) };
        let view = trusted.as_slice::<u8>().unwrap();
        let code = Code::new(py).with("x", PyTensor::from(trusted.share()));
        code.check("x.readonly and not np.asarray(x).flags.writeable");
        code.check("np.asarray(x).ctypes.data == x.data_ptr()");
        // PyTorch writes memory that is marked as read-only, so it gets a copy.
        code.run("import torch\ntorch.from_dlpack(x)[0] = 9");
        assert_eq!(view, [1, 2]);
        // Without another handle, Python may write.
        let code = Code::new(py).with("y", PyTensor::from(trusted));
        code.run("del y");
        let alone = Tensor::from_vec(vec![1_u8, 2], [2]).unwrap();
        let code = code.with("y", PyTensor::from(alone));
        code.check("not y.readonly");
    });
}

#[test]
fn values_of_rust_become_tensors_without_a_copy() {
    Python::attach(|py| {
        let vec = vec![1.0_f32, 2.0, 3.0, 4.0];
        let address = vec.as_ptr().addr();
        let from_vec = PyTensor::from_vec(vec, [2, 2]).unwrap();
        let array = array![[1_i64, 2], [3, 4]].reversed_axes();
        let array_address = array.as_ptr().addr();
        let code = Code::new(py)
            .with("a", from_vec)
            .with("b", PyTensor::from(array))
            .with("address", address)
            .with("array_address", array_address);
        code.check("a.data_ptr() == address and a.tolist() == [[1, 2], [3, 4]] and not a.readonly");
        code.check("b.data_ptr() == array_address and b.tolist() == [[1, 3], [2, 4]]");
        let read: ArrayD<i64> =
            code.eval("b").extract::<PyTensor>().unwrap().to_ndarray(py).unwrap();
        assert_eq!(read, array![[1, 3], [2, 4]].into_dyn());
        let error = PyTensor::from_vec(vec![1_u8, 2, 3], [2, 2]).map(drop).unwrap_err();
        assert_eq!(described(py, &error), "BufferError: shape (2, 2) needs 4 elements, found 3");
    });
}

#[test]
fn memory_that_another_handle_of_rust_may_view_is_not_written() {
    Python::attach(|py| {
        let kept = Tensor::from_vec(vec![1.0_f32; 4], [4]).expect("four elements");
        let code = Code::new(py).with("t", PyTensor::from(kept.share()));
        code.check("t.readonly");
        let argument: PyTensor = code.eval("t").extract().expect("a tensor");
        // SAFETY: refused, because `kept` may have views.
        let error = unsafe { argument.assume_exclusive(py) }.expect_err("read-only");
        assert!(described(py, &error).starts_with("ValueError: the memory is read-only"));
        assert_eq!(kept.as_slice::<f32>(), Ok(&[1.0; 4][..]));
        // The only handle may be written.
        let own = PyTensor::from_vec(vec![1.0_f32; 4], [4]).expect("four elements");
        // SAFETY: no other code has the memory.
        let own = unsafe { own.assume_exclusive(py) };
        assert!(own.expect("exclusive").as_slice_mut::<f32>().is_ok());
    });
}

#[test]
fn python_writes_the_elements_of_an_owner_only_if_it_was_given_for_that() {
    let read_only = Tensor::from_owner([1_u8, 2], [2]).unwrap();
    let writable = Tensor::from_owner_mut([1_u8, 2], [2]).unwrap();
    Python::attach(|py| {
        let code = Code::new(py).with("x", PyTensor::from(read_only.share()));
        code.check("x.readonly and not np.asarray(x).flags.writeable");
        code.run("torch.from_dlpack(x)[0] = 9"); // a copy
        assert_eq!(read_only.as_slice::<u8>(), Ok(&[1, 2][..]));
        let code = Code::new(py).with("x", PyTensor::from(read_only));
        code.check("x.readonly and not np.asarray(x).flags.writeable");
        let code = code.with("y", PyTensor::from(writable));
        code.run("np.asarray(y)[0] = 9; torch.from_dlpack(y)[1] = 8");
        let y: PyTensor = code.eval("y").extract().unwrap();
        assert_eq!(y.to_vec::<u8>(py).unwrap(), [9, 8]);
    });
}
