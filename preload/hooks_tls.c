/*
 * Calls into TLS libraries. Each: the real call, then what plaintext it moved. Nothing of the
 * program's state is touched: not errno, not the library's queue of errors.
 *
 * A program that only asks whether it has such a function (a weak reference, dlsym for everybody's)
 * finds one here. Called without a TLS library, they fail as they would on a broken session.
 */
#include "elf.h"
#include "real.h"
#include "tls.h"

/* The library is looked up by who calls; so this is no function of its own. */
#define ENTER(call, name, object)                                                                  \
	((call).library = olly_tls_library(#name, __builtin_return_address(0), (void *)name,       \
					   object, &(call).own))
#define BEGIN(call, ssl) olly_tls_begin(&(call), ssl, __builtin_frame_address(0))

EXPORT int SSL_read(void *ssl, void *buffer, int size)
{
	struct tls_call call;
	int n;

	if (!ENTER(call, SSL_read, ssl))
		return -1;
	BEGIN(call, ssl);
	n = call.library->SSL_read(ssl, buffer, size);
	olly_tls_end(&call, ssl, OLLY_RECV, n > 0 ? (size_t)n : 0, size > 0, buffer);
	return n;
}

EXPORT int SSL_read_ex(void *ssl, void *buffer, size_t size, size_t *moved)
{
	struct tls_call call;
	int done;

	if (!ENTER(call, SSL_read_ex, ssl))
		return 0;
	BEGIN(call, ssl);
	done = call.library->SSL_read_ex(ssl, buffer, size, moved);
	olly_tls_end(&call, ssl, OLLY_RECV, done == 1 ? *moved : 0, size > 0, buffer);
	return done;
}

EXPORT int SSL_read_early_data(void *ssl, void *buffer, size_t size, size_t *moved)
{
	struct tls_call call;
	int done;

	if (!ENTER(call, SSL_read_early_data, ssl))
		return 0;
	BEGIN(call, ssl);
	done = call.library->SSL_read_early_data(ssl, buffer, size, moved);
	olly_tls_end(&call, ssl, OLLY_RECV, done == 1 ? *moved : 0, 0, buffer);
	return done;
}

EXPORT int SSL_write(void *ssl, const void *buffer, int size)
{
	struct tls_call call;
	int n;

	if (!ENTER(call, SSL_write, ssl))
		return -1;
	BEGIN(call, ssl);
	n = call.library->SSL_write(ssl, buffer, size);
	olly_tls_end(&call, ssl, OLLY_SEND, n > 0 ? (size_t)n : 0, 0, buffer);
	return n;
}

EXPORT int SSL_write_ex(void *ssl, const void *buffer, size_t size, size_t *moved)
{
	struct tls_call call;
	int done;

	if (!ENTER(call, SSL_write_ex, ssl))
		return 0;
	BEGIN(call, ssl);
	done = call.library->SSL_write_ex(ssl, buffer, size, moved);
	olly_tls_end(&call, ssl, OLLY_SEND, done == 1 ? *moved : 0, 0, buffer);
	return done;
}

EXPORT int SSL_write_early_data(void *ssl, const void *buffer, size_t size, size_t *moved)
{
	struct tls_call call;
	int done;

	if (!ENTER(call, SSL_write_early_data, ssl))
		return 0;
	BEGIN(call, ssl);
	done = call.library->SSL_write_early_data(ssl, buffer, size, moved);
	olly_tls_end(&call, ssl, OLLY_SEND, done == 1 ? *moved : 0, 0, buffer);
	return done;
}

EXPORT ssize_t SSL_sendfile(void *ssl, int fd, off_t at, size_t size, int flags)
{
	struct tls_call call;
	ssize_t n;

	if (!ENTER(call, SSL_sendfile, ssl))
		return -1;
	BEGIN(call, ssl);
	n = call.library->SSL_sendfile(ssl, fd, at, size, flags);
	olly_tls_end(&call, ssl, OLLY_SEND, n > 0 ? (size_t)n : 0, 0, NULL);
	return n;
}

