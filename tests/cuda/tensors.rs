//! Tensors and bytes that the tests use.

use dlbridge::{DType, Descriptor, Device, Layout, MemoryFormat, Tensor};

pub(crate) const GPU: Device = Device::cuda(0);

pub(crate) fn numbers(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 7 + index / 251) as u8).collect()
}

/// Bytes of the elements in row-major order.
pub(crate) fn elements(tensor: &Tensor) -> Vec<u8> {
    let row_major = tensor.deep_clone_with(MemoryFormat::Contiguous).expect("on the host");
    assert!(row_major.device().is_host());
    // SAFETY: new memory without gaps.
    unsafe { std::slice::from_raw_parts(row_major.data_ptr().cast::<u8>(), row_major.nbytes()) }
        .to_vec()
}

/// A tensor on the host of these bytes, from the lowest element to the highest.
pub(crate) fn on_host(shape: &[i64], strides: &[i64], dtype: DType, mut bytes: Vec<u8>) -> Tensor {
    let layout = Layout::new(shape, strides).expect("a layout");
    let lowest = layout.extent().map_or(0, |(low, _)| low) * dtype.itemsize().unwrap_or(0) as i64;
    let first = bytes.as_mut_ptr().wrapping_offset(-lowest as isize);
    let descriptor = Descriptor::new(first.cast(), layout, dtype, Device::CPU).expect("valid");
    // SAFETY: the bytes of the vector.
    unsafe { Tensor::from_raw_parts(descriptor, true, bytes) }
}

/// Bytes from the lowest element to the highest.
pub(crate) fn span(shape: &[i64], strides: &[i64], dtype: DType) -> usize {
    let layout = Layout::new(shape, strides).expect("a layout");
    let size = dtype.itemsize().expect("whole bytes");
    layout.extent().map_or(0, |(low, high)| (high - low + 1) as usize * size)
}

pub(crate) const LAYOUTS: [(&[i64], &[i64]); 16] = [
    (&[2, 3, 4], &[12, 4, 1]),
    (&[2, 3, 4], &[1, 2, 6]), // dense in another order
    (&[3, 4], &[8, 2]),       // every other column
    (&[3, 4], &[9, 1]),       // rows with gaps
    (&[5], &[-1]),
    (&[3, 4], &[-4, -1]),
    (&[3, 4], &[0, 1]), // one row three times
    (&[3, 4], &[1, 0]), // one column four times
    (&[3, 4, 2], &[0, 2, 0]),
    (&[4, 4], &[1, 1]), // windows that overlap
    (&[1, 6, 1], &[100, 1, -7]),
    (&[], &[]),
    (&[0, 3], &[3, 1]),
    (&[2, 2, 2, 2, 2, 2], &[1, 4, 64, 2, 16, 200]),
    (&[70, 33], &[1, 71]),
    (&[2, 3, 5, 7], &[105, 1, 21, 3]), // channels last
];

pub(crate) const TYPES: [DType; 6] = [
    DType::U8,
    DType::F16,
    DType::F32,
    DType::C128,
    DType { lanes: 3, ..DType::F32 },
    DType { lanes: 3, ..DType::U8 },
];
