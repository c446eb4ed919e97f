//! The fake CUDA driver: its log and its faults, and memory and streams on it that dlbridge did not
//! make.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlbridge::{DType, Descriptor, Device, Layout, Tensor};

/// The handle of the legacy default stream.
const LEGACY: usize = 1;

/// A function of the driver, or one of the fake driver's own. `F` is its type.
pub(crate) fn function<F: Copy>(name: &CStr) -> F {
    assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
    // SAFETY: the name is a C string, and loading the fake driver runs no code.
    let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY) };
    let hint = "these tests need the fake CUDA driver: `cargo xtask test` builds it and puts it on \
                LD_LIBRARY_PATH";
    assert!(!library.is_null(), "{hint}");
    // SAFETY: `library` is open and is never closed, and the name is a C string.
    let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!symbol.is_null(), "{hint} (there is no {name:?})");
    // SAFETY: `F` has the size of a pointer, and the caller names the function's type.
    unsafe { std::mem::transmute_copy(&symbol) }
}

/// Calls a function of the driver, and expects it to succeed.
macro_rules! cuda {
    ($name:ident($($argument:expr => $type:ty),* $(,)?)) => {{
        let name = std::ffi::CString::new(stringify!($name)).expect("a name");
        type Function = unsafe extern "C" fn($($type),*) -> std::ffi::c_int;
        let call = $crate::fake_cuda::function::<Function>(&name);
        // SAFETY: the test names the function's own type, and passes objects that live.
        assert_eq!(unsafe { call($($argument),*) }, 0, stringify!($name));
    }};
}
pub(crate) use cuda;

/// The use of the fake driver by one test. Other tests wait until it is dropped.
pub(crate) struct Session {
    live: [i64; 5],
    _serial: MutexGuard<'static, ()>,
}

/// How many allocations of device memory and page-locked memory, events, streams and retains of
/// contexts there are.
fn live() -> [i64; 5] {
    let live = function::<unsafe extern "C" fn(c_int) -> i64>(c"fake_cuda_live");
    // SAFETY: the function takes any number.
    std::array::from_fn(|object| unsafe { live(object as c_int) })
}

/// The text that a function of the fake driver writes.
fn text(name: &CStr) -> String {
    let read = function::<unsafe extern "C" fn(*mut c_char, usize) -> usize>(name);
    // SAFETY: the size is 0, so nothing is written.
    let size = unsafe { read(std::ptr::null_mut(), 0) } + 1024;
    let mut text = vec![0_u8; size];
    // SAFETY: the buffer has `size` bytes.
    unsafe { read(text.as_mut_ptr().cast(), size) };
    CStr::from_bytes_until_nul(&text).expect("an end").to_str().expect("UTF-8").to_owned()
}

impl Session {
    pub(crate) fn new() -> Self {
        static SERIAL: Mutex<()> = Mutex::new(());
        let serial = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
        // dlbridge creates its caches in these copies, so that they do not count as leaks.
        for index in 0..2 {
            let warm = Tensor::zeros::<u8>([5])
                .expect("host memory")
                .cuda(index)
                .expect("the fake driver");
            let strided = memory(index, &[3, 2], &[1, 5], DType::U8, &[1; 8]).deep_clone();
            drop((warm.cpu().expect("the fake driver"), strided.expect("the fake driver")));
        }
        Self::forget();
        Self { live: live(), _serial: serial }
    }

    /// Clears the log, the faults and the injected failures.
    pub(crate) fn forget() {
        let reset = function::<unsafe extern "C" fn(c_int)>(c"fake_cuda_reset");
        // SAFETY: the function takes any number of devices.
        unsafe { reset(2) };
    }

    /// Makes the driver report no devices from now on.
    pub(crate) fn remove_devices() {
        let reset = function::<unsafe extern "C" fn(c_int)>(c"fake_cuda_reset");
        // SAFETY: the function takes any number of devices.
        unsafe { reset(0) };
    }

    /// The calls since the log was cleared.
    pub(crate) fn log(&self) -> Vec<String> {
        text(c"fake_cuda_log").lines().map(str::to_owned).collect()
    }

    /// The calls of some functions since the log was cleared.
    pub(crate) fn log_of(&self, functions: &[&str]) -> Vec<String> {
        let named =
            |line: &String| functions.iter().any(|name| line.split(' ').next() == Some(name));
        self.log().into_iter().filter(named).collect()
    }

    pub(crate) fn faults(&self) -> String {
        text(c"fake_cuda_faults")
    }

