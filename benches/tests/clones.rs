//! Deep copies are laid out as libtorch's `clone`, called from C++, lays them out.

use dlbridge::{Layout, MemoryFormat};
use dlbridge_benches::Blob;
use proptest::collection::vec;
use proptest::prelude::*;
use tch::Tensor;

/// Strides of libtorch's clone of a tensor with this shape and these strides.
fn theirs(shape: &[i64], strides: &[i64], contiguous: bool) -> Vec<i64> {
    let tensor = Tensor::zeros([4000], tch::kind::FLOAT_CPU).as_strided(shape, strides, None);
    Tensor::from(Blob::clone_of(&tensor, contiguous)).stride()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clones_have_the_strides_that_libtorch_gives_them(
        dims in vec((prop_oneof![8 => 1_i64..6, 1 => Just(0_i64)], 0_i64..100), 0..=8)
    ) {
        let (shape, strides): (Vec<i64>, Vec<i64>) = dims.into_iter().unzip();
        let layout = Layout::new(&shape, &strides).expect("small");
        for (format, contiguous) in [(MemoryFormat::Preserve, false), (MemoryFormat::Contiguous, true)] {
            let ours = layout.cloned(format).expect("any rank");
            // A layout replaces strides that reach no element; libtorch keeps them.
            prop_assert_eq!(ours.strides(), theirs(&shape, layout.strides(), contiguous));
        }
    }

    #[test]
    fn dense_layouts_keep_their_order(
        dims in vec((0_u32..1000, 1_i64..4), 0..=6)
    ) {
        // A permutation of a contiguous layout, sizes of 1 and equal sizes among them.
        let mut order: Vec<usize> = (0..dims.len()).collect();
        order.sort_by_key(|&dim| dims[dim].0);
        let shape: Vec<i64> = dims.iter().map(|dim| dim.1).collect();
        let (mut strides, mut next) = (vec![0; dims.len()], 1);
        for dim in order {
            strides[dim] = next;
            next *= shape[dim];
        }
        let ours = Layout::new(&shape, &strides).expect("small").cloned(MemoryFormat::Preserve).expect("any rank");
        prop_assert_eq!(ours.strides(), theirs(&shape, &strides, false));
    }
}
