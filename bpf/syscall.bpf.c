// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Capture with the system call tracepoints, for kernels without the socket tracepoints
 * (before 6.3).
 *
 * sys_enter: dispatch on the call's number; verdict of the process; descriptor to file to socket;
 * the socket's state; what exit needs goes to task storage. sys_exit: by the return value, one
 * record. Every other system call pays for the dispatch only.
 *
 * A socket reached through a descriptor is a number to the verifier, not a trusted pointer, so its
 * state cannot live in socket storage: it is in an LRU table under the address of the struct sock,
 * taken out when the socket is destroyed (TCP), checked by the socket's inode number (UNIX). All
 * fields of sockets are read with bpf_probe_read_kernel.
 *
 * Opening, role and closing come from inet_sock_set_state, whether blocking, interrupted or done by
 * another process: connect, accept and close need no dispatch of their own; shutdown is noted only
 * to tell it from close.
 *
 * Sequence numbers are read at both ends of a call. Where they have moved by just what the call
 * returned, its position is exact; else another thread moved bytes too, and OVERLAP says so.
 */
#define READ_ONCE(x)                                                                               \
	({                                                                                         \
		typeof((x) + 0) __once = 0;                                                        \
		bpf_probe_read_kernel(&__once, sizeof(x),                                          \
				      (const void *)__builtin_preserve_access_index(&(x)));        \
		__once;                                                                            \
	})

#include "common/buffer.h"
#include "common/process.h"
#include "common/sock.h"
#include "syscall/state.h"
#include "syscall/life.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* --- system calls --------------------------------------------------------------------------------
 */

/* What the descriptor stands for: the socket, or NULL. */
static __always_inline struct sock *socket_of(struct task_struct *current, u32 fd, u64 *inode,
					      struct file **out)
{
	struct fdtable *fdt = current->files->fdt;
	struct file **slot;
	struct file *file = NULL;
	struct socket *socket;
	struct inode *node;

