//! What `Argument` and `FromPyObject` raise.

use dlbridge::{DType, Device};
use dlbridge_pyo3::{Argument, PyTensor};
use pyo3::prelude::*;
use pyo3::types::PyAnyMethods;

use super::support::{Code, described};

/// What `argument` raises for the value of `expression`.
fn refused(code: &Code<'_>, argument: &Argument<'_>, expression: &str) -> String {
    match argument.get(&code.eval(expression)) {
        Ok(_) => format!("{expression} was taken"),
        Err(error) => described(code.0.py(), &error),
    }
}

#[test]
fn each_expectation_is_named_with_the_argument() {
    Python::attach(|py| {
        let code = Code::new(py);
        let images = || Argument::named("images");
        let cases = [
            (
                images().dtype(DType::U8),
                "np.zeros(3, np.float32)",
                "TypeError: images: expected uint8, got float32: use x.astype('uint8') or x.to(torch.uint8)",
            ),
            (
                images().dtype(DType::F32).dtype(DType::F64),
                "torch.zeros(3, dtype=torch.int64)",
                "TypeError: images: expected float32 or float64, got int64: use x.astype('float32') or x.to(torch.float32)",
            ),
            (
                // NumPy has no such type, so there is no remedy.
                images().dtype(DType::BF16),
                "np.zeros(3)",
                "TypeError: images: expected bfloat16, got float64",
            ),
            (
                images().ndim(4),
                "np.zeros((2, 3))",
                "ValueError: images: expected 4 dimensions, got 2 (shape (2, 3))",
            ),
            (
                images().ndim(1),
                "np.zeros(())",
                "ValueError: images: expected 1 dimension, got 0 (shape ())",
            ),
            (
                images().shape(&[-1, 3]),
                "np.zeros((2, 4))",
                "ValueError: images: expected shape (*, 3), got (2, 4)",
            ),
            (
                images().shape(&[3]),
                "np.zeros((3, 1))",
                "ValueError: images: expected shape (3,), got (3, 1)",
            ),
            (
                images().contiguous(),
                "np.zeros((2, 3)).T",
                "ValueError: images: expected row-major elements without gaps, got strides (1, 3) for shape (3, 2): \
                 pass dlbridge.contiguous(x), x.contiguous() or numpy.ascontiguousarray(x)",
            ),
            (
                images().on(Device::cuda(0)),
                "np.zeros(3)",
                "ValueError: images: expected memory on cuda:0, got memory on cpu",
            ),
            (
                images().writable(),
                "b'abc'",
                "ValueError: images: expected writable memory, got read-only memory: pass a writable copy",
            ),
            (
                images().writable(),
                "torch.ones(2).to_sparse()",
                "BufferError: images: can't write to a tensor that has layout torch.sparse_coo: pass a plain strided tensor",
            ),
            (
                images().writable(),
                "None",
                "TypeError: images: expected an array of any library, got None",
            ),
            (
                images(),
                "[1, 2]",
                "TypeError: images: expected an array of any library, got 'list': numpy.array() makes one",
            ),
            (images(), "None", "TypeError: images: expected an array of any library, got None"),
            (images(), "object", "TypeError: images: expected an array, got the class object"),
            (
                images(),
                "torch.zeros(2, requires_grad=True)",
                "BufferError: images: can't share a tensor that requires gradient: use tensor.detach()",
            ),
        ];
        for (argument, expression, expected) in cases {
            assert_eq!(refused(&code, &argument, expression), expected);
        }
    });
}

#[test]
fn what_is_as_expected_is_shared() {
    Python::attach(|py| {
        let code = Code::new(py);
        let images = Argument::named("images")
            .dtype(DType::U8)
            .ndim(2)
            .shape(&[-1, 3])
            .contiguous()
            .on_host()
            .writable();
        for array in ["np.zeros((2, 3), np.uint8)", "torch.zeros(2, 3, dtype=torch.uint8)"] {
            let array = code.eval(array);
            let shared = images.get(&array).unwrap();
            assert_eq!((shared.shape(), shared.dtype()), (&[2, 3][..], DType::U8));
            assert_eq!(shared.device(), Device::CPU);
        }
    });
}

#[test]
fn exceptions_of_a_producer_get_a_note() {
    Python::attach(|py| {
        let code = Code::new(py);
        code.run(
            "class Error(Exception): pass\n\
             class Bad:\n    \
             def __init__(self, error): self.error = error\n    \
             def __dlpack__(self, **options): raise self.error('of the producer')",
        );
        for class in ["Error", "ValueError", "BufferError"] {
            let bad = code.eval(&format!("Bad({class})"));
            let error = Argument::named("images").get(&bad).map(drop).unwrap_err();
            assert_eq!(described(py, &error), format!("{class}: of the producer"));
            let notes: Vec<String> =
                error.value(py).getattr("__notes__").unwrap().extract().unwrap();
            assert_eq!(notes, ["while processing 'images'"]);
        }
    });
}

#[pyfunction]
fn length(images: PyTensor) -> i64 {
    images.shape()[0]
}

#[test]
fn pyo3_names_the_argument_in_a_note() {
    Python::attach(|py| {
        let code = Code::new(py).with("length", wrap_pyfunction!(length, py).unwrap());
        code.check("length(np.zeros(3)) == 3");
        for (argument, expected) in [
            (
                "[1]",
                "TypeError: expected an array of any library, got 'list': numpy.array() makes one",
            ),
            ("object()", "TypeError: expected an array of any library, got 'object'"),
            (
                "np.zeros(2, 'M8[s]')",
                "BufferError: DLPack has no type for elements of type numpy.datetime64: use array.view('int64')",
            ),
        ] {
            let error = code.try_eval(&format!("length({argument})")).unwrap_err();
            assert_eq!(described(py, &error), expected);
            let notes: Vec<String> =
                error.value(py).getattr("__notes__").unwrap().extract().unwrap();
            assert_eq!(notes, ["while processing 'images'"]);
        }
        // An AttributeError of a producer is its own.
        code.run("class Bad:\n    def __dlpack__(self, **options): return self.missing");
        let error = code.try_eval("length(Bad())").unwrap_err();
        assert!(described(py, &error).starts_with("AttributeError: 'Bad' object"), "{error}");
    });
}
