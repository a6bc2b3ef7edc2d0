/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Base layer: the maps that both back ends have, under the same names. The loader sizes `rings`,
 * `counters`, `lanes` and the rings themselves by the number of CPUs.
 */
#ifndef OLLY_BPF_MAPS_H
#define OLLY_BPF_MAPS_H

#include "common/kernel.h"
#include "hook/ebpf/kernel_abi.h"

/* The values here are those that the map `lanes` is declared with; the loader sets its own. */
const volatile struct olly_setup setup SEC(".rodata.setup") = {
	.lanes = 1, .lane_mask = 0xffff, .tls = 1};
volatile struct olly_control control SEC(".data.control") = {};

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
};

/* One ring per CPU, for all records but those of IO, and for those where the lane is taken. */
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

/*
 * Verdicts as last asked for, direct-mapped by tgid: a look-up in an array is a few instructions,
 * one in `processes` a call. One word each, so that no reader sees half of it:
 * tgid (22 bits) | generation (28) | goid_offset (12) | flags (2).
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OLLY_VERDICT_SLOTS);
	__type(key, u32);
	__type(value, u64);
} verdicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(struct olly_lane) + 0x10000 + OLLY_LANE_SLACK);
} lanes SEC(".maps");

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
