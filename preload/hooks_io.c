/* Calls that move bytes. Each: the real call, then what it moved. */
#include "real.h"

#include "olly.h"

/* Without _GNU_SOURCE, under which <sys/socket.h> declares what is defined here in another way. */
struct mmsghdr {
	struct msghdr msg_hdr;
	unsigned msg_len;
};

/* musl leaves what is behind an int in msghdr to chance: no count is larger than IOV_MAX. */
static u32 parts(const struct msghdr *m)
{
	return (u32)m->msg_iovlen;
}

static u32 recv_flags(int flags)
{
	return (flags & MSG_DONTWAIT ? OLLY_IO_NONBLOCK : 0) |
	       (flags & MSG_TRUNC ? OLLY_IO_NO_BUFFER : 0);
}

/* These read without taking, or take what is no part of the stream. */
static bool takes(int flags)
{
	return !(flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE));
}

static void received(int fd, ssize_t n, void *buffer, size_t size, int flags)
{
	if (takes(flags))
		olly_io_buffer(fd, OLLY_RECV, n, buffer, size, recv_flags(flags));
}

EXPORT ssize_t read(int fd, void *buffer, size_t size)
{
	ssize_t n = likely(olly_real.read) ? olly_real.read(fd, buffer, size)
					   : olly_result(sys(SYS_read, fd, buffer, size));

	olly_io_buffer(fd, OLLY_RECV, n, buffer, size, 0);
	return n;
}

/* The checks of _FORTIFY_SOURCE are libc's; where it has none, the program was not built with them.
 */
EXPORT ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room)
{
	ssize_t n;

	if (!olly_real.__read_chk && size > room)
		__builtin_trap();
	n = olly_real.__read_chk ? olly_real.__read_chk(fd, buffer, size, room)
				 : olly_result(sys(SYS_read, fd, buffer, size));
	olly_io_buffer(fd, OLLY_RECV, n, buffer, size, 0);
	return n;
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
	ssize_t n = olly_real.readv ? olly_real.readv(fd, iov, count)
				    : olly_result(sys(SYS_readv, fd, iov, count));

	/* the array is looked at only when the kernel has found it to be there */
	olly_io(fd, OLLY_RECV, n, n == 0 && count > 0 ? iov[0].iov_len + (count > 1) : 0, iov,
		(u32)count, 0);
	return n;
}

EXPORT ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
	ssize_t n = olly_real.recv
			    ? olly_real.recv(fd, buffer, size, flags)
			    : olly_result(sys(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL));

	received(fd, n, buffer, size, flags);
	return n;
}

EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t room, int flags)
{
	ssize_t n;

	if (!olly_real.__recv_chk && size > room)
		__builtin_trap();
	n = olly_real.__recv_chk
		    ? olly_real.__recv_chk(fd, buffer, size, room, flags)
		    : olly_result(sys(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL));
	received(fd, n, buffer, size, flags);
	return n;
}

EXPORT ssize_t recvfrom(int fd, void *restrict buffer, size_t size, int flags,
			struct sockaddr *restrict from, socklen_t *restrict length)
{
	ssize_t n = olly_real.recvfrom
			    ? olly_real.recvfrom(fd, buffer, size, flags, from, length)
			    : olly_result(sys(SYS_recvfrom, fd, buffer, size, flags, from, length));

	received(fd, n, buffer, size, flags);
	return n;
}

EXPORT ssize_t __recvfrom_chk(int fd, void *restrict buffer, size_t size, size_t room, int flags,
			      struct sockaddr *restrict from, socklen_t *restrict length)
{
	ssize_t n;

	if (!olly_real.__recvfrom_chk && size > room)
		__builtin_trap();
	n = olly_real.__recvfrom_chk
		    ? olly_real.__recvfrom_chk(fd, buffer, size, room, flags, from, length)
		    : olly_result(sys(SYS_recvfrom, fd, buffer, size, flags, from, length));
	received(fd, n, buffer, size, flags);
	return n;
}

/* Descriptors that came along: whatever had their numbers is gone. */
static void received_descriptors(const struct msghdr *m)
{
	const u8 *at = m->msg_control;
	size_t left = (size_t)m->msg_controllen;

	while (at && left >= sizeof(struct cmsghdr)) {
		const struct cmsghdr *c = (const struct cmsghdr *)at;
		const size_t length = (size_t)c->cmsg_len & 0xffffffffu;
		const size_t whole = CMSG_ALIGN(length);
		const u8 *fd = at + CMSG_LEN(0);

		if (length < sizeof(*c) || length > left)
			return;
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			for (; fd + sizeof(int) <= at + length; fd += sizeof(int)) {
				int value;

				__builtin_memcpy(&value, fd, sizeof(value));
				olly_opened(value);
			}
		}
		if (whole > left)
			return;
		at += whole;
		left -= whole;
	}
}

