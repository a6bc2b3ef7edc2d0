/*
 * Calls into TLS libraries. Each: the real call, then what plaintext it moved. Nothing of the
 * program's state is touched: not errno, not the library's queue of errors.
 *
 * A program that only asks whether it has such a function (a weak reference, dlsym for everybody's)
 * finds one here. Called without a TLS library, they fail as they would on a broken session.
 */
#include "hooks.h"
#include "inject_tls.h"

/* The library is looked up by who calls; so this is no function of its own. */
#define ENTER(call, name, object)                                                                  \
	((call).library = olly_tls_library(#name, __builtin_return_address(0), (void *)name,       \
					   object, &(call).own))

/*
 * A call for a session: `broken` is what it gives without a TLS library; it moves `n` bytes of the
 * application's, and where it moved none, `end` says whether that may be the peer's end; both may
 * ask for `result`. `arguments` as the real function wants them; last, what is behind the session.
 */
#define CALL(type, name, broken, direction, n, end, data, arguments, ...)                          \
	HOOK(type, name, void *ssl __VA_ARGS__)                                                    \
	{                                                                                          \
		struct tls_call call;                                                              \
		type result;                                                                       \
                                                                                                   \
		if (!ENTER(call, name, ssl))                                                       \
			return broken;                                                             \
		olly_tls_begin(&call, ssl, __builtin_frame_address(0));                            \
		result = call.library->name arguments;                                             \
		olly_tls_end(&call, ssl, direction, n, end, data);                                 \
		return result;                                                                     \
	}
#define COUNT (result > 0 ? (size_t)result : 0) /* the result is how many */
#define MOVED (result == 1 ? *moved : 0)
#define MAY_END (size > 0 ? TLS_END_PERHAPS : TLS_NO_END)
#define TAKES(...) , __VA_ARGS__

/*
 * One that writes `size` bytes: where a header is to go with them, `instead` is called until that
 * is out, and `taken` bytes of the program's are what it is told.
 */
#define WRITES(type, name, broken, n, size, arguments, instead, told, ...)                         \
	HOOK(type, name, void *ssl __VA_ARGS__)                                                    \
	{                                                                                          \
		struct tls_call call;                                                              \
		struct tls_write w;                                                                \
		size_t taken;                                                                      \
		type result;                                                                       \
                                                                                                   \
		if (!ENTER(call, name, ssl))                                                       \
			return broken;                                                             \
		olly_tls_begin(&call, ssl, __builtin_frame_address(0));                            \
		if (likely(!olly_tls_injects()) ||                                                 \
		    !olly_tls_instead(&call, ssl, buffer, size, &w)) {                             \
			result = call.library->name arguments;                                     \
			olly_tls_end(&call, ssl, OLLY_SEND, n, TLS_NO_END, buffer);                \
			return result;                                                             \
		}                                                                                  \
		do                                                                                 \
			result = call.library->name instead;                                       \
		while (olly_tls_more(&w, n));                                                      \
		taken = olly_tls_written(&call, ssl, &w);                                          \
		return taken ? told : result;                                                      \
	}

CALL(int, SSL_read, -1, OLLY_RECV, COUNT, MAY_END, buffer, (ssl, buffer, size),
     TAKES(void *buffer, int size))
CALL(int, SSL_read_ex, 0, OLLY_RECV, MOVED, MAY_END, buffer, (ssl, buffer, size, moved),
     TAKES(void *buffer, size_t size, size_t *moved))
CALL(int, SSL_read_early_data, 0, OLLY_RECV, MOVED, TLS_NO_END, buffer, (ssl, buffer, size, moved),
     TAKES(void *buffer, size_t size, size_t *moved))
WRITES(int, SSL_write, -1, COUNT, size > 0 ? (size_t)size : 0, (ssl, buffer, size),
       (ssl, w.at, (int)w.left), (int)taken, TAKES(const void *buffer, int size))
WRITES(int, SSL_write_ex, 0, MOVED, size, (ssl, buffer, size, moved), (ssl, w.at, w.left, moved),
       (*moved = taken, 1), TAKES(const void *buffer, size_t size, size_t *moved))
