//! Tensors of memory that other types keep.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use dlbridge::{Access, DType, Element, Error, Exported, Remedy, Tensor};
use memmap2::{Mmap, MmapMut};

const READ_ONLY: u64 = dlbridge::ffi::DLPACK_FLAG_BITMASK_READ_ONLY as u64;

fn flags(exported: &Exported) -> u64 {
    // SAFETY: valid as long as `exported` lives.
    unsafe { exported.as_ptr().as_ref() }.flags
}

/// Lets a struct come back, as a consumer would return it.
fn back(exported: Exported) -> Tensor {
    // SAFETY: a struct of this crate, which was made a moment ago.
    unsafe { Tensor::from_dlpack(exported.into_raw()) }.expect("our own")
}

/// Checks what is true of every owner that stays borrowed.
fn check_shared<T: Element, O: AsRef<[T]> + Send + 'static>(owner: O) -> O {
    let expected = owner.as_ref().to_vec();
    let tensor = Tensor::from_owner(owner, (1, expected.len())).expect("it fits");
    assert_eq!((tensor.access(), tensor.dtype()), (Access::ReadOnly, T::DTYPE));
    assert_eq!(tensor.as_slice::<T>().expect("contiguous"), expected);
    let mut tensor = Box::new(tensor); // the handle moves, the elements do not
    assert!(matches!(tensor.as_slice_mut::<T>(), Err(Error::ReadOnly { .. })));
    assert!(matches!(
        Tensor::from_slice(&expected, [1, expected.len()]).expect("memory").copy_into(&mut tensor),
        Err(Error::ReadOnly { .. })
    ));
    assert_eq!(flags(&tensor.share_dlpack()), READ_ONLY);
    let address = tensor.data_ptr();
    let exported = tensor.into_dlpack();
    assert_eq!(flags(&exported), READ_ONLY);
    let tensor = thread::spawn(move || back(exported)).join().expect("no panic");
    assert_eq!(tensor.access(), Access::ReadOnly);
    // SAFETY: the function refuses the tensor, and nothing is written.
    let tensor = unsafe { tensor.assume_exclusive() }.expect_err("read-only").into_value();
    assert_eq!((tensor.data_ptr(), tensor.to_vec::<T>()), (address, Ok(expected)));
    let rejected = tensor.share().into_owner::<O>().map(drop).expect_err("two handles");
    assert_eq!(*rejected.error(), Error::NotUnique);
    drop(rejected);
    // SAFETY: nothing is read through the owner.
    assert!(unsafe { tensor.owner_unchecked::<Vec<T>>() }.is_none());
    tensor.into_owner::<O>().expect("the only handle")
}

/// Checks what is true of every owner whose elements may be written.
fn check_exclusive<T: Element, O: AsMut<[T]> + Send + 'static>(mut owner: O) -> O {
    let expected = owner.as_mut().to_vec();
    let mut tensor = Tensor::from_owner_mut(owner, [expected.len()]).expect("it fits");
    assert_eq!((tensor.access(), tensor.dtype()), (Access::Exclusive, T::DTYPE));
    tensor.as_slice_mut::<T>().expect("the only handle").fill(T::default());
    let other = tensor.share();
    assert_eq!(tensor.as_slice_mut::<T>(), Err(Error::NotUnique));
    assert_eq!(flags(&other.into_dlpack()), READ_ONLY);
    let exported = tensor.into_dlpack();
    assert_eq!(flags(&exported), 0);
    let mut tensor = thread::spawn(move || back(exported)).join().expect("no panic");
    tensor.as_slice_mut::<T>().expect("the only handle").copy_from_slice(&expected);
    // SAFETY: nothing is read through the owner.
    assert!(unsafe { tensor.owner_unchecked::<Vec<T>>() }.is_none());
    let tensor = tensor.into_owner::<String>().expect_err("another type").into_value();
    let mut owner = tensor.into_owner::<O>().expect("the only handle");
    assert_eq!(owner.as_mut(), expected);
    owner
}

/// An image as a decoder gives it: rows of pixels of three bytes.
#[derive(Debug, PartialEq)]
struct Image {
    pixels: Vec<u8>,
    width: usize,
    height: usize,
}

impl AsRef<[u8]> for Image {
    fn as_ref(&self) -> &[u8] {
        &self.pixels
    }
}

impl AsMut<[u8]> for Image {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }
}

/// A file with these bytes, which is removed at the end.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("dlbridge-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).expect("a folder for temporary files");
        Self(path)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).expect("it was made");
    }
}

