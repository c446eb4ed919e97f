//! Tensors of safetensors files.

use std::fs;
use std::path::PathBuf;

use dlbridge::{Access, DType, DlparkExt, Error, SafetensorsError, SafetensorsExt, Tensor};
use dlpark::interop::safetensors::SafeTensorFile;

/// The bytes of a file with one tensor, whose header has this length or a little more.
fn bytes_of(description: &str, data: &[u8], header_len: usize) -> Vec<u8> {
    let header = format!("{:header_len$}", format!("{{\"x\":{{{description}}}}}"));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn file_of(description: &str, data: &[u8]) -> SafeTensorFile {
    SafeTensorFile::from_bytes(bytes_of(description, data, 80)).expect("a valid file")
}

struct TempFile(PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_mapped_tensor_keeps_the_mapping() {
    let path = std::env::temp_dir().join(format!("dlbridge-{}.safetensors", std::process::id()));
    let path = TempFile(path);
    let numbers = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let data = numbers.map(f32::to_le_bytes).concat();
    let description = r#""dtype":"F32","shape":[2,3],"data_offsets":[0,24]"#;
    fs::write(&path.0, bytes_of(description, &data, 80)).expect("a temporary file");
    let file = SafeTensorFile::open(&path.0).expect("a valid file");
    let (one, other) = (file.share_tensor("x"), file.share_tensor("x"));
    let (one, other) = (one.expect("x"), other.expect("x"));
    assert_eq!(one.data_ptr(), other.data_ptr(), "nothing was copied");
    drop((file, other));
    assert_eq!(
        (one.shape(), one.dtype(), one.access()),
        (&[2, 3][..], DType::F32, Access::ReadOnly)
    );
    let sum = std::thread::spawn(move || one.as_slice::<f32>().map(|all| all.iter().sum::<f32>()));
    assert_eq!(sum.join().expect("no panic"), Ok(21.0));
}

#[test]
fn no_code_may_write_the_file() {
    let file = file_of(r#""dtype":"U8","shape":[3],"data_offsets":[0,3]"#, &[1, 2, 3]);
    let mut tensor = file.share_tensor("x").expect("x");
    assert!(matches!(tensor.as_slice_mut::<u8>(), Err(Error::ReadOnly { .. })));
    let mut managed = tensor.into_dlpark();
    assert!(managed.validate_mut().is_err());
    let tensor: Tensor = managed.into_tensor().expect("our own by now");
    assert_eq!(tensor.access(), Access::ReadOnly);
    // SAFETY: the method refuses read-only memory.
    assert!(unsafe { tensor.assume_exclusive() }.is_err());
}

#[test]
fn odd_element_types_and_shapes_are_described() {
    let file = file_of(r#""dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]"#, &[1, 2]);
    assert_eq!(file.share_tensor("x").expect("x").dtype().bits, 8);
    let file = file_of(r#""dtype":"F32","shape":[0,7],"data_offsets":[0,0]"#, &[]);
    let empty = file.share_tensor("x").expect("x");
    assert_eq!((empty.shape(), empty.as_slice::<f32>()), (&[0, 7][..], Ok(&[][..])));
    let file = file_of(r#""dtype":"I64","shape":[],"data_offsets":[0,8]"#, &5_i64.to_le_bytes());
    assert_eq!(file.share_tensor("x").expect("x").item::<i64>(), Ok(5));
}

#[test]
fn bytes_that_are_no_bools_are_refused() {
    let description = r#""dtype":"BOOL","shape":[3],"data_offsets":[0,3]"#;
    let tensor = file_of(description, &[0, 1, 1]).share_tensor("x").expect("bools");
    assert_eq!(tensor.as_slice::<bool>(), Ok(&[false, true, true][..]));
    let error = file_of(description, &[0, 2, 1]).share_tensor("x").expect_err("no bools");
    assert!(matches!(error, SafetensorsError::Tensor(Error::InvalidBool { value: 2 })));
}

#[test]
fn lying_files_are_dlparks_errors() {
    for (description, data) in [
        (r#""dtype":"F32","shape":[4],"data_offsets":[0,16]"#, &[0; 8][..]), // a short file
        (r#""dtype":"F32","shape":[4],"data_offsets":[0,8]"#, &[0; 8]),      // a short range
        (r#""dtype":"F32","shape":[2],"data_offsets":[4,12]"#, &[0; 12]),    // a gap
        (r#""dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]"#, &[0; 4]), // overflow
    ] {
        let file = SafeTensorFile::from_bytes(bytes_of(description, data, 80));
        assert!(file.is_err(), "{description}");
    }
    let file = file_of(r#""dtype":"U8","shape":[1],"data_offsets":[0,1]"#, &[0]);
    assert!(matches!(file.share_tensor("y"), Err(SafetensorsError::File(_))));
    let misaligned = bytes_of(r#""dtype":"F64","shape":[1],"data_offsets":[0,8]"#, &[0; 8], 81);
    let file = SafeTensorFile::from_bytes(misaligned).expect("a valid file");
    let error = file.share_tensor("x").expect_err("at an odd address");
    assert!(error.to_string().contains("not aligned"), "{error}");
}
