/*
 * What the hooks of TLS libraries share: which library a call is for, and what a session (an SSL
 * or a gnutls_session_t) has moved so far.
 */
#ifndef OLLY_PRELOAD_TLS_H
#define OLLY_PRELOAD_TLS_H

#include <sys/types.h>

#include "olly.h"

/* name, result, arguments: what is hooked, then what is only asked for */
#define OLLY_TLS_HOOKED(X)                                                                         \
	X(SSL_read, int, (void *, void *, int))                                                    \
	X(SSL_read_ex, int, (void *, void *, size_t, size_t *))                                    \
	X(SSL_read_early_data, int, (void *, void *, size_t, size_t *))                            \
	X(SSL_write, int, (void *, const void *, int))                                             \
	X(SSL_write_ex, int, (void *, const void *, size_t, size_t *))                             \
	X(SSL_write_early_data, int, (void *, const void *, size_t, size_t *))                     \
	X(SSL_sendfile, ssize_t, (void *, int, off_t, size_t, int))                                \
	X(SSL_do_handshake, int, (void *))                                                         \
	X(SSL_connect, int, (void *))                                                              \
	X(SSL_accept, int, (void *))                                                               \
	X(SSL_shutdown, int, (void *))                                                             \
	X(SSL_set_fd, int, (void *, int))                                                          \
	X(SSL_set_rfd, int, (void *, int))                                                         \
	X(SSL_set_wfd, int, (void *, int))                                                         \
	X(SSL_new, void *, (void *))                                                               \
	X(SSL_clear, int, (void *))                                                                \
	X(SSL_free, void, (void *))                                                                \
	X(gnutls_record_send, ssize_t, (void *, const void *, size_t))                             \
	X(gnutls_record_send2, ssize_t, (void *, const void *, size_t, size_t, unsigned))          \
	X(gnutls_record_recv, ssize_t, (void *, void *, size_t))                                   \
	X(gnutls_record_cork, void, (void *))                                                      \
	X(gnutls_handshake, int, (void *))                                                         \
	X(gnutls_bye, int, (void *, int))                                                          \
	X(gnutls_deinit, void, (void *))
#define OLLY_TLS_ASKED(X)                                                                          \
	X(SSL_get_shutdown, int, (const void *))                                                   \
	X(SSL_get_client_random, size_t, (const void *, u8 *, size_t))                             \
	X(SSL_is_server, int, (const void *))                                                      \
	X(SSL_is_init_finished, int, (const void *))                                               \
	X(SSL_ctrl, long, (void *, int, long, void *))                                             \
	X(SSL_get_mode, u32, (const void *))                                                       \
	X(SSL_version, int, (const void *))                                                        \
	X(SSL_get_current_cipher, const void *, (const void *))                                    \
	X(SSL_CIPHER_get_protocol_id, u16, (const void *))                                         \
	X(SSL_get0_alpn_selected, void, (const void *, const u8 **, unsigned *))                   \
	X(SSL_get_servername, const char *, (const void *, int))                                   \
	X(gnutls_protocol_get_version, int, (void *))                                              \
	X(gnutls_alpn_get_selected_protocol, int, (void *, struct olly_datum *))

struct olly_datum { /* gnutls_datum_t */
	u8 *data;
	unsigned size;
};

/* The functions of one loaded TLS library; NULL: it has no such function. */
struct tls_library {
#define X(name, result, arguments) result(*name) arguments;
	OLLY_TLS_HOOKED(X) OLLY_TLS_ASKED(X)
#undef X
};

#ifdef __APPLE__ /* whoever has them: dyld asks all objects, and finds none where there is none */
#define X(name, result, arguments) extern result name arguments __attribute__((weak_import));
OLLY_TLS_HOOKED(X)
OLLY_TLS_ASKED(X)
#undef X
#endif

/* A call of the program into a TLS library, on the hook's stack. */
struct tls_call {
	struct tls_library *library;
	const char *frame;
	bool nested;		/* it belongs to another call of this thread */
	struct tls_library own; /* where the table of libraries is full */
};

/*
 * The library that the call at `caller`, of our `hook` and with `object`, is for. NULL: none, and
 * there is nothing to call. `own` is used where no table has room.
 */
struct tls_library *olly_tls_library(const char *name, const void *caller, const void *hook,
				     const void *object, struct tls_library *own);
void olly_tls_changed(void); /* objects were unloaded */

#define OLLY_TLS_BUCKETS 2048u
#define OLLY_TLS_WAYS 8u

struct session {
	u64 pos[2];
	u64 sock;	/* that was found; 0: none */
	u64 generation; /* of the attachment that was told of its version and names */
	struct conn *conn;
	struct conn *stand_in; /* for a socket that is not known */
	int fd;
	u8 fixed; /* fd is the program's word */
	u8 freed; /* perhaps */
	u8 eof;
	u8 http;  /* inject.h: what is done with its requests */
	u8 stuck; /* the program's last write moved nothing: the library may want the same again */
	u8 pad[7];
};
OLLY_STATIC_ASSERT(sizeof(struct session) == 64, "a cache line");

struct session *olly_tls_session(void *ssl);
u32 olly_tls_number(const struct session *session);

/* Around the real call. */
void olly_tls_begin(struct tls_call *call, void *ssl, const void *frame);
/* `n`: bytes of the application's that it moved. Where it moved none: was that the peer's end? */
enum tls_end { TLS_NO_END, TLS_END_PERHAPS, TLS_END };
void olly_tls_end(struct tls_call *call, void *ssl, int dir, size_t n, enum tls_end end,
		  const void *buffer);

void olly_tls_uses(void *ssl, int fd);
void olly_tls_made(void *ssl);
void olly_tls_cleared(void *ssl); /* as good as new, on the descriptor that it had */
void olly_tls_freed(void *ssl, bool surely);

#endif
