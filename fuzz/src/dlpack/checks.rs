//! The properties that a tensor must have after its struct was accepted, and every way to read it.

use dlbridge::{Access, DType, Element, Error, MemoryFormat, Tensor};
use half::{bf16, f16};
use ndarray::{Ix3, IxDyn};
use num_complex::Complex;

use super::description::{Data, Description};
use super::producer::{Given, Kind};
use crate::elements::Grid;

/// Maximum number of elements that are compared one by one, or cloned.
pub(super) const MAX_COUNT: i64 = 1 << 12;

/// What is true of every tensor that has the elements of a struct.
pub(super) struct Expected {
    pub(super) description: Description,
    pub(super) grid: Grid,
    pub(super) access: Access,
    /// Address of the first element, if there are elements.
    address: Option<usize>,
    /// Bytes of one element, if they are whole.
    pub(super) item: Option<usize>,
    /// The bytes of all elements in row-major order, if the host may read them, they are whole, and
    /// there are not too many.
    pub(super) bytes: Option<Vec<u8>>,
}

impl Expected {
    pub(super) fn new<M: Kind>(description: &Description, given: &Given<M>) -> Self {
        let grid = description.described();
        let count = grid.count().expect("accepted");
        let read_only = description.flags & 1 != 0;
        let access = match (M::VERSIONED && description.flags & 2 != 0, read_only) {
            (true, false) => Access::Exclusive,
            (true, true) => Access::ReadOnly,
            (false, _) => Access::Aliased { writable: !read_only, trusted: true },
        };
        let bits = description.stored_bits();
        let item = bits.is_multiple_of(8).then_some(bits as usize / 8);
        let readable = description.is_host()
            && (count == 0 || description.data == Data::Allocated)
            && count <= MAX_COUNT;
        let bytes = item.filter(|_| readable).map(|item| {
            let element = |offset: i64| {
                let start = given.position.wrapping_add_signed(offset as isize * item as isize);
                &given.bytes[start..start + item]
            };
            grid.offsets().into_iter().flat_map(element).copied().collect()
        });
        let address = (count > 0 && description.is_host()).then(|| given.first.addr());
        Self { description: description.clone(), grid, access, address, item, bytes }
    }

    fn count(&self) -> usize {
        self.grid.count().expect("accepted") as usize
    }

    /// Reads a tensor in every way, and compares it with what is expected.
    pub(super) fn check(&self, tensor: &Tensor) {
        self.check_description(tensor);
        assert_eq!(tensor.access(), self.access);
        self.check_elements(tensor);
        self.check_clones(tensor);
        if self.description.is_host() && self.bytes.is_some() {
            self.check_typed(tensor);
        }
    }

