//! PyTorch and other code move and free memory that a Rust program keeps.

use std::process::Command;
use std::sync::{Arc, Mutex};

use dlbridge::{DType, Descriptor, Device, Error, Layout, MemoryFormat, MovableOwner, Tensor};
use dlbridge_pyo3::PyTensor;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};

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

/// A growable buffer that other code has, too, and its address at first.
struct Samples {
    buffer: Arc<Mutex<Vec<u8>>>,
    address: usize,
}

impl MovableOwner for Samples {
    fn check_address(&self) -> dlbridge::Result<()> {
        let now = self.buffer.lock().map_or(0, |buffer| buffer.as_ptr().addr());
        if now == self.address {
            return Ok(());
        }
        let (field, value) = ("data".to_owned(), format!("{:#x}", self.address));
        Err(Error::InvalidDescriptor { field, value, reason: "the buffer has grown" })
    }
}

/// A tensor of a buffer that other code may move, and that buffer.
fn growable() -> (Tensor, Arc<Mutex<Vec<u8>>>) {
    let buffer = Arc::new(Mutex::new(vec![7; 1000]));
    let data = buffer.lock().expect("not poisoned").as_mut_ptr();
    let layout = Layout::contiguous([10, 100]).expect("a small shape");
    let descriptor = Descriptor::new(data.cast(), layout, DType::U8, Device::CPU).expect("valid");
    let owner = Samples { buffer: buffer.clone(), address: data.addr() };
    // SAFETY: the bytes are initialised, and `owner` knows when the buffer moves. No other thread
    // has the buffer.
    (unsafe { Tensor::from_movable_parts(descriptor, true, owner) }, buffer)
}

#[test]
fn python_does_not_read_memory_that_an_owner_of_another_crate_moved() {
    Python::attach(|py| {
        let (tensor, buffer) = growable();
        assert!(tensor.may_move() && tensor.share().may_move());
        let shared: PyTensor = PyTensor::from(tensor.share());
        let code = Code::new(py).with("t", PyTensor::from(tensor));
        let uses = [
            "t.tolist()",
            "list(t)",
            "bytes(t)",
            "t.numpy()",
            "t.torch()",
            "memoryview(t)",
            "t.__array_interface__",
            "t.data_ptr()",
            "t.__dlpack__(max_version=(1, 0))",
            "t.__dlpack__(copy=True, max_version=(1, 0))",
            "t.clone()",
            "t.__reduce_ex__(5)",
            "np.from_dlpack(t)",
            "torch.from_dlpack(t)",
        ];
        for expression in uses {
            assert!(code.try_eval(expression).is_ok(), "{expression}");
        }
        code.check("'[7, 7' in repr(t)");
        *buffer.lock().expect("not poisoned") = vec![1; 64];
        for expression in uses {
            let error = code.try_eval(expression).expect_err(expression);
            assert!(described(py, &error).contains("the buffer has grown"), "{error}");
        }
        code.check("'...' in repr(t) and '7' not in repr(t)");
        assert!(shared.tensor(py).is_err() && shared.to_vec::<u8>(py).is_err());
        // SAFETY: refused, because the memory moved.
        assert!(unsafe { shared.assume_read_only(py) }.is_err());
    });
}

/// An object that moves the memory of a tensor when the garbage collector finalizes it.
#[pyclass]
struct Mover(Arc<Mutex<Vec<u8>>>);

#[pymethods]
impl Mover {
    fn grow(&self) {
        *self.0.lock().expect("not poisoned") = vec![1; 64];
    }
}

#[test]
fn a_list_is_not_read_on_after_a_finalizer_moved_the_memory() {
    Python::attach(|py| {
        let (tensor, buffer) = growable();
        let code = Code::new(py).with("t", PyTensor::from(tensor));
        let code = code.with("mover", Bound::new(py, Mover(buffer)).expect("an object"));
        // Each list of a row is a container, whose allocation may start a collection.
        code.run(
            "class Cycle:\n    \
                 def __del__(self): mover.grow()\n\
             def listed():\n    \
                 gc.collect()\n    \
                 cycle = Cycle(); cycle.me = cycle; del cycle\n    \
                 before = gc.get_threshold()\n    \
                 gc.set_threshold(4, 1, 1)\n    \
                 try: return t.tolist()\n    \
                 except BufferError as error: return 'moved'\n    \
                 finally: gc.set_threshold(*before)",
        );
        code.check("(lambda all: all == 'moved' or all == [[7] * 100] * 10)(listed())");
    });
}

/// A class whose `__traverse__` copies the elements of a tensor, which safe code may do.
#[pyclass]
struct CopiesInTraverse {
    tensor: Tensor,
    copied: Mutex<Vec<bool>>,
}

#[pymethods]
impl CopiesInTraverse {
    #[expect(clippy::unnecessary_wraps, reason = "PyO3 demands a result")]
    fn __traverse__(&self, _visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let copied = self.tensor.to_vec::<f32>().is_ok();
        self.copied.lock().expect("not poisoned").push(copied);
        Ok(())
    }
}

/// What the child process of the next test does.
#[test]
#[ignore = "runs in a process of its own: see the next test"]
fn child_that_cannot_ask_pytorch() {
    Python::attach(|py| {
        let code = Code::new(py);
        // The layout of the objects of this version is not known, so Python code is called.
        code.run("torch.__version__ = '9.9'; x = torch.full((1 << 20,), 5.0)");
        let tensor: PyTensor = code.eval("x").extract().expect("a tensor");
        let tensor = tensor.into_tensor(py).expect("not moved");
        assert!(tensor.to_vec::<f32>().is_ok());
        let object = CopiesInTraverse { tensor, copied: Mutex::default() };
        let object = Bound::new(py, object).expect("an object");
        code.run("x.share_memory_()");
        code.eval("gc.get_referents").call1((&object,)).expect("referents");
        let copied = object.borrow().copied.lock().expect("not poisoned").clone();
        assert!(!copied.is_empty() && !copied.contains(&true), "{copied:?}");
        println!("nothing was read");
    });
}

#[test]
fn memory_of_pytorch_is_not_read_where_pytorch_cannot_be_asked() {
    let test = "moved_memory::child_that_cannot_ask_pytorch";
    let output = Command::new(std::env::current_exe().expect("a path"))
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect("the test starts itself");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("nothing was read"), "{output:?}");
}
