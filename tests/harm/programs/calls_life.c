/* Calls that make, end and hand on descriptors. */
#include "calls.h"

#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <sys/mman.h>
#include <sys/resource.h>

void s_connect(void)
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

void s_descriptors(void)
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
void s_close_all(void)
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

void s_fork(void)
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

void s_vfork_and_spawn(void)
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

void s_descriptor_passing(void)
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

/* A program that takes another one's place, its connection with it; and some that do not come. */
void s_exec(void)
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

void after_exec(int fd)
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
void s_shutdown(void)
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
