/* platform.h by Linux' system calls: threads, memory, and the agent. */
#define _GNU_SOURCE
#include "olly.h"
#include "linux/sys.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#define ESRCH 3
#define EINVAL 22
#define PAGE 4096
#define MOST_PAGES 6 /* of what platform_readable is asked for */
/* Under a limit on address space smaller than this, the region would be missed. */
#define ENOUGH_ADDRESS_SPACE (4ull << 30)

extern int *__errno_location(void) __attribute__((weak));

__thread struct olly_thread olly_this_thread;

static bool failed(long result)
{
	return result < 0 && result > -4096;
}

u32 platform_process(void)
{
	return (u32)sys(SYS_getpid);
}

u32 platform_thread(void)
{
	return (u32)sys(SYS_gettid);
}

bool platform_thread_lives(u32 process, u32 thread)
{
	return sys(SYS_tgkill, process, thread, 0) != -ESRCH;
}

int *platform_errno(void)
{
	return __errno_location ? __errno_location() : NULL;
}

struct live *platform_wiped_by_fork(void)
{
	const long page =
		sys(SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (failed(page))
		return NULL;
	if (sys(SYS_madvise, page, PAGE, MADV_WIPEONFORK) == 0)
		return (struct live *)page;
	platform_unwipe((struct live *)page);
	return NULL;
}

void platform_unwipe(struct live *page)
{
	sys(SYS_munmap, page, PAGE);
}

/* SIGXFSZ from its size; address space that is missed. */
bool platform_limits_allow(u64 size)
{
	struct rlimit limit;

	if (sys(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &limit) != 0 || limit.rlim_cur < size)
		return false;
	return sys(SYS_prlimit64, 0, RLIMIT_AS, NULL, &limit) == 0 &&
	       limit.rlim_cur >= ENOUGH_ADDRESS_SPACE;
}

int platform_region(u64 size, void **at)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int fd = (int)sys(SYS_memfd_create, "olly",
			  MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	long mapped;

	if (fd == -EINVAL) /* before Linux 6.3 */
		fd = (int)sys(SYS_memfd_create, "olly", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return fd;
	if (sys(SYS_ftruncate, fd, size) == 0 && sys(SYS_fcntl, fd, F_ADD_SEALS, seals) == 0) {
		mapped = sys(SYS_mmap, *at, size, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_NORESERVE | (*at ? MAP_FIXED : 0), fd, 0);
		if (!failed(mapped)) {
			*at = (void *)mapped;
			return fd;
		}
	}
	platform_close(fd);
	return -1;
}

int platform_reach_agent(const char *path, u64 *agent)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred cred = {0, 0, 0};
	u32 length = sizeof(cred);
	u32 n = 0;
	int fd;

	for (; path[n] && n < sizeof(address.sun_path) - 1; n++)
		address.sun_path[n] = path[n];
	if (n == 0)
		return -1;
	fd = (int)sys(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	/* Only root's agent, or our own user's, may see what this program says. */
	if (sys(SYS_connect, fd, &address, offsetof(struct sockaddr_un, sun_path) + n + 1) == 0 &&
	    sys(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) == 0 &&
	    (cred.uid == 0 || cred.uid == (u32)sys(SYS_geteuid))) {
		*agent = (u64)(u32)cred.pid + 1;
		return fd;
	}
	platform_close(fd);
	return -1;
}

static u32 network(void)
{
	struct stat status;

	if (sys(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/net", &status, 0) != 0)
		return 0;
	return (u32)status.st_ino;
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

	__builtin_memcpy(control.bytes + CMSG_LEN(0), &region, sizeof(region));
	hello->netns = network();
	sys(SYS_prctl, 16 /* PR_GET_NAME */, hello->comm, 0, 0, 0);
	sys(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", hello->filename,
	    sizeof(hello->filename) - 1);
	return sys(SYS_sendmsg, agent, &message, MSG_NOSIGNAL | MSG_DONTWAIT) ==
	       (long)sizeof(*hello);
}

void platform_close(int fd)
{
	sys(SYS_close, fd);
}

void platform_wake(u32 *word)
{
	sys(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void platform_wait(u32 *word, u64 ns)
{
	const struct timespec rest = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

	sys(SYS_futex, word, FUTEX_WAIT, 0, &rest, NULL, 0);
}

/* One byte of each page. */
bool platform_readable(const void *at, size_t n)
{
	struct iovec there[MOST_PAGES];
	u8 bytes[MOST_PAGES];
	const struct iovec here = {bytes, sizeof(bytes)};
	const u64 to = (u64)at + n;
	u64 byte = (u64)at;
	u32 count = 0;

	for (; byte < to && count < MOST_PAGES; byte = (byte | (PAGE - 1)) + 1) {
		there[count].iov_base = (void *)byte;
		there[count++].iov_len = 1;
	}
	return byte >= to && count > 0 &&
	       sys(SYS_process_vm_readv, platform_process(), &here, 1, there, count, 0) ==
		       (long)count;
}

bool platform_copy(void *to, const void *from, size_t n)
{
	const struct iovec here = {to, n}, there = {(void *)from, n};

	return sys(SYS_process_vm_readv, platform_process(), &here, 1, &there, 1, 0) == (long)n;
}

bool platform_random(void *to, size_t n)
{
	return sys(SYS_getrandom, to, n, 1 /* GRND_NONBLOCK */) == (long)n;
}
