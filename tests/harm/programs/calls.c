/*
 * Every call that libolly.so hooks, on descriptors of every kind, in the ways in which they succeed
 * and fail; each says its result, its errno and what it moved. The same output with and without the
 * library, whatever state the agent is in, is what the harm suite asks for.
 *
 *   calls SCENARIO       `calls list` names them
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __GLIBC__ /* musl has neither */
#define close_range(first, last, flags) syscall(SYS_close_range, first, last, flags)
#define closefrom(first) syscall(SYS_close_range, first, ~0u, 0)
#endif
#ifdef _SC_MINSIGSTKSZ
#define SMALLEST_SIGNAL_STACK sysconf(_SC_MINSIGSTKSZ)
#else
#define SMALLEST_SIGNAL_STACK 4096
#endif

extern char **environ;
static char buffer[200000];

/* SAY(call): what it gave. errno starts at 99, so that a call that sets it for nothing shows. */
#define SAY(call)                                                                                  \
	do {                                                                                       \
		errno = 99;                                                                        \
		long say_r = (long)(call);                                                         \
		int say_e = errno;                                                                 \
		printf("%s = %ld errno %d\n", #call, say_r, say_e);                                \
		fflush(stdout);                                                                    \
	} while (0)

static unsigned hash(const char *p, size_t n)
{
	unsigned h = 2166136261u;

	while (n--)
		h = (h ^ (unsigned char)*p++) * 16777619u;
	return h;
}

static void bytes(size_t n)
{
	printf("  bytes %zu hash %x\n", n, hash(buffer, n));
}

static void tcp_pair(int fd[2])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	bind(listener, (struct sockaddr *)&a, sizeof(a));
	listen(listener, 8);
	getsockname(listener, (struct sockaddr *)&a, &length);
	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd[0], (struct sockaddr *)&a, sizeof(a)) != 0)
		perror("connect");
	fd[1] = accept(listener, NULL, NULL);
	close(listener);
}

static void fill(void)
{
	size_t i;

	for (i = 0; i < sizeof(buffer); i++)
		buffer[i] = (char)(i * 7 + i / 251);
}

static int handled;
static void on_signal(int s)
{
	(void)s;
	handled++;
}

static void moving_on(int a, int b)
{
	struct iovec out[3] = {{buffer, 10}, {buffer + 50, 0}, {buffer + 100, 90}};
	struct iovec in[2] = {{buffer + 1000, 3}, {buffer + 2000, 500}};
	struct msghdr om = {.msg_iov = out, .msg_iovlen = 3};
	struct msghdr im = {.msg_iov = in, .msg_iovlen = 2};
	struct mmsghdr many[2] = {{.msg_hdr = om}, {.msg_hdr = om}};
	struct timespec none = {0, 0};

	fill();
	SAY(write(a, buffer, 200));
	SAY(read(b, buffer, 50));
	bytes(50);
	SAY(readv(b, in, 2));
	SAY(writev(a, out, 3));
	SAY(readv(b, in, 2));
	SAY(write(a, buffer, 0));
	SAY(send(a, buffer, 100, 0));
	SAY(recv(b, buffer, 30, MSG_PEEK));
	SAY(recv(b, buffer, 30, 0));
	bytes(30);
	SAY(recv(b, buffer, 0, 0));
	SAY(recvfrom(b, buffer, 100, MSG_DONTWAIT, NULL, NULL));
	SAY(recv(b, buffer, 100, MSG_DONTWAIT));
	SAY(sendto(a, buffer, 77, MSG_NOSIGNAL, NULL, 0));
	SAY(sendmsg(a, &om, 0));
	SAY(recvmsg(b, &im, 0));
	SAY(sendmmsg(a, many, 2, 0));
	many[0].msg_hdr = many[1].msg_hdr = im;
	SAY(recvmmsg(b, many, 2, MSG_DONTWAIT, NULL));
	SAY(recvmmsg(b, many, 1, MSG_DONTWAIT, &none));
	SAY(write(a, NULL, 10));
	SAY(read(b, NULL, 0));
	SAY(write(a, buffer, 5000));
	SAY(recv(b, buffer, 5000, MSG_WAITALL));
	bytes(5000);
	SAY(shutdown(a, SHUT_WR));
	SAY(read(b, buffer, 10));
	SAY(recv(b, buffer, 10, 0));
	SAY(write(a, buffer, 1));
	SAY(send(a, buffer, 1, MSG_NOSIGNAL));
	SAY(write(b, buffer, 20));
	SAY(read(a, buffer, 100));
	bytes(20);
	SAY(close(a));
	SAY(close(b));
	SAY(read(b, buffer, 1));
	SAY(close(b));
}

