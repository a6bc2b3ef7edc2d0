#define _GNU_SOURCE
#include "truth.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* More than capture.max_bytes_per_call, so that the harness sees the limit at work. */
enum { kShown = 20000 };

void kt_die(const char *file, int line, const char *text)
{
	fprintf(stderr, "%s:%d: %s: %s\n", file, line, text, strerror(errno));
	exit(1);
}

uint64_t kt_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int kt_tid(void)
{
	return (int)syscall(SYS_gettid);
}

static void put_line(const char *text, size_t length)
{
	if (write(STDOUT_FILENO, text, length) != (ssize_t)length)
		DIE("write of the truth");
}

void kt_line(const char *format, ...)
{
	char text[1024];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text) - 1, format, args);
	va_end(args);
	CHECK(length > 0 && length < (int)sizeof(text) - 1);
	text[length++] = '\n';
	put_line(text, (size_t)length);
}

void kt_pause(const char *name)
{
	char byte;

	kt_line("pause %s", name);
	if (read(STDIN_FILENO, &byte, 1) != 1)
		DIE("the harness went away");
}

void kt_fill(void *data, size_t length, unsigned seed)
{
	unsigned char *bytes = data;
	uint32_t state = seed * 2654435761u + 12345u;

	for (size_t i = 0; i < length; i++) {
		state = state * 1664525u + 1013904223u;
		bytes[i] = (unsigned char)(state >> 24);
	}
}

void kt_moved(struct kt_socket *socket, int direction, const void *data, size_t length,
	      const char *flags, uint64_t t0)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *bytes = data;
	size_t shown = !data ? 0 : length < kShown ? length : kShown;
	char *text = malloc(512 + 2 * shown);
	uint64_t t1 = kt_now();
	int used;

	CHECK(text);
	used = snprintf(text, 512, "io %s %s %llu %zu %s %llu %llu %d %d ", socket->name,
			direction == SEND ? "send" : "recv",
			(unsigned long long)socket->pos[direction], length, flags,
			(unsigned long long)t0, (unsigned long long)t1, getpid(), kt_tid());
	CHECK(used > 0 && used < 512);
	if (!shown)
		text[used++] = '-';
	for (size_t i = 0; i < shown; i++) {
		text[used++] = digits[bytes[i] >> 4];
		text[used++] = digits[bytes[i] & 15];
	}
	text[used++] = '\n';
	put_line(text, (size_t)used);
	free(text);
	socket->pos[direction] += length;
}

void kt_none(uint64_t t0)
{
	kt_line("none %llu %llu %d", (unsigned long long)t0, (unsigned long long)kt_now(),
		kt_tid());
}

/* --- endpoints -----------------------------------------------------------------------------------
 */

static void unix_text(const struct sockaddr_un *address, socklen_t length, char *text, size_t size)
{
	size_t bytes = length > offsetof(struct sockaddr_un, sun_path)
			       ? length - offsetof(struct sockaddr_un, sun_path)
			       : 0;
	size_t used = 0;

	if (bytes && address->sun_path[0])
		bytes = strnlen(address->sun_path, bytes);
	if (!bytes) {
		snprintf(text, size, "-");
		return;
	}
	used += (size_t)snprintf(text, size, "path=");
	for (size_t i = 0; i < bytes; i++)
		used += (size_t)snprintf(text + used, size - used, "%02x",
					 (unsigned char)address->sun_path[i]);
}

static const char *endpoint(const struct sockaddr_storage *storage, socklen_t length, char *text,
			    size_t size)
{
	char ip[INET6_ADDRSTRLEN];

	if (storage->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)storage;

		inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip));
		snprintf(text, size, "%s:%u", ip, ntohs(in->sin_port));
		return "inet";
	}
	if (storage->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)storage;

		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
			inet_ntop(AF_INET, (const char *)&in6->sin6_addr + 12, ip, sizeof(ip));
			snprintf(text, size, "%s:%u", ip, ntohs(in6->sin6_port));
			return "inet";
		}
		inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
		snprintf(text, size, "[%s]:%u", ip, ntohs(in6->sin6_port));
		return "inet6";
	}
	unix_text((const struct sockaddr_un *)storage, length, text, size);
	return "unix";
}

void kt_describe(const struct kt_socket *socket, const char *role)
{
	struct sockaddr_storage address = {0};
	socklen_t length = sizeof(address);
	char local[300], remote[300];
	const char *family;

	CHECK(!getsockname(socket->fd, (struct sockaddr *)&address, &length));
	family = endpoint(&address, length, local, sizeof(local));
	memset(&address, 0, sizeof(address));
	length = sizeof(address);
	if (!getpeername(socket->fd, (struct sockaddr *)&address, &length))
		endpoint(&address, length, remote, sizeof(remote));
	else
		snprintf(remote, sizeof(remote), "-");
	kt_line("sock %s %s %s %s %s", socket->name, family, role, local, remote);
}

/* --- connections ---------------------------------------------------------------------------------
 */

