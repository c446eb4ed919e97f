use dlbridge::{NdArray, Tensor};
use ndarray::{ArrayView1, Ix1};

fn array() -> NdArray<f32, Ix1> {
    Tensor::zeros::<f32>([1]).unwrap().into_ndarray().unwrap()
}

fn escapes() -> ArrayView1<'static, f32> {
    array().view()
}

struct Keep;

impl<'a> std::ops::Add<Keep> for &'a ArrayView1<'static, f32> {
    type Output = ArrayView1<'static, f32>;

    fn add(self, _: Keep) -> Self::Output {
        self.clone()
    }
}

fn main() {
    let element = (&array()).into_iter().next();
    println!("{element:?} {}", escapes());
    let view = &array() + Keep;
    println!("{view}");
}
