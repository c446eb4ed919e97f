//! A program that depends on dlbridge only through another library.

fn main() {
    let sums = indirect_library::cumulative_sums(vec![1.0, 2.0, 3.0]).expect("plain tensors");
    assert_eq!(sums, [1.0, 3.0, 6.0]);
}
