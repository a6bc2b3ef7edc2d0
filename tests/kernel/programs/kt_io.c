/* Calls with a user buffer: kt_io CASE FAMILY */
#define _GNU_SOURCE
#include "truth.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct kt_socket client = {.name = "client"};
static struct kt_socket server = {.name = "server"};
static char out[1 << 20], in[1 << 20];

static void read_write(void)
{
	kt_write(&client, out, 5);
	kt_read(&server, in, 5);
	kt_write(&server, out, 300);
	kt_read(&client, in, 100); /* a part, then the rest */
	kt_read(&client, in, 200);
	kt_write(&client, out, 4000);
	kt_read(&server, in, 4000);
}

static void readv_writev(void)
{
	struct iovec w[3] = {{out, 10}, {out + 10, 20}, {out + 30, 70}};
	struct iovec r[2] = {{in, 33}, {in + 33, 200}};
	uint64_t t0 = kt_now();

	CHECK(writev(client.fd, w, 3) == 100);
	kt_moved(&client, SEND, out, 100, "-", t0);
	t0 = kt_now();
	CHECK(readv(server.fd, r, 2) == 100);
	kt_moved(&server, RECV, in, 100, "-", t0);
}

static void iovecs(void)
{
	char pieces[4][64];
	struct iovec w[12], r[3] = {{in, 0}, {in, 1}, {in + 1, 4096}};
	uint64_t t0;

	memset(w, 0, sizeof(w)); /* empty ones at both ends and between, NULL and not */
	for (int i = 0; i < 4; i++) {
		memcpy(pieces[i], out + 64 * i, 64);
		w[1 + 2 * i] = (struct iovec){pieces[i], 64};
		w[2 + 2 * i] = (struct iovec){pieces[i], 0};
	}
	t0 = kt_now();
	CHECK(writev(client.fd, w, 12) == 256);
	kt_moved(&client, SEND, out, 256, "-", t0);
	t0 = kt_now();
	CHECK(readv(server.fd, r, 3) == 256);
	kt_moved(&server, RECV, in, 256, "-", t0);
}

static void send_recv(void)
{
	uint64_t t0 = kt_now();

	CHECK(send(client.fd, out, 700, MSG_NOSIGNAL) == 700);
	kt_moved(&client, SEND, out, 700, "-", t0);
	t0 = kt_now();
	CHECK(recv(server.fd, in, 2000, 0) == 700);
	kt_moved(&server, RECV, in, 700, "-", t0);
	t0 = kt_now();
	CHECK(sendto(server.fd, out, 10, 0, NULL, 0) == 10);
	kt_moved(&server, SEND, out, 10, "-", t0);
	t0 = kt_now();
	CHECK(recvfrom(client.fd, in, 10, MSG_WAITALL, NULL, NULL) == 10);
	kt_moved(&client, RECV, in, 10, "-", t0);
}

static void sendmsg_recvmsg(void)
{
	struct iovec w[2] = {{out, 11}, {out + 11, 500}}, r[2] = {{in, 500}, {in + 500, 500}};
	struct msghdr m = {.msg_iov = w, .msg_iovlen = 2};
	uint64_t t0 = kt_now();

	CHECK(sendmsg(client.fd, &m, 0) == 511);
	kt_moved(&client, SEND, out, 511, "-", t0);
	m.msg_iov = r;
	t0 = kt_now();
	CHECK(recvmsg(server.fd, &m, 0) == 511);
	kt_moved(&server, RECV, in, 511, "-", t0);
}

static void mmsg(void)
{
	struct iovec w[3] = {{out, 40}, {out + 40, 60}, {out + 100, 300}};
	struct iovec r[2] = {{in, 100}, {in + 100, 1000}};
	struct mmsghdr m[3];
	uint64_t t0;

	memset(m, 0, sizeof(m));
	for (int i = 0; i < 3; i++)
		m[i].msg_hdr = (struct msghdr){.msg_iov = &w[i], .msg_iovlen = 1};
	t0 = kt_now();
	CHECK(sendmmsg(client.fd, m, 3, 0) == 3);
	/* Three moves in one window: the lines carry the window of the whole call. */
	kt_moved(&client, SEND, out, 40, "-", t0);
	kt_moved(&client, SEND, out + 40, 60, "-", t0);
	kt_moved(&client, SEND, out + 100, 300, "-", t0);
	memset(m, 0, sizeof(m));
	for (int i = 0; i < 2; i++)
		m[i].msg_hdr = (struct msghdr){.msg_iov = &r[i], .msg_iovlen = 1};
	t0 = kt_now();
	CHECK(recvmmsg(server.fd, m, 2, 0, NULL) == 2);
	CHECK(m[0].msg_len == 100 && m[1].msg_len == 300);
	kt_moved(&server, RECV, in, 100, "-", t0);
	kt_moved(&server, RECV, in + 100, 300, "-", t0);
}

