/*
 * Finding the agent and giving it a region; knowing when it is gone.
 *
 * The whole handshake is: connect, send one message with one descriptor, close. Nothing is kept
 * open and nothing is waited for. It happens at the first accept(), connect() or call that moved
 * bytes of a stream socket, and then at most once in `pause_ns`.
 */
#define _GNU_SOURCE
#include "olly.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#define EINVAL 22
#define SECOND 1000000000ull
#define SHORTEST_PAUSE (SECOND / 4)
#define LONGEST_PAUSE (8 * SECOND)
/* Under a limit on address space smaller than this, the region would be missed. */
#define ENOUGH_ADDRESS_SPACE (4ull << 30)

struct live *olly_live;
struct olly_preload_header *olly_region;
u32 olly_no_syscalls;

static char path[2][108]; /* of the agent's socket; the second one is tried after the first */
u32 olly_ring_bytes = OLLY_PRELOAD_RING_DEFAULT;
static u64 generations; /* attachments of this program and of those it was forked from */

extern int clock_gettime(clockid_t, struct timespec *) __attribute__((weak));

static u64 clock_now(clockid_t clock)
{
	struct timespec t = {0, 0};

	if (likely(clock_gettime != NULL)) /* the vDSO's: no system call, no errno */
		clock_gettime(clock, &t);
	else
		sys(SYS_clock_gettime, clock, &t);
	return (u64)t.tv_sec * SECOND + (u64)t.tv_nsec;
}

u64 olly_now(void)
{
	return clock_now(CLOCK_MONOTONIC);
}

u64 olly_coarse_now(void)
{
	return clock_now(CLOCK_MONOTONIC_COARSE);
}

struct olly_policy *olly_policies(void)
{
	return (struct olly_policy *)((u8 *)olly_region + OLLY_PRELOAD_HEADER_BYTES);
}

struct olly_preload_slot *olly_slots(void)
{
	return (struct olly_preload_slot *)(olly_policies() + OLLY_PRELOAD_POLICIES);
}

u8 *olly_ring(u32 slot)
{
	return (u8 *)(olly_slots() + OLLY_PRELOAD_SLOTS) + (u64)slot * olly_ring_bytes;
}

static u64 region_size(void)
{
	return OLLY_PRELOAD_HEADER_BYTES + sizeof(struct olly_policy) * OLLY_PRELOAD_POLICIES +
	       sizeof(struct olly_preload_slot) * OLLY_PRELOAD_SLOTS +
	       (u64)OLLY_PRELOAD_SLOTS * olly_ring_bytes;
}

