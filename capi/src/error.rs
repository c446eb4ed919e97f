//! Why a call failed: statuses, error objects, and the function that runs the body of every C
//! function.

use std::any::Any;
use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dlbridge::{Error, Remedy};

use crate::remedy::{self, DLB_REMEDY_NONE, dlb_remedy};

/// The result of a call: DLB_OK or one of DLB_ERROR_*. A value is never given a second meaning; 9
/// and 12 are reserved.
pub type dlb_status = i32;

/// The call succeeded.
pub const DLB_OK: dlb_status = 0;
/// A required pointer is NULL.
pub const DLB_ERROR_NULL_POINTER: dlb_status = 1;
/// A value is invalid: a negative size, unknown flags, an unknown memory format, a number that
/// names no stream.
pub const DLB_ERROR_INVALID_ARGUMENT: dlb_status = 2;
/// The DLPack major version of the struct is not supported. The struct was not changed: call its
/// deleter.
pub const DLB_ERROR_VERSION: dlb_status = 3;
/// The element type is not the expected one, or the target library does not support it.
pub const DLB_ERROR_DTYPE: dlb_status = 4;
/// The device is unknown, or the function does not support it.
pub const DLB_ERROR_DEVICE: dlb_status = 5;
/// Shape and strides are not usable here: a wrong shape or rank, an overflow, an overlap, gaps.
pub const DLB_ERROR_LAYOUT: dlb_status = 6;
/// The memory may not be written.
pub const DLB_ERROR_READ_ONLY: dlb_status = 7;
/// The host cannot read the memory. The message names the device.
pub const DLB_ERROR_NOT_ON_CPU: dlb_status = 8;
/// There is not enough memory for the elements, on the host or on the device.
pub const DLB_ERROR_OUT_OF_MEMORY: dlb_status = 10;
/// CUDA or the device is not available on this machine, or CUDA failed. If CUDA failed, the message
/// contains the driver's error.
pub const DLB_ERROR_CUDA: dlb_status = 11;
/// This build of the library does not have the code for the operation; see dlb_capabilities(). From
/// C++ headers also: the library has another ABI, or a libtorch tensor is not a plain strided
/// buffer.
pub const DLB_ERROR_UNSUPPORTED: dlb_status = 13;
/// The call ran into a bug in the library. Free the handles that were passed to it.
pub const DLB_ERROR_PANIC: dlb_status = 255;

/// The reason why a call failed: a status and a message. The caller owns it.
pub struct dlb_error {
    status: dlb_status,
    remedy: dlb_remedy,
    /// The argument, what is wrong with it, and the remedy in C's words.
    message: CString,
    /// The message without the remedy.
    fact: CString,
}

/// Returns the status that the failed call returned; DLB_OK for NULL.
///
/// Ownership: borrows `error`.
///
/// Example of the functions for errors:
///
/// ```c
/// int64_t shape[] = {2, -3}; // not a valid shape
/// DLTensor desc = {NULL, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, NULL, 0};
/// dlb_tensor *tensor = NULL;
/// dlb_error *error = NULL;
/// dlb_status status = dlb_tensor_empty(&desc, &tensor, &error);
/// if (status != DLB_OK) { // `tensor` was not written
///   printf("%s: %s\n", dlb_status_name(status), dlb_error_message(error));
///   assert(dlb_error_status(error) == status);
///   dlb_error_free(error);
/// }
/// assert(status == DLB_ERROR_INVALID_ARGUMENT);
/// ```
#[unsafe(no_mangle)]
pub extern "C" fn dlb_error_status(error: Option<&dlb_error>) -> dlb_status {
    error.map_or(DLB_OK, |error| error.status)
}

/// Returns what went wrong and what the caller can do, in one sentence of UTF-8 that names the
/// argument and the value; "" for NULL. It is dlb_error_fact() and, after "; ", the remedy in C's
/// words.
///
/// Ownership: borrows `error`; returns a view that is valid until dlb_error_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_error_message(error: Option<&dlb_error>) -> *const c_char {
    error.map_or(c"", |error| error.message.as_c_str()).as_ptr()
}

/// Returns what went wrong without a remedy, for programs that print remedies of their own; "" for
/// NULL.
///
/// Ownership: borrows `error`; returns a view that is valid until dlb_error_free().
#[unsafe(no_mangle)]
pub extern "C" fn dlb_error_fact(error: Option<&dlb_error>) -> *const c_char {
    error.map_or(c"", |error| error.fact.as_c_str()).as_ptr()
}

/// Returns what the caller can do: one of DLB_REMEDY_*; DLB_REMEDY_NONE if there is no remedy, and
/// for NULL.
///
/// Ownership: borrows `error`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_error_remedy(error: Option<&dlb_error>) -> dlb_remedy {
    error.map_or(DLB_REMEDY_NONE, |error| error.remedy)
}

