//! The decimal digits of a floating-point number.

use half::{bf16, f16};

/// A floating-point type whose numbers can be printed.
pub(super) trait Float: Copy {
    /// The smallest number that NumPy prints with an exponent if it is in an array: a power of ten
    /// with as many digits as the type has, 10⁸ at most.
    const ARRAY_EXPONENT_MIN: f64;

    /// The smallest number that NumPy prints with an exponent if it is a single element.
    const SCALAR_EXPONENT_MIN: f64;

    /// The same number.
    fn to_f64(self) -> f64;

    /// The nearest number of this type, as an `f64`.
    fn round(value: f64) -> f64;

    /// Whether a text that Rust reads is this number.
    fn is_read_from(self, text: &str) -> bool;

    /// The shortest digits that read back as this number, in the form of Rust's `{:e}`.
    fn shortest(self) -> String;
}

macro_rules! floats {
    ($($float:ty: $array:literal $scalar:literal $round:expr, $read:expr, $shortest:expr;)*) => {$(
        impl Float for $float {
            const ARRAY_EXPONENT_MIN: f64 = $array;
            const SCALAR_EXPONENT_MIN: f64 = $scalar;

            fn to_f64(self) -> f64 {
                self.into()
            }

            fn round(value: f64) -> f64 {
                f64::from($round(value))
            }

            fn is_read_from(self, text: &str) -> bool {
                text.parse().is_ok_and(|read| $read(read) == self)
            }

            fn shortest(self) -> String {
                $shortest(self)
            }
        }
    )*};
}

floats! {
    f16: 1e3 1e3 f16::from_f64, f16::from_f64, shortest_of_narrow;
    bf16: 1e3 1e3 bf16::from_f64, bf16::from_f64, shortest_of_narrow; // NumPy has no such type
    f32: 1e6 1e6 |value| value as f32, |value: f32| value, |value| format!("{value:e}");
    f64: 1e8 1e16 |value: f64| value, |value: f64| value, |value| format!("{value:e}");
}

/// Tries one number of digits after the other. A type of 16 bits needs five digits at most.
fn shortest_of_narrow<F: Float>(value: F) -> String {
    let exact = value.to_f64();
    let nearest = |fraction: usize| format!("{exact:.fraction$e}");
    // Above a power of two, the numbers of the type are twice as far apart. So the text with a
    // last digit that is larger by 1 may read back although the nearest text does not.
    let above = |fraction: usize| {
        let nearest = Decimal::parse(&nearest(fraction));
        let unit = format!("1e{}", nearest.exponent - fraction as i32).parse().unwrap_or(0.0);
        format!("{:.fraction$e}", exact + f64::copysign(unit, exact) / 2.0)
    };
    let mut texts = (0..4).flat_map(|fraction| [nearest(fraction), above(fraction)]);
    texts.find(|text| value.is_read_from(text)).unwrap_or_else(|| nearest(4))
}

/// The digits of a finite number, without its sign.
pub(super) struct Decimal {
    /// The digits before the point.
    pub(super) whole: String,
    /// The digits after the point, without zeros at the end.
    pub(super) fraction: String,
    /// The power of ten that the digits are multiplied with.
    pub(super) exponent: i32,
}

impl Decimal {
    /// Returns the shortest digits that read back as this number. If more than `max_fraction` of
    /// them are after the point, the number is rounded to `max_fraction` digits there.
    pub(super) fn positional<F: Float>(value: F, max_fraction: usize) -> Self {
        let shortest = Self::shortest(value);
        let (before, behind) = match usize::try_from(shortest.exponent) {
            Ok(exponent) => (exponent + 1, shortest.fraction.len().saturating_sub(exponent)),
            Err(_) => (0, shortest.fraction.len() + shortest.exponent.unsigned_abs() as usize),
        };
        if behind > max_fraction {
            let rounded = format!("{:.max_fraction$}", value.to_f64().abs());
            return Self::split(&rounded, 0);
        }
        let digits = shortest.whole + &shortest.fraction;
        let (whole, fraction) = if before == 0 {
            ("0".to_owned(), format!("{digits:0>behind$}"))
        } else {
            let digits = format!("{digits:0<before$}");
            let (whole, fraction) = digits.split_at(before);
            (whole.to_owned(), fraction.to_owned())
        };
        Self { whole, fraction, exponent: 0 }
    }

