//! `like`: the caller's kind of array.

use dlbridge::Tensor;
use dlbridge_pyo3::{PyTensor, like};
use ndarray::Array2;
use pyo3::prelude::*;

use super::support::{Code, described};

fn numbers() -> Array2<f32> {
    Array2::from_shape_fn((2, 3), |(i, j)| (3 * i + j) as f32)
}

/// The result that `like` makes for the value of `original`, as the variable `y`.
fn converted<'py>(py: Python<'py>, original: &str, result: impl Into<PyTensor>) -> Code<'py> {
    define_classes(py);
    let code = Code::new(py);
    code.run("import jax, array_api_strict as xp, dlpack_test_classes as classes");
    let original = code.eval(original);
    let y = like(&original, result).unwrap_or_else(|error| panic!("{original}: {error}"));
    code.with("y", y)
}

/// Classes derived from those of NumPy and PyTorch, and a foreign producer.
fn define_classes(py: Python<'_>) {
    let code = Code::new(py);
    code.run(
        "import sys, types\n\
         class Array(np.ndarray): pass\n\
         class Tensor(torch.Tensor): pass\n\
         class Producer:\n    \
             def __init__(self): self.array = np.zeros(2)\n    \
             def __dlpack__(self, **options): return self.array.__dlpack__(**options)\n    \
             def __dlpack_device__(self): return (1, 0)\n\
         module = types.ModuleType('dlpack_test_classes')\n\
         module.Array, module.Tensor, module.Producer = Array, Tensor, Producer\n\
         sys.modules.setdefault('dlpack_test_classes', module)",
    );
}

#[test]
fn the_result_is_of_the_callers_library() {
    Python::attach(|py| {
        let expected = "[[0, 1, 2], [3, 4, 5]]";
        for (original, class) in [
            ("np.zeros(2)", "type(y) is np.ndarray"),
            ("np.float32(1)", "type(y) is np.ndarray"),
            ("np.zeros(2).view(classes.Array)", "type(y) is np.ndarray"),
            ("np.ma.masked_array([1.0])", "type(y) is np.ndarray"),
            ("torch.zeros(2)", "type(y) is torch.Tensor"),
            (
                "torch.zeros(2, requires_grad=True)",
                "type(y) is torch.Tensor and not y.requires_grad",
            ),
            ("torch.zeros(2).as_subclass(classes.Tensor)", "type(y) is torch.Tensor"),
            ("jax.numpy.zeros(2)", "isinstance(y, jax.Array)"),
            ("xp.zeros(2)", "type(y) is type(xp.zeros(2))"),
            ("b'abc'", "type(y) is memoryview"),
            ("bytearray(b'abc')", "type(y) is memoryview"),
            ("classes.Producer()", "type(y).__name__ == 'Tensor' and hasattr(y, 'data_ptr')"),
            ("object()", "type(y).__name__ == 'Tensor'"),
        ] {
            let code = converted(py, original, numbers());
            code.check(class);
            code.check(&format!(
                "(y.tolist() if hasattr(y, 'tolist') else np.asarray(y).tolist()) == {expected}"
            ));
        }
    });
}

#[test]
fn numpy_owns_the_memory_and_may_resize_it() {
    Python::attach(|py| {
        let code = converted(py, "np.zeros(2)", numbers());
        code.check("y.flags.owndata and y.flags.writeable and y.flags.c_contiguous");
        code.run("y.resize((4, 3), refcheck=False); y[3] = 9");
        code.check("y.tolist() == [[0, 1, 2], [3, 4, 5], [0, 0, 0], [9, 9, 9]]");
        code.run("y.resize((1, 3), refcheck=False)");
        code.check("y.tolist() == [[0, 1, 2]]");
    });
}

#[test]
fn layouts_are_kept_where_the_library_has_them() {
    Python::attach(|py| {
        let transposed = || PyTensor::from(numbers().reversed_axes());
        let expected = "y.tolist() == [[0, 3], [1, 4], [2, 5]]";
        let code = converted(py, "np.zeros(2)", transposed());
        code.check("y.flags.f_contiguous and y.flags.owndata");
        code.check(expected);
        let code = converted(py, "torch.zeros(2)", transposed());
        code.check("y.stride() == (1, 3)");
        code.check(expected);
        for original in ["np.zeros(2)", "torch.zeros(2)", "jax.numpy.zeros(2)", "xp.zeros(2)"] {
            let source = Code::new(py);
            let flipped: PyTensor = source.eval("np.arange(3.0)[::-1]").extract().unwrap();
            let code = converted(py, original, flipped);
            code.check("np.asarray(y).tolist() == [2, 1, 0]");
        }
        for (original, memory) in [
            ("np.zeros(2)", "np.broadcast_to(np.float32(3), (2, 2))"),
            ("torch.zeros(2)", "torch.full((1,), 3.0).expand(2)"),
        ] {
            let source = Code::new(py);
            let same: PyTensor = source.eval(memory).extract().unwrap();
            converted(py, original, same).check("np.asarray(y).ravel().tolist()[:2] == [3, 3]");
        }
    });
}

#[test]
fn read_only_memory_is_copied_where_it_would_be_written() {
    Python::attach(|py| {
        for original in ["np.zeros(2)", "torch.zeros(2)"] {
            let source = Code::new(py);
            let bytes: PyTensor = source.eval("b'abc'").extract().unwrap();
            let code = converted(py, original, bytes);
            code.run("y[0] = 0");
            code.check("y.tolist() == [0, 98, 99]");
        }
        for original in ["jax.numpy.zeros(2)", "xp.zeros(2)"] {
            let source = Code::new(py);
            let bytes: PyTensor = source.eval("b'abc'").extract().unwrap();
            converted(py, original, bytes).check("np.asarray(y).tolist() == [97, 98, 99]");
        }
        // A handle that Rust keeps makes the memory read-only for Python.
        let kept = Tensor::from_vec(vec![1.0_f32, 2.0], [2]).unwrap();
        let code = converted(py, "torch.zeros(2)", kept.share());
        code.run("y += 1");
        assert_eq!(kept.as_slice::<f32>().unwrap(), [1.0, 2.0]);
    });
}

#[test]
fn torch_shares_the_memory_of_the_result() {
    Python::attach(|py| {
        let vec = vec![1.0_f32; 1000];
        let address = vec.as_ptr().addr();
        let result = PyTensor::from_vec(vec, [10, 100]).unwrap();
        let code = converted(py, "torch.zeros(2)", result).with("address", address);
        code.check("y.data_ptr() == address");
        let dtype = dlbridge::DType::scalar(0, 4);
        let layout = dlbridge::Layout::contiguous([4]).unwrap();
        let nibbles = Tensor::zeros_with(layout, dtype).unwrap();
        let original = code.eval("torch.zeros(2)");
        let error = like(&original, nibbles).unwrap_err();
        assert_eq!(described(py, &error), "TypeError: PyTorch has no elements of type int4");
    });
}
