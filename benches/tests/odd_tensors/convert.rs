//! Every conversion of a libtorch tensor, and the values that it gives.

use dlbridge::{Element, Error, List, Scalar, Tensor, TorchExt};
use ndarray::IxDyn;
use num_complex::Complex;
use tch::Kind;

pub(crate) const ALL: [&str; 9] = [
    "into_tensor",
    "into_ndarray",
    "as_ndarray_mut",
    "share_dlpack",
    "as_ndarray_unchecked",
    "into_tensor_unchecked",
    "to_tensor",
    "to_ndarray",
    "to_list",
];

/// Converts a tensor, and reads the result.
pub(crate) fn apply(conversion: &str, tensor: tch::Tensor) -> Result<Vec<f64>, Error> {
    match tensor.f_kind() {
        Ok(Kind::ComplexFloat) => with::<Complex<f32>>(conversion, tensor),
        Ok(Kind::Int64) => with::<i64>(conversion, tensor),
        Ok(Kind::Int8 | Kind::QInt8) => with::<i8>(conversion, tensor),
        Ok(Kind::Uint8 | Kind::QUInt8) => with::<u8>(conversion, tensor),
        Ok(Kind::Double) => with::<f64>(conversion, tensor),
        _ => with::<f32>(conversion, tensor),
    }
}

fn with<T: Number>(conversion: &str, mut tensor: tch::Tensor) -> Result<Vec<f64>, Error> {
    let values: Vec<T> = match conversion {
        "into_tensor" => tensor.into_tensor()?.to_vec()?,
        "into_ndarray" => tensor.into_ndarray::<T, IxDyn>()?.iter().copied().collect(),
        "as_ndarray_mut" => tensor.as_ndarray_mut::<T, IxDyn>()?.iter().copied().collect(),
        "share_dlpack" => {
            let exported = TorchExt::share_dlpack(&tensor)?;
            // SAFETY: a struct of dlbridge, made just above; nothing writes the memory meanwhile.
            unsafe { Tensor::from_dlpack(exported.into_raw()) }?.to_vec()?
        }
        "as_ndarray_unchecked" => {
            // SAFETY: nothing writes or moves the tensor's memory here.
            unsafe { tensor.as_ndarray_unchecked::<T, IxDyn>() }?.iter().copied().collect()
        }
        // SAFETY: nothing writes or moves the tensor's memory here.
        "into_tensor_unchecked" => unsafe { tensor.into_tensor_unchecked() }?.to_vec()?,
        "to_tensor" => TorchExt::to_tensor(&tensor)?.to_vec()?,
        "to_ndarray" => TorchExt::to_ndarray::<T, IxDyn>(&tensor)?.iter().copied().collect(),
        "to_list" => {
            let mut values = Vec::new();
            flatten(&TorchExt::to_list(&tensor)?, &mut values);
            return Ok(values);
        }
        other => unreachable!("no conversion is called {other}"),
    };
    let mut numbers = Vec::new();
    values.into_iter().for_each(|value| value.add_to(&mut numbers));
    Ok(numbers)
}

/// A type of element as numbers that can be compared.
trait Number: Element {
    fn add_to(self, numbers: &mut Vec<f64>);
}

macro_rules! numbers {
    ($($name:ty),*) => {
        $(impl Number for $name {
            fn add_to(self, numbers: &mut Vec<f64>) {
                numbers.push(self as f64);
            }
        })*
    };
}

numbers!(i8, u8, i64, f32, f64);

impl Number for Complex<f32> {
    fn add_to(self, numbers: &mut Vec<f64>) {
        numbers.extend([f64::from(self.re), f64::from(self.im)]);
    }
}

fn flatten(list: &List, numbers: &mut Vec<f64>) {
    match list {
        List::Items(items) => items.iter().for_each(|item| flatten(item, numbers)),
        List::Scalar(Scalar::Complex(value)) => numbers.extend([value.re, value.im]),
        List::Scalar(scalar) => numbers.push(scalar.to_string().parse().unwrap_or(f64::NAN)),
    }
}

/// The values of a tensor in row-major order, by libtorch's own reading.
pub(crate) fn values_of_libtorch(tensor: &tch::Tensor) -> Vec<f64> {
    let read = || -> Result<Vec<f64>, tch::TchError> {
        let mut tensor = tensor.f_detach()?.f_resolve_conj()?.f_resolve_neg()?;
        if tensor.f_kind()? == Kind::ComplexFloat {
            tensor = tensor.f_view_as_real()?;
        }
        Vec::try_from(tensor.f_to_kind(Kind::Double)?.f_contiguous()?.f_flatten(0, -1)?)
    };
    read().unwrap_or_default()
}
