/*
 * HTTP over TLS between two threads, by every function that reads and writes: SSL_read and SSL_read_ex,
 * SSL_write and SSL_write_ex, SSL_peek before them. The server shakes hands in its first read.
 *
 *   tls_variants CERTIFICATE KEY SEED    prints the path of each request
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 2, REQUESTS = 25, LARGEST = 40000 };

struct end {
	SSL *ssl;
	unsigned seed;
};

static int listener;
static SSL_CTX *server_context, *client_context;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static unsigned pick(struct end *e, unsigned below)
{
	return (unsigned)rand_r(&e->seed) % below;
}

static void get(struct end *e, char *to, size_t size)
{
	while (size) {
		size_t want = 1 + pick(e, (unsigned)size), got = 0;
		char aside[64];

		if (pick(e, 2))
			SSL_peek(e->ssl, aside, (int)(1 + pick(e, sizeof(aside))));
		if (pick(e, 2)) {
			int n = SSL_read(e->ssl, to, (int)want);

			got = n > 0 ? (size_t)n : 0;
		} else if (SSL_read_ex(e->ssl, to, want, &got) != 1) {
			got = 0;
		}
		if (!got)
			die("read");
		to += got;
		size -= got;
	}
}

static void put(struct end *e, const char *from, size_t size)
{
	while (size) {
		size_t part = 1 + pick(e, (unsigned)size), done = 0;

		if (pick(e, 2)) {
			int n = SSL_write(e->ssl, from, (int)part);

			done = n > 0 ? (size_t)n : 0;
		} else if (SSL_write_ex(e->ssl, from, part, &done) != 1) {
			done = 0;
		}
		if (!done)
			die("write");
		from += done;
		size -= done;
	}
}

/* A head and its body; the body's size. */
static size_t get_message(struct end *e, char *buffer)
{
	size_t at = 0, size;

	do
		get(e, buffer + at++, 1);
	while (at < 4 || memcmp(buffer + at - 4, "\r\n\r\n", 4));
	buffer[at] = 0;
	size = strtoul(strstr(buffer, "Content-Length: ") + 16, NULL, 10);
	if (size)
		get(e, buffer, size);
	return size;
}

static void *serve(void *unused)
{
	static char buffer[LARGEST + 1000];
	struct end e = {.seed = 77};

	(void)unused;
	for (int c = 0; c < CONNECTIONS; c++) {
		int fd = accept(listener, NULL, NULL);

		e.ssl = SSL_new(server_context);
		SSL_set_fd(e.ssl, fd);
		SSL_set_accept_state(e.ssl); /* the first read shakes hands */
		for (int n = 0; n < REQUESTS; n++) {
			size_t size = get_message(&e, buffer);
			int head = sprintf(buffer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);

			memset(buffer + head, 'y', size);
			put(&e, buffer, (size_t)head + size);
		}
		SSL_shutdown(e.ssl);
		SSL_free(e.ssl);
		close(fd);
	}
	return NULL;
}

static void ask(struct end *e, int connection, int n)
{
	static char buffer[LARGEST + 1000];
	size_t size = pick(e, 3) ? pick(e, 300) : pick(e, LARGEST);
	char path[64];
	int head;

	sprintf(path, "/size/%d-%d-%zu", connection, n, size);
	head = sprintf(buffer, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", path, size);
	memset(buffer + head, 'x', size);
	put(e, buffer, (size_t)head + size);
	if (get_message(e, buffer) != size)
		die("answer");
	puts(path);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(a);
	pthread_t server;
	struct end e = {.seed = argc == 4 ? (unsigned)atoi(argv[3]) : 0};

	server_context = SSL_CTX_new(TLS_server_method());
	client_context = SSL_CTX_new(TLS_client_method());
	if (argc != 4 || SSL_CTX_use_certificate_file(server_context, argv[1], SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(server_context, argv[2], SSL_FILETYPE_PEM) != 1)
		die("certificate");
	usleep(500000); /* whoever probes the library that was just loaded may take a while */
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&a, &length))
		die("listen");
	pthread_create(&server, NULL, serve, NULL);
	for (int c = 0; c < CONNECTIONS; c++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(fd, (struct sockaddr *)&a, sizeof(a)))
			die("connect");
		e.ssl = SSL_new(client_context);
		SSL_set_fd(e.ssl, fd);
		if (SSL_connect(e.ssl) != 1)
			die("handshake");
		for (int n = 0; n < REQUESTS; n++)
			ask(&e, c, n);
		SSL_shutdown(e.ssl);
		SSL_free(e.ssl);
		close(fd);
	}
	pthread_join(server, NULL);
	return 0;
}