/* These move ciphertext only: which says what socket it is. */
#define MOVES_RECORDS(name, direction)                                                             \
	EXPORT int name(void *ssl)                                                                 \
	{                                                                                          \
		struct tls_call call;                                                              \
		int result;                                                                        \
                                                                                                   \
		if (!ENTER(call, name, ssl))                                                       \
			return -1;                                                                 \
		BEGIN(call, ssl);                                                                  \
		result = call.library->name(ssl);                                                  \
		olly_tls_end(&call, ssl, direction, 0, 0, NULL);                                   \
		return result;                                                                     \
	}
MOVES_RECORDS(SSL_do_handshake, OLLY_RECV)
MOVES_RECORDS(SSL_connect, OLLY_RECV)
MOVES_RECORDS(SSL_accept, OLLY_RECV)
MOVES_RECORDS(SSL_shutdown, OLLY_SEND)
MOVES_RECORDS(gnutls_handshake, OLLY_RECV)

#define SETS_DESCRIPTOR(name)                                                                      \
	EXPORT int name(void *ssl, int fd)                                                         \
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

EXPORT void *SSL_new(void *context)
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

EXPORT int SSL_clear(void *ssl)
{
	struct tls_call call;
	int result;

	if (!ENTER(call, SSL_clear, ssl))
		return 0;
	result = call.library->SSL_clear(ssl);
	if (result == 1)
		olly_tls_made(ssl);
	return result;
}

EXPORT void SSL_free(void *ssl)
{
	struct tls_call call;

	if (!ENTER(call, SSL_free, ssl))
		return;
	olly_tls_freed(ssl, false); /* it may have other owners */
	call.library->SSL_free(ssl);
}

/* --- GnuTLS ------------------------------------------------------------------------------------
 */

EXPORT ssize_t gnutls_record_send(void *session, const void *data, size_t size)
{
	struct tls_call call;
	ssize_t n;

	if (!ENTER(call, gnutls_record_send, session))
		return -1;
	BEGIN(call, session);
	n = call.library->gnutls_record_send(session, data, size);
	/* no data: what could not be sent before is sent now */
	olly_tls_end(&call, session, OLLY_SEND, n > 0 ? (size_t)n : 0, 0, data);
	return n;
}

EXPORT ssize_t gnutls_record_send2(void *session, const void *data, size_t size, size_t pad,
				   unsigned flags)
{
	struct tls_call call;
	ssize_t n;

	if (!ENTER(call, gnutls_record_send2, session))
		return -1;
	BEGIN(call, session);
	n = call.library->gnutls_record_send2(session, data, size, pad, flags);
	olly_tls_end(&call, session, OLLY_SEND, n > 0 ? (size_t)n : 0, 0, data);
	return n;
}

EXPORT ssize_t gnutls_record_recv(void *session, void *data, size_t size)
{
	struct tls_call call;
	ssize_t n;

	if (!ENTER(call, gnutls_record_recv, session))
		return -1;
	BEGIN(call, session);
	n = call.library->gnutls_record_recv(session, data, size);
	if (n == 0 && size > 0)
		olly_inner.eof = true; /* close_notify */
	olly_tls_end(&call, session, OLLY_RECV, n > 0 ? (size_t)n : 0, size > 0, data);
	return n;
}

EXPORT int gnutls_bye(void *session, int how)
{
	struct tls_call call;
	int result;

	if (!ENTER(call, gnutls_bye, session))
		return -1;
	BEGIN(call, session);
	result = call.library->gnutls_bye(session, how);
	olly_tls_end(&call, session, OLLY_SEND, 0, 0, NULL);
	return result;
}

EXPORT void gnutls_deinit(void *session)
{
	struct tls_call call;

	if (!ENTER(call, gnutls_deinit, session))
		return;
	olly_tls_freed(session, true);
	call.library->gnutls_deinit(session);
}

/* What was found among loaded objects may be gone after it. */
EXPORT int dlclose(void *handle)
{
	int (*real)(void *) = olly_real.dlclose;
	int result;

	if (!real) /* of a library that was loaded later */
		real = (int (*)(void *))olly_find_function("dlclose", __builtin_return_address(0),
							   (void *)dlclose, NULL);
	if (!real)
		return -1;
	result = real(handle);
	olly_tls_changed();
	return result;
}
