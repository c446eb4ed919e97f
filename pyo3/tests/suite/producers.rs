//! Classes of the author's own that export tensors.

use dlbridge::Tensor;
use dlbridge_pyo3::{Producer, PyTensor, add_dlpack};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::support::{Code, described};

#[pyclass(subclass, weakref)]
struct Frame {
    pixels: Option<Tensor>,
}

#[pymethods]
impl Frame {
    #[new]
    fn new() -> Self {
        let pixels = Tensor::from_vec(vec![1_u8, 2, 3, 4, 5, 6], [2, 3]).expect("six");
        Self { pixels: Some(pixels.into_aliased().expect("the only handle")) }
    }

    fn close(&mut self) {
        self.pixels = None;
    }

    #[staticmethod]
    fn of(x: PyTensor, py: Python<'_>) -> PyResult<Self> {
        Ok(Self { pixels: Some(x.into_tensor(py)?) })
    }
}

impl Producer for Frame {
    fn tensor(slf: &Bound<'_, Self>) -> PyResult<Tensor> {
        let pixels = &slf.try_borrow()?.pixels;
        pixels.as_ref().map(Tensor::share).ok_or_else(|| PyRuntimeError::new_err("closed"))
    }
}

/// A class whose tensor is new each time.
#[pyclass]
struct Counter;

impl Producer for Counter {
    fn tensor(_: &Bound<'_, Self>) -> PyResult<Tensor> {
        Ok(Tensor::from_vec(vec![1.5_f32], [1]).expect("one"))
    }
}

#[pyclass]
struct Panicking;

impl Producer for Panicking {
    fn tensor(_: &Bound<'_, Self>) -> PyResult<Tensor> {
        panic!("of the author")
    }
}

