/* platform.h by macOS' libSystem: what a socket is. Builds; never run. */
#include "darwin/keep.h"
#include "olly.h"

#include <fcntl.h>
#include <libproc.h>
#include <unistd.h>

extern int fcntl_only(int, int, ...) __asm("_fcntl$NOCANCEL");

enum platform_stream platform_stream_of(int fd)
{
	struct sockaddr_storage name;
	u32 length = sizeof(name);
	int type = 0;
	socklen_t size = sizeof(type);
	KEEP_ERRNO;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM ||
	    !platform_local_name(fd, &name, &length))
		return PLATFORM_NO_STREAM;
	switch (name.ss_family) {
	case AF_UNIX:
		return PLATFORM_UNIX;
	case AF_INET:
	case AF_INET6:
		return PLATFORM_TCP;
	}
	return PLATFORM_NO_STREAM;
}

/* Where the kernel keeps it, and which of those that were ever kept there it is. */
u64 platform_socket_id(int fd)
{
	struct socket_fdinfo info;
	u64 id;
	KEEP_ERRNO;

	if (proc_pidfdinfo(getpid(), fd, PROC_PIDFDSOCKETINFO, &info, sizeof(info)) !=
	    (int)sizeof(info))
		return 0;
	id = info.psi.soi_so;
	if (info.psi.soi_kind == SOCKINFO_TCP)
		id ^= info.psi.soi_proto.pri_tcp.tcpsi_ini.insi_gencnt * 0x9e3779b97f4a7c15ull;
	return id & ~(1ull << 63); /* which marks what is no socket's */
}

bool platform_nonblocking(int fd)
{
	KEEP_ERRNO;

	return (fcntl_only(fd, F_GETFL) & O_NONBLOCK) != 0;
}

/* What TCP_CONNECTION_INFO counts (retransmissions? the SYN?) could not be tried: not guessed. */
bool platform_tcp_positions(int fd, u8 *role, u64 pos[2])
{
	(void)fd;
	(void)role;
	(void)pos;
	return false;
}

bool platform_local_name(int fd, struct sockaddr_storage *name, u32 *length)
{
	KEEP_ERRNO;

	return getsockname(fd, (struct sockaddr *)name, length) == 0;
}

bool platform_peer_name(int fd, struct sockaddr_storage *name, u32 *length)
{
	KEEP_ERRNO;

	return getpeername(fd, (struct sockaddr *)name, length) == 0;
}