    /// Checks shape, strides, type, device and address.
    pub(super) fn check_description(&self, tensor: &Tensor) {
        let Description { dtype, device, .. } = self.description;
        assert_eq!((tensor.dtype(), tensor.device()), (dtype, device));
        assert_eq!(tensor.shape(), self.grid.shape);
        assert_eq!((tensor.len(), tensor.is_empty()), (self.count(), self.count() == 0));
        // Strides that reach no element may differ.
        let strides = tensor.strides().iter().zip(&self.grid.strides).zip(&self.grid.shape);
        for ((found, expected), &size) in strides {
            assert!(size <= 1 || tensor.is_empty() || found == expected, "{:?}", tensor.strides());
        }
        if let Some(address) = self.address {
            assert_eq!(tensor.data_ptr().addr(), address);
        }
        let bits = self.count() as u128 * u128::from(self.description.stored_bits());
        assert_eq!(tensor.nbytes(), usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX));
        let described = tensor.as_dl_tensor();
        assert_eq!(described.ndim as usize, tensor.ndim());
        assert!(described.byte_offset == 0 || !self.description.is_host());
        let _span = tensor.descriptor().span();
        let _formatted = format!("{tensor:?} {:?}", tensor.descriptor());
        if self.count() <= MAX_COUNT as usize && self.grid.repeats() {
            assert!(tensor.layout().overlaps(), "{:?}", tensor.layout());
        }
    }

    /// Compares the elements byte by byte.
    pub(super) fn check_elements(&self, tensor: &Tensor) {
        if let Some((bytes, item)) = self.bytes.as_ref().zip(self.item) {
            assert!(elements_of(tensor, item) == *bytes, "wrong elements in {tensor:?}");
        }
    }

    fn check_clones(&self, tensor: &Tensor) {
        if self.count() > MAX_COUNT as usize {
            return;
        }
        for format in [MemoryFormat::Preserve, MemoryFormat::ChannelsLast, MemoryFormat::Contiguous]
        {
            match tensor.deep_clone_with(format) {
                Ok(clone) => {
                    assert!(self.description.is_host() && self.description.dtype.is_known());
                    assert_eq!(clone.shape(), self.grid.shape);
                    assert_eq!(clone.access(), Access::Exclusive);
                    self.check_elements(&clone);
                }
                Err(Error::RankMismatch { .. }) => {
                    assert!(format == MemoryFormat::ChannelsLast && tensor.ndim() != 4);
                }
                Err(Error::UnsupportedDType { .. }) => {
                    let packed = self.item.is_none() && tensor.ndim() > 0;
                    assert!(!self.description.dtype.is_known() || packed);
                }
                Err(error) => assert!(!self.description.is_host(), "{error}"),
            }
        }
    }

    /// Views and copies as values of Rust.
    fn check_typed(&self, tensor: &Tensor) {
        match self.description.dtype {
            DType::BOOL => self.check_views::<bool>(tensor),
            DType::U8 => self.check_views::<u8>(tensor),
            DType::U16 => self.check_views::<u16>(tensor),
            DType::U32 => self.check_views::<u32>(tensor),
            DType::I8 => self.check_views::<i8>(tensor),
            DType::I64 => self.check_views::<i64>(tensor),
            DType::F16 => self.check_views::<f16>(tensor),
            DType::BF16 => self.check_views::<bf16>(tensor),
            DType::F32 => self.check_views::<f32>(tensor),
            DType::F64 => self.check_views::<f64>(tensor),
            DType::C64 => self.check_views::<Complex<f32>>(tensor),
            DType::C128 => self.check_views::<Complex<f64>>(tensor),
            dtype => {
                let error = tensor.as_slice::<u8>().expect_err("another type");
                assert_eq!(error, Error::DTypeMismatch { expected: DType::U8, found: dtype });
                assert!(tensor.to_vec::<f32>().is_err() && tensor.to_list().is_err());
            }
        }
    }

    fn check_views<T: Element>(&self, tensor: &Tensor) {
        let bytes = self.bytes.as_ref().expect("readable");
        let valid = T::DTYPE != DType::BOOL || bytes.iter().all(|&byte| byte <= 1);
        let aligned = self.address.is_none_or(|address| address % align_of::<T>() == 0);
        let as_bytes = |values: &[T]| bytes_of(values) == bytes;
        let slice = tensor.as_slice::<T>();
        assert_eq!(slice.is_ok(), valid && aligned && tensor.is_contiguous(), "{slice:?}");
        assert!(slice.is_ok_and(as_bytes) || !(valid && aligned && tensor.is_contiguous()));
        let vec = tensor.to_vec::<T>();
        assert_eq!(vec.is_ok(), valid, "{vec:?}");
        assert!(vec.is_ok_and(|vec| as_bytes(&vec)) || !valid);
        assert_eq!(tensor.item::<T>().is_ok(), valid && tensor.len() == 1);
        // Dimensions in front of one of size 0 are lists of empty lists.
        let lists = self.grid.shape.iter().take_while(|&&size| size > 0);
        if lists.copied().try_fold(1, i64::checked_mul).is_some_and(|lists| lists <= MAX_COUNT) {
            let list = tensor.to_list();
            assert_eq!(list.is_ok(), valid && tensor.ndim() <= 64, "{:?}", list.err());
        }
        assert!(tensor.as_ndarray::<T, Ix3>().is_err() || tensor.ndim() == 3);
        let view = tensor.as_ndarray::<T, IxDyn>();
        // ndarray counts the elements of the dimensions that are not empty.
        assert!(view.is_ok() == (valid && aligned) || tensor.is_empty(), "{view:?}");
        if let Ok(view) = view {
            assert!(as_bytes(&view.iter().copied().collect::<Vec<_>>()), "wrong elements");
        }
        let array = tensor.to_ndarray::<T, IxDyn>();
        assert!(array.is_ok() == valid || tensor.is_empty(), "{array:?}");
        assert!(
            array.is_ok_and(|array| as_bytes(&array.into_raw_vec_and_offset().0))
                || !valid
                || tensor.is_empty()
        );
    }
}

fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: elements have no padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

/// The bytes of all elements in row-major order.
pub(super) fn elements_of(tensor: &Tensor, item: usize) -> Vec<u8> {
    let grid = Grid { shape: tensor.shape().to_vec(), strides: tensor.strides().to_vec() };
    let start = tensor.data_ptr().cast::<u8>().cast_const();
    let mut bytes = Vec::with_capacity(tensor.len() * item);
    for offset in grid.offsets() {
        let element = start.wrapping_offset(offset as isize * item as isize);
        // SAFETY: an element of the tensor, which is on the host; its memory lives and is not
        // written.
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(element, item) });
    }
    bytes
}
