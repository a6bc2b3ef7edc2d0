/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
 *
 * Extract layer: where the bytes of the current system call are. Anything not recognised has no
 * buffer: its bytes are counted, never guessed.
 */
#ifndef OLLY_BPF_BUFFER_H
#define OLLY_BPF_BUFFER_H

#include "common/store.h"

#define SYS_read 0
#define SYS_write 1
#define SYS_close 3
#define SYS_readv 19
#define SYS_writev 20
#define SYS_sendfile 40
#define SYS_connect 42
#define SYS_accept 43
#define SYS_sendto 44
#define SYS_recvfrom 45
#define SYS_sendmsg 46
#define SYS_recvmsg 47
#define SYS_shutdown 48
#define SYS_splice 275
#define SYS_accept4 288
#define SYS_recvmmsg 299
#define SYS_sendmmsg 307
#define SYS_preadv2 327
#define SYS_io_uring_enter 426
#define SYS_pwritev2 328

static __always_inline void buffer_of_msghdr(struct buffer *b, u64 address)
{
	struct user_msghdr64 m;

	if (bpf_probe_read_user(&m, sizeof(m), (const void *)address))
		return;
	b->kind = BUFFER_IOVEC;
	b->base = m.iov;
	b->count = m.iovlen;
}

/* nr is the system call, arg2 and arg3 its second and third argument. */
static __always_inline void buffer_of_call(struct buffer *b, u64 nr, u64 arg2, u64 arg3)
{
	b->kind = BUFFER_NONE;
	b->base = 0;
	b->count = 0;
	switch (nr) {
	case SYS_read:
	case SYS_write:
	case SYS_sendto:
	case SYS_recvfrom:
		b->kind = BUFFER_PLAIN;
		b->base = arg2;
		break;
	case SYS_readv:
	case SYS_writev:
	case SYS_preadv2:
	case SYS_pwritev2:
		b->kind = BUFFER_IOVEC;
		b->base = arg2;
		b->count = arg3;
		break;
	case SYS_sendmsg:
	case SYS_recvmsg:
		buffer_of_msghdr(b, arg2);
		break;
	case SYS_sendmmsg:
	case SYS_recvmmsg:
		/* which of several messages this is cannot be told */
		if ((u32)arg3 == 1)
			buffer_of_msghdr(b, arg2);
		break;
	}
}

/* True where `task`'s registers are those of a 64-bit system call of its own. */
static __always_inline bool has_user_call(struct task_struct *task)
{
	return !(task->flags & (PF_KTHREAD | PF_IO_WORKER)) &&
	       !(task->thread_info.status & TS_COMPAT);
}

#endif
