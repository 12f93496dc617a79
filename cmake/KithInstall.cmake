# What `cmake --install` puts where (docs/install.md shows it to users):
#   bin/kith, share/man/man1/kith*.1, share/bash-completion/completions/kith        component: program
#   for each library NAME: lib/libNAME.so.*                                         component: NAME
#     lib/libNAME.{so,a}, include/kith/ its headers, lib/pkgconfig/NAME.pc,
#     lib/cmake/kith/ its targets                                                   component: NAME-dev
include(CMakePackageConfigHelpers)

install(TARGETS kith-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
get_property(pages GLOBAL PROPERTY KITH_MAN_PAGES)
install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program)
install(FILES apps/cli/kith.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME kith
  COMPONENT program)

set(cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/kith)
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH pc_to_prefix /prefix/${pc_dir} /prefix)

# The .pc file of a library. What is linked inside goes to the private fields: only a static link needs it.
function(kith_pc_file name)
  get_property(summary GLOBAL PROPERTY KITH_SUMMARY_${name})
  get_property(link GLOBAL PROPERTY KITH_LINK_${name})
  get_property(public GLOBAL PROPERTY KITH_LINK_PUBLIC_${name})
  set(requires_private "")
  set(libs_private "")
  foreach(entry ${link})
    if(entry MATCHES "^PkgConfig::(.*)$")
      string(TOLOWER ${CMAKE_MATCH_1} module)
      list(APPEND requires_private ${module})
    else()
      get_filename_component(library ${entry} NAME_WE)
      string(REGEX REPLACE "^lib" "" library ${library})
      list(APPEND libs_private -l${library})
    endif()
  endforeach()
  list(APPEND libs_private -pthread -lm)
  list(JOIN public " " public)
  list(JOIN requires_private " " requires_private)
  list(JOIN libs_private " " libs_private)
  file(WRITE ${PROJECT_BINARY_DIR}/pkgconfig/${name}.pc "\
prefix=\${pcfiledir}/${pc_to_prefix}
libdir=\${prefix}/${CMAKE_INSTALL_LIBDIR}
includedir=\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}

Name: ${name}
Description: ${summary}
Version: ${PROJECT_VERSION}
Requires: ${public}
Requires.private: ${requires_private}
Libs: -L\${libdir} -l${name}
Libs.private: ${libs_private}
Cflags: -I\${includedir}
")
  install(FILES ${PROJECT_BINARY_DIR}/pkgconfig/${name}.pc DESTINATION ${pc_dir} COMPONENT ${name}-dev)
endfunction()

get_property(libraries GLOBAL PROPERTY KITH_LIBRARIES)
set(KITH_COMPONENTS "")
set(KITH_COMPONENT_NEEDS "")
foreach(name ${libraries})
  string(REGEX REPLACE "^kith-" "" component ${name})
  list(APPEND KITH_COMPONENTS ${component})
  get_property(headers GLOBAL PROPERTY KITH_HEADERS_${name})
  get_property(public GLOBAL PROPERTY KITH_LINK_PUBLIC_${name})
  get_property(link GLOBAL PROPERTY KITH_LINK_${name})
  install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/kith COMPONENT ${name}-dev)
  # An export set for each kind: a user of the shared library need not have what only the static one asks for.
  foreach(kind shared static)
    install(TARGETS ${name}-${kind} EXPORT ${component}-${kind}
      LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT ${name} NAMELINK_COMPONENT ${name}-dev
      ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT ${name}-dev)
    install(EXPORT ${component}-${kind} NAMESPACE kith:: DESTINATION ${cmake_dir} COMPONENT ${name}-dev)
  endforeach()
  kith_pc_file(${name})
  # For kithConfig.cmake: the components below, and the pkg-config modules of the static library.
  string(REGEX REPLACE "kith-" "" below "${public}")
  set(modules "")
  foreach(entry ${link})
    if(entry MATCHES "^PkgConfig::(.*)$")
      list(APPEND modules ${CMAKE_MATCH_1})
    endif()
  endforeach()
  string(APPEND KITH_COMPONENT_NEEDS "set(_kith_below_${component} ${below})\nset(_kith_modules_${component} ${modules})\n")
endforeach()

configure_package_config_file(cmake/kithConfig.cmake.in ${PROJECT_BINARY_DIR}/kithConfig.cmake
  INSTALL_DESTINATION ${cmake_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/kithConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/kithConfig.cmake ${PROJECT_BINARY_DIR}/kithConfigVersion.cmake
  DESTINATION ${cmake_dir} COMPONENT kith-dev)
