//! Whether a `torch.Tensor` is a plain strided buffer, whose memory is its elements: what PyTorch's
//! exchange table does not check.

use std::ffi::c_void;
use std::ptr::null_mut;

use dlbridge::Descriptor;
use pyo3::exceptions::{PyBufferError, PyRuntimeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyType};

use crate::call::call_one;
use crate::error::caused_by;
use crate::known_types::TORCH_TENSOR;
use crate::torch_objects::torch_objects;

/// Dispatch keys of a tensor whose elements are what its memory holds. Every other key may give it
/// another meaning: zeros that have no memory, elements still to be negated, a sparse layout, a
/// wrapper around other tensors.
const PLAIN_KEYS: [&str; 17] = [
    "CPU",
    "CUDA",
    "HIP",
    "MPS",
    "XPU",
    "PrivateUse1",
    "ADInplaceOrView",
    "AutogradCPU",
    "AutogradCUDA",
    "AutogradHIP",
    "AutogradMPS",
    "AutogradXPU",
    "AutogradPrivateUse1",
    "AutocastCPU",
    "AutocastCUDA",
    "AutocastMPS",
    "AutocastXPU",
];

/// Dispatch keys of a tensor whose class has a `__torch_dispatch__`.
const CLASS_KEYS: [&str; 2] = ["Python", "PythonTLSSnapshot"];

/// The class of the tensors that are checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorClass {
    /// `torch.Tensor` itself.
    Exact,
    /// A class derived from it, which may have a `__torch_dispatch__`.
    Derived,
}

/// What a tensor was to be used for, which decides the words of its refusal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Share,
    /// Its elements were to be read once.
    CopyFrom,
    CopyTo,
    /// A function was to write its memory.
    WriteTo,
}

impl Purpose {
    /// Whether the memory of the object itself was to change, so that a copy does not help.
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::CopyTo | Self::WriteTo)
    }
}

/// Why a tensor is not a plain strided buffer.
pub(super) struct Refusal {
    fact: String,
    remedy: Option<&'static str>,
    /// Whether the remedy gives a tensor of the same memory. Otherwise it copies.
    remedy_shares: bool,
}

impl Refusal {
    fn new(fact: impl Into<String>, remedy: Option<&'static str>, remedy_shares: bool) -> Self {
        Self { fact: fact.into(), remedy, remedy_shares }
    }

    #[cold]
    pub(super) fn error(&self, purpose: Purpose) -> PyErr {
        PyBufferError::new_err(self.text(purpose))
    }

    pub(super) fn text(&self, purpose: Purpose) -> String {
        let use_of = match purpose {
            Purpose::Share => "share",
            Purpose::CopyFrom => "copy",
            Purpose::CopyTo => "copy to",
            Purpose::WriteTo => "write to",
        };
        let remedy = match self.remedy {
            // A copy to a temporary tensor would not reach this one.
            _ if purpose.writes() && !self.remedy_shares => Some("pass a plain strided tensor"),
            remedy => remedy,
        };
        let remedy = remedy.map(|remedy| format!(": {remedy}")).unwrap_or_default();
        format!("can't {use_of} a tensor that {}{remedy}", self.fact)
    }
}

/// Functions of PyTorch, looked up once.
pub(super) struct TorchChecks {
    dispatch_keys: Py<PyAny>,
    raw_repr: Py<PyAny>,
    from_raw_repr: Py<PyAny>,
    plain: u64,
    of_class: u64,
    /// The descriptor of the attribute `requires_grad`.
    requires_grad: Py<PyAny>,
    /// The function that reads the descriptor.
    get: ffi::descrgetfunc,
    untyped_storage: Py<PyAny>,
    /// The C function of `untyped_storage`, if it is one that takes only the tensor.
    untyped_storage_function: Option<ffi::PyCFunction>,
    storage_data_ptr: Py<PyAny>,
    storage_nbytes: Py<PyAny>,
}

static TORCH_CHECKS: PyOnceLock<TorchChecks> = PyOnceLock::new();

impl TorchChecks {
    #[inline]
    pub(super) fn get(py: Python<'_>) -> PyResult<&Self> {
        TORCH_CHECKS.get_or_try_init(py, || Self::look_up(py))
    }