static char unix_path[108];

static socklen_t listen_address(const char *family, struct sockaddr_storage *address)
{
	struct sockaddr_in *in = (struct sockaddr_in *)address;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
	struct sockaddr_un *un = (struct sockaddr_un *)address;
	int length;

	memset(address, 0, sizeof(*address));
	if (!strcmp(family, "inet")) {
		in->sin_family = AF_INET;
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof(*in);
	}
	if (!strcmp(family, "inet6") || !strcmp(family, "v4mapped")) {
		in6->sin6_family = AF_INET6;
		if (!strcmp(family, "inet6"))
			in6->sin6_addr = in6addr_loopback;
		else
			CHECK(inet_pton(AF_INET6, "::ffff:127.0.0.1", &in6->sin6_addr) == 1);
		return sizeof(*in6);
	}
	un->sun_family = AF_UNIX;
	if (!strcmp(family, "abstract")) {
		length = snprintf(un->sun_path + 1, sizeof(un->sun_path) - 1, "olly-test-%d",
				  getpid());
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
	}
	CHECK(!strcmp(family, "unix"));
	snprintf(unix_path, sizeof(unix_path), "/tmp/olly-test-%d.sock", getpid());
	unlink(unix_path);
	strcpy(un->sun_path, unix_path);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(unix_path) + 1);
}

int kt_listen(const char *family, int backlog)
{
	struct sockaddr_storage address;
	socklen_t length = listen_address(family, &address);
	int one = 1;
	int fd = socket(address.ss_family, SOCK_STREAM, 0);

	CHECK(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	CHECK(!bind(fd, (struct sockaddr *)&address, length));
	CHECK(!listen(fd, backlog));
	return fd;
}

void kt_connect(const char *family, int listener, struct kt_socket *client)
{
	struct sockaddr_storage address = {0};
	socklen_t length = sizeof(address);
	uint64_t t0, t1;

	CHECK(!getsockname(listener, (struct sockaddr *)&address, &length));
	client->fd = socket(address.ss_family, SOCK_STREAM, 0);
	CHECK(client->fd >= 0);
	client->pos[0] = client->pos[1] = 0;
	t0 = kt_now();
	CHECK(!connect(client->fd, (struct sockaddr *)&address, length));
	t1 = kt_now();
	kt_describe(client, "outbound");
	if (!strcmp(family, "unix") || !strcmp(family, "abstract"))
		return;
	kt_line("connect %s 0 %llu %llu %d %d", client->name, (unsigned long long)t0,
		(unsigned long long)t1, getpid(), kt_tid());
	kt_line("opened %s %llu %llu %d %d", client->name, (unsigned long long)t0,
		(unsigned long long)t1, getpid(), kt_tid());
}

void kt_accept(int listener, struct kt_socket *server)
{
	server->fd = accept(listener, NULL, NULL);
	CHECK(server->fd >= 0);
	server->pos[0] = server->pos[1] = 0;
	kt_describe(server, "inbound");
}

void kt_pair(const char *family, struct kt_socket *client, struct kt_socket *server)
{
	int one = 1;

	if (!strcmp(family, "socketpair")) {
		int fds[2];

		CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
		client->fd = fds[0];
		server->fd = fds[1];
		client->pos[0] = client->pos[1] = server->pos[0] = server->pos[1] = 0;
		kt_describe(client, "unknown");
		kt_describe(server, "unknown");
	} else {
		int listener = kt_listen(family, 8);

		kt_connect(family, listener, client);
		kt_accept(listener, server);
		close(listener);
		if (unix_path[0])
			unlink(unix_path);
		if (strstr(family, "inet") || !strcmp(family, "v4mapped")) {
			CHECK(!setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
			CHECK(!setsockopt(server->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)));
		}
	}
	kt_line("pair %s %s", client->name, server->name);
}

void kt_close(struct kt_socket *socket)
{
	uint64_t t0 = kt_now();

	CHECK(!close(socket->fd));
	kt_line("close %s %llu %llu %llu %llu", socket->name, (unsigned long long)socket->pos[RECV],
		(unsigned long long)socket->pos[SEND], (unsigned long long)t0,
		(unsigned long long)kt_now());
	socket->fd = -1;
}

/* --- plain calls ---------------------------------------------------------------------------------
 */

void kt_write(struct kt_socket *socket, const void *data, size_t length)
{
	uint64_t t0 = kt_now();

	CHECK(write(socket->fd, data, length) == (ssize_t)length);
	kt_moved(socket, SEND, data, length, "-", t0);
}

void kt_read(struct kt_socket *socket, void *data, size_t length)
{
	size_t have = 0;

	while (have < length) {
		uint64_t t0 = kt_now();
		ssize_t got = read(socket->fd, (char *)data + have, length - have);

		CHECK(got > 0);
		kt_moved(socket, RECV, (char *)data + have, (size_t)got, "-", t0);
		have += (size_t)got;
	}
}