static size_t room_of(const struct msghdr *m)
{
	size_t sum = 0;
	u32 i;

	for (i = 0; i < parts(m) && sum == 0; i++)
		sum += m->msg_iov[i].iov_len;
	return sum;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t n = olly_real.recvmsg ? olly_real.recvmsg(fd, m, flags)
				      : olly_result(sys(SYS_recvmsg, fd, m, flags));

	if (n < 0)
		return n;
	if (m->msg_controllen)
		received_descriptors(m);
	if (takes(flags))
		olly_io(fd, OLLY_RECV, n, n == 0 ? room_of(m) : (size_t)n, m->msg_iov, parts(m),
			recv_flags(flags));
	return n;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *m, unsigned count, int flags, struct timespec *wait)
{
	int done = olly_real.recvmmsg
			   ? olly_real.recvmmsg(fd, m, count, flags, wait)
			   : (int)olly_result(sys(SYS_recvmmsg, fd, m, count, flags, wait));
	int i;

	for (i = 0; i < done; i++) {
		if (m[i].msg_hdr.msg_controllen)
			received_descriptors(&m[i].msg_hdr);
		if (takes(flags))
			olly_io(fd, OLLY_RECV, m[i].msg_len,
				m[i].msg_len ? 1 : room_of(&m[i].msg_hdr), m[i].msg_hdr.msg_iov,
				parts(&m[i].msg_hdr), recv_flags(flags));
	}
	return done;
}

EXPORT ssize_t write(int fd, const void *buffer, size_t size)
{
	ssize_t n;

	olly_before_send(fd);
	n = likely(olly_real.write) ? olly_real.write(fd, buffer, size)
				    : olly_result(sys(SYS_write, fd, buffer, size));

	olly_io_buffer(fd, OLLY_SEND, n, buffer, size, 0);
	return n;
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
	ssize_t n;

	olly_before_send(fd);
	n = olly_real.writev ? olly_real.writev(fd, iov, count)
			     : olly_result(sys(SYS_writev, fd, iov, count));

	olly_io(fd, OLLY_SEND, n, 0, iov, (u32)count, 0);
	return n;
}

EXPORT ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
	ssize_t n;

	olly_before_send(fd);
	n = olly_real.send ? olly_real.send(fd, buffer, size, flags)
			   : olly_result(sys(SYS_sendto, fd, buffer, size, flags, NULL, 0));

	olly_io_buffer(fd, OLLY_SEND, n, buffer, size, 0);
	return n;
}

EXPORT ssize_t sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *to,
		      socklen_t length)
{
	ssize_t n;

	olly_before_send(fd);
	n = olly_real.sendto ? olly_real.sendto(fd, buffer, size, flags, to, length)
			     : olly_result(sys(SYS_sendto, fd, buffer, size, flags, to, length));

	olly_io_buffer(fd, OLLY_SEND, n, buffer, size, 0);
	return n;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	ssize_t n;

	olly_before_send(fd);
	n = olly_real.sendmsg ? olly_real.sendmsg(fd, m, flags)
			      : olly_result(sys(SYS_sendmsg, fd, m, flags));

	if (n > 0)
		olly_io(fd, OLLY_SEND, n, 0, m->msg_iov, parts(m), 0);
	return n;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *m, unsigned count, int flags)
{
	int i, done;

	olly_before_send(fd);
	done = olly_real.sendmmsg ? olly_real.sendmmsg(fd, m, count, flags)
				  : (int)olly_result(sys(SYS_sendmmsg, fd, m, count, flags));

	for (i = 0; i < done; i++)
		olly_io(fd, OLLY_SEND, m[i].msg_len, 0, m[i].msg_hdr.msg_iov, parts(&m[i].msg_hdr),
			0);
	return done;
}

static ssize_t sent_file(int to, ssize_t n)
{
	olly_io(to, OLLY_SEND, n, 0, NULL, 0, OLLY_IO_NO_BUFFER);
	return n;
}

EXPORT ssize_t sendfile(int to, int from, off_t *at, size_t size)
{
	olly_before_send(to);
	return sent_file(to, olly_real.sendfile
				     ? olly_real.sendfile(to, from, at, size)
				     : olly_result(sys(SYS_sendfile, to, from, at, size)));
}

EXPORT ssize_t sendfile64(int to, int from, off_t *at, size_t size)
{
	olly_before_send(to);
	return sent_file(to, olly_real.sendfile64
				     ? olly_real.sendfile64(to, from, at, size)
				     : olly_result(sys(SYS_sendfile, to, from, at, size)));
}

EXPORT ssize_t splice(int from, off_t *from_at, int to, off_t *to_at, size_t size, unsigned flags)
{
	ssize_t n;

	olly_before_send(to);
	n = olly_real.splice ? olly_real.splice(from, from_at, to, to_at, size, flags)
			     : olly_result(sys(SYS_splice, from, from_at, to, to_at, size, flags));

	olly_io(from, OLLY_RECV, n, size, NULL, 0, OLLY_IO_NO_BUFFER);
	olly_io(to, OLLY_SEND, n, 0, NULL, 0, OLLY_IO_NO_BUFFER);
	return n;
}
