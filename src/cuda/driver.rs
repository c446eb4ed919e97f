//! CUDA's driver: the library is loaded when it is first needed; its functions return this crate's
//! errors.
//!
//! cudarc finds the library and declares the types. Its own functions are not used: they abort the
//! process if the driver lacks one of them, and they read result codes as a Rust enum, although a
//! newer driver may return codes that the enum does not have.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys::{
    CUcontext, CUdeviceptr, CUevent, CUfunction, CUmodule, CUstream, culib, is_culib_present,
};

use crate::{Device, Error, Result};

pub(super) const CUDA_SUCCESS: c_int = 0;
pub(super) const CUDA_ERROR_INVALID_VALUE: c_int = 1;
pub(super) const CUDA_ERROR_OUT_OF_MEMORY: c_int = 2;
pub(super) const CUDA_ERROR_INVALID_HANDLE: c_int = 400;
pub(super) const CUDA_ERROR_NOT_READY: c_int = 600;

/// `CU_STREAM_CAPTURE_MODE_RELAXED`.
pub(super) const CAPTURE_MODE_RELAXED: c_int = 2;

/// `CU_EVENT_DISABLE_TIMING`.
pub(super) const EVENT_DISABLE_TIMING: c_uint = 2;
/// `CU_STREAM_NON_BLOCKING`.
pub(super) const STREAM_NON_BLOCKING: c_uint = 1;
/// `CU_MEMHOSTALLOC_PORTABLE`: page-locked for every device.
pub(super) const MEMHOSTALLOC_PORTABLE: c_uint = 1;
/// `CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL`.
pub(super) const POINTER_DEVICE_ORDINAL: c_int = 9;
/// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`.
pub(super) const POINTER_MEMORY_TYPE: c_int = 2;
/// `CU_MEMORYTYPE_DEVICE`.
pub(super) const MEMORYTYPE_DEVICE: c_int = 2;
/// `CU_MEMORYTYPE_HOST`.
pub(super) const MEMORYTYPE_HOST: c_uint = 1;
/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`.
pub(super) const DEVICE_MULTIPROCESSOR_COUNT: c_int = 16;

/// CUDA 11.2, the first with a stream-ordered allocator. The driver encodes it as
/// 1000 * major + 10 * minor.
const MIN_DRIVER_VERSION: c_int = 11_020;

/// Declares [`Driver`] and loads its functions. Those under `methods` become methods that return
/// the driver's error; those under `functions` are called as fields, by the methods written below.
macro_rules! driver {
    (
        methods { $($name:ident = $symbol:literal($($argument:ident: $type:ty),*);)* }
        functions { $($field:ident = $field_symbol:literal($($field_type:ty),*);)* }
    ) => {
        /// The functions of the driver that this crate calls.
        pub(super) struct Driver {
            $($name: unsafe extern "C" fn($($type),*) -> c_int,)*
            $($field: unsafe extern "C" fn($($field_type),*) -> c_int,)*
        }

        impl Driver {
            fn load() -> Result<Self, &'static str> {
                // SAFETY: this loads NVIDIA's library, whose initialisers may run at any time and
                // on any thread.
                if !unsafe { is_culib_present() } {
                    return Err(match cfg!(windows) {
                        true => "there is no driver (nvcuda.dll)",
                        false => "there is no driver (libcuda.so.1)",
                    });
                }
                // SAFETY: NVIDIA's library was loaded just now, so `culib` does not panic, and its
                // initialisers have run.
                let library = unsafe { culib() };
                Ok(Self {
                    $($name: {
                        type Function = unsafe extern "C" fn($($type),*) -> c_int;
                        // SAFETY: cuda.h declares the function with these parameters.
                        let symbol = unsafe {
                            library.get::<Function>(concat!($symbol, "\0").as_bytes())
                        };
                        *symbol.map_err(|_| concat!("the driver is too old: it has no ", $symbol))?
                    },)*
                    $($field: {
                        type Function = unsafe extern "C" fn($($field_type),*) -> c_int;
                        // SAFETY: cuda.h declares the function with these parameters.
                        let symbol = unsafe {
                            library.get::<Function>(concat!($field_symbol, "\0").as_bytes())
                        };
                        let missing = concat!("the driver is too old: it has no ", $field_symbol);
                        *symbol.map_err(|_| missing)?
                    },)*
                })
            }

            $(
                /// # Safety
                /// * What the driver's documentation requires of callers of this function.
                pub(super) unsafe fn $name(&self, $($argument: $type),*) -> Result<()> {
                    // SAFETY: the caller guarantees what the driver's documentation requires.
                    self.check($symbol, unsafe { (self.$name)($($argument),*) })
                }
            )*
        }
    };
}

driver! {
    methods {
        init = "cuInit"(flags: c_uint);
        version = "cuDriverGetVersion"(version: *mut c_int);
        device_count = "cuDeviceGetCount"(count: *mut c_int);
        device = "cuDeviceGet"(device: *mut c_int, index: c_int);
        device_attribute = "cuDeviceGetAttribute"(
            value: *mut c_int,
            attribute: c_int,
            device: c_int
        );
        retain_context = "cuDevicePrimaryCtxRetain"(context: *mut CUcontext, device: c_int);
        push_context = "cuCtxPushCurrent_v2"(context: CUcontext);
        pop_context = "cuCtxPopCurrent_v2"(context: *mut CUcontext);
        current_context = "cuCtxGetCurrent"(context: *mut CUcontext);
        current_device = "cuCtxGetDevice"(device: *mut c_int);
        synchronize = "cuCtxSynchronize"();
        exchange_capture_mode = "cuThreadExchangeStreamCaptureMode"(mode: *mut c_int);
        is_capturing = "cuStreamIsCapturing"(stream: CUstream, status: *mut c_int);
        create_stream = "cuStreamCreate"(stream: *mut CUstream, flags: c_uint);
        destroy_stream = "cuStreamDestroy_v2"(stream: CUstream);
        synchronize_stream = "cuStreamSynchronize"(stream: CUstream);
        stream_wait_event = "cuStreamWaitEvent"(stream: CUstream, event: CUevent, flags: c_uint);
        create_event = "cuEventCreate"(event: *mut CUevent, flags: c_uint);
        destroy_event = "cuEventDestroy_v2"(event: CUevent);
        record_event = "cuEventRecord"(event: CUevent, stream: CUstream);
        query_event = "cuEventQuery"(event: CUevent);
        synchronize_event = "cuEventSynchronize"(event: CUevent);
        allocate = "cuMemAllocAsync"(address: *mut CUdeviceptr, bytes: usize, stream: CUstream);
        free = "cuMemFreeAsync"(address: CUdeviceptr, stream: CUstream);
        allocate_host = "cuMemHostAlloc"(address: *mut *mut c_void, bytes: usize, flags: c_uint);
        free_host = "cuMemFreeHost"(address: *mut c_void);
        copy_to_device = "cuMemcpyHtoDAsync_v2"(
            target: CUdeviceptr,
            source: *const c_void,
            bytes: usize,
            stream: CUstream
        );
        copy_to_host = "cuMemcpyDtoHAsync_v2"(
            target: *mut c_void,
            source: CUdeviceptr,
            bytes: usize,
            stream: CUstream
        );
        copy_on_device = "cuMemcpyDtoDAsync_v2"(
            target: CUdeviceptr,
            source: CUdeviceptr,
            bytes: usize,
            stream: CUstream
        );
        copy_to_peer = "cuMemcpyPeerAsync"(
            target: CUdeviceptr,
            target_context: CUcontext,
            source: CUdeviceptr,
            source_context: CUcontext,
            bytes: usize,
            stream: CUstream
        );
        pointer_attribute = "cuPointerGetAttribute"(
            value: *mut c_void,
            attribute: c_int,
            address: CUdeviceptr
        );
        load_module = "cuModuleLoadData"(module: *mut CUmodule, image: *const c_void);
        module_function = "cuModuleGetFunction"(
            function: *mut CUfunction,
            module: CUmodule,
            name: *const c_char
        );
    }
    functions {
        launch_kernel = "cuLaunchKernel"(
            CUfunction, // the kernel
            c_uint, c_uint, c_uint, // thread blocks in x, y and z
            c_uint, c_uint, c_uint, // threads per thread block in x, y and z
            c_uint, // bytes of shared memory
            CUstream,
            *mut *mut c_void, // addresses of the parameters
            *mut *mut c_void // other ways to pass parameters
        );
        error_name = "cuGetErrorName"(c_int, *mut *const c_char);
        error_string = "cuGetErrorString"(c_int, *mut *const c_char);
    }
}

/// One launch of a kernel, on a one-dimensional grid without shared memory.
pub(super) struct Launch<'a> {
    pub(super) kernel: CUfunction,
    pub(super) thread_blocks: c_uint,
    pub(super) threads_per_block: c_uint,
    pub(super) stream: CUstream,
    /// Addresses of the kernel's parameters.
    pub(super) parameters: &'a mut [*mut c_void],
}

impl Driver {
    /// Puts a kernel on a stream. The driver reads the parameters before it returns.
    ///
    /// # Safety
    /// * `parameters` are as many as the kernel has, and of their types.
    /// * The kernel belongs to the current context, and the stream too.
    /// * The kernel may do what it does with these parameters, in the order of the stream.
    pub(super) unsafe fn launch(&self, launch: Launch<'_>) -> Result<()> {
        let Launch { kernel, thread_blocks, threads_per_block, stream, parameters } = launch;
        let (parameters, extra) = (parameters.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: the caller guarantees what the kernel and its parameters need.
        let code = unsafe {
            (self.launch_kernel)(
                kernel,
                thread_blocks,
                1,
                1,
                threads_per_block,
                1,
                1,
                0,
                stream,
                parameters,
                extra,
            )
        };
        self.check("cuLaunchKernel", code)
    }

    /// Loads and initialises the driver.
    fn start() -> Result<Self, String> {
        let driver = Self::load()?;
        let text = |error: Error| error.to_string();
        let mut version = 0;
        // SAFETY: `version` is a local variable to write to.
        unsafe { driver.version(&raw mut version) }.map_err(text)?;
        if version < MIN_DRIVER_VERSION {
            return Err(format!(
                "the driver is too old: of CUDA {}.{}",
                version / 1000,
                version % 1000 / 10
            ));
        }
        // SAFETY: the driver requires flags of 0.
        unsafe { driver.init(0) }.map_err(text)?;
        Ok(driver)
    }

    #[inline]
    fn check(&self, call: &'static str, code: c_int) -> Result<()> {
        if code == CUDA_SUCCESS { Ok(()) } else { Err(self.error(call, code)) }
    }

    #[cold]
    fn error(&self, call: &'static str, code: c_int) -> Error {
        let text = |ask: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int| {
            let mut text: *const c_char = std::ptr::null();
            // SAFETY: `text` is a local variable to write to.
            unsafe { ask(code, &raw mut text) };
            // SAFETY: the driver wrote the address of a static string, or null if it does not know
            // the code.
            (!text.is_null())
                .then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        let message = match (text(self.error_name), text(self.error_string)) {
            (Some(name), Some(text)) => format!("{name}, {text}"),
            _ => "an unknown error".to_owned(),
        };
        Error::Cuda { call, code, message }
    }
}

/// The driver, which the first call loads; later calls return what that one found. `device` is the
/// one that the error names.
pub(super) fn driver(device: Device) -> Result<&'static Driver> {
    static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();
    match DRIVER.get_or_init(Driver::start) {
        Ok(driver) => Ok(driver),
        Err(reason) => Err(Error::CudaUnavailable { device, reason: reason.clone() }),
    }
}

/// An address as the driver takes it.
pub(super) fn address<T>(data: *const T) -> CUdeviceptr {
    data.cast::<c_void>().expose_provenance() as CUdeviceptr
}
