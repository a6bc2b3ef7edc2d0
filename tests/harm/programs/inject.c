/*
 * HTTP/1 requests sent in every way: each call says its result and errno. The same output with and
 * without header injection, and the same bytes at the other end but for one field a request, is
 * what the harm suite asks for.
 *
 *   inject SCENARIO PORT
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "say.h"

#define SAY(call) SAY_WITH(#call, call, (void)0, (void)0)

#define GET "GET /a HTTP/1.1\r\nHost: harm.test\r\nAccept: */*\r\n\r\n"
#define POST(more) "POST /b HTTP/1.1\r\nHost: harm.test\r\n" more "\r\n\r\n"
#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
static const char get[] = GET;
#define N (sizeof(get) - 1)

static int port;
static char big[400000];

/* Everything has been taken by the other end: sends are independent of each other. */
static void settle(int fd)
{
	int left = 1, tries;

	for (tries = 0; tries < 2000 && ioctl(fd, SIOCOUTQ, &left) == 0 && left; tries++)
		usleep(1000);
}

static int connected(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
		perror("connect");
		exit(3);
	}
	return fd;
}

/* Until all are sent, as programs do on a socket that does not block. */
static void all(int fd, const char *at, size_t n)
{
	while (n) {
		ssize_t r = write(fd, at, n);

		if (r < 0 && (errno == EAGAIN || errno == EINTR)) {
			struct pollfd p = {fd, POLLOUT, 0};

			poll(&p, 1, 1000);
			continue;
		}
		if (r <= 0 || (size_t)r > n) {
			printf("write of %zu gave %zd errno %d\n", n, r, errno);
			exit(4);
		}
		at += r;
		n -= (size_t)r;
	}
}

static void plain(void)
{
	int fd = connected();

	SAY(write(fd, get, N));
	settle(fd);
	SAY(send(fd, get, N, MSG_NOSIGNAL));
	settle(fd);
	SAY(sendto(fd, get, N, MSG_DONTWAIT, NULL, 0));
	settle(fd);
	SAY(write(fd, "GET / HTTP/1.0\r\n\r\n", 18));
	close(fd);
}

static void vectors(void)
{
	struct iovec v[3] = {{(char *)POST("Content-Length: 6"), 0}, {"abc", 3}, {"def", 3}};
	struct iovec one = {(char *)get, N};
	struct iovec many[40];
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 3}, g = {.msg_iov = &one, .msg_iovlen = 1};
	struct mmsghdr two[2] = {{.msg_hdr = g}, {.msg_hdr = g}};
	int fd = connected(), i;

	v[0].iov_len = strlen(v[0].iov_base);
	SAY(writev(fd, v, 3));
	settle(fd);
	SAY(sendmsg(fd, &m, 0));
	settle(fd);
	SAY(sendmmsg(fd, two, 2, 0));
	settle(fd);
	SAY(writev(fd, &one, 1));
	settle(fd);
	for (i = 0; i < 40; i++)
		many[i] = (struct iovec){"", 0};
	many[0] = one;
	SAY(writev(fd, many, 40));
	SAY(writev(fd, &one, -1));
	SAY(writev(fd, &one, 0));
	SAY(writev(fd, &one, 2000));
	close(fd);
}

static void bodies(void)
{
	static const char head[] = POST("Content-Length: 1000");
	static const char chunked[] = POST("Transfer-Encoding: chunked");
	int fd = connected(), file = memfd_create("body", 0);
	off_t at = 0;

	ftruncate(file, 1000);
	SAY(write(fd, head, sizeof(head) - 1));
	SAY(sendfile(fd, file, &at, 400));
	SAY(write(fd, big, 300));
	SAY(sendfile(fd, file, &at, 300));
	settle(fd);
	SAY(write(fd, get, N));
	settle(fd);
	SAY(write(fd, chunked, sizeof(chunked) - 1));
	SAY(write(fd, "6", 1));
	SAY(write(fd, "0;a=b\r\n" GET, 7 + N));
	SAY(write(fd, big, 0x60 - N));
	SAY(write(fd, "\r\n0\r\nX: y\r\n", 11));
	SAY(write(fd, "\r\n", 2));
	settle(fd);
	SAY(send(fd, get, N, MSG_MORE));
	settle(fd);
	SAY(write(fd, GET, N));
	close(fd);
}

