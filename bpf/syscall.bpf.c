// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Capture with the system call tracepoint, for kernels without the socket tracepoints
 * (before 6.3).
 *
 * sys_exit only: dispatch on the call's number; verdict of the process; descriptor to file to
 * socket; the socket's state; one record. Every other system call pays for the dispatch only, and
 * nothing at its beginning: the registers still hold the arguments, and that a descriptor stands
 * for another socket now than when the call began shows in the sequence numbers, which have not
 * moved by what the call returned.
 *
 * A socket reached through a descriptor is a number to the verifier, not a trusted pointer, so its
 * state cannot live in socket storage: it is in an LRU table under the address of the struct sock,
 * taken out when the socket is destroyed (TCP), checked by the socket's inode number (UNIX). All
 * fields of sockets are read with bpf_probe_read_kernel.
 */
#define READ_ONCE(x)                                                                               \
	({                                                                                         \
		typeof((x) + 0) __once = 0;                                                        \
		bpf_probe_read_kernel(&__once, sizeof(x),                                          \
				      (const void *)__builtin_preserve_access_index(&(x)));        \
		__once;                                                                            \
	})

#include "common/kernel.h"

#include "syscall/state.h"

#include "common/io.h"
#include "common/life.h"

/* Where the bytes of the call are that has just ended on this thread. */
static __always_inline void find_buffer(struct buffer *b, struct task_struct *current)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(current);

	buffer_of_call(b, regs->orig_ax, regs->si, regs->dx);
}

#include "tls/look.h"

#define MAX_MESSAGES 16 /* of one sendmmsg or recvmmsg that get a record each */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A call that has ended, as its registers tell. */
struct ended {
	u64 base;  /* second argument: where the bytes are */
	u64 count; /* third */
	u32 nr;
	u32 fd;
	u32 flags; /* MSG_* */
	u32 result;
	u32 direction;
	u32 moved; /* bytes */
	/* What finish() has made of it. */
	u64 sk;	  /* of a socket event that may be within a call of TLS; 0 = it cannot be */
	u64 file; /* then: of its descriptor */
	struct io io;
	struct olly_task stamp;
	struct buffer buffer;
};

/* State of a socket that has none yet; NULL where it is none of ours. */
static __always_inline struct conn *meet(struct sock *sk, struct file *file)
{
	u16 family = READ_ONCE(sk->__sk_common.skc_family);
	bool is_unix = family == AF_UNIX;
	struct conn *c;

	if (!is_socket(file))
		return NULL;
	if (is_unix) {
		if (READ_ONCE(sk->sk_type) != SOCK_STREAM)
			return NULL;
	} else {
		u8 state = READ_ONCE(sk->__sk_common.skc_state);

		if ((family != AF_INET && family != AF_INET6) ||
		    READ_ONCE(sk->sk_protocol) != IPPROTO_TCP)
			return NULL;
		if (state == TCP_SYN_SENT || state == TCP_LISTEN)
			return NULL;
	}
	c = place_for(sk, BPF_NOEXIST);
	if (!c)
		return NULL;
	if (is_unix && !c->id) {
		c->flags = S_UNIX | S_KNOWN | (control.settled ? 0 : S_MET);
		c->inode = inode_number(file);
	}
	name_conn(c);
	return c;
}

/* Several messages in one call: a record each, counted; the bytes are not copied. */
static __always_inline void store_messages(struct io *io, const struct olly_task *stamp, u64 array,
					   u32 messages)
{
	u32 length, i;

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
			fill_io(r, io, stamp, sizeof(*r), 0, io->flags);
			bpf_ringbuf_submit(r, submit_flags());
		} else {
			count_drop(OLLY_DROP_RING_FULL, length);
		}
		io->position += length;
	}
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

static __always_inline bool has_messages(u32 nr)
{
	return nr == SYS_sendmmsg || nr == SYS_recvmmsg;
}

/*
 * A call has moved bytes, or found the end of the stream. A global function: the verifier looks at
 * it once, not once for each number that leads to it. 1 = call->io is to be stored, which this
 * function has not the stack for.
 */
