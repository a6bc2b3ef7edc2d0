/*
 * HTTP/1 requests through GnuTLS: sockets that are full in the middle of them, both ways to go on,
 * corked ones, records so small that the header goes out in two. Says what was taken, and what came.
 *
 *   gnutls_inject CERTIFICATE KEY
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GET "GET /a HTTP/1.1\r\nHost: harm.test\r\nAccept: */*\r\n\r\n"
#define N (sizeof(GET) - 1)

static gnutls_certificate_credentials_t cred, none;
static gnutls_session_t s[2];
static int fd[2];
static char got[1 << 20], big[60000];
static size_t got_size;

static void *reader(void *unused)
{
	ssize_t n = gnutls_handshake(s[1]);

	(void)unused;
	while (n >= 0 && (n = gnutls_record_recv(s[1], got + got_size, sizeof(got) - got_size)) > 0) {
		got_size += (size_t)n;
		usleep(2000);
	}
	return NULL;
}

static pthread_t open_pair(int record)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0), small = 2048, i;
	pthread_t thread;

	setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	bind(listener, (struct sockaddr *)&a, sizeof(a));
	listen(listener, 8);
	getsockname(listener, (struct sockaddr *)&a, &length);
	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	connect(fd[0], (struct sockaddr *)&a, sizeof(a));
	fd[1] = accept(listener, NULL, NULL);
	close(listener);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	got_size = 0;
	for (i = 0; i < 2; i++) {
		gnutls_init(&s[i], i ? GNUTLS_SERVER : GNUTLS_CLIENT | GNUTLS_NONBLOCK);
		gnutls_priority_set_direct(s[i], "NORMAL", NULL);
		gnutls_credentials_set(s[i], GNUTLS_CRD_CERTIFICATE, i ? cred : none);
		gnutls_transport_set_int(s[i], fd[i]);
	}
	if (record)
		gnutls_record_set_max_size(s[0], (size_t)record);
	pthread_create(&thread, NULL, reader, NULL);
	while ((i = gnutls_handshake(s[0])) == GNUTLS_E_AGAIN)
		usleep(500);
	return thread;
}

/* `how` to go on: 0 as before, 1 with nothing. */
static ssize_t persist(const char *at, size_t n, int how)
{
	struct pollfd p = {fd[0], POLLOUT, 0};
	ssize_t r = gnutls_record_send(s[0], at, n);

	while (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED) {
		poll(&p, 1, 1000);
		r = how ? gnutls_record_send(s[0], NULL, 0) : gnutls_record_send(s[0], at, n);
	}
	return r;
}

static void every(const char *at, size_t n, int how)
{
	size_t done = 0;
	ssize_t r = 1;

	while (done < n && (r = persist(at + done, n - done, how)) > 0)
		done += (size_t)r;
	printf("sent %zu, %zd\n", done, r < 0 ? r : 0);
}

static void close_pair(pthread_t thread)
{
	while (gnutls_bye(s[0], GNUTLS_SHUT_WR) == GNUTLS_E_AGAIN)
		usleep(500);
	pthread_join(thread, NULL);
	printf("got %.*s\n", (int)got_size, got);
	gnutls_deinit(s[0]);
	gnutls_deinit(s[1]);
	close(fd[0]);
	close(fd[1]);
}

int main(int argc, char **argv)
{
	static char text[70000];
	pthread_t t;
	size_t i;
	int how, length;

	if (argc < 3)
		return 2;
	for (i = 0; i < sizeof(big); i++)
		big[i] = (char)('a' + i % 23);
	gnutls_certificate_allocate_credentials(&cred);
	gnutls_certificate_allocate_credentials(&none);
	gnutls_certificate_set_x509_key_file(cred, argv[1], argv[2], GNUTLS_X509_FMT_PEM);
	for (how = 0; how < 2; how++) {
		t = open_pair(0);
		every(GET, N, how);
		i = (size_t)sprintf(text, "POST /b HTTP/1.1\r\nHost: harm.test\r\nContent-Length: 12000\r\n\r\n");
		memcpy(text + i, big, 12000);
		every(text, i + 12000, how);
		every(GET, N, how);
		i = (size_t)sprintf(text, "POST /c HTTP/1.1\r\nHost: harm.test\r\nContent-Length: 50000\r\n\r\n");
		memcpy(text + i, big, 50000);
		every(text, i + 50000, how);
		every(GET, N, how);
		gnutls_record_cork(s[0]);
		every(GET, N, how);
		printf("uncork %d\n", gnutls_record_uncork(s[0], GNUTLS_RECORD_WAIT));
		every("no request", 10, how);
		every(GET, N, how);
		close_pair(t);
	}
	for (length = 380; length < 520; length += 23) {
		t = open_pair(512);
		i = (size_t)sprintf(text, "GET /%.*s HTTP/1.1\r\nHost: a\r\nX: %.600s\r\n\r\n", length, big, big);
		every(text, i, length & 1);
		every(GET, N, 0);
		close_pair(t);
	}
	return 0;
}