static void s_tcp(void)
{
	int fd[2];

	signal(SIGPIPE, on_signal);
	tcp_pair(fd);
	moving_on(fd[0], fd[1]);
	printf("signals %d\n", handled);
}

static void s_unix(void)
{
	int fd[2];

	signal(SIGPIPE, on_signal);
	SAY(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	moving_on(fd[0], fd[1]);
	printf("signals %d\n", handled);
}

static void s_pipe_and_file(void)
{
	char name[] = "/tmp/harm-XXXXXX";
	int fd[2], file = mkstemp(name);
	FILE *f;
	off_t at = 0;

	fill();
	unlink(name);
	SAY(pipe(fd));
	SAY(write(fd[1], buffer, 300));
	SAY(read(fd[0], buffer, 1000));
	bytes(300);
	SAY(recv(fd[0], buffer, 10, 0));
	SAY(send(fd[1], buffer, 10, 0));
	SAY(write(file, buffer, 5000));
	SAY(pread(file, buffer, 100, 4000));
	bytes(100);
	SAY(splice(file, &at, fd[1], NULL, 1000, 0));
	SAY(read(fd[0], buffer, 2000));
	bytes(1000);
	SAY(close(fd[1]));
	SAY(read(fd[0], buffer, 10));
	f = fdopen(file, "r+");
	SAY(fputs("text", f) >= 0);
	SAY(fclose(f));
	SAY(write(file, buffer, 1));
	SAY(fclose(fdopen(fd[0], "r")));
	SAY(read(fd[0], buffer, 1));
}

static void s_errors(void)
{
	struct iovec bad[1] = {{NULL, 10}};
	struct msghdr m = {.msg_iov = bad, .msg_iovlen = 1};
	int fd[2];

	SAY(read(-1, buffer, 1));
	SAY(write(-1, buffer, 1));
	SAY(read(70000, buffer, 1));
	SAY(write(1 << 30, buffer, 1));
	SAY(recv(-5, buffer, 1, 0));
	SAY(send(12345, buffer, 1, 0));
	SAY(close(-1));
	SAY(close(70000));
	SAY(dup(-1));
	SAY(dup2(-1, 5));
	SAY(dup2(0, -1));
	SAY(dup2(0, 1 << 30));
	SAY(dup3(0, 0, 0));
	SAY(accept(0, NULL, NULL));
	SAY(accept(-1, NULL, NULL));
	SAY(connect(-1, NULL, 0));
	SAY(fcntl(-1, F_GETFL));
	SAY(fcntl(0, 12345));
	SAY(ioctl(-1, FIONBIO, &(int){1}));
	SAY(close_range(5, 3, 0));
	SAY(socket(12345, SOCK_STREAM, 0));
	SAY(socketpair(AF_INET, SOCK_STREAM, 0, fd));
	tcp_pair(fd);
	SAY(readv(fd[0], bad, -1));
	SAY(writev(fd[0], bad, 1));
	SAY(sendmsg(fd[0], &m, 0));
#ifdef __GLIBC__ /* musl looks into it */
	SAY(sendmsg(fd[0], NULL, 0));
	SAY(recvmsg(fd[0], NULL, MSG_DONTWAIT));
#endif
	SAY(sendfile(fd[0], -1, NULL, 10));
	SAY(splice(fd[0], NULL, fd[1], NULL, 10, 0));
	SAY(connect(fd[0], (struct sockaddr *)buffer, 1));
	/* addresses that lead nowhere are the kernel's to refuse */
	SAY(connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)16, 16));
	SAY(readv(fd[0], (struct iovec *)16, 2));
	SAY(writev(fd[0], (struct iovec *)16, 2));
	SAY(write(fd[0], (void *)16, 10));
	SAY(ioctl(fd[0], FIONBIO, (int *)16));
	SAY(syscall(SYS_close, -1));
	SAY(syscall(99999));
	SAY(prctl(PR_GET_DUMPABLE));
}