    #[cold]
    fn look_up(py: Python<'_>) -> PyResult<Self> {
        let (class, _) = TORCH_TENSOR
            .look_up(py)
            .ok_or_else(|| PyRuntimeError::new_err("torch is not loaded"))?;
        let internals = py.import("torch._C")?;
        let key_set = internals.getattr("DispatchKeySet")?;
        let raw_repr = key_set.getattr("raw_repr")?;
        let members = internals.getattr("DispatchKey")?.getattr("__members__")?;
        let bits = |keys: &[&str]| {
            // If this PyTorch does not have a key, it has no tensors with that key.
            keys.iter().try_fold(0, |bits, key| -> PyResult<u64> {
                Ok(match members.call_method1("get", (*key,))? {
                    key if key.is_none() => bits,
                    key => bits | raw_repr.call1((key_set.call1((key,))?,))?.extract::<u64>()?,
                })
            })
        };
        // C code defines the descriptor, so reading it from the class gives the descriptor itself.
        let requires_grad = class.getattr("requires_grad")?;
        // SAFETY: the class must be alive, as that of a `Bound` is.
        let get = unsafe {
            ffi::PyType_GetSlot(requires_grad.get_type().as_type_ptr(), ffi::Py_tp_descr_get)
        };
        // SAFETY: the pointer must be NULL or that of a function of this type: the slot
        // `tp_descr_get` is defined so.
        let get = unsafe { std::mem::transmute::<*mut c_void, Option<ffi::descrgetfunc>>(get) };
        let get = get
            .ok_or_else(|| PyRuntimeError::new_err("torch.Tensor.requires_grad is no attribute"))?;
        let storage = py.import("torch")?.getattr("UntypedStorage")?;
        Ok(Self {
            dispatch_keys: internals.getattr("_dispatch_keys")?.unbind(),
            plain: bits(&PLAIN_KEYS)?,
            of_class: bits(&CLASS_KEYS)?,
            from_raw_repr: key_set.getattr("from_raw_repr")?.unbind(),
            raw_repr: raw_repr.unbind(),
            requires_grad: requires_grad.unbind(),
            get,
            untyped_storage_function: function_without_arguments(&class, "untyped_storage")
                .unwrap_or(None),
            untyped_storage: class.getattr("untyped_storage")?.unbind(),
            storage_data_ptr: storage.getattr("data_ptr")?.unbind(),
            storage_nbytes: storage.getattr("nbytes")?.unbind(),
        })
    }

    /// Refuses a tensor that is not a plain strided buffer, or requires gradient.
    #[inline]
    pub(super) fn refuse_unless_plain(
        &self,
        tensor: &Bound<'_, PyAny>,
        class: TensorClass,
    ) -> PyResult<()> {
        match self.refusal(tensor, class)? {
            Some(refusal) => Err(refusal.error(Purpose::Share)),
            None => Ok(()),
        }
    }

    /// Why `tensor` is not a plain strided buffer; `None` if it is one and requires no gradient.
    #[inline]
    pub(super) fn refusal(
        &self,
        tensor: &Bound<'_, PyAny>,
        class: TensorClass,
    ) -> PyResult<Option<Refusal>> {
        if let Some(refusal) = self.refusal_without_gradient(tensor, class)? {
            return Ok(Some(refusal));
        }
        let known = torch_objects(tensor.py()).and_then(|objects| {
            // SAFETY: `tensor` must be a `torch.Tensor`, or of a derived class: every caller
            // checked that.
            unsafe { objects.requires_grad(tensor.as_unbound()) }
        });
        let refused = known.map_or_else(|| self.requires_grad(tensor), Ok)?;
        Ok(refused.then(|| Refusal::new("requires gradient", Some("use tensor.detach()"), true)))
    }

    /// Why `tensor` is not a plain strided buffer; `None` if it is one. It may require gradient.
    #[inline]
    pub(super) fn refusal_without_gradient(
        &self,
        tensor: &Bound<'_, PyAny>,
        class: TensorClass,
    ) -> PyResult<Option<Refusal>> {
        let py = tensor.py();
        let keys = match torch_objects(py) {
            // SAFETY: `tensor` must be a `torch.Tensor`, or of a derived class: every caller
            // checked that.
            Some(objects) => unsafe { objects.keys(tensor.as_unbound()) },
            None => {
                let keys = call_one(self.dispatch_keys.bind(py), tensor)?;
                number(&call_one(self.raw_repr.bind(py), &keys)?)?
            }
        };
        let allowed = match class {
            TensorClass::Exact => self.plain,
            TensorClass::Derived => self.plain | self.of_class,
        };
        if keys & !allowed == 0 {
            return Ok(None);
        }
        self.refusal_of_keys(tensor, keys, class).map(Some)
    }

    #[inline]
    fn requires_grad(&self, tensor: &Bound<'_, PyAny>) -> PyResult<bool> {
        // SAFETY: the function must be called with its own descriptor and an object of the class
        // that has it: `look_up` stored both, and `tensor` is a `torch.Tensor`.
        let answer =
            unsafe { (self.get)(self.requires_grad.as_ptr(), tensor.as_ptr(), null_mut()) };
        // SAFETY: the pointer must be a new reference, or NULL with an exception set:
        // `tp_descr_get` returns that.
        let answer = unsafe { Bound::from_owned_ptr_or_err(tensor.py(), answer) }?;
        // SAFETY: `Py_False` has no precondition but an attached thread, as `answer` proves.
        if answer.as_ptr() == unsafe { ffi::Py_False() } { Ok(false) } else { answer.is_truthy() }
    }

