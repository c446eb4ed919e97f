//! The form that all floating-point numbers of an array have in common.

use super::decimal::{Decimal, Float};

/// The smallest number that is printed without an exponent.
const EXPONENT_MAX: f64 = 0.0001;

/// The largest ratio of two numbers in an array that is printed without exponents.
const MAX_RATIO: f64 = 1000.0;

/// How NumPy prints each number of an array, so that the decimal points are below each other.
pub(super) struct FloatFormat {
    /// Whether numbers have an exponent.
    scientific: bool,
    /// Whether positive numbers have a sign.
    plus: bool,
    /// The number of characters before the point.
    left: usize,
    /// The number of characters after the point.
    right: usize,
    /// Maximum number of digits after the point. With an exponent, the number of digits.
    fraction: usize,
    /// Minimum number of digits of an exponent.
    exponent_digits: usize,
}

impl FloatFormat {
    /// Chooses the form for these numbers, with at most `max_fraction` digits after the point.
    pub(super) fn new<F: Float>(
        values: impl Iterator<Item = F> + Clone,
        plus: bool,
        max_fraction: usize,
    ) -> Self {
        let finite = values.clone().filter(|value| value.to_f64().is_finite());
        let mut format = Self {
            scientific: needs_exponents(finite.clone()),
            plus,
            left: 0,
            right: 0,
            fraction: max_fraction,
            exponent_digits: 0,
        };
        format.measure(finite);
        format.widen_for_words(values);
        format
    }

    /// Sets the numbers of characters that the finite numbers need.
    fn measure<F: Float>(&mut self, finite: impl Iterator<Item = F>) {
        let (max_fraction, mut longest_fraction) = (self.fraction, 0);
        for value in finite {
            let decimal = self.digits(value, max_fraction);
            let whole = self.sign(value.to_f64()).len() + decimal.whole.len();
            self.left = self.left.max(whole);
            longest_fraction = longest_fraction.max(decimal.fraction.len());
            self.exponent_digits = self.exponent_digits.max(decimal.exponent_text(2).len() - 1);
        }
        self.right = longest_fraction;
        if self.scientific {
            self.fraction = longest_fraction;
            self.right += "e+".len() + self.exponent_digits;
        }
    }

    /// Widens the columns so that `nan` and `inf` fit.
    fn widen_for_words<F: Float>(&mut self, values: impl Iterator<Item = F>) {
        for value in values.map(F::to_f64).filter(|value| !value.is_finite()) {
            // NumPy reserves a column for the sign of every infinity if one is negative, and of
            // every infinity and NaN if positive numbers have a sign.
            let signed = self.plus || value == f64::NEG_INFINITY;
            self.left =
                self.left.max(("inf".len() + usize::from(signed)).saturating_sub(self.right + 1));
        }
    }

    fn digits<F: Float>(&self, value: F, max_fraction: usize) -> Decimal {
        if self.scientific {
            Decimal::scientific(value, max_fraction)
        } else {
            Decimal::positional(value, max_fraction)
        }
    }

    fn sign(&self, value: f64) -> &'static str {
        match (value.is_sign_negative() && !value.is_nan(), self.plus) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        }
    }

    /// Returns the text of one of the numbers. All have the same width.
    pub(super) fn word<F: Float>(&self, value: F) -> String {
        let sign = self.sign(value.to_f64());
        if !value.to_f64().is_finite() {
            let word = format!("{sign}{}", non_finite(value.to_f64()));
            return format!("{word:>width$}", width = self.left + 1 + self.right);
        }
        let (left, right, fraction) = (self.left, self.right, self.fraction);
        if self.scientific {
            let decimal = Decimal::exact(value, fraction);
            let whole = format!("{sign}{}", decimal.whole);
            let exponent = decimal.exponent_text(self.exponent_digits);
            return format!("{whole:>left$}.{:0<fraction$}e{exponent}", decimal.fraction);
        }
        let decimal = Decimal::positional(value, fraction);
        let whole = format!("{sign}{}", decimal.whole);
        format!("{whole:>left$}.{:<right$}", decimal.fraction)
    }
}

fn non_finite(value: f64) -> &'static str {
    if value.is_nan() { "nan" } else { "inf" }
}

/// Returns true if an exponent is needed for a number among these, which are finite.
fn needs_exponents<F: Float>(finite: impl Iterator<Item = F>) -> bool {
    let sizes = finite.map(|value| value.to_f64().abs()).filter(|&size| size != 0.0);
    let range = sizes.fold(None, |range, size| match range {
        None => Some((size, size)),
        Some((min, max)) => Some((f64::min(min, size), f64::max(max, size))),
    });
    let Some((min, max)) = range else { return false };
    // NumPy compares and divides in the type of the elements.
    max >= F::ARRAY_EXPONENT_MIN
        || min < F::round(EXPONENT_MAX)
        || F::round(max / min) > F::round(MAX_RATIO)
}

/// Returns the text of a number that is the only element: the shortest digits that read back as
/// this number. A number without an exponent ends with `whole_end` if it has no fraction.
pub(super) fn scalar<F: Float>(value: F, whole_end: &str) -> String {
    let number = value.to_f64();
    let sign = if number.is_sign_negative() && !number.is_nan() { "-" } else { "" };
    if !number.is_finite() {
        return format!("{sign}{}", non_finite(number));
    }
    let point = |fraction: &str| if fraction.is_empty() { "" } else { "." };
    if number != 0.0 && !(EXPONENT_MAX..F::SCALAR_EXPONENT_MIN).contains(&number.abs()) {
        let decimal = Decimal::scientific(value, usize::MAX);
        let (whole, fraction, exponent) =
            (&decimal.whole, &decimal.fraction, decimal.exponent_text(2));
        return format!("{sign}{whole}{}{fraction}e{exponent}", point(fraction));
    }
    let Decimal { whole, fraction, .. } = Decimal::positional(value, usize::MAX);
    let end = if fraction.is_empty() { whole_end } else { "" };
    format!("{sign}{whole}{}{fraction}{end}", point(&fraction))
}
