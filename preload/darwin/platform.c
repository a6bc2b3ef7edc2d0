/* platform.h by macOS' libSystem: time, threads, and the agent. Builds; never run. */
#include "real.h"

#include "darwin/keep.h"
#include "olly.h"

#include <fcntl.h>
#include <libproc.h>
#include <mach-o/dyld.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/ucred.h>
#include <sys/un.h>
#include <time.h>

/* Under a limit on address space smaller than this, the region would be missed. */
#define ENOUGH_ADDRESS_SPACE (4ull << 30)
#define MAX_THREADS 1024u
#define WAKE_SHARED 1u /* OS_SYNC_WAKE_BY_ADDRESS_SHARED */

/* The same calls, but no points at which a thread may be cancelled. */
extern int connect_only(int, const struct sockaddr *, socklen_t) __asm("_connect$NOCANCEL");
extern int close_only(int) __asm("_close$NOCANCEL");
extern int fcntl_only(int, int, ...) __asm("_fcntl$NOCANCEL");
extern ssize_t sendmsg_only(int, const struct msghdr *, int) __asm("_sendmsg$NOCANCEL");
/* macOS 14.4. Before it, the agent looks by itself. */
extern int os_sync_wake_by_address_all(void *, size_t, u32) __attribute__((weak_import));

void olly_read_environment(char **environment);

struct olly_real olly_real = {
#define X(name, result, arguments) .name = name,
	OLLY_REALS(X)
#undef X
};

/* --- threads -----------------------------------------------------------------------------------
 */

static struct {
	u32 used;
	struct olly_thread state;
} threads[MAX_THREADS];
/* More threads than that, or before main: busy, so that it writes no record. */
static struct olly_thread nobody = {.writer = {.busy = 1}};
static pthread_key_t key;
static bool has_key;

static struct olly_thread *claim_thread(void)
{
	u32 i, none;

