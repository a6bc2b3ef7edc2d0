/* One socket, several descriptors, processes or threads: kt_share CASE FAMILY */
#define _GNU_SOURCE
#include "truth.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static void moved_by_other(void)
{
	client.pos[SEND] += 40;
	server.pos[RECV] += 40;
	server.pos[SEND] += 60;
	client.pos[RECV] += 60;
}

static void duplicates(void)
{
	int old;

	kt_pair(family, &client, &server);
	talk();
	old = client.fd;
	client.fd = dup(old);
	CHECK(client.fd >= 0);
	talk();
	CHECK(dup2(client.fd, 200) == 200);
	close(old);
	close(client.fd);
	client.fd = 200; /* the socket lives on */
	talk();
}

static void forked(void)
{
	kt_pair(family, &client, &server);
	talk();
	if (!fork()) {
		talk();
		_exit(0);
	}
	CHECK(wait(NULL) > 0);
	moved_by_other();
	talk();
}

static void passed(void)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte = 'x';
	struct iovec iov = {&byte, 1};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	int carrier[2];

	memset(&control, 0, sizeof(control));
	/* Datagram, so that the carrier itself is no stream to be observed. */
	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, carrier));
	kt_pair(family, &client, &server);
	talk();
	if (!fork()) {
		struct cmsghdr *head;

		close(server.fd);
		CHECK(recvmsg(carrier[1], &message, 0) == 1);
		head = CMSG_FIRSTHDR(&message);
		CHECK(head && head->cmsg_type == SCM_RIGHTS);
		memcpy(&server.fd, CMSG_DATA(head), sizeof(int));
		talk();
		_exit(0);
	}
	{
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);

		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &server.fd, sizeof(int));
		CHECK(sendmsg(carrier[0], &message, 0) == 1);
	}
	CHECK(wait(NULL) > 0);
	moved_by_other();
	close(carrier[0]);
	close(carrier[1]);
}

/* The parent listens; two children accept from it, one connection each. */
static void prefork(void)
{
	static const char *names[] = {"server1", "server2"}, *clients[] = {"client1", "client2"};
	int listener = kt_listen(family, 8);

	for (int i = 0; i < 2; i++) {
		struct kt_socket outer = {.name = clients[i]};
		pid_t child = fork();

		if (!child) {
			server.name = names[i];
			kt_accept(listener, &server);
			kt_read(&server, in, 10 + (size_t)i);
			kt_write(&server, out, 20);
			kt_close(&server);
			_exit(0);
		}
		kt_connect(family, listener, &outer);
		kt_write(&outer, out, 10 + (size_t)i);
		kt_read(&outer, in, 20);
		CHECK(waitpid(child, NULL, 0) == child);
		kt_line("pair %s %s", clients[i], names[i]);
		kt_close(&outer);
	}
	close(listener);
}

/* Two threads write records of 64 bytes to one socket: a letter and a running number, repeated. */
static pthread_barrier_t barrier;

static void *writer(void *argument)
{
	char letter = *(char *)argument, record[65];

	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 2000; i++) {
		for (int j = 0; j < 8; j++)
			snprintf(record + 8 * j, 9, "%c%06d.", letter, i);
		CHECK(write(client.fd, record, 64) == 64);
	}
	return NULL;
}

static void *drain(void *argument)
{
	static char all[2 * 2000 * 64];
	size_t have = 0;

	(void)argument;
	while (have < sizeof(all)) {
		ssize_t got = read(server.fd, all + have, sizeof(all) - have);

		CHECK(got > 0);
		have += (size_t)got;
	}
	/* The order on the wire, as letters: one per record. */
	for (size_t at = 0; at < sizeof(all); at += 64 * 200) {
		char text[3000];
		size_t used = (size_t)snprintf(text, sizeof(text), "wire ");

		for (size_t i = 0; i < 200 * 64; i += 64)
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%.8s",
						 all + at + i);
		text[used++] = '\n';
		CHECK(write(STDOUT_FILENO, text, used) == (ssize_t)used);
	}
	return NULL;
}

static void threads(void)
{
	pthread_t ids[3];

	kt_pair(family, &client, &server);
	CHECK(!pthread_barrier_init(&barrier, NULL, 2));
	CHECK(!pthread_create(&ids[0], NULL, drain, NULL));
	CHECK(!pthread_create(&ids[1], NULL, writer, "a"));
	CHECK(!pthread_create(&ids[2], NULL, writer, "b"));
	for (int i = 0; i < 3; i++)
		pthread_join(ids[i], NULL);
}

/*
 * While a thread waits in read(), its descriptor is made that of another connection. Letters tell
 * whose bytes are whose: a those of the first one, b those of the second.
 */
static void *waiting(void *argument)
{
	(void)argument;
	pthread_barrier_wait(&barrier);
	CHECK(read(server.fd, in, sizeof(in)) == 30);
	return NULL;
}

static void replaced(void)
{
	struct kt_socket second = {.name = "second"}, other = {.name = "other"};
	pthread_t reader;

	kt_pair(family, &client, &server);
	kt_pair(family, &second, &other);
	memset(out, 'b', sizeof(out));
	kt_write(&second, out, 50);
	kt_read(&other, in, 50);
	CHECK(!pthread_barrier_init(&barrier, NULL, 2));
	CHECK(!pthread_create(&reader, NULL, waiting, NULL));
	pthread_barrier_wait(&barrier);
	usleep(200000); /* it waits */
	CHECK(dup2(other.fd, server.fd) == server.fd);
	memset(out, 'a', sizeof(out));
	kt_write(&client, out, 30);
	CHECK(!pthread_join(reader, NULL));
	memset(out, 'b', sizeof(out));
	kt_write(&second, out, 60);
	kt_read(&other, in, 60);
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	family = argv[2];
	kt_fill(out, sizeof(out), 5);
	if (!strcmp(argv[1], "dup"))
		duplicates();
	else if (!strcmp(argv[1], "fork"))
		forked();
	else if (!strcmp(argv[1], "scm_rights"))
		passed();
	else if (!strcmp(argv[1], "prefork")) {
		prefork();
		return 0;
	} else if (!strcmp(argv[1], "threads")) {
		threads();
		return 0;
	} else if (!strcmp(argv[1], "replaced")) {
		replaced();
		return 0;
	} else
		return 2;
	kt_close(&client);
	kt_close(&server);
	return 0;
}
