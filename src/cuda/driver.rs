//! CUDA's driver: found when it is first needed, and what it answers.
//!
//! cudarc finds the library and has the types. Its own functions are not used: they end the process where the
//! driver lacks one, and take the driver's answer for a Rust enum, which a newer driver may not keep to.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use cudarc::driver::sys::{
    CUcontext, CUdeviceptr, CUevent, CUfunction, CUmodule, CUstream, culib, is_culib_present,
};

use crate::{Device, Error, Result};

pub(super) const SUCCESS: c_int = 0;
pub(super) const INVALID_VALUE: c_int = 1;
pub(super) const OUT_OF_MEMORY: c_int = 2;
pub(super) const INVALID_HANDLE: c_int = 400;
pub(super) const NOT_READY: c_int = 600;

/// `CU_STREAM_CAPTURE_MODE_RELAXED`.
pub(super) const RELAXED: c_int = 2;

/// `CU_EVENT_DISABLE_TIMING`.
pub(super) const NO_TIMING: c_uint = 2;
/// `CU_STREAM_NON_BLOCKING`.
pub(super) const NON_BLOCKING: c_uint = 1;
/// `CU_MEMHOSTALLOC_PORTABLE`: page-locked for every device.
pub(super) const PORTABLE: c_uint = 1;
/// `CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL`.
pub(super) const DEVICE_ORDINAL: c_int = 9;
/// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`.
pub(super) const MEMORY_TYPE: c_int = 2;
/// `CU_MEMORYTYPE_DEVICE`.
pub(super) const DEVICE_MEMORY: c_int = 2;
/// `CU_MEMORYTYPE_HOST`.
pub(super) const HOST_MEMORY: c_uint = 1;
/// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`.
pub(super) const MULTIPROCESSORS: c_int = 16;

/// The first driver with stream-ordered memory: CUDA 11.2.
const OLDEST: c_int = 11_020;

macro_rules! driver {
    ($($name:ident = $symbol:literal($($argument:ident: $type:ty),*);)*) => {
        /// The functions that are needed of it.
        pub(super) struct Driver {
            $($name: unsafe extern "C" fn($($type),*) -> c_int,)*
        }

        impl Driver {
            fn load() -> Result<Self, &'static str> {
                // SAFETY: loads NVIDIA's library, whose initialisers may run at any time.
                if !unsafe { is_culib_present() } {
                    return Err("there is no driver (libcuda.so.1)");
                }
                // SAFETY: likewise; it is there.
                let library = unsafe { culib() };
                Ok(Self {
                    $($name: {
                        // SAFETY: the driver's function of this name has this type.
                        let symbol = unsafe {
                            library.get::<unsafe extern "C" fn($($type),*) -> c_int>(concat!($symbol, "\0").as_bytes())
                        };
                        *symbol.map_err(|_| concat!("the driver is too old: it has no ", $symbol))?
                    },)*
                })
            }

            $(
                #[allow(dead_code, clippy::too_many_arguments, reason = "the driver's own")]
                /// # Safety
                /// * What the driver's documentation says of this function.
                pub(super) unsafe fn $name(&self, $($argument: $type),*) -> Result<()> {
                    // SAFETY: the caller's promise.
                    match unsafe { (self.$name)($($argument),*) } {
                        SUCCESS => Ok(()),
                        code => Err(self.error($symbol, code)),
                    }
                }
            )*
        }
    };
}

driver! {
    init = "cuInit"(flags: c_uint);
    version = "cuDriverGetVersion"(version: *mut c_int);
    device_count = "cuDeviceGetCount"(count: *mut c_int);
    device = "cuDeviceGet"(device: *mut c_int, index: c_int);
    device_attribute = "cuDeviceGetAttribute"(value: *mut c_int, attribute: c_int, device: c_int);
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
    copy_to_device = "cuMemcpyHtoDAsync_v2"(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream);
    copy_to_host = "cuMemcpyDtoHAsync_v2"(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream);
    copy_on_device = "cuMemcpyDtoDAsync_v2"(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream);
    copy_to_peer = "cuMemcpyPeerAsync"(
        to: CUdeviceptr,
        to_context: CUcontext,
        from: CUdeviceptr,
        from_context: CUcontext,
        bytes: usize,
        stream: CUstream
    );
    pointer_attribute = "cuPointerGetAttribute"(value: *mut c_void, attribute: c_int, address: CUdeviceptr);
    load_module = "cuModuleLoadData"(module: *mut CUmodule, image: *const c_void);
    module_function = "cuModuleGetFunction"(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    launch = "cuLaunchKernel"(
        function: CUfunction,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: CUstream,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void
    );
    error_name = "cuGetErrorName"(code: c_int, text: *mut *const c_char);
    error_string = "cuGetErrorString"(code: c_int, text: *mut *const c_char);
}

impl Driver {
    /// The driver, ready for use.
    fn start() -> Result<Self, String> {
        let driver = Self::load()?;
        let refused = |error: Error| error.to_string();
        let mut version = 0;
        // SAFETY: room for the number.
        unsafe { driver.version(&raw mut version) }.map_err(refused)?;
        if version < OLDEST {
            return Err(format!(
                "the driver is too old: of CUDA {}.{}",
                version / 1000,
                version % 1000 / 10
            ));
        }
        // SAFETY: the flags must be 0.
        unsafe { driver.init(0) }.map_err(refused)?;
        Ok(driver)
    }

    #[cold]
    fn error(&self, call: &'static str, code: c_int) -> Error {
        let text = |ask: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int| {
            let mut text: *const c_char = std::ptr::null();
            // SAFETY: room for an address.
            unsafe { ask(code, &raw mut text) };
            // SAFETY: a static string of the driver's, unless it does not know the code.
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

/// The driver, for something to be done with a device. The first call looks for it; what that finds stays.
pub(super) fn driver(device: Device) -> Result<&'static Driver> {
    static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();
    match DRIVER.get_or_init(Driver::start) {
        Ok(driver) => Ok(driver),
        Err(reason) => Err(Error::CudaUnavailable { device, reason: reason.clone() }),
    }
}