static void own(void)
{
	static const char with[] = "GET / HTTP/1.1\r\nHost: a\r\nTRACEPARENT: " PARENT "\r\n\r\n";
	static const char b3[] = "GET / HTTP/1.1\r\nHost: a\r\nb3: 0\r\n\r\n";
	int fd = connected();

	SAY(write(fd, with, sizeof(with) - 1));
	settle(fd);
	SAY(write(fd, b3, sizeof(b3) - 1));
	settle(fd);
	SAY(write(fd, get, N));
	close(fd);
}

/* None of these gets a header. */
static void refused(void)
{
	static const char connect_[] = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n";
	static const char folded[] = "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n";
	int fd = connected();

	SAY(write(fd, GET GET, 2 * N)); /* pipelined */
	close(fd);
	fd = connected();
	SAY(write(fd, get, 20)); /* in parts */
	SAY(write(fd, get + 20, N - 20));
	settle(fd);
	SAY(write(fd, get, N));
	close(fd);
	fd = connected();
	SAY(write(fd, connect_, sizeof(connect_) - 1));
	settle(fd);
	SAY(write(fd, get, N)); /* in the tunnel */
	close(fd);
	fd = connected();
	SAY(write(fd, folded, sizeof(folded) - 1));
	settle(fd);
	SAY(write(fd, get, N));
	close(fd);
	fd = connected();
	SAY(write(fd, "\x16\x03\x01\x00\x05hello", 10));
	settle(fd);
	SAY(write(fd, get, N));
	close(fd);
	fd = connected();
	SAY(write(fd, "*1\r\n$4\r\nPING\r\n", 14));
	settle(fd);
	SAY(write(fd, get, N));
	close(fd);
	fd = connected();
	SAY(write(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24));
	settle(fd);
	SAY(write(fd, get, N));
	close(fd);
	fd = connected();
	SAY(write(fd, get, N - 2)); /* never ended */
	settle(fd);
	SAY(write(fd, "\r\n", 2));
	SAY(write(fd, "", 0));
	close(fd);
}

/* The first gets one, what follows cannot be told. */
static void upgrade(void)
{
	static const char up[] = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
				 "Upgrade: websocket\r\n\r\n";
	int fd = connected();

	SAY(write(fd, up, sizeof(up) - 1));
	settle(fd);
	SAY(write(fd, get, N));
	close(fd);
}

static void pointers(void)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *edge = page + 4096 - 20;
	struct iovec v[2] = {{(char *)get, 20}, {(void *)8, 100}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2}, *nowhere = (struct msghdr *)16;
	int fd = connected(), other = connected();

	munmap(page + 4096, 4096);
	memcpy(edge, get, 20);
	SAY(write(fd, (void *)8, 100));
	SAY(write(fd, NULL, 100));
	SAY(write(fd, get, 0));
	SAY(send(fd, (void *)8, 100, 0));
	SAY(writev(fd, (struct iovec *)8, 2));
#ifdef __GLIBC__ /* musl looks into it by itself */
	SAY(sendmsg(fd, nowhere, 0));
#endif
	m.msg_iov = (struct iovec *)8;
	SAY(sendmsg(fd, &m, 0));
	v[0].iov_base = (void *)8;
	m.msg_iov = v;
	SAY(sendmsg(fd, &m, 0));
	SAY(write(fd, get, N));
	settle(fd);
	SAY(write(fd, get, N));
	close(fd);
	SAY(write(other, edge, 100)); /* as much as there is, or nothing */
	close(other);
	SAY(write(other, get, N));
	SAY(send(-1, get, N, 0));
}

static volatile int handled;
static void on_signal(int s)
{
	(void)s;
	handled++;
}

