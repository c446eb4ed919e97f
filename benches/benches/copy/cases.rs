//! The layouts that the benchmark copies.

/// The layouts and element types that a quick run measures: some of each family.
const QUICK: [(&str, &str); 14] = [
    ("contiguous", "f32"),
    ("square", "u8"),
    ("square", "f32"),
    ("wide, 64 rows", "f32"),
    ("odd, 4097 rows", "f16"),
    ("(0, 2, 1)", "f32"),
    ("(0, 2, 1, 3)", "f32"),
    ("(5, 4, 3, 2, 1, 0)", "f64"),
    ("[:, ::2]", "f32"),
    ("one column broadcast", "c128"),
    ("NHWC → NCHW, C = 3", "u8"),
    ("NCHW → NHWC, C = 3", "f32"),
    ("many 8 × 8", "f64"),
    ("many 3 × 3", "f32"),
];

/// What a run measures.
pub(crate) struct Selection {
    /// A quick run: fewer cases.
    pub(crate) quick: bool,
    /// All cases of the families and layouts whose names contain this, without regard to case.
    pub(crate) name: Option<String>,
}

impl Selection {
    /// The selection of a command line: `--quick`, and a name.
    pub(crate) fn new(arguments: &[String]) -> Self {
        let name = arguments.iter().find(|argument| !argument.starts_with("--"));
        Self {
            quick: arguments.iter().any(|argument| argument == "--quick"),
            name: name.map(|name| name.to_lowercase()),
        }
    }

    /// Whether a family or layout has the name, if one is given.
    pub(crate) fn names(&self, family_or_layout: &str) -> bool {
        self.name.as_ref().is_none_or(|name| family_or_layout.to_lowercase().contains(name))
    }

    /// Whether the run measures a layout with an element type.
    pub(crate) fn has(&self, case: &Case, dtype: &str) -> bool {
        if case.family == "images" && !["u8", "f32"].contains(&dtype) {
            return false;
        }
        if self.name.is_some() {
            return self.names(case.family) || self.names(case.name);
        }
        !self.quick || QUICK.contains(&(case.name, dtype))
    }
}

/// A layout: shape, strides, and the offset of the first element, in elements.
pub(crate) struct Case {
    pub(crate) family: &'static str,
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<isize>,
    pub(crate) offset: usize,
}

impl Case {
    /// Dimensions of contiguous memory in another order.
    fn permuted(family: &'static str, name: &'static str, base: &[usize], order: &[usize]) -> Self {
        let mut strides = vec![1; base.len()];
        for dim in (1..base.len()).rev() {
            strides[dim - 1] = strides[dim] * base[dim] as isize;
        }
        Self {
            family,
            name,
            shape: order.iter().map(|&dim| base[dim]).collect(),
            strides: order.iter().map(|&dim| strides[dim]).collect(),
            offset: 0,
        }
    }

    /// The suite for about `n` elements.
    pub(crate) fn all(n: usize) -> Vec<Self> {
        let side = n.isqrt() / 64 * 64;
        let t = "2-D transposes";
        let p = "permutations";
        let i = "images";
        let m = "small matrices";
        let s = "strided";
        let rows = |name, strides: [isize; 2], offset| Self {
            family: s,
            name,
            shape: vec![1024, n / 1024],
            strides: strides.to_vec(),
            offset,
        };
        let columns = (n / 1024) as isize;
        vec![
            Self::permuted("contiguous", "contiguous", &[n], &[0]),
            Self::permuted(t, "square", &[side, side], &[1, 0]),
            Self::permuted(t, "tall, 64 columns", &[n / 64, 64], &[1, 0]),
            Self::permuted(t, "wide, 64 rows", &[64, n / 64], &[1, 0]),
            Self::permuted(t, "odd, 4097 rows", &[4097, n / 4096 - 1], &[1, 0]),
            Self::permuted(p, "(0, 2, 1)", &[64, 256, n / (64 * 256)], &[0, 2, 1]),
            Self::permuted(p, "(2, 1, 0)", &[64, 256, n / (64 * 256)], &[2, 1, 0]),
            Self::permuted(p, "(0, 2, 1, 3)", &[64, 32, 64, n / (64 * 32 * 64)], &[0, 2, 1, 3]),
            Self::permuted(p, "(3, 2, 1, 0)", &[32, 32, 64, n / (32 * 32 * 64)], &[3, 2, 1, 0]),
            Self::permuted(
                p,
                "(4, 1, 0, 3, 2)",
                &[32, 16, 32, 16, n / (512 * 512)],
                &[4, 1, 0, 3, 2],
            ),
            Self::permuted(
                p,
                "(5, 4, 3, 2, 1, 0)",
                &[16, 16, 16, 8, 8, n / (4096 * 64)],
                &[5, 4, 3, 2, 1, 0],
            ),
            rows("[:, ::2]", [2 * columns, 2], 0),
            rows("[:, ::-1]", [columns, -1], columns as usize - 1),
            rows("one row broadcast", [0, 1], 0),
            rows("one column broadcast", [1, 0], 0),
            Self::permuted(i, "NHWC → NCHW, C = 3", &[8, n / 24, 3], &[0, 2, 1]),
            Self::permuted(i, "NCHW → NHWC, C = 3", &[8, 3, n / 24], &[0, 2, 1]),
            Self::permuted(i, "NHWC → NCHW, C = 4", &[8, n / 32, 4], &[0, 2, 1]),
            Self::permuted(i, "NCHW → NHWC, C = 4", &[8, 4, n / 32], &[0, 2, 1]),
            Self::permuted(m, "many 8 × 8", &[n / 64, 8, 8], &[0, 2, 1]),
            Self::permuted(m, "many 3 × 3", &[n / 9, 3, 3], &[0, 2, 1]),
        ]
    }

    /// Elements of memory that the layout reaches.
    pub(crate) fn reach(&self) -> usize {
        let steps = self
            .shape
            .iter()
            .zip(&self.strides)
            .map(|(&size, &stride)| (size - 1) * stride.max(0) as usize);
        self.offset + steps.sum::<usize>() + 1
    }
}
