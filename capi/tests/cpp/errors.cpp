// Errors of the C++ classes: every remedy has words, and the texts for docs/errors.md.
#include <cstring>

#include "show.hpp"

using dlbridge::MemoryFormat;
using dlbridge::Tensor;

namespace {

constexpr DLDevice cuda{kDLCUDA, 0};

// A tensor over memory that no code reads: its address is made up.
Tensor foreign(std::uintptr_t address, DLDevice device, std::uint64_t flags = 0,
               std::int64_t stride = 1) {
  std::int64_t shape[] = {2}, strides[] = {stride};
  const DLTensor desc{
      reinterpret_cast<void *>(address), device, 1, dlbridge::dtype_of<float>(), shape, strides, 0};
  return Tensor::from_memory(desc, std::unique_ptr<int>(), flags);
}

void every_remedy_has_words() {
  for (dlb_remedy remedy = 1; remedy <= DLB_REMEDY_MAKE_ORDINARY; ++remedy) {
    const char *text = dlbridge::Error::remedy_text(remedy);
    CHECK(std::strlen(text) > 0);
    for (const char *foreign : {"dlb_", "deep_clone", "Tensor."}) {
      CHECK(std::strstr(text, foreign) == nullptr);
    }
  }
  CHECK(std::strlen(dlbridge::Error::remedy_text(DLB_REMEDY_NONE)) == 0);
  CHECK(std::strlen(dlbridge::Error::remedy_text(DLB_REMEDY_MAKE_ORDINARY + 1)) == 0);
}

void show_descriptions() {
  Tensor tensor = Tensor::from_vector(std::vector<float>{1, 2}, {2});
  dlbridge::Exported exported = tensor.share_dlpack();
  exported->version.major = 2;
  SHOW("UnsupportedVersion", Tensor::from_dlpack(std::move(exported)));
  exported->version.major = 1;
  SHOW("InvalidDescriptor", Tensor::empty<float>({2, -1}));
  SHOW("InvalidDescriptor", Tensor::empty<float>({2, 3}, {1}));
  SHOW("SelfOverlap", Tensor::empty<float>({2, 3}, {0, 1}));
  SHOW("Overflow", Tensor::empty<float>({std::int64_t{1} << 62, 8}));
  SHOW("DTypeMismatch", tensor.data<double>());
  SHOW("UnsupportedDType", Tensor::empty({99, 8, 1}, {2}));
  SHOW("OutOfMemory", Tensor::empty<float>({std::int64_t{1} << 60}));
  SHOW("LengthMismatch", Tensor::from_vector(std::vector<float>{1, 2}, {2, 3}));
}

void show_devices() {
  Tensor tensor = Tensor::from_vector(std::vector<float>{1, 2}, {2});
  SHOW("UnsupportedDevice", tensor.to_device({kDLMetal, 0}));
  const Tensor far = foreign(0x1000, cuda);
  SHOW("NotOnCpu", far.data<float>());
  SHOW("New memory", Tensor::empty<float>({2}, {}, cuda));
  SHOW("Stream", tensor.clone(MemoryFormat::preserve, 3));
}

void show_layouts() {
  Tensor tensor = Tensor::from_vector(std::vector<float>{1, 2}, {2});
  Tensor three = Tensor::empty<float>({3});
  Tensor broadcast = foreign(0x1000, dlbridge::cpu, 0, 0);
  Tensor odd = foreign(0x1001, dlbridge::cpu);
  Tensor read_only = foreign(0x1000, dlbridge::cpu, DLPACK_FLAG_BITMASK_READ_ONLY);
  SHOW("RankMismatch", tensor.clone(MemoryFormat::channels_last));
  SHOW("ShapeMismatch", (tensor.copy_into(three), 0));
  SHOW("SelfOverlap", (tensor.copy_into(broadcast), 0));
  SHOW("CopyOverlaps", (tensor.copy_into(tensor), 0));
  SHOW("Misaligned", odd.data<float>());
  SHOW("ReadOnly", read_only.data_mut<float>());
  SHOW("ReadOnly", read_only.share_dlpack_legacy());
  const Tensor whole = foreign(0x1000, dlbridge::cpu);
  DLTensor desc = whole.view();
  desc.byte_offset = 4;
  SHOW("Part of a tensor", whole.share_as(desc));
  Tensor moved = std::move(tensor);
  SHOW("Moved tensor", tensor.clone());
  SHOW("Moved tensor", (moved.copy_into(tensor), 0));
}

void show_views() {
  const Tensor tensor = Tensor::from_vector(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3});
  SHOW("OutOfRange", tensor.at<float>(1, 3));
  SHOW("OutOfRange", tensor.transpose(0, 2));
  SHOW("OutOfRange", tensor.select(1, 3));
  SHOW("InvalidView", tensor.transpose(0, 1).reshape({6}));
  SHOW("InvalidView", tensor.as_strided({6}, {1}, 1));
  SHOW("InvalidView", tensor.expand({4, 3}));
  SHOW("RankMismatch", tensor.at<float>(1));
  SHOW("RankMismatch", tensor.permute({1}));
}

} // namespace

int main() {
  every_remedy_has_words();
  show_descriptions();
  show_devices();
  show_layouts();
  show_views();
  return 0;
}
