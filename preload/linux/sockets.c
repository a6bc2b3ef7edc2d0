/* platform.h by Linux' system calls: what a socket is, and how far it has come. */
#define _GNU_SOURCE
#include "olly.h"
#include "linux/sys.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

/* <netinet/tcp.h> has these, and another tcp_info. */
#define TCP_ESTABLISHED 1
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_CLOSING 11

static int option(int fd, int name)
{
	int value = -1;
	u32 length = sizeof(value);

	return sys(SYS_getsockopt, fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

enum platform_stream platform_stream_of(int fd)
{
	int domain;

	if (option(fd, SO_TYPE) != SOCK_STREAM)
		return PLATFORM_NO_STREAM;
	domain = option(fd, SO_DOMAIN);
	if (domain == AF_UNIX)
		return PLATFORM_UNIX;
	if ((domain == AF_INET || domain == AF_INET6) && option(fd, SO_PROTOCOL) == IPPROTO_TCP)
		return PLATFORM_TCP;
	return PLATFORM_NO_STREAM;
}

/* The cookie, which the kernel gives it for life. */
u64 platform_socket_id(int fd)
{
	u64 cookie = 0;
	u32 length = sizeof(cookie);

	sys(SYS_getsockopt, fd, SOL_SOCKET, SO_COOKIE, &cookie, &length);
	return cookie;
}

bool platform_nonblocking(int fd)
{
	return (sys(SYS_fcntl, fd, F_GETFL) & O_NONBLOCK) != 0;
}

/* bytes_acked counts the SYN too, on the side that connected, which tells the sides apart. */
bool platform_tcp_positions(int fd, u8 *role, u64 pos[2])
{
	struct tcp_info info;
	u64 syn;
	int tries, unread = 0, unsent = 0;

	for (tries = 0; tries < 3; tries++) {
		u64 before = tries ? info.tcpi_bytes_received : ~0ull;
		u32 length = sizeof(info);

		if (sys(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
		    length < offsetof(struct tcp_info, tcpi_bytes_retrans) + 8)
			return false;
		if (before == info.tcpi_bytes_received)
			break;
		if (sys(SYS_ioctl, fd, FIONREAD, &unread) != 0 ||
		    sys(SYS_ioctl, fd, SIOCOUTQ, &unsent) != 0)
			return false;
	}
	pos[OLLY_RECV] = info.tcpi_bytes_received - (u64)unread;
	switch (info.tcpi_state) { /* the peer's FIN counts as a byte received */
	case TCP_CLOSE_WAIT:
	case TCP_LAST_ACK:
	case TCP_CLOSING:
		pos[OLLY_RECV]--;
	}
	syn = info.tcpi_bytes_acked + (u32)unsent - info.tcpi_notsent_bytes -
	      (info.tcpi_bytes_sent - info.tcpi_bytes_retrans);
	if (*role == OLLY_ROLE_UNKNOWN && syn <= 1)
		*role = syn ? OLLY_ROLE_OUTBOUND : OLLY_ROLE_INBOUND;
	pos[OLLY_SEND] = info.tcpi_bytes_acked - (*role == OLLY_ROLE_OUTBOUND) + (u32)unsent;
	return true;
}

/* The kernel asks for room once a segment: with nothing queued the first one finds it. */
bool platform_takes_whole(int fd, u64 position, u32 bytes)
{
	struct tcp_info info;
	u32 length = sizeof(info);

	return sys(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
	       length >= offsetof(struct tcp_info, tcpi_bytes_retrans) + 8 &&
	       info.tcpi_state == TCP_ESTABLISHED && info.tcpi_unacked == 0 &&
	       info.tcpi_notsent_bytes == 0 && info.tcpi_bytes_acked == position + 1 &&
	       info.tcpi_snd_mss >= bytes;
}

bool platform_local_name(int fd, struct sockaddr_storage *name, u32 *length)
{
	return sys(SYS_getsockname, fd, name, length) == 0;
}

bool platform_peer_name(int fd, struct sockaddr_storage *name, u32 *length)
{
	return sys(SYS_getpeername, fd, name, length) == 0;
}
