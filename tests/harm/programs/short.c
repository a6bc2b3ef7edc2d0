/*
 * A kernel that takes less than it is given, as none does where libolly.so puts a header in: loaded
 * behind it. Of the first call with several parts SHORT_FIRST bytes, of every send() one, and every
 * third one is refused (EAGAIN).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int cut(struct iovec *to, const struct iovec *from, int count)
{
	static int done;
	const char *text = getenv("SHORT_FIRST");
	size_t left = text ? (size_t)atol(text) : 0;
	int i;

	if (count < 3 || count > 16 || !left || done)
		return 0;
	done = 1;
	for (i = 0; i < count && left; i++) {
		to[i] = from[i];
		if (to[i].iov_len > left)
			to[i].iov_len = left;
		left -= to[i].iov_len;
	}
	return i;
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
	static ssize_t (*real)(int, const struct iovec *, int);
	struct iovec parts[16];
	int n = cut(parts, iov, count);

	if (!real)
		real = dlsym(RTLD_NEXT, "writev");
	return n ? real(fd, parts, n) : real(fd, iov, count);
}

ssize_t send(int fd, const void *at, size_t size, int flags)
{
	static ssize_t (*real)(int, const void *, size_t, int);
	static int calls;

	if (!real)
		real = dlsym(RTLD_NEXT, "send");
	if (size > 70 || !getenv("SHORT_FIRST"))
		return real(fd, at, size, flags);
	if (++calls % 3 == 0) {
		errno = EAGAIN;
		return -1;
	}
	return real(fd, at, 1, flags);
}
