//! Descriptions of views: the address of another first element, and another layout.

#![forbid(unsafe_code)]

use super::Descriptor;
use crate::layout::View;
use crate::{Error, Layout, Result};

impl Descriptor {
    /// Describes a view of the elements instead of the elements. On failure nothing is changed.
    ///
    /// The elements of the view lie within the bytes from the lowest to the highest element, and if
    /// the memory is not on the host, they are among the elements.
    ///
    /// # Errors
    /// Those of `make`. [`Error::UnsupportedDType`] if packed elements of the view do not begin at
    /// a byte; [`Error::InvalidView`] for a view of memory that is not on the host, unless `make`
    /// gives a view of elements; [`Error::InvalidDescriptor`] if the view begins before the buffer
    /// that has a handle.
    #[inline]
    pub(crate) fn set_view(&mut self, make: impl FnOnce(&Layout) -> Result<View>) -> Result<()> {
        let view = make(&self.layout)?;
        if !view.is_among_elements() && !self.device.is_host() {
            return Err(self.gaps_of_device());
        }
        match self.itemsize().and_then(|itemsize| i64::try_from(itemsize).ok()) {
            // The bytes from the lowest to the highest element fit an `isize`, and the first
            // element of the view lies between them.
            Some(itemsize) => self.move_first(view.offset().wrapping_mul(itemsize))?,
            None => self.move_first(self.whole_bytes(view.offset())?)?,
        }
        self.layout = view.into_layout();
        Ok(())
    }

    /// Returns the number of bytes of `elements` packed elements.
    #[cold]
    fn whole_bytes(&self, elements: i64) -> Result<i64> {
        let bits = i128::from(elements) * i128::from(self.stored_bits());
        if bits % 8 != 0 {
            let target = "views that begin within a byte";
            return Err(Error::UnsupportedDType { dtype: self.dtype, target });
        }
        // As for elements of whole bytes, the number of bytes fits an `isize`.
        Ok((bits / 8) as i64)
    }

    /// Moves the first element by a number of bytes that leads to another of the elements.
    #[inline]
    fn move_first(&mut self, bytes: i64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        if self.device.has_addresses() {
            self.data = self.data.wrapping_byte_offset(bytes as isize);
            return Ok(());
        }
        let offset = i128::from(bytes) + self.byte_offset as i128;
        self.byte_offset = usize::try_from(offset).map_err(|_| Error::InvalidDescriptor {
            field: "byte_offset".into(),
            value: offset.to_string(),
            reason: "an element cannot begin before its buffer",
        })?;
        Ok(())
    }

    #[cold]
    fn gaps_of_device(&self) -> Error {
        let device = self.device;
        Error::InvalidView {
            shape: self.layout.shape().into(),
            strides: self.layout.strides().into(),
            reason: format!("it may reach between the elements, where {device} may have no memory"),
            remedy: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Device};

    const METAL: Device = Device { device_type: 8, index: 0 };

    fn describe(layout: Layout, dtype: DType, device: Device) -> Descriptor {
        let data = std::ptr::without_provenance_mut(0x1000);
        Descriptor::with_byte_offset((data, 0), layout, dtype, device, false).expect("valid")
    }

    #[test]
    fn the_offset_of_a_handle_changes_and_not_the_handle() {
        let mut on_metal = describe(Layout::contiguous([4]).expect("small"), DType::F32, METAL);
        on_metal.set_view(|layout| layout.selected(0, 3)).expect("an element");
        assert_eq!((on_metal.data_ptr().addr(), on_metal.byte_offset()), (0x1000, 12));
    }

    #[test]
    fn a_view_before_its_buffer_is_refused() {
        // A producer said that a buffer has elements before its beginning.
        let reversed = Layout::new(&[4], &[-1]).expect("small");
        let mut lying = describe(reversed.clone(), DType::U8, METAL);
        let refused = lying.set_view(|layout| layout.flipped(&[0])).expect_err("before");
        assert!(
            matches!(refused, Error::InvalidDescriptor { field, .. } if field == "byte_offset")
        );
        assert_eq!((lying.layout(), lying.byte_offset()), (&reversed, 0), "unchanged");
    }
}
