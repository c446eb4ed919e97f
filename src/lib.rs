//! Moves tensors between libraries without copying their elements.
//!
//! dlbridge exchanges strided buffers between [`ndarray`](https://docs.rs/ndarray) arrays, libtorch
//! tensors ([`tch`](https://docs.rs/tch)) and every library that supports
//! [DLPack](https://dmlc.github.io/dlpack/latest/). Ownership decides who may read and write a
//! buffer, and who releases it. A method copies elements only if its name says so.
//!
//! ```
//! use dlbridge::{ArrayExt, NdArray, Tensor};
//! use ndarray::{Ix2, array};
//!
//! let array = array![[1.0_f32, 2.0], [3.0, 4.0]];
//! let address = array.as_ptr();
//!
//! let tensor = array.into_tensor();                 // moved: O(1)
//! let mut matrix: NdArray<f32, Ix2> = tensor.into_ndarray()?; // an ndarray again, by Deref
//! assert_eq!(matrix.sum(), 10.0);
//! matrix.get_mut()?[[0, 0]] = 5.0;                  // the only handle may write
//!
//! let copy = matrix.to_tensor()?;                   // `to_` copies
//! let array = matrix.into_array()?;                 // the array from above
//! assert_eq!(array.as_ptr(), address);
//! assert_eq!(copy.to_list()?.to_string(), "[[5.0, 2.0], [3.0, 4.0]]");
//! # Ok::<(), dlbridge::Error>(())
//! ```
//!
//! With the feature `torch`, `array.into_torch()?` moves an array into a libtorch tensor, and
//! `tensor.into_ndarray::<f32, Ix2>()?` moves a libtorch tensor into an array.
//! `tensor.as_ndarray_mut::<f32, Ix2>()?` borrows a libtorch tensor as an array.
//! `examples/tour.rs` shows the counterparts of the methods that Python users know from NumPy and
//! PyTorch. The [site](https://dlbridge.github.io/dlbridge/) has guides for Rust, C, C++ and Python.
//!
//! # The method prefix says what is copied
//!
//! | method | what it does | elements copied | if it fails |
//! |---|---|---|---|
//! | `into_x(self)` | moves the buffer | never | the source comes back inside [`Rejected`] |
//! | `as_x(&self)`, `as_x_mut(&mut self)` | borrows the buffer | never | error |
//! | `share_x(&self)` | makes one more owner of the same memory | never | error |
//! | `to_x(&self)` | makes a deep copy, in another type or on another device | always | error |
//! | `deep_clone(&self)` | makes a deep copy in the same type, as torch's `clone` does | always | error |
//! | `into_device(self)`, `cpu`, `cuda`, `pin` | returns the tensor unchanged if it is there already, and otherwise a copy | unless it is there already | the source comes back inside [`Rejected`] |
//! | [`permute`](Tensor::permute), [`slice`](Tensor::slice), [`reshape`](Tensor::reshape) and other views | describes the same memory in another way | never | the tensor comes back inside [`Rejected`] |
//! | `lend_x(&mut self, closure)` | moves the buffer for the duration of the closure | only if the closure keeps a handle | error |
//! | `lend_x_or_abort(&mut self, closure)` | lends the buffer of an array view for the duration of the closure | never; ends the process if the closure keeps a handle | error |
//!
//! These methods copy, too: [`Tensor::from_slice`], [`Tensor::copy_into`] and the methods whose
//! names begin with `copy_into_`, `Tensor::start_to_device`, and, if `get_mut` fails,
//! `NdArray::make_mut`. No method converts elements to another type. Owning handles are not
//! `Clone`. A method whose name ends in `_unchecked` is `unsafe`: its caller guarantees what this
//! crate cannot check.
//!
//! # Ownership
//!
//! ```text
//!  Vec · Array · tch::Tensor · DLManagedTensor* · C callback · any AsRef<[T]> or AsMut<[T]>
//!         │                                                      the owner: dropped exactly once
//!         └──► storage (owner + Access) ◄── Tensor = storage + address + layout + dtype + device
//!                                       ◄── Tensor (share) · NdArray · Exported
//! ```
//!
//! [`Access`] says who can reach the memory. `Exclusive` memory is written only through its only
//! handle. `ReadOnly` memory is never written. `Aliased` memory can be reached by code outside this
//! crate, and only `unsafe` functions of this crate write it.
//!
//! # Guarantees
//!
//! * An owner is dropped exactly once, on any thread: after success, after an error, and after a
//!   panic.
//! * Safe code may write memory, or move it into libtorch, only if it has the only handle, and if
//!   no other code can reach the memory. There are two exceptions for aliased, writable memory: a
//!   DLPack export of it is writable, because writing through a struct needs `unsafe`; and CUDA
//!   memory can be moved into libtorch, because host code has no views of it.
//! * A view cannot outlive the handle that it borrows from. A handle keeps the memory.
//! * Bytes are always checked to be 0 or 1 before they are read as Rust `bool`.
//! * Descriptions from other libraries are checked before any element is read. For bad input the
//!   result is an [`Error`] that names the field and its value, never a panic.
//! * No panic passes into C or C++ code. If an owner panics in a deleter, the deleter contains the
//!   panic. If an owner panics while Rust code drops it, the panic unwinds as usual.
//! * libtorch never gets an input that makes it abort: negative strides, or sizes that exceed the
//!   address space.
//! * A libtorch tensor is accepted only if all its dispatch keys are those of ordinary CPU and CUDA
//!   tensors, and if its elements lie within a storage that has memory. The error for any other
//!   tensor names the key or the layout.
//!
//! # Limits
//!
//! * A DLPack struct's pointer and bounds cannot be validated, so importing one is `unsafe`. The
//!   same is true of dlpark's managed tensors, except those that this crate made.
//! * `SafeTensorFile::open` of dlpark is a safe function that maps a file. Its tensors count as
//!   read-only, although another program may write or shorten the file. If that can happen, read
//!   the file into memory.
//! * A consumer may ignore the flag `READ_ONLY`. libtorch does, so this crate never gives read-only
//!   memory to libtorch.
//! * `tch::Tensor` is `Send`, and `shallow_clone` makes a second handle through `&self`. Safe code
//!   can thus let two threads write and read the same libtorch tensor at the same time. Methods
//!   that take a libtorch tensor by reference (`to_…`, `share_dlpack`) then take part in the race.
//! * libtorch moves a tensor to other memory when `resize_` enlarges it, when `set_source_tensor_`
//!   or `set_data` gives it another storage, and when a lazy clone is written. Safe views are not
//!   affected, because each borrows the only tensor of its storage. The methods
//!   `as_ndarray_unchecked`, `into_tensor_unchecked` and `share_torch_unchecked` cannot detect such
//!   a move: their callers must exclude it. A struct from `share_dlpack` keeps the memory that it
//!   names, and later writes to the moved tensor do not reach that memory. If a tensor from
//!   `into_torch` is moved, the memory of the array is released.
//! * Memory that libtorch allocated and never wrote (`Tensor::empty`) reads as arbitrary numbers.
//! * A thread copies alone if its rayon pool has ended: in the pool's `exit_handler`, or after a
//!   pool that was made with `use_current_thread` was dropped. The copy still offers work to that
//!   pool. A rayon that was built with debug assertions then aborts the process, as it does for
//!   every `rayon::spawn` on that thread.
//! * A large copy uses 80 KiB of stack on every thread that takes part, including threads of the
//!   caller's rayon pool. If the stack of a thread is too small, the process aborts. A
//!   `ThreadPoolBuilder::stack_size` of 1 MiB is enough.
//! * A struct of this crate is unwrapped when it comes back. If another library wrapped the buffer
//!   in a struct of its own, or if the struct was changed, the buffer is wrapped once more.
//! * If an owner panics while it is dropped during another panic, Rust aborts the process.
//!
//! # Copies
//!
//! One copy engine makes all deep copies, for every pair of layouts. It sorts the dimensions by
//! stride and merges those that can be stepped through as one. It transposes elements of 1 to 16
//! bytes in registers. For targets of 4 MiB or more in used memory, it collects the elements in a
//! buffer that fits the core's own cache, and writes that buffer to memory with non-temporal
//! stores, in whole cache lines. It reads and writes only elements, never the gaps between them.
//! `docs/benchmarks` has measurements.
//!
//! With the feature `parallel`, large copies use several threads: those of the rayon pool that the
//! caller is in, or else threads of this crate, as many as there are processors or as the
//! environment variable `RAYON_NUM_THREADS` says. They are copies of at least 1 MiB in a pool, and
//! of at least 4 MiB outside of pools, or of 256 KiB in a loop of copies: after a copy, this
//! crate's threads stay awake for 100 microseconds. The caller's thread takes part. It runs no
//! other job meanwhile, and waits only for threads that are copying, so the caller may hold any
//! lock. In the child process of a fork, the caller's thread copies alone.
//!
//! Memory of 2 MiB or more that was allocated for a copy is cached when it is dropped, and a later
//! copy takes it again: filling pages that are there is several times as fast as getting new ones
//! from the system. [`set_cache_limit`] says how much is kept, and for how long; [`trim`] gives all
//! of it back.
//!
//! # CUDA
//!
//! With the feature `cuda`, [`Tensor::to_device`] and similar methods copy between the host and
//! CUDA devices. The CUDA driver is loaded when it is first needed. Host code never reads device
//! memory. If it tries, the result is [`Error::NotOnCpu`], which names [`Tensor::cpu`].
//!
//! * All work on device memory is put on a CUDA stream. A copy starts after the earlier work on the
//!   streams of its memory. A copy to the host is complete when the method returns. A copy to a
//!   device is complete in the order of the copy's stream. That is the legacy default stream, or
//!   the stream that was passed to a method whose name ends in `_on`.
//! * The elements of a DLPack export are ready on the legacy default stream. If the handle was
//!   given a stream with `with_stream`, they are ready on that stream. When the export is released,
//!   the device, not the host, waits for the work that is then on the stream, before it uses the
//!   memory again. Imported memory counts as written on the legacy default stream; `wait_stream`
//!   names another one. Imported memory is released in the order of the legacy default stream.
//! * Device memory comes from the default pool of the driver's stream-ordered allocator, in the
//!   device's primary context, which libtorch and the CUDA runtime use, too. The calling thread's
//!   current device stays unchanged.
//! * Every element is sent over the bus once: memory with gaps or with broadcast elements is packed
//!   on its own side first, so that neither gaps nor repeated elements are sent. Pageable host
//!   memory is copied through two page-locked buffers, which this crate keeps. Page-locked memory
//!   ([`Tensor::pin`]) is copied directly, and `start_to_device` copies it while the host does
//!   other work.
//! * A stream on which a CUDA graph is being captured is an error. While a blocking stream
//!   captures, the driver refuses work on the legacy default stream.
//! * A stream that other code made must live until the memory that was made or used on it is
//!   released.
//!
//! # Features
//!
//! * `cuda`: copies to, from and between CUDA devices, through cudarc. It needs nothing at build
//!   time, and a driver of CUDA 11.2 or newer at run time. The packages for C and Python have this
//!   feature.
//! * `dlpark`: conversions to and from the managed tensors of dlpark 0.10.
//! * `safetensors`: tensors of safetensors files that dlpark maps. It contains `dlpark`.
//! * `ndarray` (on by default): conversions to and from ndarray 0.17.
//! * `ndarray-0_16`: conversions to and from ndarray 0.16, alone or beside 0.17. The methods are
//!   the same for both versions: the dimension type (`ArrayDimension`) says which arrays a method
//!   returns.
//! * `parallel` (on by default): large copies use several threads.
//! * `serde`: `NdArray` is written and read in the format of ndarray's own arrays.
//! * `torch`: conversions to and from libtorch 2.11 to 2.13, through tch 0.24 to 0.26. It contains
//!   `ndarray`, and needs libtorch and a C++20 compiler at build time. A program that uses CUDA
//!   through tch must link `libtorch_cuda`. Linkers omit that library by default, because no symbol
//!   of it is used: pass `-Wl,--no-as-needed,-ltorch_cuda`.
//!
//! # C and C++
//!
//! The package `dlbridge-capi` is the C ABI of this crate: `dlbridge.h`, `dlbridge.hpp` and
//! `dlbridge/torch.hpp` in `include/`. Its functions return the number that [`Error::status`]
//! gives.

