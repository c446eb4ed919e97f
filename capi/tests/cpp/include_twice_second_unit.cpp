#include "dlbridge.h"
#include "dlbridge.hpp"

dlbridge::Tensor other();

dlbridge::Tensor other() { return dlbridge::Tensor::from_vector(std::vector<int>{1, 2}, {2}); }
