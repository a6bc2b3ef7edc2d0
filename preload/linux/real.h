/* Functions that only Linux' libcs have. */
#ifndef OLLY_PRELOAD_LINUX_REAL_H
#define OLLY_PRELOAD_LINUX_REAL_H

#include <sys/sendfile.h>

struct timespec;
/* Without _GNU_SOURCE, under which <sys/socket.h> declares what is defined here in another way. */
struct mmsghdr {
	struct msghdr msg_hdr;
	unsigned msg_len;
};

#define OLLY_REALS_HERE(X)                                                                         \
	X(accept4, int, (int, struct sockaddr *, socklen_t *, int))                                \
	X(recvmmsg, int, (int, struct mmsghdr *, unsigned, int, struct timespec *))                \
	X(sendmmsg, int, (int, struct mmsghdr *, unsigned, int))                                   \
	X(sendfile, ssize_t, (int, int, off_t *, size_t))                                          \
	X(sendfile64, ssize_t, (int, int, off_t *, size_t))                                        \
	X(splice, ssize_t, (int, off_t *, int, off_t *, size_t, unsigned))                         \
	X(dup3, int, (int, int, int))                                                              \
	X(fcntl64, int, (int, int, ...))                                                           \
	X(close_range, int, (unsigned, unsigned, int))                                             \
	X(closefrom, void, (int))                                                                  \
	X(prctl, int, (int, ...))                                                                  \
	X(dlclose, int, (void *))                                                                  \
	X(syscall, long, (long, ...))                                                              \
	X(__read_chk, ssize_t, (int, void *, size_t, size_t))                                      \
	X(__recv_chk, ssize_t, (int, void *, size_t, size_t, int))                                 \
	X(__recvfrom_chk, ssize_t,                                                                 \
	  (int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *))

/* A result of sys() as libc would give it. */
long olly_result(long value);
extern long (*olly_real_syscall)(long, ...); /* for syscall.S */

#endif
