/*
 * Which function a call would have reached without this library, where libc cannot be asked once
 * and for all: TLS libraries are loaded late, several at a time (a wheel brings its own), and where
 * nobody else sees them (RTLD_LOCAL).
 *
 * The loaded objects' own symbol tables are read: nothing is loaded, no reference is taken, dlerror
 * is not touched, and no lock is taken that a constructor could hold (dlsym takes one). Only where
 * several objects define the name does libc have to say which one comes first.
 */
#define _GNU_SOURCE
#include "linux/elf.h"

#include <elf.h>
#include <link.h>

#define NEXT ((void *)-1l) /* RTLD_NEXT */
#define MAX_DEFINERS 8

extern int dl_iterate_phdr(int (*)(struct dl_phdr_info *, size_t, void *), void *)
	__attribute__((weak));
extern void *dlsym(void *, const char *) __attribute__((weak));
extern void *dlvsym(void *, const char *, const char *) __attribute__((weak));
extern char *dlerror(void) __attribute__((weak));

struct object {
	const char *base, *end;
	const ElfW(Dyn) * dynamic;
	const ElfW(Sym) * symbols;
	const char *strings;
	const char *soname;
	const u32 *gnu_hash, *hash;
	const ElfW(Half) * versions;
	const char *needed_versions;
	u32 needed_version_count;
};

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

/* glibc has made addresses of them, musl has not. */
static const void *place(const struct object *o, ElfW(Addr) value)
{
	return value < (ElfW(Addr))o->base ? (const void *)(o->base + value) : (const void *)value;
}

static bool open_object(struct object *o, const struct dl_phdr_info *info)
{
	const ElfW(Dyn) * d;
	ElfW(Xword) soname = 0;
	int i;

	__builtin_memset(o, 0, sizeof(*o));
	o->base = (const char *)info->dlpi_addr;
	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_DYNAMIC)
			o->dynamic = (const void *)(o->base + p->p_vaddr);
		if (p->p_type == PT_LOAD && o->base + p->p_vaddr + p->p_memsz > o->end)
			o->end = o->base + p->p_vaddr + p->p_memsz;
	}
	for (d = o->dynamic; d && d->d_tag != DT_NULL; d++) {
		switch (d->d_tag) {
		case DT_SYMTAB:
			o->symbols = place(o, d->d_un.d_ptr);
			break;
		case DT_STRTAB:
			o->strings = place(o, d->d_un.d_ptr);
			break;
		case DT_GNU_HASH:
			o->gnu_hash = place(o, d->d_un.d_ptr);
			break;
		case DT_HASH:
			o->hash = place(o, d->d_un.d_ptr);
			break;
		case DT_VERSYM:
			o->versions = place(o, d->d_un.d_ptr);
			break;
		case DT_VERNEED:
			o->needed_versions = place(o, d->d_un.d_ptr);
			break;
		case DT_VERNEEDNUM:
			o->needed_version_count = (u32)d->d_un.d_val;
			break;
		case DT_SONAME:
			soname = d->d_un.d_val;
			break;
		}
	}
	if (!o->symbols || !o->strings)
		return false;
	o->soname = soname ? o->strings + soname : "";
	return true;
}

static const ElfW(Sym) * defined(const struct object *o, u32 i, const char *name)
{
	const ElfW(Sym) *s = &o->symbols[i];

	return s->st_shndx != SHN_UNDEF && ELF64_ST_TYPE(s->st_info) == STT_FUNC &&
			       same(o->strings + s->st_name, name)
		       ? s
		       : NULL;
}

static const ElfW(Sym) * by_gnu_hash(const struct object *o, const char *name)
{
	const u32 *g = o->gnu_hash;
	const u32 buckets = g[0], first = g[1], words = g[2], shift = g[3];
	const u64 *bloom = (const u64 *)(g + 4);
	const u32 *bucket = (const u32 *)(bloom + words), *chain = bucket + buckets;
	u32 h = 5381, i;
	const char *p;
	u64 word;

	for (p = name; *p; p++)
		h = h * 33 + (u8)*p;
	if (!buckets || !words)
		return NULL;
	word = bloom[h / 64 % words];
	if (!(word >> (h % 64) & word >> ((h >> shift) % 64) & 1))
		return NULL;
	i = bucket[h % buckets];
	if (i < first)
		return NULL;
	for (;; i++) {
		const u32 value = chain[i - first];

		if ((value | 1) == (h | 1)) {
			const ElfW(Sym) *s = defined(o, i, name);

			if (s)
				return s;
		}
		if (value & 1)
			return NULL;
	}
}

static const ElfW(Sym) * by_hash(const struct object *o, const char *name)
{
	const u32 buckets = o->hash[0], symbols = o->hash[1];
	const u32 *bucket = o->hash + 2, *chain = bucket + buckets;
	u32 h = 0, i;
	const char *p;

	for (p = name; *p; p++) {
		h = (h << 4) + (u8)*p;
		h ^= h >> 24 & 0xf0;
		h &= 0x0fffffff;
	}
	for (i = buckets ? bucket[h % buckets] : 0; i && i < symbols; i = chain[i]) {
		const ElfW(Sym) *s = defined(o, i, name);

		if (s)
			return s;
	}
	return NULL;
}

