//! The text of every element of an array.

use half::{bf16, f16};
use num_complex::Complex;

use super::decimal::Float;
use super::float_format::{FloatFormat, scalar};

/// An element type that can be printed.
pub(crate) trait Words: Copy {
    /// Returns the text of each element. All texts have the same width.
    ///
    /// Numbers have at most `max_fraction` digits after the point.
    fn words(elements: &[Self], max_fraction: usize) -> Vec<String>;

    /// Returns the text of an element that is the only one: the value of a tensor of rank 0.
    fn word(self) -> String;
}

impl Words for bool {
    fn words(elements: &[Self], _: usize) -> Vec<String> {
        elements.iter().map(|&element| format!("{:>5}", element.word())).collect()
    }

    fn word(self) -> String {
        if self { "True" } else { "False" }.to_owned()
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Words for $integer {
            fn words(elements: &[Self], _: usize) -> Vec<String> {
                aligned(elements.iter().map(Self::to_string).collect())
            }

            fn word(self) -> String {
                self.to_string()
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, i8, i16, i32, i64);

/// Makes all texts as wide as the widest.
fn aligned(mut words: Vec<String>) -> Vec<String> {
    let width = words.iter().map(String::len).max().unwrap_or(0);
    words.iter_mut().for_each(|word| *word = format!("{word:>width$}"));
    words
}

macro_rules! floats {
    ($($float:ty),*) => {$(
        impl Words for $float {
            fn words(elements: &[Self], max_fraction: usize) -> Vec<String> {
                let format = FloatFormat::new(elements.iter().copied(), false, max_fraction);
                elements.iter().map(|&element| format.word(element)).collect()
            }

            fn word(self) -> String {
                scalar(self, ".0")
            }
        }
    )*};
}

floats!(f16, bf16, f32, f64);

impl<F: Float> Words for Complex<F> {
    fn words(elements: &[Self], max_fraction: usize) -> Vec<String> {
        let re = FloatFormat::new(elements.iter().map(|element| element.re), false, max_fraction);
        let im = FloatFormat::new(elements.iter().map(|element| element.im), true, max_fraction);
        let word = |element: &Self| {
            let (re, im) = (re.word(element.re), im.word(element.im));
            let end = im.trim_end();
            format!("{re}{end}j{}", &im[end.len()..])
        };
        elements.iter().map(word).collect()
    }

    fn word(self) -> String {
        let im = scalar(self.im, "");
        let re = self.re.to_f64();
        if re == 0.0 && re.is_sign_positive() {
            return format!("{im}j"); // Python omits a real part of +0, and the parentheses with it
        }
        let sign = if im.starts_with('-') { "" } else { "+" };
        format!("({}{sign}{im}j)", scalar(self.re, ""))
    }
}
