//! Sequences of safe calls with libtorch in the process, against a model: the interpreter of the
//! fuzz target `handles`, whose sequences move memory into libtorch and back as well. Sanitizers
//! cannot instrument libtorch, so proptest makes the inputs, and shrinks those that fail.

use dlbridge::{DType, Tensor, TorchExt};
use proptest::prelude::*;

use crate::handles::library::Library;
use crate::handles::run_with;

/// libtorch, through tch.
struct Torch;

/// Address of an element, counted in row-major order.
fn element(tensor: &tch::Tensor, index: usize) -> *mut u8 {
    let item = tensor.kind().elt_size_in_bytes() as i64;
    let (mut rest, mut distance) = (index as i64, 0);
    for (size, stride) in tensor.size().into_iter().zip(tensor.stride()).rev() {
        distance += rest % size * stride;
        rest /= size;
    }
    tensor.data_ptr().cast::<u8>().wrapping_offset((distance * item) as isize)
}

impl Library for Torch {
    type Tensor = tch::Tensor;

    fn take(tensor: Tensor) -> Result<tch::Tensor, Tensor> {
        tensor.into_torch().map_err(|rejected| rejected.into_value())
    }

    fn give(tensor: tch::Tensor) -> Result<Tensor, tch::Tensor> {
        TorchExt::into_tensor(tensor).map_err(|rejected| rejected.into_value())
    }

    fn share(tensor: &tch::Tensor) -> tch::Tensor {
        tensor.shallow_clone()
    }

    fn read(tensor: &tch::Tensor) -> Vec<u8> {
        let item = tensor.kind().elt_size_in_bytes();
        let read = |index| {
            // SAFETY: an element of the tensor, whose memory libtorch keeps.
            unsafe { std::slice::from_raw_parts(element(tensor, index), item) }
        };
        (0..tensor.numel()).flat_map(read).copied().collect()
    }

    fn write(tensor: &mut tch::Tensor, index: usize, value: u8) {
        let dtype = DType::try_from(tensor.kind()).expect("not quantized");
        if dtype == DType::C128 {
            // tch has no complex scalars.
            let element = element(tensor, index).cast::<[f64; 2]>();
            // SAFETY: an element of the tensor, of which no Rust view lives.
            unsafe { element.write_unaligned([f64::from(value), -1.0]) };
            return;
        }
        let value = if dtype == DType::BOOL { value & 1 } else { value };
        let (mut rest, mut chosen) = (index as i64, tensor.shallow_clone());
        for size in tensor.size().into_iter().rev() {
            chosen = chosen.select(-1, rest % size);
            rest /= size;
        }
        let _written = chosen.fill_(i64::from(value));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8192,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn sequences_agree_with_the_model(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        run_with::<Torch>(&data);
    }
}
