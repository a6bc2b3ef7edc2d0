/*
 * The clock of libolly.so against the system's own: never further off than adjtimex lets the two
 * drift apart, never back within a thread, whatever processor the thread is on; what it does when
 * the counter turns out not to be what it was thought to be; and that it lets the counter alone
 * where that is forbidden. Says "ok" and whether the counter was used.
 */
#include "linux/clock.c"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

__thread struct olly_thread olly_this_thread;

/* 1 ms at the 500 ppm of adjtimex, and as much for two processors' difference. */
#define OFF_AT_MOST 1000

static u64 most_off;
static __thread u64 last;

static void check(const char *what, u64 most)
{
	const u64 before = clock_now(CLOCK_MONOTONIC), said = olly_now();
	const u64 after = clock_now(CLOCK_MONOTONIC);
	const u64 off = said < before ? before - said : said > after ? said - after : 0;

	if (off > load(&most_off))
		store(&most_off, off);
	if (off > most || said < last) {
		printf("%s: %lld ns off, %lld since the last\n", what, (long long)off,
		       (long long)(said - last));
		exit(1);
	}
	last = said;
}

static void *runs(void *argument)
{
	const u64 end = clock_now(CLOCK_MONOTONIC) + 400000000;
	unsigned i;

	for (i = 0; clock_now(CLOCK_MONOTONIC) < end; i++) {
		if (i % 4096 == 0) {
			cpu_set_t cpus;

			CPU_ZERO(&cpus);
			CPU_SET((i / 4096 + (argument != NULL)) % 2, &cpus);
			sched_setaffinity(0, sizeof(cpus), &cpus);
		}
		check("running", OFF_AT_MOST);
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[2];
	bool used = false;
	u64 i;

	check("before", OFF_AT_MOST);
	platform_clock_starts();
	for (i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, runs, i ? threads : NULL);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	fprintf(stderr, "%llu ns off at most\n", (unsigned long long)most_off);
#ifdef __x86_64__
	used = load(&serves) != 0;
	if (used != (load(&allowed) != 0) || load(&mistakes)) {
		printf("allowed %u, used %d, mistakes %u\n", allowed, used, mistakes);
		return 1;
	}
	/* A counter that jumps: noticed, measured anew. */
	if (used) {
		check("before the jump", OFF_AT_MOST);
		olly_this_thread.reading.count -= 100000;
		for (i = 0; i < 200000 && !load(&mistakes); i++)
			check("after the jump", 200000);
		if (!load(&mistakes)) {
			puts("a jump was not noticed");
			return 1;
		}
		olly_this_thread.reading.said = last = 0; /* what was too much is not to be held on to */
		for (i = 0; i < 300000; i++)
			check("again", OFF_AT_MOST);
		if (!load(&serves)) {
			puts("not measured anew");
			return 1;
		}
		for (i = 0; i < 200000; i++)
			check("anew", OFF_AT_MOST);
		olly_clock_forbidden();
		for (i = 0; i < 1000; i++)
			check("forbidden", OFF_AT_MOST);
		if (load(&serves) || load(&allowed)) {
			puts("still used");
			return 1;
		}
		platform_clock_starts();
		if (load(&allowed)) {
			puts("allowed again");
			return 1;
		}
	}
#endif
	printf("ok, %s\n", used ? "by the counter" : "by the clock");
	return 0;
}
