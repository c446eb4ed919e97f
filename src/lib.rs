//! One tensor buffer, many runtimes, no copies unless you ask.
//!
//! dlbridge moves strided buffers between [`ndarray`](::ndarray) arrays, libtorch tensors
//! ([`tch`](https://docs.rs/tch)) and anything that speaks
//! [DLPack](https://dmlc.github.io/dlpack/latest/). Ownership decides who may read, who may write
//! and who frees; copies happen only where a name says so.
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
//! let array = matrix.into_array()?;                 // the array it began as
//! assert_eq!(array.as_ptr(), address);
//! assert_eq!(copy.to_list()?.to_string(), "[[5.0, 2.0], [3.0, 4.0]]");
//! # Ok::<(), dlbridge::Error>(())
//! ```
//!
//! With the feature `torch`, `array.into_torch()?` and `tensor.into_ndarray::<f32, Ix2>()?` do the
//! same for libtorch tensors, and `tensor.as_ndarray_mut::<f32, Ix2>()?` sees a tensor as an array
//! without giving it up. `examples/tour.rs` goes through everything that a Python user knows from
//! NumPy and PyTorch.
//!
//! # The verb says the cost
//!
//! | verb | meaning | data copied | on failure |
//! |---|---|---|---|
//! | `into_x(self)` | moves the buffer | never | the source comes back inside [`Rejected`] |
//! | `as_x(&self)`, `as_x_mut(&mut self)` | borrows | never | error |
//! | `share_x(&self)` | one more owner of the same memory | never | error |
//! | `to_x(&self)` | deep copy into another type or onto another device | always | error |
//! | `deep_clone(&self)` | deep copy into the same type: torch's `clone` | always | error |
//! | `into_device(self)`, `cpu`, `cuda`, `pin` | returned unchanged if already there, else one copy | only then | the source comes back |
//! | `lend_x(&mut self, closure)` | moves in for the closure, and back | never, unless a clone escapes | error |
//!
//! There is no other copy, cast or device move. Owning handles are not `Clone`. A name ending in
//! `_unchecked` is `unsafe`: the caller guarantees what cannot be checked.
//!
//! # Who owns what
//!
//! ```text
//!  Vec · Array · tch::Tensor · DLManagedTensor* · C callback        the owner: dropped exactly once
//!         └──► storage (shared: owner + Access) ◄── Tensor = storage + address + layout + type + device
//!                                               ◄── Tensor (share) · NdArray · Exported
//! ```
//!
//! [`Access`] says what is known about other ways to reach the memory. `Exclusive` memory may be
//! written through its only handle, `ReadOnly` memory is not written at all, and `Aliased` memory,
//! which code outside this crate may hold, is written only through `unsafe` functions.
//!
//! # Guarantees
//!
//! * An owner is dropped once: after success, refusal, panic, on any thread. (An owner that panics
//!   while it is dropped by Rust code unwinds as usual; in a C or C++ deleter the panic ends.)
//! * Safe code gets a writable view, or hands memory to a side that writes, only through the only
//!   handle to memory that is proved to be reachable in no other way.
//! * A view's lifetime is tied to its handle; a handle keeps the memory.
//! * Bytes are always checked to be 0 or 1 before they are read as Rust `bool`.
//! * Descriptions from outside are checked before anything is read: bad input is an [`Error`] that
//!   names field and value, never a panic.
//! * No panic crosses into C: an owner that panics in a deleter is contained.
//! * libtorch never sees what makes it abort (negative strides, sizes beyond the address space).
//! * A libtorch tensor is taken only if all its dispatch keys are those of ordinary CPU and CUDA
//!   tensors, and its elements lie within a storage that has memory. The error for any other tensor
//!   names the key or the layout.
//!
//! # Limits
//!
//! * A DLPack struct's pointer and bounds cannot be validated, so importing one is `unsafe`.
//! * A consumer may ignore `READ_ONLY`; libtorch does, so it is never given read-only memory.
//! * `tch::Tensor` is `Send` and cheaply cloned through `&self`, so safe code can race libtorch
//!   against itself; methods that take such a tensor by reference (`to_…`, `share_dlpack`) read
//!   what they find and take part in the race.
//! * libtorch moves a storage to other memory when one of its tensors is resized beyond it
//!   (`resize_`), takes over another storage (`set_source_tensor_`, `set_data`), or when a lazy
//!   clone is written. No safe view is affected: it borrows the only tensor of its storage. The
//!   methods `as_ndarray_unchecked`, `into_tensor_unchecked` and `share_torch_unchecked` have it in
//!   their contracts, and cannot detect it. A struct from `share_dlpack` keeps the memory that it
//!   names, and no longer sees what the tensor writes. A tensor from `into_torch` leaves the memory
//!   of the array, which is released.
//! * Memory that libtorch allocated and never wrote (`Tensor::empty`) reads as arbitrary numbers.
//! * A thread whose rayon pool has ended (in the pool's `exit_handler`, or because it was made with
//!   `use_current_thread` and dropped) copies alone, but offers helpers to that pool all the same:
//!   a rayon that was built with debug assertions ends the process there, as on any `rayon::spawn`.
//! * A large copy puts a buffer of 80 KiB on the stack of every thread that takes part, threads of
//!   the caller's rayon pool included. Threads whose stack is too small for it end the process:
//!   a `ThreadPoolBuilder::stack_size` of 1 MiB is enough.
//! * A buffer that another library wrapped in a DLPack struct of its own and gave back is wrapped
//!   once more, and so is one whose struct was changed in between.
//! * An owner that panics while it is dropped during another panic ends the process, as in all
//!   Rust.
//!
//! # Copies
//!
//! Every deep copy, whatever the two layouts, goes through one engine: dimensions are sorted and
//! coalesced, units of 1 to 16 bytes are transposed in registers, and large targets are put
//! together in a near cache and written in whole lines past the others. It reads and writes
//! elements only, never the gaps between them. Figures are in `docs/benchmarks`.
//!
//! With the feature `parallel`, threads of the rayon pool that the caller is in, or of the global
//! pool, help with copies from 1 MiB on. The caller's thread copies, too. It runs no other job
//! meanwhile, and waits only for threads that are copying, so it may hold any lock. The child of a
//! fork copies alone.
//!
//! # CUDA
//!
//! With the feature `cuda`, [`Tensor::to_device`] and similar methods copy between the host and the
//! devices of a CUDA driver, which is looked for when it is first needed. Host code never reads
//! device memory: it gets [`Error::NotOnCpu`], which names [`Tensor::cpu`].
//!
//! * Work on device memory is put on a stream, and the order of streams is kept: a copy comes after
//!   what was put on the memory's streams before, what arrives on the host is there when the call
//!   returns, and what arrives on a device is there in the order of the copy's stream, which is the
//!   legacy default one unless a method whose name ends in `_on` is given another.
//! * A DLPack export is ready on the legacy default stream; one of a handle that is `with_stream` a
//!   stream is ready on that. When the use ends, the device waits for what is on the stream by then
//!   before it uses the memory for something else; the host waits for nothing. Memory that came in
//!   counts as filled in the order of the legacy default stream (`wait_stream` names another), and
//!   is released in that order.
//! * Memory comes from the default pool of the driver's stream-ordered allocator, in the device's
//!   primary context, which libtorch and the CUDA runtime use too. The thread's current device
//!   stays what it is.
//! * What crosses the bus crosses once: gaps are left out and broadcast elements sent one time,
//!   because a side that has them is packed first. Pageable memory goes through a pair of
//!   page-locked buffers that is kept; page-locked memory ([`Tensor::pin`]) directly, and with
//!   `start_to_device` while the host does other things.
//! * A stream on which a CUDA graph is being captured is refused. While a blocking stream captures,
//!   the driver refuses the legacy default stream.
//! * A stream that other code made must live until the memory that was made or used on it is
//!   released.
//!
//! # Features
//!
//! * `cuda`: the above, through cudarc. Needs nothing at build time; at run time a driver of CUDA
//!   11.2 or newer. (In the packages for C and Python it is on.)
//! * `ndarray` (on by default): conversions to and from ndarray 0.17.
//! * `parallel` (on by default): large copies use several threads, through rayon.
//! * `torch`: conversions to and from libtorch 2.11 to 2.13 through tch 0.24 to 0.26. Needs
//!   libtorch and a C++20 compiler at build time. Programs that use CUDA through tch link
//!   libtorch's part for it, which linkers leave out because nothing calls it by name:
//!   `-Wl,--no-as-needed,-ltorch_cuda`.
//!
//! # C and C++
//!
//! The package `dlbridge-capi` beside this crate is its C ABI: `dlbridge.h`, `dlbridge.hpp` and
//! `dlbridge/torch.hpp` in `include/`. [`Error::status`] is what its functions return.

