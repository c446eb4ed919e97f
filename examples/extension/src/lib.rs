//! A Python module that prepares batches of images for a model.
//!
//! Images are arrays of NumPy, PyTorch, JAX or any other library with DLPack or the buffer
//! protocol; results are arrays of the same library.

use dlbridge::{DType, Tensor};
use dlbridge_pyo3::{Argument, OrRaise, Producer, PyTensor, add_class, like};
use ndarray::{ArrayD, Axis, IxDyn};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Normalises images of uint8, (height, width, 3) or (batch, height, width, 3), to planes of
/// float32, (3, height, width) or (batch, 3, height, width).
#[pyfunction]
#[pyo3(signature = (images, *, mean = [0.0; 3], std = [1.0; 3]))]
fn normalise<'py>(
    images: &Bound<'py, PyAny>,
    mean: [f32; 3],
    std: [f32; 3],
) -> PyResult<Bound<'py, PyAny>> {
    let py = images.py();
    let pixels = pixels(images)?.to_ndarray(py)?; // copied: only this function has the array
    let planes = py.detach(move || normalised(&pixels, mean, std)); // other Python threads run
    like(images, planes)
}

fn normalised(pixels: &ArrayD<u8>, mean: [f32; 3], std: [f32; 3]) -> ArrayD<f32> {
    let channel_axis = pixels.ndim() - 1;
    let mut shape = pixels.shape().to_vec();
    shape[channel_axis - 2..].rotate_right(1); // height, width, 3: 3, height, width
    let mut planes = ArrayD::zeros(shape);
    for (channel, mut plane) in planes.axis_iter_mut(Axis(channel_axis - 2)).enumerate() {
        plane.zip_mut_with(&pixels.index_axis(Axis(channel_axis), channel), |value, &pixel| {
            *value = (f32::from(pixel) / 255.0 - mean[channel]) / std[channel];
        });
    }
    planes
}

/// Returns the mean of each channel, and reads the images without a copy. No other thread may write
/// the images meanwhile.
#[pyfunction]
fn channel_means(images: &Bound<'_, PyAny>) -> PyResult<[f64; 3]> {
    let pixels = pixels(images)?;
    // SAFETY: no code may write the memory while `view` exists. This thread runs no Python code
    // meanwhile and stays attached, and the documentation forbids the caller other writes.
    let view = unsafe { pixels.assume_read_only(images.py()) }?;
    let array = view.as_ndarray::<u8, IxDyn>().or_raise()?;
    let count = array.len() as f64 / 3.0;
    Ok([0, 1, 2].map(|channel| {
        let values = array.index_axis(Axis(array.ndim() - 1), channel);
        values.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / count
    }))
}

/// The argument `images`, checked.
fn pixels(images: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let pixels = Argument::named("images").dtype(DType::U8).on_host().get(images)?;
    match pixels.shape() {
        [_, _, 3] | [_, _, _, 3] => Ok(pixels),
        shape => Err(PyValueError::new_err(format!(
            "images: expected shape (height, width, 3) or (batch, height, width, 3), got {shape:?}"
        ))),
    }
}

/// Images and their labels. Libraries take a `Batch` as an array: `torch.from_dlpack(batch)` shares
/// the memory of the images.
#[pyclass(frozen)]
struct Batch {
    images: Tensor,
    #[pyo3(get)]
    labels: Vec<String>,
}

#[pymethods]
impl Batch {
    #[new]
    #[pyo3(signature = (images, labels = Vec::new()))]
    fn new(py: Python<'_>, images: PyTensor, labels: Vec<String>) -> PyResult<Self> {
        // Python code may write the images, so Rust makes no views of them.
        Ok(Self { images: images.into_tensor(py)?.into_aliased().or_raise()?, labels })
    }

    /// The images, without a copy.
    #[getter]
    fn images(&self) -> PyTensor {
        self.images.share().into()
    }
}

impl Producer for Batch {
    fn tensor(slf: &Bound<'_, Self>) -> PyResult<Tensor> {
        Ok(slf.get().images.share())
    }
}

#[pymodule]
mod image_batches {
    use super::*;
    #[pymodule_export]
    use super::{channel_means, normalise};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        add_class::<Batch>(module)?;
        PyTensor::add_to(module)
    }
}