	if (fd >= fdt->max_fds)
		return NULL;
	slot = fdt->fd + fd;
	bpf_probe_read_kernel(&file, sizeof(file), slot);
	if (!file)
		return NULL;
	node = BPF_CORE_READ((struct file___inode *)file, f_inode);
	if ((BPF_CORE_READ(node, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	*inode = BPF_CORE_READ(node, i_ino);
	*out = file;
	socket = (struct socket *)BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* State of a socket that has none yet; NULL where it is none of ours. */
static __always_inline struct conn *meet(struct sock *sk, u64 inode, u32 verdict)
{
	u16 family = READ_ONCE(sk->__sk_common.skc_family);
	struct conn fresh = {};

	if (family == AF_UNIX) {
		if (READ_ONCE(sk->sk_type) != SOCK_STREAM)
			return NULL;
		fresh.flags = S_UNIX | S_KNOWN | (control.settled ? 0 : S_MET);
		fresh.inode = inode;
	} else {
		u8 state = READ_ONCE(sk->__sk_common.skc_state);

		if ((family != AF_INET && family != AF_INET6) ||
		    READ_ONCE(sk->sk_protocol) != IPPROTO_TCP)
			return NULL;
		if (state == TCP_SYN_SENT || state == TCP_LISTEN || state == TCP_CLOSE)
			return NULL;
		learn_tcp(&fresh, sk);
		if (!(fresh.flags & S_KNOWN))
			return NULL;
		if (fresh.role == OLLY_ROLE_UNKNOWN || fresh.end[0] || fresh.end[1])
			fresh.flags |= S_MET;
	}
	if (verdict & VERDICT_OWN)
		fresh.flags |= S_OWN;
	return new_conn((u64)sk, &fresh);
}

static __always_inline struct olly_policy *policy_of(u64 id)
{
	u32 slot = (u32)id & (OLLY_POLICY_SLOTS - 1);
	struct olly_policy *policy = bpf_map_lookup_elem(&policies, &slot);

	return policy && policy->sock == id ? policy : NULL;
}

static __always_inline u32 sequence(struct sock *sk, u32 direction)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	return direction == OLLY_SEND ? READ_ONCE(tp->write_seq) : READ_ONCE(tp->copied_seq);
}

/* What dispatch() found out about a call. */
struct begun {
	u64 base;  /* second argument: where the bytes are */
	u64 count; /* third */
	u32 nr;
	u32 fd;
	u32 flags;
	u32 moved; /* bytes that the call has moved already; not 0 only in late() */
	u32 direction;
	u32 pad;
};

/*
 * Notes what exit needs. A global function, as finish() is: the verifier looks at it once, not once
 * for each number that leads to it, which for late() came to more than it will look at.
 */
__noinline int enter(const struct begun *begun)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct verdict v = process_verdict(current->tgid);
	struct olly_policy *policy;
	struct file *file = NULL;
	struct call *call;
	struct conn *c;
	struct sock *sk;
	u64 inode = 0, key;
	u32 direction, moved;

	if (!begun || !v.flags || !has_user_call(current))
		return 0;
	direction = begun->direction;
	moved = begun->moved;
	sk = socket_of(current, begun->fd, &inode, &file);
	if (!sk)
		return 0;
	key = (u64)sk;
	c = bpf_map_lookup_elem(&conns, &key);
	if (c && (c->flags & S_UNIX) && c->inode != inode)
		c = NULL; /* another socket at the same address */
	if (!c)
		c = meet(sk, inode, v.flags);
	if (!c)
		return 0;
	if (!(c->flags & S_KNOWN)) {
		u8 state = READ_ONCE(sk->__sk_common.skc_state);

		if (state == TCP_SYN_SENT || state == TCP_CLOSE)
			return 0;
		learn_tcp(c, sk);
		if (!(c->flags & S_KNOWN))
			return 0;
	}
	if ((v.flags & VERDICT_OWN) && (c->flags & S_ANNOUNCED))
		return 0;
	if (!(c->flags & S_UNIX)) {
		policy = policy_of(c->id);
		if (policy && policy->mode == OLLY_POLICY_QUIET)
			return 0;
	}
	call = bpf_task_storage_get(&calls, current, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!call) {
		count_drop(OLLY_DROP_NO_STATE, 0);
		return 0;
	}
	call->sk = key;
	call->id = c->id;
	call->base = begun->base;
	call->count = begun->count;
	call->goid_offset = v.goid_offset;
	call->direction = direction;
	call->own = !!(v.flags & VERDICT_OWN);
	call->is_unix = !!(c->flags & S_UNIX);
	call->nonblock = direction == OLLY_RECV &&
			 ((begun->flags & MSG_DONTWAIT) || (READ_ONCE(file->f_flags) & O_NONBLOCK));
	if (call->is_unix) {
		call->position = c->end[direction & 1];
	} else if (moved) {
		struct tcp_sock *tp = (struct tcp_sock *)sk;
		u32 first = c->first[direction & 1];

		call->position = (direction == OLLY_SEND ? tcp_sent(sk, tp, first)
							 : tcp_received(sk, tp, first)) -
				 moved;
		call->seq = first + (u32)call->position;
	} else {
		call->seq = sequence(sk, direction);
		call->position = extend(call->seq - c->first[direction & 1], c->end[direction & 1]);
	}
	call->nr = begun->nr + 1;
	return 0;
}

static __always_inline int enter_shutdown(void)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct verdict v = process_verdict(current->tgid);
	struct call *call;

	if (!v.flags)
		return 0;
	call = bpf_task_storage_get(&calls, current, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (call)
		call->nr = SYS_shutdown + 1;
	return 0;
}

static __always_inline int dispatch(struct pt_regs *regs, u32 nr, u32 moved)
{
	struct begun begun = {
		.base = regs->si,
		.count = regs->dx,
		.nr = nr,
		.fd = regs->di,
		.moved = moved,
		.direction = OLLY_RECV,
	};
	struct task_struct *current;
	struct file *file;
	u64 inode;

	switch (nr) {
	case SYS_read:
	case SYS_readv:
	case SYS_preadv2:
		break;
	case SYS_write:
	case SYS_writev:
	case SYS_pwritev2:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_sendfile:
		begun.direction = OLLY_SEND;
		break;
	case SYS_recvfrom:
	case SYS_recvmmsg:
		begun.flags = regs->r10;
		break;
	case SYS_recvmsg:
		begun.flags = regs->dx;
		break;
	case SYS_splice:
		current = bpf_get_current_task_btf();
		if (!process_verdict(current->tgid).flags)
			return 0;
		if (!socket_of(current, regs->di, &inode, &file)) {
			begun.fd = regs->dx;
			begun.direction = OLLY_SEND;
		}
		break;
	case SYS_shutdown:
		return enter_shutdown();
	default:
		return 0;
	}
	if (begun.flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE))
		return 0;
	return enter(&begun);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(olly_sys_enter, struct pt_regs *regs, long id)
{
	return dispatch(regs, id, 0);
}

/*
 * The end of a call whose begin nobody saw, because it was made before the agent came: a server
 * waits in read() for the next request of a keep-alive connection. The registers still hold the
 * arguments. A thread has its storage from then on, so that this is looked at once.
 */
static __always_inline int late(struct pt_regs *regs, u32 nr, u32 moved)
{
	struct task_struct *current = bpf_get_current_task_btf();

	if (!process_verdict(current->tgid).flags)
		return 0;
	if (bpf_task_storage_get(&calls, current, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE))
		dispatch(regs, nr, moved);
	return 0;
}

/* Several messages in one call: a record each, counted; the bytes are not copied. Returns how many
 * bytes they had together. */
static __always_inline u32 store_messages(struct io *io, const struct olly_task *task, u64 array,
					  u32 messages)
{
	u32 total = 0, length, i;

	io->flags |= OLLY_IO_NO_BUFFER;
	for (i = 0; i < MAX_MESSAGES; i++) {
		struct olly_io_record *r;
		void *ring;

		if (i >= messages)
			break;
		if (bpf_probe_read_user(&length, sizeof(length),
					(const void *)(array + 64 * i + 56)))
			break;
		if (!length)
			continue;
		io->length = length;
		ring = this_ring();
		r = ring ? bpf_ringbuf_reserve(ring, sizeof(*r), 0) : NULL;
		if (r) {
			fill_io(r, io, task, sizeof(*r), 0, io->flags);
			bpf_ringbuf_submit(r, submit_flags());
		} else {
			count_drop(OLLY_DROP_RING_FULL, length);
		}
		io->position += length;
		total += length;
	}
	return total;
}

static __always_inline u32 message_bytes(u64 array, u32 messages)
{
	u32 total = 0, length, i;

	for (i = 0; i < 64; i++) {
		if (i >= messages || bpf_probe_read_user(&length, sizeof(length),
							 (const void *)(array + 64 * i + 56)))
			break;
		total += length;
	}
	return total;
}

/* Where the call's bytes are in their direction. */
static __always_inline void locate(struct conn *c, struct sock *sk, struct call *call, u32 ret,
				   struct io *io)
{
	u32 dir = call->direction & 1, moved;

	if (call->is_unix) {
		u64 start = __sync_fetch_and_add(&c->end[dir], (u64)ret);

		io->position = start;
		if (start != call->position)
			io->flags |= OLLY_IO_OVERLAP;
		return;
	}
	moved = sequence(sk, dir) - call->seq;
	io->position = call->position;
	/* a FIN that is read with the last bytes takes a number too */
	if (moved != ret && !(dir == OLLY_RECV && moved == ret + 1)) {
		io->flags |= OLLY_IO_OVERLAP;
		io->position = call->position + (u32)(moved - ret);
		if ((s32)(moved - ret) < 0)
			io->position = call->position;
	}
	if (io->position + ret > c->end[dir])
		c->end[dir] = io->position + ret;
}

/* A call has moved bytes, or found the end of the stream. 1 = call->io is left to be written. */
__noinline int finish(struct call *call, u32 ret)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct olly_policy *policy;
	struct olly_task task;
	struct buffer b = {};
	struct io io = {};
	struct conn *c;
	struct sock *sk;
	u32 nr, dir;
	u64 key, end;

	if (!call)
		return 0;
	nr = call->nr - 1;
	call->nr = 0;
	dir = call->direction & 1;
	key = call->sk;
	sk = (struct sock *)key;
	c = bpf_map_lookup_elem(&conns, &key);
	if (!c || c->id != call->id)
		return 0; /* closed in between: CLOSE has counted the bytes */
	if (dir == OLLY_RECV && ret == 0 && !(READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN) &&
	    READ_ONCE(sk->__sk_common.skc_state) != TCP_CLOSE)
		return 0; /* a call for no bytes */
	if (nr == SYS_sendmmsg || nr == SYS_recvmmsg) {
		io.length = message_bytes(call->base, ret);
		if (!io.length)
			return 0;
	} else {
		io.length = ret;
	}
	if (io.length)
		locate(c, sk, call, io.length, &io);
	else
		io.position = c->end[dir]; /* a FIN takes a number, but is no byte */
	end = io.position + io.length;
	policy = policy_of(c->id);
	if (policy) {
		if (policy->mode == OLLY_POLICY_QUIET)
			return 0;
		io.limit = policy->max_copy;
		if (io.limit > control.max_copy)
			io.limit = control.max_copy;
		if ((c->flags & S_ANNOUNCED) && io.length && end < policy->skip_until[dir])
			return 0;
	}
	if (!policy)
		io.limit = unknown_limit(io.position, !(c->flags & S_MET), c->flags & S_FRAMED);
	io.now = bpf_ktime_get_ns();
	stamp_task(&task, current, io.now, call->goid_offset);
	if (!(c->flags & S_ANNOUNCED)) {
		u64 after = c->end[dir];

		if (call->own)
			c->flags |= S_OWN;
		c->end[dir] = io.position;
		announce(c, sk, io.now, &task);
		c->end[dir] = after;
	}
	if ((c->flags & (S_OWN | S_ANNOUNCED)) != S_ANNOUNCED)
		return 0; /* own; or the reader does not know this socket yet */
	io.sock = c->id;
	io.direction = dir;
	if (call->nonblock)
		io.flags |= OLLY_IO_NONBLOCK;
	if (!io.length) {
		if (c->flags & S_EOF)
			return 0;
		io.flags = OLLY_IO_EOF;
		if (!store_io(&io, &task, &b))
			c->flags |= S_EOF;
		return 0;
	}
	if ((nr == SYS_sendmmsg || nr == SYS_recvmmsg) && ret > 1 && ret <= MAX_MESSAGES) {
		store_messages(&io, &task, call->base, ret);
		return 0;
	}
	if (policy && policy->skip_until[dir] > io.position)
		io.skip = policy->skip_until[dir] - io.position > io.length
				  ? io.length
				  : policy->skip_until[dir] - io.position;
	if (io.limit && io.skip < io.length) {
		buffer_of_call(&b, nr, call->base,
			       nr == SYS_sendmmsg || nr == SYS_recvmmsg ? ret : call->count);
		if (b.kind == BUFFER_NONE)
			io.flags |= OLLY_IO_NO_BUFFER;
		if (io.position == 0 && !policy && is_preface(&b)) {
			c->flags |= S_FRAMED;
			io.limit = control.max_copy;
		}
	}
	if (is_large(&io, &b)) {
		call->io = io;
		call->task = task;
		call->buffer = b;
		return 1;
	}
	store_io(&io, &task, &b);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(olly_sys_exit, struct pt_regs *regs, long result)
{
	struct task_struct *current;
	struct call *call;
	u32 nr = regs->orig_ax;

	switch (nr) {
	case SYS_read:
	case SYS_readv:
	case SYS_preadv2:
	case SYS_write:
	case SYS_writev:
	case SYS_pwritev2:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_sendfile:
	case SYS_recvfrom:
	case SYS_recvmmsg:
	case SYS_recvmsg:
	case SYS_splice:
	case SYS_shutdown:
		break;
	default:
		return 0;
	}
	current = bpf_get_current_task_btf();
	call = bpf_task_storage_get(&calls, current, NULL, 0);
	if (!call) {
		if (result <= 0 || nr == SYS_shutdown)
			return 0;
		late(regs, nr, result);
		call = bpf_task_storage_get(&calls, current, NULL, 0);
	}
	if (!call || call->nr != nr + 1)
		return 0;
	if (nr == SYS_shutdown || result < 0 || (call->direction == OLLY_SEND && result == 0)) {
		call->nr = 0;
		return 0;
	}
	if (finish(call, result))
		store_pieces(&call->io, &call->task, &call->buffer);
	return 0;
}
