// Checks of the C++ tests: a program prints nothing and returns 0 when all of them hold.
#ifndef TESTS_CPP_CHECK_HPP_
#define TESTS_CPP_CHECK_HPP_

#include <cstdio>
#include <cstdlib>
#include <string>

#include "dlbridge.hpp"

#undef CHECK // libtorch has one, which throws
#define CHECK(condition)                                                                           \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                         \
      std::exit(1);                                                                                \
    }                                                                                              \
  } while (0)

// Checks that the statement throws an Error with the status `expected` and a message that contains
// `text`.
#define THROWS(expected, text, ...)                                                                \
  do {                                                                                             \
    bool thrown = false;                                                                           \
    try {                                                                                          \
      __VA_ARGS__;                                                                                 \
    } catch (const dlbridge::Error &error) {                                                       \
      thrown = true;                                                                               \
      if (error.status() != (expected) ||                                                          \
          std::string(error.what()).find(text) == std::string::npos) {                             \
        std::fprintf(stderr, "%s:%d: %s: \"%s\"\n", __FILE__, __LINE__,                            \
                     dlb_status_name(error.status()), error.what());                               \
        std::exit(1);                                                                              \
      }                                                                                            \
    }                                                                                              \
    CHECK(thrown);                                                                                 \
  } while (0)

#endif // TESTS_CPP_CHECK_HPP_
