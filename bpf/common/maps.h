/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Base layer: the maps that both back ends have, under the same names. The loader sizes `rings`,
 * `counters`, `scratches` and the rings themselves by the number of CPUs.
 */
#ifndef OLLY_BPF_MAPS_H
#define OLLY_BPF_MAPS_H

#include "common/kernel.h"
#include "hook/ebpf/kernel_abi.h"

const volatile struct olly_setup setup SEC(".rodata.setup") = {};
volatile struct olly_control control SEC(".data.control") = {};

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
};

/* One ring per CPU: producers of one ring contend for its lock. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, u32);
	__array(values, struct ring);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct olly_cpu);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, OLLY_POLICY_SLOTS);
	__type(key, u32);
	__type(value, struct olly_policy);
} policies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OLLY_PROCESS_SLOTS);
	__type(key, u32);
	__type(value, struct olly_process);
} processes SEC(".maps");

/* Where calls with several buffers are put together. `busy` guards against a second user on the
 * CPU. */
struct scratch {
	u32 busy;
	u32 pad;
	struct user_iovec iov[8];
	u8 record[sizeof(struct olly_io_record) + 2 * OLLY_MAX_COPY];
};

/* By CPU number: a per-CPU array's values may not be this large. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline void count_drop(enum olly_drop cause, u64 bytes)
{
	u32 cpu = bpf_get_smp_processor_id();
	struct olly_cpu *c = bpf_map_lookup_elem(&counters, &cpu);

	if (!c)
		return;
	/* A softirq's program may count on this CPU in between. */
	__sync_fetch_and_add(&c->drops[cause], 1);
	if (bytes)
		__sync_fetch_and_add(&c->lost_bytes, bytes);
}

#endif
