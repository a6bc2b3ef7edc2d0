/* Calls that make, end or change descriptors. */
#include "hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

static int error_of(int result)
{
	const int *error = platform_errno();

	if (result == 0)
		return 0;
	return error ? *error : EIO;
}

HOOK(int, connect, int fd, const struct sockaddr *address, socklen_t length)
{
	u64 sock;
	/* what `address` points to may not be there: the kernel looks first */
	const bool tell = length >= sizeof(address->sa_family) && olly_connecting(fd, &sock);
	int result = olly_real.connect(fd, address, length);

	if (tell && result == 0 && address->sa_family == AF_UNSPEC)
		sock = 0; /* the end of a connection, not the beginning of one */
	if (tell)
		olly_connect_ended(fd, sock, error_of(result));
	return result;
}

HOOK(int, accept, int fd, struct sockaddr *address, socklen_t *length)
{
	int made = olly_real.accept(fd, address, length);

	if (made >= 0)
		olly_accepted(made);
	return made;
}

HOOK(int, socket, int domain, int type, int protocol)
{
	int made = olly_real.socket(domain, type, protocol);

	if (made >= 0)
		olly_opened(made);
	return made;
}

HOOK(int, socketpair, int domain, int type, int protocol, int made[2])
{
	int result = olly_real.socketpair(domain, type, protocol, made);

	if (result == 0) {
		olly_opened(made[0]);
		olly_opened(made[1]);
	}
	return result;
}

HOOK(int, close, int fd)
{
	olly_closing(fd);
	return olly_real.close(fd);
}

HOOK(int, dup, int fd)
{
	int made = olly_real.dup(fd);

	if (made >= 0)
		olly_duplicated(fd, made);
	return made;
}

HOOK(int, dup2, int fd, int to)
{
	int made = olly_real.dup2(fd, to);

	if (made >= 0)
		olly_duplicated(fd, made);
	return made;
}

void olly_controlled(int fd, int command, long argument, int result)
{
	if (result < 0)
		return;
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		olly_duplicated(fd, result);
	else if (command == F_SETFL)
		olly_set_nonblock(fd, (argument & O_NONBLOCK) != 0);
}

HOOK(int, fcntl, int fd, int command, ...)
{
	int result;
	ONE_MORE(command, argument);

	result = olly_real.fcntl(fd, command, argument);
	olly_controlled(fd, command, argument, result);
	return result;
}

HOOK(int, ioctl, int fd, unsigned long request, ...)
{
	int result;
	ONE_MORE(request, argument);

	result = olly_real.ioctl(fd, request, argument);
	if (result == 0 && (u32)request == FIONBIO)
		olly_set_nonblock(fd, *(const int *)argument != 0);
	return result;
}

/* libc closes its descriptor by itself. */
HOOK(int, fclose, FILE *file)
{
	int *error = platform_errno();
	const int saved = error ? *error : 0;
	const int fd = olly_real.fileno && file ? olly_real.fileno(file) : -1;

	if (error)
		*error = saved;
	if (fd >= 0)
		olly_closing(fd);
	return olly_real.fclose(file);
}
