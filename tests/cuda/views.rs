//! Views of device memory: the elements that are copied, the stream of a handle, and the release.

use dlbridge::{Access, Device, Error, Stream, Tensor};

use crate::fake_cuda::{ExternalStream, Pinned, Session};
use crate::tensors::GPU;

fn on_device(shape: &[i64]) -> Tensor {
    let len = shape.iter().product::<i64>() as u8;
    let host = Tensor::from_vec((0..len).collect::<Vec<u8>>(), shape).expect("it fits");
    host.to_device(GPU).expect("a copy")
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    tensor.to_device(Device::CPU).expect("a copy").to_vec::<u8>().expect("on the host")
}

#[test]
fn views_of_device_memory_are_copied_as_the_views() {
    let session = Session::new();
    let first = on_device(&[3, 4]);
    let address = first.data_ptr().addr();
    let rows = first.slice(0, 1, None, 1).expect("two rows");
    let part = rows.slice(1, None, None, -2).expect("two columns");
    assert_eq!((part.data_ptr().addr(), part.strides()), (address + 7, &[4, -2][..]));
    assert_eq!(bytes(&part), [7, 5, 11, 9]);
    assert_eq!(bytes(&part.deep_clone().expect("a copy")), [7, 5, 11, 9]);
    let column = part.select(1, 0).expect("a column");
    let repeated = column.expand([3, 2]).expect("a view");
    assert_eq!(bytes(&repeated), [7, 11, 7, 11, 7, 11]);
    assert!(matches!(repeated.as_slice::<u8>(), Err(Error::NotOnCpu { .. })));
    drop(repeated);
    session.check();
}

#[test]
fn a_copy_into_a_view_writes_the_elements_of_the_view() {
    let session = Session::new();
    let whole = on_device(&[2, 4]);
    let mut odd = whole.slice(1, 1, None, 2).expect("every second column");
    let source = Tensor::from_vec(vec![100_u8, 101, 102, 103], [2, 2]).expect("four");
    source.copy_into(&mut odd).expect("the only handle");
    assert_eq!(bytes(&odd), [100, 101, 102, 103]);
    assert_eq!(odd.access(), Access::Exclusive);
    // The memory is from a copy without gaps, but the view has some.
    let refused = odd.as_strided([7], [1], 0).expect_err("the gaps of a device");
    assert!(matches!(refused.error(), Error::InvalidView { .. }));
    assert_eq!(bytes(&refused.into_value()), [100, 101, 102, 103]);
    session.check();
}

/// The stream of a handle stays with the view: the memory is used until the stream's work is done.
#[test]
fn a_view_keeps_the_stream_of_its_handle() {
    let session = Session::new();
    let (reader, target) = (ExternalStream::new(0), Pinned::new(4));
    let tensor = on_device(&[2, 4]).with_stream(&reader.stream()).expect("an order");
    let row = tensor.select(0, 1).expect("a row");
    reader.read(&row, &target);
    drop(row); // the device waits for the reader's work before it frees the memory
    reader.synchronize();
    assert_eq!(target.bytes(), [4, 5, 6, 7]);
    drop((reader, target));
    session.check();
}

#[test]
fn a_view_beside_a_transfer_has_another_handle() {
    let session = Session::new();
    let stream = Stream::new(GPU).expect("a stream");
    let pinned = Tensor::from_vec(vec![1_u8, 2, 3, 4], [4]).expect("four").pin().expect("pinned");
    let upload = pinned.start_to_device(GPU, &stream).expect("started");
    let mut half = pinned.slice(0, 0, 2, 1).expect("a view");
    assert_eq!(half.as_slice_mut::<u8>(), Err(Error::NotUnique), "the device may be reading");
    assert_eq!(bytes(&upload.wait().expect("done")), [1, 2, 3, 4]);
    half.as_slice_mut::<u8>().expect("the only handle")[0] = 9;
    drop((half, stream));
    session.check();
}
