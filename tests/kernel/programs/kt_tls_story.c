/*
 * kt_tls_story LIBSSL LIBCRYPTO STORY 1.2|1.3
 *
 * What happens rarely on TLS connections, told call by call: handshakes within the first call,
 * records that come in pieces, renegotiation, early data, nothing to read or write, one way closed,
 * an object that threads share. As in kt_tls, the truth's sockets are the ends' plaintext.
 *
 * A side is a thread of its own, its socket blocks unless a story says otherwise.
 */
#include "tls_end.h"

#include <pthread.h>
#include <semaphore.h>

enum { ALLOW_CLIENT_RENEGOTIATION = 1 << 8 }; /* of SSL_CTX_set_options */
enum { EARLY_ERROR, EARLY_SUCCESS, EARLY_FINISH };

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

/* --- whose hello was not seen, and whose bytes the program moves in an order of its own ---------- */

static struct {
	struct end clients[2], servers[2];
	sem_t sent, answered;
} crossed;

static void until_read(void)
{
	usleep(50000);
}

/* The ClientHello goes in pieces: as little is known of them as of connections that were there before. */
static void *clients(void *unused)
{
	(void)unused;
	for (int i = 0; i < 2; i++) {
		struct end *e = &crossed.clients[i];

		again(e, p_SSL_do_handshake(e->ssl));
		flush(e, 10, until_read);
		feed(e);
		shake(e);
		if (p_SSL_read(e->ssl, &(char){0}, 1) < 0) /* no ticket stays in the socket */
			p_ERR_clear_error();
	}
	for (int n = 0; n < 12; n++) {
		for (int i = 0; i < 2; i++)
			put(&crossed.clients[i], 1000, 0);
		sem_post(&crossed.sent);
		sem_wait(&crossed.answered);
		for (int i = 0; i < 2; i++)
			get(&crossed.clients[i], 300, 0);
	}
	return NULL;
}

/* Both sockets are read, and the library is called for the one that was read first. */
static void in_turn(void)
{
	pthread_t thread;

	sem_init(&crossed.sent, 0, 0);
	sem_init(&crossed.answered, 0, 0);
	for (int i = 0; i < 2; i++) {
		int fds[2];

		connect_ends(fds);
		make_end(&crossed.clients[i], CLIENT, fds[CLIENT], 1);
		make_end(&crossed.servers[i], SERVER, fds[SERVER], 1);
	}
	CHECK(!pthread_create(&thread, NULL, clients, NULL));
	for (int i = 0; i < 2; i++)
		shake(&crossed.servers[i]);
	for (int n = 0; n < 12; n++) {
		sem_wait(&crossed.sent);
		for (int i = 0; i < 2; i++)
			feed(&crossed.servers[i]);
		for (int i = 0; i < 2; i++)
			get(&crossed.servers[i], 1000, n & 1);
		for (int i = 0; i < 2; i++)
			put(&crossed.servers[i], 300, n & 1);
		sem_post(&crossed.answered);
	}
	CHECK(!pthread_join(thread, NULL));
	for (int i = 0; i < 2; i++) {
		drop_end(&crossed.clients[i]);
		drop_end(&crossed.servers[i]);
	}
}

/* --- which ------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*tell)(void);
} kStories[] = {
	{"first_calls", first_calls}, {"pieces", in_pieces},	 {"renegotiation", renegotiations},
	{"nothing", nothing},	      {"early_data", early_data}, {"shutdown", shutdowns},
	{"threads", threads},	      {"crossed", in_turn},
};

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	if (!open_library(argv[1], argv[2]))
		return 0;
	context = make_context(!strcmp(argv[4], "1.3") ? 0x304 : 0x303, 0);
	if (p_SSL_CTX_set_options)
		p_SSL_CTX_set_options(context, ALLOW_CLIENT_RENEGOTIATION);
	if (!p_SSL_write_early_data &&
	    (!strcmp(argv[3], "early_data") || !strcmp(argv[3], "renegotiation"))) {
		kt_line("skip this library has no %s of this kind", argv[3]);
		return 0;
	}
	kt_pause("loaded"); /* until whoever observes has seen the library */
	for (size_t n = 0; n < sizeof(kStories) / sizeof(kStories[0]); n++) {
		if (strcmp(argv[3], kStories[n].name))
			continue;
		kStories[n].tell();
		return 0;
	}
	return 2;
}
