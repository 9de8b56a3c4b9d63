# Each tests/test_*.c is a CUnit program, each tests/mount/test_*.c a program, each tests/mount/*.sh a
# script (but lib*.sh, which scripts source), and so is each tests/library/*.sh; all of them are CTest's,
# under the labels `unit`, `mount` and `library`. What else lies in tests/ and tests/engines/ is linked into those that need it.
pkg_check_modules(cunit REQUIRED IMPORTED_TARGET cunit)

set(test_env MVCCFS_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/mvccfs
	MVCCCTL_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/mvccctl
	MVCCFS_SRC=${PROJECT_SOURCE_DIR}
	ASAN_OPTIONS=detect_leaks=1:abort_on_error=0
	UBSAN_OPTIONS=print_stacktrace=1
	TSAN_OPTIONS=halt_on_error=1:suppressions=${PROJECT_SOURCE_DIR}/tests/tsan.supp)
# Sanitizers are several times slower: more time, and fewer rounds of what is random.
set(unit_timeout_s 300)
set(mount_timeout_s 900)
if(MVCCFS_SANITIZE)
	set(unit_timeout_s 900)
	set(mount_timeout_s 1800)
	list(APPEND test_env MODEL_OPS=5000 KILL_ROUNDS=10 TXN_OPS=150 REVERT_ROUNDS=5 DIFF_ROUNDS=5)
endif()

file(GLOB support_sources CONFIGURE_DEPENDS tests/*.c tests/engines/*.c)
list(FILTER support_sources EXCLUDE REGEX "/tests/test_[^/]*$")
add_library(test_support STATIC ${support_sources})
target_link_libraries(test_support PUBLIC mvcc PkgConfig::cunit)

# Links the layers that a test's own includes name, so that each test needs only those to compile.
function(mvccfs_test_link name source)
	set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
	target_link_libraries(${name} PRIVATE test_support)
	foreach(layer fs rocks_backend)
		file(STRINGS ${source} hits REGEX "^#include \"${layer}/")
		if(hits AND TARGET ${layer})
			target_link_libraries(${name} PRIVATE ${layer})
		endif()
	endforeach()
	foreach(library fuse3 json rocksdb)
		string(REPLACE "json" "json-c" header ${library})
		file(STRINGS ${source} hits REGEX "^#include <${header}/")
		if(hits)
			target_link_libraries(${name} PRIVATE PkgConfig::${library})
		endif()
	endforeach()
	target_link_libraries(${name} PRIVATE mvcc PkgConfig::cunit)
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
endfunction()

add_custom_target(unit_tests) # all that the tests labelled `unit` need
file(GLOB unit_sources CONFIGURE_DEPENDS tests/test_*.c)
foreach(source IN LISTS unit_sources)
	get_filename_component(name ${source} NAME_WE)
	add_executable(${name} ${source})
	mvccfs_test_link(${name} ${source})
	add_dependencies(unit_tests ${name})
	add_test(NAME ${name} COMMAND ${name})
	set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT ${unit_timeout_s}
		ENVIRONMENT "${test_env}")
endforeach()

file(GLOB mount_sources CONFIGURE_DEPENDS tests/mount/*.c)
set(mount_support_sources ${mount_sources})
list(FILTER mount_sources INCLUDE REGEX "/test_[^/]*$")
list(FILTER mount_support_sources EXCLUDE REGEX "/test_[^/]*$")
if(mount_support_sources)
	add_library(mount_support STATIC ${mount_support_sources})
	target_link_libraries(mount_support PUBLIC test_support)
endif()
foreach(source IN LISTS mount_sources)
	get_filename_component(name ${source} NAME_WE)
	string(REPLACE "mount_test_" "mount_" name "mount_${name}")
	add_executable(${name} ${source})
	if(mount_support_sources)
		target_link_libraries(${name} PRIVATE mount_support)
	endif()
	mvccfs_test_link(${name} ${source})
	add_test(NAME ${name} COMMAND ${name})
	set_tests_properties(${name} PROPERTIES LABELS mount TIMEOUT ${mount_timeout_s}
		ENVIRONMENT "${test_env}")
endforeach()

file(GLOB mount_scripts CONFIGURE_DEPENDS tests/mount/*.sh)
list(FILTER mount_scripts EXCLUDE REGEX "/lib[^/]*$")
foreach(script IN LISTS mount_scripts)
	get_filename_component(name ${script} NAME_WE)
	string(REPLACE "mount_test_" "mount_" name "mount_${name}")
	if(TARGET ${name})
		string(APPEND name "_sh")
	endif()
	add_test(NAME ${name} COMMAND bash ${script})
	set_tests_properties(${name} PROPERTIES LABELS mount TIMEOUT ${mount_timeout_s}
		ENVIRONMENT "${test_env}")
endforeach()

# The conformance suite: one program, run on a mount and, as the control, on a directory of the host.
file(GLOB posix_sources CONFIGURE_DEPENDS tests/posix/*.c)
add_executable(posix_suite ${posix_sources})
target_link_libraries(posix_suite PRIVATE test_support)
set_target_properties(posix_suite PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
foreach(where mount host)
	add_test(NAME posix_${where} COMMAND bash ${PROJECT_SOURCE_DIR}/tests/posix/on_${where}.sh
		$<TARGET_FILE:posix_suite>)
	set_tests_properties(posix_${where} PROPERTIES LABELS posix TIMEOUT ${mount_timeout_s}
		ENVIRONMENT "${test_env}")
endforeach()

# The library as others have it: installed, linked with, and as its documents say. An installation of a sanitized
# build is nobody's.
if(NOT MVCCFS_SANITIZE)
	file(GLOB library_scripts CONFIGURE_DEPENDS tests/library/*.sh)
	list(FILTER library_scripts EXCLUDE REGEX "/lib[^/]*$")
	foreach(script IN LISTS library_scripts)
		get_filename_component(name ${script} NAME_WE)
		add_test(NAME library_${name} COMMAND bash ${script})
		set_tests_properties(library_${name} PROPERTIES LABELS library TIMEOUT ${unit_timeout_s}
			ENVIRONMENT "${test_env}")
	endforeach()
endif()

# Includes that would be an arrow the wrong way. Linking cannot see a constant or an inline function.
add_test(NAME layers COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR}
	-P ${PROJECT_SOURCE_DIR}/cmake/layers.cmake)
set_tests_properties(layers PROPERTIES LABELS unit TIMEOUT 60)