#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// `Rejected` contains the source, and a tensor contains its layout.
#![allow(clippy::result_large_err)]

mod contain_panic;
mod device;
mod dtype;
mod error;
mod layout;
mod list;
mod movable;
mod print;
mod remedy;
mod scalar;
mod shape;
mod sync;
mod tuple;

#[expect(unsafe_code, reason = "keeps a borrow of an owner beside the owner")]
mod borrowed_owner;
#[expect(unsafe_code, reason = "allocates memory")]
mod buffer;
#[expect(
    unsafe_code,
    reason = "copies through raw pointers, which may have writers outside this crate"
)]
mod copy;
#[cfg(feature = "cuda")]
#[expect(unsafe_code, reason = "calls CUDA's driver")]
mod cuda;
#[cfg(not(feature = "cuda"))]
#[expect(unsafe_code, reason = "declares the same unsafe functions as `cuda`")]
#[path = "cuda/disabled.rs"]
mod cuda;
#[expect(unsafe_code, reason = "sends an address between threads")]
mod descriptor;
#[expect(unsafe_code, reason = "publishes an address between threads")]
mod device_state;
#[expect(unsafe_code, reason = "consumes and gives out raw DLPack structs")]
mod dlpack;
#[expect(unsafe_code, reason = "reads and writes described memory")]
mod host_copy;
#[expect(unsafe_code, reason = "makes a value `Sync` that no shared reference gives access to")]
mod rejected;
#[expect(unsafe_code, reason = "its constructors rely on facts about memory")]
mod shared_buffer;
#[expect(unsafe_code, reason = "shares owners between threads and with C++")]
mod storage;
#[expect(unsafe_code, reason = "makes references of addresses")]
mod tensor;

