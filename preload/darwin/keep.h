/* libSystem's calls set errno, which is the program's. */
#ifndef OLLY_PRELOAD_DARWIN_KEEP_H
#define OLLY_PRELOAD_DARWIN_KEEP_H

#include <errno.h>

static inline void put_errno_back(const int *saved)
{
	errno = *saved;
}

/* As the first declaration of a block: errno is at its end what it was here. */
#define KEEP_ERRNO const int saved_errno __attribute__((cleanup(put_errno_back), unused)) = errno

#endif
