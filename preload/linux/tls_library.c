/*
 * Which TLS library a call is for. There may be several in one program, each with callers of its
 * own: so it is asked for by the place of the call, once for each, and again after objects were
 * unloaded.
 */
#include "linux/elf.h"
#include "tls.h"

#define LIBRARIES 32u
#define PLACES 1024u
#define FUNCTIONS (sizeof(struct tls_library) / sizeof(void *))

enum { FREE, FILLING, READY };

static const char *const names[] = {
#define X(name, result, arguments) #name,
	OLLY_TLS_HOOKED(X) OLLY_TLS_ASKED(X)
#undef X
};
OLLY_STATIC_ASSERT(sizeof(names) / sizeof(names[0]) == FUNCTIONS, "one name a function");

static struct {
	u32 state;
	struct tls_library library;
} libraries[LIBRARIES];

/* `check` ties the two words together: two threads may write one place at once. */
static struct {
	u64 check;
	struct tls_library *library;
} places[PLACES];
static u64 generation = 1;

static u64 check_of(u64 place, const struct tls_library *library)
{
	return (place ^ (u64)library << 16) + load(&generation) * 0x9e3779b97f4a7c15ull;
}

static bool same(const struct tls_library *a, const struct tls_library *b)
{
	return __builtin_memcmp(a, b, sizeof(*a)) == 0;
}

/* The entry that says the same; a new one; NULL: there is no room. */
static struct tls_library *keep(const struct tls_library *found)
{
	u32 i, state;

	for (i = 0; i < LIBRARIES; i++) {
		state = load_acquire(&libraries[i].state);
		if (state == READY && same(&libraries[i].library, found))
			return &libraries[i].library;
		if (state != FREE ||
		    !__atomic_compare_exchange_n(&libraries[i].state, &state, FILLING, false,
						 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		libraries[i].library = *found;
		store_release(&libraries[i].state, READY);
		return &libraries[i].library;
	}
	return NULL;
}

static struct tls_library *look_up(const char *name, const void *caller, const void *hook,
				   const void *object, struct tls_library *own)
{
	const void *real = olly_find_function(name, caller, hook, object);
	struct tls_library *kept;

	if (!real)
		return NULL;
	olly_functions_beside(real, names, (const void **)own, FUNCTIONS);
	kept = keep(own);
	return kept ? kept : own;
}

struct tls_library *olly_tls_library(const char *name, const void *caller, const void *hook,
				     const void *object, struct tls_library *own)
{
	const u64 place = (u64)caller ^ (u64)hook << 20; /* one place may call all of them */
	const u32 at = (u32)(place * 0x9e3779b97f4a7c15ull >> 40) % PLACES;
	struct tls_library *t = load(&places[at].library);

	if (likely(t && load(&places[at].check) == check_of(place, t)))
		return t;
	t = look_up(name, caller, hook, object, own);
	if (t && t != own) {
		store(&places[at].check, check_of(place, t));
		store(&places[at].library, t);
	}
	return t;
}

void olly_tls_changed(void)
{
	add(&generation, 1);
}
