//! The fake CUDA driver: its log and its faults, and memory and streams on it that dlbridge did not make.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlbridge::{DType, Descriptor, Device, Layout, Tensor};

static ALONE: Mutex<()> = Mutex::new(());

/// A function of the driver or of its control.
pub(crate) fn function<F: Copy>(name: &CStr) -> F {
    assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
    // SAFETY: a string; loads a library that is there, or nothing.
    let library = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY) };
    let hint = "these tests need the fake CUDA driver: `cargo xtask test` builds it and puts it on LD_LIBRARY_PATH";
    assert!(!library.is_null(), "{hint}");
    // SAFETY: a library that stays loaded.
    let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!symbol.is_null(), "{hint} (there is no {name:?})");
    // SAFETY: the caller asks for the type that the function has.
    unsafe { std::mem::transmute_copy(&symbol) }
}

/// Calls a function of the driver, and expects it to succeed.
macro_rules! cuda {
    ($name:ident($($argument:expr => $type:ty),* $(,)?)) => {{
        let name = std::ffi::CString::new(stringify!($name)).expect("a name");
        let call = $crate::fake_cuda::function::<unsafe extern "C" fn($($type),*) -> std::ffi::c_int>(&name);
        // SAFETY: the driver's function of this type; the test's own objects.
        assert_eq!(unsafe { call($($argument),*) }, 0, stringify!($name));
    }};
}
pub(crate) use cuda;

/// The fake driver, for one test at a time.
pub(crate) struct Session {
    live: [i64; 5],
    _alone: MutexGuard<'static, ()>,
}

fn live() -> [i64; 5] {
    let live = function::<unsafe extern "C" fn(c_int) -> i64>(c"fake_cuda_live");
    // SAFETY: a number for a number. The kinds: device memory, page-locked memory, events, streams, contexts.
    std::array::from_fn(|kind| unsafe { live(kind as c_int) })
}

fn text(name: &CStr) -> String {
    let read = function::<unsafe extern "C" fn(*mut c_char, usize) -> usize>(name);
    // SAFETY: no room for anything.
    let size = unsafe { read(std::ptr::null_mut(), 0) } + 1024;
    let mut text = vec![0_u8; size];
    // SAFETY: so much room.
    unsafe { read(text.as_mut_ptr().cast(), size) };
    CStr::from_bytes_until_nul(&text).expect("an end").to_str().expect("UTF-8").to_owned()
}

impl Session {
    pub(crate) fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // What is kept for later transfers exists from here on.
        for index in 0..2 {
            let warm = Tensor::zeros::<u8>([5])
                .expect("host memory")
                .cuda(index)
                .expect("the fake driver");
            let strided = memory(index, &[3, 2], &[1, 5], DType::U8, &[1; 8]).deep_clone();
            drop((warm.cpu().expect("the fake driver"), strided.expect("the fake driver")));
        }
        Self::forget();
        Self { live: live(), _alone: alone }
    }

    /// Forgets the log, faults and injected failures.
    pub(crate) fn forget() {
        let reset = function::<unsafe extern "C" fn(c_int)>(c"fake_cuda_reset");
        // SAFETY: a number of devices.
        unsafe { reset(2) };
    }

    /// Has the machine no devices from now on.
    pub(crate) fn forget_devices() {
        let reset = function::<unsafe extern "C" fn(c_int)>(c"fake_cuda_reset");
        // SAFETY: a number of devices.
        unsafe { reset(0) };
    }

    /// The calls so far.
    pub(crate) fn log(&self) -> Vec<String> {
        text(c"fake_cuda_log").lines().map(str::to_owned).collect()
    }

    /// The calls so far of some functions.
    pub(crate) fn log_of(&self, functions: &[&str]) -> Vec<String> {
        let named =
            |line: &String| functions.iter().any(|name| line.split(' ').next() == Some(name));
        self.log().into_iter().filter(named).collect()
    }

    pub(crate) fn faults(&self) -> String {
        text(c"fake_cuda_faults")
    }

    /// Has the nth call of a function from now on fail.
    pub(crate) fn fail(&self, name: &str, nth: i32, code: i32) {
        let name = CString::new(name).expect("a name");
        let fail = function::<unsafe extern "C" fn(*const c_char, c_int, c_int)>(c"fake_cuda_fail");
        // SAFETY: a string and numbers.
        unsafe { fail(name.as_ptr(), nth, code) };
    }

    /// How many contexts are on this thread's stack.
    pub(crate) fn depth(&self) -> i32 {
        depth()
    }

    /// All is well: no fault, nothing left behind, no context left current.
    pub(crate) fn check(&self) {
        settle();
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
    // SAFETY: no arguments.
    unsafe { depth() }
}

/// Has both devices do everything.
pub(crate) fn settle() {
    for index in 0..2 {
        let current = Current::of(index);
        cuda!(cuCtxSynchronize());
        drop(current);
    }
}

/// A device's context, current on this thread.
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

/// A device's primary context, which dlbridge keeps.
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

/// Somebody else's stream; its number is its address.
pub(crate) struct Theirs {
    pub(crate) index: i32,
    pub(crate) raw: *mut c_void,
}

