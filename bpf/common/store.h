/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Store layer: records into the ring of this CPU. A record is reserved with a constant size (the
 * verifier wants that), so payloads come in size classes. The reader is woken only when it says
 * that it sleeps.
 */
#ifndef OLLY_BPF_STORE_H
#define OLLY_BPF_STORE_H

#include "common/maps.h"

static __always_inline void *this_ring(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&rings, &cpu);
}

static __always_inline u64 submit_flags(void)
{
	if (!control.reader_sleeps)
		return BPF_RB_NO_WAKEUP;
	control.reader_sleeps = 0;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void fill_header(struct olly_record *h, u16 type, u16 flags, u32 size,
					u64 now)
{
	h->type = type;
	h->flags = flags;
	h->size = size;
	h->time_ns = now;
}

/* Where a call's bytes are in user memory. */
enum buffer_kind { BUFFER_NONE = 0, BUFFER_PLAIN = 1, BUFFER_IOVEC = 2 };

struct buffer {
	u64 base;  /* the bytes, or the iovec array */
	u32 kind;  /* enum buffer_kind */
	u32 count; /* entries of the iovec array */
};

/* What store_io writes; `position` is of the first byte moved. */
struct io {
	u64 now;
	u64 sock;
	u64 position;
	u32 length;
	u32 skip;  /* bytes at the front that no parser reads */
	u32 limit; /* bytes to copy at most */
	u32 goid_offset;
	u8 direction;
	u8 pad;
	u16 flags; /* OLLY_IO_* */
};

static __always_inline void fill_io(struct olly_io_record *rec, const struct io *io,
				    const struct olly_task *task, u32 size, u32 captured, u16 flags)
{
	fill_header(&rec->h, OLLY_REC_IO, flags, size, io->now);
	rec->task = *task;
	rec->sock = io->sock;
	rec->position = io->position;
	rec->length = io->length;
	rec->captured_offset = io->skip;
	rec->captured = captured;
	*(u32 *)&rec->direction = io->direction;
}

/* One size class: reserve, fill, copy, submit. 0 = stored. */
#define STORE_CLASS(SIZE)                                                                          \
	do {                                                                                       \
		u16 io_flags = io->flags;                                                          \
		/* once more, hidden from the compiler: the verifier forgets what it knew of want  \
		 */                                                                                \
		u64 captured = want;                                                               \
		asm volatile("" : "+r"(captured));                                                 \
		if (captured > (SIZE))                                                             \
			captured = (SIZE);                                                         \
		struct olly_io_record *rec = bpf_ringbuf_reserve(ring, sizeof(*rec) + (SIZE), 0);  \
		if (!rec)                                                                          \
			return -1;                                                                 \
		if ((SIZE) > 0 && bpf_probe_read_user(rec + 1, captured, (const void *)address)) { \
			captured = 0;                                                              \
			io_flags |= OLLY_IO_FAULT;                                                 \
		}                                                                                  \
		fill_io(rec, io, task, sizeof(*rec) + (SIZE), captured, io_flags);                 \
		bpf_ringbuf_submit(rec, submit_flags());                                           \
		return 0;                                                                          \
	} while (0)

/* Global functions: the verifier looks at them once, not once per call. */
__noinline int store_plain(const struct io *io, const struct olly_task *task, u64 address, u32 want)
{
	void *ring;

	if (!io || !task)
		return -1;
	ring = this_ring();
	if (!ring)
		return -1;
	if (want == 0)
		STORE_CLASS(0);
	if (want <= 64)
		STORE_CLASS(64);
	if (want <= 128)
		STORE_CLASS(128);
	if (want <= 256)
		STORE_CLASS(256);
	if (want <= 512)
		STORE_CLASS(512);
	if (want <= 1024)
		STORE_CLASS(1024);
	if (want <= 2048)
		STORE_CLASS(2048);
	if (want <= 4096)
		STORE_CLASS(4096);
	if (want <= 8192)
		STORE_CLASS(8192);
	if (want > OLLY_MAX_COPY)
		want = OLLY_MAX_COPY;
	STORE_CLASS(16384);
}

/*
 * Several buffers are put together in the scratch area, eight entries of the array at a time. Three
 * global functions, so that the verifier of 6.1 does not follow every length through every turn of
 * the loop: what one returns is just a number to its caller.
 */
__noinline int scratch_append(u64 base, u64 at, u64 n)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct scratch *s = bpf_map_lookup_elem(&scratches, &cpu);

	if (!s || at > OLLY_MAX_COPY || n > OLLY_MAX_COPY)
		return -1;
	return bpf_probe_read_user(s->record + sizeof(struct olly_io_record) + at, n,
				   (const void *)base);
}

__noinline int scratch_store(const struct io *io, const struct olly_task *task, u64 have, u32 flags)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct scratch *s = bpf_map_lookup_elem(&scratches, &cpu);
	void *ring = this_ring();
	u64 size;

	if (!s || !ring || !io || !task)
		return -1;
	if (have > OLLY_MAX_COPY)
		have = OLLY_MAX_COPY;
	size = (sizeof(struct olly_io_record) + have + 7) & 0x7ff8;
	fill_io((struct olly_io_record *)s->record, io, task, size, have, flags);
	return bpf_ringbuf_output(ring, s->record, size, submit_flags());
}

