//! One picture on its way through six crates, without `unsafe`: a mapped safetensors file, a view
//! of dlbridge, a model of libtorch, ndarray 0.17, ndarray 0.16, and a PNG file of the crate image.
//!
//! The program asserts the addresses at every border. One border copies, and its name says so: the
//! mapped file is read-only, and libtorch has no read-only tensors.

#![forbid(unsafe_code)]

use std::env;
use std::ffi::c_void;
use std::fs;
use std::path::Path;

use dlbridge::{SafetensorsExt, Tensor, TorchExt};
use dlpark::interop::safetensors::SafeTensorFile;
use image::{GrayImage, ImageBuffer, Luma};
use ndarray::Ix2;
use ndarray_0_16::Ix2 as Ix2Of0_16;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tch::Kind;

const HEIGHT: usize = 48;
const WIDTH: usize = 64;

fn main() -> anyhow::Result<()> {
    let folder = env::temp_dir().join(format!("dlbridge-filter-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let result = filter(&folder);
    fs::remove_dir_all(&folder)?;
    result
}

fn filter(folder: &Path) -> anyhow::Result<()> {
    let (model, png) = (folder.join("model.safetensors"), folder.join("edges.png"));
    write_file(&model)?;

    // The file is mapped, and nothing is read yet.
    let file = SafeTensorFile::open(&model)?;
    let (kernel, picture) = (file.share_tensor("kernel")?, file.share_tensor("picture")?);
    let first_byte = picture.data_ptr();

    // A view: without the alpha channel, and as planes (channel, height, width).
    let planes = picture.slice(2, None, 3, 1)?.permute([2, 0, 1])?;
    assert_eq!(planes.shape(), [3, HEIGHT as i64, WIDTH as i64]);
    assert_eq!(planes.data_ptr(), first_byte);

    // The border that copies, as `to_` says.
    let (kernel, planes) = (kernel.to_torch()?, planes.to_torch()?);
    assert_ne!(planes.data_ptr(), first_byte);
    let edges = tch::no_grad(|| run_model(&kernel, &planes));
    let pixels = edges.data_ptr();

    // libtorch's memory, read and written as an array of ndarray 0.17 ...
    let mut array = edges.into_ndarray::<u8, Ix2>()?;
    assert_eq!(address(array.as_ptr()), pixels);
    array.get_mut()?.mapv_inplace(|pixel| u8::MAX - pixel); // dark lines on white

    // ... and of ndarray 0.16.
    let mut array = array.into_tensor().into_ndarray::<u8, Ix2Of0_16>()?;
    assert_eq!(address(array.view().as_ptr()), pixels);
    array.get_mut()?.column_mut(0).fill(0); // a black line at the left

    // An image that borrows the same memory, and a file.
    let tensor = array.into_tensor();
    let view = gray(&tensor)?;
    assert_eq!(address(view.as_raw().as_ptr()), pixels);
    view.save(&png)?;

    let saved: GrayImage = image::open(&png)?.into_luma8();
    assert_eq!(saved.as_raw().as_slice(), tensor.as_slice::<u8>()?);
    assert_eq!((saved.get_pixel(0, 5), saved.get_pixel(20, 20)), (&Luma([0]), &Luma([255])));
    println!("{} bytes of PNG, {} dark pixels", fs::metadata(&png)?.len(), dark(&saved));
    Ok(())
}

/// Writes a file with a picture, a bright square with an alpha channel, and with the kernel of the
/// model. The elements are written from the tensors' own memory.
fn write_file(path: &Path) -> anyhow::Result<()> {
    let mut picture = Tensor::zeros::<u8>([HEIGHT, WIDTH, 4])?;
    for (index, pixel) in picture.as_slice_mut::<u8>()?.chunks_exact_mut(4).enumerate() {
        let (row, column) = (index / WIDTH, index % WIDTH);
        let inside = (12..36).contains(&row) && (16..48).contains(&column);
        pixel.copy_from_slice(&[u8::from(inside) * 200, u8::from(inside) * 100, 0, 255]);
    }
    let laplacian = [0.0_f32, -1.0, 0.0, -1.0, 4.0, -1.0, 0.0, -1.0, 0.0];
    let kernel = Tensor::from_vec(laplacian.repeat(3), [1, 3, 3, 3])?;
    let kernel = bytemuck::cast_slice(kernel.as_slice::<f32>()?);
    serialize_to_file(
        [
            ("kernel", TensorView::new(Dtype::F32, vec![1, 3, 3, 3], kernel)?),
            ("picture", TensorView::new(Dtype::U8, vec![HEIGHT, WIDTH, 4], picture.as_slice()?)?),
        ],
        None,
        path,
    )?;
    Ok(())
}

/// Finds edges: a convolution, whose result becomes a picture of bytes.
fn run_model(kernel: &tch::Tensor, planes: &tch::Tensor) -> tch::Tensor {
    let batch = planes.to_kind(Kind::Float).unsqueeze(0);
    let edges = batch.conv2d(kernel, None::<tch::Tensor>, 1, 1, 1, 1);
    edges.abs().clamp(0, 255).to_kind(Kind::Uint8).squeeze().contiguous()
}

/// Borrows a tensor of rows of pixels as an image.
fn gray(tensor: &Tensor) -> anyhow::Result<ImageBuffer<Luma<u8>, &[u8]>> {
    let pixels = tensor.as_slice::<u8>()?;
    ImageBuffer::from_raw(WIDTH as u32, HEIGHT as u32, pixels)
        .ok_or_else(|| anyhow::anyhow!("too few pixels"))
}

fn address(pointer: *const u8) -> *mut c_void {
    pointer.cast_mut().cast()
}

fn dark(picture: &GrayImage) -> usize {
    picture.pixels().filter(|pixel| pixel.0[0] < 128).count()
}
