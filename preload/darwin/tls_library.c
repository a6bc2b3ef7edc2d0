/*
 * Which TLS library a call is for: the one that dyld bound this library to, since only its
 * functions are replaced. One that is loaded later (Python's own) is not seen. Builds; never run.
 */
#include "tls.h"

static struct tls_library bound = {
#define X(name, result, arguments) .name = name,
	OLLY_TLS_HOOKED(X) OLLY_TLS_ASKED(X)
#undef X
};

struct tls_library *olly_tls_library(const char *name, const void *caller, const void *hook,
				     const void *object, struct tls_library *own)
{
	(void)name;
	(void)caller;
	(void)hook;
	(void)object;
	(void)own;
	return &bound;
}