#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Refusals give the source back, and a tensor's layout is stored inline.
#![allow(clippy::result_large_err)]

mod contain_panic;
mod device;
mod dtype;
mod error;
mod layout;
mod list;
mod remedy;
mod scalar;
mod sync;
mod tuple;

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
#[expect(unsafe_code, reason = "consumes and hands out raw DLPack structs")]
mod dlpack;
#[expect(unsafe_code, reason = "reads and writes described memory")]
mod host_copy;
#[expect(unsafe_code, reason = "shares a value between threads that no shared reference reaches")]
mod rejected;
#[expect(unsafe_code, reason = "its constructors say what is true of memory")]
mod shared_buffer;
#[expect(unsafe_code, reason = "shares owners between threads and with C++")]
mod storage;
#[expect(unsafe_code, reason = "makes references of addresses")]
mod tensor;

#[cfg(feature = "ndarray")]
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

#[cfg(feature = "ndarray")]
pub use crate::ndarray::{ArrayExt, NdArray, OwnedArray};
#[cfg(feature = "torch")]
pub use crate::torch::{ArrayTorchExt, TorchExt};
#[cfg(feature = "cuda")]
pub use crate::{cuda::Stream, tensor::Transfer};
pub use crate::{
    descriptor::Descriptor,
    device::Device,
    dlpack::{Exported, ManagedStruct, ManagedTensor},
    dtype::{DType, Element},
    error::{Error, Result},
    layout::{Layout, MemoryFormat},
    list::List,
    rejected::Rejected,
    remedy::Remedy,
    scalar::Scalar,
    tensor::{Access, Imported, Tensor},
};

/// Runs the README's examples.
#[cfg(all(doctest, feature = "torch"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Runs the examples of the guide for Rust programs.
#[cfg(all(doctest, feature = "torch"))]
#[doc = include_str!("../docs/rust.md")]
struct RustGuide;

/// Runs the examples of the guide to CUDA.
#[cfg(all(doctest, feature = "cuda", feature = "torch"))]
#[doc = include_str!("../docs/cuda.md")]
struct CudaGuide;
