/* Hooks of calls that only macOS has, or has in its own way. Builds; never run. */
#include "hooks.h"

#include <errno.h>
#include <sys/types.h>
#include <sys/uio.h>

/* `size`: what to send, then what was sent, headers and trailers included, also of an error. */
HOOK(int, sendfile, int from, int to, off_t at, off_t *size, struct sf_hdtr *around, int flags)
{
	int result;

	olly_before_send(to);
	result = sendfile(from, to, at, size, around, flags);
	/* what `size` points to was looked at by the kernel when it says these */
	if (result == 0 || errno == EAGAIN || errno == EINTR)
		olly_io(to, OLLY_SEND, (long)*size, 0, NULL, 0, OLLY_IO_NO_BUFFER);
	return result;
}

HOOK(int, connectx, int fd, const sa_endpoints_t *ends, sae_associd_t association, unsigned flags,
     const struct iovec *iov, unsigned count, size_t *moved, sae_connid_t *connection)
{
	u64 sock;
	const bool tell = olly_connecting(fd, &sock);
	const int result = connectx(fd, ends, association, flags, iov, count, moved, connection);

	if (tell)
		olly_connect_ended(fd, sock, result == 0 ? 0 : errno);
	if (result == 0 && moved && *moved > 0)
		olly_io(fd, OLLY_SEND, (long)*moved, 0, iov, count, 0);
	return result;
}
