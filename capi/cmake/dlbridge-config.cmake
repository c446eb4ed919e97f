# find_package(dlbridge), for Linux and other ELF systems. Defines the targets dlbridge::shared and
# dlbridge::static for the libraries that are installed, and dlbridge::dlbridge, which is the shared
# library if it is installed, and otherwise the static library.

get_filename_component(dlbridge_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

# Finds the libraries in the prefix in which this file is installed.
foreach(variant IN ITEMS shared static)
  string(TOUPPER ${variant} suffix)
  # A cached result may come from another prefix.
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

# The system libraries that the static library needs. The shared library names them itself. A shared
# object that contains the static library does not export its functions: otherwise the dynamic linker
# could bind them to those of another copy of the library.
if(TARGET dlbridge::static)
  get_filename_component(archive "${dlbridge_static_LIBRARY}" NAME)
  set_target_properties(dlbridge::static PROPERTIES
    INTERFACE_COMPILE_DEFINITIONS DLB_STATIC
    INTERFACE_LINK_LIBRARIES "gcc_s;util;rt;pthread;m;dl;c")
  if(NOT WIN32 AND NOT APPLE)
    set_target_properties(dlbridge::static PROPERTIES
      INTERFACE_LINK_OPTIONS "LINKER:--exclude-libs,${archive}")
  endif()
endif()

if(NOT TARGET dlbridge::dlbridge)
  set(dlbridge_FOUND FALSE)
  set(dlbridge_NOT_FOUND_MESSAGE "there is no library below ${dlbridge_PREFIX}")
endif()