static void s_connect(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int fd = socket(AF_INET, SOCK_STREAM, 0), again, made;
	struct pollfd p;

	bind(listener, (struct sockaddr *)&a, sizeof(a));
	getsockname(listener, (struct sockaddr *)&a, &length);
	SAY(connect(fd, (struct sockaddr *)&a, sizeof(a))); /* nobody listens yet */
	listen(listener, 8);
	SAY(accept(listener, NULL, NULL));
	SAY(connect(fd, (struct sockaddr *)&a, sizeof(a)));
	SAY(connect(fd, (struct sockaddr *)&a, sizeof(a)));
	SAY((made = accept4(listener, (struct sockaddr *)&a, &length, SOCK_CLOEXEC)));
	printf("  length %u family %d\n", length, a.sin_family);
	SAY(fcntl(made, F_GETFD));
	length = sizeof(a);
	getsockname(listener, (struct sockaddr *)&a, &length);
	again = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	SAY(connect(again, (struct sockaddr *)&a, sizeof(a)));
	p = (struct pollfd){again, POLLOUT, 0};
	SAY(poll(&p, 1, 2000));
	SAY(connect(again, (struct sockaddr *)&a, sizeof(a)));
	SAY(connect(again, (struct sockaddr *)&a, sizeof(a)));
	SAY(write(again, "hello", 5));
	SAY(recv(again, buffer, 5, 0));
	SAY(connect(1, (struct sockaddr *)&a, sizeof(a)));
	a.sin_family = 77;
	SAY(connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&a, sizeof(a)));
	SAY(connect(
		socket(AF_INET, SOCK_DGRAM, 0),
		(struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET,
							 .sin_port = htons(9),
							 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
		sizeof(a)));
}

static void open_descriptors(void)
{
	int fd;

	printf("open:");
	for (fd = 0; fd < 400; fd++) {
		if (fcntl(fd, F_GETFD) != -1)
			printf(" %d", fd);
	}
	printf("\n");
}

static void s_descriptors(void)
{
	int fd[2], d;

	open_descriptors();
	tcp_pair(fd);
	printf("pair %d %d\n", fd[0], fd[1]);
	SAY(write(fd[0], "abc", 3));
	SAY((d = dup(fd[1])));
	SAY(read(d, buffer, 1));
	SAY(close(fd[1]));
	SAY(read(d, buffer + 1, 2));
	bytes(3);
	SAY(dup2(d, 50));
	SAY(fcntl(50, F_DUPFD, 60));
	SAY(fcntl(50, F_DUPFD_CLOEXEC, 70));
	SAY(dup3(60, 80, O_CLOEXEC));
	open_descriptors();
	SAY(write(fd[0], "defgh", 5));
	SAY(read(80, buffer, 2));
	SAY(close_range(60, 80, 0));
	SAY(read(50, buffer + 2, 3));
	bytes(5);
	SAY(dup2(2, fd[0])); /* the socket's last descriptor here becomes a file */
	SAY(read(50, buffer, 1));
	open_descriptors();
	SAY(syscall(SYS_close, 50));
	SAY((d = open("/dev/null", O_RDWR)));
	SAY(write(d, "x", 1));
	closefrom(3);
	open_descriptors();
	tcp_pair(fd);
	printf("pair %d %d\n", fd[0], fd[1]);
	SAY(write(fd[0], "again", 5));
	SAY(read(fd[1], buffer, 10));
	bytes(5);
}

