/*
 * What libolly.so itself costs a call: behind it stand a write and a recv that do nothing
 * (noop_calls.c), so no system call hides it. One client's exchanges of HTTP over one connection,
 * which the agent reads to the end. Prints the least of many rounds, nanoseconds a call:
 * write to /dev/null, write 200 B, recv 200 B, write 16 KiB, SSL_write 200 B, SSL_read 200 B (of
 * which the last two move their records by one write and two recv).
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CALLS = 16, ROUNDS = 2500 };

int SSL_write(void* ssl, const void* buffer, int size) __attribute__((weak));
int SSL_read(void* ssl, void* buffer, int size) __attribute__((weak));

static char request[200], large[16384], response[200];

static double now(void) {
  struct timespec t;

  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* A message of `size` bytes: a head of 200, the rest its body. */
static void message(char* to, size_t size, const char* head) {
  int n = snprintf(to, size, "%sContent-Length: %d\r\nX-Pad: ", head, (int)size - 200);

  memset(to + n, 'x', size - (size_t)n);
  memcpy(to + 196, "\r\n\r\n", 4);
}

static int connected(void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof(a);
  int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);

  if (bind(listener, (struct sockaddr*)&a, sizeof(a)) || listen(listener, 1) ||
      getsockname(listener, (struct sockaddr*)&a, &length) ||
      connect(fd, (struct sockaddr*)&a, sizeof(a)))
    exit(1);
  return fd;
}

static void exchanges(int fd, const char* out, size_t size, double* writes, double* reads) {
  int round, i;

  *writes = *reads = 1e18;
  for (round = 0; round < ROUNDS; round++) {
    double t0 = now(), t1, t2;

    for (i = 0; i < CALLS; i++)
      if (write(fd, out, size) != (ssize_t)size) exit(1);
    t1 = now();
    for (i = 0; i < CALLS; i++)
      if (recv(fd, response, sizeof(response), 0) != sizeof(response)) exit(1);
    t2 = now();
    if (t1 - t0 < *writes) *writes = t1 - t0;
    if (t2 - t1 < *reads) *reads = t2 - t1;
    usleep(size > 1000 ? 4000 : 300); /* the agent keeps up: a record without room is cheap */
  }
  *writes /= CALLS;
  *reads /= CALLS;
}

/* As exchanges() does, through what stands for a TLS library: `ssl` begins with the socket. */
static void tls_exchanges(int* ssl, double* writes, double* reads) {
  int round, i;

  *writes = *reads = 1e18;
  for (round = 0; round < ROUNDS; round++) {
    double t0 = now(), t1, t2;

    for (i = 0; i < CALLS; i++)
      if (SSL_write(ssl, request, sizeof(request)) != sizeof(request)) exit(1);
    t1 = now();
    for (i = 0; i < CALLS; i++)
      if (SSL_read(ssl, response, sizeof(response)) != sizeof(response)) exit(1);
    t2 = now();
    if (t1 - t0 < *writes) *writes = t1 - t0;
    if (t2 - t1 < *reads) *reads = t2 - t1;
    usleep(300);
  }
  *writes /= CALLS;
  *reads /= CALLS;
}

int main(void) {
  int fd = connected(), null = open("/dev/null", O_WRONLY), round, i;
  double file = 1e18, small, reads, big, ignored, tls_writes, tls_reads;
  int ssl[16] = {0};

  message(request, sizeof(request), "POST /bench HTTP/1.1\r\nHost: bench\r\n");
  message(large, sizeof(large), "POST /bench HTTP/1.1\r\nHost: bench\r\n");
  message(response, sizeof(response), "HTTP/1.1 200 OK\r\n");
  for (round = 0; round < ROUNDS; round++) {
    double t = now();

    for (i = 0; i < CALLS; i++)
      if (write(null, request, sizeof(request)) != sizeof(request)) exit(1);
    t = now() - t;
    if (t < file) file = t;
  }
  exchanges(fd, request, sizeof(request), &small, &reads);
  exchanges(fd, large, sizeof(large), &big, &ignored);
  ssl[0] = connected();
  tls_exchanges(ssl, &tls_writes, &tls_reads);
  printf("%.1f %.1f %.1f %.1f %.1f %.1f\n", file / CALLS, small, reads, big, tls_writes, tls_reads);
  return 0;
}
