/* Before main: what the environment says, and where the real functions are. */
#include "real.h"

#include "olly.h"

struct olly_real olly_real;
long (*olly_real_syscall)(long, ...);

extern void *dlsym(void *, const char *) __attribute__((weak));
extern char *dlerror(void) __attribute__((weak));
extern int *__errno_location(void) __attribute__((weak));
extern const char *gnu_get_libc_version(void) __attribute__((weak));
extern char **environ __attribute__((weak));
void olly_read_environment(char **environment);

#define NEXT ((void *)-1l) /* RTLD_NEXT, in glibc and in musl */

long olly_result(long value)
{
	if (value >= 0 || value < -4095)
		return value;
	if (__errno_location)
		*__errno_location() = (int)-value;
	return -1;
}

/*
 * A constructor, because nothing is simpler later: the program has one thread, no handler, and the
 * loader holds no lock that dlsym wants. A hooked call that comes in between (another
 * constructor's, or dlsym's own) goes to the kernel.
 *
 * glibc hands its constructors main's arguments; musl does not, but has set `environ` before.
 */
__attribute__((constructor(101))) static void start(int argc, char **argv, char **environment)
{
	const bool glibc = gnu_get_libc_version != NULL;
	struct olly_real found;

	(void)argc;
	(void)argv;
	if (!glibc)
		environment = &environ ? environ : NULL;
	olly_read_environment(environment);
	if (!dlsym)
		return;
	__builtin_memset(&found, 0, sizeof(found));
#define X(name, result, arguments) *(void **)&found.name = dlsym(NEXT, #name);
	OLLY_REALS(X)
#undef X
	if (dlerror)
		dlerror(); /* of what this libc does not have: nothing that the program did */
	olly_real = found;
	olly_real_syscall = found.syscall;
}
