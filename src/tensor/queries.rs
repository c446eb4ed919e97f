//! Methods that read a tensor: description, address of the elements, and owner.

use std::ffi::c_void;

use super::Tensor;
use crate::{DType, Descriptor, Device, Layout};

impl Tensor {
    /// Returns the size of each dimension, in elements.
    ///
    /// ```
    /// assert_eq!(dlbridge::Tensor::zeros::<f32>([2, 3])?.shape(), [2, 3]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn shape(&self) -> &[i64] {
        self.layout().shape()
    }

    /// Returns the stride of each dimension: the distance to the next index, in elements.
    ///
    /// A stride may be negative or 0.
    ///
    /// ```
    /// assert_eq!(dlbridge::Tensor::zeros::<f32>([2, 3])?.strides(), [3, 1]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn strides(&self) -> &[i64] {
        self.layout().strides()
    }

    /// Returns the number of dimensions.
    ///
    /// ```
    /// assert_eq!(dlbridge::Tensor::zeros::<f32>([2, 3])?.ndim(), 2);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn ndim(&self) -> usize {
        self.layout().ndim()
    }

    /// Returns the number of elements.
    ///
    /// ```
    /// assert_eq!(dlbridge::Tensor::zeros::<f32>([2, 3])?.len(), 6);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn len(&self) -> usize {
        self.layout().len()
    }

    /// Returns true if there are no elements.
    ///
    /// ```
    /// assert!(dlbridge::Tensor::zeros::<f32>([2, 0])?.is_empty());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.layout().is_empty()
    }

    /// Returns the number of bytes of all elements, without the gaps between them.
    ///
    /// ```
    /// assert_eq!(dlbridge::Tensor::zeros::<f32>([2, 3])?.nbytes(), 24);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn nbytes(&self) -> usize {
        self.descriptor().nbytes()
    }

    /// Returns the description: address of the first element, layout, element type and device.
    ///
    /// ```
    /// use dlbridge::{Descriptor, Tensor};
    ///
    /// let tensor = Tensor::zeros::<f32>([2, 3])?;
    /// let description: Descriptor = tensor.descriptor().clone(); // keeps no memory
    /// assert_eq!(description.span().1, 24);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn descriptor(&self) -> &Descriptor {
        self.buffer.descriptor()
    }

    /// Returns the shape and the strides.
    ///
    /// ```
    /// use dlbridge::{Layout, Tensor};
    ///
    /// assert_eq!(*Tensor::zeros::<f32>([2, 3])?.layout(), Layout::contiguous([2, 3])?);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn layout(&self) -> &Layout {
        self.buffer.layout()
    }

    /// Returns the element type.
    ///
    /// ```
    /// use dlbridge::{DType, Tensor};
    ///
    /// let tensor = Tensor::zeros::<f32>([2, 3])?;
    /// match tensor.dtype() {
    ///     DType::F32 => println!("{:?}", tensor.as_slice::<f32>()?),
    ///     other => println!("elements of type {other}"),
    /// }
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn dtype(&self) -> DType {
        self.descriptor().dtype()
    }

    /// Returns the device that the memory is on.
    ///
    /// ```
    /// use dlbridge::{Device, Tensor};
    ///
    /// assert_eq!(Tensor::zeros::<f32>([2, 3])?.device(), Device::CPU);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn device(&self) -> Device {
        self.descriptor().device()
    }

    /// Returns true if this is the only handle to the memory at this moment.
    ///
    /// The result may be out of date at once, because another thread may make or drop a handle.
    /// Methods that need the only handle make the check themselves.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::zeros::<f32>([2, 3])?;
    /// let exported = tensor.share_dlpack(); // a handle, too
    /// assert!(!tensor.is_unique());
    /// drop(exported);
    /// assert!(tensor.is_unique());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn is_unique(&self) -> bool {
        self.buffer.storage().looks_unique()
    }

    /// Returns true if the elements follow each other in row-major order, without gaps.
    ///
    /// ```
    /// use dlbridge::{DType, Layout, Tensor};
    ///
    /// assert!(Tensor::zeros::<f32>([2, 3])?.is_contiguous());
    /// let columns = Layout::new(&[2, 3], &[1, 2])?;
    /// assert!(!Tensor::zeros_with(columns, DType::F32)?.is_contiguous());
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    pub fn is_contiguous(&self) -> bool {
        self.layout().is_contiguous()
    }

    /// Returns the address of the first element.
    ///
    /// It has no meaning if there are no elements: it may then be NULL or misaligned. For memory
    /// that is not on the host, it is an address of that device, or the handle of a buffer (see
    /// [`Descriptor::byte_offset`]). Code that writes through the address must make sure that the
    /// memory may be written, and that no other code reads or writes it meanwhile.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let vec = vec![1.0_f32, 2.0];
    /// let address = vec.as_ptr();
    /// let tensor = Tensor::from_vec(vec, [2])?;
    /// assert_eq!(tensor.data_ptr().cast_const().cast(), address); // nothing was copied
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    #[inline]
    pub fn data_ptr(&self) -> *mut c_void {
        self.descriptor().data_ptr()
    }

    /// Returns the owner of the memory if it has the type `O`, and otherwise `None`.
    ///
    /// The owner is, for example, the one that was passed to
    /// [`from_raw_parts`](Self::from_raw_parts). The result is `None` for a tensor from
    /// [`from_owner`](Self::from_owner) or a similar function, whose owner is borrowed.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let tensor = Tensor::from_vec(vec![1_u8, 2, 3], [3])?;
    /// // SAFETY: only the capacity is read, and not the memory.
    /// let capacity = unsafe { tensor.owner_unchecked::<Vec<u8>>() }.map(Vec::capacity);
    /// assert_eq!(capacity, Some(3));
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Safety
    /// * The caller neither reads nor writes a byte of the tensor's memory through the owner: the
    ///   memory may have writers, and Rust views.
    pub unsafe fn owner_unchecked<O: Send + Sync + 'static>(&self) -> Option<&O> {
        // SAFETY: `O` is `Sync`, so a shared reference to it may be used on any thread; the caller
        // does not reach the memory through it.
        unsafe { self.buffer.storage().owner_ref_unchecked() }
    }
}
