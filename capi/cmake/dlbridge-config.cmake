# find_package(dlbridge), for Linux and other ELF systems: defines the targets dlbridge::shared and
# dlbridge::static, if the library is installed, and dlbridge::dlbridge, which is the shared library
# if there is one, and otherwise the static one.

get_filename_component(dlbridge_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

# Finds the libraries of the prefix that this file is installed to.
foreach(variant IN ITEMS shared static)
  string(TOUPPER ${variant} suffix)
  # A cached result may be of another prefix.
  unset(dlbridge_${variant}_LIBRARY CACHE)
  find_library(dlbridge_${variant}_LIBRARY
    NAMES ${CMAKE_${suffix}_LIBRARY_PREFIX}dlbridge${CMAKE_${suffix}_LIBRARY_SUFFIX}
    PATHS "${dlbridge_PREFIX}"
    PATH_SUFFIXES lib lib64 "lib/${CMAKE_LIBRARY_ARCHITECTURE}"
    NO_DEFAULT_PATH)
  mark_as_advanced(dlbridge_${variant}_LIBRARY)
  if(dlbridge_${variant}_LIBRARY AND NOT TARGET dlbridge::${variant})
    add_library(dlbridge::${variant} ${suffix} IMPORTED)
    set_target_properties(dlbridge::${variant} PROPERTIES
      IMPORTED_LOCATION "${dlbridge_${variant}_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${dlbridge_PREFIX}/include/dlbridge")
    if(NOT TARGET dlbridge::dlbridge)
      add_library(dlbridge::dlbridge ALIAS dlbridge::${variant})
    endif()
  endif()
endforeach()

# The libraries that a program needs besides the static one. A shared library names them itself.
if(TARGET dlbridge::static)
  set_target_properties(dlbridge::static PROPERTIES
    INTERFACE_COMPILE_DEFINITIONS DLB_STATIC
    INTERFACE_LINK_LIBRARIES "gcc_s;util;rt;pthread;m;dl;c")
endif()

if(NOT TARGET dlbridge::dlbridge)
  set(dlbridge_FOUND FALSE)
  set(dlbridge_NOT_FOUND_MESSAGE "there is no library below ${dlbridge_PREFIX}")
endif()