    /// Why a tensor of `class` is refused that has the dispatch keys `keys`, of which some are not
    /// plain.
    #[cold]
    fn refusal_of_keys(
        &self,
        tensor: &Bound<'_, PyAny>,
        keys: u64,
        class: TensorClass,
    ) -> PyResult<Refusal> {
        let py = tensor.py();
        let keys = self.from_raw_repr.bind(py).call1((keys,))?.str()?.to_string();
        let keys: Vec<_> = keys
            .trim_start_matches("DispatchKeySet")
            .split(|letter: char| !letter.is_alphanumeric())
            .filter(|key| !key.is_empty() && !PLAIN_KEYS.contains(key))
            .filter(|key| class == TensorClass::Exact || !CLASS_KEYS.contains(key))
            .collect();
        let has = |begin: &str| keys.iter().any(|key| key.starts_with(begin));
        let (fact, remedy) = if has("Negative") {
            ("has its negative bit set".to_owned(), Some("use tensor.resolve_neg()"))
        } else if has("Conjugate") {
            ("has its conjugate bit set".to_owned(), Some("use tensor.resolve_conj()"))
        } else if has("ZeroTensor") {
            let fact = "is zero without memory (dispatch key ZeroTensor)";
            (fact.to_owned(), Some("use tensor.clone()"))
        } else if has("NestedTensor") {
            // The tensors of `unbind()` share the memory.
            let remedy = Some("use the tensors of tensor.unbind()");
            return Ok(Refusal::new("is nested", remedy, true));
        } else if has("Quantized") {
            let remedy = "use tensor.int_repr() or tensor.dequantize()";
            ("is quantized".to_owned(), Some(remedy))
        } else if has("Sparse") || has("Mkldnn") {
            let layout = tensor.getattr(intern!(py, "layout"))?.str()?;
            (format!("has layout {layout}"), Some("use tensor.to_dense()"))
        } else if has("Meta") {
            ("is on the device meta, which has no memory".to_owned(), None)
        } else {
            let fact =
                format!("is not a plain strided buffer (dispatch keys: {})", keys.join(", "));
            (fact, Some("copy its elements into an ordinary tensor first"))
        };
        Ok(Refusal::new(fact, remedy, false))
    }

    /// Calls `tensor.untyped_storage()`.
    #[inline]
    fn untyped_storage<'py>(&self, tensor: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let Some(function) = self.untyped_storage_function else {
            return call_one(self.untyped_storage.bind(tensor.py()), tensor);
        };
        // SAFETY: the function must be called with an object of the class that has the method, and
        // NULL, as the interpreter calls a method without arguments: `tensor` is a `torch.Tensor`,
        // or of a derived class.
        let storage = unsafe { function(tensor.as_ptr(), null_mut()) };
        // SAFETY: the pointer must be a new reference, or NULL with an exception set: the C
        // function of a method returns that.
        unsafe { Bound::from_owned_ptr_or_err(tensor.py(), storage) }
    }

    /// The storage of `tensor`. Refuses a tensor that has none, or one without memory.
    #[inline]
    pub(super) fn storage<'py>(
        &self,
        tensor: &Bound<'py, PyAny>,
        class: TensorClass,
    ) -> PyResult<Storage<'py>> {
        let py = tensor.py();
        let read = || {
            let object = self.untyped_storage(tensor)?;
            if class == TensorClass::Exact
                && let Some(objects) = torch_objects(py)
                // SAFETY: `tensor` must be a `torch.Tensor`: each caller of `storage` checked its
                // class.
                && let Some((size, offset)) = unsafe { objects.storage_extent(tensor.as_unbound()) }
            {
                return Ok(Storage { object, start: Start::ElementsBefore(offset), size });
            }
            // This raises an exception if the storage has no memory of its own.
            let start = number(&call_one(self.storage_data_ptr.bind(py), &object)?)?;
            let size = number(&call_one(self.storage_nbytes.bind(py), &object)?)?;
            Ok(Storage { object, start: Start::Address(start), size })
        };
        read().map_err(|error| no_storage_error(py, error))
    }
}

/// The storage of a tensor, with its address and size at the time of the import.
pub(super) struct Storage<'py> {
    /// The `torch.UntypedStorage`.
    pub(super) object: Bound<'py, PyAny>,
    start: Start,
    /// Size in bytes.
    pub(super) size: u64,
}

/// Where a storage begins.
#[derive(Clone, Copy)]
enum Start {
    Address(u64),
    /// The number of elements between the beginning and the first element of the tensor.
    ElementsBefore(u64),
}

