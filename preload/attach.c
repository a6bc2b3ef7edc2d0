/*
 * Finding the agent and giving it a region; knowing when it is gone.
 *
 * The whole handshake is: connect, send one message with one descriptor, close. Nothing is kept
 * open and nothing is waited for. It happens at the first accept(), connect() or call that moved
 * bytes of a stream socket, and then at most once in `pause_ns`.
 */
#include "olly.h"

#define SECOND 1000000000ull
#define SHORTEST_PAUSE (SECOND / 4)
#define LONGEST_PAUSE (8 * SECOND)

struct live *olly_live;
struct olly_preload_header *olly_region;
u32 olly_no_syscalls;

static char path[2][108]; /* of the agent's socket; the second one is tried after the first */
u32 olly_ring_bytes = OLLY_PRELOAD_RING_DEFAULT;
static u64 attach_wait_ns; /* for the agent's word, once */
static u64 generations;	   /* attachments of this program and of those it was forked from */

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
	struct live *none = NULL, *page = platform_wiped_by_fork();

	if (page && !__atomic_compare_exchange_n(&olly_live, &none, page, false, __ATOMIC_ACQ_REL,
						 __ATOMIC_ACQUIRE))
		platform_unwipe(page);
	return olly_live;
}

/*
 * A new region, mapped where the one before was: a thread that is still writing there writes into
 * memory that exists, whatever comes of it; the agent looks before it believes.
 */
static int make_region(void)
{
	void *at = olly_region;
	const int fd = platform_region(region_size(), &at);

	if (fd < 0)
		return fd;
	olly_region = at;
	olly_region->magic = OLLY_PRELOAD_MAGIC;
	olly_region->version = OLLY_PRELOAD_VERSION;
	olly_region->slots = OLLY_PRELOAD_SLOTS;
	olly_region->ring_bytes = olly_ring_bytes;
	olly_region->policies = OLLY_PRELOAD_POLICIES;
	return fd;
}

/*
 * What the agent wants to be injected it says in the region, once it has taken it: too late for the
 * first requests of a program, unless that was told to wait a moment. Only the first time.
 */
static void wait_for_word(void)
{
	const u64 end = olly_now() + attach_wait_ns;
	u64 now;

	attach_wait_ns = 0;
	while (!load_acquire(&olly_region->told) && (now = olly_now()) < end)
		platform_wait(&olly_region->told, end - now);
}

/* Called with l->attaching held. */
static bool attach(struct live *l)
{
	const bool had = l->agent != 0; /* wiped in a child */
	struct olly_preload_hello hello = {.magic = OLLY_PRELOAD_MAGIC,
					   .version = OLLY_PRELOAD_VERSION,
					   .kind = had		 ? OLLY_PRELOAD_AGAIN
						   : generations ? OLLY_PRELOAD_FORK
								 : OLLY_PRELOAD_EXEC};
	u64 agent = 0;
	int fd, region;
	bool done;

	if (!platform_limits_allow(region_size()))
		return false;
	fd = platform_reach_agent(path[0], &agent);
	if (fd < 0)
		fd = platform_reach_agent(path[1], &agent);
	if (fd < 0)
		return false;
	if (l->generation) {
		/* Silent, but the same one: it is stopped or slow, and has our region already. */
		if (agent == l->agent && agent > 1 && !olly_region->detached) {
			platform_close(fd);
			return true;
		}
		store_release(&l->generation, 0);
	}
	region = make_region();
	if (region < 0) {
		platform_close(fd);
		return false;
	}
	done = platform_send_hello(fd, &hello, region);
	platform_close(region);
	platform_close(fd);
	if (!done)
		return false;
	platform_clock_starts();
	l->pid = platform_process();
	l->agent = agent;
	if (unlikely(attach_wait_ns))
		wait_for_word();
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
		platform_wake(&olly_region->reader_sleeps);
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

/* A number with s or ms behind it, 10 s at most. What cannot be read is ignored. */
static void set_attach_wait(const char *text)
{
	u64 n = 0;

	for (; *text >= '0' && *text <= '9' && n < 100000; text++)
		n = n * 10 + (u64)(*text - '0');
	if (text[0] == 's')
		n *= SECOND;
	else if (text[0] == 'm' && text[1] == 's')
		n *= SECOND / 1000;
	else
		return;
	attach_wait_ns = n < 10 * SECOND ? n : 10 * SECOND;
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
	text = value_of(environment, "OLLY_HOOK_SOCKET_ATTACH_WAIT");
	if (text)
		set_attach_wait(text);
}
