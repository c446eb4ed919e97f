//! Tensors of memory that other types keep: maps of files, reference-counted bytes, arrays, images.

use std::any::type_name;

use super::{Tensor, layout_for};
use crate::borrowed_owner::BorrowedOwner;
use crate::shared_buffer::SharedBuffer;
use crate::storage::Storage;
use crate::{
    Access, DType, Descriptor, Device, Element, Error, Layout, Rejected, Remedy, Result, Shape,
};

impl Tensor {
    /// Makes a row-major tensor of the elements that `owner` keeps. Nothing is copied.
    ///
    /// `owner` is, for example, `Arc<[T]>`, `Box<[T]>`, `[T; N]`, `&'static [T]`, `bytes::Bytes`, a
    /// memory map, or a type of your own that implements `AsRef<[T]>`. It is moved into a `Box`,
    /// and `as_ref` is called once, there. The thread that drops the last handle drops `owner`.
    ///
    /// The memory is [`Access::ReadOnly`], because `owner` stays borrowed: no code can write it.
    /// [`into_owner`](Self::into_owner) gives `owner` back.
    /// [`from_owner_mut`](Self::from_owner_mut) makes a tensor that may be written.
    ///
    /// ```
    /// use dlbridge::Tensor;
    /// use std::sync::Arc;
    ///
    /// let weights: Arc<[f32]> = vec![1.0, 2.0, 3.0, 4.0].into();
    /// let tensor = Tensor::from_owner(Arc::clone(&weights), [2, 2])?; // a clone of the `Arc`
    /// assert_eq!(tensor.as_slice::<f32>()?.as_ptr(), weights.as_ptr()); // the same memory
    /// drop(tensor); // drops the clone
    /// assert_eq!(Arc::strong_count(&weights), 1);
    ///
    /// /// An image of another library.
    /// struct Image { pixels: Vec<u8>, width: usize, height: usize }
    ///
    /// impl AsRef<[u8]> for Image {
    ///     fn as_ref(&self) -> &[u8] {
    ///         &self.pixels
    ///     }
    /// }
    ///
    /// let image = Image { pixels: vec![0; 4 * 6 * 3], width: 6, height: 4 };
    /// let shape = [image.height, image.width, 3];
    /// let tensor = Tensor::from_owner(image, shape)?;
    /// assert_eq!(tensor.shape(), [4, 6, 3]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if the shape has another number of elements than the slice, and
    /// those of [`Layout::contiguous`]. `owner` comes back inside the error.
    pub fn from_owner<T: Element, O: AsRef<[T]> + Send + 'static>(
        owner: O,
        shape: impl Shape,
    ) -> Result<Self, Rejected<O>> {
        let (owner, elements) = BorrowedOwner::shared::<T>(owner);
        match layout_for(elements.len(), &shape) {
            Ok(layout) => {
                let descriptor = Descriptor::from_checked(elements.cast::<T>().as_ptr(), layout);
                // SAFETY: the layout reaches exactly the elements of the slice, which `owner`
                // keeps valid for reads and unwritten until it is dropped or consumed.
                Ok(unsafe { Self::from_unwritten(owner, descriptor) })
            }
            Err(error) => Err(Rejected::new(owner.into_inner(), error)),
        }
    }

    /// Makes a row-major tensor of the elements that `owner` keeps, which may be written.
    ///
    /// Nothing is copied. As [`from_owner`](Self::from_owner), but `as_mut` is called instead of
    /// `as_ref`, and the memory is [`Access::Exclusive`]: `owner` stays borrowed mutably, so that
    /// only the handle reaches the memory.
    ///
    /// If the elements are of type `bool`, other code may leave bytes other than 0 and 1 among
    /// them. When `owner` is dropped, such bytes first become 1.
    ///
    /// ```
    /// use dlbridge::Tensor;
    ///
    /// let samples: Box<[i16]> = vec![1, 2, 3].into();
    /// let mut tensor = Tensor::from_owner_mut(samples, [3])?;
    /// tensor.as_slice_mut::<i16>()?[0] = 10;
    /// assert_eq!(*tensor.into_owner::<Box<[i16]>>()?, [10, 2, 3]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`from_owner`](Self::from_owner).
    pub fn from_owner_mut<T: Element, O: AsMut<[T]> + Send + 'static>(
        owner: O,
        shape: impl Shape,
    ) -> Result<Self, Rejected<O>> {
        let (owner, elements) = BorrowedOwner::exclusive::<T>(owner);
        match layout_for(elements.len(), &shape) {
            Ok(layout) => {
                let descriptor = Descriptor::from_checked(elements.cast::<T>().as_ptr(), layout);
                // SAFETY: the layout reaches exactly the elements of the slice, which `owner`
                // keeps valid for reads and writes, and which no other code reaches, until it is
                // dropped or consumed.
                Ok(Self::from_buffer(unsafe { SharedBuffer::exclusive(owner, descriptor) }))
            }
            Err(error) => Err(Rejected::new(owner.into_inner(), error)),
        }
    }

    /// Makes a row-major tensor of bytes that `owner` keeps, as elements of the type `dtype`.
    ///
    /// Nothing is copied. The first element is `byte_offset` bytes after the beginning of the
    /// owner's bytes; bytes after the last element are not used. `dtype` may be any type that
    /// DLPack defines, also one that has no Rust type. Elements that are narrower than a byte are
    /// packed. Numbers have the byte order of the machine.
    ///
    /// The memory is [`Access::ReadOnly`], as for [`from_owner`](Self::from_owner). The bytes of a
    /// `bool` tensor are checked when they are read, not here.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use dlbridge::{DType, Tensor};
    ///
    /// // A file with several tensors. `Bytes::from_owner` takes a memory map of it.
    /// let file = Bytes::from_owner([0_u64; 4].map(u64::to_le_bytes).as_flattened().to_vec());
    /// let scale = Tensor::from_bytes_owner(file.clone(), DType::F32, [2, 2], 0)?;
    /// let float8 = DType::scalar(10, 8); // float8_e4m3fn
    /// let codes = Tensor::from_bytes_owner(file, float8, [3, 5], 16)?;
    /// assert_eq!((scale.nbytes(), codes.nbytes()), (16, 15));
    /// assert_eq!(codes.data_ptr().addr(), scale.data_ptr().addr() + 16);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::LengthMismatch`] if the bytes after `byte_offset` are too few for the shape;
    /// [`Error::InvalidDescriptor`] about `byte_offset` if the address of the first element is not
    /// a multiple of the alignment of `dtype`, which is the size of one number of the type;
    /// [`Error::UnsupportedDType`] for an element type that DLPack does not define,
    /// [`Error::InvalidDescriptor`] for one without a size, and those of [`Layout::contiguous`].
    /// `owner` comes back inside the error.
    pub fn from_bytes_owner<O: AsRef<[u8]> + Send + 'static>(
        owner: O,
        dtype: DType,
        shape: impl Shape,
        byte_offset: usize,
    ) -> Result<Self, Rejected<O>> {
        let (owner, bytes) = BorrowedOwner::shared::<u8>(owner);
        let layout = Layout::contiguous(shape);
        match layout.and_then(|layout| describe_part(bytes.as_ptr(), byte_offset, dtype, layout)) {
            // SAFETY: `describe_part` checked that the elements lie within the slice, which `owner`
            // keeps valid for reads and unwritten until it is dropped or consumed.
            Ok(descriptor) => Ok(unsafe { Self::from_unwritten(owner, descriptor) }),
            Err(error) => Err(Rejected::new(owner.into_inner(), error)),
        }
    }

    /// Gives back the owner that the tensor was made from.
    ///
    /// The tensor was made with [`from_owner`](Self::from_owner),
    /// [`from_owner_mut`](Self::from_owner_mut) or [`from_bytes_owner`](Self::from_bytes_owner).
    /// Nothing is copied. The tensor may reach a part of the owner's elements only.
    ///
    /// ```
    /// use dlbridge::{Error, Tensor};
    ///
    /// let tensor = Tensor::from_owner([1_u8, 2, 3, 4], (2, 2))?;
    /// let other = tensor.share();
    /// let rejected = tensor.into_owner::<[u8; 4]>().unwrap_err();
    /// assert_eq!(*rejected.error(), Error::NotUnique); // `other` has the memory, too
    /// drop(other);
    /// assert_eq!(rejected.into_value().into_owner::<[u8; 4]>()?, [1, 2, 3, 4]);
    /// # Ok::<(), dlbridge::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotOriginal`] unless one of these functions made the tensor from an `O`;
    /// [`Error::NotUnique`] if there is another handle; [`Error::Aliased`] if code outside this
    /// crate may reach the memory ([`into_aliased`](Self::into_aliased)); [`Error::InvalidBool`] if
    /// other code left a byte that is not 0 or 1 among elements of type `bool`. The tensor comes
    /// back inside the error.
    pub fn into_owner<O: Send + 'static>(mut self) -> Result<O, Rejected<Self>> {
        if let Err(error) = self.check_owner::<O>() {
            return Err(Rejected::new(self, error));
        }
        match self.into_storage_owner::<BorrowedOwner<O>>() {
            Ok(owner) => Ok(owner.into_inner()),
            Err(_) => unreachable!("`check_owner` found the only handle to an owner of this type"),
        }
    }

    /// Checks that this is the only handle to the elements of an owner of type `O`, and that code
    /// of the owner may read them: that `bool` bytes are 0 or 1.
    fn check_owner<O: Send + 'static>(&mut self) -> Result<()> {
        if !self.buffer.storage().owner_is::<BorrowedOwner<O>>() {
            let target = type_name::<O>();
            return Err(Error::NotOriginal { target, remedy: Remedy::CopyToVec });
        }
        if matches!(self.access(), Access::Aliased { .. }) {
            return Err(Error::Aliased);
        }
        self.owner_mut::<BorrowedOwner<O>>().ok_or(Error::NotUnique)?.check_bools()
    }

    /// Makes a tensor of memory that no code writes.
    ///
    /// # Safety
    /// * `owner` keeps the elements of `descriptor`, and all bytes between them, initialised, valid
    ///   for reads and unwritten, until it is dropped or consumed.
    unsafe fn from_unwritten<O: Send + 'static>(
        owner: BorrowedOwner<O>,
        descriptor: Descriptor,
    ) -> Self {
        // SAFETY: the caller guarantees that the memory is not written until `owner` is dropped.
        let storage = unsafe { Storage::read_only(owner) };
        // SAFETY: the caller guarantees that `owner` keeps the elements valid for reads, and the
        // state of the storage says that they are not written.
        Self::from_buffer(unsafe { SharedBuffer::new(storage, descriptor) })
    }
}