impl Start {
    /// The address, if `elements` are those of the tensor; 0 for a storage without memory.
    #[inline]
    fn address(self, elements: &Descriptor) -> u64 {
        match self {
            Self::Address(address) => address,
            Self::ElementsBefore(count) => {
                let dtype = elements.dtype();
                let bits = u64::from(dtype.bits) * u64::from(dtype.lanes);
                let bytes = count.checked_mul(bits.div_ceil(8));
                let first = elements.data_ptr().addr() as u64;
                bytes.and_then(|bytes| first.checked_sub(bytes)).unwrap_or(0)
            }
        }
    }
}

impl Storage<'_> {
    /// Refuses elements that do not lie within the storage. PyTorch keeps the shape of a tensor
    /// whose storage was made smaller.
    #[inline]
    pub(super) fn refuse_outside(&self, elements: &Descriptor) -> PyResult<()> {
        let (low, bytes) = elements.span();
        if bytes == 0 {
            return Ok(());
        }
        let start = self.start.address(elements);
        let before = (low.addr() as u64).checked_sub(start);
        let end = before.and_then(|before| before.checked_add(bytes as u64));
        if start == 0 || end.is_none_or(|end| end > self.size) {
            return Err(outside_error(start, before, bytes, self.size));
        }
        Ok(())
    }
}

#[cold]
fn no_storage_error(py: Python<'_>, cause: PyErr) -> PyErr {
    let error = PyBufferError::new_err("can't share a tensor that has no memory of its own");
    caused_by(py, error, cause)
}

/// The error for elements in a storage that has no memory.
#[cold]
pub(super) fn no_memory_error() -> PyErr {
    PyBufferError::new_err("can't share a tensor that has elements, and a storage without memory")
}

#[cold]
fn outside_error(start: u64, before: Option<u64>, bytes: usize, size: u64) -> PyErr {
    PyBufferError::new_err(match before {
        _ if start == 0 => return no_memory_error(),
        Some(before) => format!(
            "can't share a tensor that reaches beyond its storage: its elements take {bytes} bytes \
             from byte {before} on, and the storage has {size} bytes"
        ),
        None => "can't share a tensor that begins before its storage".to_owned(),
    })
}

/// The C function of the method `name` of `class`, which must be `torch.Tensor`; `None` if the
/// method is no C function that takes only the tensor.
fn function_without_arguments(
    class: &Bound<'_, PyType>,
    name: &str,
) -> PyResult<Option<ffi::PyCFunction>> {
    // A method that is bound to an object shows its C function.
    let tensor = class.call0()?;
    let method = class.getattr(name)?.call_method1("__get__", (&tensor,))?;
    if !method.is_exact_instance_of::<PyCFunction>() || !TORCH_TENSOR.is_exact_type_of(&tensor) {
        return Ok(None);
    }
    // SAFETY: the object must be a C function, which was checked above.
    if unsafe { ffi::PyCFunction_GetFlags(method.as_ptr()) } != ffi::METH_NOARGS {
        return Ok(None);
    }
    // SAFETY: the object must be a C function, which was checked above.
    Ok(unsafe { ffi::PyCFunction_GetFunction(method.as_ptr()) })
}

/// Runs `check` while calls of PyTorch's functions do not reach the `__torch_function__` of a
/// class.
pub(crate) fn without_torch_function<T>(
    py: Python<'_>,
    check: impl FnOnce() -> PyResult<T>,
) -> PyResult<T> {
    let guard = py.import("torch._C")?.call_method0("DisableTorchFunctionSubclass")?;
    guard.call_method0("__enter__")?;
    let checked = check();
    let nothing = (py.None(), py.None(), py.None());
    guard.call_method1("__exit__", nothing)?;
    checked
}

/// A number that PyTorch returned.
#[inline]
fn number(answer: &Bound<'_, PyAny>) -> PyResult<u64> {
    // SAFETY: the object must be alive, as a `Bound` is; for another object than an int the result
    // is all ones, with an exception.
    let number = unsafe { ffi::PyLong_AsUnsignedLongLong(answer.as_ptr()) };
    match number {
        u64::MAX => match PyErr::take(answer.py()) {
            Some(error) => Err(error),
            None => Ok(number),
        },
        number => Ok(number),
    }
}

/// Whether the elements are integers of fewer than 8 bits, which PyTorch exports as bytes.
pub(super) fn refuse_sub_byte(tensor: &Bound<'_, PyAny>) -> PyResult<()> {
    let dtype = tensor.getattr(intern!(tensor.py(), "dtype"))?.str()?;
    let dtype = dtype.to_str()?.trim_start_matches("torch.").trim_start_matches('u');
    if matches!(dtype, "int1" | "int2" | "int3" | "int4" | "int5" | "int6" | "int7") {
        return Err(PyBufferError::new_err("DLPack has no type for torch's integers below a byte"));
    }
    Ok(())
}
