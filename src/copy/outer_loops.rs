//! The loops over the outer dimensions of a plan.

use super::endpoints::Endpoints;
use crate::layout::paired::PairedDim;

/// The loops around a kernel, and where they begin.
#[derive(Clone, Copy)]
pub(super) struct OuterLoops<'a> {
    pub(super) dims: &'a [PairedDim],
    pub(super) ends: Endpoints,
}

impl OuterLoops<'_> {
    /// The smallest step of a loop in the source. `None` if the source stays at its place.
    pub(super) fn closest_in_source(&self) -> Option<isize> {
        let steps = self.dims.iter().map(|dim| dim.source).filter(|&step| step != 0);
        steps.min_by_key(|step| step.unsigned_abs())
    }

    /// Calls `body` with the addresses of every turn of the loops.
    ///
    /// # Safety
    /// * The loops stay within the memories of the source and of the target.
    #[inline]
    pub(super) unsafe fn for_each(self, mut body: impl FnMut(Endpoints)) {
        // SAFETY: the caller guarantees what the called function requires.
        unsafe { for_each(self.dims, self.ends, &mut body) };
    }
}

/// Calls `body` with the addresses of every turn of loops that begin at `ends`.
///
/// # Safety
/// * The loops stay within the memories of the source and of the target.
unsafe fn for_each<F: FnMut(Endpoints)>(dims: &[PairedDim], ends: Endpoints, body: &mut F) {
    let Some((dim, inner)) = dims.split_first() else { return body(ends) };
    for index in 0..dim.count as isize {
        // SAFETY: `index` is below `count`, and the caller says that the loops stay within both
        // memories.
        let ends = unsafe { ends.offset(index * dim.source, index * dim.target) };
        if inner.is_empty() {
            body(ends);
        } else {
            // SAFETY: the inner ones of the caller's loops.
            unsafe { for_each(inner, ends, body) };
        }
    }
}