impl Theirs {
    pub(crate) fn new(index: i32) -> Self {
        let _current = Current::of(index);
        let mut raw = std::ptr::null_mut();
        cuda!(cuStreamCreate(&raw mut raw => *mut *mut c_void, 1 => u32));
        Self { index, raw }
    }

    pub(crate) fn number(&self) -> i64 {
        self.raw.expose_provenance() as i64
    }

    /// The same stream for dlbridge.
    pub(crate) fn stream(&self) -> dlbridge::Stream {
        // SAFETY: the test keeps the stream.
        unsafe { dlbridge::Stream::from_raw(Device::cuda(self.index), self.number(), ()) }
            .expect("a stream")
    }

    /// Puts a copy to a tensor's memory on the stream. The fake driver copies the bytes at once.
    pub(crate) fn write(&self, tensor: &Tensor, bytes: &[u8]) {
        write(tensor.data_ptr(), bytes, self.index, self.raw);
    }

    /// Puts a copy from a tensor's memory to page-locked memory on the stream.
    pub(crate) fn read(&self, tensor: &Tensor, target: &Pinned) {
        read(tensor, target, self.index, self.raw);
    }

    pub(crate) fn synchronize(&self) {
        synchronize(self.index, self.raw);
    }

    /// Begins to capture a graph on the stream, or ends it.
    pub(crate) fn capture(&self, captures: bool) {
        cuda!(fake_cuda_capture(self.raw => *mut c_void, captures.into() => c_int));
    }
}

/// Puts a copy from a tensor's memory to page-locked memory on a stream.
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

impl Drop for Theirs {
    fn drop(&mut self) {
        let _current = Current::of(self.index);
        cuda!(cuStreamDestroy_v2(self.raw => *mut c_void));
    }
}

/// Page-locked memory of somebody else's.
pub(crate) struct Pinned(pub(crate) *mut u8, usize);

impl Pinned {
    pub(crate) fn new(bytes: usize) -> Self {
        let _current = Current::of(0);
        let mut data: *mut c_void = std::ptr::null_mut();
        cuda!(cuMemHostAlloc(&raw mut data => *mut *mut c_void, bytes => usize, 1 => u32));
        Self(data.cast(), bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: memory of the test's own, of this size.
        unsafe { std::slice::from_raw_parts(self.0, self.1) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _current = Current::of(0);
        cuda!(cuMemFreeHost(self.0.cast() => *mut c_void));
    }
}

fn write(to: *mut c_void, bytes: &[u8], index: i32, stream: *mut c_void) {
    let _current = Current::of(index);
    cuda!(cuMemcpyHtoDAsync_v2(
        to.expose_provenance() as u64 => u64,
        bytes.as_ptr().cast() => *const c_void,
        bytes.len() => usize,
        stream => *mut c_void
    ));
}

/// What device memory holds at this moment.
pub(crate) fn peek(address: *mut c_void, bytes: usize) -> Vec<u8> {
    let mut seen = vec![0; bytes];
    cuda!(fake_cuda_peek(
        address.expose_provenance() as u64 => u64,
        seen.as_mut_ptr().cast() => *mut c_void,
        bytes => usize
    ));
    seen
}

/// Memory of a device that somebody else allocated, on the legacy default stream.
pub(crate) struct Foreign {
    index: i32,
    address: u64,
    /// On which it is freed.
    stream: usize,
}

// SAFETY: an address, which the fake driver takes on any thread.
unsafe impl Send for Foreign {}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _current = Current::of(self.index);
        let stream = std::ptr::with_exposed_provenance_mut(self.stream);
        cuda!(cuMemFreeAsync(self.address => u64, stream => *mut c_void));
    }
}

/// A tensor over somebody else's device memory, which holds `bytes` and no more: from the lowest element to the
/// highest.
pub(crate) fn memory(
    index: i32,
    shape: &[i64],
    strides: &[i64],
    dtype: DType,
    bytes: &[u8],
) -> Tensor {
    freed_on(1, index, shape, strides, dtype, bytes)
}

/// The same, freed on a stream of this number.
pub(crate) fn freed_on(
    stream: i64,
    index: i32,
    shape: &[i64],
    strides: &[i64],
    dtype: DType,
    bytes: &[u8],
) -> Tensor {
    let _current = Current::of(index);
    let legacy = std::ptr::without_provenance_mut(1);
    let mut address = 0;
    cuda!(cuMemAllocAsync(&raw mut address => *mut u64, bytes.len().max(1) => usize, legacy => *mut c_void));
    let start = std::ptr::with_exposed_provenance_mut::<c_void>(address as usize);
    if !bytes.is_empty() {
        write(start, bytes, index, legacy);
    }
    let layout = Layout::new(shape, strides).expect("a layout");
    let lowest = layout.extent().map_or(0, |(low, _)| low) * dtype.itemsize().unwrap_or(0) as i64;
    let first = start.wrapping_byte_offset(-lowest as isize);
    let descriptor = Descriptor::new(first, layout, dtype, Device::cuda(index)).expect("valid");
    // SAFETY: the owner, `Foreign`, keeps this memory of the fake driver allocated, and `bytes` fills the layout.
    unsafe {
        Tensor::from_raw_parts(
            descriptor,
            true,
            Foreign { index, address, stream: stream as usize },
        )
    }
}
