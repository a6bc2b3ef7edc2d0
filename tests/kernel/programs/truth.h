/*
 * What a test program says about itself. Every line goes to descriptor 1 with one write(2); the
 * harness makes that an O_APPEND file, so lines of several threads and processes stay whole.
 *
 *   sock NAME FAMILY ROLE LOCAL REMOTE      FAMILY inet|inet6|unix, ROLE
 * inbound|outbound|unknown|any; LOCAL, REMOTE ip:port, or for unix path=HEX (or -) opened NAME T0
 * T1 PID TID               established in this window; by whom, where outbound pair NAME NAME the
 * two ends of one connection connect NAME ERROR T0 T1 PID TID        connect() was called (0), or
 * has failed (errno) io NAME DIR POSITION LENGTH FLAGS T0 T1 PID TID HEX exactly one call's move;
 * FLAGS letters e(of) n(onblock) b(uffer missing) f(ault), or -; HEX the first bytes, or - none T0
 * T1 TID                          nothing was moved in this window by this thread close NAME
 * RECV_POS SEND_POS T0 T1      the last reference went away in this window pause NAME waits for a
 * byte on standard input
 *
 * A thread's windows do not overlap, so an event belongs to the window that holds its time and tid.
 */
#ifndef OLLY_KERNEL_TEST_TRUTH_H
#define OLLY_KERNEL_TEST_TRUTH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { RECV = 0, SEND = 1 };

struct kt_socket {
	const char *name;
	int fd;
	uint64_t pos[2];
};

/* Prints "FILE:LINE: TEXT: errno" to standard error and exits 1. */
#define DIE(text) kt_die(__FILE__, __LINE__, text)
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			DIE(#condition);                                                           \
	} while (0)

void kt_die(const char *file, int line, const char *text) __attribute__((noreturn));
uint64_t kt_now(void);
int kt_tid(void);
void kt_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
void kt_pause(const char *name);

/* Makes the two ends of a connection, writes sock, opened, connect and pair lines for them.
 * family: inet, inet6, v4mapped, unix (bound to a path), abstract, socketpair. */
void kt_pair(const char *family, struct kt_socket *client, struct kt_socket *server);
/* A listening socket of one of the families but socketpair; kt_connect and kt_accept go with it. */
int kt_listen(const char *family, int backlog);
void kt_connect(const char *family, int listener, struct kt_socket *client);
void kt_accept(int listener, struct kt_socket *server);
/* The sock line alone. */
void kt_describe(const struct kt_socket *socket, const char *role);
void kt_close(struct kt_socket *socket);

/* One move of `length` bytes that lasted from t0 until now; advances the position. */
void kt_moved(struct kt_socket *socket, int direction, const void *data, size_t length,
	      const char *flags, uint64_t t0);
void kt_none(uint64_t t0);

/* Bytes that differ at every position for many thousand bytes. */
void kt_fill(void *data, size_t length, unsigned seed);
/* Plain write(2) and read(2) of exactly `length` bytes, with their truth. */
void kt_write(struct kt_socket *socket, const void *data, size_t length);
void kt_read(struct kt_socket *socket, void *data, size_t length);

#endif