fn code(py: Python<'_>) -> Code<'_> {
    add_dlpack::<Frame>(py).unwrap();
    add_dlpack::<Counter>(py).unwrap();
    add_dlpack::<Panicking>(py).unwrap();
    Code::new(py)
        .with("Frame", py.get_type::<Frame>())
        .with("counter", Bound::new(py, Counter).unwrap())
        .with("panicking", Bound::new(py, Panicking).unwrap())
}

#[test]
fn every_library_takes_the_objects_without_a_copy() {
    Python::attach(|py| {
        let code = code(py);
        code.run("import jax\nframe = Frame()");
        code.run("a = np.from_dlpack(frame); t = torch.from_dlpack(frame)");
        code.check("a.tolist() == t.tolist() == [[1, 2, 3], [4, 5, 6]]");
        code.check("a.ctypes.data == t.data_ptr() and a.flags.writeable");
        code.run("t[0, 0] = 9");
        code.check("a[0, 0] == 9 and np.from_dlpack(frame)[0, 0] == 9");
        code.check("jax.numpy.from_dlpack(frame).tolist() == a.tolist()");
        code.check(
            "np.from_dlpack(counter, copy=True)[0] == 1.5 and torch.from_dlpack(counter)[0] == 1.5",
        );
        let shared: PyTensor = code.eval("frame").extract().unwrap();
        assert_eq!(shared.to_vec::<u8>(py).unwrap(), [9, 2, 3, 4, 5, 6]);
        code.run("class Derived(Frame): pass\nd = Derived()");
        code.check("np.from_dlpack(d).shape == (2, 3) and d.__dlpack_device__() == (1, 0)");
    });
}

#[test]
fn all_keywords_of_dlpack_work() {
    Python::attach(|py| {
        let code = code(py);
        code.run("frame = Frame()");
        code.check("'dltensor_versioned' in repr(frame.__dlpack__(max_version=(1, 0)))");
        code.check("'\"dltensor\"' in repr(frame.__dlpack__())");
        code.run("copy = torch.from_dlpack(frame.__dlpack__(copy=True, max_version=(1, 3), dl_device=(1, 0), stream=None))");
        code.run("copy[0, 0] = 7");
        code.check("np.from_dlpack(frame)[0, 0] == 1");
        for (call, expected) in [
            (
                "frame.__dlpack__(1)",
                "TypeError: __dlpack__() takes keyword arguments only, got 1 others",
            ),
            (
                "frame.__dlpack__(dl_device=(2, 0), copy=False)",
                "BufferError: unsupported device requested: the memory is on cpu, not on cuda:0",
            ),
            (
                "Frame.__dlpack__(3)",
                "TypeError: descriptor '__dlpack__' for 'builtins.Frame' objects doesn't apply to a 'int' object",
            ),
            ("panicking.__dlpack__()", "RuntimeError: dlbridge panicked: this is a bug"),
            ("panicking.__dlpack_device__()", "RuntimeError: dlbridge panicked: this is a bug"),
        ] {
            let error = code.try_eval(call).unwrap_err();
            assert_eq!(described(py, &error), expected);
        }
        code.run("frame.close()");
        let error = code.try_eval("np.from_dlpack(frame)").unwrap_err();
        assert_eq!(described(py, &error), "RuntimeError: closed");
    });
}

#[test]
fn a_tensor_that_rust_may_still_view_is_copied_for_consumers() {
    Python::attach(|py| {
        let code = code(py);
        let tensor = Tensor::from_vec(vec![1_u8, 2], [2]).unwrap();
        let frame = Bound::new(py, Frame { pixels: Some(tensor.share()) }).unwrap();
        let code = code.with("frame", frame);
        let view = tensor.as_slice::<u8>().unwrap();
        // PyTorch writes memory that is marked as read-only.
        code.run("import torch\ntorch.from_dlpack(frame)[0] = 9\nnp.from_dlpack(frame)[0] = 9");
        assert_eq!(view, [1, 2]);
        let error = code.try_eval("frame.__dlpack__(copy=False)").unwrap_err();
        assert!(described(py, &error).starts_with("BufferError: Rust code may have views"));
    });
}

#[test]
fn the_exchange_table_of_the_class_exports_its_objects() {
    Python::attach(|py| {
        let code = code(py);
        code.run(
            "import ctypes\n\
             get = ctypes.pythonapi.PyCapsule_GetPointer\n\
             get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]\n\
             table = get(Frame.__dlpack_c_exchange_api__, b'dlpack_exchange_api')\n\
             words = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))\n\
             # Version and prev_api come first, then five functions.\n\
             call = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)\n\
             export, borrow = call(words[3]), words[5]\n\
             def managed(x):\n    \
                 out = ctypes.c_void_p()\n    \
                 assert export(id(x), ctypes.addressof(out)) == 0\n    \
                 new = ctypes.pythonapi.PyCapsule_New\n    \
                 new.restype = ctypes.py_object\n    \
                 new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]\n    \
                 return torch.from_dlpack(new(out, name, None))\n\
             name = b'dltensor_versioned'\n\
             frame = Frame()",
        );
        code.check("managed(frame).tolist() == [[1, 2, 3], [4, 5, 6]]");
        code.check("borrow is None");
        let error = code.try_eval("managed(3)").unwrap_err();
        assert_eq!(
            described(py, &error),
            "TypeError: the exchange table of Frame takes a Frame, got 'int'"
        );
        code.check("Frame.__dlpack_c_exchange_api__ is not None");
    });
}

#[test]
fn moved_memory_of_pytorch_is_not_exported() {
    Python::attach(|py| {
        let code = code(py);
        code.run("x = torch.zeros(1000); frame = Frame.of(x); x.share_memory_()");
        let error = code.try_eval("np.from_dlpack(frame)").unwrap_err();
        assert!(described(py, &error).starts_with("BufferError: PyTorch moved the memory"));
    });
}

#[pyclass(immutable_type)]
struct Immutable;

impl Producer for Immutable {
    fn tensor(_: &Bound<'_, Self>) -> PyResult<Tensor> {
        Ok(Tensor::from_vec(vec![1_u8], [1]).expect("one"))
    }
}

#[test]
fn a_class_that_is_immutable_is_refused() {
    Python::attach(|py| {
        let error = add_dlpack::<Immutable>(py).unwrap_err();
        assert_eq!(
            described(py, &error),
            "TypeError: cannot set '__dlpack__' attribute of immutable type 'builtins.Immutable'"
        );
    });
}

#[test]
fn add_dlpack_may_be_called_twice() {
    Python::attach(|py| {
        let code = code(py);
        add_dlpack::<Frame>(py).unwrap();
        code.check("np.from_dlpack(Frame()).shape == (2, 3)");
        code.check("Frame.__dlpack__.__doc__.startswith('Returns a DLPack capsule')");
    });
}
