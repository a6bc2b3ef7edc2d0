/*
 * OpenSSL's functions, or those of what has the same names, opened by name: one program tries all
 * libraries that there are. What a library may lack is NULL then.
 */
#ifndef OLLY_KERNEL_TEST_TLS_LIBRARY_H
#define OLLY_KERNEL_TEST_TLS_LIBRARY_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

#include "kt_tls_cert.h"
#include "truth.h"

enum { WANT_READ = 2, WANT_WRITE = 3, ZERO_RETURN = 6 };
/* Of SSL_ctrl and SSL_CTX_ctrl. */
enum { TOTAL_RENEGOTIATIONS = 12, MODE = 33, SET_MAX_VERSION = 124 };
enum { PARTIAL_WRITE = 1, MOVING_BUFFER = 2, RELEASE_BUFFERS = 0x10 };

#define NEEDED(X)                                                                                  \
	X(TLS_method, const void *, (void))                                                        \
	X(SSL_CTX_new, void *, (const void *))                                                     \
	X(SSL_CTX_use_certificate_ASN1, int, (void *, int, const unsigned char *))                 \
	X(SSL_CTX_use_PrivateKey_ASN1, int, (int, void *, const unsigned char *, long))            \
	X(SSL_new, void *, (void *))                                                               \
	X(SSL_free, void, (void *))                                                                \
	X(SSL_set_fd, int, (void *, int))                                                          \
	X(SSL_set_bio, void, (void *, void *, void *))                                             \
	X(SSL_set_connect_state, void, (void *))                                                   \
	X(SSL_set_accept_state, void, (void *))                                                    \
	X(SSL_do_handshake, int, (void *))                                                         \
	X(SSL_get_error, int, (const void *, int))                                                 \
	X(SSL_read, int, (void *, void *, int))                                                    \
	X(SSL_peek, int, (void *, void *, int))                                                    \
	X(SSL_write, int, (void *, const void *, int))                                             \
	X(SSL_key_update, int, (void *, int))                                                      \
	X(SSL_shutdown, int, (void *))                                                             \
	X(BIO_new, void *, (const void *))                                                         \
	X(BIO_s_mem, const void *, (void))                                                         \
	X(BIO_read, int, (void *, void *, int))                                                    \
	X(BIO_write, int, (void *, const void *, int))                                             \
	X(BIO_ctrl_pending, size_t, (void *))                                                      \
	X(ERR_clear_error, void, (void))

/* BoringSSL lacks these, or has them by other arguments. */
#define WANTED(X)                                                                                  \
	X(SSL_CTX_ctrl, long, (void *, int, long, void *))                                         \
	X(SSL_read_ex, int, (void *, void *, size_t, size_t *))                                    \
	X(SSL_peek_ex, int, (void *, void *, size_t, size_t *))                                    \
	X(SSL_write_ex, int, (void *, const void *, size_t, size_t *))                             \
	X(SSL_write_early_data, int, (void *, const void *, size_t, size_t *))                     \
	X(SSL_read_early_data, int, (void *, void *, size_t, size_t *))                            \
	X(SSL_CTX_set_max_early_data, int, (void *, unsigned))                                     \
	X(SSL_get1_session, void *, (void *))                                                      \
	X(SSL_set_session, int, (void *, void *))                                                  \
	X(SSL_renegotiate, int, (void *))                                                          \
	X(SSL_ctrl, long, (void *, int, long, void *))                                             \
	X(SSL_renegotiate_pending, int, (const void *))                                            \
	X(SSL_CTX_set_read_ahead, void, (void *, int))                                             \
	X(SSL_CTX_set_options, uint64_t, (void *, uint64_t))                                       \
	X(SSL_CTX_set_min_proto_version, int, (void *, uint16_t))                                  \
	X(SSL_CTX_set_max_proto_version, int, (void *, uint16_t))                                  \
	X(SSL_CTX_set_mode, uint32_t, (void *, uint32_t))

#define X(name, result, arguments) static result(*p_##name) arguments;
NEEDED(X)
WANTED(X)
#undef X

static inline int write_as_ex(void *ssl, const void *data, size_t length, size_t *moved)
{
	int result = p_SSL_write(ssl, data, (int)length);

	*moved = result > 0 ? (size_t)result : 0;
	return result > 0 ? 1 : result;
}

static inline int read_as_ex(void *ssl, void *to, size_t length, size_t *moved)
{
	int result = p_SSL_read(ssl, to, (int)length);

	*moved = result > 0 ? (size_t)result : 0;
	return result > 0 ? 1 : result;
}

static inline int peek_as_ex(void *ssl, void *to, size_t length, size_t *moved)
{
	int result = p_SSL_peek(ssl, to, (int)length);

	*moved = result > 0 ? (size_t)result : 0;
	return result > 0 ? 1 : result;
}

/* False: it cannot be opened, which is said. */
static inline int open_library(const char *ssl, const char *crypto)
{
	void *below = dlopen(crypto, RTLD_NOW | RTLD_GLOBAL);
	void *library = below ? dlopen(ssl, RTLD_NOW | RTLD_GLOBAL) : NULL;

	if (!library) {
		kt_line("skip %s", dlerror());
		return 0;
	}
#define X(name, result, arguments)                                                                 \
	p_##name = (result(*) arguments)dlsym(library, #name);                                     \
	if (!p_##name)                                                                             \
		p_##name = (result(*) arguments)dlsym(below, #name);
	NEEDED(X)
	WANTED(X)
#undef X
#define X(name, result, arguments) CHECK(p_##name);
	NEEDED(X)
#undef X
	if (!p_SSL_write_ex)
		p_SSL_write_ex = write_as_ex;
	if (!p_SSL_read_ex)
		p_SSL_read_ex = read_as_ex;
	if (!p_SSL_peek_ex)
		p_SSL_peek_ex = peek_as_ex;
	return 1;
}

/* The library's object of an end on `fd`. `in` and `out` are NULL, or get the memory BIOs by which
 * the program moves the ciphertext itself. */
static inline void *make_ssl(void *context, int is_client, int fd, void **in, void **out)
{
	void *ssl = p_SSL_new(context);

	CHECK(ssl);
	if (in) {
		*in = p_BIO_new(p_BIO_s_mem());
		*out = p_BIO_new(p_BIO_s_mem());
		p_SSL_set_bio(ssl, *in, *out);
	} else {
		CHECK(p_SSL_set_fd(ssl, fd) == 1);
	}
	if (is_client)
		p_SSL_set_connect_state(ssl);
	else
		p_SSL_set_accept_state(ssl);
	return ssl;
}

/* For both ends, of one version only. */
static inline void *make_context(int version, unsigned mode)
{
	void *context = p_SSL_CTX_new(p_TLS_method());

	CHECK(context);
	CHECK(p_SSL_CTX_use_certificate_ASN1(context, sizeof(kCertificate), kCertificate) == 1);
	CHECK(p_SSL_CTX_use_PrivateKey_ASN1(408 /* EC */, context, kKey, sizeof(kKey)) == 1);
	if (p_SSL_CTX_ctrl && !p_SSL_CTX_set_mode) {
		CHECK(p_SSL_CTX_ctrl(context, SET_MAX_VERSION, version, NULL) == 1);
		p_SSL_CTX_ctrl(context, MODE, mode, NULL);
	} else {
		CHECK(p_SSL_CTX_set_max_proto_version(context, (uint16_t)version) == 1);
		p_SSL_CTX_set_mode(context, mode);
	}
	return context;
}

#endif
