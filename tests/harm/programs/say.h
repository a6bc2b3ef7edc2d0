/*
 * What the programs that say what each call gave have in common. The same output with libolly.so
 * and without it is what the harm suite asks for.
 */
#ifndef HARM_SAY_H
#define HARM_SAY_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static char buffer[200000];

/*
 * What a call gave, with its `text`, and `more` behind it, which may ask for `said`. errno starts
 * at 99, so that a call that sets it for nothing shows.
 */
#define SAY_WITH(text, call, before, more)                                                         \
	do {                                                                                       \
		before;                                                                            \
		errno = 99;                                                                        \
		long said = (long)(call);                                                          \
		printf("%s = %ld errno %d", text, said, errno);                                    \
		more;                                                                              \
		puts("");                                                                          \
		fflush(stdout);                                                                    \
	} while (0)

static inline unsigned hash(const char *p, size_t n)
{
	unsigned h = 2166136261u;

	while (n--)
		h = (h ^ (unsigned char)*p++) * 16777619u;
	return h;
}

static inline void bytes(size_t n)
{
	printf("  bytes %zu hash %x\n", n, hash(buffer, n));
}

static inline void tcp_pair(int fd[2])
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

static inline void fill(void)
{
	size_t i;

	for (i = 0; i < sizeof(buffer); i++)
		buffer[i] = (char)(i * 7 + i / 251);
}

#endif