static const void *symbol(const struct object *o, const char *name)
{
	const ElfW(Sym) *s = o->gnu_hash ? by_gnu_hash(o, name) : o->hash ? by_hash(o, name) : NULL;

	return s ? o->base + s->st_value : NULL;
}

/* The version of `name` that an object asks for; NULL: of none. */
static const char *wanted_version(const struct object *o, const char *name)
{
	const char *need = o->needed_versions;
	u32 count = o->hash ? o->hash[1] : o->gnu_hash ? o->gnu_hash[1] : 0;
	u32 i, n;

	if (!o->versions || !need)
		return NULL;
	for (i = 1; i < count; i++) {
		if (o->symbols[i].st_shndx == SHN_UNDEF &&
		    same(o->strings + o->symbols[i].st_name, name))
			break;
	}
	if (i >= count)
		return NULL;
	for (n = 0; n < o->needed_version_count; n++) {
		const ElfW(Verneed) *v = (const void *)need;
		const char *at = need + v->vn_aux;
		u32 k;

		for (k = 0; k < v->vn_cnt; k++) {
			const ElfW(Vernaux) *aux = (const void *)at;

			if ((aux->vna_other & 0x7fff) == (o->versions[i] & 0x7fff))
				return o->strings + aux->vna_name;
			at += aux->vna_next;
		}
		need += v->vn_next;
	}
	return NULL;
}

static bool needs(const struct object *o, const char *soname)
{
	const ElfW(Dyn) * d;

	for (d = o->dynamic; d && d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_NEEDED && same(o->strings + d->d_un.d_val, soname))
			return true;
	}
	return false;
}

struct search {
	const char *name;
	const char *caller;
	const void *but; /* our own */
	u32 count;
	const void *found[MAX_DEFINERS];
	const char *sonames[MAX_DEFINERS];
	const char *begin[MAX_DEFINERS], *end[MAX_DEFINERS];
	struct object from; /* the caller's */
};

static int look(struct dl_phdr_info *info, size_t size, void *argument)
{
	struct search *s = argument;
	struct object o;
	const void *at;

	(void)size;
	if (!open_object(&o, info))
		return 0;
	if (s->caller >= o.base && s->caller < o.end)
		s->from = o;
	at = symbol(&o, s->name);
	if (at && at != s->but && s->count < MAX_DEFINERS) {
		s->found[s->count] = at;
		s->sonames[s->count] = o.soname;
		s->begin[s->count] = o.base;
		s->end[s->count++] = o.end;
	}
	return 0;
}

/* The one whose own data a session or a context points to, as they do to their methods. */
static const void *maker(const struct search *s, const void *const *witness)
{
	u32 i, k;

	for (k = 0; witness && k < 4; k++) {
		const char *at = witness[k];

		for (i = 0; i < s->count; i++) {
			if (at >= s->begin[i] && at < s->end[i])
				return s->found[i];
		}
	}
	return NULL;
}

/* Several: whoever is first for everybody, else what the caller's object was linked with. */
static const void *choose(const struct search *s)
{
	const char *version = s->from.symbols ? wanted_version(&s->from, s->name) : NULL;
	const void *at = NULL;
	u32 i;

	if (version && dlvsym)
		at = dlvsym(NEXT, s->name, version);
	else if (dlsym)
		at = dlsym(NEXT, s->name);
	if (at)
		return at;
	if (dlerror)
		dlerror(); /* what it would say is ours */
	for (i = 0; s->from.symbols && i < s->count; i++) {
		if (needs(&s->from, s->sonames[i]))
			return s->found[i];
	}
	return s->found[0];
}

const void *olly_find_function(const char *name, const void *caller, const void *but,
			       const void *witness)
{
	const void *made_by;
	struct search s;

	if (!dl_iterate_phdr)
		return NULL;
	__builtin_memset(&s, 0, sizeof(s));
	s.name = name;
	s.caller = caller;
	s.but = but;
	dl_iterate_phdr(look, &s);
	if (s.count <= 1)
		return s.found[0];
	made_by = maker(&s, witness);
	return made_by ? made_by : choose(&s);
}

struct listing {
	const char *inside;
	const char *const *names;
	const void **functions;
	u32 count;
};

static int list(struct dl_phdr_info *info, size_t size, void *argument)
{
	struct listing *l = argument;
	struct object o;
	u32 i;

	(void)size;
	if (!open_object(&o, info) || l->inside < o.base || l->inside >= o.end)
		return 0;
	for (i = 0; i < l->count; i++)
		l->functions[i] = symbol(&o, l->names[i]);
	return 1;
}

void olly_functions_beside(const void *inside, const char *const *names, const void **functions,
			   u32 count)
{
	struct listing l = {inside, names, functions, count};

	if (dl_iterate_phdr)
		dl_iterate_phdr(list, &l);
}
