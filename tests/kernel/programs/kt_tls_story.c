/*
 * kt_tls_story LIBSSL LIBCRYPTO STORY 1.2|1.3
 *
 * What happens rarely on TLS connections, told call by call: handshakes within the first call,
 * records that come in pieces, renegotiation, early data, nothing to read or write, one way closed,
 * an object that threads share. As in kt_tls, the truth's sockets are the ends' plaintext.
 *
 * A side is a thread of its own, its socket blocks unless a story says otherwise.
 */
#include "tls_library.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENT, SERVER };
enum { ALLOW_CLIENT_RENEGOTIATION = 1 << 8 }; /* of SSL_CTX_set_options */
enum { EARLY_ERROR, EARLY_SUCCESS, EARLY_FINISH };

struct end {
	struct kt_socket plain; /* positions of the plaintext; its fd is the connection's */
	char name[32];
	void *ssl, *in, *out; /* in, out: where the program moves the ciphertext itself */
	int blocks;
	unsigned sent; /* to fill what is sent */
};

static void *context;
static int version;
static unsigned number; /* of connections */

/* --- an end ------------------------------------------------------------------------------------ */

static void make_end(struct end *e, int side, int fd, int in_memory)
{
	memset(e, 0, sizeof(*e));
	snprintf(e->name, sizeof(e->name), "%s-%u", side == CLIENT ? "client" : "server", number);
	e->plain.name = e->name;
	e->plain.fd = fd;
	e->blocks = 1;
	e->ssl = p_SSL_new(context);
	CHECK(e->ssl);
	if (in_memory) {
		e->in = p_BIO_new(p_BIO_s_mem());
		e->out = p_BIO_new(p_BIO_s_mem());
		p_SSL_set_bio(e->ssl, e->in, e->out);
	} else {
		CHECK(p_SSL_set_fd(e->ssl, fd) == 1);
	}
	if (side == CLIENT)
		p_SSL_set_connect_state(e->ssl);
	else
		p_SSL_set_accept_state(e->ssl);
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
		if (ex) {
			result = p_SSL_write_ex(e->ssl, data, length, &moved);
		} else {
			result = p_SSL_write(e->ssl, data, (int)length);
			moved = result > 0 ? (size_t)result : 0;
		}
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
		if (ex) {
			result = p_SSL_read_ex(e->ssl, to, most, &moved);
		} else {
			result = p_SSL_read(e->ssl, to, (int)most);
			moved = result > 0 ? (size_t)result : 0;
		}
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

/* --- two sides, each a thread ------------------------------------------------------------------ */

typedef void side_story(struct end *e);

struct side {
	side_story *tell;
	struct end *end;
};

static void *run_side(void *argument)
{
	struct side *s = argument;

	s->tell(s->end);
	return NULL;
}

/* `memory`: which side moves its ciphertext itself, or -1. */
static void two_sides(side_story *client, side_story *server, int memory)
{
	struct end ends[2];
	struct side sides[2] = {{client, &ends[CLIENT]}, {server, &ends[SERVER]}};
	pthread_t thread;
	int fds[2];

	connect_ends(fds);
	for (int i = 0; i < 2; i++)
		make_end(&ends[i], i, fds[i], memory == i);
	CHECK(!pthread_create(&thread, NULL, run_side, &sides[SERVER]));
	run_side(&sides[CLIENT]);
	CHECK(!pthread_join(thread, NULL));
	drop_end(&ends[CLIENT]);
	drop_end(&ends[SERVER]);
}

static void ping(struct end *e)
{
	put(e, 1000, 0);
	get(e, 3000, 0);
	put(e, 20000, 1);
	get(e, 40000, 1);
}

static void pong(struct end *e)
{
	get(e, 1000, 1);
	put(e, 3000, 1);
	get(e, 20000, 0);
	put(e, 40000, 0);
}

/* The handshake is within the first call, which then moves bytes itself, on sockets that block. */
static void first_calls(void)
{
	for (int memory = -1; memory <= SERVER; memory++) {
		two_sides(ping, pong, memory);
		two_sides(pong, ping, memory);
	}
}

/* --- a record in pieces ------------------------------------------------------------------------ */

static struct {
	sem_t sent, seen; /* the first piece was sent; was read */
	size_t cut;
	int before;   /* the reader has written before */
	int blocks;   /* the reader's socket: all of it is one call */
	int elsewhere; /* the reader reads another socket between */
	int other[2];
} pieces;

static void wait_for_reader(void)
{
	sem_post(&pieces.sent);
	if (pieces.blocks)
		usleep(20000);
	else
		sem_wait(&pieces.seen);
}

static void put_pieces(struct end *e)
{
	static __thread unsigned char data[9000];

	shake(e);
	if (pieces.before)
		get(e, 100, 0);
	for (int n = 0; n < 2; n++) {
		uint64_t t0 = kt_now();

		kt_fill(data, sizeof(data), 77u + (unsigned)n);
		CHECK(p_SSL_write(e->ssl, data, sizeof(data)) == sizeof(data));
		kt_moved(&e->plain, SEND, data, sizeof(data), "-", t0);
		flush(e, pieces.cut, wait_for_reader);
	}
	get(e, 500, 0);
}

static void get_pieces(struct end *e)
{
	unsigned char byte;

	shake(e);
	set_blocking(e, pieces.blocks);
	if (pieces.before)
		put(e, 100, 0);
	for (int n = 0; n < 2; n++) {
		sem_wait(&pieces.sent);
		if (!pieces.blocks) {
			/* in which TLS 1.3 may also take up its tickets */
			for (int k = 0; k < 20; k++) {
				int result = p_SSL_read(e->ssl, &byte, 1);

				CHECK(result < 0);
				again(e, result);
			}
			if (pieces.elsewhere) {
				CHECK(write(pieces.other[0], "x", 1) == 1);
				CHECK(read(pieces.other[1], &byte, 1) == 1);
			}
			sem_post(&pieces.seen);
		}
		get(e, 4000, n);
		get(e, 5000, n);
	}
	put(e, 500, 0);
}

static void in_pieces(void)
{
	static const size_t kCuts[] = {3, 5, 6, 700};

	sem_init(&pieces.sent, 0, 0);
	sem_init(&pieces.seen, 0, 0);
	connect_ends(pieces.other);
	for (unsigned n = 0; n < 4 * 12; n++) {
		const unsigned how = n / 4 % 6;

		pieces.cut = kCuts[n % 4];
		pieces.before = how & 1;
		pieces.blocks = how / 2 == 0;
		pieces.elsewhere = how / 2 == 2;
		if (n / 24)
			two_sides(get_pieces, put_pieces, SERVER);
		else
			two_sides(put_pieces, get_pieces, CLIENT);
	}
}

/* --- a handshake in the middle ----------------------------------------------------------------- */

static int asks; /* who begins it */

/* The client's next write shakes hands first, the server's read takes part. */
static void asked_by_client(struct end *e, int client)
{
	if (client) {
		CHECK(p_SSL_renegotiate(e->ssl) == 1);
		put(e, 700, 0);
		get(e, 900, 0);
	} else {
		get(e, 700, 0);
		put(e, 900, 0);
	}
}

/* The server asks for it; both ends' reads do it. */
static void asked_by_server(struct end *e, int client)
{
	unsigned char byte;

	if (client) {
		get(e, 900, 0);
		return;
	}
	CHECK(p_SSL_renegotiate(e->ssl) == 1);
	CHECK(p_SSL_do_handshake(e->ssl) == 1);
	set_blocking(e, 0);
	while (p_SSL_renegotiate_pending(e->ssl)) {
		int result = p_SSL_read(e->ssl, &byte, 1);

		CHECK(result < 0);
		again(e, result);
	}
	set_blocking(e, 1);
	put(e, 900, 1);
}

static void ping_renegotiate(struct end *e)
{
	shake(e);
	ping(e);
	(asks == CLIENT ? asked_by_client : asked_by_server)(e, 1);
	ping(e);
	CHECK(p_SSL_ctrl(e->ssl, TOTAL_RENEGOTIATIONS, 0, NULL) == 1);
}

static void pong_renegotiate(struct end *e)
{
	shake(e);
	pong(e);
	(asks == CLIENT ? asked_by_client : asked_by_server)(e, 0);
	pong(e);
}

static void renegotiations(void)
{
	for (asks = CLIENT; asks <= SERVER; asks++)
		two_sides(ping_renegotiate, pong_renegotiate, -1);
}

/* --- nothing to read, nothing to write --------------------------------------------------------- */

static void zeros(struct end *e)
{
	const unsigned char none[1] = {0};
	size_t moved = 77;

	p_SSL_write(e->ssl, none, 0);
	p_ERR_clear_error();
	if (p_SSL_write_ex(e->ssl, none, 0, &moved) > 0)
		CHECK(moved == 0);
	p_ERR_clear_error();
}

static void zero_reads(struct end *e)
{
	unsigned char none[1];
	size_t moved = 77;

	p_SSL_read(e->ssl, none, 0);
	p_ERR_clear_error();
	if (p_SSL_read_ex(e->ssl, none, 0, &moved) > 0)
		CHECK(moved == 0);
	p_SSL_peek(e->ssl, none, 0);
	p_ERR_clear_error();
}

static void ping_zero(struct end *e)
{
	shake(e);
	zeros(e);
	put(e, 1000, 0);
	zeros(e);
	get(e, 10, 0);
	zero_reads(e);
	zeros(e);
	get(e, 2990, 1);
	put(e, 10, 1);
	get(e, 10, 0);
}

static void pong_zero(struct end *e)
{
	shake(e);
	get(e, 1000, 1);
	put(e, 3000, 1);
	zeros(e);
	get(e, 10, 0);
	zeros(e);
	put(e, 10, 0);
}

static void nothing(void)
{
	two_sides(ping_zero, pong_zero, -1);
}

/* --- early data -------------------------------------------------------------------------------- */

static void *session;

static void ping_for_session(struct end *e)
{
	shake(e);
	ping(e);
	session = p_SSL_get1_session(e->ssl);
	CHECK(session);
	p_SSL_shutdown(e->ssl);
}

static void pong_for_session(struct end *e)
{
	shake(e);
	pong(e);
	p_SSL_shutdown(e->ssl);
}

static void ping_early(struct end *e)
{
	static unsigned char data[5000];

	CHECK(p_SSL_set_session(e->ssl, session) == 1);
	for (int n = 0; n < 3; n++) {
		size_t moved = 0;
		uint64_t t0 = kt_now();

		kt_fill(data, sizeof(data), 13u + (unsigned)n);
		CHECK(p_SSL_write_early_data(e->ssl, data, sizeof(data), &moved) == 1);
		kt_moved(&e->plain, SEND, data, moved, "-", t0);
		flush(e, 0, NULL);
	}
	get(e, 2000, 0);
	ping(e);
}

static void pong_early(struct end *e)
{
	static unsigned char to[5000];

	for (;;) {
		size_t moved = 0;
		uint64_t t0 = kt_now();
		int result = p_SSL_read_early_data(e->ssl, to, sizeof(to), &moved);

		if (result == EARLY_ERROR) {
			again(e, result);
			feed(e);
			continue;
		}
		if (moved)
			kt_moved(&e->plain, RECV, to, moved, "-", t0);
		if (result == EARLY_FINISH)
			break;
		if (e->plain.pos[RECV] == 5000) { /* answered before the handshake's end */
			kt_fill(to, 2000, 99);
			t0 = kt_now();
			CHECK(p_SSL_write_early_data(e->ssl, to, 2000, &moved) == 1);
			kt_moved(&e->plain, SEND, to, moved, "-", t0);
			flush(e, 0, NULL);
		}
	}
	CHECK(e->plain.pos[RECV] == 15000); /* it was taken */
	pong(e);
}

static void early_data(void)
{
	CHECK(p_SSL_CTX_set_max_early_data(context, 1 << 16) == 1);
	two_sides(ping_for_session, pong_for_session, -1);
	two_sides(ping_early, pong_early, -1);
	two_sides(ping_for_session, pong_for_session, -1);
	two_sides(ping_early, pong_early, CLIENT);
}

/* --- one way is closed ------------------------------------------------------------------------- */

static void closes_first(struct end *e)
{
	shake(e);
	put(e, 1000, 0);
	get(e, 10, 0);
	CHECK(p_SSL_shutdown(e->ssl) == 0);
	get(e, 30000, 0); /* the other way goes on */
	CHECK(get_some(e, 100, 1) == 0);
	CHECK(p_SSL_shutdown(e->ssl) == 1);
}

static void closes_then(struct end *e)
{
	shake(e);
	get(e, 1000, 1);
	put(e, 10, 0);
	CHECK(get_some(e, 100, 0) == 0);
	CHECK(get_some(e, 100, 1) == 0);
	put(e, 30000, 1);
	CHECK(p_SSL_shutdown(e->ssl) == 1);
}

static void shutdowns(void)
{
	two_sides(closes_first, closes_then, -1);
	two_sides(closes_then, closes_first, -1);
}

/* --- an object of which several threads make use, one at a time -------------------------------- */

static void *one_turn(void *argument)
{
	struct end *e = argument;

	if (e->name[0] == 'c') {
		put(e, 2000, 0);
		get(e, 20000, 1);
	} else {
		get(e, 2000, 1);
		put(e, 20000, 0);
	}
	return NULL;
}

static void *shake_turn(void *argument)
{
	shake(argument);
	return NULL;
}

static void turns(struct end *e)
{
	pthread_t thread;

	if (e->name[0] == 'c') {
		CHECK(!pthread_create(&thread, NULL, shake_turn, e));
		CHECK(!pthread_join(thread, NULL));
	} else {
		shake(e);
	}
	for (int n = 0; n < 6; n++) {
		CHECK(!pthread_create(&thread, NULL, one_turn, e));
		CHECK(!pthread_join(thread, NULL));
		one_turn(e);
	}
}

static void threads(void)
{
	for (int memory = -1; memory <= SERVER; memory++)
		two_sides(turns, turns, memory);
}

/* --- which ------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*tell)(void);
} kStories[] = {
	{"first_calls", first_calls}, {"pieces", in_pieces},	 {"renegotiation", renegotiations},
	{"nothing", nothing},	      {"early_data", early_data}, {"shutdown", shutdowns},
	{"threads", threads},
};

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	if (!open_library(argv[1], argv[2]))
		return 0;
	version = !strcmp(argv[4], "1.3") ? 0x304 : 0x303;
	context = make_context(version, 0);
	if (p_SSL_CTX_set_options)
		p_SSL_CTX_set_options(context, ALLOW_CLIENT_RENEGOTIATION);
	kt_pause("loaded"); /* until whoever observes has seen the library */
	for (size_t n = 0; n < sizeof(kStories) / sizeof(kStories[0]); n++) {
		if (strcmp(argv[3], kStories[n].name))
			continue;
		kStories[n].tell();
		return 0;
	}
	return 2;
}