static void ends(void)
{
	int fd = connected();

	signal(SIGPIPE, on_signal);
	shutdown(fd, SHUT_WR);
	SAY(write(fd, get, N));
	SAY(send(fd, get, N, MSG_NOSIGNAL));
	SAY(sendto(fd, get, N, 0, NULL, 0));
	printf("signals %d\n", handled);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	SAY(write(fd, get, N));
	SAY(send(fd, get, N, MSG_OOB));
	close(fd);
	fd = connected();
	SAY(send(fd, get, N, MSG_OOB));
	close(fd);
}

/* The smallest buffer, a reader that is slow, no blocking: partial writes all the way. */
static void tiny(void)
{
	char *text = malloc(sizeof(big) + 200);
	int one = 1, round;

	for (round = 0; round < 4; round++) {
		int fd = connected(), n = sprintf(text, POST("Content-Length: %zu"), sizeof(big));

		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &one, sizeof(one));
		if (round & 1)
			setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &one, sizeof(one));
		if (round < 2)
			fcntl(fd, F_SETFL, O_NONBLOCK);
		memcpy(text + n, big, sizeof(big));
		all(fd, text, (size_t)n + sizeof(big));
		settle(fd);
		all(fd, get, N);
		settle(fd);
		close(fd);
		printf("sent %zu\n", n + sizeof(big) + N);
	}
}