CALL(int, SSL_write_early_data, 0, OLLY_SEND, MOVED, TLS_NO_END, buffer, (ssl, buffer, size, moved),
     TAKES(const void *buffer, size_t size, size_t *moved))
CALL(ssize_t, SSL_sendfile, -1, OLLY_SEND, COUNT, TLS_NO_END, NULL, (ssl, fd, at, size, flags),
     TAKES(int fd, off_t at, size_t size, int flags))

CALL(ssize_t, gnutls_record_recv, -1, OLLY_RECV, COUNT, result == 0 && size > 0 ? TLS_END : MAY_END,
     buffer, (ssl, buffer, size), TAKES(void *buffer, size_t size))
/* Without data, what could not be sent before is sent now. */
WRITES(ssize_t, gnutls_record_send, -1, COUNT, size, (ssl, buffer, size), (ssl, w.at, w.left),
       (ssize_t)taken, TAKES(const void *buffer, size_t size))
CALL(ssize_t, gnutls_record_send2, -1, OLLY_SEND, COUNT, TLS_NO_END, buffer,
     (ssl, buffer, size, pad, flags),
     TAKES(const void *buffer, size_t size, size_t pad, unsigned flags))

/* These move ciphertext only: which says what socket it is. */
#define MOVES_RECORDS(name, direction) CALL(int, name, -1, direction, 0, TLS_NO_END, NULL, (ssl), )
MOVES_RECORDS(SSL_do_handshake, OLLY_RECV)
MOVES_RECORDS(SSL_connect, OLLY_RECV)
MOVES_RECORDS(SSL_accept, OLLY_RECV)
MOVES_RECORDS(SSL_shutdown, OLLY_SEND)
MOVES_RECORDS(gnutls_handshake, OLLY_RECV)
CALL(int, gnutls_bye, -1, OLLY_SEND, 0, TLS_NO_END, NULL, (ssl, how), TAKES(int how))

/* --- what begins and ends a session --------------------------------------------------------------
 */

#define SETS_DESCRIPTOR(name)                                                                      \
	HOOK(int, name, void *ssl, int fd)                                                         \
	{                                                                                          \
		struct tls_call call;                                                              \
		int result;                                                                        \
                                                                                                   \
		if (!ENTER(call, name, ssl))                                                       \
			return 0;                                                                  \
		result = call.library->name(ssl, fd);                                              \
		if (result == 1)                                                                   \
			olly_tls_uses(ssl, fd);                                                    \
		return result;                                                                     \
	}
SETS_DESCRIPTOR(SSL_set_fd)
SETS_DESCRIPTOR(SSL_set_rfd)
SETS_DESCRIPTOR(SSL_set_wfd)

HOOK(void *, SSL_new, void *context)
{
	struct tls_call call;
	void *ssl;

	if (!ENTER(call, SSL_new, context))
		return NULL;
	ssl = call.library->SSL_new(context);
	if (ssl)
		olly_tls_made(ssl);
	return ssl;
}

HOOK(int, SSL_clear, void *ssl)
{
	struct tls_call call;
	int result;

	if (!ENTER(call, SSL_clear, ssl))
		return 0;
	result = call.library->SSL_clear(ssl);
	if (result == 1)
		olly_tls_cleared(ssl);
	return result;
}

HOOK(void, SSL_free, void *ssl)
{
	struct tls_call call;

	if (!ENTER(call, SSL_free, ssl))
		return;
	olly_tls_freed(ssl, false); /* it may have other owners */
	call.library->SSL_free(ssl);
}

HOOK(void, gnutls_record_cork, void *session)
{
	struct tls_call call;

	if (!ENTER(call, gnutls_record_cork, session))
		return;
	call.library->gnutls_record_cork(session);
	olly_tls_collects(session);
}

HOOK(void, gnutls_deinit, void *session)
{
	struct tls_call call;

	if (!ENTER(call, gnutls_deinit, session))
		return;
	olly_tls_freed(session, true);
	call.library->gnutls_deinit(session);
}
