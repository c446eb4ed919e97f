// Views of tensors as std::mdspan. dlbridge.hpp includes this file if the standard library has
// std::mdspan (C++23), and then the class Tensor has as_mdspan() and as_mdspan_mut().
//
// ```cpp
// dlbridge::Tensor tensor =
//     dlbridge::Tensor::from_vector(std::vector<float>{0, 1, 2, 3, 4, 5}, {2, 3});
// auto matrix = tensor.as_mdspan_mut<float, 2>(); // no data is copied
// matrix[1, 2] = 50;
// auto read = tensor.as_mdspan<float, 2>();
// assert(read.extent(0) == 2 && read.stride(0) == 3 && (read[1, 2]) == 50);
// ```
//
// This file computes the mapping of std::layout_stride for a tensor's shape and strides.
#ifndef DLBRIDGE_MDSPAN_HPP_
#define DLBRIDGE_MDSPAN_HPP_

#ifndef DLBRIDGE_HPP_
#error "include dlbridge.hpp, which includes dlbridge/mdspan.hpp"
#endif

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mdspan>
#include <string>
#include <utility>

namespace dlbridge::detail {

/// Returns the strides of a row-major tensor: for tensors without elements, whose own strides may
/// be any number. Throws Error if a stride does not fit std::int64_t.
template <std::size_t Rank>
std::array<std::int64_t, Rank> row_major_strides(const std::array<std::int64_t, Rank> &shape) {
  std::array<std::int64_t, Rank> strides{};
  std::int64_t stride = 1;
  for (std::size_t dimension = Rank; dimension-- > 0;) {
    strides[dimension] = stride;
    const std::int64_t size = std::max<std::int64_t>(shape[dimension], 1);
    if (stride > std::numeric_limits<std::int64_t>::max() / size) {
      throw Error(DLB_ERROR_LAYOUT,
                  "the sizes of a tensor without elements are more than std::mdspan can count");
    }
    stride *= size;
  }
  return strides;
}

/// Throws Error unless each stride is positive and skips all elements that smaller strides reach.
template <std::size_t Rank>
void require_unique_elements(const std::array<std::int64_t, Rank> &shape,
                             const std::array<std::int64_t, Rank> &strides) {
  // Stride and size of each dimension of more than one element, smallest stride first.
  std::array<std::pair<std::int64_t, std::int64_t>, Rank> dims{};
  std::size_t count = 0;
  for (std::size_t dimension = 0; dimension < Rank; ++dimension) {
    if (shape[dimension] > 1) dims[count++] = {strides[dimension], shape[dimension]};
  }
  std::sort(dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(count));
  for (std::size_t k = 0; k < count; ++k) {
    const std::int64_t stride = dims[k].first;
    const bool fits = k == 0 ? stride > 0 : stride / dims[k - 1].second >= dims[k - 1].first;
    if (!fits) {
      throw Error(DLB_ERROR_LAYOUT,
                  "stride " + std::to_string(stride) +
                      " is zero, negative, or makes elements overlap, which std::layout_stride "
                      "does not have",
                  DLB_REMEDY_CLONE_CONTIGUOUS);
    }
  }
}

/// Returns the mapping of a tensor's shape and strides. `empty` is true for a tensor without
/// elements. Throws Error if the tensor does not have `Rank` dimensions, and for strides that
/// std::layout_stride does not support.
template <std::size_t Rank> auto mapping(const Dims &shape, const Dims &strides, bool empty) {
  if (shape.size() != Rank) {
    throw Error(DLB_ERROR_LAYOUT, "expected " + std::to_string(Rank) + " dimensions, found " +
                                      std::to_string(shape.size()));
  }
  std::array<std::int64_t, Rank> sizes{}, steps{};
  for (std::size_t dimension = 0; dimension < Rank; ++dimension) {
    sizes[dimension] = shape[dimension];
    // DLPack allows any stride for a dimension of size 1, std::layout_stride only positive ones.
    steps[dimension] = sizes[dimension] > 1 ? strides[dimension] : 1;
  }
  if (empty) {
    steps = row_major_strides<Rank>(sizes);
  } else {
    require_unique_elements<Rank>(sizes, steps);
  }
  using Extents = std::dextents<std::int64_t, Rank>;
  return std::layout_stride::mapping<Extents>(Extents(sizes), steps);
}

} // namespace dlbridge::detail

#endif // DLBRIDGE_MDSPAN_HPP_