static void interrupted(void)
{
	struct sigaction a = {.sa_handler = on_signal}; /* no SA_RESTART */
	struct itimerval often = {{0, 1500}, {0, 1500}}, never = {{0, 0}, {0, 0}};
	char *text = malloc(sizeof(big) + 200);
	int fd = connected(), n = sprintf(text, POST("Content-Length: %zu"), sizeof(big));
	int size = 8192;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	memcpy(text + n, big, sizeof(big));
	sigaction(SIGALRM, &a, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	all(fd, text, (size_t)n + sizeof(big));
	setitimer(ITIMER_REAL, &never, NULL);
	settle(fd);
	SAY(write(fd, get, N));
	close(fd);
}

static void duplicates(void)
{
	int fd = connected(), other, third;

	SAY(write(fd, get, N));
	settle(fd);
	other = dup(fd);
	SAY(write(other, get, N));
	close(fd);
	settle(other);
	SAY(write(other, get, N));
	settle(other);
	third = connected();
	dup2(other, third);
	close(other);
	SAY(write(third, get, N));
	SAY(write(other, get, N));
	close(third);
}

/* Both use the connection: the child's gets one or none, as its attachment comes to pass. */
static void forked(void)
{
	int fd = connected(), status;
	pid_t child;

	SAY(write(fd, get, N));
	settle(fd);
	child = fork();
	if (child == 0) {
		SAY(write(fd, get, N));
		settle(fd);
		_exit(0);
	}
	waitpid(child, &status, 0);
	SAY(write(fd, get, N));
	settle(fd);
	close(fd);
	printf("child %d\n", status);
}

static void *twenty(void *unused)
{
	int fd = connected(), i;
	long sum = 0;

	(void)unused;
	for (i = 0; i < 20; i++) {
		sum += write(fd, get, N);
		settle(fd);
	}
	close(fd);
	return (void *)sum;
}

static int shared;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void *ten(void *unused)
{
	int i;

	(void)unused;
	for (i = 0; i < 10; i++) {
		pthread_mutex_lock(&mutex);
		if (write(shared, get, N) != N)
			abort();
		settle(shared);
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}

static void threads(void)
{
	pthread_t t[6];
	void *sum;
	int i;

	shared = connected();
	for (i = 0; i < 6; i++)
		pthread_create(&t[i], NULL, i < 4 ? twenty : ten, NULL);
	for (i = 0; i < 6; i++) {
		pthread_join(t[i], &sum);
		printf("%ld\n", (long)sum);
	}
	close(shared);
}

/* --- what short.c makes of it: the header goes out in part, and the rest by whatever comes next ---
 */

static size_t begun(int fd, const char *text, size_t n)
{
	ssize_t r = write(fd, text, n);

	if (r <= 0 || (size_t)r > n)
		exit(5);
	return (size_t)r;
}

/* An interrupted or full socket is asked again. */
#define AGAIN(call)                                                                                \
	({                                                                                         \
		ssize_t again_r;                                                                   \
		do                                                                                 \
			again_r = (call);                                                          \
		while (again_r < 0 && errno == EAGAIN);                                            \
		again_r;                                                                           \
	})

static void *from_thread(void *text)
{
	all(shared, text, strlen(text));
	return NULL;
}

static void rest(const char *how)
{
	char text[] = POST("Content-Length: 30") "0123456789abcdefghijABCDEFGHIJ";
	const size_t n = sizeof(text) - 1;
	int fd = connected(), file = memfd_create("rest", 0), status, pipes[2];
	size_t at = begun(fd, text, n);
	struct iovec v = {text + at, n - at};
	struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};
	pthread_t t;

	if (at == n) {
	} else if (!strcmp(how, "write")) {
	} else if (!strcmp(how, "nonblocking")) {
		fcntl(fd, F_SETFL, O_NONBLOCK);
	} else if (!strcmp(how, "writev")) {
		at += (size_t)AGAIN(writev(fd, &v, 1));
	} else if (!strcmp(how, "send")) {
		at += (size_t)AGAIN(send(fd, text + at, n - at, MSG_DONTWAIT));
	} else if (!strcmp(how, "sendmsg")) {
		at += (size_t)AGAIN(sendmsg(fd, &m.msg_hdr, 0));
	} else if (!strcmp(how, "sendmmsg")) {
		if (AGAIN(sendmmsg(fd, &m, 1, 0)) == 1)
			at += m.msg_len;
	} else if (!strcmp(how, "sendfile")) {
		write(file, text + at, n - at);
		lseek(file, 0, SEEK_SET);
		at += (size_t)AGAIN(sendfile(fd, file, NULL, n - at));
	} else if (!strcmp(how, "splice")) {
		pipe(pipes);
		write(pipes[1], text + at, n - at);
		at += (size_t)AGAIN(splice(pipes[0], NULL, fd, NULL, n - at, 0));
	} else if (!strcmp(how, "dup")) {
		int other = dup(fd);

		close(fd);
		fd = other;
	} else if (!strcmp(how, "thread")) {
		shared = fd;
		pthread_create(&t, NULL, from_thread, text + at);
		pthread_join(t, NULL);
		at = n;
	} else if (!strcmp(how, "fork")) {
		if (fork() == 0) {
			all(fd, text + at, n - at);
			_exit(0);
		}
		wait(&status);
		at = n;
	} else { /* close: what was not whole stays so */
		close(fd);
		return;
	}
	all(fd, text + at, n - at);
	settle(fd);
	if (strcmp(how, "fork")) {
		all(fd, get, N);
		settle(fd);
	}
	close(fd);
}

static const struct {
	const char *name;
	void (*run)(void);
} scenarios[] = {
	{"plain", plain},	{"vectors", vectors},	  {"bodies", bodies},
	{"own", own},		{"refused", refused},	  {"upgrade", upgrade},
	{"pointers", pointers}, {"ends", ends},		  {"tiny", tiny},
	{"interrupted", interrupted}, {"duplicates", duplicates}, {"forked", forked},
	{"threads", threads},
};

int main(int argc, char **argv)
{
	size_t i;

	if (argc < 3)
		return 2;
	port = atoi(argv[2]);
	for (i = 0; i < sizeof(big); i++)
		big[i] = (char)('a' + i % 23);
	if (!strncmp(argv[1], "rest-", 5)) {
		rest(argv[1] + 5);
		return 0;
	}
	for (i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		if (!strcmp(argv[1], scenarios[i].name)) {
			scenarios[i].run();
			return 0;
		}
	}
	return 2;
}
