//! Finds the edges of a picture: file → ndarray → libtorch convolutions → ndarray → file, with no
//! byte copied at either border.
//!
//! `cargo run --release --package edges [PICTURE [RESULT.png]]`
//!
//! Without arguments it draws a picture of its own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dlbridge::{ArrayTorchExt, TorchExt};
use image::{GrayImage, RgbImage};
use ndarray::{Array3, Ix2};
use tch::Kind;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let mut arguments = std::env::args_os().skip(1);
    let source = match arguments.next() {
        Some(path) => PathBuf::from(path),
        None => {
            let path = PathBuf::from("target/picture.png");
            std::fs::create_dir_all("target")?;
            draw(640, 480).save(&path)?;
            path
        }
    };
    let target = arguments.next().map_or_else(|| PathBuf::from("target/edges.png"), PathBuf::from);
    let picture = image::open(&source)?.into_rgb8();

    // Height × width × colour, the picture's own memory.
    let (width, height) = picture.dimensions();
    let pixels = Array3::from_shape_vec((height as usize, width as usize, 3), picture.into_raw())?;
    let pixels_at = pixels.as_ptr().addr();
    println!(
        "{}: {width} × {height}, {} KiB at {pixels_at:#x}",
        source.display(),
        pixels.len() / 1024
    );

    let (tensor, into) = timed(|| pixels.into_torch().map_err(dlbridge::Error::from));
    let tensor = tensor?;
    let copied = if tensor.data_ptr().addr() == pixels_at { 0 } else { tensor.numel() };
    println!(
        "ndarray → libtorch: {into:?}, {copied} bytes copied, at {:#x}",
        tensor.data_ptr().addr()
    );
    assert_eq!(copied, 0);

    let (edges, work) = timed(|| tch::no_grad(|| edges(&tensor)));
    println!("libtorch at work: {work:?}");

    let edges_at = edges.data_ptr().addr();
    let (edges, out) = timed(|| edges.into_ndarray::<u8, Ix2>());
    let edges = edges?;
    let copied = if edges.as_ptr().addr() == edges_at { 0 } else { edges.len() };
    println!("libtorch → ndarray: {out:?}, {copied} bytes copied, at {:#x}", edges.as_ptr().addr());
    assert_eq!(copied, 0);

    let bright = edges.iter().filter(|&&value| value > 127).count();
    println!("{:.1} % of the pixels are on an edge", 100.0 * bright as f64 / edges.len() as f64);
    let row_major = edges.as_slice().ok_or("libtorch gave another order")?.to_vec();
    GrayImage::from_raw(width, height, row_major).ok_or("too few pixels")?.save(&target)?;
    println!("written: {}", target.display());
    Ok(())
}

fn timed<R>(run: impl FnOnce() -> R) -> (R, Duration) {
    let start = Instant::now();
    let result = run();
    (result, start.elapsed())
}

/// Float, normalised, blurred, and the length of the gradient: bytes of height × width.
fn edges(pixels: &tch::Tensor) -> tch::Tensor {
    let grey = pixels.to_kind(Kind::Float).g_div_scalar(255.0).mean_dim(
        [2_i64].as_slice(),
        false,
        Kind::Float,
    );
    let normal = (&grey - grey.mean(Kind::Float)) / (grey.std(true) + 1e-6);
    let kernel =
        |values: &[f32], count, side| tch::Tensor::from_slice(values).view([count, 1, side, side]);
    let blur = kernel(&[1., 2., 1., 2., 4., 2., 1., 2., 1.].map(|weight| weight / 16.0), 1, 3);
    let sobel = kernel(
        &[-1., 0., 1., -2., 0., 2., -1., 0., 1., -1., -2., -1., 0., 0., 0., 1., 2., 1.],
        2,
        3,
    );
    let image = normal.unsqueeze(0).unsqueeze(0);
    let convolve = |input: &tch::Tensor, weight: &tch::Tensor| {
        let padded = input.replication_pad2d([1, 1, 1, 1]);
        padded.conv2d(weight, None::<tch::Tensor>, [1, 1], [0, 0], [1, 1], 1)
    };
    let gradient = convolve(&convolve(&image, &blur), &sobel);
    let length = gradient
        .square()
        .sum_dim_intlist([1_i64].as_slice(), false, Kind::Float)
        .sqrt()
        .squeeze_dim(0);
    let scaled = &length * (255.0 / (length.max().double_value(&[]) * 0.5).max(1e-6));
    scaled.clamp(0.0, 255.0).to_kind(Kind::Uint8)
}

/// Discs, a chequered floor and a sky: something with edges.
fn draw(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let (fx, fy) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
        let inside = |cx: f64, cy: f64, r: f64| (fx - cx).hypot((fy - cy) * 0.75) < r;
        let shade = |value: f64| (value * 255.0) as u8;
        if inside(0.3, 0.4, 0.15) {
            image::Rgb([220, 60, shade(fy)])
        } else if inside(0.65, 0.35, 0.1) && !inside(0.68, 0.33, 0.08) {
            image::Rgb([250, 240, 160])
        } else if fy > 0.7 {
            let depth = 1.0 / (fy - 0.6);
            let even = ((fx - 0.5) * depth * 2.0).floor() as i64 + depth.floor() as i64;
            if even % 2 == 0 { image::Rgb([40, 40, 50]) } else { image::Rgb([200, 200, 190]) }
        } else {
            image::Rgb([shade(0.2 + 0.4 * fy), shade(0.4 + 0.4 * fy), shade(0.9 - 0.2 * fy)])
        }
    })
}
