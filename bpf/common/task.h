/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Extract layer: who runs, and whether anybody wants to know.
 */
#ifndef OLLY_BPF_TASK_H
#define OLLY_BPF_TASK_H

#include "common/maps.h"

#define VERDICT_OBSERVE 0x1u
#define VERDICT_OWN 0x2u

struct verdict {
	u32 flags;
	u32 goid_offset;
};

static __always_inline u64 *verdict_slot(u32 tgid)
{
	u32 slot = tgid & (OLLY_VERDICT_SLOTS - 1);

	return bpf_map_lookup_elem(&verdicts, &slot);
}

/* What was known of the process is of the past: it has ended, or is new. */
static __always_inline void forget_verdict(u32 tgid)
{
	u64 *known = verdict_slot(tgid);

	if (known)
		*(volatile u64 *)known = 0;
}

static __always_inline struct verdict process_verdict(u32 tgid)
{
	/* Before `processes` is asked: what is learned under an old generation is asked for again.
	 */
	u64 name = (u64)tgid << 42 | (u64)(control.generation & 0xfffffff) << 14;
	u64 *known = verdict_slot(tgid);
	struct verdict v = {};
	struct olly_process *p;

	if (known) {
		u64 word = *(volatile u64 *)known;

		if ((word & ~0x3fffull) == name) {
			v.flags = word & 3;
			v.goid_offset = (word >> 2) & 0xfff;
			return v;
		}
	}
	if (tgid == control.agent_tgid) {
		v.flags = VERDICT_OWN;
		return v;
	}
	p = bpf_map_lookup_elem(&processes, &tgid);
	if (p) {
		v.flags = p->observe ? VERDICT_OBSERVE : 0;
		v.goid_offset = p->goid_offset & 0xfff;
	} else {
		v.flags = control.observe_unknown ? VERDICT_OBSERVE : 0;
	}
	if (known)
		*(volatile u64 *)known = name | v.goid_offset << 2 | v.flags;
	return v;
}

/* Of whoever moves bytes. While capture is off, only the agent's own sockets are looked at. */
static __always_inline struct verdict capture_verdict(u32 tgid)
{
	struct verdict v = process_verdict(tgid);

	if (control.off)
		v.flags &= VERDICT_OWN;
	return v;
}

static __always_inline u64 user_u64(u64 address)
{
	u64 value = 0;

	if (bpf_probe_read_user(&value, sizeof(value), (const void *)address))
		return 0;
	return value;
}

/*
 * The goroutine that runs on this thread: g is at fsbase - 8; on the system stack g is g0 (whose id
 * is 0) and the goroutine is g.m.curg. These two offsets have not changed since Go 1.5; that of
 * goid comes from user space. 0 = not known.
 */
static __always_inline u64 goroutine(struct task_struct *task, u32 goid_offset)
{
	u64 g = user_u64(task->thread.fsbase - 8);
	u64 goid, m;

	if (!g)
		return 0;
	goid = user_u64(g + goid_offset);
	if (goid)
		return goid;
	m = user_u64(g + 48);
	if (!m)
		return 0;
	g = user_u64(m + 184);
	return g ? user_u64(g + goid_offset) : 0;
}

static __always_inline void stamp_task(struct olly_task *out, struct task_struct *task, u64 now,
				       u32 goid_offset)
{
	out->pid = task->tgid;
	out->tid = task->pid;
	out->ec = goid_offset ? goroutine(task, goid_offset) : 0;
	/* exec_start is on the scheduler's clock, a constant away from ours */
	out->cpu_ns = task->se.sum_exec_runtime + (now - task->se.exec_start);
	out->runq_ns = task->sched_info.run_delay;
}

#endif
