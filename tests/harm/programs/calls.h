/* What the files of `calls` share. */
#ifndef HARM_CALLS_H
#define HARM_CALLS_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "say.h"

#ifndef __GLIBC__ /* musl has neither */
#define close_range(first, last, flags) syscall(SYS_close_range, first, last, flags)
#define closefrom(first) syscall(SYS_close_range, first, ~0u, 0)
#endif

#define SAY(call) SAY_WITH(#call, call, (void)0, (void)0)

/* Each is s_NAME(), in one of the files beside. */
#define SCENARIOS(X)                                                                               \
	X(tcp)                                                                                     \
	X(unix)                                                                                    \
	X(pipe_and_file)                                                                           \
	X(errors)                                                                                  \
	X(connect)                                                                                 \
	X(descriptors)                                                                             \
	X(close_all)                                                                               \
	X(large)                                                                                   \
	X(cancel)                                                                                  \
	X(interrupted)                                                                             \
	X(handler)                                                                                 \
	X(tiny_stack)                                                                              \
	X(fork)                                                                                    \
	X(vfork_and_spawn)                                                                         \
	X(seccomp)                                                                                 \
	X(seccomp_by_syscall)                                                                      \
	X(limits)                                                                                  \
	X(address_space)                                                                           \
	X(sendfile)                                                                                \
	X(descriptor_passing)                                                                      \
	X(threads)                                                                                 \
	X(scribble)                                                                                \
	X(exec)                                                                                    \
	X(shutdown)                                                                                \
	X(handed_over)

#define X(name) void s_##name(void);
SCENARIOS(X)
#undef X

extern char **environ;
extern int handled; /* signals */
void on_signal(int s);
void open_descriptors(void); /* says which they are */
void after_exec(int fd);

#endif
