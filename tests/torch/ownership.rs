//! Memory of dlbridge inside libtorch: which code drops it, and which code may write it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dlbridge::{
    Access, ArrayExt, ArrayTorchExt, DType, Descriptor, Device, Error, Layout, Tensor, TorchExt,
};
use ndarray::{Ix1, Ix2, array};
use tch::Kind;

use crate::support::{address, matrix, torch_matrix};

/// Address of the first element of a struct.
fn data_of<T>(exported: &dlbridge::Exported) -> *mut T {
    // SAFETY: valid as long as `exported` lives.
    unsafe { exported.as_ptr().as_ref() }.dl_tensor.data.cast()
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counted(values: &'static [f32]) -> (Tensor, Arc<AtomicUsize>) {
    let drops = Arc::new(AtomicUsize::new(0));
    let layout = Layout::contiguous([values.len() as i64]).expect("small");
    let data = values.as_ptr().cast_mut().cast();
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::CPU).expect("valid");
    // SAFETY: static; the tests do not write it.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, Counted(Arc::clone(&drops))) };
    (tensor, drops)
}

#[test]
fn owner_is_dropped_with_the_last_libtorch_view() {
    let (tensor, drops) = counted(&[1.0, 2.0, 3.0]);
    // SAFETY: the memory is not written.
    let torch = unsafe { tensor.share_torch_unchecked() }.expect("shared");
    drop(tensor);
    let view = torch.narrow(0, 1, 2);
    let sum =
        thread::spawn(move || torch.sum(Kind::Float).double_value(&[])).join().expect("no panic");
    assert_eq!((sum, drops.load(Ordering::SeqCst)), (6.0, 0));
    thread::spawn(move || drop(view)).join().expect("no panic");
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    let (empty, drops) = counted(&[]);
    // SAFETY: there is nothing to write.
    let empty = unsafe { empty.assume_exclusive() }.expect("alone");
    drop(empty.into_torch().expect("moved"));
    assert_eq!(drops.load(Ordering::SeqCst), 1, "also when there are no elements");
    let (tensor, drops) = counted(&[1.0]);
    // SAFETY: the memory is not written.
    let tensor = unsafe { tensor.assume_exclusive() }.expect("alone");
    let again = tensor.into_torch().expect("moved").into_tensor().expect("unwrapped");
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(again);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn views_of_dlbridge_memory_convert_back() {
    let tensor = matrix().into_torch().expect("moved");
    let row = tensor.get(1);
    drop(tensor);
    let row = row.into_ndarray::<f32, Ix1>().expect("alone");
    assert_eq!(*row, array![4.0, 5.0, 6.0]);
    let rejected = row.into_array().expect_err("a part of the original");
    assert!(matches!(rejected.error(), Error::NotOriginal { .. }));
    assert_eq!(*rejected.into_value(), array![4.0, 5.0, 6.0]);
    let flat = matrix().into_torch().expect("moved").view([6]);
    let array = flat.into_ndarray::<f32, Ix1>().expect("alone").into_array().expect("all of it");
    assert_eq!(array, array![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn resize_and_set_data_keep_dlbridge_memory_alive() {
    let mut tensor = matrix().into_torch().expect("moved");
    let _ = tensor.resize_([1000]).fill_(1.0);
    assert_eq!(tensor.into_ndarray::<f32, Ix1>().expect("libtorch's own memory now").sum(), 1000.0);
    let tensor = matrix().into_torch().expect("moved");
    assert!(tensor.f_internal_lazy_clone().is_err(), "not lazily cloneable");
    let mut tensor = torch_matrix().copy();
    let exported = tensor.share_dlpack().expect("adopted");
    assert!(tensor.f_internal_lazy_clone().is_err(), "nor after an export");
    let _ = tensor.resize_([1000]).fill_(9.0);
    let data = data_of::<f32>(&exported);
    tensor.set_data(&tch::Tensor::zeros([1], tch::kind::FLOAT_CPU));
    drop(tensor);
    // SAFETY: the struct keeps its memory, whatever became of the tensor.
    assert_eq!(unsafe { data.read() }, 1.0);
}

#[test]
fn exported_structs_share_the_tensors_memory() {
    let mut tensor = torch_matrix().copy();
    let before = address(&tensor);
    let first = tensor.share_dlpack().expect("adopted");
    let second = tensor.share_dlpack().expect("shared once more");
    // SAFETY: valid as long as `first` lives.
    let managed = unsafe { first.as_ptr().as_ref() };
    assert_eq!((managed.dl_tensor.data.addr(), managed.flags), (before, 0));
    // SAFETY: the struct may be written, and no other code is at work on the memory.
    unsafe { managed.dl_tensor.data.cast::<f32>().write(8.0) };
    assert_eq!(tensor.double_value(&[0, 0]), 8.0);
    assert!(matches!(tensor.as_ndarray_mut::<f32, Ix2>(), Err(Error::TorchNotExclusive { .. })));
    drop(first);
    // SAFETY: made above, and libtorch does not write while `back` is looked at.
    let back = unsafe { Tensor::from_dlpack(second.into_raw()) }.expect("ours");
    assert_eq!(back.access(), Access::Aliased { writable: true, trusted: true });
    assert_eq!(back.as_ndarray::<f32, Ix2>().expect("trusted")[[0, 0]], 8.0);
    let tensor = tensor.into_ndarray::<f32, Ix2>().expect_err("a struct is alive").into_value();
    drop(back);
    let mut array = tensor.into_ndarray::<f32, Ix2>().expect("alone again");
    array.get_mut().expect("exclusive again")[[0, 0]] = 1.0;
    assert_eq!(*array, matrix());

    let ours = matrix().into_torch().expect("moved");
    let exported = ours.share_dlpack().expect("shared");
    let ours = ours.into_ndarray::<f32, Ix2>().expect_err("a struct is alive").into_value();
    drop(exported);
    let array = ours.into_ndarray::<f32, Ix2>().expect("alone").into_array().expect("the original");
    assert_eq!(array, matrix());
    let exported = torch_matrix().copy().share_dlpack().expect("the struct outlives the tensor");
    // SAFETY: valid as long as `exported` lives.
    assert_eq!(unsafe { data_of::<f32>(&exported).read() }, 1.0);
}

#[test]
fn unchecked_conversions_share_memory() {
    let tensor = torch_matrix().copy();
    let other = tensor.shallow_clone();
    // SAFETY: no code writes while the view lives.
    assert_eq!(unsafe { tensor.as_ndarray_unchecked::<f32, Ix2>() }.expect("f32"), matrix());
    // SAFETY: `other` neither writes nor resizes the memory.
    let aliased = unsafe { tensor.into_tensor_unchecked() }.expect("plain");
    assert_eq!(aliased.access(), Access::Aliased { writable: true, trusted: true });
    assert_eq!(aliased.as_ndarray::<f32, Ix2>().expect("trusted"), matrix());
    let aliased = aliased.into_torch().expect_err("others may look at the memory").into_value();
    let before = address(&other);
    drop(other);
    // SAFETY: no other code is left.
    let tensor = unsafe { aliased.assume_exclusive() }.expect("one handle").into_torch();
    assert_eq!(address(&tensor.expect("what it was")), before);

    let ours = matrix().into_tensor();
    // SAFETY: no view lives while libtorch writes.
    let mut torch = unsafe { ours.share_torch_unchecked() }.expect("shared");
    let _ = torch.fill_(3.0);
    assert_eq!(ours.as_ndarray::<f32, Ix2>().expect("f32").sum(), 18.0);
    drop(torch);
    assert!(ours.is_unique());
}

#[test]
fn owners_are_dropped_once_after_refusals() {
    let refusals: [fn(Tensor) -> Tensor; 7] = [
        |tensor| tensor.into_torch().expect_err("aliased").into_value(),
        |tensor| tensor.into_ndarray::<f64, Ix1>().expect_err("f32").into_value(),
        |tensor| tensor.into_ndarray::<f32, Ix2>().expect_err("rank 1").into_value(),
        |tensor| tensor.into_vec::<f32>().expect_err("no Vec").into_value(),
        |tensor| {
            // SAFETY: only this handle reaches the memory.
            let tensor = unsafe { tensor.assume_exclusive() }.expect("one handle");
            let other = tensor.share();
            let tensor = tensor.into_aliased().expect_err("two handles").into_value();
            drop(other);
            tensor
        },
        |tensor| {
            let other = tensor.share();
            // SAFETY: refused.
            let tensor =
                unsafe { tensor.assume_exclusive() }.expect_err("two handles").into_value();
            drop(other);
            tensor
        },
        |tensor| {
            // SAFETY: the memory is not written, and only this handle reaches it.
            let tensor = unsafe { tensor.assume_exclusive() }.expect("one handle");
            let array = tensor.into_ndarray::<f32, Ix1>().expect("readable");
            array.into_array().expect_err("no Array").into_value().into_tensor()
        },
    ];
    for refuse in refusals {
        let (tensor, drops) = counted(&[1.0, 2.0]);
        let tensor = refuse(tensor);
        assert_eq!((drops.load(Ordering::SeqCst), tensor.to_vec::<f32>()), (0, Ok(vec![1.0, 2.0])));
        drop(tensor);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }
}

struct Explosive(#[expect(dead_code, reason = "dropped after the panic")] Counted);

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("an owner that panics");
    }
}

#[test]
fn owner_panics_do_not_unwind_through_libtorch() {
    static VALUES: [f32; 2] = [1.0, 2.0];
    let drops = Arc::new(AtomicUsize::new(0));
    let layout = Layout::contiguous([2]).expect("small");
    let data = VALUES.as_ptr().cast_mut().cast();
    let descriptor = Descriptor::new(data, layout, DType::F32, Device::CPU).expect("valid");
    let owner = Explosive(Counted(Arc::clone(&drops)));
    // SAFETY: static, not written, and reached by no other code.
    let tensor = unsafe { Tensor::from_raw_parts(descriptor, true, owner) };
    // SAFETY: this handle is the only one, and nothing else reaches the memory.
    let tensor = unsafe { tensor.assume_exclusive() }.expect("alone").into_torch().expect("moved");
    assert_eq!(tensor.sum(Kind::Float).double_value(&[]), 3.0);
    drop(tensor);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn unchecked_shares_keep_their_access() {
    let (aliased, _drops) = counted(&[1.0, 2.0]);
    // SAFETY: no code writes the memory.
    let mut torch = unsafe { aliased.share_torch_unchecked() }.expect("shared");
    assert!(matches!(torch.as_ndarray_mut::<f32, Ix1>(), Err(Error::Aliased)));
    let torch = torch
        .into_ndarray::<f32, Ix1>()
        .expect_err("no caller guarantees that it is not written")
        .into_value();
    let converted = torch.into_tensor().expect("carried");
    assert!(matches!(converted.as_slice::<f32>(), Err(Error::Aliased)));

    // SAFETY: no code writes the memory.
    let read_only = unsafe { matrix().into_tensor().assume_read_only() }.expect("alone");
    // SAFETY: nor through libtorch.
    let mut torch = unsafe { read_only.share_torch_unchecked() }.expect("shared");
    drop(read_only);
    assert!(matches!(torch.as_ndarray_mut::<f32, Ix2>(), Err(Error::ReadOnly { .. })));
    assert!(matches!(torch.share_dlpack(), Err(Error::ReadOnly { .. })));
    let mut array = torch.into_ndarray::<f32, Ix2>().expect("readable");
    assert!(matches!(array.get_mut(), Err(Error::ReadOnly { .. })));
}

#[test]
fn read_only_access_outlasts_an_export() {
    let tensor = matrix().into_torch().expect("moved");
    let exported = tensor.share_dlpack().expect("shared");
    // SAFETY: made just above; no code writes.
    let imported = unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("ours");
    drop(tensor);
    // SAFETY: no code writes any more.
    let read_only = unsafe { imported.assume_read_only() }.expect("alone");
    // SAFETY: nor through libtorch.
    let mut torch = unsafe { read_only.share_torch_unchecked() }.expect("shared");
    drop(read_only);
    assert!(matches!(torch.as_ndarray_mut::<f32, Ix2>(), Err(Error::ReadOnly { .. })));
}
