/* Calls that move bytes. Each: the real call, then what it moved. */
#include "hooks.h"
#include "inject.h"

void olly_received(int fd, ssize_t n, void *buffer, size_t size, int flags)
{
	if (olly_takes(flags))
		olly_io_buffer(fd, OLLY_RECV, n, buffer, size, olly_recv_flags(flags));
}

HOOK(ssize_t, read, int fd, void *buffer, size_t size)
{
	ssize_t n = olly_real.read(fd, buffer, size);

	olly_io_buffer(fd, OLLY_RECV, n, buffer, size, 0);
	return n;
}

HOOK(ssize_t, readv, int fd, const struct iovec *iov, int count)
{
	ssize_t n = olly_real.readv(fd, iov, count);

	/* the array is looked at only when the kernel has found it to be there */
	olly_io(fd, OLLY_RECV, n, n == 0 && count > 0 ? iov[0].iov_len + (count > 1) : 0, iov,
		(u32)count, 0);
	return n;
}

HOOK(ssize_t, recv, int fd, void *buffer, size_t size, int flags)
{
	ssize_t n = olly_real.recv(fd, buffer, size, flags);

	olly_received(fd, n, buffer, size, flags);
	return n;
}

HOOK(ssize_t, recvfrom, int fd, void *restrict buffer, size_t size, int flags,
     struct sockaddr *restrict from, socklen_t *restrict length)
{
	ssize_t n = olly_real.recvfrom(fd, buffer, size, flags, from, length);

	olly_received(fd, n, buffer, size, flags);
	return n;
}

/* Descriptors that came along: whatever had their numbers is gone. */
void olly_received_descriptors(const struct msghdr *m)
{
	const u8 *at = m->msg_control;
	size_t left = (size_t)m->msg_controllen;

	while (at && left >= sizeof(struct cmsghdr)) {
		const struct cmsghdr *c = (const struct cmsghdr *)at;
		const size_t length = (size_t)c->cmsg_len & 0xffffffffu;
		const u8 *fd = at + CMSG_LEN(0);

		size_t whole;

		if (length < CMSG_LEN(0) || length > left)
			return;
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			for (; fd + sizeof(int) <= at + length; fd += sizeof(int)) {
				int value;

				__builtin_memcpy(&value, fd, sizeof(value));
				olly_opened(value);
			}
		}
		whole = CMSG_SPACE(length - CMSG_LEN(0));
		if (whole > left)
			return;
		at += whole;
		left -= whole;
	}
}

size_t olly_room_of(const struct msghdr *m)
{
	size_t sum = 0;
	u32 i;

	for (i = 0; i < olly_parts(m) && sum == 0; i++)
		sum += m->msg_iov[i].iov_len;
	return sum;
}

HOOK(ssize_t, recvmsg, int fd, struct msghdr *m, int flags)
{
	ssize_t n = olly_real.recvmsg(fd, m, flags);

	if (n < 0)
		return n;
	if (m->msg_controllen)
		olly_received_descriptors(m);
	if (olly_takes(flags))
		olly_io(fd, OLLY_RECV, n, n == 0 ? olly_room_of(m) : (size_t)n, m->msg_iov,
			olly_parts(m), olly_recv_flags(flags));
	return n;
}

HOOK(ssize_t, write, int fd, const void *buffer, size_t size)
{
	ssize_t n;

	olly_before_send(fd);
	if (unlikely(olly_http_sends(fd)) && olly_http_write(fd, buffer, size, 0, false, &n))
		return n;
	n = olly_real.write(fd, buffer, size);

	olly_io_buffer(fd, OLLY_SEND, n, buffer, size, 0);
	return n;
}

HOOK(ssize_t, writev, int fd, const struct iovec *iov, int count)
{
	ssize_t n;

	olly_before_send(fd);
	if (unlikely(olly_http_sends(fd)) && olly_http_send(fd, iov, (u32)count, 0, false, &n))
		return n;
	n = olly_real.writev(fd, iov, count);

	olly_io(fd, OLLY_SEND, n, 0, iov, (u32)count, 0);
	return n;
}

HOOK(ssize_t, send, int fd, const void *buffer, size_t size, int flags)
{
	ssize_t n;

	olly_before_send(fd);
	if (unlikely(olly_http_sends(fd)) && olly_http_write(fd, buffer, size, flags, true, &n))
		return n;
	n = olly_real.send(fd, buffer, size, flags);

	olly_io_buffer(fd, OLLY_SEND, n, buffer, size, 0);
	return n;
}

HOOK(ssize_t, sendto, int fd, const void *buffer, size_t size, int flags, const struct sockaddr *to,
     socklen_t length)
{
	ssize_t n;

	olly_before_send(fd);
	if (unlikely(olly_http_sends(fd)) &&
	    (to ? olly_http_pay(fd, flags, &n)
		: olly_http_write(fd, buffer, size, flags, true, &n)))
		return n;
	n = olly_real.sendto(fd, buffer, size, flags, to, length);

	olly_io_buffer(fd, OLLY_SEND, n, buffer, size, 0);
	return n;
}

HOOK(ssize_t, sendmsg, int fd, const struct msghdr *m, int flags)
{
	ssize_t n;

	olly_before_send(fd);
	if (unlikely(olly_http_sends(fd)) && olly_http_send_message(fd, m, flags, &n))
		return n;
	n = olly_real.sendmsg(fd, m, flags);

	if (n > 0)
		olly_io(fd, OLLY_SEND, n, 0, m->msg_iov, olly_parts(m), 0);
	return n;
}