#[cfg(feature = "dlpark")]
#[expect(unsafe_code, reason = "moves structs from and to dlpark's owners of them")]
mod dlpark;
#[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
#[expect(unsafe_code, reason = "makes array views of addresses")]
mod ndarray;
#[cfg(feature = "torch")]
#[expect(unsafe_code, reason = "calls libtorch")]
mod torch;

/// The structs of DLPack 1.3, as their C header declares them.
#[expect(missing_docs, reason = "generated; include/dlpack/dlpack.h explains them")]
#[allow(nonstandard_style, unreachable_pub, clippy::all)]
#[rustfmt::skip]
pub mod ffi;

#[cfg(feature = "dlpark")]
pub use crate::dlpark::{DlparkExt, DlparkStruct, DlparkView};
#[cfg(feature = "safetensors")]
pub use crate::dlpark::{SafetensorsError, SafetensorsExt};
#[cfg(feature = "ndarray-0_16")]
pub use crate::ndarray::Ndarray0_16;
#[cfg(feature = "ndarray")]
pub use crate::ndarray::Ndarray0_17;
#[cfg(any(feature = "ndarray", feature = "ndarray-0_16"))]
pub use crate::ndarray::{
    ArrayDimension, ArrayExt, ArrayOf, ArrayVersion, ArrayViewMutOf, ArrayViewOf, NdArray,
    OwnedArray,
};
#[cfg(feature = "torch")]
pub use crate::torch::{ArrayTorchExt, TorchExt, WritableView};
pub use crate::{
    buffer::{cached_bytes, set_cache_limit, trim},
    descriptor::Descriptor,
    device::Device,
    dlpack::{Exported, ManagedStruct, ManagedTensor},
    dtype::{DType, Element},
    error::{Error, Result},
    layout::{Layout, MemoryFormat},
    list::List,
    movable::MovableOwner,
    rejected::Rejected,
    remedy::Remedy,
    scalar::Scalar,
    shape::Shape,
    tensor::{Access, Imported, Tensor},
};
#[cfg(feature = "cuda")]
pub use crate::{cuda::Stream, tensor::Transfer};

/// Runs the README's examples.
#[cfg(all(doctest, feature = "torch"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Runs the examples of the guide for Rust programs.
#[cfg(all(doctest, feature = "torch", feature = "ndarray-0_16"))]
#[doc = include_str!("../docs/rust.md")]
struct RustGuide;

/// Runs the examples of the guide to CUDA.
#[cfg(all(doctest, feature = "cuda", feature = "torch"))]
#[doc = include_str!("../docs/cuda.md")]
struct CudaGuide;