/* A daemon: closes everything, twice, and uses the numbers again. */
static void s_close_all(void)
{
	int round, fd, p[2];

	tcp_pair(p);
	SAY(write(p[0], "before", 6));
	for (round = 0; round < 3; round++) {
		for (fd = 3; fd < 1024; fd++)
			close(fd);
		tcp_pair(p);
		printf("pair %d %d\n", p[0], p[1]);
		fill();
		SAY(write(p[0], buffer, 5000));
		SAY(recv(p[1], buffer, 5000, MSG_WAITALL));
		bytes(5000);
		SAY(recv(p[1], buffer, 100, MSG_DONTWAIT));
		SAY(recv(p[0], buffer, 100, MSG_DONTWAIT));
	}
	open_descriptors();
}

static void s_large(void)
{
	int fd[2];
	size_t in = 0, out = 0;
	unsigned h = 0;

	fill();
	tcp_pair(fd);
	fcntl(fd[0], F_SETFL, O_NONBLOCK);
	ioctl(fd[1], FIONBIO, &(int){1});
	while (in < 3000000) {
		ssize_t n = out < 3000000 ? write(fd[0], buffer, sizeof(buffer)) : -1;

		if (n > 0)
			out += (size_t)n;
		n = read(fd[1], buffer + sizeof(buffer) / 2, 5000);
		if (n > 0)
			in += (size_t)n;
		if (n > 0)
			h += hash(buffer + sizeof(buffer) / 2, 0) + (unsigned)n;
	}
	printf("in at least %d, same sum %d\n", in >= 3000000, h != 0);
}

static void *blocked(void *argument)
{
	int *fd = argument;
	char byte[16];
	struct iovec part = {byte, 1};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};

	switch (fd[1]) {
	case 0:
		return (void *)read(fd[0], byte, 1);
	case 1:
		return (void *)recv(fd[0], byte, 1, 0);
	case 2:
		return (void *)readv(fd[0], &part, 1);
	case 3:
		return (void *)recvmsg(fd[0], &m, 0);
	case 4:
		return (void *)(long)accept(fd[0], NULL, NULL);
	case 5:
		return (void *)recvfrom(fd[0], byte, 1, 0, NULL, NULL);
	case 6:
		return (void *)(long)accept4(fd[0], NULL, NULL, 0);
	}
	return NULL;
}

/* Cancellation points stay ones, and the stack can be unwound through the hooks. */
static void s_cancel(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd[2], which, listener = socket(AF_INET, SOCK_STREAM, 0);

	bind(listener, (struct sockaddr *)&a, sizeof(a));
	listen(listener, 8);
	tcp_pair(fd);
	for (which = 0; which < 7; which++) {
		int argument[2] = {which == 4 || which == 6 ? listener : fd[0], which};
		pthread_t t;
		void *result = NULL;

		pthread_create(&t, NULL, blocked, argument);
		usleep(20000);
		pthread_cancel(t);
		pthread_join(t, &result);
		printf("%d cancelled %d\n", which, result == PTHREAD_CANCELED);
	}
	SAY(write(fd[0], "x", 1));
	SAY(read(fd[1], buffer, 1));
}

static void s_interrupted(void)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct itimerval timer = {{0, 0}, {0, 20000}};
	int fd[2];

	sigaction(SIGALRM, &action, NULL);
	tcp_pair(fd);
	setitimer(ITIMER_REAL, &timer, NULL);
	SAY(read(fd[0], buffer, 1));
	setitimer(ITIMER_REAL, &timer, NULL);
	SAY(recv(fd[0], buffer, 1, 0));
	printf("signals %d\n", handled);
}

static int handler_fd = -1;
static volatile int handler_errors, handler_calls;
static void writes(int s)
{
	int saved = errno;

	(void)s;
	handler_calls++;
	if (handler_fd >= 0 && write(handler_fd, "h", 1) != 1)
		handler_errors++;
	errno = saved;
}

