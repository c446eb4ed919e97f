//! A program that does not say where libtorch is: it starts only if `LD_LIBRARY_PATH` does.

fn main() {
    let sums = indirect_library::cumulative_sums(vec![1.0, 2.0, 3.0]).expect("plain tensors");
    assert_eq!(sums, [1.0, 3.0, 6.0]);
}
