/*
 * The functions that the program meant: the next definition behind this library, asked for once,
 * before main. Until then, and where libc has no such function, the system call itself.
 */
#ifndef OLLY_PRELOAD_REAL_H
#define OLLY_PRELOAD_REAL_H

#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

struct timespec;
struct iovec;
struct mmsghdr;

/* name, result, arguments */
#define OLLY_REALS(X)                                                                              \
	X(connect, int, (int, const struct sockaddr *, socklen_t))                                 \
	X(accept, int, (int, struct sockaddr *, socklen_t *))                                      \
	X(accept4, int, (int, struct sockaddr *, socklen_t *, int))                                \
	X(socket, int, (int, int, int))                                                            \
	X(socketpair, int, (int, int, int, int *))                                                 \
	X(read, ssize_t, (int, void *, size_t))                                                    \
	X(readv, ssize_t, (int, const struct iovec *, int))                                        \
	X(recv, ssize_t, (int, void *, size_t, int))                                               \
	X(recvfrom, ssize_t, (int, void *, size_t, int, struct sockaddr *, socklen_t *))           \
	X(recvmsg, ssize_t, (int, struct msghdr *, int))                                           \
	X(recvmmsg, int, (int, struct mmsghdr *, unsigned, int, struct timespec *))                \
	X(write, ssize_t, (int, const void *, size_t))                                             \
	X(writev, ssize_t, (int, const struct iovec *, int))                                       \
	X(send, ssize_t, (int, const void *, size_t, int))                                         \
	X(sendto, ssize_t, (int, const void *, size_t, int, const struct sockaddr *, socklen_t))   \
	X(sendmsg, ssize_t, (int, const struct msghdr *, int))                                     \
	X(sendmmsg, int, (int, struct mmsghdr *, unsigned, int))                                   \
	X(sendfile, ssize_t, (int, int, off_t *, size_t))                                          \
	X(sendfile64, ssize_t, (int, int, off_t *, size_t))                                        \
	X(splice, ssize_t, (int, off_t *, int, off_t *, size_t, unsigned))                         \
	X(close, int, (int))                                                                       \
	X(dup, int, (int))                                                                         \
	X(dup2, int, (int, int))                                                                   \
	X(dup3, int, (int, int, int))                                                              \
	X(fcntl, int, (int, int, ...))                                                             \
	X(fcntl64, int, (int, int, ...))                                                           \
	X(ioctl, int, (int, unsigned long, ...))                                                   \
	X(close_range, int, (unsigned, unsigned, int))                                             \
	X(closefrom, void, (int))                                                                  \
	X(fclose, int, (FILE *))                                                                   \
	X(fileno, int, (FILE *))                                                                   \
	X(prctl, int, (int, ...))                                                                  \
	X(dlclose, int, (void *))                                                                  \
	X(syscall, long, (long, ...))                                                              \
	X(__read_chk, ssize_t, (int, void *, size_t, size_t))                                      \
	X(__recv_chk, ssize_t, (int, void *, size_t, size_t, int))                                 \
	X(__recvfrom_chk, ssize_t,                                                                 \
	  (int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *))

struct olly_real {
#define X(name, result, arguments) result(*name) arguments;
	OLLY_REALS(X)
#undef X
};
extern struct olly_real olly_real;
extern long (*olly_real_syscall)(long, ...); /* for syscall.S */

/* A result of sys() as libc would give it. */
long olly_result(long value);

#endif