    /// Lets the `nth` next call of a function fail.
    pub(crate) fn fail(&self, name: &str, nth: i32, code: i32) {
        let name = CString::new(name).expect("a name");
        let fail = function::<unsafe extern "C" fn(*const c_char, c_int, c_int)>(c"fake_cuda_fail");
        // SAFETY: the name is a C string, and the function takes any numbers.
        unsafe { fail(name.as_ptr(), nth, code) };
    }

    /// How many contexts are on this thread's stack.
    pub(crate) fn depth(&self) -> i32 {
        depth()
    }

    /// Checks that there are no faults, that nothing is leaked, and that no context is current.
    pub(crate) fn check(&self) {
        synchronize_devices();
        assert_eq!(self.faults(), "");
        assert_eq!(
            live(),
            self.live,
            "device memory, page-locked memory, events, streams, contexts"
        );
        assert_eq!(self.depth(), 0);
    }
}

/// How many contexts are on this thread's stack.
pub(crate) fn depth() -> i32 {
    let depth = function::<unsafe extern "C" fn() -> c_int>(c"fake_cuda_current_depth");
    // SAFETY: the function has no arguments.
    unsafe { depth() }
}

/// Runs everything that is queued on both devices.
pub(crate) fn synchronize_devices() {
    for index in 0..2 {
        let current = Current::of(index);
        cuda!(cuCtxSynchronize());
        drop(current);
    }
}

/// Makes a device's context current on this thread until it is dropped.
pub(crate) struct Current;

impl Current {
    pub(crate) fn of(index: i32) -> Self {
        let context = context(index);
        cuda!(cuCtxPushCurrent_v2(context => *mut c_void));
        Self
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        cuda!(cuCtxPopCurrent_v2(&raw mut popped => *mut *mut c_void));
    }
}

/// A device's primary context. It stays retained, by dlbridge and by these tests.
pub(crate) fn context(index: i32) -> *mut c_void {
    static KNOWN: Mutex<[usize; 2]> = Mutex::new([0; 2]);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = &mut known[index as usize];
    if *known == 0 {
        let mut context: *mut c_void = std::ptr::null_mut();
        cuda!(cuInit(0 => u32));
        cuda!(cuDevicePrimaryCtxRetain(&raw mut context => *mut *mut c_void, index => c_int));
        *known = context.expose_provenance();
    }
    std::ptr::with_exposed_provenance_mut(*known)
}

/// A stream that dlbridge did not make.
pub(crate) struct ExternalStream {
    pub(crate) index: i32,
    pub(crate) raw: *mut c_void,
}

impl ExternalStream {
    pub(crate) fn new(index: i32) -> Self {
        let _current = Current::of(index);
        let mut raw = std::ptr::null_mut();
        cuda!(cuStreamCreate(&raw mut raw => *mut *mut c_void, 1 => u32));
        Self { index, raw }
    }

    pub(crate) fn as_raw(&self) -> i64 {
        self.raw.expose_provenance() as i64
    }

    /// The same stream as dlbridge's type.
    pub(crate) fn stream(&self) -> dlbridge::Stream {
        // SAFETY: the test keeps `self`, which destroys the stream when it is dropped, long enough.
        unsafe { dlbridge::Stream::from_raw(Device::cuda(self.index), self.as_raw(), ()) }
            .expect("a stream")
    }

    /// Queues a copy to a tensor's memory on the stream. The driver reads `bytes` at once.
    pub(crate) fn write(&self, tensor: &Tensor, bytes: &[u8]) {
        write(tensor.data_ptr(), bytes, self.index, self.raw);
    }

    /// Queues a copy from a tensor's memory to page-locked memory on the stream.
    pub(crate) fn read(&self, tensor: &Tensor, target: &Pinned) {
        read(tensor, target, self.index, self.raw);
    }

    pub(crate) fn synchronize(&self) {
        synchronize(self.index, self.raw);
    }

    /// Marks the stream as one that a graph is being captured on, or not.
    pub(crate) fn capture(&self, captures: bool) {
        cuda!(fake_cuda_capture(self.raw => *mut c_void, captures.into() => c_int));
    }
}

/// Queues a copy from a tensor's memory to page-locked memory on a stream.
pub(crate) fn read(tensor: &Tensor, target: &Pinned, index: i32, stream: *mut c_void) {
    let _current = Current::of(index);
    let from = tensor.data_ptr().expose_provenance() as u64;
    cuda!(cuMemcpyDtoHAsync_v2(
        target.0.cast() => *mut c_void,
        from => u64,
        tensor.nbytes() => usize,
        stream => *mut c_void
    ));
}