#[test]
fn owners_of_every_kind_are_borrowed_and_come_back() {
    let values = [1.5_f32, -2.0, 3.25];
    assert_eq!(check_shared::<f32, _>(values), values);
    assert_eq!(check_shared::<f32, _>(values.to_vec()), values);
    assert_eq!(*check_shared::<f32, _>(Box::<[f32]>::from(values)), values);
    static VALUES: [i64; 2] = [7, 8];
    assert_eq!(check_shared::<i64, &'static [i64]>(&VALUES), VALUES);
    let shared: Arc<[u16]> = vec![1, 2, 3].into();
    drop(check_shared::<u16, _>(Arc::clone(&shared)));
    assert_eq!(Arc::strong_count(&shared), 1);
    assert_eq!(check_shared::<u8, _>(Cow::Borrowed(&[1_u8, 2][..])).as_ref(), [1, 2]);
    assert_eq!(check_shared::<u8, _>("text".to_owned()), "text");
    assert_eq!(check_shared::<bool, _>([true, false]), [true, false]);
    let bytes = Bytes::from_static(b"0123456789");
    assert_eq!(check_shared::<u8, _>(bytes.slice(2..5)), b"234"[..]);
    let image = || Image { pixels: (0..18).collect(), width: 3, height: 2 };
    assert_eq!(check_shared(image()), image());
    assert_eq!(check_exclusive(image()), image());
    assert_eq!(check_exclusive::<f32, _>(values), values);
    assert_eq!(check_exclusive::<f32, _>(values.to_vec()), values);
    assert_eq!(*check_exclusive::<f32, _>(Box::<[f32]>::from(values)), values);
    assert_eq!(check_exclusive::<bool, _>([true, false]), [true, false]);
    let leaked: &'static mut [u32] = Box::leak(vec![1_u32, 2].into());
    let leaked = check_exclusive::<u32, _>(leaked);
    // SAFETY: the slice was leaked from a `Box` above, and this is the only reference to it.
    drop(unsafe { Box::from_raw(leaked) });
}

#[test]
fn maps_of_files_are_borrowed_and_written() {
    let numbers: Vec<u8> = (0..2000_u32).flat_map(u32::to_ne_bytes).collect();
    let file = TemporaryFile::new("maps", &numbers);
    let open = || File::options().read(true).write(true).open(&file.0).expect("it was written");
    // SAFETY: no other code writes the file.
    let map = unsafe { Mmap::map(&open()) }.expect("a map");
    let map = check_shared::<u8, _>(map);
    let address = map.as_ptr();
    let tensor = Tensor::from_bytes_owner(map, DType::U32, (50, 40), 0).expect("it fits");
    assert_eq!(tensor.data_ptr().cast_const().cast(), address);
    assert_eq!(tensor.as_slice::<u32>().expect("aligned")[1999], 1999);
    drop(tensor.into_owner::<Mmap>().expect("the only handle"));
    // SAFETY: no other code writes the file.
    let map = unsafe { MmapMut::map_mut(&open()) }.expect("a map");
    let map = check_shared::<u8, _>(check_exclusive::<u8, _>(map));
    let mut tensor = Tensor::from_owner_mut(map, [numbers.len()]).expect("it fits");
    tensor.as_slice_mut::<u8>().expect("the only handle")[0] = 0xff;
    tensor.into_owner::<MmapMut>().expect("the only handle").flush().expect("written");
    assert_eq!(std::fs::read(&file.0).expect("it exists")[0], 0xff);
}

/// Counts what happens to it.
#[derive(Default)]
struct Counts {
    calls: AtomicUsize,
    drops: AtomicUsize,
}

/// Returns another slice for each call, and changes itself with every call.
struct Fickle {
    counts: Arc<Counts>,
    calls: Cell<usize>,
}

impl AsRef<[u8]> for Fickle {
    fn as_ref(&self) -> &[u8] {
        self.counts.calls.fetch_add(1, Ordering::SeqCst);
        self.calls.set(self.calls.get() + 1);
        [&[1, 2, 3][..], &[], &[9; 100]][self.calls.get() - 1]
    }
}

impl Drop for Fickle {
    fn drop(&mut self) {
        self.counts.drops.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_owner_is_asked_once_and_dropped_once() {
    let counts = Arc::new(Counts::default());
    let fickle = || Fickle { counts: Arc::clone(&counts), calls: Cell::new(0) };
    let tensor = Tensor::from_owner(fickle(), [3]).expect("the first slice");
    let views: Vec<_> = (0..4)
        .map(|_| {
            let tensor = tensor.share();
            thread::spawn(move || tensor.as_slice::<u8>().expect("bytes").to_vec())
        })
        .collect();
    for view in views {
        assert_eq!(view.join().expect("no panic"), [1, 2, 3]);
    }
    assert_eq!(counts.calls.load(Ordering::SeqCst), 1);
    let owner = tensor.into_owner::<Fickle>().expect("the only handle");
    assert_eq!((owner.calls.get(), counts.drops.load(Ordering::SeqCst)), (1, 0));
    drop(owner);
    let rejected = Tensor::from_owner(fickle(), [100]).expect_err("the first slice has 3");
    assert_eq!(
        *rejected.error(),
        Error::LengthMismatch { shape: vec![100], expected: 100, found: 3 }
    );
    assert_eq!((counts.drops.load(Ordering::SeqCst), rejected.into_value().calls.get()), (1, 1));
    let tensor = Tensor::from_owner(fickle(), [3]).expect("the first slice");
    let exported = tensor.share_dlpack();
    drop(tensor);
    assert_eq!(counts.drops.load(Ordering::SeqCst), 2);
    thread::spawn(move || drop(exported)).join().expect("no panic");
    assert_eq!(counts.drops.load(Ordering::SeqCst), 3);
    assert_eq!(counts.calls.load(Ordering::SeqCst), 3);
}

/// Panics when it is asked for its elements or when it is dropped.
struct Panicking {
    counts: Arc<Counts>,
    panics_when_dropped: bool,
    values: [u8; 2],
}

impl AsRef<[u8]> for Panicking {
    fn as_ref(&self) -> &[u8] {
        assert!(self.panics_when_dropped, "as_ref");
        &self.values
    }
}

impl AsMut<[u8]> for Panicking {
    fn as_mut(&mut self) -> &mut [u8] {
        panic!("as_mut")
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        self.counts.drops.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics_when_dropped, "drop");
    }
}

#[test]
fn panics_of_an_owner_unwind_and_leak_nothing() {
    let counts = Arc::new(Counts::default());
    let owner = |panics_when_dropped| Panicking {
        counts: Arc::clone(&counts),
        panics_when_dropped,
        values: [1, 2],
    };
    let unwinds = |code: &dyn Fn()| catch_unwind(AssertUnwindSafe(code)).is_err();
    assert!(unwinds(&|| drop(Tensor::from_owner(owner(false), [2]))));
    assert!(unwinds(&|| drop(Tensor::from_owner_mut(owner(false), [2]))));
    assert_eq!(counts.drops.load(Ordering::SeqCst), 2);
    assert!(unwinds(&|| drop(Tensor::from_owner(owner(true), [2]).expect("it fits"))));
    assert!(unwinds(&|| drop(Tensor::from_owner(owner(true), [3]))));
    assert_eq!(counts.drops.load(Ordering::SeqCst), 4);
    // In a deleter the panic ends, because the caller is C.
    drop(Tensor::from_owner(owner(true), [2]).expect("it fits").into_dlpack());
    assert_eq!(counts.drops.load(Ordering::SeqCst), 5);
}

/// Has no bytes of its own.
#[derive(Debug)]
struct Nothing;

impl AsRef<[f64]> for Nothing {
    fn as_ref(&self) -> &[f64] {
        &[]
    }
}

impl AsMut<[u8]> for Nothing {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut []
    }
}

#[test]
fn owners_without_elements_or_bytes_are_owners() {
    let tensor = Tensor::from_owner(Nothing, (2, 0)).expect("no elements");
    assert_eq!(tensor.as_slice::<f64>().expect("no elements"), [0.0; 0]);
    assert!(tensor.into_owner::<Nothing>().is_ok());
    let mut tensor = Tensor::from_owner_mut(Nothing, [0]).expect("no elements");
    assert_eq!(tensor.as_slice_mut::<u8>().expect("no elements"), [0; 0]);
    assert!(back(tensor.into_dlpack()).into_owner::<Nothing>().is_ok());
    assert!(Tensor::from_owner(Nothing, ()).is_err(), "the shape of one element");
    let tensor = Tensor::from_bytes_owner([0_u8; 3], DType::F64, [0], 3).expect("no elements");
    assert_eq!((tensor.len(), tensor.into_owner::<[u8; 3]>().expect("alone")), (0, [0; 3]));
    assert!(
        Tensor::from_owner(Vec::<bool>::new(), [0])
            .expect("none")
            .into_owner::<Vec<bool>>()
            .is_ok()
    );
}

/// Flags that are read when they are dropped.
struct Flags {
    flags: [bool; 3],
    set: Arc<AtomicUsize>,
}

impl AsMut<[bool]> for Flags {
    fn as_mut(&mut self) -> &mut [bool] {
        &mut self.flags
    }
}

impl Drop for Flags {
    fn drop(&mut self) {
        let set = self.flags.iter().filter(|&&flag| flag).map(|&flag| usize::from(flag)).sum();
        self.set.store(set, Ordering::SeqCst);
    }
}

#[test]
fn bools_that_other_code_wrote_are_valid_before_the_owner_sees_them() {
    let set = Arc::new(AtomicUsize::new(0));
    let written = |byte: u8| {
        let flags = Flags { flags: [true, false, false], set: Arc::clone(&set) };
        let exported = Tensor::from_owner_mut(flags, [3]).expect("it fits").into_dlpack();
        // SAFETY: valid as long as `exported` lives.
        let data = unsafe { exported.as_ptr().as_ref() }.dl_tensor.data.cast::<u8>();
        // SAFETY: the struct is not read-only, and has three elements.
        unsafe { data.wrapping_add(1).write(byte) };
        exported
    };
    drop(written(0x80)); // the consumer releases the struct
    assert_eq!(set.load(Ordering::SeqCst), 2);
    drop(back(written(0xff)));
    assert_eq!(set.load(Ordering::SeqCst), 2);
    let tensor = back(written(7));
    assert_eq!(tensor.as_slice::<bool>(), Err(Error::InvalidBool { value: 7 }));
    let rejected = tensor.into_owner::<Flags>().map(drop).expect_err("an invalid bool");
    assert_eq!(*rejected.error(), Error::InvalidBool { value: 7 });
    drop(rejected);
    assert_eq!(back(written(1)).into_owner::<Flags>().expect("valid").flags, [true, true, false]);
}

#[test]
fn memory_that_other_code_may_reach_is_not_given_back() {
    let tensor = Tensor::from_owner_mut([1_u8, 2], [2]).expect("it fits");
    let tensor = tensor.into_aliased().expect("the only handle");
    let rejected = tensor.into_owner::<[u8; 2]>().expect_err("aliased");
    assert_eq!(*rejected.error(), Error::Aliased);
    // SAFETY: the test keeps no address of the memory.
    let tensor = unsafe { rejected.into_value().assume_exclusive() }.expect("the only handle");
    assert_eq!(tensor.into_owner::<[u8; 2]>().expect("exclusive"), [1, 2]);
    let tensor = Tensor::from_owner([1_u8, 2], [2]).expect("it fits");
    let tensor = tensor.into_aliased().expect("the only handle");
    assert_eq!(tensor.access(), Access::Aliased { writable: false, trusted: false });
    assert!(tensor.into_owner::<[u8; 2]>().is_err());
}

#[test]
fn only_these_constructors_have_an_owner_to_give_back() {
    let not_original = |tensor: Tensor| {
        let rejected = tensor.into_owner::<Vec<u8>>().expect_err("another owner");
        match *rejected.error() {
            Error::NotOriginal { target, remedy: Remedy::CopyToVec } => {
                assert_eq!(target, "alloc::vec::Vec<u8>");
            }
            ref error => panic!("{error}"),
        }
        rejected.into_value()
    };
    let tensor = not_original(Tensor::from_vec(vec![1_u8, 2], [2]).expect("it fits"));
    assert_eq!(tensor.into_vec::<u8>().expect("the original"), [1, 2]);
    not_original(Tensor::zeros::<u8>([2]).expect("memory"));
    not_original(Tensor::from_owner([1_u8, 2], [2]).expect("it fits"));
    let tensor = Tensor::from_owner(vec![1_u8, 2], [2]).expect("it fits");
    let tensor = tensor.into_vec::<u8>().expect_err("not from `from_vec`").into_value();
    assert_eq!(tensor.into_owner::<Vec<u8>>().expect("the original"), [1, 2]);
    let tensor = Tensor::from_owner_mut(vec![1_u8, 2], [2]).expect("it fits");
    assert!(tensor.into_vec::<u8>().is_err());
}

/// Bytes whose address is a multiple of 16, and `skipped` bytes more.
struct Aligned {
    bytes: Vec<u128>,
    skipped: usize,
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        let (head, bytes, tail) = {
            // SAFETY: every bit pattern is a valid `u8`.
            unsafe { self.bytes.align_to::<u8>() }
        };
        assert!(head.is_empty() && tail.is_empty());
        &bytes[self.skipped..]
    }
}

