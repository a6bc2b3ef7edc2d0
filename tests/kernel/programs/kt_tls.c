/*
 * kt_tls LIBSSL LIBCRYPTO HOW VERSION SEED PAIRS CALLS THREADS [handshake]
 *
 * Both ends of TLS connections, which write and read what they like in sizes drawn from SEED, by
 * every variant of the library's calls. HOW: sockets (the library has them, non-blocking, with small
 * buffers: partial writes and retries), memory (the program moves the ciphertext, in an order of its
 * own). The truth's sockets are the ends' plaintext: "io" lines with plaintext positions.
 *
 * With a ninth argument the handshake is not asked for, but happens within the first calls.
 */
#include "tls_library.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 40000, WAITING = 1 << 18 };

static void *context;
static int in_memory, tls13, calls, pairs, own_handshake;
static unsigned seed0;

struct end {
	struct kt_socket plain; /* positions of the plaintext; its fd is the connection's */
	char name[32];
	void *ssl, *in, *out; /* memory: what goes in, what comes out */
	unsigned char *held;  /* a write that has to be tried again as it was */
	size_t held_size;
	int held_ex;
	unsigned char cipher[WAITING]; /* memory: came out, did not fit the socket */
	size_t waiting;
	unsigned sent; /* to fill what is sent */
};

static unsigned draw(unsigned *state, unsigned below)
{
	*state = *state * 1664525u + 1013904223u;
	return (unsigned)(((uint64_t)(*state >> 4) * below) >> 28);
}

static size_t size_of(unsigned *state)
{
	switch (draw(state, 6)) {
	case 0:
		return 1 + draw(state, 5);
	case 1:
		return 1 + draw(state, 300);
	case 2:
		return 16384 - 2 + draw(state, 5);
	default:
		return 1 + draw(state, MOST);
	}
}

/* What the library has for the socket. */
static void flush(struct end *e)
{
	for (;;) {
		ssize_t n;

		if (!e->waiting) {
			int got = p_BIO_read(e->out, e->cipher, sizeof(e->cipher));

			if (got <= 0)
				return;
			e->waiting = (size_t)got;
		}
		n = write(e->plain.fd, e->cipher, e->waiting);
		if (n < 0) {
			CHECK(errno == EAGAIN);
			return;
		}
		e->waiting -= (size_t)n;
		memmove(e->cipher, e->cipher + n, e->waiting);
	}
}

static void feed(struct end *e)
{
	unsigned char some[32768];
	ssize_t n = read(e->plain.fd, some, sizeof(some));

	if (n <= 0) {
		CHECK(n == 0 || errno == EAGAIN);
		return;
	}
	CHECK(p_BIO_write(e->in, some, (int)n) == n);
}

static void again(struct end *e, int result)
{
	int error = p_SSL_get_error(e->ssl, result);

	CHECK(error == WANT_READ || error == WANT_WRITE || error == ZERO_RETURN);
	p_ERR_clear_error();
}

static void make_end(struct end *e, const char *side, int thread, int number, int fd)
{
	snprintf(e->name, sizeof(e->name), "%s-%d-%d", side, thread, number);
	e->plain.name = e->name;
	e->plain.fd = fd;
	kt_describe(&e->plain, "any");
	e->ssl = make_ssl(context, side[0] == 'c', fd, in_memory ? &e->in : NULL, &e->out);
}

static void shake(struct end *client, struct end *server)
{
	int done[2] = {0, 0};
	struct end *both[2] = {client, server};

	while (!done[0] || !done[1]) {
		for (int i = 0; i < 2; i++) {
			int result;

			if (in_memory)
				feed(both[i]);
			result = p_SSL_do_handshake(both[i]->ssl);
			if (result == 1)
				done[i] = 1;
			else
				again(both[i], result);
			if (in_memory)
				flush(both[i]);
		}
	}
}

static void try_write(struct end *e, unsigned *state)
{
	size_t moved = 0;
	uint64_t t0;
	int result;

	if (!e->held) {
		e->held_size = size_of(state);
		e->held_ex = (int)draw(state, 2);
		e->held = malloc(e->held_size);
		CHECK(e->held);
		kt_fill(e->held, e->held_size, ++e->sent * 7919u + (unsigned)e->plain.fd);
	}
	t0 = kt_now();
	result = (e->held_ex ? p_SSL_write_ex : write_as_ex)(e->ssl, e->held, e->held_size, &moved);
	if (result <= 0) {
		again(e, result);
		return;
	}
	kt_moved(&e->plain, SEND, e->held, moved, "-", t0);
	free(e->held);
	e->held = NULL;
}