    /// Returns one digit before the point, and otherwise the digits that
    /// [`positional`](Self::positional) returns.
    pub(super) fn scientific<F: Float>(value: F, max_fraction: usize) -> Self {
        let shortest = Self::shortest(value);
        if shortest.fraction.len() <= max_fraction {
            return shortest;
        }
        Self::rounded(value, max_fraction)
    }

    /// Returns one digit before the point and `fraction` digits after it. If the shortest digits
    /// are fewer, those of the exact value follow, as in NumPy; zeros at the end are left out.
    pub(super) fn exact<F: Float>(value: F, fraction: usize) -> Self {
        let shortest = Self::shortest(value);
        if shortest.fraction.len() == fraction {
            return shortest;
        }
        Self::rounded(value, fraction)
    }

    fn rounded<F: Float>(value: F, fraction: usize) -> Self {
        Self::parse(&format!("{:.fraction$e}", value.to_f64().abs()))
    }

    /// Returns the shortest digits that read back as this number. If two numbers of that length
    /// are equally close, the last digit is even, as in NumPy.
    fn shortest<F: Float>(value: F) -> Self {
        let shortest = Self::parse(&value.shortest());
        let fraction = shortest.fraction.len();
        let even = format!("{:.fraction$e}", value.to_f64());
        if value.is_read_from(&even) { Self::parse(&even) } else { shortest }
    }

    /// Reads what Rust's `{:e}` writes, without the sign.
    fn parse(text: &str) -> Self {
        let text = text.trim_start_matches('-');
        let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
        Self::split(digits, exponent.parse().unwrap_or(0))
    }

    fn split(digits: &str, exponent: i32) -> Self {
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let fraction = fraction.trim_end_matches('0').to_owned();
        Self { whole: whole.to_owned(), fraction, exponent }
    }

    /// Returns the exponent with its sign and at least `min_digits` digits.
    pub(super) fn exponent_text(&self, min_digits: usize) -> String {
        let sign = if self.exponent < 0 { '-' } else { '+' };
        format!("{sign}{:0min_digits$}", self.exponent.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_the_shortest_that_read_back_or_rounded() {
        let positional = |value: f64, max: usize| {
            let decimal = Decimal::positional(value, max);
            format!("{}.{}", decimal.whole, decimal.fraction)
        };
        for (value, max, text) in [
            (0.0, 8, "0."),
            (1.0, 8, "1."),
            (1200.0, 8, "1200."),
            (0.1, 8, "0.1"),
            (0.00012, 8, "0.00012"),
            (123.456, 8, "123.456"),
            (-0.123456789, 8, "0.12345679"),
            (1.0 / 3.0, 2, "0.33"),
            (0.999, 2, "1."),
            (0.5, 0, "0."), // as IEEE 754 rounds: to an even digit
            (1e22, 8, "10000000000000000000000."),
        ] {
            assert_eq!(positional(value, max), text);
        }
        let scientific = |value: f64, max: usize| {
            let decimal = Decimal::scientific(value, max);
            format!("{}.{}e{}", decimal.whole, decimal.fraction, decimal.exponent_text(2))
        };
        for (value, max, text) in [
            (0.0, 8, "0.e+00"),
            (1e16, 8, "1.e+16"),
            (1.5e-300, 8, "1.5e-300"),
            (1.0 / 3.0, 3, "3.333e-01"),
            (9.9999, 2, "1.e+01"),
        ] {
            assert_eq!(scientific(value, max), text);
        }
    }

    #[test]
    fn narrow_floats_have_the_digits_of_their_type() {
        let positional = |value: Decimal| format!("{}.{}", value.whole, value.fraction);
        assert_eq!(positional(Decimal::positional(f16::from_f64(0.1), 8)), "0.1");
        assert_eq!(positional(Decimal::positional(f16::from_f64(999.5), 8)), "999.5");
        assert_eq!(positional(Decimal::positional(bf16::from_f64(0.1), 8)), "0.1");
        assert_eq!(positional(Decimal::positional(bf16::from_f64(3.140625), 8)), "3.14");
        for bits in (0..=u16::MAX).step_by(7) {
            let (half, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            if half.is_finite() {
                assert_eq!(f16::from_f64(half.shortest().parse().expect("a number")), half);
                assert!(
                    half.shortest().parse::<f64>().is_ok_and(|read| read.to_string().len() < 12)
                );
            }
            if brain.is_finite() {
                assert_eq!(bf16::from_f64(brain.shortest().parse().expect("a number")), brain);
                assert!(brain.shortest().find('e').is_some_and(|digits| digits <= 7));
            }
        }
    }
}
