//! Tensors are dropped on any thread, in any state of the interpreter.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use dlbridge::Tensor;
use dlbridge_pyo3::PyTensor;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};

use super::support::Code;

/// Arrays whose last reference is the tensor's. `owner` is what they keep.
const ARRAYS: [&str; 4] = [
    "owner_of(lambda: np.arange(3.0))",
    "owner_of(lambda: torch.arange(3.0))",
    "owner_of(lambda: __import__('array').array('d', [1, 2, 3]))",
    "owner_of(lambda: Exporter())",
];

fn code(py: Python<'_>) -> Code<'_> {
    let code = Code::new(py);
    code.run(
        "released = []\n\
         class Exporter:\n    \
             def __dlpack__(self, **options):\n        \
                 class Array(np.ndarray): pass\n        \
                 array = np.arange(3.0).view(Array)\n        \
                 weakref.finalize(array, released.append, 'numpy')\n        \
                 return np.ndarray.__dlpack__(array, **options)\n\
         def owner_of(make):\n    \
             x = make()\n    \
             if not isinstance(x, Exporter) and type(x) is not np.ndarray:\n        \
                 weakref.finalize(x, released.append, type(x).__name__)\n    \
             if type(x) is np.ndarray:\n        \
                 base = type('Base', (np.ndarray,), {})(3)\n        \
                 weakref.finalize(base, released.append, 'ndarray')\n        \
                 x = base.view(np.ndarray)\n    \
             return x",
    );
    code
}

#[test]
fn a_detached_thread_drops_the_last_handle() {
    Python::attach(|py| {
        for array in ARRAYS {
            let code = code(py);
            let tensor: PyTensor = code.eval(array).extract().unwrap();
            code.check("released == []");
            py.detach(|| drop(tensor));
            code.check("len(released) == 1");
        }
    });
}

#[test]
fn another_thread_drops_the_last_handle() {
    Python::attach(|py| {
        for array in ARRAYS {
            let code = code(py);
            let tensor: PyTensor = code.eval(array).extract().unwrap();
            let tensor = tensor.into_tensor(py).unwrap();
            py.detach(|| {
                let worker = std::thread::spawn(move || {
                    let copied = tensor.to_vec::<f64>().or_else(|_| {
                        tensor.to_vec::<f32>().map(|all| all.into_iter().map(f64::from).collect())
                    });
                    copied.map(|all| all.len())
                });
                assert_eq!(worker.join().expect("no panic"), Ok(3));
            });
            code.check("len(released) == 1");
        }
    });
}

#[test]
fn a_pending_exception_survives_the_drop() {
    Python::attach(|py| {
        for array in ARRAYS {
            let code = code(py);
            let tensor: PyTensor = code.eval(array).extract().unwrap();
            let tensor = tensor.into_tensor(py).unwrap();
            PyValueError::new_err("pending").restore(py);
            drop(tensor);
            let pending = PyErr::take(py).expect("still pending");
            assert_eq!(pending.value(py).to_string(), "pending");
            code.check("len(released) == 1");
        }
    });
}

#[pyfunction]
fn shared(x: PyTensor) -> PyTensor {
    x
}

#[test]
fn the_collector_runs_while_a_detached_thread_makes_and_drops_handles() {
    Python::attach(|py| {
        let code = code(py).with("shared", wrap_pyfunction!(shared, py).unwrap());
        // The array refers to the object, whose tensor keeps the array.
        code.run(
            "class Array(np.ndarray): pass\n\
             array = np.arange(3.0).view(Array)\n\
             array.tensor = shared(array)\n\
             weakref.finalize(array, released.append, 'array')",
        );
        let tensor: PyTensor = code.eval("array.tensor").extract().unwrap();
        let tensor = tensor.into_tensor(py).unwrap();
        code.run("del array");
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            // It is never attached.
            let worker = threads.spawn(|| {
                let mut count = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let handles = [tensor.share(), tensor.share()];
                    assert_eq!(handles[1].to_vec::<f64>(), Ok(vec![0.0, 1.0, 2.0]));
                    count += 1;
                }
                count
            });
            for _ in 0..100 {
                code.run("gc.collect()");
                code.check("released == []");
            }
            stop.store(true, Ordering::Relaxed);
            let count = py.detach(|| worker.join().expect("no panic"));
            assert!(count > 0);
        });
        code.run("gc.collect()");
        code.check("released == []");
        py.detach(|| drop(tensor));
        code.run("gc.collect()");
        code.check("released == ['array']");
    });
}

/// What the child process of the next test does: it ends the interpreter while a Rust thread and a
/// static have tensors, and drops them afterwards.
#[test]
#[ignore = "runs in a process of its own: see the next test"]
fn child_that_drops_after_the_interpreter() {
    let tensors: Vec<_> = Python::attach(|py| {
        let code = code(py);
        let tensors = ARRAYS.map(|array| {
            let tensor: PyTensor = code.eval(array).extract().unwrap();
            tensor.into_tensor(py).unwrap()
        });
        tensors.into_iter().collect()
    });
    let (ended, wait) = std::sync::mpsc::channel::<()>();
    let worker = std::thread::spawn(move || {
        wait.recv().expect("the interpreter has ended");
        drop(tensors);
    });
    // SAFETY: there must be an interpreter, as the arrays needed one. The thread stays attached.
    unsafe { pyo3::ffi::PyGILState_Ensure() };
    // SAFETY: the thread must be attached, as it is since the line above. Nothing uses the
    // interpreter afterwards but the worker, which is to leave it alone.
    unsafe { pyo3::ffi::Py_Finalize() };
    ended.send(()).expect("the worker waits");
    worker.join().expect("no panic");
    println!("dropped after the interpreter");
}

#[test]
fn drops_after_the_interpreter_has_ended_leak() {
    let test = "drops::child_that_drops_after_the_interpreter";
    let output = Command::new(std::env::current_exe().expect("a path"))
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect("the test starts itself");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("dropped after the interpreter"),
        "{output:?}"
    );
}

/// A class whose `__traverse__` drops a tensor, which safe code may do.
#[pyclass]
struct DropsInTraverse {
    armed: AtomicBool,
    tensor: Mutex<Option<Tensor>>,
}

#[pymethods]
impl DropsInTraverse {
    #[expect(clippy::unnecessary_wraps, reason = "PyO3 demands a result")]
    fn __traverse__(&self, _visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if self.armed.load(Ordering::Relaxed) {
            drop(self.tensor.lock().expect("not poisoned").take());
        }
        Ok(())
    }
}

/// A collection that frees objects while it visits others reads freed memory.
#[test]
fn a_drop_in_traverse_releases_nothing_until_the_next_release() {
    Python::attach(|py| {
        for array in &ARRAYS[..3] {
            let code = code(py);
            let tensor: PyTensor = code.eval(array).extract().unwrap();
            let tensor = Mutex::new(Some(tensor.into_tensor(py).unwrap()));
            let object = DropsInTraverse { armed: AtomicBool::new(false), tensor };
            let object = Bound::new(py, object).unwrap();
            let get_referents = code.eval("gc.get_referents");
            object.borrow().armed.store(true, Ordering::Relaxed);
            get_referents.call1((&object,)).unwrap();
            assert!(object.borrow().tensor.lock().unwrap().is_none());
            code.check("released == []");
            let other: PyTensor = code.eval("np.arange(3.0)").extract().unwrap();
            drop(other);
            code.check("len(released) == 1");
        }
    });
}
