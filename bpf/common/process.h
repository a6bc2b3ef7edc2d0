/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Programs of both back ends: the life of processes, and who the agent is.
 */
#ifndef OLLY_BPF_PROCESS_H
#define OLLY_BPF_PROCESS_H

#include "common/store.h"
#include "common/task.h"

static __always_inline struct olly_process_record *
process_record(u16 type, struct task_struct *task, u32 parent)
{
	struct olly_process_record *r = reserve_record(sizeof(*r));

	if (!r)
		return NULL;
	fill_header(&r->h, type, 0, sizeof(*r), bpf_ktime_get_ns());
	__builtin_memset(&r->task, 0, sizeof(r->task));
	r->task.pid = task->tgid;
	r->task.tid = task->pid;
	r->parent_pid = parent;
	r->reserved = 0;
	bpf_probe_read_kernel(r->comm, sizeof(r->comm), task->comm);
	__builtin_memset(r->filename, 0, sizeof(r->filename));
	return r;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(olly_fork, struct task_struct *parent, struct task_struct *child)
{
	struct olly_process_record *r;
	struct olly_process *p, copy;
	u32 from = parent->tgid, to = child->tgid;
	struct verdict v;

	if (child->pid != (int)to)
		return 0; /* a thread */
	v = process_verdict(from);
	if (v.flags & VERDICT_OWN) {
		/* a child of the agent is none of its threads: `olly run` decides about it before
		 * exec */
		return 0;
	}
	forget_verdict(to);
	p = bpf_map_lookup_elem(&processes, &from);
	if (p) {
		copy = *p;
		if (bpf_map_update_elem(&processes, &to, &copy, BPF_ANY))
			count_drop(OLLY_DROP_NO_PROCESS, 0);
	}
	if (!(v.flags & VERDICT_OBSERVE))
		return 0;
	r = process_record(OLLY_REC_FORK, child, from);
	if (r)
		bpf_ringbuf_submit(r, submit_flags());
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(olly_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct olly_process_record *r;
	u32 tgid = task->tgid;
	struct olly_process *p = bpf_map_lookup_elem(&processes, &tgid);
	struct verdict v;

	/* Another program now: what was known of the old one is wrong. Whether it is observed can
	 * depend on the program, and a shell's "no" went to it at fork: unknown again. A "yes"
	 * stays, `olly run` has given it before exec. */
	if (p && !p->observe && control.observe_unknown) {
		bpf_map_delete_elem(&processes, &tgid);
		__sync_fetch_and_add(&control.generation, 1);
	} else if (p && p->goid_offset) {
		p->goid_offset = 0;
		__sync_fetch_and_add(&control.generation, 1);
	}
	v = process_verdict(tgid);
	if (!(v.flags & VERDICT_OBSERVE))
		return 0;
	r = process_record(OLLY_REC_EXEC, task, task->real_parent->tgid);
	if (!r)
		return 0;
	bpf_probe_read_kernel_str(r->filename, sizeof(r->filename), bprm->filename);
	bpf_ringbuf_submit(r, submit_flags());
	return 0;
}

SEC("tp_btf/sched_process_exit")
int olly_exit(u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct olly_process_record *r;
	u32 tgid = task->tgid;
	struct verdict v;

	if (setup.exit_has_group_dead) {
		if (!ctx[1])
			return 0;
	} else if (task->signal->live.counter) {
		return 0; /* other threads live on */
	}
	v = process_verdict(tgid);
	bpf_map_delete_elem(&processes, &tgid);
	forget_verdict(tgid);
	if (!(v.flags & VERDICT_OBSERVE))
		return 0;
	r = process_record(OLLY_REC_EXIT, task, task->real_parent->tgid);
	if (r)
		bpf_ringbuf_submit(r, submit_flags());
	return 0;
}

/*
 * Not attached: run once by the agent (BPF_PROG_RUN), in its own context, to learn its process id
 * in the initial namespace, which a container's getpid() is not, and where a thread's registers are
 * on its stack, which depends on how the kernel was built.
 */
SEC("raw_tp")
int olly_self(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	/* by way of memory: the verifier allows no arithmetic on what it knows as pointers */
	volatile u64 at = bpf_task_pt_regs(task);

	control.agent_tgid = bpf_get_current_pid_tgid() >> 32;
	control.user_regs = at - (u64)task->stack;
	return 0;
}

#endif
