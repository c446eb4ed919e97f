// Prints the texts of errors for docs/errors.md: the section, a tab, and the message.
#ifndef TESTS_CPP_SHOW_HPP_
#define TESTS_CPP_SHOW_HPP_

#include "check.hpp"

#define SHOW(section, ...)                                                                         \
  do {                                                                                             \
    bool thrown = false;                                                                           \
    try {                                                                                          \
      (void)(__VA_ARGS__);                                                                         \
    } catch (const dlbridge::Error &error) {                                                       \
      thrown = true;                                                                               \
      std::printf("%s\t%s\n", section, error.what());                                              \
    }                                                                                              \
    CHECK(thrown);                                                                                 \
  } while (0)

#endif // TESTS_CPP_SHOW_HPP_
