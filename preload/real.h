/*
 * The functions that the program meant: what it would have called without this library.
 *
 * Linux: the next definition behind this library, asked for once, before main. Until then, and
 * where libc has no such function, the system call itself. macOS: the functions themselves, since
 * dyld replaces no call of the library that replaces them.
 */
#ifndef OLLY_PRELOAD_REAL_H
#define OLLY_PRELOAD_REAL_H

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct iovec;

/* name, result, arguments */
#define OLLY_REALS(X)                                                                              \
	X(connect, int, (int, const struct sockaddr *, socklen_t))                                 \
	X(accept, int, (int, struct sockaddr *, socklen_t *))                                      \
	X(socket, int, (int, int, int))                                                            \
	X(socketpair, int, (int, int, int, int *))                                                 \
	X(read, ssize_t, (int, void *, size_t))                                                    \
	X(readv, ssize_t, (int, const struct iovec *, int))                                        \
	X(recv, ssize_t, (int, void *, size_t, int))                                               \
	X(recvfrom, ssize_t, (int, void *, size_t, int, struct sockaddr *, socklen_t *))           \
	X(recvmsg, ssize_t, (int, struct msghdr *, int))                                           \
	X(write, ssize_t, (int, const void *, size_t))                                             \
	X(writev, ssize_t, (int, const struct iovec *, int))                                       \
	X(send, ssize_t, (int, const void *, size_t, int))                                         \
	X(sendto, ssize_t, (int, const void *, size_t, int, const struct sockaddr *, socklen_t))   \
	X(sendmsg, ssize_t, (int, const struct msghdr *, int))                                     \
	X(close, int, (int))                                                                       \
	X(dup, int, (int))                                                                         \
	X(dup2, int, (int, int))                                                                   \
	X(fcntl, int, (int, int, ...))                                                             \
	X(ioctl, int, (int, unsigned long, ...))                                                   \
	X(fclose, int, (FILE *))                                                                   \
	X(fileno, int, (FILE *))

#ifdef __APPLE__
#define OLLY_REALS_HERE(X)
#else
#include "linux/real.h"
#endif

struct olly_real {
#define X(name, result, arguments) result(*name) arguments;
	OLLY_REALS(X) OLLY_REALS_HERE(X)
#undef X
};
extern struct olly_real olly_real;

#endif
