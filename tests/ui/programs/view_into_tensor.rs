use dlbridge::ArrayExt;

fn main() {
    let array = ndarray::array![[1.0_f32, 2.0], [3.0, 4.0]];
    array.view().into_tensor();
}
