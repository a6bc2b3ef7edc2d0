/*
 * Time for every record, by the processor's counter: 9 ns where the vDSO's clock takes 22, which
 * was half of what a record cost. The clock is asked once in a while, and the counter says how long
 * ago that was. Safe because
 *  - it is done only where the kernel's own clock is that counter (clocksource `tsc`: it has found
 *    the processors' counters to agree), and no one has forbidden its use (PR_SET_TSC);
 *  - the ratio is measured against the clock, and a reading serves for a millisecond at most,
 * within which the clock's own rate may be off by 0.05 % (adjtimex): half a microsecond;
 *  - each reading is compared with what would have been said. A counter that jumps (a virtual
 *    machine that moved, a suspended host) is measured anew; one that does so often is given up.
 * Per thread, so that nothing is shared; a thread's time never goes back.
 */
#define _GNU_SOURCE
#include "olly.h"
#include "linux/clock.h"
#include "linux/sys.h"

#include <fcntl.h>
#include <sys/prctl.h>

extern int clock_gettime(clockid_t, struct timespec *) __attribute__((weak));

static u64 clock_now(clockid_t clock)
{
	struct timespec t = {0, 0};

	if (likely(clock_gettime != NULL)) /* the vDSO's: no system call, no errno */
		clock_gettime(clock, &t);
	else
		sys(SYS_clock_gettime, clock, &t);
	return (u64)t.tv_sec * 1000000000ull + (u64)t.tv_nsec;
}

u64 olly_coarse_now(void)
{
	return clock_now(CLOCK_MONOTONIC_COARSE);
}

#ifdef __x86_64__

#define SERVES_NS 1000000ull		 /* a reading of the clock */
#define BASE_NS (20 * SERVES_NS)	 /* over which the ratio is measured, at least */
#define FRESH_BASE_NS (1000 * SERVES_NS) /* and then from a newer beginning */
#define LONGEST_BASE_NS                                                                            \
	(4000 * SERVES_NS) /* what fits, times 2^32; half an hour of silence says less */
#define UNDISTURBED 1000   /* counts that asking the clock may take */
#define MISTAKES 8u
/* Counts that make a millisecond, of processors of 0.1 to 10 GHz. */
#define SLOWEST 100000u
#define FASTEST 10000000u

/* What all threads use. `ratio`: ns per count, times 2^32; 0 while it is not known. */
static u32 allowed, mistakes;
static u64 ratio, serves; /* counts */
static u32 measuring;	  /* one thread at a time */
static u64 base_count, base_ns;
static u32 measured_mistakes;

static u64 count_now(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

static u64 ns_of(u64 counts, u64 by)
{
	return (u64)((unsigned __int128)counts * by >> 32);
}

/* The counter is not what it was thought to be. */
static void mistaken(void)
{
	store(&ratio, 0);
	store(&serves, 0);
	if (add(&mistakes, 1) + 1 >= MISTAKES)
		store(&allowed, 0);
}

/* One more reading: both from their beginnings on. */
static void compare(u64 count, u64 ns)
{
	const u64 known = load(&ratio);
	u64 found, counts;

	if (!base_ns || count <= base_count || ns - base_ns >= LONGEST_BASE_NS)
		goto begin;
	if (ns - base_ns < BASE_NS)
		return;
	found = ((ns - base_ns) << 32) / (count - base_count);
	counts = found ? (SERVES_NS << 32) / found : 0;
	/* Either went on while the other stood still: a suspended host, a copy of a machine. */
	if (counts < SLOWEST || counts > FASTEST ||
	    (known && (found > known + known / 500 || found + known / 500 < known))) {
		if (known)
			mistaken();
		goto begin;
	}
	store(&ratio, found);
	store(&serves, counts);
	if (ns - base_ns < FRESH_BASE_NS)
		return;
begin:
	base_count = count;
	base_ns = ns;
}

static void measure(u64 count, u64 ns)
{
	u32 none = 0;

	if (!__atomic_compare_exchange_n(&measuring, &none, 1, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return;
	if (!load(&ratio)) { /* perhaps because of a mistake, before which nothing counts */
		if (measured_mistakes != load(&mistakes))
			base_ns = 0;
		measured_mistakes = load(&mistakes);
	}
	compare(count, ns);
	store_release(&measuring, 0);
}

/* Asks the clock, for this call and those of the next millisecond. */
static __attribute__((noinline)) u64 read_clock(struct reading *r)
{
	u64 before, after, ns, by;

	if (!load(&allowed) || r->busy) { /* a signal handler within the lines below */
		ns = clock_now(CLOCK_MONOTONIC);
		return ns < load(&r->said) ? load(&r->said) : ns;
	}
	r->busy = 1;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	before = count_now();
	ns = clock_now(CLOCK_MONOTONIC);
	after = count_now();
	by = load(&ratio);
	if (r->ns && by && after > r->count && after - r->count < 64 * load(&serves)) {
		const u64 most = 2000 + (ns - r->ns) / 1000;

		/* it was asked in between */
		if (before < r->count || r->ns + ns_of(before - r->count, by) > ns + most ||
		    r->ns + ns_of(after - r->count, by) + most < ns)
			mistaken();
	}
	r->count = 0;
	if (after > before && after - before < UNDISTURBED) {
		before += (after - before) / 2;
		measure(before, ns);
		r->ns = ns;
		r->count = before;
	}
	if (ns < r->said)
		ns = r->said;
	r->said = ns;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	r->busy = 0;
	return ns;
}

u64 olly_now(void)
{
	struct reading *r = &olly_self()->reading;
	const u64 most = load(&serves);
	u64 since, ns;

	if (unlikely(!most || r->busy)) /* then the counter is not asked: it may be forbidden */
		return read_clock(r);
	since = count_now() - r->count;
	if (unlikely(since >= most))
		return read_clock(r);
	ns = r->ns + (since * load(&ratio) >> 32);
	if (unlikely(ns < r->said))
		ns = r->said;
	r->said = ns;
	return ns;
}

void platform_clock_starts(void)
{
	static const char name[] =
		"/sys/devices/system/clocksource/clocksource0/current_clocksource";
	char text[8] = "";
	int use = 0, fd;

	if (load(&allowed) || load(&mistakes))
		return;
	fd = (int)sys(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (sys(SYS_read, fd, text, sizeof(text)) == 4 && __builtin_memcmp(text, "tsc\n", 4) == 0 &&
	    sys(SYS_prctl, PR_GET_TSC, &use, 0, 0, 0) == 0 && use == PR_TSC_ENABLE)
		store(&allowed, 1);
	sys(SYS_close, fd);
}

void olly_clock_forbidden(void)
{
	store(&mistakes, MISTAKES);
	store(&allowed, 0);
	store(&serves, 0);
}

#else

u64 olly_now(void)
{
	return clock_now(CLOCK_MONOTONIC);
}

void platform_clock_starts(void)
{
}

void olly_clock_forbidden(void)
{
}

#endif
