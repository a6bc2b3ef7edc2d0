/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Syscall back end: where the state of a socket lives, and from a descriptor to its socket.
 */
#ifndef OLLY_BPF_SYSCALL_STATE_H
#define OLLY_BPF_SYSCALL_STATE_H

/* To the verifier these are numbers, whatever they are called: see READ_ONCE. */
#define tcp_of(sk) ((struct tcp_sock *)(sk))
#define unix_of(sk) ((struct unix_sock *)(sk))

#include "common/conn.h"

#define O_NONBLOCK 04000
#define S_IFMT 0170000
#define S_IFSOCK 0140000

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, u64); /* struct sock * */
	__type(value, struct conn);
} conns SEC(".maps");

/* Ports the agent listens at: what is accepted there is its own. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u32);
	__type(value, u32);
} own_ports SEC(".maps");

/* Ids are never used twice, unlike addresses. */
volatile u64 next_id SEC(".data.ids") = 1;

/* Of a socket that is being met right now it has no id yet: that is for whoever meets it. */
static __always_inline struct conn *conn_of(struct sock *sk)
{
	u64 key = (u64)sk;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	return c && c->id ? c : NULL;
}

/* Copied from here: on the stack it would be too much for that of four calls (512 bytes). */
const volatile struct conn no_conn SEC(".rodata.conn") = {};

/* Empty, still without an id. BPF_NOEXIST: unless there is one. */
static __always_inline struct conn *place_for(struct sock *sk, u64 flags)
{
	u64 key = (u64)sk;
	struct conn *c;

	bpf_map_update_elem(&conns, &key, (const void *)&no_conn, flags);
	c = bpf_map_lookup_elem(&conns, &key);
	if (!c)
		count_drop(OLLY_DROP_NO_STATE, 0);
	return c;
}

/* The last thing that a new one gets. */
static __always_inline void name_conn(struct conn *c)
{
	__sync_val_compare_and_swap(&c->id, 0, __sync_fetch_and_add(&next_id, 1));
}

static __always_inline struct conn *new_conn(struct sock *sk)
{
	struct conn *c = place_for(sk, BPF_ANY);

	if (c)
		name_conn(c);
	return c;
}

static __always_inline void conn_gone(struct sock *sk)
{
	u64 key = (u64)sk;

	bpf_map_delete_elem(&conns, &key);
}

static __always_inline void listening(struct sock *sk, bool on)
{
	u32 port = sk->__sk_common.skc_num;

	if (on)
		bpf_map_update_elem(&own_ports, &port, &port, BPF_ANY);
	else
		bpf_map_delete_elem(&own_ports, &port);
}

static __always_inline struct conn *conn_accepted(struct sock *sk)
{
	u32 port = READ_ONCE(sk->__sk_common.skc_num);
	struct conn *c;

	if (!bpf_map_lookup_elem(&own_ports, &port))
		return NULL;
	c = new_conn(sk);
	if (!c)
		return NULL;
	c->flags = S_OWN;
	c->role = OLLY_ROLE_INBOUND;
	c->connect_task.pid = control.agent_tgid;
	return c;
}

/* The end of a struct socket, one read for both. */
struct socket_tail {
	struct file *file;
	struct sock *sk;
};

/*
 * The socket that a descriptor stands for, or NULL. A socket names the file that it is reached by:
 * the same file as the descriptor's means that its private data is one. (`verify` asks the inode
 * besides: for what is met the first time.)
 */
static __always_inline struct sock *socket_of(struct task_struct *current, u32 fd,
					      struct file **out)
{
	struct fdtable *fdt = current->files->fdt;
	struct socket_tail tail = {};
	struct file *file = NULL;
	struct socket *socket;

	if (fd >= fdt->max_fds)
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), fdt->fd + fd);
	if (!file)
		return NULL;
	socket = (struct socket *)READ_ONCE(file->private_data);
	if (!socket)
		return NULL;
	if (bpf_core_field_offset(struct socket, sk) ==
	    bpf_core_field_offset(struct socket, file) + sizeof(void *)) {
		bpf_probe_read_kernel(&tail, sizeof(tail),
				      (void *)socket + bpf_core_field_offset(struct socket, file));
	} else {
		tail.file = READ_ONCE(socket->file);
		tail.sk = READ_ONCE(socket->sk);
	}
	if (tail.file != file)
		return NULL;
	*out = file;
	return tail.sk;
}

static __always_inline bool is_socket(struct file *file)
{
	return (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) == S_IFSOCK;
}

#endif
