/*
 * Header injection under TLS. A library takes one buffer a call, and wants the same one again where
 * it could not write all of it: so a request with its header is put together in memory of our own,
 * which stays until the library has taken it.
 */
#ifndef OLLY_PRELOAD_INJECT_TLS_H
#define OLLY_PRELOAD_INJECT_TLS_H

#include "inject.h"
#include "tls.h"

/* What is to be written instead of what the program gave. */
struct tls_write {
	const u8 *at;
	size_t left;
	struct composed *composed;
	struct session *session;
};

static inline bool olly_tls_follows(const struct session *s)
{
	const struct live *l = load_acquire(&olly_live);

	return s->http || (l && l->generation && load(&olly_region->inject));
}

extern u32 olly_tls_composed; /* requests that were put together and are not written yet */

static inline bool olly_tls_injects(void)
{
	const struct live *l = load_acquire(&olly_live);

	return load(&olly_tls_composed) || (l && l->generation && load(&olly_region->inject));
}

/* After a call that moved plaintext as the program gave or took it. */
void olly_tls_followed(struct session *s, const struct tls_library *t, void *ssl, int dir,
		       u64 position, const u8 *buffer, size_t n);
void olly_tls_unfollow(struct session *s);
/* What is written is only collected for now, and counted later, by a call that is not hooked. */
void olly_tls_collects(void *ssl);

/* Before a call that writes. False: it is made as it is. */
bool olly_tls_instead(const struct tls_call *call, void *ssl, const void *buffer, size_t size,
		      struct tls_write *w);
/* After it has written n bytes. True: the header has begun and not ended, once more. */
bool olly_tls_more(struct tls_write *w, size_t n);
/* The end of the call. How many bytes of the program's were taken; 0: what the call gave counts. */
size_t olly_tls_written(struct tls_call *call, void *ssl, struct tls_write *w);

#endif
