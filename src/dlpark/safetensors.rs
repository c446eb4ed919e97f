//! Tensors of safetensors files that dlpark reads or maps.

use std::fmt;

use ::dlpark::interop::safetensors::{Error as FileError, SafeTensorFile};

use super::managed::DlparkExt;
#[cfg(doc)]
use crate::Access;
use crate::{DType, Error, Result, Tensor};

/// Tensors of a safetensors file, without copies.
///
/// dlpark's `SafeTensorFile` reads a file into memory, or maps it. `SafeTensorFile::open` maps it
/// privately and is a safe function: dlpark assumes that no other program writes or shortens the
/// file while it is mapped. If that can happen, read the file with `SafeTensorFile::from_bytes`.
///
/// Numbers in these files are little-endian, so dlpark opens no file on a big-endian machine.
///
/// ```
/// use dlbridge::SafetensorsExt;
/// use dlpark::interop::safetensors::SafeTensorFile;
///
/// let path = std::env::temp_dir().join(format!("{}.safetensors", std::process::id()));
/// let header = r#"{"bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}       "#;
/// let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
/// bytes.extend(header.as_bytes());
/// bytes.extend([1.0_f32, 2.0].map(f32::to_le_bytes).concat());
/// std::fs::write(&path, bytes)?;
///
/// let file = SafeTensorFile::open(&path)?; // mapped
/// let bias = file.share_tensor("bias")?;
/// drop(file); // the tensor keeps the mapping
/// assert_eq!(bias.as_slice::<f32>()?, [1.0, 2.0]);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait SafetensorsExt {
    /// Makes a tensor of one of the file's tensors. Nothing is copied.
    ///
    /// The memory is [`Access::ReadOnly`]. The tensor keeps the file's bytes, and each call makes
    /// one more owner of them. The layout is row-major.
    ///
    /// ```
    /// use dlbridge::{Access, SafetensorsExt};
    /// use dlpark::interop::safetensors::SafeTensorFile;
    ///
    /// let header = r#"{"mask":{"dtype":"U8","shape":[1,3],"data_offsets":[0,3]}}"#;
    /// let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    /// bytes.extend(header.as_bytes());
    /// bytes.extend([1, 0, 1]);
    /// let file = SafeTensorFile::from_bytes(bytes)?;
    ///
    /// let mask = file.share_tensor("mask")?;
    /// assert_eq!((mask.shape(), mask.access()), (&[1, 3][..], Access::ReadOnly));
    /// assert!(file.share_tensor("weight").is_err()); // no such tensor
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SafetensorsError::File`] if the file has no tensor of this name, or if the tensor's bytes
    /// are not aligned for its element type; [`SafetensorsError::Tensor`] if a byte of a bool
    /// tensor is neither 0 nor 1.
    fn share_tensor(&self, name: &str) -> Result<Tensor, SafetensorsError>;
}

impl SafetensorsExt for SafeTensorFile {
    fn share_tensor(&self, name: &str) -> Result<Tensor, SafetensorsError> {
        let managed = self.tensor(name).map_err(SafetensorsError::File)?;
        // SAFETY: dlpark's `SafeTensorFile` made `managed`. Its header was checked against the
        // number of bytes, so the elements lie within the file's bytes, which the managed tensor
        // keeps, and which no method of `SafeTensorFile` writes. The flags are `READ_ONLY` alone.
        // The first view of a bool buffer, just below, checks its bytes.
        let tensor = unsafe { managed.into_tensor_unchecked() }.map_err(Error::from)?;
        if tensor.dtype() == DType::BOOL {
            tensor.as_slice::<bool>()?;
        }
        // SAFETY: no code writes the file's bytes, as above, and they do not move. Those of a bool
        // buffer were checked just above.
        Ok(unsafe { tensor.assume_read_only() }.map_err(Error::from)?)
    }
}

impl From<Error> for SafetensorsError {
    fn from(error: Error) -> Self {
        Self::Tensor(error)
    }
}

/// The error of [`SafetensorsExt::share_tensor`].
///
/// ```
/// use dlbridge::{SafetensorsError, SafetensorsExt};
/// use dlpark::interop::safetensors::SafeTensorFile;
///
/// let empty_header = [&2_u64.to_le_bytes()[..], b"{}"].concat();
/// let file = SafeTensorFile::from_bytes(empty_header)?;
/// let error = file.share_tensor("weight").unwrap_err();
/// assert!(matches!(error, SafetensorsError::File(_)) && error.to_string().contains("weight"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
#[derive(Debug)]
pub enum SafetensorsError {
    /// dlpark's reason: of the file, or of one of its tensors.
    File(FileError),
    /// This crate's reason, e.g. [`Error::InvalidBool`].
    Tensor(Error),
}

impl fmt::Display for SafetensorsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Tensor(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SafetensorsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(error) => error.source(),
            Self::Tensor(_) => None,
        }
    }
}