/// Frees an error; does nothing for NULL.
///
/// Ownership: consumes `error`.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_error_free(error: Option<Box<dlb_error>>) {
    drop(error);
}

/// Returns the name of a status, such as "DLB_ERROR_LAYOUT"; "DLB_ERROR_UNKNOWN" for other numbers.
///
/// Ownership: returns a static view.
#[unsafe(no_mangle)]
pub extern "C" fn dlb_status_name(status: dlb_status) -> *const c_char {
    name(status).as_ptr()
}

fn name(status: dlb_status) -> &'static CStr {
    match status {
        DLB_OK => c"DLB_OK",
        DLB_ERROR_NULL_POINTER => c"DLB_ERROR_NULL_POINTER",
        DLB_ERROR_INVALID_ARGUMENT => c"DLB_ERROR_INVALID_ARGUMENT",
        DLB_ERROR_VERSION => c"DLB_ERROR_VERSION",
        DLB_ERROR_DTYPE => c"DLB_ERROR_DTYPE",
        DLB_ERROR_DEVICE => c"DLB_ERROR_DEVICE",
        DLB_ERROR_LAYOUT => c"DLB_ERROR_LAYOUT",
        DLB_ERROR_READ_ONLY => c"DLB_ERROR_READ_ONLY",
        DLB_ERROR_NOT_ON_CPU => c"DLB_ERROR_NOT_ON_CPU",
        DLB_ERROR_OUT_OF_MEMORY => c"DLB_ERROR_OUT_OF_MEMORY",
        DLB_ERROR_CUDA => c"DLB_ERROR_CUDA",
        DLB_ERROR_UNSUPPORTED => c"DLB_ERROR_UNSUPPORTED",
        DLB_ERROR_PANIC => c"DLB_ERROR_PANIC",
        _ => c"DLB_ERROR_UNKNOWN",
    }
}

/// Why the body of a function failed: becomes a status and an error object.
pub(crate) struct Failure {
    status: dlb_status,
    fact: String,
    remedy: Option<Remedy>,
}

impl Failure {
    #[cold]
    pub(crate) fn new(status: dlb_status, fact: impl Into<String>) -> Self {
        Self { status, fact: fact.into(), remedy: None }
    }

    /// The same failure with another remedy.
    #[cold]
    pub(crate) fn with_remedy(self, remedy: Option<Remedy>) -> Self {
        Self { remedy, ..self }
    }

    #[cold]
    fn panic(payload: Box<dyn Any + Send>) -> Self {
        let text = match payload.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(payload) => match payload.downcast::<String>() {
                Ok(text) => *text,
                Err(payload) => {
                    // The type is unknown, and dropping the payload may panic again.
                    std::mem::forget(payload);
                    "unknown cause".to_owned()
                }
            },
        };
        Self::new(DLB_ERROR_PANIC, format!("a bug in dlbridge: {text}"))
    }
}

/// Turns an error of the `dlbridge` crate into a failure that names an argument.
pub(crate) trait InArgument<T> {
    fn argument(self, name: &str) -> Result<T, Failure>;
}

impl<T, E: Into<Error>> InArgument<T> for Result<T, E> {
    #[inline]
    fn argument(self, name: &str) -> Result<T, Failure> {
        self.map_err(|error| describe(name, &error.into()))
    }
}

/// The failure for an error about `argument`.
#[cold]
pub(crate) fn describe(argument: &str, error: &Error) -> Failure {
    Failure::new(error.status(), format!("{argument}: {}", error.fact()))
        .with_remedy(error.remedy())
}

/// Refuses NULL.
pub(crate) trait Required: Sized {
    type Target;
    fn required(self, name: &str) -> Result<Self::Target, Failure>;
}

impl<T> Required for Option<T> {
    type Target = T;
    #[inline]
    fn required(self, name: &str) -> Result<T, Failure> {
        self.ok_or_else(|| null(name))
    }
}

#[cold]
fn null(name: &str) -> Failure {
    Failure::new(DLB_ERROR_NULL_POINTER, format!("{name} is NULL"))
}

/// Runs the body of a C function. A failure or panic becomes a status and, unless `error` is NULL,
/// an error object.
#[inline]
pub(crate) fn guard(
    error: Option<&mut MaybeUninit<*mut dlb_error>>,
    body: impl FnOnce() -> Result<(), Failure>,
) -> dlb_status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => DLB_OK,
        Ok(Err(failure)) => report(failure, error),
        Err(payload) => report(Failure::panic(payload), error),
    }
}