pub(crate) fn synchronize(index: i32, stream: *mut c_void) {
    let _current = Current::of(index);
    cuda!(cuStreamSynchronize(stream => *mut c_void));
}

impl Drop for ExternalStream {
    fn drop(&mut self) {
        let _current = Current::of(self.index);
        cuda!(cuStreamDestroy_v2(self.raw => *mut c_void));
    }
}

/// Page-locked memory that dlbridge did not make.
pub(crate) struct Pinned(pub(crate) *mut u8, usize);

impl Pinned {
    pub(crate) fn new(bytes: usize) -> Self {
        let _current = Current::of(0);
        let mut data: *mut c_void = std::ptr::null_mut();
        cuda!(cuMemHostAlloc(&raw mut data => *mut *mut c_void, bytes => usize, 1 => u32));
        Self(data.cast(), bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `new` allocated this many bytes, which the driver initialised.
        unsafe { std::slice::from_raw_parts(self.0, self.1) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _current = Current::of(0);
        cuda!(cuMemFreeHost(self.0.cast() => *mut c_void));
    }
}

/// Queues a copy to device memory on a stream. The driver reads `bytes` before it returns.
fn write(to: *mut c_void, bytes: &[u8], index: i32, stream: *mut c_void) {
    let _current = Current::of(index);
    cuda!(cuMemcpyHtoDAsync_v2(
        to.expose_provenance() as u64 => u64,
        bytes.as_ptr().cast() => *const c_void,
        bytes.len() => usize,
        stream => *mut c_void
    ));
}

/// The bytes of device memory at this moment. Runs no queued work.
pub(crate) fn peek(address: *mut c_void, bytes: usize) -> Vec<u8> {
    let mut seen = vec![0; bytes];
    cuda!(fake_cuda_peek(
        address.expose_provenance() as u64 => u64,
        seen.as_mut_ptr().cast() => *mut c_void,
        bytes => usize
    ));
    seen
}

/// Memory of a device that dlbridge did not allocate.
pub(crate) struct ExternalMemory {
    index: i32,
    address: u64,
    bytes: usize,
    /// The stream that frees it.
    free_stream: usize,
}

// SAFETY: an address and numbers, which the driver takes on any thread.
unsafe impl Send for ExternalMemory {}

impl ExternalMemory {
    /// Allocates memory of a device, and queues a copy of `bytes` into it, on the legacy default
    /// stream.
    pub(crate) fn new(index: i32, free_stream: i64, bytes: &[u8]) -> Self {
        let _current = Current::of(index);
        let legacy = std::ptr::without_provenance_mut(LEGACY);
        let mut address = 0;
        cuda!(cuMemAllocAsync(
            &raw mut address => *mut u64,
            bytes.len().max(1) => usize,
            legacy => *mut c_void
        ));
        let memory = Self { index, address, bytes: bytes.len(), free_stream: free_stream as usize };
        if !bytes.is_empty() {
            write(memory.data_ptr(), bytes, index, legacy);
        }
        memory
    }

    fn data_ptr(&self) -> *mut c_void {
        std::ptr::with_exposed_provenance_mut(self.address as usize)
    }

    /// A tensor over all of the memory, from its lowest element to its highest.
    pub(crate) fn into_tensor(self, shape: &[i64], strides: &[i64], dtype: DType) -> Tensor {
        let layout = Layout::new(shape, strides).expect("a layout");
        let (low, high) = layout.extent().unwrap_or((0, -1));
        let itemsize = dtype.itemsize().unwrap_or(0) as i64;
        assert!((high - low + 1) * itemsize <= self.bytes as i64, "the layout exceeds the memory");
        let first = self.data_ptr().wrapping_byte_offset((-low * itemsize) as isize);
        let descriptor =
            Descriptor::new(first, layout, dtype, Device::cuda(self.index)).expect("valid");
        // SAFETY: `self` keeps the memory allocated, and all elements are inside it.
        unsafe { Tensor::from_raw_parts(descriptor, true, self) }
    }
}

impl Drop for ExternalMemory {
    fn drop(&mut self) {
        let _current = Current::of(self.index);
        let stream = std::ptr::with_exposed_provenance_mut(self.free_stream);
        cuda!(cuMemFreeAsync(self.address => u64, stream => *mut c_void));
    }
}

/// A tensor over device memory that dlbridge did not allocate, which holds `bytes` from the lowest
/// element to the highest.
pub(crate) fn memory(
    index: i32,
    shape: &[i64],
    strides: &[i64],
    dtype: DType,
    bytes: &[u8],
) -> Tensor {
    ExternalMemory::new(index, LEGACY as i64, bytes).into_tensor(shape, strides, dtype)
}
