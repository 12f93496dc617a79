# kith_compile: the flags that every target of the project is compiled with. kith_flags: the same and the internal
# headers, for the libraries and their tests. Never -march=native and never -ffast-math: kernels carry their own target
# regions, and answers are the same on every machine of an instruction set.
add_library(kith_compile INTERFACE)
target_compile_definitions(kith_compile INTERFACE _GNU_SOURCE)
target_compile_options(kith_compile INTERFACE
  $<$<COMPILE_LANGUAGE:C>:-Wall;-Wextra;-Wconversion;-Wno-sign-conversion;-Wshadow;-Wstrict-prototypes;-Wmissing-prototypes;-Wvla>
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow>
  -ffp-contract=off -fno-math-errno)
if(KITH_WARNINGS_AS_ERRORS)
  target_compile_options(kith_compile INTERFACE -Werror)
endif()
target_include_directories(kith_compile INTERFACE ${PROJECT_SOURCE_DIR}/include)
add_library(kith_flags INTERFACE)
target_link_libraries(kith_flags INTERFACE kith_compile)
target_include_directories(kith_flags INTERFACE ${PROJECT_SOURCE_DIR}/src)