/// Describes elements that lie within a slice of bytes.
fn describe_part(
    bytes: *mut [u8],
    byte_offset: usize,
    dtype: DType,
    layout: Layout,
) -> Result<Descriptor> {
    let data = bytes.cast::<u8>().wrapping_add(byte_offset);
    let (nbytes, _) = Descriptor::allocation_size(&layout, dtype)?;
    if !dtype.is_known() {
        return Err(Error::UnsupportedDType { dtype, target: "an owner of bytes" });
    }
    let rest = bytes.len().checked_sub(byte_offset);
    if rest.is_none_or(|rest| rest < nbytes) {
        let (shape, expected) = (layout.shape().into(), layout.len());
        let bits = rest.unwrap_or(0) as u128 * 8;
        let found = usize::try_from(bits / u128::from(dtype.element_bits())).unwrap_or(usize::MAX);
        return Err(Error::LengthMismatch { shape, expected, found });
    }
    let align = dtype.alignment();
    if !data.addr().is_multiple_of(align) && !layout.is_empty() {
        return Err(Error::InvalidDescriptor {
            field: "byte_offset".into(),
            value: format!("{byte_offset} (address {:#x}, alignment {align})", data.addr()),
            reason: "the first element is misaligned",
        });
    }
    Descriptor::new(data.cast(), layout, dtype, Device::CPU)
}