static void large(void)
{
	size_t have = 0;
	int size = 4 << 20;
	uint64_t t0;

	CHECK(!setsockopt(client.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
	CHECK(!setsockopt(server.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)));
	t0 = kt_now();
	if (fork() == 0) { /* the reader */
		while (have < sizeof(in)) {
			uint64_t r0 = kt_now();
			ssize_t got = read(server.fd, in + have, sizeof(in) - have);

			CHECK(got > 0);
			kt_moved(&server, RECV, in + have, (size_t)got, "-", r0);
			have += (size_t)got;
		}
		_exit(0);
	}
	CHECK(write(client.fd, out, sizeof(out)) == sizeof(out));
	kt_moved(&client, SEND, out, sizeof(out), "-", t0);
	CHECK(wait(NULL) > 0);
	server.pos[RECV] = sizeof(in);
}

static void short_write(void)
{
	int size = 1;
	ssize_t sent, got;
	uint64_t t0;

	CHECK(!setsockopt(client.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
	CHECK(!fcntl(client.fd, F_SETFL, O_NONBLOCK));
	t0 = kt_now();
	sent = write(client.fd, out, sizeof(out));
	CHECK(sent > 0 && sent < (ssize_t)sizeof(out));
	kt_moved(&client, SEND, out, (size_t)sent, "-", t0);
	do { /* fill it up, then once more */
		t0 = kt_now();
		got = write(client.fd, out, 5000);
		if (got > 0)
			kt_moved(&client, SEND, out, (size_t)got, "-", t0);
	} while (got > 0);
	CHECK(errno == EAGAIN);
	kt_none(t0);
}

static void epipe(void)
{
	uint64_t t0;

	kt_write(&client, out, 10);
	CHECK(!shutdown(client.fd, SHUT_WR));
	signal(SIGPIPE, SIG_IGN);
	t0 = kt_now();
	CHECK(write(client.fd, out, 10) == -1 && errno == EPIPE);
	kt_none(t0);
	kt_read(&server, in, 10);
	t0 = kt_now();
	CHECK(read(server.fd, in, 10) == 0);
	kt_moved(&server, RECV, NULL, 0, "e", t0);
}

/* What the peer has sent takes its time on a busy host. */
static void arrives(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	CHECK(poll(&p, 1, 10000) == 1);
}

static void eagain(void)
{
	uint64_t t0;

	CHECK(!fcntl(server.fd, F_SETFL, O_NONBLOCK));
	t0 = kt_now();
	CHECK(read(server.fd, in, 10) == -1 && errno == EAGAIN);
	kt_none(t0);
	kt_write(&client, out, 10);
	arrives(server.fd);
	t0 = kt_now();
	CHECK(read(server.fd, in, 10) == 10);
	kt_moved(&server, RECV, in, 10, "n", t0);
	kt_write(&server, out, 20);
	arrives(client.fd);
	t0 = kt_now();
	CHECK(recv(client.fd, in, 100, MSG_DONTWAIT) == 20);
	kt_moved(&client, RECV, in, 20, "n", t0);
	t0 = kt_now();
	CHECK(recv(client.fd, in, 100, MSG_DONTWAIT) == -1 && errno == EAGAIN);
	kt_none(t0);
}

static void peek(void)
{
	uint64_t t0;

	kt_write(&client, out, 50);
	t0 = kt_now();
	CHECK(recv(server.fd, in, 20, MSG_PEEK) == 20);
	kt_none(t0);
	kt_read(&server, in, 30);
	t0 = kt_now();
	CHECK(recv(server.fd, in, 100, MSG_PEEK) == 20);
	kt_none(t0);
	kt_read(&server, in, 20);
}

static void zero(void)
{
	uint64_t t0;

	kt_write(&client, out, 7);
	t0 = kt_now();
	CHECK(write(client.fd, out, 0) == 0);
	kt_none(t0);
	t0 = kt_now();
	CHECK(read(server.fd, in, 0) == 0); /* no end of stream: nothing was asked for */
	kt_none(t0);
	t0 = kt_now();
	CHECK(recv(server.fd, in, 0, MSG_DONTWAIT) == 0 || errno == EAGAIN);
	kt_none(t0);
	kt_read(&server, in, 7);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {{"read_write", read_write},
		     {"readv_writev", readv_writev},
		     {"iovecs", iovecs},
		     {"send_recv", send_recv},
		     {"sendmsg_recvmsg", sendmsg_recvmsg},
		     {"mmsg", mmsg},
		     {"large", large},
		     {"short_write", short_write},
		     {"epipe", epipe},
		     {"eagain", eagain},
		     {"peek", peek},
		     {"zero", zero}};

	CHECK(argc == 3);
	kt_fill(out, sizeof(out), 7);
	kt_pair(argv[2], &client, &server);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (!strcmp(cases[i].name, argv[1])) {
			cases[i].run();
			kt_close(&client);
			kt_close(&server);
			return 0;
		}
	fprintf(stderr, "no case %s\n", argv[1]);
	return 2;
}