/* A handler that writes to a socket, while the program itself does. */
static void s_handler(void)
{
	struct sigaction action = {.sa_handler = writes, .sa_flags = SA_RESTART};
	struct itimerval timer = {{0, 300}, {0, 300}};
	struct itimerval off = {{0, 0}, {0, 0}};
	int fd[2], hd[2], i, bad = 0;

	tcp_pair(fd);
	tcp_pair(hd);
	fcntl(hd[0], F_SETFL, O_NONBLOCK);
	handler_fd = hd[0];
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (i = 0; i < 30000; i++) {
		errno = 55;
		if (write(fd[0], buffer, 100) != 100)
			bad++;
		if (recv(fd[1], buffer, 100, MSG_WAITALL) != 100)
			bad++;
		if (errno != 55)
			bad++;
	}
	setitimer(ITIMER_REAL, &off, NULL);
	printf("bad %d ran %d\n", bad, handler_calls > 0);
	for (i = 0; (bad = (int)recv(hd[1], buffer, sizeof(buffer), MSG_DONTWAIT)) > 0;)
		i += bad;
	printf("all arrived %d\n", i == handler_calls - handler_errors);
}

static void *tiny(void *argument)
{
	int *fd = argument, made[2];
	long n = 0;

	n += write(fd[0], "tiny", 4);
	n += read(fd[1], fd + 2, 4);
	tcp_pair(made);
	n += write(made[0], "tiny", 4);
	n += recv(made[1], fd + 2, 4, 0);
	n += close(made[0]) + close(made[1]);
	return (void *)n;
}

static void s_tiny_stack(void)
{
	struct sigaction action = {.sa_handler = writes, .sa_flags = SA_ONSTACK};
	pthread_attr_t attributes;
	pthread_t t;
	void *result = NULL;
	int fd[4], size = (int)SMALLEST_SIGNAL_STACK;
	stack_t stack = {.ss_size = (size_t)(size > 0 ? size : 4096) + 1024};

	tcp_pair(fd);
	pthread_attr_init(&attributes);
	printf("size %d\n", pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN));
	pthread_create(&t, &attributes, tiny, fd);
	pthread_join(t, &result);
	printf("moved %ld\n", (long)result);
	/* The first call of all in a handler, on the smallest stack that a handler may have. */
	tcp_pair(fd);
	handler_fd = fd[0];
	stack.ss_sp = malloc(stack.ss_size);
	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
	SAY(read(fd[1], buffer, 10));
	printf("errors %d\n", handler_errors);
}

static void s_fork(void)
{
	int fd[2], status, i;

	tcp_pair(fd);
	SAY(write(fd[0], "one", 3));
	for (i = 0; i < 3; i++) {
		pid_t child = fork();

		if (child == 0) {
			int n = (int)read(fd[1], buffer, 3), own[2];

			n += (int)write(fd[1], "two", 3);
			tcp_pair(own);
			n += (int)write(own[0], "three", 5) + (int)read(own[1], buffer, 5);
			close(fd[0]);
			close(fd[1]);
			_exit(n);
		}
		waitpid(child, &status, 0);
		printf("child %d\n", WEXITSTATUS(status));
		SAY(read(fd[0], buffer, 10));
		SAY(write(fd[0], "one", 3));
	}
	open_descriptors();
}

