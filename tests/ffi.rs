//! Our structs against dlpark's, which it generates from upstream's header.

use dlbridge::ffi as ours;
use dlpark::ffi as theirs;
use std::mem::offset_of;

macro_rules! same_layout {
    ($($name:ident { $($field:ident),* })*) => {$(
        assert_eq!(size_of::<ours::$name>(), size_of::<theirs::$name>(), stringify!($name));
        assert_eq!(align_of::<ours::$name>(), align_of::<theirs::$name>(), stringify!($name));
        $(assert_eq!(
            offset_of!(ours::$name, $field),
            offset_of!(theirs::$name, $field),
            concat!(stringify!($name), ".", stringify!($field))
        );)*
    )*};
}

#[test]
fn struct_layouts_match_dlpack_h() {
    same_layout! {
        DLPackVersion { major, minor }
        DLDevice { device_type, device_id }
        DLDataType { code, bits, lanes }
        DLTensor { data, device, ndim, dtype, shape, strides, byte_offset }
        DLManagedTensor { dl_tensor, manager_ctx, deleter }
        DLManagedTensorVersioned { version, manager_ctx, deleter, flags, dl_tensor }
        DLPackExchangeAPIHeader { version, prev_api }
        DLPackExchangeAPI {
            header, managed_tensor_allocator, managed_tensor_from_py_object_no_sync,
            managed_tensor_to_py_object_no_sync, dltensor_from_py_object_no_sync,
            current_work_stream
        }
    }
}

#[test]
fn versions_and_flags_match_dlpack_h() {
    assert_eq!(ours::DLPACK_MAJOR_VERSION, theirs::DLPACK_MAJOR_VERSION);
    assert_eq!(ours::DLPACK_MINOR_VERSION, theirs::DLPACK_MINOR_VERSION);
    assert_eq!(
        u64::from(ours::DLPACK_FLAG_BITMASK_READ_ONLY),
        dlpark::DlpackFlags::READ_ONLY.bits()
    );
    assert_eq!(
        u64::from(ours::DLPACK_FLAG_BITMASK_IS_COPIED),
        dlpark::DlpackFlags::IS_COPIED.bits()
    );
}
