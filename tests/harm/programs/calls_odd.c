/* Threads, signals, limits, and programs that shut themselves in. */
#include "calls.h"

#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

#ifdef _SC_MINSIGSTKSZ
#define SMALLEST_SIGNAL_STACK sysconf(_SC_MINSIGSTKSZ)
#else
#define SMALLEST_SIGNAL_STACK 4096
#endif

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
void s_cancel(void)
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

void s_interrupted(void)
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
void s_handler(void)
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

void s_tiny_stack(void)
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

void s_seccomp(void)
{
	seccomp(0);
}

void s_seccomp_by_syscall(void)
{
	seccomp(1);
}

void s_limits(void)
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

void s_address_space(void)
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

void s_threads(void)
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
void s_scribble(void)
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
void s_handed_over(void)
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
