/*
 * Every call of OpenSSL that libolly.so hooks, over sockets, memory BIOs and BIOs of the program's
 * own, in the ways in which they succeed and fail; each says its result, errno, the library's queue
 * of errors and what it moved. The same output with and without libolly.so is what is asked for.
 *
 *   tls_calls SCENARIO CERTIFICATE KEY
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "say.h"

static char **arguments;

/* SAY(session, call): the library's queue of errors is empty before it. */
#define SAY(ssl, call) SAY_WITH(#call, call, ERR_clear_error(), say_errors(ssl, said))

static void say_errors(SSL *ssl, long said)
{
	unsigned long first;

	if (ssl)
		printf(" error %d", SSL_get_error(ssl, (int)said));
	first = ERR_peek_error();
	printf(" queue %d:%d shutdown %d", ERR_GET_LIB(first), ERR_GET_REASON(first),
	       ssl ? SSL_get_shutdown(ssl) : 0);
}

static SSL_CTX *context(int server)
{
	SSL_CTX *c = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

	SSL_CTX_set_num_tickets(c, 0); /* no bytes that come when nobody asked */
	if (server && (SSL_CTX_use_certificate_chain_file(c, arguments[2]) != 1 ||
		       SSL_CTX_use_PrivateKey_file(c, arguments[3], SSL_FILETYPE_PEM) != 1)) {
		ERR_print_errors_fp(stderr);
		exit(3);
	}
	return c;
}

static void nonblocking(int fd, int on)
{
	fcntl(fd, F_SETFL, on ? O_NONBLOCK : 0);
}

/* A connected pair, shaken hands in one thread. */
static void tls_pair(SSL *ssl[2], int fd[2], int version)
{
	SSL_CTX *c = context(0), *s = context(1);
	int i;

	if (version)
		SSL_CTX_set_max_proto_version(c, version);
	tcp_pair(fd);
	ssl[0] = SSL_new(c);
	ssl[1] = SSL_new(s);
	SSL_CTX_free(c);
	SSL_CTX_free(s);
	SSL_set_tlsext_host_name(ssl[0], "harm.test");
	SSL_set_fd(ssl[0], fd[0]);
	SSL_set_fd(ssl[1], fd[1]);
	nonblocking(fd[0], 1);
	nonblocking(fd[1], 1);
	for (i = 0; i < 50; i++) {
		int a = i ? SSL_do_handshake(ssl[0]) : SSL_connect(ssl[0]);
		int b = i ? SSL_do_handshake(ssl[1]) : SSL_accept(ssl[1]);

		if (a == 1 && b == 1)
			break;
		usleep(1000);
	}
	printf("handshake %d %d %s\n", SSL_is_init_finished(ssl[0]), SSL_is_init_finished(ssl[1]),
	       SSL_get_version(ssl[0]));
	nonblocking(fd[0], 0);
	nonblocking(fd[1], 0);
	ERR_clear_error();
}

static void end(SSL *ssl[2], int fd[2])
{
	SSL_free(ssl[0]);
	SSL_free(ssl[1]);
	close(fd[0]);
	close(fd[1]);
}

static void moving(int version)
{
	SSL *ssl[2];
	int fd[2];
	size_t n = 777;

	tls_pair(ssl, fd, version);
	fill();
	SAY(ssl[0], SSL_write(ssl[0], buffer, 1000));
	SAY(ssl[1], SSL_peek(ssl[1], buffer, 100));
	SAY(ssl[1], SSL_read(ssl[1], buffer, 400));
	bytes(400);
	SAY(ssl[1], SSL_pending(ssl[1]));
	SAY(ssl[1], SSL_read_ex(ssl[1], buffer, 5000, &n));
	bytes(n);
	SAY(ssl[1], SSL_write_ex(ssl[1], buffer, 3000, &n));
	printf("  %zu\n", n);
	SAY(ssl[0], SSL_read_ex(ssl[0], buffer, 3000, &n));
	bytes(n);
	SAY(ssl[0], SSL_write_ex(ssl[0], buffer, 0, &n));
	nonblocking(fd[0], 1);
	SAY(ssl[0], SSL_read(ssl[0], buffer, 0));
	nonblocking(fd[0], 0);
	SAY(ssl[0], SSL_write(ssl[0], buffer, -1));
	SAY(ssl[0], SSL_read(ssl[0], buffer, -1));
	SAY(ssl[0], SSL_write(ssl[0], buffer, 60000));
	for (n = 0; n < 60000;) {
		int r = SSL_read(ssl[1], buffer + n, 25000);

		if (r <= 0)
			break;
		n += (size_t)r;
	}
	bytes(n);
	nonblocking(fd[0], 1);
	SAY(ssl[0], SSL_read(ssl[0], buffer, 10));
	SAY(ssl[0], SSL_read_ex(ssl[0], buffer, 10, &n));
	SAY(ssl[0], SSL_shutdown(ssl[0]));
	SAY(ssl[1], SSL_read(ssl[1], buffer, 10));
	SAY(ssl[1], SSL_read_ex(ssl[1], buffer, 10, &n));
	SAY(ssl[1], SSL_write(ssl[1], buffer, 10));
	SAY(ssl[1], SSL_shutdown(ssl[1]));
	SAY(ssl[0], SSL_shutdown(ssl[0]));
	SAY(ssl[0], SSL_write(ssl[0], buffer, 10));
	SAY(ssl[0], SSL_clear(ssl[0]));
	end(ssl, fd);
}

