# find_package(dlbridge), for Linux and other ELF systems: defines the targets dlbridge::shared and
# dlbridge::static, if the library is installed, and dlbridge::dlbridge, which is the shared library
# if there is one, and otherwise the static one.

get_filename_component(dlbridge_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

# The libraries are below the prefix that this file is below.
foreach(kind IN ITEMS shared static)
  string(TOUPPER ${kind} suffix)
  # Not what another prefix had.
  unset(dlbridge_${kind}_LIBRARY CACHE)
  find_library(dlbridge_${kind}_LIBRARY
    NAMES ${CMAKE_${suffix}_LIBRARY_PREFIX}dlbridge${CMAKE_${suffix}_LIBRARY_SUFFIX}
    PATHS "${dlbridge_PREFIX}"
    PATH_SUFFIXES lib lib64 "lib/${CMAKE_LIBRARY_ARCHITECTURE}"
    NO_DEFAULT_PATH)
  mark_as_advanced(dlbridge_${kind}_LIBRARY)
  if(dlbridge_${kind}_LIBRARY AND NOT TARGET dlbridge::${kind})
    add_library(dlbridge::${kind} ${suffix} IMPORTED)
    set_target_properties(dlbridge::${kind} PROPERTIES
      IMPORTED_LOCATION "${dlbridge_${kind}_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${dlbridge_PREFIX}/include/dlbridge")
    if(NOT TARGET dlbridge::dlbridge)
      add_library(dlbridge::dlbridge ALIAS dlbridge::${kind})
    endif()
  endif()
endforeach()

# What a program needs besides the static library; a shared one brings it along.
if(TARGET dlbridge::static)
  set_target_properties(dlbridge::static PROPERTIES
    INTERFACE_COMPILE_DEFINITIONS DLB_STATIC
    INTERFACE_LINK_LIBRARIES "gcc_s;util;rt;pthread;m;dl;c")
endif()

if(NOT TARGET dlbridge::dlbridge)
  set(dlbridge_FOUND FALSE)
  set(dlbridge_NOT_FOUND_MESSAGE "there is no library below ${dlbridge_PREFIX}")
endif()
