# What every target is compiled and linked with.
add_library(mvccfs_flags INTERFACE)
target_include_directories(mvccfs_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(mvccfs_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64)
target_compile_options(mvccfs_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion -Wpointer-arith
	-Wstrict-prototypes -Wmissing-prototypes)
target_link_options(mvccfs_flags INTERFACE -Wl,--as-needed)
if(MVCCFS_WERROR)
	target_compile_options(mvccfs_flags INTERFACE -Werror)
endif()

# A sanitizer's runtime is undefined in a shared object, so there the arrows are left to the other builds.
add_library(mvccfs_no_undefined INTERFACE)
if(MVCCFS_SANITIZE STREQUAL "address")
	target_compile_options(mvccfs_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
		-fno-omit-frame-pointer)
	target_link_options(mvccfs_flags INTERFACE -fsanitize=address,undefined)
elseif(MVCCFS_SANITIZE STREQUAL "thread")
	target_compile_options(mvccfs_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
	target_link_options(mvccfs_flags INTERFACE -fsanitize=thread)
elseif(MVCCFS_SANITIZE STREQUAL "")
	target_link_options(mvccfs_no_undefined INTERFACE -Wl,-z,defs)
else()
	message(FATAL_ERROR "MVCCFS_SANITIZE is address, thread or empty, not \"${MVCCFS_SANITIZE}\"")
endif()

# What sanitizers add to the code misleads gcc's flow analysis; the other builds have these two warnings.
if(MVCCFS_SANITIZE AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
	target_compile_options(mvccfs_flags INTERFACE -Wno-format-truncation -Wno-maybe-uninitialized)
endif()

# What a shared library of ours shows is what its headers mark, all of it under one version; and it calls itself
# even where a program has a function by the same name (bytes.h has short ones).
add_library(mvccfs_exports INTERFACE)
target_link_options(mvccfs_exports INTERFACE
	-Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/exports.map -Wl,-Bsymbolic-functions)