__noinline int store_vector(const struct io *io, const struct olly_task *task, u64 array, u32 count,
			    u32 want)
{
	u32 cpu = bpf_get_smp_processor_id(), flags, i;
	u64 have = 0, skip;
	struct scratch *s;
	int err;

	if (!io || !task)
		return -1;
	skip = io->skip;
	flags = io->flags;
	s = bpf_map_lookup_elem(&scratches, &cpu);
	if (!s)
		return -1;
	/* Where programs can be preempted another task may be here: then count, copy nothing. */
	if (s->busy) {
		struct io none = *io;

		none.flags |= OLLY_IO_FAULT;
		return store_plain(&none, task, 0, 0);
	}
	s->busy = 1;
	for (i = 0; i < 64; i++) {
		u64 base, len;

		if (i >= count || have >= want)
			break;
		if ((i & 7) == 0 &&
		    bpf_probe_read_user(s->iov, sizeof(s->iov), (const void *)(array + i * 16))) {
			/* the array may end at a page that is not there */
			u32 left = (count - i) & 7;

			asm volatile("" : "+r"(left));
			left &= 7;
			if (bpf_probe_read_user(s->iov, left * 16,
						(const void *)(array + i * 16))) {
				flags |= OLLY_IO_FAULT;
				break;
			}
		}
		base = s->iov[i & 7].base;
		len = s->iov[i & 7].len;
		if (len <= skip) {
			skip -= len;
			continue;
		}
		base += skip;
		len -= skip;
		skip = 0;
		if (len > want - have)
			len = want - have;
		if (scratch_append(base, have, len)) {
			flags |= OLLY_IO_FAULT;
			break;
		}
		have += len;
	}
	err = scratch_store(io, task, have, flags);
	s->busy = 0;
	return err;
}

/*
 * Two buffers (head and body, as servers write them), put together in the ring itself: room for
 * twice the class, because the verifier cannot see that the two lengths together fit. On 6.18 this
 * takes about 100 ns less than the scratch area.
 */
#define STORE_TWO(SIZE)                                                                            \
	do {                                                                                       \
		u16 io_flags = io->flags;                                                          \
		u64 at = p[0].len, more = p[1].len;                                                \
		struct olly_io_record *rec =                                                       \
			bpf_ringbuf_reserve(ring, sizeof(*rec) + 2 * (SIZE), 0);                   \
		if (!rec)                                                                          \
			return -1;                                                                 \
		asm volatile("" : "+r"(at), "+r"(more));                                           \
		if (at > (SIZE))                                                                   \
			at = (SIZE);                                                               \
		if (more > (SIZE))                                                                 \
			more = (SIZE);                                                             \
		if (bpf_probe_read_user(rec + 1, at, (const void *)p[0].base)) {                   \
			at = more = 0;                                                             \
			io_flags |= OLLY_IO_FAULT;                                                 \
		} else if (bpf_probe_read_user((void *)(rec + 1) + at, more,                       \
					       (const void *)p[1].base)) {                         \
			more = 0;                                                                  \
			io_flags |= OLLY_IO_FAULT;                                                 \
		}                                                                                  \
		fill_io(rec, io, task, sizeof(*rec) + 2 * (SIZE), at + more, io_flags);            \
		bpf_ringbuf_submit(rec, submit_flags());                                           \
		return 0;                                                                          \
	} while (0)

struct two {
	struct user_iovec v[2];
};

/* Each part at most 1024 bytes. */
__noinline int store_two(const struct io *io, const struct olly_task *task, const struct two *two)
{
	const struct user_iovec *p;
	void *ring;

	if (!io || !task || !two)
		return -1;
	p = two->v;
	ring = this_ring();
	if (!ring)
		return -1;
	if (p[0].len <= 256 && p[1].len <= 256)
		STORE_TWO(256);
	STORE_TWO(1024);
}

/* The two entries there may be are read at once: each read of user memory has its price. */
static __always_inline int store_iovec(const struct io *io, const struct olly_task *task,
				       const struct buffer *b, u32 want)
{
	struct two two = {};
	u64 array = b->base;

	if (b->count == 0)
		return store_plain(io, task, 0, 0);
	if (bpf_probe_read_user(&two, b->count > 1 ? 32 : 16, (const void *)array))
		return store_vector(io, task, array, b->count, want);
	/* mostly the first buffer holds all that is wanted */
	if (two.v[0].len >= (u64)io->skip + want)
		return store_plain(io, task, two.v[0].base + io->skip, want);
	if (io->skip == 0 && two.v[0].len + two.v[1].len >= want && two.v[0].len <= 1024 &&
	    want - two.v[0].len <= 1024) {
		two.v[1].len = want - two.v[0].len;
		return store_two(io, task, &two);
	}
	return store_vector(io, task, array, b->count, want);
}

/* Writes the record of one call. Returns 0 when it really went out. */
static __always_inline int store_io(const struct io *io, const struct olly_task *task,
				    const struct buffer *b)
{
	u32 want = io->length > io->skip ? io->length - io->skip : 0;
	int err;

	if (b->kind == BUFFER_NONE)
		want = 0;
	if (want > io->limit)
		want = io->limit;
	if (want == 0 || b->kind != BUFFER_IOVEC)
		err = store_plain(io, task, b->base + io->skip, want);
	else
		err = store_iovec(io, task, b, want);
	if (err)
		count_drop(OLLY_DROP_RING_FULL, io->length);
	return err;
}

#endif
