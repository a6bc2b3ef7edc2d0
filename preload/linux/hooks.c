/* Hooks of calls that only Linux has, and of the ways in which a program shuts itself in. */
#include "hooks.h"
#include "inject.h"
#include "linux/clock.h"
#include "linux/elf.h"
#include "linux/sys.h"
#include "tls.h"

#include <fcntl.h>
#include <sys/prctl.h>

#define CLOSE_RANGE_MARK 4 /* CLOSE_RANGE_CLOEXEC: nothing is closed yet */

HOOK(ssize_t, __read_chk, int fd, void *buffer, size_t size, size_t room)
{
	ssize_t n = olly_real.__read_chk(fd, buffer, size, room);

	olly_io_buffer(fd, OLLY_RECV, n, buffer, size, 0);
	return n;
}

HOOK(ssize_t, __recv_chk, int fd, void *buffer, size_t size, size_t room, int flags)
{
	ssize_t n = olly_real.__recv_chk(fd, buffer, size, room, flags);

	olly_received(fd, n, buffer, size, flags);
	return n;
}

HOOK(ssize_t, __recvfrom_chk, int fd, void *restrict buffer, size_t size, size_t room, int flags,
     struct sockaddr *restrict from, socklen_t *restrict length)
{
	ssize_t n = olly_real.__recvfrom_chk(fd, buffer, size, room, flags, from, length);

	olly_received(fd, n, buffer, size, flags);
	return n;
}

HOOK(int, recvmmsg, int fd, struct mmsghdr *m, unsigned count, int flags, struct timespec *wait)
{
	int done = olly_real.recvmmsg(fd, m, count, flags, wait);
	int i;

	for (i = 0; i < done; i++) {
		if (m[i].msg_hdr.msg_controllen)
			olly_received_descriptors(&m[i].msg_hdr);
		if (olly_takes(flags))
			olly_io(fd, OLLY_RECV, m[i].msg_len,
				m[i].msg_len ? 1 : olly_room_of(&m[i].msg_hdr),
				m[i].msg_hdr.msg_iov, olly_parts(&m[i].msg_hdr),
				olly_recv_flags(flags));
	}
	return done;
}

HOOK(int, sendmmsg, int fd, struct mmsghdr *m, unsigned count, int flags)
{
	int i, done;
	ssize_t n;

	olly_before_send(fd);
	if (unlikely(olly_http_sends(fd)) && olly_http_pay(fd, flags, &n))
		return -1;
	done = olly_real.sendmmsg(fd, m, count, flags);

	for (i = 0; i < done; i++)
		olly_io(fd, OLLY_SEND, m[i].msg_len, 0, m[i].msg_hdr.msg_iov,
			olly_parts(&m[i].msg_hdr), 0);
	return done;
}

static ssize_t sent_file(int to, ssize_t n)
{
	olly_io(to, OLLY_SEND, n, 0, NULL, 0, OLLY_IO_NO_BUFFER);
	return n;
}

HOOK(ssize_t, sendfile, int to, int from, off_t *at, size_t size)
{
	ssize_t n;

	olly_before_send(to);
	if (unlikely(olly_http_sends(to)) && olly_http_pay(to, 0, &n))
		return n;
	return sent_file(to, olly_real.sendfile(to, from, at, size));
}

HOOK(ssize_t, sendfile64, int to, int from, off_t *at, size_t size)
{
	ssize_t n;

	olly_before_send(to);
	if (unlikely(olly_http_sends(to)) && olly_http_pay(to, 0, &n))
		return n;
	return sent_file(to, olly_real.sendfile64(to, from, at, size));
}

HOOK(ssize_t, splice, int from, off_t *from_at, int to, off_t *to_at, size_t size, unsigned flags)
{
	ssize_t n;

	olly_before_send(to);
	if (unlikely(olly_http_sends(to)) && olly_http_pay(to, 0, &n))
		return n;
	n = olly_real.splice(from, from_at, to, to_at, size, flags);

	olly_io(from, OLLY_RECV, n, size, NULL, 0, OLLY_IO_NO_BUFFER);
	olly_io(to, OLLY_SEND, n, 0, NULL, 0, OLLY_IO_NO_BUFFER);
	return n;
}

HOOK(int, accept4, int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	int made = olly_real.accept4(fd, address, length, flags);

	if (made >= 0)
		olly_accepted(made);
	return made;
}

HOOK(int, dup3, int fd, int to, int flags)
{
	int made = olly_real.dup3(fd, to, flags);

	if (made >= 0)
		olly_duplicated(fd, made);
	return made;
}

HOOK(int, fcntl64, int fd, int command, ...)
{
	int result;
	ONE_MORE(command, argument);

	result = olly_real.fcntl64(fd, command, argument);
	olly_controlled(fd, command, argument, result);
	return result;
}

HOOK(int, close_range, unsigned first, unsigned last, int flags)
{
	if (!(flags & CLOSE_RANGE_MARK) && first <= last)
		olly_closing_range(first, last);
	return olly_real.close_range(first, last, flags);
}

HOOK(void, closefrom, int first)
{
	olly_closing_range(first < 0 ? 0 : (u32)first, MAX_FDS);
	olly_real.closefrom(first);
}

/* What was found among loaded objects may be gone after it. */
HOOK(int, dlclose, void *handle)
{
	int (*real)(void *) = olly_real.dlclose;
	int result;

	if (!real) /* of a library that was loaded later */
		real = (int (*)(void *))olly_find_function("dlclose", __builtin_return_address(0),
							   (void *)dlclose, NULL);
	if (!real)
		return -1;
	result = real(handle);
	olly_tls_changed();
	return result;
}

/* From now on a call that the filter does not know may be the end: the library makes none. */
static void shut_in(void)
{
	store(&olly_no_syscalls, 1);
}

static void controlled(long what)
{
	if (what == PR_SET_SECCOMP)
		shut_in();
	else if (what == PR_SET_TSC)
		olly_clock_forbidden();
}

HOOK(int, prctl, int what, ...)
{
	long a, b, c, d;
	va_list list;

	va_start(list, what);
	a = va_arg(list, long);
	b = va_arg(list, long);
	c = va_arg(list, long);
	d = va_arg(list, long);
	va_end(list);
	controlled(what);
	return olly_real.prctl(what, a, b, c, d);
}

__attribute__((visibility("hidden"))) void olly_before_syscall(long number, long a, long b, long c)
{
	switch (number) {
	case SYS_seccomp:
		shut_in();
		break;
	case SYS_prctl:
		controlled(a);
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