__noinline int finish(struct ended *call)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct moved m = {.task = current};
	struct file *file = NULL;
	struct conn *c;
	struct sock *sk;
	struct io *io;

	if (!call)
		return 0;
	io = &call->io;
	m.verdict = capture_verdict(current->tgid);
	if (!m.verdict.flags || !has_user_call(current))
		return 0;
	sk = socket_of(current, call->fd, &file);
	if (!sk && call->nr == SYS_splice) {
		/* into a socket: that is the third argument */
		m.direction = OLLY_SEND;
		sk = socket_of(current, call->count, &file);
	} else {
		m.direction = call->direction & 1;
	}
	if (!sk)
		return 0;
	c = conn_of(sk);
	if (c && (c->flags & S_UNIX) && c->inode != inode_number(file)) {
		conn_gone(sk); /* another socket at the same address */
		c = NULL;
	}
	if (!c)
		c = meet(sk, file);
	if (!c)
		return 0;
	m.length = has_messages(call->nr) ? message_bytes(call->base, call->result) : call->result;
	if (!m.length && (m.direction == OLLY_SEND || !at_end(sk)))
		return 0;
	if (c->flags & S_UNIX)
		place_unix(c, &m);
	if (!of_interest(c, m.verdict.flags))
		return 0;
	if (may_be_tls(c, m.direction)) {
		call->sk = (u64)sk;
		call->file = (u64)file;
		call->direction = m.direction;
		call->moved = m.length;
	}
	if (!begin_io(c, sk, tcp_of(sk), &m, io, &call->stamp))
		return 0;
	if (!m.length) {
		store_end(c, io, &call->stamp);
		return 0;
	}
	/*
	 * It does not go on where the last one ended: another thread's call may have come in
	 * between, and which bytes are whose is not known then.
	 */
	if (m.start != m.before)
		io->flags |= OLLY_IO_OVERLAP;
	if (m.direction == OLLY_RECV &&
	    ((call->flags & MSG_DONTWAIT) || (READ_ONCE(file->f_flags) & O_NONBLOCK)))
		io->flags |= OLLY_IO_NONBLOCK;
	if (has_messages(call->nr) && call->result > 1 && call->result <= MAX_MESSAGES) {
		store_messages(io, &call->stamp, call->base, call->result);
		return 0;
	}
	if (io->limit && io->skip < io->length) {
		if (!(m.direction == OLLY_RECV && (call->flags & MSG_TRUNC)))
			buffer_of_call(&call->buffer, call->nr, call->base,
				       has_messages(call->nr) ? call->result : call->count);
		look_at_bytes(c, &m, io, &call->buffer);
	}
	return 1;
}

/*
 * Once more from the socket's address to its state: the look at TLS and what finish() does have not
 * the stack for each other. A global function, too. OLLY_IO_*.
 */
__noinline int look_at_tls(struct ended *call)
{
	struct file *file;
	struct conn *c;
	struct sock *sk;
	bool nonblocking;

	if (!call || !setup.tls)
		return 0;
	sk = (struct sock *)call->sk;
	file = (struct file *)call->file;
	c = conn_of(sk);
	if (!c)
		return 0;
	nonblocking = call->direction == OLLY_RECV &&
		      ((call->flags & MSG_DONTWAIT) || (READ_ONCE(file->f_flags) & O_NONBLOCK));
	return find_tls(c, sk, call->direction & 1, call->moved, nonblocking);
}

static __noinline void store(const struct ended *call)
{
	store_io(&call->io, &call->stamp, &call->buffer);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(olly_sys_exit, struct pt_regs *regs, long result)
{
	struct ended call = {.direction = OLLY_RECV};
	bool wanted;

	if (result < 0)
		return 0;
	call.nr = regs->orig_ax;
	switch (call.nr) {
	case SYS_read:
	case SYS_readv:
	case SYS_preadv2:
	case SYS_splice:
		break;
	case SYS_write:
	case SYS_writev:
	case SYS_pwritev2:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_sendfile:
		if (result == 0)
			return 0;
		call.direction = OLLY_SEND;
		break;
	case SYS_recvfrom:
	case SYS_recvmmsg:
		call.flags = regs->r10;
		break;
	case SYS_recvmsg:
		call.flags = regs->dx;
		break;
	default:
		return 0;
	}
	if (call.flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE))
		return 0;
	call.base = regs->si;
	call.count = regs->dx;
	call.fd = regs->di;
	call.result = result;
	wanted = finish(&call);
	if (call.sk)
		call.io.flags |= look_at_tls(&call);
	if (!wanted)
		return 0;
	if (is_large(&call.io, &call.buffer))
		store_pieces(&call.io, &call.stamp, &call.buffer);
	else
		store(&call);
	return 0;
}