/// Runs the body of a C function that returns no status. A panic gives `otherwise`.
#[inline]
pub(crate) fn contain<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        drop(Failure::panic(payload));
        otherwise
    })
}

#[cold]
fn report(failure: Failure, error: Option<&mut MaybeUninit<*mut dlb_error>>) -> dlb_status {
    let Failure { status, fact, remedy } = failure;
    if let Some(error) = error {
        let remedy = remedy::number(remedy);
        let message = match remedy {
            DLB_REMEDY_NONE => fact.clone(),
            remedy => format!("{fact}; {}", remedy::words(remedy)),
        };
        let (message, fact) = (c_string(&message), c_string(&fact));
        error.write(Box::into_raw(Box::new(dlb_error { status, remedy, message, fact })));
    }
    status
}

/// Facts of this crate have no NUL; that of a panic or of a driver may.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use dlbridge::{DType, Device};

    use super::*;

    fn message(run: impl FnOnce() -> Result<(), Failure>) -> (dlb_status, String) {
        let mut error = MaybeUninit::new(std::ptr::null_mut());
        let status = guard(Some(&mut error), run);
        // SAFETY: the variable was initialised at its declaration.
        let error = unsafe { error.assume_init() };
        if error.is_null() {
            return (status, String::new());
        }
        // SAFETY: `guard` made the error from a box.
        let error = unsafe { Box::from_raw(error) };
        assert_eq!(dlb_error_status(Some(&error)), status);
        // SAFETY: the message is valid as long as the error, which is dropped at the end of this
        // function.
        let text = unsafe { CStr::from_ptr(dlb_error_message(Some(&error))) };
        (status, text.to_str().expect("UTF-8").to_owned())
    }

    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("the payload itself");
        }
    }

    #[test]
    fn panics_become_errors() {
        assert_eq!(message(|| panic!("oh")), (DLB_ERROR_PANIC, "a bug in dlbridge: oh".into()));
        assert_eq!(
            message(|| panic!("oh {}", 1)),
            (DLB_ERROR_PANIC, "a bug in dlbridge: oh 1".into())
        );
        let unknown = message(|| std::panic::panic_any(PanicsOnDrop));
        assert_eq!(unknown, (DLB_ERROR_PANIC, "a bug in dlbridge: unknown cause".into()));
        assert_eq!(guard(None, || panic!("without an error object")), DLB_ERROR_PANIC);
        assert_eq!(contain(7, || std::panic::panic_any(PanicsOnDrop)), 7);
    }

    #[test]
    fn success_writes_no_error() {
        let mut error = MaybeUninit::new(std::ptr::dangling_mut());
        assert_eq!(guard(Some(&mut error), || Ok(())), DLB_OK);
        // SAFETY: the variable was initialised at its declaration.
        assert_eq!(unsafe { error.assume_init() }, std::ptr::dangling_mut());
    }

    #[test]
    fn a_nul_within_a_message_becomes_a_space() {
        let failure = || Err(Failure::new(DLB_ERROR_CUDA, "one\0two"));
        assert_eq!(message(failure), (DLB_ERROR_CUDA, "one two".into()));
    }

    #[test]
    fn core_errors_have_the_statuses_of_the_header() {
        let (device, target) = (Device::cuda(0), "C");
        let dtype = DType { code: 2, bits: 32, lanes: 1 };
        for (error, status) in [
            (Error::InvalidBool { value: 2 }, DLB_ERROR_INVALID_ARGUMENT),
            (Error::UnsupportedVersion { major: 2, minor: 0 }, DLB_ERROR_VERSION),
            (Error::UnsupportedDType { dtype, target }, DLB_ERROR_DTYPE),
            (Error::UnsupportedDevice { device, target }, DLB_ERROR_DEVICE),
            (Error::RankMismatch { expected: 1, found: 2 }, DLB_ERROR_LAYOUT),
            (Error::CopyOverlaps, DLB_ERROR_LAYOUT),
            (Error::ReadOnly { remedy: Remedy::WriteToClone }, DLB_ERROR_READ_ONLY),
            (Error::NotUnique, DLB_ERROR_READ_ONLY),
            (Error::NotOnCpu { device, target }, DLB_ERROR_NOT_ON_CPU),
            (Error::OutOfMemory { bytes: 1 }, DLB_ERROR_OUT_OF_MEMORY),
            (Error::CudaUnavailable { device, reason: String::new() }, DLB_ERROR_CUDA),
            (Error::CudaNotEnabled { device }, DLB_ERROR_UNSUPPORTED),
            (Error::Libtorch(String::new()), DLB_ERROR_UNSUPPORTED),
        ] {
            assert_eq!(error.status(), status, "{error}");
            assert_ne!(name(status), c"DLB_ERROR_UNKNOWN", "{error}");
        }
    }
}