	for (i = 0; has_key && i < MAX_THREADS; i++) {
		none = 0;
		if (load(&threads[i].used) ||
		    !__atomic_compare_exchange_n(&threads[i].used, &none, 1, false,
						 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		__builtin_memset(&threads[i].state, 0, sizeof(threads[i].state));
		pthread_setspecific(key, &threads[i].state);
		return &threads[i].state;
	}
	return &nobody;
}

static void thread_ends(void *state)
{
	const size_t at = (size_t)((char *)state - (char *)&threads[0].state) / sizeof(threads[0]);

	store_release(&threads[at].used, 0);
}

struct olly_thread *olly_self(void)
{
	struct olly_thread *mine = has_key ? pthread_getspecific(key) : NULL;

	return likely(mine != NULL) ? mine : claim_thread();
}

u32 platform_process(void)
{
	return (u32)getpid();
}

u32 platform_thread(void)
{
	uint64_t id = 0;

	pthread_threadid_np(NULL, &id);
	return (u32)id ? (u32)id : 1;
}

bool platform_thread_lives(u32 process, u32 thread)
{
	struct proc_threadinfo info;
	KEEP_ERRNO;

	return proc_pidinfo((int)process, PROC_PIDTHREADID64INFO, thread, &info, sizeof(info)) > 0;
}

int *platform_errno(void)
{
	return &errno;
}

u64 olly_now(void)
{
	return clock_gettime_nsec_np(CLOCK_MONOTONIC_RAW);
}

u64 olly_coarse_now(void)
{
	return clock_gettime_nsec_np(CLOCK_MONOTONIC_RAW_APPROX);
}

void platform_clock_starts(void)
{
}

/* --- fork --------------------------------------------------------------------------------------
 */

static struct live live;

static void in_child(void)
{
	__builtin_memset(&live, 0, sizeof(live));
}

struct live *platform_wiped_by_fork(void)
{
	return &live;
}

void platform_unwipe(struct live *page)
{
	(void)page; /* there is only one */
}

__attribute__((constructor)) static void start(int argc, char **argv, char **environment)
{
	(void)argc;
	(void)argv;
	olly_read_environment(environment);
	pthread_atfork(NULL, NULL, in_child);
	has_key = pthread_key_create(&key, thread_ends) == 0;
}

/* --- the agent ---------------------------------------------------------------------------------
 */

static bool limit_is_less(int what, u64 than)
{
	struct rlimit limit;

	return getrlimit(what, &limit) != 0 || limit.rlim_cur < than;
}

bool platform_limits_allow(u64 size)
{
	KEEP_ERRNO;

	return !limit_is_less(RLIMIT_FSIZE, size) &&
	       !limit_is_less(RLIMIT_AS, ENOUGH_ADDRESS_SPACE);
}

/* "/olly" and a number: nobody else's by its process, its time, and O_EXCL. */
static void name_region(char name[24])
{
	u64 number = (u64)platform_process() << 40 ^ olly_now();
	u32 i;

	__builtin_memcpy(name, "/olly", 5);
	for (i = 5; i < 21; i++, number >>= 4)
		name[i] = "0123456789abcdef"[number & 15];
	name[i] = '\0';
}

/* POSIX shared memory without a name; here its size can be set once and never again. */
int platform_region(u64 size, void **at)
{
	char name[24];
	void *mapped;
	int fd;
	KEEP_ERRNO;

	name_region(name);
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return fd;
	shm_unlink(name);
	fcntl_only(fd, F_SETFD, FD_CLOEXEC);
	if (ftruncate(fd, (off_t)size) == 0) {
		mapped = mmap(*at, size, PROT_READ | PROT_WRITE, MAP_SHARED | (*at ? MAP_FIXED : 0),
			      fd, 0);
		if (mapped != MAP_FAILED) {
			*at = mapped;
			return fd;
		}
	}
	platform_close(fd);
	return -1;
}

/* UNIX sockets have no SEQPACKET here: a stream, on which one message is all that comes. */
int platform_reach_agent(const char *path, u64 *agent)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct xucred cred = {.cr_version = 0};
	socklen_t length = sizeof(cred), pid_length = sizeof(pid_t);
	pid_t pid = 0;
	const int on = 1;
	u32 n = 0;
	int fd;
	KEEP_ERRNO;

	for (; path[n] && n < sizeof(address.sun_path) - 1; n++)
		address.sun_path[n] = path[n];
	if (n == 0)
		return -1;
	address.sun_len = (u8)(offsetof(struct sockaddr_un, sun_path) + n + 1);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0)
		return fd;
	fcntl_only(fd, F_SETFD, FD_CLOEXEC);
	fcntl_only(fd, F_SETFL, O_NONBLOCK);
	setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
	/* Only root's agent, or our own user's, may see what this program says. */
	if (connect_only(fd, (struct sockaddr *)&address, address.sun_len) == 0 &&
	    getsockopt(fd, SOL_LOCAL, LOCAL_PEERCRED, &cred, &length) == 0 &&
	    cred.cr_version == XUCRED_VERSION && (cred.cr_uid == 0 || cred.cr_uid == geteuid()) &&
	    getsockopt(fd, SOL_LOCAL, LOCAL_PEERPID, &pid, &pid_length) == 0) {
		*agent = (u64)(u32)pid + 1;
		return fd;
	}
	platform_close(fd);
	return -1;
}

bool platform_send_hello(int agent, struct olly_preload_hello *hello, int region)
{
	struct iovec part = {hello, sizeof(*hello)};
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS}};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control.bytes)};
	const char *name = getprogname();
	u32 n, size = sizeof(hello->filename);
	KEEP_ERRNO;

	__builtin_memcpy(control.bytes + CMSG_LEN(0), &region, sizeof(region));
	for (n = 0; name && name[n] && n < sizeof(hello->comm) - 1; n++)
		hello->comm[n] = name[n];
	if (_NSGetExecutablePath(hello->filename, &size) != 0) /* too long: the agent asks */
		hello->filename[0] = '\0';
	return sendmsg_only(agent, &message, MSG_DONTWAIT) == (ssize_t)sizeof(*hello);
}

void platform_close(int fd)
{
	KEEP_ERRNO;

	close_only(fd);
}

void platform_wake(u32 *word)
{
	KEEP_ERRNO;

	if (os_sync_wake_by_address_all)
		os_sync_wake_by_address_all(word, sizeof(*word), WAKE_SHARED);
}

/* Header injection is not tried here: what it must know is not known. */
void platform_wait(u32 *word, u64 ns)
{
	(void)word;
	(void)ns;
}

bool platform_readable(const void *at, size_t n)
{
	(void)at;
	(void)n;
	return false;
}

bool platform_copy(void *to, const void *from, size_t n)
{
	(void)to;
	(void)from;
	(void)n;
	return false;
}

bool platform_random(void *to, size_t n)
{
	(void)to;
	(void)n;
	return false;
}

bool platform_takes_whole(int fd, u64 position, u32 bytes)
{
	(void)fd;
	(void)position;
	(void)bytes;
	return false;
}