/* The page that a fork wipes. Two threads may make one each: one of them stays. */
static struct live *make_live(void)
{
	struct live *none = NULL;
	long page =
		sys(SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page < 0 && page > -4096)
		return NULL;
	if (sys(SYS_madvise, page, 4096, MADV_WIPEONFORK) != 0 ||
	    !__atomic_compare_exchange_n(&olly_live, &none, (struct live *)page, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		sys(SYS_munmap, page, 4096);
	return olly_live;
}

/* A connected socket, or less than 0. `agent`: the pid that listens, in our namespace. */
static int reach_agent(const char *where, u64 *agent)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred cred = {0, 0, 0};
	u32 length = sizeof(cred);
	u32 n = 0;
	int fd;

	for (; where[n] && n < sizeof(address.sun_path) - 1; n++)
		address.sun_path[n] = where[n];
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
	sys(SYS_close, fd);
	return -1;
}

/* Limits under which a region would do harm: SIGXFSZ from its size, address space that is missed.
 */
static bool limits_allow(u64 size)
{
	struct rlimit limit;

	if (sys(SYS_prlimit64, 0, RLIMIT_FSIZE, NULL, &limit) != 0 || limit.rlim_cur < size)
		return false;
	return sys(SYS_prlimit64, 0, RLIMIT_AS, NULL, &limit) == 0 &&
	       limit.rlim_cur >= ENOUGH_ADDRESS_SPACE;
}

/*
 * A new region, mapped where the one before was: a thread that is still writing there writes into
 * memory that exists, whatever comes of it; the agent looks before it believes.
 */
static int make_region(u64 size)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int fd = (int)sys(SYS_memfd_create, "olly",
			  MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
	long at;

	if (fd == -EINVAL) /* before Linux 6.3 */
		fd = (int)sys(SYS_memfd_create, "olly", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return fd;
	if (sys(SYS_ftruncate, fd, size) != 0 || sys(SYS_fcntl, fd, F_ADD_SEALS, seals) != 0)
		goto fail;
	at = sys(SYS_mmap, olly_region, size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_NORESERVE | (olly_region ? MAP_FIXED : 0), fd, 0);
	if (at < 0 && at > -4096)
		goto fail;
	olly_region = (struct olly_preload_header *)at;
	olly_region->magic = OLLY_PRELOAD_MAGIC;
	olly_region->version = OLLY_PRELOAD_VERSION;
	olly_region->slots = OLLY_PRELOAD_SLOTS;
	olly_region->ring_bytes = olly_ring_bytes;
	olly_region->policies = OLLY_PRELOAD_POLICIES;
	return fd;
fail:
	sys(SYS_close, fd);
	return -1;
}

static u32 network(void)
{
	struct stat status;

	if (sys(SYS_newfstatat, AT_FDCWD, "/proc/self/ns/net", &status, 0) != 0)
		return 0;
	return (u32)status.st_ino;
}

static bool send_hello(int agent, int region, u32 kind)
{
	struct olly_preload_hello hello = {.magic = OLLY_PRELOAD_MAGIC,
					   .version = OLLY_PRELOAD_VERSION,
					   .kind = kind,
					   .netns = network()};
	struct iovec part = {&hello, sizeof(hello)};
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
	sys(SYS_prctl, 16 /* PR_GET_NAME */, hello.comm, 0, 0, 0);
	sys(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", hello.filename, sizeof(hello.filename) - 1);
	return sys(SYS_sendmsg, agent, &message, MSG_NOSIGNAL | MSG_DONTWAIT) ==
	       (long)sizeof(hello);
}

/* Called with l->attaching held. */
static bool attach(struct live *l)
{
	const bool had = l->agent != 0; /* wiped in a child */
	const u32 kind = had	       ? OLLY_PRELOAD_AGAIN
			 : generations ? OLLY_PRELOAD_FORK
				       : OLLY_PRELOAD_EXEC;
	u64 agent = 0;
	int fd, region;
	bool done;

	if (!limits_allow(region_size()))
		return false;
	fd = reach_agent(path[0], &agent);
	if (fd < 0)
		fd = reach_agent(path[1], &agent);
	if (fd < 0)
		return false;
	if (l->generation) {
		/* Silent, but the same one: it is stopped or slow, and has our region already. */
		if (agent == l->agent && agent > 1 && !olly_region->detached) {
			sys(SYS_close, fd);
			return true;
		}
		store_release(&l->generation, 0);
	}
	region = make_region(region_size());
	if (region < 0) {
		sys(SYS_close, fd);
		return false;
	}
	done = send_hello(fd, region, kind);
	sys(SYS_close, region);
	sys(SYS_close, fd);
	if (!done)
		return false;
	l->pid = (u32)sys(SYS_getpid);
	l->agent = agent;
	store_release(&l->generation, ++generations);
	return true;
}

static void try_attach(struct live *l, u64 now)
{
	u32 free = 0;

	if (!__atomic_compare_exchange_n(&l->attaching, &free, 1, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return;
	if (attach(l)) {
		l->pause_ns = SHORTEST_PAUSE;
		l->next_try_ns = now + SECOND;
	} else {
		l->pause_ns = l->pause_ns ? l->pause_ns * 2 : SHORTEST_PAUSE;
		if (l->pause_ns > LONGEST_PAUSE)
			l->pause_ns = LONGEST_PAUSE;
		l->next_try_ns = now + l->pause_ns;
	}
	store_release(&l->attaching, 0);
}

bool olly_attach_now(void)
{
	struct live *l = olly_live;
	u64 now;

	if (load(&olly_no_syscalls) || (!path[0][0] && !path[1][0]))
		return false;
	if (!l) {
		l = make_live();
		if (!l)
			return false;
	}
	now = olly_coarse_now();
	if (now < l->next_try_ns)
		return false;
	try_attach(l, now);
	return l->generation != 0;
}

/* The agent has said goodbye, or nothing for a while. */
void olly_agent_gone(u64 now)
{
	struct live *l = olly_live;

	if (load(&olly_no_syscalls) || now < l->next_try_ns)
		return;
	try_attach(l, now);
}

void olly_wake_agent(void)
{
	if (load(&olly_no_syscalls))
		return; /* it looks by itself five times a second */
	if (__atomic_exchange_n(&olly_region->reader_sleeps, 0, __ATOMIC_RELAXED))
		sys(SYS_futex, &olly_region->reader_sleeps, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* --- what the environment says, once, before main -----------------------------------------------
 */

static const char *value_of(char **environment, const char *name)
{
	for (; *environment; environment++) {
		const char *e = *environment;
		u32 i = 0;

		while (name[i] && e[i] == name[i])
			i++;
		if (!name[i] && e[i] == '=')
			return e + i + 1;
	}
	return NULL;
}

/* Too long a path is no path: a cut one would name something else. */
static void set_path(char *to, const char *text, const char *behind)
{
	u32 n = 0;
	const char *part;

	for (part = text; *part && n < sizeof(path[0]); part++)
		to[n++] = *part;
	for (part = behind; *part && n < sizeof(path[0]); part++)
		to[n++] = *part;
	if (n >= sizeof(path[0]))
		n = 0;
	to[n] = '\0';
}

/* Bytes, with KiB or MiB behind; rounded down to a power of two. What cannot be read is ignored. */
static void set_ring_bytes(const char *text)
{
	u64 n = 0;

	for (; *text >= '0' && *text <= '9' && n < (1ull << 32); text++)
		n = n * 10 + (u64)(*text - '0');
	if (text[0] == 'K' && text[1] == 'i')
		n <<= 10;
	else if (text[0] == 'M' && text[1] == 'i')
		n <<= 20;
	if (n < OLLY_PRELOAD_RING_SMALLEST || n > OLLY_PRELOAD_RING_LARGEST)
		return;
	olly_ring_bytes = OLLY_PRELOAD_RING_SMALLEST;
	while ((u64)olly_ring_bytes * 2 <= n)
		olly_ring_bytes *= 2;
}

__attribute__((visibility("hidden"))) void olly_read_environment(char **environment)
{
	const char *text;

	if (!environment)
		return;
	text = value_of(environment, "OLLY_HOOK_SOCKET_PATH");
	if (text && *text) {
		set_path(path[0], text, "");
	} else {
		set_path(path[0], "/run/olly/hook.sock", "");
		text = value_of(environment, "XDG_RUNTIME_DIR");
		if (text && *text)
			set_path(path[1], text, "/olly/hook.sock");
	}
	text = value_of(environment, "OLLY_HOOK_SOCKET_RING_SIZE");
	if (text)
		set_ring_bytes(text);
}
