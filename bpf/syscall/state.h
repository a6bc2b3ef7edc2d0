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

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
} __attribute__((preserve_access_index));

struct file___inode {
	struct inode *f_inode;
} __attribute__((preserve_access_index));

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

static __always_inline struct conn *conn_of(struct sock *sk)
{
	u64 key = (u64)sk;

	return bpf_map_lookup_elem(&conns, &key);
}

static __always_inline struct conn *store_conn(struct sock *sk, struct conn *c)
{
	u64 key = (u64)sk;

	c->id = __sync_fetch_and_add(&next_id, 1);
	if (bpf_map_update_elem(&conns, &key, c, BPF_ANY)) {
		count_drop(OLLY_DROP_NO_STATE, 0);
		return NULL;
	}
	return bpf_map_lookup_elem(&conns, &key);
}

static __always_inline struct conn *new_conn(struct sock *sk)
{
	struct conn fresh = {};

	return store_conn(sk, &fresh);
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
	struct conn fresh = {};
	u32 port = READ_ONCE(sk->__sk_common.skc_num);

	if (!bpf_map_lookup_elem(&own_ports, &port))
		return NULL;
	fresh.flags = S_OWN;
	fresh.role = OLLY_ROLE_INBOUND;
	fresh.connect_task.pid = control.agent_tgid;
	return store_conn(sk, &fresh);
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

static __always_inline u64 inode_number(struct file *file)
{
	return BPF_CORE_READ((struct file___inode *)file, f_inode, i_ino);
}

static __always_inline bool is_socket(struct file *file)
{
	return (BPF_CORE_READ((struct file___inode *)file, f_inode, i_mode) & S_IFMT) == S_IFSOCK;
}

#endif
