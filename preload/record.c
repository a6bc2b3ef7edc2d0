/* Records into the calling thread's ring: one producer, no lock, no system call. */
#include "olly.h"

void olly_drop(enum olly_preload_drop why, u64 bytes)
{
	struct live *l = olly_live;

	if (!l || !l->generation)
		return;
	add(&olly_region->drops[why], 1);
	add(&olly_region->lost_bytes, bytes);
}

/* A slot whose thread has ended serves the next one: its unread records stay where they are. */
static bool claim(struct writer *w)
{
	struct olly_preload_slot *slots = olly_slots();
	const u32 count = OLLY_PRELOAD_SLOTS;
	u32 used = load(&olly_region->used_slots);
	u32 tid, i;

	if (load(&olly_no_syscalls))
		return false;
	tid = platform_thread();
	if (used > count)
		used = count;
	for (i = 0; i < count; i++) {
		u32 owner = load(&slots[i].tid);

		if (owner != tid && owner != 0 && platform_thread_lives(olly_live->pid, owner))
			continue;
		if (owner != tid &&
		    !__atomic_compare_exchange_n(&slots[i].tid, &owner, tid, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
		if (i >= used) {
			u32 seen = load(&olly_region->used_slots);

			while (seen < i + 1 && !__atomic_compare_exchange_n(
						       &olly_region->used_slots, &seen, i + 1,
						       false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
				;
		}
		w->slot = &slots[i];
		w->data = olly_ring(i);
		w->head = load(&slots[i].head);
		w->tail = load_acquire(&slots[i].tail);
		w->tid = tid;
		w->generation = olly_live->generation;
		return true;
	}
	return false;
}

static struct olly_record *room(struct writer *w, u32 size)
{
	const u64 ring = olly_ring_bytes; /* not the header's: that page may just be replaced */
	const u64 at = w->head & (ring - 1);
	const u64 rest = ring - at;
	const u64 need = size > rest ? size + rest : size;
	struct olly_record *pad;

	if (w->head - w->tail + need > ring) {
		w->tail = load_acquire(&w->slot->tail);
		if (w->head - w->tail > ring || w->head - w->tail + need > ring)
			return NULL;
	}
	if (size <= rest)
		return (struct olly_record *)(w->data + at);
	pad = (struct olly_record *)(w->data + at);
	pad->type = OLLY_REC_PAD;
	pad->flags = 0;
	pad->size = (u32)rest;
	pad->time_ns = 0;
	w->head += rest;
	return (struct olly_record *)w->data;
}

/* Before work that is only of use with a record of this size behind it. */
bool olly_has_room(u32 size)
{
	struct writer *w = &olly_self()->writer;

	if (w->generation != olly_live->generation)
		return true; /* no slot yet: its ring is as good as empty */
	if (w->head - w->tail + 2 * size <= olly_ring_bytes)
		return true;
	w->tail = load_acquire(&w->slot->tail);
	if (w->head - w->tail + 2 * size <= olly_ring_bytes)
		return true;
	olly_drop(OLLY_PRELOAD_RING_FULL, 0);
	return false;
}

void *olly_reserve(u32 type, u32 flags, u32 size, u64 now)
{
	struct writer *w = &olly_self()->writer;
	struct olly_record *r;

	if (unlikely(w->busy)) {
		olly_drop(OLLY_PRELOAD_REENTERED, 0);
		return NULL;
	}
	w->busy = 1;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (unlikely(w->generation != olly_live->generation) && !claim(w)) {
		olly_drop(OLLY_PRELOAD_NO_RING, 0);
		goto none;
	}
	size = (size + OLLY_PRELOAD_ALIGN - 1) & ~(OLLY_PRELOAD_ALIGN - 1);
	r = room(w, size);
	if (unlikely(!r)) {
		olly_drop(OLLY_PRELOAD_RING_FULL, 0);
		goto none;
	}
	r->type = (u16)type;
	r->flags = (u16)flags;
	r->size = size;
	r->time_ns = now;
	w->head += size;
	return r;
none:
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	w->busy = 0;
	return NULL;
}

void olly_publish(void)
{
	struct writer *w = &olly_self()->writer;

	store_release(&w->slot->head, w->head);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	w->busy = 0;
	if (unlikely(load(&olly_region->reader_sleeps)))
		olly_wake_agent();
}

void olly_stamp(struct olly_task *task)
{
	task->pid = 0; /* the agent knows it from the kernel */
	task->tid = olly_self()->writer.tid;
	task->ec = 0;
	task->cpu_ns = 0;
	task->runq_ns = 0;
}
