/* Calls that make, end or change descriptors, and the two by which a program shuts itself in. */
#include "real.h"

#include "olly.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#define CLOSE_RANGE_MARK 4 /* CLOSE_RANGE_CLOEXEC: nothing is closed yet */

extern int *__errno_location(void) __attribute__((weak));

static int error_of(int result)
{
	if (result == 0)
		return 0;
	return __errno_location ? *__errno_location() : 5;
}

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t length)
{
	u64 sock;
	/* what `address` points to may not be there: the kernel looks first */
	const bool tell = length >= sizeof(address->sa_family) && olly_connecting(fd, &sock);
	int result = olly_real.connect ? olly_real.connect(fd, address, length)
				       : (int)olly_result(sys(SYS_connect, fd, address, length));

	if (tell && result == 0 && address->sa_family == AF_UNSPEC)
		sock = 0; /* the end of a connection, not the beginning of one */
	if (tell)
		olly_connect_ended(fd, sock, error_of(result));
	return result;
}

EXPORT int accept(int fd, struct sockaddr *address, socklen_t *length)
{
	int made = olly_real.accept ? olly_real.accept(fd, address, length)
				    : (int)olly_result(sys(SYS_accept4, fd, address, length, 0));

	if (made >= 0)
		olly_accepted(made);
	return made;
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	int made = olly_real.accept4
			   ? olly_real.accept4(fd, address, length, flags)
			   : (int)olly_result(sys(SYS_accept4, fd, address, length, flags));

	if (made >= 0)
		olly_accepted(made);
	return made;
}

EXPORT int socket(int domain, int type, int protocol)
{
	int made = olly_real.socket ? olly_real.socket(domain, type, protocol)
				    : (int)olly_result(sys(SYS_socket, domain, type, protocol));

	if (made >= 0)
		olly_opened(made);
	return made;
}

EXPORT int socketpair(int domain, int type, int protocol, int made[2])
{
	int result = olly_real.socketpair
			     ? olly_real.socketpair(domain, type, protocol, made)
			     : (int)olly_result(sys(SYS_socketpair, domain, type, protocol, made));

	if (result == 0) {
		olly_opened(made[0]);
		olly_opened(made[1]);
	}
	return result;
}

EXPORT int close(int fd)
{
	olly_closing(fd);
	return olly_real.close ? olly_real.close(fd) : (int)olly_result(sys(SYS_close, fd));
}

EXPORT int dup(int fd)
{
	int made = olly_real.dup ? olly_real.dup(fd) : (int)olly_result(sys(SYS_dup, fd));

	if (made >= 0)
		olly_duplicated(fd, made);
	return made;
}

EXPORT int dup2(int fd, int to)
{
	int made = olly_real.dup2 ? olly_real.dup2(fd, to)
		   : fd == to	  ? (int)olly_result(sys(SYS_fcntl, fd, F_GETFD)) < 0 ? -1 : to
				  : (int)olly_result(sys(SYS_dup3, fd, to, 0));

	if (made >= 0)
		olly_duplicated(fd, made);
	return made;
}

EXPORT int dup3(int fd, int to, int flags)
{
	int made = olly_real.dup3 ? olly_real.dup3(fd, to, flags)
				  : (int)olly_result(sys(SYS_dup3, fd, to, flags));

	if (made >= 0)
		olly_duplicated(fd, made);
	return made;
}

static void controlled(int fd, int command, long argument, int result)
{
	if (result < 0)
		return;
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		olly_duplicated(fd, result);
	else if (command == F_SETFL)
		olly_set_nonblock(fd, (argument & O_NONBLOCK) != 0);
}

/* Whatever the third argument is, it is one register wide. */
#define ONE_MORE(last, name)                                                                       \
	long name;                                                                                 \
	va_list list;                                                                              \
	va_start(list, last);                                                                      \
	name = va_arg(list, long);                                                                 \
	va_end(list)

EXPORT int fcntl(int fd, int command, ...)
{
	int result;
	ONE_MORE(command, argument);

	result = olly_real.fcntl ? olly_real.fcntl(fd, command, argument)
				 : (int)olly_result(sys(SYS_fcntl, fd, command, argument));
	controlled(fd, command, argument, result);
	return result;
}

EXPORT int fcntl64(int fd, int command, ...)
{
	int result;
	ONE_MORE(command, argument);

	result = olly_real.fcntl64 ? olly_real.fcntl64(fd, command, argument)
				   : (int)olly_result(sys(SYS_fcntl, fd, command, argument));
	controlled(fd, command, argument, result);
	return result;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	int result;
	ONE_MORE(request, argument);

	result = olly_real.ioctl ? olly_real.ioctl(fd, request, argument)
				 : (int)olly_result(sys(SYS_ioctl, fd, request, argument));
	if (result == 0 && (u32)request == FIONBIO)
		olly_set_nonblock(fd, *(const int *)argument != 0);
	return result;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	if (!(flags & CLOSE_RANGE_MARK) && first <= last)
		olly_closing_range(first, last);
	return olly_real.close_range ? olly_real.close_range(first, last, flags)
				     : (int)olly_result(sys(SYS_close_range, first, last, flags));
}

EXPORT void closefrom(int first)
{
	olly_closing_range(first < 0 ? 0 : (u32)first, MAX_FDS);
	if (olly_real.closefrom)
		olly_real.closefrom(first);
	else
		sys(SYS_close_range, first < 0 ? 0 : first, ~0u, 0);
}

/* libc closes its descriptor by itself. */
EXPORT int fclose(FILE *file)
{
	int *error = __errno_location ? __errno_location() : NULL;
	const int saved = error ? *error : 0;
	const int fd = olly_real.fileno && file ? olly_real.fileno(file) : -1;

	if (error)
		*error = saved;
	if (fd >= 0)
		olly_closing(fd);
	return olly_real.fclose ? olly_real.fclose(file) : EOF;
}

/* From now on a call that the filter does not know may be the end: the library makes none. */
static void shut_in(void)
{
	store(&olly_no_syscalls, 1);
}

EXPORT int prctl(int what, ...)
{
	long a, b, c, d;
	va_list list;

	va_start(list, what);
	a = va_arg(list, long);
	b = va_arg(list, long);
	c = va_arg(list, long);
	d = va_arg(list, long);
	va_end(list);
	if (what == PR_SET_SECCOMP)
		shut_in();
	return olly_real.prctl ? olly_real.prctl(what, a, b, c, d)
			       : (int)olly_result(sys(SYS_prctl, what, a, b, c, d));
}

__attribute__((visibility("hidden"))) void olly_before_syscall(long number, long a, long b, long c)
{
	switch (number) {
	case SYS_seccomp:
		shut_in();
		break;
	case SYS_prctl:
		if (a == PR_SET_SECCOMP)
			shut_in();
		break;
	case SYS_close:
		olly_closing((int)a);
		break;
	case SYS_close_range:
		if (!(c & CLOSE_RANGE_MARK))
			olly_closing_range((u32)a, (u32)b);
		break;
#ifdef SYS_dup2
	case SYS_dup2:
#endif
	case SYS_dup3:
		if (a != b)
			olly_closing((int)b);
		break;
	}
}
