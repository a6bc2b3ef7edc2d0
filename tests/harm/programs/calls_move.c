/* Calls that move bytes. */
#include "calls.h"

#include <limits.h>
#include <sys/sendfile.h>
#include <sys/un.h>
#include <sys/ioctl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>

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

void s_tcp(void)
{
	int fd[2];

	signal(SIGPIPE, on_signal);
	tcp_pair(fd);
	moving_on(fd[0], fd[1]);
	printf("signals %d\n", handled);
}

void s_unix(void)
{
	int fd[2];

	signal(SIGPIPE, on_signal);
	SAY(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
	moving_on(fd[0], fd[1]);
	printf("signals %d\n", handled);
}

void s_pipe_and_file(void)
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

void s_errors(void)
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

void s_large(void)
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

void s_sendfile(void)
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