static void s_vfork_and_spawn(void)
{
	char *const ok[] = {(char *)"true", NULL};
	char *const fails[] = {(char *)"sh", (char *)"-c", (char *)"exit 3", NULL};
	posix_spawn_file_actions_t actions;
	int fd[2], status, i;
	pid_t child;

	tcp_pair(fd);
	SAY(write(fd[0], "kept", 4));
	SAY(read(fd[1], buffer, 4));
	for (i = 0; i < 3; i++) {
		child = vfork();
		if (child == 0) {
			close(fd[0]);
			dup2(2, fd[1]);
			close_range(3, ~0u, 0);
			execvp("true", ok);
			_exit(99);
		}
		waitpid(child, &status, 0);
		printf("vfork %d\n", WEXITSTATUS(status));
		SAY(write(fd[0], "still", 5));
		SAY(read(fd[1], buffer, 10));
		bytes(5);
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addclose(&actions, fd[0]);
	posix_spawn_file_actions_adddup2(&actions, 2, fd[1]);
	SAY(posix_spawnp(&child, "sh", &actions, NULL, fails, environ));
	waitpid(child, &status, 0);
	printf("spawned %d\n", WEXITSTATUS(status));
	printf("system %d\n", WEXITSTATUS(system("exit 5")));
	SAY(write(fd[0], "still", 5));
	SAY(read(fd[1], buffer, 10));
	bytes(5);
}

/* Only these calls; any other one kills. */
static void shut_in(int by_syscall)
{
#define ALLOW(name)                                                                                \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1),                                     \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(read),
		ALLOW(write),
		ALLOW(writev),
		ALLOW(recvfrom),
		ALLOW(sendto),
		ALLOW(close),
		ALLOW(exit_group),
		ALLOW(newfstatat),
		ALLOW(fstat),
		ALLOW(accept4),
		ALLOW(accept),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (by_syscall)
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
	else
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

static void seccomp(int by_syscall)
{
	int known[2], fresh[2];

	tcp_pair(known);
	tcp_pair(fresh);
	SAY(write(known[0], "known", 5));
	SAY(read(known[1], buffer, 5));
	shut_in(by_syscall);
	SAY(write(known[0], "known", 5));
	SAY(read(known[1], buffer, 5));
	SAY(write(fresh[0], "fresh", 5));
	SAY(recv(fresh[1], buffer, 5, 0));
	bytes(5);
	SAY(close(known[0]));
	SAY(read(known[1], buffer, 5));
	SAY(close(fresh[1]));
}

static void s_seccomp(void)
{
	seccomp(0);
}

static void s_seccomp_by_syscall(void)
{
	seccomp(1);
}

static void s_limits(void)
{
	struct rlimit few = {8, 8}, small = {4096, 4096};
	int fd[2], more[8], i;

	SAY(setrlimit(RLIMIT_FSIZE, &small));
	SAY(setrlimit(RLIMIT_NOFILE, &few));
	tcp_pair(fd);
	SAY(write(fd[0], "limits", 6));
	SAY(read(fd[1], buffer, 6));
	for (i = 0; i < 8; i++)
		SAY((more[i] = socket(AF_INET, SOCK_STREAM, 0)));
	SAY(write(fd[0], "limits", 6));
	SAY(read(fd[1], buffer, 6));
	bytes(6);
	(void)more;
}

static void s_address_space(void)
{
	struct rlimit small = {200u << 20, 200u << 20};
	int fd[2];
	void *big;

	SAY(setrlimit(RLIMIT_AS, &small));
	tcp_pair(fd);
	SAY(write(fd[0], "space", 5));
	SAY(read(fd[1], buffer, 5));
	big = mmap(NULL, 100u << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("room %d\n", big != MAP_FAILED);
}

static void s_sendfile(void)
{
	char name[] = "/tmp/harm-XXXXXX";
	int fd[2], file = mkstemp(name), p[2];
	off_t at = 100;

	fill();
	unlink(name);
	SAY(write(file, buffer, 10000));
	tcp_pair(fd);
	SAY(sendfile(fd[0], file, &at, 5000));
	printf("  at %ld\n", (long)at);
	SAY(recv(fd[1], buffer, 5000, MSG_WAITALL));
	bytes(5000);
	SAY(pipe(p));
	SAY(write(fd[0], buffer, 1000));
	SAY(splice(fd[1], NULL, p[1], NULL, 600, 0));
	SAY(splice(p[0], NULL, fd[0], NULL, 600, 0));
	SAY(recv(fd[1], buffer, 1000, MSG_WAITALL));
	bytes(1000);
}

static void s_descriptor_passing(void)
{
	int channel[2], fd[2], got = -1, i;
	char control[CMSG_SPACE(sizeof(int))], byte = 'x';
	struct iovec part = {&byte, 1};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};

	socketpair(AF_UNIX, SOCK_STREAM, 0, channel);
	for (i = 0; i < 2; i++) {
		struct cmsghdr *c;

		tcp_pair(fd);
		SAY(write(fd[0], "passed", 6));
		memset(control, 0, sizeof(control));
		m.msg_control = control;
		m.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd[1], sizeof(int));
		SAY(sendmsg(channel[0], &m, 0));
		close(fd[1]);
		m.msg_controllen = sizeof(control);
		SAY(recvmsg(channel[1], &m, 0));
		memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
		printf("got %d\n", got);
		SAY(read(got, buffer, 10));
		bytes(6);
		close(got);
		close(fd[0]);
	}
}

static void *chatter(void *argument)
{
	int i, fd[2], bad = 0;
	char block[512];

	(void)argument;
	for (i = 0; i < 40; i++) {
		int k;

		tcp_pair(fd);
		for (k = 0; k < 20; k++) {
			memset(block, i + k, sizeof(block));
			if (send(fd[0], block, 300, 0) != 300 ||
			    recv(fd[1], block, 300, MSG_WAITALL) != 300 ||
			    block[299] != (char)(i + k))
				bad++;
		}
		close(fd[0]);
		close(fd[1]);
	}
	return (void *)(long)bad;
}

static void s_threads(void)
{
	pthread_t t[100];
	long bad = 0;
	int i;

	for (i = 0; i < 100; i++)
		pthread_create(&t[i], NULL, chatter, NULL);
	for (i = 0; i < 100; i++) {
		void *result;

		pthread_join(t[i], &result);
		bad += (long)result;
	}
	printf("bad %ld\n", bad);
	open_descriptors();
}

/* Writes garbage over everything that is mapped from a memfd: its own region, if there is one. */
static void s_scribble(void)
{
	int fd[2], round;

	tcp_pair(fd);
	SAY(write(fd[0], "first", 5));
	SAY(read(fd[1], buffer, 5));
	for (round = 0; round < 3; round++) {
		FILE *maps = fopen("/proc/self/maps", "r");
		char line[512];
		unsigned long from, to;

		while (fgets(line, sizeof(line), maps)) {
			if (!strstr(line, "memfd:olly") || sscanf(line, "%lx-%lx", &from, &to) != 2)
				continue;
			if (to - from > 400000)
				to = from + 400000;
			for (; from < to; from += 8)
				*(volatile uint64_t *)from =
					round == 0 ? ~0ull : from * 2654435761u;
		}
		fclose(maps);
		SAY(write(fd[0], "again", 5));
		SAY(read(fd[1], buffer, 5));
		usleep(60000);
	}
}

/* A program that takes another one's place, its connection with it; and some that do not come. */
static void s_exec(void)
{
	char *const none[] = {(char *)"x", NULL};
	char number[16], *const again[] = {(char *)"calls", (char *)"after_exec", number, NULL};
	char *const words[] = {(char *)"LD_PRELOAD=", NULL};
	int fd[2], i, status;

	tcp_pair(fd);
	SAY(write(fd[0], "before", 6));
	SAY(read(fd[1], buffer, 6));
	SAY(execve("/no/such/program", none, environ));
	SAY(execv("/dev/null", none));
	SAY(execvp("no-such-program-anywhere", none));
	SAY(execl("/", "x", (char *)NULL));
	SAY(fexecve(fd[0], none, environ));
	SAY(write(fd[0], "still", 5));
	SAY(read(fd[1], buffer, 5));
	snprintf(number, sizeof(number), "%d", fd[1]);
	for (i = 0; i < 2; i++) { /* with the library, and without it */
		pid_t child;

		fflush(stdout);
		child = fork();
		if (child == 0) {
			write(fd[1], "x", 1);
			if (i == 0)
				execv("/proc/self/exe", again);
			else
				execve("/proc/self/exe", again, words);
			_exit(99);
		}
		SAY(read(fd[0], buffer, 1));
		if (write(fd[0], "to the next", 11) != 11) /* the child speaks meanwhile */
			printf("not written\n");
		waitpid(child, &status, 0);
		printf("exec %d\n", WEXITSTATUS(status));
		SAY(recv(fd[0], buffer, 20, 0));
		bytes(5);
	}
}

static void after_exec(int fd)
{
	SAY(read(fd, buffer, 11));
	bytes(11);
	SAY(write(fd, "heard", 5));
}

static void *reads(void *argument)
{
	return (void *)(long)read((int)(long)argument, buffer, 10);
}

/* Each end of a connection by itself, while somebody waits on it, and what can no more be done. */
static void s_shutdown(void)
{
	int how, fd[2], own = socket(AF_INET, SOCK_STREAM, 0);
	void *result;
	pthread_t t;

	SAY(shutdown(own, SHUT_RDWR));
	SAY(shutdown(-1, SHUT_RDWR));
	SAY(shutdown(0, SHUT_RDWR));
	close(own);
	for (how = SHUT_RD; how <= SHUT_RDWR; how++) {
		tcp_pair(fd);
		signal(SIGPIPE, SIG_IGN);
		SAY(write(fd[0], "abc", 3));
		SAY(shutdown(fd[1], how));
		SAY(recv(fd[1], buffer, 10, MSG_DONTWAIT));
		SAY(recv(fd[1], buffer, 10, MSG_DONTWAIT));
		SAY(write(fd[1], "abc", 3));
		SAY(shutdown(fd[1], how));
		SAY(shutdown(fd[0], 77));
		close(fd[1]);
		close(fd[0]);
	}
	tcp_pair(fd);
	pthread_create(&t, NULL, reads, (void *)(long)fd[1]);
	usleep(50000);
	SAY(shutdown(fd[1], SHUT_RDWR));
	pthread_join(t, &result);
	printf("reader %ld\n", (long)result);
	close(fd[0]);
	close(fd[1]);
}

static void *answers(void *argument)
{
	int fd = (int)(long)argument;
	char block[16];
	long n = read(fd, block, 4);

	n = n * 100 + write(fd, block, 4);
	close(fd);
	return (void *)n;
}

/* A thread for each connection, on stacks of all sizes, joined or not. */
static void s_handed_over(void)
{
	const size_t sizes[] = {16384, 32768, 65536, 1 << 20};
	int i, fd[2], seen = 0;
	pthread_attr_t attributes;

	for (i = 0; i < 40; i++) {
		void *result = NULL;
		pthread_t t;

		tcp_pair(fd);
		pthread_attr_init(&attributes);
		pthread_attr_setstacksize(&attributes, sizes[i % 4]);
		if (i % 3 == 0)
			pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
		if (pthread_create(&t, &attributes, answers, (void *)(long)fd[1]))
			printf("no thread %d\n", i);
		pthread_attr_destroy(&attributes);
		if (write(fd[0], "ping", 4) == 4 && read(fd[0], buffer, 4) == 4)
			seen++;
		if (i % 3 != 0) {
			pthread_join(t, &result);
			if ((long)result != 404)
				printf("thread %d: %ld\n", i, (long)result);
		}
		if (read(fd[0], buffer, 1) != 0)
			printf("not closed %d\n", i);
		close(fd[0]);
	}
	printf("seen %d\n", seen);
	open_descriptors();
}

#define S(name)                                                                                    \
	{                                                                                          \
#name, s_##name                                                                    \
	}
static const struct {
	const char *name;
	void (*run)(void);
} scenarios[] = {
	S(tcp),		  S(unix),
	S(pipe_and_file), S(errors),
	S(connect),	  S(descriptors),
	S(close_all),	  S(large),
	S(cancel),	  S(interrupted),
	S(handler),	  S(tiny_stack),
	S(fork),	  S(vfork_and_spawn),
	S(seccomp),	  S(seccomp_by_syscall),
	S(limits),	  S(address_space),
	S(sendfile),	  S(descriptor_passing),
	S(threads),	  S(scribble),
	S(exec),	  S(shutdown),
	S(handed_over),
};

int main(int argc, char **argv)
{
	size_t i;

	alarm(60);
	if (argc > 2 && strcmp(argv[1], "after_exec") == 0)
		return after_exec(atoi(argv[2])), 0;
	for (i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		if (argc > 1 && strcmp(argv[1], "list") == 0)
			puts(scenarios[i].name);
		else if (argc > 1 && strcmp(argv[1], scenarios[i].name) == 0)
			return scenarios[i].run(), 0;
	}
	return argc > 1 && strcmp(argv[1], "list") == 0 ? 0 : 2;
}
