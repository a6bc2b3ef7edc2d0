/* Before main: what the environment says, and where the real functions are. */
#include "hooks.h"
#include "linux/sys.h"

#include <fcntl.h>

long (*olly_real_syscall)(long, ...);

extern void *dlsym(void *, const char *) __attribute__((weak));
extern char *dlerror(void) __attribute__((weak));
extern const char *gnu_get_libc_version(void) __attribute__((weak));
extern char **environ __attribute__((weak));
void olly_read_environment(char **environment);

#define NEXT ((void *)-1l) /* RTLD_NEXT, in glibc and in musl */

long olly_result(long value)
{
	int *error;

	if (value >= 0 || value < -4095)
		return value;
	error = platform_errno();
	if (error)
		*error = (int)-value;
	return -1;
}

/*
 * What is called before the real ones are known, by other libraries' constructors and by dlsym
 * itself, and instead of those that this libc does not have.
 */
#define EARLY(result, name, arguments, ...)                                                        \
	static result early_##name arguments                                                       \
	{                                                                                          \
		return (result)olly_result(sys(__VA_ARGS__));                                      \
	}
#define EARLY_VARIADIC(name, type, number)                                                         \
	static int early_##name(int fd, type what, ...)                                            \
	{                                                                                          \
		ONE_MORE(what, argument);                                                          \
		return (int)olly_result(sys(number, fd, what, argument));                          \
	}
/* The checks of _FORTIFY_SOURCE are libc's; where it has none, the program was not built with them.
 */
#define CHECKED(result, name, arguments, plain)                                                    \
	static result early_##name arguments                                                       \
	{                                                                                          \
		if (size > room)                                                                   \
			__builtin_trap();                                                          \
		return plain;                                                                      \
	}

EARLY(int, connect, (int fd, const struct sockaddr *a, socklen_t n), SYS_connect, fd, a, n)
EARLY(int, accept, (int fd, struct sockaddr *a, socklen_t *n), SYS_accept4, fd, a, n, 0)
EARLY(int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int f), SYS_accept4, fd, a, n, f)
EARLY(int, socket, (int domain, int type, int protocol), SYS_socket, domain, type, protocol)
EARLY(int, socketpair, (int domain, int type, int protocol, int *made), SYS_socketpair, domain,
      type, protocol, made)
EARLY(ssize_t, read, (int fd, void *b, size_t n), SYS_read, fd, b, n)
EARLY(ssize_t, readv, (int fd, const struct iovec *v, int n), SYS_readv, fd, v, n)
EARLY(ssize_t, recvfrom, (int fd, void *b, size_t n, int f, struct sockaddr *a, socklen_t *l),
      SYS_recvfrom, fd, b, n, f, a, l)
EARLY(ssize_t, recvmsg, (int fd, struct msghdr *m, int f), SYS_recvmsg, fd, m, f)
EARLY(int, recvmmsg, (int fd, struct mmsghdr *m, unsigned n, int f, struct timespec *t),
      SYS_recvmmsg, fd, m, n, f, t)
EARLY(ssize_t, write, (int fd, const void *b, size_t n), SYS_write, fd, b, n)
EARLY(ssize_t, writev, (int fd, const struct iovec *v, int n), SYS_writev, fd, v, n)
EARLY(ssize_t, sendto,
      (int fd, const void *b, size_t n, int f, const struct sockaddr *a, socklen_t l), SYS_sendto,
      fd, b, n, f, a, l)
EARLY(ssize_t, sendmsg, (int fd, const struct msghdr *m, int f), SYS_sendmsg, fd, m, f)
EARLY(int, sendmmsg, (int fd, struct mmsghdr *m, unsigned n, int f), SYS_sendmmsg, fd, m, n, f)
EARLY(ssize_t, sendfile, (int to, int from, off_t *at, size_t n), SYS_sendfile, to, from, at, n)
EARLY(ssize_t, splice, (int from, off_t *a, int to, off_t *b, size_t n, unsigned f), SYS_splice,
      from, a, to, b, n, f)
EARLY(int, close, (int fd), SYS_close, fd)
EARLY(int, dup, (int fd), SYS_dup, fd)
EARLY(int, dup3, (int fd, int to, int flags), SYS_dup3, fd, to, flags)
EARLY(int, close_range, (unsigned first, unsigned last, int flags), SYS_close_range, first, last,
      flags)
EARLY_VARIADIC(fcntl, int, SYS_fcntl)
EARLY_VARIADIC(ioctl, unsigned long, SYS_ioctl)

static ssize_t early_recv(int fd, void *buffer, size_t size, int flags)
{
	return early_recvfrom(fd, buffer, size, flags, NULL, NULL);
}

static ssize_t early_send(int fd, const void *buffer, size_t size, int flags)
{
	return early_sendto(fd, buffer, size, flags, NULL, 0);
}

static int early_dup2(int fd, int to)
{
	if (fd == to)
		return olly_result(sys(SYS_fcntl, fd, F_GETFD)) < 0 ? -1 : to;
	return early_dup3(fd, to, 0);
}

static void early_closefrom(int first)
{
	sys(SYS_close_range, first < 0 ? 0 : first, ~0u, 0);
}

static int early_fclose(FILE *file)
{
	(void)file;
	return EOF;
}

static int early_prctl(int what, ...)
{
	long a[4];
	va_list list;
	int i;

	va_start(list, what);
	for (i = 0; i < 4; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	return (int)olly_result(sys(SYS_prctl, what, a[0], a[1], a[2], a[3]));
}

CHECKED(ssize_t, __read_chk, (int fd, void *buffer, size_t size, size_t room),
	early_read(fd, buffer, size))
CHECKED(ssize_t, __recv_chk, (int fd, void *buffer, size_t size, size_t room, int flags),
	early_recv(fd, buffer, size, flags))
CHECKED(ssize_t, __recvfrom_chk,
	(int fd, void *buffer, size_t size, size_t room, int flags, struct sockaddr *from,
	 socklen_t *length),
	early_recvfrom(fd, buffer, size, flags, from, length))

/* NULL is said by what has no early form: fileno, dlclose, syscall. */
#define early_fcntl64 early_fcntl
#define early_sendfile64 early_sendfile
#define early_fileno NULL
#define early_dlclose NULL
#define early_syscall NULL

struct olly_real olly_real = {
#define X(name, result, arguments) .name = early_##name,
	OLLY_REALS(X) OLLY_REALS_HERE(X)
#undef X
};

/*
 * A constructor, because nothing is simpler later: the program has one thread, no handler, and the
 * loader holds no lock that dlsym wants. A hooked call that comes in between (another
 * constructor's, or dlsym's own) goes to the kernel.
 *
 * glibc hands its constructors main's arguments; musl does not, but has set `environ` before.
 */
__attribute__((constructor(101))) static void start(int argc, char **argv, char **environment)
{
	const bool glibc = gnu_get_libc_version != NULL;
	struct olly_real found = olly_real;
	void *real;

	(void)argc;
	(void)argv;
	if (!glibc)
		environment = &environ ? environ : NULL;
	olly_read_environment(environment);
	if (!dlsym)
		return;
#define X(name, result, arguments)                                                                 \
	real = dlsym(NEXT, #name);                                                                 \
	if (real)                                                                                  \
		*(void **)&found.name = real;
	OLLY_REALS(X)
	OLLY_REALS_HERE(X)
#undef X
	if (dlerror)
		dlerror(); /* of what this libc does not have: nothing that the program
			      did */
	olly_real = found;
	olly_real_syscall = found.syscall;
}