static void tls13(void)
{
	moving(0);
}

static void tls12(void)
{
	moving(TLS1_2_VERSION);
}

/* WANT_WRITE: the same call again, with the same buffer, is what OpenSSL asks for. */
static void retries(void)
{
	SSL *ssl[2];
	int fd[2], mode, small = 4096, r, wants = 0;
	long sent, got;

	for (mode = 0; mode < 2; mode++) {
		tls_pair(ssl, fd, 0);
		fill();
		nonblocking(fd[0], 1);
		nonblocking(fd[1], 1);
		setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		if (mode)
			SSL_set_mode(ssl[0], SSL_MODE_ENABLE_PARTIAL_WRITE |
						     SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
		sent = got = wants = 0;
		unsigned h = 2166136261u;
		static char in[30000];

		while (got < (long)sizeof(buffer)) {
			while (sent < (long)sizeof(buffer)) {
				int size = mode ? (int)(sizeof(buffer) - (size_t)sent) : 20000;

				r = SSL_write(ssl[0], buffer + sent, size);
				if (r <= 0)
					break;
				sent += r;
			}
			if (sent < (long)sizeof(buffer) &&
			    SSL_get_error(ssl[0], r) == SSL_ERROR_WANT_WRITE)
				wants++;
			while ((r = SSL_read(ssl[1], in, sizeof(in))) > 0) {
				int i;

				for (i = 0; i < r; i++)
					h = (h ^ (unsigned char)in[i]) * 16777619u;
				got += r;
			}
			if (SSL_get_error(ssl[1], r) != SSL_ERROR_WANT_READ)
				break;
		}
		printf("mode %d sent %ld got %ld hash %x wanted %d queue %lu\n", mode, sent, got, h,
		       wants > 0, ERR_peek_error());
		end(ssl, fd);
	}
}

static void memory(void)
{
	SSL_CTX *c = context(0), *s = context(1);
	SSL *ssl[2] = {SSL_new(c), SSL_new(s)};
	BIO *in[2], *out[2];
	int fd[2], i, side;
	size_t n;

	tcp_pair(fd);
	for (side = 0; side < 2; side++) {
		in[side] = BIO_new(BIO_s_mem());
		out[side] = BIO_new(BIO_s_mem());
		SSL_set_bio(ssl[side], in[side], out[side]);
		nonblocking(fd[side], 1);
	}
	SSL_set_connect_state(ssl[0]);
	SSL_set_accept_state(ssl[1]);
	fill();
	for (i = 0; i < 40; i++) {
		for (side = 0; side < 2; side++) {
			static char moved[40000];
			int r;
			ssize_t got;

			if (!SSL_is_init_finished(ssl[side]))
				SAY(ssl[side], SSL_do_handshake(ssl[side]));
			else if (i == 10)
				SAY(ssl[side], SSL_write_ex(ssl[side], buffer, 5000, &n));
			else if (i > 10 && i < 15)
				SAY(ssl[side], SSL_read(ssl[side], buffer, 2000));
			else if (i == 20)
				SAY(ssl[side], SSL_shutdown(ssl[side]));
			else if (i == 25)
				SAY(ssl[side], SSL_read(ssl[side], buffer, 2000));
			r = BIO_read(out[side], moved, sizeof(moved));
			if (r > 0 && send(fd[side], moved, (size_t)r, 0) != r)
				perror("send");
			usleep(500);
			got = recv(fd[!side], moved, sizeof(moved), 0);
			if (got > 0)
				BIO_write(in[!side], moved, (int)got);
		}
	}
	SSL_CTX_free(c);
	SSL_CTX_free(s);
	end(ssl, fd);
}

static void through_bio(void)
{
	SSL *ssl[2];
	int fd[2];
	BIO *b;

	tls_pair(ssl, fd, 0);
	b = BIO_new(BIO_f_ssl());
	BIO_set_ssl(b, ssl[0], BIO_NOCLOSE);
	fill();
	SAY(ssl[0], BIO_write(b, buffer, 500));
	SAY(ssl[1], SSL_read(ssl[1], buffer, 1000));
	SAY(ssl[1], SSL_write(ssl[1], buffer, 300));
	SAY(ssl[0], BIO_read(b, buffer, 1000));
	bytes(300);
	BIO_free(b);
	end(ssl, fd);
}

/* What is in the queue of errors and in errno before a call stays, where the call leaves it. */
static void errors(void)
{
	SSL *ssl[2];
	int fd[2];

	tls_pair(ssl, fd, 0);
	ERR_clear_error();
	ERR_put_error(ERR_LIB_USER, 0, 42, "x", 1);
	errno = 77;
	printf("%d", SSL_write(ssl[0], buffer, 10));
	printf(" errno %d queue %d\n", errno, ERR_GET_REASON(ERR_peek_error()));
	errno = 78;
	printf("%d", SSL_read(ssl[1], buffer, 10));
	printf(" errno %d queue %d\n", errno, ERR_GET_REASON(ERR_peek_error()));
	SAY(ssl[0], write(fd[0], "this is no record", 17));
	SAY(ssl[1], SSL_read(ssl[1], buffer, 100));
	SAY(ssl[1], SSL_read(ssl[1], buffer, 100));
	close(fd[0]);
	SAY(ssl[0], SSL_write(ssl[0], buffer, 10));
	fd[0] = -1;
	end(ssl, fd);
	tls_pair(ssl, fd, 0);
	close(fd[0]);
	SAY(ssl[1], SSL_read(ssl[1], buffer, 100)); /* an end without goodbye */
	signal(SIGPIPE, SIG_IGN);
	SAY(ssl[1], SSL_write(ssl[1], buffer, 100));
	fd[0] = -1;
	end(ssl, fd);
}

static int ticks;
static void on_alarm(int s)
{
	(void)s;
	ticks++;
}

static void *writer(void *ssl)
{
	usleep(250000);
	SSL_write(ssl, "late", 4);
	return NULL;
}

static void interrupted(void)
{
	struct sigaction a = {.sa_handler = on_alarm};
	struct itimerval t = {{0, 50000}, {0, 50000}}, none = {{0, 0}, {0, 0}};
	SSL *ssl[2];
	int fd[2];
	pthread_t thread;
	sigset_t set;

	tls_pair(ssl, fd, 0);
	sigaction(SIGALRM, &a, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_create(&thread, NULL, writer, ssl[0]);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
	SAY(ssl[1], SSL_read(ssl[1], buffer, 100));
	setitimer(ITIMER_REAL, &none, NULL);
	pthread_join(thread, NULL);
	printf("interrupted %d\n", ticks > 0);
	end(ssl, fd);
}

static void *exchange(void *number)
{
	SSL *ssl[2];
	int fd[2], i, bad = 0;
	char out[3000], in[3000];

	SSL_CTX *c = context(0), *s = context(1);
	tcp_pair(fd);
	ssl[0] = SSL_new(c);
	ssl[1] = SSL_new(s);
	SSL_set_fd(ssl[0], fd[0]);
	SSL_set_fd(ssl[1], fd[1]);
	nonblocking(fd[0], 1);
	nonblocking(fd[1], 1);
	SSL_set_connect_state(ssl[0]);
	SSL_set_accept_state(ssl[1]);
	for (i = 0; i < 500; i++) {
		int a = SSL_do_handshake(ssl[0]), b = SSL_do_handshake(ssl[1]);

		if (a == 1 && b == 1)
			break;
		usleep(500);
	}
	nonblocking(fd[0], 0);
	nonblocking(fd[1], 0);
	memset(out, (int)(long)number, sizeof(out));
	for (i = 0; i < 300; i++) {
		int n = 1 + i * 9, got = 0;

		if (SSL_write(ssl[0], out, n) != n)
			bad++;
		while (got < n) {
			int r = SSL_read(ssl[1], in, (int)sizeof(in));

			if (r <= 0) {
				bad++;
				break;
			}
			bad += in[0] != out[0];
			got += r;
		}
	}
	end(ssl, fd);
	SSL_CTX_free(c);
	SSL_CTX_free(s);
	return (void *)(long)bad;
}

static void threads(void)
{
	pthread_t t[8];
	void *bad;
	long i, sum = 0;

	for (i = 0; i < 8; i++)
		pthread_create(&t[i], NULL, exchange, (void *)i);
	for (i = 0; i < 8; i++) {
		pthread_join(t[i], &bad);
		sum += (long)bad;
	}
	printf("bad %ld\n", sum);
}

static void forked(void)
{
	SSL *ssl[2];
	int fd[2], status;
	pid_t child;

	tls_pair(ssl, fd, 0);
	child = fork();
	if (child == 0) {
		_exit(SSL_write(ssl[0], "from the child", 14) == 14 ? 0 : 1);
	}
	waitpid(child, &status, 0);
	printf("child %d\n", status);
	SAY(ssl[1], SSL_read(ssl[1], buffer, 100));
	bytes(14);
	end(ssl, fd);
}

/* Data in the client's first flight of a resumed session, and the server's answer before its end. */
static void early(void)
{
	SSL_CTX *c = SSL_CTX_new(TLS_client_method()), *s = context(1);
	SSL_SESSION *session = NULL;
	SSL *ssl[2];
	int fd[2], round, i, done;
	size_t n;

	SSL_CTX_set_num_tickets(s, 1);
	SSL_CTX_set_max_early_data(s, 16384);
	for (round = 0; round < 2; round++) {
		tcp_pair(fd);
		ssl[0] = SSL_new(c);
		ssl[1] = SSL_new(s);
		SSL_set_fd(ssl[0], fd[0]);
		SSL_set_fd(ssl[1], fd[1]);
		if (round) {
			SSL_set_session(ssl[0], session);
			SSL_set_connect_state(ssl[0]);
			SSL_set_accept_state(ssl[1]);
			fill();
			SAY(ssl[0], SSL_write_early_data(ssl[0], buffer, 100, &n));
			SAY(ssl[0], SSL_write_early_data(ssl[0], buffer + 100, 4000, &n));
			/* 1: a part; 2: all of it, which is heard of after the handshake */
			SAY(ssl[1], SSL_read_early_data(ssl[1], buffer, 60, &n));
			bytes(n);
			SAY(ssl[1], SSL_read_early_data(ssl[1], buffer, 5000, &n));
			bytes(n);
			SAY(ssl[1], SSL_read_early_data(ssl[1], buffer, 5000, &n));
			bytes(n);
			SAY(ssl[1], SSL_write_early_data(ssl[1], "early answer", 12, &n));
		}
		nonblocking(fd[0], 1);
		nonblocking(fd[1], 1);
		for (i = done = 0; i < 50 && done != 3; i++) {
			if (round && !(done & 2) && SSL_read_early_data(ssl[1], buffer, 100, &n) == 2)
				done |= 4;
			done |= SSL_connect(ssl[0]) == 1 ? 1 : 0;
			if (!round || done & 4)
				done |= SSL_accept(ssl[1]) == 1 ? 2 : 0;
			if ((done & 3) == 3)
				break;
			usleep(1000);
		}
		nonblocking(fd[0], 0);
		nonblocking(fd[1], 0);
		ERR_clear_error();
		printf("handshake %d early %d\n", done, SSL_get_early_data_status(ssl[0]));
		SAY(ssl[1], SSL_write(ssl[1], "answer", 6));
		SAY(ssl[0], SSL_read(ssl[0], buffer, 100));
		bytes(6);
		if (round)
			SAY(ssl[0], SSL_read(ssl[0], buffer, 100));
		SAY(ssl[0], SSL_write(ssl[0], "more", 4));
		SAY(ssl[1], SSL_read(ssl[1], buffer, 100));
		bytes(4);
		if (!round) {
			session = SSL_get1_session(ssl[0]);
			/* else it may not be resumed */
			SSL_set_shutdown(ssl[0], SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
			SSL_set_shutdown(ssl[1], SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		}
		end(ssl, fd);
	}
	SSL_SESSION_free(session);
	SSL_CTX_free(c);
	SSL_CTX_free(s);
}

static struct {
	const char *name;
	void (*run)(void);
} scenarios[] = {
	{"tls13", tls13},     {"tls12", tls12},	  {"retries", retries},
	{"memory", memory},   {"errors", errors}, {"through_bio", through_bio},
	{"threads", threads}, {"forked", forked}, {"interrupted", interrupted}, {"early", early},
};

int main(int argc, char **argv)
{
	size_t i;

	arguments = argv;
	for (i = 0; argc > 3 && i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		if (strcmp(scenarios[i].name, argv[1]) == 0) {
			scenarios[i].run();
			return 0;
		}
	}
	return 2;
}
