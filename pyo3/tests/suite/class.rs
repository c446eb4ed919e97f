//! The Python class under the name of the author's module.

use dlbridge_pyo3::PyTensor;
use pyo3::prelude::*;
use pyo3::types::PyModule;

use super::support::{Code, described};

/// The tests of this file change the class, so they are one test.
#[test]
fn the_class_belongs_to_the_first_module_that_adds_it() {
    Python::attach(|py| {
        let new = || PyTensor::from_vec(vec![1_u8, 2], [2]).unwrap();
        // Without `add_to` the class works, but has no module to be pickled by.
        let code = Code::new(py).with("x", new());
        code.run("import copy, pickle, sys");
        code.check("repr(x) == 'dlbridge.Tensor([1, 2], dtype=uint8, device=cpu)'");
        code.check("copy.deepcopy(x).tolist() == [1, 2] and np.asarray(x).tolist() == [1, 2]");
        code.run("hidden = sys.modules.get('dlbridge'); sys.modules['dlbridge'] = None");
        let error = code.try_eval("pickle.dumps(x)").unwrap_err();
        assert!(described(py, &error).starts_with("PicklingError: Can't pickle"), "{error}");
        code.run("sys.modules.pop('dlbridge') if hidden is None else sys.modules.update(dlbridge=hidden)");

        let first = PyModule::new(py, "filters._native").unwrap();
        PyTensor::add_to(&first).unwrap();
        let second = PyModule::new(py, "other").unwrap();
        PyTensor::add_to(&first).unwrap();
        PyTensor::add_to(&second).unwrap();
        let code = code.with("first", &first).with("second", &second);
        code.check("first.Tensor is second.Tensor is type(x)");
        code.check("type(x).__module__ == 'filters._native'");
        code.check("repr(x) == 'filters._native.Tensor([1, 2], dtype=uint8, device=cpu)'");
        code.run(
            "sys.modules['filters._native'] = first; sys.modules['filters'] = type(sys)('filters')",
        );
        for protocol in [2, 5] {
            code.check(&format!("pickle.loads(pickle.dumps(x, {protocol})).tolist() == [1, 2]"));
        }
        code.check("type(pickle.loads(pickle.dumps(x))) is first.Tensor");
        // A package that shows the class under its own name says so itself.
        code.run("type(x).__module__ = 'filters'");
        PyTensor::add_to(&second).unwrap();
        code.check("repr(x).startswith('filters.Tensor(')");
        code.check("type(x).__qualname__ == 'Tensor'");
    });
}

#[test]
fn objects_of_the_package_dlbridge_are_taken_without_a_copy_and_the_other_way_round() {
    Python::attach(|py| {
        let code = Code::new(py);
        if code.try_eval("__import__('dlbridge')").is_err() {
            eprintln!("skipped: the package dlbridge is not installed");
            return;
        }
        code.run("import dlbridge as dl\ntheirs = dl.tensor(np.arange(3.0))");
        let shared: PyTensor = code.eval("theirs").extract().unwrap();
        let code = code
            .with("address", shared.tensor(py).unwrap().data_ptr().addr())
            .with("ours", PyTensor::from_vec(vec![1.5_f32, 2.5], [2]).unwrap());
        code.check("theirs.data_ptr() == address and type(theirs) is not type(ours)");
        code.run("imported = dl.from_dlpack(ours)");
        code.check("type(imported) is dl.Tensor and imported.data_ptr() == ours.data_ptr()");
        code.run("dl.copyto(imported, np.float32([5, 6]))");
        code.check("ours.tolist() == [5, 6] and not imported.readonly");
        // Memory that PyTorch moves is refused through both modules.
        code.run("t = torch.zeros(1000); theirs = dl.from_dlpack(t); t.share_memory_()");
        assert!(code.eval("theirs").extract::<PyTensor>().is_err());
    });
}
