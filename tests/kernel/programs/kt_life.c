/* Opening and closing: kt_life CASE FAMILY */
#define _GNU_SOURCE
#include "truth.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct kt_socket client = {.name = "client"};
static struct kt_socket server = {.name = "server"};
static char out[4096], in[4096];
static const char *family;

static void talk(void)
{
	kt_write(&client, out, 40);
	kt_read(&server, in, 40);
	kt_write(&server, out, 60);
	kt_read(&client, in, 60);
}

static void finish(void)
{
	kt_close(&client);
	kt_close(&server);
}

static void nonblocking(void)
{
	int listener = kt_listen(family, 8), error = 0;
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	uint64_t t0;
	int result;

	CHECK(!getsockname(listener, (struct sockaddr *)&address, &length));
	client.fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	t0 = kt_now();
	result = connect(client.fd, (struct sockaddr *)&address, length);
	CHECK(!result || errno == EINPROGRESS);
	kt_line("connect client 0 %llu %llu %d %d", (unsigned long long)t0,
		(unsigned long long)kt_now(), getpid(), kt_tid());
	if (result) {
		struct pollfd wait_for = {client.fd, POLLOUT, 0};

		CHECK(poll(&wait_for, 1, 5000) == 1);
		length = sizeof(error);
		CHECK(!getsockopt(client.fd, SOL_SOCKET, SO_ERROR, &error, &length) && !error);
	}
	kt_describe(&client, "outbound");
	kt_line("opened client %llu %llu %d %d", (unsigned long long)t0,
		(unsigned long long)kt_now(), getpid(), kt_tid());
	kt_accept(listener, &server);
	kt_line("pair client server");
	CHECK(!fcntl(client.fd, F_SETFL, 0));
	close(listener);
	talk();
	finish();
}

/* A port that nobody listens on: bound, never listened. */
static void refused(int nonblock)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	int holder = kt_listen(family, 1);
	uint64_t t0;
	int result, saved;

	CHECK(!getsockname(holder, (struct sockaddr *)&address, &length));
	close(holder);
	client.fd = socket(address.ss_family, SOCK_STREAM | (nonblock ? SOCK_NONBLOCK : 0), 0);
	t0 = kt_now();
	result = connect(client.fd, (struct sockaddr *)&address, length);
	saved = errno;
	CHECK(result == -1 && (saved == ECONNREFUSED || (nonblock && saved == EINPROGRESS)));
	if (saved == EINPROGRESS) {
		struct pollfd wait_for = {client.fd, POLLOUT, 0};

		CHECK(poll(&wait_for, 1, 5000) == 1);
	}
	kt_line("connect client 0 %llu %llu %d %d", (unsigned long long)t0,
		(unsigned long long)kt_now(), getpid(), kt_tid());
	kt_line("connect client %d %llu %llu %d %d", ECONNREFUSED, (unsigned long long)t0,
		(unsigned long long)kt_now(), getpid(), kt_tid());
	close(client.fd);
}

static void accepted(int how)
{
	int listener = kt_listen(family, 8);
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	kt_connect(family, listener, &client);
	if (how == 0)
		server.fd = accept(listener, (struct sockaddr *)&address, &length);
	else if (how == 1)
		server.fd = accept4(listener, (struct sockaddr *)&address, &length, SOCK_NONBLOCK);
	else
		server.fd = accept(listener, NULL, NULL);
	CHECK(server.fd >= 0);
	if (how == 1) {
		uint64_t t0 = kt_now();

		CHECK(read(server.fd, in, 10) == -1 && errno == EAGAIN);
		kt_none(t0);
		CHECK(!fcntl(server.fd, F_SETFL, 0));
	}
	kt_describe(&server, "inbound");
	kt_line("pair client server");
	close(listener);
	talk();
	finish();
}

static void shut(int how)
{
	uint64_t t0;

	kt_pair(family, &client, &server);
	kt_write(&client, out, 40);
	kt_write(&server, out, 4);
	CHECK(!shutdown(client.fd, how));
	kt_read(&server, in, 40);
	if (how != SHUT_RD) {
		t0 = kt_now();
		CHECK(read(server.fd, in, 10) == 0);
		kt_moved(&server, RECV, NULL, 0, "e", t0);
	}
	kt_read(&client, in, 4);
	t0 = kt_now();
	if (how != SHUT_WR) {
		CHECK(read(client.fd, in, 10) == 0);
		kt_moved(&client, RECV, NULL, 0, "e", t0);
	}
	finish();
}

/* The exit of the process closes what it has open. */
static void exit_open(void)
{
	uint64_t t0 = kt_now();
	int status;
	pid_t child = fork();

	CHECK(child >= 0);
	if (!child) {
		kt_pair(family, &client, &server);
		talk();
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child && !status);
	kt_line("close client 60 40 %llu %llu", (unsigned long long)t0,
		(unsigned long long)kt_now());
	kt_line("close server 40 60 %llu %llu", (unsigned long long)t0,
		(unsigned long long)kt_now());
}

