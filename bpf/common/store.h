/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Store layer: IO records into the lane of this CPU (struct olly_lane), just as long as they are;
 * all others into its ring buffer. The reader is woken only when it says that it sleeps.
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

/* A record in this CPU's ring, whose size the verifier must see; counted where there is no room. */
static __always_inline void *reserve_record(u32 size)
{
	void *ring = this_ring();
	void *r = ring ? bpf_ringbuf_reserve(ring, size, 0) : NULL;

	if (!r)
		count_drop(OLLY_DROP_RING_FULL, 0);
	return r;
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
	u32 into;  /* of a piece: where in the call's buffers the byte at `position` is */
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

/* An empty record in the ring buffer, for the sake of its wake-up. */
static __noinline void wake_reader(u64 now)
{
	void *ring = this_ring();
	struct olly_record *r = ring ? bpf_ringbuf_reserve(ring, sizeof(*r), 0) : NULL;

	control.reader_sleeps = 0;
	if (!r)
		return; /* a full ring: nobody sleeps over it */
	fill_header(r, OLLY_REC_PAD, 0, sizeof(*r), now);
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
}

static __always_inline struct olly_lane *this_lane(void)
{
	u32 cpu = bpf_get_smp_processor_id();

	if (cpu >= setup.lanes)
		cpu %= setup.lanes;
	return bpf_map_lookup_elem(&lanes, &cpu);
}

/* Where a record is being written. */
struct place {
	struct olly_lane *lane;
	u32 offset; /* in the lane's data */
};

/* Makes this program the lane's writer, with room for `want` bytes of payload. 0 = it is. */
static __always_inline int open_lane(struct place *at, u32 want)
{
	struct olly_lane *lane = this_lane();
	u64 head, used;

	if (!lane || __sync_lock_test_and_set(&lane->busy, 1))
		return -EBUSY;
	head = lane->head;
	used = head - *(volatile u64 *)&lane->tail;
	at->lane = lane;
	at->offset = head & setup.lane_mask;
	if (used + sizeof(struct olly_io_record) + want + 8 <= (u64)setup.lane_mask + 1)
		return 0;
	*(volatile u32 *)&lane->busy = 0;
	return -ENOSPC;
}

static __always_inline struct olly_io_record *record_at(const struct place *at)
{
	return (void *)(at->lane + 1) + (at->offset & setup.lane_mask);
}

/*
 * The record is there for the reader. The addition is a full barrier: either the flag is seen to be
 * set here, or who has set it sees the record.
 */
static __always_inline void close_lane(const struct place *at, u32 size, u64 now)
{
	__sync_fetch_and_add(&at->lane->head, size);
	*(volatile u32 *)&at->lane->busy = 0;
	if (control.reader_sleeps)
		wake_reader(now);
}

/*
 * Bytes of a record with so much payload, and the payload's length (a u64) as the verifier wants
 * it: in assembler, since compilers like to keep and use the value from before the comparison.
 */
#define RECORD_SIZE(captured) ((sizeof(struct olly_io_record) + (captured) + 7) & ~7u)
#define BOUND_BY(length, most)                                                                     \
	asm volatile("if %0 <= %1 goto +1\n%0 = %1" : "+r"(length) : "i"(most))
#define BOUND(length) BOUND_BY(length, OLLY_MAX_COPY)

/* The lane is taken: the beginning of the bytes at least, by way of the ring buffer. */
__noinline int store_aside(const struct io *io, const struct olly_task *task, u64 address, u32 want)
{
	enum { MOST = 1024 };
	struct olly_io_record *rec;
	u64 captured = want;
	void *ring = this_ring();
	u16 flags;

	if (!ring || !io || !task)
		return -ENOSPC;
	flags = io->flags;
	rec = bpf_ringbuf_reserve(ring, sizeof(*rec) + MOST, 0);
	if (!rec)
		return -ENOSPC;
	if (captured > MOST)
		captured = MOST;
	if (bpf_probe_read_user(rec + 1, captured, (const void *)address)) {
		captured = 0;
		flags |= OLLY_IO_FAULT;
	}
	fill_io(rec, io, task, sizeof(*rec) + MOST, captured, flags);
	bpf_ringbuf_submit(rec, submit_flags());
	return 0;
}

static __always_inline int store_plain(const struct io *io, const struct olly_task *task,
				       u64 address, u32 want)
{
	struct olly_io_record *rec;
	u64 captured = want;
	u16 flags = io->flags;
	struct place at;
	int err = open_lane(&at, want);

	if (err == -EBUSY)
		return store_aside(io, task, address, want);
	if (err)
		return err;
	rec = record_at(&at);
	BOUND(captured);
	if (captured && bpf_probe_read_user(rec + 1, captured, (const void *)address)) {
		captured = 0;
		flags |= OLLY_IO_FAULT;
	}
	fill_io(rec, io, task, RECORD_SIZE(captured), captured, flags);
	close_lane(&at, RECORD_SIZE(captured), io->now);
	return 0;
}

/*
 * Many buffers, eight entries of their array at a time. append() is a global function, so that the
 * verifier of 6.1 does not follow every length through every turn of the loop: what it returns is
 * just a number to its caller. `at` is a place in the data of this CPU's lane.
 */
__noinline int append(u64 base, u64 at, u64 n)
{
	struct olly_lane *lane = this_lane();

	if (!lane || at > setup.lane_mask + sizeof(struct olly_io_record) + OLLY_MAX_COPY ||
	    n > OLLY_MAX_COPY)
		return -1;
	return bpf_probe_read_user((void *)(lane + 1) + at, n, (const void *)base);
}

__noinline int store_vector(const struct io *io, const struct olly_task *task, u64 array, u32 count,
			    u32 want)
{
	struct olly_io_record *rec;
	struct place at;
	u64 have = 0, skip;
	u32 flags, i;
	int err;

	if (!io || !task)
		return -ENOSPC;
	skip = (u64)io->into + io->skip;
	flags = io->flags;
	err = open_lane(&at, want);
	if (err == -EBUSY)
		return store_aside(io, task, 0, 0);
	if (err)
		return err;
	for (i = 0; i < 64; i++) {
		u64 *iov = at.lane->iov, base, len;

		if (i >= count || have >= want)
			break;
		if ((i & 7) == 0 && bpf_probe_read_user(iov, sizeof(at.lane->iov),
							(const void *)(array + i * 16))) {
			/* the array may end at a page that is not there */
			u32 left = (count - i) & 7;

			asm volatile("" : "+r"(left));
			left &= 7;
			if (bpf_probe_read_user(iov, left * 16, (const void *)(array + i * 16))) {
				flags |= OLLY_IO_FAULT;
				break;
			}
		}
		base = iov[(i & 7) * 2];
		len = iov[(i & 7) * 2 + 1];
		if (len <= skip) {
			skip -= len;
			continue;
		}
		base += skip;
		len -= skip;
		skip = 0;
		if (len > want - have)
			len = want - have;
		if (append(base, at.offset + sizeof(*rec) + have, len)) {
			flags |= OLLY_IO_FAULT;
			break;
		}
		have += len;
	}
	BOUND(have);
	rec = record_at(&at);
	fill_io(rec, io, task, RECORD_SIZE(have), have, flags);
	close_lane(&at, RECORD_SIZE(have), io->now);
	return 0;
}

/* Head and body, as servers write them. */
static __always_inline int store_two(const struct io *io, const struct olly_task *task,
				     const struct user_iovec *v, u32 want)
{
	u64 first = v[0].len, second = want - v[0].len;
	struct olly_io_record *rec;
	u16 flags = io->flags;
	struct place at;
	int err = open_lane(&at, want);

	if (err == -EBUSY)
		return store_aside(io, task, v[0].base, first);
	if (err)
		return err;
	rec = record_at(&at);
	BOUND(first);
	BOUND(second);
	if (bpf_probe_read_user(rec + 1, first, (const void *)v[0].base)) {
		first = second = 0;
		flags |= OLLY_IO_FAULT;
	} else if (bpf_probe_read_user((void *)(rec + 1) + first, second,
				       (const void *)v[1].base)) {
		second = 0;
		flags |= OLLY_IO_FAULT;
	}
	fill_io(rec, io, task, RECORD_SIZE(first + second), first + second, flags);
	close_lane(&at, RECORD_SIZE(first + second), io->now);
	return 0;
}

/* The two entries there may be are read at once: each read of user memory has its price. */
static __always_inline int store_iovec(const struct io *io, const struct olly_task *task,
				       const struct buffer *b, u32 want)
{
	struct user_iovec v[2] = {};
	u64 array = b->base;

	if (b->count == 0)
		return store_plain(io, task, 0, 0);
	if (bpf_probe_read_user(v, b->count > 1 ? 32 : 16, (const void *)array))
		return store_vector(io, task, array, b->count, want);
	/* mostly the first buffer holds all that is wanted */
	if (v[0].len >= (u64)io->skip + want)
		return store_plain(io, task, v[0].base + io->skip, want);
	if (io->skip == 0 && v[0].len + v[1].len >= want)
		return store_two(io, task, v, want);
	return store_vector(io, task, array, b->count, want);
}

static __always_inline int store_record(const struct io *io, const struct olly_task *task,
					const struct buffer *b)
{
	u32 want = io->length > io->skip ? io->length - io->skip : 0;

	if (b->kind == BUFFER_NONE)
		want = 0;
	if (want > io->limit)
		want = io->limit;
	if (want > OLLY_MAX_COPY)
		want = OLLY_MAX_COPY;
	if (want == 0 || b->kind != BUFFER_IOVEC)
		return store_plain(io, task, b->base + io->skip, want);
	return store_iovec(io, task, b, want);
}

/*
 * Part of a large call. Global, so that the verifier does not follow it through every turn of the
 * loop of store_pieces().
 */
__noinline int store_piece(const struct io *io, const struct olly_task *task,
			   const struct buffer *b)
{
	u32 want;

	if (!io || !task || !b || io->skip >= io->length)
		return -ENOSPC;
	want = io->length - io->skip;
	if (want > io->limit)
		want = io->limit;
	if (want > OLLY_MAX_COPY)
		want = OLLY_MAX_COPY;
	if (b->kind == BUFFER_IOVEC)
		return store_vector(io, task, b->base, b->count, want);
	return store_plain(io, task, b->base + io->into + io->skip, want);
}

/* Leaves out the entries before the byte at `into` of the buffers; returns where in the rest it is.
 */
__noinline u32 pass_entries(struct buffer *b, u32 into)
{
	struct user_iovec v;
	int i;

	if (!b)
		return into;
	for (i = 0; i < 64; i++) {
		if (b->count < 2 || bpf_probe_read_user(&v, sizeof(v), (const void *)b->base))
			break;
		if (v.len > into)
			break;
		into -= v.len;
		b->base += sizeof(v);
		b->count--;
	}
	return into;
}

/*
 * A call of which more is wanted than one record holds goes out in several, as if as many calls had
 * moved its bytes at one moment. None stands behind one that found no room.
 */
__noinline int store_pieces(const struct io *io, const struct olly_task *task,
			    const struct buffer *b)
{
	struct buffer rest;
	u32 left, budget, i;
	struct io piece;

	if (!io || !task || !b)
		return -ENOSPC;
	rest = *b;
	left = io->length;
	budget = io->limit;
	piece = *io;
	/* the budget ends before the count does: that one is for the verifier */
	for (i = 0; i < OLLY_MAX_PIECES; i++) {
		u32 most = piece.skip + OLLY_MAX_COPY;
		bool last = left <= most || budget <= OLLY_MAX_COPY;

		piece.length = last ? left : most;
		piece.limit = budget;
		if (store_piece(&piece, task, &rest)) {
			count_drop(OLLY_DROP_RING_FULL, left);
			return -ENOSPC;
		}
		if (last)
			break;
		left -= most;
		budget -= OLLY_MAX_COPY;
		piece.position += most;
		piece.into += most;
		piece.skip = 0;
		piece.flags &= ~OLLY_IO_OVERLAP;
		if (rest.kind == BUFFER_IOVEC)
			piece.into = pass_entries(&rest, piece.into);
	}
	return 0;
}

/* Whether it takes store_pieces() to write it. */
static __always_inline bool is_large(const struct io *io, const struct buffer *b)
{
	return b->kind != BUFFER_NONE && io->limit > OLLY_MAX_COPY && io->length > io->skip &&
	       io->length - io->skip > OLLY_MAX_COPY;
}

/* Writes the record of one call that is not large. Returns 0 when it really went out. */
static __always_inline int store_io(const struct io *io, const struct olly_task *task,
				    const struct buffer *b)
{
	int err = store_record(io, task, b);

	if (err)
		count_drop(OLLY_DROP_RING_FULL, io->length);
	return err;
}

/*
 * What may be copied of a call while nobody has said anything of its connection. `framed`: it began
 * as HTTP/2 does, so every frame counts, before the agent has had the time to say so.
 */
static __always_inline u32 unknown_limit(u64 position, bool is_new, bool framed)
{
	if (framed)
		return control.max_copy;
	if (position >= OLLY_UNKNOWN_FULL && is_new)
		return control.unknown_copy;
	return control.unknown_first;
}

/* The first bytes of HTTP/2's preface (RFC 9113 3.4). A proposal: it decides nothing but a limit.
 */
static __always_inline bool is_preface(const struct buffer *b)
{
	const u64 preface = 0x5448202a20495250; /* "PRI * HT" */
	struct user_iovec v = {b->base, sizeof(u64)};
	u64 word = 0;

	if (b->kind == BUFFER_NONE)
		return false;
	if (b->kind == BUFFER_IOVEC && bpf_probe_read_user(&v, sizeof(v), (const void *)b->base))
		return false;
	return v.len >= sizeof(u64) &&
	       !bpf_probe_read_user(&word, sizeof(word), (const void *)v.base) && word == preface;
}

#endif
