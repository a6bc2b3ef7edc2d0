/* What hooks share, those of linux/ and darwin/ included. */
#ifndef OLLY_PRELOAD_HOOKS_H
#define OLLY_PRELOAD_HOOKS_H

#include "olly.h"
#include "real.h"

#include <stdarg.h>

#ifndef MSG_ERRQUEUE
#define MSG_ERRQUEUE 0
#endif

/* Whatever the argument behind `last` is, it is one register wide. */
#define ONE_MORE(last, name)                                                                       \
	long name;                                                                                 \
	va_list list;                                                                              \
	va_start(list, last);                                                                      \
	name = va_arg(list, long);                                                                 \
	va_end(list)

/* musl leaves what is behind an int in msghdr to chance: no count is larger than IOV_MAX. */
static inline u32 olly_parts(const struct msghdr *m)
{
	return (u32)m->msg_iovlen;
}

/* These read without taking, or take what is no part of the stream. */
static inline bool olly_takes(int flags)
{
	return !(flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE));
}

static inline u32 olly_recv_flags(int flags)
{
	return (flags & MSG_DONTWAIT ? OLLY_IO_NONBLOCK : 0) |
	       (flags & MSG_TRUNC ? OLLY_IO_NO_BUFFER : 0);
}

/* hooks_io.c */
void olly_received(int fd, ssize_t n, void *buffer, size_t size, int flags);
void olly_received_descriptors(const struct msghdr *m);
size_t olly_room_of(const struct msghdr *m); /* not 0 if it has any */

/* hooks_fd.c: after a call of fcntl's kind */
void olly_controlled(int fd, int command, long argument, int result);

#endif