/* What was open and half-way before the agent came; the harness starts it at the pause. */
static void met(void)
{
	kt_pair(family, &client, &server);
	CHECK(write(client.fd, out, 40) == 40);
	CHECK(read(server.fd, in, 40) == 40);
	CHECK(write(server.fd, out, 1000) == 1000);
	CHECK(read(client.fd, in, 600) == 600); /* 400 stay in the receive queue */
	client.pos[SEND] = server.pos[RECV] = 40;
	server.pos[SEND] = 1000;
	client.pos[RECV] = 600;
	kt_pause("met");
	kt_read(&client, in, 400);
	kt_write(&client, out, 70);
	kt_read(&server, in, 70);
	kt_write(&server, out, 80);
	kt_read(&client, in, 80);
	finish();
}

static volatile int reader;

static void *wait_for_bytes(void *nothing)
{
	reader = kt_tid();
	kt_read(&server, in, 70);
	return nothing;
}

static int asleep(int tid)
{
	char path[64], state = 0;
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	stat = fopen(path, "r");
	CHECK(stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1);
	fclose(stat);
	return state == 'S';
}

/* A read() that waits for bytes since before the agent came. */
static void waiting(void)
{
	pthread_t thread;

	kt_pair(family, &client, &server);
	CHECK(!pthread_create(&thread, NULL, wait_for_bytes, NULL));
	while (!reader || !asleep(reader))
		usleep(1000);
	kt_pause("waiting");
	kt_write(&client, out, 70);
	pthread_join(thread, NULL);
	kt_write(&server, out, 80);
	kt_read(&client, in, 80);
	finish();
}

/* Says "step" before each write, so that the harness can say its policy in between. */
static void steps(void)
{
	kt_pair(family, &client, &server);
	for (int i = 0; i < 4; i++) {
		if (i)
			kt_pause("step");
		kt_write(&client, out + 100 * i, 100);
		kt_read(&server, in, 100);
		kt_write(&server, out + 300 * i, 300);
		kt_read(&client, in, 300);
	}
	finish();
}

static void many(void)
{
	int listener = kt_listen(family, 8);

	kt_pause("many");
	for (int i = 0; i < 20000; i++) {
		struct sockaddr_storage address;
		socklen_t length = sizeof(address);
		struct linger reset = {1, 0}; /* no TIME_WAIT: the ports would run out */
		int a, b;

		CHECK(!getsockname(listener, (struct sockaddr *)&address, &length));
		a = socket(address.ss_family, SOCK_STREAM, 0);
		CHECK(a >= 0 && !connect(a, (struct sockaddr *)&address, length));
		b = accept(listener, NULL, NULL);
		CHECK(b >= 0);
		CHECK(write(a, out, 20) == 20 && read(b, in, 20) == 20);
		CHECK(!setsockopt(a, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)));
		close(a);
		close(b);
	}
	kt_line("done many");
}

/* Two processes and a fork of one of them, for selection by process. */
static void family_tree(void)
{
	kt_pair(family, &client, &server);
	kt_pause("excluded");
	talk();
	if (!fork()) {
		talk();
		_exit(0);
	}
	CHECK(wait(NULL) > 0);
	kt_line("done family_tree");
}

/* Talks to the harness's own listener: the agent's socket is the other end. */
static void to_agent(const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	uint64_t t0;

	address.sin_port = htons((uint16_t)atoi(port));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	client.fd = socket(AF_INET, SOCK_STREAM, 0);
	t0 = kt_now();
	CHECK(!connect(client.fd, (struct sockaddr *)&address, sizeof(address)));
	kt_line("opened client %llu %llu %d %d", (unsigned long long)t0,
		(unsigned long long)kt_now(), getpid(), kt_tid());
	kt_describe(&client, "outbound");
	kt_write(&client, out, 30);
	kt_read(&client, in, 50);
	kt_close(&client);
}

static void flood(void)
{
	kt_pair(family, &client, &server);
	kt_pause("flood");
	for (int i = 0; i < 3000; i++)
		CHECK(write(client.fd, out, 4000) == 4000 &&
		      recv(server.fd, in, 4000, MSG_WAITALL) == 4000);
	kt_line("done flood");
}

int main(int argc, char **argv)
{
	const char *name = argv[1];

	CHECK(argc == 3);
	family = argv[2];
	kt_fill(out, sizeof(out), 11);
	if (!strcmp(name, "nonblocking"))
		nonblocking();
	else if (!strcmp(name, "refused"))
		refused(0);
	else if (!strcmp(name, "refused_nonblocking"))
		refused(1);
	else if (!strcmp(name, "accept"))
		accepted(0);
	else if (!strcmp(name, "accept4"))
		accepted(1);
	else if (!strcmp(name, "accept_null"))
		accepted(2);
	else if (!strcmp(name, "shutdown_write"))
		shut(SHUT_WR);
	else if (!strcmp(name, "shutdown_read"))
		shut(SHUT_RD);
	else if (!strcmp(name, "shutdown_both"))
		shut(SHUT_RDWR);
	else if (!strcmp(name, "exit_open"))
		exit_open();
	else if (!strcmp(name, "met"))
		met();
	else if (!strcmp(name, "waiting"))
		waiting();
	else if (!strcmp(name, "steps"))
		steps();
	else if (!strcmp(name, "many"))
		many();
	else if (!strcmp(name, "family_tree"))
		family_tree();
	else if (!strcmp(name, "to_agent"))
		to_agent(argv[2]);
	else if (!strcmp(name, "flood"))
		flood();
	else
		return 2;
	return 0;
}