/* Whether anything came. */
static int try_read(struct end *e, unsigned *state)
{
	static __thread unsigned char to[MOST + 1];
	size_t want = size_of(state), moved = 0;
	int result, ex = (int)draw(state, 2);
	uint64_t t0;

	/* What is only looked at was not moved. */
	if (!draw(state, 4)) {
		result = (ex ? p_SSL_peek_ex : peek_as_ex)(e->ssl, to, want, &moved);
		if (result <= 0)
			again(e, result);
	}
	t0 = kt_now();
	result = (ex ? p_SSL_read_ex : read_as_ex)(e->ssl, to, want, &moved);
	if (result <= 0) {
		again(e, result);
		return 0;
	}
	kt_moved(&e->plain, RECV, to, moved, "-", t0);
	return 1;
}

static void act(struct end *e, unsigned *state)
{
	switch (draw(state, 9)) {
	case 0:
	case 1:
		if (!in_memory || p_BIO_ctrl_pending(e->out) < WAITING)
			try_write(e, state);
		break;
	case 2:
	case 3:
	case 4:
		try_read(e, state);
		break;
	case 5:
		if (tls13 && in_memory && !e->held && !draw(state, 8) &&
		    p_SSL_key_update(e->ssl, (int)draw(state, 2)) != 1)
			p_ERR_clear_error(); /* one is under way */
		break;
	default: /* the program's own order: sockets and library have nothing to do with each other */
		if (!in_memory)
			break;
		if (draw(state, 2))
			flush(e);
		else
			feed(e);
	}
}

static void *work(void *argument)
{
	const int thread = (int)(intptr_t)argument;
	unsigned state = seed0 + (unsigned)thread * 977u;
	struct end *ends = calloc((size_t)pairs * 2, sizeof(*ends));
	int quiet = 0;

	CHECK(ends);
	for (int i = 0; i < pairs; i++) {
		struct kt_socket a = {.name = "a"}, b = {.name = "b"};
		int listener = kt_listen("inet", 8), small = 4096;

		kt_connect("inet", listener, &a);
		kt_accept(listener, &b);
		close(listener);
		for (int k = 0; k < 2; k++) {
			int fd = k ? a.fd : b.fd;

			CHECK(!fcntl(fd, F_SETFL, O_NONBLOCK));
			if (!in_memory)
				setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		}
		make_end(&ends[2 * i], "client", thread, i, a.fd);
		make_end(&ends[2 * i + 1], "server", thread, i, b.fd);
		/* else: within the first read and write */
		if (!own_handshake)
			shake(&ends[2 * i], &ends[2 * i + 1]);
	}
	for (int n = 0; n < calls; n++)
		act(&ends[draw(&state, (unsigned)pairs * 2)], &state);
	/* What is under way arrives. */
	while (quiet < 50) {
		int moved = 0;

		for (int i = 0; i < pairs * 2; i++) {
			if (ends[i].held) {
				try_write(&ends[i], &state);
				moved = 1;
			}
			if (in_memory) {
				flush(&ends[i]);
				feed(&ends[i]);
				moved |= ends[i].waiting || p_BIO_ctrl_pending(ends[i].in);
			}
			while (try_read(&ends[i], &state))
				moved = 1;
		}
		quiet = moved ? 0 : quiet + 1;
	}
	for (int i = 0; i < pairs * 2; i++) {
		p_SSL_shutdown(ends[i].ssl);
		p_SSL_free(ends[i].ssl);
		close(ends[i].plain.fd);
	}
	free(ends);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[8];
	int count;

	if (argc < 9)
		return 2;
	if (!open_library(argv[1], argv[2]))
		return 0;
	in_memory = !strcmp(argv[3], "memory");
	tls13 = !strcmp(argv[4], "1.3");
	seed0 = (unsigned)atoi(argv[5]);
	pairs = atoi(argv[6]);
	calls = atoi(argv[7]);
	count = atoi(argv[8]);
	own_handshake = argc > 9;
	CHECK(count <= 8);
	/* Moving buffers, by the seed also partial writes and released buffers. */
	context = make_context(tls13 ? 0x304 : 0x303,
			       MOVING_BUFFER | (seed0 & 1 ? PARTIAL_WRITE : 0) |
				       (seed0 & 2 ? RELEASE_BUFFERS : 0));
	kt_pause("loaded"); /* until whoever observes has seen the library */
	for (int i = 1; i < count; i++)
		CHECK(!pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i));
	work(NULL);
	for (int i = 1; i < count; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
