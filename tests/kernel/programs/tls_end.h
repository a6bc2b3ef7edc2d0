/*
 * An end of a TLS connection, and what it does call by call, with its truth.
 */
#ifndef OLLY_KERNEL_TEST_TLS_END_H
#define OLLY_KERNEL_TEST_TLS_END_H

#include "tls_library.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CLIENT, SERVER };

struct end {
	struct kt_socket plain; /* positions of the plaintext; its fd is the connection's */
	char name[32];
	void *ssl, *in, *out; /* in, out: where the program moves the ciphertext itself */
	int blocks;
	unsigned sent; /* to fill what is sent */
};

static void *context;
static unsigned number; /* of connections */

static void make_end(struct end *e, int side, int fd, int in_memory)
{
	memset(e, 0, sizeof(*e));
	snprintf(e->name, sizeof(e->name), "%s-%u", side == CLIENT ? "client" : "server", number);
	e->plain.name = e->name;
	e->plain.fd = fd;
	e->blocks = 1;
	kt_describe(&e->plain, "any");
	e->ssl = make_ssl(context, side == CLIENT, fd, in_memory ? &e->in : NULL, &e->out);
}

static void drop_end(struct end *e)
{
	p_SSL_free(e->ssl);
	close(e->plain.fd);
}

static void set_blocking(struct end *e, int blocks)
{
	CHECK(!fcntl(e->plain.fd, F_SETFL, blocks ? 0 : O_NONBLOCK));
	e->blocks = blocks;
}

/* The connection's two ends, on the next two descriptors. */
static void connect_ends(int fds[2])
{
	struct kt_socket a = {.name = "a"}, b = {.name = "b"};
	int listener = kt_listen("inet", 8);

	kt_connect("inet", listener, &a);
	kt_accept(listener, &b);
	close(listener);
	fds[CLIENT] = a.fd;
	fds[SERVER] = b.fd;
	number++;
}

/* What the library made; the first `cut` bytes, then `between`, then the rest. 0: in one piece. */
static void flush(struct end *e, size_t cut, void (*between)(void))
{
	static __thread unsigned char some[1 << 16];
	int n = e->out ? p_BIO_read(e->out, some, sizeof(some)) : 0;

	if (n <= 0)
		return;
	CHECK(cut < (size_t)n);
	if (cut) {
		CHECK(write(e->plain.fd, some, cut) == (ssize_t)cut);
		between();
	}
	CHECK(write(e->plain.fd, some + cut, (size_t)n - cut) == (ssize_t)((size_t)n - cut));
}

/* False: the peer has closed. */
static int feed(struct end *e)
{
	unsigned char some[1 << 14];
	ssize_t n;

	if (!e->in)
		return 1;
	n = read(e->plain.fd, some, sizeof(some));
	CHECK(n >= 0);
	CHECK(p_BIO_write(e->in, some, (int)n) == n);
	return n > 0;
}

static void again(struct end *e, int result)
{
	int error = p_SSL_get_error(e->ssl, result);

	CHECK(error == WANT_READ || error == WANT_WRITE);
	p_ERR_clear_error();
	if (!e->blocks)
		usleep(500);
}

static void shake(struct end *e)
{
	int result;

	while ((result = p_SSL_do_handshake(e->ssl)) != 1) {
		flush(e, 0, NULL);
		again(e, result);
		feed(e);
	}
	flush(e, 0, NULL);
}

/* One call that succeeds, with as many before it as it takes. `ex`: by the _ex form. */
static void put(struct end *e, size_t length, int ex)
{
	unsigned char *data = malloc(length + 1);
	size_t moved = 0;
	uint64_t t0;
	int result;

	CHECK(data);
	kt_fill(data, length, ++e->sent * 7919u + number * 31u + (unsigned)e->name[0]);
	do {
		t0 = kt_now();
		result = (ex ? p_SSL_write_ex : write_as_ex)(e->ssl, data, length, &moved);
		if (result <= 0) {
			flush(e, 0, NULL);
			again(e, result);
			feed(e);
		}
	} while (result <= 0);
	CHECK(moved == length);
	kt_moved(&e->plain, SEND, data, moved, "-", t0);
	flush(e, 0, NULL);
	free(data);
}

/* One call that brings at most so much. 0: the peer says no more. */
static size_t get_some(struct end *e, size_t most, int ex)
{
	unsigned char *to = malloc(most);
	size_t moved = 0;
	uint64_t t0;
	int result;

	CHECK(to);
	for (;;) {
		t0 = kt_now();
		result = (ex ? p_SSL_read_ex : read_as_ex)(e->ssl, to, most, &moved);
		if (result > 0)
			break;
		if (p_SSL_get_error(e->ssl, result) == ZERO_RETURN) {
			free(to);
			return 0;
		}
		flush(e, 0, NULL);
		again(e, result);
		feed(e);
	}
	kt_moved(&e->plain, RECV, to, moved, "-", t0);
	flush(e, 0, NULL);
	free(to);
	return moved;
}

static void get(struct end *e, size_t length, int ex)
{
	while (length) {
		size_t n = get_some(e, length, ex);

		CHECK(n);
		length -= n;
	}
}

#endif