#[test]
fn bytes_are_checked_for_room_and_alignment() {
    let owner = |skipped| Aligned { bytes: vec![u128::MAX / 255; 2], skipped };
    let make = |skipped, dtype, shape: &[usize], offset| {
        Tensor::from_bytes_owner(owner(skipped), dtype, shape, offset)
            .map_err(|rejected| rejected.into_error())
    };
    let room = |shape: &[i64], expected, found| {
        Err(Error::LengthMismatch { shape: shape.to_vec(), expected, found })
    };
    let refused = |skipped, dtype, shape: &[usize], offset| {
        make(skipped, dtype, shape, offset).map(|tensor| tensor.len())
    };
    let (float4, float8) = (DType::scalar(17, 4), DType::scalar(10, 8));
    assert_eq!(make(0, DType::F32, &[2, 4], 0).expect("it fits").shape(), [2, 4]);
    assert_eq!(
        make(0, DType::F32, &[7], 4).expect("it fits").as_slice::<f32>().map(<[_]>::len),
        Ok(7)
    );
    assert_eq!(refused(0, DType::F32, &[8], 4), room(&[8], 8, 7));
    assert_eq!(refused(0, DType::F32, &[8], 33), room(&[8], 8, 0));
    assert_eq!(refused(0, DType::F32, &[1], usize::MAX), room(&[1], 1, 0));
    assert_eq!(refused(0, DType::F32, &[0], 33), room(&[0], 0, 0));
    assert_eq!(refused(0, float4, &[65], 0), room(&[65], 65, 64));
    assert_eq!(refused(0, float4, &[63], 1), room(&[63], 63, 62));
    assert_eq!(make(0, float4, &[61], 1).expect("it fits").nbytes(), 31);
    assert_eq!(make(3, float8, &[29], 0).expect("it fits").nbytes(), 29);
    assert_eq!(make(0, DType { lanes: 4, ..DType::F32 }, &[1], 4).expect("it fits").nbytes(), 16);
    let float128 = DType::scalar(2, 128);
    for (skipped, offset, dtype, align) in [
        (0, 2, DType::F32, 4),
        (1, 0, DType::BF16, 2),
        (8, 0, float128, 16),
        (0, 4, DType::C128, 8),
    ] {
        match make(skipped, dtype, &[1], offset) {
            Err(Error::InvalidDescriptor { field, value, .. }) => {
                assert_eq!(field, "byte_offset");
                assert!(value.starts_with(&format!("{offset} (address 0x")), "{value}");
                assert!(value.ends_with(&format!(", alignment {align})")), "{value}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(make(8, DType::C128, &[1], 0).expect("two f64").nbytes(), 16);
    for dtype in [DType::scalar(99, 8), DType::scalar(2, 24), DType::scalar(3, 64)] {
        assert!(
            matches!(refused(0, dtype, &[1], 0), Err(Error::UnsupportedDType { .. })),
            "{dtype}"
        );
    }
    for dtype in [DType::scalar(2, 0), DType { lanes: 0, ..DType::F32 }] {
        assert!(matches!(refused(0, dtype, &[1], 0), Err(Error::InvalidDescriptor { .. })));
    }
    let huge = [1_usize << 40, 1 << 40];
    assert!(matches!(refused(0, DType::F32, &huge, 0), Err(Error::Overflow { .. })));
    assert!(matches!(refused(0, DType::F64, &[1 << 61], 0), Err(Error::Overflow { .. })));
    assert!(matches!(
        refused(0, DType::U8, &[usize::MAX], 0),
        Err(Error::InvalidDescriptor { .. })
    ));
}

#[test]
fn bytes_of_bools_are_checked_when_they_are_read() {
    let tensor = Tensor::from_bytes_owner([1_u8, 0, 2], DType::BOOL, [3], 0).expect("it fits");
    assert_eq!(tensor.as_slice::<bool>(), Err(Error::InvalidBool { value: 2 }));
    assert_eq!(tensor.to_vec::<bool>(), Err(Error::InvalidBool { value: 2 }));
    assert_eq!(tensor.into_owner::<[u8; 3]>().expect("bytes, not bools"), [1, 0, 2]);
}

#[test]
fn consumers_that_cannot_see_the_flag_get_no_memory_that_they_must_not_write() {
    let tensor = Tensor::from_owner([1_u8, 2], [2]).expect("it fits");
    assert!(matches!(tensor.share_dlpack_legacy(), Err(Error::ReadOnly { .. })));
    let rejected = tensor.into_dlpack_legacy().expect_err("it has no flags");
    assert_eq!(rejected.into_value().into_owner::<[u8; 2]>().expect("alone"), [1, 2]);
    let tensor = Tensor::from_owner_mut([1_u8, 2], [2]).expect("it fits");
    assert!(tensor.into_dlpack_legacy().is_ok());
}
