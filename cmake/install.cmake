# Where everything goes. mount(8) looks for mount.fuse.mvccfs in /sbin, which is the default sbindir of a
# system's /usr.
set(mvccfs_public_headers mvcc/mvcc.h mvcc/keep.h mvcc/lease.h mvcc/watch.h mvcc/request.h mvcc/check.h mvcc/engine.h mvcc/bytes.h mvcc/error.h)

install(TARGETS mvccfs RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
set(link "\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}/mount.fuse.mvccfs")
install(CODE "file(CREATE_LINK mvccfs \"${link}\" SYMBOLIC)\nmessage(STATUS \"Installing: ${link}\")")
install(TARGETS mvccctl RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

install(TARGETS mvcc_shared mvcc_rocks_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})

# install_archive(NAME TARGET): the objects of TARGET as one, in which what is hidden is local, so that a program
# that is linked with libNAME.a may have functions by the same names. (Our own tests are linked with the hidden ones.)
function(install_archive name target)
	set(object ${PROJECT_BINARY_DIR}/installed/${name}.o)
	set(archive ${PROJECT_BINARY_DIR}/installed/lib${name}.a)
	add_custom_command(OUTPUT ${archive}
		COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/installed
		COMMAND ${CMAKE_LINKER} -r -o ${object} $<TARGET_OBJECTS:${target}>
		COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${object}
		COMMAND ${CMAKE_COMMAND} -E rm -f ${archive}
		COMMAND ${CMAKE_AR} rcs ${archive} ${object}
		DEPENDS $<TARGET_OBJECTS:${target}> COMMAND_EXPAND_LISTS VERBATIM)
	add_custom_target(archive_${name} ALL DEPENDS ${archive})
	add_dependencies(archive_${name} ${target}) # the objects alone tell make's other jobs nothing
	install(FILES ${archive} DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()
install_archive(mvcc mvcc_objects)
install_archive(mvcc_rocks rocks_backend)
install(FILES ${mvccfs_public_headers} rocks_backend/rocks.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mvcc)
# Found from where the file itself lies, so that `cmake --install --prefix` may choose anew.
file(RELATIVE_PATH MVCC_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
foreach(name mvcc mvcc-rocks)
	configure_file(cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
	install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()

foreach(section 1 3 5 7 8)
	file(GLOB pages CONFIGURE_DEPENDS man/*.${section})
	install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
# Where bash and zsh look for completions, and systemd for units.
install(FILES tools/shell/mvccctl.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME mvccctl)
install(FILES tools/shell/_mvccctl DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
configure_file(tools/mvccfs@.service.in ${PROJECT_BINARY_DIR}/mvccfs@.service @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/mvccfs@.service DESTINATION lib/systemd/system)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
