/*
 * HTTP/1 requests through OpenSSL in every way in which a write can be taken, refused and tried
 * again. Says what each call gave, and at the end of each connection what the server got.
 *
 *   tls_inject CERT KEY
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GET "GET /a HTTP/1.1\r\nHost: harm.test\r\nAccept: */*\r\n\r\n"
#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
static const char get[] = GET;
#define N ((int)sizeof(get) - 1)

static SSL_CTX *contexts[2];
static SSL *client, *server;
static char got[1 << 20];
static size_t got_size;
static char big[60000];

/* Both ends, and between them a pipe that holds 600 bytes. */
static void open_pair(long mode, int shake)
{
	BIO *a, *b;
	int done[2] = {0, 0};

	client = SSL_new(contexts[0]);
	server = SSL_new(contexts[1]);
	BIO_new_bio_pair(&a, 600, &b, 600);
	SSL_set_bio(client, a, a);
	SSL_set_bio(server, b, b);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	SSL_clear_mode(client, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_set_mode(client, mode);
	got_size = 0;
	while (shake && (done[0] != 1 || done[1] != 1)) {
		done[0] = SSL_do_handshake(client);
		done[1] = SSL_do_handshake(server);
	}
}

static void pump(void)
{
	int n;

	while ((n = SSL_read(server, got + got_size, (int)(sizeof(got) - got_size))) > 0)
		got_size += (size_t)n;
	ERR_clear_error();
}

static void close_pair(const char *name)
{
	pump();
	printf("%s got %.*s\n", name, (int)got_size, got);
	SSL_free(client);
	SSL_free(server);
}

static void say(const char *what, int n)
{
	const int error = SSL_get_error(client, n);
	const unsigned long reason = ERR_peek_last_error();

	printf("%s = %d error %d reason %d\n", what, n, error, ERR_GET_REASON(reason));
	ERR_clear_error();
}

/* Tried again, after the reader has read, until it is done. How often does not matter. */
static int persist(const void *at, int n)
{
	int r;

	while ((r = SSL_write(client, at, n)) <= 0 &&
	       SSL_get_error(client, r) == SSL_ERROR_WANT_WRITE)
		pump();
	return r;
}

static void every(const char *at, int n)
{
	int done = 0, r = 1;

	while (done < n && (r = persist(at + done, n - done)) > 0)
		done += r;
	printf("in all %d, %s\n", done, r > 0 ? "well" : "badly");
}

static void requests(const char *name, long mode)
{
	char text[20000];
	size_t moved = 0;
	int n;

	open_pair(mode, 1);
	say("get", persist(get, N));
	pump();
	n = sprintf(text, "POST /b HTTP/1.1\r\nHost: harm.test\r\nContent-Length: 5000\r\n\r\n%.5000s", big);
	say("post", persist(text, n));
	pump();
	say("get", persist(get, N));
	pump();
	n = SSL_write_ex(client, get, N, &moved);
	printf("write_ex = %d moved %zu\n", n, n == 1 ? moved : 0);
	pump();
	say("nothing", SSL_write(client, get, 0));
	say("less", SSL_write(client, get, -1));
	say("own", persist("GET / HTTP/1.1\r\nHost: a\r\ntraceparent: " PARENT "\r\n\r\n", 97));
	pump();
	n = sprintf(text, "POST /c HTTP/1.1\r\nHost: harm.test\r\nContent-Length: 50000\r\n\r\n");
	say("head", persist(text, n));
	every(big, 50000);
	pump();
	say("get", persist(get, N));
	close_pair(name);
}

/* More than a record in one call: as it is. Then one that has room. */
static void large(const char *name, long mode)
{
	static char text[60000];
	int n = sprintf(text, "POST /b HTTP/1.1\r\nHost: harm.test\r\nContent-Length: 50000\r\n\r\n");

	memcpy(text + n, big, 50000);
	open_pair(mode, 1);
	every(text, n + 50000);
	every(get, N);
	close_pair(name);
}

/* Records so small that the header goes out in two. */
static void fragments(const char *name, long mode, int length)
{
	char text[4000];
	int n = sprintf(text, "GET /%.*s HTTP/1.1\r\nHost: a\r\nX: %.600s\r\n\r\n", length, big, big);

	open_pair(mode, 1);
	SSL_set_max_send_fragment(client, 512);
	every(text, n);
	every(get, N);
	close_pair(name);
}

/* What is tried again is not what was tried before. */
static void other(const char *name, long mode)
{
	char text[3000], copy[3000];
	int n = sprintf(text, "GET /%.2000s HTTP/1.1\r\nHost: harm.test\r\nAccept: */*\r\n\r\n", big);

	memcpy(copy, text, sizeof(text));
	copy[100] = '!';
	open_pair(mode, 1);
	say("first", SSL_write(client, text, n));
	say("shorter", SSL_write(client, text, n - 1));
	say("another", SSL_write(client, copy, n - 5));
	pump();
	say("the same", persist(text, n));
	close_pair(name);

	open_pair(mode, 1);
	copy[100] = text[100];
	say("first", SSL_write(client, text, n));
	say("elsewhere", SSL_write(client, copy, n));
	pump();
	if (mode & SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
		say("elsewhere", persist(copy, n));
	else
		say("the same", persist(text, n));
	pump();
	say("get", persist(get, N));
	close_pair(name);
}

static void in_handshake(void)
{
	int r, i;

	open_pair(0, 0);
	for (i = 0; i < 100 && (r = SSL_write(client, get, N)) <= 0; i++) {
		SSL_do_handshake(server);
		pump();
	}
	printf("in handshake %d\n", r);
	pump();
	say("get", persist(get, N));
	close_pair("handshake");
}

static void others(void)
{
	open_pair(0, 1);
	every("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	every(get, N);
	close_pair("http2");
	open_pair(0, 1);
	every("hello\r\n", 7);
	every(get, N);
	close_pair("garbage");
	open_pair(0, 1);
	every(get, 20);
	every(get + 20, N - 20);
	close_pair("in parts");
	open_pair(0, 1);
	every(GET GET, 2 * N);
	every(get, N);
	close_pair("pipelined");
}

int main(int argc, char **argv)
{
	const long modes[] = {0, SSL_MODE_ENABLE_PARTIAL_WRITE, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
			      SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER};
	char name[40];
	size_t i;
	int length;

	if (argc < 3)
		return 2;
	for (i = 0; i < sizeof(big); i++)
		big[i] = (char)('a' + i % 23);
	contexts[0] = SSL_CTX_new(TLS_client_method());
	contexts[1] = SSL_CTX_new(TLS_server_method());
	SSL_CTX_use_certificate_file(contexts[1], argv[1], SSL_FILETYPE_PEM);
	SSL_CTX_use_PrivateKey_file(contexts[1], argv[2], SSL_FILETYPE_PEM);
	for (i = 0; i < 4; i++) {
		sprintf(name, "mode %ld", modes[i]);
		requests(name, modes[i]);
		large(name, modes[i]);
		other(name, modes[i]);
		for (length = 380; length < 520; length += 7)
			fragments(name, modes[i], length);
	}
	in_handshake();
	others();
	return 0;
}
